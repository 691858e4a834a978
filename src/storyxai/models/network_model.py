"""A network of ours as a model that can be explained, before it is a student: of one fold, or with shuffled weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from storyxai.explain.cam import grid_head_gradients
from storyxai.explain.contract import Look
from storyxai.imaging.geometry import model_frame
from storyxai.modalities.contract import Modality
from storyxai.modalities.registry import DEFAULT_MODALITY, modality_named
from storyxai.models.card import ModelCard
from storyxai.models.export import load_network
from storyxai.models.network import Network
from storyxai.models.runtime import LAYER, Student
from storyxai.types import Array

USUAL = modality_named(DEFAULT_MODALITY)
NO_CARD = ModelCard("network", "0", {}, {}, {}, (), (), ())


@dataclass(frozen=True, eq=False)
class NetworkModel:
    """A network that answers as the shipped student does, but writes no report.

    `outlines` draws the structures of a network that was taught none; `card` holds its calibration.
    """

    net: Network
    card: ModelCard = NO_CARD
    outlines: Student | None = None
    model_id: str = "network"
    modality: Modality = USUAL

    @property
    def findings(self) -> tuple[str, ...]:
        return self.net.spec.findings

    @property
    def channels(self) -> int:
        return self.net.spec.channels

    @property
    def input_size(self) -> tuple[int, int]:
        return self.net.spec.size, self.net.spec.size

    def logits(self, images: Array) -> Array:
        with torch.inference_mode():
            found = self.net(torch.tensor(images)).logits
        assert found is not None
        return np.asarray(found.numpy(), dtype=np.float32)

    def look(self, image: Array, columns: Sequence[int] | None = None) -> Look:
        """Features, gradients of the logits in `columns` (None: all) in closed form and the evidence grid."""
        with torch.inference_mode():
            said = self.net(torch.tensor(image[None]))
        assert said.logits is not None and said.grid is not None
        head, picked = self.net.finding_head.as_arrays(), slice(None) if columns is None else list(columns)
        features, shares = said.features[0].numpy(), self.net.shares(said.masks)
        head |= {name: head[name][picked] for name in ("out_weight", "out_bias", "sharpness")}
        _, gradients = grid_head_gradients(features, **head, shares=None if shares is None else shares[0].numpy())
        return Look(said.logits[0].numpy(), features, gradients, said.grid[0].numpy(), LAYER)

    def input_gradients(self, images: Array, columns: Sequence[int] | None = None) -> None:
        """None: not asked of it."""

    def structures(self, image: Array) -> Mapping[str, Array] | None:
        """The probability of each structure in an image [C, S, S]; None where it draws none."""
        if self.outlines is not None:
            frame = model_frame(*image.shape[1:], size=self.outlines.size)
            return self.outlines.structures(frame.to_model(image[0])[None])
        with torch.inference_mode():
            drawn = self.net(torch.tensor(image[None])).masks
        return None if drawn is None else dict(zip(self.net.spec.structures, torch.sigmoid(drawn[0]).numpy(), strict=True))

    def report(self, image: Array) -> None:
        """None: not asked of it."""


def network_of(student: Student) -> NetworkModel:
    """The network behind a student's folder. Raises: WeightsError."""
    net = load_network(Path(student.folder) / "student.safetensors")
    return replace(NetworkModel(net), card=student.card, model_id=student.model_id, modality=student.modality)
