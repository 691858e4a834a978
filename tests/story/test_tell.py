"""The four stories of a made-up record: rules, approved texts, and what each reader must and must not be told."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import msgspec
import pytest

from checks.teller_checks import check_teller
from evidence_example import example_evidence, gate_check, normal_evidence
from storyxai.errors import ArchiveError, EvidenceError, UnknownNameError
from storyxai.evidence.archive import read_archive, write_archive
from storyxai.evidence.record import as_record
from storyxai.evidence.story_record import story_as_record
from storyxai.explain.registry import known_methods
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH
from storyxai.model_facts import FindingFigures
from storyxai.pages.layout import labels_of
from storyxai.pages.story import render_html
from storyxai.proof.checking import check_page
from storyxai.proof.lexicon import Lexicon
from storyxai.proof.printing import prints
from storyxai.story.audiences.patient import check_readability
from storyxai.story.readability import flesch_kincaid_grade, words_per_sentence
from storyxai.story.tell import AUDIENCES, tell
from storyxai.story.teller import Teller
from storyxai.story.words import load_words, words_of
from storyxai.types import METHOD_NAMES, Counterfactual, Evidence, Finding, Section, Sentence, SmallestChange, Story

GOLD = Path(__file__).resolve().parents[1] / "gold"


def text_of(story: Story) -> str:
    return " ".join(s.text for section in story.sections for s in section.sentences)


def with_states(*, likely: tuple[str, ...] = (), possible: tuple[str, ...] = (), unsure: tuple[str, ...] = ()) -> Evidence:
    base = example_evidence()
    findings = tuple(
        dataclasses.replace(f, interval=(0.8, 0.99), probability=0.95, threshold=0.1) if f.name in likely
        else dataclasses.replace(f, interval=(0.1, 0.2), probability=0.15, threshold=0.1) if f.name in possible
        else dataclasses.replace(f, interval=(0.02, 0.4), probability=0.08, threshold=0.1) if f.name in unsure
        else dataclasses.replace(f, interval=(0.0, 0.1), probability=0.02, threshold=0.1)
        for f in base.prediction.findings
    )  # fmt: skip
    return dataclasses.replace(base, prediction=dataclasses.replace(base.prediction, findings=findings))


@pytest.mark.parametrize(
    "evidence",
    [example_evidence(), normal_evidence(), with_states(likely=("Pneumothorax", "Hernia")),
     with_states(unsure=("Edema",))],
    ids=["example", "normal", "no maps for what is present", "unsure only"],
)  # fmt: skip
def test_teller_keeps_to_the_rules(evidence: Evidence) -> None:
    check_teller(tell, evidence, audiences=AUDIENCES)


@pytest.mark.parametrize("audience", AUDIENCES)
def test_stories_are_as_approved(audience: str) -> None:
    """Approve a wanted change with `python tests/gold/approve.py`, after reading the difference."""
    story = tell(example_evidence(), audience)
    assert as_lines(story) == (GOLD / f"{audience}.txt").read_text(encoding="utf-8")


def as_lines(story: Story) -> str:
    lines = [story.title]
    for section in story.sections:
        lines += ["", f"## {section.heading}", *(f"   figure: {figure}" for figure in section.figures)]
        for sentence in section.sentences:
            lines += [sentence.text, *(f"   {path}" for path in sentence.cites)]
    return "\n".join(lines) + "\n"


def test_a_story_from_the_archive_is_the_same(tmp_path: Path) -> None:
    back = read_archive(write_archive(example_evidence(), tmp_path / "study"))
    for audience in AUDIENCES:
        assert story_as_record(tell(back, audience)) == story_as_record(tell(example_evidence(), audience))


def test_unknown_audience_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'clinician'"):
        tell(example_evidence(), "clinican")
    with pytest.raises(UnknownNameError, match="known: de, en"):
        tell(example_evidence(), "patient", "eng")


def test_missing_values_are_left_out_not_invented() -> None:
    bare = as_record(normal_evidence())
    told = " ".join(text_of(tell(normal_evidence(), audience)) for audience in AUDIENCES)
    assert "None" not in told and "nan" not in told
    for word in ("Cardiothoracic", "Dice", "AUROC", "Grad-CAM", "mm", "F1"):
        assert not re.search(rf"\b{word}\b", told), word
    assert "no size is stated" not in told or bare["study"]["image"]["spacing_mm"] is None


def test_millimetres_only_with_spacing() -> None:
    base = example_evidence()
    with_mm, without = text_of(tell(base, "clinician")), text_of(
        tell(dataclasses.replace(base, image=dataclasses.replace(base.image, spacing_mm=None)), "clinician")
    )
    assert "93 by 93 mm" in with_mm
    assert "62 by 58 pixels" in without and "by 93 mm" not in without
    assert "no size is stated in millimetres" in without


def test_the_clinician_reads_what_is_asked_for() -> None:
    text = text_of(tell(example_evidence(), "clinician"))
    for part in (
        "no earlier one was compared", "Warning: the chest may be cut off", "AP view", "at the base can look like effusion",
        "What would change it", "90 % interval", "It was not made to find", "no person wrote or checked it",
        "is withheld", "Research use only", "can look like consolidation",
    ):  # fmt: skip
        assert part in text, part
    # No place is told of a finding whose every map was withheld.
    cardiac = next(s for s in tell(example_evidence(), "clinician").sections if s.heading == "Cardiomegaly")
    assert not any("lies on" in s.text or "box" in s.text for s in cardiac.sentences)
    order = [s.heading for s in tell(example_evidence(), "clinician").sections]
    assert order.index("Effusion") < order.index("Consolidation") < order.index("Cardiomegaly")


def test_the_patient_reads_plain_calm_words() -> None:
    everything = with_states(likely=tuple(as_record(example_evidence())["findings"]))
    for evidence in (example_evidence(), normal_evidence(), everything):
        text = text_of(tell(evidence, "patient"))
        assert flesch_kincaid_grade(text) <= 6
        assert words_per_sentence(text) <= 15
        for word in ("abnormal", "clear", "normal", "die", "fatal", "threshold", "calibrated", "opacity"):
            assert not re.search(rf"\b{word}\b", text, re.IGNORECASE), word
        assert "emergency number" in text and text.count("?") == 4
    assert "About 8 in 10 people" in text_of(tell(example_evidence(), "patient"))
    figures = {f for s in tell(example_evidence(), "patient").sections for f in s.figures}
    assert figures == {"boxes/Effusion"}, "a frame only, no map of colours"


def test_hard_words_in_the_card_do_not_reach_the_patient() -> None:
    base = example_evidence()
    hard = ("bronchopulmonary sequestration", "lymphangioleiomyomatosis")
    model = dataclasses.replace(base.model, cannot_see=hard)
    text = text_of(tell(dataclasses.replace(base, model=model), "patient"))
    assert "sequestration" not in text and "things that it does not look for" in text


def test_a_story_too_hard_for_patients_is_refused() -> None:
    hard = "Radiographic opacification necessitates multidisciplinary evaluation."
    long = "We saw a lot of the one or two of the things we had to look at on it and so on and on. "
    for text, why in ((hard, "grade"), (long, "words on average")):
        story = Story("patient", "en", "t", (Section("h", (Sentence(text, ("a",)),)),), {})
        with pytest.raises(EvidenceError, match=why):
            check_readability(story)


def test_the_auditor_reads_what_failed_and_no_claim_of_a_duty() -> None:
    text = text_of(tell(example_evidence(), "auditor"))
    assert "no claim that a duty under Article 86" in text
    assert "concerns: Grad-CAM of Cardiomegaly; LIME of Consolidation." in text
    assert "Failed “inside the lungs”: Grad-CAM of Cardiomegaly; LIME of Consolidation." in text
    assert "Lung outlines: Dice 0.957" in text and "Generated report: finding F1 0.71, beside 0.38" in text
    assert "Checks failed: 2." in text
    assert example_evidence().image.sha256 in text


def test_every_template_is_used_and_cites() -> None:
    """A template that no story can say is dead wording; one without a citation could never be printed."""
    words = load_words("en")
    source = "".join(p.read_text(encoding="utf-8") for p in sorted(Path(tell.__code__.co_filename).parent.rglob("*.py")))
    indexed = {f"patient.{stem}_" for stem in ("next", "help", "ask", "back")}
    indexed |= {f"clinician.{stem}_" for stem in ("verdict", "also", "more", "report_line", "report_said", "smallest", "again")}
    indexed |= {"practitioner.beside_", "practitioner.smallest_", "practitioner.learned_", "practitioner.near"}
    indexed |= {"clinician.learned_", "clinician.near", "clinician.only_synthetic", "patient.only_synthetic"}
    indexed |= {"practitioner.gaps", "auditor.gaps"}
    parts = {"likely", "possible", "unlikely", "tell", "passed", "failed", "unasked", "score"}
    for audience in AUDIENCES:
        for key in words.file.templates[audience]:
            name = f"{audience}.{key}"
            direct = f'"{name}"' in source or f'"{key}"' in source
            built = any(name.startswith(stem) for stem in indexed) or key.rpartition("_")[2] in {*parts, "title"}
            assert direct or built, f"template {name} is never said"


def test_probabilities_at_the_ends_are_not_rounded_to_certainty() -> None:
    base = example_evidence()
    sure = Finding("Effusion", 0.9991, (0.998, 0.9997), 0.35)
    findings = (sure, *(f for f in base.prediction.findings if f.name != "Effusion"))
    evidence = dataclasses.replace(base, prediction=dataclasses.replace(base.prediction, findings=findings))
    assert "more than 99 in 100" in text_of(tell(evidence, "clinician"))
    assert "More than 9 in 10 people" in text_of(tell(evidence, "patient"))


def with_finding(finding: Finding, **model: object) -> Evidence:
    base = example_evidence()
    findings = tuple(finding if f.name == finding.name else f for f in base.prediction.findings)
    prediction = dataclasses.replace(base.prediction, findings=findings)
    return dataclasses.replace(base, prediction=prediction, model=dataclasses.replace(base.model, **model))


def section_of(story: Story, heading: str) -> Section:
    return next(s for s in story.sections if s.heading == heading)


def test_a_low_probability_is_never_read_as_likely() -> None:
    """A threshold of review far below one half marks findings that most such images lack: each reader is told so."""
    low = with_finding(Finding("Consolidation", 0.12, (0.11, 0.13), 0.10))
    text = text_of(tell(low, "clinician"))
    assert "Also possible: consolidation in the left mid zone (12 in 100)." in text and "so more lack it than show it" in text
    assert "For this sign it is about 1 in 10." in text_of(tell(low, "patient"))
    alone = with_states(possible=("Infiltration",))
    verdict = "Worth a second look: possible infiltration (about 15 in 100 such images have it)."
    assert verdict in text_of(tell(alone, "clinician"))
    assert "About 2 in 10 people with such a result have it, so most do not." in text_of(tell(alone, "patient"))


def with_what_if(finding: Finding, after: float) -> str:
    """The clinician's section on `finding` when hiding a lung brings its probability to `after`."""
    base = with_finding(finding)
    hidden = (Counterfactual(finding.name, "left_lung", "blur", after, after - finding.probability),)
    story = tell(dataclasses.replace(base, counterfactuals=hidden), "clinician")
    return " ".join(s.text for s in section_of(story, finding.name).sentences)


