"""A study table judged by a student: what it says of every row beside what is known, and what knowing nothing earns."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binom

from storyxai.data.opening import frontal_rows
from storyxai.data.sources.nih import read_densenet_targets
from storyxai.data.table import Skipped, StudyTable, read_table
from storyxai.errors import InputError, UnknownNameError, WeightsError
from storyxai.evidence.predict import INTERVAL
from storyxai.metrics.calibration import ConformalLimits
from storyxai.metrics.speed import ModelSpeed, Speeds, images_per_second
from storyxai.metrics.tiers import tiers_of
from storyxai.models.card import Calibration
from storyxai.models.runtime import Student
from storyxai.progress import Progress
from storyxai.scorecard.build import age_bands, build_scorecard
from storyxai.scorecard.inputs import DISTANCES, References, TaskOutputs
from storyxai.scorecard.rows import BLIND_MAPS, JudgedRow, judge_rows

Numbers = NDArray[np.float64]
Cell = TypeVar("Cell")
IMAGES_AT_ONCE = 2_000
"""Of so many images are all replicates of a calibration held at once: some 16 MB for a thousand."""
MARK_DIGITS = 3
CHANCE = 0.999
"""A test part with more marked patients than this share of tables of strangers would have was learnt from."""
SPLITS = ("unseen", "train", "val", "test", "all")


@dataclass(frozen=True)
class JudgeOptions:
    """Which rows are judged and how: the part of the table (one of `SPLITS`), bootstrap replicates and their seed.

    `split` "unseen" takes every patient whom no card names as trained or calibrated on, whatever the table's own split
    says. With `laterals` the views that are not frontal are judged too.
    """

    split: str = "unseen"
    bootstrap: int = 1000
    seed: int = 0
    laterals: bool = False


def evaluate_student(
    student: Student, table_path: Path, options: JudgeOptions, *, beside: Sequence[Student] = (),
    teachers: Mapping[str, Mapping[str, NDArray[np.float32]]] | None = None, progress: Progress | None = None,
) -> dict[str, object]:
    """The scorecard of a student on a study table, in the frame of the original images, as plain JSON values.

    Rows of other than frontal views and files that cannot be read are left out; "left_out" of its data set names each.
    The students `beside` it are judged on the same images, as controls. `teachers` hold what others answered: by
    the teacher's name and the image_id its log-odds [F] of the student's findings, nan = it does not know.
    Raises: UnknownNameError for another split; InputError when no row is left, or when a patient of the chosen split was
    trained on.
    """
    if options.split not in SPLITS:
        raise UnknownNameError("split", options.split, SPLITS)
    table, left_out = frontal_rows(read_table(table_path), laterals=options.laterals)
    _require_rows(table, table_path, left_out)
    for one in (student, *beside):
        table = unseen_rows(one, table, options.split, table_path)
    places, judged, unread = judge_rows(
        (student, *beside), table, seed=options.seed, laterals=options.laterals, progress=progress
    )
    left_out += unread
    keep = np.zeros(len(table), dtype=np.bool_)
    keep[list(places)] = True
    table = table.select(rows=keep)
    _require_rows(table, table_path, left_out)
    ids, findings = tuple(table.frame["image_id"]), student.findings
    outputs = [_spoken(student, judged[0], ids, "student")]
    outputs += [_spoken(other, rows, ids, beside_name(other)) for other, rows in zip(beside, judged[1:], strict=True)]
    outputs += _others(table, findings, teachers or {})
    outputs += _blind_outputs(judged[0], ids)
    references = replace(_references(table, judged[0], findings, options.split, left_out), modality=student.modality)
    references = replace(references, remedies=tuple(map(str, _training(student).get("remedies", ()))))
    return build_scorecard(outputs, references, seed=options.seed, count=options.bootstrap).as_dict()


def _references(
    table: StudyTable, judged: Sequence[JudgedRow], findings: tuple[str, ...], split: str, left_out: tuple[Skipped, ...]
) -> References:
    sources = sorted(set(table.frame["source"]))
    texts = [str(text) for text in table.frame["findings_text"]]
    return References(
        dataset=f"{', '.join(sources)} ({split})", synthetic=sources == ["phantom"], ids=tuple(table.frame["image_id"]),
        patient_ids=tuple(table.frame["patient_id"]), findings=findings, labels=_labels(table, findings),
        reports=texts if any(texts) else None, boxes=_columns([row.true_boxes for row in judged]),
        subgroups=_subgroups(table), left_out=left_out,
    )


def _labels(table: StudyTable, findings: tuple[str, ...]) -> NDArray[np.float32]:
    """Labels [N, F] of the student's findings; nan where the table has no such column."""
    labels = table.labels()
    columns = [labels.findings.index(name) if name in labels.findings else -1 for name in findings]
    padded = np.concatenate([labels.values, np.full((len(table), 1), np.nan, dtype=np.float32)], axis=1)
    return padded[:, columns]


