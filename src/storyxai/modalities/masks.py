"""What every kind of image asks of a drawn mask: where it lies, its connected pieces, and the largest of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from storyxai.types import Mask

_Places: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Runs:
    """The runs of a mask's rows, in order: where each starts and ends in the flat mask, and the first run that it is connected
    to, itself or one before it. Shapes: [N] each; `shape` is that of the mask.
    """

    starts: _Places
    ends: _Places
    pieces: _Places
    shape: tuple[int, int]

    @property
    def areas(self) -> _Places:
        """Pixels of each piece, at the place of its first run; 0 elsewhere. Shapes: [N]."""
        return np.bincount(self.pieces, weights=self.ends - self.starts, minlength=len(self.pieces)).astype(np.intp)

    def drawn(self, kept: NDArray[np.bool_]) -> Mask:
        """The mask of the runs that are kept."""
        steps = np.zeros(self.shape[0] * self.shape[1] + 1, dtype=np.int8)
        steps[self.starts[kept]] += 1
        steps[self.ends[kept]] -= 1
        return np.add.accumulate(steps, dtype=np.int8)[:-1].view(np.bool_).reshape(self.shape)


def filled_window(mask: Mask) -> tuple[slice, slice]:
    """The rows and columns [H, W] that hold all of a mask; no rows and columns where it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def largest_piece(mask: Mask) -> Mask:
    """The largest connected piece of a mask [H, W], the first of equal ones; a mask of one piece or none as it is."""
    window = filled_window(mask)
    runs = runs_of(mask[window])
    if not runs.pieces.any():
        return np.asarray(mask, dtype=np.bool_)
    largest = np.zeros(mask.shape, dtype=np.bool_)
    largest[window] = runs.drawn(runs.pieces == runs.areas.argmax())
    return largest


def runs_of(mask: Mask) -> Runs:
    """The connected runs of a mask [H, W]: in a large one they cost a fifth of labelling its pixels."""
    height, width = mask.shape
    apart = np.zeros(mask.size + height + 1, dtype=np.bool_)  # a gap before each row, so that no run goes round
    apart[:-1].reshape(height, width + 1)[:, 1:] = mask
    edges = np.flatnonzero(apart[1:] != apart[:-1])
    starts, ends = edges[0::2], edges[1::2]
    gaps = starts // (width + 1)
    return Runs(starts - gaps, ends - gaps, connected(starts, ends, width + 1), (height, width))


def connected(starts: _Places, ends: _Places, length: int) -> _Places:
    """The first of all runs that each run is connected to, itself or one before it, across neighbouring lines of that length.

    Shapes: [N] each, in order; no run goes on into the next line.
    """
    first = np.searchsorted(ends, starts + length, side="right")
    counts = np.searchsorted(starts, ends + length, side="left") - first
    one = np.repeat(np.arange(len(starts)), counts)
    other = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(len(one))
    return _joined(len(starts), one, other)


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
