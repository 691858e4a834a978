"""The evidence record as types: what evidence.json holds, and so which paths a template may name.

One field here is one key there; None is written as null and means that the value is not known. msgspec reads and writes it.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from functools import cache, cached_property
from typing import Any, Union, get_args, get_origin, get_type_hints

from storyxai.model_facts import ModelFacts
from storyxai.provenance import Provenance, read_provenance
from storyxai.types import NO_REMARK, Remark, Tier, Value


@dataclass(frozen=True)
class ImageRecord:
    """The image without its pixels, which `array` names. Units: `height` and `width` pixels, `spacing_mm` (row, column)."""

    array: str
    source: str
    sha256: str
    view: str
    sex: str
    age_years: float | None
    spacing_kind: str
    spacing_mm: tuple[float, float] | None
    notes: tuple[Remark, ...]
    height: int
    width: int


@dataclass(frozen=True)
class StudyRecord:
    """What was looked at, by which model, and what was asked."""

    study_id: str
    indication: str
    model_id: str
    image: ImageRecord


@dataclass(frozen=True)
class CheckRecord:
    """`types.Check` without the names that its path gives."""

    value: float | None
    limit: float | None
    passed: bool | None
    about: Remark = NO_REMARK
    warns: bool = False


@dataclass(frozen=True)
class FindingRecord:
    """`types.Finding` with its tier and, where it is known, its logit."""

    probability: float
    interval: tuple[float, float]
    threshold: float
    tier: Tier
    logit: float | None = None
    prevalence: float | None = None


@dataclass(frozen=True)
class TermRecord:
    """What a finding is called; only its name says it where no vocabulary holds it."""

    phrase: str
    lay: str
    focal: bool
    look_alikes: tuple[str, ...] | None = None
    snomed: str | None = None
    radlex: str | None = None


@dataclass(frozen=True)
class BoxRecord:
    """`types.Box`, and its size where the spacing is known."""

    x: float
    y: float
    width: float
    height: float
    score: float
    width_mm: float | None = None
    height_mm: float | None = None


@dataclass(frozen=True)
class MaskRecord:
    """Which array holds a mask, and the share of the image that it covers."""

    array: str
    area_share: float


@dataclass(frozen=True)
class ReportRecord:
    """The generated report, one sentence an entry, and what each states; a remark without a code where nobody could read it."""

    sentences: tuple[str, ...]
    stated: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class HeatmapRecord:
    """`types.Heatmap` without its values, which `array` names."""

    unit: str
    shown: bool
    withheld_because: tuple[Remark, ...]
    details: Mapping[str, Value]
    minimum: float
    maximum: float
    array: str
    hit_probability: float | None = None
    doubtful: bool = False


@dataclass(frozen=True)
class ConceptRecord:
    """`types.Concept` without the names that its path gives."""

    value: Value
    unit: str
    error: float | None
    about: Remark = NO_REMARK


@dataclass(frozen=True)
class WhatIfRecord:
    """`types.Counterfactual` without the finding that its path gives."""

    region: str
    fill: str
    probability: float
    change: float


@dataclass(frozen=True)
class SmallestChangeRecord:
    """`types.SmallestChange` without the finding that its path gives."""

    fill: str
    limit: float
    of: int
    passes: int
    smallest: bool
    superpixels: int | None = None
    share: float | None = None
    probability: float | None = None


@dataclass(frozen=True)
class LearnedRecord:
    """`types.LearnedConcept` without the finding that its path gives; `name` is the concept's as it is quoted."""

    name: str
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
class BesideRecord:
    """`types.MapConsistency` without the names that its path gives."""

    correlation: float
    distance: float
    near: bool


@dataclass(frozen=True)
class ConsistencyRecord:
    """What the map of a finding by `method` was held against, by name; in `near` of `asked` cases strongest points are near."""

    method: str
    asked: int
    near: int
    beside: Mapping[str, BesideRecord]


