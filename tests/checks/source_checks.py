"""Conformance suite for data sources: run it on your own with `check_source(your_reader, folder)`.

A reader takes the folder of a data set and gives a StudyTable. What is held here is what the rest of storyxai relies
on; whether the labels are right is for a test that knows the data set.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from storyxai.data.splits import check_no_leak, split_by_patient
from storyxai.data.table import StudyTable, read_pair, read_table
from storyxai.errors import TableError
from storyxai.imaging.read import read_image

VIEWS = {"PA", "AP", "LATERAL", "unknown"}


def check_source(reader: Callable[[Path], StudyTable], folder: Path, *, decode: int = 3) -> StudyTable:
    """The table that `reader` gives for `folder`, after all checks; `decode` images are opened with their masks.

    Raises: AssertionError saying which promise is broken.
    """
    before = sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))
    table = reader(folder)
    frame = table.frame
    assert len(frame), "a source gives at least one row"
    pd.testing.assert_frame_equal(frame, reader(folder).frame)  # the same folder gives the same table
    assert before == sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*")), "a source writes nothing"
    assert frame["source"].nunique() == 1 and frame["source"].iloc[0], "every row names its one source"
    assert frame["patient_id"].all() and frame["study_id"].all(), "every row has a patient and a study"
    assert (frame.groupby("study_id")["patient_id"].nunique() == 1).all(), "a study belongs to one patient"
    assert set(frame["view"]) <= VIEWS and set(frame["sex"]) <= {"M", "F", ""}, "views and sexes are the known ones"
    ages = frame["age_years"].dropna()
    assert ((ages >= 0) & (ages <= 120)).all(), "ages are years or nan"
    assert (frame["split"] == "").all(), "a reader leaves the split to split_by_patient (use official_split)"
    assert all(item.what and item.why for item in table.skipped), "what is left out is named, with the reason"
    values = table.labels().values
    for column, uncertain in enumerate(zip(*_doubts(table), strict=True)):
        assert np.isnan(values[np.array(uncertain), column]).all(), "an uncertain finding is not stated"
    _check_files(table)
    _check_boxes(table)
    check_no_leak(split_by_patient(table))
    with_image = frame[frame["image"] != ""]
    for record in with_image.iloc[:: max(1, len(with_image) // decode)].to_dict("records")[:decode]:
        _check_pixels(table, record)
    with pytest.raises(TableError):
        reader(folder / "no such folder")
    return table


def check_round_trip(table: StudyTable, path: Path) -> None:
    """Writes and reads the table; every cell comes back. Raises: AssertionError."""
    table.write(path)
    pd.testing.assert_frame_equal(read_table(path).frame, table.frame)
    assert [item.name for item in path.parent.iterdir() if item.name.startswith(".")] == [], "no half-written file stays"


def _doubts(table: StudyTable) -> list[list[bool]]:
    names = table.labels().findings
    return [[name in text.split(";") for name in names] for text in table.frame["uncertain"]]


def _check_files(table: StudyTable) -> None:
    assert all((table.root / cell).is_file() for cell in table.frame["image"] if cell), "every image is there"
    assert table.frame["image"][table.frame["image"] != ""].is_unique, "one row per image"
    for cell in table.frame["masks"]:
        for mask in json.loads(cell).values():
            assert mask.startswith("runs:") or (table.root / mask).is_file(), "every mask is there"


def _check_boxes(table: StudyTable) -> None:
    for record in table.frame[table.frame["boxes"] != "[]"].to_dict("records"):
        for note in json.loads(record["boxes"]):
            assert note["width"] > 0 and note["height"] > 0, "a box has an area"
            if note["frame_width"]:
                inside = (note["x"] >= -1, note["x"] + note["width"] <= note["frame_width"] + 1,
                          note["y"] >= -1, note["y"] + note["height"] <= note["frame_height"] + 1)
                assert all(inside), f"a box of {record['image_id']} lies in its frame"
        for box, note in zip(table.boxes_of(record, height=100, width=200), json.loads(record["boxes"]), strict=True):
            if note["frame_width"]:
                assert box.x == pytest.approx(note["x"] * 200 / note["frame_width"])
                assert box.height == pytest.approx(note["height"] * 100 / note["frame_height"])


def _check_pixels(table: StudyTable, record: dict[str, object]) -> None:
    pixels = read_image(table.image_path(record)).pixels
    assert pixels.ndim == 2 and pixels.dtype == np.float32
    masks = read_pair(table, record)
    if masks is not None:
        lungs, ignore = masks
        assert lungs.shape == pixels.shape == ignore.shape, "a mask has the size of its image"
        assert lungs.any() and not (lungs & ignore).any()
