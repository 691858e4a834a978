"""An array becomes an Image: for those whose pixels come from a data loader and not from a file."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storyxai.errors import ReadError
from storyxai.imaging.notes import note
from storyxai.imaging.values import check_size, robust_table
from storyxai.types import Array, Image

SOURCE = "array"


def image_of_array(given: ArrayLike) -> Image:
    """The image that the array holds, bright = dense; its `sha256` is of shape, type and values.

    Shapes: [H, W], or [H, W, 3] in colour (three equal planes are grey). Units: floats in [0, 1]; unsigned 8 bits are divided
    by 255, unsigned 16 bits scaled by their robust range, as those of files are.
    Raises: ReadError for another shape, another type or floats outside [0, 1].
    """
    # A tensor that asks for gradients is one of numbers all the same.
    given = given.detach() if hasattr(given, "detach") else given
    values = np.ascontiguousarray(given)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3):
        raise ReadError(SOURCE, f"has shape {values.shape}", mend="give one image [H, W], or [H, W, 3] in colour")
    check_size(SOURCE, *values.shape[:2], planes=1 if values.ndim == 2 else 3)
    pixels, notes = _scaled(values)
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = np.ascontiguousarray(pixels[..., 0])
    digest = hashlib.sha256(f"{values.shape} {values.dtype.str} ".encode() + values.tobytes()).hexdigest()
    return Image(pixels=pixels, sha256=digest, source=SOURCE, notes=notes)


def of_bytes(values: NDArray[np.uint8]) -> Array:
    """Values of eight bits in [0, 1]."""
    # Rounds as the division in float64 does: 53 bits are more than twice 24.
    return np.divide(values, np.float32(255), dtype=np.float32)


def _scaled(values: NDArray[np.generic]) -> tuple[Array, tuple[str, ...]]:
    if values.dtype == np.uint8:
        return of_bytes(values.astype(np.uint8, copy=False)), ()
    if values.dtype == np.uint16:
        return robust_table(values, np.arange(65536, dtype=np.float64))[values], (note("note_16_bits"),)
    if values.dtype.kind != "f":
        raise ReadError(SOURCE, f"holds {values.dtype} values", mend="give floats in [0, 1], or unsigned 8 or 16 bits")
    pixels = values.astype(np.float32)
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
        raise ReadError(SOURCE, "has values outside [0, 1]", mend="scale them to [0, 1], bright = dense")
    return pixels, ()
