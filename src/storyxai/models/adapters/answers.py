"""What anybody's model answers: of what shape, logits or probabilities, and each image by itself or all of a batch together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from storyxai.errors import InputError
from storyxai.types import Array

__all__ = ["PROBABILITIES_MEND", "Answers", "checked_answer", "logits_shape"]

PROBABILITIES_MEND = "say so with probabilities=True (--probabilities on the command line), and each is told by its log-odds"
"""What makes logits of probabilities."""
UNCLEAR_MEND = "say which with probabilities=True or probabilities=False (--probabilities or --logits on the command line)"
SUREST = 1e-7
"""A probability of 1 has no log-odds: this far from it at most."""
MIXED = 0.01
"""From this difference on, relative to the logit where that is above 1, an answer is taken to hang on the images beside it:
far above what half precision and other kernels for other batches make of it."""
NOISE_IMAGES = 8


@dataclass
class Answers:
    """The logits of a model that is asked by `ask`, from images [B, C, H, W] to whatever it answers.

    `probabilities` as its user says it, None where nothing was said; `surely_logits` where its end was seen to make logits.
    `ends_linear` looks at that end while an image is answered, where that can be done at all.
    """

    ask: Callable[[Array], object]
    findings: Sequence[str]
    probabilities: bool | None = None
    surely_logits: bool = False
    ends_linear: Callable[[Array], bool] | None = None
    _mixes: bool | None = None

    def logits(self, images: Array) -> Array:
        """The logits [B, F], each image's as if it were asked alone. Raises: InputError for what are none."""
        answer = self._each(images)
        if self.probabilities:
            return log_odds(answer)
        self.refuse_unclear(answer, images.shape)
        return answer

    def refuse_unclear(self, answer: Array, shape: tuple[int, ...]) -> None:
        """Raises InputError where this answer and those on noise of every brightness lie within [0, 1]: they may be
        probabilities, and nobody said.

        Shapes: `shape` is that of the images.
        """
        if self.probabilities is not None or self.surely_logits or not _within(answer):
            return
        grey = np.linspace(1 / NOISE_IMAGES, 1, NOISE_IMAGES, dtype=np.float32)[:, None, None, None]
        noise = np.random.default_rng(0).random((NOISE_IMAGES, *shape[1:]), dtype=np.float32) * grey
        seen = self.ends_linear is not None and self.ends_linear(noise[-1:])
        if not seen and all(_within(self._checked(one[None])) for one in noise):
            why = "answers within [0, 1], and nothing here can tell whether these are logits or probabilities"
            raise InputError("model", why, mend=UNCLEAR_MEND)
        self.surely_logits = True

    def mixes(self, images: Array) -> bool:
        """Whether the model answers an image otherwise beside others, as these, than alone."""
        if self._mixes is None:
            self._each(images)
        return bool(self._mixes)

    def _each(self, images: Array) -> Array:
        """The answer, image by image where a batch is answered as a whole (a norm over it, a draw for each)."""
        if self._mixes:
            return np.concatenate([self._checked(image[None]) for image in images])
        answer = self._checked(images)
        if self._mixes is None and not np.array_equal(images[0], images[-1]):
            ends = np.concatenate([self._checked(images[:1]), self._checked(images[-1:])])
            apart = np.abs(answer[[0, -1]] - ends) / np.maximum(1, np.abs(ends))
            self._mixes = bool(apart.max() > MIXED)
            return self._each(images) if self._mixes else answer
        return answer

    def _checked(self, images: Array) -> Array:
        return checked_answer(self.ask(images), images=len(images), findings=self.findings, probabilities=self.probabilities)


def log_odds(probabilities: Array) -> Array:
    """Logits of probabilities. Raises: InputError for numbers that are none."""
    if not _within(probabilities):
        raise InputError("model", "does not answer with numbers from 0 to 1", mend="leave probabilities=True out")
    sure = np.clip(probabilities.astype(np.float64), SUREST, 1 - SUREST)
    return np.asarray(np.log(sure / (1 - sure)), dtype=np.float32)


def checked_answer(
    answer: object, *, images: int, findings: Sequence[str], probabilities: bool | None = None
) -> Array:
    """A model's answer as numbers float32 [B, F]; axes of length one between and behind these are dropped.

    Raises: InputError for a tuple, a dict, another shape, as many columns as there are no findings, whole numbers, numbers
    that are not finite, or probabilities that sum to one where nobody said that they are probabilities.
    """
    if not isinstance(answer, np.ndarray):
        kind = type(answer).__name__
        raise InputError("model", f"returns a {kind}", mend="wrap it so that it returns logits [B, F] alone")
    answer = answer.reshape(logits_shape(answer.shape, images=images))
    if answer.shape[1] != len(findings):
        why = f"{len(findings)} names for {answer.shape[1]} logits"
        raise InputError("findings", why, mend="name every logit of the model in order")
    if answer.dtype.kind != "f":
        why = f"returns values of the type {answer.dtype}, which are classes and no logits"
        raise InputError("model", why, mend="return the logits as floating-point numbers")
    numbers = answer.astype(np.float32, copy=False)
    if not np.isfinite(numbers).all():
        raise InputError("model", "returns logits that are not finite", mend="check it for overflow or nan on this image")
    if not probabilities and _sum_to_one(numbers):
        why = "returns numbers from 0 to 1 that sum to 1: the probabilities of a softmax, no logits"
        raise InputError("model", why, mend=PROBABILITIES_MEND)
    return numbers


def logits_shape(shape: Sequence[int], *, images: int) -> tuple[int, int]:
    """[B, F] for an answer of this shape: [B] of one finding, [B, F, 1, 1] of a network without a last flattening too.

    Raises: InputError for any other shape.
    """
    wide = [side for side in shape[1:] if side != 1]
    if not shape or shape[0] != images or len(wide) > 1 or 0 in wide:
        raise InputError("model", f"returns shape {tuple(shape)} for {images} images", mend="return logits [B, F]")
    return images, wide[0] if wide else 1


def _within(answer: Array) -> bool:
    """Whether the numbers lie from 0 to 1."""
    return bool(answer.min() >= 0 and answer.max() <= 1)


def _sum_to_one(numbers: Array) -> bool:
    """Whether every row is a distribution over two classes or more, as no row of logits is but by a rare chance."""
    within = numbers.shape[1] > 1 and _within(numbers)
    return bool(within and (np.abs(numbers.sum(axis=1, dtype=np.float64) - 1) < 1e-5).all())
