"""A model's figures as drawings where people look at drawings: straight from the record, as data that a template draws.

`Forest`: a row a thing, its value and interval on one axis. `Plane`: operating points in the plane of a ROC curve. `Panels`: a
small square a finding with its curve. The numbers stand in a table or in the drawing's own words; a forest or a plane of fewer
than two rows says nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias, TypeVar

from storyxai.errors import CitationError
from storyxai.evidence.schema import EvidenceRecord
from storyxai.model_facts import FindingFigures
from storyxai.pages.layout import Labels
from storyxai.pages.tables import PrintedRecord, format_value, value_part
from storyxai.pages.views import Part

LABEL_PX, AXIS_PX, ROW_PX, HEAD_PX = 190, 370, 20, 30
"""Widths of the labels and of the axis; heights of a row and of the ticks above."""
SIDE_PX = 290
"""The sides of a plane."""
PANEL_PX, MOST_OPEN = 132, 6
"""The sides of a panel; how many panels stand open, the others folded."""
ENDS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Where the axes of a reliability panel may end."""
NORMAL_95 = 1.96
Point = TypeVar("Point")
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


def plot_of(name: str, printed: PrintedRecord) -> Forest | Plane | Panels | None:
    """The drawing called `name`, None where the record has too few values for it. Raises: CitationError if unknown."""
    if name not in PLOTS:
        raise CitationError(f"plot '{name}' is not known")
    drawn = PLOTS[name](printed)
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


def _best_first(printed: PrintedRecord, figures: Mapping[str, Figure]) -> list[tuple[str, Figure, bool]]:
    """A row a finding whose figure is known, by that figure."""
    known = [(-value, name) for name, (value, _) in figures.items() if value is not None]
    return [(printed.labels.words.finding(name), figures[name], name in printed.facts.named) for _, name in sorted(known)]


def _auroc(printed: PrintedRecord) -> Forest:
    figures = {name: (item.auroc, item.auroc_interval) for name, item in printed.facts.model.per_finding.items()}
    return _forest("auroc", printed.labels, _best_first(printed, figures), (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), 0.5)


def _calibration(printed: PrintedRecord) -> Forest:
    figures = {name: (item.ece, None) for name, item in printed.facts.model.per_finding.items()}
    return _forest("calibration", printed.labels, _best_first(printed, figures), (0.0, 0.02, 0.04, 0.06, 0.08, 0.1))


def _agreement(printed: PrintedRecord) -> Forest:
    found, labels = printed.facts.model.agreement, printed.labels
    rows: list[tuple[str, Figure, bool]] = [
        (labels.words.finding(name), (item.correlation, None), name in printed.facts.named) for name, item in found.items()
    ]
    rows.sort(key=lambda row: (-(row[1][0] or 0.0), row[0]))
    return _forest("agreement", labels, rows, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0))


def _groups(printed: PrintedRecord) -> Forest:
    rows = [
        (f"{printed.labels.words.word('group', attribute)}: {group}", (item.mean_auroc, item.auroc_interval), False)
        for attribute, groups in sorted(printed.facts.model.subgroups.items()) for group, item in sorted(groups.items())
    ]
    return _forest("groups", printed.labels, rows, (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), 0.5)


def _operating(printed: PrintedRecord) -> Plane:
    labels, marks = printed.labels, []
    words = labels.plots["operating"]
    for name, item in sorted(printed.facts.model.per_finding.items()):
        if item.sensitivity is not None and item.specificity is not None:
            x, y = round(SIDE_PX * (1 - item.specificity), 1), round(SIDE_PX * (1 - item.sensitivity), 1)
            marks.append(Mark(labels.words.finding(name), x, y, strong=name in printed.facts.named))
    ends = tuple((tick, labels.words.tick(tick)) for tick in (0, 0.5, 1))
    return Plane(words.title, words.alt, tuple(marks), words.across, words.up, ends)


def _panels(
    name: str, printed: PrintedRecord, points: Mapping[str, Sequence[Point]], panel: Callable[[str, Sequence[Point]], Panel]
) -> Panels:
    """A panel for each finding whose card has `points`, by how well it ranks; those that the story names first."""
    facts, words = printed.facts, printed.labels.plots[name]

    def place(finding: str) -> tuple[bool, float, str]:
        return finding not in facts.named, -(_figures_of(facts, finding).auroc or 0.0), finding

    drawn = tuple(panel(finding, points[finding]) for finding in sorted((f for f in points if points[f]), key=place))
    return Panels(words.title, words.about, drawn, words.more)


