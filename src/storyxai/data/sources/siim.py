"""SIIM-ACR Pneumothorax: NIH films as DICOM, with outlines of pneumothorax as run lengths."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from storyxai.data.masks import encode_runs, fill_runs
from storyxai.data.reading import image_files, read_csv, require_folder, shown
from storyxai.data.sources import SOURCES
from storyxai.data.table import Skipped, StudyRow, StudyTable
from storyxai.errors import TableError
from storyxai.types import Mask

SIDE = 1024


def read_siim(folder: Path) -> StudyTable:
    """One row per image of `train-rle.csv` (or `stage_2_train.csv`): ImageId, EncodedPixels; one line an outline.

    The first release writes the head as "ImageId, EncodedPixels", with a blank; "-1" means no pneumothorax. Labels:
    Pneumothorax 1 or 0, nothing else. Outlines of one image are joined; the mask stands in `masks` as runs, in
    the 1024 frame. Images are DICOM anywhere below the folder (`dicom-images-train/<uid>/<uid>/<ImageId>.dcm`), found
    by name. No patient is told: each image counts as one. The films are NIH's. Images without a line are skipped.
    Source: SIIM-ACR Pneumothorax Segmentation, Kaggle 2019. Raises: TableError.
    """
    require_folder(folder)
    path = next((folder / name for name in ("train-rle.csv", "stage_2_train.csv") if (folder / name).is_file()), None)
    if path is None:
        raise TableError(str(folder), "holds no train-rle.csv", mend="name the unpacked data set")
    frame = read_csv(path, columns=("ImageId", "EncodedPixels"))
    outlines: dict[str, list[str]] = defaultdict(list)
    for name, text in zip(frame["ImageId"], frame["EncodedPixels"], strict=True):
        outlines[name.strip()].append(text.strip())
    images = {Path(name).stem: name for name in image_files(folder)}
    skipped = [Skipped(name, "is in the table but not in the folder") for name in sorted(set(outlines) - set(images))]
    skipped += [Skipped(images[name], "is an image without labels") for name in sorted(set(images) - set(outlines))]
    rows = []
    for name in sorted(set(outlines) & set(images)):
        texts = [text for text in outlines[name] if text not in ("-1", "")]
        if texts and len(texts) < len(outlines[name]):
            raise TableError(path.name, f"says that '{shown(name)}' has and has not a pneumothorax", mend="fetch it anew")
        mask = np.logical_or.reduce([relative_runs(text, side=SIDE, what=name) for text in texts]) if texts else None
        rows.append(StudyRow(
            f"siim-{name}", f"siim-{name}", images[name], "siim", license=SOURCES["siim"].licence,
            labels={"Pneumothorax": float(bool(texts))},
            masks={} if mask is None else {"pneumothorax": encode_runs(mask)},
        ))
    return StudyTable.from_rows(rows, root=folder, skipped=skipped)


def relative_runs(text: str, *, side: int, what: str) -> Mask:
    """The mask of runs whose starts count from the end of the last run, down the columns. Shapes: bool [side, side]."""
    try:
        numbers = [int(word) for word in text.split()]
    except ValueError as error:
        raise TableError(what, "has run lengths that are no whole numbers", mend="fetch the file again") from error
    gaps, lengths = numbers[0::2], numbers[1::2]
    starts, at = [], 0
    for gap, length in zip(gaps, lengths, strict=False):
        starts.append(at + gap)
        at += gap + length
    return np.ascontiguousarray(fill_runs(starts, lengths, height=side, width=side, what=what).T)
