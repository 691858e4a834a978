"""COCO JSON: images, categories and boxes, as annotation programs export them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from storyxai.data.reading import is_there, picture_size, read_json, shown
from storyxai.data.table import BoxNote, Skipped, StudyRow, StudyTable
from storyxai.errors import TableError
from storyxai.modalities.chest_radiograph.findings import match_name

__all__ = ["read_coco"]

MEND = "export it again as COCO detection, with boxes"


def read_coco(path: Path) -> StudyTable:
    """One row per image of a COCO file, or of the only .json in a folder (or in its `annotations/`).

    Images lie beside the file, in `images/`, or in the folder above; one that has another shape than the file says is
    refused (smaller is fine). A mark that has polygons but no box gets the box around them.
    Labels: a category that is one of our findings and
    has a box is 1; no other is stated, for COCO does not say whether its absence was looked for. Boxes are in the
    image's own `width` x `height`. A patient is taken from an image's `patient_id` where the file gives one; otherwise
    each image counts as its own patient and `notes` says so. Categories outside the vocabulary are named in `skipped`.
    Source: cocodataset.org/#format-data. Raises: TableError naming the file.
    """
    path = _only_json(path) if path.is_dir() else path
    content = read_json(path)
    try:
        images = {int(image["id"]): image for image in content["images"]}
        names = {int(category["id"]): str(category["name"]) for category in content["categories"]}
        if len(images) < len(content["images"]):
            raise TableError(path.name, "has an image id twice", mend=MEND)
        marks: dict[int, list[tuple[str, list[float]]]] = defaultdict(list)
        for mark in content["annotations"]:
            image, category = int(mark["image_id"]), int(mark["category_id"])
            for noun, number, listed in (("image", image, images), ("category", category, names)):
                if number not in listed:
                    why = f"annotation {mark.get('id')} is of the {noun} {number}, which is not listed"
                    raise TableError(path.name, why, mend=MEND)
            marks[image].append((names[category], _box(mark, path)))
        base = next((place for place in (path.parent, path.parent / "images", path.parent.parent,
                                         path.parent.parent / "images")
                     if any(is_there(place / str(image["file_name"])) for image in images.values())), path.parent)
        rows, skipped = [], []
        for number, image in sorted(images.items()):
            if is_there(base / str(image["file_name"])):
                if marks[number]:
                    _require_shape(image, base, path)
                rows.append(_row(image, marks[number]))
            else:
                skipped.append(Skipped(str(image["file_name"]), "is in the file but not in the folder"))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        why = f"is not COCO ({type(error).__name__}: {error})"
        raise TableError(path.name, why, mend=MEND) from error
    skipped += [Skipped(f"category '{name}'", "is none of our findings") for name in sorted(set(names.values()))
                if match_name(name) is None]
    return StudyTable.from_rows(rows, root=base, skipped=skipped)


def _box(mark: dict[str, Any], path: Path) -> list[float]:
    """The mark's box, or the box around its polygons. Raises: TableError naming the mark."""
    box = [float(value) for value in mark.get("bbox") or ()]
    polygons = mark.get("segmentation")
    if not box and isinstance(polygons, list) and polygons:
        across = [float(value) for polygon in polygons for value in polygon[0::2]]
        down = [float(value) for polygon in polygons for value in polygon[1::2]]
        box = [min(across), min(down), max(across) - min(across), max(down) - min(down)]
    if len(box) != 4:
        raise TableError(path.name, f"annotation {mark.get('id')} has no box of four numbers", mend=MEND)
    if box[2] <= 0 or box[3] <= 0:
        raise TableError(path.name, f"annotation {mark.get('id')} has a box without an area", mend=MEND)
    return box


def _require_shape(image: dict[str, Any], base: Path, path: Path) -> None:
    """Raises TableError where the file states no size, or one that the picture cannot have been made smaller from."""
    width, height = (float(image.get(side) or 0) for side in ("width", "height"))
    if not (width > 0 and height > 0):
        raise TableError(path.name, f"image {image['id']} has no width and height", mend=MEND)
    size = picture_size(base / str(image["file_name"]))
    # Whole pixels round either side by up to one.
    if size and abs(width * size[1] - height * size[0]) > max(width, height, *size):
        why = f"says that {shown(str(image['file_name']))} is {width:g} x {height:g}, but it is {size[0]} x {size[1]}"
        raise TableError(path.name, why, mend="use the file that belongs to these images")


def _row(image: dict[str, Any], marks: list[tuple[str, list[float]]]) -> StudyRow:
    boxes = []
    for name, (x, y, width, height) in marks:
        finding = match_name(name)
        if finding is not None:
            size = float(image["width"]), float(image["height"])
            boxes.append(BoxNote(finding, x, y, width, height, *size, source="coco"))
    stem = Path(str(image["file_name"])).with_suffix("").as_posix()
    patient = str(image.get("patient_id", ""))
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
