"""Small models to gather evidence of, each lacking what its test is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from storyxai.explain.contract import Look, WrittenReport
from storyxai.models.card import Calibration, ModelCard
from storyxai.types import Array, Image


def image_of(pixels: np.ndarray) -> Image:
    return Image(np.asarray(pixels, np.float32), "ab" * 32, "image.png")


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads the mean of a region for each finding: the logit is 8 times the mean minus 4. Nothing else is known of it."""

    regions: Mapping[str, np.ndarray]
    channels: int = 1
    size: int = 32
    model_id: str = "reader-1"

    @property
    def findings(self) -> tuple[str, ...]:
        return tuple(self.regions)

    @property
    def input_size(self) -> tuple[int, int]:
        return self.size, self.size

    def logits(self, images: Array) -> Array:
        assert images.shape[1:] == (self.channels, self.size, self.size)
        grey = images.mean(axis=1)
        return np.stack([8 * grey[:, place].mean(axis=1) - 4 for place in self.regions.values()], axis=1).astype(np.float32)

    def look(self, image: Array, columns: Sequence[int] | None = None) -> Look | None:
        return None

    def input_gradients(self, images: Array, columns: Sequence[int] | None = None) -> Array | None:
        return None

    def structures(self, image: Array) -> Mapping[str, Array] | None:
        return None

    def report(self, image: Array) -> WrittenReport | None:
        return None


@dataclass(frozen=True, eq=False)
class OpenReader(Reader):
    """The same with its inside: one channel a finding, the image seen through its region on a grid of 8 x 8 cells."""

    looks: Callable[[], None] = lambda: None

    def look(self, image: Array, columns: Sequence[int] | None = None) -> Look:
        self.looks()
        chosen = range(len(self.findings)) if columns is None else columns
        cells = np.stack([_cells(image.mean(axis=0) * place) for place in self.regions.values()])
        gradients = np.zeros((len(chosen), *cells.shape), np.float32)
        for row, column in enumerate(chosen):
            gradients[row, column] = 1.0
        return Look(self.logits(image[None])[0], cells.astype(np.float32), gradients, layer="cells")


@dataclass(frozen=True, eq=False)
class CalibratedReader(OpenReader):
    """The same with a card that calls the logits' sigmoids calibrated: what it finds absent is absent."""

    @property
    def card(self) -> ModelCard:
        as_they_are = Calibration(1.0, 0.0, 0.5, ((1.0, 0.0), (1.0, 0.0)), n=100, positives=50, data="toy")
        return ModelCard("reader", "1", {}, {}, dict.fromkeys(self.findings, as_they_are), (), (), ())


def _cells(values: np.ndarray) -> np.ndarray:
    step = len(values) // 8
    return values.reshape(8, step, 8, step).mean(axis=(1, 3))
