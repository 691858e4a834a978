"""Proof that stories state only what the evidence holds: citations, numbers, names, sides, tiers, maps and pages.

What is checked of a sentence: every citation resolves; every number is a printing of a cited value, or a count of what
is cited; every finding and side that it names is cited; a tier that it claims is the tier on record. Text from outside
(the question asked, a generated report, a card's limits) is quoted as it is: none of it counts as a claim of ours. What is
not checked is the meaning of the remaining words: these are fixed templates that people read and approve.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from storyxai.errors import CitationError, StoryxaiError
from storyxai.evidence.paths import figure_parts, finding_in, resolve
from storyxai.evidence.record import record_sha256, typed_record
from storyxai.evidence.schema import EvidenceRecord
from storyxai.evidence.story_record import story_from_record
from storyxai.html_tree import parse_html
from storyxai.story.words import Words, load_words
from storyxai.types import Sentence, Story

__all__ = ["check_page", "check_story", "claims", "contradictions", "resolve", "story_of_page"]

_BASES: Final = (10, 100, 1000)
_GROUPS: Final = "model.subgroups."
"""Paths below it hold the names of an attribute and a group, such as the ages from 18 to 39."""
SEAL: Final = re.compile(rb'(<meta name="storyxai-seal" content=")([0-9a-f]{64})(">)')
"""Where a page carries the SHA-256 of itself, taken with 64 zeros in this place."""


def check_story(story: Story, record: Mapping[str, object]) -> None:
    """Nothing, when the record backs every sentence and figure of the story. Raises: CitationError when it does not."""
    words, facts = load_words(story.language, record), typed_record(record)
    called = {finding: words.aliases(finding, term) for finding, term in facts.terms.items()}
    # Most sentences name no finding but those that they cite, which one search for all names at once says.
    names = _whole(*sorted(set().union(*called.values())))
    for section in story.sections:
        for sentence in section.sentences:
            _check_sentence(sentence, record, facts, words, called, names)
        for figure in section.figures:
            _check_figure(figure, record)
    told_from = story.provenance.get("evidence_sha256")
    if told_from is not None and told_from != record_sha256(record):
        raise CitationError(f"the {story.audience} story was told from other evidence (SHA-256 {told_from})")


def claims(story: Story) -> dict[str, set[str]]:
    """The tiers that the story's sentences claim of each finding."""
    words = load_words(story.language)
    claimed: dict[str, set[str]] = {}
    for section in story.sections:
        for sentence in section.sentences:
            findings = _tiers_cited(sentence)
            names = [called for one in findings for called in (one, one.replace("_", " "))]
            for tier in _tiers_said(sentence.text, names, words):
                for finding in findings:
                    claimed.setdefault(finding, set()).add(tier)
    return claimed


def contradictions(stories: Sequence[Story]) -> list[str]:
    """One line for each finding that the stories, or one of them by itself, put in different tiers."""
    said: dict[str, dict[str, list[str]]] = {}
    for story in stories:
        for finding, tiers in claims(story).items():
            for tier in sorted(tiers):
                said.setdefault(finding, {}).setdefault(tier, []).append(story.audience)
    return [
        f"{finding}: " + ", ".join(f"{tier} ({', '.join(by)})" for tier, by in sorted(tiers.items()))
        for finding, tiers in sorted(said.items())
        if len(tiers) > 1
    ]


def story_of_page(page: bytes) -> Story:
    """The story that a rendered page holds. Raises: CitationError when it holds none or more than one."""
    return _story_of(_shown(page))


