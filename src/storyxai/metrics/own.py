"""Figures of somebody's own, which the scorecard adds to ours: brought by an installed package under an entry point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

import numpy as np

from storyxai.errors import InputError
from storyxai.metrics.bootstrap import Floats, Statistic

__all__ = ["ENTRY_POINTS", "Metric", "own_metrics", "statistic_of"]

ENTRY_POINTS = "storyxai.metrics"


@dataclass(frozen=True)
class Metric:
    """A figure of what a model says beside what is known.

    `statistic(labels, said)` is a function of weights, as `bootstrap` wants it: given [B, N] weights it returns B values, nan
    where one is undefined. `needs` says what `said` holds: "scores" (log-odds) or "probabilities". `over` a "finding", labels
    and said are [N], without nan, and the scorecard has the figure of each finding; over "all" they are [N, F], nan where a
    label is not stated or the model says nothing.
    """

    name: str
    statistic: Callable[[Floats, Floats], Statistic]
    needs: Literal["scores", "probabilities"] = "probabilities"
    over: Literal["finding", "all"] = "finding"
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        for key, value, known in (("needs", self.needs, ("scores", "probabilities")), ("over", self.over, ("finding", "all"))):
            if value not in known:
                why = f"has {key} = {value!r}"
                raise InputError(f"metric '{self.name}'", why, mend=f"write {' or '.join(map(repr, known))}")


def own_metrics() -> tuple[Metric, ...]:
    """The metrics of installed packages, by name. Raises: InputError for one that cannot be loaded, or is no `Metric`."""
    found = []
    for point in sorted(metadata.entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        try:
            metric = point.load()
        except Exception as error:  # whatever a stranger's module raises when it is imported
            why = f"cannot be loaded from {point.value} ({type(error).__name__}: {error})"
            raise InputError(f"metric '{point.name}'", why, mend="mend or remove the package that brings it") from error
        if not isinstance(metric, Metric):
            mend = "let it be a storyxai.metrics.own.Metric"
            raise InputError(f"metric '{point.name}'", f"is not what {point.value} holds", mend=mend)
        found.append(metric)
    return tuple(found)


def statistic_of(metric: Metric, labels: Floats, said: Floats) -> Statistic:
    """The metric of the images that it can be asked about, as a statistic of the weights of all.

    Shapes: labels, said [N] or [N, F]. Raises: InputError naming the metric where it does not give a value a resample.
    """
    known = np.isfinite(labels) & np.isfinite(said)
    rows = known if known.ndim == 1 else known.any(axis=1)
    stated, given = (np.where(known, values, np.nan)[rows] for values in (labels, said))
    inner = metric.statistic(stated, given)

    def figure(weights: Floats) -> Floats:
        values = np.asarray(inner(weights[:, rows]), dtype=np.float64)
        if values.shape != (len(weights),):
            why = f"gives values of shape {values.shape} for {len(weights)} resamples"
            raise InputError(f"metric '{metric.name}'", why, mend="return one value for each row of weights")
        return values

    return figure
