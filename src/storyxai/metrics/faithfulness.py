"""How faithful a map is to its model, always beside maps that know nothing: random, centre and edge.

Deletion and insertion show the model images off its distribution, and ROAD favours blurry maps: read two families.
Everything here takes a callable and arrays. Scores are whatever `predict` returns, usually logits, one column a finding: what
is hidden of an image does not depend on the finding, so that one pass serves all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.types import Array, Mask

Predict: TypeAlias = Callable[[Array], Array]
Order: TypeAlias = Literal["most", "least"]
_Float64: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Masking:
    """How images are changed: `steps` of deletion and insertion, `shares` of pixels that ROAD fills in and its `noise`.

    `noise` is the standard deviation of what is added to a filled pixel; `batch` images are asked at a time.
    """

    steps: int = 20
    shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    noise: float = 0.01
    batch: int = 32
    seed: int = 0


DEFAULT_MASKING = Masking()
POINTING_TOLERANCE = 0.03
"""How far beside a region the strongest point of a map may lie in the pointing game: 15 pixels of images of 500."""


class Curve(NamedTuple):
    """Scores at growing shares of changed pixels. Shapes: shares [P], scores [P, F]; `area` [F] by the trapezoid rule."""

    shares: _Float64
    scores: _Float64
    area: _Float64


class Faithfulness(NamedTuple):
    """The figures of one map for each of F findings, [F] each: means of the score less that of the unchanged image.

    Good: deletion low, insertion high, road (the most minus the least relevant filled in) low.
    """

    deletion: _Float64
    insertion: _Float64
    road: _Float64


class Localisation(NamedTuple):
    """How a map lies on a region, shares in [0, 1]: `hit_share`, `energy_inside`, `iou_of_top`."""

    hit: float
    energy: float
    iou: float


def deletion_curve(
    predict: Predict, image: Array, values: Array, *, background: Array, masking: Masking = DEFAULT_MASKING
) -> Curve:
    """The scores as the strongest pixels are replaced by `background`, strongest first.

    Shapes: image, background [C, H, W]; values [H, W]. Equal pixels go in reading order. A good map falls fast: low area.
    Source: Petsiuk et al., BMVC 2018 (RISE).
    """
    return _replacing(predict, image, background, values, masking)


def insertion_curve(
    predict: Predict, image: Array, values: Array, *, background: Array, masking: Masking = DEFAULT_MASKING
) -> Curve:
    """The scores as pixels of the image enter the `background`, strongest first: high area is good.

    Shapes: image, background [C, H, W]; values [H, W]. Source: Petsiuk et al., BMVC 2018 (RISE).
    """
    return _replacing(predict, background, image, values, masking)


def road_curve(
    predict: Predict, image: Array, values: Array, *, order: Order = "most", masking: Masking = DEFAULT_MASKING
) -> Curve:
    """The scores as the most (or least) relevant pixels are filled in from their neighbours with a little noise.

    Shapes: image [C, H, W], values [H, W]. Deviates from the paper in one thing: the curve's area is over the given shares,
    without the unchanged image. Source: Rong et al., ICML 2022 (ROAD: remove and debias).
    """
    _check_frames(image, values)
    ranked = np.argsort(-values.ravel() if order == "most" else values.ravel(), kind="stable")
    generator = np.random.default_rng(masking.seed)
    images = np.empty((len(masking.shares), *image.shape), dtype=np.float32)
    for index, share in enumerate(masking.shares):
        gone = np.zeros(values.size, dtype=bool)
        gone[ranked[: round(share * values.size)]] = True
        filled = noisy_imputation(image, gone.reshape(values.shape), generator=generator, noise=masking.noise)
        images[index] = np.clip(filled, 0, 1)
    return _curve(np.array(masking.shares), _scores(predict, images, masking.batch))


def noisy_imputation(image: Array, gone: Mask, *, generator: np.random.Generator, noise: float = 0.01) -> Array:
    """The image with each missing pixel the weighted mean of its eight neighbours, plus normal noise, float32.

    Shapes: image [C, H, W], gone [H, W]. Direct neighbours weigh 1/6, diagonal ones 1/12, renormalised at the border; all
    missing pixels are solved at once, to a hundredth of `noise`, the standard deviation of what is added. Where every pixel
    is missing each channel's mean takes their place. Source: Rong et al., ICML 2022.
    """
    _check_frames(image, gone)
    filled = image.astype(np.float64)
    for channel in filled:
        if gone.all():
            channel[:] = channel.mean()
        elif gone.any():
            channel[:] = _solved(channel, gone, tolerance=max(1e-9, noise / 100))
        channel[gone] += generator.normal(0, noise, int(gone.sum())) if noise else 0
    return filled.astype(np.float32)


def _solved(grey: _Float64, gone: Mask, *, tolerance: float) -> _Float64:
    """The image whose missing pixels are means of their neighbours, by conjugate gradients preconditioned with the diagonal.

    The nearest known pixel is where it starts; `tolerance` is on the residual, relative to the right-hand side.
    """
    from scipy.ndimage import distance_transform_edt

    padded = np.zeros((grey.shape[0] + 2, grey.shape[1] + 2))
    total = _neighbours(np.ones_like(grey), padded)
    given = np.where(gone, _neighbours(np.where(gone, 0, grey), padded), 0)
    nearest = distance_transform_edt(gone, return_distances=False, return_indices=True)
    found = np.where(gone, grey[tuple(nearest)], 0)

    def applied(values: _Float64) -> _Float64:
        return np.where(gone, total * values - _neighbours(values, padded), 0)

    rest = given - applied(found)
    scaled = rest / total
    direction, length = scaled.copy(), float((rest * scaled).sum())
    enough = tolerance * float(np.sqrt((given**2).sum()))
    for _ in range(4 * grey.size):
        if float(np.sqrt((rest**2).sum())) <= enough:
            break
        forward = applied(direction)
        step = length / float((direction * forward).sum())
        found += step * direction
        rest -= step * forward
        scaled = rest / total
        before, length = length, float((rest * scaled).sum())
        direction = scaled + length / before * direction
    return np.where(gone, found, grey)


def _neighbours(values: _Float64, padded: _Float64) -> _Float64:
    """The weighted sum of each pixel's eight neighbours; `padded` is a buffer with a border of zeros."""
    padded[1:-1, 1:-1] = values
    down = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    # The separable sum counts the pixel itself four times.
    around: _Float64 = (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:] - 4 * values) / 12
    return around


