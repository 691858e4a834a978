"""The page of `storyxai data check`: one self-contained HTML file with counts, a sample of pictures, and all problems."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw

from storyxai.data.masks import read_grey_mask, resized
from storyxai.data.table import StudyTable, read_lung_mask
from storyxai.errors import StoryxaiError
from storyxai.files import write_whole
from storyxai.imaging.read import read_image
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.types import RESEARCH_USE

__all__ = ["extent", "write_page"]

PICTURE_SIDE = 300
MOST_PROBLEMS = 500
NAME_PIXELS = 12
LUNG, LESION, BOX, HEART = (0, 200, 220), (255, 150, 40), (250, 220, 60), (200, 130, 250)
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1b2733;max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem} h2{font-size:1.1rem;margin:1.8rem 0 .5rem;border-bottom:1px solid #ccd5dd}
table{border-collapse:collapse;font-variant-numeric:tabular-nums} td,th{padding:.15rem .6rem;text-align:right}
td:first-child,th:first-child{text-align:left} th{font-weight:600;border-bottom:1px solid #ccd5dd}
.bar{display:inline-block;height:.7rem;background:#4a7ba6;vertical-align:middle} .bar.no{background:#c6d0d9}
.row{display:flex;flex-wrap:wrap;gap:1rem 2.2rem;align-items:flex-start}
.wide{overflow-x:auto} .wide td{white-space:nowrap} .key span:first-child{margin-left:0}
figure{margin:0;width:262px} figure img{width:100%;background:#000} figcaption{font-size:.8rem;overflow-wrap:anywhere}
.co td{min-width:2.2rem;font-size:.8rem} .co th{font-size:.72rem;font-weight:500;writing-mode:vertical-rl;text-align:left}
.co td:first-child{writing-mode:horizontal-tb} .quiet{color:#5a6b7a} .left td:first-child{white-space:nowrap}
.left td,.left th{text-align:left;vertical-align:top}
.key span{display:inline-block;width:.8rem;height:.8rem;margin:0 .3rem 0 .9rem;vertical-align:-1px}
@media print{figure{break-inside:avoid}}
"""


def write_page(
    table: StudyTable, path: Path, *, problems: Sequence[tuple[str, str, str]], counts: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]], twice: Sequence[str] = (),
) -> None:
    """Writes the page at `path`, whole or not at all.

    `problems` are (kind, what, why), `counts` says how many of each kind; `rows` are shown as pictures; `twice` says how
    far the references of films that stand twice agree.
    """
    frame = table.frame
    sources = ", ".join(f"{name} {count}" for name, count in sorted(Counter(frame["source"]).items()))
    parts = [
        f"<h1>Data check: {escape(extent(table))}</h1>",
        f"<p class=quiet>{escape(sources)} &middot; {len(frame)} rows &middot; {escape(RESEARCH_USE)}</p>",
        _problem_section(problems, counts),
        _twice(twice),
        "<h2>Findings</h2>", _findings(table),
        "<h2>Findings that stand together</h2>"
        "<p class=quiet>Rows in which both are stated as present; the diagonal counts the finding itself.</p>",
        _together(table),
        "<h2>Who and how</h2><div class=row>", _people(table), "</div>",
        "<h2>Sample</h2>", _sample(table, rows),
    ]
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>Data check</title>"
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )
    write_whole(page.encode(), path)


def extent(table: StudyTable) -> str:
    """How many images and reports of how many patients, in words."""
    frame = table.frame
    images = int((frame["image"] != "").sum())
    reports, patients = len(frame) - images, frame["patient_id"].nunique()
    if not images:
        return f"{reports} reports without an image, of {patients} patients"
    with_image = frame["patient_id"][frame["image"] != ""].nunique()
    return f"{images} images of {with_image} patients" + (f" and {reports} reports without an image" if reports else "")


def _problem_section(problems: Sequence[tuple[str, str, str]], counts: Mapping[str, str]) -> str:
    if not problems:
        return "<h2>Problems</h2><p>None found.</p>"
    summary = "".join(f"<tr><td>{escape(kind)}<td>{escape(count)}" for kind, count in counts.items())
    lines = "".join(
        f"<tr><td>{escape(kind)}<td>{escape(what)}<td>{escape(why)}" for kind, what, why in problems[:MOST_PROBLEMS]
    )
    more = len(problems) - MOST_PROBLEMS
    rest = f"<p class=quiet>{more} more are in problems.csv.</p>" if more > 0 else ""
    fold = " open" if len(problems) <= 20 else ""
    return (
        f"<h2>Problems</h2><table>{summary}</table><details{fold}><summary>Each one ({len(problems)})</summary>"
        f"<table class=left><tr><th>kind<th>what<th>why{lines}</table>{rest}</details>"
    )


