"""Boxes around where a map is strong, beside scipy's labelling of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import find_objects, gaussian_filter, label

from storyxai.evidence.boxes import boxes_from_grid
from storyxai.types import Array, Box


def by_pixels(values: Array, threshold: float, share: float) -> list[Box]:
    parts, _ = label(values >= threshold)
    found = []
    for number, (rows, columns) in enumerate(find_objects(parts), start=1):
        own = parts == number
        if own.sum() >= share * values.size:
            score = float(np.clip(values[own].max(), 0, 1))
            found.append(Box("x", float(columns.start), float(rows.start), float(columns.stop - columns.start),
                             float(rows.stop - rows.start), score))
    return sorted(found, key=lambda box: (-box.score, box.y, box.x))


@pytest.mark.parametrize("smooth", [0.0, 0.7, 3.0])
def test_boxes_are_those_of_labelled_pixels(smooth: float) -> None:
    rng = np.random.default_rng(4)
    met = 0
    for _ in range(60):
        values = gaussian_filter(rng.random(rng.integers(1, 60, 2)), smooth).astype(np.float32)
        for threshold in (float(values.min()), float(np.median(values)), 0.9 * float(values.max()), 2.0):
            share = float(rng.choice([0.0, 0.01]))
            wanted = by_pixels(values, threshold, share)
            assert list(boxes_from_grid(values, finding="x", threshold=threshold, min_area_share=share, limit=9999)) == wanted
            met += len(wanted)
    assert met > 200


def test_a_spiral_is_one_piece_and_a_run_does_not_go_round_the_edge() -> None:
    spiral = np.array([
        [1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 0, 1], [1, 0, 0, 0, 1, 0, 1],
        [1, 0, 1, 1, 1, 0, 1], [1, 0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1, 1],
    ], dtype=np.float32)  # fmt: skip
    assert boxes_from_grid(spiral, finding="x", threshold=0.5) == (Box("x", 0.0, 0.0, 7.0, 7.0, 1.0),)
    corners = np.zeros((3, 4), dtype=np.float32)
    corners[0, 3] = corners[1, 0] = 1.0
    assert len(boxes_from_grid(corners, finding="x", threshold=0.5)) == 2
