"""COCO JSON: images, categories and boxes, as annotation programs export them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NotRequired, TypeAlias, TypedDict

from storyxai.data.reading import is_there, picture_size, read_json, shown
from storyxai.data.table import BoxNote, Skipped, StudyRow, StudyTable
from storyxai.errors import TableError
from storyxai.modalities.chest_radiograph.findings import match_name

Mark: TypeAlias = tuple[str, list[float]]
"""A category's name and its box."""


class Runs(TypedDict):
    """A mask as run lengths."""

    size: list[int]
    counts: str | bytes | list[int]


class Picture(TypedDict):
    """An image of the file, its name with plain separators. Which keys there are, the file decides: a KeyError names one."""

    id: str | int | float
    file_name: str
    width: NotRequired[float]
    height: NotRequired[float]
    patient_id: NotRequired[str | int | None]


class Annotation(TypedDict):
    """A mark as the file has it."""

    id: NotRequired[int | str]
    image_id: str | int | float
    category_id: str | int | float
    bbox: NotRequired[list[float] | None]
    segmentation: NotRequired[list[list[float]] | Runs | None]


_OUTSIDE = 0.05
"""The share of a side by which a box may be drawn over the border of its image."""
MEND = "export it again as COCO detection, with boxes"


def read_coco(path: Path) -> StudyTable:
    """One row per image of a COCO file, or of the only .json in a folder (or in its `annotations/`).

    Images lie beside the file, in `images/`, or in the folder above; one that has another shape than the file says is
    refused (smaller is fine). A mark that has polygons or run lengths but no box gets the box around them. Ids may be
    numbers or text, paths written with backslashes. A mark that cannot be used is named in `skipped`; the rest is read.
    Labels: a category that is one of our findings and
    has a box is 1; no other is stated, for COCO does not say whether its absence was looked for. Boxes are in the
    image's own `width` x `height`. A patient is taken from an image's `patient_id` where the file gives one; otherwise
    each image counts as its own patient and `notes` says so. Categories outside the vocabulary are named in `skipped`.
    Source: cocodataset.org/#format-data. Raises: TableError naming the file.
    """
    path = _only_json(path) if path.is_dir() else path
    content = read_json(path)
    try:
        listed: list[Picture] = content["images"]
        images: dict[str, Picture] = {
            _key(image["id"]): {**image, "file_name": str(image["file_name"]).replace("\\", "/")} for image in listed
        }
        names = {_key(category["id"]): str(category["name"]) for category in content["categories"]}
        if len(images) < len(listed):
            raise TableError(path.name, "has an image id twice", mend=MEND)
        marks, skipped = _marks(content["annotations"], images, names)
        base = next((place for place in (path.parent, path.parent / "images", path.parent.parent,
                                         path.parent.parent / "images")
                     if any(is_there(place / image["file_name"]) for image in images.values())), path.parent)
        rows = []
        for key, image in images.items():
            if is_there(base / image["file_name"]):
                if marks[key]:
                    _require_shape(image, base, path)
                rows.append(_row(image, marks[key]))
            else:
                skipped.append(Skipped(image["file_name"], "is in the file but not in the folder"))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        why = f"is not COCO ({type(error).__name__}: {error})"
        raise TableError(path.name, why, mend=MEND) from error
    skipped += [Skipped(f"category '{name}'", "is none of our findings") for name in sorted(set(names.values()))
                if match_name(name) is None]
    return StudyTable.from_rows(rows, root=base, skipped=skipped)


def _key(value: Any) -> str:
    """An id as text: 5, 5.0 and "5" are one, and text ids are as good."""
    if value is None or isinstance(value, (bool, dict, list)):
        raise ValueError(f"an id is {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("an id is no finite number")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _marks(
    annotations: list[Annotation], images: Mapping[str, Picture], names: Mapping[str, str]
) -> tuple[dict[str, list[Mark]], list[Skipped]]:
    """The usable marks by image, and the others by name: one bad mark does not spoil a set."""
    marks: dict[str, list[Mark]] = defaultdict(list)
    skipped = []
    for number, mark in enumerate(annotations):
        what = f"annotation {mark.get('id', f'number {number + 1}')}" if isinstance(mark, dict) else f"annotation {number + 1}"
        try:
            image, category = _key(mark["image_id"]), _key(mark["category_id"])
            for noun, key, listed in (("image", image, images), ("category", category, names)):
                if key not in listed:
                    raise _BadMarkError(f"is of the {noun} {shown(key)}, which is not listed")
            box = _box(mark)
            _require_inside(box, images[image])
            marks[image].append((names[category], box))
        except _BadMarkError as error:
            skipped.append(Skipped(what, str(error), "mend or remove it; the rest is read"))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            why = f"is no mark that can be read ({type(error).__name__}: {error})"
            skipped.append(Skipped(what, why, "mend or remove it; the rest is read"))
    return marks, skipped


