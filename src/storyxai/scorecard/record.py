"""A scorecard as types, the same where it is built, written and read: a field that is misspelt or lacking is an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET, UnsetType

from storyxai.metrics.bootstrap import Estimate
from storyxai.metrics.calibration import ReliabilityBin
from storyxai.model_facts import FindingCurves
from storyxai.provenance import read_as
from storyxai.types import RESEARCH_USE

FORMAT = "storyxai-scorecard/1"


NOT_KNOWN = Estimate(None)


@dataclass(frozen=True)
class NumberedFigure(Estimate):
    """A figure of so many images and patients."""

    images: int = field(kw_only=True)
    patients: int = field(kw_only=True)


@dataclass(frozen=True)
class MeanFigure(Estimate):
    """A mean over the named findings."""

    findings: tuple[str, ...] = field(kw_only=True)
    finding_count: int = field(kw_only=True)
    images: int | None = None
    patients: int | None = None


@dataclass(frozen=True, kw_only=True)
class Conformal:
    """How often a finding's conformal sets hold the answer, in each class apart, and how often they hold one answer."""

    level: float
    present_n: int
    absent_n: int
    present_coverage: float | None
    absent_coverage: float | None
    single_share: float | None
    both_share: float | None
    empty_share: float | None
    present_estimate: Estimate | None = None
    absent_estimate: Estimate | None = None

    @property
    def covered(self) -> tuple[tuple[Estimate, int], ...]:
        """The coverage of those that have it and of those that have it not, each with its n."""
        return (
            (self.present_estimate or Estimate(self.present_coverage), self.present_n),
            (self.absent_estimate or Estimate(self.absent_coverage), self.absent_n),
        )


@dataclass(frozen=True, kw_only=True)
class FindingScores:
    """How one finding was told apart, on n images of which `positives` have it; `rare`: too few cases for a mean."""

    finding: str
    n: int
    positives: int
    rare: bool
    auroc: Estimate
    average_precision: Estimate
    brier: Estimate | None
    ece: Estimate | None
    ece_floor: float | None
    sensitivity: Estimate | None
    specificity: Estimate | None
    threshold: float | None
    temperature: float | None = None
    conformal: Conformal | None = None
    curve: FindingCurves | UnsetType = UNSET


@dataclass(frozen=True, kw_only=True)
class GroupScores:
    """One group of people or images; `mean_auroc` and its difference from all others are over `findings`."""

    attribute: str
    group: str
    images: int
    patients: int
    findings: tuple[str, ...]
    mean_auroc: Estimate
    minus_others: Estimate
    dice: Mapping[str, Estimate]
    mean_auroc_all: MeanFigure | None = None


@dataclass(frozen=True)
class DiceQuantile:
    """The Dice below which that share of the images lies."""

    share: float
    dice: float


@dataclass(frozen=True, kw_only=True)
class MaskScores:
    """How one structure's outline fits, with the distances that were measured."""

    mask: str
    images: int
    patients: int
    dice: Estimate
    quantiles: tuple[DiceQuantile, ...]
    distances: Mapping[str, NumberedFigure] = field(default_factory=dict)

    @property
    def dice_at(self) -> dict[float, float]:
        """The Dice by share of the images below it."""
        return {one.share: one.dice for one in self.quantiles}


@dataclass(frozen=True)
class BoxPrecision:
    """Average precision of boxes that count as met from this IoU on."""

    iou: float
    average_precision: Estimate


@dataclass(frozen=True)
class FreeResponse:
    """The share of boxes met at so many false alarms an image."""

    false_alarms_per_image: float
    share_hit: Estimate


class BoxScores(msgspec.Struct, frozen=True):
    """Where one finding's boxes fall, on the images that were searched."""

    finding: str
    images: int
    patients: int
    boxes: int
    hit_rate: Estimate
    top_box_iou: Estimate
    by_iou: tuple[BoxPrecision, ...]
    free_response: tuple[FreeResponse, ...] = msgspec.field(name="free_response_iou_0.3")


@dataclass(frozen=True)
class ReportFigures:
    """How reports name findings, and how like the reference reports their words are; or differences of these."""

    finding_f1_micro: Estimate
    finding_f1_macro: Estimate
    label_f1_micro: Estimate
    bleu_1: Estimate
    bleu_2: Estimate
    bleu_3: Estimate
    bleu_4: Estimate
    rouge_l: Estimate
    cider: Estimate

    @property
    def in_order(self) -> tuple[Estimate, ...]:
        """All of them in the order of the fields."""
        words = self.bleu_1, self.bleu_2, self.bleu_3, self.bleu_4, self.rouge_l, self.cider
        return (self.finding_f1_micro, self.finding_f1_macro, self.label_f1_micro, *words)


@dataclass(frozen=True)
class ReportScores(ReportFigures):
    """How so many reports, of which `distinct_reports` differ, do beside the reference reports."""

    images: int
    patients: int
    distinct_reports: int


class TierScores(msgspec.Struct, frozen=True):
    """How often one tier is told of images with the finding and without it, and how often it is there where it is told."""

    tier: str
    with_it: NumberedFigure = msgspec.field(name="with")
    without_it: NumberedFigure = msgspec.field(name="without")
    have: NumberedFigure


@dataclass(frozen=True)
class ToldFinding:
    """How often each tier of one finding is told."""

    finding: str
    tiers: tuple[TierScores, ...]


@dataclass(frozen=True)
class ToldScores:
    """What readers are told: over whole images, and by finding and tier."""

    nothing_named: NumberedFigure
    right_named: NumberedFigure
    named_have: NumberedFigure
    named: NumberedFigure
    cannot_tell: NumberedFigure
    findings: tuple[ToldFinding, ...]


