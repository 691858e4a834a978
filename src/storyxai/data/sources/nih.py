"""NIH ChestX-ray14: labels mined from reports, boxes, adjudicated labels, a public network's answers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from storyxai.data.labels import labels_from_list
from storyxai.data.reading import read_csv, read_lines, shown
from storyxai.data.sources import SOURCES
from storyxai.data.table import BoxNote, Skipped, StudyRow, StudyTable
from storyxai.errors import TableError
from storyxai.imaging.views import view_of
from storyxai.modalities.chest_radiograph.findings import NAMES, match_name
from storyxai.types import SoftTargets

FRAME = 1024.0
SETS = ("pneumonia-set", "balanced-set")


def read_nih(folder: Path) -> StudyTable:
    """One row per image of a ChestX-ray14 folder.

    Layout: `Data_Entry_2017_v2020.csv` (or `Data_Entry_2017.csv`), images under `images/` or `images_001/images/` ...
    (.png or .jpg), and where present `BBox_List_2017.csv`, `rsna_boxes.csv`, `train_val_list.txt`, `test_list.txt`.
    Labels: a finding that is not listed is 0 (text-mined), "No Finding" makes all 0, an empty cell states none. Ages over
    120 are not stated (the first release has 411 years). Boxes stay in the 1024 frame. RSNA's lung opacity is kept as a box
    of Pneumonia, as its challenge defines it; `boxes_complete` is True for images RSNA read; one without a line there is
    unknown.
    Origin: where only a part of the set was given to us, images chosen for `Pneumonia` or `No Finding` and images of a
    one-per-patient selection (stem ends in _000) have different mixes; the stem is all that tells them apart. Of the
    images ending in _000 those labelled Pneumonia or No Finding could be of either: they count as balanced-set and
    their `notes` say so. With the official lists there (the whole set) origin is empty.
    Source: Wang et al., CVPR 2017, and the README of the download (nihcc.app.box.com/v/ChestXray-NIHCC).
    Raises: TableError when the folder is not one or a table lacks a column.
    """
    entries = read_csv(_entry_file(folder), columns=(
        "Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position",
    ))
    files = _image_files(folder)
    stems = [Path(name).stem for name in entries["Image Index"]]
    named = set(stems)
    official = _official(folder, named)
    boxes, rsna = _nih_boxes(folder), _rsna_boxes(folder)
    strangers = sorted((set(boxes) | set(rsna)) - named)
    skipped = [Skipped(stem, "has boxes but no line in the entry table") for stem in strangers]
    skipped += [Skipped(path, "is an image without a line in the entry table") for stem, path in sorted(files.items())
                if stem not in named]
    rows, columns = [], list(entries.columns)
    for number, (stem, line) in enumerate(zip(stems, entries.itertuples(index=False, name=None), strict=True), start=2):
        if stem not in files:
            skipped.append(Skipped(f"{stem}.png", "is in the entry table but not in the folder"))
            continue
        cells = dict(zip(columns, line, strict=True))
        if not re.fullmatch(r"\d{1,12}", cells["Patient ID"], re.ASCII):
            where = f"{_entry_file(folder).name}, line {number}"
            raise TableError(where, f"has the patient '{shown(cells['Patient ID'])}'", mend="fetch the file again")
        rows.append(_row(cells, stem, files[stem], boxes.get(stem, ()), rsna.get(stem), official))
    if not rows:
        raise TableError(str(folder), "holds no image that its entry table names", mend="put the images under images/")
    return StudyTable.from_rows(rows, root=folder, skipped=skipped)


def read_densenet_targets(folder: Path) -> SoftTargets:
    """The public DenseNet-121's log-odds by image (`densenet121_predictions.csv`), ids as in `read_nih`.

    Source: project jrzech/reproduce-chexnet, trained on the training part of the full set. Raises: TableError.
    """
    path = folder / "densenet121_predictions.csv" if folder.is_dir() else folder
    frame = read_csv(path, columns=("Image Index", *(f"prob_{name}" for name in NAMES)))
    try:
        chance = frame[[f"prob_{name}" for name in NAMES]].astype(np.float64).to_numpy()
    except ValueError as error:
        raise TableError(path.name, "holds a probability that is no number", mend="fetch the file again") from error
    if not ((chance >= 0) & (chance <= 1)).all():
        raise TableError(path.name, "holds a probability outside 0 to 1", mend="fetch the file again")
    safe = chance.clip(1e-7, 1 - 1e-7)
    logits = np.log(safe / (1 - safe)).astype(np.float32)
    ids = tuple(f"nih-{Path(name).stem}" for name in frame["Image Index"])
    return SoftTargets(NAMES, logits, ids, "resize:224", "densenet121 of jrzech/reproduce-chexnet")


def _entry_file(folder: Path) -> Path:
    for name in ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv"):
        if (folder / name).is_file():
            return folder / name
    raise TableError(str(folder), "holds no Data_Entry_2017_v2020.csv", mend="name the ChestX-ray14 folder")


def _image_files(folder: Path) -> dict[str, str]:
    """Stem -> path relative to the folder; .png before .jpg where both are there."""
    files: dict[str, str] = {}
    for place in sorted([folder / "images", *folder.glob("images_*/images")]):
        for path in sorted(place.glob("*")):
            if path.suffix.casefold() in (".png", ".jpg", ".jpeg"):
                kept = files.get(path.stem)
                if kept is None or not kept.endswith(".png"):
                    files[path.stem] = path.relative_to(folder).as_posix()
    return files


def _official(folder: Path, stems: set[str]) -> dict[str, str]:
    """Part by stem. A list may name films that the entry table does not: a part of the set; but not only such."""
    parts: dict[str, str] = {}
    for name, part in (("train_val_list.txt", "train"), ("test_list.txt", "test")):
        if (folder / name).is_file():
            lines = read_lines(folder / name)
            if not any(Path(line).stem in stems for line in lines):
                mend = "use the list that belongs to these images, or take it away"
                raise TableError(name, "names no image of the entry table", mend=mend)
            for line in lines:
                if parts.setdefault(Path(line).stem, part) != part:
                    raise TableError(name, f"names '{shown(line)}', and so does the other list", mend="fetch both again")
    return parts


def _nih_boxes(folder: Path) -> dict[str, tuple[BoxNote, ...]]:
    """Boxes by stem. The published head splits `Bbox [x,y,w,h]` over four columns and adds three empty ones."""
    path = folder / "BBox_List_2017.csv"
    if not path.is_file():
        return {}
    frame = read_csv(path, columns=("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"))
    boxes: dict[str, tuple[BoxNote, ...]] = {}
    places = zip(*(frame[name] for name in ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")), strict=True)
    for image, label, *numbers in places:
        finding = match_name(label)
        if finding is None:
            raise TableError(path.name, f"has a box of the unknown '{shown(label)}'", mend="fetch the file again")
        box = BoxNote(finding, *_numbers(path, numbers), FRAME, FRAME, "board-certified radiologist", "nih")
        boxes[Path(image).stem] = (*boxes.get(Path(image).stem, ()), box)
    return boxes


def _rsna_boxes(folder: Path) -> dict[str, tuple[tuple[BoxNote, ...], str]]:
    """(boxes, class) by stem for every image RSNA read; no boxes where it saw no opacity."""
    path = folder / "rsna_boxes.csv"
    if not path.is_file():
        return {}
    frame = read_csv(path, columns=("Image Index", "x", "y", "width", "height", "class"))
    read: dict[str, tuple[tuple[BoxNote, ...], str]] = {}
    columns = (frame[name] for name in ("Image Index", "class", "x", "y", "width", "height"))
    for image, kind, *numbers in zip(*columns, strict=True):
        before, kind_before = read.get(Path(image).stem, ((), kind))
        if kind != kind_before:
            raise TableError(path.name, f"gives '{shown(image)}' two classes", mend="fetch the file again")
        if numbers[0]:
            before = (*before, BoxNote("Pneumonia", *_numbers(path, numbers), FRAME, FRAME, "RSNA readers", "rsna"))
        read[Path(image).stem] = (before, kind)
    return read


def _numbers(path: Path, cells: list[str]) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = (float(cell) for cell in cells)
    except ValueError as error:
        raise TableError(path.name, f"has a box of {shown(', '.join(cells))}", mend="fetch the file again") from error
    return x, y, width, height


def _row(
    cells: dict[str, str], stem: str, image: str, boxes: tuple[BoxNote, ...],
    rsna: tuple[tuple[BoxNote, ...], str] | None, official: dict[str, str],
) -> StudyRow:
    listed = cells["Finding Labels"].split("|")
    stated = cells["Finding Labels"].strip().casefold() not in ("", "nan")
    labels, unknown = labels_from_list(listed) if stated else ({}, ())
    notes = [f"label not in the vocabulary: {name}" for name in unknown]
    age = _age_years(cells["Patient Age"])
    if np.isnan(age) and cells["Patient Age"]:
        notes.append(f"age '{cells['Patient Age']}' is not believed")
    origin = ""
    if not official:
        origin = SETS[stem.endswith("_000")]
        if origin == "balanced-set" and (labels.get("Pneumonia") == 1.0 or not any(labels.values())):
            notes.append("origin doubtful: fits pneumonia-set too")
    if rsna is not None:
        notes.append(f"RSNA: {rsna[1]}")
    return StudyRow(
        f"nih-{stem}", f"nih-{int(cells['Patient ID']):08d}", image, "nih", origin=origin,
        view=view_of(cells["View Position"]),
        sex=cells["Patient Gender"] if cells["Patient Gender"] in ("M", "F") else "", age_years=age,
        official_split=official.get(stem, ""), license=SOURCES["nih"].licence, labels=labels,
        boxes=boxes + (rsna[0] if rsna else ()), boxes_complete=rsna is not None, notes=tuple(notes),
    )


def _age_years(text: str) -> float:
    """Years from "58" (2020 release) or "058Y", "013M", "007D" (2017 release); nan when it cannot be an age."""
    match = re.fullmatch(r"0*(\d{1,3})([YMD]?)", text.strip())
    if match is None:
        return float("nan")
    years = int(match[1]) / {"": 1, "Y": 1, "M": 12, "D": 365.25}[match[2]]
    return years if years <= 120 else float("nan")
