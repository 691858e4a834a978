"""A page's elements as a small tree, made by Python's own HTML parser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from html.parser import HTMLParser
from typing import Final

_VOID: Final = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
})  # fmt: skip


@dataclass(eq=False)
class Element:
    """One element: its tag, its attributes, and what stands in it, texts and elements in their order."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)
    _every: Sequence[Element] = ()  # of the whole page; those from `_start` to `_stop` are in it
    _start: int = 0
    _stop: int = 0

    @property
    def elements(self) -> Sequence[Element]:
        """All elements in it, itself first, in the order of the page."""
        return self._every[self._start : self._stop]

    @cached_property
    def classes(self) -> frozenset[str]:
        """The words of its class attribute."""
        return frozenset(self.attributes.get("class", "").split())

    def text(self) -> str:
        """All text in it, runs of white space as one space. What a line break parts is not one word."""
        return " ".join("".join(self._texts(parted=" ")).split())

    def raw_text(self) -> str:
        """All text in it as it was written."""
        return "".join(self._texts())

    def all(self, tag: str = "", name: str = "") -> list[Element]:
        """The elements in it of that tag and of that class; "" stands for any."""
        return [one for one in self.elements if (not tag or one.tag == tag) and (not name or name in one.classes)]

    def first(self, tag: str = "", name: str = "") -> Element | None:
        """The first of `all`, None where there is none."""
        return next(iter(self.all(tag, name)), None)

    def _texts(self, parted: str = "") -> Iterator[str]:
        waiting: list[Element | str] = self.children[::-1]
        while waiting:
            one = waiting.pop()
            if isinstance(one, str):
                yield one
                continue
            if one.tag == "br":
                yield parted
            waiting.extend(one.children[::-1])


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._every: list[Element] = []
        self._open: list[Element] = []
        self._open.append(self._added("", []))

    def tree(self) -> Element:
        """The page's root, once it was fed."""
        self._end_from(0)
        return self._every[0]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = self._added(tag, attrs)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # In SVG "<rect/>" ends itself; in HTML the slash means nothing, but our pages write it in SVG alone.
        self._added(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        for place in range(len(self._open) - 1, 0, -1):
            if self._open[place].tag == tag:
                self._end_from(place)
                return

    def _added(self, tag: str, attrs: list[tuple[str, str | None]]) -> Element:
        start = len(self._every)
        element = Element(tag, {name: value or "" for name, value in attrs}, [], self._every, start, start + 1)
        self._every.append(element)
        if self._open:
            self._open[-1].children.append(element)
        return element

    def _end_from(self, place: int) -> None:
        for element in self._open[place:]:
            element._stop = len(self._every)
        del self._open[place:]

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)

    def updatepos(self, i: int, j: int) -> int:
        """Lines are not counted, a tenth of the time: nobody asks on which one an element stands."""
        return j


@lru_cache(maxsize=1)
def parse_html(page: bytes) -> Element:
    """The page's tree, not to be changed: who reads the same page next is given the same.

    What is no UTF-8 stands as the replacement character.
    """
    builder = _Builder()
    builder.feed(page.decode("utf-8", errors="replace"))
    builder.close()
    return builder.tree()
