"""COCO files as programs export them: what a box needs is asked for by name, and a fault is told by its number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from checks.source_checks import check_source
from storyxai.data.sources.coco import _unpacked, read_coco
from storyxai.errors import TableError


def put(folder: Path, *, image: dict[str, Any] | None = None, mark: dict[str, Any] | None = None) -> Path:
    grey = np.linspace(0, 255, 64 * 96).reshape(64, 96).astype(np.uint8)
    Picture.fromarray(grey).save(folder / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 96, "height": 64, **(image or {})}],
        "categories": [{"id": 7, "name": "Effusion"}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 7, "bbox": [10, 10, 20, 20], **(mark or {})}],
    }
    path = folder / "c.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(("image", "mark", "said"), [
    ({}, {"bbox": [1, 2, 3]}, "annotation 5 has no box of four numbers"),
    ({}, {"bbox": None}, "annotation 5 has no box of four numbers"),
    ({}, {"bbox": [1, 2, -3, 4]}, "annotation 5 has a box without an area"),
    ({}, {"bbox": [0.1, 0.2, 0.3, 0.4]}, "annotation 5 has a box within one pixel (fractions, where pixels belong?)"),
    ({}, {"bbox": [40, 40, 62, 60]}, "annotation 5 has a box outside its image (two corners, where width and height belong?)"),
    ({}, {"bbox": [-30, 10, 20, 20]}, "annotation 5 has a box outside its image (two corners, where width and height belong?)"),
    ({}, {"category_id": 9}, "annotation 5 is of the category 9, which is not listed"),
    ({}, {"image_id": 9}, "annotation 5 is of the image 9, which is not listed"),
    ({"width": 0}, {}, "image 1 has no width and height"),
    ({"height": None}, {}, "image 1 has no width and height"),
])
def test_the_fault_is_told_by_its_number(tmp_path: Path, image: dict[str, Any], mark: dict[str, Any], said: str) -> None:
    path = put(tmp_path, image=image, mark=mark)
    if image:
        with pytest.raises(TableError, match=rf"c\.json: {said}") as refused:
            read_coco(path)
        assert refused.value.mend
    else:  # one bad mark spoils no set
        table = read_coco(path)
        assert [f"{item.what} {item.why}" for item in table.skipped] == [said] and table.skipped[0].mend
        assert len(table) == 1 and table.frame["boxes"][0] == "[]"


def test_a_box_on_an_image_of_another_shape_is_refused(tmp_path: Path) -> None:
    """Boxes of another picture would land anywhere; a picture made smaller keeps its shape."""
    with pytest.raises(TableError, match=r"c\.json: says that a\.png is 300 x 100, but it is 96 x 64"):
        read_coco(put(tmp_path, image={"width": 300, "height": 100}))
    assert len(check_source(read_coco, put(tmp_path, image={"width": 193, "height": 128}).parent)) == 1


def test_polygons_alone_give_their_box(tmp_path: Path) -> None:
    path = put(tmp_path, mark={"bbox": [], "segmentation": [[10, 10, 30, 12, 20, 40], [50, 20, 52, 20, 51, 22]]})
    box = json.loads(read_coco(path).frame["boxes"].iloc[0])[0]
    assert (box["x"], box["y"], box["width"], box["height"]) == (10, 10, 42, 30)


def test_one_bad_mark_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    """Text ids, Windows paths, run lengths in numbers and in text; and marks of every way to be wrong."""
    (tmp_path / "sub").mkdir()
    for name in "abc":
        Picture.new("L", (6, 4)).save(tmp_path / "sub" / f"{name}.png")
    images = [{"id": f"img-{name}", "file_name": f"sub\\{name}.png", "width": 6, "height": 4} for name in "abc"]
    good = [
        {"id": 1, "image_id": "img-a", "category_id": "n", "bbox": [1, 1, 2, 2]},
        # Column by column: 5 pixels out, 2 in (column 1, rows 1 and 2), 2 out, 2 in (column 2, rows 1 and 2).
        {"id": 2, "image_id": "img-b", "category_id": "n", "iscrowd": 1,
         "segmentation": {"size": [4, 6], "counts": [5, 2, 2, 2, 13]}},
        {"id": 3, "image_id": "img-c", "category_id": "n", "segmentation": {"size": [4, 6], "counts": "5220;"}},
    ]
    bad = [
        {"id": 4, "image_id": "img-b", "category_id": "n", "bbox": [5, 5, 1.03, 0.0]},
        {"id": 5, "image_id": "img-z", "category_id": "n", "bbox": [1, 1, 2, 2]},
        {"id": 6, "image_id": "img-a", "category_id": "q", "bbox": [1, 1, 2, 2]},
        {"id": 7, "image_id": "img-a", "category_id": "n", "bbox": ["wide", 1, 2, 2]},
        {"id": 8, "image_id": "img-a", "category_id": "n", "segmentation": {"size": [4, 6], "counts": [5, 2]}},
        {"id": 9, "category_id": "n", "bbox": [1, 1, 2, 2]},
        "no mark",
        {"id": 10, "image_id": "img-a", "category_id": "n", "bbox": [1, 1, float("nan"), 2]},
    ]
    content = {"images": images, "categories": [{"id": "n", "name": "Nodule"}], "annotations": good + bad}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    table = read_coco(tmp_path)
    boxes = [(box.x, box.y, box.width, box.height) for row in table.frame.to_dict("records")
             for box in table.boxes_of(row, height=4, width=6)]
    assert boxes == [(1, 1, 2, 2)] * 3 and len(table) == 3
    named = [item.what for item in table.skipped]
    assert named == [*(f"annotation {number}" for number in (4, 5, 6, 7, 8, 9)), "annotation 10", "annotation 10"]


def test_packed_run_lengths_are_those_of_the_published_format() -> None:
    assert _unpacked("5220;") == [5, 2, 2, 2, 13]
