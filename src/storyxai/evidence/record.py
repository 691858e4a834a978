"""Evidence as plain nested dicts with stable named paths: what stories cite and what archives hold.

A path is the keys joined by dots ("findings.Mass.probability", "boxes.Mass.0.width"); `evidence.schema` says which
there are. The record is exactly what evidence.json says: floats have six significant digits, keys are sorted, so that a
story told from memory and one told from the archive are the same. Parts named `terms`, `counts`, `named`, `doubts`, `card_gaps`
and `notices`, the `tier` of a finding and sizes in mm are derived, and are made anew when evidence is read back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
from numpy.typing import NDArray

from storyxai.errors import ArchiveError, EvidenceError
from storyxai.evidence import schema
from storyxai.evidence.formats import FORMAT, NOTICES, upgraded
from storyxai.evidence.paths import figure_name
from storyxai.evidence.schema import EvidenceRecord
from storyxai.imaging.notes import noted
from storyxai.modalities.registry import modality_named
from storyxai.provenance import canonical_json, read_provenance, sha256_bytes
from storyxai.types import (
    LIKELY,
    Box,
    Check,
    Concept,
    Counterfactual,
    Evidence,
    Finding,
    FindingNear,
    Heatmap,
    Image,
    LearnedConcept,
    MapConsistency,
    Neighbours,
    Note,
    Prediction,
    Remark,
    SmallestChange,
    doubts_of,
    named_findings,
    of_unknown_kind,
)

_AGAIN = "write the folder again with `storyxai tell`"
MOST_DIGITS = 6
"""Decimals that are printed at most: the record keeps six significant digits."""
WHOLE_IMAGE, ALL_METHODS = "image", "all"
"""Keys that stand for an empty `finding` and an empty `method`."""

Leaf = TypeVar("Leaf")
MODEL_FIGURES = ("agreement", "map_agreement", "subgroups", "faithfulness", "robustness", "compute")
"""Figures that a model's card should hold for the practitioner and the auditor; `gaps` names those that it lacks."""


def typed_record(record: Mapping[str, object]) -> EvidenceRecord:
    """The record as types. Raises: ArchiveError naming the field that is missing or of another kind."""
    try:
        return msgspec.convert(record, EvidenceRecord)
    except msgspec.ValidationError as error:
        raise ArchiveError("evidence", f"lacks or garbles a field ({error})", mend=_AGAIN) from error


def as_record(evidence: Evidence) -> dict[str, Any]:
    """`evidence` without its arrays, as a new nested dict of plain JSON values.

    Raises: EvidenceError when two entries have one name, a logit has no finding, or a number is not finite.
    """
    record: dict[str, Any] = json.loads(_record_bytes(evidence))
    return record


def record_sha256(record: Mapping[str, object]) -> str:
    """The SHA-256 of the record's canonical JSON: what every story says that it was told from.

    Each reader's story asks for it twice. Canonical JSON costs some ten times plain JSON, which tells whether it is the same.
    """
    return _canonical_sha256(json.dumps(record, sort_keys=True, default=dict))


@lru_cache(maxsize=4)
def _canonical_sha256(text: str) -> str:
    return sha256_bytes(canonical_json(json.loads(text)))


def arrays_of(evidence: Evidence) -> dict[str, NDArray[Any]]:
    """The arrays that the record names: "image", "masks/<name>" (bool) and "heatmaps/<finding>/<method>" (float32)."""
    arrays: dict[str, NDArray[Any]] = {"image": np.asarray(evidence.image.pixels, dtype=np.float32)}
    for name, mask in evidence.prediction.masks.items():
        arrays[f"masks/{name}"] = np.asarray(mask, dtype=np.bool_)
    for heatmap in evidence.heatmaps:
        arrays[_array_name(heatmap)] = np.asarray(heatmap.values, dtype=np.float32)
    return arrays


def from_record(record: Mapping[str, object], arrays: Mapping[str, NDArray[Any]]) -> Evidence:
    """The evidence that `as_record` and `arrays_of` came from. Raises: ArchiveError naming what is missing."""
    record = upgraded(record)
    if record.get("format") != FORMAT:
        raise ArchiveError("evidence", f"is of format {record.get('format')!r}", mend=f"this storyxai reads {FORMAT}")
    try:
        return _evidence(typed_record(record), arrays)
    except (KeyError, IndexError) as error:
        why = f"lacks or garbles a field ({type(error).__name__}: {error})"
        raise ArchiveError("evidence", why, mend=_AGAIN) from error


