"""A story as one HTML page that needs nothing else: styles, pictures, the story itself and the evidence it cites.

The page opens from disk, without script and without network, and prints on A4. It carries the SHA-256 of itself.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from importlib import resources
from itertools import groupby
from typing import Any

from storyxai.errors import CitationError, UnknownNameError
from storyxai.evidence.record import as_record, resolve, story_as_record
from storyxai.pages import figures as draw
from storyxai.pages.tables import format_value, table_html
from storyxai.provenance import sha256_bytes
from storyxai.types import Box, Evidence, Heatmap, Section, Sentence, Story

__all__ = ["render_html"]

SEAL_PLACE = "0" * 64
"""Stands in the page while its SHA-256 is taken; the digest then takes its place."""
ROW_SIDE_PX = 560
SINGLE_SIDE_PX = 720


def render_html(story: Story, evidence: Evidence) -> bytes:
    """The page of `story` as UTF-8 bytes; the same story and evidence give the same bytes.

    Raises: CitationError when a figure stands for a map that is withheld or not there.
    """
    page = _Page(story, evidence).html().encode("utf-8")
    return page.replace(SEAL_PLACE.encode(), sha256_bytes(page).encode(), 1)


class _Page:
    """One page being made: numbers the notes as sentences come, and keeps the scale that its maps share."""

    def __init__(self, story: Story, evidence: Evidence) -> None:
        self.story, self.evidence = story, evidence
        self.record = as_record(evidence)
        self.labels = _labels(story.language)
        self.patient = story.audience == "patient"
        self.notes: dict[tuple[str, ...], int] = {}
        self.films: dict[int, bytes] = {}
        self.drawn = {f"map/{h.finding}/{h.method}": h for h in evidence.heatmaps}
        names = {name for section in story.sections for name in section.figures if name.startswith("map/")}
        shown = [self._heatmap(name) for name in sorted(names)]
        # Maps of one method and unit can be compared, so they share a scale.
        kinds = {(h.method, h.unit) for h in shown}
        self.limits = {kind: draw.map_limit(h for h in shown if (h.method, h.unit) == kind) for kind in kinds}

    def html(self) -> str:
        story, labels = self.story, self.labels
        body = "".join(self._section(section) for section in story.sections)
        study = self.record["study"]
        facts = [f"{labels['study']} {study['study_id'].removeprefix('study-')}", study["image"]["source"]]
        facts += [] if self.patient else [study["model_id"]]
        kind = labels["audiences"].get(story.audience, story.audience)
        # No "<" may stand in a script element, whatever a file was called.
        embedded = json.dumps(story_as_record(story), ensure_ascii=False, sort_keys=True, indent=1)
        embedded = embedded.replace("<", "\\u003c")
        digest = story.provenance.get("evidence_sha256", "")
        research = escape(labels["research_use"])
        held = self._held_back() if self.patient else ""
        return f"""<!DOCTYPE html>
