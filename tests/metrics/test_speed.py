"""Speed by a clock of our own: known seconds give known rates."""

from __future__ import annotations

import pytest

from storyxai.errors import InputError
from storyxai.metrics.speed import images_per_second


def test_the_median_batch_gives_the_rate_and_the_first_call_is_not_counted() -> None:
    taken, now, calls = iter([100.0, 1.0, 2.0, 8.0]), [0.0], []

    def answer() -> None:
        calls.append(1)
        now[0] += next(taken)

    found = images_per_second(answer, batch_size=16, batches=3, clock=lambda: now[0])
    assert (found.images_per_second, found.slowest, found.fastest) == (8.0, 2.0, 16.0)
    assert (len(calls), found.batches, found.batch_size) == (4, 3, 16)


@pytest.mark.parametrize(("batches", "batch_size"), [(0, 4), (2, 0)])
def test_no_batch_is_refused(batches: int, batch_size: int) -> None:
    with pytest.raises(InputError, match="measure nothing"):
        images_per_second(lambda: None, batch_size=batch_size, batches=batches, clock=lambda: 0.0)