def as_archived(evidence: Evidence) -> Evidence:
    """The evidence as its archive keeps it, numbers to six digits: stories told of it can be told again from the files."""
    again = from_record(as_record(evidence), arrays_of(evidence))
    _written[again] = _record_bytes(evidence)  # the record of what a record gives back is that record
    return again


def digits_apart(
    pairs: Iterable[tuple[Any, Any]], printed: Callable[[float, int], str], *, least: int
) -> int:
    """Decimals, `least` or more, at which the two numbers of each pair print differently wherever they differ.

    For sentences and tables that say which of two numbers is larger: "0.06, below 0.06" reads as false.
    """
    unlike = [(a, b) for a, b in pairs if isinstance(a, int | float) and isinstance(b, int | float) and a != b]
    for digits in range(least, MOST_DIGITS):
        if all(printed(a, digits) != printed(b, digits) for a, b in unlike):
            return digits
    return MOST_DIGITS if unlike else least


_written: WeakKeyDictionary[Evidence, bytes] = WeakKeyDictionary()
"""Four stories and four pages are made of one evidence: its record is made once, and forgotten with it."""


def _record_bytes(evidence: Evidence) -> bytes:
    if evidence not in _written:
        raw = plain_record(_record(evidence))
        try:
            _written[evidence] = canonical_json(raw)
        except ValueError as error:
            where = next(_not_finite(raw, ""), "a number")
            raise EvidenceError(f"evidence: {where} is not finite; use None for an unknown value") from error
    return _written[evidence]


def plain_record(record: EvidenceRecord) -> Any:
    """The record as plain JSON values of the kinds that the schema names: 64 is written as 64.0 where a number is meant."""
    try:
        plain = msgspec.to_builtins(msgspec.convert(msgspec.to_builtins(record, enc_hook=_plain_scalar), EvidenceRecord))
    except msgspec.ValidationError as error:
        raise EvidenceError(f"evidence: a field is of another kind ({error})") from error
    if not plain["model"]["curves"]:  # cards of before have none, and their evidence keeps its hash
        del plain["model"]["curves"]
    return plain


