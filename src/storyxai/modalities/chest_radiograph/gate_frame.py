"""Whether a film lies within a bright frame: a photograph of a light box, a scan on white paper, a figure of a page.

From each side of the picture inwards the straight line is looked for along which the brightness falls most evenly. On a
radiograph what lies outside such a line is dark (the collimators' shadow); round a film on a light box it is bright.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from storyxai.types import Array

_SIDE = 160
_BAND = 3
_DEEPEST = 48
_TILTS = range(-12, 13, 2)
"""By how many rows a line falls from the middle to the end."""
_LEAST_FALL = 0.15
_LEAST_BRIGHT = 0.3
_NOISE = 0.03

_Float64 = NDArray[np.float64]
_COLUMNS = np.arange(12, _SIDE - 12)


def bright_frame(pixels: Array) -> float:
    """How evenly the picture darkens along a line at the second weakest of its four sides; 0 where no bright frame ends there.

    Shapes: [H, W] in [0, 1]. Mean fall over its spread along the line (and 0.03), times the square of the share of the line
    that darkens.
    """
    small = PillowImage.fromarray(np.ascontiguousarray(pixels, np.float32))
    raster = np.asarray(small.resize((_SIDE, _SIDE), PillowImage.Resampling.BOX), np.float64)
    return sorted(_evenness(np.rot90(raster, turns)) for turns in range(4))[1]


def _evenness(raster: _Float64) -> float:
    """The figure of the upper side."""
    sums = np.vstack([np.zeros(_SIDE), raster.cumsum(axis=0)])
    inner = np.arange(_BAND + 1, _SIDE - _BAND - 1)
    falls = np.zeros_like(raster)
    falls[inner] = (sums[inner] - sums[inner - _BAND] - sums[inner + _BAND + 1] + sums[inner + 1]) / _BAND
    outside = sums[:-1] / np.maximum(np.arange(_SIDE), 1)[:, None]
    return max(_best_line(falls, outside, tilt) for tilt in _TILTS)


def _best_line(falls: _Float64, outside: _Float64, tilt: int) -> float:
    """The largest figure of the lines of this tilt, 0 where none is bright on its outer side."""
    middle = np.arange(max(_BAND + 2, abs(tilt) + _BAND + 1), _DEEPEST)[:, None]
    rows = middle + np.rint(tilt * (_COLUMNS - _SIDE / 2) / (_SIDE / 2 - 12)).astype(np.intp)
    along = falls[rows, _COLUMNS]
    fall, share = along.mean(axis=1), (along > 0).mean(axis=1)
    bright = (fall > _LEAST_FALL) & (np.median(outside[rows, _COLUMNS], axis=1) > _LEAST_BRIGHT)
    return float(np.where(bright, fall / (along.std(axis=1) + _NOISE) * share**2, 0.0).max())
