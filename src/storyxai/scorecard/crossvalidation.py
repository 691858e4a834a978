"""The figures of a cross-validation: out of fold, for each set apart, beside view position, teachers and another recipe.

Scores of different students are not compared: of each pair of a present and an absent case both lie in one fold. Intervals
draw patients anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from storyxai.errors import InputError
from storyxai.metrics.bootstrap import Estimate, Floats, Resamples, Statistic, draw_resamples, estimate, ratio
from storyxai.metrics.classification import auroc_statistic, mean_judged
from storyxai.models.card import Calibration


@dataclass(frozen=True)
class FindingFigures:
    """One finding on one set: AUROC of the student, of view position alone, of the teachers; and at its threshold the
    sensitivity and specificity, whose intervals include that the threshold was chosen on a sample (None: too few cases)."""

    finding: str
    images: int
    positives: int
    auroc: Estimate
    view_alone: Estimate
    teachers: Estimate | None
    threshold: float
    sensitivity: Estimate
    specificity: Estimate


@dataclass(frozen=True)
class SetFigures:
    """All of one set ("all": of every one): means over its findings, and differences paired by patient."""

    name: str
    images: int
    patients: int
    mean_auroc: Estimate
    view_alone: Estimate
    above_view: Estimate
    teachers: Estimate | None
    student_minus_teachers: Estimate | None
    minus_beside: Estimate | None
    findings: tuple[FindingFigures, ...]


@dataclass(frozen=True)
class CrossValidation:
    """The record of a cross-validation. `notes` say what a reader must know; `beside` names the other recipe, or is ""."""

    name: str
    recipe_sha256: str
    folds: int
    images: int
    patients: int
    beside: str
    notes: tuple[str, ...]
    sets: tuple[SetFigures, ...]
    calibration: Mapping[str, Calibration]


@dataclass(frozen=True, eq=False)
class Judged:
    """Out-of-fold scores by image. Shapes: names [N]; fold [N]; labels and each of the scores [N, F]; nan = not known.

    `scores` holds "student" and "view alone", where there are any "teachers" and "beside".
    """

    domain: NDArray[np.str_]
    patient_ids: NDArray[np.str_]
    fold: NDArray[np.int64]
    labels: NDArray[np.float32]
    scores: Mapping[str, Floats]


def view_scores(
    labels: NDArray[np.float32], view: NDArray[np.str_], fold: NDArray[np.int64], patient_ids: NDArray[np.str_]
) -> Floats:
    """How often each finding was present in images of the same view in the other folds: what view position alone says.

    Of one fold alone: in the images of the other half of its patients.
    """
    scores = np.full(labels.shape, np.nan)
    if len(np.unique(fold)) < 2:
        fold = np.unique(patient_ids, return_inverse=True)[1] % 2
    for name in np.unique(view):
        for number in np.unique(fold):
            here, others = (view == name) & (fold == number), (view == name) & (fold != number)
            known = ~np.isnan(labels[others])
            present = (np.nan_to_num(labels[others]) >= 0.5).sum(axis=0)
            scores[here] = (present + 0.5) / (known.sum(axis=0) + 1.0)
    return scores


def judge_sets(
    judged: Judged, findings: Sequence[str], calibration: Mapping[str, Calibration], *, replicates: int, seed: int
) -> tuple[SetFigures, ...]:
    """The figures of each set and, where there are several, of all."""
    names = sorted(set(judged.domain.tolist()))
    chosen = {name: np.flatnonzero(judged.domain == name) for name in names}
    if len(names) > 1:
        chosen["all"] = np.arange(len(judged.domain))
    return tuple(
        _judge_set(name, _take(judged, rows), findings, calibration, replicates=replicates, seed=seed)
        for name, rows in chosen.items()
    )


def _take(judged: Judged, rows: NDArray[np.intp]) -> Judged:
    return Judged(
        judged.domain[rows], judged.patient_ids[rows], judged.fold[rows], judged.labels[rows],
        {name: values[rows] for name, values in judged.scores.items()},
    )


def _judge_set(
    name: str, judged: Judged, findings: Sequence[str], calibration: Mapping[str, Calibration], *, replicates: int, seed: int
) -> SetFigures:
    resamples = draw_resamples(judged.patient_ids, count=replicates, seed=seed)
    columns = [column for column in range(len(findings)) if _judgeable(judged, column)]
    areas = {
        who: [_fold_auroc(judged.labels[:, column], scores[:, column], judged.fold) for column in columns]
        for who, scores in judged.scores.items()
    }
    means = {who: mean_judged(parts) for who, parts in areas.items()}
    ours = means["student"]

    def minus(who: str) -> Estimate | None:
        return estimate(lambda weights: ours(weights) - means[who](weights), resamples) if who in means else None

    view = minus("view alone")
    assert view is not None
    figures = tuple(
        _judge_finding(judged, findings[column], column, calibration[findings[column]], resamples,
                       {who: parts[place] for who, parts in areas.items()}, seed=seed)
        for place, column in enumerate(columns)
    )
    return SetFigures(
        name, len(judged.fold), len(set(judged.patient_ids.tolist())), estimate(ours, resamples),
        estimate(means["view alone"], resamples), view,
        estimate(means["teachers"], resamples) if "teachers" in means else None, minus("teachers"), minus("beside"), figures,
    )


def _judgeable(judged: Judged, column: int) -> bool:
    """Whether some fold holds a present and an absent case that all scores know."""
    labels = judged.labels[:, column]
    return any(
        bool((labels[judged.fold == number] >= 0.5).any() and (labels[judged.fold == number] < 0.5).any())
        for number in np.unique(judged.fold)
    )


def _judge_finding(
    judged: Judged, finding: str, column: int, calibration: Calibration, resamples: Resamples, areas: Mapping[str, Statistic],
    *, seed: int,
) -> FindingFigures:
    labels, logits = judged.labels[:, column], judged.scores["student"][:, column]
    sensitivity, specificity = operating_point(logits, labels, judged.patient_ids, calibration, seed=seed)
    return FindingFigures(
        finding, int((~np.isnan(labels)).sum()), int((labels >= 0.5).sum()), estimate(areas["student"], resamples),
        estimate(areas["view alone"], resamples), estimate(areas["teachers"], resamples) if "teachers" in areas else None,
        calibration.threshold, sensitivity, specificity,
    )


def operating_point(
    logits: Floats, labels: NDArray[np.float32], patient_ids: NDArray[np.str_], calibration: Calibration, *, seed: int
) -> tuple[Estimate, Estimate]:
    """Sensitivity and specificity at the calibration's threshold.

    Each replicate of the interval draws the patients anew and counts at one of the thresholds that the calibration's own
    resamples chose, on their own scale: so it includes the threshold's uncertainty. Shapes: [N] each.
    """
    known = ~np.isnan(labels) & ~np.isnan(logits)
    present = labels >= 0.5
    own = known & (expit(calibration.scale * logits + calibration.bias) >= calibration.threshold)
    resamples = draw_resamples(patient_ids, count=max(1, len(calibration.thresholds)), seed=seed + 1)
    drawn: dict[bool, list[float]] = {True: [], False: []}
    for row, ((scale, bias), threshold) in enumerate(zip(calibration.replicates, calibration.thresholds, strict=False)):
        weights = resamples.weights(row, row + 1)[0]
        said = expit(scale * logits + bias) >= threshold
        for side, shares in drawn.items():
            cases = known & (present == side)
            shares.append(float(ratio(np.array(weights[cases & (said == side)].sum()), np.array(weights[cases].sum()))))
    return _share(own, known & present, drawn[True], hit=True), _share(own, known & ~present, drawn[False], hit=False)


def _share(said: NDArray[np.bool_], cases: NDArray[np.bool_], drawn: Sequence[float], *, hit: bool) -> Estimate:
    if not cases.any():
        return Estimate(None, None, None, len(drawn), len(drawn))
    kept = np.array([value for value in drawn if np.isfinite(value)])
    value = float((said[cases] == hit).mean())
    if 2 * len(kept) <= len(drawn) or not len(kept):
        return Estimate(value, None, None, len(drawn), len(drawn) - len(kept))
    low, high = np.quantile(kept, [0.025, 0.975])
    return Estimate(value, float(low), float(high), len(drawn), len(drawn) - len(kept))


def _fold_auroc(labels: NDArray[np.float32], scores: Floats, fold: NDArray[np.int64]) -> Statistic:
    """The share of pairs of a present and an absent case of one fold that are ordered rightly, over all folds."""
    known = ~np.isnan(labels) & ~np.isnan(scores)
    parts = []
    for number in np.unique(fold):
        here = known & (fold == number)
        present, absent = here & (labels >= 0.5), here & (labels < 0.5)
        if present.any() and absent.any():
            rows = np.flatnonzero(here)
            parts.append((auroc_statistic(labels[rows], scores[rows]), rows, np.flatnonzero(present), np.flatnonzero(absent)))

    def area(weights: Floats) -> Floats:
        right, pairs = np.zeros(len(weights)), np.zeros(len(weights))
        for one, rows, present, absent in parts:
            count = weights[:, present].sum(axis=1) * weights[:, absent].sum(axis=1)
            right += np.where(count > 0, np.nan_to_num(one(weights[:, rows])) * count, 0.0)
            pairs += count
        return ratio(right, pairs)

    return area


def match_rows(ours: NDArray[np.str_], theirs: NDArray[np.str_]) -> NDArray[np.intp]:
    """The row of each of our images among theirs. Raises: InputError when they are other images."""
    place = {name: row for row, name in enumerate(theirs.tolist())}
    missing = [name for name in ours.tolist() if name not in place]
    if missing:
        why = f"has no answer about {len(missing)} images, first '{missing[0]}'"
        raise InputError("the other cross-validation", why, mend="cross-validate both recipes on the same tables")
    return np.array([place[name] for name in ours.tolist()], dtype=np.intp)
