"""The contract that every explanation method meets, and the methods by name. It knows no model of ours and no data.

tests/checks/attributor_checks.py holds any attributor, yours too, to this contract.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from storyxai.errors import InputError, UnknownNameError
from storyxai.explain.cam import grad_cam, resize_maps
from storyxai.explain.lime import lime, lime_map
from storyxai.explain.perturbation import Fill, Predict, checked_image, occlusion_map, rise_map
from storyxai.explain.superpixels import slic_segments
from storyxai.types import Array

__all__ = ["METHODS", "Attributor", "GradCam", "Lime", "Occlusion", "Predict", "Rise", "attributor_named"]


class Attributor(Protocol):
    """Given a model, an image and the names of its findings, returns one map for each finding.

    Shapes: image [H, W] in [0, 1]; `findings` names the F logits in order; the maps are float32 [F, H, W], finite, in
    the image's own frame, signed (positive speaks for the finding), not scaled map by map.
    Promises: the same call gives the same bytes; neither image nor model is changed; no finding's map depends on
    which other findings were asked for.
    Raises: InputError for a bad image, or findings that are not as many as the logits.
    """

    def __call__(self, predict: Predict, image: Array, findings: Sequence[str]) -> Array:
        """The maps, float32 [F, H, W]."""
        ...


@dataclass(frozen=True)
class Lime:
    """LIME on SLIC superpixels; unit: logit per superpixel shown."""

    samples: int = 1000
    seed: int = 0
    superpixels: int = 60
    width: float = 0.25
    fill: Fill = "blur"
    batch: int = 64

    def __call__(self, predict: Predict, image: Array, findings: Sequence[str]) -> Array:
        """The maps, float32 [F, H, W]."""
        segments = slic_segments(image, count=self.superpixels)
        result = lime(
            predict, image, segments,
            samples=self.samples, seed=self.seed, width=self.width, fill=self.fill, batch=self.batch,
        )
        return _as_asked(lime_map(result, segments), findings)


@dataclass(frozen=True)
class Occlusion:
    """Occlusion sensitivity; the window and its stride are shares of the shorter side; unit: logit lost when hidden."""

    window_share: float = 0.15
    stride_share: float = 0.05
    fill: Fill = "blur"
    batch: int = 32

    def __call__(self, predict: Predict, image: Array, findings: Sequence[str]) -> Array:
        """The maps, float32 [F, H, W]."""
        side = min(checked_image(image).shape)
        window, stride = (max(1, round(share * side)) for share in (self.window_share, self.stride_share))
        maps = occlusion_map(predict, image, window_px=window, stride_px=stride, fill=self.fill, batch=self.batch)
        return _as_asked(maps, findings)


@dataclass(frozen=True)
class Rise:
    """RISE: random soft masks; unit: logit per unit of being seen."""

    samples: int = 1000
    seed: int = 0
    cells: int = 8
    fill: Fill = "blur"
    batch: int = 64

    def __call__(self, predict: Predict, image: Array, findings: Sequence[str]) -> Array:
        """The maps, float32 [F, H, W]."""
        maps = rise_map(
            predict, image, samples=self.samples, seed=self.seed, cells=self.cells, fill=self.fill, batch=self.batch
        )
        return _as_asked(maps, findings)


@dataclass(frozen=True)
class GradCam:
    """Grad-CAM enlarged to the image's frame; `look` gives (features [K, h, w], gradients [F, K, h, w]) of an image.

    `look` sees inside the model, so `predict` is not called. For a torch model take it from gradients.layer_gradients,
    for a grid head without autograd from cam.grid_head_gradients.
    """

    look: Callable[[Array], tuple[Array, Array]]
    signed: bool = False

    def __call__(self, predict: Predict, image: Array, findings: Sequence[str]) -> Array:
        """The maps, float32 [F, H, W]."""
        pixels = checked_image(image)
        features, gradients = self.look(pixels)
        maps = grad_cam(features, gradients, signed=self.signed)
        return _as_asked(resize_maps(maps, height=pixels.shape[0], width=pixels.shape[1]), findings)


# Where a method arrives as text. Grad-CAM is not here: it needs to see inside the model, not a name alone.
METHODS: dict[str, Callable[[], Attributor]] = {"lime": Lime, "occlusion": Occlusion, "rise": Rise}


def attributor_named(name: str) -> Attributor:
    """The method of that name with its defaults. Raises: UnknownNameError, naming the nearest."""
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    return METHODS[name]()


def _as_asked(maps: Array, findings: Sequence[str]) -> Array:
    if len(maps) != len(findings):
        raise InputError("findings", f"{len(findings)} names for {len(maps)} logits", mend="name every logit in order")
    return np.ascontiguousarray(maps, dtype=np.float32)
