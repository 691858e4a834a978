"""Evidence and stories as plain nested dicts with stable named paths: what stories cite and what archives hold.

A path is the keys joined by dots ("findings.Effusion.probability", "boxes.Effusion.0.width"). The record is exactly
what evidence.json says: floats have six significant digits, keys are sorted, so that a story told from memory and one
told from the archive are the same. Parts named `terms`, `counts`, `card_gaps` and `notices`, the `state` of a finding
and sizes in mm are derived, and are made anew when evidence is read back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import ArchiveError, CitationError, EvidenceError
from storyxai.modalities.chest_radiograph.findings import find_term, match_name
from storyxai.provenance import canonical_json, sha256_bytes
from storyxai.types import (
    RESEARCH_USE,
    Box,
    Check,
    Concept,
    Counterfactual,
    Evidence,
    Finding,
    Heatmap,
    Image,
    Prediction,
    Section,
    Sentence,
    Story,
)

__all__ = [
    "FORMAT",
    "NOTICES",
    "arrays_of",
    "as_record",
    "digits_apart",
    "from_record",
    "record_sha256",
    "resolve",
    "story_as_record",
    "story_from_record",
    "upgraded",
]

FORMAT, OLD_FORMAT = "storyxai-evidence/2", "storyxai-evidence/1"
"""What is written, and what is read beside it."""
MOST_DIGITS = 6
"""Decimals that are printed at most: the record keeps six significant digits."""
WHOLE_IMAGE, ALL_METHODS = "image", "all"
"""Keys that stand for an empty `finding` and an empty `method`."""

NOTICES: Mapping[str, str] = {
    "research_use": RESEARCH_USE,
    "advice": "fixed advice, the same for every patient; not derived from this image",
    "prior": "one examination was given; no earlier image was compared",
    "sign_off": "no clinician's signature is recorded in this evidence",
    "frame": "fixed statement of the intended use and of its limits; not derived from this image",
}
"""What holds for every record: fixed statements that stories may cite, and that say that they are fixed."""


MODEL_FIGURES = ("agreement", "map_agreement", "subgroups", "faithfulness", "robustness", "compute")
"""Figures that a model's card should hold for the practitioner and the auditor; `gaps` names those that it lacks."""


def as_record(evidence: Evidence) -> dict[str, Any]:
    """`evidence` without its arrays, as a new nested dict of plain JSON values.

    Raises: EvidenceError when two entries have one name, a logit has no finding, or a number is not finite.
    """
    record: dict[str, Any] = json.loads(_record_bytes(evidence))
    return record


def record_sha256(record: Mapping[str, Any]) -> str:
    """The SHA-256 of the record's canonical JSON: what every story says that it was told from."""
    return sha256_bytes(canonical_json(record))


def arrays_of(evidence: Evidence) -> dict[str, NDArray[Any]]:
    """The arrays that the record names: "image", "masks/<name>" (bool) and "heatmaps/<finding>/<method>" (float32)."""
    arrays: dict[str, NDArray[Any]] = {"image": np.asarray(evidence.image.pixels, dtype=np.float32)}
    for name, mask in evidence.prediction.masks.items():
        arrays[f"masks/{name}"] = np.asarray(mask, dtype=np.bool_)
    for heatmap in evidence.heatmaps:
        arrays[_array_name(heatmap)] = np.asarray(heatmap.values, dtype=np.float32)
    return arrays


