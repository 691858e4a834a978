"""A language's file as types: its words and its templates. What a file lacks or misspells is named when it is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

MARK: Final = re.compile(r"\[([^\]|]+)\|([^\]]+)\]|\{(\w+)\}")
"""A mark of a template: what it prints and by which format, or a slot."""
NAMED_HOW: Final = ("name", "within", "case")
"""Formats of marks that print a name, and no value at a path."""


class Marks(msgspec.Struct, frozen=True):
    """The marks of numbers."""

    decimal: str
    group: str


class Readability(msgspec.Struct, frozen=True):
    """How the school grade of a text is measured; none where nobody measures it."""

    measure: str | None


class Joins(msgspec.Struct, frozen=True, kw_only=True, rename={"either": "or"}):
    """Words that join names and numbers; "{}" and "{name}" are places that are filled."""

    comma: str
    last: str
    either: str
    one: str
    percent: str
    names: str
    item: str
    of_hundred: str
    item_first: str
    in_zone: str
    on_side: str
    probability: str
    score: str
    of: str
    to: str
    the_zone: str
    the_zones: str
    above: str
    below: str
    about: str
    more_than: str
    fewer_than: str
    learned: str
    learned_chance: str


class Template(msgspec.Struct, frozen=True):
    """A text with marks, the paths that it rests on beside those it prints, and pairs of paths that it compares."""

    text: str
    cites: tuple[str, ...] = ()
    apart: tuple[tuple[str, str], ...] = ()

    def paths(self) -> Iterator[str]:
        """Every path that the template names."""
        yield from (mark[1] for mark in MARK.finditer(self.text) if mark[1] and format_kind(mark[2]) not in NAMED_HOW)
        yield from self.cites
        yield from (path for pair in self.apart for path in pair)

    def formats(self) -> Iterator[str]:
        """Every format that its marks ask for."""
        yield from (mark[2] for mark in MARK.finditer(self.text) if mark[2])


class Language(msgspec.Struct, frozen=True, kw_only=True):
    """All that a language's file says. `templates` holds its sentences and headings by the room and the name that they have."""

    numbers: Marks
    readability: Readability
    joins: Joins
    tier_phrases: Mapping[str, tuple[str, ...]]
    sides: Mapping[str, tuple[str, ...]]
    notices: Mapping[str, str]
    remarks: Mapping[str, str]
    fixed_phrases: tuple[str, ...]
    tables: Mapping[str, Mapping[str, str]]
    cases: Mapping[str, str]
    terms: Mapping[str, Mapping[str, str | list[str]]] = {}
    quotes: Mapping[str, str] = {}
    page: Mapping[str, object] = {}
    modalities: Mapping[str, Mapping[str, object]] = {}
    templates: Mapping[str, Mapping[str, Template]] = {}

    def word(self, table: str, value: str) -> str:
        """`value` by a table; with spaces for underscores where the table does not have it."""
        return self.tables.get(table, {}).get(value, value.replace("_", " "))

    def plain_texts(self) -> Iterator[str]:
        """Every text of the file that stands for itself: words and headings, no sentence that is filled in."""
        yield from (self.numbers.decimal, self.numbers.group, self.readability.measure or "")
        yield from msgspec.structs.astuple(self.joins)
        for words in (self.notices, self.remarks, self.cases, self.quotes):
            yield from words.values()
        yield from (one.text for room in self.templates.values() for one in room.values() if not (one.cites or one.apart))


def format_kind(how: str) -> str:
    """A format without what it is asked for: "table" of "table:side"."""
    return how.partition(":")[0]