@dataclass(frozen=True, kw_only=True)
class OwnFigure(NumberedFigure):
    """A figure that another package brings, of one finding or ("") of all."""

    metric: str
    finding: str
    higher_is_better: bool


@dataclass(frozen=True, kw_only=True)
class ModelScores:
    """What one model reaches. What scorecards of before do not hold is None or empty."""

    name: str
    role: str
    images: int
    patients: int
    calibrated: bool
    facts: Mapping[str, object]
    findings: tuple[FindingScores, ...]
    mean_auroc: MeanFigure | None
    reliability: tuple[ReliabilityBin, ...]
    masks: tuple[MaskScores, ...]
    detection: tuple[BoxScores, ...]
    reports: ReportScores | None
    subgroups: tuple[GroupScores, ...]
    mean_auroc_all: MeanFigure | None = None
    told: ToldScores | None = None
    own_metrics: tuple[OwnFigure, ...] | UnsetType = UNSET

    @property
    def stated(self) -> tuple[FindingScores, ...]:
        """The findings for which an image with a label was scored."""
        return tuple(one for one in self.findings if one.n)

    @property
    def by_finding(self) -> dict[str, FindingScores]:
        """What was judged of each finding, by its name."""
        return {one.finding: one for one in self.findings}


@dataclass(frozen=True)
class FindingGap:
    """How much better a student ranks one finding than another model, on n images that both scored."""

    finding: str
    n: int
    positives: int
    auroc: Estimate


@dataclass(frozen=True)
class MaskGap:
    """How much better a student's outlines of one structure fit."""

    mask: str
    images: int
    patients: int
    dice: Estimate


@dataclass(frozen=True)
class BoxGap:
    """How much better a student's best box of one finding lies."""

    finding: str
    images: int
    patients: int
    hit_rate: Estimate
    top_box_iou: Estimate


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A student minus another model on the images and findings that both have scored."""

    student: str
    other: str
    role: str
    images: int
    patients: int
    findings: tuple[FindingGap, ...]
    mean_auroc: MeanFigure | None
    masks: tuple[MaskGap, ...]
    reports: ReportFigures | None
    mean_auroc_all: MeanFigure | None = None
    detection: tuple[BoxGap, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FindingPair:
    """A student beside its teacher in one finding; low and high of the plain figures stand in `intervals`."""

    finding: str
    n: int
    correlation: float | None
    mean_probability_difference: float | None
    kl_nats: float | None
    decisions_equal: float | None
    rank_correlation: float | None = None
    decisions_kappa: float | None = None
    map_cosine: NumberedFigure | None = None
    intervals: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)

    @property
    def in_order(self) -> tuple[Estimate, ...]:
        """The plain figures with their intervals: correlations, difference of probabilities, KL, equal decisions, kappa."""
        plain = {
            "correlation": self.correlation,
            "rank_correlation": self.rank_correlation,
            "mean_probability_difference": self.mean_probability_difference,
            "kl_nats": self.kl_nats,
            "decisions_equal": self.decisions_equal,
            "decisions_kappa": self.decisions_kappa,
        }
        return tuple(Estimate(value, *self.intervals.get(name, (None, None))) for name, value in plain.items())


@dataclass(frozen=True)
class Pair:
    """A student beside one teacher."""

    student: str
    teacher: str
    findings: tuple[FindingPair, ...]
    feature_cka: NumberedFigure | None = None


@dataclass(frozen=True)
class Baseline:
    """Reports that saw no image, and how they were made."""

    name: str
    about: str
    reports: ReportScores | None


@dataclass(frozen=True)
class LeftOut:
    """What was not judged, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class FindingCounts:
    """On how many images a finding is stated, on how many of how many patients as present."""

    finding: str
    n: int
    positives: int
    positive_patients: int


@dataclass(frozen=True)
class GroupCounts:
    """How many images and patients a group has."""

    group: str
    images: int
    patients: int


@dataclass(frozen=True, kw_only=True)
class JudgedOn:
    """The images that were judged on. `facts` are printed as they are."""

    name: str
    synthetic: bool
    images: int
    patients: int
    findings: tuple[FindingCounts, ...]
    subgroups: Mapping[str, tuple[GroupCounts, ...]]
    facts: Mapping[str, object]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Settings:
    """How intervals were made, and how many positives a finding needs to enter a mean."""

    bootstrap: int
    level: float
    min_positives: int
    seed: int
    unit: str = "patient"


@dataclass(frozen=True)
class ScoresRead:
    """A scorecard as pages, cards and summaries read it."""

    dataset: JudgedOn
    settings: Settings
    models: tuple[ModelScores, ...]
    differences: tuple[Difference, ...]
    agreement: tuple[Pair, ...]
    report_baselines: tuple[Baseline, ...]
    remedies: tuple[str, ...] | UnsetType = UNSET

    def as_dict(self) -> dict[str, object]:
        """The scorecard for scorecard.json: None where the data cannot say."""
        return {"format": FORMAT, "research_use": RESEARCH_USE, **msgspec.to_builtins(self)}


@dataclass(frozen=True)
class TeacherFigures:
    """What a teacher reaches on one validation set, and what reports earn that saw no image."""

    data: JudgedOn
    model: ModelScores
    baselines: tuple[Baseline, ...]


def read_scores(record: Mapping[str, object]) -> ScoresRead:
    """The scorecard (`Scorecard.as_dict()`) as types. Raises: TableError naming a field that it lacks or garbles."""
    return read_as(ScoresRead, record, "scorecard", mend="write it again with `evaluate`")
