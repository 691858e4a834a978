"""Tiers: how a finding is told from its probability, its interval and the threshold of review."""

from __future__ import annotations

import pytest

from storyxai.types import Finding, Tier, tier_of


@pytest.mark.parametrize(("probability", "interval", "threshold", "tier"), [
    (0.5, (0.5, 0.6), 0.2, "likely"),
    (0.4999, (0.3, 0.4999), 0.2, "possible"),
    (0.2, (0.2, 0.2), 0.2, "possible"),
    (0.1, (0.0, 0.1999), 0.2, "unlikely"),
    (0.3, (0.1, 0.4), 0.2, "cannot_tell"),  # unlikely to possible
    (0.6, (0.4, 0.7), 0.2, "cannot_tell"),  # possible to likely
    (0.4, (0.1, 0.9), 0.2, "cannot_tell"),  # all three
    (0.6, (0.55, 0.65), 0.7, "likely"),  # a threshold above one half leaves nothing possible
    (0.45, (0.4, 0.49), 0.7, "unlikely"),
    (0.49999996, (0.49999996, 0.5), 0.2, "likely"),  # six digits: the record says 0.5
])
def test_each_tier_by_hand(probability: float, interval: tuple[float, float], threshold: float, tier: Tier) -> None:
    assert tier_of(probability, interval, threshold) == tier
    assert Finding("Effusion", probability, interval, threshold).tier == tier


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.5, 0.8])
def test_a_higher_probability_is_never_told_as_less_likely(threshold: float) -> None:
    order = ["unlikely", "possible", "likely"]
    told = [order.index(tier_of(step / 100, (step / 100, step / 100), threshold)) for step in range(101)]
    assert told == sorted(told)
    assert told[0] == 0 and told[-1] == 2
