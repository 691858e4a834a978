"""Where a mask lies and its largest piece, beside scipy's labels of the whole frame."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from storyxai.modalities.masks import filled_window, largest_piece, runs_of


@pytest.mark.parametrize("seed", range(12))
def test_the_largest_piece_is_that_of_the_whole_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((17, 23), dtype=np.bool_)
    top, left = rng.integers(0, 8, 2)
    mask[top : top + 9, left : left + 12] = rng.random((9, 12)) < 0.5
    pieces, count = label(mask)
    sizes = [int((pieces == one).sum()) for one in range(1, count + 1)]
    kept = largest_piece(mask)
    assert count > 1 and kept.dtype == np.bool_
    np.testing.assert_array_equal(kept, pieces == 1 + int(np.argmax(sizes)))


def test_a_window_holds_all_of_a_mask_and_nothing_of_an_empty_one() -> None:
    mask = np.zeros((6, 9), dtype=np.bool_)
    assert mask[filled_window(mask)].size == 0 and not largest_piece(mask).any()
    mask[2, 3] = mask[4, 7] = True
    assert filled_window(mask) == (slice(2, 5), slice(3, 8))


@pytest.mark.parametrize("seed", range(8))
def test_pieces_and_areas_are_those_of_labelled_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 40, 2)) < rng.choice([0.3, 0.55, 0.8])
    labels, count = label(mask)
    runs = runs_of(mask)
    assert runs.drawn(np.ones(len(runs.pieces), dtype=np.bool_)).tolist() == mask.tolist()
    found = np.unique(runs.pieces)
    assert len(found) == count
    assert runs.areas[found].tolist() == [int((labels == one).sum()) for one in range(1, count + 1)]
    for number, piece in enumerate(found, start=1):
        np.testing.assert_array_equal(runs.drawn(runs.pieces == piece), labels == number)
