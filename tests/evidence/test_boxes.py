"""Boxes around where a map is strong, beside scipy's labelling of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import find_objects, gaussian_filter, label

from storyxai.errors import InputError
from storyxai.evidence.boxes import boxes_at_half_height
from storyxai.imaging.geometry import model_frame
from storyxai.types import Array, Box


def by_pixels(values: Array, share: float) -> list[Box]:
    parts, _ = label(values >= 0.5 * values.max())
    found = []
    for number, (rows, columns) in enumerate(find_objects(parts), start=1):
        own = parts == number
        if own.sum() >= share * values.size:
            score = float(np.clip(values[own].max(), 0, 1))
            found.append(Box("x", float(columns.start), float(rows.start), float(columns.stop - columns.start),
                             float(rows.stop - rows.start), score))
    return sorted(found, key=lambda box: (-box.score, box.y, box.x))


def boxes_of(values: list[list[int]] | Array, share: float = 0.0, limit: int = 9999) -> list[Box]:
    """The boxes of a map that is drawn as it is, a cell a pixel; padded to a square below."""
    grid = np.asarray(values, dtype=np.float32)
    frame = model_frame(*grid.shape, size=max(grid.shape))
    square = np.zeros((frame.side, frame.side), dtype=np.float32)
    square[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width] = grid
    return list(boxes_at_half_height(square, frame, finding="x", min_area_share=share, limit=limit))


@pytest.mark.parametrize("cells", [1, 4, 8, 31, 128])
@pytest.mark.parametrize("smooth", [0.0, 0.7, 3.0])
def test_boxes_are_those_of_labelled_pixels(cells: int, smooth: float) -> None:
    rng = np.random.default_rng(4)
    met = 0
    for turn in range(25):
        # Steps of a half lie on the threshold itself; a map below zero has no half of its height.
        grid = gaussian_filter(rng.normal(size=(cells, cells)), smooth)
        grid = (np.round(2 * grid) / 2 if turn % 3 else np.abs(grid)).astype(np.float32)
        frame = model_frame(*(int(side) for side in rng.integers(1, 420, 2)), size=64)
        share = float(rng.choice([0.0, 0.01]))
        wanted = by_pixels(frame.grid_to_original(grid), share)
        assert list(boxes_at_half_height(grid, frame, finding="x", min_area_share=share, limit=9999)) == wanted
        met += len(wanted)
    assert met > 10


def test_a_spiral_is_one_piece_and_a_run_does_not_go_round_the_edge() -> None:
    spiral = [
        [1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 0, 1], [1, 0, 0, 0, 1, 0, 1],
        [1, 0, 1, 1, 1, 0, 1], [1, 0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1, 1],
    ]  # fmt: skip
    assert boxes_of(spiral) == [Box("x", 0.0, 0.0, 7.0, 7.0, 1.0)]
    corners = np.zeros((3, 4))
    corners[0, 3] = corners[1, 0] = 1.0
    assert len(boxes_of(corners)) == len(boxes_of(corners.T)) == 2


def test_boxes_on_paper() -> None:
    probability = np.zeros((150, 200))
    probability[50:70, 30:45] = 0.6
    probability[60, 40] = 0.9
    probability[100:140, 150:180] = 0.7
    probability[5:6, 5:6] = 0.99  # a speck
    first, second = boxes_of(probability, share=0.001)
    assert (first.x, first.y, first.width, first.height) == (30, 50, 15, 20)
    assert first.score == pytest.approx(0.9)
    assert (second.x, second.y, second.width, second.height) == (150, 100, 30, 40)
    assert boxes_of(probability, share=0.001, limit=1) == [first]
    assert boxes_of(-1 - probability) == []
    with pytest.raises(InputError, match="finite"):
        boxes_of(probability * np.nan)
