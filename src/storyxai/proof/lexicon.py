"""A language's words as a checker needs them: names, tiers, sides, zones and numbers, read from its catalogue as data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from storyxai.catalogue.files import load_catalogue
from storyxai.catalogue.language import Language
from storyxai.catalogue.page_words import PageWords, page_words
from storyxai.evidence.record import record_sha256, typed_record
from storyxai.evidence.schema import EvidenceRecord
from storyxai.modalities.registry import words_on_record
from storyxai.modalities.words import ASKED_FIRST, LIST_MARK, SIDE_RULES, with_own_tables

_MARK: Final = re.compile(r"\{\w*\}|\[[^\]|]+\|[^\]]+\]")


@dataclass(frozen=True)
class Number:
    """A number that a text prints: its value, its decimals, where it stands, and whether a percent sign follows."""

    value: float
    decimals: int
    start: int
    end: int
    percent: bool
    signed: bool


@dataclass(frozen=True)
class Found:
    """A phrase that stands in a text: what it names, and where."""

    what: str
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Lexicon:
    """The words of one language for one record. `file` is what the language's file says."""

    language: str
    file: Language
    labels: PageWords
    record: Mapping[str, object]
    own: Mapping[str, str]
    """The words of the record's modality: names, and texts that it puts in the place of templates."""

    @classmethod
    def of(cls, language: str, record: Mapping[str, object]) -> Lexicon:
        """The words of `language`. Raises: UnknownNameError naming the nearest language; InputError."""
        file = load_catalogue(language).told
        own = words_on_record(record, language, file)[1]
        return cls(language, with_own_tables(file, own), page_words(language, file.page, own), record, own)

    @cached_property
    def facts(self) -> EvidenceRecord:
        """The record as types. Raises: ArchiveError naming the field that is missing or of another kind."""
        return typed_record(self.record)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the record: what every page says that it was told from."""
        return record_sha256(self.record)

    @cached_property
    def findings(self) -> Mapping[str, tuple[str, ...]]:
        """All that each finding is called, longest first."""
        return {name: self._names_of(name) for name in self.facts.terms}

    @cached_property
    def methods(self) -> Mapping[str, tuple[str, ...]]:
        """All that each method of explanation is called."""
        keys = {method for maps in self.facts.heatmaps.values() for method in maps} | set(self.file.tables["method"])
        model = self.facts.model
        keys |= {*model.map_hits, *model.faithfulness, *model.robustness}  # of maps too that this record does not hold
        shown, said = self.labels.methods, self.file.tables["method"]
        return {key: _longest([key, self.table("method", key), shown.get(key, said.get(key, key))]) for key in keys}

    @cached_property
    def tiers(self) -> Mapping[str, tuple[str, ...]]:
        """The phrases by which a text puts a finding in each tier."""
        return self.file.tier_phrases

    @cached_property
    def zones(self) -> Mapping[str, tuple[str, ...]]:
        """What each zone is called, and several that have one phrase, by the zones as a record names them: with commas."""
        singles = {zone: (zone, said) for zone, said in self.file.tables["zone"].items()}
        return {**singles, **{zones: (said,) for zones, said in self.file.tables.get("zones", {}).items()}}

    def zones_in(self, text: str, also: Iterable[str] = ()) -> tuple[set[str], str]:
        """The zones that a text names, of those known and of those given too, and the text without them."""
        zones = {**{zone: (zone,) for zone in also}, **self.zones}
        hits = find_phrases(text, zones)
        for hit in reversed(hits):
            text = f"{text[: hit.start]} {text[hit.end :]}"
        return {zone for hit in hits for zone in hit.what.split(", ")}, text

    @cached_property
    def joins(self) -> frozenset[str]:
        """The words that join names and numbers, and so say nothing of their own."""
        return frozenset(word for text in astuple(self.file.joins) for word in words_of(_MARK.sub(" ", text)))

    @cached_property
    def said_anywhere(self) -> frozenset[str]:
        """Every text that may stand by itself around a story, bare: labels, headings, names, what is on record."""
        facts = self.facts
        texts = [*self.page_texts, *strings_in(self.file.tables), *strings_in(self.record), *_keys(self.record)]
        texts += [text for text in self.file.plain_texts() if "[" not in text]
        texts += [name for names in (*self.findings.values(), *self.methods.values()) for name in names]
        texts += [*map(str, range(100)), *self.own.values(), self.digest]
        texts += [name.removeprefix("gate.") for name in facts.gate]
        texts += [f"{self.labels.study} {facts.study.study_id.removeprefix('study-')}", self.labels.unknown]
        return frozenset(bare_text(form) for text in texts for form in (text, text.replace("_", " ")))

    @cached_property
    def page_texts(self) -> tuple[str, ...]:
        """Every text that pages say around their stories."""
        return tuple(strings_in(msgspec.to_builtins(self.labels)))

    @cached_property
    def cells(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """What was found of each cell looked at, by its path and its text: many stand on several pages of a study."""
        return {}

    def table(self, name: str, value: object) -> str:
        """`value` by one of the language's tables, as it is where the table lacks it."""
        return self.file.word(name, str(value))

    def tables_of(self, value: str) -> set[str]:
        """What any table of the language calls `value`."""
        return {table[value] for table in self.file.tables.values() if value in table}

    def term(self, finding: str, leaf: str) -> Any:
        """The finding's phrase, lay words or look-alikes, in this language where it has them."""
        value = getattr(self.facts.terms.get(finding), leaf, None)
        value = list(value) if isinstance(value, tuple) else value
        if told := self.own.get(f"findings.{finding}.{leaf}"):
            return told.split(LIST_MARK) if isinstance(value, list) else told
        return self.file.terms.get(finding, {}).get(leaf, value)

    def said_of(self, value: str) -> set[str]:
        """What a code or a quoted text on record is called: a structure, a fixed statement, a filling, a text of a card."""
        code, _, tone = value.partition(": ")
        tone = tone.replace(".", self.file.numbers.decimal)
        filled = self.own.get(f"remarks.filled_by_{code}") or self.file.tables.get("filled_by", {}).get(code)
        told = (
            self.own.get(f"structures.{value}"), self.file.notices.get(value), self.own.get(f"quotes.{value}"),
            self.file.quotes.get(value), None if filled is None else filled.format(tone=tone),
        )
        return {one for one in told if one}

    def numbers(self, text: str) -> list[Number]:
        """The numbers in `text`, by the language's own marks."""
        return list(_numbers(text, self.file.numbers.decimal, self.file.numbers.group))

    def plain_numbers(self, text: str) -> list[Number]:
        """The numbers in `text`, by the marks that computers write."""
        return list(_numbers(text, ".", ","))

    def _names_of(self, finding: str) -> tuple[str, ...]:
        tables = (table for name, table in self.file.tables.items() if name not in (ASKED_FIRST, SIDE_RULES))
        plain = [finding, finding.replace("_", " "), *(table[finding] for table in tables if finding in table)]
        start = f"findings.{finding}."
        own = {key.removeprefix(start): text for key, text in self.own.items() if key.startswith(start)}
        told = [text for leaf, text in own.items() if leaf != "look_alikes"]
        told += [str(self.term(finding, leaf)) for leaf in ("phrase", "lay") if self.term(finding, leaf)]
        quoted = [form.format(own.get("name", name)) for form in self.file.cases.values() for name in plain]
        return _longest([*plain, *told, *quoted])


