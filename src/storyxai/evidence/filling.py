"""What stands behind a hidden part of an image: the modality's neutral tone in its structures, elsewhere a blur."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from storyxai.evidence.predict import Seen
from storyxai.explain.contract import Scene
from storyxai.explain.perturbation import hidden_image
from storyxai.modalities.contract import Modality
from storyxai.types import Array, Mask

RING = (0.08, 0.3)
"""Where the tone around a region is taken, as shares of the region's size (the root of its area)."""


class Painted(NamedTuple):
    """An image to hide with. Shapes: image float32 [C, S, S]; `tone` is the value of each channel in the structures."""

    image: Array
    tone: tuple[float, ...]


def neutral_filling(seen: Seen, modality: Modality) -> Painted | None:
    """The modality's filling of this image (the tone to three digits); None where it has none or nothing was drawn."""
    filling = modality.filling
    if filling is None:
        return None
    region = _region(seen, filling.structures)
    if region is None:
        return None
    taken = _ring(region) if filling.around else region
    if not taken.any():
        return None
    tone = tuple(round(float(np.quantile(channel[taken], filling.quantile)), 3) for channel in seen.pixels)
    shown = np.array(tone, dtype=np.float32)[:, None, None]
    return Painted(np.where(region, shown, hidden_image(seen.pixels, fill="blur")), tone)


def scene_of(seen: Seen, modality: Modality) -> Scene:
    """What methods that hide parts of the image are told of it."""
    painted = neutral_filling(seen, modality)
    if painted is None or modality.filling is None:
        return Scene()
    tone = " / ".join(f"{value:g}" for value in painted.tone)
    return Scene(filling=painted.image, filling_words=f"{modality.filling.key}: {tone}")


def _ring(region: Mask) -> Mask:
    """What surrounds the region, from a tenth of its size to a third of it, bool [S, S]."""
    from scipy.ndimage import distance_transform_edt

    away, size = distance_transform_edt(~region), float(np.sqrt(region.sum()))
    return np.asarray((away > RING[0] * size) & (away <= RING[1] * size), dtype=np.bool_)


def _region(seen: Seen, structures: tuple[str, ...]) -> Mask | None:
    """The drawn structures together in the model's frame, bool [S, S]; None where nothing was drawn."""
    masks = [seen.prediction.masks[name] for name in structures if name in seen.prediction.masks]
    if not masks:
        return None
    region: Mask = seen.frame.mask_to_model(np.logical_or.reduce(masks)) >= 0.5
    return region if region.any() else None
