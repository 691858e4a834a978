"""The scorecard: every model side by side on the same images, each figure with its n and a patient-level interval.

Plain arrays come in, plain JSON values go out: nothing here knows how a model was made. A label that is nan is "not
stated" and left out; a logit that is nan is "this model does not know"; an image a model did not score is not held
against it, and the n beside each figure says so. Differences between models use the images that both have scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from storyxai.errors import TableError, UnknownNameError
from storyxai.findings import match_name
from storyxai.metrics import agreement, bootstrap, calibration, classification, detection
from storyxai.metrics.bootstrap import Floats, Resamples, Statistic, mean_statistic
from storyxai.metrics.calibration import ConformalLimits
from storyxai.metrics.text import nearest_neighbour_rows, report_statistics
from storyxai.types import RESEARCH_USE, Value

__all__ = ["FORMAT", "NORMAL_REPORT", "References", "Scorecard", "TaskOutputs", "age_bands", "build_scorecard"]

FORMAT = "storyxai-scorecard/1"
NORMAL_REPORT = (
    "The heart is normal in size. The mediastinum is unremarkable. The lungs are clear. "
    "No pleural effusion. No pneumothorax."
)
Plain: TypeAlias = dict[str, Any]
Role: TypeAlias = Literal["student", "teacher", "control"]

_DICE_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_FALSE_ALARMS = (0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True, eq=False)
class TaskOutputs:
    """What one model said about the images `ids` (in its own order; some images may be missing).

    Shapes: `logits` [N, F], nan = not known; `calibration` [F, 2] (scale, bias) of each finding, fitted elsewhere;
    `thresholds` [F] on the calibrated probability, chosen elsewhere; `conformal` one entry a finding; `dices` and
    `distances_mm` [N] by mask name, nan = not measured; `reports` N texts; `boxes` by finding, for each image [K, 5]
    with x, y, width, height, score. Units: logits are log-odds. A "control" gives scores in any unit: it gets no
    calibration figures unless it has a calibration. `facts` are size and speed, as the caller measured them.
    """

    name: str
    role: Role
    ids: Sequence[str]
    findings: tuple[str, ...] = ()
    logits: ArrayLike | None = None
    calibration: ArrayLike | None = None
    thresholds: ArrayLike | None = None
    conformal: tuple[ConformalLimits, ...] = ()
    dices: Mapping[str, ArrayLike] = field(default_factory=dict)
    distances_mm: Mapping[str, ArrayLike] = field(default_factory=dict)
    reports: Sequence[str] | None = None
    boxes: Mapping[str, Sequence[ArrayLike]] = field(default_factory=dict)
    facts: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class References:
    """What is known about the images, and what the data set is.

    Shapes: `labels` [N, F] in [0, 1], nan = not stated; `reports` N texts, "" = none; `boxes` by finding, for each
    image [K, 4], empty = searched and none, None = not searched; `subgroups` by attribute, N names, "" = unknown.
    `baseline_reports` are reports by rules that saw no image or copied one (name: N texts).
    """

    dataset: str
    synthetic: bool
    ids: Sequence[str]
    patient_ids: Sequence[str]
    findings: tuple[str, ...]
    labels: ArrayLike
    reports: Sequence[str] | None = None
    boxes: Mapping[str, Sequence[ArrayLike | None]] = field(default_factory=dict)
    subgroups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    baseline_reports: Mapping[str, Sequence[str]] = field(default_factory=dict)
    facts: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Scorecard:
    """All figures as plain JSON values; an interval is {value, low, high, replicates, left_out}."""

    dataset: Plain
    settings: Plain
    models: tuple[Plain, ...]
    differences: tuple[Plain, ...]
    agreement: tuple[Plain, ...]
    report_baselines: tuple[Plain, ...]

    def as_dict(self) -> Plain:
        """The scorecard for scorecard.json: no nan, None where the data cannot say."""
        return {
            "format": FORMAT,
            "research_use": RESEARCH_USE,
            "dataset": self.dataset,
            "settings": self.settings,
            "models": list(self.models),
            "differences": list(self.differences),
            "agreement": list(self.agreement),
            "report_baselines": list(self.report_baselines),
        }


def build_scorecard(
    outputs: Sequence[TaskOutputs],
    references: References,
    *,
    seed: int,
    count: int = 1000,
    level: float = 0.95,
    min_positives: int = 20,
    map_cosines: Mapping[tuple[str, str], Mapping[str, ArrayLike]] | None = None,
) -> Scorecard:
    """The figures of all models on the references, side by side.

    A finding enters a mean when at least `min_positives` images are stated present and as many absent. `map_cosines`
    are similarities of maps by (student name, teacher name), finding, and image [N]. Every figure uses the same
    resamples of patients. Raises: TableError where the tables do not fit one another, UnknownNameError for a finding
    that is not in the vocabulary nor in the references.
    """
    bench = _bench(references, seed=seed, count=count, level=level, min_positives=min_positives)
    names = [output.name for output in outputs]
    if len(set(names)) != len(names):
        raise TableError("scorecard", f"two models have one name: {', '.join(names)}", mend="name each differently")
    models = [_aligned(output, bench) for output in outputs]
    baselines = _report_baselines(bench, models)
    students = [model for model in models if model.given.role == "student"]
    others = [model for model in models if model.given.role != "student"]
    pairs = [(student, other) for student in students for other in others]
    teachers = [(student, other) for student, other in pairs if other.given.role == "teacher"]
    cosines = map_cosines or {}
    return Scorecard(
        dataset=_dataset(bench),
        settings={"bootstrap": count, "level": level, "min_positives": min_positives, "seed": seed, "unit": "patient"},
        models=tuple(_model_scores(bench, model) for model in models),
        differences=tuple(_difference(bench, student, other) for student, other in pairs),
        agreement=tuple(
            _agreement(bench, student, teacher, cosines.get((student.given.name, teacher.given.name), {}))
            for student, teacher in teachers
        ),
        report_baselines=baselines,
    )


def age_bands(ages_years: ArrayLike) -> tuple[str, ...]:
    """The age band of each patient, "" where the age is not known."""
    bands = ("0-17", "18-39", "40-59", "60-79", "80+")
    ages = np.asarray(ages_years, dtype=np.float64)
    places = np.searchsorted([18, 40, 60, 80], ages, side="right")
    return tuple(bands[place] if known else "" for place, known in zip(places, np.isfinite(ages), strict=True))


@dataclass(frozen=True, eq=False)
class _Bench:
    """What all figures share: references as arrays, one set of resamples."""

    references: References
    labels: Floats
    row_of: Mapping[str, int]
    resamples: Resamples
    level: float
    min_positives: int

    def estimate(self, statistic: Statistic) -> Plain:
        return dict(bootstrap.estimate(statistic, self.resamples, level=self.level).as_dict())

    def share(self, statistic: Statistic, known: NDArray[np.bool_]) -> Plain:
        patients = int(self.counts(known)["patients"])
        return dict(bootstrap.estimate_share(statistic, self.resamples, patients=patients, level=self.level).as_dict())

    def counts(self, known: NDArray[np.bool_]) -> Plain:
        """How many images and patients are in `known`."""
        return {"images": int(known.sum()), "patients": len(np.unique(self.resamples.patient_of[known]))}

    def enough(self, scores: Floats) -> list[int]:
        """The columns with enough present and enough absent images among those with a score."""
        labels = np.where(np.isnan(scores), np.nan, self.labels)
        present, absent = (labels >= 0.5).sum(axis=0), (labels < 0.5).sum(axis=0)
        return [int(c) for c in np.flatnonzero((present >= self.min_positives) & (absent >= self.min_positives))]

    def mean_auroc(self, scores: Floats, minus: Floats | None = None) -> Plain:
        """Mean AUROC (or difference of two means) over the findings that have enough cases, with their names."""
        columns = self.enough(scores)
        first = classification.mean_auroc_statistic(self.labels[:, columns], scores[:, columns])
        statistic = first
        if minus is not None:
            second = classification.mean_auroc_statistic(self.labels[:, columns], minus[:, columns])
            statistic = _minus(first, second)
        return {**self.estimate(statistic), "findings": [self.references.findings[column] for column in columns]}


@dataclass(frozen=True, eq=False)
class _Model:
    """One model's outputs in the order of the references; nan or None where it said nothing."""

    given: TaskOutputs
    scored: NDArray[np.bool_]
    scores: Floats
    probabilities: Floats
    thresholds: Floats
    conformal: Mapping[int, ConformalLimits]
    dices: Mapping[str, Floats]
    distances_mm: Mapping[str, Floats]
    reports: tuple[str | None, ...]
    boxes: Mapping[str, tuple[ArrayLike | None, ...]]


