"""How often the strongest point of maps like this one lay in a reader's box: a few values of a map, and a model of them.

A model's folder may hold `trust.json`, made from boxed images that it had not learnt from (`benchmarks/map_trust.py`); the
card vouches for it. Where there is none nobody knows, and the uncalibrated checks alone decide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from storyxai.errors import WeightsError
from storyxai.evidence.checks import rank_correlation
from storyxai.evidence.predict import card_of
from storyxai.explain.contract import ExplainedModel
from storyxai.types import Array

TRUST_NAME = "trust.json"
FORMAT = "storyxai-trust/1"
MAP_VALUES: Final = (
    "logit", "inside", "peak_inside", "concentration", "other_method", "specificity", "off_centre",
)
"""The values of a map that may predict a hit, each expected to be larger where maps hit (docs/explanation/evidence.md)."""
CELLS = 8
"""Maps are compared on a grid of at most this many cells a side: the grid that the shipped student draws on."""
_Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MapView:
    """One finding's map in the model's frame, with what its values are taken from.

    Shapes: `values` and `beside`, the same finding's map by the other method, [h, w] of any size each; `place` [S, S] the
    share of each pixel that lies in the finding's place. `inside` and `cosine` are the values of the checks of place and of
    label specificity. None: not known. `logit` is the finding's before calibration, which no prevalence moves.
    """

    values: Array
    logit: float
    inside: float | None = None
    cosine: float | None = None
    place: Array | None = None
    beside: Array | None = None


@dataclass(frozen=True)
class ValueWorth:
    """How well one value alone tells maps that hit from those that miss: its AUROC, a 95 % interval, and whether it is used."""

    auroc: float | None = None
    interval: tuple[float, float] | None = None
    kept: bool = False


@dataclass(frozen=True)
class MethodTrust:
    """What is known of one method's maps.

    `weights`, `centres` and `scales` are of the values named `names`: hit probability = sigmoid(intercept + sum of weight *
    (value - centre) / scale), weights >= 0. `blind` is the share that a map hits which did not look at the image (its
    middle), `shown_from` the probability from which a map is shown
    without a doubt. It rests on `n` maps of `patients` patients; `findings` counts them, and of other findings it says
    nothing. `hit_rate`, `auroc` and `ece` are of parts by patient that were left out of the fit.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    centres: tuple[float, ...]
    scales: tuple[float, ...]
    intercept: float
    blind: float
    shown_from: float
    n: int
    patients: int
    findings: Mapping[str, int]
    hit_rate: tuple[float, float, float] | None = None
    auroc: tuple[float, float, float] | None = None
    ece: float | None = None
    worth: Mapping[str, ValueWorth] = field(default_factory=dict)
    offsets: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {len(self.names), len(self.weights), len(self.centres), len(self.scales)}
        numbers = (*self.weights, *self.centres, *self.scales, *self.offsets.values())
        sound = all(np.isfinite([*numbers, self.intercept, self.blind, self.shown_from]))
        if len(lengths) > 1 or not sound or min(self.scales, default=1) <= 0 or min(self.weights, default=0) < 0:
            raise WeightsError(TRUST_NAME, "holds numbers that do not fit together", mend="copy the model again")
        if unknown := sorted(set(self.names) - set(MAP_VALUES)):
            raise WeightsError(TRUST_NAME, f"names the unknown value '{unknown[0]}'", mend="use the storyxai that wrote it")

    def hit_probability(self, finding: str, values: Mapping[str, float | None]) -> float | None:
        """How often maps of such values hit; None for a finding that it does not rest on, or without a value that is needed."""
        if finding not in self.findings:
            return None
        total = self.intercept + self.offsets.get(finding, 0.0)
        for name, weight, centre, scale in zip(self.names, self.weights, self.centres, self.scales, strict=True):
            value = values.get(name)
            if value is None:
                return None
            total += weight * (value - centre) / scale
        return float(1 / (1 + np.exp(-total)))


@dataclass(frozen=True)
class Trust:
    """What is known of a model's maps, by method; `data` says of which images, `models` which models drew them."""

    methods: Mapping[str, MethodTrust]
    data: str = ""
    models: str = ""


def map_values(view: MapView) -> dict[str, float | None]:
    """The values of a map by the names of `MAP_VALUES`; None for one that cannot be taken."""
    coarse = coarse_cells(view.values)
    peak = strongest_cell(coarse)
    place = None if view.place is None else _shared(view.place, coarse.shape)
    return {
        "logit": view.logit,
        "inside": view.inside,
        "peak_inside": None if place is None else float(place[peak]),
        "concentration": _share_around(coarse, peak),
        "other_method": None if view.beside is None else cell_agreement(coarse, view.beside),
        "specificity": None if view.cosine is None else 1 - view.cosine,
        "off_centre": float(np.hypot(*((at + 0.5) / side - 0.5 for at, side in zip(peak, coarse.shape, strict=True)))),
    }


def strongest_cell(values: Array) -> tuple[int, int]:
    """Row and column of the largest value, the first of several."""
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return int(row), int(column)


def trust_of(model: ExplainedModel) -> Trust | None:
    """What the model brings of its maps' hits; None where its card vouches for no such file. Raises: WeightsError."""
    card, folder = card_of(model), getattr(model, "folder", None)
    if card is None or TRUST_NAME not in card.files or not isinstance(folder, Path):
        return None
    return read_trust(folder)


def read_trust(folder: Path) -> Trust:
    """The trust in a model's folder. Raises: WeightsError naming the file and what it lacks."""
    path = folder / TRUST_NAME
    try:
        record = json.loads(path.read_bytes())
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise WeightsError(str(path), f"is not of format {FORMAT}", mend="copy the model again")
        return msgspec.convert(record, Trust)
    except (OSError, ValueError) as error:
        raise WeightsError(str(path), f"cannot be read ({error})", mend="copy the model again") from error


def coarse_cells(values: Array) -> Array:
    """The map on at most CELLS x CELLS cells: means of whole blocks, as it is where it is as coarse already."""
    rows, columns = (min(CELLS, side) for side in values.shape)
    if values.shape == (rows, columns):
        return values
    return _shared(values, (rows, columns))


def _shared(values: Array, shape: tuple[int, ...]) -> Array:
    """The mean of `values` in each cell of a coarser grid; cells take the pixels whose centres lie in them."""
    cells = values.astype(np.float64)
    for axis, count in enumerate(shape):
        side = cells.shape[axis]
        starts = np.ceil(np.arange(count) * side / count - 0.5).astype(int).clip(0, side - 1)
        sizes = np.diff([*starts, side])
        summed = np.add.reduceat(cells, starts, axis=axis)
        cells = summed / np.expand_dims(np.maximum(sizes, 1), 1 - axis)
    return cells.astype(np.float32)


def _share_around(values: Array, peak: tuple[int, int]) -> float | None:
    """Share of the positive map within one cell of the strongest; None for a map without a positive part."""
    positive = np.maximum(values, 0).astype(np.float64)
    total = float(positive.sum())
    near = tuple(slice(max(0, at - 1), at + 2) for at in peak)
    return float(positive[near].sum()) / total if total > 0 else None


def cell_agreement(values: Array, beside: Array) -> float:
    """Rank correlation of two maps over the cells of the coarser."""
    other = coarse_cells(beside)
    shape = tuple(min(a, b) for a, b in zip(values.shape, other.shape, strict=True))
    first, second = (one if one.shape == shape else _shared(one, shape) for one in (values, other))
    return rank_correlation(first.ravel(), second.ravel())
