"""All readers by key: our four, the examples from files, those of installed packages, and a reader of one's own from a file.

A package registers an `Audience` in the entry point group `storyxai.audiences` under its key. A file is named by its path,
or by its key where STORYXAI_AUDIENCES names its folder (so that `verify` finds it again).
"""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Final

from storyxai.errors import InputError, UnknownNameError
from storyxai.story.audiences.auditor import auditor_sections
from storyxai.story.audiences.clinician import clinician_sections
from storyxai.story.audiences.contract import Audience
from storyxai.story.audiences.own import read_audience
from storyxai.story.audiences.patient import GRADE_REFUSED, WORDS_REFUSED, patient_sections
from storyxai.story.audiences.practitioner import practitioner_sections

ENTRY_POINTS, FOLDERS = "storyxai.audiences", "STORYXAI_AUDIENCES"
EXAMPLES: Final = Path(__file__).parent / "examples"
"""Readers made as anyone would make their own: a file each."""
BUILT_IN: Final = {
    audience.key: audience
    for audience in (
        Audience("clinician", clinician_sections),
        Audience("practitioner", practitioner_sections),
        Audience(
            "patient", patient_sections, grade=GRADE_REFUSED, sentence_words=WORDS_REFUSED, maps=False, signed=True,
            style="calm",
        ),
        Audience("auditor", auditor_sections, style="layered"),
    )
}


def known_audiences() -> tuple[str, ...]:
    """The keys of all readers that can be told to: ours first, then others' by name."""
    files = {path.stem for folder in _folders() for path in folder.glob("*.toml")}
    others = files | set(_examples()) | {point.name for point in metadata.entry_points(group=ENTRY_POINTS)}
    return (*BUILT_IN, *sorted(others - set(BUILT_IN)))


def find_audience(name: str) -> Audience:
    """The reader called `name`, or the one in the TOML file of that path.

    Raises: UnknownNameError naming the nearest; InputError for a file or a package that cannot be used.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name.endswith(".toml"):
        return read_audience(Path(name))
    for folder in _folders():
        if (folder / f"{name}.toml").is_file():
            return read_audience(folder / f"{name}.toml")
    if name in _examples():
        return read_audience(_examples()[name])
    for point in metadata.entry_points(group=ENTRY_POINTS, name=name):
        return _loaded(point)
    raise UnknownNameError("audience", name, known_audiences())


def _loaded(point: metadata.EntryPoint) -> Audience:
    try:
        found = point.load()
    except Exception as error:  # whatever a stranger's package does when it is imported
        why = f"of the entry point group {ENTRY_POINTS} cannot be loaded ({type(error).__name__}: {error})"
        raise InputError(f"audience '{point.name}'", why, mend=f"mend or remove the package of {point.value}") from error
    if not isinstance(found, Audience) or found.key != point.name:
        mend = "let the entry point name an Audience, under its own key"
        raise InputError(f"audience '{point.name}'", f"is no Audience of that key but {point.value}", mend=mend)
    return found


def _examples() -> dict[str, Path]:
    """The readers that come along as files, by key."""
    return {path.stem: path for path in sorted(EXAMPLES.glob("*.toml"))}


def _folders() -> list[Path]:
    return [Path(folder) for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if folder]
