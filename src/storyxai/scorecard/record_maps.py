"""The figures of a model's maps as types, the same where they are judged, written and read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from storyxai.data.table import Skipped
from storyxai.metrics.bootstrap import Estimate
from storyxai.provenance import read_as

EXPLANATIONS_FORMAT = "storyxai-explanations/1"


@dataclass(frozen=True)
class BlindFigures:
    """A figure of maps that know nothing of the model, or a map's lead over it."""

    random: Estimate
    centre: Estimate
    edge: Estimate
    average: Estimate

    @property
    def in_order(self) -> tuple[Estimate, ...]:
        """All of them in the order of the fields."""
        return self.random, self.centre, self.edge, self.average


@dataclass(frozen=True)
class MapFigure:
    """One figure of a method's maps, of n maps, beside that of maps that know nothing; `better` is "" for neither way."""

    figure: str
    better: str
    n: int
    patients: int
    map: Estimate
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
    left_out: tuple[Skipped, ...]


@dataclass(frozen=True)
class MapSettings:
    """How maps were judged; `not_served` says what the methods need that the model cannot serve."""

    images: int
    findings_an_image: int
    samples: int
    robust_every: int
    bootstrap: int
    seed: int
    split: str
    steps: int
    road_shares: tuple[float, ...]
    road_noise: float
    noise: float
    noises: int
    background: str
    not_served: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class JudgedModel:
    """Whose maps were judged."""

    model_id: str
    findings: tuple[str, ...]


@dataclass(frozen=True)
class MapsRead:
    """What a model's maps are worth."""

    model: JudgedModel
    dataset: ExplainedOn
    settings: MapSettings
    methods: tuple[MethodMaps, ...]

    def as_dict(self) -> dict[str, object]:
        """The figures for explanations.json."""
        return {"format": EXPLANATIONS_FORMAT, **msgspec.to_builtins(self)}


def read_maps(record: Mapping[str, object]) -> MapsRead:
    """What `judge_explanations` gave as types. Raises: TableError naming a field that it lacks or garbles."""
    return read_as(MapsRead, record, "explanations", mend="judge them again with `evaluate --explanations`")
