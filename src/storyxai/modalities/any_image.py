"""What holds for an image of any kind: a gate of generic rules, and a survey of the whole image or of drawn structures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from storyxai.errors import InputError, UnknownNameError
from storyxai.modalities.contract import Gate, GateRule, NeutralFilling, Place
from storyxai.types import Array, Concept, Image, Mask, Remark

__all__ = [
    "ANY_IMAGE_GATE", "EXTENT_LEVEL", "GateLimits", "PlainSurvey", "contrast_of", "flat_share", "gate_within", "noted_share",
    "plain_filling", "survey_any_image",
]

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
BLANK = GateRule(
    "gate.blank", 1, False, True, "The picture is not of one value over large parts.", "most of the picture is of one value",
    "give it without borders, as it was taken", "given with the modality: share of pixels that equal their four neighbours",
)
GREY = GateRule(
    "gate.colour", 0.05, False, True, "The picture is grey.", "the picture is in colour", "give the grey original",
    "chosen: share of pixels in colour",
)
COLOURED = GateRule(
    "gate.colour", 0.05, True, True, "The picture is in colour.", "the picture has no colour", "give the original in colour",
    "chosen: share of pixels in colour",
)
COLOURS = ("any", "grey", "colour")
COLOUR_SPREAD = 0.1
"""A pixel is in colour when its channels are this far apart."""
DISTANCE = GateRule(
    "gate.distance", 0, False, False, "The picture is like those that the model learnt from.",
    "the picture is unlike those that the model learnt from", "judge it without the model",
    "given with the model: nearly all left-out training images are nearer; warns",
)


def contrast_of(pixels: Array) -> float:
    """From the 5th to the 95th percentile. Shapes: pixels [H, W] or [H, W, 3]."""
    height, width = pixels.shape[:2]
    sampled = pixels[:: max(1, height // SAMPLED_PX), :: max(1, width // SAMPLED_PX)]
    low, high = np.percentile(sampled, [5, 95])
    return float(high - low)


def flat_share(pixels: Array) -> float:
    """The share of pixels that equal their four neighbours. Shapes: pixels [H, W] or [H, W, 3], each side over 2."""
    inner = pixels[1:-1, 1:-1]
    flat = (inner == pixels[:-2, 1:-1]) & (inner == pixels[2:, 1:-1])
    flat &= (inner == pixels[1:-1, :-2]) & (inner == pixels[1:-1, 2:])
    return float(flat.mean())


def noted_share(image: Image, start: str) -> float:
    """The per cent that reading wrote into a note that begins with `start`, as a share; 0 without such a note."""
    said = next((note for note in image.notes if note.startswith(start)), "")
    return float(said.removeprefix(start).split("%")[0]) / 100 if "%" in said else 0.0


def _colour_share(image: Image) -> float:
    if image.pixels.ndim == 2:  # what was read as grey has a note of the colour that it had
        return noted_share(image, "colour:")
    return float((np.ptp(image.pixels, axis=2) > COLOUR_SPREAD).mean())


def _measure(image: Image, masks: Mapping[str, Mask] | None) -> dict[str, float | None]:
    return {
        "gate.size": float(min(image.pixels.shape[:2])), "gate.contrast": contrast_of(image.pixels),
        "gate.blank": flat_share(image.pixels) if min(image.pixels.shape[:2]) > 2 else None,
        "gate.colour": _colour_share(image),
    }


@dataclass(frozen=True)
class GateLimits:
    """The generic rules of a gate: what is refused, as the [gate] of a modality's file says.

    Units: `least_size` pixels of the shorter side; `least_contrast` from the 5th to the 95th percentile, of 0 to 1;
    `most_blank` share of pixels that equal their neighbours (1: not asked). `colour` is "any", "grey" or "colour".
    """

    least_size: float = SIZE.limit
    least_contrast: float = CONTRAST.limit
    most_blank: float = 1.0
    colour: str = "any"

    def __post_init__(self) -> None:
        if self.colour not in COLOURS:
            raise UnknownNameError("gate.colour", self.colour, COLOURS)
        for name, value in (("least_contrast", self.least_contrast), ("most_blank", self.most_blank)):
            if not 0 <= value <= 1:
                raise InputError(f"gate.{name}", f"is {value:g}", mend="write a number from 0 to 1")


def gate_within(limits: GateLimits) -> Gate:
    """The gate of these limits; a modality whose images lie further from the model's own is warned of in any case."""
    rules = [replace(SIZE, limit=limits.least_size), replace(CONTRAST, limit=limits.least_contrast)]
    if limits.most_blank < 1:
        rules.append(replace(BLANK, limit=limits.most_blank))
    if limits.colour != "any":
        rules.append(GREY if limits.colour == "grey" else COLOURED)
    return Gate((*rules, DISTANCE), _measure)


ANY_IMAGE_GATE = gate_within(GateLimits())


def plain_filling(structures: tuple[str, ...], quantile: float) -> NeutralFilling:
    """The filling that the [filling] of a modality's file asks for. Raises: InputError for a quantile beyond 0 to 1."""
    if not 0 <= quantile <= 1:
        raise InputError("filling.quantile", f"is {quantile:g}", mend="write a number from 0 to 1")
    return NeutralFilling("neutral", structures, quantile, "neutral_blur")


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
            about = Remark("unmeasured", parts={"why": Remark("no_positive")})
            return (Concept("extent_share", finding, None, unit, None, about),)
        strong = values >= EXTENT_LEVEL * peak
        share = float((strong if self.drawn is None else strong[self.drawn]).mean())
        return (Concept("extent_share", finding, share, unit, None, Remark("extent", {"level": EXTENT_LEVEL})),)

    def place(self, finding: str) -> Place | None:
        """The drawn structures; anywhere where none is drawn."""
        return None if self.drawn is None else Place("inside_structures", self.drawn, 1, Remark("structures_drawn"))


def survey_any_image(
    masks: Mapping[str, Mask], *, spacing_mm: tuple[float, float] | None, mask_pixel: float
) -> PlainSurvey:
    """The survey of an image of any kind. Shapes: masks bool [H, W]."""
    drawn = np.logical_or.reduce(list(masks.values())) if masks else None
    return PlainSurvey(drawn if drawn is not None and drawn.any() else None)
