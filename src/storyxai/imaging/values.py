"""How large a picture may be, and how wide stored ranges become [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import ReadError
from storyxai.types import Array

# The largest detectors in use give about 20 megapixels of 16 bits.
MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 256 << 20
MIN_SIDE_PIXELS = 64
_ROBUST_SHARES = (0.005, 0.995)


def check_size(source: str, rows: int, columns: int, *, planes: int = 1) -> None:
    """Nothing, when a picture of this size may be decoded. Raises: ReadError when it is too small or too large.

    `planes` is how many grey pictures' worth of memory a pixel takes (colour: 3).
    """
    if min(rows, columns) < MIN_SIDE_PIXELS:
        why = f"is {columns} x {rows} pixels: too small to judge"
        raise ReadError(source, why, mend=f"give the image at {MIN_SIDE_PIXELS} pixels or more on each side")
    if rows * columns * planes > MAX_PIXELS:
        why = f"is {columns} x {rows} pixels: larger than any image that a model reads"
        raise ReadError(source, why, mend=f"scale it to at most {MAX_PIXELS // planes // 1_000_000} megapixels")


def robust_range(counts: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[float, float]:
    """The values below which 0.5 % and 99.5 % of the pixels lie.

    Shapes: `counts` [N] pixels per table entry, `values` [N] what the entry stands for, in any order.
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[order])
    low, high = (values[order[np.searchsorted(reached, share * reached[-1])]] for share in _ROBUST_SHARES)
    return float(low), float(high)


def robust_table(words: NDArray[Any], values: NDArray[np.float64]) -> Array:
    """For every possible word its value scaled so that the robust range of `words` becomes [0, 1], clipped.

    Shapes: `words` unsigned [H, W], `values` [N] by word -> float32 [N]. A picture of one value becomes 0.
    """
    counts = np.bincount(words.ravel(), minlength=values.size)
    low, high = robust_range(counts, values)
    if high <= low:
        low, high = float(values[counts > 0].min()), float(values[counts > 0].max())
    return np.clip((values - low) / max(high - low, 1e-12), 0.0, 1.0).astype(np.float32)
