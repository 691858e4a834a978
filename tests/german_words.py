"""Whether a German page still speaks English: its texts, and those for people who do not see it, word by word."""

from __future__ import annotations

import re
from collections.abc import Collection
from html.parser import HTMLParser

from storyxai.story.readability import split_words

ENGLISH = frozenset((
    "the", "of", "and", "to", "is", "that", "it", "for", "on", "are", "with", "they", "be", "this", "have", "from",
    "or", "had", "by", "not", "but", "what", "all", "were", "when", "we", "there", "can", "your", "which", "their",
    "said", "if", "each", "about", "out", "then", "she", "many", "some", "these", "would", "other", "into", "has",
    "more", "two", "him", "see", "could", "make", "than", "been", "its", "who", "now", "my", "over", "did", "down",
    "only", "find", "use", "may", "long", "very", "after", "words", "just", "where",
))  # fmt: skip
"""The commonest English words that are no German ones."""
FREE = re.compile(r"„[^“]*“|\b[0-9a-f]{12,}\b|[\w.-]+\.(?:json|png|npz)\b|\bstoryxai verify\b")
"""What is quoted as it stands: a question asked, a draft in English, names of files, hashes."""
VOID = frozenset({"area", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"})
"""Elements without an end."""


class Shown(HTMLParser):
    """What a reader of a page sees or hears, without what is marked as another language's."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.language, self._hidden = "", 0
        self._open: list[bool] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "html":
            self.language = given.get("lang") or ""
        quoted = tag in ("script", "style", "code") or (given.get("lang") or self.language) != self.language
        if tag not in VOID:
            self._open.append(quoted)
            self._hidden += quoted
        self.texts += [given[key] or "" for key in ("alt", "aria-label", "title") if key in given]

    def handle_endtag(self, tag: str) -> None:
        if self._open:
            self._hidden -= self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.texts.append(data)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)


def english_left(page: bytes, quoted: Collection[str] = ()) -> set[str]:
    """The texts of the page that hold one of the commonest English words; `quoted` ones stand as they are."""
    shown = Shown()
    shown.feed(page.decode("utf-8"))
    assert shown.language == "de", shown.language
    given = ", ".join(quoted)
    told = [FREE.sub(" ", text) for text in shown.texts if text not in given]
    return {text for text in told for word in split_words(text) if word.lower() in ENGLISH}