def test_numbers_that_are_compared_never_print_alike() -> None:
    """ "To 0.06, below the threshold" beside a threshold of 0.06 reads as false: the digits grow until it reads as true."""
    low = Finding("Consolidation", 0.12, (0.07, 0.19), 0.0621)
    assert "falls from 0.120 to 0.058, below the threshold of 0.062." in with_what_if(low, 0.0584)
    assert "falls from 0.1200 to 0.0618, below the threshold of 0.0621." in with_what_if(low, 0.06183)
    assert "falls from 0.12 to 0.04, below the threshold of 0.06." in with_what_if(low, 0.04)
    assert "the probability of consolidation stays near 0.12." in with_what_if(low, 0.1214)
    edge = Finding("Consolidation", 0.12, (0.0624, 0.19), 0.0621)
    assert "(probability 0.1200, 90 % interval 0.0624 to 0.1900, threshold 0.0621)." in with_what_if(edge, 0.01)
    on_it = Finding("Consolidation", 0.12, (0.0621, 0.19), 0.0621)
    assert "interval 0.06 to 0.19, threshold 0.06)." in with_what_if(on_it, 0.01), "equal numbers may print alike"


def test_only_what_crosses_the_threshold_is_said_to_change_the_answer() -> None:
    finding = Finding("Consolidation", 0.61, (0.47, 0.72), 0.31)
    assert "What would change it" not in with_what_if(finding, 0.50)
    assert "hidden (replaced by a blurred copy), the probability of consolidation goes from 0.61 to 0.50." in (
        with_what_if(finding, 0.50)
    )
    crossing = Finding("Consolidation", 0.33, (0.32, 0.4), 0.31)
    assert "What would change it" in with_what_if(crossing, 0.30), "a small step over the threshold changes the answer"


