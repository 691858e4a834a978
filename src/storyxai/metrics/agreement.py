"""How near a student is to its teacher, whoever is right. nan on either side is left out; None: nothing to compare.

Functions ending in `_statistic` give a function of image weights for the bootstrap, the others one number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit

from storyxai.errors import InputError
from storyxai.metrics.bootstrap import Floats, Statistic, mean_statistic, ratio, value_of


def correlation(teacher: ArrayLike, student: ArrayLike) -> float | None:
    """Pearson's correlation, in [-1, 1]; None where either side does not vary."""
    first, second = _both(teacher, student)
    if len(first) < 2:
        return None
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first**2).sum()) * np.sqrt((second**2).sum()))
    return float(np.clip((first * second).sum() / norm, -1.0, 1.0)) if norm > 0.0 else None


def correlation_statistic(teacher: ArrayLike, student: ArrayLike) -> Statistic:
    """Pearson's correlation as a statistic of image weights. Shapes: [N] each."""
    rows, first, second = _known_rows(teacher, student)
    # Centred once for precision; the weighted mean of a resample is taken out again below.
    a, b = (values - values.mean() if len(values) else values for values in (first, second))

    def similar(weights: Floats) -> Floats:
        held = weights[:, rows]
        total = held.sum(axis=1)
        mean_a, mean_b = ratio(held @ a, total), ratio(held @ b, total)
        shared = ratio(held @ (a * b), total) - mean_a * mean_b
        spread_a, spread_b = ratio(held @ a**2, total) - mean_a**2, ratio(held @ b**2, total) - mean_b**2
        enough = np.minimum(spread_a, spread_b) > 1e-12 * max(float((a**2).sum()), float((b**2).sum()), 1e-300)
        norm = np.sqrt(np.where(enough, spread_a * spread_b, np.nan))
        return np.asarray(np.clip(shared / norm, -1.0, 1.0))

    return similar


def rank_correlation(teacher: ArrayLike, student: ArrayLike) -> float | None:
    """Spearman's correlation, in [-1, 1]: whether both put the cases in one order, whatever their scales."""
    return value_of(rank_correlation_statistic(teacher, student), np.asarray(teacher).size)


def rank_correlation_statistic(teacher: ArrayLike, student: ArrayLike) -> Statistic:
    """Spearman's correlation as a statistic of image weights; the ranks stay those of the whole set."""
    from scipy.stats import rankdata

    rows, first, second = _known_rows(teacher, student)
    ranks = np.full((2, np.asarray(teacher).size), np.nan)
    ranks[:, rows] = rankdata(first), rankdata(second)
    return correlation_statistic(ranks[0], ranks[1])


def mean_difference(teacher: ArrayLike, student: ArrayLike) -> float | None:
    """Mean of student minus teacher, in their unit."""
    first, second = _both(teacher, student)
    return float((second - first).mean()) if len(first) else None


def bernoulli_kl(teacher_logits: ArrayLike, student_logits: ArrayLike, *, temperature: float = 1.0) -> float | None:
    """Mean KL divergence, teacher to student, of one finding's yes-or-no distribution, in nats. 0 where they are equal.

    Source: p ln(p / q) + (1 - p) ln((1 - p) / (1 - q)) with p and q the sigmoids of logit / temperature, written with
    log-sigmoids so that it stays exact for certain teachers. It is no cross-entropy: the teacher's own entropy is out.
    """
    first, second = _both(teacher_logits, student_logits)
    return float(_kl_rows(first, second, temperature).mean()) if len(first) else None


def bernoulli_kl_statistic(teacher_logits: ArrayLike, student_logits: ArrayLike, *, temperature: float = 1.0) -> Statistic:
    """`bernoulli_kl` as a statistic of image weights. Shapes: [N] each."""
    first, second = np.asarray(teacher_logits, dtype=np.float64), np.asarray(student_logits, dtype=np.float64)
    _both(first, second)
    return mean_statistic(_kl_rows(first, second, temperature))


def decision_agreement(
    teacher: ArrayLike, student: ArrayLike, *, teacher_threshold: float, student_threshold: float
) -> float | None:
    """The share of cases where both are at or above their thresholds or both below."""
    first, second = _both(teacher, student)
    return float(((first >= teacher_threshold) == (second >= student_threshold)).mean()) if len(first) else None


def decision_kappa(
    teacher: ArrayLike, student: ArrayLike, *, teacher_threshold: float, student_threshold: float
) -> float | None:
    """Cohen's kappa of the decisions: agreement beyond what the two rates alone would give; None if they fix it."""
    first, second = _both(teacher, student)
    if not len(first):
        return None
    yes, also = first >= teacher_threshold, second >= student_threshold
    chance = float(yes.mean() * also.mean() + (1 - yes.mean()) * (1 - also.mean()))
    return (float((yes == also).mean()) - chance) / (1.0 - chance) if chance < 1.0 else None


def decision_statistic(
    teacher: ArrayLike, student: ArrayLike, *, teacher_threshold: float, student_threshold: float
) -> Statistic:
    """`decision_agreement` as a statistic of image weights."""
    rows, first, second = _known_rows(teacher, student)
    same = np.full(np.asarray(teacher).size, np.nan)
    same[rows] = (first >= teacher_threshold) == (second >= student_threshold)
    return mean_statistic(same)


