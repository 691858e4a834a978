"""Occlusion sensitivity: how far each logit falls while a window of the image is hidden, or a disc as small as a sign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from storyxai.errors import InputError
from storyxai.explain.contract import Explanation, SmallSign, explanations
from storyxai.explain.inputs import Asked, OwnMethod, Predict, checked_image, logits_of
from storyxai.explain.perturbation import Fill, fill_for, hidden_image
from storyxai.types import Array, Mask, Value

SMALL_EXTENT = 0.08
"""How wide a sign is taken to be, as a share of the longer side, where the scene does not say."""
WINDOW = 2.0
"""The side of the window whose median stands where a disc hides, as a share of the extent: most of it is not the sign."""
MEDIAN_SIDE = 12
"""The pixels of that window in which its median is taken: a larger one is taken of a reduced image."""


@dataclass(frozen=True)
class Occlusion(OwnMethod):
    """Occlusion sensitivity; the window and its stride are shares of the shorter side; `fill` None: the scene's filling."""

    window_share: float = 0.15
    stride_share: float = 0.05
    fill: Fill | None = None
    key: str = "occlusion"
    name: str = "Occlusion"
    needs: frozenset[str] = frozenset()
    checks: tuple[str, ...] = ("not_empty", "repeatable", "label_specific", "methods_agree")

    def answer(self, asked: Asked) -> tuple[Explanation, ...]:
        """One map in the model's frame per finding; the number of passes is set by window and stride, not the budget."""
        side = min(asked.pixels.shape[1:])
        window, stride = (max(1, round(share * side)) for share in (self.window_share, self.stride_share))
        fill, words = fill_for(self.fill, asked.scene)
        batch, predict = asked.budget.batch, asked.model.logits
        maps = occlusion_map(predict, asked.pixels, window_px=window, stride_px=stride, fill=fill, batch=batch)
        details: dict[str, Value] = {"window_px": window, "stride_px": stride, "fill": words}
        return explanations(self.key, asked.findings, maps[list(asked.columns)], "logit lost when hidden", details)


def occlusion_map(
    predict: Predict, image: Array, *, window_px: int, stride_px: int, fill: Fill = "blur", batch: int = 32
) -> Array:
    """The mean fall of each logit while a square window hides a pixel, float32 [F, H, W], signed, logits.

    Shapes: image [C, H, W], or [H, W] of one channel. Windows start every `stride_px` and a last one touches the far edge,
    so that every pixel is hidden at least once.
    Source: Zeiler & Fergus, ECCV 2014 (occlusion sensitivity), with the fill stated instead of fixed grey.
    """
    pixels = checked_image(image)
    frame = pixels.shape[1:]
    if not 1 <= stride_px <= window_px <= min(frame):
        raise InputError("window", f"{window_px} px every {stride_px} px", mend="need 1 <= stride <= window <= side")
    rows, columns = (sorted({*range(0, side - window_px + 1, stride_px), side - window_px}) for side in frame)
    windows = [np.s_[row : row + window_px, column : column + window_px] for row in rows for column in columns]
    hidden = hidden_image(pixels, fill=fill)
    whole = logits_of(predict, pixels[None])[0]
    falls = np.zeros((len(whole), *frame))
    counts = np.zeros(frame)
    for start in range(0, len(windows), batch):
        part = windows[start : start + batch]
        images = np.repeat(pixels[None], len(part), axis=0)
        for index, window in enumerate(part):
            images[index, :, *window] = hidden[:, *window]
        for window, change in zip(part, whole - logits_of(predict, images), strict=True):
            falls[:, *window] += change[:, None, None]
            counts[window] += 1
    return (falls / counts).astype(np.float32)