def test_how_parts_are_hidden_is_said_once_of_a_finding() -> None:
    for language, filled in (("en", "(replaced by a blurred copy)"), ("de", "(durch eine unscharfe Kopie ersetzt)")):
        text = " ".join(s.text for s in tell(example_evidence(), "clinician", language).sections[1].sentences)
        assert text.count(filled) == 1 and ("hidden likewise" in text or "Wird ebenso" in text), text


@pytest.mark.parametrize(("finding", "told"), [("Nodule", "a nodule"), ("Effusion", "effusion"), ("Own_Spot", "own spot")])
def test_what_is_counted_has_its_article(finding: str, told: str) -> None:
    words = words_of(CHEST_RADIOGRAPH)
    assert words.finding(finding, "a") == told


def test_agreement_of_methods_and_its_limit_print_apart() -> None:
    base = example_evidence()
    checks = tuple(
        dataclasses.replace(c, value=0.2183, limit=0.2216, passed=False) if c.passed and c.name == "methods_agree" else c
        for c in base.checks
    )
    text = text_of(tell(dataclasses.replace(base, checks=checks), "clinician"))
    assert "No other method points to the same parts of the image as the Grad-CAM map" in text
    assert "of effusion (agreement 0.218, limit 0.222)." in text
    assert "The maps for effusion disagree on the place." in text


