"""What stands on a page around its sentences: the research line, the banner, chips, gauges, pictures' words, all other text."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from storyxai.errors import CitationError
from storyxai.evidence.paths import finding_in, resolve
from storyxai.evidence.schema import BoxRecord
from storyxai.proof.lexicon import Lexicon, bare_text, find_phrases
from storyxai.proof.page import Chip, Gauge, Page, Row, Tile
from storyxai.proof.printing import prints_number
from storyxai.types import Release

__all__ = ["map_of", "surrounding_problems"]

SIGNED: Final = ("patient",)
HELD_FORMS: Final = (".html", ".md", ".json")
"""Forms that say whether a page may be read."""
_SLOT: Final = re.compile(r"\{(\w*)\}")
_TOLERANCE: Final = 0.002
"""How far from its number a mark may stand, as a share of its line: pages print tenths of a pixel."""


def surrounding_problems(
    page: Page, lexicon: Lexicon, release: Release | None = None, texts: Collection[str] | None = ()
) -> Iterator[str]:
    """What is wrong on the page beside its sentences and cells, one line each.

    `texts` are a reader's own title and headings; None where nobody knows them, and all other text is let pass.
    """
    released = "" if release is None else lexicon.labels.released.format(by=release.by, time=release.time)
    if len(page.research) < 2 or any(line != lexicon.labels.research_use for line in page.research):
        yield "lacks the line that it is for research use only, at its head or its foot"
    yield from (f"hides “{text}” from its reader" for text in page.hidden)
    yield from (f"holds {what}" for what in page.foreign)
    yield from (f"has two elements called {name}" for name in page.twice)
    yield from (f"says “{said.text}” more than once" for said, count in Counter(page.said).items() if count > 1)
    if page.form in HELD_FORMS:
        held = page.held or lexicon.labels.held_back in page.other
        yield from _release_problems(page, released, held=held)
    for chip in page.chips:
        yield from _chip_problems(chip, lexicon)
    if page.chips:
        yield from _chips_missing(page.chips, lexicon)
    for gauge in page.gauges:
        yield from _gauge_problems(gauge, lexicon)
    for row in page.rows:
        yield from _row_problems(row, lexicon)
    for tile in page.tiles:
        yield from _tile_problems(tile, page, lexicon)
    known = _Known(lexicon, [released, *(texts or ())])
    odd = [text for text in dict.fromkeys(page.other) if texts is not None and not known.explains(text)]
    yield from (f"says “{text}”, which is no part of such a page" for text in odd)


def _release_problems(page: Page, released: str, *, held: bool) -> Iterator[str]:
    if page.audience in SIGNED and not held and not released:
        yield "is shown as released, and no release is on record"
    if held and released:
        yield "is held back though it was released"
    if released and released not in page.other:
        yield f"does not say who released it and when ({released})"


def _chip_problems(chip: Chip, lexicon: Lexicon) -> Iterator[str]:
    finding = next((hit.what for hit in find_phrases(chip.name, lexicon.findings)), "")
    if chip.path != f"findings.{finding}.probability":
        yield f"names {chip.name} beside the number of {chip.path}"
    if finding and not _says_tier(chip.tier, finding, lexicon):
        tier = lexicon.facts.findings[finding].tier.replace("_", " ")
        yield f"calls {chip.name} {chip.tier}, which is {tier} on record"


def _chips_missing(chips: Sequence[Chip], lexicon: Lexicon) -> Iterator[str]:
    shown = {chip.path for chip in chips}
    for finding in lexicon.facts.named:
        if f"findings.{finding}.probability" not in shown:
            yield f"leaves {finding} out of the findings that it brings to the front"


def _says_tier(text: str, finding: str, lexicon: Lexicon) -> bool:
    tier = lexicon.facts.findings[finding].tier
    return text.casefold() == lexicon.labels.tier(tier, calibrated="calibration" not in lexicon.facts.gaps).casefold()


def _row_problems(row: Row, lexicon: Lexicon) -> Iterator[str]:
    """Whether a row's values are of the finding at its head, and stand under the heads of their columns."""
    columns = lexicon.labels.columns
    head = next((name for name, called in lexicon.findings.items() if row.head.casefold() in map(str.casefold, called)), "")
    for column, path in row.values:
        parts = path.split(".")
        of = finding_in(path, lexicon.findings)
        if of and head and of != head:
            yield f"names {row.head} beside a value of {of} ({path})"
        heads = {lexicon.labels.column(part) for part in parts[-2:] if part in columns or parts[0] == "checks"}
        if heads and parts[0] != "provenance" and column not in heads:
            yield f"puts the value of {path} under “{column}”"