<html lang="{escape(story.language)}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="storyxai-seal" content="{SEAL_PLACE}">
<meta name="robots" content="noindex">
<title>{escape(f"{story.title} - {kind}")}</title>
<style>
{_style()}</style>
</head>
<body class="{escape(story.audience)}">
<p class="research">{research}</p>
<header>
<p class="kind">{escape(kind)}</p>
<h1>{_unbroken(story.title)}</h1>
<p class="facts">{" · ".join(escape(str(fact)) for fact in facts if fact)}</p>
{held}</header>
<main>
{body}</main>
{self._evidence_table()}<footer>
<p class="facts">{escape(labels["told_from"])} <code>{escape(str(digest))}</code></p>
</footer>
<p class="research last">{research}</p>
<script type="application/json" id="storyxai-story">{embedded}</script>
</body>
</html>
"""

    def _held_back(self) -> str:
        lines = f"<strong>{escape(self.labels['held_back'])}</strong>"
        return f'<p class="held">{lines}<span class="sign">{escape(self.labels["signature"])}</span></p>\n'

    def _section(self, section: Section) -> str:
        gauges = "".join(self._gauge(name.split("/")[1]) for name in section.figures if name.startswith("gauge/"))
        pictures = [name for name in section.figures if name.split("/")[0] in _PICTURES]
        tables = [name.split("/")[1] for name in section.figures if name.startswith("table/")]
        for name in section.figures:
            if name not in pictures and not name.startswith(("gauge/", "table/")):
                raise CitationError(f"figure '{name}' is of no known kind")
        rows = [list(group) for _, group in groupby(pictures, key=_subject)]
        drawn = "".join(self._picture_row(row) for row in rows)
        tabled = "".join(table_html(name, self.record, self.labels) for name in tables)
        text = "".join(self._sentence(sentence) for sentence in section.sentences)
        # Many short sentences of their own read better as a list than run together.
        kind = "text many" if len(section.sentences) >= 4 and not pictures else "text"
        text = f'<div class="{kind}">\n{text}</div>\n' if text else ""
        heading = f"<h2>{_unbroken(section.heading)}</h2>\n"
        parts = (text, drawn, tabled) if self.patient else (drawn, text, tabled)
        return f"<section>\n{heading}{gauges}{''.join(parts)}</section>\n"

    def _sentence(self, sentence: Sentence) -> str:
        number = self.notes.setdefault(tuple(sorted(sentence.cites)), len(self.notes) + 1)
        note = f'<sup><a href="#e{number}" aria-label="{escape(self.labels["evidence"])} {number}">{number}</a></sup>'
        text = _unbroken(sentence.text, tag="bdi") if self.patient else escape(sentence.text, quote=False)
        return f'<p><span class="s">{text}</span>{note}</p>\n'

    def _picture_row(self, names: Sequence[str]) -> str:
        """The untouched image first, then what belongs to it, all of one size."""
        image, labels = self.evidence.image, self.labels
        alone = list(names) == ["image"]
        side = SINGLE_SIDE_PX if alone else ROW_SIDE_PX
        if side not in self.films:
            self.films[side] = draw.image_png(image, long_side=side)
        caption = escape(labels["untouched_patient" if self.patient else "untouched"])
        shown = [_tile(self.films[side], labels["untouched_alt"], caption)]
        shown += [self._tile_of(name) for name in names if name != "image"]
        kind = "single" if alone else f"row of{min(len(shown), 3)}"
        return f'<div class="{kind}">\n{"".join(shown)}</div>\n'

    def _tile_of(self, name: str) -> str:
        kind, *rest = name.split("/")
        image, labels = self.evidence.image, self.labels
        masks = self.evidence.prediction.masks
        if kind == "map":
            return self._map_tile(self._heatmap(name))
        if kind == "withheld":
            return self._withheld_tile(rest[0], rest[1])
        if kind == "lungs":
            png = draw.outline_png(image, masks, long_side=ROW_SIDE_PX)
            kind = "" if "heart" in masks and masks["heart"].any() else "_lungs"
            return _tile(png, labels[f"outlines{kind}_alt"], escape(labels[f"outlines{kind}"]))
        boxes = [box for box in self.evidence.prediction.boxes if not rest or box.finding == rest[0]]
        png = draw.boxes_png(image, boxes[:1] if self.patient else boxes, calm=self.patient, long_side=ROW_SIDE_PX)
        return _tile(png, labels["boxes_alt"], escape(labels["boxes_patient" if self.patient else "boxes"]))

    def _heatmap(self, name: str) -> Heatmap:
        heatmap = self.drawn.get(name)
        if heatmap is None or not heatmap.shown:
            why = "is not in this evidence" if heatmap is None else f"was withheld: {heatmap.withheld_because}"
            raise CitationError(f"figure '{name}' stands for a map that {why}")
        return heatmap

    def _map_tile(self, heatmap: Heatmap) -> str:
        labels, signed = self.labels, draw.is_signed(heatmap)
        method = labels["methods"].get(heatmap.method, heatmap.method)
        limit = self.limits[heatmap.method, heatmap.unit]
        masks, boxes = self.evidence.prediction.masks, self._box_over(heatmap)
        png = draw.map_png(self.evidence.image, heatmap, limit=limit, masks=masks, boxes=boxes, long_side=ROW_SIDE_PX)
        path = f"heatmaps.{heatmap.finding}.{heatmap.method}"
        own = {leaf: _value_span(self.record, f"{path}.{leaf}", labels, exact=False) for leaf in ("minimum", "maximum")}
        shared = escape(labels["shared_scale"]).format(method=escape(method), low=own["minimum"], high=own["maximum"])
        low, high = (format_value(end, labels) for end in ((-limit if signed else 0.0), limit))
        bar = base64.b64encode(draw.scale_png(signed=signed)).decode()
        scale = (
            f'<span class="scale"><span>{low}</span><img src="data:image/png;base64,{bar}" alt="">'
            f"<span>{high}</span></span>"
        )
        over = [labels["drawn_over"][kind] for kind, there in (("box", boxes), ("lungs", masks)) if there]
        drawn = f"<small>{escape('; '.join(over))}</small>" if over else ""
        finding = heatmap.finding.replace("_", " ")
        what = escape(f"{finding}: {method}")
        caption = f"<strong>{what}</strong>, {escape(heatmap.unit)}{scale}<small>{shared}</small>{drawn}"
        return _tile(png, labels["map_alt"].format(method=method, finding=finding), caption)

    def _box_over(self, heatmap: Heatmap) -> list[Box]:
        """The finding's strongest box; it rests on the grid of the Grad-CAM map, and is not drawn where that is withheld."""
        cam = self.drawn.get(f"map/{heatmap.finding}/grad_cam")
        if cam is not None and not cam.shown:
            return []
        return [box for box in self.evidence.prediction.boxes if box.finding == heatmap.finding][:1]

    def _withheld_tile(self, finding: str, method: str) -> str:
        reason = _value_span(self.record, f"heatmaps.{finding}.{method}.withheld_because", self.labels)
        method_name = self.labels["methods"].get(method, method)
        name = self.labels["withheld_of"].format(finding=finding.replace("_", " "), method=method_name)
        height, width = self.evidence.image.pixels.shape
        said = f"<p><strong>{escape(name)}</strong><br>{reason}</p>"
        return f'<figure><div class="withheld" style="aspect-ratio:{width}/{height}">{said}</div></figure>\n'

    def _gauge(self, finding: str) -> str:
        """A line from 0 to 1 with the probability, its interval and the threshold."""
        item, labels = self.record["findings"][finding], self.labels
        low, high = item["interval"]
        at, limit = item["probability"], item["threshold"]
        alt = labels["gauge_alt"].format(
            finding=finding.replace("_", " "), probability=f"{at:.2f}", low=f"{low:.2f}", high=f"{high:.2f}",
            threshold=f"{limit:.2f}",
        )
        x = {name: 10 + 480 * value for name, value in (("low", low), ("high", high), ("at", at), ("limit", limit))}
        state = f'<span class="chip {item["state"]}">{escape(labels["states"][item["state"]])}</span>'
        # Near an end the label begins or ends at its mark, or the picture would cut it off.
        anchor = "start" if x["limit"] < 60 else "end" if x["limit"] > 440 else "middle"
        ticks = (0, 0.25, 0.5, 0.75, 1)
        ends = "".join(f'<text x="{10 + 480 * t:.0f}" y="47" text-anchor="middle">{t:g}</text>' for t in ticks)
        return f"""<div class="gauge">{state}
<svg viewBox="0 0 500 50" role="img" aria-label="{escape(alt)}"><title>{escape(alt)}</title>
<line x1="10" y1="27" x2="490" y2="27" class="axis"/>{ends}
<rect x="{x["low"]:.1f}" y="20" width="{max(2.0, x["high"] - x["low"]):.1f}" height="14" rx="3" class="interval"/>
<line x1="{x["limit"]:.1f}" y1="15" x2="{x["limit"]:.1f}" y2="35" class="limit"/>
<text x="{x["limit"]:.1f}" y="11" text-anchor="{anchor}">{escape(labels["gauge_threshold"])} {limit:.2f}</text>
<circle cx="{x["at"]:.1f}" cy="27" r="6" class="point"/>
</svg></div>
"""

    def _evidence_table(self) -> str:
        labels = self.labels
        rows = []
        for paths, number in self.notes.items():
            for index, path in enumerate(paths):
                mark = f'<th scope="rowgroup" rowspan="{len(paths)}" id="e{number}">{number}</th>' if not index else ""
                value = _value_span(self.record, path, labels)
                rows.append(f"<tr>{mark}<td><code>{escape(path)}</code></td><td>{value}</td></tr>\n")
        head = "".join(f'<th scope="col">{escape(labels[key])}</th>' for key in ("note", "path", "value"))
        whose = "_patient" if self.patient else ""
        title, about = escape(labels[f"evidence{whose}"]), escape(labels[f"evidence_about{whose}"])
        return (
            f'<section class="evidence">\n<h2>{title}</h2>\n<p>{about}</p>\n'
            f'<div class="scroll" tabindex="0" role="region" aria-label="{title}"><table class="data">\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody>\n</table></div>\n</section>\n"
        )