def check_page(page: bytes, record: Mapping[str, object]) -> list[str]:
    """What is wrong with a rendered page, one line each; empty when it says what its story says and the record backs.

    The page's seal is checked, then its story against the record, then each sentence and table cell that a reader sees
    against the story and the record. Render the story again and compare bytes for what this cannot see (the pictures).
    """
    problems: list[str] = []
    sealed = SEAL.search(page)
    if sealed is None:
        problems.append("the page has no seal")
    elif hashlib.sha256(SEAL.sub(rb"\g<1>" + b"0" * 64 + rb"\g<3>", page)).hexdigest().encode() != sealed[2]:
        problems.append("the page was changed after it was written (its seal does not hold)")
    shown = _shown(page)
    try:
        story = _story_of(shown)
        words = load_words(story.language, record)
        check_story(story, record)
    except StoryxaiError as error:
        return [*problems, str(error)]
    told = [s.text for section in story.sections for s in section.sentences]
    if shown.sentences != told:
        seen, meant = Counter(shown.sentences), Counter(told)
        problems += [f"the page prints what its story does not say: “{text}”" for text in sorted(seen - meant)]
        problems += [f"the page leaves out what its story says: “{text}”" for text in sorted(meant - seen)]
        if seen == meant:
            problems.append("the page prints its story's sentences in another order")
    problems += [problem for path, text in shown.cells if (problem := _cell_problem(path, text, record, words))]
    return problems


def _check_sentence(
    sentence: Sentence, record: Mapping[str, object], facts: EvidenceRecord, words: Words, called: Mapping[str, set[str]],
    names: re.Pattern[str],
) -> None:
    """Nothing, where the record backs the sentence; `called` is what each finding is called in stories, `names` finds any."""
    if not sentence.cites:
        raise CitationError(f"“{sentence.text}” cites no evidence")
    quoted = _quoted(sentence, record, words)
    cited = {finding_in(path, facts.terms) for path in sentence.cites} - {""}
    named = [alias for finding in cited for alias in called[finding]]
    named += [name for path in sentence.cites if path.startswith(_GROUPS) for name in path.split(".")[2:4]]
    no_claims = [*quoted, *named, *words.file.fixed_phrases]
    rest = _cut(sentence.text, no_claims)
    _check_numbers(sentence, rest, [resolve(record, path) for path in sentence.cites], words)
    for side, spoken in words.file.sides.items():
        said = next((word for word in spoken if _holds(rest, word)), None)
        if said and not _cited_word((side, *spoken), sentence, quoted):
            raise CitationError(f"“{sentence.text}” names a side ({said}) that its citations do not")
    # The names of what is cited are cut, so that of a name within another the longer one is meant.
    for finding in facts.terms if names.search(rest) else ():
        # A finding called "other" or "a" is not meant wherever that word stands.
        meant = (alias for alias in called[finding] if _holds(rest, alias) and not words.is_ordinary(alias))
        if finding not in cited and next(meant, None) is not None:
            raise CitationError(f"“{sentence.text}” names {finding}, which it does not cite")
    _check_tier(sentence, _tiers_said(sentence.text, no_claims, words), facts)


def _check_tier(sentence: Sentence, said: set[str], facts: EvidenceRecord) -> None:
    cited = _tiers_cited(sentence)
    if said and not cited:
        raise CitationError(f"“{sentence.text}” claims a tier and cites none")
    if cited and len(said) != 1:
        raise CitationError(f"“{sentence.text}” cites a tier and does not claim exactly one")
    for finding in cited:
        tier = facts.findings[finding].tier
        if {tier} != said:
            raise CitationError(f"“{sentence.text}” claims {', '.join(said)}, but {finding} is {tier} on record")


def _quoted(sentence: Sentence, record: Mapping[str, object], words: Words) -> list[str]:
    """The texts that the sentence may hold, as the record has them or the language says them; a tier is a claim."""
    values = [(path, resolve(record, path)) for path in sentence.cites if not _tier_of(path)]
    told = (text for path, value in values for one in (value, words.spoken(path, value)) for text in _strings(one))
    return sorted({text for text in told if text.strip()})


def _cut(text: str, phrases: Iterable[str]) -> str:
    """`text` without the phrases, whatever their case, the longest first."""
    for phrase in sorted(set(phrases), key=lambda one: (-len(one), one)):
        text = _whole(phrase).sub(" … ", text)
    return text


def _holds(text: str, phrase: str) -> bool:
    return _whole(phrase).search(text) is not None


@lru_cache(maxsize=4096)
def _whole(*phrases: str) -> re.Pattern[str]:
    """Any of the phrases in any case, as no part of a longer word. Every sentence is held against the same few hundred."""
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, phrases))})(?!\w)", re.IGNORECASE)


