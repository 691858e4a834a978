"""Pictures as PNG bytes: the untouched image, layers to lie over it (maps, outlines), scales. Same input, same bytes.

Scale: a map is drawn against a limit that the caller gives, so that maps share one scale; nothing is normalised here.
A positive map runs from 0 to the limit, a signed one from -limit to +limit. Colours have evenly spaced lightness and are
told apart by colour-blind readers. A layer is transparent where it has nothing to say, so that pages hold the image once.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from storyxai.types import METHOD_NAMES, RESEARCH_USE, Array, Heatmap, Image, Mask

LONG_SIDE_PX = 900
PAGE_SIDES_PX = (1024, 896, 768, 640, 512)
"""Long sides to try for the one image that a page holds, until it fits `PAGE_IMAGE_BYTES`."""
PAGE_IMAGE_BYTES = 620_000
LAYER_SIDE_PX = 400
"""Maps are smooth or made of large blocks: more pixels would show nothing more."""
THUMBNAIL_SIDE_PX = 112
STRONGEST_COVER = 0.72
"""How much of the image the map's strongest colour hides."""
MAIN_COLOUR, OTHER_COLOUR = (126, 214, 223), (214, 196, 126)
Colours = NDArray[np.uint8]
_DRAWN: WeakKeyDictionary[Image, bytes] = WeakKeyDictionary()
"""The image of one study stands on four pages and is packed once; it is forgotten with the study."""


def display_size(height: int, width: int, *, long_side: int = LONG_SIDE_PX) -> tuple[int, int]:
    """The (height, width) to draw at: the given long side, same proportions; small images grow at most twofold."""
    scale = min(long_side / max(height, width), 2.0)
    return max(1, round(height * scale)), max(1, round(width * scale))


def image_png(image: Image, *, long_side: int = LONG_SIDE_PX) -> bytes:
    """The untouched image as 8-bit PNG, grey or in its colours, only scaled."""
    return _png(Picture.fromarray(_untouched(image, long_side)))


def thumbnail_jpeg(pixels: Array) -> bytes:
    """The untouched image, so small that thousands stand on one page: grey, `THUMBNAIL_SIDE_PX` at its longer side."""
    target = io.BytesIO()
    small = Picture.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    small.thumbnail((THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX), Picture.Resampling.BOX, reducing_gap=None)
    small.save(target, format="JPEG", quality=75)
    return target.getvalue()


def page_image_png(image: Image) -> bytes:
    """The untouched image as a page holds it: lossless, as large as its share of the page's bytes allows."""
    if image not in _DRAWN:
        for side in PAGE_SIDES_PX:
            _DRAWN[image] = image_png(image, long_side=side)
            if len(_DRAWN[image]) <= PAGE_IMAGE_BYTES:
                break
    return _DRAWN[image]


def layer_png(heatmap: Heatmap, *, limit: float, long_side: int = LAYER_SIDE_PX) -> bytes:
    """The map alone, to lie over the image: an indexed PNG whose palette is the scale, transparent at zero."""
    signed = is_signed(heatmap)
    shape = display_size(*heatmap.values.shape, long_side=long_side)
    values = np.clip(_scaled(heatmap.values, shape) / np.float32(limit), -1.0 if signed else 0.0, 1.0)
    # Steps are even in the root, as the cover is: no edge shows where the map fades out.
    roots = np.sign(values) * np.sqrt(np.abs(values))
    steps = np.rint(127 + 127 * roots) if signed else np.rint(255 * roots)
    places = ((np.arange(256) - 127) / 127).clip(-1, 1) if signed else np.arange(256) / 255
    places = (np.sign(places) * places**2).astype(np.float32)
    colours = scale_colours(signed=signed)[np.rint(255 * ((places + 1) / 2 if signed else places)).astype(np.intp)]
    cover = np.rint(255 * STRONGEST_COVER * np.sqrt(np.abs(places))).astype(np.uint8)
    return _indexed(steps.astype(np.uint8), colours, cover)


def map_png(image: Image, heatmap: Heatmap, *, limit: float, long_side: int = LONG_SIDE_PX) -> bytes:
    """The map over the untouched image, as one PNG."""
    return _png(_overlay(_colour(_untouched(image, long_side)), heatmap, limit))


def outlines_png(masks: Mapping[str, Mask], *, long_side: int = LONG_SIDE_PX) -> bytes:
    """The outlines of the masks alone, to lie over the image. Raises: ValueError where there is no mask."""
    shape = display_size(*next(iter(masks.values())).shape, long_side=long_side)
    steps = np.zeros(shape, dtype=np.uint8)
    main = main_outlines(masks)
    for name, mask in masks.items():
        if mask.any():
            steps[_outline(mask, shape)] = 1 if name in main else 2
    palette = np.array([(0, 0, 0), MAIN_COLOUR, OTHER_COLOUR], dtype=np.uint8)
    return _indexed(steps, palette, np.array([0, 255, 255], dtype=np.uint8))