def _twice(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return "<h2>Films that stand twice</h2>" + "".join(f"<p>{escape(line[0].upper() + line[1:])}." for line in lines)


def _findings(table: StudyTable) -> str:
    values = table.labels().values
    splits = ("train", "val", "test")
    part = table.frame["split"].to_numpy()
    head = "<tr><th>finding<th>present<th>absent<th>not stated<th>uncertain" + "".join(f"<th>in {name}" for name in splits)
    lines = []
    for column, name in enumerate(NAMES):
        present, absent = values[:, column] >= 0.5, values[:, column] < 0.5
        doubtful = sum(name in text.split(";") for text in table.frame["uncertain"])
        silent = len(values) - int(present.sum()) - int(absent.sum()) - doubtful
        wide = 160 / max(1, len(values))
        bar = (f"<span class=bar style='width:{present.sum() * wide:.0f}px'></span>"
               f"<span class='bar no' style='width:{absent.sum() * wide:.0f}px'></span>")
        inside = "".join(f"<td>{int((present & (part == split)).sum())}" for split in splits)
        shown = escape(name.replace("_", " "))
        lines.append(f"<tr><td>{shown}<td>{present.sum()}<td>{absent.sum()}<td>{silent}<td>{doubtful}{inside}"
                     f"<td style='text-align:left'>{bar}")
    return f"<div class=wide><table>{head}<th>{''.join(lines)}</table></div>"


def _together(table: StudyTable) -> str:
    present = (table.labels().values >= 0.5).astype(np.int64)
    counts = present.T @ present
    most = max(1, int((counts - np.diag(np.diag(counts))).max()))
    head = "<tr><td>" + "".join(f"<th>{escape(name.replace('_', ' '))}" for name in NAMES)
    lines = []
    for row, name in enumerate(NAMES):
        shades = np.where(np.arange(len(NAMES)) == row, 0, 0.85 * np.minimum(1, counts[row] / most))
        cells = "".join(
            f"<td style='background:rgba(74,123,166,{shade:.2f})'>{count or ''}"
            for shade, count in zip(shades, counts[row], strict=True)
        )
        lines.append(f"<tr><td>{escape(name.replace('_', ' '))}{cells}")
    return f"<div class=wide><table class=co>{head}{''.join(lines)}</table></div>"


def _people(table: StudyTable) -> str:
    frame = table.frame
    ages = frame["age_years"].to_numpy()
    decades = ["not stated" if np.isnan(age) else f"{int(age // 10) * 10:02d} to {int(age // 10) * 10 + 9:02d}" for age in ages]
    masks = [kind or "none" for kind in frame["lung_mask_kind"]]
    return "".join((
        _counts("view", list(frame["view"])), _counts("sex", [text or "not stated" for text in frame["sex"]]),
        _counts("age, years", decades, by_name=True), _counts("split", [text or "none" for text in frame["split"]]),
        _counts("origin", [f"{a} {b}".strip() for a, b in zip(frame["source"], frame["origin"], strict=True)]),
        _counts("lung mask", masks), _counts("license", [text or "(none given)" for text in frame["license"]]),
        _counts("images a patient", [str(count) for count in _images_a_patient(table)], by_name=True),
    ))


def _images_a_patient(table: StudyTable) -> list[Any]:
    sizes = table.frame.groupby("patient_id").size()
    return [size if size < 5 else "5 and more" for size in sizes]


def _counts(title: str, values: Sequence[str], *, by_name: bool = False) -> str:
    counted = Counter(values)
    ordered = sorted(counted.items()) if by_name else sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    wide = 90 / max(counted.values(), default=1)
    lines = "".join(
        f"<tr><td>{escape(name)}<td>{count}<td style='text-align:left'>"
        f"<span class=bar style='width:{count * wide:.0f}px'></span>"
        for name, count in ordered
    )
    return f"<table><tr><th>{escape(title)}<th>n<th>{lines}</table>"


def _sample(table: StudyTable, rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>No row has an image that can be shown.</p>"
    key = "".join(
        f"<span style='background:rgb{paint}'></span>{name}"
        for name, paint in (("lung outline", LUNG), ("lesion outline", LESION), ("heart outline", HEART), ("box", BOX))
    )
    return f"<p class=key>{key}</p><div class=row>{''.join(_figure(table, row) for row in rows)}</div>"


def _figure(table: StudyTable, row: Mapping[str, Any]) -> str:
    present = [name.replace("_", " ") for name in NAMES if row[f"label_{name}"] >= 0.5]
    caption = f"<b>{escape(str(row['image_id']))}</b><br>{escape(', '.join(present) or 'nothing stated as present')}"
    try:
        data = _overlay(table, row)
    except StoryxaiError as error:
        return f"<figure><figcaption>{caption}<br>{escape(str(error))}</figcaption></figure>"
    source = base64.b64encode(data).decode("ascii")
    return (f"<figure><img alt='{escape(str(row['image_id']), quote=True)}' src='data:image/jpeg;base64,{source}'>"
            f"<figcaption>{caption}</figcaption></figure>")


def _overlay(table: StudyTable, row: Mapping[str, Any]) -> bytes:
    """JPEG of the row's image with outlines of its masks and its boxes."""
    pixels = read_image(table.image_path(row)).pixels
    height, width = pixels.shape
    scale = PICTURE_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    grey = Picture.fromarray(np.round(pixels * 255).astype(np.uint8)).resize(size, Picture.Resampling.BOX)
    colour = np.array(grey.convert("RGB"))
    lungs = read_lung_mask(table, row)
    if lungs is not None:
        _draw_outline(colour, lungs[0], LUNG)
    if row["heart_mask"]:
        _draw_outline(colour, read_grey_mask(str(row["heart_mask"]), table.root) > 0, HEART)
    for cell in json.loads(row["lesion_masks"]).values():
        _draw_outline(colour, read_grey_mask(cell, table.root) > 0, LESION)
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
