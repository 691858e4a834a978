"""The chapter of the scorecard's page on a model's maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from storyxai.pages.views import Block, Chapter, Fold, Text
from storyxai.scorecard.cells import Entry, Line, beside, estimate_cell, gap_cell, table
from storyxai.scorecard.plots import words
from storyxai.scorecard.record_maps import MapFigure, MapsRead

_NAMES: Mapping[str, str] = {
    "hit": "Strongest point in a reader's box",
    "energy": "Positive map inside the box",
    "iou": "IoU of the strongest part with the box",
    "deletion": "Deletion: log-odds lost",
    "insertion": "Insertion: log-odds short of the whole image",
    "road": "ROAD: most minus least relevant filled in",
    "sparseness": "Sparseness (Gini)",
    "change": "Largest change under noise, share of the map",
    "randomised_last": "Like itself after the last layer was shuffled",
    "randomised": "Like itself after all layers were shuffled",
}
_BLIND = ("random", "centre", "edges", "average map")
_NOTE = (
    "Beside each figure stand maps that know nothing of the model: smooth noise, a hill in the middle, the image's own edges, "
    "and the average of the method's maps of other patients. Deletion and insertion change the strongest sixteenths of the "
    "pixels one after the other to a blur of the image and back; ROAD fills pixels in from their neighbours. Their figures are "
    "log-odds beside those of the whole image. A map that stays like itself when the network's weights are shuffled (rank "
    "correlation) is not of the model. A map without a positive part counts in no figure."
)


def explanation_facts(record: MapsRead) -> tuple[str, ...]:
    """What was judged, in one line."""
    data, settings = record.dataset, record.settings
    boxed = f"{data.boxed} of them with a reader's box" if data.boxed else "none with a reader's box"
    return (
        f"{data.images} images of {data.patients} patients, {boxed}; "
        f"{settings.samples} samples of methods that perturb. Intervals hold 95 %: {settings.bootstrap} resamples of "
        f"whole patients, seed {settings.seed}.",
    )


def explanation_chapters(record: MapsRead) -> list[Chapter]:
    """The chapter."""
    blocks: list[Block] = [Text(explanation_facts(record)[0]), Text(_NOTE, "note")]
    for method in record.methods:
        empty = f", {method.empty} empty" if method.empty else ""
        findings = [
            Fold(words(one.finding), (_figures(one.figures),)) for one in method.findings
        ] if len(method.findings) > 1 else []
        heading = f"{method.name}: {method.maps} maps{empty}"
        blocks.append(Fold(heading, (_figures(method.figures), *findings), is_open=True))
    left_out = record.settings.not_served
    if left_out:
        named = "; ".join(f"{words(name)} (needs {', '.join(map(words, needs))})" for name, needs in left_out.items())
        blocks.append(Text(f"This model cannot serve: {named}.", "note"))
    return [Chapter("Explanations", tuple(blocks))]


def _figures(figures: Sequence[MapFigure]) -> Block:
    heads = ["Figure", "Better is", "n", "The method's maps", *(f"minus {name}" for name in _BLIND)]
    return table(heads, [_line(one) for one in figures], tight=True)


def _line(one: MapFigure) -> Line:
    cells: list[Entry] = [one.better or "neither", one.n, estimate_cell(one.map)]
    beaten = zip(one.minus.in_order, one.baselines.in_order, strict=True)
    cells += [beside(gap_cell(gap), f"of {_short(blind.value)}") for gap, blind in beaten]
    return (_NAMES[one.figure], cells, "")


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "\u2212")
