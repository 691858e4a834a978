"""PH2: dermoscopic pictures of 200 pigmented lesions with outlines, diagnosis and criteria (Hospital Pedro Hispano)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from storyxai.data.reading import is_there, read_csv, require_folder
from storyxai.data.sources import SOURCES
from storyxai.data.table import Skipped, StudyRow, StudyTable, TableSchema
from storyxai.errors import TableError
from storyxai.modalities.dermoscopy.findings import NAMES
from storyxai.modalities.registry import modality_named

_CRITERIA: Mapping[str, tuple[str, frozenset[str]]] = {
    "Atypical_Network": ("pigment_network", frozenset({"AT"})),
    "Dots_Globules": ("dots_globules", frozenset({"T", "AT"})),
    "Streaks": ("streaks", frozenset({"P"})),
    "Regression": ("regression_areas", frozenset({"P"})),
    "Blue_Whitish_Veil": ("blue_whitish_veil", frozenset({"P"})),
    "Asymmetry": ("asymmetry", frozenset({"1", "2"})),
}
"""By finding the column that states it, and the values that say it is there."""
_KNOWN = frozenset({"A", "P", "T", "AT", "0", "1", "2"})
_DIAGNOSES = ("common_nevus", "atypical_nevus", "melanoma")
_COLOURS = ("white", "red", "light_brown", "dark_brown", "blue_gray", "black")


def read_ph2(folder: Path) -> StudyTable:
    """One row per picture: diagnosis and criteria as labels, the lesion's outline, the colours that readers saw as a note.

    Read are `PH2_dataset.csv` (image, diagnosis, criteria, colours; the published table saved as CSV), `images/IMD*.jpg` (or
    .bmp saved as .png) and `masks/IMD*.png`. Asymmetry is present from one axis on; dots and globules whether typical or not.
    The set names no patients: each picture is taken for a patient of its own.
    Raises: TableError when the table is missing or states what is not known.
    """
    require_folder(folder, "PH2_dataset.csv", "images")
    columns = ("image", "diagnosis", *(column for column, _ in _CRITERIA.values()))
    lines = read_csv(folder / "PH2_dataset.csv", columns=columns).to_dict("records")
    rows, skipped = [], []
    for line in lines:
        cells = {str(key): str(cell).strip() for key, cell in line.items()}
        pictures = (f"images/{cells['image']}{suffix}" for suffix in (".jpg", ".png"))
        image = next((path for path in pictures if is_there(folder / path)), "")
        if image:
            rows.append(_row(folder, cells, image))
        else:
            skipped.append(Skipped(cells["image"], "is in PH2_dataset.csv but not in the folder"))
    schema = TableSchema.of(modality_named("dermoscopy"))
    return StudyTable.from_rows(rows, root=folder, skipped=skipped, schema=schema)


def _row(folder: Path, cells: Mapping[str, str], image: str) -> StudyRow:
    name, diagnosis = cells["image"], cells["diagnosis"]
    if diagnosis not in _DIAGNOSES:
        raise TableError(name, f"has the diagnosis '{diagnosis}'", mend=f"use one of {', '.join(_DIAGNOSES)}")
    labels = {"Melanoma": float(diagnosis == "melanoma"), "Atypical_Naevus": float(diagnosis == "atypical_nevus")}
    for finding, (column, present) in _CRITERIA.items():
        cell = cells[column]
        if cell and cell not in _KNOWN:
            raise TableError(name, f"has '{cell}' under {column}", mend=f"use one of {', '.join(sorted(_KNOWN))}")
        labels[finding] = float(cell in present) if cell else math.nan
    seen = [colour.replace("_", " ") for colour in _COLOURS if cells.get(colour) == "1"]
    mask = f"masks/{name}.png"
    drawn = {"lesion": mask} if is_there(folder / mask) else {}
    return StudyRow(
        f"ph2-{name}",
        f"ph2-{name}",
        image,
        "ph2",
        license=SOURCES["ph2"].licence,
        labels={finding: labels[finding] for finding in NAMES},
        masks=drawn,
        notes=(f"colours: {', '.join(seen)}",) if seen else (),
    )
