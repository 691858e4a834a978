"""A comparison of two studies in words: as one page with both images, or as plain text. Same comparison, same bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from storyxai.catalogue.page_words import CompareWords
from storyxai.evidence.compare import HALF_PRINTED, Comparison, FindingPair, MeasurePair, Told
from storyxai.evidence.record import as_record
from storyxai.pages.figures import image_png, map_limit, map_png
from storyxai.pages.layout import Labels, data_uri, labels_of, render_document
from storyxai.pages.views import Block, Cell, Chapter, Document, Fold, Listing, Part, Picture, Pictures, Row, Table, cell
from storyxai.types import RESEARCH_USE, Evidence

PICTURE_SIDE_PX = 560
COLUMNS = 100
"""Width of plain text."""


def render_comparison(found: Comparison, a: Evidence, b: Evidence, language: str = "en") -> bytes:
    """The page of the comparison of `a` and `b`, as UTF-8 bytes."""
    says = _Says(found, labels_of(language, as_record(a)))
    words = says.words
    facts = tuple(f"{letter}: {side.source} · {_called(of) or side.model_id}" for letter, side, of in
                  (("A", found.a, a), ("B", found.b, b)))  # fmt: skip
    chapters = [
        Chapter(words.in_short, (Listing(tuple(says.short())),)),
        Chapter(words.images, (_images(says, a, b),)),
        Chapter(words.findings, tuple(_findings(says))),
        *([Chapter(words.maps, (maps,))] if (maps := _maps(says, a, b)) is not None else []),
        *([Chapter(words.places, (_places(says),))] if found.places else []),
        *([Chapter(words.measures, (_measures(says),))] if found.measures else []),
        Chapter(words.models, (_models(says),)),
        Chapter(words.limits, (Listing(tuple(says.limits())),)),
    ]
    return render_document(Document(words.kind, words.titles[found.kind], facts, tuple(chapters), language))


def _called(evidence: Evidence) -> str:
    """What the model is called; its id and its weights stand in the table of models."""
    return " ".join(filter(None, (evidence.model.name, evidence.model.version)))


def say_comparison(found: Comparison, a: Evidence, language: str = "en") -> str:
    """The comparison as plain text; the words of measurements are those of the modality that `a` is of."""
    says = _Says(found, labels_of(language, as_record(a)))
    words = says.words
    lines = [RESEARCH_USE, "", words.titles[found.kind]]
    lines += [f"{letter}: {side.source}, {side.model_id}" for letter, side in (("A", found.a), ("B", found.b))]
    parts: list[tuple[str, Iterable[str]]] = [
        (words.in_short, says.short()), (words.findings, map(says.finding_line, found.findings)),
        (words.places, (f"{says.finding(p.finding)}, {words.place[p.what]}: "
                           f"{says.place(p.what, p.a)} | {says.place(p.what, p.b)}" for p in found.places)),
        (words.measures, map(says.measure_line, found.measures)), (words.limits, says.limits()),
    ]  # fmt: skip
    for heading, said in parts:
        told = [line for one in said for line in textwrap.wrap(one, COLUMNS, initial_indent="- ", subsequent_indent="  ")]
        lines += ["", heading, *told] if told else []
    return "\n".join([*lines, "", RESEARCH_USE, ""])


@dataclass(frozen=True)
class _Says:
    """One comparison in one language's words."""

    found: Comparison
    labels: Labels

    @property
    def words(self) -> CompareWords:
        return self.labels.compare

    @property
    def unknown(self) -> str:
        return self.labels.unknown

    def finding(self, name: str) -> str:
        """The plain name of a finding."""
        return self.labels.words.finding(name)

    def place(self, what: str, said: str | None) -> str:
        """A side, or zones, in this language."""
        table = {"zones": "zone"}.get(what, what)
        return self.labels.words.printed(said, f"words:{table}") if said else self.unknown

    def short(self) -> list[str]:
        """What differs beyond both intervals, what differs within them, what does not, and what cannot be compared."""
        told: list[str] = []
        # What neither study names changes nothing that a reader does: it stands behind what one of them names.
        for pair in sorted(self.found.read_as("higher", "lower"), key=lambda pair: not pair.told):
            form = self.words.higher if pair.reading == "higher" else self.words.lower
            told.append(form.format(**self._numbers(pair)))
        within = self.found.read_as("within")
        otherwise, alike = [pair for pair in within if pair.tier_differs], [pair for pair in within if not pair.tier_differs]
        told += [self.words.told_otherwise.format(**self._numbers(pair)) for pair in otherwise]
        for form, pairs in ((self.words.within, alike), (self.words.same, self.found.read_as("same")),
                            (self.words.untold, self.found.read_as("untold")),
                            (self.words.one_sided, self.found.read_as("one_sided"))):  # fmt: skip
            if pairs:
                told.append(form.format(count=len(pairs), names=", ".join(self.finding(p.name) for p in pairs)))
        if not self.found.read_as("higher", "lower"):
            told.insert(0, self.words.nothing_beyond)
        return told

    def limits(self) -> list[str]:
        """What the comparison cannot say, and what to keep in mind."""
        return [self.words.remarks[code] for code in (*self.found.remarks, self.found.kind, "no_course")]

    def number(self, value: float | None, form: str = ".2f") -> str:
        """The number in print; a dash where it is not known."""
        return self.unknown if value is None else self.labels.words.number(value, form)

    def bounded(self, probability: float) -> str:
        """A probability in two decimals, never as sure when it is not."""
        marks = {"< ": 0.01, "> ": 0.99}
        end = "< " if 0 < probability < HALF_PRINTED else "> " if 1 - HALF_PRINTED <= probability < 1 else ""
        return f"{end}{self.number(marks.get(end, probability))}"

    def told(self, side: Told | None, *, calibrated: bool) -> str:
        """ "likely 0.83 (0.74 to 0.90)"."""
        if side is None:
            return self.unknown
        if not calibrated:
            return f"{self.labels.scored[side.tier]} {self.bounded(side.probability)}"
        low, high = map(self.bounded, side.interval)
        between = low if low == high and low[0] in "<>" else f"{low} {self.labels.to} {high}"
        return f"{self.labels.tiers[side.tier]} {self.bounded(side.probability)} ({between})"

    def both(self, pair: FindingPair) -> tuple[str, str]:
        """How each study tells the finding."""
        return (self.told(pair.a, calibrated=self.found.a.calibrated), self.told(pair.b, calibrated=self.found.b.calibrated))

    def finding_line(self, pair: FindingPair) -> str:
        """One finding on one line of text."""
        first, second = self.both(pair)
        return f"{self.finding(pair.name)}: {first} | {second}; {self.words.readings[pair.reading]}"

    def measure_name(self, pair: MeasurePair) -> str:
        """What the modality's measurement is called."""
        return self.words.measure.get(pair.name, pair.name.replace("_", " "))

    def measure_line(self, pair: MeasurePair) -> str:
        """One measurement on one line of text."""
        first, second = (self.measured(*one) for one in ((pair.a, pair.error_a), (pair.b, pair.error_b)))
        return f"{self.measure_name(pair)}: {first} | {second}; {self.measure_reading(pair)}"

    def measured(self, value: float | None, error: float | None) -> str:
        """A measurement with its error, where that is known."""
        return self.number(value) if value is None or error is None else f"{self.number(value)} ± {self.number(error)}"

    def measure_reading(self, pair: MeasurePair) -> str:
        """What may be said of two measurements."""
        key = "unknown" if pair.within is None else "within" if pair.within else "beyond"
        return self.words.measure_readings[key]

    def _numbers(self, pair: FindingPair) -> dict[str, str]:
        first, second = self.both(pair)
        return {"finding": self.finding(pair.name), "a": first, "b": second}


