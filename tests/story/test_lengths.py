"""Stories that a reader finishes: twenty cases, counted in words, grades, names and repeated sentences."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator

import pytest

from evidence_example import example_evidence, gate_check, normal_evidence
from storyxai.evidence.record import as_record
from storyxai.pages.story import render_html
from storyxai.proof.checking import check_page
from storyxai.story.audiences import patient
from storyxai.story.audiences.patient import MOST_WORDS
from storyxai.story.citations import check_story, contradictions
from storyxai.story.readability import flesch_kincaid_grade
from storyxai.story.tell import AUDIENCES, tell
from storyxai.types import MOST_NAMED, UNKNOWN_KIND, Check, Evidence, Finding, Story

FINDINGS = tuple(f.name for f in example_evidence().prediction.findings)
FAR = gate_check("gate.distance", 9.0, 1.0, failed="gate_warned")
MIRRORED = gate_check("gate.mirrored", 0.9, 0.5, failed="gate_warned")
CHILD = tuple(gate_check(name, 9.0, 1.0, failed="gate_warned") for name in ("gate.taught", "gate.age"))
FORCED = Check("gate.inverted", "", "gate", 0.99, 0.9, False, "The grey values look inverted; invert the picture.")
FINE = Check("gate.size", "", "gate", 200.0, 64.0, True, "The picture is large enough.")


def case(counts: dict[float, int], *, width: float = 0.01, gate: tuple[Check, ...] = (FINE,), **changed: object) -> Evidence:
    """So many findings of each probability, from the first on, reviewed from 0.10, intervals of that half width."""
    base = example_evidence()
    given = [value for value, count in counts.items() for _ in range(count)]
    findings = tuple(
        Finding(name, p, (max(0.0, p - width), min(1.0, p + width)), 0.10)
        for name, p in itertools.zip_longest(FINDINGS, given, fillvalue=0.02)
    )
    prediction = dataclasses.replace(base.prediction, findings=findings)
    return dataclasses.replace(base, prediction=prediction, gate=gate, **changed)  # type: ignore[arg-type]


def against_report() -> tuple[Check, ...]:
    said = Check("report_agrees", "Consolidation", "report", 1.0, None, False, "the generated report contradicts it")
    return (*example_evidence().checks, said)


def disagreeing() -> tuple[Check, ...]:
    return tuple(
        dataclasses.replace(c, value=0.1, passed=False) if c.name == "methods_agree" and c.passed else c
        for c in example_evidence().checks
    )


def uncalibrated(*high: str) -> Evidence:
    base = example_evidence()
    findings = tuple(Finding(n, p := 0.7 if n in high else 0.3, (p, p), 0.5) for n in FINDINGS)
    return dataclasses.replace(
        base, prediction=dataclasses.replace(base.prediction, findings=findings), gaps=("calibration", "card")
    )


CASES = {
    "example": example_evidence(),
    "bare and normal": normal_evidence(),
    "normal": case({}),
    "one possible": case({0.15: 1}),
    "one likely": case({0.8: 1}),
    "likely and possible": case({0.8: 1, 0.2: 2}),
    "five likely": case({0.9: 5}),
    "all likely": case({0.9: 14}),
    "nine possible": case({0.3: 9}),
    "likely beyond five": case({0.9: 7, 0.2: 4}),
    "one doubtful": case({0.15: 1}, width=0.14),
    "many doubtful": case({0.12: 6}, width=0.11),
    "all doubtful": case({0.09: 14}, width=0.3),
    "normal with doubts": case({0.08: 3}, width=0.09),
    "methods disagree": case({0.02: 2, 0.8: 1}, checks=disagreeing()),
    "report disagrees": case({0.02: 2, 0.8: 1}, checks=against_report()),
    "poor image": case({0.02: 2, 0.3: 1}, gate=example_evidence().gate),
    "mirrored": case({0.02: 2, 0.8: 1}, gate=(FINE, MIRRORED)),
    "far from training": case({0.8: 2}, gate=(FINE, FAR)),
    "a child's": case({0.8: 2}, gate=(FINE, *CHILD)),
    "forced": case({0.8: 1}, gate=(FORCED,), provenance={"settings": {"forced": True}}),
    "stranger's model, high": uncalibrated("Effusion", "Mass"),
    "stranger's model, low": uncalibrated(),
}  # fmt: skip


def sentences(story: Story) -> Iterator[str]:
    return (s.text for section in story.sections for s in section.sentences)


def words(texts: Iterator[str] | list[str]) -> int:
    return len(" ".join(texts).split())


@pytest.mark.parametrize("name", CASES)
def test_a_reader_finishes_the_story(name: str) -> None:
    evidence = CASES[name]
    record, stories = as_record(evidence), {audience: tell(evidence, audience) for audience in AUDIENCES}
    for audience, story in stories.items():
        check_story(story, record)
        twice = [text for text, count in Counter(sentences(story)).items() if count > 1]
        assert not twice, f"{audience} says twice: {twice}"
    assert contradictions(list(stories.values())) == []
    bottom = [s.text for s in stories["clinician"].sections[0].sentences]
    assert words(bottom) <= 100, " ".join(bottom)
    chips = [s for s in stories["clinician"].sections if any(f.startswith("gauge/") for f in s.figures)]
    assert len(chips) <= MOST_NAMED
    patient = stories["patient"]
    told = [*sentences(patient), *(s.heading for s in patient.sections), patient.title]
    assert words(told) <= 250
    assert flesch_kincaid_grade(" ".join(sentences(patient))) <= 6


@pytest.mark.parametrize(("language", "advice", "said", "unsaid"), [
    ("en", "read it without the model", "did not learn to read pictures like this one", "not be good enough"),
    ("de", "ohne das Modell beurteilen", "hat nicht gelernt, solche Bilder zu beurteilen", "nicht gut genug"),
])
def test_of_a_childs_film_the_advice_stands_once_in_front_and_the_picture_is_not_blamed(
    language: str, advice: str, said: str, unsaid: str
) -> None:
    evidence = CASES["a child's"]
    front, *others = [[s.text for s in part.sentences] for part in tell(evidence, "clinician", language).sections]
    assert sum(advice in text for text in front) == 1
    assert sum(advice in text for part in others for text in part) == 1, "the other warning stands with the image"
    patient = " ".join(sentences(tell(evidence, "patient", language)))
    assert said in patient and unsaid not in patient
    assert unsaid in " ".join(sentences(tell(CASES["poor image"], "patient", language)))
    for audience in AUDIENCES:
        assert check_page(render_html(tell(evidence, audience, language), evidence), evidence).problems == ()


@pytest.mark.parametrize(("language", "elsewhere"), [("en", "another method"), ("de", "anderes Verfahren")])
def test_that_another_method_points_elsewhere_is_said_once_of_a_finding(language: str, elsewhere: str) -> None:
    evidence = CASES["methods disagree"]
    maps = tuple(dataclasses.replace(one, doubtful=True, hit_probability=None) if one.shown else one
                 for one in evidence.heatmaps)  # fmt: skip
    evidence = dataclasses.replace(evidence, heatmaps=maps)
    (part,) = [one for one in tell(evidence, "clinician", language).sections if one.heading in ("Effusion", "Pleuraerguss")]
    texts = [s.text for s in part.sentences]
    assert sum(elsewhere in text or "No other method" in text or "Kein anderes Verfahren" in text for text in texts) == 1, texts
    doubt = next(i for i, text in enumerate(texts) if "doubtful" in text or "zweifelhaft" in text)
    assert "ther method" in texts[doubt - 1] or "anderes Verfahren" in texts[doubt - 1], "the doubt follows its reason"


@pytest.mark.parametrize(("language", "table", "rest"), [
    ("en", "(see the table)", "Possible too: 4 more."), ("de", "(siehe Tabelle)", "Dazu möglich: 4."),
])
def test_where_the_others_stand_is_said_once(language: str, table: str, rest: str) -> None:
    evidence = CASES["likely beyond five"]
    bottom = [s.text for s in tell(evidence, "clinician", language).sections[0].sentences]
    assert sum(table in text for text in bottom) == 1 and rest in bottom
    page = render_html(tell(evidence, "clinician", language), evidence)
    assert check_page(page, evidence).problems == ()
    wrong = page.replace(rest.encode(), rest.replace("4", "5").encode())
    assert any("counts 5" in one for one in check_page(wrong, evidence).problems)


@pytest.mark.parametrize("name", CASES)
def test_at_most_five_findings_are_named_on_a_page(name: str) -> None:
    """Named is what a sentence cites as this image's finding; of a look-alike nothing is claimed."""
    for audience in ("clinician", "patient"):
        named = {
            path.split(".")[1]
            for section in tell(CASES[name], audience).sections for s in section.sentences if len(s.cites) < len(FINDINGS)
            for path in s.cites
            if path.startswith("findings.") and path.split(".")[1].replace("_", " ").lower() in s.text.lower()
        }  # fmt: skip
        assert len(named) <= MOST_NAMED, named


