"""The smallest set that turns a decision, against a search through all sets."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from storyxai.errors import InputError
from storyxai.explain.counterfactual import Turn, TurnSearch, turn_decisions


def by_brute_force(shown: object, count: int) -> int:
    """The size of the smallest set that makes the first logit negative; 0 where there is none."""
    for size in range(1, count + 1):
        for hidden in combinations(range(count), size):
            vector = np.ones((1, count), np.uint8)
            vector[0, list(hidden)] = 0
            if shown(vector)[0, 0] < 0:  # type: ignore[operator]
                return size
    return 0


def first(logits: np.ndarray) -> np.ndarray:
    return np.asarray(logits[:, 0])


def network(seed: int, count: int) -> object:
    """A function of the shown superpixels with interactions: some turn it only together, and some work against it."""
    rng = np.random.default_rng(seed)
    hidden, bias, out = rng.normal(size=(count, 6)), rng.normal(size=6), rng.normal(size=6)
    whole = np.maximum(np.ones(count) @ hidden + bias, 0) @ out
    return lambda vectors: (np.maximum(vectors @ hidden + bias, 0) @ out - whole + 1.5)[:, None]


def hidden_turns(shown: object, count: int, turn: Turn) -> bool:
    vector = np.ones((1, count), np.uint8)
    vector[0, list(turn.hidden)] = 0
    answer = shown(vector)[0]  # type: ignore[operator]
    assert turn.logits == pytest.approx(tuple(answer))
    return bool(answer[0] < 0)


@pytest.mark.parametrize("seed", range(12))
def test_on_few_superpixels_the_set_is_as_small_as_any(seed: int) -> None:
    shown = network(seed, 8)
    (turn,) = turn_decisions(shown, 8, [first], TurnSearch(passes=256))
    assert turn.smallest and len(turn.hidden) == by_brute_force(shown, 8)
    assert not turn.hidden or hidden_turns(shown, 8, turn)


def test_the_brute_force_meets_every_kind_of_case() -> None:
    sizes = {by_brute_force(network(seed, 8), 8) for seed in range(12)}
    assert {0, 1, 2} <= sizes and max(sizes) > 2


@pytest.mark.parametrize("needed", [1, 2, 5])
def test_of_a_sum_the_largest_parts_are_the_closed_form(needed: int) -> None:
    """z = sum of weights - b turns first when the largest weights that exceed the margin are hidden."""
    weights = np.array([1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 5.0, 0.5] + [0.1] * 30)
    largest = np.argsort(-weights)[:needed]
    margin = weights[largest].sum() - 0.25
    (turn,) = turn_decisions(lambda v: (v @ weights - weights.sum() + margin)[:, None], 40, [first], TurnSearch(passes=200))
    assert turn.hidden == tuple(sorted(largest)) and turn.passes <= 200
    assert turn.smallest == (needed <= 2)  # pairs cannot all be tried with so few passes, but no single one turned it


def test_what_is_needless_is_taken_out_again() -> None:
    """The greedy first step leads astray: superpixel 0 helps most alone, 1 and 2 together do without it."""

    def shown(v: np.ndarray) -> np.ndarray:
        gone = 1.0 - v
        return (3 - 1.2 * gone[:, 0] - gone[:, 1] - gone[:, 2] - 3 * gone[:, 1] * gone[:, 2])[:, None]

    (turn,) = turn_decisions(shown, 30, [first], TurnSearch(passes=120))
    assert turn.hidden == (1, 2)


def test_each_decision_has_its_own_direction_and_the_single_ones_are_shared() -> None:
    asked = []

    def shown(v: np.ndarray) -> np.ndarray:
        asked.append(len(v))
        return np.stack([v[:, 0] - 0.5, 0.5 - v[:, 1]], axis=1)

    down, up = turn_decisions(shown, 20, [first, lambda z: -z[:, 1]], TurnSearch(passes=50))
    assert (down.hidden, up.hidden) == ((0,), (1,)) and down.smallest and up.smallest
    assert sum(asked) == 21


def test_the_budget_is_kept_and_nothing_found_is_said() -> None:
    asked = []

    def shown(v: np.ndarray) -> np.ndarray:
        asked.append(len(v))
        return np.full((len(v), 1), 1.0)

    turns = turn_decisions(shown, 20, [first, first], TurnSearch(passes=60))
    assert sum(asked) <= 60 and all(turn.hidden == () and not turn.smallest and turn.passes <= 60 for turn in turns)


def test_a_budget_of_less_than_every_superpixel_once_is_refused() -> None:
    with pytest.raises(InputError, match="20 passes for 20 superpixels — allow more than 20"):
        turn_decisions(lambda v: np.ones((len(v), 1)), 20, [first], TurnSearch(passes=20))
