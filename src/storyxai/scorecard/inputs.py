"""What models said and what is known about the same images, brought into one order for the scorecard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from storyxai.data.table import Skipped
from storyxai.errors import TableError, UnknownNameError
from storyxai.metrics import bootstrap, classification
from storyxai.metrics.bootstrap import Estimate, Floats, Resamples, Statistic, gap_between
from storyxai.metrics.calibration import ConformalLimits
from storyxai.modalities.contract import Modality
from storyxai.modalities.registry import modality_named
from storyxai.scorecard.record import MeanFigure, NumberedFigure
from storyxai.types import Value

Role: TypeAlias = Literal["student", "teacher", "control"]
DISTANCES = ("average_px", "hausdorff_95_px", "average_mm", "hausdorff_95_mm")
"""How far two outlines lie apart: on average over both, and the 95th percentile of the worse direction."""


class Counts(TypedDict):
    """How many images and patients a figure is of."""

    images: int
    patients: int


@dataclass(frozen=True, eq=False)
class TaskOutputs:
    """What one model said about the images `ids` (in its own order; some images may be missing).

    Shapes: `logits` [N, F], nan = not known; `calibration` [F, 2] (scale, bias) of each finding, fitted elsewhere;
    `thresholds` [F] on the calibrated probability, chosen elsewhere; `conformal` one entry a finding, None = not
    promised; `tiers` [N, F] how each finding is told (`storyxai.types.TIERS`), "" = not told; `dices` [N] by mask name
    and `distances` [N] by mask name and measure (one of `DISTANCES`), nan = not measured; `reports` N texts; `boxes` by
    finding, for each image [K, 5] with x, y, width, height, score; `features`
    [N, K] what the network made of each image. Units: logits are log-odds. A "control" gives scores in any unit: it
    gets no calibration figures unless it has a calibration. `facts` are sizes and names: the same in every run.
    """

    name: str
    role: Role
    ids: Sequence[str]
    findings: tuple[str, ...] = ()
    logits: ArrayLike | None = None
    calibration: ArrayLike | None = None
    thresholds: ArrayLike | None = None
    conformal: tuple[ConformalLimits | None, ...] = ()
    tiers: ArrayLike | None = None
    dices: Mapping[str, ArrayLike] = field(default_factory=dict)
    distances: Mapping[str, Mapping[str, ArrayLike]] = field(default_factory=dict)
    reports: Sequence[str] | None = None
    boxes: Mapping[str, Sequence[ArrayLike]] = field(default_factory=dict)
    features: ArrayLike | None = None
    facts: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class References:
    """What is known about the images, and what the data set is.

    Shapes: `labels` [N, F] in [0, 1], nan = not stated; `reports` N texts, "" = none; `boxes` by finding, for each
    image [K, 4], empty = searched and none, None = not searched; `subgroups` by attribute, N names, "" = unknown.
    `baseline_reports` are reports by rules that saw no image or copied one (name: N texts), `baselines_about` the rules.
    `left_out` names the images that were not judged, and why. `modality` (None: the default one) knows synonyms of the
    findings and reads them in reports. `remedies` are what the training did about rare findings, in words.
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
    baselines_about: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Value] = field(default_factory=dict)
    left_out: tuple[Skipped, ...] = ()
    modality: Modality | None = None
    remedies: tuple[str, ...] = ()

    @property
    def kind(self) -> Modality:
        """The modality of the images."""
        return self.modality or modality_named()


