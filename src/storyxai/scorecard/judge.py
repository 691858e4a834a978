"""A study table judged by a student: what it says of every row beside what is known, and what knowing nothing earns."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storyxai.data.masks import resized
from storyxai.data.table import StudyTable, read_structures, read_table
from storyxai.errors import InputError, UnknownNameError, WeightsError
from storyxai.evidence.boxes import boxes_from_grid
from storyxai.evidence.predict import Seen, grid_boxes, predict
from storyxai.imaging.geometry import ModelFrame
from storyxai.imaging.read import read_image
from storyxai.metrics.calibration import ConformalLimits
from storyxai.metrics.faithfulness import baseline_maps
from storyxai.metrics.segmentation import dice, surface_distances
from storyxai.metrics.speed import images_per_second
from storyxai.models.card import Calibration
from storyxai.models.runtime import Student
from storyxai.progress import Progress
from storyxai.scorecard.build import age_bands, build_scorecard
from storyxai.scorecard.inputs import DISTANCES, References, TaskOutputs
from storyxai.types import Box, Image, Mask, Study

__all__ = [
    "SPLITS", "blind_boxes", "conformal_of", "evaluate_student", "patient_mark", "scored_boxes", "student_speed", "unseen_rows",
]

Row = Mapping[Any, Any]
Numbers = NDArray[np.float64]
SPLITS = ("unseen", "train", "val", "test", "all")
BLIND_MAPS = {"centre": "centre map", "random": "random map"}
"""Maps that saw no image, by their names in `baseline_maps` and on the scorecard."""
MASKS = ("lungs", "left_lung", "right_lung", "heart")


def evaluate_student(
    student: Student, table_path: Path, *, split: str, bootstrap: int, seed: int, beside: Sequence[Student] = (),
    teachers: Mapping[str, Mapping[str, NDArray[np.float32]]] | None = None, progress: Progress | None = None,
) -> dict[str, Any]:
    """The scorecard of a student on a study table, in the frame of the original images, as plain JSON values.

    `split` "unseen" takes every patient whom no card names as trained or calibrated on, whatever the table's own split
    says. The students `beside` it are judged on the same images, as controls. `teachers` hold what others answered: by
    the teacher's name and the image_id its log-odds [F] of the student's findings, nan = it does not know.
    Raises: UnknownNameError for another split; InputError when no row is left, or when a patient of the chosen split was
    trained on.
    """
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    table = read_table(table_path)
    for one in (student, *beside):
        table = unseen_rows(one, table, split, table_path)
    rows: list[Row] = table.frame.to_dict("records")  # type: ignore[assignment]
    judged = _judge_rows(student, table, rows, seed, progress)
    findings = student.findings
    ids = tuple(table.frame["image_id"])
    outputs = [_spoken(student, judged, ids, "student")]
    for other in beside:
        outputs.append(_spoken(other, _judge_rows(other, table, rows, seed, progress), ids, _beside_name(other)))
    views = [str(row["view"]) for row in rows]
    if len(set(views)) > 1:
        scores = np.repeat(np.array([[float(view == "AP")] for view in views]), len(findings), axis=1)
        outputs.append(TaskOutputs("view position alone", "control", ids, findings=findings, logits=scores))
    for name, answers in (teachers or {}).items():
        asked = [image_id for image_id in ids if image_id in answers]
        if asked:
            said = np.stack([answers[image_id] for image_id in asked])
            outputs.append(TaskOutputs(name, "teacher", asked, findings=findings, logits=said))
    outputs += _published_teacher(table, findings)
    if judged.boxes:
        outputs += [TaskOutputs(name, "control", ids, boxes=boxes) for name, boxes in judged.blind_boxes.items()]
    sources = sorted(set(table.frame["source"]))
    references = References(
        dataset=f"{', '.join(sources)} ({split})", synthetic=sources == ["phantom"], ids=ids,
        patient_ids=tuple(table.frame["patient_id"]), findings=findings, labels=table.labels().values,
        reports=judged.references if any(judged.references) else None, boxes=judged.true_boxes,
        subgroups=_subgroups(rows, views),
    )
    return build_scorecard(outputs, references, seed=seed, count=bootstrap).as_dict()


def _spoken(student: Student, judged: _Judged, ids: tuple[str, ...], name: str) -> TaskOutputs:
    """What one student said of every image; under another name than "student" it is a control."""
    calibration = [student.card.calibration[finding] for finding in student.findings]
    return TaskOutputs(
        name=name, role="student" if name == "student" else "control", ids=ids, findings=student.findings,
        logits=np.stack(judged.logits), calibration=[(c.scale, c.bias) for c in calibration],
        thresholds=[c.threshold for c in calibration], conformal=conformal_of(calibration), dices=judged.known_dices(),
        distances=judged.known_distances(), reports=judged.reports, boxes=judged.boxes,
        facts={"model_id": student.card.model_id, **_size(student)},
    )


def unseen_rows(student: Student, table: StudyTable, split: str, path: Path) -> StudyTable:
    """The rows of the chosen split that have an image. Raises: InputError as `evaluate_student` says."""
    seen = set(student.card.training.get("patients", ()))
    known = np.array([patient_mark(str(patient)) in seen for patient in table.frame["patient_id"]], dtype=np.bool_)
    keep = (table.frame["image"] != "").to_numpy(dtype=np.bool_, copy=True)
    if split == "unseen":
        keep &= ~known
    elif split != "all":
        keep &= (table.frame["split"] == split).to_numpy(dtype=np.bool_)
        if split == "test" and bool((keep & known).any()):
            raise InputError(
                path.name, f"{int((keep & known).sum())} images of the test part are of patients this student learnt from",
                mend="use --split unseen",
            )
    if not keep.any():
        raise InputError(path.name, f"has no image in the part '{split}'", mend="choose another --split")
    return table.select(rows=keep)


def patient_mark(patient_id: str) -> str:
    """A short hash of a patient id, so that a card can name whom it learnt from without naming anyone."""
    return hashlib.sha256(f"storyxai-patient|{patient_id}".encode()).hexdigest()[:12]


def conformal_of(calibration: Sequence[Calibration]) -> tuple[ConformalLimits | None, ...]:
    """The conformal limits that a card holds, one entry a finding, None where it promises nothing."""
    return tuple(None if item.conformal is None else ConformalLimits(*item.conformal) for item in calibration)


def student_speed(
    student: Student, *, batches: int, clock: Callable[[], float], beside: Sequence[Student] = ()
) -> dict[str, Any]:
    """How fast each student looks at one image after another (findings, grid, masks; no report written), as plain values.

    The first is named "student"; those `beside` it say how many times faster it is. Units: `clock` counts seconds.
    """
    rows: list[dict[str, Any]] = []
    for one, name in ((student, "student"), *((other, _beside_name(other)) for other in beside)):
        grey = np.full((one.size, one.size), 0.5, dtype=np.float32)
        found = images_per_second(partial(one.look, grey), batch_size=1, batches=batches, clock=clock)
        ratio = {"student_times_faster": rows[0]["images_per_second"] / found.images_per_second} if rows else {}
        rows.append({"name": name, **asdict(found), **ratio})
    return {"models": rows}


def _beside_name(other: Student) -> str:
    return f"beside: {other.card.name} {other.card.model_id[-8:]}"


def _size(student: Student) -> dict[str, int]:
    """The numbers that the weights hold (running means of normalisation with them), and their bytes."""
    from safetensors import SafetensorError, safe_open

    path = student.folder / "student.safetensors"
    try:
        with safe_open(path, framework="numpy") as opened:
            parameters = sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(str(path), "cannot be read as weights", mend="copy the model folder again") from error
    return {"parameters": parameters, "bytes": path.stat().st_size}


@dataclass
class _Judged:
    """What was gathered row by row, in the table's order; boxes by finding, masks by name."""

    boxed: tuple[str, ...]
    logits: list[NDArray[np.float32]] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    dices: list[dict[str, float]] = field(default_factory=list)
    distances: list[dict[str, dict[str, float]]] = field(default_factory=list)
    boxes: dict[str, list[Numbers]] = field(init=False)
    true_boxes: dict[str, list[Numbers | None]] = field(init=False)
    blind_boxes: dict[str, dict[str, list[Numbers]]] = field(init=False)

    def __post_init__(self) -> None:
        self.boxes, self.true_boxes = {name: [] for name in self.boxed}, {name: [] for name in self.boxed}
        self.blind_boxes = {shown: {name: [] for name in self.boxed} for shown in BLIND_MAPS.values()}

    def known_dices(self) -> dict[str, Numbers]:
        """Dice by mask, those only that were measured at all. Shapes: [N], nan = no reference."""
        columns = {name: np.array([row.get(name, np.nan) for row in self.dices]) for name in MASKS}
        return {name: values for name, values in columns.items() if not np.isnan(values).all()}

    def known_distances(self) -> dict[str, dict[str, Numbers]]:
        """Distances of outlines by mask and measure, those only that were measured at all."""
        found: dict[str, dict[str, Numbers]] = {}
        for name in self.known_dices():
            rows = [row.get(name, {}) for row in self.distances]
            columns = {measure: np.array([row.get(measure, np.nan) for row in rows]) for measure in DISTANCES}
            found[name] = {measure: values for measure, values in columns.items() if not np.isnan(values).all()}
        return found


