"""Patient-level bootstrap: intervals that know that several images of one patient are not several patients.

A statistic is a function of weights: given [B, N] weights (how often each image counts in each of B resamples), it
returns B values, nan where a resample leaves it undefined. The plain value is the statistic of weights that are all
one. So one definition serves value, interval and paired difference, and a thousand resamples are one array operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storyxai.errors import InputError

__all__ = [
    "FEWEST_PATIENTS", "Estimate", "Floats", "Resamples", "Statistic", "bootstrap_interval", "draw_resamples", "estimate",
    "estimate_mean", "estimate_ranking", "estimate_share", "gap_between", "mean_statistic", "paired_difference", "ratio",
    "value_of",
]

Floats: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[Floats], Floats]

FEWEST_PATIENTS = 5
"""Of fewer patients, or of fewer in a class, no resampling tells how a figure would vary: it has no interval."""
_BLOCK_CELLS = 2_000_000  # weights held at once, as float64: 16 MB


@dataclass(frozen=True)
class Estimate:
    """A value and its interval; None where the data cannot say. `left_out` counts resamples that were undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    replicates: int = 0
    left_out: int = 0

    @property
    def interval(self) -> tuple[float, float] | None:
        """Low and high, None where there is no interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True, eq=False)
class Resamples:
    """Resamples of patients, drawn once and shared by every statistic that is to be compared.

    Shapes: `counts` uint16 [count, P], how often each patient was drawn; `patient_of` int [N], each image's patient.
    """

    counts: NDArray[np.uint16]
    patient_of: NDArray[np.intp]

    def weights(self, start: int, stop: int) -> Floats:
        """Image weights of resamples `start` to `stop`. Shapes: float64 [stop - start, N], an image's weights side by side."""
        block = self.counts[start:stop].T.astype(np.float64)
        return np.take(block, self.patient_of, axis=0).T


def draw_resamples(patient_ids: Sequence[str] | NDArray[np.str_], *, count: int, seed: int) -> Resamples:
    """`count` resamples with replacement of whole patients: all images of a patient come and go together.

    Patients are put in the order of their ids first, so the order of the rows does not change an interval.
    Raises: InputError where there is no image or no resample to draw.
    """
    if len(patient_ids) == 0:
        raise InputError("bootstrap", "there are no images", mend="give at least one image with its patient id")
    if count < 1:
        raise InputError("bootstrap count", f"{count} is not a number of resamples", mend="use 1000 or more")
    names, patient_of = np.unique(np.asarray(patient_ids, dtype=np.str_), return_inverse=True)
    rng = np.random.default_rng(seed)
    patients = len(names)
    counts = np.empty((count, patients), dtype=np.uint16)
    for row in range(count):
        counts[row] = np.bincount(rng.integers(patients, size=patients), minlength=patients)
    return Resamples(counts, patient_of.reshape(-1).astype(np.intp))


