"""Colour goes from a file through the model's frame, training batches, archive and figures without being mixed or lost."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from evidence_example import example_evidence
from storyxai.data.batches import Examples, make_batch
from storyxai.evidence.archive import read_archive, write_archive
from storyxai.imaging.geometry import model_frame, model_view
from storyxai.imaging.read import read_image
from storyxai.models.teachers.conversion import InputForm
from storyxai.pages.figures import image_png, pair_png


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """90 x 70: red grows to the right, green downwards, blue is even."""
    across, down = np.meshgrid(np.arange(90), np.arange(70))
    pixels = np.stack([2 * across, 3 * down, np.full_like(down, 40)], axis=2).astype(np.uint8)
    Picture.fromarray(pixels).save(tmp_path / "skin.png")
    return tmp_path / "skin.png"


def test_a_picture_is_read_in_its_colours_where_these_are_asked_for(picture: Path) -> None:
    seen = read_image(picture, colour=True)
    assert seen.pixels.shape == (70, 90, 3) and seen.notes == ()
    assert seen.pixels[20, 30].tolist() == pytest.approx([60 / 255, 60 / 255, 40 / 255])
    grey = read_image(picture)
    assert grey.pixels.shape == (70, 90) and grey.notes[0].startswith("colour: ")
    Picture.open(picture).convert("L").save(picture.with_name("grey.png"))
    assert read_image(picture.with_name("grey.png"), colour=True).pixels.ndim == 2


def test_each_colour_is_framed_as_if_it_were_alone(picture: Path) -> None:
    pixels = read_image(picture, colour=True).pixels
    frame = model_frame(70, 90, size=32)
    seen = model_view(pixels, frame, channels=3)
    for number in range(3):
        np.testing.assert_array_equal(seen[number], frame.to_model(np.ascontiguousarray(pixels[..., number])))
    np.testing.assert_array_equal(model_view(pixels, frame, channels=1)[0], frame.to_model(pixels.mean(axis=2)))
    grey = model_view(pixels[..., 0], frame, channels=3)
    assert all((grey[number] == seen[0]).all() for number in range(3))


def test_batches_move_the_three_colours_together() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 256, (2, 1, 32, 32), dtype=np.uint8)
    unknown = np.full((2, 1, 8, 8), 255, np.uint8)
    examples = Examples(
        ("a", "b"), ("a", "b"), ("s", "s"), np.repeat(one, 3, axis=1), np.zeros((2, 1), np.float32), unknown, unknown[:, 0],
        np.full((2, 1, 2, 2), 255, np.uint8), np.zeros((2, 4), np.int64),
    )
    still, moved = (make_batch(examples, np.arange(2), view).images for view in (0, 3))
    assert still.shape == moved.shape == (2, 3, 32, 32)
    np.testing.assert_array_equal((still.numpy() * 255).round(), examples.images)
    assert not np.array_equal(still, moved)
    assert float((moved[:, 0] - moved[:, 1]).abs().max()) < 0.2  # grain alone tells channels of equal values apart


def test_a_grey_teacher_is_shown_the_mean_of_the_colours() -> None:
    import torch

    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(InputForm().of(images), images.mean(dim=1, keepdim=True))
    torch.testing.assert_close(InputForm(channels=3).of(images), images)


def test_archive_and_figures_keep_the_colours(picture: Path, tmp_path: Path) -> None:
    grey = example_evidence()
    rows, columns = grey.image.pixels.shape
    Picture.open(picture).resize((columns, rows)).save(picture)
    image = read_image(picture, colour=True)
    evidence = replace(grey, image=image)
    kept = read_archive(write_archive(evidence, tmp_path / "study")).image
    np.testing.assert_array_equal(kept.pixels, image.pixels)
    drawn = np.asarray(Picture.open(io.BytesIO(image_png(image, long_side=max(rows, columns)))))
    np.testing.assert_array_equal(drawn, np.rint(image.pixels * 255).astype(np.uint8))
    pair = np.asarray(Picture.open(io.BytesIO(pair_png(image, evidence.heatmaps[0], long_side=max(rows, columns)))))
    np.testing.assert_array_equal(pair[16 : 16 + rows, 16 : 16 + columns], drawn)
