"""The reading grade against counts made by hand and against the published formula."""

from __future__ import annotations

import pytest

from storyxai.story.readability import (
    count_syllables,
    flesch_kincaid_grade,
    split_sentences,
    split_words,
    words_per_sentence,
)

# Syllables as a dictionary divides them.
BY_HAND = {
    1: "the lung heart chest x did not find blue saw cough can make looked through please sure help breathe lines",
    2: "doctor picture X-ray today asked-for moment table question people being tissue needed clinic larger fluid",
    3: "computer hospital important infection another pneumonia diaphragm clinician",
    4: "emergency usually information radiograph interpretive",
}


@pytest.mark.parametrize("count", BY_HAND)
def test_syllables(count: int) -> None:
    words = BY_HAND[count].split()
    assert {word: count_syllables(word) for word in words} == dict.fromkeys(words, count)


def test_words_and_sentences() -> None:
    text = "Dr's notes: 2 X-rays were seen. Is it 0.5 wide? Yes!"
    assert split_words(text) == ["Dr's", "notes", "2", "X-rays", "were", "seen", "Is", "it", "0.5", "wide", "Yes"]
    assert len(split_sentences(text)) == 3
    assert words_per_sentence(text) == pytest.approx(11 / 3)
    assert words_per_sentence("") == flesch_kincaid_grade("...") == 0.0


def test_the_formula() -> None:
    # Six words, six syllables, one sentence: 0.39 * 6 + 11.8 * 1 - 15.59.
    assert flesch_kincaid_grade("The cat sat on the mat.") == pytest.approx(-1.45)
    # Three words with 4 + 4 + 4 syllables in one sentence.
    assert flesch_kincaid_grade("Usually emergency information.") == pytest.approx(0.39 * 3 + 11.8 * 4 - 15.59)


def test_order_of_texts() -> None:
    plain = "We saw fluid around the lung. Ask your doctor what to do next."
    hard = "Radiographic opacification compatible with effusion necessitates multidisciplinary evaluation."
    assert flesch_kincaid_grade(plain) < 5 < 15 < flesch_kincaid_grade(hard)
