"""A story as one HTML page that needs nothing else: styles, pictures, the story itself and the evidence it cites.

The page opens from disk and without network, says everything without its script, and prints on A4 and Letter. It carries
the SHA-256 of itself. Sentences stand in the story's order, so that a checker can read the story back from the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from weakref import WeakKeyDictionary

import msgspec
from markupsafe import Markup

from storyxai.errors import CitationError
from storyxai.evidence.paths import figure_name, figure_parts
from storyxai.evidence.record import as_record
from storyxai.evidence.schema import EvidenceRecord
from storyxai.evidence.story_record import story_as_record
from storyxai.pages import figures as draw
from storyxai.pages.layout import Labels, data_uri, labels_of, render_template
from storyxai.pages.plots import Forest, Panels, Plane, plot_of
from storyxai.pages.tables import PrintedRecord, format_value, table_of, value_part
from storyxai.pages.views import Part, Table
from storyxai.provenance import sha256_bytes
from storyxai.types import Box, Evidence, Heatmap, Mask, Release, Section, Sentence, Story, boxed_findings

SEAL_PLACE = "0" * 64
"""Stands in the page while its SHA-256 is taken; the digest then takes its place."""
ONE_SCREEN = ("clinician",)
"""Readers whose page is a reading room: bottom line, image and map on one screen, the rest folded."""
CALM = "calm"
LONG_TABLE = 6
"""Tables of more rows than this are folded."""
LINE = 320
"""Units of a gauge's line."""
SAFE_NAME = re.compile(r"[\w .,()+@=-]+")
"""File names that mean nothing else in a shell or in Python: others are not put into code to copy."""
_OF_A_FINDING = ("findings.", "concepts.")
MANY = 4
"""From so many short sentences on, a list reads better than sentences run together."""


@dataclass(frozen=True)
class _Layer:
    """A picture to lie over the image: its id on the page, its address."""

    id: str
    source: str


@dataclass(frozen=True)
class _Scale:
    """A map's scale: its two ends in print, its colours."""

    low: str
    high: str
    bar: str


@dataclass(frozen=True)
class _Tile:
    """The image with what lies over it, or in its place the reason why nothing does."""

    alt: str
    title: str
    layers: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    unit: str = ""
    scale: _Scale | None = None
    own: tuple[Part, Part] | None = None
    drawn: tuple[str, ...] = ()
    reason: Part | None = None
    finding: str = ""


@dataclass(frozen=True)
class _Gauge:
    """A finding's probability on a line from 0 to 1, `LINE` units long; `said` words its tier."""

    finding: str
    name: str
    tier: str
    said: str
    probability: Part
    alt: str
    low: float
    high: float
    at: float
    limit: float
    limit_said: str

    @property
    def anchor(self) -> str:
        """Where the threshold's label begins: near an end of the line the picture would cut it off."""
        return "start" if self.limit < 0.12 * LINE else "end" if self.limit > 0.88 * LINE else "middle"


@dataclass(frozen=True)
class _Said:
    """A sentence, the number of the note that holds its evidence, and the one finding that it is about, if it is."""

    text: str
    note: int
    finding: str = ""


@dataclass(frozen=True)
class _Part:
    """A section as it is laid out."""

    id: str
    heading: str
    said: tuple[_Said, ...]
    gauges: tuple[_Gauge, ...]
    rows: tuple[tuple[_Tile, ...], ...]
    tables: tuple[tuple[Table, bool], ...]
    plots: tuple[Forest | Plane | Panels, ...] = ()
    code: tuple[tuple[str, ...], ...] = ()

    @property
    def listed(self) -> bool:
        """Whether its sentences stand as a list."""
        return len(self.said) >= MANY

    @property
    def itemised(self) -> bool:
        """Whether a patient reads its sentences as a list: of many, or of questions."""
        return len(self.said) >= MANY or (len(self.said) > 1 and all(one.text.endswith("?") for one in self.said))

    @property
    def items(self) -> tuple[tuple[_Said, ...], ...]:
        """Its sentences, those of one finding that follow one another together."""
        grouped = groupby(enumerate(self.said), key=lambda one: one[1].finding or one[0])
        return tuple(tuple(said for _, said in some) for _, some in grouped)