def test_sensitivity_from_few_cases_says_how_few() -> None:
    """Sensitivity measured on three images is not told as if it were measured on all 312."""
    figures = FindingFigures(sensitivity=0.0, specificity=0.96, n=312, positives=3, data="nih (unseen)")
    told = text_of(tell(with_finding(Finding("Effusion", 0.83, (0.74, 0.9), 0.35), per_finding={"Effusion": figures}),
                        "clinician"))  # fmt: skip
    assert "marked 0 % of 3 test images with" in told
    assert "So few images with effusion" in told and "(n = 312, NIH films, not trained on)" in told
    assert "So few images" not in text_of(tell(example_evidence(), "clinician"))


def test_a_box_that_is_not_drawn_is_not_spoken_of() -> None:
    base = example_evidence()
    hidden = tuple(dataclasses.replace(h, shown=False, withheld_because="the map is empty") for h in base.heatmaps)
    story = tell(dataclasses.replace(base, heatmaps=hidden), "clinician")
    effusion = section_of(story, "Effusion")
    text = " ".join(s.text for s in effusion.sentences)
    assert "boxed area" not in text and "the right lung" in text and "to 0.19, below the threshold" in text
    assert text.count("the map is empty") == 1 and "No map of effusion is shown and no place is stated" in text
    assert "No map for effusion passed its checks, so no place is named." in text_of(story)
    assert effusion.figures == ("gauge/Effusion",), "no empty frames"


def test_findings_beyond_the_named_stand_in_a_table() -> None:
    everything = tuple(as_record(example_evidence())["findings"])
    story = tell(with_states(likely=everything[:7]), "clinician")
    assert [s.heading for s in story.sections[1:6]] == sorted(everything[:7])[:5]
    assert story.sections[6].heading == "Other findings"
    assert "Of the others, 2 likely too (see the table)." in [one.text for one in story.sections[0].sentences]
    assert story.sections[6].figures == ("table/others",)


