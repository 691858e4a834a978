"""Proof that stories state only what the evidence holds: citations, numbers, names, sides, states, maps and pages.

What is checked of a sentence: every citation resolves; every number is a printing of a cited value, or a count of what
is cited; every finding and side that it names is cited; a state that it claims is the state on record. What is not
checked is the meaning of the remaining words: these are fixed templates that people read and approve.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html.parser import HTMLParser
from typing import Any, Final

from storyxai.errors import CitationError, StoryxaiError
from storyxai.evidence.record import record_sha256, resolve, story_from_record
from storyxai.story.words import Words, load_words
from storyxai.types import Sentence, Story

__all__ = ["check_page", "check_story", "claims", "contradictions", "resolve", "story_of_page"]

_NUMBER = re.compile(r"(?<![\w.])(?P<sign>[-+−]?)(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?![\w]|\.\d)")
_BASES: Final = (10, 100, 1000)
SEAL: Final = re.compile(rb'(<meta name="storyxai-seal" content=")([0-9a-f]{64})(">)')
"""Where a page carries the SHA-256 of itself, taken with 64 zeros in this place."""


def check_story(story: Story, record: Mapping[str, Any]) -> None:
    """Nothing, when the record backs every sentence and figure of the story. Raises: CitationError when it does not."""
    words = load_words(story.language)
    for section in story.sections:
        for sentence in section.sentences:
            _check_sentence(sentence, record, words)
        for figure in section.figures:
            _check_figure(figure, record)
    told_from = story.provenance.get("evidence_sha256")
    if told_from is not None and told_from != record_sha256(record):
        raise CitationError(f"the {story.audience} story was told from other evidence (SHA-256 {told_from})")


def claims(story: Story) -> dict[str, set[str]]:
    """The states that the story's sentences claim of each finding."""
    words = load_words(story.language)
    claimed: dict[str, set[str]] = {}
    for section in story.sections:
        for sentence in section.sentences:
            for state in _states_said(sentence.text, words):
                for finding in _states_cited(sentence):
                    claimed.setdefault(finding, set()).add(state)
    return claimed


def contradictions(stories: Sequence[Story]) -> list[str]:
    """One line for each finding that the stories, or one of them by itself, put in different states."""
    said: dict[str, dict[str, list[str]]] = {}
    for story in stories:
        for finding, states in claims(story).items():
            for state in sorted(states):
                said.setdefault(finding, {}).setdefault(state, []).append(story.audience)
    return [
        f"{finding}: " + ", ".join(f"{state} ({', '.join(by)})" for state, by in sorted(states.items()))
        for finding, states in sorted(said.items())
        if len(states) > 1
    ]


def story_of_page(page: bytes) -> Story:
    """The story that a rendered page holds. Raises: CitationError when it holds none or more than one."""
    return _story_of(_read(page))


def check_page(page: bytes, record: Mapping[str, Any]) -> list[str]:
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
    reader = _read(page)
    try:
        story = _story_of(reader)
        check_story(story, record)
    except StoryxaiError as error:
        return [*problems, str(error)]
    told = [s.text for section in story.sections for s in section.sentences]
    if reader.sentences != told:
        seen, meant = Counter(reader.sentences), Counter(told)
        problems += [f"the page prints what its story does not say: “{text}”" for text in sorted(seen - meant)]
        problems += [f"the page leaves out what its story says: “{text}”" for text in sorted(meant - seen)]
        if seen == meant:
            problems.append("the page prints its story's sentences in another order")
    problems += [problem for path, text in reader.cells if (problem := _cell_problem(path, text, record))]
    return problems


def _check_sentence(sentence: Sentence, record: Mapping[str, Any], words: Words) -> None:
    if not sentence.cites:
        raise CitationError(f"“{sentence.text}” cites no evidence")
    values = [resolve(record, path) for path in sentence.cites]
    strings = sorted({s for value in values for s in _strings(value)}, key=len, reverse=True)
    rest = sentence.text
    for phrase in (*strings, *words.data["fixed_phrases"]):
        rest = re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", " … ", rest, flags=re.IGNORECASE) if phrase else rest
    _check_numbers(sentence, rest, values, bounds=_bound_words(words))
    for side in words.data["sides"]:
        if re.search(rf"\b{side}\b", rest, re.IGNORECASE) and not _cited_word(side, sentence, strings):
            raise CitationError(f"“{sentence.text}” names a side ({side}) that its citations do not")
    for finding, term in record["terms"].items():
        aliases = {finding.replace("_", " "), term["phrase"], term["lay"]}
        named = any(re.search(rf"\b{re.escape(alias)}\b", rest, re.IGNORECASE) for alias in aliases)
        if named and not any(finding in path.split(".") for path in sentence.cites):
            raise CitationError(f"“{sentence.text}” names {finding}, which it does not cite")
    said, cited = _states_said(sentence.text, words), _states_cited(sentence)
    if said and not cited:
        raise CitationError(f"“{sentence.text}” claims a state and cites none")
    if cited and len(said) != 1:
        raise CitationError(f"“{sentence.text}” cites a state and does not claim exactly one")
    for finding in cited:
        state = record["findings"][finding]["state"]
        if {state} != said:
            raise CitationError(f"“{sentence.text}” claims {', '.join(said)}, but {finding} is {state} on record")