def _bench(references: References, *, seed: int, count: int, level: float, min_positives: int) -> _Bench:
    images = len(references.ids)
    labels = np.asarray(references.labels, dtype=np.float64)
    if labels.shape != (images, len(references.findings)):
        why = f"labels of shape {labels.shape} do not fit {images} images and {len(references.findings)} findings"
        raise TableError(references.dataset, why, mend="give one row an image and one column a finding")
    columns: dict[str, Sequence[object]] = {"patient_ids": references.patient_ids}
    columns |= {f"subgroup {name}": values for name, values in references.subgroups.items()}
    columns |= {f"boxes of {name}": values for name, values in references.boxes.items()}
    columns |= {f"baseline {name}": values for name, values in references.baseline_reports.items()}
    if references.reports is not None:
        columns["reports"] = references.reports
    for name, values in columns.items():
        if len(values) != images:
            raise TableError(references.dataset, f"{len(values)} {name} for {images} images", mend="give one an image")
    row_of = {name: row for row, name in enumerate(references.ids)}
    if len(row_of) != images:
        raise TableError(references.dataset, "an image id occurs twice", mend="give each image its own id")
    resamples = bootstrap.draw_resamples(references.patient_ids, count=count, seed=seed)
    return _Bench(references, labels, row_of, resamples, level, min_positives)


