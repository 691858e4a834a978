"""Whether a probability means what it says: fitting it, measuring it, and sets with a promised coverage.

nan labels are "not stated", nan logits "not known"; both are left out. A label of 0.5 or more counts as present.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from storyxai.errors import InputError
from storyxai.metrics.bootstrap import Floats, Statistic, draw_resamples, mean_statistic, ratio, value_of

# The weak prior of the fit, in words: the logits are about right until the labels say otherwise.
SCALE_PRIOR_MEAN, SCALE_PRIOR_DEVIATION = 1.0, 1.0
BIAS_PRIOR_MEAN, BIAS_PRIOR_DEVIATION = 0.0, 5.0


def calibrated(logits: ArrayLike, scale: float, bias: float) -> Floats:
    """The probability `sigmoid(scale * logit + bias)`; `scale` is one over the temperature."""
    return np.asarray(expit(scale * np.asarray(logits, dtype=np.float64) + bias), dtype=np.float64)


def fit_platt(logits: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """(scale, bias) that make `sigmoid(scale * logit + bias)` fit the labels best; (1, 0) when nothing is stated.

    Units: log-odds. Source: Platt 1999 with temperature = 1 / scale, maximum a posteriori under scale ~ N(1, 1) and
    bias ~ N(0, 5), which keeps separable or one-sided labels finite. The scale is never negative: calibration may
    flatten a logit, it must not turn it round. Newton's method; the objective is convex.
    """
    values, stated = _known(logits, labels)
    scale, bias = _fit(values, stated, np.ones((1, len(values))))[0]
    return float(scale), float(bias)


def bootstrap_platt(
    logits: ArrayLike,
    labels: ArrayLike,
    patient_ids: Sequence[str] | NDArray[np.str_],
    *,
    count: int = 200,
    seed: int,
) -> Floats:
    """`count` fits of (scale, bias), each on a resample of whole patients. Shapes: float64 [count, 2].

    The quantiles of `sigmoid(scale * logit + bias)` over the rows are the interval of a probability.
    """
    values, stated = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    known = np.isfinite(values) & np.isfinite(stated)
    if not known.any():
        return np.tile([SCALE_PRIOR_MEAN, BIAS_PRIOR_MEAN], (count, 1))
    ids = np.asarray(patient_ids, dtype=np.str_)[known]
    resamples = draw_resamples(ids, count=count, seed=seed)
    values, stated = _known(values, stated)
    block = max(1, 1_000_000 // len(values))
    stops = [(start, min(start + block, count)) for start in range(0, count, block)]
    return np.concatenate([_fit(values, stated, resamples.weights(start, stop)) for start, stop in stops])


@dataclass(frozen=True)
class ReliabilityBin:
    """One bin: mean probability said, share that was present, and how many cases."""

    probability: float
    frequency: float
    n: int


def reliability_curve(probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Said against seen, bin by bin, empty bins left out."""
    values, stated = _known(probabilities, labels)
    places = _places(values, bins)
    curve = []
    for place in np.unique(places):
        here = places == place
        curve.append(ReliabilityBin(float(values[here].mean()), float(stated[here].mean()), int(here.sum())))
    return tuple(curve)


