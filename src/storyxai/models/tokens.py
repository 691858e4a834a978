"""Words to numbers and back, for a closed vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIAL = ("<pad>", "<start>", "<end>", "<unknown>")


def full_vocabulary(words: Sequence[str]) -> tuple[str, ...]:
    """The special entries, then `words` as given."""
    return SPECIAL + tuple(words)


def encode_tokens(tokens: Sequence[str], vocabulary: Sequence[str], *, length: int) -> NDArray[np.int64]:
    """Word numbers [length]: start, the words, end, padding; longer texts are cut before the end mark."""
    number = {word: index for index, word in enumerate(vocabulary)}
    body = [number.get(token, UNKNOWN) for token in tokens][: length - 2]
    row = np.full(length, PAD, dtype=np.int64)
    row[: len(body) + 2] = [START, *body, END]
    return row


def decode_tokens(numbers: Sequence[int], vocabulary: Sequence[str]) -> list[str]:
    """The words up to the first end mark, special entries left out."""
    words = []
    for number in numbers:
        if number == END:
            break
        if number > UNKNOWN:
            words.append(vocabulary[number])
    return words
