"""What the checker must know of each template, held against the language's own file."""

from __future__ import annotations

import pytest

from evidence_example import example_evidence
from storyxai.catalogue.files import load_catalogue
from storyxai.evidence.record import as_record
from storyxai.proof.judging import OUTCOMES, problems_of
from storyxai.proof.lexicon import Lexicon, find_phrases
from storyxai.proof.required import FIXED
from storyxai.proof.templates import Form, Reading

TEMPLATES = {
    f"{room}.{name}": template
    for room, templates in load_catalogue("en").told.templates.items() for name, template in templates.items()
}  # fmt: skip


@pytest.mark.parametrize("key", [
    key for key, entry in TEMPLATES.items()
    if any(path.endswith((".passed", ".shown", ".forced", ".synthetic")) for path in entry.cites)
])  # fmt: skip
def test_a_sentence_that_rests_on_yes_or_no_says_which(key: str) -> None:
    assert key.partition(".")[2] in OUTCOMES, f"say in OUTCOMES what {key} claims of what it cites"


@pytest.mark.parametrize("key", [f"{room}.{name}" for room, names in FIXED.items() for name in names])
def test_every_fixed_sentence_is_one_of_the_language(key: str) -> None:
    assert key in TEMPLATES


def test_overlapping_phrases_are_read_as_the_longest() -> None:
    phrases = {"lower": ["right lower"], "mid": ["right lower mid"], "left": ["left"]}
    assert [hit.what for hit in find_phrases("the right lower mid zone, left", phrases)] == ["mid", "left"]


def test_a_smallest_change_that_nobody_found_moves_nothing() -> None:
    record = as_record(example_evidence())
    finding, change = next(iter(record["smallest_changes"].items()))
    change["probability"] = None
    reading = Reading(Form("own.smallest_below", "It falls."), {"F": finding}, ())
    assert problems_of(reading, [f"smallest_changes.{finding}.limit"], Lexicon.of("en", record)) == [
        "tells of a number that the record does not hold"
    ]
