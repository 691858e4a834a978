"""Hiding parts of the image: what is hidden, what stays, and maps whose answer is known on paper."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from storyxai.errors import InputError
from storyxai.explain.contract import Budget, Scene, SmallSign
from storyxai.explain.lime import LimeFit, lime
from storyxai.explain.occlusion import FineOcclusion, disc_occlusion_map, median_around, occlusion_map
from storyxai.explain.perturbation import hidden_image, occlude
from storyxai.explain.rise import rise_map

IMAGE = np.random.default_rng(0).uniform(0.2, 1, (24, 30)).astype(np.float32)


def mean_of_corner(batch: np.ndarray) -> np.ndarray:
    corner = batch[:, 0, :8, :8].mean(axis=(1, 2))
    return np.stack([corner, -2 * corner, 0 * corner], axis=1)


def region(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(IMAGE.shape, dtype=bool)
    mask[rows, columns] = True
    return mask


def test_occlude_on_paper() -> None:
    regions = {"corner": region(slice(0, 8), slice(0, 8)), "half": region(slice(0, 4), slice(0, 30)),
               "elsewhere": region(slice(10, 20), slice(10, 20))}
    answers = occlude(mean_of_corner, IMAGE, regions, 0.0)
    whole = IMAGE[:8, :8].mean()
    assert list(answers) == list(regions)
    np.testing.assert_allclose(answers["corner"], 0, atol=1e-7)
    np.testing.assert_allclose(answers["half"][0], IMAGE[4:8, :8].sum() / 64, rtol=1e-5)
    np.testing.assert_allclose(answers["elsewhere"], [whole, -2 * whole, 0], rtol=1e-5)


def test_occlude_asks_in_batches_and_gives_the_same_in_any() -> None:
    regions = {str(i): region(slice(i, i + 3), slice(0, 9)) for i in range(10)}
    sizes: list[int] = []

    def watching(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return mean_of_corner(batch)

    first = occlude(watching, IMAGE, regions, "blur", batch=4)
    assert sizes == [4, 4, 2]
    for name, logits in occlude(mean_of_corner, IMAGE, regions, "blur", batch=16).items():
        assert (first[name] == logits).all()


def test_occlude_with_a_regions_own_mean_keeps_a_mean_model() -> None:
    corner = {"corner": region(slice(0, 8), slice(0, 8))}
    answers = occlude(mean_of_corner, IMAGE, corner, "mean")
    assert answers["corner"][0] == pytest.approx(IMAGE[:8, :8].mean(), rel=1e-5)


def test_occlude_refuses_empty_regions() -> None:
    with pytest.raises(InputError, match="nothing"):
        occlude(mean_of_corner, IMAGE, {"nothing": np.zeros(IMAGE.shape, dtype=bool)})


def test_blur_removes_a_lesion_but_not_the_level() -> None:
    image = np.full((64, 64), 0.4, dtype=np.float32)
    image[30:35, 30:35] = 1.0
    hidden = hidden_image(image, fill="blur")
    assert hidden.max() < 0.45
    assert abs(float(hidden.mean()) - float(image.mean())) < 1e-3
    assert hidden.min() >= 0
    assert hidden.max() <= 1


def test_an_image_may_stand_for_what_is_hidden() -> None:
    """The mean of an 8 by 8 corner whose upper half is replaced by known pixels; LIME's coefficients tell the same sums."""
    other = np.linspace(0, 1, IMAGE.size, dtype=np.float32).reshape(IMAGE.shape)
    half = occlude(mean_of_corner, IMAGE, {"half": region(slice(0, 4), slice(0, 30))}, other)["half"][0]
    assert half == pytest.approx((other[:4, :8].sum() + IMAGE[4:8, :8].sum()) / 64, rel=1e-5)
    segments = (np.arange(24)[:, None] // 4 * np.ones((1, 30))).astype(np.int32)
    found = lime(mean_of_corner, IMAGE, segments, fill=other, fit=LimeFit(ridge=0.0), budget=Budget(samples=200))
    expected = [(IMAGE[top : top + 4, :8] - other[top : top + 4, :8]).sum() / 64 for top in (0, 4)]
    np.testing.assert_allclose(found.coefficients[0], [*expected, 0, 0, 0, 0], atol=1e-6)
    assert found.fill == "image"


@pytest.mark.parametrize("fill", [np.zeros((3, 3), np.float32), np.full(IMAGE.shape, 1.5, np.float32), "white", 2.0])
def test_a_fill_that_cannot_be_is_refused(fill: object) -> None:
    with pytest.raises(InputError, match=r"fill|image"):
        hidden_image(IMAGE, fill=fill)  # type: ignore[arg-type]


def test_occlusion_map_on_paper() -> None:
    # Windows of 8 every 8: only the first one holds the corner.
    image = IMAGE[:, :24]
    maps = occlusion_map(mean_of_corner, image, window_px=8, stride_px=8, fill=0.0)
    expected = np.zeros((3, 24, 24))
    expected[0, :8, :8], expected[1, :8, :8] = image[:8, :8].mean(), -2 * image[:8, :8].mean()
    np.testing.assert_allclose(maps, expected, atol=1e-6)


def test_occlusion_map_covers_the_far_edges() -> None:
    def last_pixel(batch: np.ndarray) -> np.ndarray:
        return batch[:, 0, -1, -1][:, None]

    maps = occlusion_map(last_pixel, IMAGE, window_px=7, stride_px=5, fill=0.0)
    assert maps[0, -1, -1] == pytest.approx(IMAGE[-1, -1])
    with pytest.raises(InputError, match="window"):
        occlusion_map(last_pixel, IMAGE, window_px=40, stride_px=5)


def test_a_disc_lets_fall_what_it_hides_and_nothing_else() -> None:
    # Discs of radius 0.5 every 8 hide one pixel whole and its neighbours by none or a part: (4, 4), (4, 12), ...
    def one_pixel(batch: np.ndarray) -> np.ndarray:
        return np.stack([3 * batch[:, 0, 12, 4], -batch[:, 0, 12, 4]], axis=1)

    image = IMAGE[None, :24, :24]
    maps = disc_occlusion_map(one_pixel, image, np.zeros_like(image), radius_px=0.5, stride_px=8)
    assert maps[0, 12, 4] == pytest.approx(3 * image[0, 12, 4], abs=1e-6)
    np.testing.assert_allclose(maps[1], -maps[0] / 3, atol=1e-6)
    assert np.unravel_index(maps[0].argmax(), maps[0].shape) == (12, 4) and np.count_nonzero(maps[0]) == 1
    for batch in (1, 5, 9):
        again = disc_occlusion_map(one_pixel, image, np.zeros_like(image), radius_px=0.5, stride_px=8, batch=batch)
        np.testing.assert_array_equal(again, maps)
    elsewhere = np.zeros((24, 24), dtype=np.bool_)
    elsewhere[:8] = True
    assert not disc_occlusion_map(one_pixel, image, np.zeros_like(image), radius_px=0.5, stride_px=8, within=elsewhere).any()
    with pytest.raises(InputError, match="no room"):
        disc_occlusion_map(one_pixel, image, image, radius_px=0.5, stride_px=8, within=np.zeros((24, 24), dtype=np.bool_))


def test_the_median_around_keeps_what_is_large_and_leaves_out_what_is_small() -> None:
    image = np.full((1, 120, 120), 0.2, dtype=np.float32)
    image[0, :, 60:] = 0.6
    image[0, 30:36, 20:26] = 1.0
    for window in (11, 36):  # as it is, and of a reduced image
        around = median_around(image, window)
        assert around.shape == image.shape and around.dtype == np.float32
        np.testing.assert_allclose(around[0, 25:41, 15:31], 0.2, atol=1e-6)
        np.testing.assert_allclose(around[0, 50:70, 75:110], 0.6, atol=1e-6)
    np.testing.assert_array_equal(median_around(image, 11)[0], ndimage.median_filter(image[0], size=11, mode="nearest"))
    assert median_around(image[:, :119, :101], 36).shape == (1, 119, 101)


def test_a_small_sign_is_found_where_windows_of_occlusion_are_too_wide() -> None:
    """The spot of 5 px is what the model answers; each finding has its own region, and shares passes with its like."""
    grey = np.full((1, 64, 64), 0.3, dtype=np.float32)
    grey[0, 40:45, 17:22] = 0.9
    asked = []

    class Spot:
        findings, channels, input_size, model_id = ("spot", "other"), 1, None, "spot"

        def logits(self, images: np.ndarray) -> np.ndarray:
            asked.append(len(images))
            spot = images[:, 0, 40:45, 17:22].mean(axis=(1, 2))
            return np.stack([spot, 1 - spot], axis=1)

    region = np.zeros((64, 64), dtype=np.bool_)
    region[32:, :32] = True
    scene = Scene(small={name: SmallSign(0.08, region) for name in Spot.findings})
    first, other = FineOcclusion().explain(Spot(), grey, Spot.findings, scene=scene)  # type: ignore[arg-type]
    row, column = np.unravel_index(first.values.argmax(), first.values.shape)
    assert 40 <= row < 45 and 17 <= column < 22 and first.values.max() > 0.2
    np.testing.assert_allclose(other.values, -first.values, atol=1e-6)
    assert not first.values[:26].any() and not first.values[:, 38:].any()
    assert first.details == {"radius_px": 2.6, "stride_px": 3, "fill": "median: 10 px"}
    once = sum(asked)
    FineOcclusion().explain(Spot(), grey, ("spot",), scene=scene)  # type: ignore[arg-type]
    assert sum(asked) == 2 * once


def test_rise_finds_the_corner_and_is_the_same_in_any_batch() -> None:
    first = rise_map(mean_of_corner, IMAGE, cells=4, fill=0.0, budget=Budget(samples=300, batch=64))
    for batch in (1, 7, 300):
        again = rise_map(mean_of_corner, IMAGE, cells=4, fill=0.0, budget=Budget(samples=300, batch=batch))
        assert again.tobytes() == first.tobytes()
    assert first[0, 2:6, 2:6].mean() > 5 * np.abs(first[0, 14:, 14:]).mean()
    np.testing.assert_allclose(first[1], -2 * first[0], rtol=1e-4, atol=1e-5)
    assert (first[2] == 0).all()


def test_rise_is_the_slope_of_a_model_that_is_linear_in_what_is_seen() -> None:
    flat = np.ones((20, 20), dtype=np.float32)
    maps = rise_map(lambda batch: 3 * batch[:, 0, 10, 10][:, None], flat, cells=4, fill=0.0, budget=Budget(samples=500))
    assert maps[0, 10, 10] == pytest.approx(3.0, rel=1e-4)
