"""Folders that `storyxai data phantom` writes: synthetic radiographs whose every fact is known."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TypedDict

from storyxai.data.reading import age_of, is_there, read_json, require_folder
from storyxai.data.table import BoxNote, Skipped, StudyRow, StudyTable, TableSchema
from storyxai.errors import TableError
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.modalities.contract import Modality
from storyxai.modalities.registry import DEFAULT_MODALITY, modality_named


class PhantomBox(TypedDict):
    """A finding's box on a phantom, in its pixels."""

    finding: str
    x: float
    y: float
    width: float
    height: float


class PhantomRecord(TypedDict):
    """A phantom in phantoms.json; those of the default modality have a view, a person and a measurement too."""

    patient_id: str
    labels: dict[str, float]
    boxes: list[PhantomBox]
    report: list[str]
    view: str
    sex: str
    age_years: float
    cardiothoracic_ratio: float


def read_phantom(folder: Path) -> StudyTable:
    """One row per phantom: labels of the findings a phantom can have, boxes, masks and the reference report.

    Findings that no phantom has are not stated. The report's sentences stand in `findings_text`, one a line.
    Raises: TableError when phantoms.json is missing or of another format.
    """
    require_folder(folder, "phantoms.json", "images")
    content = read_json(folder / "phantoms.json")
    try:
        if content["format"] != 1:
            raise TableError("phantoms.json", f"is of format {content['format']}", mend="write the phantoms again")
        size = float(content["size"])
        records = list(content["phantoms"])
        made = [(str(record["id"]), record) for record in records]
        gone = [name for name, _ in made if not is_there(folder / "images" / f"{name}.png")]
        skipped = [Skipped(f"{name}.png", "is in phantoms.json but not in the folder") for name in gone]
        kind = modality_named(content.get("modality") or DEFAULT_MODALITY)
        row = _row if kind.key == DEFAULT_MODALITY else partial(_other_row, kind)
        rows = [row(folder, name, record, size) for name, record in made if name not in set(gone)]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise TableError("phantoms.json", f"is not a list of phantoms ({error})", mend="write them again") from error
    return StudyTable.from_rows(rows, root=folder, skipped=skipped, schema=TableSchema.of(kind))


def _other_row(kind: Modality, folder: Path, name: str, record: PhantomRecord, size: float) -> StudyRow:
    """A phantom of another modality than the default one: its structures lie with its lesions."""
    named = {key: f"masks/{name}_{key}.png" for key in kind.structure_names}
    named |= {finding: f"lesions/{name}__{finding}.png" for finding in sorted(record["labels"])}
    return StudyRow(
        name, str(record["patient_id"]), f"images/{name}.png", "phantom", license="synthetic",
        labels={key: float(value) for key, value in record["labels"].items() if key in kind.names},
        boxes=_boxes(record, size), masks={key: path for key, path in named.items() if (folder / path).is_file()},
        findings_text="\n".join(record["report"]),
    )


def _boxes(record: PhantomRecord, size: float) -> tuple[BoxNote, ...]:
    return tuple(
        BoxNote(
            str(box["finding"]), float(box["x"]), float(box["y"]), float(box["width"]), float(box["height"]),
            size, size, source="phantom",
        )
        for box in record["boxes"]
    )


def _row(folder: Path, name: str, record: PhantomRecord, size: float) -> StudyRow:
    masks = {key: f"masks/{name}_{key}.png" for key in ("left_lung", "right_lung", "heart")}
    masks = {key: path if (folder / path).is_file() else "" for key, path in masks.items()}
    labels = {key: float(value) for key, value in record["labels"].items() if key in NAMES}
    lesions = {
        finding: f"lesions/{name}__{finding}.png" for finding in sorted(labels)
        if (folder / "lesions" / f"{name}__{finding}.png").is_file()
    }
    return StudyRow(
        name, str(record["patient_id"]), f"images/{name}.png", "phantom", view=str(record["view"]),
        sex=str(record["sex"]), age_years=age_of(str(record["age_years"])), license="synthetic", labels=labels,
        boxes=_boxes(record, size),
        boxes_complete=True, masks={**masks, **lesions}, findings_text="\n".join(record["report"]),
        notes=(f"cardiothoracic ratio {record['cardiothoracic_ratio']}",),
    )
