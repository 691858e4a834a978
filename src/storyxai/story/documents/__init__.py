"""Documents that others ask of a model, filled as far as one study's evidence goes: every sentence cites, every gap says so.

A document is a TOML file of parts and fields. A field lists templates of the language (`say`), its own (`sentences`), both told
once or for `each` finding, group, set, limit or method; `ask` names what only people can add. Nothing here claims conformity.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import msgspec

from storyxai.catalogue.files import Source
from storyxai.catalogue.language import Template
from storyxai.errors import UnknownNameError
from storyxai.evidence.record import as_record, record_sha256
from storyxai.story.citations import check_story
from storyxai.story.teller import Teller
from storyxai.story.words import check_template, load_words
from storyxai.types import RESEARCH_USE, Evidence, Section, Sentence, Story

FORMAT: Final = "storyxai-document/1"
FOLDER: Final = Path(__file__).parent
DOCUMENTS: Final = ("applied-model-card", "eu-ai-act")
UNFILLED: Final = "NOT FILLED"
Status = Literal["filled", "partly", "not_filled"]


class _Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    heading: str
    say: tuple[str, ...] = ()
    sentences: tuple[Template, ...] = ()
    each: Literal["", "findings", "groups", "sets", "limits", "methods"] = ""
    ask: str = ""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    heading: str
    fields: tuple[_Field, ...]


class _Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    about: tuple[str, ...]
    parts: tuple[_Part, ...]


@dataclass(frozen=True)
class Field:
    """One heading of a document: its sentences, and what only people can add ("" where nothing is)."""

    heading: str
    sentences: tuple[Sentence, ...]
    ask: str

    @property
    def status(self) -> Status:
        """Whether the evidence fills it, fills it partly, or not at all."""
        return "not_filled" if not self.sentences else "partly" if self.ask else "filled"


@dataclass(frozen=True)
class Part:
    """A group of fields."""

    heading: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Document:
    """A document about the model of one study. `about` says what it is and what it does not claim."""

    key: str
    title: str
    about: tuple[str, ...]
    parts: tuple[Part, ...]
    evidence_sha256: str

    def counts(self) -> Mapping[Status, int]:
        """How many fields are filled, partly filled and not filled."""
        found = [one.status for part in self.parts for one in part.fields]
        return {status: found.count(status) for status in ("filled", "partly", "not_filled")}


def fill_document(key: str, evidence: Evidence) -> Document:
    """The document called `key` as far as `evidence` fills it, in English; every sentence is checked against the evidence.

    Raises: UnknownNameError for another document; CitationError when a sentence is not backed.
    """
    if key not in DOCUMENTS:
        raise UnknownNameError("document", key, DOCUMENTS)
    form, record = _form(key), as_record(evidence)
    t = Teller(record, load_words("en", record))
    parts = tuple(Part(part.heading, tuple(_field(t, one) for one in part.fields)) for part in form.parts)
    told = tuple(Section(one.heading, one.sentences) for part in parts for one in part.fields if one.sentences)
    check_story(Story(key, "en", form.title, told, {}), record)
    return Document(key, form.title, form.about, parts, record_sha256(record))


def render_document_markdown(document: Document) -> bytes:
    """The document as Markdown; a footnote behind each sentence names the paths in the evidence that it rests on."""
    counts, notes = document.counts(), dict[tuple[str, ...], int]()
    lines = [f"# {document.title}", "", f"**{RESEARCH_USE}**", "", *(f"> {line}" for line in document.about), ">"]
    lines += [f"> {counts['filled']} fields filled, {counts['partly']} in part, {counts['not_filled']} not filled.", ""]
    for part in document.parts:
        lines += [f"## {part.heading}", ""]
        for one in part.fields:
            lines += [f"### {one.heading}", ""]
            for sentence in one.sentences:
                number = notes.setdefault(tuple(sorted(sentence.cites)), len(notes) + 1)
                lines.append(f"- {_escaped(sentence.text)}[^{number}]")
            if one.ask or not one.sentences:
                lines.append(f"- **{UNFILLED}{' (rest)' if one.sentences else ''}**: {one.ask or NOT_HELD}")
            lines.append("")
    lines += [f"Filled from evidence with SHA-256 `{document.evidence_sha256}`", ""]
    lines += [f"[^{number}]: {', '.join(f'`{path}`' for path in paths)}" for paths, number in notes.items()]
    return ("\n".join(lines) + "\n").encode()


def render_document_json(document: Document) -> bytes:
    """The document as JSON: each field with its status, its sentences with their paths, and what is asked for."""
    parts = [
        {"heading": part.heading, "fields": [
            {"heading": one.heading, "status": one.status, "ask": one.ask or ("" if one.sentences else NOT_HELD),
             "sentences": [{"text": sentence.text, "cites": list(sentence.cites)} for sentence in one.sentences]}
            for one in part.fields
        ]}
        for part in document.parts
    ]  # fmt: skip
    whole = {"format": FORMAT, "document": document.key, "title": document.title, "about": list(document.about),
             "research_use": RESEARCH_USE, "evidence_sha256": document.evidence_sha256, "counts": document.counts(),
             "parts": parts}  # fmt: skip
    return (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode()


NOT_HELD: Final = "the model's card and this evidence hold nothing on it"


@lru_cache(maxsize=4)
def _form(key: str) -> _Form:
    """The document's file, every path of its templates held against the record's types."""
    path = FOLDER / f"{key}.toml"
    text = path.read_text(encoding="utf-8")
    form = msgspec.convert(tomllib.loads(text), _Form)
    for part in form.parts:
        for one in part.fields:
            for template in one.sentences:
                check_template(f"{key}: {one.heading}", template, Source(path.name, text))
    return form


def _field(t: Teller, one: _Field) -> Field:
    said = [s for names in _repeated(t, one.each) for key in one.say for s in t.say(key, names)]
    said += [s for names in _repeated(t, one.each) for template in one.sentences for s in t.fill(template, names)]
    return Field(one.heading, tuple(dict.fromkeys(said)), one.ask)


def _repeated(t: Teller, each: str) -> Iterator[dict[str, str]]:
    """The names to tell a field's templates with: none once, or each thing's of that kind."""
    if each == "groups":
        found = t.value("model.subgroups") or {}
        yield from ({"A": attribute, "G": group} for attribute in sorted(found) for group in sorted(found[attribute]))
    elif each in _COUNTED:
        yield from ({"I": str(i)} for i in range(len(t.value(_COUNTED[each]) or ())))
    elif each == "methods":
        yield from ({"M": name} for name in sorted({*t.names("model.map_hits"), *t.names("model.faithfulness")}))
    else:
        yield from ({"F": name} for name in t.names("model.per_finding")) if each else [{}]


_COUNTED: Final = {"sets": "model.trained_on", "limits": "model.limits"}


def _escaped(text: str) -> str:
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>#|~" else sign for sign in " ".join(text.split()))