def reliability_points(probabilities: ArrayLike, labels: ArrayLike) -> tuple[tuple[float, float, int], ...]:
    """`reliability_curve` as (said, seen, cases), to thousandths: ten bins, or fewer, of about twenty cases or more."""
    known = int((np.isfinite(np.asarray(probabilities, dtype=np.float64)) & np.isfinite(np.asarray(labels, np.float64))).sum())
    curve = reliability_curve(probabilities, labels, bins=max(1, min(10, known // 20)))
    return tuple((round(one.probability, 3), round(one.frequency, 3), one.n) for one in curve)


def ece(probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 10) -> float | None:
    """Expected calibration error: mean over bins of |said - seen|, weighted by cases; None when nothing is stated.

    Every bin has the same number of cases. It is never negative and so biased upwards in small sets: read it beside
    `ece_floor`.
    """
    return value_of(ece_statistic(probabilities, labels, bins=bins), np.asarray(labels).size)


def ece_statistic(probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 10) -> Statistic:
    """Expected calibration error as a statistic of image weights; the bins stay those of the whole set."""
    given, answers = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    rows = np.flatnonzero(np.isfinite(given) & np.isfinite(answers))
    values, stated = _known(given, answers)
    places = _places(values, bins)
    count = int(places.max()) + 1 if len(rows) else 0
    # One column a bin and one of marks for the total: a product over all images copies no weights.
    sums = np.zeros((len(given), count + 1))
    sums[rows, places], sums[rows, -1] = values - stated, 1.0

    def error(weights: Floats) -> Floats:
        found = weights @ sums
        return ratio(np.abs(found[:, :-1]).sum(axis=1), found[:, -1])

    return error


def ece_floor(probabilities: ArrayLike, *, bins: int = 10) -> float | None:
    """The error that perfectly calibrated probabilities like these would show by chance alone; None without any.

    Source: normal approximation, E|x| = sqrt(2 / pi) * deviation of a bin's sum of p (1 - p).
    """
    values = np.asarray(probabilities, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    variance = np.bincount(_places(values, bins), weights=values * (1.0 - values))
    return float(np.sqrt(2.0 / np.pi) * np.sqrt(variance).sum() / len(values))


def brier_statistic(probabilities: ArrayLike, labels: ArrayLike) -> Statistic:
    """Brier score as a statistic of image weights."""
    given, answers = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    _same_length(given, answers)
    present = np.where(np.isnan(answers), np.nan, answers >= 0.5)
    return mean_statistic((given - present) ** 2)


@dataclass(frozen=True)
class ConformalLimits:
    """Largest nonconformity accepted for each answer of one finding: 1 - p for "present", p for "absent".

    inf where too few cases of that class were seen to promise the level: the answer is then never excluded.
    """

    present: float
    absent: float
    level: float


def fit_conformal(
    probabilities: ArrayLike, labels: ArrayLike, *, level: float = 0.9,
    patient_ids: Sequence[str] | NDArray[np.str_] | None = None,
) -> ConformalLimits:
    """Limits that keep the true answer in the set with chance `level` in each class apart.

    Several images of one patient are no independent cases: patients are what is exchangeable. With `patient_ids` each
    patient counts once in a class, its images sharing that one evenly, and the promise is about an image of a new patient.
    Without them every image is a patient. Per class, because pooled coverage hides a rare class that is never covered.
    Source: class-conditional (Mondrian) split conformal prediction, Vovk 2012; patients as groups: Lee, Barber and Willett
    2023, hierarchical conformal prediction: of P patients, the smallest nonconformity that reaches (P + 1) `level` of them.
    Raises: InputError when `level` is not between 0 and 1, or there are not as many patients as labels.
    """
    if not 0.0 < level < 1.0:
        raise InputError("conformal level", f"{level} is not between 0 and 1", mend="0.9 promises nine in ten")
    given, answers = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    _same_length(given, answers)
    who = np.arange(given.size) if patient_ids is None else np.asarray(patient_ids, dtype=np.str_)
    _same_length(given, who)
    known = np.isfinite(given) & np.isfinite(answers)
    present, absent = known & (answers >= 0.5), known & (answers < 0.5)
    return ConformalLimits(
        _conformal_limit(1.0 - given[present], who[present], level), _conformal_limit(given[absent], who[absent], level), level
    )


def conformal_sets(limits: ConformalLimits, probabilities: ArrayLike) -> NDArray[np.bool_]:
    """Which answers stay in each set. Shapes: bool [N, 2], columns "present" and "absent"."""
    values = np.asarray(probabilities, dtype=np.float64)
    return np.stack([1.0 - values <= limits.present, values <= limits.absent], axis=-1)


class Coverage(TypedDict):
    """Achieved coverage in each class with its n, and how often the set is one answer, both, or none."""

    present_coverage: float | None
    present_n: int
    absent_coverage: float | None
    absent_n: int
    single_share: float | None
    both_share: float | None
    empty_share: float | None


def conformal_coverage(sets: NDArray[np.bool_], labels: ArrayLike) -> Coverage:
    """What the sets of cases hold of their labels, nan = not stated. Shapes: bool [N, 2], [N]."""
    stated = np.asarray(labels, dtype=np.float64)
    _same_length(sets[:, 0], stated)
    is_present, is_absent = stated >= 0.5, stated < 0.5  # nan is neither
    size = sets[is_present | is_absent].sum(axis=1)
    return {
        "present_coverage": float(sets[is_present, 0].mean()) if is_present.any() else None,
        "present_n": int(is_present.sum()),
        "absent_coverage": float(sets[is_absent, 1].mean()) if is_absent.any() else None,
        "absent_n": int(is_absent.sum()),
        "single_share": float((size == 1).mean()) if len(size) else None,
        "both_share": float((size == 2).mean()) if len(size) else None,
        "empty_share": float((size == 0).mean()) if len(size) else None,
    }


def _conformal_limit(nonconformity: Floats, who: NDArray[np.generic], level: float) -> float:
    """The smallest nonconformity within which (patients + 1) `level` patients lie; inf where there are not so many."""
    patients, place, images = np.unique(who, return_inverse=True, return_counts=True)
    order = np.argsort(nonconformity, kind="stable")
    reached = np.cumsum((1.0 / images[place])[order])
    enough = np.flatnonzero(reached >= (len(patients) + 1) * level - 1e-9)
    return float(nonconformity[order[enough[0]]]) if len(enough) else float("inf")


def _fit(logits: Floats, labels: Floats, weights: Floats) -> Floats:
    """Penalised logistic fits, one a row of `weights`. Shapes: [B, 2]."""
    fitted = _newton(logits, labels, weights, free_scale=True)
    turned = fitted[:, 0] < 0.0
    if turned.any():
        # Convex objective, one bound: the constrained optimum lies on the bound.
        fitted[turned] = _newton(logits, labels, weights[turned], free_scale=False)
    return fitted


def _newton(logits: Floats, labels: Floats, weights: Floats, *, free_scale: bool) -> Floats:
    count = len(weights)
    scale = np.full(count, SCALE_PRIOR_MEAN if free_scale else 0.0)
    bias = np.full(count, BIAS_PRIOR_MEAN)
    scale_precision, bias_precision = SCALE_PRIOR_DEVIATION**-2, BIAS_PRIOR_DEVIATION**-2

    def objective(scale: Floats, bias: Floats) -> Floats:
        z = scale[:, None] * logits + bias[:, None]
        prior = scale_precision * (scale - SCALE_PRIOR_MEAN) ** 2 + bias_precision * (bias - BIAS_PRIOR_MEAN) ** 2
        return np.asarray((weights * (np.logaddexp(0.0, z) - labels * z)).sum(axis=1) + prior / 2.0)

    best = objective(scale, bias)
    for _ in range(100):
        said = expit(scale[:, None] * logits + bias[:, None])
        slope = weights * (said - labels)
        bend = weights * said * (1.0 - said)
        g_scale = slope @ logits + scale_precision * (scale - SCALE_PRIOR_MEAN)
        g_bias = slope.sum(axis=1) + bias_precision * (bias - BIAS_PRIOR_MEAN)
        h_scale, h_bias = bend @ logits**2 + scale_precision, bend.sum(axis=1) + bias_precision
        cross = bend @ logits
        if not free_scale:
            g_scale, cross = np.zeros(count), np.zeros(count)
        determinant = h_scale * h_bias - cross**2
        step_scale = (h_bias * g_scale - cross * g_bias) / determinant
        step_bias = (h_scale * g_bias - cross * g_scale) / determinant
        length = np.ones(count)
        for _ in range(40):  # halve the steps that climb
            reached = objective(scale - length * step_scale, bias - length * step_bias)
            climbs = reached > best + 1e-12 * np.abs(best)
            if not climbs.any():
                break
            length = np.where(climbs, length / 2.0, length)
        scale, bias, best = scale - length * step_scale, bias - length * step_bias, reached
        if max(np.abs(step_scale).max(), np.abs(step_bias).max()) < 1e-10:
            break
    return np.stack([scale, bias], axis=1)


def _places(values: Floats, bins: int) -> NDArray[np.intp]:
    """The bin of each value, equal values always in the same bin."""
    if bins < 1:
        raise InputError("bins", f"{bins} is not a number of bins", mend="use 10")
    if not len(values):
        return np.array([], dtype=np.intp)
    order = np.sort(values)
    edges = order[np.linspace(0, len(order), bins + 1).astype(np.intp)[1:-1]]
    return np.asarray(np.searchsorted(np.unique(edges), values, side="right"), dtype=np.intp)


def _known(values: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    """The values and 0/1 labels where both are known."""
    given, stated = np.asarray(values, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    _same_length(given, stated)
    known = np.isfinite(given) & np.isfinite(stated)
    return given[known], (stated[known] >= 0.5).astype(np.float64)


def _same_length(values: NDArray[np.generic], labels: NDArray[np.generic]) -> None:
    if values.shape != labels.shape:
        why = f"shape {labels.shape} does not fit values {values.shape}"
        raise InputError("labels", why, mend="give each value one label")
