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
    clinician.measured_<n><letter>      a sentence on what is measured on the image; of those of one number the first that can
                                        be told ("measured_1a" with its error, else "measured_1b" without)
    clinician.part_<concept>            a sentence on a part of the regions that holds much of a finding's map, by the concept
                                        that measures its share

A list is written as its items with "; " between them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

import msgspec

from storyxai.catalogue.language import Language
from storyxai.errors import InputError
from storyxai.modalities.contract import Modality

LIST_MARK = "; "
WORD_ROOMS = ("findings", "structures", "gate", "remarks", "quotes", "tables", "page")
"""Rooms of keys that stand for no template."""
ASKED_FIRST, SIDE_RULES = "asked_first", "side_rules"
"""Tables whose keys are told apart and whose texts nobody reads: findings, and rules of the gate."""
MEASURED, OF_A_PART = "clinician.measured_", "clinician.part_"
"""How keys of sentences begin that a modality has beside those of the language."""
_IN_ANY_LANGUAGE = ("structures", "gate", "remarks", "tables")
"""Rooms of words that are said in English where nobody translated them; other texts fall back to the language's own."""
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


def is_own_sentence(key: str) -> bool:
    """Whether `key` is that of a sentence which only a modality has: on what it measures, or on a part of its regions."""
    return re.fullmatch(rf"{MEASURED}\d+[a-z]|{OF_A_PART}\w+", key) is not None


def words_in(own: Mapping[str, str], english: Mapping[str, str], told: Language) -> dict[str, str]:
    """The words of a modality in one language: its own, and English ones where neither it nor the language's file has any.

    `told` is the language's file. What has a general text there (a sentence of a story, a label of a page) is not said in
    English on a page of another language.
    """
    found = {}
    for key, text in english.items():
        room, _, rest = key.partition(".")
        table, _, value = rest.partition(".")
        known = told.tables.get(table, {}) if room == "tables" else told.remarks if room == "remarks" else {}
        if room in _IN_ANY_LANGUAGE and (value if room == "tables" else rest) not in known:
            found[key] = text
    return {**found, **own}


def with_own_tables(told: Language, own: Mapping[str, str]) -> Language:
    """A language's file with the entries that a modality has for its tables."""
    tables = {name: dict(entries) for name, entries in told.tables.items()}
    for key, text in own.items():
        room, _, rest = key.partition(".")
        table, _, value = rest.partition(".")
        if room == "tables" and value:
            tables.setdefault(table, {})[value] = text
    return msgspec.structs.replace(told, tables=tables)


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
        found |= {f"tables.{SIDE_RULES}.{rule.name}": rule.seen} if rule.sides else {}
    found |= {f"tables.{ASKED_FIRST}.{name}": modality.term(name).phrase for name in modality.asked_first}
    return found | dict(modality.words.get("en", {}))