class _BadMarkError(Exception):
    """Why a mark is left out."""


def _box(mark: Annotation) -> list[float]:
    """The mark's box, or the box around its polygons or runs. Raises: _BadMarkError saying what is wrong with it."""
    box = [float(value) for value in mark.get("bbox") or ()]
    shape = mark.get("segmentation")
    if not box and isinstance(shape, list) and shape:
        across = [float(value) for polygon in shape for value in polygon[0::2]]
        down = [float(value) for polygon in shape for value in polygon[1::2]]
        box = [min(across), min(down), max(across) - min(across), max(down) - min(down)]
    if not box and isinstance(shape, dict):
        box = _box_of_runs(shape)
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise _BadMarkError("has no box of four numbers")
    if box[2] <= 0 or box[3] <= 0:
        raise _BadMarkError("has a box without an area")
    return box


def _require_inside(box: list[float], image: Picture) -> None:
    """Raises _BadMarkError for a box that cannot be x, y, width and height in pixels of its image."""
    x, y, width, height = box
    across, down = float(image.get("width") or 0), float(image.get("height") or 0)
    if not (across > 0 and down > 0):
        return  # `_require_shape` says so of the image
    if max(x + width, y + height) <= 1 < min(across, down):
        raise _BadMarkError("has a box within one pixel (fractions, where pixels belong?)")
    if min(x / across, y / down, 1 - (x + width) / across, 1 - (y + height) / down) < -_OUTSIDE:
        raise _BadMarkError("has a box outside its image (two corners, where width and height belong?)")


def _box_of_runs(shape: Runs) -> list[float]:
    """The box around run lengths, column by column from the top left, as numbers or packed into text.

    Source: cocoapi, maskApi.c (rleToBbox, rleFrString).
    """
    height, width = (int(side) for side in shape["size"])
    counts = shape["counts"]
    runs = _unpacked(counts) if isinstance(counts, (str, bytes)) else [int(count) for count in counts]
    ends = list(accumulate(runs))
    if min(runs, default=-1) < 0 or ends[-1] != height * width:
        raise _BadMarkError("has run lengths that do not fill its picture")
    inside = [(start, end) for start, end in zip(ends[0::2], ends[1::2], strict=False) if end > start]
    if not inside:
        raise _BadMarkError("has a mask without a pixel")
    left, right = inside[0][0] // height, (inside[-1][1] - 1) // height
    whole = any(start // height != (end - 1) // height for start, end in inside)  # a run over a column's end fills both
    top = 0 if whole else min(start % height for start, _ in inside)
    bottom = height - 1 if whole else max((end - 1) % height for _, end in inside)
    return [float(left), float(top), float(right - left + 1), float(bottom - top + 1)]


def _unpacked(text: str | bytes) -> list[int]:
    """Run lengths from COCO's text: five bits a sign, low ones first, each as the difference from the last but one."""
    data = text.encode("ascii") if isinstance(text, str) else text
    runs: list[int] = []
    value, shift = 0, 0
    for byte in data:
        piece = byte - 48
        value |= (piece & 0x1F) << shift
        shift += 5
        if not piece & 0x20:
            if piece & 0x10:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    return runs


def _require_shape(image: Picture, base: Path, path: Path) -> None:
    """Raises TableError where the file states no size, or one that the picture cannot have been made smaller from."""
    width, height = float(image.get("width") or 0), float(image.get("height") or 0)
    if not (width > 0 and height > 0):
        raise TableError(path.name, f"image {image['id']} has no width and height", mend=MEND)
    size = picture_size(base / str(image["file_name"]))
    # Whole pixels round either side by up to one.
    if size and abs(width * size[1] - height * size[0]) > max(width, height, *size):
        why = f"says that {shown(str(image['file_name']))} is {width:g} x {height:g}, but it is {size[0]} x {size[1]}"
        raise TableError(path.name, why, mend="use the file that belongs to these images")


def _row(image: Picture, marks: list[Mark]) -> StudyRow:
    boxes = []
    for name, (x, y, width, height) in marks:
        finding = match_name(name)
        if finding is not None:
            size = float(image["width"]), float(image["height"])
            boxes.append(BoxNote(finding, x, y, width, height, *size, source="coco"))
    stem = Path(str(image["file_name"])).with_suffix("").as_posix()
    patient = "" if image.get("patient_id") is None else str(image["patient_id"])
    return StudyRow(
        f"coco-{stem}", f"coco-{patient or stem}", str(image["file_name"]), "coco",
        labels={box.finding: 1.0 for box in boxes}, boxes=tuple(boxes),
        notes=() if patient else ("no patient told: counts as its own",),
    )


def _only_json(folder: Path) -> Path:
    found = sorted([*folder.glob("*.json"), *folder.glob("annotations/*.json")])
    if len(found) != 1:
        raise TableError(str(folder), f"holds {len(found)} .json files", mend="name the COCO file itself")
    return found[0]
