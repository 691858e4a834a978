"""Boxes around where an evidence grid is strong."""

from __future__ import annotations

import numpy as np

from storyxai.errors import InputError
from storyxai.imaging.geometry import ModelFrame
from storyxai.modalities.masks import filled_window
from storyxai.types import Array, Box

__all__ = ["boxes_from_grid", "evidence_boxes"]


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
    from scipy.ndimage import find_objects, label

    if probability.ndim != 2 or not np.isfinite(probability).all():
        raise InputError("probability", "is not a finite map [H, W]", mend="resample the grid to the original frame")
    above = probability >= threshold
    top, side = window = filled_window(above)
    parts, count = label(above[window])
    if not count:
        return ()
    values = probability[window]
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    boxes = []
    for index, place in enumerate(find_objects(parts), start=1):
        if areas[index] < min_area_share * probability.size:
            continue
        rows, columns = place
        score = float(np.clip(values[place][parts[place] == index].max(), 0, 1))
        width, height = float(columns.stop - columns.start), float(rows.stop - rows.start)
        boxes.append(Box(finding, float(side.start + columns.start), float(top.start + rows.start), width, height, score))
    return tuple(sorted(boxes, key=lambda b: (-b.score, b.y, b.x))[:limit])
