"""A model's figures as drawings where people look at drawings: straight from the record, as data that a template draws.

`Forest`: a row a thing, its value and interval on one axis. `Plane`: operating points in the plane of a ROC curve. `Panels`: a
small square a finding with its curve. The numbers stand in a table or in the drawing's own words; a forest or a plane of fewer
than two rows says nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

from storyxai.errors import CitationError
from storyxai.pages.layout import Labels
from storyxai.pages.tables import format_value, value_part
from storyxai.pages.views import Part

__all__ = ["PLOTS", "Forest", "Mark", "Panel", "Panels", "Plane", "plot_of"]

LABEL_PX, AXIS_PX, ROW_PX, HEAD_PX = 190, 370, 20, 30
"""Widths of the labels and of the axis; heights of a row and of the ticks above."""
SIDE_PX = 290
"""The sides of a plane."""
PANEL_PX, MOST_OPEN = 132, 6
"""The sides of a panel; how many panels stand open, the others folded."""
ENDS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Where the axes of a reliability panel may end."""
NORMAL_95 = 1.96
Record: TypeAlias = Mapping[str, Any]
Points: TypeAlias = Sequence[float]
"""Numbers of one point, as the record's lists have them."""
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


@dataclass(frozen=True)
class Panel:
    """One finding's curve in a square: its name, words for those who do not see it, figures in lines, the curve, marks.

    Both axes end at `end`; the `low` and `high` of a mark are heights here.
    """

    label: str
    alt: str
    note: tuple[tuple[Part, ...], ...]
    line: str
    marks: tuple[Mark, ...]
    end: str
    strong: bool


@dataclass(frozen=True)
class Panels:
    """Curves, a panel a finding: those that the story names first, some more, and the `rest` to unfold under `more`."""

    shape: ClassVar[str] = "panels"
    title: str
    about: str
    panels: tuple[Panel, ...]
    more: str
    side: int = PANEL_PX

    @property
    def first(self) -> tuple[Panel, ...]:
        """The panels that stand open."""
        return self.panels[: max(MOST_OPEN, sum(panel.strong for panel in self.panels))]

    @property
    def rest(self) -> tuple[Panel, ...]:
        """The panels that are folded."""
        return self.panels[len(self.first) :]


def plot_of(name: str, record: Record, labels: Labels) -> Forest | Plane | Panels | None:
    """The drawing called `name`, None where the record has too few values for it. Raises: CitationError if unknown."""
    if name not in PLOTS:
        raise CitationError(f"plot '{name}' is not known")
    drawn = PLOTS[name](record, labels)
    return drawn if (bool(drawn.panels) if isinstance(drawn, Panels) else len(drawn.marks) > 1) else None


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
    words = labels.plots[name]
    places = tuple((at(tick), labels.words.tick(tick)) for tick in ticks)
    size = (LABEL_PX + AXIS_PX + 20, HEAD_PX + ROW_PX * len(marks) + 4)
    return Forest(words.title, words.alt, tuple(marks), places, None if reference is None else at(reference), size)


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
    words, marks = labels.plots["operating"], []
    for name, item in sorted(record["model"].get("per_finding", {}).items()):
        sensitivity, specificity = item.get("sensitivity"), item.get("specificity")
        if sensitivity is not None and specificity is not None:
            x, y = round(SIDE_PX * (1 - specificity), 1), round(SIDE_PX * (1 - sensitivity), 1)
            marks.append(Mark(labels.words.finding(name), x, y, strong=name in record["named"]))
    ends = tuple((tick, labels.words.tick(tick)) for tick in (0, 0.5, 1))
    return Plane(words.title, words.alt, tuple(marks), words.across, words.up, ends)


