"""The page of `storyxai data check`: one self-contained HTML file with counts, a sample of pictures, and all problems."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw

from storyxai.data.checking import CheckReport, extent
from storyxai.data.masks import read_grey_mask, resized
from storyxai.data.table import Row as TableRow
from storyxai.data.table import StudyTable, read_pair
from storyxai.errors import StoryxaiError
from storyxai.imaging.read import read_image
from storyxai.pages.layout import data_uri, render_document
from storyxai.pages.views import Block, Cell, Chapter, Document, Fold, Part, Pictures, Row, Table, Tables, Text, cell
from storyxai.pages.views import Picture as Shown

PICTURE_SIDE = 300
MOST_PROBLEMS = 500
FEW_PROBLEMS = 20
"""So many problems are shown unfolded."""
NAME_PIXELS = 12
SHADES = 4
FIRST, SIGN, BOX, OTHER = (0, 200, 220), (255, 150, 40), (250, 220, 60), (200, 130, 250)
SIGN_AND_BOX = (("outline of a sign", "sign"), ("box", "frame"))
"""What the lines on the pictures are, and the looks of the style sheet that have their colours."""


def render_data_check(table: StudyTable, report: CheckReport) -> bytes:
    """The page that shows what a look over `table` found."""
    sources = ", ".join(f"{name} {count}" for name, count in sorted(Counter(table.frame["source"]).items()))
    together = Text("Rows in which both are stated as present; the diagonal counts the finding itself.", "note")
    return render_document(Document("Data check", extent(table), (f"{sources} \u00b7 {len(table.frame)} rows",), (
        Chapter("Problems", _problems(report)),
        *_twice(report.twice),
        Chapter("Findings", (_findings(table),)),
        Chapter("Findings that stand together", (together, _together(table))),
        Chapter("Who and how", (_people(table),)),
        Chapter("Sample", (_sample(table, report.sampled),)),
    )))  # fmt: skip


def _twice(lines: Sequence[str]) -> list[Chapter]:
    return [Chapter("Films that stand twice", tuple(Text(f"{line[0].upper()}{line[1:]}.") for line in lines))] if lines else []


def _problems(report: CheckReport) -> tuple[Block, ...]:
    if not report.problems:
        return (Text("None found."),)
    counts = Table(("Kind", "How many"), tuple(Row(cell(kind), (cell(count),)) for kind, count in report.counts.items()))
    rows = tuple(Row(cell(p.kind), (cell(p.what), cell(p.why))) for p in report.problems[:MOST_PROBLEMS])
    blocks: list[Block] = [Table(("Kind", "What", "Why"), rows)]
    if (more := len(report.problems) - MOST_PROBLEMS) > 0:
        blocks.append(Text(f"{more} more are in problems.csv.", "note"))
    return counts, Fold(f"Each one ({len(report.problems)})", tuple(blocks), len(report.problems) <= FEW_PROBLEMS)


def _findings(table: StudyTable) -> Table:
    values = table.labels().values
    splits = ("train", "val", "test")
    part = table.frame["split"].to_numpy()
    rows = []
    for column, name in enumerate(table.schema.findings):
        present, absent = values[:, column] >= 0.5, values[:, column] < 0.5
        doubtful = sum(name in text.split(";") for text in table.frame["uncertain"])
        silent = len(values) - int(present.sum()) - int(absent.sum()) - doubtful
        counts = [int(present.sum()), int(absent.sum()), silent, doubtful]
        counts += [int((present & (part == split)).sum()) for split in splits]
        bars = Cell((_bar(present.sum(), len(values)), _bar(absent.sum(), len(values), "bar no")))
        rows.append(Row(cell(name.replace("_", " ")), (*map(cell, counts), bars)))
    heads = ("Finding", "Present", "Absent", "Not stated", "Uncertain", *(f"In {name}" for name in splits))
    return Table((*heads, "Present and absent"), tuple(rows))


def _bar(count: float, most: float, kind: str = "bar") -> Part:
    return Part("", kind=kind, share=float(count) / max(1.0, float(most)))


def _together(table: StudyTable) -> Table:
    present = (table.labels().values >= 0.5).astype(np.int64)
    counts = present.T @ present
    most = max(1, int((counts - np.diag(np.diag(counts))).max()))
    shades = np.ceil(SHADES * np.minimum(1, counts / most)).astype(int)
    np.fill_diagonal(shades, 0)
    names = tuple(name.replace("_", " ") for name in table.schema.findings)
    rows = tuple(
        Row(cell(name), tuple(
            cell(count or "", kind=f"shade-{shade}" if shade else "") for count, shade in zip(line, shade_line, strict=True)
        ))
        for name, line, shade_line in zip(names, counts, shades, strict=True)
    )  # fmt: skip
    return Table(("", *names), rows, "Rows that state both", kind="matrix")


def _people(table: StudyTable) -> Tables:
    frame = table.frame
    ages = frame["age_years"].to_numpy()
    decades = ["not stated" if np.isnan(age) else f"{int(age // 10) * 10:02d} to {int(age // 10) * 10 + 9:02d}" for age in ages]
    return Tables((
        _counts("View", list(frame["view"])), _counts("Sex", [text or "not stated" for text in frame["sex"]]),
        _counts("Age, years", decades, by_name=True), _counts("Split", [text or "none" for text in frame["split"]]),
        _counts("Origin", [f"{a} {b}".strip() for a, b in zip(frame["source"], frame["origin"], strict=True)]),
        _counts("Outlines", [_outlined(table, cell) for cell in frame["masks"]]),
        _counts("License", [text or "(none given)" for text in frame["license"]]),
        _counts("Images a patient", [str(count) for count in _images_a_patient(table)], by_name=True),
    ))  # fmt: skip


def _images_a_patient(table: StudyTable) -> list[Any]:
    sizes = table.frame.groupby("patient_id").size()
    return [size if size < 5 else "5 and more" for size in sizes]


def _counts(title: str, values: Sequence[str], *, by_name: bool = False) -> Table:
    counted = Counter(values)
    ordered = sorted(counted.items()) if by_name else sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    most = max(counted.values(), default=1)
    return Table((title, "n", ""), tuple(Row(cell(n), (cell(c), Cell((_bar(c, most),)))) for n, c in ordered))


def _sample(table: StudyTable, rows: Sequence[TableRow]) -> Block:
    if not rows:
        return Text("No row has an image that can be shown.")
    return Pictures(tuple(_shown(table, row) for row in rows), _key(table))


def _first_of(table: StudyTable) -> tuple[str, ...]:
    """What is drawn in the first colour: the modality's pair and its sides, else its first structure."""
    pair, structures = table.schema.pair, table.schema.structures
    return (pair.name, *structures[:2]) if pair else structures[:1]


