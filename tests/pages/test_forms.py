"""A story in every form: plain text, Markdown, JSON by its schema, PDF."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from evidence_example import example_evidence, normal_evidence
from storyxai.errors import CitationError, InputError, UnknownNameError
from storyxai.evidence.record import as_archived
from storyxai.evidence.story_record import story_as_record
from storyxai.export import browser, pdf
from storyxai.export.save import render
from storyxai.export.story_json import render_json, story_schema
from storyxai.export.text import render_markdown, render_text
from storyxai.pages.story import render_html
from storyxai.proof.checking import Reader, check_read
from storyxai.proof.forms import read_form
from storyxai.story.tell import AUDIENCES, tell
from storyxai.types import RESEARCH_USE, Release, Section, Sentence, Story


@pytest.mark.parametrize("audience", AUDIENCES)
def test_plain_text_holds_every_sentence_in_order_in_lines_of_72(audience: str) -> None:
    story = tell(example_evidence(), audience)
    text = render_text(story)
    assert all(len(line) <= 72 or " " not in line.strip("- ") for line in text.splitlines())
    joined, at = " ".join(text.split()), 0
    for section in story.sections:
        for sentence in section.sentences:
            at = joined.index(" ".join(sentence.text.split()), at)
    assert text.startswith(RESEARCH_USE) and text.endswith(f"{RESEARCH_USE}\n")


def test_markdown_escapes_marks_and_every_footnote_is_there_once() -> None:
    text = render_markdown(Story("clinician", "en", "*A* `title`", (
        Section("# 1_2", (Sentence("1. [x](y) <b>", ("a.b",)), Sentence("- two_three", ("c",)), Sentence("So.", ("a.b",)))),
    ), {}))  # fmt: skip
    lines = text.splitlines()
    assert r"# \*A\* \`title\`" in lines and r"## \# 1\_2" in lines
    assert r"- 1\. \[x\](y) \<b\>[^1]" in lines and r"- \- two\_three[^2]" in lines and "- So.[^1]" in lines
    assert lines[-2:] == ["[^1]: `a.b`", "[^2]: `c`"]


@pytest.mark.parametrize("audience", AUDIENCES)
@pytest.mark.parametrize("evidence", [example_evidence(), normal_evidence()], ids=["example", "normal"])
def test_the_json_fits_its_published_schema(audience: str, evidence: object) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    told = example_evidence() if evidence is None else evidence
    story = tell(told, audience)
    content = json.loads(render_json(story, told))
    validator = jsonschema.Draft202012Validator(story_schema())
    validator.check_schema(story_schema())
    assert not list(validator.iter_errors(content))
    assert content["sections"] == story_as_record(story)["sections"]
    cited = {path for section in content["sections"] for s in section["sentences"] for path in s["cites"]}
    assert set(content["evidence"]) == cited
    for broken in ({**content, "format": "storyxai-story/2"}, {k: v for k, v in content.items() if k != "notice"}):
        assert list(validator.iter_errors(broken))


def test_the_json_story_holds_values_beside_sentences() -> None:
    story = tell(example_evidence(), "clinician")
    data = render_json(story, example_evidence())
    assert data == render_json(story, example_evidence())
    assert json.loads(data)["evidence"]["findings.Effusion.probability"] == 0.83
    made_up = dataclasses.replace(story, sections=(Section("h", (Sentence("So.", ("findings.None.tier",)),)),))
    with pytest.raises(CitationError):
        render_json(made_up, example_evidence())


HELD = "Not yet for reading: a clinician must release this page first"
RELEASE = Release("Dr A", "2026-01-01T00:00:00Z", True)
BEFORE = {
    "format": "storyxai-story/1", "notice": "Research use only", "audience": "patient", "language": "en", "title": "A story",
    "sections": [{"heading": "H", "figures": ["image"], "sentences": [{"text": "So.", "cites": ["notices.advice"]}]}],
    "evidence": {"notices.advice": "fixed"}, "provenance": {"evidence_sha256": "0" * 64},
}  # fmt: skip
"""A story as format 1 had it before it held a mark of release: readers written then need what stands here, and no more."""


def test_the_json_says_whether_a_story_may_be_read_and_by_whose_leave() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(story_schema())
    patient = tell(example_evidence(), "patient")
    marks = [json.loads(render_json(*told, release=given))["release"] for told, given in (
        ((tell(example_evidence(), "clinician"), example_evidence()), None),
        ((patient, example_evidence()), None), ((patient, example_evidence()), RELEASE),
    )]  # fmt: skip
    assert marks[0] == {"needed": False}
    assert marks[1] == {"needed": True, "released": False, "text": HELD}
    assert marks[2] == {
        "needed": True, "released": True, "by": "Dr A", "time": "2026-01-01T00:00:00Z", "with_picture": True,
        "text": "Released for reading by Dr A, 2026-01-01T00:00:00Z",
    }  # fmt: skip
    content = json.loads(render_json(patient, example_evidence(), release=RELEASE))
    assert not list(validator.iter_errors(content))
    for lacking in ("by", "time", "text", "with_picture", "released"):
        mark = {name: value for name, value in marks[2].items() if name != lacking}
        assert list(validator.iter_errors({**content, "release": mark})), lacking
    assert list(validator.iter_errors({**content, "release": {**marks[2], "released": False}}))


def test_json_of_before_still_fits_and_that_of_now_has_all_of_it() -> None:
    """Within a format fields are only added: what fitted the schema fits it still, and old readers find all they know."""
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(story_schema())
    assert not list(validator.iter_errors(BEFORE))
    assert set(story_schema()["required"]) == set(BEFORE)
    for audience in AUDIENCES:
        now = json.loads(render_json(tell(example_evidence(), audience), example_evidence()))
        assert set(now) >= {*BEFORE, "release"}
        assert all(isinstance(now[name], type(value)) for name, value in BEFORE.items())


@pytest.mark.parametrize(("change", "why"), [
    ({}, ""), ({"by": "Dr Who"}, "Dr Who"), ({"time": "2027-01-01T00:00:00Z"}, "2027"),
    ({"released": False, "text": HELD}, "held back though"),
])  # fmt: skip
def test_an_altered_mark_of_release_is_found(change: dict[str, object], why: str) -> None:
    evidence = as_archived(example_evidence())
    content = json.loads(render_json(tell(evidence, "patient"), evidence, release=RELEASE))
    content["release"] |= change
    page = read_form(json.dumps(content).encode(), ".json", audience="patient", language="en")
    assert page is not None
    problems = check_read(page, evidence, Reader(release=RELEASE)).problems
    assert problems == () if not why else any(why in problem for problem in problems), problems


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("paper", ["A4", "letter"])
def test_a_released_patients_page_prints_on_one_sheet_with_its_picture(language: str, paper: str) -> None:
    try:
        browser.find_browser()
    except InputError as error:
        pytest.skip(str(error))
    evidence = example_evidence()
    page = render_html(tell(evidence, "patient", language), evidence, release=RELEASE)
    printed = pdf.render_pdf(page, paper="A4" if paper == "A4" else "letter")
    assert page.count(b'<svg class="film-frame') >= 1
    assert len(re.findall(rb"/Type /Page\b", printed)) == 1


def test_the_margins_of_a_sheet_speak_the_pages_language() -> None:
    pages = [render_html(tell(normal_evidence(), "patient", language), normal_evidence()) for language in ("en", "de")]
    said = [set(re.findall(r'@(?:top-center|bottom-left) \{ content: "([^"]*)"', page.decode())) for page in pages]
    assert said[0] == {"Research use only - not for diagnostic use"}
    assert [text.replace("\\fc ", "ü") for text in said[1]] == ["Nur für Forschungszwecke, nicht zur Diagnose"]


def test_without_a_browser_the_mend_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(browser.VARIABLE, "no-such-browser")
    with pytest.raises(InputError, match="names 'no-such-browser', which is no program — install chromium"):
        pdf.render_pdf(b"<p>")
    monkeypatch.delenv(browser.VARIABLE)
    monkeypatch.setattr(browser, "BROWSERS", ())
    with pytest.raises(InputError, match="none was found"):
        browser.find_browser()
    idle = tmp_path / "idle"
    idle.write_text("#!/bin/sh\nexit 3\n")
    idle.chmod(0o755)
    monkeypatch.setenv(browser.VARIABLE, str(idle))
    with pytest.raises(InputError, match="ended with status 3 and wrote no PDF"):
        pdf.render_pdf(b"<p>")


@pytest.mark.parametrize(("paper", "size"), [("A4", (595, 842)), ("letter", (612, 792))])
def test_the_pdf_is_tagged_of_its_size_and_the_same_twice(paper: str, size: tuple[int, int]) -> None:
    try:
        browser.find_browser()
    except InputError as error:
        pytest.skip(str(error))
    page = render_html(tell(normal_evidence(), "patient"), normal_evidence())
    printed = pdf.render_pdf(page, paper=paper)
    assert printed.startswith(b"%PDF-") and b"/StructTreeRoot" in printed and b"/Lang" in printed
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", printed)
    assert boxes and all(abs(float(w) - size[0]) < 1 and abs(float(h) - size[1]) < 1 for w, h in boxes)
    assert printed == pdf.render_pdf(page, paper=paper)


def test_the_ending_of_the_name_says_which_form_is_written(tmp_path: Path) -> None:
    story = tell(example_evidence(), "clinician")
    for ending, start in ((".html", b"<!DOCTYPE html>"), (".json", b"{"), (".md", b"**Research"), (".TXT", b"Research")):
        path = render(story, tmp_path / f"story{ending}", evidence=example_evidence())
        assert path.read_bytes().startswith(start)
    with pytest.raises(UnknownNameError, match=r"did you mean '.html'"):
        render(story, tmp_path / "story.htm", evidence=example_evidence())
    assert len(list(tmp_path.iterdir())) == 4


def test_a_story_to_be_signed_says_in_every_form_whether_it_may_be_read() -> None:
    story, release = tell(example_evidence(), "patient"), Release("Dr A", "2026-01-01T00:00:00Z", False)
    held, freed = "Not yet for reading: a clinician must release this page first", "Released for reading by Dr A"
    for draw in (render_text, render_markdown):
        first, then = (" ".join(draw(story, given).replace("\\", "").split()) for given in (None, release))
        assert held in first and held not in then and freed in then and freed not in first
        assert held not in draw(tell(example_evidence(), "clinician"))
