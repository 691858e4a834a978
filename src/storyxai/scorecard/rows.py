"""What students say of the rows of a study table beside what is known of each: files opened ahead, networks in batches."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from storyxai.data.masks import resized
from storyxai.data.opening import open_row
from storyxai.data.table import Skipped, StudyTable
from storyxai.evidence.boxes import boxes_at_half_height, evidence_boxes
from storyxai.evidence.predict import outlines
from storyxai.imaging.geometry import ModelFrame, model_frame, model_view
from storyxai.metrics.faithfulness import centre_map, random_map
from storyxai.metrics.segmentation import dice, surface_distances
from storyxai.modalities.contract import Modality
from storyxai.models.runtime import Student
from storyxai.progress import Progress
from storyxai.types import Array, Box, Mask

Row: TypeAlias = Mapping[str, object]
Numbers: TypeAlias = NDArray[np.float64]
Spacing: TypeAlias = tuple[float, float]
BLIND_MAPS = {"centre": "centre map", "random": "random map"}
"""Maps that saw no image, by their short names and those on the scorecard."""
BATCH = 16
WORKERS = min(4, os.cpu_count() or 1)
NOTHING: Numbers = np.zeros((0, 5))

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class JudgedRow:
    """What one student said of one row, where something is known to hold it against.

    `report` is None where the row has no report. Dice and distances are by mask, and then by measure; boxes [K, 5] by
    finding. `true_boxes` [K, 4] is None where the image was not searched; `blind_boxes` are by map and finding.
    """

    logits: Array
    report: str | None
    dices: Mapping[str, float]
    distances: Mapping[str, Mapping[str, float]]
    boxes: Mapping[str, Numbers]
    true_boxes: Mapping[str, Numbers | None]
    blind_boxes: Mapping[str, Mapping[str, Numbers]]


@dataclass(frozen=True, eq=False)
class _Opened:
    """A readable row: its file's facts, its frame and pixels [C, S, S] for each student, its reference masks."""

    row: Row
    sha256: str
    spacing_mm: Spacing | None
    frames: tuple[ModelFrame, ...]
    pixels: tuple[Array, ...]
    structures: Mapping[str, tuple[Mask, Mask | None]]
    lost: tuple[Skipped, ...]


def judge_rows(
    students: Sequence[Student], table: StudyTable, *, seed: int, laterals: bool = False, progress: Progress | None = None
) -> tuple[tuple[int, ...], tuple[tuple[JudgedRow, ...], ...], tuple[Skipped, ...]]:
    """The places of the rows that could be judged, what each student said of these, and what was left out and why.

    Left out is what `open_row` cannot use.
    """
    rows: list[Row] = [{str(key): cell for key, cell in row.items()} for row in table.frame.to_dict("records")]
    boxed = boxed_findings(table)
    places: list[int] = []
    judged: tuple[list[JudgedRow], ...] = tuple([] for _ in students)
    left_out: list[Skipped] = []

    def opened(place: int) -> tuple[int, _Opened | Skipped]:
        return place, _open_row(table, rows[place], students, laterals)

    # Threads that each silence the warnings of a library would restore one another's filters: silenced here for all.
    with warnings.catch_warnings(), ThreadPoolExecutor(WORKERS) as pool:
        warnings.simplefilter("ignore")
        for batch in _batches(_ahead(pool, opened, range(len(rows)))):
            kept = [(place, one) for place, one in batch if isinstance(one, _Opened)]
            left_out += [one for _, one in batch if isinstance(one, Skipped)]
            for _, one in kept:
                left_out += one.lost
            places += [place for place, _ in kept]
            for number, student in enumerate(students if kept else ()):
                judged[number].extend(_judge_batch(pool, student, number, table, [one for _, one in kept], boxed, seed))
            if progress:
                progress("judging", batch[-1][0] + 1, len(rows))
    return tuple(places), tuple(tuple(column) for column in judged), tuple(left_out)


def boxed_findings(table: StudyTable) -> tuple[str, ...]:
    """The findings, joint ones among them, that the table has a box of."""
    cells = set(table.frame["boxes"]) - {"[]"}
    return tuple(sorted({box.finding for cell in cells for box in table.boxes_of({"boxes": cell}, height=1, width=1)}))


