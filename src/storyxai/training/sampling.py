"""Which images an epoch shows, and in what order: a function of seed and epoch alone, so that a cut run finds its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def image_chances(labels: NDArray[np.float32], *, rare_share: float) -> NDArray[np.float64]:
    """The chance of each image at one draw, raised for those that show a finding rarer than `rare_share`.

    A finding present in a share s < t = `rare_share` of all images asks for sqrt(t / s) times as many; an image is
    shown as often as the rarest of its findings asks. A label of nan is not a presence.

    Shapes: labels [N, F] in [0, 1]; chances [N] that sum to 1. Source: Gupta, Dollar, Girshick, CVPR 2019, section 4.2.
    """
    present = np.nan_to_num(labels, nan=0.0) > 0.5
    shares = present.mean(axis=0)
    factors = np.sqrt(rare_share / np.where(shares > 0, shares, 1.0)).clip(min=1.0)
    times = np.where(present, factors, 1.0).max(axis=1, initial=1.0)
    return np.asarray(times / times.sum())


def epoch_order(
    count: int, *, seed: int, epoch: int, chances: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """`count` rows in the order of one epoch: each row once, or by `chances` with as little luck as can be.

    With chances p, row i comes floor(count p_i) or that plus one times, and count p_i times on average: marks at equal
    distances are laid over the running sum of p, and only where the first one lies is drawn.
    """
    rng = np.random.default_rng([seed, epoch])
    rows = np.arange(count, dtype=np.int64)
    if chances is not None:
        marks = (np.arange(count) + rng.uniform()) / count
        rows = np.searchsorted(np.cumsum(chances), marks, side="right").clip(max=count - 1).astype(np.int64)
    return rng.permutation(rows)


def shown_rows(domain: Sequence[str], shown: Mapping[str, float], *, seed: int, epoch: int) -> NDArray[np.int64]:
    """The rows of one epoch in its order: those of each set in `shown` as often as it says, of others none.

    Of a part of a time, such as a half, so many rows are drawn anew in each epoch, none twice. Shapes: domain [N].
    """
    rng = np.random.default_rng([seed, epoch])
    sets = np.array(domain)
    rows = []
    for name, times in shown.items():
        own = np.flatnonzero(sets == name)
        whole, rest = divmod(times, 1)
        rows += [np.tile(own, int(whole)), rng.permutation(own)[: round(rest * len(own))]]
    return np.asarray(rng.permutation(np.concatenate(rows)), dtype=np.int64)
