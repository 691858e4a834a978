"""CheXmask: lung and heart masks of published films as run lengths, joined to the films by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from storyxai.data.masks import encode_runs, fill_runs
from storyxai.data.reading import image_files, number, read_csv, require_folder
from storyxai.data.sources import SOURCES
from storyxai.data.table import Skipped, StudyRow, StudyTable
from storyxai.errors import TableError

NAME_COLUMNS = ("Image Index", "dicom_id", "image_id", "ImageID", "Path", "SOPInstanceUID")
STRUCTURES: Mapping[str, str] = {"left_lung": "Left Lung", "right_lung": "Right Lung", "heart": "Heart"}
SMALLEST_QUALITY = 0.7


def read_chexmask(folder: Path) -> StudyTable:
    """One row per film below the folder that a CheXmask CSV names, with left lung, right lung and heart masks.

    The CSVs (`ChestX-Ray8.csv`, `MIMIC-CXR-JPG.csv`, `Padchest.csv`, `VinDr-CXR.csv`, `CheXpert.csv`, ...) name
    the film in one of `Image Index`, `dicom_id`, `image_id`, `ImageID`, `Path`, `SOPInstanceUID`, give `Height` and
    `Width`, and per structure runs "start length ..." that count from 1, row by row. Masks were drawn by a network, not
    by hand: `notes` gives its own quality estimate (Dice RCA), below 0.7 as doubtful. Nothing else is stated, and no
    patient is told: join these rows to those of the film's own set, or keep them for segmentation alone.
    Source: Gaggion et al., Scientific Data 2024;11:511; physionet.org/content/chexmask-cxr-segmentation-data. Raises:
    TableError, also for runs outside the picture.
    """
    require_folder(folder)
    images = {Path(name).stem: name for name in image_files(folder)}
    rows, skipped = [], []
    tables = [path for path in sorted(folder.glob("**/*.csv")) if "Left Lung" in _head(path)]
    if not tables:
        raise TableError(str(folder), "holds no CheXmask CSV", mend="put it beside the images")
    for path in tables:
        frame = read_csv(path, columns=(*STRUCTURES.values(), "Height", "Width"))
        key = next((name for name in NAME_COLUMNS if name in frame.columns), None)
        if key is None:
            raise TableError(path.name, "has no column of image names", mend=f"use one of {', '.join(NAME_COLUMNS)}")
        for line in frame.to_dict("records"):
            cells = {str(name): str(cell) for name, cell in line.items()}
            stem = Path(cells[key]).stem
            if stem not in images:
                skipped.append(Skipped(cells[key], f"is in {path.name} but not in the folder"))
            else:
                rows.append(_row(stem, images[stem], cells))
    return StudyTable.from_rows(rows, root=folder, skipped=skipped)


def _row(stem: str, image: str, cells: Mapping[str, str]) -> StudyRow:
    runs = {key: _mask(cells, column, stem) for key, column in STRUCTURES.items()}
    quality = number(cells.get("Dice RCA (Mean)", ""))
    doubt = " (doubtful)" if quality < SMALLEST_QUALITY else ""
    return StudyRow(
        f"chexmask-{stem}", f"chexmask-{stem}", image, "chexmask", license=SOURCES["chexmask"].licence,
        masks=runs, notes=("masks by a network", f"its own estimate of their Dice {quality:g}{doubt}"),
    )


def _mask(cells: Mapping[str, str], column: str, stem: str) -> str:
    if not cells[column].strip():
        return ""
    try:
        numbers = [int(word) for word in cells[column].split()]
        height, width = int(float(cells["Height"])), int(float(cells["Width"]))
    except (ValueError, OverflowError) as error:
        raise TableError(stem, f"has '{column}' runs or a size that are no numbers", mend="fetch it again") from error
    starts = [start - 1 for start in numbers[0::2]]
    return encode_runs(fill_runs(starts, numbers[1::2], height=height, width=width, what=f"{stem} {column}"))


def _head(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.readline(10_000).decode("utf-8", errors="replace")
