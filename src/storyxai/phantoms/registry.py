"""Which modalities have phantoms, and what every phantom has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import numpy as np

from storyxai.errors import InputError, UnknownNameError
from storyxai.types import Box, Image, Mask

SMALLEST_SIZE = 64


@dataclass(frozen=True, eq=False)
class AnyPhantom(ABC):
    """A synthetic image and its truth, whatever it is of. Shapes: masks bool [H, W]; these and boxes in the picture's frame.

    `masks` are the modality's structures, `sign_masks` the places of findings, `severity` in (0, 1] of those present.
    """

    seed: int
    patient_id: str
    image: Image
    labels: Mapping[str, float]
    severity: Mapping[str, float]
    boxes: tuple[Box, ...]
    sign_masks: Mapping[str, Mask]
    masks: Mapping[str, Mask]
    report: tuple[str, ...]

    @abstractmethod
    def known(self) -> dict[str, object]:
        """What else is known of it, as plain values."""


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


def refuse_unmade(seed: int, size: int) -> None:
    """Raises: InputError for a negative seed or a size below 64."""
    if seed < 0 or size < SMALLEST_SIZE:
        mend = f"use a seed of 0 or more and a size of {SMALLEST_SIZE} or more"
        raise InputError(f"phantom seed {seed}, size {size}", "cannot be made", mend=mend)


def box_around(finding: str, mask: Mask) -> tuple[Box, ...]:
    """The box of what a finding shows; none where it shows nothing."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return ()
    x, y = float(columns[0]), float(rows[0])
    return (Box(finding, x, y, float(columns[-1]) + 1 - x, float(rows[-1]) + 1 - y, 1.0),)