def _panels(name: str, record: Record, labels: Labels, points: str, panel: Callable[[str, Sequence[Points]], Panel]) -> Panels:
    """A panel for each finding whose card has such `points`, by how well it ranks; those that the story names first."""
    curves, figures = record["model"].get("curves", {}), record["model"].get("per_finding", {})
    known = {finding: item[points] for finding, item in curves.items() if item.get(points)}

    def place(finding: str) -> tuple[bool, float, str]:
        return finding not in record["named"], -(figures.get(finding, {}).get("auroc") or 0.0), finding

    words = labels.plots[name]
    drawn = tuple(panel(finding, known[finding]) for finding in sorted(known, key=place))
    return Panels(words.title, words.about, drawn, words.more)


def _at(across: float, up: float, end: float = 1.0) -> tuple[float, float]:
    """Where a point lies in a panel whose axes end at `end`."""
    return round(PANEL_PX * across / end, 1), round(PANEL_PX * (1 - up / end), 1)


def _line(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _figures(record: Record, finding: str, labels: Labels, *leaves: str) -> tuple[tuple[Part, ...], ...]:
    """ "AUROC 0.81": figures of a finding with the heads of their columns, those that are known."""
    item, path = record["model"].get("per_finding", {}).get(finding, {}), f"model.per_finding.{finding}"
    return tuple(
        (Part(f"{labels.columns[leaf]} "), value_part(record, f"{path}.{leaf}", labels, exact=False))
        for leaf in leaves if item.get(leaf) is not None
    )


def _roc(record: Record, labels: Labels) -> Panels:
    words, figures = labels.plots["roc"], record["model"].get("per_finding", {})

    def panel(finding: str, points: Sequence[Points]) -> Panel:
        item, name = figures.get(finding, {}), labels.words.finding(finding)
        marks: tuple[Mark, ...] = ()
        sensitivity, specificity = item.get("sensitivity"), item.get("specificity")
        alt = words.alt.format(finding=name, auroc=_said(item.get("auroc"), labels))
        if sensitivity is not None and specificity is not None:
            marks = (Mark("", *_at(1 - specificity, sensitivity)),)
            alt += words.point.format(sensitivity=_said(sensitivity, labels), specificity=_said(specificity, labels))
        note = _figures(record, finding, labels, "auroc", "sensitivity", "specificity")
        line = _line(_at(across, up) for across, up in points)
        return Panel(name, alt, note, line, marks, labels.words.tick(1), finding in record["named"])

    return _panels("roc", record, labels, "roc", panel)


def _reliability(record: Record, labels: Labels) -> Panels:
    words = labels.plots["reliability"]

    def panel(finding: str, points: Sequence[Points]) -> Panel:
        bars = [_chance(seen, int(n)) for _, seen, n in points]
        end = next(end for end in ENDS if end >= min(1.0, max(max(said, seen) for said, seen, _ in points)))
        marks = tuple(
            Mark("", *_at(said, seen, end), low=_at(0, max(low, 0.0), end)[1], high=_at(0, min(high, end), end)[1])
            for (said, seen, _), (low, high) in zip(points, bars, strict=True)
        )
        told = [words.point.format(said=_said(said, labels), seen=_said(seen, labels), n=int(n)) for said, seen, n in points]
        name = labels.words.finding(finding)
        alt = words.alt.format(finding=name, points="; ".join(told))
        note = _figures(record, finding, labels, "ece", "n")
        return Panel(name, alt, note, "", marks, labels.words.tick(end), finding in record["named"])

    return _panels("reliability", record, labels, "reliability", panel)


def _said(value: float | None, labels: Labels) -> str:
    return labels.unknown if value is None else format_value(float(value), labels)


def _chance(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n. Source: Wilson 1927."""
    wide = NORMAL_95**2 / n
    middle = (share + wide / 2) / (1 + wide)
    half = NORMAL_95 * (share * (1 - share) / n + wide / (4 * n)) ** 0.5 / (1 + wide)
    return middle - half, middle + half


PLOTS: Final[Mapping[str, Callable[[Record, Labels], Forest | Plane | Panels]]] = {
    "auroc": _auroc,
    "roc": _roc,
    "reliability": _reliability,
    "operating": _operating,
    "calibration": _calibration,
    "groups": _groups,
    "agreement": _agreement,
}
