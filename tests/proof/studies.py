"""Phantoms told by the shipped student, with everything that a page may hold: named findings, places, doubts, withheld maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from storyxai.evidence.gather import GatherSettings, gather
from storyxai.evidence.record import as_archived, as_record
from storyxai.explain.contract import ExplainedModel
from storyxai.imaging.distance import GateDistance, read_distance
from storyxai.models.runtime import SHIPPED
from storyxai.pages.story import render_html
from storyxai.phantoms.generate import generate_phantom
from storyxai.programs.models import SHIPPED_MODEL, open_model
from storyxai.story.tell import AUDIENCES, tell
from storyxai.types import Evidence

SEEDS = (10, 1, 7)
"""Phantoms with several findings; the last one is told with its doubts."""


@dataclass(frozen=True, eq=False)
class Study:
    """One study: its evidence, its record, and its pages by reader."""

    evidence: Evidence
    record: Mapping[str, Any]
    pages: Mapping[str, bytes]


class Gauged:
    """The shipped student with another measure of distance: none, or one by which every picture lies far from its films."""

    def __init__(self, model: ExplainedModel, distance: GateDistance | None) -> None:
        self._model, self.distance = model, distance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


@cache
def studies() -> tuple[Study, ...]:
    return tuple(_told(seed, doubted=seed == SEEDS[-1]) for seed in SEEDS)


def _told(seed: int, *, doubted: bool) -> Study:
    model = open_model(SHIPPED_MODEL)
    near = read_distance(SHIPPED)
    given: Any = Gauged(model, replace(near, limits=near.limits / 10) if doubted else None)
    image = generate_phantom(seed, size=256).image
    evidence = as_archived(gather(given, image, settings=GatherSettings(100, 0)))
    pages = {audience: render_html(tell(evidence, audience), evidence) for audience in AUDIENCES}
    return Study(evidence, as_record(evidence), pages)


def sentences(page: str) -> Iterator[str]:
    """The sentences of a page with their marks, as they stand in it."""
    for part in page.split('<p><span class="s">')[1:]:
        yield part.partition("</span>")[0]


def whole(page: str, words: Sequence[str]) -> str:
    """The paragraph of the first sentence that holds all the words; "" where there is none."""
    for part in page.split("<p>")[1:]:
        text = f"<p>{part.partition('</p>')[0]}</p>"
        if text.startswith('<p><span class="s">') and all(word in text for word in words):
            return text
    return ""
