"""What stands where a part of an image is hidden, and what a model answers when regions are."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.explain.contract import Scene
from storyxai.explain.inputs import Predict, checked_image, logits_of
from storyxai.types import Array, Mask

Fill: TypeAlias = Literal["blur", "mean"] | float | Array  # float: a constant grey value; an array: that image
# Gaussian sigma of the "blur" fill, as a share of the longer side: wide enough to remove a sign of one superpixel.
BLUR_SHARE = 1 / 8


def fill_words(fill: Fill) -> str:
    """The fill as it is written beside results: "blur", "mean", the constant, or "image"."""
    return fill if isinstance(fill, str) else "image" if isinstance(fill, np.ndarray) else f"{float(fill):g}"


def fill_for(fill: Fill | None, scene: Scene) -> tuple[Fill, str]:
    """What a method hides with, and how it is called: its own fill, else the scene's filling, else a blur."""
    if fill is None and scene.filling is not None:
        return scene.filling, scene.filling_words or "image"
    chosen: Fill = "blur" if fill is None else fill
    return chosen, fill_words(chosen)


def hidden_image(image: Array, *, fill: Fill, segments: NDArray[np.int32] | None = None) -> Array:
    """What stands where something is hidden, float32 of the image's shape, [C, H, W] or [H, W].

    "blur": the image under a Gaussian of sigma `BLUR_SHARE` x the longer side; "mean": the mean of each segment (of the
    whole image where no segments are given), channel by channel; a number: that grey value; an image of the same shape:
    itself. Raises: InputError for another fill.
    """
    if isinstance(fill, np.ndarray):
        if fill.shape != image.shape:
            raise InputError("fill", f"has shape {fill.shape} beside an image of {image.shape}", mend="give one of its shape")
        return checked_image(fill).reshape(image.shape)
    if fill == "blur":
        from scipy.ndimage import gaussian_filter

        sigma = BLUR_SHARE * max(image.shape[-2:])
        blurred: Array = gaussian_filter(image, sigma=sigma, mode="nearest", truncate=3.0, axes=(-2, -1))
        return blurred
    if fill == "mean":
        labels = np.zeros(image.shape[-2:], dtype=np.int32) if segments is None else segments
        channels = [_means(channel, labels) for channel in image.reshape(-1, *image.shape[-2:])]
        return np.stack(channels).reshape(image.shape)
    # Text from a user reaches this line although the type does not allow it.
    if not isinstance(fill, int | float) or not 0 <= fill <= 1:
        raise InputError("fill", f"{fill!r} is not known", mend="use 'blur', 'mean', a grey value in [0, 1] or an image")
    return np.full_like(image, fill)


def _means(channel: Array, segments: NDArray[np.int32]) -> Array:
    """Each segment painted with its own mean."""
    sums = np.bincount(segments.ravel(), weights=channel.ravel())
    means = sums / np.maximum(np.bincount(segments.ravel()), 1)
    return means.astype(np.float32)[segments]


def occlude(
    predict: Predict, image: Array, regions: Mapping[str, Mask], fill: Fill = "blur", *, batch: int = 16
) -> dict[str, NDArray[np.float64]]:
    """The logits when each region alone is hidden: name -> float64 [F].

    Shapes: image [C, H, W], or [H, W] of one channel; each region bool [H, W]. With "mean" a region takes its own mean.
    Raises: InputError for a region of another shape or an empty one.
    """
    pixels = checked_image(image)
    names = list(regions)
    masks = [np.asarray(regions[name], dtype=bool) for name in names]
    for name, mask in zip(names, masks, strict=True):
        if mask.shape != pixels.shape[1:] or not mask.any():
            raise InputError(f"region '{name}'", "is empty or not of the image's shape", mend="leave it out")
    shared = None if isinstance(fill, str) and fill == "mean" else hidden_image(_as_shaped(pixels, fill), fill=fill)
    answers: dict[str, NDArray[np.float64]] = {}
    for start in range(0, len(names), batch):
        part = masks[start : start + batch]
        images = np.stack([np.where(mask, _own_mean(pixels, mask) if shared is None else shared, pixels) for mask in part])
        logits = logits_of(predict, images.astype(np.float32))
        answers.update(zip(names[start : start + batch], logits, strict=True))
    return answers


def _as_shaped(pixels: Array, fill: Fill) -> Array:
    """The image without its channel axis where an image to fill it with has none."""
    return pixels[0] if isinstance(fill, np.ndarray) and fill.ndim == 2 and len(pixels) == 1 else pixels


def _own_mean(pixels: Array, mask: Mask) -> NDArray[np.float64]:
    """The mean of each channel under the mask, [C, 1, 1]."""
    means: NDArray[np.float64] = pixels[:, mask].mean(axis=1, dtype=np.float64)
    return means[:, None, None]


class HiddenSuperpixels:
    """Images in which some superpixels are hidden, made a batch at a time in memory that is taken once.

    Shapes: pixels [C, H, W], segments int32 [H, W]. The model may not keep the images that it is given.
    """

    def __init__(self, pixels: Array, segments: NDArray[np.int32], fill: Fill, *, batch: int) -> None:
        self._pixels = pixels
        self._behind = hidden_image(_as_shaped(pixels, fill), fill=fill, segments=segments).reshape(pixels.shape)
        self._labels = segments.ravel()
        self._images = np.empty((batch, *pixels.shape), dtype=np.float32)
        self._shown = np.empty((batch, segments.size), dtype=np.bool_)

    def images(self, vectors: NDArray[np.uint8]) -> Array:
        """The images that show the superpixels that are 1, float32 [B, C, H, W]; the next call overwrites them."""
        count, (height, width) = len(vectors), self._pixels.shape[1:]
        shown, images = self._shown[:count], self._images[:count]
        np.take(vectors.view(np.bool_), self._labels, axis=1, out=shown, mode="clip")
        np.copyto(images, self._behind)
        np.copyto(images, self._pixels, where=shown.reshape(count, 1, height, width))
        return images

    def answers(
        self, predict: Predict, vectors: NDArray[np.uint8], *, deadline: float | None = None, least: int = 1
    ) -> tuple[NDArray[np.float64], bool]:
        """The logits [N, F] for each vector, and whether `deadline` (of time.monotonic) cut them short after `least`."""
        parts: list[NDArray[np.float64]] = []
        batch = len(self._images)
        for start in range(0, len(vectors), batch):
            if deadline is not None and start >= least and time.monotonic() > deadline:
                return np.concatenate(parts), True
            parts.append(logits_of(predict, self.images(vectors[start : start + batch])))
        return np.concatenate(parts), False
