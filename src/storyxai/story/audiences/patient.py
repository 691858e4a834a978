"""The patient's story: plain words, natural frequencies, no alarm, what to do next, and when to seek help at once."""

from __future__ import annotations

from collections.abc import Iterable

from storyxai.errors import EvidenceError
from storyxai.evidence.record import figure_name
from storyxai.story.readability import words_per_sentence
from storyxai.story.words import Teller, load_words
from storyxai.types import Section, Sentence, Story

__all__ = ["GRADE_REFUSED", "WORDS_REFUSED", "check_readability", "patient_sections"]

GRADE_REFUSED, WORDS_REFUSED = 8.0, 15.0
FEWER_THAN_HALF = 0.45
"""Below it "about 4 in 10" or fewer is printed, and most people with such a result do not have the finding."""
MOST_SIGNS = 2
"""Signs that are told one by one; a page with more of them is a list of doubts."""


def patient_sections(t: Teller) -> tuple[Section, ...]:
    """The sections of the patient's story."""
    said = t.words.heading
    looked = [t.say(f"patient.{key}") for key in ("looked", "no_old", "tool")]
    if failed := [f"gate.{name}.passed" for name, check in t.facts.gate.items() if check.passed is False]:
        looked.append(t.say("patient.gate", cites=failed))
    sections = t.section(said("patient.what"), [*looked, *_lacks(t)])
    sections += t.section(said("patient.found"), _found(t), figures=_picture(t))
    meaning = [t.say("patient.mean_1"), t.say("patient.mean_2"), _limits(t)]
    sections += t.section(said("patient.meaning"), meaning)
    for part, count in (("next", 2), ("help", 2), ("ask", 3), ("back", 1)):
        sections += t.section(said(f"patient.{part}"), [t.say(f"patient.{part}_{i}") for i in range(1, count + 1)])
    return tuple(sections)


def _signs(t: Teller) -> list[str]:
    """The named findings that the model does not leave open."""
    return [name for name in t.told() if t.tier(name) in ("likely", "possible")]


def _found(t: Teller) -> list[list[Sentence]]:
    signs, findings = _signs(t), t.facts.findings
    unsure = [f"findings.{name}.tier" for name in t.findings_of("cannot_tell")]
    if len(unsure) == len(findings):
        return [t.say("patient.cannot_all", cites=unsure)]
    lines = [line for index, name in enumerate(signs[:MOST_SIGNS]) for line in _sign(t, name, first=index == 0)]
    if more := signs[MOST_SIGNS:]:
        lines.append(t.say("patient.more", cites=[f"findings.{name}.probability" for name in more]))
    if signs:
        return [*lines, t.say("patient.also_look", {"F": signs[0]})]
    absent = [f"findings.{name}.tier" for name in t.findings_of("unlikely")]
    lines.append(t.say("patient.none_sure") if unsure else t.say("patient.none", cites=absent))
    if unsure:
        lines.append(t.say("patient.cannot", cites=unsure))
    return [*lines, t.say("patient.proof")]


def _sign(t: Teller, name: str, *, first: bool) -> list[list[Sentence]]:
    """What may be there, where, and how often that is right."""
    names, path = {"F": name}, f"findings.{name}.probability"
    lines = [t.say(f"patient.{t.tier(name)}", names)]
    # A place is told only where a map passed its checks, and where the finding has one.
    # On a film that may be mirrored the side may be the wrong one.
    if t.maps(name, shown=True) and t.value(f"terms.{name}.focal") and not t.side_doubts() and first:
        both = t.value(f"concepts.{name}.side.value") == "bilateral"
        # "On both sides" would contradict a clinician who reads of zones of one side alone.
        zones = str(t.value(f"concepts.{name}.zones.value") or "").split(", ")
        if not both or len({zone.split(" ")[0] for zone in zones}) != 1 or zones == [""]:
            lines.append(t.say("patient.place_both" if both else "patient.place", names))
    if t.calibrated:
        key = "again" if not first else "sure_few" if t.value(path) < FEWER_THAN_HALF else "sure"
        lines.append(t.say(f"patient.{key}", names))
    return lines


def _picture(t: Teller) -> tuple[str, ...]:
    """The picture that a page may show when it is released with one: a frame where the first sign has one."""
    framed = [name for name in _signs(t)[:1] if t.box_told(name)]
    return tuple(figure_name("boxes", name) for name in framed) or ("image",)


def _lacks(t: Teller) -> list[list[Sentence]]:
    """What is not known of the model, as far as it matters to a patient."""
    told = [gap for gap in t.facts.gaps if gap in t.words.file.templates["lay_gap"]]
    return [t.say(f"lay_gap.{gap}") for gap in told]


def _limits(t: Teller) -> list[Sentence]:
    """What the model was not made to find, named where the names are plain enough and few."""
    plain = t.words.file.tables["lay_limit"]
    # A card is English: what nobody translated is left out in other languages.
    own = t.words.language == "en"
    names = [plain.get(name, name if own else "") for name in t.value("model.cannot_see") or ()]
    listed = t.words.either(list(dict.fromkeys(name for name in names if name))[:MOST_LIMITS])
    named = t.say("patient.limit", slots={"names": listed}) if listed else []
    if named and (t.words.grade(named[0].text) or 0) <= GRADE_REFUSED:
        return named
    return t.say("patient.limit_plain") if t.value("model.cannot_see") else []


MOST_LIMITS = 2
"""Things that the model does not look for, of which a patient reads."""


def check_readability(
    story: Story, quoted: Iterable[str] = (), *, grade: float | None = GRADE_REFUSED, words: float | None = WORDS_REFUSED
) -> None:
    """Nothing, when the story is plain enough; names that are `quoted` from outside are not counted, None is not asked.

    Nor is a grade in a language whose file names no measure of one.

    Raises: EvidenceError naming its grade or its sentences' length.
    """
    text = " ".join(s.text for section in story.sections for s in section.sentences)
    for name in sorted(quoted, key=len, reverse=True):
        text = text.replace(name, "it")
    reached, length = load_words(story.language).grade(text), words_per_sentence(text)
    if grade is not None and reached is not None and reached > grade:
        raise EvidenceError(f"the {story.audience}'s story asks for school grade {reached:.1f}, above {grade:.0f}")
    if words is not None and length > words:
        raise EvidenceError(f"the {story.audience}'s sentences have {length:.1f} words on average, above {words:.0f}")
