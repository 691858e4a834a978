"""The nouns of storyxai: frozen values that pass from room to room. numpy only.

Frames: every array called `pixels`, `values` or `mask` and every box is in the frame of the original image
(row 0 at the top, column 0 at the left; the patient's right is on the left of the picture).
Words: `probability` is calibrated and in [0, 1]; `logit` is its log-odds before calibration; `score` is anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storyxai.model_facts import ModelFacts

__all__ = [
    "AGE", "DISTANCE", "GAPS", "HAIR", "LIKELY", "METHOD_NAMES", "MOST_NAMED", "NO_REMARK", "RESEARCH_USE", "TAUGHT", "TIERS",
    "UNKNOWN_KIND", "Array", "Box", "Check", "Concept", "Counterfactual", "Evidence", "Finding", "FindingNear", "Heatmap",
    "Image", "Labels", "LearnedConcept", "Neighbours", "Prediction", "Release", "Remark", "Section", "Sentence",
    "SmallestChange", "SoftTargets", "Story", "Tier", "boxed_findings", "doubts_of", "named_findings",
    "of_unknown_kind", "tier_of",
]

RESEARCH_USE = "Research use only - not for diagnostic use"
METHOD_NAMES: Mapping[str, str] = {
    "grad_cam": "Grad-CAM", "lime": "LIME", "occlusion": "Occlusion", "fine_occlusion": "Fine occlusion",
    "evidence_grid": "Evidence grid",
    "grad_cam_plus_plus": "Grad-CAM++", "hires_cam": "HiResCAM", "layer_cam": "LayerCAM", "xgrad_cam": "XGrad-CAM",
    "eigen_cam": "Eigen-CAM", "score_cam": "Score-CAM", "smooth_grad": "SmoothGrad", "kernel_shap": "KernelSHAP",
    "rise": "RISE", "deep_lift": "DeepLIFT", "gradient_shap": "GradientSHAP", "lrp": "LRP", "saliency": "Saliency",
    "integrated_gradients": "Integrated gradients", "attention_rollout": "Attention rollout",
    "input_x_gradient": "Input times gradient", "guided_backprop": "Guided backpropagation",
    "deconvolution": "Deconvolution",
}  # fmt: skip
"""What the field calls the methods, in text and pictures; records and options keep the names on the left."""
GAPS = ("calibration", "card", "masks", "report", "gradients", "distance", "labeler", "input_size")
"""What a model may lack. Without "calibration" a finding's `probability` is the sigmoid of its logit, a score, its interval
is that one number and its threshold 0.5; without "card" `Evidence.model` holds its name at most; without "masks" nothing
is measured on structures; without "report" no text was generated, without "gradients" no map rests on them, without
"distance" nobody knows how far the image lies from those of training, without "labeler" the report was not compared, without
"input_size" nobody knows how large the images were that it learned from."""

Array: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]
Tier: TypeAlias = Literal["likely", "possible", "unlikely", "cannot_tell"]
Value: TypeAlias = float | int | str | bool | None
LIKELY = 0.5
"""From this probability a finding is more likely there than not."""
TIERS: tuple[Tier, ...] = ("likely", "possible", "unlikely", "cannot_tell")
"""How a finding is told: see `tier_of`."""
DISTANCE, TAUGHT, AGE = UNKNOWN_KIND = ("gate.distance", "gate.taught", "gate.age")
"""The checks of whether the model learned findings from images like this one: all of them, its kind, people of this age."""
HAIR = 0.05
"""So far an interval may reach into another tier: five images in a hundred more or less change nothing that is done."""
MOST_NAMED = 5
"""Findings that a story names in its text; the others stand in a table."""


@dataclass(frozen=True)
class Remark:
    """What is to be said of a value, as a code, its values, and remarks within it; a language's file words it ("remarks").

    The code "text" stands for words that nobody coded, its value "text" for themselves. A remark without a code says nothing.
    """

    code: str = ""
    values: Mapping[str, Value] = field(default_factory=dict, hash=False)
    parts: Mapping[str, Remark] = field(default_factory=dict, hash=False)

    def __bool__(self) -> bool:
        return bool(self.code)

    @classmethod
    def quoted(cls, text: str) -> Remark:
        """A remark of somebody's own words."""
        return cls("text", {"text": text}) if text else cls()


NO_REMARK = Remark()


class Note(str):
    """A note on how an image was read: an English text, equal to any such text, with the code and values behind it."""

    remark: Remark

    def __new__(cls, text: str, remark: Remark | None = None) -> Note:
        """The note of a text; without a remark it stands for its own words."""
        made = super().__new__(cls, text)
        made.remark = remark or Remark.quoted(text)
        return made

    def __reduce__(self) -> tuple[type[Note], tuple[str, Remark]]:
        return Note, (str(self), self.remark)