def main_outlines(masks: Mapping[str, Mask]) -> dict[str, Mask]:
    """The masks that stand with every map: those with a side, of which there is a pair, else the first by name."""
    sided = {name: mask for name, mask in masks.items() if name.startswith(("left_", "right_"))}
    return sided or dict(sorted(masks.items())[:1])


def scale_png(*, signed: bool) -> bytes:
    """The colours of the scale from its lower to its upper end, over middle grey as an image would be."""
    return _png(Picture.fromarray(_scale_bar(signed, 240, 12)))


def pair_png(image: Image, heatmap: Heatmap, *, limit: float | None = None, masks: Mapping[str, Mask] | None = None,
             long_side: int = LONG_SIDE_PX, withheld: str = "") -> bytes:  # fmt: skip
    """The untouched image and the map over it side by side, as one PNG: see `Pairs`."""
    return _png(Pairs(image, masks, long_side=long_side).drawn(heatmap, limit=limit, withheld=withheld))


class Pairs:
    """Maps of one image, each beside it: what they share is drawn once.

    Beneath: what it is, its scale, unit and colours, and whether it passed its checks (`withheld` says why not), so that a
    picture that leaves its folder keeps its warning.
    """

    def __init__(self, image: Image, masks: Mapping[str, Mask] | None = None, *, long_side: int = LONG_SIDE_PX) -> None:
        self._left = _colour(_untouched(image, long_side))
        self._outlines = _outlines(self._left.shape[:2], main_outlines(masks or {}))

    def drawn(self, heatmap: Heatmap, *, limit: float | None = None, withheld: str = "") -> Colours:
        """The sheet of one map, uint8 [H, W, 3]."""
        top = map_limit([heatmap]) if limit is None else limit
        left, right = self._left, _overlay(self._left, heatmap, top)
        for place, colour in self._outlines:
            right[place] = colour
        signed = is_signed(heatmap)
        height, width = left.shape[:2]
        gap, size = 16, 15
        font = _font(size)
        method = METHOD_NAMES.get(heatmap.method, heatmap.method)
        ends = "orange raised the model's score, blue lowered it" if signed else "yellow raised the model's score most"
        failed = f"FAILED ITS CHECKS, stories withhold it: {withheld}."
        passed = "DOUBTFUL: shown with a warning." if heatmap.doubtful else "It passed its checks."
        verdict = passed if heatmap.shown else failed
        right_lines = [f"{method} of {heatmap.finding.replace('_', ' ')}, {heatmap.unit}: {ends}.", verdict]
        left_lines = ["Untouched image", RESEARCH_USE]
        rows = [[part for line in lines for part in _wrapped(line, font, width)] for lines in (left_lines, right_lines)]
        line_height = size + 7
        foot = 44 + line_height * max(len(rows[0]), len(rows[1]))
        sheet = Picture.new("RGB", (2 * width + 3 * gap, height + 2 * gap + foot), (250, 250, 248))
        sheet.paste(Picture.fromarray(left), (gap, gap))
        sheet.paste(Picture.fromarray(right), (2 * gap + width, gap))
        pen, ink = ImageDraw.Draw(sheet), (35, 40, 48)
        x, y = 2 * gap + width, height + 2 * gap
        bar = _scale_bar(signed, max(60, width // 2), 12)
        sheet.paste(Picture.fromarray(bar), (x, y))
        middle = x + bar.shape[1] // 2
        pen.text((x, y + 16), f"{-top:.3g}" if signed else "0", fill=ink, font=font)
        pen.text((middle, y + 16), "0" if signed else f"{top / 2:.3g}", fill=ink, font=font, anchor="ma")
        pen.text((x + bar.shape[1], y + 16), f"{top:.3g}", fill=ink, font=font, anchor="ra")
        for lines, at in zip(rows, (gap, x), strict=True):
            for number, line in enumerate(lines):
                pen.text((at, y + 40 + line_height * number), line, fill=ink, font=font)
        return np.asarray(sheet)


@lru_cache(maxsize=2)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """`text` in lines that are no wider than `width` pixels, where words allow it."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def is_signed(heatmap: Heatmap) -> bool:
    """Whether the map has negative values, and so needs a scale with two ends."""
    return bool(heatmap.values.min() < 0)


def map_limit(heatmaps: Iterable[Heatmap]) -> float:
    """The largest absolute value of the maps: the scale they share. 1 when all are empty."""
    peak = max((float(np.abs(heatmap.values).max()) for heatmap in heatmaps), default=0.0)
    return peak if peak > 0 else 1.0


@lru_cache(maxsize=2)
def scale_colours(*, signed: bool) -> Colours:
    """256 colours from the lower to the upper end of a scale, uint8 [256, 3].

    Sequential: blue, green, yellow, dark to light in even steps of lightness. Diverging: blue, grey, orange, mirrored
    in lightness. Source: straight lines in Oklab (Ottosson 2020).
    """
    if signed:
        ends = [(0.60, -0.05, -0.14), (0.92, 0.0, 0.0), (0.60, 0.09, 0.12)]
    else:
        ends = [(0.34, 0.0, -0.13), (0.63, -0.10, 0.0), (0.92, -0.03, 0.17)]
    at, stops = np.linspace(0.0, 1.0, 256), [0.0, 0.5, 1.0]
    lab = np.stack([np.interp(at, stops, [end[i] for end in ends]) for i in range(3)], axis=1)
    return np.rint(255 * _oklab_to_srgb(lab)).astype(np.uint8)


def _overlay(under: Colours, heatmap: Heatmap, limit: float) -> Colours:
    values = _scaled(heatmap.values, under.shape) / np.float32(limit)
    return _mixed(under, values, is_signed(heatmap))


def _mixed(under: Colours, values: Array, signed: bool) -> Colours:
    """The scale's colours over `under`; what is zero hides nothing, so that the image stays to be seen."""
    values = np.clip(values, -1.0 if signed else 0.0, 1.0)
    steps = np.rint(255 * ((values + 1) / 2 if signed else values)).astype(np.intp)
    cover = STRONGEST_COVER * np.sqrt(np.abs(values))
    bare = 1 - cover
    mixed = np.empty(under.shape, dtype=np.uint8)
    for channel, colours in enumerate(scale_colours(signed=signed).astype(np.float32).T):  # planes: numpy is slow along three
        plane = under[..., channel] * bare
        plane += colours[steps] * cover
        mixed[..., channel] = np.rint(plane, out=plane).clip(0, 255, out=plane)
    return mixed


def _scale_bar(signed: bool, width: int, height: int) -> Colours:
    across = np.linspace(-1.0 if signed else 0.0, 1.0, width, dtype=np.float32)
    under = np.full((height, width, 3), 110, dtype=np.uint8)
    return _mixed(under, np.broadcast_to(across, (height, width)), signed)


def _outlines(shape: tuple[int, ...], masks: Mapping[str, Mask]) -> list[tuple[Mask, tuple[int, int, int]]]:
    """Where each mask's outline lies on a picture of that shape, and its colour; two pixels wide on a large picture."""
    main = main_outlines(masks)
    drawn = [(name, mask) for name, mask in masks.items() if mask.any()]
    return [(_outline(mask, shape), MAIN_COLOUR if name in main else OTHER_COLOUR) for name, mask in drawn]


def _outline(mask: Mask, shape: tuple[int, ...]) -> Mask:
    return _edge(_scaled(mask.astype(np.float32), shape) >= 0.5, thick=1 + shape[0] // 400)


def _edge(inside: Mask, *, thick: int) -> Mask:
    shrunk = inside
    for _ in range(thick):
        padded = np.pad(shrunk, 1)
        shrunk = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:] & shrunk
    edge: Mask = inside & ~shrunk
    return edge


def _untouched(image: Image, long_side: int) -> Colours:
    """The image at the size it is drawn at, uint8 [H, W] or [H, W, 3]."""
    height, width = image.pixels.shape[:2]
    eight = np.rint(np.clip(image.pixels, 0, 1) * 255).astype(np.uint8)
    rows, columns = display_size(height, width, long_side=long_side)
    return np.asarray(Picture.fromarray(eight).resize((columns, rows), Picture.Resampling.BICUBIC))


def _scaled(values: Array, shape: tuple[int, ...]) -> Array:
    picture = Picture.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Picture.Resampling.BILINEAR))