def find_phrases(text: str, phrases: Mapping[str, Iterable[str]]) -> list[Found]:
    """Where the phrases stand in `text` as whole words; of those that overlap the longest, in the order of the text."""
    hits = [Found(what, match.start(), match.end()) for what, many in phrases.items() for phrase in many if phrase.strip()
            for match in _whole(phrase).finditer(text)]  # fmt: skip
    hits.sort(key=lambda hit: (hit.start - hit.end, hit.start, hit.what))
    kept: list[Found] = []
    for hit in hits:
        if all(hit.end <= other.start or hit.start >= other.end for other in kept):
            kept.append(hit)
    return sorted(kept, key=lambda hit: hit.start)


def words_of(text: str) -> list[str]:
    """The words of `text` in small letters, without numbers and marks."""
    return [word.strip("'’-").casefold() for word in re.findall(r"[^\W\d_][\w'’-]*", text) if word.strip("'’-")]


def strings_in(value: Any) -> Iterator[str]:
    """Every text that stands anywhere in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from strings_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings_in(item)


@lru_cache(maxsize=4096)
def _whole(phrase: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)", re.IGNORECASE)


def _longest(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name.strip()}, key=lambda name: (-len(name), name)))


def _numbers(text: str, decimal: str, group: str) -> Iterator[Number]:
    for match in _number_pattern(decimal, group).finditer(text):
        digits = (match[2].replace(group, "") if group else match[2]).replace(decimal, ".")
        negative = match[1] in ("-", "−")
        after = text[match.end() :].lstrip()
        yield Number(
            -float(digits) if negative else float(digits), len(digits.partition(".")[2]), match.start(), match.end(),
            after.startswith("%"), match[1] != "",
        )


@lru_cache(maxsize=16)
def _number_pattern(decimal: str, group: str) -> re.Pattern[str]:
    point, comma = re.escape(decimal), re.escape(group)
    grouped = rf"\d{{1,3}}(?:{comma}\d{{3}})+(?:{point}\d+)?|" if group else ""
    return re.compile(rf"(?<![\w])([-+−]?)({grouped}\d+(?:{point}\d+)?)(?!\w)")


@lru_cache(maxsize=16384)
def bare_text(text: str) -> str:
    """The text without its case, and without marks and white space at its ends."""
    return " ".join(text.split()).strip(" .,;:").casefold()


def _keys(value: Any) -> Iterable[str]:
    """The keys of nested tables: names of groups, checks and rules."""
    if isinstance(value, Mapping):
        return [*map(str, value), *(key for item in value.values() for key in _keys(item))]
    return []
