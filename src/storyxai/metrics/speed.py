"""How many images a second a model answers. The clock is given, so that nothing here reads the time by itself."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, UnsetType

from storyxai.errors import InputError

Clock = Callable[[], float]


@dataclass(frozen=True)
class Speed:
    """Images a second: the median batch, and the slowest and fastest of `batches` batches of `batch_size` images."""

    images_per_second: float
    slowest: float
    fastest: float
    batches: int
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class ModelSpeed(Speed):
    """One model's; `student_times_faster` is None where there is no student to compare, unset for the student itself."""

    name: str
    student_times_faster: float | UnsetType | None = UNSET


@dataclass(frozen=True)
class Speeds:
    """Measured times, as speed.json holds them; they differ from run to run."""

    models: tuple[ModelSpeed, ...]

    def as_dict(self) -> dict[str, object]:
        """The same as plain JSON values."""
        plain: dict[str, object] = msgspec.to_builtins(self)
        return plain


def images_per_second(answer: Callable[[], object], *, batch_size: int, batches: int, clock: Clock) -> Speed:
    """The speed of `answer`, which answers one batch of `batch_size` images. Units: `clock` counts seconds.

    One batch is answered before the clock starts: the first one also pays for loading. Raises: InputError without a batch.
    """
    if batches < 1 or batch_size < 1:
        raise InputError("batches", f"{batches} of {batch_size} images measure nothing", mend="use 1 or more")
    answer()
    seconds = []
    for _ in range(batches):
        start = clock()
        answer()
        seconds.append(max(clock() - start, 1e-9))
    rates = [batch_size / taken for taken in seconds]
    return Speed(batch_size / statistics.median(seconds), min(rates), max(rates), batches, batch_size)
