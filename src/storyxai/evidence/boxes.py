"""Boxes around where an evidence grid is strong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.imaging.geometry import ModelFrame, mix_rows
from storyxai.modalities.masks import connected
from storyxai.types import Array, Box

_Places: TypeAlias = NDArray[np.intp]


def evidence_boxes(grid: Array, frame: ModelFrame, *, finding: str) -> tuple[Box, ...]:
    """Boxes where a grid of log-odds [h, w] is at least half as probable as at its highest cell, original frame."""
    cells = 1 / (1 + np.exp(-grid.astype(np.float64)))
    return boxes_at_half_height(cells.astype(np.float32), frame, finding=finding)


def boxes_at_half_height(
    grid: Array, frame: ModelFrame, *, finding: str, min_area_share: float = 0.001, limit: int = 5
) -> tuple[Box, ...]:
    """Boxes around the connected parts where a map is at least half its highest value, original frame, highest score first.

    Shapes: grid float32 [h, w], interpolated as by `ModelFrame.grid_to_original`. `score` is the largest value in the part.
    Parts smaller than `min_area_share` of the picture are left out; at most `limit` boxes.
    Raises: InputError for a grid that is no finite map.
    """
    if grid.ndim != 2 or not np.isfinite(grid).all():
        raise InputError("grid", "is not a finite map [h, w]", mend="give one finite number for each cell")
    parts = _parts(_bands(grid, frame))
    lefts, tops = np.divmod(parts.starts, frame.height + 1)
    areas = parts.ends - parts.starts
    boxes = []
    for piece in np.unique(parts.pieces):
        own = parts.pieces == piece
        if areas[own].sum() < min_area_share * frame.height * frame.width:
            continue
        left, top = float(lefts[own].min()), float(tops[own].min())
        width, height = float(lefts[own].max()) + 1 - left, float((tops + areas)[own].max()) - top
        boxes.append(Box(finding, left, top, width, height, float(np.clip(parts.strongest[own].max(), 0, 1))))
    return tuple(sorted(boxes, key=lambda b: (-b.score, b.y, b.x))[:limit])


@dataclass(frozen=True, eq=False)
class _Bands:
    """A map in the original frame by bands of rows that mix the same two rows of its grid, so that down a column of a band it
    only rises or only falls: the rows at the ends of a band say nearly all of it.

    Shapes: first, last [S] rows of each band; wide [h, W] the grid interpolated across; rows, weights [H, taps] what each row
    mixes of it; ends float32 [2 S, W] the map in the first and the last row of each band in turn.
    """

    first: _Places
    last: _Places
    wide: Array
    rows: _Places
    weights: NDArray[np.float64]
    ends: Array

    def crossings(self, bands: _Places, columns: _Places, threshold: np.float32) -> _Places:
        """The first row of each band and column that lies on the threshold's other side than the band's first row."""
        before, behind, side = self.first[bands], self.last[bands], self.ends[2 * bands, columns] >= threshold
        cells = self.wide[self.rows[before].T, columns].astype(np.float64)
        while (behind - before > 1).any():
            middle = (before + behind) // 2
            values = (self.weights[middle].T * cells).sum(axis=0).astype(np.float32)
            stays = (values >= threshold) == side
            before, behind = np.where(stays, middle, before), np.where(stays, behind, middle)
        return behind


@dataclass(frozen=True, eq=False)
class _Parts:
    """Runs down the columns, in order: where each starts and ends, counted down columns of H + 1 places, the first run that it
    is connected to (itself or one before it), and its strongest value. Shapes: all [N].
    """

    starts: _Places
    ends: _Places
    pieces: _Places
    strongest: Array


def _bands(grid: Array, frame: ModelFrame) -> _Bands:
    if frame.height < len(grid):  # each row is a band by itself
        every, drawn = np.arange(frame.height), frame.grid_to_original(grid)
        return _Bands(every, every, drawn, every[:, None], np.ones((frame.height, 1)), np.repeat(drawn, 2, axis=0))
    wide, rows, weights = frame.rows_to_original(grid)
    first = np.flatnonzero(np.append(True, (rows[1:] != rows[:-1]).any(axis=1)))
    last = np.append(first[1:], len(rows)) - 1
    at, ends = np.ravel([first, last], order="F"), np.empty((2 * len(first), wide.shape[1]), dtype=np.float32)
    mix_rows(wide.astype(np.float64), rows[at], weights[at], ends)
    return _Bands(first, last, wide, rows, weights, ends)


def _parts(bands: _Bands) -> _Parts:
    """The runs down the columns where the map is at least half its highest value.

    A run's highest value stands in the first or last row of a band: it would rise on until there.
    """
    threshold = np.float32(0.5 * float(bands.ends.max()))
    height, places = int(bands.last[-1]) + 1, len(bands.ends)
    width = bands.ends.shape[1]
    above = np.zeros((places + 2, width), dtype=np.bool_)
    above[1:-1] = bands.ends >= threshold
    changes, columns = np.divmod(np.flatnonzero(above[1:] != above[:-1]), width)
    columns, changes = np.divmod(np.sort(columns * (places + 1) + changes), places + 1)
    # A change before the place 2 s is one before the first row of the band s; before 2 s + 1 it is one within the band.
    at = np.append(bands.first, height)[changes // 2]
    within = changes % 2 == 1
    at[within] = bands.crossings(changes[within] // 2, columns[within], threshold)
    starts, ends = (columns * (height + 1) + at).reshape(-1, 2).T
    values, edges = bands.ends.T.ravel(), columns * places + changes
    strongest = np.maximum.reduceat(values, edges[edges < values.size])[::2]
    return _Parts(starts, ends, connected(starts, ends, height + 1), strongest)
