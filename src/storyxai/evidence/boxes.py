"""Boxes around where an evidence grid is strong."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.imaging.geometry import ModelFrame
from storyxai.types import Array, Box, Mask

__all__ = ["boxes_from_grid", "evidence_boxes"]

_Places: TypeAlias = NDArray[np.intp]


def evidence_boxes(grid: Array, frame: ModelFrame, *, finding: str) -> tuple[Box, ...]:
    """Boxes where a grid of log-odds [h, w] is at least half as probable as at its highest cell, original frame."""
    cells = 1 / (1 + np.exp(-grid.astype(np.float64)))
    drawn = frame.grid_to_original(cells.astype(np.float32))
    return boxes_from_grid(drawn, finding=finding, threshold=0.5 * float(drawn.max()))


def boxes_from_grid(
    probability: Array, *, finding: str, threshold: float, min_area_share: float = 0.001, limit: int = 5
) -> tuple[Box, ...]:
    """Boxes around the connected parts where the probability is at or above the threshold, highest score first.

    Shapes: probability [H, W], the evidence grid already resampled to the original frame. `score` is the largest
    probability in the part. Parts smaller than `min_area_share` of the picture are left out; at most `limit` boxes.
    """
    if probability.ndim != 2 or not np.isfinite(probability).all():
        raise InputError("probability", "is not a finite map [H, W]", mend="resample the grid to the original frame")
    starts, ends, pieces = _runs(probability >= threshold)
    if not len(starts):
        return ()
    width = probability.shape[1]
    rows, lefts, rights = starts // width, starts % width, (ends - 1) % width + 1
    edges = np.ravel([starts, ends], order="F")
    strongest = np.maximum.reduceat(probability.ravel(), edges[:-1] if edges[-1] == probability.size else edges)[::2]
    boxes = []
    for piece in np.unique(pieces):
        own = pieces == piece
        if (ends - starts)[own].sum() < min_area_share * probability.size:
            continue
        left, top = float(lefts[own].min()), float(rows[own].min())
        score = float(np.clip(strongest[own].max(), 0, 1))
        boxes.append(Box(finding, left, top, float(rights[own].max()) - left, float(rows[own].max()) + 1 - top, score))
    return tuple(sorted(boxes, key=lambda b: (-b.score, b.y, b.x))[:limit])


def _runs(inside: Mask) -> tuple[_Places, _Places, _Places]:
    """Each row's runs of a mask [H, W] in order: where they start and end in the flat mask, and the first run that each is
    connected to, itself or one before it: of a large mask that costs a fifth of labelling its pixels.
    """
    width = inside.shape[1]
    apart = np.zeros(inside.size + len(inside) + 1, dtype=np.bool_)  # a gap before each row, so that no run goes round
    apart[:-1].reshape(-1, width + 1)[:, 1:] = inside
    edges = np.flatnonzero(apart[1:] != apart[:-1])
    starts, ends = edges[0::2], edges[1::2]
    # The runs of the next row that lie below some of a run.
    first = np.searchsorted(ends, starts + width + 1, side="right")
    counts = np.searchsorted(starts, ends + width + 1, side="left") - first
    upper = np.repeat(np.arange(len(starts)), counts)
    lower = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(len(upper))
    gaps = starts // (width + 1)
    return starts - gaps, ends - gaps, _joined(len(starts), upper, lower)


def _joined(count: int, one: _Places, other: _Places) -> _Places:
    """The first of all that each of `count` things is joined to, by pairs of things."""
    first = np.arange(count)
    while (first[one] != first[other]).any():
        least = np.minimum(first[one], first[other])
        for end in (one, other):
            np.minimum.at(first, first[end], least)
        while (first != first[first]).any():
            first = first[first]
    return first
