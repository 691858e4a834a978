"""Calibration against paper, a general optimiser, and draws whose true probability is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from storyxai.errors import InputError
from storyxai.metrics.bootstrap import bootstrap_interval, value_of
from storyxai.metrics.calibration import (
    bootstrap_platt,
    brier_statistic,
    calibrated,
    conformal_coverage,
    conformal_sets,
    ece,
    ece_floor,
    ece_statistic,
    fit_conformal,
    fit_platt,
    reliability_curve,
    reliability_points,
)


def drawn(count: int, scale: float, bias: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, 2.0, size=count)
    return logits, (rng.random(count) < expit(scale * logits + bias)).astype(float)


def penalised(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    held = np.ones(len(logits)) if weights is None else weights

    def loss(at: np.ndarray) -> float:
        z = at[0] * logits + at[1]
        return float((held * (np.logaddexp(0, z) - labels * z)).sum() + (at[0] - 1) ** 2 / 2 + at[1] ** 2 / 50)

    found = minimize(loss, x0=[1.0, 0.0], method="L-BFGS-B", bounds=[(0, None), (None, None)], tol=1e-14)
    return float(found.x[0]), float(found.x[1])


@pytest.mark.parametrize(("scale", "bias"), [(0.5, -1.0), (1.0, 0.0), (2.0, 3.0), (-1.0, 0.5)])
def test_fit_is_the_optimum_a_general_solver_finds(scale: float, bias: float) -> None:
    logits, labels = drawn(120, scale, bias, 1)
    assert fit_platt(logits, labels) == pytest.approx(penalised(logits, labels), abs=2e-4)


def test_fit_recovers_what_the_labels_were_drawn_from() -> None:
    logits, labels = drawn(40_000, 0.6, -1.2, 2)
    scale, bias = fit_platt(logits, labels)
    assert scale == pytest.approx(0.6, abs=0.03)
    assert bias == pytest.approx(-1.2, abs=0.05)


def test_nothing_stated_is_the_prior_and_one_sided_labels_stay_finite() -> None:
    assert fit_platt([1.0, 2.0], [np.nan, np.nan]) == (1.0, 0.0)
    scale, bias = fit_platt(np.linspace(-2, 2, 9), np.ones(9))
    assert math.isfinite(scale) and 0 < bias < 20
    scale, _ = fit_platt([-3.0, -2.0, 2.0, 3.0], [0, 0, 1, 1])  # separable: without a prior it has no end
    assert 1.0 < scale < 5.0


def test_a_model_that_is_wrong_way_round_is_flattened_not_turned() -> None:
    logits, labels = drawn(2000, -1.0, 0.0, 3)
    scale, bias = fit_platt(logits, labels)
    assert scale == 0.0
    assert calibrated(0.0, scale, bias) == pytest.approx(labels.mean(), abs=1e-3)


def test_huge_logits_do_not_upset_the_fit() -> None:
    logits, labels = drawn(300, 1.0, 0.0, 4)
    scale, bias = fit_platt(logits * 1000.0, labels)
    assert scale * 1000.0 == pytest.approx(fit_platt(logits, labels)[0], rel=0.1)
    assert math.isfinite(bias)


def test_resampled_fits_are_fits_of_the_resamples_and_spread_as_theory_says() -> None:
    logits, labels = drawn(1500, 0.8, -0.5, 5)
    fits = bootstrap_platt(logits, labels, [f"p{i:04d}" for i in range(1500)], count=200, seed=6)
    assert fits.shape == (200, 2)
    bend = expit(0.8 * logits - 0.5) * (1 - expit(0.8 * logits - 0.5))
    information = np.array([[(bend * logits**2).sum(), (bend * logits).sum()], [(bend * logits).sum(), bend.sum()]])
    np.testing.assert_allclose(fits.std(axis=0), np.sqrt(np.diag(np.linalg.inv(information))), rtol=0.15)
    np.testing.assert_allclose(fits.mean(axis=0), fit_platt(logits, labels), atol=0.02)
    np.testing.assert_array_equal(
        fits, bootstrap_platt(logits, labels, [f"p{i:04d}" for i in range(1500)], count=200, seed=6)
    )


def test_resampled_fits_keep_patients_together_and_leave_out_the_unstated() -> None:
    logits, labels = drawn(40, 1.0, 0.0, 7)
    ids = [f"p{i:02d}" for i in range(40)]
    copied = bootstrap_platt(np.tile(logits, 2), np.tile(labels, 2), ids * 2, count=20, seed=8)
    for row, counts in enumerate(_counts(40, 20, 8)):
        assert copied[row] == pytest.approx(penalised(logits, labels, 2.0 * counts), abs=1e-3)
    padded = bootstrap_platt(
        np.append(logits, 50.0), np.append(labels, np.nan), [*ids, "zz"], count=20, seed=8
    )
    np.testing.assert_array_equal(padded, bootstrap_platt(logits, labels, ids, count=20, seed=8))
    np.testing.assert_array_equal(bootstrap_platt([1.0], [np.nan], ["a"], count=2, seed=0), [[1, 0], [1, 0]])


def _counts(patients: int, count: int, seed: int) -> np.ndarray:
    from storyxai.metrics.bootstrap import draw_resamples

    return draw_resamples([f"p{i:02d}" for i in range(patients)], count=count, seed=seed).counts.astype(float)


def test_ece_and_reliability_by_hand() -> None:
    said, seen = [0.1, 0.1, 0.1, 0.1, 0.9, 0.9], [0, 0, 0, 1, 1, 1]
    # Two groups: said 0.1 seen 0.25 (4 cases), said 0.9 seen 1.0 (2 cases).
    expected = (4 * 0.15 + 2 * 0.1) / 6
    assert ece(said, seen, bins=3) == pytest.approx(expected)
    low, high = reliability_curve(said, seen, bins=3)
    assert (low.probability, low.frequency, low.n) == (pytest.approx(0.1), 0.25, 4)
    assert (high.probability, high.frequency, high.n) == (pytest.approx(0.9), 1.0, 2)
    assert ece([1.0, 0.0], [1, 0]) == 0.0
    assert ece([0.2], [np.nan]) is None


def test_equal_mass_bins_hold_equal_numbers() -> None:
    said = np.random.default_rng(9).random(1000)
    assert [point.n for point in reliability_curve(said, said > 0.5, bins=10)] == [100] * 10


def test_calibrated_draws_reach_the_floor_and_miscalibrated_ones_do_not() -> None:
    rng = np.random.default_rng(10)
    said = rng.beta(0.5, 2.0, size=2000)
    errors = [ece(said, rng.random(2000) < said) for _ in range(100)]
    floor = ece_floor(said)
    assert floor is not None
    assert np.mean([error for error in errors if error is not None]) == pytest.approx(floor, rel=0.08)
    wrong = ece(said, rng.random(2000) < said**0.5)
    assert wrong is not None and wrong > 5 * floor
    assert ece_floor([np.nan]) is None


def test_statistics_of_weights_are_those_of_repeated_rows() -> None:
    said, seen = np.array([0.2, 0.2, 0.7, 0.9]), np.array([0.0, 1.0, 1.0, np.nan])
    weights = np.array([[1.0, 2.0, 0.0, 5.0], [0.0, 0.0, 0.0, 3.0]])
    # Rows 0, 1, 1 said 0.2 and seen 2/3; the row without a label counts nothing.
    assert ece_statistic(said, seen, bins=3)(weights)[0] == pytest.approx(2 / 3 - 0.2)
    assert brier_statistic(said, seen)(weights)[0] == pytest.approx((0.04 + 2 * 0.64) / 3)
    assert np.isnan(brier_statistic(said, seen)(weights)[1])
    assert np.isnan(ece_statistic(said, seen)(weights)[1])
    assert value_of(brier_statistic([0.2, 0.9, 0.5], [0, 1, np.nan]), 3) == pytest.approx((0.04 + 0.01) / 2)
    assert bootstrap_interval(brier_statistic(said, seen), list("abcd"), count=50, seed=1).value is not None


def test_conformal_limits_by_hand() -> None:
    # Nine present cases: rank ceil(10 * 0.9) = 9, the largest 1 - p; four absent: rank ceil(5 * 0.9) = 5 > 4, no limit.
    said = [*np.arange(1, 10) / 10, 0.1, 0.2, 0.3, 0.4]
    limits = fit_conformal(said, [1] * 9 + [0] * 4, level=0.9)
    assert limits.present == pytest.approx(0.9)
    assert limits.absent == math.inf
    assert conformal_sets(limits, [0.05, 0.5]).tolist() == [[False, True], [True, True]]


def test_conformal_coverage_keeps_its_promise_in_the_rare_class_too() -> None:
    rng = np.random.default_rng(11)
    covered = {"present": [], "absent": []}
    for _ in range(60):
        labels = (rng.random(1200) < 0.08).astype(float)
        said = expit(rng.normal(size=1200) + 1.5 * labels - 2.5)
        limits = fit_conformal(said[:600], labels[:600], level=0.9)
        achieved = conformal_coverage(conformal_sets(limits, said[600:]), labels[600:])
        for name, values in covered.items():
            values.append(achieved[f"{name}_coverage"])
    # Exact expectation: ceil(0.9 (n + 1)) / (n + 1), just above 0.9 for some 48 present and 552 absent cases.
    assert np.mean(covered["present"]) == pytest.approx(0.91, abs=0.02)
    assert np.mean(covered["absent"]) == pytest.approx(0.90, abs=0.01)


def test_conformal_limits_count_a_patient_once_by_hand() -> None:
    # Ten patients; the first has 90 images, all at 0.9, the others one each at 0.1 .. 0.9: ceil(11 * 0.8 = 8.8) patients.
    said = [*[0.9] * 90, *np.arange(1, 10) / 10]
    who = [*["many"] * 90, *(f"p{i}" for i in range(9))]
    by_patient = fit_conformal(said, [0] * 99, level=0.8, patient_ids=who)
    assert by_patient.absent == pytest.approx(0.9)  # 0.1 .. 0.8 are eight patients, the next value brings the two at 0.9
    assert fit_conformal(said, [0] * 99, level=0.3, patient_ids=who).absent == pytest.approx(0.4)
    assert fit_conformal(said, [0] * 99, level=0.3).absent == pytest.approx(0.9)  # images are no patients
    alone = fit_conformal(said, [0] * 99, level=0.8, patient_ids=[str(i) for i in range(99)])
    assert alone == fit_conformal(said, [0] * 99, level=0.8)
    assert fit_conformal([0.2] * 50, [0] * 50, level=0.9, patient_ids=["one"] * 50).absent == math.inf


def test_a_promise_about_new_patients_is_kept_where_images_of_one_are_alike() -> None:
    """Thirty patients of one or thirty images that are all alike: by images the promise fails, by patients it holds."""
    rng = np.random.default_rng(3)
    covered = {True: [], False: []}
    for _ in range(400):
        images = np.where(rng.random(30) < 0.3, 30, 1)
        severity = rng.random(30) * np.where(images == 30, 0.5, 1.0)  # many images, easy patients
        said, who = np.repeat(severity, images), np.repeat(np.arange(30).astype(str), images)
        new = rng.random(50) * np.where(rng.random(50) < 0.3, 0.5, 1.0)
        for by_patient, told in covered.items():
            limits = fit_conformal(said, np.zeros(len(said)), level=0.9, patient_ids=who if by_patient else None)
            told.append((new <= limits.absent).mean())
    assert np.mean(covered[True]) == pytest.approx(28 / 31, abs=0.02)
    assert np.mean(covered[False]) < 0.75


def test_coverage_counts_only_the_stated() -> None:
    sets = np.array([[True, False], [True, True], [False, False], [True, True]])
    found = conformal_coverage(sets, [1, 0, 0, np.nan])
    assert found == {
        "present_coverage": 1.0,
        "present_n": 1,
        "absent_coverage": 0.5,
        "absent_n": 2,
        "single_share": pytest.approx(1 / 3),
        "both_share": pytest.approx(1 / 3),
        "empty_share": pytest.approx(1 / 3),
    }
    assert conformal_coverage(sets[:1], [np.nan])["single_share"] is None


def test_faults_of_the_call_are_named() -> None:
    with pytest.raises(InputError, match="does not fit"):
        ece([0.1, 0.2], [1])
    with pytest.raises(InputError, match="between 0 and 1"):
        fit_conformal([0.1], [1], level=1.0)
    with pytest.raises(InputError, match="does not fit"):
        fit_conformal([0.1], [1], patient_ids=["a", "b"])
    with pytest.raises(InputError, match="bins"):
        ece([0.1], [1], bins=0)


def test_points_for_a_card_are_bins_of_enough_cases_rounded() -> None:
    said = np.linspace(0.01, 0.99, 100)
    points = reliability_points(said, said >= 0.5)
    assert len(points) == 5 and sum(n for _, _, n in points) == 100
    assert all(value == round(value, 3) for said, seen, _ in points for value in (said, seen))
    assert reliability_points(said[:7], said[:7] >= 0.05) == ((0.04, 0.286, 7),)
    assert reliability_points([np.nan], [1.0]) == ()
