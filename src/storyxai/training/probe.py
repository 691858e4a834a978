"""A teacher of findings that is fitted, not trained: logistic regression on what a published encoder sees, and on colours.

With a hundred images a network of millions of weights learns little that such a regression does not know, and a colour
histogram alone can rank a diagnosis that colour decides. It is fitted to the training images of the run (in a cross-validation
to those of the fold), in the views that the student is shown, so that it knows no more than the student may.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor
from torch.nn import functional as F

from storyxai.data.augmentation import ViewSettings
from storyxai.data.batches import Examples, make_batch
from storyxai.errors import RecipeError
from storyxai.models.network import INPUT_MEAN, INPUT_STD, Network, NetworkSpec
from storyxai.models.teachers import CallableTeacher, InputForm
from storyxai.progress import Progress
from storyxai.training.config import PROBE, ForeignTeacherRecipe, Recipe
from storyxai.training.weights import load_encoder_weights

STRENGTH, VARIANCE = 0.02, 100.0
"""Inverse strength of the penalty; the columns of the encoder and those of colour have a summed variance of `VARIANCE` each.

Small, so that the answers about images that it was fitted to stay soft. On PH2 it ranks as well as five times as much.
"""
VIEWS = 4
LEAST_POSITIVES = 5
BATCH = 16
LEVELS = 4
DARK = 0.02
"""Darker than this is what lies outside the picture."""
_Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """The regression of every finding on one row of columns; nan for a finding that it was not fitted to.

    Shapes: mean, scale [D]; weights [F, D]; bias [F].
    """

    mean: _Float64
    scale: _Float64
    weights: _Float64
    bias: _Float64

    def logits(self, columns: _Float64) -> _Float64:
        """Shapes: [B, D] to [B, F]."""
        return np.asarray(((columns - self.mean) / self.scale) @ self.weights.T + self.bias, dtype=np.float64)

    @property
    def hash(self) -> str:
        parts = (self.mean, self.scale, self.weights, self.bias)
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def fit_probe(
    recipe: Recipe, given: ForeignTeacherRecipe, train: Examples, *, progress: Progress | None = None
) -> CallableTeacher:
    """The teacher that `given` describes, fitted to the stated labels of `train`.

    Of a finding with fewer than five images on either side it says nothing (nan).
    Raises: RecipeError when it is to teach another task, or encoder or weights are not named; WeightsError for weights that
    do not fit.
    """
    if given.task != "findings" or not given.path or not given.name:
        why = f"is to teach {given.task} by the encoder '{given.name}' with the weights '{given.path}'"
        mend = "let it teach findings; name an encoder and its weights"
        raise RecipeError(f"foreign teacher of kind '{PROBE}'", why, mend=mend)
    kind = recipe.kind()
    look = _look(_encoder(given, kind.acquisition.channels), given.size or recipe.data.size)
    seen = np.stack([_columns(look, train, view, recipe.views, progress) for view in range(VIEWS)])
    fitted = _fit(seen, train.labels, colours=kind.acquisition.channels == 3)

    def function(images: Tensor) -> Tensor:
        return torch.from_numpy(fitted.logits(look(images).numpy().astype(np.float64)).astype(np.float32))

    form = InputForm(channels=kind.acquisition.channels)
    return CallableTeacher(function, kind.names, form=form, name=f"probe of {given.name}", fingerprint=fitted.hash)


def colour_histogram(images: Tensor) -> Tensor:
    """Square roots of the joint histogram of four levels of each colour over what is not black, [B, 64].

    Shapes: images [B, 3, h, w] in [0, 1].
    """
    level = (images * LEVELS).long().clamp(0, LEVELS - 1)
    joint = ((level[:, 0] * LEVELS + level[:, 1]) * LEVELS + level[:, 2]).flatten(1)
    lit = (images.amax(dim=1) > DARK).flatten(1).float()
    counts = torch.zeros(len(images), LEVELS**3).scatter_add_(1, joint, lit)
    return (counts / lit.sum(dim=1, keepdim=True).clamp(min=1)).sqrt()


def fit_logistic(columns: _Float64, truth: NDArray[np.bool_], *, strength: float = STRENGTH) -> tuple[_Float64, float]:
    """Weights [D] and intercept of the logistic regression of `truth` [N] on `columns` [N, D], both sides weighing alike.

    The weights, not the intercept, are held small by half their squared length; `strength` multiplies the loss. They lie in
    the span of the rows, so that no more unknowns are sought than there are rows.
    """
    span, _ = np.linalg.qr(columns.T)
    design = np.column_stack([columns @ span, np.ones(len(columns))])
    sign = np.where(truth, 1.0, -1.0)
    weight = strength * len(truth) / (2 * np.where(truth, truth.sum(), (~truth).sum()))
    held = np.append(np.ones(span.shape[1]), 0.0)

    def loss(theta: _Float64) -> tuple[float, _Float64]:
        margin = sign * (design @ theta)
        value = float((weight * np.logaddexp(0, -margin)).sum() + 0.5 * (held * theta**2).sum())
        return value, (-weight * sign * expit(-margin)) @ design + held * theta

    options = {"maxiter": 3000, "gtol": 1e-7, "ftol": 1e-12}
    found = minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B", options=options).x
    return np.asarray(span @ found[:-1], dtype=np.float64), float(found[-1])


def _encoder(given: ForeignTeacherRecipe, channels: int) -> Network:
    """A network of which the encoder alone is asked. Raises: RecipeError when timm does not know it; WeightsError."""
    try:
        network = Network(NetworkSpec(encoder=given.name, tasks=("findings",), width=8, hidden=8, channels=channels)).eval()
    except RuntimeError as error:
        why = f"names the encoder '{given.name}', which timm does not know"
        raise RecipeError(f"foreign teacher of kind '{PROBE}'", why, mend="name a timm model") from error
    load_encoder_weights(network, Path(given.path))
    return network


def _look(network: Network, size: int) -> Callable[[Tensor], Tensor]:
    """Means and maxima of the features at strides 16 and 32 of images at `size`, and their colours where they have any."""

    @torch.no_grad()
    def look(images: Tensor) -> Tensor:
        shown = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)
        levels = network.encoder((shown - INPUT_MEAN) / INPUT_STD)[-2:]
        parts = [part for level in levels for part in (level.mean(dim=(2, 3)), level.amax(dim=(2, 3)))]
        return torch.cat([*parts, colour_histogram(images)] if images.shape[1] == 3 else parts, dim=1)

    return look


def _columns(
    look: Callable[[Tensor], Tensor], train: Examples, view: int, settings: ViewSettings, progress: Progress | None
) -> _Float64:
    """What is seen of each training image in this view, [N, D]."""
    seen = []
    for start in range(0, len(train), BATCH):
        rows = np.arange(start, min(start + BATCH, len(train)))
        seen.append(look(make_batch(train, rows, view, settings).images).numpy())
        if progress:
            progress(f"probe, view {view}", int(rows[-1]) + 1, len(train))
    return np.concatenate(seen).astype(np.float64)


def _fit(seen: _Float64, labels: NDArray[np.float32], *, colours: bool) -> _Fitted:
    """Shapes: seen [views, N, D], the last columns those of colour; labels [N, F], nan = not stated."""
    views, _, width = seen.shape
    flat = seen.reshape(-1, width)
    mean, spread = flat.mean(axis=0), np.maximum(flat.std(axis=0), 1e-6)
    tones = LEVELS**3 if colours else 0
    sizes = np.repeat([width - tones, tones], [width - tones, tones])
    scale = spread * np.sqrt(sizes / VARIANCE)
    columns = (seen - mean) / scale
    weights, bias = np.full((labels.shape[1], width), np.nan), np.full(labels.shape[1], np.nan)
    for finding in range(labels.shape[1]):
        stated = ~np.isnan(labels[:, finding])
        truth = labels[stated, finding] >= 0.5
        if min(truth.sum(), (~truth).sum()) >= LEAST_POSITIVES:
            weights[finding], bias[finding] = fit_logistic(columns[:, stated].reshape(-1, width), np.tile(truth, views))
    return _Fitted(mean, scale, weights, bias)