def _judge_rows(
    student: Student, table: StudyTable, rows: Sequence[Row], seed: int, progress: Progress | None
) -> _Judged:
    judged = _Judged(tuple(sorted({box.finding for row in rows for box in table.boxes_of(row, height=1, width=1)})))
    for done, row in enumerate(rows):
        image = read_image(table.image_path(row))
        seen = predict(student, Study(str(row["study_id"]), (image,)))
        judged.logits.append(seen.look.logits)
        judged.reports.append(" ".join(seen.prediction.report))
        judged.references.append(str(row["findings_text"]))
        _judge_boxes(student, table, row, image, seen, judged, seed)
        dices, distances = _judge_masks(read_structures(table, row), seen.prediction.masks, image.spacing_mm)
        judged.dices.append(dices)
        judged.distances.append(distances)
        if progress:
            progress("judging", done + 1, len(rows))
    return judged


def _judge_boxes(
    student: Student, table: StudyTable, row: Row, image: Image, seen: Seen, judged: _Judged, seed: int
) -> None:
    height, width = image.pixels.shape
    given = table.boxes_of(row, height=height, width=width)
    true: dict[str, Numbers | None] = {}
    for name in judged.boxed:
        mine = np.array([(b.x, b.y, b.width, b.height) for b in given if b.finding == name]).reshape(-1, 4)
        true[name] = mine if len(mine) or _searched(row, name) else None
    asked = any(boxes is not None for boxes in true.values())
    blind = blind_boxes(seen.frame, seed=seed ^ int(image.sha256[:8], 16)) if asked else {}
    nothing = np.zeros((0, 5))
    for name in judged.boxed:
        judged.true_boxes[name].append(true[name])
        judged.boxes[name].append(scored_boxes(grid_boxes(seen, name, student.findings.index(name))))
        for shown, columns in judged.blind_boxes.items():
            columns[name].append(blind.get(shown, nothing))


