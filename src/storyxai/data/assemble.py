"""From phantoms and study tables to `Examples`: all in the model's frame, with every reference that each set can give."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storyxai.data.batches import UNKNOWN_PIXEL, Examples
from storyxai.data.table import StudyTable, read_lung_mask, split_lungs
from storyxai.imaging.geometry import ModelFrame, model_frame
from storyxai.imaging.read import read_image
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.modalities.chest_radiograph.grammar import facts_from_labels, tokenize, write_report
from storyxai.phantoms.generate import Phantom, generate_phantom
from storyxai.types import Box

__all__ = ["examples_from_phantoms", "examples_from_table"]

Progress = Callable[[str, int, int], None]
Row = dict[str, Any]
Encode = Callable[[Sequence[str]], NDArray[np.int64]]


def examples_from_phantoms(
    seeds: Sequence[int], *, size: int, phantom_size: int, encode: Encode, workers: int = 2,
    progress: Progress | None = None,
) -> Examples:
    """The phantoms of the given seeds as examples; findings that a phantom cannot have are not stated.

    `encode` turns the words of a report into numbers.
    """
    rows: list[Row] = []
    with ProcessPoolExecutor(max_workers=workers) as pool:
        for row in pool.map(_phantom_row, seeds, repeat(size), repeat(phantom_size), chunksize=16):
            rows.append(row)
            if progress:
                progress("phantoms", len(rows), len(seeds))
    return _gather(rows, encode)


def examples_from_table(
    table: StudyTable, *, size: int, encode: Encode, progress: Progress | None = None
) -> Examples:
    """The images of a study table as examples.

    A weak report is written by the grammar from the labels alone (no place, no degree), for rows with any finding
    label besides pneumonia: it teaches the report head the look of real films, and is called weak wherever it counts.
    """
    rows: list[Row] = []
    records: list[Any] = table.frame.to_dict("records")
    for record in records:
        rows.append(_table_row(table, record, size))
        if progress:
            progress("images", len(rows), len(records))
    return _gather(rows, encode)


def _phantom_row(seed: int, size: int, phantom_size: int) -> Row:
    phantom: Phantom = generate_phantom(seed, size=phantom_size)
    pixels = phantom.image.pixels
    frame = model_frame(*pixels.shape, size=size)
    return {
        "id": f"phantom-{seed}",
        "patient_id": f"phantom-{phantom.patient_id}",
        "domain": "phantom",
        "image": _bytes(frame.to_model(pixels)),
        "labels": _label_row(phantom.labels),
        "masks": np.stack(
            [_small(frame, phantom.masks[name], size) for name in ("left_lung", "right_lung", "heart")]
        ),
        "union": _unknown(size // 4, size // 4),
        "cells": _cells(frame, phantom.boxes, phantom.labels, size, complete=frozenset(phantom.labels)),
        "words": tokenize(" ".join(phantom.report)),
    }


def _table_row(table: StudyTable, record: Mapping[str, Any], size: int) -> Row:
    image = read_image(table.image_path(record))
    frame = model_frame(*image.pixels.shape, size=size)
    quarter = size // 4
    masks, union = _unknown(3, quarter, quarter), _unknown(quarter, quarter)
    read = read_lung_mask(table, record)
    if read is not None:
        lungs, ignore = read
        sides = split_lungs(lungs)
        if sides is None:
            union = _small(frame, lungs, size, ignore)
        else:
            masks[0], masks[1] = (_small(frame, side, size, ignore) for side in sides)
    labels = {name: float(record[f"label_{name}"]) for name in NAMES}
    stated = {name: value for name, value in labels.items() if not np.isnan(value)}
    height, width = image.pixels.shape
    boxes = table.boxes_of(record, height=height, width=width)
    complete = frozenset({"Pneumonia"}) if record.get("boxes_complete") is True else frozenset()
    rng = np.random.default_rng(int(image.sha256[:8], 16))
    facts = facts_from_labels(stated)
    view = image.view if image.view in ("PA", "AP") else str(record.get("view") or "PA")
    report = write_report(facts, rng, view=view) if len(stated) > 1 else ()
    return {
        "id": str(record["image_id"]),
        "patient_id": str(record["patient_id"]),
        "domain": str(record["source"]),
        "image": _bytes(frame.to_model(image.pixels)),
        "labels": _label_row(labels),
        "masks": masks,
        "union": union,
        "cells": _cells(frame, boxes, labels, size, complete=complete),
        "words": tokenize(" ".join(report)),
    }


def _gather(rows: Sequence[Row], encode: Encode) -> Examples:
    return Examples(
        tuple(row["id"] for row in rows),
        tuple(row["patient_id"] for row in rows),
        tuple(row["domain"] for row in rows),
        np.stack([row["image"] for row in rows]),
        np.stack([row["labels"] for row in rows]),
        np.stack([row["masks"] for row in rows]),
        np.stack([row["union"] for row in rows]),
        np.stack([row["cells"] for row in rows]),
        np.stack([encode(row["words"]) if row["words"] else np.zeros_like(encode([])) for row in rows]),
    )


def _bytes(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.round(pixels.clip(0, 1) * 255).astype(np.uint8)


def _label_row(labels: Mapping[str, float]) -> NDArray[np.float32]:
    return np.array([labels.get(name, np.nan) for name in NAMES], dtype=np.float32)


def _unknown(*shape: int) -> NDArray[np.uint8]:
    return np.full(shape, UNKNOWN_PIXEL, dtype=np.uint8)


def _small(
    frame: ModelFrame, mask: NDArray[np.bool_], size: int, ignore: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """A mask at a quarter of the model's frame: the majority of each 4 x 4 block, ignored where any pixel is."""
    share = _blocks(frame.mask_to_model(mask), size, 4)
    small = (share >= 0.5).astype(np.uint8)
    if ignore is not None and ignore.any():
        small[_blocks(frame.mask_to_model(ignore), size, 4) > 0.25] = UNKNOWN_PIXEL
    return small


def _blocks(values: NDArray[Any], size: int, step: int) -> NDArray[np.float32]:
    blocks = np.asarray(values, dtype=np.float32).reshape(size // step, step, size // step, step)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def _cells(
    frame: ModelFrame, boxes: Sequence[Box], labels: Mapping[str, float], size: int, *, complete: frozenset[str]
) -> NDArray[np.uint8]:
    """The share (0..100) of each 16 x 16 cell inside a finding's boxes; known only where boxes of that finding are.

    A finding with a complete set of boxes and none drawn says that every cell is empty.
    """
    side = size // 16
    cells = _unknown(len(NAMES), side, side)
    for index, name in enumerate(NAMES):
        mine = [frame.box_to_model(box) for box in boxes if box.finding == name]
        if not mine and not (name in complete and labels.get(name) == 0.0):
            continue
        drawn = np.zeros((size, size), dtype=np.float32)
        for box in mine:
            x0, y0 = round(box.x), round(box.y)
            x1, y1 = max(x0 + 1, round(box.x + box.width)), max(y0 + 1, round(box.y + box.height))
            drawn[max(0, y0) : y1, max(0, x0) : x1] = 1.0
        cells[index] = np.round(_blocks(drawn, size, 16) * 100).astype(np.uint8)
    return cells


def describe(examples: Examples) -> str:
    """Counts by domain and positives by finding, as one line of JSON."""
    domains = {name: examples.domain.count(name) for name in sorted(set(examples.domain))}
    positives = {name: int(np.nansum(examples.labels[:, i])) for i, name in enumerate(NAMES)}
    return json.dumps({"images": domains, "positives": positives})
