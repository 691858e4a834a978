"""Where languages are found: one JSON file each, ours beside the stories, others' from a folder or an installed package.

A language is found by its code, in this order: a file `<code>.json` in a folder that STORYXAI_LANGUAGES names (several with
the system's path separator); our own files; a package that registers the entry point group `storyxai.languages` (the point's
name is the code, its value a package in which `<code>.json` lies).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path

import msgspec

from storyxai.catalogue.language import Language, Template
from storyxai.catalogue.page_words import page_words
from storyxai.errors import InputError, UnknownNameError

ENTRY_POINTS, FOLDERS = "storyxai.languages", "STORYXAI_LANGUAGES"
_SUFFIX = ".json"
_OURS = "en"
_OPTIONAL = ("terms", "page", "modalities", "quotes", "rewording")
"""Rooms of a language's file that may lack what ours has."""


@dataclass(frozen=True)
class Source:
    """A file that words come from: what it is called, and what stands in it."""

    name: str
    text: str

    def line_of(self, part: str) -> int:
        """The first line on which `part` stands, from 1; 0 where it stands on none."""
        lines = self.text.splitlines()
        return next((number for number, line in enumerate(lines, start=1) if part in line), 0)

    def at(self, part: str) -> str:
        """The file and the line on which `part` stands."""
        return f"{self.name}, line {self.line_of(part)}"


@dataclass(frozen=True)
class Catalogue:
    """One language: its code, the file that it stands in, and what the file says."""

    language: str
    source: Source
    told: Language


def known_languages() -> tuple[str, ...]:
    """The codes of all languages that can be told in, sorted."""
    own = (file.name for file in (resources.files("storyxai.story") / "languages").iterdir())
    given = (file.name for folder in _folders() for file in folder.glob(f"*{_SUFFIX}"))
    codes = {name.removesuffix(_SUFFIX) for name in (*own, *given) if name.endswith(_SUFFIX)}
    return tuple(sorted(codes | {point.name for point in metadata.entry_points(group=ENTRY_POINTS)}))


def load_catalogue(language: str) -> Catalogue:
    """The file of `language`; a template cites and compares at least what ours of its name does.

    Raises: UnknownNameError naming the nearest; InputError for a file that cannot be read, or that lacks or garbles a part.
    """
    found = _found(language) if re.fullmatch(r"[\w-]+", language) else None
    if found is None:
        raise UnknownNameError("language", language, known_languages())
    return _parsed(language, Source(*found))


@lru_cache(maxsize=8)
def _parsed(language: str, source: Source) -> Catalogue:
    file = _table(source)
    ours = file if language == _OURS else _table(Source(*_own(_OURS)))
    for room, entries in ours.items():
        given = file.get(room)
        lacking = set(entries) - set(given if isinstance(given, Mapping) else ()) if isinstance(entries, Mapping) else set()
        if room not in _OPTIONAL and (room not in file or lacking):
            named = f"{room}.{min(lacking)}" if lacking else room
            raise InputError(source.name, f"lacks '{named}'", mend="add it; our own en.json has all that is needed")
    rooms = {room: entries for room, entries in file.items() if room not in Language.__struct_fields__}
    templates = {room: {name: _template(source, f"{room}.{name}", entry, _at(ours, room, name)) for name, entry in
                        entries.items()} for room, entries in rooms.items() if isinstance(entries, Mapping)}  # fmt: skip
    try:
        told = msgspec.convert({**file, "templates": {}}, Language)
        page_words(language, told.page)
    except msgspec.ValidationError as error:
        raise InputError(source.name, f"garbles a part ({error})", mend="write it as our own en.json does") from error
    return Catalogue(language, source, msgspec.structs.replace(told, templates=templates))


def _table(source: Source) -> Mapping[str, object]:
    try:
        table = json.loads(source.text)
    except ValueError as error:
        raise InputError(source.name, f"is no JSON ({error})", mend="mend the language's file") from error
    if not isinstance(table, dict):
        raise InputError(source.name, "holds no table of words", mend="begin from a copy of our own en.json")
    return table


def _at(table: Mapping[str, object], room: str, name: str) -> object:
    entries = table.get(room)
    return entries.get(name) if isinstance(entries, Mapping) else None


def _template(source: Source, key: str, entry: object, ours: object) -> Template:
    """A template with what ours of that name cites and compares. Raises: InputError naming file and line of what is none."""
    given = {"text": entry} if isinstance(entry, str) else entry
    try:
        whole = {**ours, **given} if isinstance(ours, Mapping) and isinstance(given, Mapping) else given
        return msgspec.convert(whole, Template)
    except msgspec.ValidationError as error:
        where = source.at(json.dumps(key.partition(".")[2], ensure_ascii=False))
        mend = 'write a text, or {"text": ..., "cites": [...]}'
        raise InputError(where, f"template '{key}' is no text ({error})", mend=mend) from error


def _found(language: str) -> tuple[str, str] | None:
    """Where the language's file stands, and its text; None where there is none."""
    name = f"{language}{_SUFFIX}"
    for folder in _folders():
        if (folder / name).is_file():
            return str(folder / name), _read(folder / name)
    if (resources.files("storyxai.story") / "languages" / name).is_file():
        return _own(language)
    # Last, as looking through all installed packages takes longer than reading our own file.
    for point in metadata.entry_points(group=ENTRY_POINTS, name=language):
        return f"{point.value}/{name}", _read_beside(point, name)
    return None


def _own(language: str) -> tuple[str, str]:
    name = f"languages/{language}{_SUFFIX}"
    return name, (resources.files("storyxai.story") / name).read_text(encoding="utf-8")


def _folders() -> list[Path]:
    return [Path(folder) for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if folder]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"cannot be read ({error})", mend="save the language's file as UTF-8") from error


def _read_beside(point: metadata.EntryPoint, name: str) -> str:
    try:
        module = point.load()
        return (resources.files(module) / name).read_text(encoding="utf-8")
    except Exception as error:  # whatever a stranger's package does when it is imported
        why = f"of the entry point group {ENTRY_POINTS} cannot be loaded ({type(error).__name__}: {error})"
        raise InputError(f"language '{point.name}'", why, mend=f"mend or remove the package of {point.value}") from error