def _searched(row: Row, finding: str) -> bool:
    """Whether an image without a box of this finding was read for it: a reader marked all, and there is none.

    "Every opacity was marked" speaks for pneumonia; for another finding its absence must be stated too.
    """
    return bool(row["boxes_complete"]) and (finding == "Pneumonia" or float(row[f"label_{finding}"]) == 0.0)


def blind_boxes(frame: ModelFrame, *, seed: int) -> dict[str, Numbers]:
    """Boxes [K, 5] of maps that know nothing, by the name on the scorecard, made as a network's are made from its grid."""
    maps = baseline_maps(np.zeros((frame.size, frame.size), dtype=np.float32), seed=seed)
    found = {}
    for name, shown in BLIND_MAPS.items():
        drawn = frame.grid_to_original(maps[name] / max(float(maps[name].max()), 1e-6))
        found[shown] = scored_boxes(boxes_from_grid(drawn, finding="", threshold=0.5 * float(drawn.max())))
    return found


def scored_boxes(boxes: Sequence[Box]) -> Numbers:
    """Boxes as a scorecard takes them: x, y, width, height and score. Shapes: float64 [K, 5]."""
    return np.array([(b.x, b.y, b.width, b.height, b.score) for b in boxes], dtype=np.float64).reshape(-1, 5)


def _judge_masks(
    true: Mapping[str, tuple[Mask, Mask | None]], masks: Mapping[str, Mask], spacing_mm: tuple[float, float] | None
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Dice, and distances of outlines by measure, of every mask that has a reference."""
    dices: dict[str, float] = {}
    distances: dict[str, dict[str, float]] = {}
    drawn = {**masks, "lungs": masks["left_lung"] | masks["right_lung"]}
    for name, (reference, ignore) in true.items():
        if reference.shape != drawn[name].shape:  # drawn on a smaller or larger copy of the image
            shape = drawn[name].shape
            reference, ignore = resized(reference, *shape), None if ignore is None else resized(ignore, *shape)
        dices[name] = dice(drawn[name], reference, ignore=ignore)
        distances[name] = {}
        for unit, spacing in (("px", (1.0, 1.0)), ("mm", spacing_mm)):
            if spacing is None:
                continue
            apart = surface_distances(drawn[name], reference, spacing=spacing, ignore=ignore)
            if apart.average is not None and apart.hausdorff_95 is not None:
                distances[name] |= {f"average_{unit}": apart.average, f"hausdorff_95_{unit}": apart.hausdorff_95}
    return dices, distances


def _subgroups(rows: Sequence[Row], views: Sequence[str]) -> dict[str, Sequence[str]]:
    groups: dict[str, Sequence[str]] = {
        "sex": [str(row["sex"]) for row in rows], "view": views, "origin": [str(row["origin"]) for row in rows],
        "age": age_bands([float(row["age_years"]) for row in rows]),
    }
    sources = [str(row["source"]) for row in rows]
    return {**groups, "source": sources} if len(set(sources)) > 1 else groups


def _published_teacher(table: StudyTable, findings: tuple[str, ...]) -> list[TaskOutputs]:
    """The public DenseNet-121's published predictions for these images, where they lie beside the table's images."""
    if set(table.frame["source"]) != {"nih"} or not (table.root / "densenet121_predictions.csv").is_file():
        return []
    from storyxai.data.sources.nih import read_densenet_targets

    soft = read_densenet_targets(table.root)
    row_of = {name: i for i, name in enumerate(soft.ids)}
    ids = [name for name in table.frame["image_id"] if name in row_of]
    if not ids:
        return []
    logits = soft.logits[[row_of[name] for name in ids]][:, [soft.findings.index(name) for name in findings]]
    return [TaskOutputs("public DenseNet-121", "teacher", ids, findings=findings, logits=logits)]
