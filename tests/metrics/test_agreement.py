"""Agreement on paper: what is equal, what is shifted, what is turned round."""

from __future__ import annotations

import math

import numpy as np
import pytest

from storyxai.errors import InputError
from storyxai.metrics.agreement import (
    bernoulli_kl,
    correlation,
    decision_agreement,
    decision_kappa,
    map_cosine,
    mean_difference,
)


def test_kl_is_zero_for_equals_and_not_cross_entropy() -> None:
    logits = np.linspace(-30, 30, 61)
    assert bernoulli_kl(logits, logits) == 0.0
    assert bernoulli_kl(logits, logits, temperature=4.0) == 0.0


def test_kl_by_hand() -> None:
    p, q = 0.8, 0.5
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert bernoulli_kl([math.log(p / (1 - p))], [0.0]) == pytest.approx(expected, abs=1e-12)
    assert bernoulli_kl([2 * math.log(4.0)], [0.0], temperature=2.0) == pytest.approx(expected, abs=1e-12)
    # A certain teacher against an even student: ln 2; against a student certain of the contrary: the logit itself.
    assert bernoulli_kl([800.0], [0.0]) == pytest.approx(math.log(2.0))
    assert bernoulli_kl([800.0], [-800.0]) == pytest.approx(800.0)


def test_kl_is_never_negative_and_one_sided() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0, 4, 200), rng.normal(0, 4, 200)
    values = [bernoulli_kl([a], [b]) for a, b in zip(first, second, strict=True)]
    assert min(value for value in values if value is not None) >= 0.0
    assert bernoulli_kl([2.0], [0.0]) != pytest.approx(bernoulli_kl([0.0], [2.0]), rel=0.01)


def test_correlation_and_difference() -> None:
    teacher = np.array([1.0, 2.0, 4.0, np.nan])
    assert correlation(teacher, 3 * teacher - 7) == pytest.approx(1.0)
    assert correlation(teacher, -teacher) == pytest.approx(-1.0)
    assert correlation([0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]) == 0.0
    assert correlation([1.0, 1.0], [0.0, 1.0]) is None
    assert correlation([1.0], [1.0]) is None
    assert mean_difference(teacher, teacher + 0.5) == pytest.approx(0.5)
    assert mean_difference([np.nan], [1.0]) is None
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 50))
    assert correlation(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_decisions_use_each_models_own_threshold() -> None:
    teacher, student = [0.1, 0.4, 0.6, 0.9], [0.01, 0.02, 0.2, 0.3]
    assert decision_agreement(teacher, student, teacher_threshold=0.5, student_threshold=0.1) == 1.0
    assert decision_agreement(teacher, student, teacher_threshold=0.5, student_threshold=0.5) == 0.5
    assert decision_agreement([np.nan], [0.1], teacher_threshold=0.5, student_threshold=0.5) is None


def test_kappa_by_hand() -> None:
    # Yes/no: teacher 1 1 0 0, student 1 0 0 0: agreement 3/4, chance 1/2 * 1/4 + 1/2 * 3/4 = 1/2.
    limits = {"teacher_threshold": 0.5, "student_threshold": 0.5}
    assert decision_kappa([1, 1, 0, 0], [1, 0, 0, 0], **limits) == pytest.approx(0.5)
    assert decision_kappa([1, 0], [1, 0], **limits) == 1.0
    assert decision_kappa([1, 1], [1, 1], **limits) is None  # nothing to disagree about
    assert decision_kappa([], [], **limits) is None


def test_map_cosine() -> None:
    heat = np.random.default_rng(3).normal(size=(7, 5))
    assert map_cosine(heat, 12.0 * heat) == pytest.approx(1.0)
    assert map_cosine(heat, -heat) == pytest.approx(-1.0)
    assert map_cosine([[1.0, 0.0]], [[0.0, 1.0]]) == 0.0
    assert map_cosine([[1.0, 0.0]], [[1.0, 1.0]]) == pytest.approx(math.sqrt(0.5))
    assert map_cosine(heat, np.zeros_like(heat)) is None


def test_faults_of_the_call_are_named() -> None:
    with pytest.raises(InputError, match="same images"):
        correlation([1.0], [1.0, 2.0])
    with pytest.raises(InputError, match="one frame"):
        map_cosine(np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(InputError, match="temperature"):
        bernoulli_kl([1.0], [1.0], temperature=0.0)