@lru_cache(maxsize=8)
def _number_pattern(decimal: str, group: str) -> re.Pattern[str]:
    """A number as a language prints it: sign and digits, no part of a word or of a longer number."""
    point, comma = re.escape(decimal), re.escape(group)
    digits = rf"\d{{1,3}}(?:{comma}\d{{3}})+(?:{point}\d+)?|\d+(?:{point}\d+)?" if group else rf"\d+(?:{point}\d+)?"
    return re.compile(rf"(?<![\w{point}])(?P<sign>[-+−]?)(?P<digits>{digits})(?![\w]|{point}\d)")


def _numbers_in(text: str, words: Words) -> list[tuple[re.Match[str], str]]:
    """The numbers that `text` prints, each with its digits as a computer writes them."""
    marks = words.file.numbers
    found = _number_pattern(marks.decimal, marks.group).finditer(text)
    return [(m, m["digits"].replace(marks.group, "").replace(marks.decimal, ".")) for m in found]


def _check_numbers(sentence: Sentence, text: str, values: Iterable[Any], words: Words) -> None:
    """Raises CitationError when a number of `text` is neither a printing of a cited value nor a count of citations.

    After "below" and "above", in the language's words, a number is what a value lies below or above.
    """
    values, bounds = list(values), _bound_words(words)
    numbers = [n for value in values for n in _numbers(value)]
    counts = {len(value) for value in values if isinstance(value, list | Mapping)}
    counts |= {n for n in Counter(path.rsplit(".", 1)[-1] for path in sentence.cites).values() if n > 1}
    found = _numbers_in(text, words)
    said = {int(digits) for _, digits in found if digits.isdecimal()}
    for match, digits in found:
        sign = match["sign"]
        scale = 100 if text[match.end() :].lstrip().startswith("%") else 1
        bounded = bool(bounds) and text[: match.start()].rstrip().endswith(bounds)
        if any(_is_printing(sign, digits, scale * number, scale, bounded) for number in numbers):
            continue
        if not sign and digits.isdecimal() and (int(digits) in counts or _is_frequency(int(digits), said, numbers)):
            continue
        raise CitationError(f"“{sentence.text}” states {sign}{digits}, which none of its citations holds")


def _is_printing(sign: str, digits: str, number: float, scale: int, bounded: bool) -> bool:
    decimals = len(digits.partition(".")[2])
    # A probability is not "1" by rounding to whole numbers.
    if decimals == 0 and scale == 1 and number != int(number) and abs(number) < 10:
        return False
    if bounded:
        step = 10.0**-decimals
        number = step if 0 < number < step / 2 else 1 - step if 1 - step / 2 <= number < 1 else number
    return f"{abs(number):.{decimals}f}" == digits and (sign in ("-", "−")) == (number < 0)


def _bound_words(words: Words) -> tuple[str, ...]:
    told = (text.partition("{}")[0].strip() for text in (words.file.joins.below, words.file.joins.above))
    return tuple(word for word in told if word)


def _is_frequency(count: int, said: set[int], numbers: Iterable[float]) -> bool:
    """Whether `count` is k or N of a "k in N" that a cited share allows, N being 10, 100 or 1000."""
    for base in said & set(_BASES):
        for share in numbers:
            if 0 <= share <= 1:
                k = round(share * base)
                k = base - 1 if k == base and share < 1 else 1 if k == 0 and share > 0 else k
                if count == k or (count == base and k in said):
                    return True
    return False


def _check_figure(figure: str, record: Mapping[str, object]) -> None:
    kind, *names = figure_parts(figure)
    if kind in ("map", "withheld"):
        heatmap = resolve(record, f"heatmaps.{'.'.join(names)}")
        if heatmap["shown"] != (kind == "map"):
            why = "which was withheld" if kind == "map" else "which was not withheld"
            raise CitationError(f"figure '{figure}' stands for a map {why}")
    elif kind == "gauge":
        resolve(record, f"findings.{names[0]}.probability")
    elif kind == "boxes" and names:
        resolve(record, f"boxes.{names[0]}")
    elif kind not in ("image", "outlines", "boxes", "table", "plot", "code"):
        raise CitationError(f"figure '{figure}' is of no known kind")


