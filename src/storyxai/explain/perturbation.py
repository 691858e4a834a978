"""What a model answers when parts of the image are hidden: fills, counterfactuals, occlusion and RISE maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.types import Array, Mask

__all__ = [
    "BLUR_SHARE",
    "Fill",
    "Predict",
    "checked_image",
    "fill_words",
    "hidden_image",
    "logits_of",
    "occlude",
    "occlusion_map",
    "rise_map",
]

# A model as this room sees it: float32 [B, 1, H, W] in [0, 1] -> logits float32 [B, F].
Predict: TypeAlias = Callable[[Array], Array]
Fill: TypeAlias = Literal["blur", "mean"] | float | Array  # float: a constant grey value; an array: that image
# Gaussian sigma of the "blur" fill, as a share of the longer side: wide enough to remove a lesion of one superpixel.
BLUR_SHARE = 1 / 8


def logits_of(predict: Predict, batch: Array) -> NDArray[np.float64]:
    """The model's logits for one batch, checked. Shapes: [B, 1, H, W] -> float64 [B, F].

    Raises: InputError when the answer is not one row of finite numbers per image.
    """
    answer = np.asarray(predict(batch))
    if answer.ndim != 2 or answer.shape[0] != batch.shape[0] or answer.shape[1] == 0:
        raise InputError(
            "predict", f"returned shape {answer.shape} for {batch.shape[0]} images", mend="return logits [B, F]"
        )
    logits = answer.astype(np.float64)
    if not np.isfinite(logits).all():
        raise InputError("predict", "returned logits that are not finite", mend="check the model for overflow or nan")
    return logits


def checked_image(image: NDArray[np.floating]) -> Array:
    """The image as contiguous float32 [H, W]. Raises: InputError unless it is one finite grey image in [0, 1]."""
    pixels = np.ascontiguousarray(image, dtype=np.float32)
    if pixels.ndim != 2 or pixels.size == 0:
        raise InputError("image", f"has shape {np.shape(image)}", mend="give one grey image [H, W]")
    if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
        raise InputError("image", "has values outside [0, 1]", mend="scale the pixels to [0, 1], bright = dense")
    return pixels


def fill_words(fill: Fill) -> str:
    """The fill as it is written beside results: "blur", "mean", the constant, or "image"."""
    return fill if isinstance(fill, str) else "image" if isinstance(fill, np.ndarray) else f"{float(fill):g}"


def hidden_image(image: Array, *, fill: Fill, segments: NDArray[np.int32] | None = None) -> Array:
    """What stands where something is hidden, float32 [H, W].

    "blur": the image under a Gaussian of sigma `BLUR_SHARE` x the longer side; "mean": the mean of each segment (of the
    whole image where no segments are given); a number: that grey value; an image of the same shape: itself.
    Raises: InputError for another fill.
    """
    if isinstance(fill, np.ndarray):
        given = checked_image(fill)
        if given.shape != image.shape:
            raise InputError("fill", f"has shape {given.shape} beside an image of {image.shape}", mend="give one of its shape")
        return given
    if fill == "blur":
        from scipy.ndimage import gaussian_filter

        blurred: Array = gaussian_filter(image, sigma=BLUR_SHARE * max(image.shape), mode="nearest", truncate=3.0)
        return blurred
    if fill == "mean":
        if segments is None:
            return np.full_like(image, image.mean(dtype=np.float64))
        sums = np.bincount(segments.ravel(), weights=image.ravel())
        means = sums / np.maximum(np.bincount(segments.ravel()), 1)
        return means.astype(np.float32)[segments]
    # Text from a user reaches this line although the type does not allow it.
    if not isinstance(fill, int | float) or not 0 <= fill <= 1:
        raise InputError("fill", f"{fill!r} is not known", mend="use 'blur', 'mean', a grey value in [0, 1] or an image")
    return np.full_like(image, fill)


def occlude(
    predict: Predict, image: Array, regions: Mapping[str, Mask], fill: Fill = "blur", *, batch: int = 16
) -> dict[str, NDArray[np.float64]]:
    """The logits when each region alone is hidden: name -> float64 [F]. Shapes: image [H, W], each region bool [H, W].

    With "mean" a region takes its own mean grey. Raises: InputError for a region of another shape or an empty one.
    """
    pixels = checked_image(image)
    names = list(regions)
    masks = [np.asarray(regions[name], dtype=bool) for name in names]
    for name, mask in zip(names, masks, strict=True):
        if mask.shape != pixels.shape or not mask.any():
            raise InputError(f"region '{name}'", "is empty or not of the image's shape", mend="leave it out")
    shared = None if isinstance(fill, str) and fill == "mean" else hidden_image(pixels, fill=fill)
    answers: dict[str, NDArray[np.float64]] = {}
    for start in range(0, len(names), batch):
        part = masks[start : start + batch]
        fills = [pixels[mask].mean(dtype=np.float64) if shared is None else shared for mask in part]
        images = np.stack([np.where(mask, hidden, pixels) for mask, hidden in zip(part, fills, strict=True)])
        logits = logits_of(predict, images[:, None].astype(np.float32))
        answers.update(zip(names[start : start + batch], logits, strict=True))
    return answers


def occlusion_map(
    predict: Predict, image: Array, *, window_px: int, stride_px: int, fill: Fill = "blur", batch: int = 32
) -> Array:
    """The mean fall of each logit while a square window hides a pixel, float32 [F, H, W], signed, logits.

    Windows start every `stride_px` and a last one touches the far edge, so that every pixel is hidden at least once.
    Source: Zeiler & Fergus, ECCV 2014 (occlusion sensitivity), with the fill stated instead of fixed grey.
    """
    pixels = checked_image(image)
    if not 1 <= stride_px <= window_px <= min(pixels.shape):
        raise InputError("window", f"{window_px} px every {stride_px} px", mend="need 1 <= stride <= window <= side")
    rows, columns = (
        sorted({*range(0, side - window_px + 1, stride_px), side - window_px}) for side in pixels.shape
    )
    corners = [(row, column) for row in rows for column in columns]
    hidden = hidden_image(pixels, fill=fill)
    whole = logits_of(predict, pixels[None, None])[0]
    falls = np.zeros((len(whole), *pixels.shape))
    counts = np.zeros(pixels.shape)
    for start in range(0, len(corners), batch):
        part = corners[start : start + batch]
        images = np.repeat(pixels[None], len(part), axis=0)
        for index, (row, column) in enumerate(part):
            window = np.s_[row : row + window_px, column : column + window_px]
            images[index][window] = hidden[window]
        fall = whole - logits_of(predict, images[:, None])
        for (row, column), change in zip(part, fall, strict=True):
            window = np.s_[row : row + window_px, column : column + window_px]
            falls[:, *window] += change[:, None, None]
            counts[window] += 1
    return (falls / counts).astype(np.float32)


def rise_map(
    predict: Predict,
    image: Array,
    *,
    samples: int = 1000,
    seed: int = 0,
    cells: int = 8,
    keep: float = 0.5,
    fill: Fill = "blur",
    batch: int = 64,
) -> Array:
    """Each logit's mean change when a pixel is seen rather than hidden, float32 [F, H, W], signed, logits.

    Shapes: image [H, W]. Masks are random grids of `cells` x `cells`, enlarged bilinearly and shifted by the generator.
    Source: Petsiuk et al., BMVC 2018; we subtract the mean logit (so that a model which ignores the image gives zero)
    and divide by the variance of the mask at each pixel, which makes the map the slope of the logit on being seen.
    """
    from scipy.ndimage import zoom

    if samples < 2 or cells < 2 or not 0 < keep < 1:
        raise InputError("rise", "needs samples >= 2, cells >= 2 and 0 < keep < 1", mend="change these settings")
    pixels = checked_image(image)
    height, width = pixels.shape
    hidden = hidden_image(pixels, fill=fill)
    generator = np.random.default_rng(seed)
    step = (-(-height // cells), -(-width // cells))
    cross: NDArray[np.float64] | None = None
    mask_sum, square_sum, logit_sum = np.zeros(pixels.shape), np.zeros(pixels.shape), np.zeros(1)
    for start in range(0, samples, batch):
        size = min(batch, samples - start)
        grids = (generator.random((size, cells + 1, cells + 1)) < keep).astype(np.float32)
        shifts = generator.integers(0, step, (size, 2))
        scale = (1, step[0], step[1])
        large = zoom(grids, scale, order=1, mode="nearest", grid_mode=True)
        masks = np.stack([m[r : r + height, c : c + width] for m, (r, c) in zip(large, shifts, strict=True)])
        seen = np.clip(masks * pixels + (1 - masks) * hidden, 0, 1).astype(np.float32)
        logits = logits_of(predict, seen[:, None])
        # One sample after the other: the sum must not depend on the batch size.
        cross = np.zeros((logits.shape[1], height, width)) if cross is None else cross
        for mask, row in zip(masks, logits, strict=True):
            cross += row[:, None, None] * mask
            mask_sum += mask
            square_sum += mask * mask
            logit_sum = logit_sum + row
    assert cross is not None
    covariance = cross / samples - (logit_sum / samples)[:, None, None] * (mask_sum / samples)
    variance = square_sum / samples - (mask_sum / samples) ** 2
    return (covariance / np.maximum(variance, 1e-12)).astype(np.float32)
