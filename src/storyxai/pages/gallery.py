"""One slide of several films, each beside the map of its first finding: what a talk shows. It prints and projects at 16:9."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storyxai.evidence.record import as_record, typed_record
from storyxai.evidence.schema import EvidenceRecord
from storyxai.pages.figures import image_png, layer_png, map_limit, scale_png
from storyxai.pages.layout import Labels, data_uri, labels_of, render_template
from storyxai.types import Evidence, Heatmap

MOST_FILMS = 12
"""More films on one slide are too small to be seen."""
FILM_PX = 460
COLUMNS = ((1, 1), (4, 2), (6, 3), (9, 3), (12, 4))
"""Up to so many films stand in so many columns."""


@dataclass(frozen=True)
class Exhibit:
    """One film as the slide shows it; `layer` lies over it in the second picture, `said` is what its story names first."""

    title: str
    size: tuple[int, int]
    film: str
    layer: str
    finding: str
    said: str
    caption: str
    signed: bool


@dataclass(frozen=True)
class _View:
    exhibits: tuple[Exhibit, ...]
    title: str
    columns: int
    scales: tuple[tuple[str, str], ...]
    language: str


def exhibit_of(evidence: Evidence, *, finding: str = "", language: str = "en") -> Exhibit:
    """The film with the map of `finding`, by default of the first named finding that has a map which passed its checks.

    Where nothing is to be relied on there is neither: the slide says so.
    """
    record = as_record(evidence)
    labels, facts = labels_of(language, record), typed_record(record)
    named = () if facts.doubts else (finding,) if finding else facts.named
    heatmap = _map_of(evidence, named)
    shown = heatmap.finding if heatmap else next(iter(named), "")
    height, width = evidence.image.pixels.shape[:2]
    layer = data_uri(layer_png(heatmap, limit=map_limit([heatmap]))) if heatmap else ""
    return Exhibit(
        title=evidence.image.source, size=(width, height), film=data_uri(image_png(evidence.image, long_side=FILM_PX)),
        layer=layer, finding=labels.words.finding(shown), said=_said(facts, shown, labels), caption=_caption(heatmap, labels),
        signed=heatmap is not None and bool(heatmap.values.min() < 0),
    )


def render_gallery(exhibits: Sequence[Exhibit], *, title: str = "", language: str = "en") -> bytes:
    """The slide as UTF-8 bytes: at most `MOST_FILMS` films, in the order given."""
    labels, shown = labels_of(language), tuple(exhibits[:MOST_FILMS])
    columns = next(columns for films, columns in COLUMNS if len(shown) <= films)
    kinds = sorted({one.signed for one in shown if one.layer})
    words = labels.gallery
    scales = tuple((data_uri(scale_png(signed=signed)), words.signed if signed else words.positive) for signed in kinds)
    view = _View(shown, title or words.title.format(len(shown)), columns, scales, language)
    return render_template("gallery.html", view, labels)


def _map_of(evidence: Evidence, findings: Sequence[str]) -> Heatmap | None:
    """The first map that is shown of the first of the findings that has one."""
    return next((h for name in findings for h in evidence.heatmaps if h.finding == name and h.shown), None)


def _said(facts: EvidenceRecord, finding: str, labels: Labels) -> str:
    if finding not in facts.findings:
        return labels.index.doubted if facts.doubts else labels.gallery.nothing
    item = facts.findings[finding]
    tier = labels.tier(item.tier, calibrated="calibration" not in facts.gaps)
    return f"{labels.words.printed(item.probability, 'decimal')}, {tier}"


def _caption(heatmap: Heatmap | None, labels: Labels) -> str:
    if heatmap is None:
        return labels.no_map
    method = labels.methods.get(heatmap.method, heatmap.method)
    said = f"{method}, {labels.words.word('unit', heatmap.unit)}"
    return labels.doubtful_of.format(finding=labels.words.finding(heatmap.finding), method=said) if heatmap.doubtful else said
