"""What a picture shows, told from its pixels alone: a frontal chest film, a lateral one, a slice, or something else.

One linear layer on oriented gradients, coarse grey values and their symmetry, of the picture at 64 px. No network, no
student: the same answer whatever model speaks afterwards. benchmarks/gate_view.py fitted the weights and says on what.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from storyxai.modalities.chest_radiograph.gate_view_weights import BIASES, REFUSE, SCALES, WARN, WEIGHTS
from storyxai.types import Array

__all__ = ["KINDS", "REFUSE", "SIDE", "WARN", "describe", "reduce_picture", "view_odds"]

KINDS = ("frontal", "lateral", "slice", "other")
SIDE = 64
_CELL, _BINS = 8, 9


def view_odds(pixels: Array) -> Mapping[str, float]:
    """Log-odds of "lateral", "slice" and "other", each against a frontal film. Shapes: [H, W], bright = dense.

    Above REFUSE hardly any frontal film lies, above WARN few (see benchmarks/gate_view.py).
    """
    whole = np.frombuffer(base64.b85decode("".join(WEIGHTS)), dtype=np.int8).reshape(len(SCALES), -1)
    odds = (whole @ describe(reduce_picture(pixels)[None])[0]) * np.array(SCALES) + np.array(BIASES)
    return dict(zip(KINDS[1:], odds.tolist(), strict=True))


def reduce_picture(pixels: Array) -> Array:
    """The picture at 64 px without its single-valued borders, stretched to a square. Shapes: [H, W] -> [64, 64]."""
    small = _resized(pixels, 2 * SIDE)
    rows, columns = (np.flatnonzero(np.ptp(small, axis=axis) > 0.06) for axis in (1, 0))
    if min(rows.size, columns.size) >= SIDE // 2:
        small = small[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _resized(small, SIDE)


def _resized(pixels: Array, side: int) -> Array:
    picture = PillowImage.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    return np.asarray(picture.resize((side, side), PillowImage.Resampling.BILINEAR), dtype=np.float32)


def describe(small: Array) -> Array:
    """What the linear layer weighs. Shapes: [N, 64, 64] -> float32 [N, 2164].

    1764 oriented gradients (8 x 8 cells of 9 directions, each block of 2 x 2 cells to unit length), 256 ranks of grey values
    on a 16 x 16 raster, 128 differences of that raster from its mirror image, and the ranks' spread along 8 columns and 8 rows.
    """
    ranks = _ranked(small)
    coarse = ranks.reshape(-1, 16, 4, 16, 4).mean(axis=(2, 4))
    halves = np.abs(coarse[:, :, :8] - coarse[:, :, :7:-1])
    parts = (_gradients(ranks), 2 * coarse.reshape(len(small), -1), 2 * halves.reshape(len(small), -1))
    profiles = (2 * ranks.std(axis=1)[:, ::8], 2 * ranks.std(axis=2)[:, ::8])
    return np.concatenate([*parts, *profiles], axis=1, dtype=np.float32)


def _ranked(small: Array) -> Array:
    """Grey values replaced by the share of pixels that are darker, equal ones sharing their mean. Shapes: [N, 64, 64]."""
    levels = np.clip(np.rint(small * 255), 0, 255).astype(np.intp)
    flat = levels.reshape(len(small), -1)
    offset = np.arange(len(small))[:, None] * 256
    counts = np.bincount((flat + offset).ravel(), minlength=256 * len(small)).reshape(-1, 256)
    shares = (np.cumsum(counts, axis=1) - counts / 2) / flat.shape[1]
    return np.take_along_axis(shares, flat, axis=1).reshape(small.shape).astype(np.float32)


def _gradients(values: Array) -> NDArray[np.float32]:
    """Histograms of oriented gradients, unsigned. Source: Dalal and Triggs, CVPR 2005. Shapes: [N, S, S] -> [N, D]."""
    down, across = np.zeros_like(values), np.zeros_like(values)
    down[:, 1:-1] = values[:, 2:] - values[:, :-2]
    across[:, :, 1:-1] = values[:, :, 2:] - values[:, :, :-2]
    strength = np.hypot(down, across)
    place = (np.arctan2(down, across) / np.pi % 1.0) * _BINS
    low = np.floor(place).astype(np.intp) % _BINS
    upper = (place - np.floor(place)).astype(np.float32)
    n, side = len(values), values.shape[1] // _CELL
    row = np.arange(values.shape[1]) // _CELL
    cell = (np.arange(n)[:, None, None] * side + row[None, :, None]) * side + row[None, None, :]
    size = n * side * side * _BINS
    held = np.bincount((cell * _BINS + low).ravel(), (strength * (1 - upper)).ravel(), size)
    held += np.bincount((cell * _BINS + (low + 1) % _BINS).ravel(), (strength * upper).ravel(), size)
    cells = held.reshape(n, side, side, _BINS)
    blocks = np.concatenate([cells[:, i : side - 1 + i, j : side - 1 + j] for i in (0, 1) for j in (0, 1)], axis=3)
    blocks /= np.sqrt((blocks**2).sum(axis=3, keepdims=True) + 0.5)
    return blocks.reshape(n, -1).astype(np.float32)
