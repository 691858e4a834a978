"""The languages: one JSON file each, ours beside the stories, others' from a folder or from an installed package.

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
from typing import Any

from storyxai.errors import InputError, UnknownNameError

__all__ = ["ENTRY_POINTS", "FOLDERS", "Catalogue", "known_languages", "load_catalogue"]

ENTRY_POINTS, FOLDERS = "storyxai.languages", "STORYXAI_LANGUAGES"
_SUFFIX = ".json"


@dataclass(frozen=True)
class Catalogue:
    """One language as its file holds it. `source` names the file, `text` is what stands in it, `data` what it says."""

    language: str
    source: str
    text: str
    data: Mapping[str, Any]

    def line_of(self, part: str) -> int:
        """The first line on which `part` stands, from 1; 0 where it stands on none."""
        lines = self.text.splitlines()
        return next((number for number, line in enumerate(lines, start=1) if part in line), 0)


def known_languages() -> tuple[str, ...]:
    """The codes of all languages that can be told in, sorted."""
    own = (file.name for file in (resources.files("storyxai.story") / "languages").iterdir())
    given = (file.name for folder in _folders() for file in folder.glob(f"*{_SUFFIX}"))
    codes = {name.removesuffix(_SUFFIX) for name in (*own, *given) if name.endswith(_SUFFIX)}
    return tuple(sorted(codes | {point.name for point in metadata.entry_points(group=ENTRY_POINTS)}))


def load_catalogue(language: str) -> Catalogue:
    """The file of `language`. Raises: UnknownNameError naming the nearest; InputError for a file that cannot be read."""
    found = _found(language) if re.fullmatch(r"[\w-]+", language) else None
    if found is None:
        raise UnknownNameError("language", language, known_languages())
    return _parsed(language, *found)


@lru_cache(maxsize=8)
def _parsed(language: str, source: str, text: str) -> Catalogue:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InputError(source, f"is no JSON ({error})", mend="mend the language's file") from error
    if not isinstance(data, dict):
        raise InputError(source, "holds no table of words", mend="begin from a copy of our own en.json")
    return Catalogue(language, source, text, data)


def _found(language: str) -> tuple[str, str] | None:
    """Where the language's file stands, and its text; None where there is none."""
    name = f"{language}{_SUFFIX}"
    for folder in _folders():
        if (folder / name).is_file():
            return str(folder / name), _read(folder / name)
    own = resources.files("storyxai.story") / "languages" / name
    if own.is_file():
        return f"languages/{name}", own.read_text(encoding="utf-8")
    # Last, as looking through all installed packages takes longer than reading our own file.
    for point in metadata.entry_points(group=ENTRY_POINTS, name=language):
        return f"{point.value}/{name}", _read_beside(point, name)
    return None


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
