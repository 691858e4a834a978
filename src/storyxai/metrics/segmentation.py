"""How well a drawn mask fits a reference mask: overlap and distance of the outlines.

Empty masks are defined, not guessed: two empty masks agree (Dice and IoU 1, distances 0); where only one is empty the
overlap is 0 and a distance does not exist (None). Pixels marked `ignore` count neither way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt

from storyxai.errors import InputError

__all__ = ["SurfaceDistances", "dice", "iou", "surface_distances"]

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SurfaceDistances:
    """Average symmetric and 95 % Hausdorff distance of two outlines, in the unit of the spacing; None: one is empty."""

    average: float | None
    hausdorff_95: float | None


def dice(predicted: Mask, reference: Mask, *, ignore: Mask | None = None) -> float:
    """Twice the shared area over the sum of both areas, in [0, 1]. Shapes: all [H, W]."""
    drawn, true = _counted(predicted, reference, ignore)
    total = int(drawn.sum()) + int(true.sum())
    return 2.0 * int((drawn & true).sum()) / total if total else 1.0


def iou(predicted: Mask, reference: Mask, *, ignore: Mask | None = None) -> float:
    """The shared area over the joint area, in [0, 1]. Shapes: all [H, W]."""
    drawn, true = _counted(predicted, reference, ignore)
    joint = int((drawn | true).sum())
    return int((drawn & true).sum()) / joint if joint else 1.0


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
    if not drawn.any() and not true.any():
        return SurfaceDistances(0.0, 0.0)
    if not drawn.any() or not true.any():
        return SurfaceDistances(None, None)
    measured = np.ones_like(drawn) if ignore is None else ~binary_dilation(np.asarray(ignore, dtype=bool))
    window = _window(drawn | true)  # beyond it there is no outline to measure from or to
    drawn, true, measured = drawn[window], true[window], measured[window]
    outline, true_outline = _outline(drawn), _outline(true)
    there = _distances_to(true_outline, spacing)[outline & measured]
    back = _distances_to(outline, spacing)[true_outline & measured]
    if not len(there) or not len(back):
        return SurfaceDistances(None, None)
    average = float(np.concatenate([there, back]).mean())
    return SurfaceDistances(average, float(max(np.percentile(there, 95), np.percentile(back, 95))))


def _window(mask: Mask) -> tuple[slice, slice]:
    """The rows and columns that hold the whole mask, which is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _distances_to(outline: Mask, spacing: tuple[float, float]) -> NDArray[np.float64]:
    return np.asarray(distance_transform_edt(~outline, sampling=spacing), dtype=np.float64)


def _outline(mask: Mask) -> Mask:
    return np.asarray(mask & ~binary_erosion(mask), dtype=bool)


def _counted(predicted: Mask, reference: Mask, ignore: Mask | None) -> tuple[Mask, Mask]:
    drawn, true = np.asarray(predicted, dtype=bool), np.asarray(reference, dtype=bool)
    for other in (true,) if ignore is None else (true, np.asarray(ignore)):
        if other.shape != drawn.shape:
            raise InputError("mask", f"shape {other.shape} does not fit {drawn.shape}", mend="bring both to one frame")
    if ignore is None:
        return drawn, true
    counted = ~np.asarray(ignore, dtype=bool)
    return drawn & counted, true & counted