def _aligned(given: TaskOutputs, bench: _Bench) -> _Model:
    images, findings = len(bench.labels), bench.references.findings
    unknown = [name for name in given.ids if name not in bench.row_of]
    if unknown:
        why = f"{len(unknown)} images are not in the references, first '{unknown[0]}'"
        raise TableError(given.name, why, mend="score the images of this table")
    rows = np.array([bench.row_of[name] for name in given.ids], dtype=np.intp)
    if len(np.unique(rows)) != len(rows):
        raise TableError(given.name, "an image was scored twice", mend="give each image one row")
    scores = np.full((images, len(findings)), np.nan)
    probabilities, thresholds = scores.copy(), np.full(len(findings), np.nan)
    conformal: dict[int, ConformalLimits] = {}
    if given.logits is not None:
        logits = _column(given, "logits", given.logits, (len(rows), len(given.findings)))
        for theirs, ours in _shared_findings(given, findings):
            scores[rows, ours] = logits[:, theirs]
            scale, bias = (1.0, 0.0) if given.calibration is None else np.asarray(given.calibration)[theirs]
            if given.calibration is not None or given.role != "control":
                probabilities[:, ours] = expit(scale * scores[:, ours] + bias)
            if given.thresholds is not None:
                thresholds[ours] = float(np.asarray(given.thresholds)[theirs])
            if given.conformal:
                conformal[ours] = given.conformal[theirs]

    def spread(name: str, values: ArrayLike) -> Floats:
        full = np.full(images, np.nan)
        full[rows] = _column(given, name, values, (len(rows),))
        return full

    def placed(name: str, values: Sequence[Any]) -> tuple[Any, ...]:
        if len(values) != len(rows):
            raise TableError(given.name, f"{len(values)} {name} for {len(rows)} images", mend="give one an image")
        full: list[Any] = [None] * images
        for row, value in zip(rows, values, strict=True):
            full[row] = value
        return tuple(full)

    scored = np.zeros(images, dtype=bool)
    scored[rows] = True
    return _Model(
        given,
        scored,
        scores,
        probabilities,
        thresholds,
        conformal,
        {name: spread(name, values) for name, values in given.dices.items()},
        {name: spread(name, values) for name, values in given.distances_mm.items()},
        placed("reports", given.reports) if given.reports is not None else (None,) * images,
        {name: placed(f"boxes of {name}", values) for name, values in given.boxes.items()},
    )


def _shared_findings(given: TaskOutputs, findings: tuple[str, ...]) -> list[tuple[int, int]]:
    """(column of the model, column of the references) of the findings both know, joined by name or synonym."""
    places = {name: place for place, name in enumerate(findings)}
    pairs = []
    for theirs, name in enumerate(given.findings):
        known = name if name in places else match_name(name)
        if known is None:
            raise UnknownNameError("finding", name, findings)
        if known in places:
            pairs.append((theirs, places[known]))
    return pairs


def _column(given: TaskOutputs, name: str, values: ArrayLike, shape: tuple[int, ...]) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise TableError(given.name, f"{name} of shape {array.shape}, not {shape}", mend="give one row an image")
    return array