@dataclass(frozen=True)
class FineOcclusion(OwnMethod):
    """Occlusion for signs that are smaller than the cells of a Grad-CAM map: soft discs about as large as the sign.

    The radius of the discs and the stride of their centres are shares of the sign's extent (`Scene.small`). Where a disc hides
    the image stands the median of what surrounds each pixel: what is small vanishes there and what is large stays.
    """

    radius_share: float = 0.5
    stride_share: float = 0.5
    key: str = "fine_occlusion"
    name: str = "Fine occlusion"
    needs: frozenset[str] = frozenset()
    checks: tuple[str, ...] = ("not_empty", "methods_agree")
    small_only: ClassVar[bool] = True
    """Beside another method it draws the findings of `Scene.small` alone."""

    def answer(self, asked: Asked) -> tuple[Explanation, ...]:
        """One map in the model's frame per finding; findings of one extent and region share their passes."""
        signs = [asked.scene.small.get(finding, SmallSign(SMALL_EXTENT)) for finding in asked.findings]
        shared = {(sign.extent, id(sign.region)): sign for sign in signs}
        falls = {key: self._falls(asked, sign) for key, sign in shared.items()}
        drawn: list[Explanation] = []
        for finding, column, sign in zip(asked.findings, asked.columns, signs, strict=True):
            maps, details = falls[sign.extent, id(sign.region)]
            drawn += explanations(self.key, (finding,), (maps[column],), "logit lost when hidden", details)
        return tuple(drawn)

    def _falls(self, asked: Asked, sign: SmallSign) -> tuple[Array, Mapping[str, Value]]:
        """The falls of all logits by discs of the sign's size, and what is told of these."""
        extent = sign.extent * max(asked.pixels.shape[1:])
        radius, stride = self.radius_share * extent, max(1, round(self.stride_share * extent))
        window = max(3, round(WINDOW * extent))
        maps = disc_occlusion_map(
            asked.model.logits, asked.pixels, median_around(asked.pixels, window), radius_px=radius, stride_px=stride,
            within=sign.region, batch=asked.budget.batch,
        )  # fmt: skip
        return maps, {"radius_px": round(radius, 1), "stride_px": stride, "fill": f"median: {window} px"}


def median_around(image: Array, window_px: int) -> Array:
    """The median of the square window around each pixel, of a reduced image where the window is large. Shapes: [C, H, W]."""
    from scipy.ndimage import median_filter, zoom

    factor = max(1, round(window_px / MEDIAN_SIDE))
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (0, -height % factor), (0, -width % factor)), mode="edge")
    rows, columns = (side // factor for side in padded.shape[1:])
    small = padded.reshape(len(image), rows, factor, columns, factor).mean(axis=(2, 4))
    medians = median_filter(small, size=(1, *(max(3, round(window_px / factor) | 1),) * 2), mode="nearest")
    large = zoom(medians, (1, factor, factor), order=1, grid_mode=True, mode="nearest")
    return np.asarray(large[:, :height, :width], dtype=np.float32)


def disc_occlusion_map(
    predict: Predict, image: Array, filling: Array, *, radius_px: float, stride_px: int, within: Mask | None = None,
    batch: int = 32,
) -> Array:
    """The mean fall of each logit while a soft disc of `filling` hides a pixel, float32 [F, H, W], signed; 0 where none does.

    Shapes: image and filling [C, H, W]; `within` bool [H, W] holds the centres, of which there is one every `stride_px` both
    ways. Raises: InputError where there is none.
    """
    pixels = checked_image(image)
    height, width = pixels.shape[1:]
    places = [(y, x) for y in range(stride_px // 2, height, stride_px) for x in range(stride_px // 2, width, stride_px)]
    centres = [(y, x) for y, x in places if within is None or within[y, x]]
    if not centres:
        raise InputError("discs", f"of which one stands every {stride_px} px have no room", mend="use occlusion")
    rows, columns = np.arange(height)[:, None], np.arange(width)
    whole = logits_of(predict, pixels[None])[0]
    falls, weight = np.zeros((len(whole), height, width)), np.zeros((height, width))
    for start in range(0, len(centres), batch):
        part = centres[start : start + batch]
        hides = np.stack([np.clip(radius_px + 0.5 - np.hypot(rows - y, columns - x), 0, 1) for y, x in part])
        images = pixels + hides[:, None] * (filling - pixels)
        falls += np.einsum("nf,nhw->fhw", whole - logits_of(predict, images.astype(np.float32)), hides)
        weight += hides.sum(axis=0)
    return (falls / np.where(weight > 0, weight, 1)).astype(np.float32)