@dataclass(frozen=True)
class _Focus:
    """A finding that a reader can bring to the front: its number, its section, its gauge, its maps."""

    number: int
    section: str
    gauge: _Gauge
    tiles: tuple[_Tile, ...]


@dataclass(frozen=True)
class _StoryView:
    """All that the template needs of one story."""

    story: Story
    kind: str
    facts: tuple[str, ...]
    embedded: Markup
    digest: str
    seal: str
    patient: bool
    released: str
    one_screen: bool
    size: tuple[int, int]
    film: str
    store: tuple[_Layer, ...]
    parts: tuple[_Part, ...]
    focuses: tuple[_Focus, ...]
    untouched: _Tile
    beside: _Tile | None
    notes: tuple[tuple[int, tuple[tuple[str, Part], ...]], ...]
    downloads: tuple[tuple[str, str, str], ...] = ()
    held: Markup | str = ""


def render_html(story: Story, evidence: Evidence | None = None, *, release: Release | None = None) -> bytes:
    """The page of `story` as UTF-8 bytes; the same story and evidence give the same bytes.

    A page that is to be signed says that it is not yet for reading, and has no picture, unless its `release` says otherwise.
    Without its evidence the page has the sentences and the paths that they cite, but no picture, table or value.
    Raises: CitationError when a figure stands for a map that is withheld or not there.
    """
    builder = None if evidence is None else _Builder(story, evidence, release)
    view, labels = (_told_alone(story), labels_of(story.language)) if builder is None else (builder.view(), builder.labels)
    page = render_template("story.html", view, labels, script="page.js")
    return page.replace(SEAL_PLACE.encode(), sha256_bytes(page).encode(), 1)


_LAYERS: WeakKeyDictionary[Evidence, dict[tuple[str, float], str]] = WeakKeyDictionary()
"""The layers of one study stand on several pages; they are forgotten with the study."""


