"""From a study table to an index of a model's features, in which `tell` looks for the most similar images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from storyxai.data.opening import OpenedRow, open_row
from storyxai.data.table import Skipped, StudyTable, read_table
from storyxai.errors import InputError, UnknownNameError
from storyxai.evidence.gather import modality_for
from storyxai.evidence.neighbours import ABSENT, NOT_STATED, PRESENT, build_index, image_key, index_bytes
from storyxai.evidence.predict import view_of
from storyxai.explain.contract import ExplainedModel
from storyxai.explain.tcav import pooled_features
from storyxai.files import write_whole
from storyxai.programs.models import SHIPPED_MODEL, ModelChoice, open_model
from storyxai.programs.places import output_file
from storyxai.progress import Progress
from storyxai.provenance import sha256_bytes

PARTS = ("train", "val", "test", "all")


@dataclass(frozen=True)
class IndexBuilt:
    """Where the index lies, how many images it holds, its size in bytes, and what could not be read, with why."""

    path: Path
    images: int
    size: int
    left_out: tuple[str, ...]


def build_neighbours(
    table: Path, out: Path, model: ModelChoice = SHIPPED_MODEL, *, split: str = "train", progress: Progress | None = None
) -> IndexBuilt:
    """Look at each image of the table's part `split` and write their index to `out`.

    Raises: UnknownNameError for a part; InputError for a model that cannot be looked into or a part of fewer than two images.
    """
    if split not in PARTS:
        raise UnknownNameError("split", split, PARTS)
    with output_file(out):
        opened, rows = open_model(model), read_table(table)
        chosen = rows if split == "all" else rows.select(split=split)
        if len(chosen) < 2:
            parts = ", ".join(sorted(set(map(str, rows.frame["split"])) - {""})) or "none"
            why = f"has {len(chosen)} images in '{split}' (its parts: {parts})"
            raise InputError(str(table), why, mend="choose another --split")
        features, keys, kept, left_out = _looked(opened, chosen, progress)
        labels = _labels(opened, chosen)[kept]
        index = build_index(
            opened, np.stack(features), labels, np.array(keys, dtype=np.uint64), part=split,
            table_sha256=sha256_bytes(table.read_bytes()),
        )
        written = index_bytes(index)
        write_whole(written, out)
    return IndexBuilt(out, len(index), len(written), tuple(left_out))


def _looked(
    model: ExplainedModel, table: StudyTable, progress: Progress | None
) -> tuple[list[np.ndarray], list[int], list[int], list[str]]:
    """Features and hash key of each image that can be read, its row, and why others cannot."""
    features: list[np.ndarray] = []
    keys: list[int] = []
    kept: list[int] = []
    left_out: list[str] = []
    acquisition = modality_for(model).acquisition
    for number, row in enumerate({str(k): v for k, v in one.items()} for one in table.frame.to_dict("records")):
        lacking = Skipped(str(row["image_id"]), "has no image", "")
        found = open_row(table, row, acquisition=acquisition) if row["image"] else lacking
        if isinstance(found, OpenedRow):
            look = model.look(view_of(model, found.image)[0], (0,))
            if look is None:
                raise InputError("neighbours", "need features, which this model does not show", mend="open it as a TorchModel")
            features.append(pooled_features(look))
            keys.append(image_key(found.image.sha256))
            kept.append(number)
        else:
            left_out.append(f"{found.what}: {found.why}")
        if progress:
            progress("looking", number + 1, len(table))
    if not features:
        raise InputError("table", "has no image that can be read", mend="look at its paths")
    return features, keys, kept, left_out


def _labels(model: ExplainedModel, table: StudyTable) -> np.ndarray:
    """What the table states of each of the model's findings, uint8 [N, F]; a finding that it does not know is not stated."""
    stated, match = table.labels(), modality_for(model).match
    columns = {name: i for i, name in enumerate(stated.findings)}
    labels = np.full((len(table), len(model.findings)), NOT_STATED, dtype=np.uint8)
    for column, finding in enumerate(model.findings):
        known = columns.get(finding, columns.get(match(finding) or ""))
        if known is not None:
            values = stated.values[:, known]
            labels[values >= 0.5, column] = PRESENT
            labels[values < 0.5, column] = ABSENT
    return labels
