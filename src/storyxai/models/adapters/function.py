"""A plain function as a model that can be explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from storyxai.errors import InputError
from storyxai.explain.contract import Look, WrittenReport
from storyxai.models.adapters.settings import checked_findings, checked_size
from storyxai.types import Array

__all__ = ["FunctionModel", "checked_answer", "logits_shape"]

PROBABILITIES_MEND = "leave its last step out, or give of each p its log-odds log(p / (1 - p))"
"""What makes logits of probabilities."""
_SUREST = 1e-7
"""A probability of 1 has no log-odds: this far from it at most."""


@dataclass(frozen=True, eq=False)
class FunctionModel:
    """A function from images float32 [B, C, H, W] in [0, 1] to logits [B, F]; methods that ask for logits alone serve it.

    Its answer may be an array, a list of lists, a tensor or a table. `probabilities` True: it gives those in the place of
    logits; None: a function whose answers all lie within [0, 1] is not told before somebody said which they are. `size` None:
    any size. `name` stands in records: change it when the function changes.
    """

    function: Callable[[Array], Array]
    findings: Sequence[str]
    channels: int = 1
    size: tuple[int, int] | None = None
    name: str = "function"
    probabilities: bool | None = None
    _are_logits: list[bool] = field(default_factory=list, init=False, repr=False)

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
        answer = self._said(images)
        logits = checked_answer(_log_odds(answer) if self.probabilities else answer, images=len(images), findings=self.findings)
        if self.probabilities is None and not self._are_logits and _within(answer):
            self._refuse_unclear(images)
        return logits

    def _refuse_unclear(self, images: Array) -> None:
        """Raises InputError where answers on noise of every brightness lie within [0, 1] too: they may be probabilities."""
        noise = np.random.default_rng(0).random((8, *images.shape[1:]), dtype=np.float32)
        if _within(self._said(noise * np.linspace(0, 1, 8, dtype=np.float32)[:, None, None, None])):
            why = "answers within [0, 1], and nothing here can tell whether these are logits or probabilities"
            raise InputError("model", why, mend="say which with probabilities=True or probabilities=False")
        self._are_logits.append(True)

    def _said(self, images: Array) -> object:
        """What the function answers, lists, tensors and tables as an array. Raises: InputError for whatever it raises."""
        try:
            # A copy goes in: a function may change what it is given.
            answer: object = self.function(images.copy())
            answer = answer.detach().cpu() if hasattr(answer, "detach") else answer
            return np.asarray(answer) if isinstance(answer, list | tuple) or hasattr(answer, "__array__") else answer
        except InputError:
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            mend = "mend it, or what it is asked for: size= and channels="
            raise InputError("function", f"fails on images of shape {images.shape} ({reason})", mend=mend) from error

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


def _within(answer: object) -> bool:
    """Whether the answer is of numbers from 0 to 1."""
    if not isinstance(answer, np.ndarray) or answer.dtype.kind != "f" or answer.size == 0:
        return False
    return bool(answer.min() >= 0 and answer.max() <= 1)


def _log_odds(answer: object) -> object:
    """Logits of probabilities. Raises: InputError for numbers that are none."""
    if not isinstance(answer, np.ndarray):
        return answer
    if not _within(answer):
        raise InputError("model", "does not answer with numbers from 0 to 1", mend="leave probabilities=True out")
    sure = np.clip(answer.astype(np.float64), _SUREST, 1 - _SUREST)
    return np.log(sure / (1 - sure))


def checked_answer(answer: object, *, images: int, findings: Sequence[str]) -> Array:
    """A model's answer as logits float32 [B, F]; axes of length one between and behind these are dropped.

    Raises: InputError for a tuple, a dict, another shape, as many columns as there are no findings, whole numbers, numbers
    that are not finite, or probabilities that sum to one.
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
    logits = answer.astype(np.float32, copy=False)
    if not np.isfinite(logits).all():
        raise InputError("model", "returns logits that are not finite", mend="check it for overflow or nan on this image")
    if _sum_to_one(logits):
        why = "returns numbers from 0 to 1 that sum to 1: the probabilities of a softmax, no logits"
        raise InputError("model", why, mend=PROBABILITIES_MEND)
    return logits


def logits_shape(shape: Sequence[int], *, images: int) -> tuple[int, int]:
    """[B, F] for an answer of this shape: [B] of one finding, [B, F, 1, 1] of a network without a last flattening too.

    Raises: InputError for any other shape.
    """
    wide = [side for side in shape[1:] if side != 1]
    if not shape or shape[0] != images or len(wide) > 1 or 0 in wide:
        raise InputError("model", f"returns shape {tuple(shape)} for {images} images", mend="return logits [B, F]")
    return images, wide[0] if wide else 1


def _sum_to_one(logits: Array) -> bool:
    """Whether every row is a distribution over two classes or more, as no row of logits is but by a rare chance."""
    within = logits.shape[1] > 1 and logits.min() >= 0 and logits.max() <= 1
    return bool(within and (np.abs(logits.sum(axis=1, dtype=np.float64) - 1) < 1e-5).all())