def _plain_scalar(value: Any) -> Any:
    """A numpy scalar or array as Python's own numbers."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no plain JSON form")


def _record(evidence: Evidence) -> EvidenceRecord:
    prediction = evidence.prediction
    names = [finding.name for finding in prediction.findings]
    if stray := set(prediction.logits) - set(names):
        raise EvidenceError(f"evidence: logits without a finding: {', '.join(sorted(stray))}")
    logits, spacing = prediction.logits, evidence.image.spacing_mm
    judged, doubts, terms = _judged(evidence), doubts_of(evidence.gate), read_provenance(evidence.provenance).terms
    return EvidenceRecord(
        format=FORMAT,
        study=schema.StudyRecord(prediction.study_id, evidence.indication, prediction.model_id, _image_record(evidence.image)),
        gate=_keyed((((c.name,), _as(schema.CheckRecord, c)) for c in evidence.gate), "gate"),
        model=evidence.model,
        findings=_keyed(
            (((f.name,), _as(schema.FindingRecord, f, tier="cannot_tell" if doubts else told.tier, logit=logits.get(f.name)))
             for f, told in zip(prediction.findings, judged, strict=True)), "findings",
        ),
        terms={name: _term_record(name, terms.get(name)) for name in names},
        boxes=_listed((b.finding, _box_record(b, spacing)) for b in prediction.boxes),
        masks={name: schema.MaskRecord(f"masks/{name}", float(np.mean(mask))) for name, mask in prediction.masks.items()},
        report=schema.ReportRecord(prediction.report, prediction.stated),
        heatmaps=_keyed((((h.finding, h.method), _heatmap_record(h)) for h in evidence.heatmaps), "heatmaps"),
        concepts=_keyed(
            (((c.finding or WHOLE_IMAGE, c.name), _as(schema.ConceptRecord, c)) for c in evidence.concepts), "concepts",
        ),
        checks=_keyed(
            (((c.finding or WHOLE_IMAGE, c.method or ALL_METHODS, c.name), _as(schema.CheckRecord, c))
             for c in evidence.checks), "checks",
        ),
        counterfactuals=_listed((c.finding, _as(schema.WhatIfRecord, c)) for c in evidence.counterfactuals),
        counts=_counts(evidence),
        named=() if of_unknown_kind(doubts) else named_findings(judged),
        doubts=doubts,
        gaps=tuple(sorted(evidence.gaps)),
        card_gaps=tuple(name for name in MODEL_FIGURES if not getattr(evidence.model, name, None)),
        notices=NOTICES,
        provenance=evidence.provenance,
        order=_order(evidence),
        smallest_changes=_keyed(
            (((c.finding,), _as(schema.SmallestChangeRecord, c)) for c in evidence.smallest_changes), "smallest changes",
        ),
        learned=_keyed(
            (((c.finding, c.concept), _as(schema.LearnedRecord, c, name=c.concept.replace("_", " ")))
             for c in evidence.learned), "learned concepts",
        ),
        neighbours=None if evidence.neighbours is None else _neighbours_record(evidence.neighbours),
        consistency=_consistency_record(evidence.consistency),
    )


def _order(evidence: Evidence) -> schema.Order:
    return schema.Order(
        findings=tuple(f.name for f in evidence.prediction.findings),
        gate=tuple((c.name, c.finding, c.method) for c in evidence.gate),
        boxes=tuple(b.finding for b in evidence.prediction.boxes),
        heatmaps=tuple((h.finding, h.method) for h in evidence.heatmaps),
        concepts=tuple((c.finding, c.name) for c in evidence.concepts),
        checks=tuple((c.finding, c.method, c.name) for c in evidence.checks),
        counterfactuals=tuple(c.finding for c in evidence.counterfactuals),
        smallest_changes=tuple(c.finding for c in evidence.smallest_changes),
        learned=tuple((c.finding, c.concept) for c in evidence.learned),
        consistency=tuple((c.finding, c.beside) for c in evidence.consistency),
    )


def _evidence(record: EvidenceRecord, arrays: Mapping[str, NDArray[Any]]) -> Evidence:
    order, study = record.order, record.study
    prediction = Prediction(
        study_id=study.study_id,
        findings=tuple(_as(Finding, record.findings[name], name=name) for name in order.findings),
        boxes=tuple(_as(Box, item, finding=name) for name, item in _unlisted(record.boxes, order.boxes)),
        masks={name: np.asarray(arrays[item.array], dtype=np.bool_) for name, item in record.masks.items()},
        report=record.report.sentences,
        logits={name: logit for name in order.findings if (logit := record.findings[name].logit) is not None},
        model_id=study.model_id,
        stated=record.report.stated,
    )
    return Evidence(
        image=_image(study.image, arrays),
        prediction=prediction,
        heatmaps=tuple(_heatmap(f, m, record.heatmaps[f][m], arrays) for f, m in order.heatmaps),
        concepts=tuple(
            _as(Concept, record.concepts[f or WHOLE_IMAGE][name], name=name, finding=f) for f, name in order.concepts
        ),
        checks=tuple(
            _as(Check, record.checks[f or WHOLE_IMAGE][m or ALL_METHODS][name], name=name, finding=f, method=m)
            for f, m, name in order.checks
        ),
        counterfactuals=tuple(
            _as(Counterfactual, item, finding=name)
            for name, item in _unlisted(record.counterfactuals, order.counterfactuals)
        ),
        gate=tuple(_as(Check, record.gate[name], name=name, finding=f, method=m) for name, f, m in order.gate),
        model=record.model,
        provenance=record.provenance,
        indication=study.indication,
        gaps=record.gaps,
        smallest_changes=tuple(
            _as(SmallestChange, record.smallest_changes[name], finding=name) for name in order.smallest_changes
        ),
        learned=tuple(_as(LearnedConcept, record.learned[f][name], finding=f, concept=name) for f, name in order.learned),
        neighbours=None if record.neighbours is None else _neighbours(record.neighbours),
        consistency=tuple(
            _as(MapConsistency, record.consistency[f].beside[beside], finding=f, method=record.consistency[f].method,
                beside=beside) for f, beside in order.consistency
        ),
    )


def _counts(evidence: Evidence) -> schema.Counts:
    shown = [heatmap.shown for heatmap in evidence.heatmaps]
    checks, gate = ([check.passed for check in some] for some in (evidence.checks, evidence.gate))
    return schema.Counts(
        maps=len(shown), maps_shown=sum(shown), maps_withheld=len(shown) - sum(shown),
        checks_passed=checks.count(True), checks_failed=checks.count(False), checks_unasked=checks.count(None),
        gate_asked=len(gate) - gate.count(None), gate_passed=gate.count(True),
    )


def _as(kind: type[Leaf], one: object, **own: object) -> Leaf:
    """A part of the evidence as it is kept on record, or back: what has one name in both, and the values `own` to `kind`."""
    shared = {field.name for field in fields(kind)} - set(own)  # type: ignore[arg-type]
    return kind(**{name: getattr(one, name) for name in shared if hasattr(one, name)}, **own)


def _image_record(image: Image) -> schema.ImageRecord:
    height, width = image.pixels.shape[:2]
    return _as(
        schema.ImageRecord, image, array="image", notes=tuple(map(_note_remark, image.notes)), height=height, width=width
    )


def _note_remark(text: str) -> Remark:
    return text.remark if isinstance(text, Note) else Remark.quoted(text)


def _image(record: schema.ImageRecord, arrays: Mapping[str, NDArray[Any]]) -> Image:
    pixels = np.asarray(arrays[record.array], dtype=np.float32)
    return _as(Image, record, pixels=pixels, notes=tuple(map(noted, record.notes)))


def _judged(evidence: Evidence) -> tuple[Finding, ...]:
    """The findings as they are told: without a calibration by their score alone, held against one half."""
    findings = evidence.prediction.findings
    if "calibration" not in evidence.gaps:
        return findings
    return tuple(Finding(f.name, f.probability, (f.probability, f.probability), LIKELY) for f in findings)


def _term_record(name: str, told: Mapping[str, object] | None) -> schema.TermRecord:
    """What the finding is called: as the evidence tells for a modality that is not ours, else by our vocabulary."""
    if told is not None:
        return msgspec.convert(told, schema.TermRecord)
    usual = modality_named()
    if usual.match(name) is None:
        plain = name.replace("_", " ").lower()
        return schema.TermRecord(plain, plain, True)
    term = usual.term(name)
    return schema.TermRecord(term.phrase, term.lay, term.focal, term.look_alikes, term.snomed, term.radlex)


def _box_record(box: Box, spacing_mm: tuple[float, float] | None) -> schema.BoxRecord:
    row_mm, column_mm = spacing_mm or (None, None)
    return _as(
        schema.BoxRecord, box, width_mm=None if column_mm is None else box.width * column_mm,
        height_mm=None if row_mm is None else box.height * row_mm,
    )


def _heatmap_record(heatmap: Heatmap) -> schema.HeatmapRecord:
    low, high = float(heatmap.values.min()), float(heatmap.values.max())
    return _as(schema.HeatmapRecord, heatmap, minimum=low, maximum=high, array=_array_name(heatmap))


def _heatmap(finding: str, method: str, record: schema.HeatmapRecord, arrays: Mapping[str, NDArray[Any]]) -> Heatmap:
    values = np.asarray(arrays[record.array], dtype=np.float32)
    return _as(Heatmap, record, finding=finding, method=method, values=values)


def _array_name(heatmap: Heatmap) -> str:
    return figure_name("heatmaps", heatmap.finding, heatmap.method)


def _consistency_record(compared: tuple[MapConsistency, ...]) -> dict[str, schema.ConsistencyRecord]:
    found = {}
    for finding in dict.fromkeys(one.finding for one in compared):
        own = [one for one in compared if one.finding == finding]
        beside = _keyed((((c.beside,), _as(schema.BesideRecord, c)) for c in own), "comparisons")
        found[finding] = schema.ConsistencyRecord(own[0].method, len(own), sum(one.near for one in own), beside)
    return found


def _neighbours_record(near: Neighbours) -> schema.NeighboursRecord:
    findings = _keyed((((f.finding,), _as(schema.NearRecord, f)) for f in near.findings), "neighbours")
    return _as(schema.NeighboursRecord, near, findings=findings)


def _neighbours(near: schema.NeighboursRecord) -> Neighbours:
    return _as(Neighbours, near, findings=tuple(_as(FindingNear, one, finding=name) for name, one in near.findings.items()))


def _keyed(items: Iterable[tuple[tuple[str, ...], Any]], what: str) -> Any:
    """Nested dicts from (key path, leaf) pairs. Raises: EvidenceError for two leaves of one name."""
    tree: dict[str, object] = {}
    for path, leaf in items:
        branch: Any = tree
        for key in path[:-1]:
            branch = branch.setdefault(key, {})
        if path[-1] in branch:
            raise EvidenceError(f"evidence: two {what} are called {'.'.join(path)}")
        branch[path[-1]] = leaf
    return tree


def _listed(items: Iterable[tuple[str, Leaf]]) -> dict[str, tuple[Leaf, ...]]:
    lists: dict[str, tuple[Leaf, ...]] = {}
    for name, item in items:
        lists[name] = (*lists.get(name, ()), item)
    return lists


def _unlisted(lists: Mapping[str, tuple[Leaf, ...]], order: Iterable[str]) -> list[tuple[str, Leaf]]:
    """The items of `_listed` in their first order."""
    left = {name: iter(items) for name, items in lists.items()}
    try:
        return [(name, next(left[name])) for name in order]
    except StopIteration as error:
        raise IndexError("the order names more than there is") from error


def _not_finite(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_finite(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _not_finite(item, f"{path}.{index}")
    elif isinstance(value, float | np.floating) and not math.isfinite(value):
        yield path
