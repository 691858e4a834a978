"""How often each tier is told: counted by hand, and held against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from storyxai.metrics.bootstrap import value_of
from storyxai.metrics.tiers import finding_statistics, image_statistics, tiers_of
from storyxai.types import TIERS, tier_of

NAN = np.nan
TOLD = np.array([["likely", "unlikely"], ["possible", "cannot_tell"], ["unlikely", "unlikely"], ["cannot_tell", "likely"],
                 ["unlikely", ""], ["", ""]], dtype="<U11")  # fmt: skip
LABELS = np.array([[1, 0], [0, 0], [0, 0], [1, 0], [1, 1], [1, 1]], dtype=float)


def test_a_finding_by_hand() -> None:
    found = {key: value_of(statistic, 6) for key, (statistic, _) in finding_statistics(TOLD[:, 0], LABELS[:, 0]).items()}
    assert [found[tier, "with"] for tier in TIERS] == [1 / 3, 0, 1 / 3, 1 / 3]  # images 0, 3, 4
    assert [found[tier, "without"] for tier in TIERS] == [0, 1 / 2, 1 / 2, 0]  # images 1, 2
    assert [found[tier, "have"] for tier in TIERS] == [1, 0, 1 / 2, 1]


def test_images_by_hand() -> None:
    statistics = image_statistics(TOLD, LABELS)
    assert {name: value_of(statistic, 6) for name, (statistic, _) in statistics.items()} == {
        "nothing_named": 1 / 2,  # of images 1 and 2
        "right_named": 1 / 3,  # of 0, 3 and 4
        "named": 3 / 5,  # image 5 is not told
        "cannot_tell": 1 / 5,  # (0 + 1/2 + 0 + 1/2 + 0) / 5
        "named_have": 1 / 3,  # of 0, 1 and 3
    }
    assert [int(known.sum()) for _, known in statistics.values()] == [2, 3, 5, 5, 3]


def test_an_image_of_which_a_finding_is_not_stated_is_not_normal_and_that_finding_is_not_counted() -> None:
    labels = np.array([[0, NAN], [0, 0]])
    statistics = image_statistics(np.array([["unlikely", "likely"], ["likely", "unlikely"]]), labels)
    assert statistics["nothing_named"][1].tolist() == [False, True]
    assert value_of(statistics["named_have"][0], 2) == 0 and statistics["named_have"][1].tolist() == [False, True]


def test_weights_count_an_image_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    tiers = rng.choice([*TIERS, ""], size=(40, 3)).astype("<U11")
    labels = rng.choice([0.0, 1.0, NAN], p=[0.6, 0.3, 0.1], size=(40, 3))
    weights = rng.integers(0, 4, (5, 40))
    for name, (statistic, _) in image_statistics(tiers, labels).items():
        many = statistic(weights.astype(float))
        for row, value in zip(weights, many, strict=True):
            drawn = np.repeat(np.arange(40), row)
            again = image_statistics(tiers[drawn], labels[drawn])[name][0]
            assert value == pytest.approx(value_of(again, len(drawn)), abs=1e-12)


def test_the_tiers_of_a_finding_tile_its_images() -> None:
    rng = np.random.default_rng(4)
    low, said, high = np.sort(rng.uniform(0, 1, (3, 200)), axis=0)
    told = tiers_of(said, low, high, 0.2)
    assert told.tolist() == [tier_of(*cell, 0.2) for cell in zip(said, zip(low, high, strict=True), strict=True)]
    statistics = finding_statistics(told, rng.integers(0, 2, 200).astype(float))
    for side in ("with", "without"):
        assert sum(value_of(statistics[tier, side][0], 200) or 0 for tier in TIERS) == pytest.approx(1)
    assert tiers_of([NAN], [NAN], [NAN], 0.2).tolist() == [""]
