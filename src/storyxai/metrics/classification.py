"""How well scores tell present from absent. nan labels are "not stated" and nan scores "not known": both are left out.

Functions ending in `_statistic` give a function of image weights for the bootstrap; the others give one number, or None
where the data cannot say (a class without a case). A label of 0.5 or more counts as present.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from storyxai.errors import InputError
from storyxai.metrics.bootstrap import Floats, Statistic, mean_statistic, ratio, value_of

__all__ = [
    "auroc", "auroc_statistic", "average_precision_statistic", "mean_auroc_statistic", "mean_judged",
    "mean_judged_auroc_statistic", "per_finding", "roc_points", "sensitivity_statistic", "specificity_statistic",
]


def auroc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """The chance that a random present case scores above a random absent one, ties counting half; None without both."""
    return value_of(auroc_statistic(labels, scores), len(np.asarray(scores)))


def auroc_statistic(labels: ArrayLike, scores: ArrayLike) -> Statistic:
    """AUROC as a statistic of image weights. Shapes: `labels`, `scores` [N].

    Source: Mann-Whitney U over the product of the classes' weights. The absent cases are added up once between every two
    neighbouring scores of present cases, so a resample costs one pass over the images.
    """
    present, absent, values = _split(labels, scores)
    steps, is_absent = _Steps.of(values, present, absent), _marks(absent, len(values))

    def area(weights: Floats) -> Floats:
        held, below, level = steps.sums(weights)
        wins = (held * (np.cumsum(below + level, axis=0) - level / 2.0)).sum(axis=0)
        return ratio(wins, held.sum(axis=0) * (weights @ is_absent))

    return area


def mean_auroc_statistic(labels: ArrayLike, scores: ArrayLike) -> Statistic:
    """The mean of the findings' AUROCs, resampled jointly. Shapes: `labels`, `scores` [N, F].

    A resample in which any finding lacks a class is undefined: a mean over fewer findings would be another figure.
    """
    stated, given = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    areas = [auroc_statistic(stated[:, column], given[:, column]) for column in range(given.shape[1])]

    def mean(weights: Floats) -> Floats:
        if not areas:
            return np.full(len(weights), np.nan)
        total = np.zeros(len(weights))
        for area in areas:
            total += area(weights)
        return total / len(areas)

    return mean


def mean_judged_auroc_statistic(labels: ArrayLike, scores: ArrayLike) -> Statistic:
    """The mean of the AUROCs that a resample can judge, resampled jointly. Shapes: `labels`, `scores` [N, F].

    For findings with a handful of cases, where hardly any resample holds both classes of each. A resample that lacks a
    class of a finding gives the mean of the others, so the interval speaks of a slightly changing set of findings; a
    finding of one patient hardly varies, so it is too narrow rather than too wide. `mean_auroc_statistic` has neither fault.
    """
    stated, given = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    return mean_judged([auroc_statistic(stated[:, column], given[:, column]) for column in range(given.shape[1])])


def mean_judged(areas: Sequence[Statistic]) -> Statistic:
    """The mean of those statistics that a resample can judge."""

    def mean(weights: Floats) -> Floats:
        total, judged = np.zeros(len(weights)), np.zeros(len(weights))
        for area in areas:
            found = area(weights)
            known = np.isfinite(found)
            total += np.where(known, found, 0.0)
            judged += known
        return ratio(total, judged)

    return mean


def average_precision_statistic(labels: ArrayLike, scores: ArrayLike) -> Statistic:
    """Average precision as a statistic of image weights: recall steps times precision, tied scores in one step."""
    present, absent, values = _split(labels, scores)
    steps, is_absent = _Steps.of(-values, present, absent), _marks(absent, len(values))

    def precision(weights: Floats) -> Floats:
        held, before, level = steps.sums(weights)
        found = np.cumsum(held, axis=0)
        drawn = np.cumsum(held + before + level, axis=0)
        share = np.divide(found, drawn, out=np.zeros_like(found), where=drawn > 0)
        total = held.sum(axis=0)
        both = (total > 0) & ((weights @ is_absent) > 0)
        return np.where(both, ratio((held * share).sum(axis=0), total), np.nan)

    return precision


def sensitivity_statistic(labels: ArrayLike, scores: ArrayLike, *, threshold: float) -> Statistic:
    """Sensitivity at `threshold` as a statistic of image weights."""
    present, _, values = _split(labels, scores)
    return _share_statistic(len(values), present, values[present] >= threshold)


def specificity_statistic(labels: ArrayLike, scores: ArrayLike, *, threshold: float) -> Statistic:
    """Specificity at `threshold` as a statistic of image weights."""
    _, absent, values = _split(labels, scores)
    return _share_statistic(len(values), absent, values[absent] < threshold)


def roc_points(labels: ArrayLike, scores: ArrayLike, *, most: int = 40) -> tuple[tuple[float, float], ...]:
    """At most `most` points (false alarm rate, sensitivity) of the ROC curve, from (0, 0) to (1, 1); () without both classes.

    Of more, those that lie nearest to even steps along the curve, so that steep and flat parts keep their form. Rates are
    rounded to thousandths, and no score is told. Raises: InputError for fewer than two points.
    """
    if most < 2:
        raise InputError("points of a ROC curve", f"{most} are too few", mend="ask for 2 or more")
    candidates, hits, alarms = _operating_points(labels, scores)
    if candidates is None:
        return ()
    hits, alarms = np.append(0.0, hits), np.append(0.0, alarms)
    way = hits + alarms  # 0 to 2, never falling
    chosen = np.unique([int(np.abs(way - step).argmin()) for step in np.linspace(0.0, 2.0, min(most, len(way)))])
    return tuple((round(float(alarms[i]), 3), round(float(hits[i]), 3)) for i in chosen)


def per_finding(
    metric: Callable[[ArrayLike, ArrayLike], float | None], labels: ArrayLike, scores: ArrayLike
) -> tuple[float | None, ...]:
    """`metric` of each column. Shapes: `labels`, `scores` [N, F] with nan where not stated or not known."""
    stated, given = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    _same_shape(stated, given)
    return tuple(metric(stated[:, column], given[:, column]) for column in range(given.shape[1]))


def _operating_points(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats | None, Floats, Floats]:
    """Thresholds from high to low with the sensitivity and false alarm rate of each; None without both classes."""
    present, absent, values = _split(labels, scores)
    if not len(present) or not len(absent):
        return None, np.array([]), np.array([])
    levels = np.unique(values[np.concatenate([present, absent])])[::-1]
    hits = np.searchsorted(-np.sort(values[present])[::-1], -levels, side="right") / len(present)
    alarms = np.searchsorted(-np.sort(values[absent])[::-1], -levels, side="right") / len(absent)
    between = (levels[:-1] + levels[1:]) / 2.0
    # Between neighbouring floats there is no number: the midpoint may round to the lower score, which must stay out.
    between = np.where(between > levels[1:], between, levels[:-1])
    return np.append(between, levels[-1]), hits, alarms


@dataclass(frozen=True, eq=False)
class _Steps:
    """Images added up between the scores of present cases, as sparse matrices of 0 and 1. Shapes: [K, N] for K scores.

    `held` are the present cases at each score, `below` the absent ones between it and the next lower score of a present
    case, `level` the absent ones at the very score. All are empty where either class is.
    """

    held: csr_array
    below: csr_array
    level: csr_array

    @classmethod
    def of(cls, values: Floats, present: NDArray[np.intp], absent: NDArray[np.intp]) -> _Steps:
        scores = np.unique(values[present]) if len(absent) else np.array([])
        place = np.searchsorted(scores, values[absent], side="left")
        inside = place < len(scores)
        place, rows = place[inside], absent[inside]
        equal = values[rows] == scores[place]
        kept = present if len(scores) else present[:0]
        shape = len(scores), len(values)
        return cls(
            _ones(np.searchsorted(scores, values[kept]), kept, shape),
            _ones(place[~equal], rows[~equal], shape), _ones(place[equal], rows[equal], shape),
        )

    def sums(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """The weight of `held`, `below` and `level` in each resample. Shapes: [B, N] to [K, B]."""
        columns = np.ascontiguousarray(weights.T)
        return self.held @ columns, self.below @ columns, self.level @ columns


def _marks(rows: NDArray[np.intp], images: int) -> Floats:
    marks = np.zeros(images)
    marks[rows] = 1.0
    return marks


def _ones(rows: NDArray[np.intp], columns: NDArray[np.intp], shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)


def _share_statistic(images: int, rows: NDArray[np.intp], right: NDArray[np.bool_]) -> Statistic:
    values = np.full(images, np.nan)
    values[rows] = right
    return mean_statistic(values)


def _split(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Rows stated present, rows stated absent, and all scores."""
    stated, values = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    _same_shape(stated, values)
    known = np.isfinite(stated) & ~np.isnan(values)
    return np.flatnonzero(known & (stated >= 0.5)), np.flatnonzero(known & (stated < 0.5)), values


def _same_shape(labels: Floats, scores: Floats) -> None:
    if labels.shape != scores.shape:
        why = f"shape {labels.shape} does not fit scores {scores.shape}"
        raise InputError("labels", why, mend="give each score one label")