def _tiers_said(text: str, names: Iterable[str], words: Words) -> set[str]:
    """The tiers that `text` claims. A finding called "likely benign" claims none by its name, and one called "score" takes
    nothing out of "a score below one half": of phrases that overlap the longest is meant."""
    claimed = {phrase: tier for tier, phrases in words.file.tier_phrases.items() for phrase in phrases}
    claimed |= dict.fromkeys(names, "")
    said = set()
    for phrase in sorted(claimed, key=lambda one: (-len(one), one)):
        text, count = _whole(phrase).subn(" … ", text)
        said |= {claimed[phrase]} if count else set()
    return said - {""}


def _tier_of(path: str) -> str:
    """The finding whose tier stands at `path`, "" where another value does."""
    room, _, rest = path.partition(".")
    finding, _, leaf = rest.rpartition(".")
    return finding if room == "findings" and leaf == "tier" else ""


def _tiers_cited(sentence: Sentence) -> list[str]:
    return [finding for path in sentence.cites if (finding := _tier_of(path))]


def _cited_word(words: tuple[str, ...], sentence: Sentence, strings: Iterable[str]) -> bool:
    """Whether one of the words stands in a cited path or in a text that is cited."""
    spoken = {part for path in sentence.cites for part in re.split(r"[._ ]", path)}
    return any(word in spoken or any(_holds(text, word) for text in strings) for word in words)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value, value.rstrip("."), *([value[:12]] if re.fullmatch(r"[0-9a-f]{64}", value) else [])]
    return [s for item in value for s in _strings(item)] if isinstance(value, list) else []


def _numbers(value: Any) -> list[float]:
    if isinstance(value, bool):
        return []
    if isinstance(value, int | float):
        return [float(value)]
    return [n for item in value for n in _numbers(item)] if isinstance(value, list) else []


@dataclass(frozen=True)
class _Shown:
    """What a page shows: its sentences (class "s"), its cells (data-path), and the stories that it holds as JSON."""

    sentences: list[str]
    cells: list[tuple[str, str]]
    stories: list[str]


def _shown(page: bytes) -> _Shown:
    every = parse_html(page).elements
    sentences = [one for one in every if one.attributes.get("class") == "s"]
    cells = [one for one in every if "data-path" in one.attributes and one.attributes.get("class") != "s"]
    stories = [one for one in every if one.tag == "script" and one.attributes.get("id") == "storyxai-story"]
    return _Shown(
        [one.raw_text() for one in sentences], [(one.attributes["data-path"], one.raw_text()) for one in cells],
        [one.raw_text() for one in stories],
    )


def _story_of(shown: _Shown) -> Story:
    if len(shown.stories) != 1:
        raise CitationError(f"the page holds {len(shown.stories)} stories instead of one")
    try:
        return story_from_record(json.loads(shown.stories[0]))
    except (ValueError, KeyError, TypeError) as error:
        raise CitationError("the page's story cannot be read") from error


def _cell_problem(path: str, text: str, record: Mapping[str, object], words: Words) -> str:
    """"" or what is wrong with a table cell that claims to print the value at `path`."""
    try:
        value = resolve(record, path)
        said = words.spoken(path, value)
        _check_numbers(Sentence(text, (path,)), _without(text, [*_strings(value), *_strings(said)]), [value], words)
    except CitationError as error:
        return f"a table cell for {path}: {error}"
    if _numbers(value) and not _numbers_in(text, words):
        return f"a table cell for {path} prints “{text}” where the record holds a number"
    if _tier_of(path) and text == value.replace("_", " "):
        return ""
    if isinstance(said, str) and text not in (said, said[:12]) and not text.startswith(said):
        return f"a table cell for {path} prints “{text}” where the record holds “{said}”"
    return ""


def _without(text: str, strings: Iterable[str]) -> str:
    for string in sorted(strings, key=len, reverse=True):
        text = text.replace(string, " … ") if string else text
    return text
