"""Enhanced objects say window, scale and spacing in functional groups: read as classic ones that say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from storyxai.imaging.read import read_image

Write = Callable[..., Path]

SCALE = ("PixelValueTransformationSequence", {"RescaleSlope": -1, "RescaleIntercept": 4095, "RescaleType": "US"})
WINDOW = ("FrameVOILUTSequence", {"WindowCenter": 1500, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"})
SPACING = ("PixelMeasuresSequence", {"PixelSpacing": [0.3, 0.2]})
ORIENTATION = ("PatientOrientationInFrameSequence", {"PatientOrientation": ["R", "F"]})
RECTANGLE = {
    "ShutterShape": "RECTANGULAR", "ShutterLeftVerticalEdge": 5, "ShutterRightVerticalEdge": 60,
    "ShutterUpperHorizontalEdge": 9, "ShutterLowerHorizontalEdge": 50,
}  # fmt: skip
SHUTTER = ("FrameDisplayShutterSequence", RECTANGLE)


def item(tags: Mapping[str, object]) -> Dataset:
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("group", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
@pytest.mark.parametrize("said", [[SCALE], [WINDOW], [SCALE, WINDOW], [SPACING], [ORIENTATION], [SHUTTER]])
def test_functional_groups_say_what_elements_of_the_object_say(
    dicom_file: Write, ramp: np.ndarray, group: str, said: list[tuple[str, dict[str, object]]]
) -> None:
    """A slope of -1 there was left aside without a word, and the film told as its negative."""
    plain = read_image(dicom_file(ramp, **{name: value for _, tags in said for name, value in tags.items()}))
    groups = item({macro: [item(tags)] for macro, tags in said})
    enhanced = read_image(dicom_file(ramp, NumberOfFrames=1, **{group: [groups]}))
    assert np.array_equal(enhanced.pixels, plain.pixels)
    assert (enhanced.notes, enhanced.spacing_mm) == (plain.notes, plain.spacing_mm)
    bare = read_image(dicom_file(ramp))
    assert enhanced.spacing_mm != bare.spacing_mm or not np.array_equal(enhanced.pixels, bare.pixels)


def test_the_frame_goes_before_all_frames_and_these_before_the_object(dicom_file: Write, ramp: np.ndarray) -> None:
    windows = [{"WindowCenter": center, "WindowWidth": 1000} for center in (3000, 2000, 1000)]
    shared, of_frame = ([item({"FrameVOILUTSequence": [item(window)]})] for window in windows[1:])
    tags = {"NumberOfFrames": 1, "SharedFunctionalGroupsSequence": shared}
    wanted = [read_image(dicom_file(ramp, **window)).pixels for window in windows[1:]]
    assert np.array_equal(read_image(dicom_file(ramp, **windows[0], **tags)).pixels, wanted[0])
    both = {**tags, "PerFrameFunctionalGroupsSequence": of_frame}
    assert np.array_equal(read_image(dicom_file(ramp, **windows[0], **both)).pixels, wanted[1])