def _dataset(bench: _Bench) -> Plain:
    labels = bench.labels
    findings = [
        {
            "finding": name,
            "n": int(np.isfinite(labels[:, column]).sum()),
            "positives": int((labels[:, column] >= 0.5).sum()),
            "positive_patients": bench.counts(labels[:, column] >= 0.5)["patients"],
        }
        for column, name in enumerate(bench.references.findings)
    ]
    groups = {
        attribute: [
            {"group": group, **bench.counts(np.asarray(values, dtype=np.str_) == group)}
            for group in sorted({value for value in values if value})
        ]
        for attribute, values in bench.references.subgroups.items()
    }
    return {
        "name": bench.references.dataset,
        "synthetic": bench.references.synthetic,
        **bench.counts(np.ones(len(labels), dtype=bool)),
        "findings": findings,
        "subgroups": groups,
        "facts": dict(bench.references.facts),
    }


def _model_scores(bench: _Bench, model: _Model) -> Plain:
    knows = [column for column in range(model.scores.shape[1]) if np.isfinite(model.scores[:, column]).any()]
    enough = bench.enough(model.scores)
    return {
        "name": model.given.name,
        "role": model.given.role,
        **bench.counts(model.scored),
        "facts": dict(model.given.facts),
        "calibrated": model.given.calibration is not None,
        "findings": [_finding_scores(bench, model, column, rare=column not in enough) for column in knows],
        "mean_auroc": bench.mean_auroc(model.scores) if knows else None,
        "reliability": _reliability(bench, model, enough),
        "masks": [_mask_scores(bench, model, name) for name in model.dices],
        "detection": [_detection(bench, model, name) for name in model.boxes if name in bench.references.boxes],
        "reports": _report_scores(bench, model.reports) if model.given.reports is not None else None,
        "subgroups": [] if model.given.role == "control" else _subgroups(bench, model),
    }


def _finding_scores(bench: _Bench, model: _Model, column: int, *, rare: bool) -> Plain:
    labels, scores, said = bench.labels[:, column], model.scores[:, column], model.probabilities[:, column]
    known = np.isfinite(labels) & np.isfinite(scores)
    threshold = model.thresholds[column]
    unknown = dict.fromkeys(("sensitivity", "specificity", "brier", "ece", "ece_floor", "conformal"))
    row: Plain = {
        "finding": bench.references.findings[column],
        "n": int(known.sum()),
        "positives": int((labels[known] >= 0.5).sum()),
        "rare": rare,
        "auroc": bench.estimate(classification.auroc_statistic(labels, scores)),
        "average_precision": bench.estimate(classification.average_precision_statistic(labels, scores)),
        "threshold": None if np.isnan(threshold) else float(threshold),
        **unknown,
    }
    if np.isfinite(said).any():
        if not np.isnan(threshold):
            found = classification.sensitivity_statistic(labels, said, threshold=threshold)
            spared = classification.specificity_statistic(labels, said, threshold=threshold)
            row["sensitivity"] = bench.share(found, known & (labels >= 0.5))
            row["specificity"] = bench.share(spared, known & (labels < 0.5))
        row["brier"] = bench.estimate(calibration.brier_statistic(said, labels))
        row["ece"] = bench.estimate(calibration.ece_statistic(said, labels))
        row["ece_floor"] = calibration.ece_floor(said[known])
    if column in model.conformal:
        limits = model.conformal[column]
        sets = calibration.conformal_sets(limits, said[known])
        row["conformal"] = {"level": limits.level, **calibration.conformal_coverage(sets, labels[known])}
    return row


def _reliability(bench: _Bench, model: _Model, columns: list[int]) -> list[Plain]:
    """Said against seen over all cells of the findings that have enough cases."""
    said, seen = model.probabilities[:, columns].reshape(-1), bench.labels[:, columns].reshape(-1)
    curve = calibration.reliability_curve(said, seen)
    return [{"probability": point.probability, "frequency": point.frequency, "n": point.n} for point in curve]


def _mask_scores(bench: _Bench, model: _Model, name: str) -> Plain:
    values = model.dices[name]
    known = np.isfinite(values)
    shares = _DICE_QUANTILES if known.any() else ()
    row: Plain = {
        "mask": name,
        **bench.counts(known),
        "dice": bench.estimate(mean_statistic(values)),
        "quantiles": [{"share": share, "dice": float(np.quantile(values[known], share))} for share in shares],
        "distance_mm": None,
    }
    if name in model.distances_mm:
        row["distance_mm"] = bench.estimate(mean_statistic(model.distances_mm[name]))
    return row


