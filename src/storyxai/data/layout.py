"""How the text of a table is laid out: its encoding, what separates its cells, and whether its numbers have decimal commas.

Spreadsheets save a table otherwise in every country: semicolons and decimal commas, tabs in UTF-16, a first line "sep=;".
"""

from __future__ import annotations

import codecs
import csv
import gzip
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

_HEAD_BYTES = 1 << 20
# Longer marks first: that of UTF-16 begins that of UTF-32.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
_OTHERS = ";\t|"
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?", re.ASCII)
_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?", re.ASCII)
_NAMES_SEPARATOR = re.compile(r"\"?sep=(.)\"?", re.IGNORECASE)


class Layout(NamedTuple):
    """What pandas must be told: the encoding, the separator, and how many lines stand before the head."""

    encoding: str
    separator: str
    before: int


def encoding_of(data: bytes) -> str:
    """The encoding of text that begins with `data`: that of its mark, UTF-16 where every other byte is 0, else UTF-8."""
    marked = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    if marked is not None:
        return marked
    even, odd = data[:1024:2], data[1:1024:2]
    if len(odd) > 1 and odd.count(0) > len(odd) / 2 and not even.count(0):
        return "utf-16-le"
    if len(even) > 1 and even.count(0) > len(even) / 2 and not odd.count(0):
        return "utf-16-be"
    return "utf-8-sig"


def layout_of(path: Path, *, columns: Sequence[str]) -> Layout:
    """The layout of the table at `path` (also .gz), which should have `columns`; commas where nothing speaks for others.

    Raises: OSError, EOFError, zlib.error for a file that cannot be read; UnicodeError for one of a mark and no lines.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        data = stream.read(_HEAD_BYTES)
    encoding = encoding_of(data)
    text = data.decode(encoding, errors="replace").lstrip("\ufeff")
    if encoding.startswith(("utf-16", "utf-32")) and not {"\n", "\r"} & set(text):
        raise UnicodeError(f"no line ends in {encoding}")
    lines = text.splitlines()
    head = next((place for place, line in enumerate(lines) if line.strip()), 0)
    named = _NAMES_SEPARATOR.fullmatch(lines[head].strip(" \r\n")) if lines else None
    if named:
        return Layout(encoding, named[1], head + 1)
    return Layout(encoding, _separator(lines[head] if lines else "", columns), 0)


def _separator(head: str, columns: Sequence[str]) -> str:
    """The comma, unless the head holds the columns, or more than one cell, with another sign alone."""
    cells = {sign: [cell.strip() for cell in next(csv.reader([head], delimiter=sign), [])] for sign in ("," + _OTHERS)}
    if columns:
        return next((sign for sign, names in cells.items() if set(columns) <= set(names)), _most(cells))
    return _most(cells)


def _most(cells: dict[str, list[str]]) -> str:
    return "," if len(cells[","]) > 1 else max(cells, key=lambda sign: len(cells[sign]))


def with_points(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame`, of text cells, with points for the decimal commas of the columns that hold nothing but numbers."""
    return frame.apply(_pointed)


def _pointed(cells: pd.Series[str]) -> pd.Series[str]:
    stated = [cell for cell in (cell.strip() for cell in cells.unique()) if cell.casefold() not in {"", "nan"}]
    numbers = all(_NUMBER.fullmatch(cell) for cell in stated)
    if not numbers or not any(_COMMA.fullmatch(cell) for cell in stated):
        return cells
    return cells.str.replace(",", ".", regex=False)