def _as_remarks(one: object, *names: str) -> None:
    """Take plain texts in these fields of a frozen value for remarks of their own words."""
    for name in names:
        if isinstance(given := getattr(one, name), str):
            object.__setattr__(one, name, Remark.quoted(given))


@dataclass(frozen=True, eq=False)
class Image:
    """One image as it is to be looked at.

    Shapes: `pixels` float32 [H, W] in [0, 1], bright = dense where the modality says so, or [H, W, 3] (RGB) in colour.
    Units: `spacing_mm` is (row, column) millimetres per
    pixel at the patient or detector, None where the file does not say. `sha256` is of the file's bytes. `source` is
    the file's name without its folder. `view` is "PA", "AP", "LATERAL", "OTHER" (oblique, decubitus) or "unknown".
    `notes` says in words what was done to the stored values or is doubtful ("inverted: MONOCHROME1"); a `Note` among them has
    the code of what it says. `spacing_kind` is "patient", "detector" or "".
    """

    pixels: Array
    sha256: str
    source: str
    view: str = "unknown"
    spacing_mm: tuple[float, float] | None = None
    spacing_kind: str = ""
    sex: str = ""
    age_years: float | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Image({self.source!r}, {' x '.join(map(str, self.pixels.shape))}, view {self.view!r})"


@dataclass(frozen=True)
class Finding:
    """One finding's calibrated probability, its 90 % interval (from bootstrap of the calibration) and threshold.

    `prevalence` is the share of patients with the finding that all three were moved to; None: they were not moved.
    """

    name: str
    probability: float
    interval: tuple[float, float]
    threshold: float
    prevalence: float | None = None

    @property
    def tier(self) -> Tier:
        """How the finding is told: `tier_of` its probability, interval and threshold."""
        return tier_of(self.probability, self.interval, self.threshold)


def tier_of(probability: float, interval: tuple[float, float], threshold: float) -> Tier:
    """How a finding of this calibrated probability is told, `threshold` being the one from which it is reviewed.

    "likely" from 0.5, "possible" from the threshold to 0.5 (never, where the threshold is higher), "unlikely" below;
    "cannot_tell" where the interval reaches into another tier by `HAIR` or more. All four are compared with the six digits
    that a record keeps.
    """
    value, limit = _as_recorded(probability, threshold)
    low, high = _as_recorded(min(probability, interval[0] + HAIR), max(probability, interval[1] - HAIR))
    found = {"likely" if one >= LIKELY else "possible" if one >= limit else "unlikely" for one in (low, value, high)}
    return next(tier for tier in TIERS if tier in found) if len(found) == 1 else "cannot_tell"


def boxed_findings(evidence: Evidence) -> frozenset[str]:
    """Findings whose box may be drawn: with a shown map, and with a Grad-CAM map, on whose grid a box rests, that is neither
    withheld nor of cells wider than the finding."""
    failed = ("fine_enough", "grad_cam", False)
    coarse = {one.finding for one in evidence.checks if (one.name, one.method, one.passed) == failed}
    hidden = {one.finding for one in evidence.heatmaps if one.method == "grad_cam" and not one.shown}
    return frozenset(one.finding for one in evidence.heatmaps if one.shown) - hidden - coarse


def named_findings(findings: Iterable[Finding]) -> tuple[str, ...]:
    """The findings that stories name in their text: those that reach their threshold of review, likeliest first.

    At most `MOST_NAMED`. What the interval says of them is their tier's to tell.
    """
    reached = [one for one in findings if tier_of(one.probability, (one.probability,) * 2, one.threshold) != "unlikely"]
    reached.sort(key=lambda one: (-one.probability, one.name))
    return tuple(one.name for one in reached[:MOST_NAMED])


def _as_recorded(*values: float) -> tuple[float, ...]:
    """The values with the six digits that a record keeps."""
    return tuple(float(f"{value:.6g}") for value in values)


