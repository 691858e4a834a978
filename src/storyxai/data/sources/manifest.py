"""A table of one's own: CSV or Parquet with a line per image, in the columns of the study table."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd

from storyxai.data.masks import RUNS_PREFIX, decode_runs
from storyxai.data.reading import NOT_STATED, age_of, is_there, number, read_csv, refuse_rounded_id, shown
from storyxai.data.table import SPLITS, Skipped, StudyRow, StudyTable, TableSchema
from storyxai.errors import TableError, nearest_name
from storyxai.imaging.tags import age_years
from storyxai.imaging.views import known_view
from storyxai.modalities.contract import Modality
from storyxai.modalities.registry import modality_named

TEXTS = ("origin", "view", "sex", "license", "findings_text", "impression_text")
FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
MOST_NAMED = 60
TABLES = (".csv", ".gz", ".parquet")  # or, where none of these lies there, one of tabs
TRUTHS: Mapping[str, float] = {"true": 1.0, "false": 0.0}
IDS = ("patient_id", "study_id", "image_id")
# As people write them, in small letters.
SEXES: Mapping[str, str] = {"m": "M", "male": "M", "f": "F", "female": "F", "o": "", "other": "", "u": "", "unknown": ""}


def read_manifest(path: Path, *, modality: Modality | None = None) -> StudyTable:
    """One row per line of a CSV or Parquet file, or of the only one in a folder; paths start where that file lies.

    Columns: `image` and `patient_id` must be there. May be there: `study_id`, `image_id`, `source`, `split` (kept as
    the official one), `age_years`, the text columns of the study table, a column per finding of `modality` (None:
    the default one), by its name or a synonym or as label_<name>, with 1, 0, -1 (uncertain) or empty (not stated), and one
    per structure, <structure>_mask (left and right in one mask: the name of the modality's pair). Views and sexes may be
    written as people do (`data.views`, `SEXES`). Any other column is named in `skipped`, and so is a mask that is not there.
    An image that shares its study_id with another one is called by its path where it has no `image_id`.
    Raises: TableError naming the file, the line and the column.
    """
    path = _only_table(path) if path.is_dir() else path
    frame = _read(path)
    kind = modality or modality_named()
    labels = {column: found for column in frame.columns if (found := kind.match(column.removeprefix("label_")))}
    schema = TableSchema.of(kind)
    drawn = {column: name for column in frame.columns if (name := schema.drawn_as(column)) is not None}
    if len(set(labels.values())) < len(labels):
        twice = next(name for name in labels.values() if list(labels.values()).count(name) > 1)
        raise TableError(path.name, f"has two columns for {twice}", mend="keep one of them")
    known = {"image", "patient_id", "study_id", "image_id", "source", "split", "age_years", "notes", *TEXTS, *drawn}
    unused = [column for column in frame.columns if column not in known and column not in labels]
    skipped = _unused(unused, [*known, *kind.names, *(f"{name}_mask" for name in schema.drawn)])
    rows = []
    images_of = Counter(str(cell).strip() for cell in frame.get("study_id", ()))
    patient_of: dict[str, str] = {}
    spelling_of: dict[str, str] = {}
    owner_of: dict[str, str] = {}
    for line, cells in enumerate(frame.to_dict("records"), start=2):
        text = {str(key): str(cell).strip() for key, cell in cells.items()}
        if not any(text.values()):
            continue  # a line of commas, as spreadsheets leave them
        text["image"] = _as_on_disk(text["image"], path.parent)
        if not text["image"] or text["patient_id"].casefold() in NOT_STATED:
            raise TableError(f"{path.name}, line {line}", "has no image or no patient_id", mend="fill both in")
        for column in IDS:
            refuse_rounded_id(text.get(column, ""), f"{path.name}, line {line}")
        if not is_there(path.parent / text["image"]):
            skipped.append(Skipped(text["image"], "is in the table but not on disk"))
            continue
        text |= _masks(text, drawn, path.parent, skipped)
        if images_of[text.get("study_id", "")] > 1 and not text.get("image_id"):
            text["image_id"] = _stem(text["image"])
        row = _row(text, labels, f"{path.name}, line {line}")
        row = replace(row, masks={name: text[column] for column, name in drawn.items()})
        written = spelling_of.setdefault(_as_counted(row.patient_id), row.patient_id)
        if written != row.patient_id:
            why = f"has the patient '{shown(row.patient_id)}', whom an earlier line calls '{shown(written)}'"
            mend = "write one patient in one way (spreadsheets drop zeros in front and add '.0'; capitals and accents count)"
            raise TableError(f"{path.name}, line {line}", why, mend=mend)
        first = patient_of.setdefault(row.study_id, row.patient_id)
        if first != row.patient_id:
            why = f"has the patients '{shown(first)}' and '{shown(row.patient_id)}'"
            raise TableError(f"{path.name}, study '{shown(row.study_id)}'", why, mend="a study belongs to one patient")
        owner = owner_of.setdefault(os.path.normpath(path.parent / row.image), row.patient_id)
        if owner != row.patient_id:
            why = f"has a picture of the patient '{shown(owner)}' as one of '{shown(row.patient_id)}'"
            raise TableError(f"{path.name}, line {line}", why, mend="a picture belongs to one patient")
        rows.append(row)
    return StudyTable.from_rows(rows, root=path.parent, skipped=skipped, schema=schema)


def _unused(columns: Sequence[str], known: Sequence[str]) -> list[Skipped]:
    """That these columns are not used: one by one with the nearest known name, or of very many together."""
    if len(columns) > MOST_NAMED:
        first = ", ".join(f"'{shown(column)}'" for column in columns[:3])
        return [Skipped(f"{len(columns)} columns ({first}, ...)", "are not used")]
    nearest = ((column, nearest_name(column, known)) for column in columns)
    return [Skipped(f"column '{shown(column)}'", f"is not used; did you mean '{name}'?" if name else "is not used")
            for column, name in nearest]


def _as_on_disk(name: str, root: Path) -> str:
    """The path as a file there is called: another system may write backslashes, or letters and accents apart."""
    ways = [form for way in (name, name.replace("\\", "/")) for form in (way, *(unicodedata.normalize(f, way) for f in FORMS))]
    return next((way for way in ways if way and is_there(root / way)), name)


def _row(text: Mapping[str, str], labels: Mapping[str, str], where: str) -> StudyRow:
    values: dict[str, float] = {}
    uncertain = []
    for column, finding in labels.items():
        cell = text[column].casefold()
        value = TRUTHS.get(cell, number(cell))
        if value == -1:
            uncertain.append(finding)
        elif 0 <= value <= 1:
            values[finding] = value
        elif cell not in NOT_STATED:
            mend = "use 1, 0, -1 (uncertain) or nothing"
            raise TableError(where, f"has '{shown(text[column])}' under '{shown(column)}'", mend=mend)
    part = text.get("split", "")
    if part not in SPLITS:
        raise TableError(where, f"has the split '{shown(part)}'", mend="use train, val, test or nothing")
    age = text.get("age_years", "")
    if re.fullmatch(r"\d{3}[YMWD]", age):  # as DICOM writes it
        years = age_years(age)
        age = "" if years is None else str(years)
    if math.isnan(number(age)) and age.casefold() not in NOT_STATED:
        raise TableError(where, f"has '{shown(age)}' under 'age_years'", mend="give the years as a number, or nothing")
    notes = [text["notes"]] if text.get("notes") else []
    if math.isnan(age_of(age)) and not math.isnan(number(age)):
        notes.append(f"age '{shown(age)}' is not believed")
    study = text.get("study_id") or text.get("image_id") or _stem(text["image"])
    words = {name: text.get(name, "") for name in TEXTS}
    view = known_view("" if words["view"].casefold() in NOT_STATED else words["view"])
    if view is None:
        mend = "use PA, AP, LATERAL, OTHER, unknown or nothing"
        raise TableError(where, f"has '{shown(words['view'])}' under 'view'", mend=mend)
    sex = _meant(words["sex"], SEXES, where, "sex", "")
    return StudyRow(
        study, text["patient_id"], text["image"], text.get("source") or "manifest", image_id=text.get("image_id", ""),
        origin=words["origin"], view=view, sex=sex, age_years=age_of(age), official_split=part,
        license=words["license"], labels=values, uncertain=tuple(uncertain),
        findings_text=words["findings_text"], impression_text=words["impression_text"],
        notes=tuple(notes),
    )


def _meant(cell: str, known: Mapping[str, str], where: str, column: str, unstated: str) -> str:
    word = cell.casefold()
    if word in NOT_STATED:
        return unstated
    if word not in known:
        allowed = ", ".join(dict.fromkeys(value for value in known.values() if value))
        raise TableError(where, f"has '{shown(cell)}' under '{column}'", mend=f"use {allowed} or nothing")
    return known[word]


def _masks(text: Mapping[str, str], columns: Iterable[str], root: Path, skipped: list[Skipped]) -> dict[str, str]:
    """The row's mask cells, emptied where their file is not there. Raises: TableError for runs that are none."""
    cells = {}
    for column in columns:
        cell = text.get(column, "")
        if cell.startswith(RUNS_PREFIX):
            decode_runs(cell)
        elif cell and not is_there(root / cell):
            skipped.append(Skipped(cell, f"is the {column} of {text['image']} but not on disk; the image is kept"))
            cell = ""
        cells[column] = cell
    return cells


def _as_counted(patient: str) -> str:
    """The id without what spreadsheets, systems and hands write otherwise: "007", "7" and "7.0" are one, "P1" and "p1" too."""
    plain = " ".join(unicodedata.normalize("NFKC", patient).casefold().split())
    digits = re.fullmatch(r"0*([0-9]+)(?:\.0*)?", plain)
    return digits[1] if digits else plain


def _stem(image: str) -> str:
    return Path(image).with_suffix("").as_posix()


def _only_table(folder: Path) -> Path:
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    tables = [path for path in files if path.suffix.casefold() in TABLES]
    tables = tables or [path for path in files if path.suffix.casefold() == ".tsv"]
    if len(tables) != 1:
        raise TableError(str(folder), f"holds {len(tables)} tables", mend="name the CSV or Parquet file itself")
    return tables[0]


def _read(path: Path) -> pd.DataFrame:
    if path.suffix.casefold() != ".parquet":
        return read_csv(path, columns=("image", "patient_id"))
    import pyarrow as arrow

    try:
        frame = pd.read_parquet(path)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise TableError(path.name, "cannot be read as Parquet", mend="write it again, or use CSV") from error
    missing = [name for name in ("image", "patient_id") if name not in frame.columns]
    if missing:
        raise TableError(path.name, f"lacks the column '{missing[0]}'", mend="add it")
    return frame.astype(object).where(frame.notna(), "")