_PICTURES = {"image", "lungs", "boxes", "map", "withheld"}


def _subject(name: str) -> str:
    """What a picture belongs to: pictures of one finding share a row."""
    kind, *rest = name.split("/")
    return f"finding/{rest[0]}" if rest else "image" if kind in ("image", "lungs", "boxes") else kind


def _tile(png: bytes, alt: str, caption: str) -> str:
    source = base64.b64encode(png).decode()
    image = f'<img src="data:image/png;base64,{source}" alt="{escape(alt)}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>\n"


def _unbroken(text: str, *, tag: str = "span") -> str:
    """`text` escaped, words with a hyphen kept in one line: "X-" at the end of a line on a phone is hard to read."""
    return re.sub(r"\b(\w+-\w+)\b", rf'<{tag} class="nb">\1</{tag}>', escape(text, quote=False))


def _value_span(record: Mapping[str, Any], path: str, labels: Mapping[str, Any], *, exact: bool = True) -> str:
    text = format_value(resolve(record, path), labels, exact=exact)
    return f'<span data-path="{escape(path)}">{escape(text)}</span>'


@lru_cache(maxsize=4)
def _labels(language: str) -> Mapping[str, Any]:
    folder = resources.files("storyxai.pages") / "templates"
    known = [file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json")]
    if language not in known:
        raise UnknownNameError("language", language, known)
    labels: Mapping[str, Any] = json.loads((folder / f"{language}.json").read_text(encoding="utf-8"))
    return labels


@lru_cache(maxsize=1)
def _style() -> str:
    return (resources.files("storyxai.pages") / "templates" / "page.css").read_text(encoding="utf-8")
