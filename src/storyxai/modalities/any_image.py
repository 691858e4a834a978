"""What holds for an image of any kind: a gate of size and contrast, and a survey of the whole image or of drawn structures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from storyxai.modalities.contract import Gate, GateRule, Place
from storyxai.types import Array, Concept, Image, Mask

__all__ = ["ANY_IMAGE_GATE", "EXTENT_LEVEL", "PlainSurvey", "contrast_of", "survey_any_image"]

EXTENT_LEVEL = 0.5
"""extent: a pixel counts when the map there is at least this share of the map's own largest value."""
SAMPLED_PX = 256
"""Contrast is measured on about this many rows and columns."""

SIZE = GateRule(
    "gate.size", 16, True, True, "The picture is large enough.", "the picture is too small to judge",
    "give it at full resolution", "chosen: below it no model of images has a cell to look at",
)
CONTRAST = GateRule(
    "gate.contrast", 0.02, True, True, "The picture has contrast.", "the picture is blank or almost so",
    "give it as it was taken", "chosen: 5th to 95th percentile",
)
DISTANCE = GateRule(
    "gate.distance", 0, False, False, "The picture is like those that the model learnt from.",
    "the picture is unlike those that the model learnt from", "look at the picture before relying on the story",
    "given with the model: 98.5 % of left-out training images are nearer; warns",
)


def contrast_of(pixels: Array) -> float:
    """From the 5th to the 95th percentile. Shapes: pixels [H, W] or [H, W, 3]."""
    height, width = pixels.shape[:2]
    sampled = pixels[:: max(1, height // SAMPLED_PX), :: max(1, width // SAMPLED_PX)]
    low, high = np.percentile(sampled, [5, 95])
    return float(high - low)


def _measure(image: Image, masks: Mapping[str, Mask] | None) -> dict[str, float | None]:
    return {"gate.size": float(min(image.pixels.shape[:2])), "gate.contrast": contrast_of(image.pixels)}


ANY_IMAGE_GATE = Gate((SIZE, CONTRAST, DISTANCE), _measure)


@dataclass(frozen=True, eq=False)
class PlainSurvey:
    """The drawn structures together, or the whole image where none is drawn. Shapes: `drawn` bool [H, W] or None."""

    drawn: Mask | None

    def image_concepts(self) -> tuple[Concept, ...]:
        """None: what could be measured depends on the kind of image."""
        return ()

    def map_concepts(self, values: Array, finding: str) -> tuple[Concept, ...]:
        """`extent_share`: how much of the structures, or of the image, the map marks."""
        unit = "share of the image" if self.drawn is None else "share of the structures"
        peak = float(values.max())
        if peak <= 0:
            return (Concept("extent_share", finding, None, unit, None, "not measured: the map has no positive part"),)
        strong = values >= EXTENT_LEVEL * peak
        share = float((strong if self.drawn is None else strong[self.drawn]).mean())
        about = f"pixels where the map is at least {EXTENT_LEVEL} of its largest value"
        return (Concept("extent_share", finding, share, unit, None, about),)

    def place(self, finding: str) -> Place | None:
        """The drawn structures; anywhere where none is drawn."""
        return None if self.drawn is None else Place("inside_structures", self.drawn, 1, "the structures that the model drew")


def survey_any_image(
    masks: Mapping[str, Mask], *, spacing_mm: tuple[float, float] | None, mask_pixel: float
) -> PlainSurvey:
    """The survey of an image of any kind. Shapes: masks bool [H, W]."""
    drawn = np.logical_or.reduce(list(masks.values())) if masks else None
    return PlainSurvey(drawn if drawn is not None and drawn.any() else None)
