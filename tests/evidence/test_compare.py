"""Two studies side by side: no change is claimed within the intervals, and pairs that say nothing are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evidence_example import example_evidence
from storyxai.errors import ArchiveError, InputError, UnknownNameError
from storyxai.evidence.archive import write_archive
from storyxai.evidence.compare import Comparison, compare
from storyxai.pages.comparison import render_comparison, say_comparison
from storyxai.programs.compare import compare as compare_folders
from storyxai.types import Concept, Evidence, Finding

ONE = example_evidence()
OTHERS = {"Effusion": (0.35, (0.26, 0.45)), "Consolidation": (0.44, (0.33, 0.52)), "Mass": (0.30, (0.21, 0.40))}
COURSE = ("progress", "improv", "worse", "regress", "resol", "increas", "decreas", "deteriorat", "better")


def other(evidence: Evidence = ONE, *, model: str = "another-student-2", **image: object) -> Evidence:
    """The example by another model, or of another image, with other numbers for three findings."""
    findings = tuple(
        replace(one, probability=OTHERS[one.name][0], interval=OTHERS[one.name][1]) if one.name in OTHERS else one
        for one in evidence.prediction.findings
    )
    study = "example-0002" if image else evidence.prediction.study_id
    prediction = replace(evidence.prediction, findings=findings, model_id=model, study_id=study)
    return replace(evidence, prediction=prediction, image=replace(evidence.image, **image))


def later(**image: object) -> Evidence:
    return other(model=ONE.prediction.model_id, **{"sha256": "77" * 32, **image})


def reading(found: Comparison, name: str) -> str:
    return next(pair.reading for pair in found.findings if pair.name == name)


def test_a_difference_is_told_only_beyond_both_intervals() -> None:
    found = compare(ONE, other())
    assert found.kind == "models"
    assert reading(found, "Effusion") == "lower", "0.74 to 0.90 and 0.26 to 0.45 do not meet"
    assert reading(found, "Mass") == "higher"
    assert reading(found, "Consolidation") == "within", "0.47 to 0.72 and 0.33 to 0.52 meet"
    assert reading(found, "Hernia") == "same"
    said = say_comparison(found, ONE)
    assert "Effusion is lower in B, beyond both intervals: A likely 0.83 (0.74 to 0.90)" in said
    line = next(line for line in said.split("- ") if "Consolidation is told otherwise" in line or "Consolidation" in line)
    assert "no change can be claimed" in " ".join(line.split())


def test_an_interval_below_its_end_is_said_once_and_a_view_that_nobody_stated_not_at_all() -> None:
    findings = tuple(replace(one, probability=0.001, interval=(0.0005, 0.003)) if one.name == "Effusion" else one
                     for one in ONE.prediction.findings)  # fmt: skip
    small = replace(later(view="unknown"), prediction=replace(later().prediction, findings=findings))
    found = compare(ONE, small)
    assert "B unlikely < 0.01 (< 0.01)." in " ".join(say_comparison(found, ONE).split())
    page = render_comparison(found, ONE, small).decode()
    assert f"{ONE.image.source}, unknown" not in page and f"{ONE.image.source}, {ONE.image.view}, " in page


@pytest.mark.parametrize("pair", [(ONE, other()), (ONE, later())], ids=["models", "images"])
def test_nothing_speaks_of_the_course_of_a_disease(pair: tuple[Evidence, Evidence]) -> None:
    found = compare(*pair)
    said = (say_comparison(found, pair[0]) + render_comparison(found, *pair).decode().split("</style>")[1]).casefold()
    said = said.replace("no statement about the course", "")
    assert [word for word in COURSE if word in said] == []


def test_where_no_interval_parts_them_nothing_is_said_to_differ() -> None:
    same = replace(ONE, prediction=replace(ONE.prediction, model_id="another"))
    found = compare(ONE, same)
    assert {pair.reading for pair in found.findings} == {"same"}
    assert say_comparison(found, ONE).count("No finding differs beyond its intervals.") == 1


def test_what_has_no_calibration_or_is_doubted_is_not_compared() -> None:
    for doubtful in (replace(other(), gaps=("calibration",)), _far(other())):
        found = compare(ONE, doubtful)
        assert {pair.reading for pair in found.findings} == {"untold"}
        assert not any("beyond both intervals" in line for line in say_comparison(found, ONE).splitlines())


def _far(evidence: Evidence) -> Evidence:
    gate = tuple(replace(check, value=9.0, passed=False) if check.name == "gate.distance" else check for check in evidence.gate)
    return replace(evidence, gate=gate)


def test_places_and_measurements_are_held_against_their_errors() -> None:
    def with_ratio(evidence: Evidence, value: float, error: float | None) -> Evidence:
        mine = {("", "cardiothoracic_ratio"), ("Effusion", "side")}
        kept = tuple(c for c in evidence.concepts if (c.finding, c.name) not in mine)
        ratio = Concept("cardiothoracic_ratio", "", value, "ratio", error, "made up")
        side = Concept("side", "Effusion", "left" if value > 0.5 else "right", "", None, "made up")
        return replace(evidence, concepts=(*kept, ratio, side))

    def ratio(a: tuple[float, float | None], b: tuple[float, float | None]) -> bool | None:
        found = compare(with_ratio(ONE, *a), with_ratio(other(), *b))
        return next(pair.within for pair in found.measures if pair.name == "cardiothoracic_ratio")

    assert ratio((0.48, 0.02), (0.51, 0.02)) is True
    assert ratio((0.48, 0.02), (0.55, 0.02)) is False
    assert ratio((0.48, None), (0.55, 0.02)) is None
    found = compare(with_ratio(ONE, 0.48, 0.02), with_ratio(other(), 0.55, 0.02))
    side = next(pair for pair in found.places if (pair.finding, pair.what) == ("Effusion", "side"))
    assert (side.a, side.b, side.same) == ("right", "left", False)


@pytest.mark.parametrize(("b", "why"), [
    (ONE, "are one"), (other(sha256="77" * 32), "differ in image and in model"), (later(sex="M"), "two people"),
    (replace(other(), provenance={**ONE.provenance, "settings": {"modality": "dermoscopy"}}), "different modalities"),
], ids=["twice", "both", "sex", "modality"])  # fmt: skip
def test_pairs_that_say_nothing_are_refused(b: Evidence, why: str) -> None:
    with pytest.raises(InputError, match=why):
        compare(ONE, b)


def test_remarks_name_what_to_keep_in_mind() -> None:
    assert compare(ONE, later()).remarks == ("one_patient",)
    assert compare(ONE, later(view="PA", age_years=31.0)).remarks == ("one_patient", "views", "younger")
    fewer = replace(other(), prediction=replace(other().prediction, findings=(
        Finding("Effusion", 0.3, (0.2, 0.4), 0.9), Finding("New", 0.3, (0.2, 0.4), 0.9)), logits={}))  # fmt: skip
    found = compare(ONE, fewer)
    assert "thresholds" in found.remarks and reading(found, "New") == "one_sided" and reading(found, "Mass") == "one_sided"


def test_two_folders_become_text_json_or_a_page(tmp_path: Path) -> None:
    a, b = write_archive(ONE, tmp_path / "a"), write_archive(other(), tmp_path / "b")
    assert compare_folders(a, b).startswith(b"Research use only")
    record = json.loads(compare_folders(a, b, form="json"))
    effusion = next(item for item in record["findings"] if item["name"] == "Effusion")
    assert effusion["overlap"] is False and effusion["difference"] == pytest.approx(0.35 - 0.83)
    page = compare_folders(a, b, out=tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == page == compare_folders(a, b, form="html")
    assert page.count(b'src="data:image/png') >= 2
    with pytest.raises(UnknownNameError, match="did you mean 'html'"):
        compare_folders(a, b, form="htm")
    with pytest.raises(ArchiveError):
        compare_folders(a, tmp_path / "none", out=tmp_path / "new.html")
    assert not (tmp_path / "new.html").exists()


def test_what_nobody_names_is_told_behind_what_one_study_names() -> None:
    """The first line of a comparison was of a finding that rose from 0.01 to 0.02."""
    def with_hernia(evidence: Evidence, p: float) -> Evidence:
        findings = tuple(replace(one, probability=p, interval=(p - 0.001, p + 0.001)) if one.name == "Hernia" else one
                         for one in evidence.prediction.findings)
        return replace(evidence, prediction=replace(evidence.prediction, findings=findings))

    said = " ".join(say_comparison(compare(with_hernia(ONE, 0.01), with_hernia(other(), 0.02)), ONE).split())
    assert said.index("Effusion is lower in B") < said.index("Hernia is higher in B")
