"""Tables and lists of a data set, read as text and refused by name when they are not what they should be."""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from storyxai.data.layout import Layout, encoding_of, layout_of, with_points
from storyxai.errors import TableError

LARGEST_TEXT_BYTES = 2_000_000_000
OLDEST_YEARS = 120
LONGEST_SHOWN = 60
PICTURES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
NOT_STATED = frozenset({
    "", "nan", "na", "n/a", "#n/a", "#na", "#nv", "<na>", "nat", "none", "null", "nil", "-", "--", "\u2013", ".",
})  # fmt: skip
"""How programs write that a cell states nothing, in small letters."""
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d+)", re.ASCII)
# As spreadsheets and data frames show a number that has more digits than they keep.
_ROUNDED = re.compile(r"\d([.,]\d+)?E\+\d{2,3}", re.ASCII | re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_MARKUP = re.compile(r"\s*(?:(\{\\rtf)|<(?:!doctype|html|body|head|div|p|\?xml)\b)", re.IGNORECASE)
_SAVED = "save it as 'CSV UTF-8 (comma delimited)'"


def read_csv(path: Path, *, columns: Sequence[str] = ()) -> pd.DataFrame:
    """All cells of a table of text (also .gz) as text, "" where empty; nothing is guessed, "NA" stays "NA".

    UTF-8, UTF-16 and UTF-32; cells separated by commas, or, where the head says so, by semicolons, tabs or bars: then decimal
    commas become points in columns of numbers alone. A line that ends early has its last cells empty: NIH publishes such.
    Raises: TableError naming the file when it is missing, not text, has lines longer than its head or a name over two
    columns, or lacks one of `columns`.
    """
    _require_file(path)
    _refuse_spreadsheet(path)
    try:
        layout = layout_of(path, columns=columns)
        names, frame = _parsed(path, layout, head=True), _parsed(path, layout)
    except UnicodeError as error:
        kind = "UTF-8" if "utf-8" in str(error) else "UTF-16"
        raise TableError(path.name, f"cannot be read as CSV (it is not {kind} text)", mend=_SAVED) from error
    except pd.errors.EmptyDataError as error:
        mend = "give a file that begins with a head of column names"
        raise TableError(path.name, "cannot be read as CSV (it is empty)", mend=mend) from error
    except (pd.errors.ParserError, OSError, EOFError, ValueError, zlib.error) as error:
        first = (str(error).splitlines() or ["damaged"])[0][:160]
        raise TableError(path.name, f"cannot be read as CSV ({first})", mend="fetch or write the file again") from error
    if not isinstance(frame.index, pd.RangeIndex):
        # The first cells have become row names, and every other cell stands under the head of its left neighbour.
        mend = "put the missing names (or commas) at the end of the head, or quote cells that hold a comma"
        raise TableError(path.name, "has lines with more cells than its head", mend=mend)
    counted = Counter(str(name).strip() for name in names.iloc[0])
    twice = next((name for name, count in counted.items() if name and count > 1), None)
    if twice is not None:
        raise TableError(path.name, f"has two columns called '{shown(twice)}'", mend="keep one of them")
    frame.columns = [str(name).strip() for name in frame.columns]
    _require_columns(path, frame, columns)
    return frame if layout.separator == "," else with_points(frame)


def _parsed(path: Path, layout: Layout, *, head: bool = False) -> pd.DataFrame:
    """All cells of the table under its head, or with `head` its first line alone as cells."""
    return pd.read_csv(
        path, sep=layout.separator, encoding=layout.encoding, skiprows=layout.before, dtype=str, keep_default_na=False,
        header=None if head else "infer", nrows=1 if head else None,
    )  # fmt: skip


def _refuse_spreadsheet(path: Path) -> None:
    with path.open("rb") as stream:
        if stream.read(4) in _SPREADSHEETS:
            raise TableError(path.name, "is a spreadsheet or an archive, not a table of text", mend=_SAVED)


def _require_columns(path: Path, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    missing = next((name for name in columns if name not in frame.columns), None)
    if missing is None:
        return
    has = ", ".join(shown(name) for name in frame.columns[:8])
    mend = f"give the file that has it; this one has {has}"
    alike = next((name for name in frame.columns if _letters(name) == _letters(missing)), None)
    if alike is not None:
        mend = f"call '{shown(alike)}' so"
    elif len(frame.columns) == 1:
        mend = f"separate its cells by commas; its only column is '{has}'"
    raise TableError(path.name, f"lacks the column '{missing}'", mend=mend)


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a text file, stripped. Raises: TableError naming the file."""
    _require_file(path)
    try:
        data = path.read_bytes()
        text = data.decode(encoding_of(data)).lstrip("\ufeff")
        return [line.strip() for line in text.splitlines() if line.strip()]
    except (UnicodeError, OSError) as error:
        raise TableError(path.name, "cannot be read as text", mend="fetch the file again") from error


def read_json(path: Path) -> Any:
    """The value in a JSON file (also .gz). Raises: TableError naming the file."""
    _require_file(path)
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return json.loads(data)
    except (ValueError, OSError, EOFError, RecursionError, zlib.error) as error:
        raise TableError(path.name, "cannot be read as JSON", mend="fetch the file again") from error


def number(cell: str) -> float:
    """The number a cell states, nan where it states none. "0,5" is a half; "1,000" may be a thousand or one: none."""
    comma = _DECIMAL_COMMA.fullmatch(cell.strip())
    if comma and (len(comma[2]) != 3 or comma[1].lstrip("+-") == "0"):
        cell = f"{comma[1]}.{comma[2]}"
    try:
        return float(cell) if cell.isascii() and "_" not in cell else float("nan")
    except ValueError:
        return float("nan")


def refuse_rounded_id(cell: str, where: str) -> None:
    """Raises TableError for an id that a spreadsheet wrote as a rounded number: others may read the same then."""
    if _ROUNDED.fullmatch(cell.strip()):
        why = f"has '{shown(cell)}', a number that a spreadsheet rounded, for an id"
        raise TableError(where, why, mend="format the column of ids as text, or take them from the first source again")


def whole_id(cell: str) -> str:
    """An id without the ".0" that programs add to whole numbers where another cell of the column is empty."""
    return re.sub(r"^(\d+)\.0+$", r"\1", cell.strip())


def code_of(cell: str, where: str, column: str) -> float:
    """1, 0, -1 (uncertain), or nan for an empty cell. Raises: TableError for anything else, naming place and column."""
    code = number(cell)
    if code in (1.0, 0.0, -1.0) or (math.isnan(code) and cell.strip().casefold() in NOT_STATED):
        return code
    raise TableError(where, f"has '{shown(cell)}' under '{shown(column)}'", mend="use 1, 0, -1 (uncertain) or nothing")


def report_text(data: bytes) -> str:
    """The text of a report: UTF-8, UTF-16 or UTF-32, or else the letters of Western Europe; control characters are spaces.

    Raises: TableError for a report that is RTF, HTML or XML, or holds no letter.
    """
    try:
        text = data.decode(encoding_of(data))
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    text = _CONTROL.sub(" ", text)
    form = _MARKUP.match(text)
    if form or not any(map(str.isalnum, text)):
        why = f"is {'RTF' if form[1] else 'HTML or XML'}, no plain text" if form else "holds no text"
        raise TableError("report", why, mend="save it as plain text")
    return text


def age_of(cell: str) -> float:
    """The age in years a cell states, nan where it states none that a person can have."""
    age = number(cell)
    return age if 0 <= age <= OLDEST_YEARS else float("nan")


def shown(text: str) -> str:
    """`text` as it can stand in a sentence: on one line, cut where it is longer than any name."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SHOWN else f"{line[:LONGEST_SHOWN]}..."


def is_there(path: Path) -> bool:
    """Whether a file lies at `path`; a name that no file can have (too long, say) is simply not there."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def picture_size(path: Path) -> tuple[int, int] | None:
    """(width, height) as the picture is to be looked at, from its head alone; None where the head tells none (DICOM)."""
    from PIL import Image as Picture

    try:
        with Picture.open(path) as picture:
            turned = picture.getexif().get(0x0112, 1) in range(5, 9)
            return picture.size[::-1] if turned else picture.size
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError):
        return None


def require_folder(folder: Path, *inside: str) -> None:
    """Raises TableError when `folder`, or a file or folder named in `inside`, is not there."""
    if not folder.is_dir():
        raise TableError(str(folder), "is not a folder", mend="name the folder of the unpacked data set")
    for name in inside:
        if not (folder / name).exists():
            raise TableError(str(folder), f"holds no {name}", mend="name the folder that holds it")


def image_files(folder: Path) -> list[str]:
    """Paths (relative, sorted) of the image files anywhere below `folder`; links are not followed."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.casefold() in PICTURES and path.is_file()
    )


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise TableError(str(path), "is not there", mend="name the folder of the unpacked data set")
    if path.stat().st_size > LARGEST_TEXT_BYTES:
        raise TableError(path.name, "is larger than 2 GB", mend="use the published file")
