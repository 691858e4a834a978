"""JSRT: 154 films with a lung nodule and 93 without, with the nodule's place and size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from storyxai.data.reading import age_of, image_files, number, read_lines, require_folder, shown
from storyxai.data.sources import SOURCES
from storyxai.data.table import BoxNote, Skipped, StudyRow, StudyTable
from storyxai.errors import TableError
from storyxai.imaging.jsrt_film import MM_PER_PIXEL, SIDE

LARGEST_NODULE_MM = 30.0
SCR: Mapping[str, str] = {"left_lung": "left lung", "right_lung": "right lung", "heart": "heart"}


def read_jsrt(folder: Path) -> StudyTable:
    """One row per film of `CLNDAT_EN.txt` (nodule) and `CNNDAT_EN.TXT` (none) whose image is below the folder.

    The lists are tab-separated without a head: name, subtlety, size in mm, age, sex, x, y, malignancy, place,
    diagnosis; and name, age, sex, "non-nodule" (the user's guide describes other columns). Labels: a nodule up to
    30 mm is Nodule, a larger one Mass, with a square box of its size in the 2048 frame; a film without one makes both
    0; nothing else is stated. Films are raw as published (`.IMG`, 2048 x 2048 words) or made into PNG,
    which is taken where both are there. Masks of the SCR set (`fold*/masks/left lung/<name>.gif`) are
    used where there.
    Source: Shiraishi et al., AJR 2000;174:71-74; van Ginneken et al., Medical Image Analysis 2006;10:19-40.
    Raises: TableError.
    """
    require_folder(folder)
    lists = {path.name.casefold(): path for path in folder.glob("**/C[LN]NDAT_EN.*")}
    if "clndat_en.txt" not in lists:
        raise TableError(str(folder), "holds no CLNDAT_EN.txt", mend="fetch Clinical_Information beside the films")
    raw = [path for path in folder.rglob("*") if path.suffix.casefold() == ".img" and path.is_file()]
    images = {path.stem: path.relative_to(folder).as_posix() for path in sorted(raw)}
    images |= {Path(name).stem: name for name in image_files(folder)}
    masks = {key: {path.stem: path.relative_to(folder).as_posix() for path in folder.glob(f"**/masks/{name}/*.gif")}
             for key, name in SCR.items()}
    rows, skipped = [], []
    for fields, nodule in _lines(lists):
        stem = Path(fields[0]).stem
        if stem in images:
            mine = {key: found.get(stem, "") for key, found in masks.items()}
            rows.append(_row(stem, images[stem], fields, nodule=nodule, masks=mine))
        else:
            skipped.append(Skipped(fields[0], "is in the list but not in the folder"))
    return StudyTable.from_rows(rows, root=folder, skipped=skipped)


def _lines(lists: Mapping[str, Path]) -> list[tuple[list[str], bool]]:
    found = []
    for name, columns, nodule in (("clndat_en.txt", 7, True), ("cnndat_en.txt", 3, False)):
        if name not in lists:
            continue
        for line in read_lines(lists[name]):
            fields = [field.strip() for field in line.split("\t")]
            if len(fields) < columns:
                raise TableError(lists[name].name, f"has the short line '{shown(line)}'", mend="fetch the file again")
            found.append((fields, nodule))
    return found


def _row(stem: str, image: str, fields: list[str], *, nodule: bool, masks: Mapping[str, str]) -> StudyRow:
    labels = {"Nodule": 0.0, "Mass": 0.0}
    boxes: tuple[BoxNote, ...] = ()
    notes: tuple[str, ...] = ()
    age, sex = (fields[3], fields[4]) if nodule else (fields[1], fields[2])
    if nodule:
        size_mm, x, y = number(fields[2]), number(fields[5]), number(fields[6])
        finding, side = "Mass" if size_mm > LARGEST_NODULE_MM else "Nodule", size_mm / MM_PER_PIXEL
        labels, notes = {finding: 1.0}, (f"subtlety {fields[1]} of 5", *fields[7:])
        if all(math.isfinite(value) for value in (size_mm, x, y)):
            boxes = (BoxNote(finding, x - side / 2, y - side / 2, side, side, SIDE, SIDE, source="jsrt"),)
    return StudyRow(
        f"jsrt-{stem}", f"jsrt-{stem}", image, "jsrt", view="PA", sex={"male": "M", "female": "F"}.get(sex.casefold(), ""),
        age_years=age_of(age), license=SOURCES["jsrt"].licence, labels=labels, boxes=boxes, notes=notes, masks=masks,
    )