def baseline_maps(image: Array, *, seed: int = 0) -> dict[str, Array]:
    """Maps that know nothing of the model, float32 [H, W] each: "random", "centre" (a Gaussian hill), "edge".

    Shapes: image [H, W]. A method whose figures do not beat these says nothing. "random" is smooth noise no finer than a
    superpixel; "edge" is the size of the image's own grey gradient.
    """
    from scipy.ndimage import gaussian_filter, sobel

    smooth = gaussian_filter(image.astype(np.float64), sigma=1.0)
    edge = np.hypot(sobel(smooth, axis=0), sobel(smooth, axis=1)).astype(np.float32)
    return {"random": random_map(image.shape, seed=seed), "centre": centre_map(image.shape), "edge": edge}


def random_map(shape: tuple[int, ...], *, seed: int) -> Array:
    """Smooth noise no finer than a superpixel, float32 of that shape [H, W]."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=shape)
    return np.asarray(gaussian_filter(noise, sigma=max(shape) / 16, mode="wrap"), dtype=np.float32)


def centre_map(shape: tuple[int, ...]) -> Array:
    """A Gaussian hill in the middle, float32 of that shape [H, W]."""
    row, column = ((np.arange(length) + 0.5) / length - 0.5 for length in shape)
    return np.asarray(np.exp(-(row[:, None] ** 2 + column[None, :] ** 2) / (2 * 0.25**2)), dtype=np.float32)


def faithfulness(
    predict: Predict, image: Array, values: Array, *, background: Array, masking: Masking = DEFAULT_MASKING
) -> Faithfulness:
    """Deletion, insertion and ROAD of one map for every finding. Shapes: image, background [C, H, W]; values [H, W]."""
    whole = _scores(predict, image[None], masking.batch)[0]
    deleted, inserted = (
        curve(predict, image, values, background=background, masking=masking) for curve in (deletion_curve, insertion_curve)
    )
    most, least = (road_curve(predict, image, values, order=order, masking=masking) for order in _ORDERS)
    return Faithfulness(deleted.area - whole, inserted.area - whole, most.area - least.area)


_ORDERS: tuple[Order, ...] = ("most", "least")


def hit_share(values: Array, region: Mask, *, tolerance: float = 0.0) -> float:
    """The share of the map's strongest point that lies in the region: 1 or 0, in between where several are as strong.

    All of a superpixel is equally strong. A point at most `tolerance` beside the region counts as in it. Units: tolerance is a
    share of the longer side; `POINTING_TOLERANCE` is that of the source. Source: the pointing game of Zhang et al., ECCV 2016.
    """
    _check_frames(values, region)
    top = float(values.max())
    return float(widened(region, tolerance=tolerance)[values >= top - 1e-6 * abs(top)].mean())


def widened(region: Mask, *, tolerance: float) -> Mask:
    """The region and what lies at most `tolerance` beside it. Shapes: bool [H, W]. Units: share of the longer side."""
    if not tolerance or not region.any():
        return region
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~region) <= tolerance * max(region.shape), dtype=np.bool_)


def energy_inside(values: Array, region: Mask) -> float:
    """Share of the positive map inside the region, 0 for a map without a positive part. Units: share."""
    _check_frames(values, region)
    positive = np.maximum(values, 0).astype(np.float64)
    total = float(positive.sum())
    return float(positive[region].sum()) / total if total > 0 else 0.0


def iou_of_top(values: Array, region: Mask) -> float:
    """Intersection over union of the region and as many of the map's strongest positive pixels. Units: share."""
    _check_frames(values, region)
    size = int(region.sum())
    top = np.zeros(values.size, dtype=bool)
    top[np.argsort(-values.ravel(), kind="stable")[:size]] = True
    chosen = top.reshape(values.shape) & (values > 0)
    union = int((chosen | region).sum())
    return float((chosen & region).sum()) / union if union else 0.0