def _figures_of(facts: EvidenceRecord, finding: str) -> FindingFigures:
    return facts.model.per_finding.get(finding, FindingFigures())


def _at(across: float, up: float, end: float = 1.0) -> tuple[float, float]:
    """Where a point lies in a panel whose axes end at `end`."""
    return round(PANEL_PX * across / end, 1), round(PANEL_PX * (1 - up / end), 1)


def _line(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _figures(printed: PrintedRecord, finding: str, **known: float | None) -> tuple[tuple[Part, ...], ...]:
    """ "AUROC 0.81": figures of a finding with the heads of their columns, those that are known."""
    path, columns = f"model.per_finding.{finding}", printed.labels.columns
    return tuple(
        (Part(f"{columns[leaf]} "), value_part(printed, f"{path}.{leaf}", exact=False))
        for leaf, value in known.items() if value is not None
    )


def _roc(printed: PrintedRecord) -> Panels:
    facts, labels = printed.facts, printed.labels
    words = labels.plots["roc"]

    def panel(finding: str, points: Sequence[tuple[float, float]]) -> Panel:
        item, name = _figures_of(facts, finding), labels.words.finding(finding)
        marks: tuple[Mark, ...] = ()
        sensitivity, specificity = item.sensitivity, item.specificity
        alt = words.alt.format(finding=name, auroc=_said(item.auroc, labels))
        if sensitivity is not None and specificity is not None:
            marks = (Mark("", *_at(1 - specificity, sensitivity)),)
            alt += words.point.format(sensitivity=_said(sensitivity, labels), specificity=_said(specificity, labels))
        note = _figures(printed, finding, auroc=item.auroc, sensitivity=sensitivity, specificity=specificity)
        line = _line(_at(across, up) for across, up in points)
        return Panel(name, alt, note, line, marks, labels.words.tick(1), finding in facts.named)

    return _panels("roc", printed, {name: item.roc for name, item in facts.model.curves.items()}, panel)


def _reliability(printed: PrintedRecord) -> Panels:
    facts, labels = printed.facts, printed.labels
    words = labels.plots["reliability"]

    def panel(finding: str, points: Sequence[tuple[float, float, int]]) -> Panel:
        bars = [_chance(seen, n) for _, seen, n in points]
        end = next(end for end in ENDS if end >= min(1.0, max(max(said, seen) for said, seen, _ in points)))
        marks = tuple(
            Mark("", *_at(said, seen, end), low=_at(0, max(low, 0.0), end)[1], high=_at(0, min(high, end), end)[1])
            for (said, seen, _), (low, high) in zip(points, bars, strict=True)
        )
        told = [words.point.format(said=_said(said, labels), seen=_said(seen, labels), n=n) for said, seen, n in points]
        item, name = _figures_of(facts, finding), labels.words.finding(finding)
        alt = words.alt.format(finding=name, points="; ".join(told))
        note = _figures(printed, finding, ece=item.ece, n=item.n)
        return Panel(name, alt, note, "", marks, labels.words.tick(end), finding in facts.named)

    return _panels("reliability", printed, {name: item.reliability for name, item in facts.model.curves.items()}, panel)


def _said(value: float | None, labels: Labels) -> str:
    return labels.unknown if value is None else format_value(float(value), labels)


def _chance(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n. Source: Wilson 1927."""
    wide = NORMAL_95**2 / n
    middle = (share + wide / 2) / (1 + wide)
    half = NORMAL_95 * (share * (1 - share) / n + wide / (4 * n)) ** 0.5 / (1 + wide)
    return middle - half, middle + half


PLOTS: Final[Mapping[str, Callable[[PrintedRecord], Forest | Plane | Panels]]] = {
    "auroc": _auroc,
    "roc": _roc,
    "reliability": _reliability,
    "operating": _operating,
    "calibration": _calibration,
    "groups": _groups,
    "agreement": _agreement,
}