def _key(table: StudyTable) -> tuple[tuple[str, str], ...]:
    first, others = _first_of(table), [name for name in table.schema.structures if name not in _first_of(table)]
    named = [(f"outline of the {first[0]}".replace("_", " "), "first")] if first else []
    named += [(f"outline of the {' or '.join(others)}".replace("_", " "), "other")] if others else []
    return (*named, *SIGN_AND_BOX)


def _outlined(table: StudyTable, cell: str) -> str:
    """Which of the modality's structures a row has outlines of, in words."""
    try:
        drawn = set(json.loads(cell))
    except (ValueError, TypeError):
        return "damaged"
    return ", ".join(name.replace("_", " ") for name in table.schema.drawn if name in drawn) or "none"


def _shown(table: StudyTable, row: TableRow) -> Shown:
    present = [name.replace("_", " ") for name in table.schema.findings if float(str(row[f"label_{name}"])) >= 0.5]
    title, caption = str(row["image_id"]), ", ".join(present) or "nothing stated as present"
    try:
        return Shown(data_uri(_overlay(table, row), "image/jpeg"), title, caption)
    except StoryxaiError as error:
        return Shown("", title, caption, str(error))


def _overlay(table: StudyTable, row: TableRow) -> bytes:
    """JPEG of the row's image with outlines of its masks and its boxes."""
    pixels = read_image(table.image_path(row), colour=True).pixels
    height, width = pixels.shape[:2]
    scale = PICTURE_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    drawn = Picture.fromarray(np.round(pixels * 255).astype(np.uint8)).resize(size, Picture.Resampling.BOX)
    colour = np.array(drawn.convert("RGB"))
    pair, first = read_pair(table, row), _first_of(table)
    if pair is not None:
        _draw_outline(colour, pair[0], FIRST)
    for name, mask in json.loads(str(row["masks"])).items():
        if pair is None or name not in first:
            paint = FIRST if name in first else OTHER if name in table.schema.structures else SIGN
            _draw_outline(colour, read_grey_mask(mask, table.root) > 0, paint)
    picture = Picture.fromarray(colour)
    draw = ImageDraw.Draw(picture)
    for box in table.boxes_of(row, height=size[1], width=size[0]):
        draw.rectangle((box.x, box.y, box.x + box.width, box.y + box.height), outline=BOX, width=2)
        name = box.finding.replace("_", " ")
        left, top, right, bottom = draw.textbbox((0, 0), name, font_size=NAME_PIXELS)
        x, y = min(box.x + 4, size[0] - right - 3), box.y + 3
        if box.width < right + 8 or box.height < 3 * bottom:  # a name within would hide what is marked
            y = box.y - bottom - 4 if box.y > bottom + 4 else box.y + box.height + 2
        draw.rectangle((x + left - 2, y + top - 1, x + right + 2, y + bottom + 1), fill=(0, 0, 0))
        draw.text((x, y), name, fill=BOX, font_size=NAME_PIXELS)
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=85)
    return stream.getvalue()


def _draw_outline(colour: NDArray[np.uint8], mask: NDArray[np.bool_], paint: tuple[int, int, int]) -> None:
    small = resized(mask, *colour.shape[:2])
    inner = np.zeros_like(small)
    inner[1:-1, 1:-1] = small[1:-1, 1:-1] & small[:-2, 1:-1] & small[2:, 1:-1] & small[1:-1, :-2] & small[1:-1, 2:]
    colour[small & ~inner] = paint