def _check_numbers(sentence: Sentence, text: str, values: Iterable[Any], *, bounds: tuple[str, ...] = ()) -> None:
    """Raises CitationError when a number of `text` is neither a printing of a cited value nor a count of citations.

    `bounds` are the words ("below") after which a number is what a value lies below or above.
    """
    values = list(values)
    numbers = [n for value in values for n in _numbers(value)]
    counts = {len(value) for value in values if isinstance(value, list | Mapping)}
    counts |= {n for n in Counter(path.rsplit(".", 1)[-1] for path in sentence.cites).values() if n > 1}
    found = list(_NUMBER.finditer(text))
    said = {int(m["digits"]) for m in found if m["digits"].isdecimal()}
    for match in found:
        sign, digits = match["sign"], match["digits"].replace(",", "")
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
    return tuple(words.data["joins"][name].partition("{}")[0].strip() for name in ("below", "above"))


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


def _check_figure(figure: str, record: Mapping[str, Any]) -> None:
    kind, *names = figure.split("/")
    if kind in ("map", "withheld"):
        heatmap = resolve(record, f"heatmaps.{'.'.join(names)}")
        if heatmap["shown"] != (kind == "map"):
            why = "which was withheld" if kind == "map" else "which was not withheld"
            raise CitationError(f"figure '{figure}' stands for a map {why}: {heatmap['withheld_because']}".rstrip(": "))
    elif kind == "gauge":
        resolve(record, f"findings.{names[0]}.probability")
    elif kind == "boxes" and names:
        resolve(record, f"boxes.{names[0]}")
    elif kind not in ("image", "lungs", "boxes", "table"):
        raise CitationError(f"figure '{figure}' is of no known kind")


def _states_said(text: str, words: Words) -> set[str]:
    folded = text.casefold()
    return {state for state, phrases in words.data["state_phrases"].items() if any(p in folded for p in phrases)}


def _states_cited(sentence: Sentence) -> list[str]:
    parts = [path.split(".") for path in sentence.cites]
    return [part[1] for part in parts if len(part) == 3 and part[0] == "findings" and part[2] == "state"]


def _cited_word(word: str, sentence: Sentence, strings: Iterable[str]) -> bool:
    spoken = [path.replace("_", ".").replace(" ", ".").split(".") for path in sentence.cites]
    return any(word in parts for parts in spoken) or any(re.search(rf"\b{word}\b", s, re.I) for s in strings)


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


class _PageReader(HTMLParser):
    """Collects what a page shows: `sentences` (class "s"), `cells` (data-path), and `stories` (the embedded JSON)."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.sentences: list[str] = []
        self.cells: list[tuple[str, str]] = []
        self.stories: list[str] = []
        self._into: str = ""
        self._tag = ""
        self._path = ""
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "script" and given.get("id") == "storyxai-story":
            self._open("story", tag)
        elif given.get("class") == "s":
            self._open("sentence", tag)
        elif "data-path" in given:
            self._path = given["data-path"] or ""
            self._open("cell", tag)

    def handle_data(self, data: str) -> None:
        if self._into:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if not self._into or tag != self._tag:
            return
        text = "".join(self._text)
        if self._into == "story":
            self.stories.append(text)
        elif self._into == "sentence":
            self.sentences.append(text)
        else:
            self.cells.append((self._path, text))
        self._into = ""

    def _open(self, into: str, tag: str) -> None:
        self._into, self._tag, self._text = into, tag, []


def _read(page: bytes) -> _PageReader:
    reader = _PageReader()
    reader.feed(page.decode("utf-8", errors="replace"))
    reader.close()
    return reader


def _story_of(reader: _PageReader) -> Story:
    if len(reader.stories) != 1:
        raise CitationError(f"the page holds {len(reader.stories)} stories instead of one")
    try:
        return story_from_record(json.loads(reader.stories[0]))
    except (ValueError, KeyError, TypeError) as error:
        raise CitationError("the page's story cannot be read") from error


def _cell_problem(path: str, text: str, record: Mapping[str, Any]) -> str:
    """"" or what is wrong with a table cell that claims to print the value at `path`."""
    try:
        value = resolve(record, path)
        _check_numbers(Sentence(text, (path,)), _without(text, _strings(value)), [value])
    except CitationError as error:
        return f"a table cell for {path}: {error}"
    if _numbers(value) and not _NUMBER.search(text):
        return f"a table cell for {path} prints “{text}” where the record holds a number"
    if isinstance(value, str) and text not in (value, value[:12]) and not text.startswith(value):
        return f"a table cell for {path} prints “{text}” where the record holds “{value}”"
    return ""


def _without(text: str, strings: Iterable[str]) -> str:
    for string in sorted(strings, key=len, reverse=True):
        text = text.replace(string, " … ") if string else text
    return text