def estimate(statistic: Statistic, resamples: Resamples, *, level: float = 0.95) -> Estimate:
    """The statistic of the images as they are, with the percentile interval over the resamples.

    Resamples that leave the statistic undefined (a class without a case) are left out and counted; when they are more
    than half, there is no interval. Source: Efron 1979, percentile interval; patients as clusters. With fewer than
    about twenty patients in a class a percentile interval is too narrow.
    """
    images = len(resamples.patient_of)
    value = value_of(statistic, images)
    count = len(resamples.counts)
    if value is None:
        return Estimate(None, None, None, count, count)
    block = max(1, _BLOCK_CELLS // images)
    parts = [statistic(resamples.weights(start, min(start + block, count))) for start in range(0, count, block)]
    draws = np.concatenate(parts)
    kept = draws[np.isfinite(draws)]
    left_out = count - len(kept)
    if 2 * left_out > count:
        return Estimate(value, None, None, count, left_out)
    low, high = np.quantile(kept, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Estimate(value, float(low), float(high), count, left_out)


def estimate_share(statistic: Statistic, resamples: Resamples, *, patients: int, level: float = 0.95) -> Estimate:
    """Like `estimate`, for a share of `patients` patients that may be all or none of them.

    Resamples of six hits out of six are all six of six: their width of zero would claim certainty. There the interval
    is exact instead. Source: Clopper & Pearson 1934 with the patients as trials, at 0 and 1 a power of the error.
    """
    found = estimate(statistic, resamples, level=level)
    if found.value not in (0.0, 1.0) or patients < 1:
        return found
    width = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / patients)
    low, high = (1.0 - width, 1.0) if found.value == 1.0 else (0.0, width)
    return Estimate(found.value, low, high, found.replicates, found.left_out)


def estimate_mean(
    statistic: Statistic, resamples: Resamples, *, patients: int, level: float = 0.95, difference: bool = False
) -> Estimate:
    """Like `estimate`, for a figure of `patients` patients: without an interval where these are fewer than five.

    Nor is there one where all resamples agree, for a width of zero would claim certainty; but a `difference` of nothing in
    every resample is one of two that are the same.
    """
    found = estimate(statistic, resamples, level=level)
    return _unless_certain(found, difference) if patients >= FEWEST_PATIENTS else replace(found, low=None, high=None)


def estimate_ranking(
    statistic: Statistic, resamples: Resamples, *, patients: Sequence[tuple[int, int]], level: float = 0.95,
    difference: bool = False,
) -> Estimate:
    """Like `estimate`, for an AUROC or the mean of several; `patients` are each one's (present, absent) patients.

    There is no interval where half of the AUROCs or more rest on fewer than five patients of a class. Where all rank
    perfectly (or all the wrong way round) every resample agrees; there the bound is exact instead: m patients of each
    class make m independent pairs, all in order with a chance of at most AUROC^m, so that the error's m-th root bounds
    it. The bound of a mean is the mean of the bounds. A `difference` of two has no such bound.
    Source: Clopper & Pearson 1934, with disjoint pairs of patients as trials.
    """
    found = estimate(statistic, resamples, level=level)
    fewest = [min(pair) for pair in patients]
    if 2 * sum(count < FEWEST_PATIENTS for count in fewest) >= len(fewest):
        return replace(found, low=None, high=None)
    if found.value not in (0.0, 1.0) or difference:
        return _unless_certain(found, difference)
    bound = float(np.mean([((1.0 - level) / 2.0) ** (1.0 / max(1, count)) for count in fewest]))
    return replace(found, low=bound if found.value else 0.0, high=1.0 if found.value else 1.0 - bound)


def _unless_certain(found: Estimate, difference: bool) -> Estimate:
    """The estimate without an interval of no width, unless it is a difference of nothing."""
    certain = found.low == found.high and not (difference and found.value == 0.0)
    return replace(found, low=None, high=None) if certain else found


def bootstrap_interval(
    statistic: Statistic,
    patient_ids: Sequence[str] | NDArray[np.str_],
    *,
    count: int = 1000,
    seed: int,
    level: float = 0.95,
) -> Estimate:
    """The statistic's value with its patient-level bootstrap interval (see `estimate`)."""
    return estimate(statistic, draw_resamples(patient_ids, count=count, seed=seed), level=level)


def paired_difference(
    first: Statistic,
    second: Statistic,
    patient_ids: Sequence[str] | NDArray[np.str_],
    *,
    count: int = 1000,
    seed: int,
) -> Estimate:
    """First minus second on the same patients, both computed on the same resamples (what they share cancels)."""
    resamples = draw_resamples(patient_ids, count=count, seed=seed)
    return estimate(gap_between(first, second), resamples)


def gap_between(first: Statistic, second: Statistic) -> Statistic:
    """First minus second, both on the same resamples: what they share cancels."""
    return lambda weights: first(weights) - second(weights)


def value_of(statistic: Statistic, images: int) -> float | None:
    """The statistic of `images` images that each count once, None where it is undefined."""
    value = float(statistic(np.ones((1, images)))[0])
    return value if np.isfinite(value) else None


def mean_statistic(values: ArrayLike) -> Statistic:
    """The mean of `values` (one an image, nan = not stated and left out) as a statistic."""
    given = np.asarray(values, dtype=np.float64)
    known = np.isfinite(given)
    # Both sums in one product over all images: picking out the known ones would copy the weights.
    sums = np.stack([np.where(known, given, 0.0), known], axis=1)

    def mean(weights: Floats) -> Floats:
        total, count = (weights @ sums).T
        return ratio(total, count)

    return mean


def ratio(part: Floats, whole: Floats) -> Floats:
    """`part / whole`, nan where there is no whole: how a statistic says "undefined in this resample"."""
    share: Floats = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return share