def test_a_side_is_told_only_where_the_film_shows_it() -> None:
    """A patient does not learn the left from the right of a film that may be mirrored; two sides are not "most of it"."""
    base = example_evidence()
    assert "on your right side" in text_of(tell(base, "patient"))
    doubt = gate_check("gate.mirrored", 0.9, 0.5, failed="gate_warned")
    assert "your right side" not in text_of(tell(dataclasses.replace(base, gate=(*base.gate, doubt)), "patient"))
    both = tuple(dataclasses.replace(c, value="bilateral") if c.name == "side" else c for c in base.concepts)
    text = text_of(tell(dataclasses.replace(base, concepts=both), "patient"))
    assert "both sides" not in text and "Most of it" not in text  # the clinician reads of a zone of one side
    spread = tuple(dataclasses.replace(c, value="right lower, left lower") if c.name == "zones" else c for c in both)
    text = text_of(tell(dataclasses.replace(base, concepts=spread), "patient"))
    assert "It seems to be on both sides." in text and "Most of it" not in text


def mirrored_evidence() -> Evidence:
    base = example_evidence()
    doubt = gate_check("gate.mirrored", 0.9, 0.5, failed="gate_warned")
    return dataclasses.replace(base, gate=(*base.gate, doubt))


def test_no_reader_takes_the_sides_of_a_mirrored_film_for_certain() -> None:
    told = {audience: text_of(tell(mirrored_evidence(), audience)) for audience in AUDIENCES}
    assert "on the right, mainly in the right lower zone. The side of effusion is in doubt" in told["clinician"]
    first = tell(mirrored_evidence(), "clinician").sections[0].sentences[0].text
    assert first.startswith("Probably abnormal: likely effusion (about 83"), "no place in the bottom line"
    for audience in ("clinician", "practitioner", "auditor"):
        assert "Warning: the picture may be mirrored (" in told[audience], audience
    plain = {audience: text_of(tell(example_evidence(), audience)) for audience in AUDIENCES}
    assert "in doubt" not in " ".join(plain.values())


def test_a_box_falls_with_the_grad_cam_map_that_it_rests_on() -> None:
    """A box of evidence that lies off the lungs is neither spoken of nor framed, though LIME's map is shown."""
    base = example_evidence()
    maps = tuple(
        dataclasses.replace(h, shown=False, withheld_because="the map lies off the lungs")
        if (h.finding, h.method) == ("Effusion", "grad_cam") else h
        for h in base.heatmaps
    )  # fmt: skip
    changed = dataclasses.replace(base, heatmaps=maps)
    effusion = section_of(tell(changed, "clinician"), "Effusion")
    text = " ".join(s.text for s in effusion.sentences)
    assert "map/Effusion/lime" in effusion.figures and "box" not in text
    patient = tell(changed, "patient")
    assert "boxes/Effusion" not in {f for s in patient.sections for f in s.figures}
    assert "strongest box" in " ".join(s.text for s in section_of(tell(base, "clinician"), "Effusion").sentences)


def test_several_zones_are_told_as_zones() -> None:
    base = example_evidence()
    zones = tuple(
        dataclasses.replace(c, value="right mid, right lower") if (c.name, c.finding) == ("zones", "Effusion") else c
        for c in base.concepts
    )
    told = text_of(tell(dataclasses.replace(base, concepts=zones), "clinician"))
    assert "mainly in the right mid and lower zones." in told and "in the left mid zone." in told


