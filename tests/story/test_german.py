"""German at equal depth: every key of ours is there with the same values, no English is left, and the facts are the same."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import storyxai.pages.layout as page_layout
from evidence_example import example_evidence, normal_evidence
from german_words import english_left
from storyxai.catalogue.files import load_catalogue
from storyxai.evidence.record import as_record
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH
from storyxai.modalities.words import ASKED_FIRST, SIDE_RULES, english_words
from storyxai.models.card import read_card
from storyxai.models.runtime import SHIPPED
from storyxai.pages.story import render_html
from storyxai.story.citations import check_page, claims, contradictions
from storyxai.story.readability import split_words, wiener_sachtext_grade
from storyxai.story.tell import AUDIENCES, tell
from storyxai.types import Evidence

CASES = {"example": example_evidence(), "normal": normal_evidence()}
def keys(value: object, path: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from keys(item, f"{path}.{key}" if path else str(key))
    else:
        yield path


def templates(data: Mapping[str, Any]) -> dict[str, str]:
    """The texts of a language's templates and remarks by their keys."""
    rooms = {room: data[room] for room in ("remarks", "gap", "lay_gap", *AUDIENCES)}
    return {f"{room}.{name}": entry if isinstance(entry, str) else entry["text"]
            for room, entries in rooms.items() for name, entry in entries.items()}  # fmt: skip


def test_every_key_of_english_is_german_too_and_no_other() -> None:
    ours, theirs = (set(keys(json.loads(load_catalogue(code).source.text))) for code in ("en", "de"))
    free = (
        "cases.", "quotes.", "fixed_phrases", "tables.unit.", "tables.group.", "tables.rule.", "tables.check.",
        "tables.lay_limit.", "tables.verdict.", "tables.learned_concept.",
    )  # fmt: skip
    told = lambda found: {re.sub(r"\.(text|cites|apart)$", "", key) for key in found if not key.startswith(free)}  # noqa: E731
    assert told(ours) == told(theirs)


def test_german_templates_state_what_english_ones_state() -> None:
    """The same values, of the same findings; the names of findings may stand in other places."""
    ours, theirs = (templates(json.loads(load_catalogue(code).source.text)) for code in ("en", "de"))
    for key, text in ours.items():
        values = [set(re.findall(r"\[(?!F\|)([^\]|]+)\||(\{\w+\})", one)) for one in (text, theirs[key])]
        assert values[0] == values[1], key


def test_the_words_of_pages_and_of_chest_radiographs_are_all_there() -> None:
    folder = Path(page_layout.__file__).parent / "templates"
    pages = [set(keys(json.loads((folder / f"{code}.json").read_text(encoding="utf-8")))) for code in ("en", "de")]
    assert pages[0] - pages[1] == {"again"}, "lines of code are the same in every language"
    english, german = english_words(CHEST_RADIOGRAPH), CHEST_RADIOGRAPH.words["de"]
    keys_alone = tuple(f"tables.{table}." for table in (ASKED_FIRST, SIDE_RULES))  # nobody reads their texts
    assert {key for key in set(english) - set(german) if not key.startswith(keys_alone)} == set()
    forms = ("name", *load_catalogue("de").told.cases)
    cases = {f"findings.{name}.{form}" for name in CHEST_RADIOGRAPH.names for form in forms}
    assert cases - set(german) == set()
    strange = {key for key in german if not key.startswith(("quotes.", "tables.rule."))} - set(english) - cases
    assert strange == set()


def test_quotes_of_cards_are_those_of_the_shipped_card() -> None:
    card = read_card(SHIPPED)
    quoted = {key.removeprefix("quotes.") for key in CHEST_RADIOGRAPH.words["de"]} | set(load_catalogue("de").told.quotes)
    assert {*card.limits, *card.cannot_see, *(one.name for one in card.trained_on)} - quoted == set()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("audience", AUDIENCES)
def test_no_english_is_left_on_a_german_page(audience: str, case: str) -> None:
    evidence = without_english_card(CASES[case])
    page = render_html(tell(evidence, audience, "de"), evidence)
    assert check_page(page, as_record(evidence)) == []
    quoted = (*evidence.prediction.report, evidence.indication)  # these stand as they are
    assert english_left(page, quoted) == set()


def without_english_card(evidence: Evidence) -> Evidence:
    """The evidence of a model whose card says nothing in words of its own: what a card says is quoted as it stands."""
    model = dataclasses.replace(evidence.model, limits=(), cannot_see=("bone lesions",), trained_on=())
    return dataclasses.replace(evidence, model=model)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("audience", AUDIENCES)
def test_both_languages_tell_the_same_facts(audience: str, case: str) -> None:
    english, german = (tell(CASES[case], audience, code) for code in ("en", "de"))
    assert claims(english) == claims(german)
    assert [section.figures for section in english.sections] == [section.figures for section in german.sections]
    cites = [[set(s.cites) for section in story.sections for s in section.sentences] for story in (english, german)]
    assert cites[0] == cites[1]
    sides = [[bool(re.search(pattern, s.text, re.IGNORECASE)) for section in story.sections for s in section.sentences
              if any(path.endswith((".side.value", ".zones.value")) for path in s.cites)]
             for story, pattern in ((english, r"\bright\b"), (german, r"\brecht(s|en)\b"))]  # fmt: skip
    assert sides[0] == sides[1]
    assert contradictions([english, german]) == []


@pytest.mark.parametrize("case", CASES)
def test_the_german_patients_page_is_short_and_plain(case: str) -> None:
    story = tell(CASES[case], "patient", "de")
    text = " ".join(s.text for section in story.sections for s in section.sentences)
    headings = " ".join(section.heading for section in story.sections)
    assert len(split_words(f"{story.title} {headings} {text}")) <= 250
    assert wiener_sachtext_grade(text) <= 6


def test_the_grade_of_a_german_text_is_that_of_the_formula() -> None:
    text = "Die Ärzte lesen die Röntgenaufnahme gut."  # one word of five syllables, three of one
    expected = 0.1935 * 100 / 6 + 0.1672 * 6 + 0.1297 * 100 / 6 - 0.0327 * 300 / 6 - 0.875
    assert wiener_sachtext_grade(text) == pytest.approx(expected)


def test_german_numbers_lists_and_cases() -> None:
    told = {audience: " ".join(s.text for section in tell(CASES["example"], audience, "de").sections for s in section.sentences)
            for audience in AUDIENCES}  # fmt: skip
    for part in ("0,83", "82\u00a0%", "des Pleuraergusses", "eine Kardiomegalie", "im rechten Unterfeld",
                 "die rechte Lunge verdeckt", "8.000 px"):  # fmt: skip
        assert part in told["clinician"], part
    assert "1.000 Stichproben" in told["practitioner"] and "Etwa 8 von 10 Menschen" in told["patient"]
