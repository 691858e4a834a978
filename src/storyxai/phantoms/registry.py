"""Which modalities have phantoms, and what every phantom has in common."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol

from storyxai.errors import UnknownNameError
from storyxai.types import Box, Image, Mask

__all__ = ["AnyPhantom", "PhantomMaker", "phantom_keys", "phantom_maker"]


class AnyPhantom(Protocol):
    """A synthetic image and its truth, whatever it is of. Shapes: masks bool [H, W], the picture's frame.

    `masks` are the modality's structures, `sign_masks` the places of findings, `severity` in (0, 1] of those present.
    """

    @property
    def seed(self) -> int: ...
    @property
    def patient_id(self) -> str: ...
    @property
    def image(self) -> Image: ...
    @property
    def labels(self) -> Mapping[str, float]: ...
    @property
    def severity(self) -> Mapping[str, float]: ...
    @property
    def boxes(self) -> tuple[Box, ...]: ...
    @property
    def sign_masks(self) -> Mapping[str, Mask]: ...
    @property
    def masks(self) -> Mapping[str, Mask]: ...
    @property
    def report(self) -> tuple[str, ...]: ...

    def known(self) -> dict[str, object]:
        """What else is known of it, as plain values."""
        ...


class PhantomMaker(Protocol):
    """The function that makes the phantom of a seed: the same seed and size give the same bytes."""

    def __call__(self, seed: int, *, size: int = ...) -> AnyPhantom:
        """The phantom. Raises: InputError for a negative seed or too small a size."""
        ...


_MAKERS: Mapping[str, str] = {
    "chest_radiograph": "storyxai.phantoms.generate:generate_phantom",
    "dermoscopy": "storyxai.phantoms.dermoscopy:generate_skin_phantom",
}


def phantom_keys() -> tuple[str, ...]:
    """The keys of the modalities that have phantoms, sorted."""
    return tuple(sorted(_MAKERS))


def phantom_maker(modality: str) -> PhantomMaker:
    """What makes phantoms of the modality of that key. Raises: UnknownNameError naming the nearest that has some."""
    if modality not in _MAKERS:
        raise UnknownNameError("modality with phantoms", modality, phantom_keys())
    module, _, function = _MAKERS[modality].partition(":")
    maker: PhantomMaker = getattr(import_module(module), function)
    return maker
