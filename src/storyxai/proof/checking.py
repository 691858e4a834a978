"""A study's pages, read back and held against the evidence and against one another: what is invented, missing, altered."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from storyxai.errors import CitationError, StoryxaiError
from storyxai.evidence.paths import resolve
from storyxai.evidence.record import as_record
from storyxai.proof.judging import problems_of, tier_said, tiers_cited
from storyxai.proof.lexicon import Lexicon, find_phrases, words_of
from storyxai.proof.page import Page, read_page
from storyxai.proof.pictures import picture_problems
from storyxai.proof.printing import prints_cell
from storyxai.proof.required import dropped
from storyxai.proof.surroundings import surrounding_problems
from storyxai.proof.templates import Form, Reading, forms_of, readings
from storyxai.types import Evidence, Release


@dataclass
class Facts:
    """What a page says: the tiers of findings, and the sides that it puts them on."""

    tiers: dict[str, set[str]] = field(default_factory=dict)
    sides: dict[str, set[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Reader:
    """What is known of a page's reader beside the language's file.

    `sentences` are templates of a reader of one's own, `texts` its title and headings. `is_known` is False where somebody's
    code words the story: what no template explains is then left to the check of citations. `release` is the one in force,
    `reworded` what was told, by the text that a language model put in its place and that was found to say the same.
    """

    sentences: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    is_known: bool = True
    release: Release | None = None
    reworded: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Proof:
    """What was found on one page: how many sentences were read back, what they say, and what is wrong."""

    page: Page
    facts: Facts
    problems: tuple[str, ...]


def check_page(data: bytes, evidence: Evidence, reader: Reader | None = None) -> Proof:
    """What a rendered page says, and what of it the evidence does not hold, one line each."""
    return check_read(read_page(data), evidence, reader)


def check_read(page: Page, evidence: Evidence, reader: Reader | None = None) -> Proof:
    """As `check_page`, of a page of any form that was read back."""
    reader = reader or Reader()
    try:
        lexicon = _lexicon(page.language, evidence)
    except StoryxaiError as error:
        return Proof(page, Facts(), (str(error),))
    facts, problems = Facts(), []
    forms = _ordered(forms_of(lexicon), page.audience, reader.sentences)
    cited: set[str] = set()
    keys: set[str] = set()
    for said in page.said:
        cites = page.cites(said)
        cited.update(cites)
        best, found = _judged(reader.reworded.get(said.text, said.text), cites, forms, lexicon)
        problems += [f"“{said.text}” {problem}" for problem in found if best is not None or not cites or reader.is_known]
        if best is not None:
            keys.add(best.form.key)
            _collect(best, cites, lexicon, facts)
    if reader.reworded and not any(key.startswith("rewording.") for key in keys):
        problems.append("does not say that a language model reworded it")
    problems += dropped(page.audience, cited, keys, lexicon)
    problems += _note_problems(page, lexicon)
    problems += surrounding_problems(page, lexicon, reader.release, reader.texts if reader.is_known else None)
    problems += picture_problems(page, evidence, lexicon)
    return Proof(page, facts, tuple(dict.fromkeys(problems)))


_lexicons: WeakKeyDictionary[Evidence, dict[str, Lexicon]] = WeakKeyDictionary()
"""All pages of a study are read with the same words: they are made once, and forgotten with the evidence."""


def _lexicon(language: str, evidence: Evidence) -> Lexicon:
    """The words of `language` for the evidence. Raises: as `Lexicon.of`."""
    known = _lexicons.setdefault(evidence, {})
    if language not in known:
        known[language] = Lexicon.of(language, as_record(evidence))
    return known[language]


def contradictions(proofs: Iterable[Proof]) -> list[str]:
    """One line for each finding that pages, or one of them by itself, put in different tiers or on different sides."""
    lines = []
    for kind in ("tiers", "sides"):
        said: dict[str, dict[str, list[str]]] = {}
        for proof in proofs:
            for finding, values in getattr(proof.facts, kind).items():
                for value in sorted(values):
                    said.setdefault(finding, {}).setdefault(value, []).append(_named(proof.page))
        lines += [
            f"{finding}: " + ", ".join(f"{value.replace('_', ' ')} ({', '.join(by)})" for value, by in sorted(values.items()))
            for finding, values in sorted(said.items()) if len(values) > 1
        ]  # fmt: skip
    return lines


def _named(page: Page) -> str:
    return page.audience if page.language == "en" else f"{page.audience}, {page.language}"


def _ordered(forms: Sequence[Form], audience: str, own: Collection[str]) -> list[Form]:
    """The reader's own sentences first: another's of the same words may rest on less."""
    given = [Form(f"{audience}.own_{number}", text) for number, text in enumerate(own)]
    return [*given, *sorted(forms, key=lambda form: form.room != audience)]


def _judged(text: str, cites: Sequence[str], forms: Sequence[Form], lexicon: Lexicon) -> tuple[Reading | None, list[str]]:
    """The best reading of a sentence, and what is wrong with it."""
    if not cites:
        return None, ["cites no evidence"]
    tried = []
    for reading in readings(text, cites, forms, lexicon):
        problems = problems_of(reading, cites, lexicon)
        if not problems:
            return reading, []
        tried.append((reading, problems))
    # The form with most words of its own is the one that was meant; one without words fits any text.
    worded = [
        (len(words_of(reading.form.literal)), len(reading.form.paths), -len(problems), n)
        for n, (reading, problems) in enumerate(tried)
    ]
    if not worded or not max(worded)[0]:
        return None, ["is no sentence of this reader: it was added or altered"]
    return tried[max(worded)[-1]]


def _collect(reading: Reading, cites: Sequence[str], lexicon: Lexicon, facts: Facts) -> None:
    """What the sentence says of tiers and sides, as it is printed."""
    if tier := tier_said(reading, lexicon):
        named = {name for claim in reading.claims if claim.variable == "F" for name in [reading.names["F"]]}
        named |= {hit.what for claim in reading.claims if claim.slot == "names"
                  for hit in find_phrases(claim.text, lexicon.findings)}  # fmt: skip
        for finding in named or tiers_cited(cites):
            facts.tiers.setdefault(finding, set()).add(tier)
    for claim in reading.claims:
        if claim.path.endswith(".side.value"):
            finding = claim.path.split(".")[1]
            said = {hit.what for hit in find_phrases(claim.text, lexicon.file.sides)}
            facts.sides.setdefault(finding, set()).update(said)


def _note_problems(page: Page, lexicon: Lexicon) -> Iterator[str]:
    """What is wrong with the notes, and with every cell that says which value it prints."""
    for number, rows in sorted(page.notes.items()):
        for path, text in rows if page.form == ".html" else ():
            yield from (f"note {number}: {one}" for one in _cell_problems(path, text, lexicon))
    for path, value in page.values.items():
        yield from _value_problems(path, value, lexicon)
    for path, text in page.cells:
        yield from _cell_problems(path, text, lexicon)
    told = {said.note for said in page.said}
    yield from (f"“{said.text}” leads to no note" for said in page.said if said.note not in page.notes)
    yield from (f"note {number} belongs to no sentence" for number in sorted(set(page.notes) - told))
    if lexicon.digest not in page.other:
        yield f"does not say that it was told from the evidence {lexicon.digest[:12]}"


def _value_problems(path: str, value: Any, lexicon: Lexicon) -> Iterator[str]:
    try:
        meant = resolve(lexicon.record, path)
    except CitationError as error:
        yield str(error)
        return
    if value != meant:
        yield f"states {str(value)[:80]} where {path} is {str(meant)[:80]}"


def _cell_problems(path: str, text: str, lexicon: Lexicon) -> tuple[str, ...]:
    if (path, text) not in lexicon.cells:
        lexicon.cells[path, text] = tuple(_misprints(path, text, lexicon))
    return lexicon.cells[path, text]


def _misprints(path: str, text: str, lexicon: Lexicon) -> Iterator[str]:
    try:
        value = resolve(lexicon.record, path)
    except CitationError as error:
        yield str(error)
        return
    if not prints_cell(text, value, lexicon, path):
        yield f"prints “{text}” where {path} is {str(value)[:80]}"