@pytest.mark.parametrize(("name", "start"), [
    ("normal", "Nothing stands out: all 14 findings that the model looks for are unlikely; this does not exclude disease."),
    ("one possible", "Worth a second look: possible atelectasis (about 15 in 100 such images have it)."),
    ("one likely", "Probably abnormal: likely atelectasis (about 80 in 100 such images have it)."),
    ("one doubtful", "Hard to call: the model cannot tell about atelectasis."),
    ("normal with doubts", "Nothing stands out: 11 of the 14 findings that the model looks for are unlikely; this does not "
                           "exclude disease. Of the others, the model cannot tell about 3 (see the table)."),
    ("far from training", "Do not rely on this: the model cannot tell about any of its 14 findings on this image."),
    ("methods disagree", "Probably abnormal: likely effusion in the right lower zone (about 80 in 100 such images have it)."),
    ("stranger's model, high", "Scores, not probabilities: effusion in the right lower zone (0.70) and mass (0.70) scored"),
    ("stranger's model, low", "Scores, not probabilities: 14 of 14 findings scored below one half;"),
])
def test_cases_read_differently(name: str, start: str) -> None:
    text = " ".join(s.text for s in tell(CASES[name], "clinician").sections[0].sentences)
    assert text.startswith(start), text


@pytest.mark.parametrize(("name", "part"), [
    ("methods disagree", "The maps for effusion disagree on the place."),
    ("report disagrees", "The draft report differs on "),
    ("forced", "The image was refused and is told only because the caller forced it."),
    ("poor image", "Warning: the chest may be cut off"),
    ("one likely", "Pneumothorax is unlikely (about 2 in 100)."),
    ("nine possible", "Of the others, 4 possible too (see the table)."),
])
def test_doubts_stand_in_the_bottom_line(name: str, part: str) -> None:
    assert part in [s.text[: len(part)] for s in tell(CASES[name], "clinician").sections[0].sentences]


