"""The figures of a model's maps (`judge_explanations`) as types, as pages, cards and summaries read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from storyxai.provenance import read_as
from storyxai.scorecard.reading import Figure

__all__ = ["FindingMaps", "MapFigure", "MapsRead", "MethodMaps", "read_maps"]


@dataclass(frozen=True)
class BlindFigures:
    """A figure of maps that know nothing of the model, or a map's lead over it."""

    random: Figure
    centre: Figure
    edge: Figure
    average: Figure

    @property
    def in_order(self) -> tuple[Figure, ...]:
        """All of them in the order of the fields."""
        return self.random, self.centre, self.edge, self.average


@dataclass(frozen=True)
class MapFigure:
    """One figure of a method's maps, of n maps, beside that of maps that know nothing; `better` is "" for neither way."""

    figure: str
    better: str
    n: int
    map: Figure
    baselines: BlindFigures
    minus: BlindFigures


@dataclass(frozen=True)
class FindingMaps:
    """The figures of one finding's maps."""

    finding: str
    figures: tuple[MapFigure, ...]


@dataclass(frozen=True)
class MethodMaps:
    """The figures of one method's maps, of which so many are empty."""

    method: str
    name: str
    maps: int
    empty: int
    figures: tuple[MapFigure, ...]
    findings: tuple[FindingMaps, ...]


@dataclass(frozen=True)
class ExplainedOn:
    """The images whose maps were judged, so many of them with a reader's box."""

    name: str
    images: int
    patients: int
    boxed: int


@dataclass(frozen=True)
class MapSettings:
    """How maps were judged; `not_served` says what the methods need that the model cannot serve."""

    samples: int
    bootstrap: int
    seed: int
    noise: float
    not_served: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class MapsRead:
    """What a model's maps are worth."""

    dataset: ExplainedOn
    settings: MapSettings
    methods: tuple[MethodMaps, ...]


def read_maps(record: Mapping[str, object]) -> MapsRead:
    """What `judge_explanations` gave as types. Raises: TableError naming a field that it lacks or garbles."""
    return read_as(MapsRead, record, "explanations", mend="judge them again with `evaluate --explanations`")
