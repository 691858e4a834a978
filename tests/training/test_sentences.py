"""Reports written by a teacher take the place of references, for the stated share and no other."""

from __future__ import annotations

import numpy as np
import pytest

from storyxai.errors import RecipeError
from storyxai.models.tokens import END, PAD, START, decode_tokens
from storyxai.training.outputs import network_outputs
from storyxai.training.sentences import teacher_sentences, with_sentences
from teaching_examples import VOCABULARY, tiny_network, toy_examples


def test_the_sentences_are_those_that_the_teacher_writes() -> None:
    teacher, examples = tiny_network(tasks=("report",), seed=3), toy_examples(5)
    rows = teacher_sentences(teacher, examples, batch_size=2)
    assert rows.shape == examples.tokens.shape and rows.dtype == np.int64
    said = network_outputs(teacher, examples).words
    assert said is not None and any(said)
    for row, words in zip(rows.tolist(), said, strict=True):
        assert tuple(decode_tokens(row[1:], VOCABULARY)) == words
        assert (row[0] == START and END in row) if words else set(row) == {PAD}


def test_a_stated_share_is_replaced_and_a_larger_one_keeps_it() -> None:
    examples = toy_examples(40)
    written = np.full_like(examples.tokens, 7)
    rows = {share: set(np.flatnonzero((with_sentences(examples, written, share=share).tokens == 7).all(axis=1)).tolist())
            for share in (0.0, 0.25, 0.5, 1.0)}  # fmt: skip
    assert [len(found) for found in rows.values()] == [0, 10, 20, 40]
    assert rows[0.25] < rows[0.5]
    reordered = examples.take(np.arange(40)[::-1].copy())
    again = with_sentences(reordered, written, share=0.25)
    assert {reordered.ids[i] for i in np.flatnonzero((again.tokens == 7).all(axis=1))} == {examples.ids[i] for i in rows[0.25]}
    other = with_sentences(examples, written, share=0.25, seed=1)
    assert set(np.flatnonzero((other.tokens == 7).all(axis=1)).tolist()) != rows[0.25]
    assert not (examples.tokens == 7).all(axis=1).any()


def test_a_teacher_that_wrote_nothing_leaves_the_reference() -> None:
    examples = toy_examples(6)
    assert np.array_equal(with_sentences(examples, np.zeros_like(examples.tokens), share=1.0).tokens, examples.tokens)


def test_what_cannot_work_is_refused() -> None:
    examples = toy_examples(3)
    with pytest.raises(RecipeError, match="from 0 to 1"):
        with_sentences(examples, examples.tokens, share=1.5)
    with pytest.raises(RecipeError, match="for these examples"):
        with_sentences(examples, examples.tokens[:2], share=0.5)
    with pytest.raises(RecipeError, match="trained for 'report'"):
        teacher_sentences(tiny_network(tasks=("findings",)), examples)
