"""Agreement on paper: what is equal, what is shifted, what is turned round."""

from __future__ import annotations

import math

import numpy as np
import pytest

from storyxai.errors import InputError
from storyxai.metrics import agreement
from storyxai.metrics.agreement import (
    bernoulli_kl,
    correlation,
    decision_agreement,
    decision_kappa,
    map_cosine,
    mean_difference,
)
from storyxai.metrics.bootstrap import value_of


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


def resampled(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.repeat(values, weights.astype(int), axis=0)


def cka_by_centring(first: np.ndarray, second: np.ndarray) -> float:
    """Kornblith et al. 2019, section 3, with the centring matrix written out."""
    centre = np.eye(len(first)) - 1.0 / len(first)
    a, b = centre @ first @ first.T @ centre, centre @ second @ second.T @ centre
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def linear_cka(first: np.ndarray, second: np.ndarray) -> float | None:
    return value_of(agreement.linear_cka_statistic(first, second), len(first))


def test_cka_is_one_for_rotations_and_scales_and_zero_for_orthogonal_features() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 6))
    turned, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    assert linear_cka(features, 3.0 * features @ turned + 5.0) == pytest.approx(1.0, abs=1e-12)
    first, second = np.array([[1.0], [1.0], [-1.0], [-1.0]]), np.array([[1.0], [-1.0], [1.0], [-1.0]])
    assert linear_cka(first, second) == pytest.approx(0.0, abs=1e-12)
    # One of two equal directions shared: ||Y'X||^2 / (||X'X|| ||Y'Y||) = 1 / sqrt(2).
    assert linear_cka(np.hstack([first, second]), first) == pytest.approx(1.0 / np.sqrt(2.0))
    assert linear_cka(np.ones((5, 2)), features[:5]) is None
    with pytest.raises(InputError, match="features"):
        linear_cka(features, features[:3])


def test_cka_of_a_resample_is_that_of_the_repeated_rows() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(30, 5)) + 4.0, rng.normal(size=(30, 7))
    second[:, 0] += 2.0 * first[:, 1]
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=4).astype(np.float64)
    expected = [cka_by_centring(resampled(first, row), resampled(second, row)) for row in weights]
    np.testing.assert_allclose(agreement.linear_cka_statistic(first, second)(weights), expected, rtol=1e-9)
    holed = np.vstack([first, np.full((1, 5), np.nan)])
    longer = np.vstack([second, np.zeros((1, 7))])
    assert linear_cka(holed, longer) == pytest.approx(cka_by_centring(first, second))


def test_statistics_of_a_resample_are_those_of_the_repeated_cases() -> None:
    rng = np.random.default_rng(2)
    taught, learnt = rng.normal(size=25), rng.normal(size=25)
    learnt += taught
    weights = rng.multinomial(25, np.full(25, 1 / 25), size=5).astype(np.float64)
    limits = {"teacher_threshold": 0.2, "student_threshold": -0.1}
    pairs = [
        (agreement.correlation_statistic(taught, learnt), agreement.correlation),
        (agreement.bernoulli_kl_statistic(taught, learnt), agreement.bernoulli_kl),
        (agreement.decision_statistic(taught, learnt, **limits), lambda a, b: agreement.decision_agreement(a, b, **limits)),
        (agreement.decision_kappa_statistic(taught, learnt, **limits), lambda a, b: agreement.decision_kappa(a, b, **limits)),
    ]
    for statistic, plain in pairs:
        expected = [plain(resampled(taught, row), resampled(learnt, row)) for row in weights]
        np.testing.assert_allclose(statistic(weights), expected, rtol=1e-9)


def test_rank_correlation_is_scipys_and_blind_to_scale() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(3)
    taught = rng.integers(0, 8, size=40).astype(np.float64)  # with ties
    learnt = taught + rng.normal(size=40)
    found = agreement.rank_correlation(taught, learnt)
    assert found == pytest.approx(spearmanr(taught, learnt).statistic)
    assert agreement.rank_correlation(np.exp(taught), learnt**3) == pytest.approx(found)
    assert agreement.rank_correlation([1, 2, 3, np.nan], [10, 20, 40, 0]) == pytest.approx(1.0)
    assert agreement.rank_correlation([1, 1, 1], [1, 2, 3]) is None


def test_maps_are_compared_by_shape_whatever_their_level_and_size() -> None:
    rng = np.random.default_rng(4)
    grids = rng.normal(size=(4, 6, 6)) - 9.0
    np.testing.assert_allclose(agreement.grid_cosines(grids, 2.0 * grids + 5.0), 1.0)
    np.testing.assert_allclose(agreement.grid_cosines(grids, -grids), -1.0)
    assert np.isnan(agreement.grid_cosines(grids, np.full((4, 6, 6), -4.0))).all()
    # Two plain hills in other places: without their means they do not agree, with them they would.
    hills = np.full((2, 1, 4, 4), -9.0)
    hills[0, 0, 0, 0] = hills[1, 0, 3, 3] = -8.0
    assert agreement.grid_cosines(hills[0], hills[1])[0] == pytest.approx(-1.0 / 15.0)
    ramp = np.broadcast_to(np.arange(8.0), (1, 8, 8))
    coarse = np.broadcast_to(np.arange(4.0), (1, 4, 4))
    assert agreement.grid_cosines(ramp, coarse)[0] > 0.98
    with pytest.raises(InputError, match="maps"):
        agreement.grid_cosines(grids, grids[:2])
