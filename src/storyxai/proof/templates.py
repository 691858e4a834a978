"""The sentences that a language has for its readers, turned round: from a printed sentence to what it claims."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final

from storyxai.evidence.paths import finding_in
from storyxai.modalities.words import is_own_sentence
from storyxai.proof.lexicon import Lexicon

__all__ = ["Claim", "Form", "Reading", "forms_of", "readings"]

_MARK: Final = re.compile(r"\[([^\]|]+)\|([^\]]+)\]|\{(\w+)\}")
_VARIABLE: Final = re.compile(r"<(\w+)>")
NAMED: Final = frozenset("FMGI")
MOST_BINDINGS: Final = 64


@dataclass(frozen=True)
class Claim:
    """A piece of a sentence: what it prints. `path` and `how` of a value, or the name of a `slot`; else a name's variable."""

    text: str
    path: str = ""
    how: str = ""
    slot: str = ""
    variable: str = ""


@dataclass(frozen=True)
class Form:
    """A template as its language's file has it: where it stands ("clinician.likely"), its text, the paths that it rests on."""

    key: str
    text: str
    rests_on: tuple[str, ...] = ()

    @property
    def room(self) -> str:
        """The reader, or the group of sentences, that it belongs to."""
        return self.key.partition(".")[0]

    @property
    def name(self) -> str:
        """What it is called there."""
        return self.key.partition(".")[2]

    @cached_property
    def marks(self) -> tuple[re.Match[str], ...]:
        """The places that are filled in."""
        return tuple(_MARK.finditer(self.text))

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What its sentences look like: its words as they are, anything in the places that are filled in.

        A reason may hold a colon of its own: it is read up to the last one.
        """
        parts, at = [], 0
        for mark in self.marks:
            parts.append(_spoken(self.text[at : mark.start()]) + ("(.+)" if mark[3] == "why" else "(.+?)"))
            at = mark.end()
        return re.compile("".join(parts) + _spoken(self.text[at:]), re.DOTALL)

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Every path that a sentence of this form must cite, with its variables."""
        printed = [mark[1] for mark in self.marks if mark[1] and not _is_name(mark)]
        return tuple(dict.fromkeys([*self.rests_on, *printed]))

    @cached_property
    def literal(self) -> str:
        """Its own words, without what is filled in."""
        return _MARK.sub(" … ", self.text)


@dataclass(frozen=True)
class Reading:
    """One way to read a sentence: its form, what the form's variables stand for, and what its filled places claim."""

    form: Form
    names: Mapping[str, str]
    claims: tuple[Claim, ...]
    missing: tuple[str, ...] = field(default=())


def forms_of(lexicon: Lexicon) -> tuple[Form, ...]:
    """All sentence templates of the language, those of the record's modality in the place of the language's own."""
    forms = []
    for room, entries in lexicon.file.templates.items():
        for name, template in entries.items():
            if text := lexicon.own.get(f"{room}.{name}", template.text):
                forms.append(_form(f"{room}.{name}", text, template.cites))
    return (*forms, *(_form(key, text) for key, text in lexicon.own.items() if is_own_sentence(key)))


_form = lru_cache(maxsize=4096)(Form)
"""The same templates read page after page: each is turned round once."""


def readings(text: str, cites: Sequence[str] | None, forms: Sequence[Form], lexicon: Lexicon) -> Iterator[Reading]:
    """Every way in which `text` can be read by one of the forms; without `cites` by what the record has.

    `missing` of a reading are paths that the form rests on and that are not cited.
    """
    for form in forms:
        match = form.pattern.fullmatch(text) or form.pattern.fullmatch(text[:1].lower() + text[1:])
        if match is None:
            continue
        for names in _bindings(form, cites, lexicon):
            bound = [_named(path, names) for path in form.paths]
            missing = tuple(path for path in bound if path not in cites) if cites is not None else ()
            yield Reading(form, names, _claims(form, match, names), missing)


def _claims(form: Form, match: re.Match[str], names: Mapping[str, str]) -> tuple[Claim, ...]:
    claims = []
    for mark, text in zip(form.marks, match.groups(), strict=True):
        if mark[3]:
            claims.append(Claim(text, slot=mark[3]))
        elif _is_name(mark):
            claims.append(Claim(text, how=mark[2], variable=mark[1]))
        else:
            claims.append(Claim(text, path=_named(mark[1], names), how=mark[2]))
    return tuple(claims)


def _bindings(form: Form, cites: Sequence[str] | None, lexicon: Lexicon) -> Iterator[dict[str, str]]:
    """What the form's variables may stand for, by the paths that are cited (or, without them, that the record has)."""
    variables = {name for path in form.paths for name in _VARIABLE.findall(path)}
    variables |= {mark[1] for mark in form.marks if _is_name(mark)}
    if not variables:
        yield {}
        return
    known = cites if cites is not None else _paths_of(lexicon.record)
    found: list[dict[str, str]] = [{}]
    for path in form.paths:
        if not _VARIABLE.search(path):
            continue
        pattern = _path_pattern(path)
        hits = [match.groupdict() for cite in known if (match := pattern.fullmatch(cite))]
        joined = [{**one, **hit} for one in found for hit in hits if all(one.get(k, v) == v for k, v in hit.items())]
        found = joined[:MOST_BINDINGS] or found
    # A form that prints a finding's name and rests on its own paths nowhere: what is cited says which.
    for one in found:
        if variables <= set(one):
            yield one
        elif variables - set(one) == {"F"}:
            cited = {finding_in(path, lexicon.facts.terms) for path in known}
            yield from ({**one, "F": name} for name in lexicon.facts.terms if name in cited)


@lru_cache(maxsize=1024)
def _path_pattern(path: str) -> re.Pattern[str]:
    """What the paths look like that a path with variables stands for."""
    seen: set[str] = set()
    parts = []
    for number, part in enumerate(_VARIABLE.split(path)):
        if number % 2 == 0:
            parts.append(re.escape(part))
        else:
            parts.append(f"(?P={part})" if part in seen else f"(?P<{part}>.+)")
            seen.add(part)
    return re.compile("".join(parts))


def _paths_of(record: Mapping[str, object]) -> list[str]:
    return [path for room in ("findings", "terms", "concepts", "checks", "heatmaps", "gate", "counterfactuals", "boxes")
            for path in _leaves(record.get(room, {}), room)]  # fmt: skip


def _leaves(value: Any, path: str) -> Iterator[str]:
    yield path
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _leaves(item, f"{path}.{place}")


def _is_name(mark: re.Match[str]) -> bool:
    """Whether a mark prints a name itself: "[F|name]", "[F|within]", or a form of it that a language has beside these."""
    return bool(mark[1]) and mark[1] in NAMED


def _named(path: str, names: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda mark: names.get(mark[1], mark[0]), path)


def _spoken(text: str) -> str:
    """The template's words as a pattern, whatever white space a page puts between them."""
    return r"\s+".join(re.escape(part) for part in re.split(r"\s+", text))