def _others(
    table: StudyTable, findings: tuple[str, ...], teachers: Mapping[str, Mapping[str, NDArray[np.float32]]]
) -> list[TaskOutputs]:
    """What knows the images otherwise than by a student: the view position, teachers' answers, the published teacher."""
    ids, views = tuple(table.frame["image_id"]), list(table.frame["view"])
    outputs = []
    if len(set(views)) > 1:
        scores = np.repeat(np.array([[float(view == "AP")] for view in views]), len(findings), axis=1)
        outputs.append(TaskOutputs("view position alone", "control", ids, findings=findings, logits=scores))
    for name, answers in teachers.items():
        asked = [image_id for image_id in ids if image_id in answers]
        if asked:
            said = np.stack([answers[image_id] for image_id in asked])
            outputs.append(TaskOutputs(name, "teacher", asked, findings=findings, logits=said))
    return outputs + _published_teacher(table, findings)


def _blind_outputs(judged: Sequence[JudgedRow], ids: tuple[str, ...]) -> list[TaskOutputs]:
    """Maps that saw no image, where the table has boxes."""
    if not any(row.boxes for row in judged):
        return []
    return [
        TaskOutputs(shown, "control", ids, boxes=_columns([row.blind_boxes[shown] for row in judged]))
        for shown in BLIND_MAPS.values()
    ]


def _spoken(student: Student, judged: Sequence[JudgedRow], ids: tuple[str, ...], name: str) -> TaskOutputs:
    """What one student said of every image; under another name than "student" it is a control."""
    calibration = [student.card.calibration[finding] for finding in student.findings]
    pair = student.modality.pair
    dices = _measured([row.dices for row in judged], (*((pair.name,) if pair else ()), *student.structure_names))
    return TaskOutputs(
        name=name, role="student" if name == "student" else "control", ids=ids, findings=student.findings,
        logits=np.stack([row.logits for row in judged]), calibration=[(c.scale, c.bias) for c in calibration],
        thresholds=[c.threshold for c in calibration], conformal=conformal_of(calibration), dices=dices,
        tiers=told_tiers(np.stack([row.logits for row in judged]), calibration),
        distances={mask: _measured([row.distances.get(mask, {}) for row in judged], DISTANCES) for mask in dices},
        reports=[row.report or "" for row in judged] if "report" in student.tasks else None,
        boxes=_columns([row.boxes for row in judged]),
        facts={"model_id": student.card.model_id, **_size(student)},
    )


def _columns(rows: Sequence[Mapping[str, Cell]]) -> dict[str, list[Cell]]:
    """Rows of the same names as one list a name."""
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def _measured(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, Numbers]:
    """Figures by name, those only that were measured at all. Shapes: [N], nan = not measured."""
    columns = {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}
    return {name: values for name, values in columns.items() if not np.isnan(values).all()}


def _require_rows(table: StudyTable, path: Path, left_out: Sequence[Skipped]) -> None:
    """Raise InputError if nothing is left to judge."""
    if not len(table):
        why = Counter(item.why for item in left_out).most_common(1)
        said = f"has no image that can be judged ({why[0][1]} x {why[0][0]})" if why else "has no row"
        raise InputError(path.name, said, mend="give a table with frontal images that can be read")


def unseen_rows(student: Student, table: StudyTable, split: str, path: Path) -> StudyTable:
    """The rows of the chosen split that have an image and whose patients the student did not learn from.

    Marks are shared (see `patient_mark`), so of the same sources some strangers are left out too, and no one else slips in.
    Raises: InputError as `evaluate_student` says.
    """
    known = _perhaps_learnt(student, table)
    keep = (table.frame["image"] != "").to_numpy(dtype=np.bool_, copy=True)
    if split not in ("unseen", "all"):
        keep &= (table.frame["split"] == split).to_numpy(dtype=np.bool_)
        if split == "test":
            _refuse_learnt(student, table, keep, known, path)
    if split in ("unseen", "test"):
        keep &= ~known
    if not keep.any():
        raise InputError(path.name, f"has no image in the part '{split}'", mend="choose another --split")
    return table.select(rows=keep)


def _perhaps_learnt(student: Student, table: StudyTable) -> NDArray[np.bool_]:
    """Whether each row's patient bears a mark of the card and comes from a source that the card names, bool [N]."""
    seen, sources = _marks(student), _training(student).get("patient_sources")
    digits = len(next(iter(seen), ""))  # cards of before have marks of twelve digits
    marked = np.array([patient_mark(str(patient), digits) in seen for patient in table.frame["patient_id"]], dtype=np.bool_)
    asked = np.ones(len(table), dtype=np.bool_) if sources is None else table.frame["source"].isin(list(sources)).to_numpy()
    return np.asarray(marked & asked, dtype=np.bool_)


