"""A teacher's own sentences as the words to learn from: distillation of whole reports."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from storyxai.data.batches import Examples
from storyxai.errors import RecipeError
from storyxai.models.network import Network
from storyxai.models.tokens import PAD, encode_tokens
from storyxai.progress import Progress
from storyxai.training.outputs import network_outputs


def teacher_sentences(
    teacher: Network, examples: Examples, *, batch_size: int = 64, progress: Progress | None = None
) -> NDArray[np.int64]:
    """The words that `teacher` writes about view 0 of every example, greedily [N, T]; all PAD where it writes none.

    Source: Kim and Rush, EMNLP 2016, with a beam of one. Raises: RecipeError when the teacher writes no reports.
    """
    if "report" not in teacher.spec.tasks:
        raise RecipeError("the teacher of reports", "has no report head", mend="name a teacher trained for 'report'")
    length = examples.tokens.shape[1]
    said = network_outputs(teacher, examples, batch_size=batch_size, name="sentences", progress=progress)
    rows = np.full((len(examples), length), PAD, dtype=np.int64)
    for row, words in enumerate(said.words or ()):
        if words:
            rows[row] = encode_tokens(words, teacher.spec.vocabulary, length=length)
    return rows


def with_sentences(examples: Examples, written: NDArray[np.int64], *, share: float, seed: int = 0) -> Examples:
    """`examples` with the words of round(share N) of them replaced by the teacher's, those without a report as well.

    Which ones depends on id and seed alone; a larger share keeps those of a smaller. Where the teacher wrote nothing the
    reference stays. Call it before soft targets are cached, so that next-word targets follow the same words.
    Shapes: written [N, T]. Raises: RecipeError for a share outside [0, 1] or words of another shape.
    """
    if not 0 <= share <= 1:
        raise RecipeError("share of the teacher's sentences", f"is {share}", mend="give a share from 0 to 1")
    if written.shape != examples.tokens.shape:
        why = f"have shape {written.shape}, the references {examples.tokens.shape}"
        raise RecipeError("the teacher's sentences", why, mend="write them for these examples")
    drawn = [hashlib.sha256(f"{seed}|{name}".encode()).digest() for name in examples.ids]
    order = sorted(range(len(drawn)), key=drawn.__getitem__)
    chosen = np.array(order[: round(share * len(order))], dtype=np.int64)
    chosen = chosen[(written[chosen] != PAD).any(axis=1)]
    tokens = examples.tokens.copy()
    tokens[chosen] = written[chosen]
    return replace(examples, tokens=tokens)
