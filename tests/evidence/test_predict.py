"""Outlines in the original frame."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from storyxai.evidence.predict import _outline, predict
from storyxai.imaging.geometry import model_frame
from storyxai.imaging.read import read_image
from storyxai.modalities.chest_radiograph.anatomy import cardiothoracic_ratio, heart_problem
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH as CHEST
from storyxai.models.runtime import SHIPPED, Student, load_student
from storyxai.phantoms.generate import generate_phantom


@pytest.fixture(scope="module")
def student() -> Student:
    return load_student(SHIPPED)


@pytest.mark.parametrize("edge", [37.4, 40.3, 61.7])
@pytest.mark.parametrize("steepness", [0.15, 0.6, 1.5])
def test_an_outline_stands_where_the_log_odds_cross_zero_however_steep_they_are(edge: float, steepness: float) -> None:
    centres = np.arange(24) * 4 + 1.5  # of cells four pixels wide
    odds = np.tile(steepness * (centres - edge), (24, 1))
    mask = _outline((1 / (1 + np.exp(-odds))).astype(np.float32), model_frame(96, 96, size=96))
    first = mask.argmax(axis=1)
    # What is clipped far from the edge bends a cubic a little, so half a pixel is allowed beside the pixel itself.
    assert np.all(first >= np.ceil(edge) - 0.6) and np.all(first <= np.ceil(edge) + 0.6)


def test_an_outline_of_nothing_is_empty_and_of_everything_is_full() -> None:
    frame = model_frame(100, 60, size=96)
    assert not _outline(np.zeros((24, 24), np.float32), frame).any()
    assert _outline(np.ones((24, 24), np.float32), frame).all()


def test_the_heart_of_a_phantom_is_kept_and_measures_the_true_ratio(student: Student) -> None:
    for seed in range(9_200_000, 9_200_008):
        phantom = generate_phantom(seed, size=256)
        found = cardiothoracic_ratio(predict(student, phantom.image, CHEST).prediction.masks)
        assert found.value == pytest.approx(phantom.cardiothoracic_ratio, abs=0.06)


def test_a_heart_that_cannot_be_one_is_dropped_and_lungs_are_kept(student: Student) -> None:
    """Half a film: what is left of the heart lies on one side."""
    phantom = generate_phantom(9_200_003, size=256)
    pixels = phantom.image.pixels.copy()
    pixels[:, :150] = pixels[:, -1:].mean()
    half = predict(student, dataclasses.replace(phantom.image, pixels=pixels), CHEST).prediction.masks
    assert not half["heart"].any() and half["left_lung"].any()


def test_what_is_shown_of_real_films_is_a_heart_or_nothing(student: Student, real_data: Path) -> None:
    shown = 0
    for path in sorted((real_data / "nih" / "images").rglob("*.*"))[:12]:
        masks = predict(student, read_image(path), CHEST).prediction.masks
        shown += bool(masks["heart"].any())
        assert (not heart_problem(masks).code) == bool(masks["heart"].any())
    assert shown < 12  # it learnt hearts from phantoms alone, and real ones show it