def _images(says: _Says, a: Evidence, b: Evidence) -> Pictures:
    def shown(letter: str, evidence: Evidence) -> Picture:
        image = evidence.image
        view = image.view if image.view not in ("", "unknown") else ""
        words = (image.source, view, f"{image.pixels.shape[1]} × {image.pixels.shape[0]}")
        return Picture(data_uri(image_png(image, long_side=PICTURE_SIDE_PX)), letter, ", ".join(filter(None, words)))

    return Pictures((shown("A", a), shown("B", b)))


def _findings(says: _Says) -> list[Block]:
    """The findings that either study names or whose tier differs as a table, the others folded."""
    pairs = says.found.findings
    first = [pair for pair in pairs if pair.told or pair.tier_differs or pair.reading in ("higher", "lower", "one_sided")]
    rest = [pair for pair in pairs if pair not in first]
    blocks: list[Block] = [_finding_table(says, first)] if first else []
    return blocks + ([Fold(says.words.others.format(len(rest)), (_finding_table(says, rest),))] if rest else [])


def _finding_table(says: _Says, pairs: Iterable[FindingPair]) -> Table:
    columns = tuple(says.words.columns[key] for key in ("finding", "a", "b", "difference", "overlap", "reading"))
    return Table(columns, tuple(_finding_row(says, pair) for pair in pairs), says.words.each)


