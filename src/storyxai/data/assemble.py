"""From phantoms and study tables to `Examples`: all in the model's frame, with every reference that each set can give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storyxai.data.batches import UNKNOWN_PIXEL, Examples
from storyxai.data.opening import OpenedRow, frontal_rows, open_row
from storyxai.data.table import Skipped, StudyTable
from storyxai.errors import TableError
from storyxai.imaging.geometry import ModelFrame, model_frame, model_view
from storyxai.modalities.contract import Modality
from storyxai.modalities.registry import DEFAULT_MODALITY, modality_named
from storyxai.phantoms.registry import phantom_maker
from storyxai.progress import Progress
from storyxai.types import Box, Mask

Encode = Callable[[Sequence[str]], NDArray[np.int64]]


WORKERS = 2
"""Processes that draw phantoms side by side."""


def examples_from_phantoms(
    seeds: Sequence[int], *, size: int, phantom_size: int, encode: Encode, modality: str = DEFAULT_MODALITY,
    shares: bool = False, progress: Progress | None = None,
) -> Examples:
    """The phantoms of the given seeds as examples; findings that a phantom cannot have are not stated.

    `modality` is the key of what they are of.

    `encode` turns the words of a report into numbers. With `shares` a mask's pixel holds the share that is covered, else
    what the majority of it is.
    """
    rows: list[_Row] = []
    with ProcessPoolExecutor(max_workers=WORKERS) as pool:
        for row in pool.map(
            _phantom_row, seeds, repeat(size), repeat(phantom_size), repeat(shares), repeat(modality), chunksize=16
        ):
            rows.append(row)
            if progress:
                progress("phantoms", len(rows), len(seeds))
    return _gather(rows, encode)


def examples_from_table(
    table: StudyTable, *, size: int, encode: Encode, modality: Modality | None = None, shares: bool = False,
    laterals: bool = False, progress: Progress | None = None,
) -> tuple[Examples | None, tuple[Skipped, ...]]:
    """The images of a study table as examples (None: nothing is left), and what was left out and why.

    `modality` (None: the default one) says which findings and structures there are. Where it names views, others are left
    out, but with `laterals`; files that cannot be read, and damaged masks of a row that stays, always are.

    A weak report is written by the modality's grammar, where it has one, from the labels alone (no place, no degree), for
    rows with more than one finding label: it teaches the report head the look of real images, and is called weak wherever it
    counts.
    `shares` as for phantoms. Raises: TableError when a mask is of another shape than its image, or the table is of another
    modality.
    """
    kind = modality or modality_named()
    _require_schema(table, kind)
    laterals = laterals or not kind.acquisition.views
    frontal, left_out = frontal_rows(table, laterals=laterals)
    rows: list[_Row] = []
    skipped = list(left_out)
    for done, record in enumerate(frontal.frame.to_dict("records"), start=1):
        row = {str(key): cell for key, cell in record.items()}
        opened = open_row(table, row, laterals=laterals, acquisition=kind.acquisition)
        if isinstance(opened, Skipped):
            skipped.append(opened)
        else:
            rows.append(_table_row(table, row, opened, kind, size=size, shares=shares))
            skipped += opened.lost
        if progress:
            progress("images", done, len(frontal))
    return _gather(rows, encode) if rows else None, tuple(skipped)


@dataclass(frozen=True, eq=False)
class _Row:
    """One image and its references in the model's frame. Shapes: those of `Examples` without the first axis."""

    image_id: str
    patient_id: str
    domain: str
    image: NDArray[np.uint8]
    labels: NDArray[np.float32]
    masks: NDArray[np.uint8]
    union: NDArray[np.uint8]
    cells: NDArray[np.uint8]
    words: Sequence[str]


