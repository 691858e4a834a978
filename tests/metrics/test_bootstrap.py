"""The bootstrap against normal theory, against resampling row by row, and as a promise of coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.metrics.by_value import average_precision, row_statistic

from storyxai.errors import InputError
from storyxai.metrics.bootstrap import (
    bootstrap_interval,
    draw_resamples,
    estimate,
    estimate_mean,
    estimate_ranking,
    estimate_share,
    mean_statistic,
    paired_difference,
    value_of,
)
from storyxai.metrics.classification import (
    auroc,
    auroc_statistic,
    average_precision_statistic,
    mean_auroc_statistic,
    mean_judged_auroc_statistic,
)


def names(count: int) -> list[str]:
    return [f"p{number:05d}" for number in range(count)]


def test_interval_of_a_mean_is_that_of_normal_theory() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    found = bootstrap_interval(mean_statistic(values), names(400), count=4000, seed=2)
    error = values.std() / math.sqrt(400)
    assert found.value == pytest.approx(values.mean(), abs=1e-12)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)
    assert (found.replicates, found.left_out) == (4000, 0)


def test_copies_of_a_patient_add_nothing() -> None:
    """Nine images a patient with equal values are one observation: the interval is that of the patients alone."""
    values = np.random.default_rng(3).normal(size=60)
    alone = bootstrap_interval(mean_statistic(values), names(60), seed=4)
    copied = bootstrap_interval(mean_statistic(np.repeat(values, 9)), np.repeat(names(60), 9), seed=4)
    naive = bootstrap_interval(mean_statistic(np.repeat(values, 9)), names(540), seed=4)
    assert copied.low == pytest.approx(alone.low, abs=1e-12)
    assert copied.high == pytest.approx(alone.high, abs=1e-12)
    assert alone.high is not None and alone.low is not None and naive.high is not None and naive.low is not None
    assert (naive.high - naive.low) / (alone.high - alone.low) == pytest.approx(1 / 3, rel=0.1)


def test_auroc_interval_has_the_width_of_delong() -> None:
    rng = np.random.default_rng(5)
    labels = np.repeat([1.0, 0.0], [150, 350])
    scores = rng.normal(size=500) + 1.0 * labels
    better = scores[:150, None] > scores[None, 150:]
    deviation = math.sqrt(better.mean(axis=1).var(ddof=1) / 150 + better.mean(axis=0).var(ddof=1) / 350)
    found = bootstrap_interval(auroc_statistic(labels, scores), names(500), count=4000, seed=6)
    assert found.value == pytest.approx(better.mean(), abs=1e-12)
    assert found.low is not None and found.high is not None
    assert (found.high - found.low) / (2 * 1.96 * deviation) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize(
    ("statistic", "plain"), [(auroc_statistic, auroc), (average_precision_statistic, average_precision)]
)
def test_weights_say_what_repeated_rows_say(statistic, plain) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, size=80).astype(float)
    labels[rng.random(80) < 0.2] = np.nan
    scores = np.round(rng.normal(size=80) + np.nan_to_num(labels), 1)  # rounded: ties
    weights = draw_resamples(np.repeat(names(40), 2), count=50, seed=8).weights(0, 50)
    slow = row_statistic(lambda rows: plain(labels[rows], scores[rows]))
    np.testing.assert_allclose(statistic(labels, scores)(weights), slow(weights), atol=1e-12)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """300 sets of 100 patients: the 90 % interval of AUROC 0.7602 (shift 1 of two normals) misses near 10 % of them."""
    rng = np.random.default_rng(9)
    truth = 0.7602499389065233
    labels = np.repeat([1.0, 0.0], [40, 60])
    misses = 0
    for trial in range(300):
        found = bootstrap_interval(
            auroc_statistic(labels, rng.normal(size=100) + labels), names(100), count=200, seed=trial, level=0.9
        )
        assert found.low is not None and found.high is not None
        misses += not found.low <= truth <= found.high
    assert 15 <= misses <= 50  # 30 expected; 3 binomial deviations are 16, and a percentile interval is a little narrow


def test_difference_is_paired() -> None:
    """Two models that differ by a constant for each patient: the difference has no width, however noisy each is."""
    values = np.random.default_rng(10).normal(0.0, 50.0, size=200)
    found = paired_difference(mean_statistic(values + 0.25), mean_statistic(values), names(200), seed=11)
    assert found.low == pytest.approx(0.25, abs=1e-9)
    assert found.high == pytest.approx(0.25, abs=1e-9)


def test_mean_over_findings_is_resampled_jointly() -> None:
    """A finding copied three times has a mean with the interval of one finding, not of three independent ones."""
    rng = np.random.default_rng(12)
    labels = rng.integers(0, 2, size=(120, 1)).astype(float)
    scores = rng.normal(size=(120, 1)) + labels
    one = bootstrap_interval(auroc_statistic(labels[:, 0], scores[:, 0]), names(120), seed=13)
    three = bootstrap_interval(mean_auroc_statistic(labels.repeat(3, 1), scores.repeat(3, 1)), names(120), seed=13)
    assert three.value == pytest.approx(one.value)
    assert three.low == pytest.approx(one.low)
    assert three.high == pytest.approx(one.high)


def test_resamples_without_a_class_are_left_out_and_counted() -> None:
    """One positive patient among n is missed by a resample with chance (1 - 1/n)^n."""
    labels = np.array([1.0] + [0.0] * 9)
    scores = np.array([5.0] + [float(i) for i in range(9)])
    found = bootstrap_interval(auroc_statistic(labels, scores), names(10), count=4000, seed=14)
    assert found.left_out / 4000 == pytest.approx(0.9**10, abs=0.025)
    draws = draw_resamples(names(10), count=4000, seed=14)
    assert found.left_out == int(((draws.counts[:, 0] == 0) | (draws.counts[:, 0] == 10)).sum())


def test_undefined_and_mostly_undefined_have_no_interval() -> None:
    nothing = bootstrap_interval(auroc_statistic(np.ones(5), np.arange(5.0)), names(5), count=10, seed=0)
    assert (nothing.value, nothing.low, nothing.high, nothing.left_out) == (None, None, None, 10)
    # Only the full sample (weights all one) defines it: every resample is undefined.
    picky = bootstrap_interval(
        lambda weights: np.where((weights == 1).all(axis=1), 0.5, np.nan), names(30), count=100, seed=0
    )
    assert (picky.value, picky.low, picky.left_out) == (0.5, None, 100)


def test_same_seed_same_bits_any_row_order_any_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(15)
    labels, ids = rng.integers(0, 2, size=90).astype(float), np.array(names(90))
    scores = rng.normal(size=90)
    first = bootstrap_interval(auroc_statistic(labels, scores), ids, count=300, seed=16)
    assert first == bootstrap_interval(auroc_statistic(labels, scores), ids, count=300, seed=16)
    assert first != bootstrap_interval(auroc_statistic(labels, scores), ids, count=300, seed=17)
    order = rng.permutation(90)
    moved = bootstrap_interval(auroc_statistic(labels[order], scores[order]), ids[order], count=300, seed=16)
    assert moved.low == pytest.approx(first.low, abs=1e-12)
    monkeypatch.setattr("storyxai.metrics.bootstrap._BLOCK_CELLS", 1000)
    assert bootstrap_interval(auroc_statistic(labels, scores), ids, count=300, seed=16) == first


def test_every_resample_draws_as_many_patients_as_there_are() -> None:
    draws = draw_resamples(names(37), count=500, seed=18)
    assert (draws.counts.sum(axis=1) == 37).all()
    assert abs(draws.counts.mean(axis=0) - 1.0).max() < 0.25


def test_faults_of_the_call_are_named() -> None:
    with pytest.raises(InputError, match="no images"):
        draw_resamples([], count=10, seed=0)
    with pytest.raises(InputError, match="1000 or more"):
        draw_resamples(["a"], count=0, seed=0)


def test_nan_values_are_left_out_of_a_mean() -> None:
    assert value_of(mean_statistic([1.0, np.nan, 3.0]), 3) == 2.0
    assert value_of(mean_statistic([np.nan, np.nan]), 2) is None
    assert estimate(mean_statistic([np.nan]), draw_resamples(["a"], count=5, seed=0)).value is None


def test_a_share_of_all_or_none_has_an_exact_interval() -> None:
    """Six hits of six patients: every resample is six of six, but the share may well be 0.55."""
    resamples = draw_resamples(names(6), count=200, seed=0)
    assert estimate(mean_statistic(np.ones(6)), resamples).low == 1.0
    every = estimate_share(mean_statistic(np.ones(6)), resamples, patients=6)
    assert every.low is not None and every.high == 1.0
    assert every.low**6 == pytest.approx(0.025)  # Clopper-Pearson: six of six has this chance at the lower end
    none = estimate_share(mean_statistic(np.zeros(6)), resamples, patients=6)
    assert (none.low, none.high) == (0.0, pytest.approx(1 - every.low))
    some = mean_statistic([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    assert estimate_share(some, resamples, patients=6) == estimate(some, resamples)


def test_no_interval_claims_certainty_from_a_handful() -> None:
    """Two findings, three patients, all ranked perfectly: every resample says 1.000, and that is no knowledge."""
    labels, scores = np.array([1.0, 0.0, 0.0]), np.array([3.0, 2.0, 1.0])
    resamples = draw_resamples(["a", "b", "c"], count=200, seed=0)
    area = auroc_statistic(labels, scores)
    assert (estimate(area, resamples).value, estimate(area, resamples).low) == (1.0, 1.0)
    assert estimate_ranking(area, resamples, patients=[(1, 2)]).low is None
    assert estimate_mean(mean_statistic(scores), resamples, patients=3).low is None


def test_perfect_ranking_of_many_has_the_exact_bound_of_disjoint_pairs() -> None:
    labels = np.repeat([1.0, 0.0], [20, 50])
    resamples = draw_resamples([str(row) for row in range(70)], count=200, seed=0)
    found = estimate_ranking(auroc_statistic(labels, labels), resamples, patients=[(20, 50)])
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 20))  # twenty pairs in order have that chance of 2.5 %
    turned = estimate_ranking(auroc_statistic(labels, -labels), resamples, patients=[(20, 50)])
    assert (turned.value, turned.low) == (0.0, 0.0) and turned.high == pytest.approx(1 - 0.025 ** (1 / 20))
    same = estimate_ranking(lambda weights: np.zeros(len(weights)), resamples, patients=[(20, 50)], difference=True)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    certain = estimate_mean(lambda weights: np.full(len(weights), 0.9), resamples, patients=70)
    assert (certain.value, certain.low, certain.high) == (0.9, None, None)


def test_a_mean_of_rankings_has_no_interval_where_half_of_them_rest_on_few_patients() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 2)) < [0.5, 0.05]) * 1.0
    scores = rng.normal(size=(60, 2)) + labels
    resamples = draw_resamples([str(row) for row in range(60)], count=200, seed=0)
    mean = mean_judged_auroc_statistic(labels, scores)
    patients = [(30, 30), (3, 57)]
    assert estimate_ranking(mean, resamples, patients=patients).low is None
    assert estimate_ranking(mean, resamples, patients=[(30, 30), *patients]).low is not None
