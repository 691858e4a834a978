"""How faithful a map is to its model, always beside maps that know nothing: random, centre and edge.

Deletion and insertion show the model images off its distribution, and ROAD favours blurry maps: read two families.
Everything here takes a callable and arrays. Scores are whatever `predict` returns for one finding, usually logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.types import Array, Mask

__all__ = [
    "Curve",
    "Faithfulness",
    "baseline_maps",
    "deletion_curve",
    "energy_inside",
    "faithfulness",
    "gini",
    "insertion_curve",
    "iou_of_top",
    "localisation",
    "max_sensitivity",
    "noisy_imputation",
    "pointing_hit",
    "road_curve",
]

Predict: TypeAlias = Callable[[Array], Array]
Order: TypeAlias = Literal["most", "least"]


class Curve(NamedTuple):
    """Scores at growing shares of changed pixels. Shapes: [P] each, from share 0 to 1; `area` by the trapezoid rule."""

    shares: NDArray[np.float64]
    scores: NDArray[np.float64]
    area: float


class Faithfulness(NamedTuple):
    """The figures of one map. Good: deletion low, insertion high, road (most - least relevant first) low."""

    deletion: float
    insertion: float
    road: float
    gini: float


def deletion_curve(
    predict: Predict, image: Array, values: Array, *, column: int, background: Array, steps: int = 20, batch: int = 32
) -> Curve:
    """The score of finding `column` as the strongest pixels are replaced by `background`, strongest first.

    Shapes: image, values, background [H, W]. Equal pixels go in reading order. A good map falls fast: low area.
    Source: Petsiuk et al., BMVC 2018 (RISE).
    """
    return _replacing(predict, image, background, values, column=column, steps=steps, batch=batch)


def insertion_curve(
    predict: Predict, image: Array, values: Array, *, column: int, background: Array, steps: int = 20, batch: int = 32
) -> Curve:
    """The score of finding `column` as pixels of the image enter the `background`, strongest first: high area is good.

    Shapes: image, values, background [H, W]. Source: Petsiuk et al., BMVC 2018 (RISE).
    """
    return _replacing(predict, background, image, values, column=column, steps=steps, batch=batch)


def road_curve(
    predict: Predict,
    image: Array,
    values: Array,
    *,
    column: int,
    seed: int = 0,
    noise: float = 0.01,
    order: Order = "most",
    shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    batch: int = 32,
) -> Curve:
    """The score as the most (or least) relevant pixels are filled in from their neighbours with a little noise.

    Deviates from the paper in one thing: the curve's area is over the given shares, without the unchanged image.
    Source: Rong et al., ICML 2022 (ROAD: remove and debias).
    """
    _same_shape(image, values)
    ranked = np.argsort(-values.ravel() if order == "most" else values.ravel(), kind="stable")
    generator = np.random.default_rng(seed)
    images = np.empty((len(shares), *image.shape), dtype=np.float32)
    for index, share in enumerate(shares):
        gone = np.zeros(image.size, dtype=bool)
        gone[ranked[: round(share * image.size)]] = True
        filled = noisy_imputation(image, gone.reshape(image.shape), generator=generator, noise=noise)
        images[index] = np.clip(filled, 0, 1)
    return _curve(np.array(shares), _scores(predict, images, column=column, batch=batch))


def noisy_imputation(image: Array, gone: Mask, *, generator: np.random.Generator, noise: float = 0.01) -> Array:
    """The image with each missing pixel the weighted mean of its eight neighbours, plus normal noise, float32 [H, W].

    Direct neighbours weigh 1/6, diagonal ones 1/12, renormalised at the border; all missing pixels are solved at once.
    `noise` is its standard deviation. Where every pixel is missing the image's mean takes their place.
    Source: Rong et al., ICML 2022.
    """
    from scipy.sparse import csr_array, identity
    from scipy.sparse.linalg import spsolve

    _same_shape(image, gone)
    if not gone.any():
        return image.astype(np.float32, copy=True)
    filled = image.astype(np.float64)
    if gone.all():
        filled[:] = filled.mean()
    else:
        number = np.full(image.shape, -1)
        number[gone] = np.arange(gone.sum())
        rows, columns, weights = [], [], []
        known, total = np.zeros(gone.sum()), np.zeros(gone.sum())
        padded = {"image": np.pad(filled, 1), "number": np.pad(number, 1, constant_values=-2)}
        height, width = image.shape
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                if down == right == 0:
                    continue
                weight = 1 / 6 if 0 in (down, right) else 1 / 12
                window = np.s_[1 + down : 1 + down + height, 1 + right : 1 + right + width]
                other, grey = padded["number"][window][gone], padded["image"][window][gone]
                total += weight * (other >= -1)
                known += np.where(other == -1, weight * grey, 0)
                missing = np.flatnonzero(other >= 0)
                rows.append(missing)
                columns.append(other[missing])
                weights.append(np.full(len(missing), weight))
        size = int(gone.sum())
        row = np.concatenate(rows)
        link = csr_array((np.concatenate(weights) / total[row], (row, np.concatenate(columns))), shape=(size, size))
        filled[gone] = spsolve((identity(size, format="csr") - link).tocsc(), known / total)
    filled[gone] += generator.normal(0, noise, int(gone.sum())) if noise else 0
    return filled.astype(np.float32)


def baseline_maps(image: Array, *, seed: int = 0) -> dict[str, Array]:
    """Maps that know nothing of the model, float32 [H, W] each: "random", "centre" (a Gaussian hill), "edge".

    A method whose figures do not beat these says nothing. "random" is smooth noise no finer than a superpixel;
    "edge" is the size of the image's own grey gradient.
    """
    from scipy.ndimage import gaussian_filter, sobel

    height, width = image.shape
    noise = np.random.default_rng(seed).normal(size=image.shape)
    row = (np.arange(height) + 0.5) / height - 0.5
    column = (np.arange(width) + 0.5) / width - 0.5
    smooth = gaussian_filter(image.astype(np.float64), sigma=1.0)
    maps = {
        "random": gaussian_filter(noise, sigma=max(image.shape) / 16, mode="wrap"),
        "centre": np.exp(-(row[:, None] ** 2 + column[None, :] ** 2) / (2 * 0.25**2)),
        "edge": np.hypot(sobel(smooth, axis=0), sobel(smooth, axis=1)),
    }
    return {name: values.astype(np.float32) for name, values in maps.items()}


def faithfulness(
    predict: Predict,
    image: Array,
    values: Array,
    *,
    column: int,
    background: Array,
    seed: int = 0,
    steps: int = 20,
    batch: int = 32,
) -> dict[str, Faithfulness]:
    """The figures of the map under "map", and of the three baselines beside it. Shapes: [H, W] each."""
    found = {}
    for name, candidate in {"map": values, **baseline_maps(image, seed=seed)}.items():
        common = {"column": column, "batch": batch}
        deleted = deletion_curve(predict, image, candidate, background=background, steps=steps, **common)
        inserted = insertion_curve(predict, image, candidate, background=background, steps=steps, **common)
        road = [
            road_curve(predict, image, candidate, column=column, seed=seed, order=order, batch=batch).area
            for order in ("most", "least")
        ]
        found[name] = Faithfulness(deleted.area, inserted.area, road[0] - road[1], gini(candidate))
    return found


def pointing_hit(values: Array, region: Mask, *, tolerance_px: int = 0) -> bool:
    """True when the map's largest pixel (the first, if several) lies in the region or within `tolerance_px` of it.

    Source: Zhang et al., ECCV 2016 (pointing game), which allows 15 pixels.
    """
    from scipy.ndimage import distance_transform_edt

    _same_shape(values, region)
    place = np.unravel_index(int(values.argmax()), values.shape)
    if tolerance_px == 0 or not region.any():
        return bool(region[place])
    return bool(distance_transform_edt(~region)[place] <= tolerance_px)


def energy_inside(values: Array, region: Mask) -> float:
    """Share of the positive map inside the region, 0 for a map without a positive part. Units: share."""
    _same_shape(values, region)
    positive = np.maximum(values, 0).astype(np.float64)
    total = float(positive.sum())
    return float(positive[region].sum()) / total if total > 0 else 0.0


def iou_of_top(values: Array, region: Mask) -> float:
    """Intersection over union of the region and as many of the map's strongest positive pixels. Units: share."""
    _same_shape(values, region)
    size = int(region.sum())
    top = np.zeros(values.size, dtype=bool)
    top[np.argsort(-values.ravel(), kind="stable")[:size]] = True
    chosen = top.reshape(values.shape) & (values > 0)
    union = int((chosen | region).sum())
    return float((chosen & region).sum()) / union if union else 0.0


