"""Shutters: outside them the presentation value, drawn here pixel by pixel as the standard words it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from storyxai.imaging.read import read_image

Write = Callable[..., Path]
WINDOW = {"WindowCenter": 128, "WindowWidth": 256}
RECTANGLE = {"ShutterShape": "RECTANGULAR", "ShutterLeftVerticalEdge": 11, "ShutterRightVerticalEdge": 50,
             "ShutterUpperHorizontalEdge": 6, "ShutterLowerHorizontalEdge": 70}  # fmt: skip
CIRCLE = {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [40, 35], "RadiusOfCircularShutter": 20}
TRIANGLE = {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [10, 10, 10, 60, 60, 10]}


def stored() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (80, 72)).astype(np.uint8)


@pytest.mark.parametrize(("tags", "inside"), [
    (RECTANGLE, lambda row, column: 6 <= row <= 70 and 11 <= column <= 50),
    (CIRCLE, lambda row, column: (row - 40) ** 2 + (column - 35) ** 2 <= 400),
    (CIRCLE | {"PixelSpacing": [0.2, 0.1]}, lambda row, column: 4 * (row - 40) ** 2 + (column - 35) ** 2 <= 400),
    (TRIANGLE, lambda row, column: row >= 10 and column >= 10 and row + column <= 70),
    (RECTANGLE | CIRCLE | {"ShutterShape": ["RECTANGULAR", "CIRCULAR"]},
     lambda row, column: 6 <= row <= 70 and 11 <= column <= 50 and (row - 40) ** 2 + (column - 35) ** 2 <= 400),
])  # fmt: skip
@pytest.mark.parametrize("grey", [None, 0, 32768, 65535])
def test_outside_a_shutter_stands_its_value(dicom_file: Write, tags: dict[str, Any], inside: Any, grey: int | None) -> None:
    given = {} if grey is None else {"ShutterPresentationValue": grey}
    plain = read_image(dicom_file(stored(), **WINDOW)).pixels
    image = read_image(dicom_file(stored(), **WINDOW, **tags, **given))
    open_ = np.array([[inside(row, column) for column in range(1, 73)] for row in range(1, 81)])
    assert (image.pixels[open_] == plain[open_]).all()
    assert (image.pixels[~open_] == np.float32((grey or 0) / 65535)).all()
    assert any(note.startswith("shutter (") and "covered" in note for note in image.notes)


def test_a_bitmap_shutter_is_an_overlay(dicom_file: Write) -> None:
    path = dicom_file(stored(), **WINDOW, ShutterShape="BITMAP", ShutterOverlayGroup=0x6002, ShutterPresentationValue=0)
    drawn = np.zeros((40, 36), np.uint8)
    drawn[:, :7] = 1
    dataset = dcmread(path)
    for element, vr, value in ((0x10, "US", 40), (0x11, "US", 36), (0x40, "CS", "G"), (0x50, "SS", [21, 31]), (0x100, "US", 1),
                               (0x102, "US", 0), (0x3000, "OB", np.packbits(drawn, bitorder="little").tobytes())):  # fmt: skip
        dataset.add_new((0x6002, element), vr, value)
    dataset.save_as(path)
    image = read_image(path)
    hidden = np.zeros((80, 72), bool)
    hidden[20:60, 30:37] = True
    assert (image.pixels[hidden] == 0).all() and (image.pixels[~hidden] > 0).all()


def test_a_shutter_is_laid_before_the_picture_is_turned_and_tells_nothing_of_its_range(dicom_file: Write) -> None:
    grey = np.linspace(1000, 2000, 80 * 72).astype(np.uint16).reshape(80, 72)
    grey[:, 50:] = 60000
    image = read_image(dicom_file(grey, **RECTANGLE, PatientOrientation=["R", "F"], PhotometricInterpretation="MONOCHROME1"))
    assert (image.pixels[:, :22] == 0).all() and image.pixels[10:60, 25:60].max() > 0.85


@pytest.mark.parametrize(("tags", "said"), [
    (RECTANGLE | {"ShutterRightVerticalEdge": 5}, "would cover all or nearly all of the picture"),
    (CIRCLE | {"RadiusOfCircularShutter": 0}, "would cover all or nearly all"),
    ({"ShutterShape": "CIRCULAR"}, "cannot be drawn"), ({"ShutterShape": "BITMAP"}, "cannot be drawn"),
    ({"ShutterShape": "STAR"}, "cannot be drawn"), (TRIANGLE | {"VerticesOfThePolygonalShutter": [1, 1, 2]}, "cannot be drawn"),
])  # fmt: skip
def test_a_shutter_that_makes_no_sense_is_left_aside_in_words(dicom_file: Write, tags: dict[str, Any], said: str) -> None:
    image = read_image(dicom_file(stored(), **WINDOW, **tags))
    assert image.pixels == pytest.approx(stored() / 255.0, abs=1e-6)
    assert len(image.notes) == 1 and said in image.notes[0]


@pytest.mark.real
def test_the_published_kind(cases: Path) -> None:
    """A white collimated border of 60 pixels in the file."""
    image = read_image(cases / "14-shutter-ignored" / "rectangular.dcm")
    assert image.pixels[60:452, 60:452].min() > 0
    assert image.pixels.sum() == pytest.approx(image.pixels[60:452, 60:452].sum(), rel=1e-6)
