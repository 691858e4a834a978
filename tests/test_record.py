"""Evidence as a plain record: exact inverse, stable paths, derived values."""

from __future__ import annotations

import dataclasses
import gc
import json
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence_example import example_evidence, gate_check, normal_evidence
from storyxai.errors import ArchiveError, CitationError, EvidenceError
from storyxai.evidence.formats import FORMAT
from storyxai.evidence.paths import resolve
from storyxai.evidence.record import arrays_of, as_record, from_record, record_sha256
from storyxai.evidence.story_record import story_as_record, story_from_record
from storyxai.provenance import canonical_json, sha256_bytes
from storyxai.types import Box, Check, Concept, Evidence, Finding, Section, Sentence, Story

NAMES = st.sampled_from(["Effusion", "Mass", "Hernia", "Own_Finding", "v1.2 finding"])
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: float(f"{x:.6g}"))
SHARES = st.floats(0, 1).map(lambda x: float(f"{x:.6g}"))
VALUES = st.none() | NUMBERS | st.booleans() | st.integers(-9, 9) | st.text(max_size=5)


def same(one: Evidence, two: Evidence) -> bool:
    """Whether two evidences are equal, arrays by value and the rest by the fields of their dataclasses."""
    plain = [
        (e.prediction.findings, e.prediction.boxes, e.prediction.report, dict(e.prediction.logits),
         e.prediction.study_id, e.concepts, e.checks, e.counterfactuals, e.gate, e.model, e.provenance, e.indication,
         e.smallest_changes, e.learned, e.neighbours and {n.finding: n for n in e.neighbours.findings},
         e.prediction.model_id,
         [(h.finding, h.method, h.unit, h.shown, h.withheld_because, dict(h.details), h.hit_probability, h.doubtful)
          for h in e.heatmaps],
         [getattr(e.image, f.name) for f in dataclasses.fields(e.image) if f.name != "pixels"])
        for e in (one, two)
    ]  # fmt: skip
    arrays = [arrays_of(e) for e in (one, two)]
    equal = arrays[0].keys() == arrays[1].keys() and all(
        np.array_equal(arrays[0][k], arrays[1][k]) and arrays[0][k].dtype == arrays[1][k].dtype for k in arrays[0]
    )
    return equal and plain[0] == plain[1]


@pytest.mark.parametrize("evidence", [example_evidence(), normal_evidence()], ids=["example", "normal"])
def test_reading_back_gives_the_same_evidence(evidence: Evidence) -> None:
    record = json.loads(canonical_json(as_record(evidence)))
    back = from_record(record, arrays_of(evidence))
    assert same(back, evidence)
    assert as_record(back) == record == as_record(evidence)


def test_how_often_a_map_hits_and_whether_it_is_doubtful_come_back() -> None:
    example = example_evidence()
    first = dataclasses.replace(example.heatmaps[0], hit_probability=0.35, doubtful=True)
    evidence = dataclasses.replace(example, heatmaps=(first, *example.heatmaps[1:]))
    record = as_record(evidence)
    told = record["heatmaps"][first.finding][first.method]
    assert (told["hit_probability"], told["doubtful"]) == (0.35, True)
    assert same(from_record(record, arrays_of(evidence)), evidence) and not same(example, evidence)
    for leaf in ("hit_probability", "doubtful"):  # a record written before these were stated
        del told[leaf]
    assert same(from_record(record, arrays_of(evidence)), example)


@settings(max_examples=60, deadline=None)
@given(
    findings=st.dictionaries(NAMES, st.tuples(SHARES, SHARES, SHARES, SHARES, NUMBERS), max_size=5),
    boxes=st.lists(st.builds(Box, NAMES, NUMBERS, NUMBERS, NUMBERS, NUMBERS, SHARES), max_size=4),
    concepts=st.dictionaries(
        st.tuples(st.sampled_from(["side", "zones"]), NAMES | st.just("")), st.tuples(VALUES, NUMBERS), max_size=5
    ),
    checks=st.dictionaries(
        st.tuples(st.sampled_from(["a", "b"]), NAMES | st.just(""), st.sampled_from(["", "lime"])),
        st.tuples(st.none() | NUMBERS, st.sampled_from([True, False, None])), max_size=6,
    ),
)  # fmt: skip
def test_reading_back_is_exact_for_any_evidence(findings, boxes, concepts, checks) -> None:  # type: ignore[no-untyped-def]
    base = example_evidence()
    found = tuple(Finding(n, p, (min(a, b), max(a, b)), t) for n, (p, a, b, t, _) in findings.items())
    prediction = dataclasses.replace(
        base.prediction, findings=found, boxes=tuple(boxes), logits={n: v[4] for n, v in findings.items()}
    )
    evidence = dataclasses.replace(
        base,
        prediction=prediction,
        heatmaps=(),
        concepts=tuple(Concept(name, f, value, "u", error, "x") for (name, f), (value, error) in concepts.items()),
        checks=tuple(Check(n, f, m, value, None, passed, "x") for (n, f, m), (value, passed) in checks.items()),
    )
    back = from_record(json.loads(canonical_json(as_record(evidence))), arrays_of(evidence))
    assert same(back, evidence)


def test_paths_lead_to_values() -> None:
    record = as_record(example_evidence())
    assert record["format"] == FORMAT
    assert resolve(record, "findings.Effusion.probability") == 0.83
    assert resolve(record, "findings.Cardiomegaly.tier") == "cannot_tell"
    assert resolve(record, "boxes.Effusion.1.score") == 0.21
    assert resolve(record, "boxes.Effusion.0.width_mm") == pytest.approx(62 * 1.5)
    assert resolve(record, "boxes.Effusion.0.height_mm") == pytest.approx(58 * 1.6)
    assert resolve(record, "gate.gate.cropped.passed") is False
    assert resolve(record, "checks.image.report.report_confidence.value") == -0.42
    assert resolve(record, "heatmaps.Effusion.grad_cam.maximum") == pytest.approx(0.8, abs=1e-3)
    assert resolve(record, "counts.maps_withheld") == 2


