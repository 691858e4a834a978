"""The words of pages around their stories, as types: ours, a language's own in their place, and a modality's before both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import resources

import msgspec

_ROOM = "page."
"""How keys of a modality begin that stand for words of pages."""


class GalleryWords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The words of a slide."""

    title: str
    positive: str
    signed: str
    own: str
    nothing: str


class PlotWords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The words of a drawing, each kind with those that it needs."""

    title: str
    alt: str
    about: str = ""
    more: str = ""
    point: str = ""
    across: str = ""
    up: str = ""


class IndexWords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The words of the page that lists studies."""

    title: str
    studies: str
    counts: Mapping[str, str]
    model: str
    not_checked: str
    how: str
    unread: str
    search: str
    finding: str
    any_finding: str
    tier: str
    any_tier: str
    none_named: str
    sort: str
    sorts: Mapping[str, str]
    clear_all: str
    shown: str
    keys_move: str
    keys_open: str
    keys_search: str
    nothing_named: str
    withheld: str
    doubted: str
    none_left: str


class CompareWords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The words of a comparison."""

    kind: str
    titles: Mapping[str, str]
    in_short: str
    images: str
    findings: str
    maps: str
    maps_about: str
    places: str
    measures: str
    models: str
    limits: str
    others: str
    nothing_beyond: str
    higher: str
    lower: str
    told_otherwise: str
    within: str
    same: str
    untold: str
    one_sided: str
    each: str
    readings: Mapping[str, str]
    measure_readings: Mapping[str, str]
    columns: Mapping[str, str]
    place: Mapping[str, str]
    measure: Mapping[str, str]
    rows: Mapping[str, str]
    threshold_of: str
    remarks: Mapping[str, str]


class PageWords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The words of a page; tables are of what is called by a key that stands on record, or of columns and tables by name."""

    research_use: str
    held_back: str
    released: str
    signature: str
    study: str
    told_from: str
    evidence: str
    evidence_about: str
    evidence_patient: str
    evidence_about_patient: str
    note: str
    path: str
    value: str
    entry: str
    entries: str
    yes: str
    no: str
    unknown: str
    to: str
    untouched: str
    untouched_patient: str
    untouched_alt: str
    map_alt: str
    withheld_maps: str
    withheld_of: str
    doubtful_of: str
    shared_scale: str
    this_map: str
    no_map: str
    told_alone: str
    show_evidence: str
    theme: str
    named: str
    stage: str
    method: str
    opacity: str
    wipe: str
    level: str
    contrast: str
    lines: str
    zoom_in: str
    zoom_out: str
    reset: str
    shortcuts: str
    keys_on: str
    keys_list: tuple[tuple[str, str], ...]
    outlines: str
    outlines_main: str
    outlines_main_alt: str
    outlines_alt: str
    boxes: str
    boxes_patient: str
    sides_patient: str
    boxes_alt: str
    gauge_alt: str
    gauge_threshold: str
    save_evidence: str
    save_story: str
    drawn_over: Mapping[str, str]
    tiers: Mapping[str, str]
    scored: Mapping[str, str]
    methods: Mapping[str, str]
    details: Mapping[str, str]
    audiences: Mapping[str, str]
    audiences_short: Mapping[str, str]
    gallery: GalleryWords
    plots: Mapping[str, PlotWords]
    again: tuple[tuple[str, ...], ...]
    compare: CompareWords
    index: IndexWords
    tables: Mapping[str, str]
    columns: Mapping[str, str]

    def counted(self, many: int) -> str:
        """So many entries."""
        return f"{many} {self.entry if many == 1 else self.entries}"

    def answer(self, *, yes: bool) -> str:
        """Yes or no."""
        return self.yes if yes else self.no

    def column(self, key: str) -> str:
        """What a column is called; one of a modality of one's own that names no words for it, by its key."""
        return self.columns.get(key, key.replace("_", " "))

    def tier(self, tier: str, *, calibrated: bool) -> str:
        """What a finding's tier is called; without a calibration, that its number is a score."""
        return (self.tiers if calibrated else self.scored)[tier]


def page_words(language: str, given: Mapping[str, object], own: Mapping[str, str] | None = None) -> PageWords:
    """The words of pages in `language`: ours, those `given` in its file, and a modality's `own` by keys such as "page.map_alt".

    Raises: msgspec.ValidationError naming a key that pages do not have.
    """
    words = _merged(_ours("en"), _ours(language), given, *_nested(own or {}))
    return msgspec.convert(words, PageWords)


def _nested(own: Mapping[str, str]) -> Iterable[Mapping[str, object]]:
    for key, text in own.items():
        if key.startswith(_ROOM):
            *above, last = key.removeprefix(_ROOM).split(".")
            table: dict[str, object] = {last: text}
            for part in reversed(above):
                table = {part: table}
            yield table


def _merged(*tables: Mapping[str, object]) -> dict[str, object]:
    """The tables as one, those within them too; a later one goes before an earlier."""
    found: dict[str, object] = {}
    for key, value in (item for table in tables for item in table.items()):
        before = found.get(key)
        found[key] = _merged(before, value) if isinstance(value, Mapping) and isinstance(before, Mapping) else value
    return found


@lru_cache(maxsize=8)
def _ours(language: str) -> Mapping[str, object]:
    """The words of pages in one of our languages, from the file beside the templates; empty for any other."""
    file = resources.files("storyxai.pages") / "templates" / f"{language}.json"
    words: Mapping[str, object] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return words