def decision_kappa_statistic(
    teacher: ArrayLike, student: ArrayLike, *, teacher_threshold: float, student_threshold: float
) -> Statistic:
    """`decision_kappa` as a statistic of image weights."""
    rows, first, second = _known_rows(teacher, student)
    yes, also = (first >= teacher_threshold).astype(np.float64), (second >= student_threshold).astype(np.float64)

    def kappa(weights: Floats) -> Floats:
        held = weights[:, rows]
        total = held.sum(axis=1)
        p, q, same = (ratio(held @ values, total) for values in (yes, also, (yes == also).astype(np.float64)))
        chance = p * q + (1.0 - p) * (1.0 - q)
        return ratio(same - chance, np.where(chance < 1.0 - 1e-12, 1.0 - chance, 0.0))

    return kappa


def linear_cka_statistic(first: ArrayLike, second: ArrayLike) -> Statistic:
    """Linear centred kernel alignment of two networks' features of the same images, in [0, 1], as a statistic of image weights.

    1 where one is a rotation and scaling of the other, undefined where one side does not vary; an image with a nan on either
    side is left out. Shapes: [N, K], [N, M]. Source: Kornblith et al. 2019, ||Y'X||^2 / (||X'X|| ||Y'Y||), columns centred. In
    few images of many features it is high for unrelated networks too: read it with N well above K and M.
    Written with the images' Gram matrices G: with weights p that sum to one, HSIC(G, H) = p'(G * H)p - 2 sum_i p_i
    (Gp)_i (Hp)_i + (p'Gp)(p'Hp), so that a resample costs one product with a matrix [N, N].
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b):
        why = f"shapes {a.shape} and {b.shape} are not [N, K] and [N, M]"
        raise InputError("features", why, mend="give both networks' features of the same images")
    rows = np.flatnonzero(np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1))
    a, b = (values[rows] - values[rows].mean(axis=0) if len(rows) else values[rows] for values in (a, b))
    grams = a @ a.T, b @ b.T
    products = {(i, j): grams[i] * grams[j] for i, j in ((0, 0), (0, 1), (1, 1))}
    size = [float(np.trace(gram)) / max(1, len(rows)) for gram in grams]

    def alignment(weights: Floats) -> Floats:
        held = weights[:, rows]
        p = ratio(held, np.broadcast_to(held.sum(axis=1, keepdims=True), held.shape))
        means = [p @ gram for gram in grams]
        wholes = [np.einsum("bi,bi->b", p, mean) for mean in means]

        def hsic(i: int, j: int) -> Floats:
            pairs = np.einsum("bi,bi->b", p @ products[i, j], p)
            crossed = np.einsum("bi,bi,bi->b", p, means[i], means[j])
            return np.asarray(pairs - 2.0 * crossed + wholes[i] * wholes[j])

        own = hsic(0, 0), hsic(1, 1)
        varies = (own[0] > 1e-12 * size[0] ** 2) & (own[1] > 1e-12 * size[1] ** 2)
        return np.asarray(hsic(0, 1) / np.sqrt(np.where(varies, own[0] * own[1], np.nan)))

    return alignment


def map_cosine(first: ArrayLike, second: ArrayLike) -> float | None:
    """Cosine of two signed maps of one shape, in [-1, 1]; None where one is zero everywhere."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise InputError("maps", f"shape {a.shape} does not fit {b.shape}", mend="bring both to one frame")
    norm = float(np.sqrt((a**2).sum()) * np.sqrt((b**2).sum()))
    return float(np.clip((a * b).sum() / norm, -1.0, 1.0)) if norm > 0.0 else None


def grid_cosines(first: ArrayLike, second: ArrayLike) -> Floats:
    """Cosine of each image's two maps, each less its own mean, in [-1, 1]; nan where one is flat.

    Without their means, because two grids of log-odds that are low nearly everywhere would agree whatever they show.
    Shapes: [N, h, w] and [N, h', w'] to [N]; the second is brought to the first's grid, linearly.
    """
    from scipy.ndimage import zoom

    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 3 or b.ndim != 3 or len(a) != len(b):
        raise InputError("maps", f"shapes {a.shape} and {b.shape} do not fit", mend="give [N, h, w] of the same images")
    if a.shape != b.shape:
        b = zoom(b, (1.0, a.shape[1] / b.shape[1], a.shape[2] / b.shape[2]), order=1, mode="nearest", grid_mode=True)
    values = np.full(len(a), np.nan)
    for row in range(len(a)):
        # Rounding leaves a flat grid a trace of a shape: it must not be compared.
        if min(np.ptp(a[row]), np.ptp(b[row])) > 1e-9:
            found = map_cosine(a[row] - a[row].mean(), b[row] - b[row].mean())
            values[row] = np.nan if found is None else found
    return values


def _kl_rows(teacher_logits: Floats, student_logits: Floats, temperature: float) -> Floats:
    if temperature <= 0:
        raise InputError("temperature", f"{temperature} is not above 0", mend="use 1 or more")
    p, q = teacher_logits / temperature, student_logits / temperature
    said_yes = expit(p) * (log_expit(p) - log_expit(q))
    return np.asarray(said_yes + expit(-p) * (log_expit(-p) - log_expit(-q)), dtype=np.float64)


def _known_rows(teacher: ArrayLike, student: ArrayLike) -> tuple[NDArray[np.intp], Floats, Floats]:
    """The rows where both are known, and both there. Shapes: [N] each."""
    first, second = _both(teacher, student)
    given, said = np.asarray(teacher, dtype=np.float64), np.asarray(student, dtype=np.float64)
    return np.flatnonzero(np.isfinite(given) & np.isfinite(said)), first, second


def _both(teacher: ArrayLike, student: ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(teacher, dtype=np.float64), np.asarray(student, dtype=np.float64)
    if first.shape != second.shape:
        raise InputError("scores", f"shape {first.shape} does not fit {second.shape}", mend="score the same images")
    known = np.isfinite(first) & np.isfinite(second)
    return first[known], second[known]
