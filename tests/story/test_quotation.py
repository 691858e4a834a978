"""What comes from outside is quoted, never read as a claim; what is missing is left out; any names can be told."""

from __future__ import annotations

import dataclasses

import pytest

from checks.teller_checks import check_teller
from evidence_example import example_evidence, normal_evidence
from storyxai.evidence.paths import figure_name, figure_parts
from storyxai.evidence.record import as_record
from storyxai.model_facts import DataSet, ModelFacts
from storyxai.pages.story import render_html
from storyxai.story.citations import check_page
from storyxai.story.tell import AUDIENCES, tell
from storyxai.types import Evidence, Finding, Prediction

PHRASES = ("Effusion judged absent last week?", "we did not find a mass on the left, 7 of 9", "[F|name] {names} a.b")


def text_of(evidence: Evidence, audience: str) -> str:
    return " ".join(s.text for section in tell(evidence, audience).sections for s in section.sentences)


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_question_that_sounds_like_a_claim_is_quoted(phrase: str) -> None:
    evidence = dataclasses.replace(example_evidence(), indication=phrase)
    for audience in AUDIENCES:
        assert check_page(render_html(tell(evidence, audience), evidence), as_record(evidence)) == []
    assert f"The question asked was: “{phrase}”" in text_of(evidence, "clinician")


@pytest.mark.parametrize("phrase", PHRASES)
def test_reports_limits_and_notes_that_sound_like_claims_are_quoted(phrase: str) -> None:
    base = example_evidence()
    model = dataclasses.replace(base.model, limits=(phrase,), cannot_see=(phrase,))
    prediction = dataclasses.replace(base.prediction, report=(phrase,))
    image = dataclasses.replace(base.image, notes=(phrase,), source=phrase)
    evidence = dataclasses.replace(base, model=model, prediction=prediction, image=image)
    for audience in AUDIENCES:
        tell(evidence, audience)
    assert text_of(evidence, "clinician").count(phrase) >= 4


def test_no_sentence_has_a_hole() -> None:
    base = example_evidence()
    image = dataclasses.replace(base.image, sex="", notes=("", " "))
    model = dataclasses.replace(base.model, cannot_see=(), trained_on=(DataSet("Own films", 12),))
    evidence = dataclasses.replace(base, image=image, model=model, indication="  ")
    told = {audience: text_of(evidence, audience) for audience in AUDIENCES}
    assert "The file says: 57 years." in told["clinician"]
    assert "Own films: 12 images; its licence is not stated." in told["auditor"]
    for audience, text in told.items():
        for hole in ("says: ,", "find .", "find.", "licence .", "licence ,", "licence.", ": .", "reading: ", "asked was"):
            assert hole not in text, f"{audience}: {hole}"


@pytest.mark.parametrize("name", ["Nodule/Mass", "v1.2 finding", "Mass (large)", "100% sure/2F", "Left_Thing"])
def test_any_finding_name_can_be_told_beside_names_within_it(name: str) -> None:
    base = example_evidence()

    def renamed(finding: str) -> str:
        return name if finding == "Consolidation" else finding

    prediction = dataclasses.replace(
        base.prediction,
        findings=tuple(dataclasses.replace(f, name=renamed(f.name)) for f in base.prediction.findings),
        boxes=tuple(dataclasses.replace(b, finding=renamed(b.finding)) for b in base.prediction.boxes),
        logits={renamed(key): value for key, value in base.prediction.logits.items()},
    )
    parts = {part: tuple(dataclasses.replace(one, finding=renamed(one.finding)) for one in getattr(base, part))
             for part in ("heatmaps", "concepts", "checks", "counterfactuals")}  # fmt: skip
    evidence = dataclasses.replace(base, prediction=prediction, **parts)
    record = as_record(evidence)
    for audience in AUDIENCES:
        assert check_page(render_html(tell(evidence, audience), evidence), record) == []
    assert figure_parts(figure_name("map", name, "grad_cam")) == ("map", name, "grad_cam")


def strangers_evidence() -> Evidence:
    """What a network of somebody else brings: logits, and nothing besides."""
    base = normal_evidence()
    findings = (Finding("Enlarged Cardiomediastinum", 0.83, (0.83, 0.83), 0.5), Finding("Effusion", 0.2, (0.2, 0.2), 0.5))
    prediction = Prediction("study-1", findings, (), {}, (), {f.name: 0.0 for f in findings}, "net")
    gaps = ("calibration", "card", "masks", "report", "gradients", "distance", "labeler", "a thing that nobody foresaw")
    return dataclasses.replace(base, prediction=prediction, model=ModelFacts("net"), gaps=gaps)


def test_a_strangers_model_is_told_without_what_it_lacks() -> None:
    evidence = strangers_evidence()
    check_teller(tell, evidence, audiences=AUDIENCES)
    for audience in ("clinician", "practitioner", "auditor"):
        text = text_of(evidence, audience)
        assert "No calibration came with this model, so its scores are not probabilities." in text
        assert "No card came with this model" in text and "came without: a thing that nobody foresaw." in text
    clinician = text_of(evidence, "clinician")
    assert "Enlarged Cardiomediastinum scored one half or more: 0.83, a score and no probability." in clinician
    assert "Scores, not probabilities: enlarged cardiomediastinum (0.83) scored one half or more." in clinician
    assert "probability " not in clinician and "in 100 images" not in clinician
    patient = text_of(evidence, "patient")
    assert "We do not know how often this computer is wrong." in patient
    assert "in 10 people" not in patient and "do not have it" not in patient


def test_scores_are_called_scores_in_every_sentence() -> None:
    evidence = dataclasses.replace(example_evidence(), gaps=("calibration",))
    check_teller(tell, evidence, audiences=AUDIENCES)
    clinician = text_of(evidence, "clinician")
    assert "the score of effusion falls from 0.83 to 0.19" in clinician and "calibrated" not in clinician
