"""What a telling may cost, as a user says it: samples or "auto", seconds, megabytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from storyxai.errors import InputError

FEWEST_SAMPLES = 100
AUTO = "auto"


@dataclass(frozen=True)
class Allowance:
    """At most so many `samples` of a method that samples (None: until its result is stable), and so many `seconds` for each
    such method; its perturbed images at once take at most `memory_mb`. None: no limit of time, a batch of 16."""

    samples: int | None = None
    seconds: float | None = None
    memory_mb: float | None = None

    def check(self) -> None:
        """Raise InputError for a budget of nothing, and for one that cannot carry LIME's fit."""
        if self.samples is not None and self.samples < FEWEST_SAMPLES:
            mend = f"use {FEWEST_SAMPLES} or more, or '{AUTO}'"
            raise InputError("samples", f"{self.samples} are too few for LIME", mend=mend)
        for what, value, mend in (
            ("seconds", self.seconds, "allow a second or more, or leave it out"),
            ("memory", self.memory_mb, "allow 10 megabytes or more, or leave it out"),
        ):
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise InputError(what, f"{value:g} is a budget of nothing", mend=mend)


def read_samples(text: str) -> int | None:
    """A number of samples, None for "auto". Raises: InputError for anything else."""
    if text.strip().casefold() == AUTO:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise InputError("samples", f"'{text}' is no number", mend=f"give a number such as 1000, or '{AUTO}'") from error
