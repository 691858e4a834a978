"""Kermany's paediatric chest radiographs (normal, bacterial, viral pneumonia), with V7's lung masks where paired."""

from __future__ import annotations

import re
from pathlib import Path

from storyxai.data.reading import is_there, read_csv, require_folder
from storyxai.data.sources import SOURCES
from storyxai.data.table import Skipped, StudyRow, StudyTable, join_by_name
from storyxai.errors import TableError

PEDIATRIC = "paediatric, one hospital"


def read_kermany(folder: Path) -> StudyTable:
    """One row per image of `train|val|test/{NORMAL,PNEUMONIA}/*.jpeg` or of `images/` + `pairs.csv`.

    Labels: Pneumonia 1 or 0 by folder and nothing else; NORMAL says only that there is no pneumonia. bacteria or virus
    goes to `notes`. Patients are read from the names: personN, bacterial and viral together, and the IM number with
    and without the NORMAL2- prefix (a normal and a person number never share a patient). Where the publisher's
    train / val / test folders are there, they become official_split unless a patient stands in two of them (known of
    this set): then they are left out for all and every row notes its folder.
    Masks: 255 lung (with the lung behind the heart), 127 ignore; `notes` says how each was paired.
    Source: Mendeley Data, doi 10.17632/rscbjbr9sj.2; masks v7labs/covid-19-xray-dataset. Raises: TableError.
    """
    require_folder(folder)
    files = sorted(
        path.relative_to(folder).as_posix()
        for kind in ("NORMAL", "PNEUMONIA")
        for path in folder.glob(f"**/{kind}/*")
        if path.suffix.casefold() in (".jpeg", ".jpg", ".png") and not path.name.startswith("._")
    )
    if not files:
        raise TableError(str(folder), "holds no NORMAL or PNEUMONIA images", mend="name the unpacked data set")
    pairs: dict[str, dict[str, str]] = {}
    skipped = []
    if (folder / "pairs.csv").is_file():
        lines = read_csv(folder / "pairs.csv", columns=("image", "mask", "how", "patient_id")).to_dict("records")
        named = {str(line["image"]): {str(key): str(cell) for key, cell in line.items()} for line in lines}
        pairs = join_by_name(files, named, what="pairs.csv", unmatched="leave")
        skipped = [Skipped(name, "is in pairs.csv but not in the folder") for name in sorted(set(named) - set(pairs))]
    rows = []
    for name in files:
        patient = _patient(Path(name).stem)
        if patient is None:
            skipped.append(Skipped(name, "has a name that tells no patient"))
            continue
        rows.append(_row(folder, name, patient, pairs.get(name), skipped))
    return StudyTable.from_rows(_without_torn_split(rows), root=folder, skipped=skipped)


def _row(folder: Path, name: str, patient: str, pair: dict[str, str] | None, skipped: list[Skipped]) -> StudyRow:
    path = Path(name)
    pneumonia = path.parent.name == "PNEUMONIA"
    notes = [PEDIATRIC]
    cause = re.search(r"_(bacteria|virus)", path.stem)
    if pneumonia and cause:
        notes.append(f"cause: {cause[1]}")
    mask = ""
    if pair is not None:
        if not is_there(folder / pair["mask"]):
            skipped.append(Skipped(pair["mask"], "is a mask in pairs.csv but not in the folder; the image is kept"))
        else:
            mask = pair["mask"]
            notes.append(f"mask paired by {pair['how']}")
    part = path.parts[-3] if len(path.parts) >= 3 and path.parts[-3] in ("train", "val", "test") else ""
    return StudyRow(
        f"kermany-{path.stem}", f"kermany-{patient}", name, "kermany", view="AP", official_split=part,
        license=SOURCES["kermany"].licence,
        labels={"Pneumonia": float(pneumonia)}, masks={"lungs": mask}, notes=tuple(notes),
    )


def _without_torn_split(rows: list[StudyRow]) -> list[StudyRow]:
    """`rows`, without the publisher's parts where these tear a patient apart."""
    from dataclasses import replace

    parts: dict[str, set[str]] = {}
    for row in rows:
        parts.setdefault(row.patient_id, set()).add(row.official_split)
    if all(len(found) == 1 for found in parts.values()):
        return rows
    return [
        replace(row, official_split="", notes=(*row.notes, f"publisher's folder: {row.official_split or 'none'}"))
        for row in rows
    ]


def _patient(stem: str) -> str | None:
    person = re.match(r"person(\d+)_", stem)
    if person:
        return f"person{int(person[1])}"
    normal = re.search(r"IM-(\d+)-", stem)
    return f"IM-{normal[1]}" if normal else None
