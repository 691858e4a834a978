"""What pages are made of, as frozen values: builders fill them, templates lay them out.

A `shape` says which macro lays a block out. Text is plain: templates escape it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias


@dataclass(frozen=True)
class Part:
    """A piece of a table's cell; `path` is the place in the evidence record whose value it prints.

    `kind` is a look ("small", "pass", "fail", "code", "nb", "bar", "bar no") or the language of a text ("en"); a bar has the
    length `share` in [0, 1].
    """

    text: str
    path: str = ""
    kind: str = ""
    share: float = 0.0


@dataclass(frozen=True)
class Cell:
    """A table's cell: its pieces and its look ("better", "worse", "shade-3")."""

    parts: tuple[Part, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """A table's row: what it is about, its cells, its look ("rare", "aside", "student")."""

    head: Cell
    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table; `kind` are its looks ("tight", "matrix", or the name under which a story asked for it)."""

    shape: ClassVar[str] = "table"
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Text:
    """A paragraph; `lead` is set bold before it; `kind` is a look ("note", "said")."""

    shape: ClassVar[str] = "text"
    text: str
    kind: str = ""
    lead: str = ""


@dataclass(frozen=True)
class Listing:
    """Sentences as a list."""

    shape: ClassVar[str] = "listing"
    items: tuple[str, ...]


@dataclass(frozen=True)
class Plot:
    """A chart as SVG, with the words for those who do not see it and the caption for those who do."""

    shape: ClassVar[str] = "plot"
    source: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Picture:
    """One picture of many; `source` is its data URI, "" where it could not be drawn and `note` says why."""

    source: str
    title: str
    caption: str
    note: str = ""


@dataclass(frozen=True)
class Pictures:
    """Pictures side by side; `key` are the names and looks of the lines drawn on them."""

    shape: ClassVar[str] = "pictures"
    pictures: tuple[Picture, ...]
    key: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Tables:
    """Narrow tables side by side."""

    shape: ClassVar[str] = "tables"
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Fold:
    """Blocks behind a summary that opens them."""

    shape: ClassVar[str] = "fold"
    summary: str
    blocks: tuple[Block, ...]
    is_open: bool = False


Block: TypeAlias = "Table | Text | Listing | Plot | Pictures | Tables | Fold"


@dataclass(frozen=True)
class Chapter:
    """A heading and what stands under it; `level` 3 stands under the chapter before it."""

    heading: str
    blocks: tuple[Block, ...]
    level: int = 2


@dataclass(frozen=True)
class Document:
    """A page of text, tables and charts: what it is ("Scorecard"), of what, the facts under its title, its chapters."""

    kind: str
    title: str
    facts: tuple[str, ...]
    chapters: tuple[Chapter, ...]
    language: str = "en"


def cell(text: object, small: str = "", *, kind: str = "") -> Cell:
    """A cell of one text, and a smaller one beside or under it."""
    parts = (Part(str(text)), Part(small, kind="small")) if small else (Part(str(text)),)
    return Cell(parts, kind)
