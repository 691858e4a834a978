"""A model's figures as drawings where people look at drawings: straight from the record, as data that a template draws.

`Forest`: a row a thing, its value and interval on one axis. `Plane`: operating points in the plane of a ROC curve. The numbers
stand in a table beside them; a drawing of fewer than two rows says nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

from storyxai.errors import CitationError
from storyxai.pages.layout import Labels

__all__ = ["PLOTS", "Forest", "Mark", "Plane", "plot_of"]

LABEL_PX, AXIS_PX, ROW_PX, HEAD_PX = 190, 370, 20, 30
"""Widths of the labels and of the axis; heights of a row and of the ticks above."""
SIDE_PX = 290
"""The sides of a plane."""
Record: TypeAlias = Mapping[str, Any]
Figure: TypeAlias = "tuple[float | None, tuple[float, float] | None]"


@dataclass(frozen=True)
class Mark:
    """A value with its interval, in pixels; `strong` for what this story names."""

    label: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class Forest:
    """Values and intervals on one axis; `reference` is where a value says nothing (an AUROC of 0.5), or None."""

    shape: ClassVar[str] = "forest"
    title: str
    alt: str
    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]
    reference: float | None
    size: tuple[int, int]


@dataclass(frozen=True)
class Plane:
    """Points in a unit square, of which the strong ones are named."""

    shape: ClassVar[str] = "plane"
    title: str
    alt: str
    marks: tuple[Mark, ...]
    across: str
    up: str
    ticks: tuple[tuple[float, str], ...]
    side: int = SIDE_PX


def plot_of(name: str, record: Record, labels: Labels) -> Forest | Plane | None:
    """The drawing called `name`, None where the record has fewer than two values for it. Raises: CitationError if unknown."""
    if name not in PLOTS:
        raise CitationError(f"plot '{name}' is not known")
    drawn = PLOTS[name](record, labels)
    return drawn if len(drawn.marks) > 1 else None


def _forest(name: str, labels: Labels, rows: Iterable[tuple[str, Figure, bool]], ticks: tuple[float, ...],
            reference: float | None = None) -> Forest:  # fmt: skip
    """The forest of all rows whose value is known; `ticks` span the axis, and values beyond it stand at its end."""
    low, high = ticks[0], ticks[-1]

    def at(value: float) -> float:
        return round(LABEL_PX + AXIS_PX * (min(max(value, low), high) - low) / (high - low), 1)

    marks: list[Mark] = []
    for label, (value, interval), strong in rows:
        if value is not None:
            ends = tuple(map(at, interval)) if interval else (None, None)
            marks.append(Mark(label, at(value), HEAD_PX + ROW_PX * (len(marks) + 0.5), ends[0], ends[1], strong))
    words = labels["plots"][name]
    places = tuple((at(tick), labels.words.tick(tick)) for tick in ticks)
    size = (LABEL_PX + AXIS_PX + 20, HEAD_PX + ROW_PX * len(marks) + 4)
    return Forest(words["title"], words["alt"], tuple(marks), places, None if reference is None else at(reference), size)


def _of_findings(record: Record, leaf: str, labels: Labels) -> Iterable[tuple[str, Figure, bool]]:
    """The figure `leaf` of each finding, best first."""
    known = {name: item for name, item in record["model"].get("per_finding", {}).items() if item.get(leaf) is not None}
    for name in sorted(known, key=lambda name: (-known[name][leaf], name)):
        interval = known[name].get(f"{leaf}_interval")
        yield labels.words.finding(name), (known[name][leaf], tuple(interval) if interval else None), name in record["named"]


def _auroc(record: Record, labels: Labels) -> Forest:
    return _forest("auroc", labels, _of_findings(record, "auroc", labels), (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), 0.5)


def _calibration(record: Record, labels: Labels) -> Forest:
    return _forest("calibration", labels, _of_findings(record, "ece", labels), (0.0, 0.02, 0.04, 0.06, 0.08, 0.1))


def _agreement(record: Record, labels: Labels) -> Forest:
    found = record["model"].get("agreement", {})
    rows = [(labels.words.finding(name), (found[name].get("correlation"), None), name in record["named"]) for name in found]
    rows.sort(key=lambda row: (-(row[1][0] or 0.0), row[0]))
    return _forest("agreement", labels, rows, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0))


def _groups(record: Record, labels: Labels) -> Forest:
    found = record["model"].get("subgroups", {})
    rows = []
    for attribute in sorted(found):
        for group, item in sorted(found[attribute].items()):
            interval = item.get("auroc_interval")
            figure = (item.get("mean_auroc"), tuple(interval) if interval else None)
            rows.append((f"{labels.words.word('group', attribute)}: {group}", figure, False))
    return _forest("groups", labels, rows, (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), 0.5)


def _operating(record: Record, labels: Labels) -> Plane:
    words, marks = labels["plots"]["operating"], []
    for name, item in sorted(record["model"].get("per_finding", {}).items()):
        sensitivity, specificity = item.get("sensitivity"), item.get("specificity")
        if sensitivity is not None and specificity is not None:
            x, y = round(SIDE_PX * (1 - specificity), 1), round(SIDE_PX * (1 - sensitivity), 1)
            marks.append(Mark(labels.words.finding(name), x, y, strong=name in record["named"]))
    ends = tuple((tick, labels.words.tick(tick)) for tick in (0, 0.5, 1))
    return Plane(words["title"], words["alt"], tuple(marks), words["across"], words["up"], ends)


PLOTS: Final[Mapping[str, Callable[[Record, Labels], Forest | Plane]]] = {
    "auroc": _auroc,
    "operating": _operating,
    "calibration": _calibration,
    "groups": _groups,
    "agreement": _agreement,
}