@dataclass
class _Builder:
    """One page being made: numbers the notes as sentences come, and keeps the scale that its maps share."""

    story: Story
    evidence: Evidence
    release: Release | None = None
    notes: dict[tuple[str, ...], int] = field(default_factory=dict)
    store: dict[str, _Layer] = field(default_factory=dict)

    @cached_property
    def record(self) -> Mapping[str, object]:
        return as_record(self.evidence)

    @cached_property
    def labels(self) -> Labels:
        return labels_of(self.story.language, self.record)

    @cached_property
    def printed(self) -> PrintedRecord:
        return PrintedRecord(self.record, self.labels)

    @property
    def facts(self) -> EvidenceRecord:
        return self.printed.facts

    @cached_property
    def patient(self) -> bool:
        return self.story.style == CALM

    @cached_property
    def layered(self) -> bool:
        return self.story.style == "layered"

    @cached_property
    def maps(self) -> dict[str, Heatmap]:
        return {figure_name("map", h.finding, h.method): h for h in self.evidence.heatmaps}

    @cached_property
    def limits(self) -> dict[tuple[str, str], float]:
        """Maps of one method and unit can be compared, so they share a scale."""
        names = {name for section in self.story.sections for name in section.figures if name.startswith("map/")}
        shown = [self._heatmap(name) for name in sorted(names)]
        kinds = {(h.method, h.unit) for h in shown}
        return {kind: draw.map_limit(h for h in shown if (h.method, h.unit) == kind) for kind in kinds}

    def view(self) -> _StoryView:
        parts = tuple(self._part(number, section) for number, section in enumerate(self.story.sections))
        one_screen = self.story.audience in ONE_SCREEN and bool(parts)
        # Where nothing is to be relied on the image stands alone: a large map would look as if it were.
        alone = bool(self.facts.doubts)
        focuses = self._focuses(parts) if one_screen and not alone else ()
        study, height_width = self.facts.study, self.evidence.image.pixels.shape[:2]
        facts = [f"{self.labels.study} {study.study_id.removeprefix('study-')}", study.image.source]
        model = self.facts.model
        facts += [] if self.patient else [" ".join(filter(None, (model.name, model.version)))]
        drawn = one_screen or any(part.rows for part in parts)
        return _StoryView(
            story=self.story, kind=self.labels.audiences.get(self.story.audience, self.story.audience),
            facts=tuple(filter(None, facts)), embedded=_embedded(self.story),
            digest=str(self.story.provenance.get("evidence_sha256", "")), seal=SEAL_PLACE, patient=self.patient,
            released=self._released(), one_screen=one_screen, size=(height_width[1], height_width[0]),
            film=data_uri(draw.page_image_png(self.evidence.image)) if drawn else "", parts=parts, focuses=focuses,
            untouched=self._untouched, beside=self._beside(parts) if one_screen and not alone else None,
            store=tuple(self.store.values()), notes=self._notes(), downloads=self._downloads(),
            held=_in_script(json.dumps(self.record, ensure_ascii=False, sort_keys=True)) if self.layered else "",
        )

    def _downloads(self) -> tuple[tuple[str, str, str], ...]:
        """What a layered page offers to save, the record and the story: the file's name, its place on the page, its words."""
        if not self.layered:
            return ()
        study = self.facts.study.study_id
        return tuple(
            (f"{study}-{name}.json", f"storyxai-{name}", words)
            for name, words in (("evidence", self.labels.save_evidence), ("story", self.labels.save_story))
        )

    def _released(self) -> str:
        """Who released the page for reading, and when; "" while nobody has."""
        if self.release is None:
            return ""
        return self.labels.released.format(by=self.release.by, time=self.release.time)

    def _part(self, number: int, section: Section) -> _Part:
        pictures: list[tuple[str, str]] = []
        for name in section.figures:
            kind = name.split("/")[0]
            if kind in _PICTURES:
                pictures.append((_subject(name), name))
            elif kind not in ("gauge", "table", "plot", "code"):
                raise CitationError(f"figure '{name}' is of no known kind")
        held = self.story.signed and not (self.release and self.release.with_picture)
        rows = {} if held else {of: [name for whose, name in pictures if whose == of] for of, _ in pictures}
        plots = [plot_of(n.split("/")[1], self.printed) for n in section.figures if n.startswith("plot/")]
        tables = [table_of(n.split("/")[1], self.printed) for n in section.figures if n.startswith("table/")]
        return _Part(
            id=f"s{number}", heading=section.heading, said=tuple(map(self._said, section.sentences)),
            gauges=tuple(self._gauge(figure_parts(n)[1]) for n in section.figures if n.startswith("gauge/")),
            rows=tuple(tuple(self._tiles(names)) for names in rows.values()),
            tables=tuple((table, self.layered or len(table.rows) > LONG_TABLE) for table in tables if table is not None),
            plots=tuple(plot for plot in plots if plot is not None),
            code=tuple(self._again()) if "code/again" in section.figures else (),
        )

    def _again(self) -> Iterator[tuple[str, ...]]:
        """What makes this evidence again, to copy: for the command line, and for Python where the shipped student spoke."""
        image, made = self.facts.study.image, self.facts.made
        words = {
            "source": image.source, "methods": ", ".join(made.methods),
            "samples": made.samples, "seed": made.seed,
            "weights": self.facts.model.weights_sha256, "input": image.sha256,
        }
        if all(value not in ("", None) for value in words.values()) and SAFE_NAME.fullmatch(str(words["source"])):
            yield from (tuple(line.format(**words) for line in lines) for lines in self.labels.again)

    def _said(self, sentence: Sentence) -> _Said:
        about = {path.split(".")[1] for path in sentence.cites if path.startswith(_OF_A_FINDING)}
        note = self.notes.setdefault(tuple(sorted(sentence.cites)), len(self.notes) + 1)
        return _Said(sentence.text, note, about.pop() if len(about) == 1 else "")

    def _tiles(self, names: Iterable[str]) -> list[_Tile]:
        """The untouched image first, then what belongs to it, all of one size."""
        return [self._untouched, *(self._tile(name) for name in names if name != "image")]

    @cached_property
    def _untouched(self) -> _Tile:
        return _Tile(self.labels.untouched_alt, self.labels.untouched_patient if self.patient else self.labels.untouched)

    def _tile(self, name: str) -> _Tile:
        kind, *rest = figure_parts(name)
        if kind == "map":
            return self._map_tile(self._heatmap(name))
        if kind == "withheld":
            return self._withheld_tile(*rest)
        if kind == "outlines":
            masks = self.evidence.prediction.masks
            main = draw.main_outlines(masks)
            whole, layers = any(m.any() for n, m in masks.items() if n not in main), (self._outlines(masks, "outlines"),)
            if whole:
                return _Tile(self.labels.outlines_alt, self.labels.outlines, layers=layers)
            return _Tile(self.labels.outlines_main_alt, self.labels.outlines_main, layers=layers)
        boxes = tuple(box for box in self.evidence.prediction.boxes if not rest or box.finding == rest[0])
        title = self.labels.boxes_patient if self.patient else self.labels.boxes
        return _Tile(self.labels.boxes_alt, title, boxes=boxes[:1] if self.patient else boxes)

    def _map_tile(self, heatmap: Heatmap) -> _Tile:
        labels = self.labels
        finding = labels.words.finding(heatmap.finding)
        method = labels.methods.get(heatmap.method, heatmap.method)
        limit, signed = self.limits[heatmap.method, heatmap.unit], draw.is_signed(heatmap)
        main = draw.main_outlines(self.evidence.prediction.masks)
        boxes = self._box_over(heatmap)
        name = f"{heatmap.finding}/{heatmap.method}"
        layers = [self._stored(name, "m", lambda: draw.layer_png(heatmap, limit=limit), limit)]
        layers += [self._outlines(main, "main")] if main else []
        path = f"heatmaps.{heatmap.finding}.{heatmap.method}"
        called = (labels.doubtful_of if heatmap.doubtful else "{finding}: {method}").format(finding=finding, method=method)
        low, high = (format_value(end, labels) for end in ((-limit if signed else 0.0), limit))
        own = [value_part(self.printed, f"{path}.{leaf}", exact=False) for leaf in ("minimum", "maximum")]
        return _Tile(
            alt=labels.map_alt.format(method=method, finding=finding), title=called, layers=tuple(layers),
            boxes=boxes, unit=labels.words.word("unit", heatmap.unit),
            scale=_Scale(low, high, data_uri(draw.scale_png(signed=signed))),
            own=(own[0], own[1]), finding=heatmap.finding,
            drawn=tuple(labels.drawn_over[kind] for kind, there in (("box", boxes), ("main", main)) if there),
        )

    def _withheld_tile(self, finding: str, method: str) -> _Tile:
        title = self.labels.withheld_of.format(
            finding=self.labels.words.finding(finding), method=self.labels.methods.get(method, method)
        )
        reason = value_part(self.printed, f"heatmaps.{finding}.{method}.withheld_because")
        return _Tile("", title, reason=reason, finding=finding)

    def _heatmap(self, name: str) -> Heatmap:
        heatmap = self.maps.get(name)
        if heatmap is None or not heatmap.shown:
            why = "is not in this evidence" if heatmap is None else "was withheld"
            raise CitationError(f"figure '{name}' stands for a map that {why}")
        return heatmap

    def _box_over(self, heatmap: Heatmap) -> tuple[Box, ...]:
        """The finding's strongest box, where one may be drawn."""
        if heatmap.finding not in boxed_findings(self.evidence):
            return ()
        return tuple(box for box in self.evidence.prediction.boxes if box.finding == heatmap.finding)[:1]

    def _outlines(self, masks: Mapping[str, Mask], name: str) -> str:
        return self._stored(name, "o", lambda: draw.outlines_png(masks))

    def _stored(self, name: str, letter: str, drawn: Callable[[], bytes], limit: float = 0.0) -> str:
        """The id of the layer called `name`, a map up to its `limit`: stored once for the page, drawn once for the study."""
        if name not in self.store:
            known = _LAYERS.setdefault(self.evidence, {})
            if (name, limit) not in known:
                known[name, limit] = data_uri(drawn())
            self.store[name] = _Layer(f"{letter}{len(self.store) + 1}", known[name, limit])
        return self.store[name].id

    def _gauge(self, finding: str) -> _Gauge:
        item, labels, path = self.facts.findings[finding], self.labels, f"findings.{finding}.probability"
        low, high = item.interval
        at, limit, name = item.probability, item.threshold, labels.words.finding(finding)
        values = {"probability": at, "low": low, "high": high, "threshold": limit}
        numbers = {key: labels.words.number(value, ".2f") for key, value in values.items()}
        said = Part(labels.words.printed(at, "decimal"), path)  # "above 0.99": never as sure when it is not
        tier = labels.tier(item.tier, calibrated="calibration" not in self.facts.gaps)
        return _Gauge(
            finding=finding, name=name, tier=item.tier, said=tier, probability=said,
            alt=labels.gauge_alt.format(finding=name, **numbers),
            low=LINE * low, high=LINE * high, at=LINE * at, limit=LINE * limit, limit_said=numbers["threshold"],
        )

    def _focuses(self, parts: tuple[_Part, ...]) -> tuple[_Focus, ...]:
        """The findings that have a section of their own, in the story's order; of each the maps that are shown stand first."""
        told = [(part, gauge) for part in parts for gauge in part.gauges]
        return tuple(
            _Focus(number, part.id, gauge, tuple(sorted(
                (t for row in part.rows for t in row if t.finding == gauge.finding), key=lambda tile: bool(tile.reason)
            )))
            for number, (part, gauge) in enumerate(told, start=1)
        )

    def _beside(self, parts: tuple[_Part, ...]) -> _Tile | None:
        """What stands beside the image where no map does: the first other picture that the story asks for."""
        return next((t for part in parts for row in part.rows for t in row[1:] if not t.finding), None)

    def _notes(self) -> tuple[tuple[int, tuple[tuple[str, Part], ...]], ...]:
        return tuple(
            (number, tuple((path, value_part(self.printed, path)) for path in paths))
            for paths, number in self.notes.items()
        )


