"""Which images an epoch shows: shares on paper, counts without luck, and the same order for the same seed and epoch."""

from __future__ import annotations

import numpy as np
import pytest

from storyxai.training.sampling import epoch_order, image_chances


def labels_of(*positives: int, count: int) -> np.ndarray:
    """One column per finding with that many positives, the last row of each not stated."""
    labels = np.zeros((count, len(positives)), dtype=np.float32)
    for column, number in enumerate(positives):
        labels[:number, column] = 1
        labels[-1, column] = np.nan
    return labels


@pytest.mark.parametrize("share", [0.01, 0.04, 0.25])
def test_a_rare_finding_has_the_share_that_paper_gives_it(share: float) -> None:
    # r = sqrt(t / s) copies of each positive: share after = s r / (s r + 1 - s).
    labels, rare = labels_of(round(share * 400), count=400), 0.25
    chances = image_chances(labels, rare_share=rare)
    times = np.sqrt(rare / share)
    assert chances.sum() == pytest.approx(1)
    assert chances[labels[:, 0] == 1].sum() == pytest.approx(share * times / (share * times + 1 - share))
    if share < rare:
        assert chances[labels[:, 0] == 1].sum() > share


def test_the_rarest_finding_of_an_image_decides() -> None:
    labels = labels_of(25, 4, 0, count=100)  # the four rare ones show the common finding too
    chances = image_chances(labels, rare_share=0.25)
    assert chances[0] / chances[10] == pytest.approx(2.5)  # sqrt(.25 / .04) against sqrt(.25 / .25) = 1
    assert chances[10] == pytest.approx(chances[50]) == pytest.approx(chances[99])


def test_nothing_rare_and_nothing_stated_leave_all_alike() -> None:
    assert np.allclose(image_chances(labels_of(50, count=100), rare_share=0.1), 0.01)
    assert np.allclose(image_chances(np.full((10, 3), np.nan, dtype=np.float32), rare_share=0.5), 0.1)


def test_every_row_comes_within_one_of_its_expected_number_and_on_average_exactly_so() -> None:
    chances = np.array([0.05, 0.15, 0.4, 0.1, 0.3])
    counts = np.array([
        np.bincount(epoch_order(5, seed=3, epoch=epoch, chances=chances), minlength=5) for epoch in range(2000)
    ])
    wanted = 5 * chances
    assert (counts.sum(axis=1) == 5).all()
    assert (np.abs(counts - wanted) < 1).all()
    # One uniform draw decides an epoch: the standard error of a mean over 2,000 is at most 0.5 / sqrt(2000) = 0.011.
    assert np.abs(counts.mean(axis=0) - wanted).max() < 0.045


def test_without_chances_an_epoch_is_a_shuffle() -> None:
    one, other = (epoch_order(50, seed=1, epoch=epoch) for epoch in (0, 1))
    assert sorted(one) == sorted(other) == list(range(50)) and one.tolist() != other.tolist()


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    chances = image_chances(labels_of(2, count=40), rare_share=0.5)
    order = epoch_order(40, seed=2, epoch=7, chances=chances)
    assert np.array_equal(order, epoch_order(40, seed=2, epoch=7, chances=chances))
    for seed, epoch in ((2, 8), (3, 7)):
        assert not np.array_equal(order, epoch_order(40, seed=seed, epoch=epoch, chances=chances))
