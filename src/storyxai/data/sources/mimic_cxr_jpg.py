"""MIMIC-CXR-JPG: images, labels mined from reports, the official split, and reports where they are there too."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path

import pandas as pd

from storyxai.data.labels import labels_from_codes
from storyxai.data.reading import code_of, image_files, read_csv, refuse_rounded_id, report_text, require_folder, whole_id
from storyxai.data.reports import ReportSections, report_sections, unsectioned
from storyxai.data.sources import SOURCES
from storyxai.data.table import Skipped, StudyRow, StudyTable
from storyxai.errors import TableError
from storyxai.imaging.views import view_of

LARGEST_REPORT_BYTES = 1_000_000
SPLITS: Mapping[str, str] = {"train": "train", "validate": "val", "test": "test"}


def read_mimic_cxr_jpg(folder: Path) -> StudyTable:
    """One row per image of `mimic-cxr-2.0.0-metadata.csv.gz` (or .csv) that is below the folder.

    Labels by study from `mimic-cxr-2.0.0-chexpert.csv.gz` (1, 0, -1 uncertain, blank not stated); split from
    `mimic-cxr-2.0.0-split.csv.gz`. Files are found by name (`<dicom_id>.jpg`, report `s<study_id>.txt`), never by a
    path made of ids; each image is checked to lie in its own study's folder where there is one. Sex and age are not in
    this set. Source: physionet.org/content/mimic-cxr-jpg. Raises: TableError.
    """
    require_folder(folder)
    meta = _table(folder, "metadata", ("dicom_id", "subject_id", "study_id", "ViewPosition"))
    stated = _by_study(_table(folder, "chexpert", ("subject_id", "study_id")))
    split = _table(folder, "split", ("dicom_id", "split"))
    part_of = dict(zip(split["dicom_id"], split["split"], strict=True))
    images = {Path(name).stem: name for name in image_files(folder)}
    reports = {path.stem: path for path in folder.glob("**/s*.txt")}
    rows, skipped = [], []
    told: dict[str, ReportSections] = {}
    for cells in meta.to_dict("records"):
        dicom, subject, study = (whole_id(str(cells[key])) for key in ("dicom_id", "subject_id", "study_id"))
        image = images.get(dicom)
        if image is None:
            skipped.append(Skipped(dicom, "is in the metadata but not in the folder"))
            continue
        home = Path(image).parent.name
        if re.fullmatch(r"s\d+", home) and home != f"s{study}":
            raise TableError(image, f"lies in the folder of another study than its metadata say (s{study})",
                             mend="fetch the image again")
        labels, uncertain, others = labels_from_codes(stated.get(study, {}))
        report = told.get(study)
        if report is None:
            report = told[study] = _report(reports.get(f"s{study}"), skipped)
        rows.append(StudyRow(
            f"mimic-s{study}", f"mimic-p{subject}", image, "mimic-cxr-jpg", image_id=f"mimic-{dicom}",
            view=_view(cells), license=SOURCES["mimic-cxr-jpg"].licence,
            official_split=SPLITS.get(part_of.get(dicom, ""), ""), labels=labels, uncertain=uncertain,
            findings_text=report.findings, impression_text=report.impression,
            notes=(*(f"also stated: {name}" for name in others), *report.notes()),
        ))
    return StudyTable.from_rows(rows, root=folder, skipped=skipped)


def _view(cells: Mapping[Hashable, str]) -> str:
    """The header's View Position; where it states none, the meaning of its View Code Sequence."""
    stated = view_of(cells["ViewPosition"])
    return view_of(str(cells.get("ViewCodeSequence_CodeMeaning", ""))) if stated == "unknown" else stated


def _table(folder: Path, kind: str, columns: tuple[str, ...]) -> pd.DataFrame:
    names = sorted(path for path in folder.glob(f"mimic-cxr-*-{kind}.csv*") if path.suffix in (".csv", ".gz"))
    if not names:
        raise TableError(str(folder), f"holds no mimic-cxr-2.0.0-{kind}.csv.gz", mend="fetch it beside the images")
    frame = read_csv(names[0], columns=columns)
    for column in ("subject_id", "study_id"):
        for line, cell in enumerate(frame.get(column, ()), start=2):
            refuse_rounded_id(cell, f"{names[0].name}, line {line}")
    return frame


def _by_study(frame: pd.DataFrame) -> dict[str, dict[str, float]]:
    rows = frame.to_dict("records")
    found = {
        whole_id(str(cells["study_id"])): {
            str(key): code_of(str(cell), f"the chexpert table, line {line}", str(key))
            for key, cell in cells.items() if key not in ("subject_id", "study_id")
        }
        for line, cells in enumerate(rows, start=2)
    }
    if len(found) < len(rows):
        raise TableError("the chexpert table", "names a study twice", mend="fetch the file again")
    return found


def _report(path: Path | None, skipped: list[Skipped]) -> ReportSections:
    """The report's sections; text that stands in none is counted in `skipped` and kept in the row's notes."""
    if path is None:
        return ReportSections("", "", (), "")
    if path.stat().st_size > LARGEST_REPORT_BYTES:
        skipped.append(Skipped(path.name, "is a report larger than 1 MB; its images are kept"))
        return ReportSections("", "", (), "")
    try:
        found = report_sections(report_text(path.read_bytes()))
    except TableError as error:
        skipped.append(Skipped(path.name, f"is a report that {error.why}; its images are kept", error.mend))
        return ReportSections("", "", (), "")
    if found.unsectioned:
        skipped.append(unsectioned(path.name, found))
    return found
