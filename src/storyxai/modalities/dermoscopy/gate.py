"""The gate of dermoscopy: is this one lesion on skin, in focus, lit, in colour and whole?

Limits say how they were obtained: with the extremes of 150 images of PH2 and of 40 phantoms in view (benchmarks/skin_gate.py
prints them), so that they refuse none of those by construction.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image as PillowImage

from storyxai.modalities.any_image import DISTANCE, contrast_of, flat_share
from storyxai.modalities.contract import Gate, GateRule
from storyxai.modalities.masks import largest_piece
from storyxai.types import Array, Image, Mask

__all__ = ["DERMOSCOPY_GATE", "RULES"]

SIDE_PX = 192
"""Sharpness, hair and colour are measured at this size, so that a large picture is not held to another measure."""
DARK = 0.18
"""Below this brightness lies the rim of the lens, which is no skin."""
_GIVE = "give a dermoscopic picture of one lesion"

RULES: tuple[GateRule, ...] = (
    GateRule("gate.size", 96, True, True, "The picture is large enough.", "the picture is too small to judge",
             "give it at full resolution", "chosen: below it a network line is less than a pixel wide"),
    GateRule("gate.contrast", 0.1, True, True, "The picture has contrast.",
             "the picture is blank, or shows plain skin without a lesion",
             "give it as it was taken", "5th to 95th percentile; the palest image of PH2 has 0.22"),
    GateRule("gate.flat", 0.5, False, True, "The colours vary as on a photograph.",
             "most of the picture is perfectly flat, like a drawing", "give the photograph itself",
             "share of pixels equal to their four neighbours"),
    GateRule("gate.colour", 0.3, True, True, "The picture is in colour.",
             "the picture has no colour, as a radiograph or a grey photograph has none",
             "give the original in colour", "share of lit pixels in colour; the least of PH2 is 0.64"),
    GateRule("gate.skin", 0.5, True, True, "The picture looks like skin.", "the picture does not look like skin",
             _GIVE, "share of lit pixels in colours that skin and pigment have; the least of PH2 is 0.72"),
    GateRule("gate.hues", 0.2, False, True, "The colours lie as close together as those of skin.",
             "the picture holds colours further apart than skin and pigment do, as a photograph of things does", _GIVE,
             "spread of the shares of red, green and blue over the lit, smoothed picture; the most of PH2 is 0.173"),
    GateRule("gate.dark", 0.25, True, True, "The picture is lit.", "the picture is too dark", "take it again with more light",
             "brightness at the 90th percentile; the least of PH2 is 0.40"),
    GateRule("gate.focus", 0.006, True, True, "The picture is in focus.", "the picture is out of focus",
             "take it again in focus",
             "second difference over contrast; the least of PH2 is 0.012, the most of it blurred by 3 of 384 pixels 0.005"),
    GateRule("gate.hair", 0.05, False, False, "Hardly any hair or scale lies over the picture.",
             "hair or a ruler may lie over the lesion", "shave, or take it again without the ruler",
             "share of lit pixels on thin dark lines; the median of PH2 is 0.011, the largest 0.092; warns only"),
    GateRule("gate.lesion", 0.01, True, True, "A lesion was found.", "no lesion was found", _GIVE,
             "chosen: share of the picture that the student takes for lesion"),
    GateRule("gate.cut_off", 0.3, False, False, "The lesion lies within the picture.", "the lesion runs out of the picture",
             "take the whole lesion", "chosen: share of the picture's edge that lesion touches"),
    GateRule("gate.two", 0.25, False, False, "One lesion was found.", "more than one lesion was found",
             "give one picture of each; the largest alone was measured", "chosen: area of the second over that of the largest"),
    DISTANCE,
)  # fmt: skip


def _measure(image: Image, masks: Mapping[str, Mask] | None) -> dict[str, float | None]:
    height, width = image.pixels.shape[:2]
    small = _small(image.pixels)
    lit = small.max(axis=2) > DARK
    grey = small.mean(axis=2)
    contrast = contrast_of(grey)
    values: dict[str, float | None] = {
        "gate.size": float(min(height, width)),
        "gate.contrast": contrast,
        "gate.flat": flat_share(image.pixels) if min(height, width) > 2 else None,
        "gate.colour": _share(np.ptp(small, axis=2) > 0.06, lit),
        "gate.skin": _share(_skin_colours(small), lit),
        "gate.hues": _hue_spread(small, lit),
        "gate.dark": float(np.percentile(grey, 90)),
        "gate.focus": _sharpness(grey) / max(contrast, 0.05),
        "gate.hair": _share(_thin_dark(grey), lit),
    }
    return values | _of_masks(masks)


def _of_masks(masks: Mapping[str, Mask] | None) -> dict[str, float | None]:
    """What can be asked after the model has drawn."""
    if masks is None or "lesion" not in masks:
        return dict.fromkeys(("gate.lesion", "gate.cut_off", "gate.two"))
    drawn = masks["lesion"]
    if not drawn.any():
        return {"gate.lesion": 0.0, "gate.cut_off": None, "gate.two": None}
    first = largest_piece(drawn)
    rest = drawn & ~first
    second = float(largest_piece(rest).sum()) / float(first.sum()) if rest.any() else 0.0
    edge = np.concatenate([first[0], first[-1], first[:, 0], first[:, -1]])
    return {"gate.lesion": float(drawn.mean()), "gate.cut_off": float(edge.mean()), "gate.two": second}


def _small(pixels: Array) -> Array:
    """The picture in colour at about `SIDE_PX` along its longer side, [h, w, 3]."""
    colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    height, width = colour.shape[:2]
    scale = min(1.0, SIDE_PX / max(height, width))
    size = max(3, round(width * scale)), max(3, round(height * scale))
    eight = PillowImage.fromarray(np.rint(colour.clip(0, 1) * 255).astype(np.uint8))
    return np.asarray(eight.resize(size, PillowImage.Resampling.BOX), dtype=np.float32) / np.float32(255)


def _share(marked: Mask, of: Mask) -> float:
    return float(marked[of].mean()) if of.any() else 0.0


def _skin_colours(pixels: Array) -> Mask:
    """Where red is the strongest and green is not below blue by much: skin, melanin, blood; blue-grey veils are none."""
    red, green, blue = (pixels[..., i] for i in range(3))
    return np.asarray((red >= green) & (red >= blue) & (red - np.minimum(green, blue) > 0.03), dtype=np.bool_)


def _hue_spread(pixels: Array, lit: Mask) -> float:
    """How far the shares of red, green and blue spread over the lit picture, summed over the three; brightness is left out."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(pixels, (3, 3, 0))
    shares = smooth / np.maximum(smooth.sum(axis=2, keepdims=True), np.float32(0.05))
    return float(shares[lit].std(axis=0).sum()) if lit.any() else 0.0


def _sharpness(grey: Array) -> float:
    """The mean size of the second difference: what defocus takes first."""
    middle = grey[1:-1, 1:-1]
    around = (grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]) / 4
    return float(np.abs(middle - around).mean())


def _thin_dark(grey: Array) -> Mask:
    """Where a closing over a few pixels brightens: lines and ticks that are darker than both their sides."""
    from scipy.ndimage import grey_closing

    return np.asarray(grey_closing(grey, size=(5, 5)) - grey > 0.12, dtype=np.bool_)


DERMOSCOPY_GATE = Gate(RULES, _measure)