def _phantom_row(seed: int, size: int, phantom_size: int, shares: bool, modality: str) -> _Row:
    kind, phantom = modality_named(modality), phantom_maker(modality)(seed, size=phantom_size)
    height, width = phantom.image.pixels.shape[:2]
    frame = model_frame(height, width, size=size)
    return _Row(
        image_id=f"phantom-{seed}",
        patient_id=f"phantom-{phantom.patient_id}",
        domain="phantom",
        image=_image(phantom.image.pixels, frame, kind),
        labels=_label_row(phantom.labels, kind),
        masks=np.stack([_small(frame, phantom.masks[name], size, shares=shares) for name in kind.structure_names]),
        union=_unknown(size // 4, size // 4),
        cells=_cells(frame, phantom.boxes, _stated(phantom.labels, kind), size, complete=frozenset(phantom.labels)),
        words=_tokens(phantom.report, kind),
    )


def _require_schema(table: StudyTable, modality: Modality) -> None:
    """Raise TableError if the table's columns are not of the modality's findings."""
    if table.schema.findings != modality.names:
        why = f"is of the modality '{table.schema.modality}', with other findings than '{modality.key}'"
        raise TableError("table", why, mend="import it again with that --modality, or name the table's own in the recipe")


def _tokens(report: Sequence[str], modality: Modality) -> Sequence[str]:
    return modality.grammar.tokenize(" ".join(report)) if report and modality.grammar else ()


def _stated(labels: Mapping[str, float], modality: Modality) -> dict[str, float]:
    """The label of each finding of the modality, in its order; nan where none is stated."""
    return {name: labels.get(name, np.nan) for name in modality.names}


def _table_row(
    table: StudyTable, record: Mapping[str, object], opened: OpenedRow, modality: Modality, *, size: int, shares: bool
) -> _Row:
    image = opened.image
    height, width = image.pixels.shape[:2]
    frame = model_frame(height, width, size=size)
    masks, union = _table_masks(opened, record, frame, modality, shares)
    labels = {name: float(str(record[f"label_{name}"])) for name in modality.names}
    stated = {name: value for name, value in labels.items() if not np.isnan(value)}
    boxes = table.boxes_of(record, height=height, width=width)
    complete = frozenset(modality.searched) if record.get("boxes_complete") is True else frozenset()
    rng = np.random.default_rng(int(image.sha256[:8], 16))
    view = image.view if image.view in ("PA", "AP") else str(record.get("view") or "PA")
    report = modality.grammar.write(stated, rng, view=view) if modality.grammar and len(stated) > 1 else ()
    return _Row(
        image_id=str(record["image_id"]),
        patient_id=str(record["patient_id"]),
        domain=str(record["source"]),
        image=_image(image.pixels, frame, modality),
        labels=_label_row(labels, modality),
        masks=masks,
        union=union,
        cells=_cells(frame, boxes, labels, size, complete=complete),
        words=_tokens(report, modality),
    )


def _table_masks(
    opened: OpenedRow, record: Mapping[str, object], frame: ModelFrame, modality: Modality, shares: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The modality's structures [N, S/4, S/4], and its pair [S/4, S/4] where left and right are not told apart."""
    size, names = frame.size, modality.structure_names
    masks, union = _unknown(len(names), size // 4, size // 4), _unknown(size // 4, size // 4)
    found = opened.structures
    for name, (mask, ignore) in found.items():
        if name in names:
            masks[names.index(name)] = _small(_frame_of(mask, frame, record, name), mask, size, ignore, shares=shares)
        elif modality.pair and name == modality.pair.name and names[0] not in found:
            union = _small(_frame_of(mask, frame, record, name), mask, size, ignore, shares=shares)
    return masks, union


def _frame_of(mask: Mask, frame: ModelFrame, record: Mapping[str, object], name: str) -> ModelFrame:
    """The frame of a mask, which may be drawn on a smaller or larger copy of its image. Raises: TableError."""
    (height, width), image = mask.shape, (frame.height, frame.width)
    if (height, width) == image:
        return frame
    if abs(width * image[0] - height * image[1]) > max(height, width, *image):  # whole pixels round by up to one
        why = f"has a {name.replace('_', ' ')} mask of {height} x {width} pixels for an image of {image[0]} x {image[1]}"
        raise TableError(str(record["study_id"]), why, mend="give the mask the shape of its image")
    return model_frame(height, width, size=frame.size)


def _gather(rows: Sequence[_Row], encode: Encode) -> Examples:
    return Examples(
        tuple(row.image_id for row in rows),
        tuple(row.patient_id for row in rows),
        tuple(row.domain for row in rows),
        np.stack([row.image for row in rows]),
        np.stack([row.labels for row in rows]),
        np.stack([row.masks for row in rows]),
        np.stack([row.union for row in rows]),
        np.stack([row.cells for row in rows]),
        np.stack([encode(row.words) if row.words else np.zeros_like(encode([])) for row in rows]),
    )


def _image(pixels: NDArray[np.float32], frame: ModelFrame, modality: Modality) -> NDArray[np.uint8]:
    """The image in the model's frame, [S, S] or, of a modality in colour, [3, S, S]."""
    seen = model_view(pixels, frame, channels=modality.acquisition.channels)
    return np.round((seen if modality.acquisition.colour else seen[0]).clip(0, 1) * 255).astype(np.uint8)


def _label_row(labels: Mapping[str, float], modality: Modality) -> NDArray[np.float32]:
    return np.array(list(_stated(labels, modality).values()), dtype=np.float32)


def _unknown(*shape: int) -> NDArray[np.uint8]:
    return np.full(shape, UNKNOWN_PIXEL, dtype=np.uint8)


def _small(
    frame: ModelFrame, mask: NDArray[np.bool_], size: int, ignore: NDArray[np.bool_] | None = None, *, shares: bool
) -> NDArray[np.uint8]:
    """A mask at a quarter of the model's frame, in hundredths of each 4 x 4 block or its majority; unknown where ignored."""
    covered = _blocks(frame.mask_to_model(mask), size, 4)
    small = np.round(100 * (covered if shares else covered >= 0.5)).astype(np.uint8)
    if ignore is not None and ignore.any():
        small[_blocks(frame.mask_to_model(ignore), size, 4) > 0.25] = UNKNOWN_PIXEL
    return small


def _blocks(values: NDArray[Any], size: int, step: int) -> NDArray[np.float32]:
    blocks = np.asarray(values, dtype=np.float32).reshape(size // step, step, size // step, step)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def _cells(
    frame: ModelFrame, boxes: Sequence[Box], labels: Mapping[str, float], size: int, *, complete: frozenset[str]
) -> NDArray[np.uint8]:
    """The share (0..100) of each 16 x 16 cell inside the boxes of each finding of `labels`; known only where it has boxes.

    A finding with a complete set of boxes and none drawn says that every cell is empty.
    """
    side = size // 16
    cells = _unknown(len(labels), side, side)
    for index, name in enumerate(labels):
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
