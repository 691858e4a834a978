"""A story as plain text for e-mail and as Markdown: its sentences in order, without pictures. Same story, same text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from storyxai.pages.layout import labels_of
from storyxai.types import Release, Story

COLUMNS = 72
"""Width of plain text: what every e-mail program shows without breaking lines anew."""
_MARKS = re.compile(r"([\\`*_\[\]<>#|~])")
_FIRST_MARKS = re.compile(r"^(\s*)([-+]|\d+[.)])(?=\s)")


def render_text(story: Story, release: Release | None = None) -> str:
    """The story in lines of at most 72 signs (a longer word stays whole), each sentence a paragraph of its section.

    A story that is to be signed says that it is not yet for reading unless its `release` says otherwise, here and as Markdown.
    """
    research_use = _research_use(story)
    lines = [research_use, "", *_underlined(story.title, "=")]
    if banner := _banner(story, release):
        lines += ["", *textwrap.wrap(banner, COLUMNS, break_long_words=False, break_on_hyphens=False)]
    for section in story.sections:
        lines += ["", *_underlined(section.heading, "-")]
        for sentence in section.sentences:
            lines += textwrap.wrap(sentence.text, COLUMNS, initial_indent="- ", subsequent_indent="  ",
                                   break_long_words=False, break_on_hyphens=False)  # fmt: skip
    return "\n".join([*lines, "", *_told_from(story), research_use, ""])


def render_markdown(story: Story, release: Release | None = None) -> str:
    """The story as Markdown; a footnote behind each sentence names the paths in the evidence that it rests on."""
    notes: dict[tuple[str, ...], int] = {}
    research_use = f"**{_research_use(story)}**"
    lines = [research_use, "", f"# {_escaped(story.title)}"]
    if banner := _banner(story, release):
        lines += ["", f"> {_escaped(banner)}"]
    for section in story.sections:
        lines += ["", f"## {_escaped(section.heading)}", ""]
        for sentence in section.sentences:
            number = notes.setdefault(tuple(sorted(sentence.cites)), len(notes) + 1)
            lines += [f"- {_escaped(sentence.text)}[^{number}]"]
    lines += ["", *map(_escaped, _told_from(story)), research_use, ""]
    lines += [f"[^{number}]: {', '.join(f'`{path}`' for path in paths)}" for paths, number in notes.items()]
    return "\n".join([*lines, ""])


def _banner(story: Story, release: Release | None) -> str:
    """Who released the story for reading and when, or that nobody has; nothing of a story that nobody needs to sign."""
    labels = labels_of(story.language)
    if release is not None:
        return labels.released.format(by=release.by, time=release.time)
    return labels.held_back if story.signed else ""


def _underlined(text: str, line: str) -> Iterator[str]:
    yield text
    yield line * len(text)


def _told_from(story: Story) -> list[str]:
    digest = story.provenance.get("evidence_sha256")
    return [labels_of(story.language).told_from, str(digest), ""] if digest else []


def _research_use(story: Story) -> str:
    return labels_of(story.language).research_use


def _escaped(text: str) -> str:
    """`text` with the signs that Markdown would take for marks made plain, on one line."""
    plain = _MARKS.sub(r"\\\1", " ".join(text.split()))
    return _FIRST_MARKS.sub(lambda found: f"{found[1]}{found[2][:-1]}\\{found[2][-1]}", plain)