def _gauge_problems(gauge: Gauge, lexicon: Lexicon) -> Iterator[str]:
    said = _read_by(lexicon.labels.gauge_alt, gauge.alt)
    finding = next((hit.what for hit in find_phrases(said.get("finding", ""), lexicon.findings)), "")
    if not finding:
        yield f"has a line that says “{gauge.alt}”, which names no finding"
        return
    item = lexicon.facts.findings[finding]
    low, high = item.interval
    meant = {"probability": item.probability, "low": low, "high": high, "threshold": item.threshold}
    for name, value in meant.items():
        numbers = lexicon.numbers(said.get(name, "")) or lexicon.plain_numbers(said.get(name, ""))
        if len(numbers) != 1 or not prints_number(numbers[0], value):
            yield f"has a line of {finding} whose {name} is “{said.get(name, '')}” where the record has {value:g}"
        at = gauge.marks.get(name)
        if at is not None and not abs(at - value) <= _TOLERANCE:
            yield f"draws the {name} of {finding} at {at:.3f} where the record has {value:g}"
    if gauge.tier and not _says_tier(gauge.tier, finding, lexicon):
        yield f"calls {finding} {gauge.tier}, which is {item.tier.replace('_', ' ')} on record"


def _tile_problems(tile: Tile, page: Page, lexicon: Lexicon) -> Iterator[str]:
    """Whether a picture that is said to bring a map brings one that is shown, and whether its frames are on record."""
    yield from (f"shows a picture “{layer}” that it does not hold" for layer in tile.layers if layer not in page.images)
    maps = [layer for layer in tile.layers if layer.startswith("m")]
    of = map_of(tile, lexicon)
    if maps and of is None:
        yield f"lays a map over a picture that is called “{tile.alt}”"
    elif of is not None:
        finding, method = of
        item = lexicon.facts.heatmaps.get(finding, {}).get(method)
        if item is None or not item.shown:
            yield f"shows the {method} map of {finding}, which {'was withheld' if item else 'is not in this evidence'}"
        if len(maps) != 1:
            yield f"shows {len(maps)} maps as the {method} map of {finding}"
    recorded = [box for boxes in lexicon.facts.boxes.values() for box in boxes]
    for frame in tile.frames:
        if not any(_alike(frame, box) for box in recorded):
            yield f"draws a frame at {', '.join(f'{n:g}' for n in frame)} that is not on record"


def map_of(tile: Tile, lexicon: Lexicon) -> tuple[str, str] | None:
    """The finding and the method of the map that a picture's words name, None where they name none."""
    said = _read_by(lexicon.labels.map_alt, tile.alt)
    finding = next((hit.what for hit in find_phrases(said.get("finding", ""), lexicon.findings)), "")
    method = next((hit.what for hit in find_phrases(said.get("method", ""), lexicon.methods)), "")
    return (finding, method) if finding and method else None


def _alike(frame: Sequence[float], box: BoxRecord) -> bool:
    return all(math.isclose(a, b, abs_tol=0.01) for a, b in zip(frame, (box.x, box.y, box.width, box.height), strict=True))


def _read_by(form: str, text: str) -> dict[str, str]:
    """What stands in the places of a label ("{finding}: {method} map withheld"); nothing where the text is not of its form."""
    names, pattern = _label_form(form)
    match = pattern.fullmatch(text)
    return dict(zip(names, match.groups(), strict=True)) if match else {}


@lru_cache(maxsize=1024)
def _label_form(form: str) -> tuple[list[str], re.Pattern[str]]:
    """What the places of a label are called, and what its texts look like."""
    parts = _SLOT.split(form)
    names = [name or str(place) for place, name in enumerate(parts[1::2])]
    return names, re.compile("(.+?)".join(map(re.escape, parts[::2])))


class _Known:
    """Everything that a page says around its story: labels, headings, what is on record, and joins of these."""

    def __init__(self, lexicon: Lexicon, given: Iterable[str]) -> None:
        self._lexicon = lexicon
        self._texts = lexicon.said_anywhere | set(map(bare_text, given))
        # A button says what stands behind the last colon of a picture's title.
        parts = (part for text in lexicon.page_texts for part in {text, text.split(": ")[-1]})
        self._forms = [part for part in parts if _SLOT.search(part)]

    def explains(self, text: str, deep: int = 0) -> bool:
        """Whether the text is known, is of a label's form with known parts, or joins known parts by a mark."""
        bare = bare_text(text)
        if not deep and self._is_path(text):
            return True
        if bare in self._texts or self._is_number(bare) or deep > 3:
            return bare in self._texts or self._is_number(bare)
        if any(said and all(self.explains(part, deep + 1) for part in said.values())
               for form in self._forms if (said := _read_by(form, text.strip()))):  # fmt: skip
            return True
        for mark in (": ", "; ", ", ", " - ", " / "):
            head, found, tail = text.partition(mark)
            while found:
                if self.explains(head, deep + 1) and self.explains(tail, deep + 1):
                    return True
                more, found, tail = tail.partition(mark)
                head = f"{head}{mark}{more}"
        label, _, number = bare.rpartition(" ")
        return label in self._texts and self._is_number(number)

    def _is_path(self, text: str) -> bool:
        try:
            resolve(self._lexicon.record, text)
        except CitationError:
            return False
        return True

    def _is_number(self, text: str) -> bool:
        return not text or re.fullmatch(r"[-+−]?[\d.,]+(e[-+]?\d+)?( ?%)?|[–−+/]", text) is not None
