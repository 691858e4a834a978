"""What is known of a model: the part of its card that stories cite, and the figures in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "AgreementFigures", "DataSet", "FindingCurves", "FindingFigures", "GroupFigures", "HitRate", "MapFaithfulness", "MapHits",
    "MapRobustness", "MeasuredFigures", "ModelFacts", "OutlineFigures", "ReportFigures",
]


@dataclass(frozen=True)
class DataSet:
    """One data set that a model learned from. None: not stated. `limits` are sentences about it that its source states."""

    name: str = ""
    n_images: int | None = None
    n_patients: int | None = None
    licence: str = ""
    synthetic: bool = False
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class FindingFigures:
    """How a model does on one finding, on the images of `data`. Shares are in [0, 1]; None: not measured."""

    auroc: float | None = None
    auroc_interval: tuple[float, float] | None = None
    average_precision: float | None = None
    ece: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    threshold: float | None = None
    n: int | None = None
    positives: int | None = None
    data: str | None = None


@dataclass(frozen=True)
class FindingCurves:
    """Points of one finding's curves on the images that its figures are of: few and rounded, so that no image is in them.

    `roc` are (false alarm rate, sensitivity) from (0, 0) to (1, 1); `reliability` bins of images: (mean probability said,
    share that has the finding, number of images). Empty: not measured, or on too few patients to be given away.
    """

    roc: tuple[tuple[float, float], ...] = ()
    reliability: tuple[tuple[float, float, int], ...] = ()


@dataclass(frozen=True)
class OutlineFigures:
    """How the outlines of the paired structures agree with reference outlines (Dice), on n images of `data`."""

    dice: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    data: str | None = None


@dataclass(frozen=True)
class ReportFigures:
    """F1 of the findings that generated reports name, and that of one constant report, on n images of `data`."""

    finding_f1: float | None = None
    constant_f1: float | None = None
    n: int | None = None
    data: str | None = None


@dataclass(frozen=True)
class AgreementFigures:
    """Correlation and mean difference of a student's and its teacher's scores of one finding, on n images."""

    correlation: float | None = None
    mean_difference: float | None = None
    n: int | None = None
    teacher: str | None = None


@dataclass(frozen=True)
class GroupFigures:
    """Mean AUROC over the findings that one group of people or images has cases of."""

    mean_auroc: float | None = None
    auroc_interval: tuple[float, float] | None = None
    finding_count: int | None = None
    n_images: int | None = None
    n_patients: int | None = None
    data: str | None = None


@dataclass(frozen=True)
class HitRate:
    """How often the strongest point of n maps lay in a reader's box, and how often it would by chance."""

    hit_rate: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    chance: float | None = None


@dataclass(frozen=True)
class MapHits:
    """Hit rates of one method's maps on the images of `data`: of those that are shown, shown with a doubt, and withheld."""

    data: str | None = None
    shown: HitRate = HitRate()
    withheld: HitRate = HitRate()
    doubtful: HitRate = HitRate()


@dataclass(frozen=True)
class MapFaithfulness:
    """By how much one method's maps say better what a model looks at than the best of the maps that know nothing.

    Log-odds of the finding on n maps of `data`, above zero where the method's maps are better: `deletion` and `insertion` of
    the strongest parts first, `road` the same with parts filled in from their neighbours. Each with a 95 % interval.
    """

    deletion: float | None = None
    deletion_interval: tuple[float, float] | None = None
    insertion: float | None = None
    insertion_interval: tuple[float, float] | None = None
    road: float | None = None
    road_interval: tuple[float, float] | None = None
    n: int | None = None
    data: str | None = None


@dataclass(frozen=True)
class MapRobustness:
    """How much noise of at most `radius` grey changes one method's maps, on n maps of `data`.

    `change` is the largest change of a map as a share of it, `randomised` the rank correlation of maps with those of the same
    network after all its weights were shuffled (0: the map was of the model).
    """

    change: float | None = None
    interval: tuple[float, float] | None = None
    radius: float | None = None
    randomised: float | None = None
    n: int | None = None
    data: str | None = None


@dataclass(frozen=True, kw_only=True)
class MeasuredFigures:
    """What was measured of a model and stories may cite.

    `per_finding`, `curves` and `agreement` are by finding, `subgroups` by attribute ("sex") and group, `map_hits`,
    `faithfulness` and `robustness` by method.
    """

    per_finding: Mapping[str, FindingFigures] = field(default_factory=dict)
    outlines: OutlineFigures = OutlineFigures()
    report: ReportFigures = ReportFigures()
    agreement: Mapping[str, AgreementFigures] = field(default_factory=dict)
    subgroups: Mapping[str, Mapping[str, GroupFigures]] = field(default_factory=dict)
    map_hits: Mapping[str, MapHits] = field(default_factory=dict)
    faithfulness: Mapping[str, MapFaithfulness] = field(default_factory=dict)
    robustness: Mapping[str, MapRobustness] = field(default_factory=dict)
    curves: Mapping[str, FindingCurves] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelFacts(MeasuredFigures):
    """What stories may say of a model: the part of its card that they cite. Empty or None: not known."""

    name: str = ""
    version: str = ""
    weights_sha256: str = ""
    trained_on: tuple[DataSet, ...] = ()
    limits: tuple[str, ...] = ()
    cannot_see: tuple[str, ...] = ()
