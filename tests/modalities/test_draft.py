"""A draft report read back: what the grammar writes is what is read, and what it never writes is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from storyxai.modalities.chest_radiograph.draft import MOST_ABSENT, read_draft
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.modalities.chest_radiograph.grammar import (
    GRAMMAR,
    SEVERITY_WORDS,
    SIDE_WORDS,
    ZONE_WORDS,
    Fact,
    compose_report,
)
from storyxai.modalities.registry import modality_named
from storyxai.story.words import words_of
from storyxai.types import Remark


def drawn_facts(rng: np.random.Generator) -> list[Fact]:
    def one(name: str) -> Fact:
        side, zone, severity = (str(rng.choice(words)) for words in (SIDE_WORDS, ZONE_WORDS, SEVERITY_WORDS))
        return Fact(name, bool(rng.random() < 0.25), side, zone, severity)

    return [one(name) for name in NAMES if rng.random() < 0.6]


@pytest.mark.parametrize("seed", range(20))
def test_what_the_grammar_writes_is_read_as_it_was_meant(seed: int) -> None:
    rng = np.random.default_rng(seed)
    facts = drawn_facts(rng)
    meant = {fact.finding: fact for fact in facts}
    for sentence in compose_report(facts, rng, view="AP", devices=("pacemaker", "central line")):
        (read,) = read_draft(GRAMMAR.detokenize(GRAMMAR.tokenize(sentence.text)))
        assert read or len(sentence.states) > MOST_ABSENT, sentence.text
        if read.code.startswith("draft_absent"):
            assert set(read.values.values()) == set(sentence.states) and set(sentence.states.values()) == {0.0}
        if read.code.startswith("draft_present"):
            fact = meant[str(read.values["finding"])]
            at = f"{fact.side} {fact.zone}".strip()
            assert sentence.states == {fact.finding: 1.0}
            assert read.values.get("place", at) == at and read.values.get("grade", fact.severity) == fact.severity


def test_sentences_of_the_writer_as_it_words_them() -> None:
    drafts = ("Moderate pneumothorax is seen on the right.", "Nodules are seen in both lower zones.", "Pleural fluid.")
    read = read_draft(drafts)
    assert read[0] == Remark("draft_present_place_grade", {"finding": "Pneumothorax", "place": "right", "grade": "moderate"})
    assert [one.values for one in read] == [
        {"finding": "Pneumothorax", "place": "right", "grade": "moderate"},
        {"finding": "Nodule", "place": "bilateral lower"}, {"finding": "Effusion"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["No.", "There is a dragon.", "No evidence of dragon or mass.", "Mild.", "", "No pneumothorax mass."],
)
def test_what_the_grammar_never_writes_is_not_read(text: str) -> None:
    assert read_draft((text,)) == (Remark(),)


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_remark_that_can_be_read_is_worded(language: str) -> None:
    words, rng = words_of(modality_named(), language), np.random.default_rng(1)
    for _ in range(40):
        for sentence in compose_report(drawn_facts(rng), rng, view="AP", devices=("pacemaker",)):
            for one in read_draft((sentence.text,)):
                said = words.say(one)
                assert not one or ("draft" not in said and "_" not in said and "[" not in said), said
