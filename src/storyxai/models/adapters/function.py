"""A plain function as a model that can be explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from storyxai.errors import InputError
from storyxai.explain.contract import Look, WrittenReport
from storyxai.modalities.contract import Modality
from storyxai.models.adapters.answers import Answers
from storyxai.models.adapters.settings import checked_findings, checked_modality, checked_size
from storyxai.types import Array

__all__ = ["FunctionModel"]


@dataclass(frozen=True, eq=False)
class FunctionModel:
    """A function from images float32 [B, C, H, W] in [0, 1] to logits [B, F]; methods that ask for logits alone serve it.

    Its answer may be an array, a list of lists, a tensor or a table. `probabilities` True: it gives those in the place of
    logits; None: a function whose answers all lie within [0, 1] is not told before somebody said which they are. `size` None:
    any size. `name` stands in records: change it when the function changes. `modality` is the kind of image that it reads, or
    its key; None: it follows from the findings.
    """

    function: Callable[[Array], Array]
    findings: Sequence[str]
    channels: int = 1
    size: tuple[int, int] | None = None
    name: str = "function"
    probabilities: bool | None = None
    modality: Modality | str | None = None
    _answers: Answers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        given: object = self.function
        if not callable(given):
            why = f"is a {type(given).__name__}, no function"
            raise InputError("function", why, mend="give a function from images [B, C, H, W] to logits [B, F]")
        object.__setattr__(self, "findings", checked_findings(self.findings))
        object.__setattr__(self, "size", checked_size(self.size))
        object.__setattr__(self, "modality", checked_modality(self.modality))
        object.__setattr__(self, "_answers", Answers(self._said, self.findings, self.probabilities))
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
        return self._answers.logits(images)

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
