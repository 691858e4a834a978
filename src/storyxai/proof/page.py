"""What a reader sees on a rendered page: sentences and where they lead, cells, gauges, pictures, and all other text."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from storyxai.html_tree import Element, parse_html

_UNSEEN: Final = frozenset({"script", "style", "template", "noscript"})
_LABELS: Final = frozenset({"b", "strong", "small", "code"})
"""What sets a text of its own apart within a line."""
_PNG: Final = "data:image/png;base64,"


@dataclass(frozen=True)
class Said:
    """A sentence as it is printed, and the number of the note that it leads to (0: to none)."""

    text: str
    note: int


@dataclass(frozen=True)
class Chip:
    """A finding's name, probability and tier as they stand beside one another, and the path of its number."""

    name: str
    path: str
    number: str
    tier: str


@dataclass(frozen=True)
class Gauge:
    """A finding's line: what it says to those who do not see it, its tier, and where marks stand, as shares of the line."""

    alt: str
    tier: str
    marks: dict[str, float]


@dataclass(frozen=True)
class Tile:
    """A picture: its words, the ids of what lies over the image, and the frames drawn, each x, y, width, height."""

    alt: str
    layers: tuple[str, ...]
    frames: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Row:
    """A row of a table: what it is about, and for each of its values the column's head and the path that it names."""

    head: str
    values: tuple[tuple[str, str], ...]


