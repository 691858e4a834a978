"""The patient's story: plain words, natural frequencies, no alarm, what to do next, and when to seek help at once."""

from __future__ import annotations

from collections.abc import Iterable

from storyxai.errors import EvidenceError
from storyxai.evidence.record import figure_name
from storyxai.story.readability import flesch_kincaid_grade, words_per_sentence
from storyxai.story.words import Teller
from storyxai.types import Section, Sentence, Story

__all__ = ["GRADE_REFUSED", "WORDS_REFUSED", "check_readability", "patient_sections"]

GRADE_REFUSED, WORDS_REFUSED = 8.0, 15.0
FEWER_THAN_HALF = 0.45
"""Below it "about 4 in 10" or fewer is printed, and most people with such a result do not have the finding."""


def patient_sections(t: Teller) -> tuple[Section, ...]:
    """The sections of the patient's story."""
    present, unsure = t.findings_by_state("present"), t.findings_by_state("indeterminate")
    absent = t.findings_by_state("absent")
    said = t.words.heading
    looked = [t.say(f"patient.{key}") for key in ("looked", "how", "looks_for", "no_old", "not_doctor", "we")]
    if failed := [f"gate.{name}.passed" for name, check in t.record["gate"].items() if check["passed"] is False]:
        looked.append(t.say("patient.gate", cites=failed))
    pictured = [name for name in present if t.box_told(name)]
    if not pictured:  # the film stands here; else beside the first finding that has a marked one
        looked.append(_sides(t))
    sections = t.section(said("patient.what"), looked, figures=() if pictured else ("image",))
    rare = [name for name in present if t.calibrated and t.value(f"findings.{name}.probability") < FEWER_THAN_HALF]
    for index, name in enumerate(present):
        # What holds for every sign, and what the two pictures are, is said once.
        once = {"first": index == 0, "first_rare": name in rare[:1], "first_picture": name in pictured[:1]}
        sections += _present(t, name, **once)
    states = [f"findings.{name}.state" for name in t.record["findings"]]
    if not present and states:
        sections += t.section(said("patient.found"), [t.say("patient.none", cites=["findings"])])
    if unsure:
        lines = [t.say("patient.indeterminate", {"F": name}) for name in unsure]
        why = t.say("patient.unsure_why", cites=[f"findings.{name}.interval" for name in unsure])
        sections += t.section(said("patient.unsure"), [*lines, why])
    if absent:
        lines = [t.say("patient.absent_line", {"F": name}) for name in absent]
        sections += t.section(said("patient.not_found"), [*lines, t.say("patient.absent_care")])
    sections += t.section(said("patient.meaning"), [t.say(f"patient.mean_{i}") for i in (1, 2, 3, 4)])
    limits = [t.say("patient.cannot_1"), _cannot_see(t), t.say("patient.cannot_3"), *_lacks(t)]
    sections += t.section(said("patient.cannot"), limits)
    sections += t.section(said("patient.next"), [t.say(f"patient.next_{i}") for i in (1, 2)])
    sections += t.section(said("patient.help"), [t.say(f"patient.help_{i}") for i in (1, 2, 3)])
    sections += t.section(said("patient.ask"), [t.say(f"patient.ask_{i}") for i in (1, 2, 3, 4)])
    sections += t.section(said("patient.back"), [t.say(f"patient.back_{i}") for i in (1, 2)])
    return tuple(sections)


def check_readability(
    story: Story, quoted: Iterable[str] = (), *, grade: float | None = GRADE_REFUSED, words: float | None = WORDS_REFUSED
) -> None:
    """Nothing, when the story is plain enough; names that are `quoted` from outside are not counted, None is not asked.

    Raises: EvidenceError naming its grade or its sentences' length.
    """
    text = " ".join(s.text for section in story.sections for s in section.sentences)
    for name in sorted(quoted, key=len, reverse=True):
        text = text.replace(name, "it")
    reached, length = flesch_kincaid_grade(text), words_per_sentence(text)
    if grade is not None and reached > grade:
        raise EvidenceError(f"the {story.audience}'s story asks for school grade {reached:.1f}, above {grade:.0f}")
    if words is not None and length > words:
        raise EvidenceError(f"the {story.audience}'s sentences have {length:.1f} words on average, above {words:.0f}")


def _present(t: Teller, name: str, *, first: bool, first_rare: bool, first_picture: bool) -> list[Section]:
    names = {"F": name}
    lines = [t.say("patient.present", names)]
    # A place is told only where a map passed its checks, and where the finding has one.
    # On a film that may be mirrored the side may be the wrong one.
    if t.maps(name, shown=True) and t.value(f"terms.{name}.focal") and not t.side_doubts():
        both = t.value(f"concepts.{name}.side.value") == "bilateral"
        lines.append(t.say("patient.place_both" if both else "patient.place", names))
    if t.calibrated:
        lines.append(t.say("patient.sure", names))
    if t.calibrated and t.value(f"findings.{name}.probability") < FEWER_THAN_HALF:
        lines.append(t.say("patient.most_not", names))
    if first_rare:
        lines.append(t.say("patient.most_not_why", names))
    if first:
        lines.append(t.say("patient.also_look", names))
    figures: tuple[str, ...] = ()
    if t.box_told(name):
        figures = (figure_name("boxes", name),)
        if first_picture:
            lines += [t.say("patient.marked"), t.say("patient.marked_box", names), _sides(t)]
    elif withheld := [f"heatmaps.{name}.{method}.shown" for method in t.maps(name, shown=False)]:
        lines.append(t.say("patient.no_picture", cites=withheld))
    heading = t.words.heading("patient.found" if first else "patient.found_also")
    lay = t.words.term(name, "lay", t.value(f"terms.{name}.lay"))
    return t.section(f"{heading}: {lay}", lines, figures=figures)


def _sides(t: Teller) -> list[Sentence]:
    """How left and right lie on the film, which no one knows of a film that may be mirrored."""
    doubts = t.side_doubts()
    return t.say("patient.sides_doubt", cites=doubts) if doubts else t.say("patient.sides")


def _lacks(t: Teller) -> list[list[Sentence]]:
    """What is not known of the model, as far as it matters to a patient."""
    told = [gap for gap in t.record["gaps"] if gap in t.words.data["lay_gap"]]
    return [t.say(f"lay_gap.{gap}") for gap in told]


def _cannot_see(t: Teller) -> list[Sentence]:
    """What the model was not made to find, named where the names are plain enough."""
    plain = t.words.data["tables"]["lay_limit"]
    names = [plain.get(name, name) for name in t.value("model.cannot_see") or ()]
    listed = t.words.listed(dict.fromkeys(name for name in names if name))
    named = t.say("patient.cannot_2", slots={"names": listed}) if listed else []
    if named and flesch_kincaid_grade(named[0].text) <= GRADE_REFUSED:
        return named
    return t.say("patient.cannot_2_plain") if t.value("model.cannot_see") else []
