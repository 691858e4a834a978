"""A published teacher on the scale of our labels: as sure as it has a right to be, and silent where it knows nothing."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from storyxai.data.batches import Examples
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.training.published import RIDGE, fit_answers_to_labels, unknown_targets, with_published_answers
from storyxai.types import SoftTargets
from teaching_examples import toy_examples

COUNT = 400


def trained(labels: np.ndarray) -> Examples:
    few = toy_examples(4, findings=len(NAMES))
    train = few.take(np.arange(len(labels)) % 4)
    names = tuple(f"film-{row}" for row in range(len(labels)))
    filled = np.full((len(labels), len(NAMES)), np.nan, dtype=np.float32)
    filled[:, : labels.shape[1]] = labels
    return dataclasses.replace(train, ids=names, patient_ids=names, labels=filled)


def answered(logits: np.ndarray, *, ids: tuple[str, ...] | None = None, findings: tuple[str, ...] | None = None) -> SoftTargets:
    ids = ids or tuple(f"film-{row}" for row in range(len(logits)))
    return SoftTargets(findings or NAMES[: logits.shape[1]], logits.astype(np.float32), ids, "resize:64", "published")


def knowing(seed: int, *, count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of four kinds (truth, half as sure, turned round, nothing in 0.05) and labels drawn from the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1, 1.5, count)
    labels = (rng.random(count) < expit(truth)).astype(np.float32)
    nothing = rng.normal(2.0, 0.05, count)
    return np.stack([truth, truth / 2 + 3, -truth, nothing], axis=1), np.repeat(labels[:, None], 4, axis=1)


def test_a_teacher_that_knows_nothing_is_not_taught_with_the_confidence_of_knowledge() -> None:
    spreads = []
    for seed in range(20):
        logits, labels = knowing(seed)
        fitted = fit_answers_to_labels(answered(logits), trained(labels), NAMES).logits[:, 3]
        if not np.isnan(fitted).any():
            assert expit(fitted).mean() == pytest.approx(labels.mean(), abs=1e-3)
            spreads.append(float(fitted.std()))
        else:
            spreads.append(0.0)
    assert np.mean(spreads) < 0.2  # 1.2 for every finding alike, before


def test_level_and_sureness_come_from_the_labels_and_a_turned_teacher_is_silent() -> None:
    logits, labels = knowing(1, count=4000)
    fitted = fit_answers_to_labels(answered(logits), trained(labels), NAMES).logits
    assert np.allclose(fitted[:, 0], logits[:, 0], atol=0.4) and np.allclose(fitted[:, 0], fitted[:, 1], atol=0.01)
    assert np.isnan(fitted[:, 2]).all()


def test_the_fit_is_that_of_another_implementation() -> None:
    logits, labels = knowing(2)
    fitted = fit_answers_to_labels(answered(logits), trained(labels), NAMES).logits
    for column in (0, 1):
        known = LogisticRegression(C=1 / RIDGE, tol=1e-8).fit(logits[:, column : column + 1], labels[:, column])
        wanted = logits[:, column] * known.coef_[0, 0] + known.intercept_[0]
        assert fitted[:, column] == pytest.approx(wanted, abs=1e-3)


def test_what_is_not_known_is_not_asked_and_strangers_are_left_alone() -> None:
    logits, labels = knowing(3)
    labels[5:, 1] = np.nan  # five labels are too few
    labels[:, 0] = np.where(np.cumsum(labels[:, 0]) <= 4, labels[:, 0], 0)  # four positives as well
    names = (NAMES[0], NAMES[1], NAMES[2], "stranger")
    found = fit_answers_to_labels(answered(logits, findings=names), trained(labels), NAMES).logits
    assert np.isnan(found[:, :2]).all() and np.array_equal(found[:, 3], logits[:, 3].astype(np.float32))


def test_images_outside_the_training_part_are_answered_for_and_do_not_decide() -> None:
    logits, labels = knowing(4)
    train = trained(labels).take(np.arange(300))
    louder = logits.copy()
    louder[300:] += 30
    one, other = (fit_answers_to_labels(answered(given), train, NAMES).logits for given in (logits, louder))
    assert np.array_equal(one[:300], other[:300], equal_nan=True) and not np.isnan(one[300:, 0]).any()
    strangers = answered(logits, ids=tuple(f"other-{row}" for row in range(COUNT)))
    assert np.isnan(fit_answers_to_labels(strangers, train, NAMES).logits).all()


def test_many_answers_are_joined_in_the_time_of_few() -> None:
    """`set(...)` in a comprehension made this quadratic: 50,000 answers took minutes."""
    count = 50_000
    rng = np.random.default_rng(0)
    train = trained((rng.random((count, 1)) < 0.3).astype(np.float32))
    soft = answered(rng.normal(size=(count, 1)) + 2 * train.labels[:, :1])
    began = time.perf_counter()
    fitted = fit_answers_to_labels(soft, train, NAMES)
    joined = with_published_answers(unknown_targets(train), fitted, train, NAMES, weight=1.0)
    assert time.perf_counter() - began < 20
    assert np.array_equal(joined[0].findings[:, 0], fitted.logits[:, 0]) and np.isnan(joined[0].findings[:, 1:]).all()
