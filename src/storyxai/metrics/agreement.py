"""How near a student is to its teacher, whoever is right. nan on either side is left out; None: nothing to compare."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, log_expit

from storyxai.errors import InputError
from storyxai.metrics.bootstrap import Floats

__all__ = ["bernoulli_kl", "correlation", "decision_agreement", "decision_kappa", "map_cosine", "mean_difference"]


def correlation(teacher: ArrayLike, student: ArrayLike) -> float | None:
    """Pearson's correlation, in [-1, 1]; None where either side does not vary."""
    first, second = _both(teacher, student)
    if len(first) < 2:
        return None
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first**2).sum()) * np.sqrt((second**2).sum()))
    return float(np.clip((first * second).sum() / norm, -1.0, 1.0)) if norm > 0.0 else None


def mean_difference(teacher: ArrayLike, student: ArrayLike) -> float | None:
    """Mean of student minus teacher, in their unit."""
    first, second = _both(teacher, student)
    return float((second - first).mean()) if len(first) else None


def bernoulli_kl(teacher_logits: ArrayLike, student_logits: ArrayLike, *, temperature: float = 1.0) -> float | None:
    """Mean KL divergence, teacher to student, of one finding's yes-or-no distribution, in nats. 0 where they are equal.

    Source: p ln(p / q) + (1 - p) ln((1 - p) / (1 - q)) with p and q the sigmoids of logit / temperature, written with
    log-sigmoids so that it stays exact for certain teachers. It is no cross-entropy: the teacher's own entropy is out.
    """
    if temperature <= 0:
        raise InputError("temperature", f"{temperature} is not above 0", mend="use 1 or more")
    first, second = _both(teacher_logits, student_logits)
    if not len(first):
        return None
    p, q = first / temperature, second / temperature
    said_yes = expit(p) * (log_expit(p) - log_expit(q))
    return float((said_yes + expit(-p) * (log_expit(-p) - log_expit(-q))).mean())


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


def map_cosine(first: ArrayLike, second: ArrayLike) -> float | None:
    """Cosine of two signed maps of one shape, in [-1, 1]; None where one is zero everywhere."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise InputError("maps", f"shape {a.shape} does not fit {b.shape}", mend="bring both to one frame")
    norm = float(np.sqrt((a**2).sum()) * np.sqrt((b**2).sum()))
    return float(np.clip((a * b).sum() / norm, -1.0, 1.0)) if norm > 0.0 else None


def _both(teacher: ArrayLike, student: ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(teacher, dtype=np.float64), np.asarray(student, dtype=np.float64)
    if first.shape != second.shape:
        raise InputError("scores", f"shape {first.shape} does not fit {second.shape}", mend="score the same images")
    known = np.isfinite(first) & np.isfinite(second)
    return first[known], second[known]
