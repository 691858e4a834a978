"""The two frames: what goes to the model comes back to where it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from storyxai.imaging.geometry import model_frame
from storyxai.types import Box

LENGTHS = st.integers(1, 3000)
SIZES = st.sampled_from([64, 128, 224, 225, 512])


@given(LENGTHS, LENGTHS, SIZES, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_points_and_boxes_come_back(
    height: int, width: int, size: int, x: float, y: float, w: float, h: float
) -> None:
    frame = model_frame(height, width, size=size)
    x, y = x * width, y * height
    assert frame.point_to_original(*frame.point_to_model(x, y)) == pytest.approx((x, y), abs=0.01)
    box = Box("Mass", x, y, w * (width - x), h * (height - y), 0.5)
    seen = frame.box_to_model(box)
    corners = [frame.point_to_original(seen.x + across, seen.y + down) for across, down in ((0, 0), (seen.width, seen.height))]
    assert corners == [pytest.approx(at, abs=0.01) for at in ((x, y), (x + box.width, y + box.height))]
    assert (seen.finding, seen.score) == ("Mass", 0.5)


def blob(height: int, width: int, *, x: float, y: float, sigma: float) -> np.ndarray:
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    falls = np.exp(-((rows - y) ** 2) / (2 * sigma**2))[:, None] * np.exp(-((columns - x) ** 2) / (2 * sigma**2))
    return falls.astype(np.float32)


def centroid(values: np.ndarray) -> tuple[float, float]:
    weight = values.astype(np.float64)
    rows, columns = np.arange(values.shape[0]) + 0.5, np.arange(values.shape[1]) + 0.5
    return float(weight.sum(0) @ columns / weight.sum()), float(weight.sum(1) @ rows / weight.sum())


@given(
    st.integers(300, 1400), st.integers(300, 1400), st.sampled_from([128, 224, 320]),
    st.floats(0.3, 0.7), st.floats(0.3, 0.7), st.integers(0, 40), st.integers(0, 40),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_planted_blob_lands_where_it_was(
    height: int, width: int, size: int, x: float, y: float, cut_top: int, cut_left: int
) -> None:
    """The blob is placed in a larger picture, which is then cropped by whole pixels: its place is known on paper."""
    x, y = x * width, y * height
    # wider than a model pixel, and as a whole within the picture
    sigma = max(1.2 * max(height, width) / size, 0.02 * max(height, width))
    x, y = np.clip(x, 4 * sigma, width - 4 * sigma), np.clip(y, 4 * sigma, height - 4 * sigma)
    whole = blob(height + cut_top, width + cut_left, x=x + cut_left, y=y + cut_top, sigma=sigma)
    frame = model_frame(height, width, size=size)
    seen = frame.to_model(np.ascontiguousarray(whole[cut_top:, cut_left:]))
    assert centroid(seen) == pytest.approx(frame.point_to_model(x, y), abs=0.5 * frame.scale + 0.05)
    assert centroid(frame.grid_to_original(seen)) == pytest.approx((x, y), abs=0.5)


@pytest.mark.parametrize(("height", "width"), [(512, 420), (301, 640), (97, 97)])
def test_a_coarse_grid_covers_the_square_in_equal_cells(height: int, width: int) -> None:
    """An independent interpolation, written from the definition, gives the same values."""
    frame = model_frame(height, width, size=224)
    grid = np.random.default_rng(3).normal(size=(2, 7, 9)).astype(np.float32)
    out = frame.grid_to_original(grid)
    assert out.shape == (2, height, width)
    assert out.dtype == np.float32
    for row, column in [(0, 0), (height - 1, width - 1), (height // 2, width // 3), (5, width - 2)]:
        y = np.clip((row + 0.5 + frame.top) * 7 / frame.side - 0.5, 0, 6)
        x = np.clip((column + 0.5 + frame.left) * 9 / frame.side - 0.5, 0, 8)
        over_rows = [np.interp(x, np.arange(9), grid[1, i]) for i in range(7)]
        assert out[1, row, column] == pytest.approx(np.interp(y, np.arange(7), over_rows), abs=1e-4)


def test_means_are_kept_and_padding_is_air() -> None:
    pixels = np.random.default_rng(0).random((200, 100), dtype=np.float32)
    frame = model_frame(200, 100, size=50)
    seen = frame.to_model(pixels)
    assert seen.shape == (50, 50)
    assert (seen[:, :12] == 0).all() and (seen[:, 38:] == 0).all()
    # a 4:1 antialiased reduction keeps the sum; point sampling would not
    assert seen.sum() * 16 == pytest.approx(pixels.sum(), rel=0.01)
    assert seen.tobytes() == frame.to_model(pixels).tobytes()


def test_a_mask_comes_back_at_the_half_way_line() -> None:
    mask = np.zeros((400, 300), dtype=np.bool_)
    mask[100:300, 50:210] = True
    frame = model_frame(400, 300, size=224)
    back = frame.mask_to_original(frame.mask_to_model(mask), 0.5)
    assert back.dtype == np.bool_
    assert (back & mask).sum() / (back | mask).sum() > 0.98


def test_the_same_size_is_passed_through_unchanged_and_not_shared() -> None:
    pixels = np.random.default_rng(1).random((64, 64), dtype=np.float32)
    frame = model_frame(64, 64, size=64)
    seen = frame.to_model(pixels)
    assert (seen == pixels).all()
    assert not np.shares_memory(seen, pixels)
    assert (frame.grid_to_original(pixels) == pixels).all()


def test_another_image_does_not_fit_the_frame() -> None:
    with pytest.raises(ValueError, match="this frame is for 10 x 20"):
        model_frame(10, 20, size=8).to_model(np.zeros((20, 10), dtype=np.float32))
    with pytest.raises(ValueError, match="at least 1"):
        model_frame(0, 20, size=8)
    with pytest.raises(ValueError, match="two axes"):
        model_frame(10, 20, size=8).grid_to_original(np.zeros(5))


@pytest.mark.parametrize(("height", "width"), [(90, 90), (120, 70), (70, 120), (301, 300), (64, 64)])
@pytest.mark.parametrize("cells", [7, 14, 64, 224])
def test_a_grid_is_laid_over_the_original_as_pillow_does_it_to_the_bit(height: int, width: int, cells: int) -> None:
    frame = model_frame(height, width, size=224)
    grid = np.random.default_rng(cells).standard_normal((cells, cells)).astype(np.float32)
    side, ends = frame.side, (frame.left + width, frame.top + height)
    box = (frame.left * cells / side, frame.top * cells / side, *(min(end * cells / side, cells) for end in ends))
    whole = Picture.fromarray(grid).resize((width, height), Picture.Resampling.BILINEAR, box=box)
    assert frame.grid_to_original(grid).tobytes() == np.asarray(whole).tobytes()


@pytest.mark.parametrize("height, width, cells", [(500, 400, (32, 32)), (300, 700, (128, 128)), (420, 420, (7, 9))])
def test_a_mask_is_where_the_interpolated_values_reach_the_threshold(height: int, width: int, cells: tuple[int, int]) -> None:
    frame, rng = model_frame(height, width, size=64), np.random.default_rng(height)
    # Coarse steps too, so that many values lie on the threshold itself.
    for grid in (rng.normal(size=cells).astype(np.float32), np.round(rng.normal(size=cells)).astype(np.float32)):
        for threshold in (0.0, 0.3, -1.0):
            wanted = frame.grid_to_original(grid) >= np.float32(threshold)
            assert (frame.mask_to_original(grid, threshold) == wanted).all()
            assert wanted.any() and not wanted.all()