def _detection(bench: _Bench, model: _Model, name: str) -> Plain:
    wanted = [box if model.scored[row] else None for row, box in enumerate(bench.references.boxes[name])]
    drawn = [() if box is None else box for box in model.boxes[name]]
    tops = [np.asarray(box, dtype=np.float64).reshape(-1, 5) for box in drawn]
    best = [box[np.argmax(box[:, 4])] if len(box) else np.full(5, np.nan) for box in tops]
    centres = np.array([(box[0] + box[2] / 2, box[1] + box[3] / 2) for box in best])
    matches = {limit: detection.match_boxes(drawn, wanted, iou_limit=limit) for limit in detection.IOU_LIMITS}
    loose = matches[0.3]
    return {
        "finding": name,
        **bench.counts(loose.searched),
        "boxes": int(loose.boxes.sum()),
        "hit_rate": bench.share(mean_statistic(detection.hit_rows(centres, wanted)), loose.boxes > 0),
        "top_box_iou": bench.estimate(mean_statistic(detection.top_box_iou_rows(drawn, wanted))),
        "by_iou": [
            {"iou": limit, "average_precision": bench.estimate(detection.detection_ap_statistic(matched))}
            for limit, matched in matches.items()
        ],
        "free_response_iou_0.3": [
            {
                "false_alarms_per_image": alarms,
                "share_hit": bench.estimate(detection.free_response_statistic(loose, false_alarms_per_image=alarms)),
            }
            for alarms in _FALSE_ALARMS
        ],
    }


def _report_statistics(bench: _Bench, reports: Sequence[str | None]) -> tuple[NDArray[np.intp], dict[str, Statistic]]:
    """The images with both texts, and the statistics of their scores over all images' weights."""
    wanted = bench.references.reports or ()
    texts = zip(reports, wanted, strict=False)
    pairs = [(row, said, true) for row, (said, true) in enumerate(texts) if said is not None and true]
    rows = np.array([row for row, _, _ in pairs], dtype=np.intp)
    statistics = report_statistics(
        [said for _, said, _ in pairs],
        [true for _, _, true in pairs],
        findings=bench.references.findings,
        labels=bench.labels[rows],
    )
    return rows, {name: _on_rows(statistic, rows) for name, statistic in statistics.items()}


def _report_scores(bench: _Bench, reports: Sequence[str | None]) -> Plain | None:
    if bench.references.reports is None:
        return None
    rows, statistics = _report_statistics(bench, reports)
    known = np.zeros(len(bench.labels), dtype=bool)
    known[rows] = True
    texts = len({reports[row] for row in rows})
    scores = {name: bench.estimate(statistic) for name, statistic in statistics.items()}
    return {**bench.counts(known), "distinct_reports": texts, **scores}


def _report_baselines(bench: _Bench, models: Sequence[_Model]) -> tuple[Plain, ...]:
    """What reports earn that saw no image, or that copy the report of a look-alike of another patient."""
    if bench.references.reports is None:
        return ()
    wanted = bench.references.reports
    given: dict[str, tuple[str, Sequence[str | None]]] = {
        "normal report": ("the same sentences for everybody, whatever the image", [NORMAL_REPORT] * len(wanted))
    }
    for name, texts in bench.references.baseline_reports.items():
        given[name] = ("given by the caller", texts)
    for model in models:
        rows = [row for row in range(len(wanted)) if wanted[row] and np.isfinite(model.scores[row]).any()]
        patients = [str(bench.references.patient_ids[row]) for row in rows]
        if model.given.role == "student" and len(set(patients)) > 1:
            features = np.nan_to_num(model.scores[rows])
            near = nearest_neighbour_rows(features, features, patients=patients, known_patients=patients)
            texts_of: list[str | None] = [None] * len(wanted)
            for row, other in zip(rows, near, strict=True):
                texts_of[row] = wanted[rows[other]]
            about = f"the reference report of another patient's image, the nearest by the logits of {model.given.name}"
            given["nearest neighbour"] = (about, texts_of)
            break
    return tuple(
        {"name": name, "about": about, "reports": _report_scores(bench, said)} for name, (about, said) in given.items()
    )


