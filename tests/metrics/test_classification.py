"""Ranking measures against counting by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metrics.by_value import average_precision, sensitivity, specificity

from storyxai.errors import InputError
from storyxai.metrics.classification import (
    auroc,
    per_finding,
    roc_points,
)


def test_auroc_by_hand() -> None:
    # Present 3, 1; absent 2, 1. Pairs: 3>2, 3>1, 1<2, 1=1: 1 + 1 + 0 + 1/2 of 4.
    assert auroc([1, 0, 1, 0], [3.0, 2.0, 1.0, 1.0]) == 2.5 / 4
    assert auroc([1, 1, 0, 0], [4, 3, 2, 1]) == 1.0
    assert auroc([1, 1, 0, 0], [1, 2, 3, 4]) == 0.0
    assert auroc([1, 0, 1, 0], [7, 7, 7, 7]) == 0.5


def test_average_precision_by_hand() -> None:
    # In order: present (1/1), absent, present (2/3): mean of the precisions at the present cases.
    assert average_precision([1, 0, 1, 0], [4, 3, 2, 1]) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision([1, 0, 0, 0], [5, 5, 5, 5]) == 0.25  # all tied: prevalence


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=4, max_size=40))
def test_auroc_is_the_share_of_pairs_won(cases: list[tuple[bool, int]]) -> None:
    labels = np.array([present for present, _ in cases], dtype=float)
    scores = np.array([score for _, score in cases], dtype=float)
    present, absent = scores[labels == 1], scores[labels == 0]
    area = auroc(labels, scores)
    if not len(present) or not len(absent):
        assert area is None
        assert average_precision(labels, scores) is None
        return
    won = [(p > a) + (p == a) / 2 for p in present for a in absent]
    assert area == pytest.approx(sum(won) / len(won), abs=1e-12)
    assert auroc(labels, -scores) == pytest.approx(1.0 - sum(won) / len(won), abs=1e-12)
    assert auroc(labels, np.exp(scores)) == area  # any rising function keeps the ranks


def test_tied_and_rare_cases_agree_with_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(3)
    for prevalence in (0.02, 0.1, 0.5, 0.9):
        labels = (rng.random(300) < prevalence).astype(float)
        labels[:2] = 0.0, 1.0
        scores = np.round(rng.normal(size=300) + labels, 1)
        assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_not_stated_is_left_out_and_never_absent() -> None:
    labels, scores = [1, 0, np.nan, 1, 0], [3.0, 2.0, 9.0, 1.0, 1.0]
    assert auroc(labels, scores) == 2.5 / 4
    assert auroc([1, 0, np.nan], [1.0, 2.0, 1.5]) == 0.0
    assert auroc([1, 0, 0], [1.0, np.nan, 0.0]) == 1.0  # a score nobody knows
    assert sensitivity([1, np.nan], [0.9, 0.1], threshold=0.5) == 1.0


def test_operating_point_by_hand() -> None:
    labels, scores = [1, 1, 1, 1, 0, 0], [0.9, 0.8, 0.5, 0.1, 0.5, 0.2]
    assert sensitivity(labels, scores, threshold=0.5) == 0.75  # at the threshold counts as present
    assert specificity(labels, scores, threshold=0.5) == 0.5
    assert sensitivity([0, 0], [0.1, 0.2], threshold=0.5) is None
    assert specificity([1, 1], [0.1, 0.2], threshold=0.5) is None


def test_per_finding_takes_each_column_alone() -> None:
    labels = np.array([[1, 0, np.nan], [0, 0, 1], [1, 0, 0]], dtype=float)
    scores = np.array([[2, 1, 9], [1, 2, 5], [3, 3, 4]], dtype=float)
    assert per_finding(auroc, labels, scores) == (1.0, None, 1.0)


def test_faults_of_the_call_are_named() -> None:
    with pytest.raises(InputError, match="does not fit"):
        auroc([1, 0], [1.0])
    with pytest.raises(InputError, match="does not fit"):
        per_finding(auroc, np.zeros((2, 3)), np.zeros((2, 2)))


def test_points_of_a_curve_by_hand() -> None:
    labels, scores = [1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]
    assert roc_points(labels, scores) == ((0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0))
    assert roc_points([1, 1, np.nan], [0.1, 0.2, 0.3]) == ()
    with pytest.raises(InputError, match="too few"):
        roc_points(labels, scores, most=1)


def test_few_points_of_many_lie_on_the_curve_and_keep_its_area() -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random(3000) < 0.05).astype(float)
    scores = labels + rng.normal(size=3000)
    few, every = roc_points(labels, scores), roc_points(labels, scores, most=5000)
    assert len(few) == 40 < len(every) and set(few) <= set(every)
    assert few[0] == (0.0, 0.0) and few[-1] == (1.0, 1.0) and list(few) == sorted(few)
    alarms, hits = np.array(few).T
    assert np.trapezoid(hits, alarms) == pytest.approx(auroc(labels, scores), abs=0.005)