@pytest.mark.parametrize(
    ("recorded", "english", "german"),
    [
        ("right lower", "the right lower zone", "im rechten Unterfeld"),
        ("left lower, right lower", "both lower zones", "in beiden Unterfeldern"),
        ("right lower, left lower", "both lower zones", "in beiden Unterfeldern"),
        ("left mid, left lower", "the left mid and lower zones", "im linken Mittel- und Unterfeld"),
        ("left upper, right lower", "the left upper and right lower zones", "im linken Oberfeld und im rechten Unterfeld"),
        ("left mid, right lower, left lower", "the left mid zone and both lower zones",
         "im linken Mittelfeld und in beiden Unterfeldern"),
        ("right lower, left lower, right mid, left mid", "both mid and lower zones", "in beiden Mittel- und Unterfeldern"),
    ],
)  # fmt: skip
def test_zones_are_told_as_a_colleague_tells_them_and_read_back(recorded: str, english: str, german: str) -> None:
    record = as_record(example_evidence())
    for code, said in (("en", english), ("de", german)):
        assert load_words(code).printed(recorded, "zones") == said
        lexicon = Lexicon.of(code, record)
        assert prints(said, recorded, "zones", lexicon)
        zones = set(recorded.split(", "))
        for other in ({"right upper", *zones}, zones - {min(zones)} or {"left upper"}, {"left upper", "right upper"}):
            if other != zones:
                assert not prints(said, ", ".join(sorted(other)), "zones", lexicon)


def test_what_was_never_measured_is_named() -> None:
    for audience in ("practitioner", "auditor"):
        text = text_of(tell(example_evidence(), audience))
        assert "holds no figures on: maps of the student beside its teacher's; faithfulness of the maps" in text
        assert "scores of the student" not in text and "subgroups by" not in text, "the example has them"
    text = text_of(tell(normal_evidence(), "auditor"))
    assert "subgroups by sex, age and view" in text and "stand apart in a table" not in text
    assert "strongest point" not in text_of(tell(normal_evidence(), "practitioner"))


def test_the_patient_is_told_in_plain_words_what_was_not_looked_for() -> None:
    base = example_evidence()
    names = ["rib and clavicle fractures", "free air under the diaphragm", "anything on a lateral view"]
    text = text_of(tell(dataclasses.replace(base, model=dataclasses.replace(base.model, cannot_see=tuple(names))), "patient"))
    assert "It does not look for broken bones or air in the belly." in text


def test_languages_are_data() -> None:
    words = load_words("en", as_record(example_evidence()))
    assert words.printed("nih (unseen)", "data") == "NIH films, not trained on"
    assert words.printed("my own (films)", "data") == "my own (films)"
    assert msgspec.json.encode(words.file)
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert [words.printed(v, "number") for v in (0.0, 3.0, 1200, 0.0312, -0.273, 12.34, 1e-30)] == [
        "0", "3", "1,200", "0.0312", "-0.273", "12.3", "0.00"
    ]  # fmt: skip


def test_a_column_that_is_named_in_german_is_named_in_english() -> None:
    """ "limits" stood under its key, in small letters, beside "Licence"."""
    assert labels_of("de").columns.keys() <= labels_of("en").columns.keys()


def test_numbers_say_nothing_twice_and_no_small_share_is_none() -> None:
    english, german = load_words("en"), load_words("de")
    said = {(0.9951, 0.9999): "above 0.99", (0.0002, 0.004): "below 0.01", (0.1512, 0.1541): "0.15 to 0.15"}
    assert {ends: english.printed(list(ends), "interval") for ends in said} == said
    assert [german.printed([low, 0.999], "interval") for low in (0.996, 0.99)] == ["über 0,99", "0,99 bis über 0,99"]
    assert [english.printed(share, "percent") for share in (0.0, 0.0039, 0.005, 0.006)] == ["0 %", "0.4 %", "0.5 %", "1 %"]


def test_an_interval_that_lies_above_its_end_is_read_back_and_another_is_not() -> None:
    base = example_evidence()
    findings = tuple(dataclasses.replace(one, probability=0.998, interval=(0.9951, 0.9999)) if one.name == "Effusion" else one
                     for one in base.prediction.findings)  # fmt: skip
    sure = dataclasses.replace(base, prediction=dataclasses.replace(base.prediction, findings=findings))
    page = render_html(tell(sure, "clinician"), sure)
    assert b"90 % interval above 0.99, threshold" in page and check_page(page, sure).problems == ()
    assert check_page(page.replace(b"90 % interval above 0.99", b"90 % interval 0.99"), sure).problems


