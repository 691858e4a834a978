"""Two told studies side by side: two models on one image, or two images of one patient by one model.

What differs is held against what is known of how sure each number is: a difference whose two intervals overlap is one that
nobody may call a change. Nothing here knows a date or a patient: the evidence keeps neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from storyxai.errors import InputError
from storyxai.evidence.record import as_record, record_sha256, typed_record
from storyxai.evidence.schema import ConceptRecord, EvidenceRecord
from storyxai.modalities.registry import DEFAULT_MODALITY
from storyxai.types import Evidence, Tier

Kind: TypeAlias = Literal["models", "images"]
Reading: TypeAlias = Literal["same", "within", "higher", "lower", "untold", "one_sided"]
"""What may be said of a pair of numbers: they print alike; they differ within their intervals; they differ beyond both; one
of them cannot be told or has no interval; only one study has it."""
HALF_PRINTED = 0.005
"""Probabilities that lie nearer than this print alike."""
PLACES = ("side", "zones")


@dataclass(frozen=True)
class Side:
    """One of the two studies: which, of which image, by which model, and what makes it doubtful."""

    study_id: str
    source: str
    image_sha256: str
    view: str
    width: int
    height: int
    model_id: str
    weights_sha256: str
    evidence_sha256: str
    doubts: tuple[str, ...]
    calibrated: bool


@dataclass(frozen=True)
class Told:
    """How one study tells a finding."""

    tier: Tier
    probability: float
    interval: tuple[float, float]
    threshold: float
    named: bool


@dataclass(frozen=True)
class FindingPair:
    """One finding in both studies. `difference` is B less A; `overlap` whether the two intervals meet; None: not known."""

    name: str
    a: Told | None
    b: Told | None
    difference: float | None
    overlap: bool | None
    reading: Reading

    @property
    def tier_differs(self) -> bool:
        """Whether both studies tell it, and otherwise."""
        return self.a is not None and self.b is not None and self.a.tier != self.b.tier

    @property
    def threshold_differs(self) -> bool:
        """Whether the two models review the finding from different probabilities on."""
        return self.a is not None and self.b is not None and self.a.threshold != self.b.threshold

    @property
    def told(self) -> bool:
        """Whether either study names it in its text."""
        return any(side is not None and side.named for side in (self.a, self.b))


@dataclass(frozen=True)
class PlacePair:
    """Where a finding is said to lie ("side", "zones") in both studies; None: not said."""

    finding: str
    what: str
    a: str | None
    b: str | None

    @property
    def same(self) -> bool:
        """Whether both say the same."""
        return self.a == self.b


@dataclass(frozen=True)
class MeasurePair:
    """A measurement of the structures in both studies. `within`: whether it differs by no more than both errors together."""

    name: str
    unit: str
    a: float | None
    b: float | None
    error_a: float | None
    error_b: float | None
    difference: float | None
    within: bool | None


@dataclass(frozen=True)
class Comparison:
    """All that two studies have in common and apart. `remarks` are codes of what to keep in mind when reading it."""

    kind: Kind
    a: Side
    b: Side
    findings: tuple[FindingPair, ...]
    places: tuple[PlacePair, ...]
    measures: tuple[MeasurePair, ...]
    remarks: tuple[str, ...]

    def read_as(self, *readings: Reading) -> tuple[FindingPair, ...]:
        """The findings of which one of these may be said."""
        return tuple(pair for pair in self.findings if pair.reading in readings)


def compare(a: Evidence, b: Evidence) -> Comparison:
    """`a` and `b` side by side; of two dates `a` is the earlier, by the caller's word.

    Raises: InputError for one study twice, for images of different modalities, for another model on another image, and for
    images of which the files say that they are of two people.
    """
    records = as_record(a), as_record(b)
    first, second = map(typed_record, records)
    kind = _kind(first, second)
    names = list(dict.fromkeys((*first.findings, *second.findings)))
    measured = sorted({*first.concepts.get("image", {}), *second.concepts.get("image", {})})
    findings = sorted((_finding(name, first, second) for name in names), key=_order)
    return Comparison(
        kind, _side(first, record_sha256(records[0])), _side(second, record_sha256(records[1])), tuple(findings),
        tuple(pair for found in findings if found.told for pair in _places(found.name, first, second)),
        tuple(pair for name in measured for pair in _measure(name, first, second)),
        tuple(_remarks(kind, first, second)),
    )


def _kind(a: EvidenceRecord, b: EvidenceRecord) -> Kind:
    one_image = a.study.image.sha256 == b.study.image.sha256
    one_model = a.study.model_id == b.study.model_id
    mine, yours = (record.made.settings.modality or DEFAULT_MODALITY for record in (a, b))
    if mine != yours:
        raise InputError("the two studies", f"are of different modalities ({mine}, {yours})", mend="compare images of one kind")
    if one_image and one_model:
        mend = "give two models on one image, or two images by one model"
        raise InputError("the two studies", "are one: the same image by the same model", mend=mend)
    if not one_image and not one_model:
        why = "differ in image and in model: what differs could be either's doing"
        raise InputError("the two studies", why, mend="tell both images by one model, or one image by both")
    sexes = {record.study.image.sex for record in (a, b)} - {""}
    if len(sexes) == 2:
        raise InputError("the two studies", "are of two people: their files state different sexes", mend="check the pair")
    return "models" if one_image else "images"


def _side(record: EvidenceRecord, digest: str) -> Side:
    study, image = record.study, record.study.image
    return Side(
        study.study_id, image.source, image.sha256, image.view, image.width, image.height, study.model_id,
        record.model.weights_sha256, digest, record.doubts, "calibration" not in record.gaps,
    )


def _finding(name: str, a: EvidenceRecord, b: EvidenceRecord) -> FindingPair:
    first, second = _told(name, a), _told(name, b)
    if first is None or second is None:
        return FindingPair(name, first, second, None, None, "one_sided")
    overlap = first.interval[0] <= second.interval[1] and second.interval[0] <= first.interval[1]
    difference = second.probability - first.probability
    sure = all("calibration" not in record.gaps and not record.doubts for record in (a, b))
    reading: Reading = (
        "untold" if not sure else "same" if abs(difference) < HALF_PRINTED else "within" if overlap
        else "higher" if difference > 0 else "lower"
    )  # fmt: skip
    return FindingPair(name, first, second, difference, overlap if sure else None, reading)


def _told(name: str, record: EvidenceRecord) -> Told | None:
    item = record.findings.get(name)
    if item is None:
        return None
    return Told(item.tier, item.probability, item.interval, item.threshold, name in record.named)


def _order(pair: FindingPair) -> tuple[bool, float, str]:
    """Named ones first, then by the highest probability of the two."""
    return not pair.told, -max(side.probability for side in (pair.a, pair.b) if side is not None), pair.name


def _places(finding: str, a: EvidenceRecord, b: EvidenceRecord) -> Iterator[PlacePair]:
    for what in PLACES:
        first, second = (found and found.value for found in (_concept(record, finding, what) for record in (a, b)))
        if first is not None or second is not None:
            yield PlacePair(finding, what, *(None if value is None else str(value) for value in (first, second)))


def _measure(name: str, a: EvidenceRecord, b: EvidenceRecord) -> Iterator[MeasurePair]:
    first, second = _concept(a, "image", name), _concept(b, "image", name)
    (value_a, error_a), (value_b, error_b) = _measured(first), _measured(second)
    known = first or second
    if known is None or (value_a is None and value_b is None):
        return
    difference = None if value_a is None or value_b is None else value_b - value_a
    within = None if difference is None or error_a is None or error_b is None else abs(difference) <= error_a + error_b
    yield MeasurePair(name, known.unit, value_a, value_b, error_a, error_b, difference, within)


def _measured(concept: ConceptRecord | None) -> tuple[float | None, float | None]:
    """The value of a measurement and its error; None: not known, or no number."""
    if concept is None:
        return None, None
    return concept.value if isinstance(concept.value, int | float) else None, concept.error


def _concept(record: EvidenceRecord, finding: str, name: str) -> ConceptRecord | None:
    return record.concepts.get(finding, {}).get(name)


def _remarks(kind: Kind, a: EvidenceRecord, b: EvidenceRecord) -> Iterator[str]:
    first, second = a.study.image, b.study.image
    if kind == "images":
        yield "one_patient"
        if first.view != second.view:
            yield "views"
        if (first.width, first.height) != (second.width, second.height):
            yield "sizes"
        if first.age_years is not None and second.age_years is not None and second.age_years < first.age_years - 1:
            yield "younger"
    if kind == "models" and any(a.findings[name].threshold != b.findings[name].threshold
                                for name in a.findings.keys() & b.findings.keys()):  # fmt: skip
        yield "thresholds"
    if any(record.doubts for record in (a, b)):
        yield "doubted"
    if any("calibration" in record.gaps for record in (a, b)):
        yield "uncalibrated"
