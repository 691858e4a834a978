"""The patient's story: plain words, natural frequencies, no alarm, what to do next, and when to seek help at once."""

from __future__ import annotations

from collections.abc import Iterable

from storyxai.errors import EvidenceError
from storyxai.evidence.paths import figure_name
from storyxai.story.audiences.practitioner import only_synthetic
from storyxai.story.readability import words_per_sentence
from storyxai.story.teller import Teller
from storyxai.story.words import load_words
from storyxai.types import UNKNOWN_KIND, Section, Sentence, Story

GRADE_REFUSED, WORDS_REFUSED = 8.0, 15.0
FEWER_THAN_HALF = 0.45
"""Below it "about 4 in 10" or fewer is printed, and most people with such a result do not have the finding."""
MOST_WORDS = 233
"""Words of headings and sentences; with the captions of two pictures and the name of the fold, a page stays within 250."""
OURS = ("en", "de")
"""Languages in which a page must be short enough."""
MOST_SIGNS = 2
"""Signs that are told one by one; a page with more of them is a list of doubts."""


def patient_sections(t: Teller) -> tuple[Section, ...]:
    """The sections of the patient's story, short enough for one page.

    What is left out of one language's page for its length is left out of the others', so that they say the same.
    """
    others = [language for language in OURS if language != t.words.language]
    tellers = [t, *(Teller(t.record, load_words(language, t.record)) for language in others)]
    return _without(_sections(t), _spare(t)[: max(map(_surplus, tellers))])


def _sections(t: Teller) -> tuple[Section, ...]:
    """All that may be told."""
    said = t.words.heading
    looked = [t.say("patient.looked"), t.say("patient.no_old"), only_synthetic(t, "patient"), t.say("patient.tool")]
    if failed := [name for name, check in t.facts.gate.items() if check.passed is False]:
        key = "patient.gate_untaught" if set(failed) <= set(UNKNOWN_KIND) else "patient.gate"
        looked.append(t.say(key, cites=[f"gate.{name}.passed" for name in failed]))
    sections = t.section(said("patient.what"), [*looked, *_lacks(t)])
    sections += t.section(said("patient.found"), _found(t), figures=_picture(t))
    meaning = [t.say("patient.mean_1"), t.say("patient.mean_2"), _limits(t)]
    sections += t.section(said("patient.meaning"), meaning)
    for part, count in (("next", 2), ("help", 2), ("ask", 3), ("back", 1)):
        sections += t.section(said(f"patient.{part}"), [t.say(f"patient.{part}_{i}") for i in range(1, count + 1)])
    return tuple(sections)


def _surplus(t: Teller) -> int:
    """How many of the spare sentences must go for the rest to keep within `MOST_WORDS`; all, where that is not enough."""
    sections, spare = _sections(t), _spare(t)
    fits = (count for count in range(len(spare)) if sum(map(_words_of, _without(sections, spare[:count]))) <= MOST_WORDS)
    return next(fits, len(spare))


def _without(sections: tuple[Section, ...], spare: list[list[Sentence]]) -> tuple[Section, ...]:
    gone = {sentence for some in spare for sentence in some}
    return tuple(
        Section(one.heading, tuple(sentence for sentence in one.sentences if sentence not in gone), one.figures)
        for one in sections
    )


def _spare(t: Teller) -> list[list[Sentence]]:
    """Sentences that a long page can do without, the least important first: others beside them say as much."""
    signs = _signs(t)
    alike = [t.say("patient.also_look", {"F": name}) for name in signs[:1]]
    places = [said for name in signs[:1] for said in _placed(t, name)]
    return [*alike, _limits(t), *_lacks(t), *places, _more(t)]


def _words_of(section: Section) -> int:
    """The words of a section with its heading, numbers among them."""
    text = " ".join([section.heading, *(sentence.text for sentence in section.sentences)])
    return sum(any(letter.isalnum() for letter in word) for word in text.split())


def _signs(t: Teller) -> list[str]:
    """The named findings that the model does not leave open."""
    return [name for name in t.told() if t.tier(name) in ("likely", "possible")]


def _found(t: Teller) -> list[list[Sentence]]:
    signs, findings = _signs(t), t.facts.findings
    unsure = [f"findings.{name}.tier" for name in t.findings_of("cannot_tell")]
    if len(unsure) == len(findings):
        return [t.say("patient.cannot_all", cites=unsure)]
    lines = [line for index, name in enumerate(signs[:MOST_SIGNS]) for line in _sign(t, name, first=index == 0)]
    lines.append(_more(t))
    if signs:
        return [*lines, t.say("patient.also_look", {"F": signs[0]})]
    absent = [f"findings.{name}.tier" for name in t.findings_of("unlikely")]
    lines.append(t.say("patient.none_sure") if unsure else t.say("patient.none", cites=absent))
    if unsure:
        lines.append(t.say("patient.cannot", cites=unsure))
    return [*lines, t.say("patient.proof")]


def _more(t: Teller) -> list[Sentence]:
    """That more signs were marked than are told of; empty where there are none."""
    more = _signs(t)[MOST_SIGNS:]
    return t.say("patient.more", cites=[f"findings.{name}.probability" for name in more]) if more else []


def _sign(t: Teller, name: str, *, first: bool) -> list[list[Sentence]]:
    """What may be there, where, and how often that is right."""
    names, path = {"F": name}, f"findings.{name}.probability"
    lines = [t.say(f"patient.{t.tier(name)}", names)]
    if first:
        lines += _placed(t, name)
    if t.calibrated:
        key = "again" if not first else "sure_few" if t.value(path) < FEWER_THAN_HALF else "sure"
        lines.append(t.say(f"patient.{key}", names))
    return lines


def _placed(t: Teller, name: str) -> list[list[Sentence]]:
    """Where it may be: told where a map is not in doubt and the finding has a place, not of a film that may be mirrored."""
    if not t.placed(name) or not t.value(f"terms.{name}.focal") or t.side_doubts():
        return []
    both = t.value(f"concepts.{name}.side.value") == "bilateral"
    # "On both sides" would contradict a clinician who reads of zones of one side alone.
    zones = str(t.value(f"concepts.{name}.zones.value") or "").split(", ")
    if both and len({zone.split(" ")[0] for zone in zones}) == 1 and zones != [""]:
        return []
    return [t.say("patient.place_both" if both else "patient.place", {"F": name})]


def _picture(t: Teller) -> tuple[str, ...]:
    """The picture that a page may show when it is released with one: a frame where the first sign has one."""
    framed = [name for name in _signs(t)[:1] if t.box_told(name) and t.placed(name)]
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
