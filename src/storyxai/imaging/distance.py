"""How far a picture lies from all that the student was calibrated on, in the student's own features.

Mahalanobis distance to the nearest of several centres (one a data set: adults and children differ) under one covariance
within sets, shrunk towards its diagonal. The features come from the pass that made the prediction: no second pass. The
limit is that of the nearest centre: what is made by a program may scatter more than films do, and be known all the same.
A set may have taught outlines alone: what is nearest to it is known as a picture, and no finding was ever learnt from its like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import WeightsError
from storyxai.imaging.geometry import model_frame
from storyxai.types import Array, Mask

DISTANCE_NAME = "distance.safetensors"
SHRINKAGE = 0.1
PASSED_SHARE = 0.99
FOLDS = 5
FEWEST_IMAGES = 20
_Float64 = NDArray[np.float64]


class Nearness(NamedTuple):
    """How far an image lies from the nearest centre, and that centre's limit.

    `untaught` is how much nearer it lies to a set that taught no findings than to any that did (negative: farther), None
    where all sets taught some; `least_age` the years of the youngest who taught findings, None where nobody knows.
    """

    distance: float
    limit: float
    untaught: float | None = None
    least_age: float | None = None


@dataclass(frozen=True, eq=False)
class GateDistance:
    """Centres and whitening of the calibrating films' summaries, and the distance from each centre that its films keep.

    Shapes: centres float32 [G, D], whitening float32 [D, D] (its square is the inverse covariance), limits float64 [G],
    taught bool [G] (whether findings were learnt from the set). `n` films were used; of those that taught findings 99 in
    100 were of people of `least_age` years or more.
    """

    centres: Array
    whitening: Array
    limits: _Float64
    n: int
    taught: Mask
    least_age: float | None = None

    def of(self, features: Array) -> Nearness:
        """How near the student's features of one image lie to the films it learnt from.

        Shapes: [K, h, w] with D = 3 K. Raises: WeightsError.
        """
        return self.near(summary(features))

    def near(self, seen: _Float64) -> Nearness:
        """The same of a `summary` [D]. Raises: WeightsError."""
        if seen.size != self.centres.shape[1]:
            why = f"is for {self.centres.shape[1] // 3} channels, the student has {seen.size // 3}"
            raise WeightsError(DISTANCE_NAME, why, mend="calibrate it anew for this student")
        apart = _apart(seen[None], self.centres.astype(np.float64), self.whitening.astype(np.float64))[0]
        nearest = int(apart.argmin())
        untaught = None if self.taught.all() else float(apart[self.taught].min() - apart[~self.taught].min())
        return Nearness(float(apart[nearest]), float(self.limits[nearest]), untaught, self.least_age)

    def write(self, folder: Path) -> Path:
        """The file that holds it, in a model's folder; the card's `files` should vouch for it."""
        from safetensors.numpy import save_file

        path = folder / DISTANCE_NAME
        tensors = {
            "centres": np.ascontiguousarray(self.centres, np.float32),
            "whitening": np.ascontiguousarray(self.whitening, np.float32),
            "limit": np.asarray(self.limits, np.float64), "n": np.array([self.n], np.int64),
            "taught": np.asarray(self.taught, np.bool_),
        }
        if self.least_age is not None:
            tensors["least_age"] = np.array([self.least_age], np.float64)
        save_file(tensors, path)
        return path


def summary(features: Array) -> _Float64:
    """What is compared: square roots of each channel's spread, mean above and mean below the middle. [K, h, w] -> [3 K].

    Roots, because the features are what a rectifier left over: most are small and a few are very large.
    """
    channels, height, _ = features.shape
    values = features.astype(np.float64)
    middle = max(1, height // 2)
    parts = (
        values.reshape(channels, -1).std(axis=1), values[:, :middle].mean(axis=(1, 2)),
        values[:, min(middle, height - 1) :].mean(axis=(1, 2)),
    )
    return np.asarray(np.sqrt(np.maximum(np.concatenate(parts), 0)))


def calibrate_distance(
    look: Callable[[Array], Array], size: int, *, sets: Mapping[str, Iterable[Array]], apart: Sequence[str] = (),
    untaught: Sequence[str] = (), least_age: float | None = None,
) -> GateDistance:
    """The distance fitted on films that the student was trained on, by data set.

    `look` gives the features [K, h, w] of one model view [size, size]; `sets` are pixels [H, W] by the set's name;
    `apart` are the sets that have a limit of their own (the others share one), `untaught` those that taught no findings.
    Raises: ValueError as `fit_distance`.
    """
    seen = {
        name: np.array([summary(look(model_frame(*pixels.shape, size=size).to_model(pixels))) for pixels in films])
        for name, films in sets.items()
    }
    return replace(fit_distance(seen, apart=apart, untaught=untaught), least_age=least_age)


def fit_distance(
    sets: Mapping[str, _Float64], *, apart: Sequence[str] = (), untaught: Sequence[str] = ()
) -> GateDistance:
    """The distance fitted on summaries [N, D] by set; 99 % of the films stay below its limit.

    Sets in `apart` have a limit of their own, the others share one. Each fifth of the films is measured by a fit to the
    others, so a limit is for films the fit has not seen.
    Raises: ValueError when a set has fewer than 20 films, one in `apart` or `untaught` is not there, or none taught findings.
    """
    names = sorted(sets)
    if strange := sorted({*apart, *untaught} - set(names)):
        raise ValueError(f"no set named {', '.join(strange)}; there are {', '.join(names)}")
    taught = np.array([name not in untaught for name in names])
    if not taught.any():
        raise ValueError(f"none of {', '.join(names)} taught findings")
    groups = [np.asarray(sets[name], dtype=np.float64) for name in names]
    if not groups or min(map(len, groups)) < FEWEST_IMAGES:
        raise ValueError(f"each set needs {FEWEST_IMAGES} films or more, got {[len(group) for group in groups]}")
    shares = [name if name in apart else "" for name in names]
    limits = _limits(groups, shares)
    centres, whitening = _fitted(groups)
    return GateDistance(
        centres.astype(np.float32), whitening.astype(np.float32), np.array([limits[share] for share in shares]),
        sum(map(len, groups)), taught,
    )


def _limits(groups: list[_Float64], shares: Sequence[str]) -> dict[str, float]:
    """By the name that groups share, the distance to the nearest centre that `PASSED_SHARE` of their left-out films keep."""
    left_out: dict[str, list[float]] = {share: [] for share in shares}
    for fold in range(FOLDS):
        centres, whitening = _fitted([np.delete(group, np.s_[fold::FOLDS], axis=0) for group in groups])
        for group, share in zip(groups, shares, strict=True):
            left_out[share].extend(_apart(group[fold::FOLDS], centres, whitening).min(axis=1))
    return {share: float(np.quantile(values, PASSED_SHARE)) for share, values in left_out.items()}


def read_distance(folder: Path) -> GateDistance:
    """The distance that `GateDistance.write` left in a model's folder. Raises: WeightsError naming the file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / DISTANCE_NAME
    try:
        held = load_file(path)
        centres, whitening = held["centres"], held["whitening"]
        limits, n = np.asarray(held["limit"], np.float64), int(held["n"][0])
        # Files of before know neither: all of their sets taught findings, to people of any age.
        taught = np.asarray(held.get("taught", np.ones(len(centres))), np.bool_)
        least_age = float(held["least_age"][0]) if "least_age" in held else None
    except (OSError, SafetensorError, KeyError, IndexError) as error:
        raise WeightsError(str(path), "cannot be read as a gate distance", mend="copy the model again") from error
    if limits.shape == (1,):  # files of before have one limit for all centres
        limits = np.repeat(limits, len(centres))
    fits = centres.ndim == 2 and whitening.shape == (centres.shape[1],) * 2
    if not fits or not limits.shape == taught.shape == centres.shape[:1] or not np.isfinite(limits).all() or not taught.any():
        raise WeightsError(str(path), "holds tables that do not fit together", mend="copy the model again")
    return GateDistance(centres, whitening, limits, n, taught, least_age)


def _fitted(groups: list[_Float64]) -> tuple[_Float64, _Float64]:
    """Centres [G, D], and the symmetric whitening [D, D] of the covariance within groups."""
    centres = np.array([group.mean(axis=0) for group in groups])
    within = np.concatenate([group - centre for group, centre in zip(groups, centres, strict=True)])
    covariance = within.T @ within / max(1, len(within) - len(groups))
    spread = np.diag(covariance)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.diag(spread)
    # A channel that never moves would otherwise count without bound.
    covariance += np.eye(len(spread)) * max(1e-4 * float(spread.mean()), 1e-12)
    values, vectors = np.linalg.eigh(covariance)
    return centres, (vectors / np.sqrt(values)) @ vectors.T


def _apart(rows: _Float64, centres: _Float64, whitening: _Float64) -> _Float64:
    """Distance of each row to each centre. Shapes: [N, D] -> [N, G]."""
    return np.asarray(np.sqrt((((rows[:, None] - centres[None]) @ whitening) ** 2).sum(axis=2)))
