"""The COVID-19 image data collection: cases from publications, with lung masks, lesion masks and case notes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from storyxai.data.reading import age_of, is_there, read_csv, require_folder
from storyxai.data.sources import SOURCES, may_be_passed_on
from storyxai.data.table import Skipped, StudyRow, StudyTable
from storyxai.imaging.views import view_of

# Names of older releases; newer ones say "Pneumonia/Viral/COVID-19". ARDS and lipoid changes are no pneumonia by name.
PNEUMONIAS = frozenset({
    "COVID-19", "SARS", "MERS", "Streptococcus", "Pneumocystis", "Klebsiella", "E.Coli", "Legionella", "Varicella",
    "Influenza", "Herpes", "Chlamydophila", "Nocardia", "Aspergillosis", "Mycoplasma Bacterial Pneumonia",
})
LESIONS: Mapping[str, str] = {
    "consolidation": "Consolidation", "pleural_effusion": "Effusion", "pneumothorax": "Pneumothorax",
}


def read_covid(folder: Path) -> StudyTable:
    """One row per radiograph of `metadata.csv` whose image is under `images/` (published name, or its stem as .jpg).

    Labels: a kind of pneumonia makes Pneumonia 1, "No Finding" makes it 0; both are diagnoses of the case, not readings
    of this image, and `notes` says so. A lesion mask of consolidation, effusion or pneumothorax makes that finding 1;
    an image without lesion masks is unannotated. All else is not stated; "todo" and ARDS alone state nothing.
    Masks: `masks/<stem>.png` (255 lung, 127 ignore), `lesions/<stem>__<class>.png`. Case notes go to `notes`, for they
    are no reports. License is per image, empty where none is given. CT slices are skipped.
    Source: Cohen et al., arXiv:2003.11597 and arXiv:2006.11988. Raises: TableError.
    """
    require_folder(folder, "metadata.csv", "images")
    frame = read_csv(folder / "metadata.csv", columns=(
        "patientid", "sex", "age", "finding", "view", "modality", "filename", "license", "clinical_notes",
    ))
    lesions = _lesion_masks(folder)
    rows, skipped, seen = [], [], set()
    for cells in frame.to_dict("records"):
        name = str(cells["filename"])
        stem = Path(name).stem
        image = next((f"images/{file}" for file in (name, f"{stem}.jpg") if is_there(folder / "images" / file)), "")
        if cells["modality"] != "X-ray":
            skipped.append(Skipped(name, f"is no radiograph (modality {cells['modality'] or 'not stated'})"))
        elif not image:
            skipped.append(Skipped(name, "is in metadata.csv but not in the folder"))
        else:
            seen.add(stem)
            rows.append(_row(folder, {str(key): str(cell) for key, cell in cells.items()}, stem, image, lesions))
    strays = sorted(path.name for path in (folder / "images").iterdir() if path.stem not in seen)
    skipped += [Skipped(name, "is an image without a line for a radiograph in metadata.csv") for name in strays
                if name not in {item.what for item in skipped}]
    return StudyTable.from_rows(rows, root=folder, skipped=skipped)


def read_covid_cc_by(folder: Path) -> StudyTable:
    """The rows of `read_covid` whose own licence is CC BY, without a condition beside attribution; the rest is skipped.

    Raises: TableError.
    """
    table = read_covid(folder)
    free = np.array([may_be_passed_on(SOURCES["covid-cc-by"], [licence]) is True for licence in table.frame["license"]], bool)
    others = table.frame[~free]
    skipped = [
        Skipped(str(name), f"is not under CC BY but under '{licence}'" if licence else "comes without a licence")
        for name, licence in zip(others["image_id"], others["license"], strict=True)
    ]
    return replace(table.select(rows=free), skipped=(*table.skipped, *skipped))


def _row(
    folder: Path, cells: Mapping[str, str], stem: str, image: str, lesions: Mapping[str, dict[str, str]]
) -> StudyRow:
    mine = lesions.get(stem, {})
    labels = {LESIONS[name]: 1.0 for name in mine if name in LESIONS}
    notes = []
    pneumonia = _pneumonia(cells["finding"])
    if pneumonia is not None:
        labels["Pneumonia"] = pneumonia
        notes.append(f"label from the case's diagnosis ({cells['finding']}), not from a reading of this image")
    elif cells["finding"]:
        notes.append(f"diagnosis of the case: {cells['finding']}")
    if cells["view"] not in ("PA", "AP", ""):
        notes.append(f"view: {cells['view']}")
    case_note = " ".join(cells["clinical_notes"].split())
    if case_note:
        notes.append(f"case note: {case_note}")
    mask = f"masks/{stem}.png"
    return StudyRow(
        f"covid-{stem}", f"covid-{cells['patientid']}", image, "covid", view=view_of(cells["view"]),
        sex=cells["sex"] if cells["sex"] in ("M", "F") else "", age_years=age_of(cells["age"]),
        license=cells["license"].strip(), labels=labels,
        masks={"lungs": mask if (folder / mask).is_file() else "", **mine}, notes=tuple(notes),
    )


def _pneumonia(finding: str) -> float | None:
    parts = [part.strip() for part in re.split(r"[,/]", finding)]
    if any(part in PNEUMONIAS or part == "Pneumonia" for part in parts):
        return 1.0
    return 0.0 if finding == "No Finding" else None


def _lesion_masks(folder: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for path in sorted((folder / "lesions").glob("*__*.png")):
        stem, _, name = path.stem.rpartition("__")
        found.setdefault(stem, {})[name] = f"lesions/{path.name}"
    return found