def localisation(image: Array, values: Array, region: Mask, *, seed: int = 0) -> dict[str, Mapping[str, float]]:
    """Pointing hit (0 or 1), energy and IoU of the map under "map", and of the three baselines beside it."""
    return {
        name: {
            "pointing_hit": float(pointing_hit(candidate, region)),
            "energy_inside": energy_inside(candidate, region),
            "iou_of_top": iou_of_top(candidate, region),
        }
        for name, candidate in {"map": values, **baseline_maps(image, seed=seed)}.items()
    }


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
) -> float:
    """The largest change of the map, relative to the map, under uniform pixel noise of at most `radius`.

    `explain` gives one finding's map [H, W]. Compare methods on the same seed; 0 means that noise changes nothing.
    Source: Yeh et al., NeurIPS 2019.
    """
    whole = explain(image).astype(np.float64)
    size = float(np.sqrt((whole**2).sum()))
    if size <= 0:
        raise InputError("map", "is empty, its sensitivity is not defined", mend="check it with not_empty first")
    generator = np.random.default_rng(seed)
    changes = []
    for _ in range(count):
        noisy = np.clip(image + generator.uniform(-radius, radius, image.shape), 0, 1).astype(np.float32)
        changes.append(float(np.sqrt(((explain(noisy) - whole) ** 2).sum())) / size)
    return max(changes)