_PICTURES = {"image", "outlines", "boxes", "map", "withheld"}


def _told_alone(story: Story) -> _StoryView:
    """A story whose evidence is not at hand: its sentences and what they cite."""
    notes: dict[tuple[str, ...], int] = {}
    parts = tuple(
        _Part(f"s{number}", section.heading, tuple(
            _Said(s.text, notes.setdefault(tuple(sorted(s.cites)), len(notes) + 1)) for s in section.sentences
        ), (), (), ())
        for number, section in enumerate(story.sections)
    )  # fmt: skip
    labels = labels_of(story.language)
    return _StoryView(
        story=story, kind=labels.audiences.get(story.audience, story.audience), facts=(labels.told_alone,),
        embedded=_embedded(story), digest=str(story.provenance.get("evidence_sha256", "")), seal=SEAL_PLACE,
        patient=story.style == CALM, released="", one_screen=False, size=(1, 1), film="", store=(), parts=parts, focuses=(),
        untouched=_Tile("", ""), beside=None,
        notes=tuple((number, tuple((path, Part("")) for path in paths)) for paths, number in notes.items()),
    )


def _embedded(story: Story) -> Markup:
    """The story as JSON to stand in a script element."""
    text = json.dumps(story_as_record(story), ensure_ascii=False, sort_keys=True)
    return _in_script(msgspec.json.format(text, indent=1))  # as json would lay it out itself, but in C


def _in_script(text: str) -> Markup:
    """JSON to stand in a script element, where no "<" may, whatever a file was called."""
    return Markup(text.replace("<", "\\u003c"))


def _subject(name: str) -> str:
    """What a picture belongs to: pictures of one finding share a row."""
    kind, *rest = figure_parts(name)
    return f"finding/{rest[0]}" if rest else "image" if kind in ("image", "outlines", "boxes") else kind