def localisation(values: Array, region: Mask) -> Localisation:
    """How the map lies on the region. Shapes: [H, W] each."""
    return Localisation(hit_share(values, region), energy_inside(values, region), iou_of_top(values, region))


def gini(values: Array) -> float:
    """Sparseness of the absolute map: 0 for an even map, 1 - 1/n when one of n pixels holds all; 0 for an empty map.

    Source: Gini index as in Chalasani et al., ICML 2020.
    """
    sizes = np.sort(np.abs(values).ravel().astype(np.float64))
    total = float(sizes.sum())
    if total <= 0:
        return 0.0
    n = len(sizes)
    return float(2 * np.einsum("i,i->", np.arange(1, n + 1, dtype=np.float64), sizes) / (n * total) - (n + 1) / n)


def max_sensitivity(
    explain: Callable[[Array], Array], image: Array, *, radius: float = 0.02, count: int = 10, seed: int = 0
) -> _Float64:
    """The largest change of each map, relative to the map, under uniform pixel noise of at most `radius`, [F].

    `explain` gives the maps [F, h, w] of an image of any shape. Compare methods on the same seed; 0 means that noise changes
    nothing, nan that the map was empty. Source: Yeh et al., NeurIPS 2019.
    """
    whole = explain(image).astype(np.float64)
    size = _lengths(whole)
    generator = np.random.default_rng(seed)
    changes = np.zeros(len(whole))
    for _ in range(count):
        noisy = np.clip(image + generator.uniform(-radius, radius, image.shape), 0, 1).astype(np.float32)
        changes = np.maximum(changes, _lengths(explain(noisy) - whole))
    relative: _Float64 = np.divide(changes, size, out=np.full(len(whole), np.nan), where=size > 0)
    return relative


def _lengths(maps: _Float64) -> _Float64:
    lengths: _Float64 = np.sqrt((maps.reshape(len(maps), -1) ** 2).sum(axis=1))
    return lengths


def _replacing(predict: Predict, first: Array, second: Array, values: Array, masking: Masking) -> Curve:
    """Scores as pixels of `first` give way to those of `second`, strongest of `values` first."""
    _check_frames(first, values)
    if first.shape != second.shape:
        raise InputError("background", f"{second.shape} for {first.shape}", mend="give one of the image's shape")
    if masking.steps < 1:
        raise InputError("steps", f"{masking.steps}", mend="use at least 1, better 20")
    order = np.empty(values.size, dtype=np.int64)
    order[np.argsort(-values.ravel(), kind="stable")] = np.arange(values.size)
    place = order.reshape(values.shape)
    counts = np.round(np.linspace(0, values.size, masking.steps + 1)).astype(np.int64)
    scores = [
        _scores(predict, np.where(place < part[:, None, None, None], second, first).astype(np.float32), masking.batch)
        for part in np.split(counts, range(masking.batch, len(counts), masking.batch))
    ]
    return _curve(counts / values.size, np.concatenate(scores))


def _scores(predict: Predict, images: Array, batch: int) -> _Float64:
    """The scores [N, F] of images [N, C, H, W]."""
    parts = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        answer = np.asarray(predict(part), dtype=np.float64)
        if answer.ndim != 2 or len(answer) != len(part):
            raise InputError("predict", f"returned {answer.shape} for {len(part)} images", mend="return logits [B, F]")
        parts.append(answer)
    return np.concatenate(parts)


def _curve(shares: _Float64, scores: _Float64) -> Curve:
    width = float(shares[-1] - shares[0])
    area = np.trapezoid(scores, shares, axis=0) / width if width > 0 else scores[0]
    return Curve(shares, scores, np.asarray(area, dtype=np.float64))


def _check_frames(image: NDArray[np.generic], values: NDArray[np.generic]) -> None:
    if image.shape[-2:] != values.shape or values.ndim != 2 or image.ndim not in (2, 3):
        raise InputError("map", f"shapes {image.shape} and {values.shape}", mend="give both in one frame [H, W]")