def _replacing(
    predict: Predict, first: Array, second: Array, values: Array, *, column: int, steps: int, batch: int
) -> Curve:
    """Scores as pixels of `first` give way to those of `second`, strongest of `values` first."""
    _same_shape(first, values)
    _same_shape(first, second)
    if steps < 1:
        raise InputError("steps", f"{steps}", mend="use at least 1, better 20")
    order = np.empty(values.size, dtype=np.int64)
    order[np.argsort(-values.ravel(), kind="stable")] = np.arange(values.size)
    place = order.reshape(values.shape)
    counts = np.round(np.linspace(0, values.size, steps + 1)).astype(np.int64)
    scores = [
        _scores(
            predict, np.where(place < part[:, None, None], second, first).astype(np.float32), column=column, batch=batch
        )
        for part in np.split(counts, range(batch, len(counts), batch))
    ]
    return _curve(counts / values.size, np.concatenate(scores))


def _scores(predict: Predict, images: Array, *, column: int, batch: int) -> NDArray[np.float64]:
    parts = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch, None]
        answer = np.asarray(predict(part), dtype=np.float64)
        if answer.ndim != 2 or len(answer) != len(part) or not 0 <= column < answer.shape[1]:
            raise InputError("predict", f"returned {answer.shape} for {len(part)} images", mend="return logits [B, F]")
        parts.append(answer[:, column])
    return np.concatenate(parts)


def _curve(shares: NDArray[np.float64], scores: NDArray[np.float64]) -> Curve:
    width = float(shares[-1] - shares[0])
    area = float(np.trapezoid(scores, shares)) / width if width > 0 else float(scores[0])
    return Curve(shares, scores, area)


def _same_shape(first: NDArray[np.generic], second: NDArray[np.generic]) -> None:
    if first.shape != second.shape or first.ndim != 2:
        raise InputError("map", f"shapes {first.shape} and {second.shape}", mend="give both in one frame [H, W]")
