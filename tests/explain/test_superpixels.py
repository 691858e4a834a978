"""Superpixels: dense labels, the same every time, following the edges of the picture."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label

from storyxai.errors import InputError
from storyxai.explain.superpixels import check_segments, grid_segments, segment_means, slic_segments


def smooth_picture(height: int = 96, width: int = 80) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(0).random((height, width)), 4)
    return ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)


def test_labels_are_dense_connected_and_near_the_count() -> None:
    segments = slic_segments(smooth_picture(), count=40)
    assert segments.dtype == np.int32
    count = check_segments(segments, (96, 80))
    assert 28 <= count <= 52
    for s in range(count):
        assert label(segments == s, structure=np.ones((3, 3)))[1] == 1


def test_same_picture_same_labels() -> None:
    assert slic_segments(smooth_picture()).tobytes() == slic_segments(smooth_picture().copy()).tobytes()


def test_segments_follow_an_edge() -> None:
    picture = np.zeros((64, 64), dtype=np.float32)
    picture[:, 29:] = 1.0
    segments = slic_segments(picture, count=16, smoothing_px=0)
    crossing = [s for s in np.unique(segments) if 0.02 < picture[segments == s].mean() < 0.98]
    assert crossing == []
    grid_crossing = [s for s in range(16) if 0.02 < picture[grid_segments((64, 64), count=16) == s].mean() < 0.98]
    assert len(grid_crossing) == 4


@pytest.mark.parametrize(("shape", "count"), [((30, 40), 12), ((7, 5), 6), ((64, 64), 64), ((100, 10), 10)])
def test_grid_is_dense_and_even(shape, count) -> None:
    segments = grid_segments(shape, count=count)
    found = check_segments(segments, shape)
    assert abs(found - count) <= 0.35 * count + 1
    sizes = np.bincount(segments.ravel())
    assert sizes.max() <= 2.3 * sizes.min()


def test_flat_picture_gets_a_grid() -> None:
    segments = slic_segments(np.full((60, 60), 0.4, dtype=np.float32), count=25)
    assert check_segments(segments, (60, 60)) == 25


def test_segment_means_on_paper() -> None:
    segments = np.array([[0, 0, 1], [0, 1, 1]], dtype=np.int32)
    np.testing.assert_allclose(segment_means(np.arange(6, dtype=np.float32).reshape(2, 3), segments), [4 / 3, 11 / 3])


def test_refusals() -> None:
    with pytest.raises(InputError, match="superpixels"):
        slic_segments(smooth_picture(), count=1)
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        slic_segments(smooth_picture() * 255)
    with pytest.raises(InputError, match="only one label"):
        check_segments(np.zeros((4, 4), dtype=np.int32), (4, 4))
