"""COCO JSON: images, categories and boxes, as annotation programs export them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from storyxai.data.reading import is_there, read_json
from storyxai.data.table import BoxNote, Skipped, StudyRow, StudyTable
from storyxai.errors import TableError
from storyxai.findings import match_name

__all__ = ["read_coco"]


def read_coco(path: Path) -> StudyTable:
    """One row per image of a COCO file, or of the only .json in a folder (or in its `annotations/`).

    Images lie beside the file, in `images/`, or in the folder above. Labels: a category that is one of our findings and
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
        marks: dict[int, list[tuple[str, list[float]]]] = defaultdict(list)
        for mark in content["annotations"]:
            box = [float(value) for value in mark["bbox"]]
            marks[int(mark["image_id"])].append((names[int(mark["category_id"])], box))
        if len(images) < len(content["images"]) or set(marks) - set(images):
            raise TableError(path.name, "has an image id twice, or a box of no image", mend="export it again")
        base = next((place for place in (path.parent, path.parent / "images", path.parent.parent,
                                         path.parent.parent / "images")
                     if any(is_there(place / str(image["file_name"])) for image in images.values())), path.parent)
        rows, skipped = [], []
        for number, image in sorted(images.items()):
            if is_there(base / str(image["file_name"])):
                rows.append(_row(image, marks[number]))
            else:
                skipped.append(Skipped(str(image["file_name"]), "is in the file but not in the folder"))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        why = f"is not COCO ({type(error).__name__}: {error})"
        raise TableError(path.name, why, mend="export it again as COCO detection") from error
    skipped += [Skipped(f"category '{name}'", "is none of our findings") for name in sorted(set(names.values()))
                if match_name(name) is None]
    return StudyTable.from_rows(rows, root=base, skipped=skipped)


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