def test_what_the_image_was_refused_for_stands_before_what_only_warns() -> None:
    """A forced lateral view was first said to be unlike the films of training, and its highest numbers were told."""
    lateral = Check("gate.lateral", "", "gate", 9.0, 1.0, False, "The picture looks like a lateral view; give a frontal one.")
    evidence = case({0.8: 1}, gate=(FAR, lateral), provenance={"settings": {"forced": True}})
    bottom = [sentence.text for sentence in tell(evidence, "clinician").sections[0].sentences]
    assert [text.split(" ")[:2] for text in bottom] == [
        ["Do", "not"], ["The", "picture"], ["Warning:", "the"], ["The", "image"], ["Next:", "read"],
    ]
    assert not any(character.isdigit() for text in bottom[1:] for character in text), bottom


def test_a_warning_about_the_image_stands_right_behind_what_is_claimed() -> None:
    blurred = gate_check("gate.blurred", 0.3, 0.45, failed="gate_warned")
    for counts in ({}, {0.8: 1}):
        bottom = [one.text for one in tell(case(counts, gate=(FINE, blurred)), "clinician").sections[0].sentences]
        assert bottom[1] == "Warning: the picture is blurred; look for a sharper copy."


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_patient_page_is_bounded_by_construction(language: str) -> None:
    """Every pair of findings, with all that may be added: a warning, a place, a model without a card, and more marked."""
    most, base, gate = 0, case({}), example_evidence().gate
    for first, second in itertools.combinations(FINDINGS, 2):
        chosen = {first: 0.4, second: 0.3, **{name: 0.2 for name in FINDINGS if name not in (first, second)}}
        findings = tuple(dataclasses.replace(one, probability=chosen[one.name], interval=(chosen[one.name],) * 2)
                         for one in base.prediction.findings)
        one = dataclasses.replace(base, prediction=dataclasses.replace(base.prediction, findings=findings),
                                  gate=gate, gaps=("card",))
        story = tell(one, "patient", language)
        signs = list(as_record(one)["named"])[:2]
        for name in signs:
            assert any(f"findings.{name}.tier" in sentence.cites for part in story.sections for sentence in part.sentences)
        most = max(most, words([*sentences(story), *(part.heading for part in story.sections)]))
    assert 200 < most <= MOST_WORDS