@dataclass(frozen=True)
class NearRecord:
    """`types.FindingNear` without the finding that its path gives."""

    known: int
    present: int
    stated: int
    overall: float | None = None
    with_it: float | None = None
    without: float | None = None


@dataclass(frozen=True)
class NeighboursRecord:
    """`types.Neighbours`, its findings by name."""

    count: int
    of: int
    part: str
    closest: float
    farthest: float
    findings: Mapping[str, NearRecord]
    table_sha256: str


@dataclass(frozen=True)
class Counts:
    """Sums that stories state: a story counts nothing itself."""

    maps: int
    maps_shown: int
    maps_withheld: int
    checks_passed: int
    checks_failed: int
    checks_unasked: int
    gate_asked: int
    gate_passed: int


@dataclass(frozen=True)
class Order:
    """The order in which the evidence holds its parts, which the sorted keys of the record do not keep."""

    findings: tuple[str, ...]
    gate: tuple[tuple[str, str, str], ...]
    boxes: tuple[str, ...]
    heatmaps: tuple[tuple[str, str], ...]
    concepts: tuple[tuple[str, str], ...]
    checks: tuple[tuple[str, str, str], ...]
    counterfactuals: tuple[str, ...]
    smallest_changes: tuple[str, ...] = ()
    learned: tuple[tuple[str, str], ...] = ()
    consistency: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class EvidenceRecord:
    """Everything that stories may state about one study."""

    format: str
    study: StudyRecord
    gate: Mapping[str, CheckRecord]
    model: ModelFacts
    findings: Mapping[str, FindingRecord]
    terms: Mapping[str, TermRecord]
    boxes: Mapping[str, tuple[BoxRecord, ...]]
    masks: Mapping[str, MaskRecord]
    report: ReportRecord
    heatmaps: Mapping[str, Mapping[str, HeatmapRecord]]
    concepts: Mapping[str, Mapping[str, ConceptRecord]]
    checks: Mapping[str, Mapping[str, Mapping[str, CheckRecord]]]
    counterfactuals: Mapping[str, tuple[WhatIfRecord, ...]]
    counts: Counts
    named: tuple[str, ...]
    doubts: tuple[str, ...]
    gaps: tuple[str, ...]
    card_gaps: tuple[str, ...]
    notices: Mapping[str, str]
    provenance: Mapping[str, object]
    order: Order
    smallest_changes: Mapping[str, SmallestChangeRecord] = field(default_factory=dict)
    learned: Mapping[str, Mapping[str, LearnedRecord]] = field(default_factory=dict)
    neighbours: NeighboursRecord | None = None
    consistency: Mapping[str, ConsistencyRecord] = field(default_factory=dict)

    @cached_property
    def made(self) -> Provenance:
        """The provenance as types. Raises: ArchiveError naming the field that is of another kind."""
        return read_provenance(self.provenance)


def unknown_part(path: str) -> str:
    """The part of `path` that the record has no place for, "" where it has one for each. `<F>` and `<I>` stand for any key."""
    kind: Any = EvidenceRecord
    for part in path.split("."):
        if kind in (Any, object):
            return ""
        kind = _below(kind, part)
        if kind is None:
            return part
    return ""


def _below(kind: Any, part: str) -> Any:
    """The type under the key `part` of `kind`, None where it has no such key."""
    if isinstance(kind, type) and is_dataclass(kind):
        return _hints(kind).get(part)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        found = (_below(one, part) for one in inner)
        return next((one for one in found if one is not None), None)
    if origin is tuple and (part.isdecimal() or part.startswith("<")):
        return inner[0]
    return inner[1] if origin is not None and issubclass(origin, Mapping) else None


@cache
def _hints(kind: type) -> Mapping[str, object]:
    # The record keeps all that a provenance states, an older one too; templates name what `Provenance` knows.
    return get_type_hints(kind) | ({"provenance": Provenance} if kind is EvidenceRecord else {})