@dataclass
class Page:
    """Everything that one page shows. `form` is the ending of its file; `values` are those that a story in JSON states.

    `banner` is what says that the page is held back, or who released it, "" where nothing does.
    """

    audience: str = ""
    language: str = ""
    form: str = ".html"
    said: list[Said] = field(default_factory=list)
    notes: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    cells: list[tuple[str, str]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    chips: list[Chip] = field(default_factory=list)
    gauges: list[Gauge] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    images: dict[str, bytes] = field(default_factory=dict)
    research: list[str] = field(default_factory=list)
    held: bool = False
    banner: str = ""
    other: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    values: dict[str, object] = field(default_factory=dict)

    def cites(self, said: Said) -> tuple[str, ...]:
        """The paths of the note that the sentence leads to."""
        return tuple(path for path, _ in self.notes.get(said.note, ()))


def read_page(data: bytes) -> Page:
    """What stands on the page. A page of another make has no sentences."""
    root = parse_html(data)
    page, body = Page(), root.first("body") or root
    html = root.first("html")
    page.language = html.attributes.get("lang", "") if html else ""
    kinds = [kind for kind in body.attributes.get("class", "").split() if kind not in ("story", "reading")]
    page.audience = kinds[0] if kinds else ""
    page.images = dict(_images(body))
    page.notes = {number: rows for body_part in body.all("tbody") if (number := _note_number(body_part))
                  for rows in [_note_rows(body_part)]}  # fmt: skip
    page.research = [one.text() for one in body.all("p", "research")]
    held = body.first("p", "held")
    banner = (held.first("strong") or held) if held else body.first("p", "released")
    page.held, page.banner = held is not None, banner.text() if banner else ""
    page.rows = [row for table in body.all("table") if "notes" not in table.classes for row in _rows(table)]
    page.chips = [_chip(one) for one in body.all("a", "chip")]
    page.gauges = [_gauge(one) for one in body.all("div", "gauge")]
    page.tiles = [_tile(one) for one in body.all("svg", "film-frame")]
    page.foreign = list(_foreign(root))
    named = Counter(one.attributes["id"] for one in root.elements if "id" in one.attributes)
    page.twice = [name for name, count in named.items() if count > 1]
    _walk(body, page, hidden=False)
    return page


def _walk(element: Element, page: Page, *, hidden: bool) -> None:
    """Sort what stands in the element into sentences, cells and other text."""
    loose: list[str] = []
    for place, child in enumerate(element.children):
        if isinstance(child, str):
            loose.append(child)
            continue
        if child.tag in _UNSEEN:
            continue
        below = hidden or "style" in child.attributes or ("hidden" in child.attributes and not _by_script(child))
        if "s" in child.classes:
            after = element.children[place + 1] if place + 1 < len(element.children) else None
            page.said.append(Said(child.text(), _leads_to(after) if isinstance(after, Element) else 0))
            page.hidden += [child.text()] if below else []
            loose.append("\0")
        elif "data-path" in child.attributes:
            page.cells.append((child.attributes["data-path"], child.text()))
            page.hidden += [child.text()] if below else []
            loose.append("\0")
        elif child.classes == {"nb"} or (child.tag in _LABELS and not _holds_more(child)):
            loose.append(child.text() if child.classes == {"nb"} else f"\0{child.text()}\0")
        elif child.tag == "sup":
            continue
        else:
            _walk(child, page, hidden=below)
            loose.append("\0")
    texts = [" ".join(part.split()) for part in "".join(loose).split("\0")]
    page.other += [text for text in texts if text]


def _holds_more(element: Element) -> bool:
    return any(isinstance(child, Element) and child.classes != {"nb"} for child in element.children)


def _by_script(element: Element) -> bool:
    """Whether the page's script brings the element to sight: it is not hidden from a reader."""
    return "data-focus" in element.attributes or "data-js" in element.attributes


def _leads_to(element: Element) -> int:
    link = element.first("a")
    found = re.fullmatch(r"#e(\d+)", link.attributes.get("href", "")) if link else None
    shown = link.text() if link else ""
    return int(found[1]) if found and shown == found[1] else 0


def _note_number(element: Element) -> int:
    found = re.fullmatch(r"e(\d+)", element.attributes.get("id", ""))
    return int(found[1]) if found else 0


def _note_rows(element: Element) -> list[tuple[str, str]]:
    rows = []
    for row in element.all("tr"):
        path = row.first("code")
        value = next((one for one in row.elements if "data-path" in one.attributes), None)
        rows.append((path.text() if path else "", value.text() if value else ""))
    return rows


def _rows(table: Element) -> Iterator[Row]:
    head = table.first("thead")
    columns = [one.text() for one in (head.elements if head else ()) if one.tag in ("th", "td")]
    for row in (one for part in table.all("tbody") for one in part.all("tr")):
        cells = [one for one in row.children if isinstance(one, Element) and one.tag in ("th", "td")]
        named = zip(columns, cells, strict=False)
        values = [(name, one.attributes["data-path"]) for name, cell in named for one in cell.elements
                  if "data-path" in one.attributes]  # fmt: skip
        yield Row(cells[0].text() if cells else "", tuple(values))


def _chip(element: Element) -> Chip:
    name, number, tier = element.first("b"), element.first("span"), element.first("small")
    path = number.attributes.get("data-path", "") if number else ""
    return Chip(name.text() if name else "", path, number.text() if number else "", tier.text() if tier else "")


def _gauge(element: Element) -> Gauge:
    picture, tier = element.first("svg"), element.first("span", "state")
    alt = picture.attributes.get("aria-label", "") if picture else ""
    return Gauge(alt, tier.text() if tier else "", _marks(element))


def _marks(element: Element) -> dict[str, float]:
    axis = element.first("line", "axis")
    line = _number(axis, "x2") if axis else 0.0
    marks: dict[str, float] = {}
    for name, tag, kind, attribute in (
        ("probability", "circle", "point", "cx"), ("low", "rect", "interval", "x"), ("threshold", "line", "limit", "x1"),
    ):  # fmt: skip
        found = element.first(tag, kind)
        if found and line:
            marks[name] = _number(found, attribute) / line
    return marks


def _tile(element: Element) -> Tile:
    layers = tuple(one.attributes.get("href", "").removeprefix("#") for one in element.all("use"))
    frames = tuple(
        tuple(_number(one, name) for name in ("x", "y", "width", "height")) for one in element.all("rect", "frame")
    )
    return Tile(element.attributes.get("aria-label", ""), layers, frames)


def _number(element: Element, name: str) -> float:
    try:
        return float(element.attributes.get(name, ""))
    except ValueError:
        return float("nan")


def _images(body: Element) -> Iterator[tuple[str, bytes]]:
    for one in body.all("image"):
        address = one.attributes.get("href", "")
        if address.startswith(_PNG):
            try:
                yield one.attributes.get("id", ""), base64.b64decode(address.removeprefix(_PNG), validate=True)
            except (binascii.Error, ValueError):
                yield one.attributes.get("id", ""), b""


def _foreign(root: Element) -> Iterator[str]:
    """What a page that loads and runs nothing does not hold."""
    scripts = [one for one in root.all("script") if one.attributes.get("type", "") != "application/json"]
    if len(scripts) > 1:
        yield "a script that is not the page's own"
    for one in root.elements:
        if one.tag in ("iframe", "object", "embed", "link", "base", "form", "video", "audio", "foreignobject"):
            yield f"a <{one.tag}>"
        for name, value in one.attributes.items():
            if name.startswith("on"):
                yield f"a script in {name}"
            if name in ("src", "href", "xlink:href") and not value.startswith(("#", "data:image/")):
                yield f"an address outside the page ({value[:60]})"
