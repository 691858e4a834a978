"""How well a drawn mask fits a reference mask: overlap and distance of the outlines.

Empty masks are defined, not guessed: two empty masks agree (Dice and IoU 1, distances 0); where only one is empty the
overlap is 0 and a distance does not exist (None). Pixels marked `ignore` count neither way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from storyxai.errors import InputError
from storyxai.modalities.masks import filled_window

__all__ = ["SurfaceDistances", "dice", "surface_distances"]

Mask = NDArray[np.bool_]
_Places = NDArray[np.intp]


@dataclass(frozen=True)
class SurfaceDistances:
    """Average symmetric and 95 % Hausdorff distance of two outlines, in the unit of the spacing; None: one is empty."""

    average: float | None
    hausdorff_95: float | None


def dice(predicted: Mask, reference: Mask, *, ignore: Mask | None = None) -> float:
    """Twice the shared area over the sum of both areas, in [0, 1]. Shapes: all [H, W]."""
    drawn, true = _counted(predicted, reference, ignore)
    total = np.count_nonzero(drawn) + np.count_nonzero(true)
    return 2.0 * np.count_nonzero(drawn & true) / total if total else 1.0


def surface_distances(
    predicted: Mask,
    reference: Mask,
    *,
    spacing: tuple[float, float] = (1.0, 1.0),
    ignore: Mask | None = None,
) -> SurfaceDistances:
    """Distances between the two outlines.

    Shapes: masks [H, W]. Units: those of `spacing` (row, column), pixels by default. An outline is the mask's own
    outermost pixels (4-neighbours; the picture's edge ends a mask). Points of an outline in or next to an ignored
    pixel are not measured from. `average` is the mean over the points of both outlines together; `hausdorff_95` the
    larger of the two directed 95th percentiles.
    """
    if min(spacing) <= 0:
        raise InputError("spacing", f"{spacing} is not a pair of lengths", mend="give millimetres per row and column")
    drawn, true = _counted(predicted, reference, ignore)
    # What lies outside both masks bounds them as the picture's edge does: outlines are those of the window that holds both.
    window = filled_window(drawn | true)
    outline, true_outline = _places(drawn[window]), _places(true[window])
    if not len(outline) or not len(true_outline):
        return SurfaceDistances(None, None) if len(outline) or len(true_outline) else SurfaceDistances(0.0, 0.0)
    beside = None if ignore is None or not np.any(ignore) else _beside(np.asarray(ignore, dtype=bool))[window]
    there = _distances(_measured(outline, beside), true_outline, spacing)
    back = _distances(_measured(true_outline, beside), outline, spacing)
    if not len(there) or not len(back):
        return SurfaceDistances(None, None)
    average = float(np.concatenate([there, back]).mean())
    return SurfaceDistances(average, float(max(np.percentile(there, 95), np.percentile(back, 95))))


def _places(mask: Mask) -> _Places:
    """The rows and columns of the outline of a mask, [N, 2]."""
    # As `argwhere`, which is slow on a picture of mostly nothing.
    return np.stack(np.divmod(np.flatnonzero(_outline(mask)), mask.shape[1]), axis=1)


def _distances(points: _Places, others: _Places, spacing: tuple[float, float]) -> NDArray[np.float64]:
    """From each of the points to the nearest of the others. Shapes: [N, 2], [M, 2] rows and columns -> [N]."""
    # Outlines are a few thousand pixels: a tree of them costs a tenth of a distance at every pixel of the image.
    tree = KDTree(others * np.array(spacing), leafsize=16, balanced_tree=False, compact_nodes=False)
    nearest = tree.query(points * np.array(spacing))[1]
    return np.asarray(np.sqrt((((points - others[nearest]) * np.array(spacing)) ** 2).sum(axis=1)))


def _measured(outline: _Places, unsure: Mask | None) -> _Places:
    """The points of an outline that do not lie in or beside an ignored pixel."""
    return outline if unsure is None else outline[~unsure[outline[:, 0], outline[:, 1]]]


def _outline(mask: Mask) -> Mask:
    """The mask's pixels that have a neighbour above, below or beside which is not in it, or is beyond the picture."""
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1] = mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    return mask & ~inner


def _beside(mask: Mask) -> Mask:
    """The mask and the pixels above, below and beside its own."""
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    return wide


def _counted(predicted: Mask, reference: Mask, ignore: Mask | None) -> tuple[Mask, Mask]:
    drawn, true = np.asarray(predicted, dtype=bool), np.asarray(reference, dtype=bool)
    for other in (true,) if ignore is None else (true, np.asarray(ignore)):
        if other.shape != drawn.shape:
            raise InputError("mask", f"shape {other.shape} does not fit {drawn.shape}", mend="bring both to one frame")
    if ignore is None or not np.any(ignore):
        return drawn, true
    counted = ~np.asarray(ignore, dtype=bool)
    return drawn & counted, true & counted
