"""Pages in other forms than HTML read back: Markdown with its footnotes, JSON with its values, plain text for e-mail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from storyxai.proof.page import Page, Said

FORMS: Final = (".md", ".json")
"""Forms that say what each sentence rests on."""
_FOOTNOTE: Final = re.compile(r"\[\^(\d+)\]: (.*)")
_ITEM: Final = re.compile(r"- (.*)\[\^(\d+)\]")
_RULE: Final = re.compile(r"[-=]+")


def read_form(data: bytes, form: str, *, audience: str, language: str) -> Page | None:
    """What stands in a story's file of that ending; None where it is no story."""
    text = data.decode("utf-8", errors="replace")
    return _read_markdown(text, audience, language) if form == ".md" else _read_json(text)


def text_problems(data: bytes, page: Page) -> Iterator[str]:
    """What is wrong with a story in plain text beside its page: it cites nothing, and so must say what the page says."""
    lines = data.decode("utf-8", errors="replace").splitlines()
    sentences: list[str] = []
    for line in lines:
        if line.startswith("- "):
            sentences.append(line.removeprefix("- "))
        elif line.startswith("  ") and sentences:
            sentences[-1] += f" {line.strip()}"
    told = [said.text for said in page.said]
    yield from (f"says “{text}”, which its page does not" for text in sentences if text not in told)
    yield from (f"leaves out “{text}”, which its page says" for text in told if text not in sentences)
    said = " ".join(" ".join(lines).split())
    if page.banner not in said:
        what = "that it is not yet for reading" if page.held else "who released it for reading, as its page does"
        yield f"does not say {what}"
    if [line for line in (*lines[:1], *lines[-1:]) if line in page.research] != page.research[:2]:
        yield "lacks the line that it is for research use only, at its head or its foot"


def _read_markdown(text: str, audience: str, language: str) -> Page:
    page = Page(audience, language, ".md")
    for line in text.splitlines():
        if note := _FOOTNOTE.fullmatch(line):
            page.notes[int(note[1])] = [(path, "") for path in re.findall(r"`([^`]+)`", note[2])]
        elif item := _ITEM.fullmatch(line):
            page.said.append(Said(_plain(item[1]), int(item[2])))
        elif line.startswith("> "):
            page.other.append(_plain(line.removeprefix("> ")))
        elif line.startswith("**"):
            page.research.append(line.strip("*"))
        elif line.strip() and not _RULE.fullmatch(line):
            page.other.append(_plain(line.lstrip("# ")))
    return page


def _read_json(text: str) -> Page | None:
    try:
        told: Any = json.loads(text)
        page = Page(str(told["audience"]), str(told["language"]), ".json", research=[str(told["notice"])] * 2)
        page.other += [str(told["title"]), str(told["provenance"]["evidence_sha256"])]
        _read_release(told.get("release"), page)
        notes: dict[tuple[str, ...], int] = {}
        for section in told["sections"]:
            page.other.append(str(section["heading"]))
            for sentence in section["sentences"]:
                cites = tuple(map(str, sentence["cites"]))
                page.said.append(Said(str(sentence["text"]), notes.setdefault(tuple(cites), len(notes) + 1) if cites else 0))
        page.notes = {number: [(path, "") for path in paths] for paths, number in notes.items()}
        page.values = dict(told["evidence"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return page


def _read_release(told: Any, page: Page) -> None:
    """Take in a story's mark of release; one of before such marks is held back."""
    if told is None:
        page.held = True
    elif told["needed"]:
        page.other.append(str(told["text"]))
        named = [str(told[name]) for name in ("by", "time") if name in told]
        # Text that the line does not say is no part of a story: the checker then names it.
        page.other += [name for name in named if not told["released"] or name not in told["text"]]
        page.other += [] if not told["released"] or len(named) == 2 else ["released"]


def _plain(text: str) -> str:
    """Markdown's text without the marks that make its signs plain."""
    return re.sub(r"\\([^\w\s])", r"\1", text)
