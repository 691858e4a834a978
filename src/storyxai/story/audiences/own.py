"""A reader of one's own from a TOML file: sections that list templates of the language, and templates of one's own.

    key = "technologist"
    title = "For the technologist"
    maps = false

    [[sections]]
    heading = "The image"
    figures = ["image"]
    say = ["clinician.file", "clinician.view_known"]

    [[sections]]
    heading = "What was found"
    each = "likely"
    figures = ["gauge/<F>"]
    sentences = [{ text = "Look again for [terms.<F>.phrase|text].", cites = ["findings.<F>.probability"] }]

`each` repeats a section's sentences for every finding of a tier, or for those that are "named" in text. `blocks` are parts of
the clinician's story ("claim", "watch", ...), told before the sentences; `most` keeps so many of a section's sentences. The
figure "maps/<F>" stands for all maps of a finding. `grade`, `sentence_words`, `signed` and `style` are those of `Audience`. A
table `[words.de]` says title, headings and sentences of the file in another language, the text of the file on the left; what it
lacks is told as it stands.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from storyxai.catalogue.files import Source
from storyxai.catalogue.language import Template
from storyxai.errors import InputError
from storyxai.evidence.paths import figure_name
from storyxai.modalities.words import is_own_sentence
from storyxai.story.audiences.clinician import BLOCKS
from storyxai.story.audiences.contract import Audience, Style
from storyxai.story.teller import Teller
from storyxai.story.words import Words, check_template, load_words
from storyxai.types import Section, Sentence

ALL_MAPS = "maps/<F>"


class _OwnSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    heading: str
    figures: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    most: int = 0
    each: Literal["named", "likely", "possible", "unlikely", "cannot_tell", ""] = ""
    say: tuple[str, ...] = ()
    sentences: tuple[Template, ...] = ()


class _OwnAudience(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    title: str
    sections: tuple[_OwnSection, ...]
    grade: float | None = None
    sentence_words: float | None = None
    maps: bool = True
    signed: bool = False
    style: Style = "technical"
    words: Mapping[str, Mapping[str, str]] = {}


@dataclass(frozen=True)
class _Sections:
    """Tells the sections of a file; a class and not a closure, so that two readings of one file are equal."""

    told: tuple[_OwnSection, ...]
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)

    def __call__(self, t: Teller) -> tuple[Section, ...]:
        said: set[Sentence] = set()
        return tuple(section for one in self.in_language(t.words.language) for section in _section(t, one, said))

    def in_language(self, language: str) -> tuple[_OwnSection, ...]:
        """The sections with their own texts in that language, as the file has them where it does not translate one."""
        words = self.words.get(language, {})
        return tuple(
            msgspec.structs.replace(
                one, heading=words.get(one.heading, one.heading),
                sentences=tuple(msgspec.structs.replace(told, text=words.get(told.text, told.text)) for told in one.sentences),
            ) for one in self.told
        )  # fmt: skip


def read_audience(path: Path) -> Audience:
    """The reader that the file describes, every template checked.

    Raises: InputError naming the file (and line) of what cannot be told: a misspelt key, path, format or template.
    """
    try:
        text = path.read_text(encoding="utf-8")
        own = msgspec.convert(tomllib.loads(text), _OwnAudience)
    except (OSError, ValueError, RecursionError) as error:  # what is no TOML and what is no reader are ValueErrors both
        raise InputError(str(path), f"describes no reader ({error})", mend="begin from the example in the handbook") from error
    if not own.key.isidentifier() or own.key != path.stem:
        raise InputError(str(path), f"has the key '{own.key}'", mend="give it the file's name: letters, digits and _")
    source, words = Source(str(path), text), load_words("en")
    for section in own.sections:
        for template in section.sentences:
            check_template(f"{own.key}.{section.heading}", template, source)
        for name in set(section.blocks) - set(BLOCKS):
            where = source.at(name)
            raise InputError(where, f"there is no block '{name}'", mend=f"take one of {', '.join(BLOCKS)}")
        for key in section.say:
            room, _, name = key.partition(".")
            if name not in words.file.templates.get(room, ()) and not is_own_sentence(key):
                where = source.at(key)
                raise InputError(where, f"there is no template '{key}'", mend="take one from a language's file")
        _require_fillable(section, path, source, words)
    _require_known(own, path, source)
    sections = _Sections(own.sections, own.words)
    for language in own.words:
        for section in sections.in_language(language):
            for template in section.sentences:
                check_template(f"{own.key}.{section.heading}", template, source)
            _require_fillable(section, path, source, words)
    return Audience(
        own.key, sections, own.title, own.grade, own.sentence_words, own.maps, own.signed, own.style,
        {language: said[own.title] for language, said in own.words.items() if own.title in said},
    )


def _require_known(own: _OwnAudience, path: Path, source: Source) -> None:
    """Raise InputError for a translated text that the file does not have."""
    texts = {own.title, *(one.heading for one in own.sections), *(told.text for one in own.sections for told in one.sentences)}
    for language, words in own.words.items():
        for text in set(words) - texts:
            where = source.at(text)
            why = f"translates “{text}” into '{language}', which the file does not say"
            raise InputError(where, why, mend="give the title, a heading or a sentence as it stands in the file")


def _require_fillable(section: _OwnSection, path: Path, source: Source, words: Words) -> None:
    """Raise InputError for a template whose places this section cannot fill: those of code, and a finding without `each`."""
    told = [(key, words.template(key).text) for key in section.say] + [(one.text, one.text) for one in section.sentences]
    for name, text in told:
        where = source.at(name)
        if slots := set(_SLOT.findall(text)) - {"quantity"}:
            why = f"template '{name}' has a place {{{min(slots)}}} that only a block fills"
            raise InputError(where, why, mend=f"take a block that tells it: {', '.join(BLOCKS)}")
        if others := set(_OF.findall(text)) - ({"F"} if section.each else set()):
            mend = "give the section each = \"named\"" if others == {"F"} else "take another template"
            raise InputError(where, f"template '{name}' is told of one {_KINDS.get(min(others), 'thing')}", mend=mend)


_SLOT = re.compile(r"\{(\w+)\}")
_OF = re.compile(r"(?:<|\[)([A-Z])(?:>|\|)")
_KINDS = {"F": "finding", "M": "method", "G": "check", "I": "entry"}


def own_words(audience: Audience, language: str = "en") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The texts of the sentence templates that a reader from a file brings, its key, title and headings; none of another's."""
    if not isinstance(audience.sections, _Sections):
        return (), ()
    told = audience.sections.in_language(language)
    sentences = tuple(template.text for section in told for template in section.sentences)
    return sentences, (audience.key, audience.titles.get(language, audience.title), *(section.heading for section in told))


def _section(t: Teller, own: _OwnSection, said: set[Sentence]) -> list[Section]:
    """The section without what the page has `said` before it, which is added to that."""
    findings = [""] if not own.each else t.told() if own.each == "named" else t.findings_of(own.each)
    figures = [figure for name in findings for figure in _figures(t, own.figures, name)]
    told = [sentence for some in _said(t, own, findings) for sentence in some if sentence not in said]
    told = told[: own.most] if own.most else told
    said.update(told)
    return t.section(own.heading, [told], figures=figures)


def _said(t: Teller, own: _OwnSection, findings: list[str]) -> Iterator[list[Sentence]]:
    for block in own.blocks:
        yield from BLOCKS[block](t)
    for name in findings:
        names = {"F": name} if name else {}
        yield from (t.say(key, names) for key in own.say)
        yield from (t.fill(template, names) for template in own.sentences)


def _figures(t: Teller, figures: tuple[str, ...], finding: str) -> list[str]:
    name = figure_name("", finding)[1:]
    drawn: list[str] = []
    for figure in figures:
        drawn += t.map_figures(finding) if figure == ALL_MAPS and finding else [figure.replace("<F>", name)]
    return [figure for figure in drawn if figure != "outlines" or t.facts.masks]