@dataclass(frozen=True)
class Box:
    """A rectangle in the original frame, pixels: left edge x, top edge y, width, height; `score` in [0, 1]."""

    finding: str
    x: float
    y: float
    width: float
    height: float
    score: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the student says about one study.

    Shapes: each mask bool [H, W], original frame. `masks` has a key for each structure that the
    model drew (sides are the patient's). `report` is the generated report, one sentence an entry; `stated` says what each of
    them states, as a remark without a code where nobody could read it, () where nobody tried.
    `logits` are the uncalibrated log-odds by finding name.
    """

    study_id: str
    findings: tuple[Finding, ...]
    boxes: tuple[Box, ...]
    masks: Mapping[str, Mask]
    report: tuple[str, ...]
    logits: Mapping[str, float]
    model_id: str
    stated: tuple[Remark, ...] = ()


@dataclass(frozen=True, eq=False)
class Heatmap:
    """One map: signed raw attribution of one finding's logit, original frame.

    Shapes: `values` float32 [H, W]. `unit` says what one unit is ("logit per pixel", ...). `shown` is False when a
    check failed, and `withheld_because` then says why. `details` holds the method's own figures (LIME: r2, ...).
    `hit_probability` is how often the strongest point of maps like this one lay in a reader's box, None where the model
    brings no such calibration; `doubtful` says that it is shown all the same, below the stated probability or coarser than
    the finding.
    """

    finding: str
    method: str
    values: Array
    unit: str
    shown: bool = True
    withheld_because: tuple[Remark, ...] = ()
    details: Mapping[str, Value] = field(default_factory=dict)
    hit_probability: float | None = None
    doubtful: bool = False

    def __repr__(self) -> str:
        state = "doubtful" if self.doubtful else "shown" if self.shown else "withheld"
        return f"Heatmap({self.method!r} of {self.finding!r}, {' x '.join(map(str, self.values.shape))}, {state})"

    def __post_init__(self) -> None:
        said: object = self.withheld_because
        if isinstance(said, str):
            object.__setattr__(self, "withheld_because", (Remark.quoted(said),) if said else ())


@dataclass(frozen=True)
class Concept:
    """One measured concept a clinician would use; `finding` is "" for a concept of the whole image.

    `name` is the modality's word for it: side, zones, extent_share, ...
    `error` is the known uncertainty in the same unit, None where not known. `about` says how it was measured.
    """

    name: str
    finding: str
    value: Value
    unit: str
    error: float | None
    about: Remark = NO_REMARK

    def __post_init__(self) -> None:
        _as_remarks(self, "about")


@dataclass(frozen=True)
class Check:
    """One machine check of a map, a finding or the whole record. `passed` None means not applicable; `about` says why.

    `warns`: a failure refuses nothing.
    """

    name: str
    finding: str
    method: str
    value: float | None
    limit: float | None
    passed: bool | None
    about: Remark = NO_REMARK
    warns: bool = False

    def __post_init__(self) -> None:
        _as_remarks(self, "about")


def doubts_of(gate: Iterable[Check]) -> tuple[str, ...]:
    """The checks of the gate after which no finding of the image can be told: what was forced, and what lies too far away.

    Not those that only warn, but for an image of a kind from which the model learned no findings.
    """
    return tuple(check.name for check in gate if check.passed is False and (check.name in UNKNOWN_KIND or not check.warns))


def of_unknown_kind(doubts: Iterable[str]) -> bool:
    """Whether the image is of a kind from which the model learned no findings: then nothing is named, and no draft shown."""
    return not frozenset(UNKNOWN_KIND).isdisjoint(doubts)


@dataclass(frozen=True)
class Counterfactual:
    """What the probability of `finding` becomes when `region` (a structure, or "box") is hidden, filled as `fill` says."""

    finding: str
    region: str
    fill: str
    probability: float
    change: float


@dataclass(frozen=True)
class SmallestChange:
    """The fewest superpixels that were found to turn what is told of `finding` when they are hidden (filled as `fill` says).

    `limit` is the probability that it crosses then, `of` the number of all superpixels, `passes` those of the model that the
    search took, `smallest` that no smaller set can do it. The number of `superpixels`, their `share` of the image and the new
    `probability` are None where no set was found within these passes.
    """

    finding: str
    fill: str
    limit: float
    of: int
    passes: int
    smallest: bool
    superpixels: int | None = None
    share: float | None = None
    probability: float | None = None


@dataclass(frozen=True)
class MapConsistency:
    """How alike a finding's map by `method` and another map of the same finding are.

    `beside` says which other: a method's key, "mirror" (of the mirrored image, mirrored back), "turned" (of a slightly
    turned copy, turned back), "teacher" or "twin" (of a model trained with another seed). `correlation` is Spearman's over
    the cells of the coarser map. `distance` lies between the strongest cells, as a share of the image's side; `near` where
    these are the same or neighbours.
    """

    finding: str
    method: str
    beside: str
    correlation: float
    distance: float
    near: bool


@dataclass(frozen=True)
class LearnedConcept:
    """What a concept that the model was tested for (TCAV) is to `finding`, over images and on this one.

    `verdict`: the finding "rests_on" it, it "speaks_against" it, both no more than by "chance", or the model has it "unseen".
    `score` is the share of `films` images whose logit grows along the concept's vector, `low` and `high` its spread over
    control sets, `chance_low` and `chance_high` what 95 % of random sets reach; `effect` is the change of
    the logit from images without it to images with it, to first order, and `p_value` that of this effect,
    adjusted for all findings and concepts. `images` show the concept; `separable` is the AUROC at which features tell
    them. `here` is the derivative on
    this image, in logits per step along the vector, None where it is not known.
    """

    concept: str
    finding: str
    verdict: str
    score: float
    low: float
    high: float
    effect: float
    p_value: float
    chance_low: float
    chance_high: float
    films: int
    images: int
    separable: float
    here: float | None = None


@dataclass(frozen=True)
class FindingNear:
    """What was known of one finding in the images most like this one: stated of `known`, `present` in so many of these.

    In all images of the index it is stated of `stated`, and present in the share `overall` of these (None: of none).
    `with_it` and `without` are the cosine similarities to the mean image with the finding, and without.
    """

    finding: str
    known: int
    present: int
    stated: int
    overall: float | None
    with_it: float | None
    without: float | None


@dataclass(frozen=True)
class Neighbours:
    """The `count` images most like this one among `of` in an index of the table's part `part`.

    `closest` and `farthest` are the largest and smallest cosine similarity among them.
    """

    count: int
    of: int
    part: str
    closest: float
    farthest: float
    findings: tuple[FindingNear, ...]
    table_sha256: str


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that stories may state about one study, and nothing else.

    `image` is the untouched image. `gate` are the checks of the image itself. `model` is the part of the model
    card that stories cite. `provenance` holds versions, hashes, seed and settings (plain JSON).
    `gaps` names what the model did not bring, by the words of `GAPS`: stories are told without it and say so.
    """

    image: Image
    prediction: Prediction
    heatmaps: tuple[Heatmap, ...]
    concepts: tuple[Concept, ...]
    checks: tuple[Check, ...]
    counterfactuals: tuple[Counterfactual, ...]
    gate: tuple[Check, ...]
    model: ModelFacts
    provenance: Mapping[str, object]
    indication: str = ""
    gaps: tuple[str, ...] = ()
    smallest_changes: tuple[SmallestChange, ...] = ()
    learned: tuple[LearnedConcept, ...] = ()
    neighbours: Neighbours | None = None
    consistency: tuple[MapConsistency, ...] = ()

    def __repr__(self) -> str:
        named = [one for one in self.prediction.findings if one.tier != "unlikely"]
        found = ", ".join(f"{one.name} {one.tier.replace('_', ' ')} ({one.probability:.2f})" for one in named)
        shown = sum(one.shown for one in self.heatmaps)
        return f"Evidence({self.image.source!r}: {found or 'nothing named'}; maps shown: {shown} of {len(self.heatmaps)})"

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        return _shown(self, "evidence_html")


