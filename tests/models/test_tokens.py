"""Words to numbers and back."""

from __future__ import annotations

import pytest

from storyxai.modalities.chest_radiograph.grammar import GRAMMAR
from storyxai.models.tokens import END, PAD, START, UNKNOWN, decode_tokens, encode_tokens, full_vocabulary

WORDS = full_vocabulary(("no", "effusion", "."))


def test_special_entries_stand_where_their_numbers_say() -> None:
    assert [WORDS[number] for number in (PAD, START, END, UNKNOWN)] == ["<pad>", "<start>", "<end>", "<unknown>"]
    assert WORDS[4:] == ("no", "effusion", ".")


def test_a_row_by_hand() -> None:
    row = encode_tokens(["no", "effusion", "."], WORDS, length=8)
    assert row.tolist() == [START, 4, 5, 6, END, PAD, PAD, PAD]


def test_every_word_of_the_grammar_comes_back() -> None:
    words = list(GRAMMAR.vocabulary())
    numbers = full_vocabulary(words)
    row = encode_tokens(words, numbers, length=len(words) + 2)
    assert decode_tokens(row.tolist(), numbers) == words
    assert UNKNOWN not in row and len(set(numbers)) == len(numbers)


def test_what_is_not_a_word_is_marked_and_left_out() -> None:
    row = encode_tokens(["no", "zebra", "effusion"], WORDS, length=8)
    assert row.tolist()[2] == UNKNOWN
    assert decode_tokens(row.tolist(), WORDS) == ["no", "effusion"]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 9])
def test_a_long_text_is_cut_before_its_end_mark(count: int) -> None:
    row = encode_tokens(["no"] * count, WORDS, length=6).tolist()
    kept = min(count, 4)
    assert row == [START, *[4] * kept, END, *[PAD] * (4 - kept)]


def test_nothing_is_read_past_the_end_mark() -> None:
    assert decode_tokens([4, END, 5, 6], WORDS) == ["no"]
    assert decode_tokens([], WORDS) == []