def _subgroups(bench: _Bench, model: _Model) -> list[Plain]:
    rows = []
    for attribute, values in bench.references.subgroups.items():
        named = np.asarray(values, dtype=np.str_)
        for group in sorted({value for value in values if value}):
            inside = named == group
            here = np.where(inside[:, None], model.scores, np.nan)
            rest = np.where((~inside & (named != ""))[:, None], model.scores, np.nan)
            # The same findings on both sides, or the group would be compared on other questions.
            columns = [column for column in bench.enough(here) if column in bench.enough(rest)]
            labels = bench.labels[:, columns]
            first = classification.mean_auroc_statistic(labels, here[:, columns])
            second = classification.mean_auroc_statistic(labels, rest[:, columns])
            rows.append(
                {
                    "attribute": attribute,
                    "group": group,
                    **bench.counts(inside & model.scored),
                    "findings": [bench.references.findings[column] for column in columns],
                    "mean_auroc": bench.estimate(first),
                    "minus_others": bench.estimate(_minus(first, second)),
                    "dice": {
                        name: bench.estimate(mean_statistic(np.where(inside, dices, np.nan)))
                        for name, dices in model.dices.items()
                    },
                }
            )
    return rows


def _difference(bench: _Bench, student: _Model, other: _Model) -> Plain:
    """Student minus the other model on the images and findings that both have scored."""
    both = np.isfinite(student.scores) & np.isfinite(other.scores)
    ours, theirs = np.where(both, student.scores, np.nan), np.where(both, other.scores, np.nan)
    findings = []
    for column in np.flatnonzero(both.any(axis=0)):
        labels = bench.labels[:, column]
        known = both[:, column] & np.isfinite(labels)
        first, second = (classification.auroc_statistic(labels, scores[:, column]) for scores in (ours, theirs))
        findings.append(
            {
                "finding": bench.references.findings[int(column)],
                "n": int(known.sum()),
                "positives": int((labels[known] >= 0.5).sum()),
                "auroc": bench.estimate(_minus(first, second)),
            }
        )
    masks = []
    for name in sorted(set(student.dices) & set(other.dices)):
        gap = student.dices[name] - other.dices[name]
        masks.append({"mask": name, **bench.counts(np.isfinite(gap)), "dice": bench.estimate(mean_statistic(gap))})
    row: Plain = {
        "student": student.given.name,
        "other": other.given.name,
        "role": other.given.role,
        **bench.counts(np.asarray(both.any(axis=1))),
        "findings": findings,
        "mean_auroc": bench.mean_auroc(ours, minus=theirs) if findings else None,
        "masks": masks,
        "reports": None,
    }
    if student.given.reports is not None and other.given.reports is not None and bench.references.reports is not None:
        pairs = zip(student.reports, other.reports, strict=True)
        both_said = [(None, None) if None in pair else pair for pair in pairs]
        _, own = _report_statistics(bench, [said for said, _ in both_said])
        _, taught = _report_statistics(bench, [said for _, said in both_said])
        row["reports"] = {name: bench.estimate(_minus(own[name], taught[name])) for name in own}
    return row


def _agreement(bench: _Bench, student: _Model, teacher: _Model, cosines: Mapping[str, ArrayLike]) -> Plain:
    rows = []
    for column, name in enumerate(bench.references.findings):
        known = np.isfinite(student.scores[:, column]) & np.isfinite(teacher.scores[:, column])
        if not known.any():
            continue
        taught, learnt = teacher.probabilities[:, column], student.probabilities[:, column]
        limits = float(teacher.thresholds[column]), float(student.thresholds[column])
        row: Plain = {
            "finding": name,
            "n": int(known.sum()),
            "correlation": agreement.correlation(teacher.scores[:, column], student.scores[:, column]),
            "mean_probability_difference": agreement.mean_difference(taught, learnt),
            "kl_nats": agreement.bernoulli_kl(teacher.scores[:, column], student.scores[:, column]),
            "decisions_equal": None,
            "decisions_kappa": None,
            "map_cosine": None,
        }
        if not np.isnan(limits).any():
            thresholds = {"teacher_threshold": limits[0], "student_threshold": limits[1]}
            row["decisions_equal"] = agreement.decision_agreement(taught, learnt, **thresholds)
            row["decisions_kappa"] = agreement.decision_kappa(taught, learnt, **thresholds)
        if name in cosines:
            values = _column(student.given, f"map similarities of {name}", cosines[name], (len(bench.labels),))
            row["map_cosine"] = bench.estimate(mean_statistic(values))
        rows.append(row)
    return {"student": student.given.name, "teacher": teacher.given.name, "findings": rows}


def _minus(first: Statistic, second: Statistic) -> Statistic:
    return lambda weights: first(weights) - second(weights)


def _on_rows(statistic: Statistic, rows: NDArray[np.intp]) -> Statistic:
    return lambda weights: statistic(weights[:, rows])
