"""Arrays as images: the same pixels as the file that holds them, and a refusal of everything that is doubtful."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from storyxai.errors import ReadError
from storyxai.imaging.array import image_of_array
from storyxai.imaging.read import read_image

GREY = np.random.default_rng(0).integers(0, 256, (70, 90), dtype=np.uint8)
COLOURED = np.random.default_rng(1).integers(0, 256, (70, 90, 3), dtype=np.uint8)


@pytest.mark.parametrize("values", [GREY, COLOURED, (GREY.astype(np.uint16) * 7 + 300)])
def test_an_array_is_read_as_the_png_that_holds_it(values: np.ndarray, tmp_path: Path) -> None:
    PillowImage.fromarray(values).save(tmp_path / "a.png")
    ours, read = image_of_array(values), read_image(tmp_path / "a.png", colour=True)
    assert np.array_equal(ours.pixels, read.pixels) and ours.notes == read.notes
    assert np.array_equal(read_image(values).pixels, ours.pixels)


def test_floats_stay_as_they_are_and_three_equal_planes_are_grey() -> None:
    floats = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    assert np.array_equal(image_of_array(floats).pixels, floats)
    assert np.array_equal(image_of_array(np.repeat(floats[..., None], 3, axis=2)).pixels, floats)
    assert image_of_array(floats).sha256 == image_of_array(floats.copy(order="F")).sha256
    assert image_of_array(floats).sha256 != image_of_array(floats.astype(np.float64)).sha256


@pytest.mark.parametrize("values,why", [
    (np.zeros((1, 64, 64)), "has shape"), (np.zeros(64), "has shape"), (np.zeros((64, 64, 4)), "has shape"),
    (np.full((64, 64), 2.0), r"outside \[0, 1\]"), (np.full((64, 64), np.nan), r"outside \[0, 1\]"),
    (np.zeros((64, 64), dtype=np.int64), "int64"), (np.zeros((64, 8)), "too small"), (np.array([["a"] * 64] * 64), "<U1"),
])
def test_doubtful_arrays_are_refused_with_the_mend(values: np.ndarray, why: str) -> None:
    with pytest.raises(ReadError, match=f"array.*{why}.* — "):
        image_of_array(values)
