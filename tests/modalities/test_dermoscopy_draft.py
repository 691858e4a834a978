"""A draft of dermoscopy read back: what the grammar writes is what is read, and German says all of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from storyxai.modalities.dermoscopy import draft
from storyxai.modalities.dermoscopy.draft import read_draft
from storyxai.modalities.dermoscopy.findings import NAMES
from storyxai.modalities.dermoscopy.grammar import GRAMMAR, label_report, write_report
from storyxai.modalities.registry import modality_named
from storyxai.story.words import words_of
from storyxai.types import Remark

MEANT = {
    "draft_asymmetric": {"Asymmetry": 1.0}, "draft_symmetric": {"Asymmetry": 0.0},
    "draft_network_typical": {"Atypical_Network": 0.0}, "draft_melanoma": {"Melanoma": 1.0},
    "draft_naevus": {"Atypical_Naevus": 1.0}, "draft_benign": {"Melanoma": 0.0}, "draft_common": {"Atypical_Naevus": 0.0},
}  # fmt: skip


def drawn(rng: np.random.Generator) -> dict[str, float]:
    return {name: float(rng.choice([0.0, 1.0, math.nan])) for name in NAMES}


def stated(one: Remark) -> dict[str, float]:
    """What a remark says of findings."""
    if one.code.startswith("draft_absent"):
        return dict.fromkeys(map(str, one.values.values()), 0.0)
    return {str(one.values["finding"]): 1.0} if one.code == "draft_present" else MEANT[one.code]


@pytest.mark.parametrize("seed", range(20))
def test_what_the_grammar_writes_is_read_as_it_was_meant(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grammar, labels = GRAMMAR, drawn(rng)
    sentences = grammar.detokenize(grammar.tokenize(write_report(labels, rng)))
    for text, read in zip(sentences, read_draft(sentences), strict=True):
        assert read, text
        said = {name: value for name, value in label_report(text).items() if not math.isnan(value)}
        assert stated(read) == said, text


def test_that_no_atypical_network_is_seen_is_not_that_the_network_is_typical() -> None:
    """A lesion without any network has no typical one."""
    denied, typical = read_draft(("No atypical network.", "The pigment network is typical."))
    assert denied == Remark("draft_absent_1", {"a": "Atypical_Network"}) and typical == Remark("draft_network_typical")


def test_every_remark_is_worded_in_german_without_an_english_word() -> None:
    words = words_of(modality_named("dermoscopy"), "de")
    codes = [*draft._FIXED, *(f"draft_absent_{count}" for count in (1, 2, 3, 4))]
    values = dict(zip("abcd", ("Streaks", "Regression", "Blue_Whitish_Veil", "Dots_Globules"), strict=True))
    for one in [*(Remark(code, values) for code in codes), *(Remark("draft_present", {"finding": name}) for name in NAMES)]:
        said = words.say(one)
        assert said and "draft" not in said and "_" not in said and "[" not in said
        assert not {"no", "the", "veil", "streaks", "lesion", "network"} & set(said.casefold().split()), said


@pytest.mark.parametrize("text", ["", "No.", "There is a dragon.", "No streaks or dragon.", "No dots or globules streaks."])
def test_what_the_grammar_never_writes_is_not_read(text: str) -> None:
    assert read_draft((text,)) == (Remark(),)