@pytest.mark.parametrize(
    "path",
    ["", "findings.", "findings.Effusion.nothing", "boxes.Effusion.7.x", "boxes.Effusion.-1.x",
     "checks.image.report.report_confidence.limit", "model.per_finding.Mass.auroc"],
)  # fmt: skip
def test_what_is_not_there_or_null_is_refused(path: str) -> None:
    with pytest.raises(CitationError):
        resolve(as_record(example_evidence()), path)


@pytest.mark.parametrize(("probability", "limit"), [(0.3999999, 0.4), (0.34999998, 0.35)])
def test_memory_and_record_put_a_finding_in_the_same_tier(probability: float, limit: float) -> None:
    """0.3999999 is written as 0.4, which reaches the threshold: no one may read one tier and see another."""
    base = example_evidence()
    finding = Finding("Effusion", probability, (probability, limit), limit)
    prediction = dataclasses.replace(base.prediction, findings=(finding,), logits={})
    record = as_record(dataclasses.replace(base, prediction=prediction, heatmaps=()))
    assert finding.tier == "possible" and record["named"] == ["Effusion"]
    assert record["findings"]["Effusion"] == {
        "probability": limit, "interval": [limit, limit], "threshold": limit, "tier": "possible", "logit": None,
            "prevalence": None,
    }  # fmt: skip


@pytest.mark.parametrize(("name", "failed", "doubted"), [
    ("gate.distance", "gate_warned", True), ("gate.inverted", "gate_failed", True), ("gate.cropped", "gate_warned", False),
])
def test_far_from_training_or_forced_past_the_gate_no_finding_can_be_told(name: str, failed: str, doubted: bool) -> None:
    check = gate_check(name, 1.0, 0.5, failed=failed)
    record = as_record(dataclasses.replace(example_evidence(), gate=(check,)))
    assert record["doubts"] == ([name] if doubted else [])
    assert ({item["tier"] for item in record["findings"].values()} == {"cannot_tell"}) is doubted


def test_whole_numbers_read_back_as_they_were_written() -> None:
    """A limit of 64 that was read back as 64.0 and written again made `verify` call the record altered."""
    base = example_evidence()
    evidence = dataclasses.replace(base, gate=(Check("gate.size", "", "gate", np.float32(200), 64, True, "x"),))
    again = from_record(json.loads(canonical_json(as_record(evidence))), arrays_of(evidence))
    assert canonical_json(as_record(again)) == canonical_json(as_record(evidence))


def test_evidence_of_the_wrong_kind_names_the_field() -> None:
    base = example_evidence()
    wrong = dataclasses.replace(base, indication=3)  # type: ignore[arg-type]
    with pytest.raises(EvidenceError, match=r"another kind.*indication"):
        as_record(wrong)


def test_contradicting_evidence_is_refused() -> None:
    base = example_evidence()
    with pytest.raises(EvidenceError, match=r"two checks are called Effusion\.grad_cam\.not_empty"):
        as_record(dataclasses.replace(base, checks=(*base.checks, base.checks[1], base.checks[1])))
    with pytest.raises(EvidenceError, match=r"concepts\.image\.x\.value is not finite"):
        as_record(dataclasses.replace(base, concepts=(Concept("x", "", float("nan"), "u", None, ""),)))
    with pytest.raises(EvidenceError, match="logits without a finding: Ghost"):
        as_record(dataclasses.replace(base, prediction=dataclasses.replace(base.prediction, logits={"Ghost": 1.0})))


def test_garbled_records_name_the_field() -> None:
    evidence = example_evidence()
    for change in ({"format": "storyxai-evidence/0"}, {"study": {}}, {"order": {"findings": ["Ghost"]}}, {"masks": 3}):
        with pytest.raises(ArchiveError):
            from_record({**as_record(evidence), **change}, arrays_of(evidence))
    with pytest.raises(ArchiveError, match="masks/left_lung"):
        from_record(as_record(evidence), {k: v for k, v in arrays_of(evidence).items() if k != "masks/left_lung"})


def test_what_the_model_did_not_bring_is_on_record() -> None:
    evidence = dataclasses.replace(example_evidence(), gaps=("masks", "calibration"))
    record = as_record(evidence)
    assert record["gaps"] == ["calibration", "masks"] and "faithfulness" in record["card_gaps"]
    assert set(from_record(record, arrays_of(evidence)).gaps) == set(evidence.gaps)


def test_no_evidence_is_kept_in_memory() -> None:
    evidence = example_evidence()
    as_record(evidence)
    gone = weakref.ref(evidence)
    del evidence
    gc.collect()
    assert gone() is None


def test_a_story_reads_back() -> None:
    sections = (Section("h", (Sentence("s", ("a.b",)),), ("image",)), Section("i", ()))
    story = Story("patient", "en", "t", sections, {"k": 1})
    assert story_from_record(json.loads(canonical_json(story_as_record(story)))) == story


def test_the_hash_is_that_of_canonical_json_also_of_a_record_that_changed() -> None:
    record: dict[str, object] = {"b": 0.1 + 0.2, "a": {"β": [1, None, True]}}
    for value in (1.0000001, 2.5, "x"):
        record["c"] = value
        assert record_sha256(record) == sha256_bytes(canonical_json(record)) == record_sha256(dict(record))