def test_a_long_patient_page_leaves_out_what_is_missed_least(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = case({0.8: 1})
    whole = list(sentences(tell(evidence, "patient")))
    headings = words([part.heading for part in tell(evidence, "patient").sections])
    monkeypatch.setattr(patient, "MOST_WORDS", headings + words(whole) - 1)
    shorter = list(sentences(tell(evidence, "patient")))
    assert [text for text in whole if text not in shorter] == ["Other things can look the same."]
    monkeypatch.setattr(patient, "MOST_WORDS", 0)
    left = list(sentences(tell(evidence, "patient")))
    assert len(whole) > len(left) and "The computer can be wrong." in left and whole[0] in left


def test_where_nothing_is_to_be_relied_on_the_draft_is_held_against_no_number() -> None:
    """"Cannot tell about any of its findings" and "the numbers agree" on one page would contradict each other."""
    sure = example_evidence()
    gate = tuple(dataclasses.replace(one, passed=one.name != "gate.inverted") for one in sure.gate)
    plain, doubted = (tell(one, "clinician") for one in (sure, dataclasses.replace(sure, gate=gate)))
    said = [[one.text for part in story.sections for one in part.sentences] for story in (plain, doubted)]
    assert [sum("The numbers agree" in text for text in texts) > 0 for texts in said] == [True, False]
    assert any("no person wrote or checked it" in text for text in said[1])


@pytest.mark.parametrize("rule", UNKNOWN_KIND)
@pytest.mark.parametrize("language", ["en", "de"])
def test_of_an_image_of_an_unknown_kind_no_finding_is_named_and_no_draft_is_shown(rule: str, language: str) -> None:
    """"No acute abnormality" and a fold named pneumothorax stood under "cannot tell about any of its findings"."""
    sure = example_evidence()
    doubted = dataclasses.replace(sure, gate=(*sure.gate[:-1], gate_check(rule, 9.0, 1.0, failed="gate_warned")))
    named = as_record(sure)["named"]
    assert named and as_record(doubted)["named"] == []
    story = tell(doubted, "clinician", language)
    told = {path for part in story.sections for sentence in part.sentences for path in sentence.cites}
    assert not any(path.startswith(("report.", "heatmaps.")) or path.endswith(".probability") for path in told)
    assert check_page(render_html(story, doubted), doubted, None).problems == ()
