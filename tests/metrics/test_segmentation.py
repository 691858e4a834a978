"""Overlap and outline distances of shapes whose answer is known, and against a slow twin."""

from __future__ import annotations

import math

import numpy as np
import pytest

from storyxai.errors import InputError
from storyxai.metrics.segmentation import SurfaceDistances, dice, surface_distances


def square(top: int, left: int, side: int, size: int = 40) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_overlap_by_hand() -> None:
    first, second = square(0, 0, 4), square(0, 2, 4)  # 16 each, 8 shared
    assert dice(first, second) == 2 * 8 / 32
    assert dice(first, first) == 1.0
    assert dice(first, square(20, 20, 4)) == 0.0


def test_empty_masks_are_defined() -> None:
    nothing, something = np.zeros((40, 40), dtype=bool), square(3, 3, 5)
    assert dice(nothing, nothing) == 1.0
    assert dice(nothing, something) == dice(something, nothing) == 0.0
    assert surface_distances(nothing, nothing) == SurfaceDistances(0.0, 0.0)
    assert surface_distances(nothing, something) == SurfaceDistances(None, None)


def test_ignored_pixels_count_neither_way() -> None:
    reference, predicted = square(0, 0, 10), square(0, 0, 10)
    predicted[0:5, 10:20] = True
    ignore = np.zeros_like(reference)
    ignore[:, 10:] = True
    assert dice(predicted, reference) == pytest.approx(200 / 250)
    assert dice(predicted, reference, ignore=ignore) == 1.0
    assert dice(reference, reference, ignore=np.ones_like(reference)) == 1.0  # nothing left: both empty
    assert surface_distances(predicted, reference, ignore=ignore) == SurfaceDistances(0.0, 0.0)
    assert surface_distances(reference, reference, ignore=np.ones_like(reference)).average == 0.0


def test_concentric_discs_are_the_difference_of_their_radii_apart() -> None:
    rows, columns = np.mgrid[:200, :200]
    distance = np.hypot(rows - 100, columns - 100)
    found = surface_distances(distance <= 60, distance <= 50, spacing=(0.5, 0.5))
    assert found.average == pytest.approx(5.0, abs=0.15)  # 10 pixels of half a millimetre
    assert found.hausdorff_95 == pytest.approx(5.0, abs=0.4)


def test_shift_along_a_row_is_measured_in_the_row_spacing() -> None:
    full = np.zeros((50, 50), dtype=bool)
    full[:, 10:20] = True
    moved = np.roll(full, 3, axis=1)
    # The stripe's two long sides each lie 3 columns from their twins, its short ends on the picture's edge lie nearer.
    assert surface_distances(full, moved, spacing=(1.0, 2.0)).hausdorff_95 == pytest.approx(6.0)
    assert surface_distances(full.T, moved.T, spacing=(1.0, 2.0)).hausdorff_95 == pytest.approx(3.0)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_distances_agree_with_measuring_every_pair(seed: int) -> None:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    masks = [gaussian_filter(rng.random((32, 32)), 3) > 0.5 for _ in range(2)]
    spacing = (0.7, 1.3)
    points = []
    for mask in masks:
        padded = np.pad(mask, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        points.append(np.argwhere(mask & ~inner) * spacing)
    apart = np.sqrt(((points[0][:, None] - points[1][None]) ** 2).sum(axis=2))
    there, back = apart.min(axis=1), apart.min(axis=0)
    found = surface_distances(masks[0], masks[1], spacing=spacing)
    assert found.average == pytest.approx((there.sum() + back.sum()) / (len(there) + len(back)))
    assert found.hausdorff_95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    again = surface_distances(masks[1], masks[0], spacing=spacing)
    assert (again.average, again.hausdorff_95) == (pytest.approx(found.average), found.hausdorff_95)


def test_one_far_speck_moves_the_mean_and_not_the_95th_percentile() -> None:
    """The case HD95 is for: a stray pixel 20 away among 100 outline points."""
    clean = square(5, 5, 26)
    speck = clean.copy()
    speck[39, 39] = True
    found = surface_distances(speck, clean)
    assert found.hausdorff_95 == 0.0
    assert found.average == pytest.approx(math.hypot(9, 9) / 201)  # 100 + 1 + 100 points


def test_faults_of_the_call_are_named() -> None:
    with pytest.raises(InputError, match="one frame"):
        dice(np.zeros((2, 2), dtype=bool), np.zeros((3, 2), dtype=bool))
    with pytest.raises(InputError, match="one frame"):
        dice(np.zeros((2, 2), dtype=bool), np.zeros((2, 2), dtype=bool), ignore=np.zeros((1, 2), dtype=bool))
    with pytest.raises(InputError, match="spacing"):
        surface_distances(square(0, 0, 2), square(0, 0, 2), spacing=(0.0, 1.0))