@dataclass(frozen=True, eq=False)
class Bench:
    """What all figures share: references as arrays, one set of resamples."""

    references: References
    labels: Floats
    row_of: Mapping[str, int]
    resamples: Resamples
    level: float
    min_positives: int

    def share(self, statistic: Statistic, known: NDArray[np.bool_]) -> Estimate:
        """The estimate of a share of the patients in `known`."""
        patients = self.patients(known)
        return bootstrap.estimate_share(statistic, self.resamples, patients=patients, level=self.level)

    def ranked(self, statistic: Statistic, labels: Floats, scores: Floats, *, difference: bool = False) -> Estimate:
        """The estimate of how well scores rank: an AUROC, a mean of them, or a difference. Shapes: [N] or [N, F]."""
        stated, given = labels.reshape(len(labels), -1), scores.reshape(len(scores), -1)
        patients = [
            tuple(self.patients(np.isfinite(given[:, column]) & side) for side in (column_of >= 0.5, column_of < 0.5))
            for column, column_of in enumerate(stated.T)
        ]
        return bootstrap.estimate_ranking(
            statistic, self.resamples, patients=[(one, other) for one, other in patients], level=self.level,
            difference=difference,
        )

    def mean(self, statistic: Statistic, known: NDArray[np.bool_], *, difference: bool = False) -> Estimate:
        """The estimate of a figure, or of a difference of two, of the images in `known`."""
        return bootstrap.estimate_mean(
            statistic, self.resamples, patients=self.patients(known), level=self.level, difference=difference
        )

    def mean_of(self, statistic: Statistic, known: NDArray[np.bool_]) -> NumberedFigure:
        """`mean`, with how many images and patients it is of."""
        return NumberedFigure(**vars(self.mean(statistic, known)), **self.counts(known))

    def share_of(self, statistic: Statistic, known: NDArray[np.bool_]) -> NumberedFigure:
        """`share`, with how many images and patients it is of."""
        return NumberedFigure(**vars(self.share(statistic, known)), **self.counts(known))

    def patients(self, known: NDArray[np.bool_]) -> int:
        """How many patients are in `known`."""
        return len(np.unique(self.resamples.patient_of[known]))

    def counts(self, known: NDArray[np.bool_]) -> Counts:
        """How many images and patients are in `known`."""
        return {"images": int(known.sum()), "patients": self.patients(known)}

    def enough(self, scores: Floats, *, least: int | None = None) -> list[int]:
        """The columns with enough (`least`) present and enough absent images among those with a score."""
        least = self.min_positives if least is None else least
        labels = np.where(np.isnan(scores), np.nan, self.labels)
        present, absent = (labels >= 0.5).sum(axis=0), (labels < 0.5).sum(axis=0)
        return [int(c) for c in np.flatnonzero((present >= least) & (absent >= least))]

    def mean_auroc(self, scores: Floats, minus: Floats | None = None) -> MeanFigure:
        """Mean AUROC (or difference of two means) over the findings that have enough cases, with their names."""
        return self._mean(self.enough(scores), classification.mean_auroc_statistic, scores, minus)

    def mean_auroc_all(self, scores: Floats, minus: Floats | None = None) -> MeanFigure:
        """The same over every finding with one present and one absent image at least, however rare."""
        return self._mean(self.enough(scores, least=1), classification.mean_judged_auroc_statistic, scores, minus)

    def _mean(
        self, columns: list[int], of: Callable[[Floats, Floats], Statistic], scores: Floats, minus: Floats | None
    ) -> MeanFigure:
        labels = self.labels[:, columns]
        statistic = of(labels, scores[:, columns])
        if minus is not None:
            statistic = gap_between(statistic, of(labels, minus[:, columns]))
        judged = np.asarray((np.isfinite(labels) & np.isfinite(scores[:, columns])).any(axis=1))
        names = tuple(self.references.findings[column] for column in columns)
        found = self.ranked(statistic, labels, scores[:, columns], difference=minus is not None)
        return MeanFigure(**vars(found), findings=names, finding_count=len(names), **self.counts(judged))


@dataclass(frozen=True, eq=False)
class Spoken:
    """One model's outputs in the order of the references; nan or None where it said nothing."""

    given: TaskOutputs
    scored: NDArray[np.bool_]
    scores: Floats
    probabilities: Floats
    thresholds: Floats
    temperatures: Floats
    conformal: Mapping[int, ConformalLimits]
    tiers: NDArray[np.str_]
    dices: Mapping[str, Floats]
    distances: Mapping[str, Mapping[str, Floats]]
    reports: tuple[str | None, ...]
    boxes: Mapping[str, tuple[ArrayLike | None, ...]]
    features: Floats | None


