"""A plain function as a model that can be explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from storyxai.errors import InputError
from storyxai.explain.contract import Look, WrittenReport
from storyxai.types import Array

__all__ = ["FunctionModel", "checked_answer", "checked_findings"]


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
        object.__setattr__(self, "findings", checked_findings(self.findings))

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
        return checked_answer(self.function(images), images=len(images), findings=self.findings)

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


def checked_findings(findings: Sequence[str]) -> tuple[str, ...]:
    """The names of the logits as a tuple. Raises: InputError unless they are one or more different names."""
    if isinstance(findings, str):
        raise InputError("findings", f"is the text '{findings}'", mend="give a list of names, one for each logit in order")
    names = tuple(findings)
    if not names or any(not isinstance(name, str) or not name.strip() for name in names):
        raise InputError("findings", "has no names, or an empty one", mend="name every logit of the model in order")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError("findings", f"holds '{twice[0]}' twice", mend="give every logit a name of its own")
    return names


def checked_answer(answer: object, *, images: int, findings: Sequence[str]) -> Array:
    """A model's answer as logits float32 [B, F].

    Raises: InputError for a tuple, a dict, another shape, as many columns as there are no findings, or numbers that are
    not finite.
    """
    if not isinstance(answer, np.ndarray):
        kind = type(answer).__name__
        raise InputError("model", f"returns a {kind}", mend="wrap it so that it returns logits [B, F] alone")
    if answer.ndim != 2 or len(answer) != images:
        raise InputError("model", f"returns shape {answer.shape} for {images} images", mend="return logits [B, F]")
    if answer.shape[1] != len(findings):
        why = f"{len(findings)} names for {answer.shape[1]} logits"
        raise InputError("findings", why, mend="name every logit of the model in order")
    logits = answer.astype(np.float32, copy=False)
    if not np.isfinite(logits).all():
        raise InputError("model", "returns logits that are not finite", mend="check it for overflow or nan on this image")
    return logits
