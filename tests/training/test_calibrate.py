"""Calibration on validation cases: an independent fit agrees, thresholds follow their rules."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from storyxai.training.calibrate import FEWEST_POSITIVES, QUIET_SHARE, Resampling, ThresholdRule, calibrate, choose_threshold

FINDINGS = ("common", "rare", "unstated")
COUNT = 400


@pytest.fixture(scope="module")
def cases() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels drawn with probability sigmoid(1.5 z - 1) for the first finding, 4 positives for the second."""
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, (COUNT, 3)).astype(np.float32)
    labels = np.full((COUNT, 3), np.nan, dtype=np.float32)
    labels[:, 0] = rng.random(COUNT) < expit(1.5 * logits[:, 0] - 1)
    labels[:, 1] = 0
    labels[:40, 1] = np.nan
    labels[40 + np.argsort(logits[40:, 1])[-4:], 1] = 1
    return logits, labels, [f"p{row // 2}" for row in range(COUNT)]


def best_f1(probabilities: np.ndarray, present: np.ndarray) -> float:
    scores = []
    for cut in probabilities:
        said = probabilities >= cut
        scores.append(2 * (said & present).sum() / (said.sum() + present.sum()))
    return max(scores)


@pytest.mark.parametrize("seed", range(5))
def test_with_enough_positives_the_threshold_has_the_highest_f1(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities, labels = rng.random(120), (rng.random(120) < 0.3).astype(np.float32)
    present = labels == 1
    assert present.sum() >= FEWEST_POSITIVES
    said = probabilities >= choose_threshold(probabilities, labels)
    f1 = 2 * (said & present).sum() / (said.sum() + present.sum())
    assert f1 == pytest.approx(best_f1(probabilities, present))


def test_a_clean_gap_is_cut_in_its_middle() -> None:
    probabilities = np.r_[np.full(20, 0.2), np.full(FEWEST_POSITIVES, 0.8)]
    labels = np.r_[np.zeros(20), np.ones(FEWEST_POSITIVES)].astype(np.float32)
    assert choose_threshold(probabilities, labels) == pytest.approx(0.5)


def test_with_few_positives_the_negatives_set_the_threshold() -> None:
    negatives = np.linspace(0, 0.4, 101)
    few = FEWEST_POSITIVES - 1
    labels = np.r_[np.zeros(101), np.ones(few)].astype(np.float32)
    at = [choose_threshold(np.r_[negatives, np.full(few, value)], labels) for value in (0.01, 0.99)]
    assert at[0] == at[1] == pytest.approx(0.4 * QUIET_SHARE)


def test_a_threshold_is_never_nothing_or_everything() -> None:
    assert choose_threshold(np.zeros(30), np.zeros(30, np.float32)) == 1e-4
    assert choose_threshold(np.ones(30), np.zeros(30, np.float32)) == 1 - 1e-4
    assert choose_threshold(np.array([0.3]), np.ones(1, np.float32)) == 0.5


def test_the_scaling_is_that_of_a_logistic_regression(cases: tuple[np.ndarray, np.ndarray, list[str]]) -> None:
    logits, sign = cases[0][:, 0].astype(float), 2 * cases[1][:, 0] - 1
    scale, bias = minimize(lambda p: np.logaddexp(0, -sign * (p[0] * logits + p[1])).sum(), [1, 0]).x
    common = calibrate(*cases, findings=FINDINGS, data="toy", resampling=Resampling(40))["common"]
    assert (common.scale, common.bias) == pytest.approx((scale, bias), abs=0.03)  # but for a weak prior
    assert common.n == COUNT and common.positives == int(cases[1][:, 0].sum()) and common.data == "toy"
    assert len(common.replicates) == 40


@pytest.mark.parametrize("name", ["common", "rare"])
def test_the_interval_contains_the_probability(
    cases: tuple[np.ndarray, np.ndarray, list[str]], name: str
) -> None:
    one = calibrate(*cases, findings=FINDINGS, data="toy", resampling=Resampling(60))[name]
    scale, bias = np.array(one.replicates).T
    for logit in (-4.0, -1.0, 0.0, 1.0, 4.0):
        low, high = np.quantile(expit(scale * logit + bias), [0.025, 0.975])
        assert low < expit(one.scale * logit + one.bias) < high


def test_a_rare_finding_keeps_quiet_and_counts_only_what_is_stated(
    cases: tuple[np.ndarray, np.ndarray, list[str]]
) -> None:
    logits, labels, _ = cases
    rare = calibrate(*cases, findings=FINDINGS, data="toy", resampling=Resampling(5))["rare"]
    assert (rare.n, rare.positives) == (COUNT - 40, 4)
    negatives = expit(rare.scale * logits[labels[:, 1] == 0, 1].astype(float) + rare.bias)
    assert (negatives < rare.threshold).mean() == pytest.approx(QUIET_SHARE, abs=0.01)


def test_an_unstated_finding_says_so(cases: tuple[np.ndarray, np.ndarray, list[str]]) -> None:
    one = calibrate(*cases, findings=FINDINGS, data="toy", resampling=Resampling(5))["unstated"]
    assert (one.scale, one.bias, one.threshold, one.n, one.positives) == (1.0, 0.0, 0.5, 0, 0)
    assert one.data == "not calibrated" and one.replicates == ((1.0, -1.0), (1.0, 1.0))


def test_same_cases_same_calibration_and_findings_do_not_mix(
    cases: tuple[np.ndarray, np.ndarray, list[str]]
) -> None:
    logits, labels, who = cases
    whole = calibrate(*cases, findings=FINDINGS, data="toy", resampling=Resampling(10))
    again = calibrate(*cases, findings=FINDINGS, data="toy", resampling=Resampling(10))
    alone = calibrate(logits[:, 1:2], labels[:, 1:2], who, findings=("rare",), data="toy", resampling=Resampling(10))
    assert whole == again and alone["rare"] == whole["rare"]
    assert calibrate(*cases, findings=FINDINGS, data="toy", resampling=Resampling(10, 1))["common"] != whole["common"]


@pytest.mark.parametrize("wanted", [0.5, 0.8, 1.0])
def test_a_threshold_may_promise_a_sensitivity_at_the_least_cost(wanted: float) -> None:
    rng = np.random.default_rng(9)
    labels = (rng.random(300) < 0.2).astype(np.float32)
    probabilities = expit(rng.normal(size=300) + 2 * labels - 2)
    chosen = choose_threshold(probabilities, labels, rule=ThresholdRule("sensitivity", wanted))
    present = labels == 1
    reached = [(probabilities[present] >= cut).mean() for cut in probabilities]
    highest = max(cut for cut, share in zip(probabilities, reached, strict=True) if share >= wanted - 1e-9)
    assert ((probabilities >= chosen) == (probabilities >= highest)).all()


def test_by_net_benefit_the_threshold_is_the_probability_that_was_chosen_however_few_cases_there_are(
    cases: tuple[np.ndarray, np.ndarray, list[str]],
) -> None:
    rule = ThresholdRule("net_benefit", probability=0.15)
    found = calibrate(*cases, findings=FINDINGS, data="toy", resampling=Resampling(10), rule=rule)
    fitted = [item for item in found.values() if item.n]
    assert len(fitted) >= 2 and {item.threshold for item in fitted} == {0.15}
    assert all(set(item.thresholds) == {0.15} for item in fitted)
    # The net benefit of acting at p: true positives less p / (1 - p) for each false one; a calibrated model gains by acting.
    labels = np.repeat([1.0, 0.0], [30, 70]).astype(np.float32)
    acted = choose_threshold(np.full(100, 0.3), labels, rule=ThresholdRule("net_benefit", probability=0.15)) <= 0.3
    assert acted and 30 - 70 * 0.15 / 0.85 > 0


def test_the_threshold_is_chosen_anew_in_each_resample(cases: tuple[np.ndarray, np.ndarray, list[str]]) -> None:
    logits, labels, who = cases
    one = calibrate(*cases, findings=FINDINGS, data="toy", resampling=Resampling(30))["common"]
    spread = np.array(one.thresholds)
    assert len(spread) == 30 and spread.std() > 0.005
    assert np.quantile(spread, 0.025) <= one.threshold <= np.quantile(spread, 0.975)
    # Independently: patients drawn by hand as the bootstrap draws them, the threshold by a search over all cuts.
    names = np.unique(who)
    drawn = names[np.random.default_rng(0).integers(len(names), size=len(names))]
    rows = np.concatenate([np.flatnonzero(np.array(who) == name) for name in np.sort(drawn)])
    scale, bias = one.replicates[0]
    said, present = expit(scale * logits[rows, 0].astype(float) + bias), labels[rows, 0] == 1
    wanted = best_f1(said, present)
    counted = said >= one.thresholds[0]
    assert 2 * (counted & present).sum() / (counted.sum() + present.sum()) == pytest.approx(wanted, abs=1e-3)
