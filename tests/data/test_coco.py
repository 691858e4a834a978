"""COCO files as programs export them: what a box needs is asked for by name, and a fault is told by its number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from checks.source_checks import check_source
from storyxai.data.sources.coco import read_coco
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
    ({}, {"category_id": 9}, "annotation 5 is of the category 9, which is not listed"),
    ({}, {"image_id": 9}, "annotation 5 is of the image 9, which is not listed"),
    ({"width": 0}, {}, "image 1 has no width and height"),
    ({"height": None}, {}, "image 1 has no width and height"),
])
def test_the_fault_is_told_by_its_number(tmp_path: Path, image: dict[str, Any], mark: dict[str, Any], said: str) -> None:
    with pytest.raises(TableError, match=rf"c\.json: {said}") as refused:
        read_coco(put(tmp_path, image=image, mark=mark))
    assert refused.value.mend


def test_a_box_on_an_image_of_another_shape_is_refused(tmp_path: Path) -> None:
    """Boxes of another picture would land anywhere; a picture made smaller keeps its shape."""
    with pytest.raises(TableError, match=r"c\.json: says that a\.png is 300 x 100, but it is 96 x 64"):
        read_coco(put(tmp_path, image={"width": 300, "height": 100}))
    assert len(check_source(read_coco, put(tmp_path, image={"width": 193, "height": 128}).parent)) == 1


def test_polygons_alone_give_their_box(tmp_path: Path) -> None:
    path = put(tmp_path, mark={"bbox": [], "segmentation": [[10, 10, 30, 12, 20, 40], [50, 20, 52, 20, 51, 22]]})
    box = json.loads(read_coco(path).frame["boxes"].iloc[0])[0]
    assert (box["x"], box["y"], box["width"], box["height"]) == (10, 10, 42, 30)
