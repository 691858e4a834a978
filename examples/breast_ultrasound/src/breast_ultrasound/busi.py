"""BUSI, a published set of breast ultrasound pictures, as a table of studies."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from breast_ultrasound.modality import BREAST_ULTRASOUND
from storyxai.data.sources import Source
from storyxai.data.table import Skipped, StudyRow, StudyTable, TableSchema
from storyxai.errors import TableError

__all__ = ["BUSI", "read_busi"]

CLASSES = {
    "benign": {"Benign_mass": 1.0, "Malignant_mass": 0.0}, "malignant": {"Benign_mass": 0.0, "Malignant_mass": 1.0},
    "normal": {"Benign_mass": 0.0, "Malignant_mass": 0.0},
}
"""What the class of a picture says of each finding."""


def read_busi(folder: Path) -> StudyTable:
    """One row a picture: its class as two labels, and its outline of the mass (an empty one says that there is none).

    Read are the published folders (`benign/benign (1).png`, `benign/benign (1)_mask.png`, ...) or a list `busi.csv` with
    the columns image, group, class and lesion_mask, where `group` joins pictures that are nearly alike. The set publishes
    no patients: a group, or without groups a picture, stands for one. Raises: TableError.
    """
    listed = folder / "busi.csv"
    rows, skipped = [], []
    for image, group, kind, mask in _of_list(listed) if listed.is_file() else _of_folders(folder):
        if kind not in CLASSES:
            raise TableError(str(folder), f"has the class '{kind}'", mend=f"known: {', '.join(CLASSES)}")
        if not (folder / image).is_file():
            skipped.append(Skipped(image, "is named but not in the folder"))
            continue
        if mask and not (folder / mask).is_file():
            skipped.append(Skipped(mask, "is a mask that is not in the folder; the image is kept"))
            mask = ""
        name = f"busi-{Path(image).stem.replace(' ', '')}"
        rows.append(StudyRow(
            name, f"busi-{group}", image, "busi", labels=CLASSES[kind], masks={"mass": mask}, notes=(f"class {kind}",),
        ))
    if not rows:
        raise TableError(str(folder), "holds no picture of BUSI", mend="name the folder with benign/, malignant/ and normal/")
    return StudyTable.from_rows(rows, root=folder, skipped=skipped, schema=TableSchema.of(BREAST_ULTRASOUND))


def _of_list(path: Path) -> Iterator[tuple[str, str, str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            try:
                yield line["image"], line["group"], line["class"], line["lesion_mask"]
            except KeyError as error:
                raise TableError(path.name, f"lacks the column {error}", mend="fetch the list again") from error


def _of_folders(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    for kind in CLASSES:
        for path in sorted((folder / kind).glob("*.png")):
            if re.search(r"_mask(_\d+)?$", path.stem) is None:
                mask = path.with_name(f"{path.stem}_mask.png")
                yield f"{kind}/{path.name}", path.stem.replace(" ", ""), kind, f"{kind}/{mask.name}" if mask.is_file() else ""


BUSI = Source(
    "busi", "BUSI, breast ultrasound pictures (Al-Dhabyani et al. 2020)", read_busi,
    citation="Al-Dhabyani W et al., Data in Brief 2020;28:104863",
    limits=(
        "BUSI's pictures are of 600 women of one hospital, chosen for what they show, and publish no patients.",
        "BUSI holds near duplicates and pictures with text and marks on them.",
    ),
    weights_may_be_shipped=False,
)
