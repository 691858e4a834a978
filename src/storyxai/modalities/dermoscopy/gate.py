"""The gate of dermoscopy: is this one lesion on skin, in focus, lit, in colour and whole?

Limits say how they were obtained: with the extremes of 150 images of PH2 and of 40 phantoms in view (benchmarks/skin_gate.py
prints them), so that they refuse hardly any of those by construction; benchmarks/skin_negatives.py holds out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image as PillowImage

from storyxai.modalities.any_image import DISTANCE, contrast_of, flat_share
from storyxai.modalities.contract import Gate, GateRule
from storyxai.modalities.dermoscopy.lesion import border_irregularity
from storyxai.modalities.masks import largest_piece
from storyxai.types import Array, Image, Mask

SIDE_PX = 192
"""Sharpness, hair and colour are measured at this size, so that a large picture is not held to another measure."""
DARK = 0.18
"""Below this brightness lies the rim of the lens, which is no skin."""
HAIR_SEEN = 0.06
"""What a closing brightens by more is taken for hair where the skin itself is measured."""
LEAST_AROUND = 0.03
"""With less of the picture left around the lesion its skin is not judged."""
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
    GateRule("gate.spot", 0.26, True, True, "What is dark in the picture is one spot.",
             "what is dark in the picture is scattered or ragged, not one spot on skin", _GIVE,
             "share of the darker part that lies in its largest piece, times how much of its hull that piece fills; a tenth "
             "below the second least of PH2 (the least, 0.13, is a small spot in a dark rim)"),
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
    GateRule("gate.rough", 0.021, False, True, "What lies around the lesion is as smooth as skin.",
             "what lies around the dark spot is rougher than skin, as fur, wood or tissue under a microscope is", _GIVE,
             "median second difference over brightness, hair left out; a tenth above the most of PH2"),
    GateRule("gate.around", 0.11, False, True, "What lies around the lesion has the colours of one skin.",
             "what lies around the dark spot is of more colours than skin is", _GIVE,
             "spread of the shares of red, green and blue around the lesion; a tenth above the most of PH2"),
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
        "gate.spot": _one_spot(small, lit),
        "gate.dark": float(np.percentile(grey, 90)),
        "gate.focus": float(_second_difference(grey)[1:-1, 1:-1].mean()) / max(contrast, 0.05),
        "gate.hair": _share(_thin_dark(grey), lit),
    }
    return values | _of_masks(masks) | _of_surroundings(small, lit, masks)


def _of_surroundings(small: Array, lit: Mask, masks: Mapping[str, Mask] | None) -> dict[str, float | None]:
    """How rough and how colourful the lit picture is away from what was drawn; not asked where hardly anything is left."""
    from scipy.ndimage import binary_dilation

    names = ("gate.rough", "gate.around")
    if masks is None or "lesion" not in masks:
        return dict.fromkeys(names)
    height, width = lit.shape
    drawn = np.asarray(PillowImage.fromarray(masks["lesion"].astype(np.uint8) * 255).resize((width, height))) > 127
    around = lit & ~binary_dilation(drawn, iterations=4)
    grey = small.mean(axis=2)
    if around.mean() < LEAST_AROUND:
        return dict.fromkeys(names)
    # Fur is hair all over: then nothing is left out.
    bare = around & ~binary_dilation(_thin_dark(grey, HAIR_SEEN), iterations=2)
    bare = bare if bare.mean() >= LEAST_AROUND else around
    rough = float(np.median(_second_difference(grey)[bare])) / max(float(grey[bare].mean()), 0.05)
    return dict(zip(names, (rough, _hue_spread(small, bare)), strict=True))


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


def _second_difference(grey: Array) -> Array:
    """How far each pixel lies from the mean of its four neighbours, 0 at the picture's edge. Shapes: [h, w]."""
    found = np.zeros_like(grey)
    around = (grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]) / 4
    found[1:-1, 1:-1] = np.abs(grey[1:-1, 1:-1] - around)
    return found


def _thin_dark(grey: Array, least: float = 0.12) -> Mask:
    """Where a closing over a few pixels brightens: lines and ticks that are darker than both their sides."""
    from scipy.ndimage import grey_closing

    return np.asarray(grey_closing(grey, size=(5, 5)) - grey > least, dtype=np.bool_)


def _one_spot(small: Array, lit: Mask) -> float | None:
    """How nearly the darker part of the picture is one compact spot, 0 to 1; hair is closed and the rim of the lens left out.

    Dark and bright are told apart where their means differ most for the sizes of both (Otsu), in green and blue, which melanin
    absorbs most.
    """
    from scipy.ndimage import binary_fill_holes, gaussian_filter, grey_closing

    field = _away_from_rim(lit)
    closed = np.stack([grey_closing(small[..., i], size=(5, 5)) for i in (1, 2)], axis=2)
    pigment = gaussian_filter(closed, (2, 2, 0)).mean(axis=2)
    dark = field & (pigment < _otsu(pigment[field]))
    if not dark.any():
        return None
    largest = largest_piece(dark)
    return float(largest.sum()) / float(dark.sum()) * (1 - border_irregularity(binary_fill_holes(largest)))


def _away_from_rim(lit: Mask) -> Mask:
    """The picture without the dark rim of the lens and some pixels beside it; all of it where that would be nearly nothing."""
    from scipy.ndimage import binary_dilation, label

    pieces, _ = label(~lit)
    edge = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    rim = np.isin(pieces, edge[edge > 0])
    field = ~binary_dilation(rim, iterations=8) if rim.sum() > 20 else np.ones_like(lit)
    return np.asarray(field if field.sum() >= 200 else np.ones_like(lit), dtype=np.bool_)


def _otsu(values: Array) -> float:
    """The value that parts them best into two classes, by Otsu's rule on 256 equal bins."""
    counts, edges = np.histogram(values, bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts).astype(np.float64)
    above, sums = below[-1] - below, np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(middles[int(np.nan_to_num(between, nan=-1.0).argmax())])


DERMOSCOPY_GATE = Gate(RULES, _measure)