def bench_of(references: References, *, seed: int, count: int, level: float, min_positives: int) -> Bench:
    """The references as arrays, with resamples of their patients. Raises: TableError where columns do not fit."""
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
    return Bench(references, labels, row_of, resamples, level, min_positives)


def aligned(given: TaskOutputs, bench: Bench) -> Spoken:
    """The outputs in the order of the references. Raises: TableError, UnknownNameError as `build_scorecard` says."""
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
    temperatures = thresholds.copy()
    conformal: dict[int, ConformalLimits] = {}
    if given.logits is not None:
        logits = column_of(given, "logits", given.logits, (len(rows), len(given.findings)))
        for theirs, ours in _shared_findings(given, findings, bench.references.kind):
            scores[rows, ours] = logits[:, theirs]
            scale, bias = (1.0, 0.0) if given.calibration is None else np.asarray(given.calibration)[theirs]
            if given.calibration is not None or given.role != "control":
                probabilities[:, ours] = expit(scale * scores[:, ours] + bias)
            if given.calibration is not None and scale > 0:
                temperatures[ours] = 1.0 / scale
            if given.thresholds is not None:
                thresholds[ours] = float(np.asarray(given.thresholds)[theirs])
            promised = given.conformal[theirs] if given.conformal else None
            if promised is not None:
                conformal[ours] = promised

    tiers = np.full(scores.shape, "", dtype="<U11")
    if given.tiers is not None:
        told = np.asarray(given.tiers, dtype=np.str_)
        if told.shape != (len(rows), len(given.findings)):
            why = f"tiers of shape {told.shape}, not {(len(rows), len(given.findings))}"
            raise TableError(given.name, why, mend="give one row an image")
        for theirs, ours in _shared_findings(given, findings, bench.references.kind):
            tiers[rows, ours] = told[:, theirs]

    def spread(name: str, values: ArrayLike) -> Floats:
        full = np.full(images, np.nan)
        full[rows] = column_of(given, name, values, (len(rows),))
        return full

    def placed(name: str, values: Sequence[Any]) -> tuple[Any, ...]:
        if len(values) != len(rows):
            raise TableError(given.name, f"{len(values)} {name} for {len(rows)} images", mend="give one an image")
        full: list[Any] = [None] * images
        for row, value in zip(rows, values, strict=True):
            full[row] = value
        return tuple(full)

    features = None
    if given.features is not None:
        wide = np.asarray(given.features, dtype=np.float64)
        features = np.full((images, wide.shape[-1]), np.nan)
        features[rows] = column_of(given, "features", wide, (len(rows), wide.shape[-1]))
    scored = np.zeros(images, dtype=bool)
    scored[rows] = True
    return Spoken(
        given,
        scored,
        scores,
        probabilities,
        thresholds,
        temperatures,
        conformal,
        tiers,
        {name: spread(name, values) for name, values in given.dices.items()},
        {
            name: {measure: spread(f"{measure} of {name}", column) for measure, column in found.items()}
            for name, found in given.distances.items()
        },
        placed("reports", given.reports) if given.reports is not None else (None,) * images,
        {name: placed(f"boxes of {name}", values) for name, values in given.boxes.items()},
        features,
    )


def _shared_findings(given: TaskOutputs, findings: tuple[str, ...], modality: Modality) -> list[tuple[int, int]]:
    """(column of the model, column of the references) of the findings both know, joined by name or synonym."""
    places = {name: place for place, name in enumerate(findings)}
    pairs = []
    for theirs, name in enumerate(given.findings):
        known = name if name in places else modality.match(name)
        if known is None:
            raise UnknownNameError("finding", name, findings)
        if known in places:
            pairs.append((theirs, places[known]))
    return pairs


def column_of(given: TaskOutputs, name: str, values: ArrayLike, shape: tuple[int, ...]) -> Floats:
    """`values` as float64 of that shape. Raises: TableError naming the model and the column."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise TableError(given.name, f"{name} of shape {array.shape}, not {shape}", mend="give one row an image")
    return array
