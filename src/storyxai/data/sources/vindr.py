"""VinDr-CXR: DICOM films with boxes and labels of three readers (train) or their consensus of five (test)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from storyxai.data.reading import image_files, number, read_csv, require_folder, shown
from storyxai.data.sources import SOURCES
from storyxai.data.table import BoxNote, Skipped, StudyRow, StudyTable
from storyxai.errors import TableError
from storyxai.modalities.chest_radiograph.findings import match_name

JOINT = "Nodule/Mass"
BOX = ("x_min", "y_min", "x_max", "y_max")
Votes = dict[str, dict[str, dict[str, float]]]  # image -> reader -> class -> 1 or 0


def read_vindr(folder: Path) -> StudyTable:
    """One row per image (`train/<id>.dicom`, `test/<id>.dicom`) that the tables name.

    Layout: PhysioNet (`annotations/image_labels_{train,test}.csv`, `annotations/annotations_{train,test}.csv`) or the
    Kaggle challenge (`train.csv` with class_name and rad_id). Labels: what most readers of the image said; where they
    differ `notes` says so. "Nodule/Mass" is one class: absent makes both absent, present leaves both uncertain, and its
    boxes keep the joint name. Boxes are every reader's, in pixels of the DICOM image itself. Findings without a column,
    and Kaggle classes that were not listed to readers, are not stated. No patient is told: each image counts as one.
    Source: Nguyen et al., Scientific Data 2022;9:429; physionet.org/content/vindr-cxr. Raises: TableError.
    """
    require_folder(folder)
    images = {Path(name).stem: name for name in image_files(folder)}
    physionet = (folder / "annotations").is_dir()
    if not physionet and not (folder / "train.csv").is_file():
        raise TableError(str(folder), "holds neither annotations/ nor train.csv", mend="name the unpacked data set")
    skipped: list[Skipped] = []
    votes, boxes = _physionet(folder, skipped) if physionet else _kaggle(folder, skipped)
    skipped += [Skipped(name, "is in the tables but not in the folder") for name in sorted(set(votes) - set(images))]
    skipped += [Skipped(images[name], "is an image that no table names") for name in sorted(set(images) - set(votes))]
    rows = []
    for name in sorted(set(votes) & set(images)):
        labels, uncertain, notes = _consensus(votes[name])
        part = Path(images[name]).parts[0]
        rows.append(StudyRow(
            f"vindr-{name}", f"vindr-{name}", images[name], "vindr",
            official_split=part if physionet and part in ("train", "test") else "", license=SOURCES["vindr"].licence,
            labels=labels, uncertain=uncertain, boxes=tuple(boxes.get(name, ())), boxes_complete=True, notes=notes,
        ))
    return StudyTable.from_rows(rows, root=folder, skipped=skipped)


def _physionet(folder: Path, skipped: list[Skipped]) -> tuple[Votes, dict[str, list[BoxNote]]]:
    votes: Votes = defaultdict(dict)
    boxes: dict[str, list[BoxNote]] = defaultdict(list)
    for part in ("train", "test"):
        path = folder / "annotations" / f"image_labels_{part}.csv"
        if path.is_file():
            for line in read_csv(path, columns=("image_id",)).to_dict("records"):
                cells = {str(key): str(cell) for key, cell in line.items()}
                reader = cells.pop("rad_id", "consensus")
                votes[cells.pop("image_id")][reader] = {name: number(cell) for name, cell in cells.items()}
        path = folder / "annotations" / f"annotations_{part}.csv"
        if path.is_file():
            _add_boxes(path, boxes, skipped)
    return votes, boxes


def _kaggle(folder: Path, skipped: list[Skipped]) -> tuple[Votes, dict[str, list[BoxNote]]]:
    path = folder / "train.csv"
    frame = read_csv(path, columns=("image_id", "class_name", "rad_id", *BOX))
    classes = sorted(set(frame["class_name"]) - {"No finding"})
    votes: Votes = defaultdict(dict)
    for image, name, reader in zip(frame["image_id"], frame["class_name"], frame["rad_id"], strict=True):
        mine = votes[image].setdefault(reader, dict.fromkeys(classes, 0.0))
        if name in mine:
            mine[name] = 1.0
    boxes: dict[str, list[BoxNote]] = defaultdict(list)
    _add_boxes(path, boxes, skipped)
    return votes, boxes


def _add_boxes(path: Path, boxes: dict[str, list[BoxNote]], skipped: list[Skipped]) -> None:
    for line in read_csv(path, columns=("image_id", "class_name", *BOX)).to_dict("records"):
        left, top, right, bottom = (number(str(line[name])) for name in BOX)
        name = str(line["class_name"])
        finding = JOINT if name == JOINT else match_name(name)
        if finding is None:
            continue  # a class of another vocabulary, or "No finding", which has no box
        if not (right > left and bottom > top):
            what = f"a box of {shown(str(line['image_id']))} ({name})"
            skipped.append(Skipped(what, "has no area", "mend or remove it; the image is kept"))
            continue
        reader = str(line.get("rad_id", "consensus"))
        note = BoxNote(finding, left, top, right - left, bottom - top, 0, 0, reader, "vindr")
        boxes[str(line["image_id"])].append(note)


def _consensus(readers: Mapping[str, Mapping[str, float]]) -> tuple[dict[str, float], tuple[str, ...], tuple[str, ...]]:
    labels: dict[str, float] = {}
    uncertain: tuple[str, ...] = ()
    notes = []
    for name in sorted({name for said in readers.values() for name in said}):
        votes = [said[name] for said in readers.values() if said.get(name) in (0.0, 1.0)]
        finding = match_name(name)
        if not votes or (finding is None and name != JOINT):
            continue
        share = sum(votes) / len(votes)
        if 0 < share < 1:
            notes.append(f"{name}: {sum(votes):.0f} of {len(votes)} readers")
        if name != JOINT and finding is not None:
            labels[finding] = float(share > 0.5)
        elif share > 0.5:
            uncertain = ("Mass", "Nodule")
        else:
            labels |= {"Mass": 0.0, "Nodule": 0.0}
    return labels, uncertain, tuple(notes)
