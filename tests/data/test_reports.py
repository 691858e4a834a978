"""Reports in every shape that public sets hold: no word is lost."""

from __future__ import annotations

import re
import time

import pytest

from storyxai.data.reading import report_text
from storyxai.data.reports import report_sections
from storyxai.errors import TableError

CASES = {
    "plain": ("FINDINGS:\nLungs are clear.\n\nIMPRESSION:\nNormal.", "Lungs are clear.", "Normal."),
    "organs": ("FINDINGS:\nLUNGS: clear.\nET TUBE: 3 cm above the carina.\nIMPRESSION: ok.",
               "LUNGS: clear. ET TUBE: 3 cm above the carina.", "ok."),
    "both": ("FINDINGS AND IMPRESSION:\nNo change.", "No change.", ""),
    "slash": ("FINDINGS/IMPRESSION: No change.", "No change.", ""),
    "mixed case": ("Findings: Clear.\nImpression: Normal.", "Clear.", "Normal."),
    "inside a line": ("FINDINGS: Clear lungs. IMPRESSION: Normal chest.", "Clear lungs.", "Normal chest."),
    "inside a line, small": ("Findings: Clear lungs. Impression: Normal chest.", "Clear lungs.", "Normal chest."),
    "second empty": ("FINDINGS: a.\nIMPRESSION: b.\nIMPRESSION:\n", "a.", "b."),
    "twice": ("FINDINGS: a.\nFINDINGS: b.\nIMPRESSION: c.", "a. b.", "c."),
    "alone on its line": ("FINDINGS\nClear.\nIMPRESSION\nNormal.", "Clear.", "Normal."),
    "conclusion": ("FINDINGS: a.\r\nCONCLUSION: b.", "a.", "b."),
    "no headings": ("Portable chest.\n\nThe lungs are clear.", "The lungs are clear.", ""),
    "other headings only": ("INDICATION: cough.\n\nThe lungs are clear.", "The lungs are clear.", ""),
    "a word in a sentence": ("FINDINGS: The findings: as before. In summary: none.",
                             "The findings: as before. In summary: none.", ""),
    "no finding at all": ("COMPARISON: none.\nINDICATION: cough.", "", ""),
    "empty": ("", "", ""),
}


@pytest.mark.parametrize("name", CASES)
def test_sections_of_a_report(name: str) -> None:
    text, findings, impression = CASES[name]
    found = report_sections(text)
    assert (found.findings, found.impression) == (findings, impression)


@pytest.mark.parametrize("name", CASES)
def test_no_word_is_lost(name: str) -> None:
    text = CASES[name][0]
    found = report_sections(text)
    kept = " ".join((found.findings, found.impression, *found.others, found.unsectioned)).casefold()
    asked = set(re.findall(r"\w+", text.casefold())) - {"findings", "impression", "conclusion", "and"}
    lost = asked - set(re.findall(r"\w+", kept))
    assert lost <= {"cough", "none"}  # under a heading that is named


def test_text_before_the_first_heading_is_kept_and_named() -> None:
    found = report_sections("Chest film of today.\nINDICATION: cough.\nFINDINGS: Clear.")
    assert found.unsectioned == "Chest film of today." and found.others == ("INDICATION",)
    assert found.notes() == ("report sections left aside: INDICATION", "report text without a section: Chest film of today.")


@pytest.mark.parametrize("text", ["\n" * 200_000, "FINDINGS:\n" * 150_000], ids=["blank", "headings"])
def test_long_reports_take_time_as_their_length(text: str) -> None:
    """It grew with the square: five million blank lines took hours."""
    began = time.process_time()
    report_sections(text)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (rb"{\rtf1\ansi FINDINGS: Clear.\par}", "is RTF"), (b"<html><p>FINDINGS: Clear.</p></html>", "is HTML or XML"),
        (b" \n\t ", "holds no text"),
    ],
)
def test_a_report_that_is_no_plain_text_is_refused(data: bytes, why: str) -> None:
    """Its marks were taken for words."""
    with pytest.raises(TableError, match=f"{why}.* — save it as plain text"):
        report_text(data)


def test_control_characters_are_no_letters_of_a_report() -> None:
    assert report_sections(report_text(b"FINDINGS:\0 No\x07effusion.\x0cIMPRESSION: ok")).findings == "No effusion."