def _ahead(pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results in order; two batches are worked on ahead, so that memory does not grow with the table."""
    waiting: deque[Future[Result]] = deque()
    left = iter(items)
    waiting.extend(pool.submit(function, item) for item in islice(left, 2 * BATCH))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(function, item) for item in islice(left, 1))


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    while batch := list(islice(items, BATCH)):
        yield batch


def _open_row(table: StudyTable, row: Row, students: Sequence[Student], laterals: bool) -> _Opened | Skipped:
    opened = open_row(table, row, laterals=laterals, acquisition=students[0].modality.acquisition)
    if isinstance(opened, Skipped):
        return opened
    image = opened.image
    height, width = image.pixels.shape[:2]
    frames = tuple(model_frame(height, width, size=student.size) for student in students)
    pixels = tuple(
        model_view(image.pixels, frame, channels=student.channels) for frame, student in zip(frames, students, strict=True)
    )
    return _Opened(row, image.sha256, image.spacing_mm, frames, pixels, opened.structures, opened.lost)


def _judge_batch(
    pool: ThreadPoolExecutor, student: Student, number: int, table: StudyTable, batch: Sequence[_Opened],
    boxed: Sequence[str], seed: int,
) -> list[JudgedRow]:
    """What student `number` said of each row of the batch, its network asked once."""
    _, grids, logits, masks, memory = student.answer_all(np.stack([one.pixels[number] for one in batch]))

    def judge(place: int) -> JudgedRow:
        one = batch[place]
        frame, row = one.frames[number], one.row
        report = None
        if memory is not None and row["findings_text"]:
            report = " ".join(student.written(memory[place : place + 1]).sentences)
        named = {} if masks is None else dict(zip(student.structure_names, masks[place], strict=True))
        drawn = with_pair(outlines(named, frame, student.modality), student.modality) if one.structures else {}
        dices, distances = judge_masks(one.structures, drawn, one.spacing_mm)
        true = _true_boxes(table, row, frame, boxed, student.modality)
        searched = [name for name in boxed if true[name] is not None]
        blind = blind_boxes(frame, seed=seed ^ int(one.sha256[:8], 16)) if searched else {}
        return JudgedRow(
            logits=logits[place], report=report, dices=dices, distances=distances,
            boxes={name: _own_boxes(student, grids[place], frame, name) if name in searched else NOTHING for name in boxed},
            true_boxes=true,
            blind_boxes={
                shown: {name: blind[shown] if name in searched else NOTHING for name in boxed}
                for shown in BLIND_MAPS.values()
            },
        )

    return list(pool.map(judge, range(len(batch))))


def _own_boxes(student: Student, grid: Array, frame: ModelFrame, name: str) -> Numbers:
    """Boxes of a finding in the student's evidence; of a joint class where any of its findings is strongest."""
    columns = [student.findings.index(part) for part in parts_of(name, student.modality) if part in student.findings]
    return scored_boxes(evidence_boxes(grid[columns].max(axis=0), frame, finding=name)) if columns else NOTHING


def parts_of(name: str, modality: Modality) -> tuple[str, ...]:
    """The findings that a box's name stands for: itself, or those that a joint class ("One/Other") joins."""
    return tuple(found for part in name.split("/") if (found := modality.match(part)) is not None)


def _true_boxes(
    table: StudyTable, row: Row, frame: ModelFrame, boxed: Sequence[str], modality: Modality
) -> dict[str, Numbers | None]:
    given = table.boxes_of(row, height=frame.height, width=frame.width)
    true: dict[str, Numbers | None] = {}
    for name in boxed:
        mine = np.array([(b.x, b.y, b.width, b.height) for b in given if b.finding == name]).reshape(-1, 4)
        true[name] = mine if len(mine) or is_searched(row, name, modality) else None
    return true


def is_searched(row: Row, finding: str, modality: Modality) -> bool:
    """Whether an image without a box of this finding was read for it: a reader marked all, and there is none.

    That everything was marked speaks for the findings that the modality calls `searched`; for another finding its absence
    must be stated too, and for a joint class that of each finding it joins.
    """
    parts = parts_of(finding, modality)
    absent = bool(parts) and all(float(str(row[f"label_{part}"])) == 0.0 for part in parts)
    return bool(row["boxes_complete"]) and (finding in modality.searched or absent)


def blind_boxes(frame: ModelFrame, *, seed: int) -> dict[str, Numbers]:
    """Boxes [K, 5] of maps that know nothing, by the name on the scorecard, made as a network's are made from its grid."""
    noise = _blind_boxes_of(random_map((frame.size, frame.size), seed=seed), frame)
    return {BLIND_MAPS["centre"]: _centre_boxes(frame), BLIND_MAPS["random"]: noise}


@lru_cache(maxsize=64)
def _centre_boxes(frame: ModelFrame) -> Numbers:
    return _blind_boxes_of(centre_map((frame.size, frame.size)), frame)


def _blind_boxes_of(values: Array, frame: ModelFrame) -> Numbers:
    return scored_boxes(boxes_at_half_height(values / max(float(values.max()), 1e-6), frame, finding=""))


def scored_boxes(boxes: Sequence[Box]) -> Numbers:
    """Boxes as a scorecard takes them: x, y, width, height and score. Shapes: float64 [K, 5]."""
    return np.array([(b.x, b.y, b.width, b.height, b.score) for b in boxes], dtype=np.float64).reshape(-1, 5)


def judge_masks(
    true: Mapping[str, tuple[Mask, Mask | None]], masks: Mapping[str, Mask], spacing_mm: Spacing | None
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Dice, and distances of outlines by measure, of every mask that has a reference. `masks` are what was drawn."""
    dices: dict[str, float] = {}
    distances: dict[str, dict[str, float]] = {}
    for name, (given, beside) in true.items():
        reference, ignore = _in_frame(given, masks[name]), None if beside is None else _in_frame(beside, masks[name])
        dices[name] = dice(masks[name], reference, ignore=ignore)
        distances[name] = {}
        for unit, spacing in (("px", (1.0, 1.0)), ("mm", spacing_mm)):
            if spacing is None:
                continue
            apart = surface_distances(masks[name], reference, spacing=spacing, ignore=ignore)
            if apart.average is not None and apart.hausdorff_95 is not None:
                distances[name] |= {f"average_{unit}": apart.average, f"hausdorff_95_{unit}": apart.hausdorff_95}
    return dices, distances


def with_pair(masks: Mapping[str, Mask], modality: Modality) -> dict[str, Mask]:
    """The drawn masks, and both sides of the modality's pair as one. Shapes: bool [H, W]."""
    left, right = modality.structure_names[:2] if modality.pair else ("", "")
    if modality.pair is None or left not in masks or right not in masks:
        return dict(masks)
    return {**masks, modality.pair.name: masks[left] | masks[right]}


def _in_frame(mask: Mask, drawn: Mask) -> Mask:
    """A reference that was drawn on a smaller or larger copy of the image, in the frame of the image."""
    return mask if mask.shape == drawn.shape else resized(mask, *drawn.shape)
