"""What others read of a scorecard, as types: a field that is misspelt here or lacking there is an error, not a lost figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from storyxai.errors import TableError
from storyxai.types import FindingCurves

__all__ = ["Baseline", "Figure", "FindingScores", "JudgedOn", "ModelScores", "ReportScores", "ScoresRead", "read_scores"]


@dataclass(frozen=True)
class Figure:
    """A value with its interval; None where the data cannot say."""

    value: float | None
    low: float | None
    high: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Low and high, None where there is no interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True)
class MeanFigure(Figure):
    """A mean over so many findings."""

    finding_count: int


@dataclass(frozen=True)
class FindingScores:
    """How one finding was told apart, on n images of which `positives` have it."""

    finding: str
    n: int
    positives: int
    auroc: Figure
    average_precision: Figure
    ece: Figure | None
    sensitivity: Figure | None
    specificity: Figure | None
    threshold: float | None
    curve: FindingCurves | None = None


@dataclass(frozen=True)
class GroupScores:
    """One group of people or images."""

    attribute: str
    group: str
    images: int
    patients: int
    mean_auroc_all: MeanFigure | None


@dataclass(frozen=True)
class MaskScores:
    """How one structure's outline fits."""

    mask: str
    images: int
    dice: Figure


@dataclass(frozen=True)
class ReportScores:
    """How reports name the findings of the reference reports."""

    images: int
    finding_f1_micro: Figure


@dataclass(frozen=True)
class ModelScores:
    """What one model reaches."""

    name: str
    role: str
    findings: tuple[FindingScores, ...]
    mean_auroc: Figure | None
    masks: tuple[MaskScores, ...]
    reports: ReportScores | None
    subgroups: tuple[GroupScores, ...]


@dataclass(frozen=True)
class FindingPair:
    """A student beside its teacher in one finding."""

    finding: str
    n: int
    correlation: float | None
    mean_probability_difference: float | None


@dataclass(frozen=True)
class Pair:
    """A student beside one teacher."""

    teacher: str
    findings: tuple[FindingPair, ...]


@dataclass(frozen=True)
class Baseline:
    """Reports that saw no image."""

    name: str
    reports: ReportScores | None


@dataclass(frozen=True)
class LeftOut:
    """What was not judged, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class JudgedOn:
    """The images that were judged on."""

    name: str
    images: int
    left_out: tuple[LeftOut, ...] = field(default=())


@dataclass(frozen=True)
class ScoresRead:
    """A scorecard as far as cards and summaries read it."""

    dataset: JudgedOn
    models: tuple[ModelScores, ...]
    agreement: tuple[Pair, ...]
    report_baselines: tuple[Baseline, ...]


def read_scores(record: Mapping[str, object]) -> ScoresRead:
    """The scorecard (`Scorecard.as_dict()`) as types. Raises: TableError naming a field that it lacks or garbles."""
    try:
        return msgspec.convert(record, ScoresRead)
    except msgspec.ValidationError as error:
        raise TableError("scorecard", f"lacks or garbles a field ({error})", mend="write it again with `evaluate`") from error