def _refuse_learnt(
    student: Student, table: StudyTable, keep: NDArray[np.bool_], known: NDArray[np.bool_], path: Path
) -> None:
    """Raise InputError if the test part holds more marked patients than strangers would by chance."""
    seen, patients = _marks(student), table.frame["patient_id"].to_numpy()
    shared = len(seen) / 16 ** len(next(iter(seen), ""))
    met = len(set(patients[keep & known]))
    if met > binom.ppf(CHANCE, len(set(patients[keep])), min(shared, 1.0)):
        raise InputError(
            path.name, f"{int((keep & known).sum())} images of the test part are of patients this student learnt from",
            mend="use --split unseen",
        )


def _marks(student: Student) -> set[str]:
    return set(_training(student).get("patients", ()))


def _training(student: Student) -> Any:
    """What the card says of the training: plain JSON values."""
    return student.card.training


def patient_mark(patient_id: str, digits: int = MARK_DIGITS) -> str:
    """A mark that a patient shares with many others, so that a card can say who was perhaps learnt from and names no one.

    A long hash, salted or not, names a patient of a published set: all its ids can be tried. Of 4,096 marks each stands
    for some seven of NIH's 30,805 patients, and with 1,409 marks in a card three in ten strangers bear one.
    """
    return hashlib.sha256(f"storyxai-patient|{patient_id}".encode()).hexdigest()[:digits]


def conformal_of(calibration: Sequence[Calibration]) -> tuple[ConformalLimits | None, ...]:
    """The conformal limits that a card holds, one entry a finding, None where it promises nothing."""
    return tuple(None if item.conformal is None else ConformalLimits(*item.conformal) for item in calibration)


def told_tiers(logits: NDArray[np.floating[Any]], calibration: Sequence[Calibration]) -> NDArray[np.str_]:
    """How a story tells each finding of each image (`storyxai.types.TIERS`), "" where the logit is nan. Shapes: both [N, F]."""
    columns = [
        np.concatenate([_tiers_of_finding(some, one) for some in np.array_split(values, 1 + len(values) // IMAGES_AT_ONCE)])
        for values, one in zip(np.asarray(logits, dtype=np.float64).T, calibration, strict=True)
    ]
    return np.stack(columns, axis=1)


def _tiers_of_finding(logits: Numbers, calibration: Calibration) -> NDArray[np.str_]:
    """The tiers of one finding, its interval as `evidence.predict.calibrated` draws it."""
    said = expit(calibration.scale * logits + calibration.bias)
    scales, biases = np.array(calibration.replicates or [(calibration.scale, calibration.bias)], dtype=np.float64).T
    low, high = np.percentile(expit(np.outer(scales, logits) + biases[:, None]), INTERVAL, axis=0)
    return tiers_of(said, np.minimum(low, said), np.maximum(high, said), calibration.threshold)


def student_speed(
    student: Student, *, batches: int, clock: Callable[[], float], beside: Sequence[Student] = ()
) -> dict[str, object]:
    """How fast each student looks at one image after another (findings, grid, masks; no report written), as plain values.

    The first is named "student"; those `beside` it say how many times faster it is. Units: `clock` counts seconds.
    """
    rows: list[ModelSpeed] = []
    for one, name in ((student, "student"), *((other, beside_name(other)) for other in beside)):
        grey = np.full((one.channels, one.size, one.size), 0.5, dtype=np.float32)
        found = images_per_second(partial(one.answer, grey), batch_size=1, batches=batches, clock=clock)
        ratio = rows[0].images_per_second / found.images_per_second if rows else UNSET
        rows.append(ModelSpeed(**vars(found), name=name, student_times_faster=ratio))
    return Speeds(tuple(rows)).as_dict()


def beside_name(other: Student) -> str:
    """What speeds call a model that was timed beside the student."""
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


def _subgroups(table: StudyTable) -> dict[str, Sequence[str]]:
    frame = table.frame
    groups: dict[str, Sequence[str]] = {name: [str(cell) for cell in frame[name]] for name in ("sex", "view", "origin")}
    groups["age"] = age_bands(frame["age_years"].to_numpy())
    sources = [str(cell) for cell in frame["source"]]
    return {**groups, "source": sources} if len(set(sources)) > 1 else groups


def _published_teacher(table: StudyTable, findings: tuple[str, ...]) -> list[TaskOutputs]:
    """The public DenseNet-121's published predictions for these images, where they lie beside the table's images."""
    if set(table.frame["source"]) != {"nih"} or not (table.root / "densenet121_predictions.csv").is_file():
        return []
    soft = read_densenet_targets(table.root)
    row_of = {name: i for i, name in enumerate(soft.ids)}
    ids = [name for name in table.frame["image_id"] if name in row_of]
    if not ids:
        return []
    logits = soft.logits[[row_of[name] for name in ids]][:, [soft.findings.index(name) for name in findings]]
    return [TaskOutputs("public DenseNet-121", "teacher", ids, findings=findings, logits=logits)]