@dataclass(frozen=True)
class Sentence:
    """One sentence and the paths in the evidence record that it states (never empty)."""

    text: str
    cites: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A heading, its sentences, and the figures to stand with it ("image", "map/<finding>/<method>", "boxes", "outlines")."""

    heading: str
    sentences: tuple[Sentence, ...]
    figures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Story:
    """One telling of the evidence to one audience.

    `style` is "technical" or "calm": how its page draws. `signed`: its page is held back until a clinician has signed it.

    `evidence` is what it was told from, for its figures; it is no part of what the story says, so two stories that say the
    same are equal. None for a story that was read back from a page.
    """

    audience: str
    language: str
    title: str
    sections: tuple[Section, ...]
    provenance: Mapping[str, object]
    evidence: Evidence | None = field(default=None, compare=False, repr=False)
    style: str = "technical"
    signed: bool = False

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        return _shown(self, "story_html")


@dataclass(frozen=True)
class Release:
    """Who released the patient's page for reading, when (UTC, ISO 8601), and whether with a picture."""

    by: str
    time: str
    with_picture: bool = False


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels by finding. Shapes: `values` float32 [N, F] in [0, 1], nan = not stated (never "absent"); `ids` length N."""

    findings: tuple[str, ...]
    values: Array
    ids: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SoftTargets:
    """A teacher's log-odds by finding name. Shapes: `logits` float32 [N, F], nan = the teacher does not know.

    `view` names the exact view of each image that the teacher saw ("resize:224" ...). `teacher` is its hash or name.
    """

    findings: tuple[str, ...]
    logits: Array
    ids: tuple[str, ...]
    view: str
    teacher: str


def _shown(value: Evidence | Story, how: str) -> str:
    # Found when a notebook asks, and only then: the nouns themselves know no page.
    html: str = getattr(import_module("storyxai.pages.notebook"), how)(value)
    return html
