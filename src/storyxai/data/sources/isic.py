"""HAM10000 and the ISIC challenges: dermoscopic pictures with a diagnosis each, outlines where they were published."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from storyxai.data.reading import age_of, is_there, read_csv, require_folder
from storyxai.data.sources import SOURCES
from storyxai.data.table import Skipped, StudyRow, StudyTable, TableSchema
from storyxai.errors import TableError
from storyxai.modalities.registry import modality_named

_SEX = {"male": "M", "female": "F"}


def read_ham10000(folder: Path) -> StudyTable:
    """One row per picture of `HAM10000_metadata.csv` (or without the ending): melanoma or not, by `dx`.

    Pictures lie in `HAM10000_images_part_1`, `_part_2` or `images`; outlines, where they are, in
    `HAM10000_segmentations_lesion_tvt` or `masks` as `<image>_segmentation.png`. A `lesion_id` is taken for the patient:
    several pictures of one lesion stay together. Criteria and atypical naevi are not stated. Source: Harvard Dataverse,
    doi 10.7910/DVN/DBW86T. Raises: TableError.
    """
    require_folder(folder)
    file = next((name for name in ("HAM10000_metadata.csv", "HAM10000_metadata") if is_there(folder / name)), "")
    if not file:
        raise TableError(str(folder), "holds no HAM10000_metadata.csv", mend="name the folder of the unpacked data set")
    lines = read_csv(folder / file, columns=("lesion_id", "image_id", "dx")).to_dict("records")
    cells = [{str(key): str(cell).strip() for key, cell in line.items()} for line in lines]
    told = [(one["image_id"], one["lesion_id"], float(one["dx"] == "mel"), one) for one in cells]
    return _table(
        folder,
        "ham10000",
        told,
        ("HAM10000_images_part_1", "HAM10000_images_part_2", "images"),
        ("HAM10000_segmentations_lesion_tvt", "masks"),
    )


def read_isic(folder: Path) -> StudyTable:
    """One row per picture of an ISIC ground truth table (`*GroundTruth.csv` with `image` and `MEL`, as of 2018 and 2019).

    Pictures lie in the folder whose name ends in `Input` or in `images`; outlines in `masks` as `<image>_segmentation.png`.
    Where `*Metadata.csv` names a `lesion_id`, pictures of one lesion stay together. Raises: TableError.
    """
    require_folder(folder)
    tables = sorted(path.name for path in folder.glob("*GroundTruth.csv"))
    if not tables:
        raise TableError(str(folder), "holds no table ...GroundTruth.csv", mend="name the folder of the unpacked challenge")
    lines = read_csv(folder / tables[0], columns=("image", "MEL")).to_dict("records")
    about: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob("*etadata.csv")):
        about |= {
            str(one["image"]): {str(k): str(v).strip() for k, v in one.items()}
            for one in read_csv(path, columns=("image",)).to_dict("records")
        }
    told = []
    for line in lines:
        name, known = str(line["image"]), about.get(str(line["image"]), {})
        told.append((name, known.get("lesion_id") or name, _truth(str(line["MEL"]), name), known))
    inputs = sorted(path.name for path in folder.glob("*Input") if path.is_dir())
    return _table(folder, "isic", told, (*inputs, "images"), ("masks",))


def _truth(cell: str, name: str) -> float:
    try:
        return float(float(cell) >= 0.5)
    except ValueError as error:
        raise TableError(name, f"has '{cell}' under MEL", mend="use 1 or 0") from error


def _table(
    folder: Path,
    source: str,
    told: list[tuple[str, str, float, dict[str, str]]],
    images: tuple[str, ...],
    masks: tuple[str, ...],
) -> StudyTable:
    rows, skipped = [], []
    for name, lesion, melanoma, about in told:
        image = next((f"{part}/{name}.jpg" for part in images if is_there(folder / part / f"{name}.jpg")), "")
        if not image:
            skipped.append(Skipped(name, "is in the table but not in the folder"))
            continue
        mask = next((path for part in masks if is_there(folder / (path := f"{part}/{name}_segmentation.png"))), "")
        rows.append(
            StudyRow(
                f"{source}-{name}",
                f"{source}-{lesion}",
                image,
                source,
                license=SOURCES[source].licence,
                sex=_SEX.get(about.get("sex", ""), ""),
                age_years=_age(about),
                labels={"Melanoma": melanoma},
                masks={"lesion": mask} if mask else {},
            )
        )
    schema = TableSchema.of(modality_named("dermoscopy"))
    return StudyTable.from_rows(rows, root=folder, skipped=skipped, schema=schema)


def _age(about: Mapping[str, str]) -> float:
    stated = next((about[key] for key in ("age", "age_approx") if about.get(key)), "")
    return age_of(stated) if stated else math.nan