def from_record(record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Evidence:
    """The evidence that `as_record` and `arrays_of` came from. Raises: ArchiveError naming what is missing."""
    record = upgraded(record)
    if record.get("format") != FORMAT:
        raise ArchiveError("evidence", f"is of format {record.get('format')!r}", mend=f"this storyxai reads {FORMAT}")
    try:
        return _evidence(record, arrays)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        why = f"lacks or garbles a field ({type(error).__name__}: {error})"
        raise ArchiveError("evidence", why, mend="write the folder again with `storyxai tell`") from error


def upgraded(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record as this format writes it: an old one kept the gaps of the card under "gaps", and no others."""
    if record.get("format") != OLD_FORMAT:
        return record
    return {**record, "format": FORMAT, "gaps": [], "card_gaps": record.get("gaps", [])}


def resolve(record: Mapping[str, Any], path: str) -> Any:
    """The value at `path`; keys may hold dots. Raises: CitationError when nothing is there or its value is None."""
    if path:
        for value in _values_at(record, path.split(".")):
            if value is None:
                raise CitationError(f"'{path}' is not known in this evidence (its value is null)")
            return value
    raise CitationError(f"'{path}' is not in this evidence")


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


def story_as_record(story: Story) -> dict[str, Any]:
    """`story` as a nested dict of plain JSON values."""
    return {
        "audience": story.audience,
        "language": story.language,
        "title": story.title,
        "provenance": dict(story.provenance),
        "sections": [
            {
                "heading": section.heading,
                "figures": list(section.figures),
                "sentences": [{"text": s.text, "cites": list(s.cites)} for s in section.sentences],
            }
            for section in story.sections
        ],
    }


def story_from_record(record: Mapping[str, Any]) -> Story:
    """The story that `story_as_record` came from. Raises: KeyError or TypeError when it is not one."""
    sections = []
    for item in record["sections"]:
        sentences = tuple(Sentence(str(s["text"]), tuple(map(str, s["cites"]))) for s in item["sentences"])
        sections.append(Section(str(item["heading"]), sentences, tuple(map(str, item["figures"]))))
    return Story(
        str(record["audience"]), str(record["language"]), str(record["title"]), tuple(sections), record["provenance"]
    )


_written: WeakKeyDictionary[Evidence, bytes] = WeakKeyDictionary()
"""Four stories and four pages are made of one evidence: its record is made once, and forgotten with it."""


def _record_bytes(evidence: Evidence) -> bytes:
    if evidence not in _written:
        raw = _raw_record(evidence)
        try:
            _written[evidence] = canonical_json(raw)
        except ValueError as error:
            where = next(_not_finite(raw, ""), "a number")
            raise EvidenceError(f"evidence: {where} is not finite; use None for an unknown value") from error
    return _written[evidence]


def _raw_record(evidence: Evidence) -> dict[str, Any]:
    image, prediction = evidence.image, evidence.prediction
    height, width = image.pixels.shape
    names = [finding.name for finding in prediction.findings]
    if stray := set(prediction.logits) - set(names):
        raise EvidenceError(f"evidence: logits without a finding: {', '.join(sorted(stray))}")
    return {
        "format": FORMAT,
        "study": {
            "study_id": prediction.study_id,
            "indication": evidence.indication,
            "model_id": prediction.model_id,
            "image": {
                "array": "image",
                **{name: getattr(image, name) for name in _IMAGE_FIELDS},
                "spacing_mm": image.spacing_mm,
                "notes": image.notes,
                "height": height,
                "width": width,
            },
        },
        "gate": _keyed((((c.name,), _check_record(c)) for c in evidence.gate), "gate"),
        "model": dict(evidence.model),
        "findings": _keyed(
            (((f.name,), _finding_record(f, prediction.logits.get(f.name))) for f in prediction.findings), "findings"
        ),
        "terms": {name: _term_record(name) for name in names},
        "boxes": _listed((b.finding, _box_record(b, image)) for b in prediction.boxes),
        "masks": {
            name: {"array": f"masks/{name}", "area_share": float(np.mean(mask))}
            for name, mask in prediction.masks.items()
        },
        "report": {"sentences": prediction.report},
        "heatmaps": _keyed((((h.finding, h.method), _heatmap_record(h)) for h in evidence.heatmaps), "heatmaps"),
        "concepts": _keyed(
            (
                ((c.finding or WHOLE_IMAGE, c.name), {k: getattr(c, k) for k in ("value", "unit", "error", "about")})
                for c in evidence.concepts
            ),
            "concepts",
        ),
        "checks": _keyed(
            (((c.finding or WHOLE_IMAGE, c.method or ALL_METHODS, c.name), _check_record(c)) for c in evidence.checks),
            "checks",
        ),
        "counterfactuals": _listed(
            (c.finding, {k: getattr(c, k) for k in ("region", "fill", "probability", "change")})
            for c in evidence.counterfactuals
        ),
        "counts": _counts(evidence),
        "gaps": sorted(evidence.gaps),
        "card_gaps": [name for name in MODEL_FIGURES if not evidence.model.get(name)],
        "notices": dict(NOTICES),
        "provenance": dict(evidence.provenance),
        "order": {
            "findings": names,
            "gate": [(c.name, c.finding, c.method) for c in evidence.gate],
            "boxes": [b.finding for b in prediction.boxes],
            "heatmaps": [(h.finding, h.method) for h in evidence.heatmaps],
            "concepts": [(c.finding, c.name) for c in evidence.concepts],
            "checks": [(c.finding, c.method, c.name) for c in evidence.checks],
            "counterfactuals": [c.finding for c in evidence.counterfactuals],
        },
    }


_IMAGE_FIELDS = ("source", "sha256", "view", "sex", "age_years", "spacing_kind")


def _evidence(record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Evidence:
    order, study = record["order"], record["study"]
    image = study["image"]
    spacing = image["spacing_mm"]
    findings, heatmaps, concepts, checks = (record[key] for key in ("findings", "heatmaps", "concepts", "checks"))
    prediction = Prediction(
        study_id=study["study_id"],
        findings=tuple(_finding(name, findings[name]) for name in order["findings"]),
        boxes=tuple(_box(name, item) for name, item in _unlisted(record["boxes"], order["boxes"])),
        masks={name: np.asarray(arrays[item["array"]], dtype=np.bool_) for name, item in record["masks"].items()},
        report=tuple(record["report"]["sentences"]),
        logits={name: float(findings[name]["logit"]) for name in order["findings"] if "logit" in findings[name]},
        model_id=study["model_id"],
    )
    return Evidence(
        image=Image(
            pixels=np.asarray(arrays["image"], dtype=np.float32),
            spacing_mm=None if spacing is None else (float(spacing[0]), float(spacing[1])),
            notes=tuple(image["notes"]),
            **{name: image[name] for name in _IMAGE_FIELDS},
        ),
        prediction=prediction,
        heatmaps=tuple(_heatmap(f, m, heatmaps[f][m], arrays) for f, m in order["heatmaps"]),
        concepts=tuple(Concept(name, f, **concepts[f or WHOLE_IMAGE][name]) for f, name in order["concepts"]),
        checks=tuple(
            Check(name, f, m, **checks[f or WHOLE_IMAGE][m or ALL_METHODS][name]) for f, m, name in order["checks"]
        ),
        counterfactuals=tuple(
            Counterfactual(name, **item)
            for name, item in _unlisted(record["counterfactuals"], order["counterfactuals"])
        ),
        gate=tuple(Check(name, f, m, **record["gate"][name]) for name, f, m in order["gate"]),
        model=record["model"],
        provenance=record["provenance"],
        indication=study["indication"],
        gaps=tuple(record["gaps"]),
    )


def _counts(evidence: Evidence) -> dict[str, int]:
    """Sums that stories state: a story counts nothing itself."""
    shown = [heatmap.shown for heatmap in evidence.heatmaps]
    checks, gate = ([check.passed for check in some] for some in (evidence.checks, evidence.gate))
    return {
        "maps": len(shown),
        "maps_shown": sum(shown),
        "maps_withheld": len(shown) - sum(shown),
        "checks_passed": checks.count(True),
        "checks_failed": checks.count(False),
        "checks_unasked": checks.count(None),
        "gate_asked": len(gate) - gate.count(None),
        "gate_passed": gate.count(True),
    }


def _finding_record(finding: Finding, logit: float | None) -> dict[str, Any]:
    # The state follows from the rounded numbers, so that it is the same once they were written and read.
    low, high = (_rounded(bound) for bound in finding.interval)
    rounded = Finding(finding.name, _rounded(finding.probability), (low, high), _rounded(finding.threshold))
    record = {
        "probability": rounded.probability,
        "interval": rounded.interval,
        "threshold": rounded.threshold,
        "state": rounded.state,
    }
    return record if logit is None else {**record, "logit": float(logit)}


def _finding(name: str, record: Mapping[str, Any]) -> Finding:
    low, high = record["interval"]
    return Finding(name, record["probability"], (low, high), record["threshold"])


def _term_record(name: str) -> dict[str, Any]:
    if match_name(name) is None:
        return {"phrase": name.replace("_", " ").lower(), "lay": name.replace("_", " ").lower(), "focal": True}
    term = find_term(name)
    return {k: getattr(term, k) for k in ("phrase", "lay", "look_alikes", "snomed", "radlex", "focal")}


def _box_record(box: Box, image: Image) -> dict[str, Any]:
    record = {k: float(getattr(box, k)) for k in ("x", "y", "width", "height", "score")}
    if image.spacing_mm is not None:
        row_mm, column_mm = image.spacing_mm
        record |= {"width_mm": box.width * column_mm, "height_mm": box.height * row_mm}
    return record


def _box(name: str, record: Mapping[str, Any]) -> Box:
    return Box(name, record["x"], record["y"], record["width"], record["height"], record["score"])


def _heatmap_record(heatmap: Heatmap) -> dict[str, Any]:
    record = {k: getattr(heatmap, k) for k in ("unit", "shown", "withheld_because", "details")}
    extremes = {"minimum": float(heatmap.values.min()), "maximum": float(heatmap.values.max())}
    return {**record, **extremes, "array": _array_name(heatmap)}


def _heatmap(finding: str, method: str, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Heatmap:
    values = np.asarray(arrays[record["array"]], dtype=np.float32)
    fields = {k: record[k] for k in ("unit", "shown", "withheld_because", "details")}
    return Heatmap(finding, method, values, **fields)


def _array_name(heatmap: Heatmap) -> str:
    return f"heatmaps/{heatmap.finding}/{heatmap.method}"


def _check_record(check: Check) -> dict[str, Any]:
    return {k: getattr(check, k) for k in ("value", "limit", "passed", "about")}


def _keyed(items: Iterable[tuple[tuple[str, ...], dict[str, Any]]], what: str) -> dict[str, Any]:
    """Nested dicts from (key path, leaf) pairs. Raises: EvidenceError for two leaves of one name."""
    tree: dict[str, Any] = {}
    for path, leaf in items:
        branch = tree
        for key in path[:-1]:
            branch = branch.setdefault(key, {})
        if path[-1] in branch:
            raise EvidenceError(f"evidence: two {what} are called {'.'.join(path)}")
        branch[path[-1]] = leaf
    return tree


def _listed(items: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    lists: dict[str, list[dict[str, Any]]] = {}
    for name, item in items:
        lists.setdefault(name, []).append(item)
    return lists


def _unlisted(lists: Mapping[str, list[Any]], order: list[str]) -> list[tuple[str, Any]]:
    """The items of `_listed` in their first order."""
    taken: dict[str, int] = {}
    items = []
    for name in order:
        items.append((name, lists[name][taken.get(name, 0)]))
        taken[name] = taken.get(name, 0) + 1
    return items


def _values_at(value: Any, parts: list[str]) -> Iterator[Any]:
    if not parts:
        yield value
    elif isinstance(value, Mapping):
        for count in range(1, len(parts) + 1):
            key = ".".join(parts[:count])
            if key in value:
                yield from _values_at(value[key], parts[count:])
    elif isinstance(value, list) and parts[0].isdecimal() and int(parts[0]) < len(value):
        yield from _values_at(value[int(parts[0])], parts[1:])


def _rounded(number: float) -> float:
    return float(f"{number:.6g}")


def _not_finite(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_finite(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _not_finite(item, f"{path}.{index}")
    elif isinstance(value, float | np.floating) and not math.isfinite(value):
        yield path
