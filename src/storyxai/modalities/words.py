"""What a modality is called in each language: flat keys, so that a TOML file, a JSON file and a record hold the same.

A built-in modality keeps them beside its code, one file a language: `languages/de.json` in its folder. What holds of English
stands in the modality itself (a finding's `phrase` and `lay`, a rule's `seen` and `mend`), and `english_words` gathers it, so
that every other language can be held against it. A key is one of

    image, lay_image                    what its images are called ("chest radiograph", "chest X-ray")
    findings.<F>.name                   a finding's name within a sentence; in English it is the name itself
    findings.<F>.phrase, .lay           as a report and as a patient's page say it
    findings.<F>.look_alikes            other causes of the sign, a list
    findings.<F>.<case>                 any form that the language's templates ask for by [F|case:<case>]
    structures.<S>                      what is hidden in a what-if ("the right lung")
    gate.<rule>.fine, .seen, .mend      the outcome of a rule of the gate, and what to do
    remarks.<code>                      the modality's own remarks on maps, regions and measurements
    tables.<table>.<value>              what a value on record is called (a "side", a "fill", a "check"), beside the language's
    quotes.<text>                       a text of a card (a limit, a data set's name), for languages other than the card's
    page.<name>                         a text of the page around the story ("page.untouched_alt"; `pages/templates/en.json`)
    <room>.<name>                       a text in place of that of a template of the language's file

A list is written as its items with "; " between them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

from storyxai.errors import InputError
from storyxai.modalities.contract import Modality

__all__ = ["LIST_MARK", "WORD_ROOMS", "LanguageFiles", "english_words", "flat_words", "with_own_tables"]

LIST_MARK = "; "
WORD_ROOMS = ("findings", "structures", "gate", "remarks", "quotes", "tables", "page")
"""Rooms of keys that stand for no template."""
_SUFFIX = ".json"


def flat_words(nested: Mapping[str, object], before: str = "") -> dict[str, str]:
    """Nested tables as one table of dotted keys. Raises: InputError naming the key of what is no text, list or table."""
    found: dict[str, str] = {}
    for key, value in nested.items():
        path = f"{before}{key}"
        if isinstance(value, Mapping):
            found |= flat_words(value, f"{path}.")
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            found[path] = LIST_MARK.join(value)
        elif isinstance(value, str):
            found[path] = value
        else:
            raise InputError(f"words: {path}", f"is {value!r}", mend="write a text, a list of texts or a table of these")
    return found


def with_own_tables(data: Mapping[str, Any], own: Mapping[str, str]) -> Mapping[str, Any]:
    """A language's file with the entries that a modality has for its tables."""
    tables = {name: dict(entries) for name, entries in data["tables"].items()}
    for key, text in own.items():
        room, _, rest = key.partition(".")
        table, _, value = rest.partition(".")
        if room == "tables" and value:
            tables.setdefault(table, {})[value] = text
    return {**data, "tables": tables}


@dataclass(frozen=True)
class LanguageFiles(Mapping[str, Mapping[str, str]]):
    """The words of a built-in modality by language, read when they are asked for. `package` is the modality's."""

    package: str

    def __getitem__(self, language: str) -> Mapping[str, str]:
        if language not in self._codes:
            raise KeyError(language)
        text = (resources.files(self.package) / "languages" / f"{language}{_SUFFIX}").read_text(encoding="utf-8")
        return flat_words(json.loads(text))

    def __iter__(self) -> Iterator[str]:
        return iter(self._codes)

    def __len__(self) -> int:
        return len(self._codes)

    @cached_property
    def _codes(self) -> tuple[str, ...]:
        names = (file.name for file in (resources.files(self.package) / "languages").iterdir())
        return tuple(sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)))


def english_words(modality: Modality) -> dict[str, str]:
    """All English words of the modality: those of its parts, and those of its own table of English."""
    found: dict[str, str] = {"image": modality.name, "lay_image": modality.name}
    for term in modality.findings:
        told = {"phrase": term.phrase, "lay": term.lay, "look_alikes": LIST_MARK.join(term.look_alikes)}
        found |= {f"findings.{term.name}.{leaf}": text for leaf, text in told.items() if text}
    found |= {f"structures.{one.name}": one.lay for one in modality.structures}
    found |= {f"structures.{one.structure}": f"the {one.region}" for one in modality.what_ifs}
    for rule in () if modality.gate is None else modality.gate.rules:
        found |= {f"{rule.name}.fine": rule.fine, f"{rule.name}.seen": rule.seen, f"{rule.name}.mend": rule.mend}
    return found | dict(modality.words.get("en", {}))