def _colour(shown: Colours) -> Colours:
    return shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, axis=2)


def _indexed(steps: Colours, palette: Colours, cover: Colours) -> bytes:
    """A PNG of palette entries, each with its own cover (0 lets all through)."""
    picture = Picture.fromarray(steps, mode="P")
    picture.putpalette(palette.tobytes())
    target = io.BytesIO()
    picture.save(target, format="PNG", compress_level=6, transparency=cover.tobytes())
    return target.getvalue()


def _png(picture: Picture.Image | NDArray[Any]) -> bytes:
    target = io.BytesIO()
    drawn = Picture.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    drawn.save(target, format="PNG", compress_level=4)
    return target.getvalue()


def _oklab_to_srgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """Oklab [N, 3] as sRGB in [0, 1], clipped. Source: Ottosson 2020, "A perceptual color space", and IEC 61966-2-1."""
    to_lms = np.array([
        [1, 0.3963377774, 0.2158037573],
        [1, -0.1055613458, -0.0638541728],
        [1, -0.0894841775, -1.291485548],
    ])  # fmt: skip
    to_rgb = np.array([
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.707614701],
    ])  # fmt: skip
    linear = ((lab @ to_lms.T) ** 3 @ to_rgb.T).clip(0, 1)
    encoded: NDArray[np.float64] = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return encoded