def test_the_smallest_change_is_told_with_its_direction_and_where_none_was_found() -> None:
    base = example_evidence()
    told = [s.text for section in tell(base, "clinician").sections for s in section.sentences]
    (found,) = [text for text in told if text.startswith("Smallest change")]
    assert "with 3 of 60 parts of the image hidden (6 % of it" in found and "from 0.83 to 0.41, below 0.50" in found
    assert any("of consolidation" in text or "turn consolidation" in text for text in told if "within 500 tries" in text)
    rising = SmallestChange("Effusion", "blur", 0.9, 60, 61, True, 1, 0.02, 0.91)
    told = [s.text for section in tell(dataclasses.replace(base, smallest_changes=(rising,)), "practitioner").sections
            for s in section.sentences]
    assert any("rises from 0.83 to 0.91, above 0.90 (61 passes)" in text for text in told)
    assert "Every smaller set was tried: Effusion." in told


def test_concepts_are_told_with_numbers_to_the_practitioner_and_in_words_to_the_clinician() -> None:
    told = {audience: [s.text for section in tell(example_evidence(), audience).sections for s in section.sentences]
            for audience in AUDIENCES}  # fmt: skip
    assert "The model's effusion rests on: fluid level (+0.41 logits, 0.82 of images, p 0.01)." in told["practitioner"]
    chance = "No more than chance for effusion: lines and devices (0.49 of images, random sets 0.20 to 0.80)."
    assert chance in told["practitioner"]
    assert "On this image the logit of effusion grows along: fluid level." in told["practitioner"]
    assert "Tested on other images, this model's answer on effusion rests most on: fluid level." in told["clinician"]
    assert not any("dense focus" in text for text in told["clinician"]), "what the features do not see is no clinician's matter"
    assert not any("fluid level" in text for text in told["patient"])
    assert any("results recorded here: 3" in text for text in told["auditor"])


def test_the_most_similar_images_are_told_as_counts_beside_how_often_all_have_it() -> None:
    told = {audience: [s.text for section in tell(example_evidence(), audience).sections for s in section.sentences]
            for audience in AUDIENCES}  # fmt: skip
    near = "Of the 20 most similar training images, 14 had effusion, against about 12 in 100 in all."
    assert near in told["clinician"] and near in told["practitioner"]
    part = "Of the 20 most similar training images it is stated of 17; 3 of these had consolidation, against about 5 in 100"
    assert f"{part} in all." in told["clinician"]
    assert not any("similar" in text for text in told["patient"])
    assert any("To the mean image with effusion the similarity is +0.58" in text for text in told["practitioner"])
    assert sum("most similar training images" in text for text in told["clinician"]) == 2, "what nobody knows is not said"


def test_a_record_that_lacks_a_field_is_refused_and_no_sentence_is_left_out_for_it() -> None:
    record = as_record(example_evidence())
    record["doubtz"] = record.pop("doubts")
    with pytest.raises(ArchiveError, match="doubts"):
        Teller(record, load_words("en", record)).told()


def test_no_method_is_named_that_drew_no_map() -> None:
    """ "Grad-CAM and LIME agree" stood on pages of occlusion and saliency."""
    base = example_evidence()
    renamed = {"grad_cam": "occlusion", "lime": "saliency"}
    told = dataclasses.replace(
        base, checks=tuple(dataclasses.replace(c, method=renamed.get(c.method, c.method)) for c in base.checks),
        heatmaps=tuple(dataclasses.replace(h, method=renamed[h.method]) for h in base.heatmaps),
    )
    for language, said in (("en", "The occlusion map of effusion and that of another method point"), ("de", "-Karte des")):
        lines = [one.text for part in tell(told, "clinician", language).sections for one in part.sentences]
        assert any(said in line for line in lines)
        assert not [line for line in lines if "Grad-CAM" in line or "LIME" in line]


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_method_bears_the_name_that_its_field_gives_it(language: str) -> None:
    """ "The layer cam map" stood on pages, and "layer_cam" above the map."""
    words, labels = words_of(CHEST_RADIOGRAPH, language), labels_of(language)
    for key in known_methods():
        assert key in METHOD_NAMES and key in labels.methods and key in words.file.tables["method"], key
        assert METHOD_NAMES[key].casefold() == labels_of("en").methods[key].casefold()