def _finding_row(says: _Says, pair: FindingPair) -> Row:
    paths = [f"{letter}.findings.{pair.name}.probability" for letter in "AB"]
    sides = [Cell((Part(text, path),)) if side else cell(text)
             for text, path, side in zip(says.both(pair), paths, (pair.a, pair.b), strict=True)]  # fmt: skip
    overlap = says.unknown if pair.overlap is None else says.labels.answer(yes=pair.overlap)
    reading = says.words.readings[pair.reading]
    beyond = pair.reading in ("higher", "lower")
    last = Cell((Part(reading, kind="beyond" if beyond else ""),))
    return Row(cell(says.finding(pair.name)), (*sides, cell(says.number(pair.difference, "+.2f")), cell(overlap), last))


def _maps(says: _Says, a: Evidence, b: Evidence) -> Fold | None:
    """The maps of both studies of each finding that either names, by one method and on one scale."""
    pictures: list[Picture] = []
    shown = [{(h.finding, h.method): h for h in evidence.heatmaps if h.shown} for evidence in (a, b)]
    for pair in says.found.findings:
        for finding, method in shown[0].keys() & shown[1].keys() if pair.told else ():
            if finding == pair.name and method == "grad_cam":
                maps = [one[finding, method] for one in shown]
                limit, name = map_limit(maps), says.labels.methods.get(method, method)
                unit = says.labels.words.word("unit", maps[0].unit)
                ends = f"0 {says.labels.to} {says.number(limit, '.3g')}"
                pictures += [
                    Picture(data_uri(map_png(evidence.image, heatmap, limit=limit, long_side=PICTURE_SIDE_PX)),
                            f"{letter}: {says.finding(finding)}", f"{name}, {unit}, {ends}")
                    for letter, evidence, heatmap in zip("AB", (a, b), maps, strict=True)
                ]  # fmt: skip
    return Fold(says.words.maps_about, (Pictures(tuple(pictures)),)) if pictures else None


def _places(says: _Says) -> Table:
    columns = tuple(says.words.columns[key] for key in ("finding", "place", "a", "b", "reading"))
    rows = []
    for pair in says.found.places:
        said = says.words.readings["same" if pair.same else "otherwise"]
        cells = (says.words.place[pair.what], says.place(pair.what, pair.a), says.place(pair.what, pair.b), said)
        rows.append(Row(cell(says.finding(pair.finding)), tuple(map(cell, cells))))
    return Table(columns, tuple(rows))


def _measures(says: _Says) -> Table:
    columns = tuple(says.words.columns[key] for key in ("measure", "a", "b", "difference", "reading"))
    rows = tuple(
        Row(cell(says.measure_name(pair)), (
            cell(says.measured(pair.a, pair.error_a)), cell(says.measured(pair.b, pair.error_b)),
            cell(says.number(pair.difference, "+.2f")), cell(says.measure_reading(pair)),
        ))
        for pair in says.found.measures
    )  # fmt: skip
    return Table(columns, rows)


def _models(says: _Says) -> Table:
    a, b, words = says.found.a, says.found.b, says.words
    leaves = {"model": "model_id", "weights": "weights_sha256", "image": "image_sha256", "evidence": "evidence_sha256"}
    body = [Row(cell(words.rows[key]), (_code(getattr(a, leaf)), _code(getattr(b, leaf)))) for key, leaf in leaves.items()]
    body += [
        Row(cell(words.threshold_of.format(says.finding(pair.name))), tuple(
            cell(says.number(one.threshold, ".3f")) for one in (pair.a, pair.b) if one is not None
        ))
        for pair in says.found.findings if pair.threshold_differs
    ]
    return Table(tuple(words.columns[key] for key in ("what", "a", "b")), tuple(body))


def _code(text: str) -> Cell:
    return Cell((Part(text[:40], kind="code"),))
