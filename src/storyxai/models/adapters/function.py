"""A plain function as a model that can be explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from storyxai.errors import InputError
from storyxai.explain.contract import Look, WrittenReport
from storyxai.models.adapters.settings import checked_findings, checked_size
from storyxai.types import Array

__all__ = ["FunctionModel", "checked_answer"]

PROBABILITIES_MEND = "leave its last step out, or give of each p its log-odds log(p / (1 - p))"
"""What makes logits of probabilities."""


@dataclass(frozen=True, eq=False)
class FunctionModel:
    """A function from images float32 [B, C, H, W] in [0, 1] to logits [B, F]; methods that ask for logits alone serve it.

    `size` None: any size. `name` stands in records: change it when the function changes.
    """

    function: Callable[[Array], Array]
    findings: Sequence[str]
    channels: int = 1
    size: tuple[int, int] | None = None
    name: str = "function"

    def __post_init__(self) -> None:
        given: object = self.function
        if not callable(given):
            why = f"is a {type(given).__name__}, no function"
            raise InputError("function", why, mend="give a function from images [B, C, H, W] to logits [B, F]")
        object.__setattr__(self, "findings", checked_findings(self.findings))
        object.__setattr__(self, "size", checked_size(self.size))
        if self.channels not in (1, 3):
            raise InputError("channels", f"{self.channels!r}", mend="images have 1 or 3")

    @property
    def input_size(self) -> tuple[int, int] | None:
        return self.size

    @property
    def model_id(self) -> str:
        return self.name

    def logits(self, images: Array) -> Array:
        """The logits [B, F]. Raises: InputError where the function does not answer with one finite number per finding."""
        if images.ndim != 4 or images.shape[1] != self.channels or len(images) == 0:
            raise InputError("images", f"have shape {images.shape}", mend=f"give float32 [B, {self.channels}, H, W] in [0, 1]")
        # A copy goes in: a function may change what it is given.
        return checked_answer(self.function(images.copy()), images=len(images), findings=self.findings)

    def look(self, image: Array, columns: Sequence[int] | None = None) -> Look | None:
        """None: a function cannot be looked into."""
        return None

    def input_gradients(self, images: Array, columns: Sequence[int] | None = None) -> Array | None:
        """None: a function gives no gradients."""
        return None

    def structures(self, image: Array) -> Mapping[str, Array] | None:
        """None: it draws nothing."""
        return None

    def report(self, image: Array) -> WrittenReport | None:
        """None: it writes nothing."""
        return None


def checked_answer(answer: object, *, images: int, findings: Sequence[str]) -> Array:
    """A model's answer as logits float32 [B, F].

    Raises: InputError for a tuple, a dict, another shape, as many columns as there are no findings, whole numbers, numbers
    that are not finite, or probabilities that sum to one.
    """
    if not isinstance(answer, np.ndarray):
        kind = type(answer).__name__
        raise InputError("model", f"returns a {kind}", mend="wrap it so that it returns logits [B, F] alone")
    if answer.ndim != 2 or len(answer) != images:
        raise InputError("model", f"returns shape {answer.shape} for {images} images", mend="return logits [B, F]")
    if answer.shape[1] != len(findings):
        why = f"{len(findings)} names for {answer.shape[1]} logits"
        raise InputError("findings", why, mend="name every logit of the model in order")
    if answer.dtype.kind != "f":
        why = f"returns values of the type {answer.dtype}, which are classes and no logits"
        raise InputError("model", why, mend="return the logits as floating-point numbers")
    logits = answer.astype(np.float32, copy=False)
    if not np.isfinite(logits).all():
        raise InputError("model", "returns logits that are not finite", mend="check it for overflow or nan on this image")
    if _sum_to_one(logits):
        why = "returns numbers from 0 to 1 that sum to 1: the probabilities of a softmax, no logits"
        raise InputError("model", why, mend=PROBABILITIES_MEND)
    return logits


def _sum_to_one(logits: Array) -> bool:
    """Whether every row is a distribution over two classes or more, as no row of logits is but by a rare chance."""
    within = logits.shape[1] > 1 and logits.min() >= 0 and logits.max() <= 1
    return bool(within and (np.abs(logits.sum(axis=1, dtype=np.float64) - 1) < 1e-5).all())
