"""Class activation maps of every finding from one look, and the gradients of a grid head in closed form (no autograd).

Maps are not normalised: two findings, or two images, stay comparable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from storyxai.errors import InputError
from storyxai.explain.contract import (
    Explanation,
    Look,
    explanations,
)
from storyxai.explain.inputs import Asked, OwnMethod, look_into
from storyxai.types import Array, Value

OUTSIDE = 0.01
"""What a cell outside the structure counts beside one inside, where findings are pooled within a structure.

Above zero, so that a structure that is not found leaves the plain mean, and no image is without an answer.
"""
SMALL_PRODUCT = 1 << 18
"""Multiplications that OpenBLAS leaves to one thread."""


@dataclass(frozen=True)
class CamMethod(OwnMethod):
    """A method that draws its maps from one look inside the model; `draw` gives [T, h, w] for the columns asked for."""

    key: str
    name: str
    draw: Callable[[Look, Sequence[int]], Array]
    unit: str = "logit per cell"
    needs: frozenset[str] = frozenset({"features", "gradients"})
    checks: tuple[str, ...] = ("not_empty", "repeatable", "label_specific", "methods_agree")

    def answer(self, asked: Asked) -> tuple[Explanation, ...]:
        """One map on the features' grid per finding, from one pass of the model."""
        look = look_into(asked.model, asked.pixels, asked.columns, method=self.key, needs=self.needs)
        maps = self.draw(look, asked.columns)
        details: dict[str, Value] = {"layer": look.layer, "cells": int(maps.shape[1] * maps.shape[2])}
        return explanations(self.key, asked.findings, maps, self.unit, details)


def grad_cam(features: Array, gradients: Array, *, signed: bool = False) -> Array:
    """ReLU of the features weighted by the spatial mean of their gradients, float32 [F, h, w].

    Shapes: features [K, h, w], gradients [F, K, h, w] (d logit_f / d feature). `signed` leaves the ReLU out, so that
    evidence against a finding stays visible as negative values.
    Units: logit per grid cell, to first order, when the gradient is even over the cells.
    Source: Selvaraju et al., ICCV 2017.
    Raises: InputError when the shapes do not fit or a value is not finite.
    """
    _check_look(features, gradients)
    return _weighted_sum(gradients.mean(axis=(2, 3), dtype=np.float64), features, signed=signed)


def grad_cam_plus_plus(features: Array, gradients: Array, *, signed: bool = False) -> Array:
    """As `grad_cam`, each channel weighted by its positive gradients, cells with a strong one counting more, [F, h, w].

    Source: Chattopadhay et al., WACV 2018, for the score exp(logit): the share of cell ij in channel k is
    g^2 / (2 g^2 + g^3 sum(A)), zero where the gradient is.
    """
    _check_look(features, gradients)
    g = gradients.astype(np.float64)
    total = features.sum(axis=(1, 2), dtype=np.float64)[None, :, None, None]
    # g^2 cancels: the share is 1 / (2 + g sum(A)).
    below = np.where(g != 0, 2 + g * total, 0)
    share = np.divide(1, below, out=np.zeros_like(g), where=np.abs(below) > 1e-12)
    return _weighted_sum((share * np.maximum(g, 0)).sum(axis=(2, 3)), features, signed=signed)


def hires_cam(features: Array, gradients: Array, *, signed: bool = False) -> Array:
    """The sum over channels of feature times gradient, cell by cell, float32 [F, h, w]; it adds up to the logit's change
    for a head that is linear in the features. Source: Draelos & Carin, arXiv 2011.08891.
    """
    _check_look(features, gradients)
    maps = np.einsum("fkhw,khw->fhw", gradients.astype(np.float64), features.astype(np.float64))
    return _kept(maps, signed=signed)


def layer_cam(features: Array, gradients: Array, *, signed: bool = False) -> Array:
    """As `hires_cam` with positive gradients alone, float32 [F, h, w]. Source: Jiang et al., TIP 2021."""
    return hires_cam(features, np.maximum(gradients, 0), signed=signed)


def xgrad_cam(features: Array, gradients: Array, *, signed: bool = False) -> Array:
    """As `grad_cam`, each channel weighted by its gradients' mean over its own features, float32 [F, h, w].

    A channel whose features sum to zero weighs nothing. Source: Fu et al., BMVC 2020.
    """
    _check_look(features, gradients)
    total = features.sum(axis=(1, 2), dtype=np.float64)
    moment = np.einsum("fkhw,khw->fk", gradients.astype(np.float64), features.astype(np.float64))
    weights = np.divide(moment, total, out=np.zeros_like(moment), where=np.abs(total) > 1e-12)
    return _weighted_sum(weights, features, signed=signed)


def eigen_cam(features: Array, count: int) -> Array:
    """The first principal component of the features over the cells, the same for each of `count` findings, [F, h, w].

    It knows no finding, so the check of label specificity withholds it; it is here to be compared with. The component's
    sign, which algebra leaves open, is the one that goes with stronger features. Source: Muhammad & Yeasin, IJCNN 2020.
    """
    cells = features.reshape(len(features), -1).T.astype(np.float64)
    centred = cells - cells.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    along = np.einsum("ck,k->c", centred, directions[0])
    strength = np.sqrt((cells**2).sum(axis=1))
    along = -along if float(np.einsum("c,c->", along, strength - strength.mean())) < 0 else along
    maps = np.broadcast_to(along.reshape(features.shape[1:]), (count, *features.shape[1:]))
    return np.ascontiguousarray(maps, dtype=np.float32)


def _check_look(features: Array, gradients: Array) -> None:
    if gradients.ndim != 4 or features.shape != gradients.shape[1:]:
        raise InputError(
            "gradients", f"have shape {gradients.shape}, features {features.shape}", mend="give [F, K, h, w], [K, h, w]"
        )
    if not (np.isfinite(features).all() and np.isfinite(gradients).all()):
        raise InputError("features or gradients", "are not finite", mend="check the model for overflow or nan")


def _weighted_sum(weights: NDArray[np.float64], features: Array, *, signed: bool) -> Array:
    # einsum without BLAS: the sum has the same order on any number of threads.
    return _kept(np.einsum("fk,khw->fhw", weights, features.astype(np.float64)), signed=signed)


def _kept(maps: NDArray[np.float64], *, signed: bool) -> Array:
    kept: Array = (maps if signed else np.maximum(maps, 0)).astype(np.float32)
    return kept


def grid_head_gradients(
    features: Array,
    hidden_weight: Array,
    hidden_bias: Array,
    out_weight: Array,
    out_bias: Array,
    sharpness: float | Array,
    shares: Array | None = None,
) -> tuple[Array, Array]:
    """The image logits [F] and their gradients with respect to the features [F, K, h, w], both float32.

    The head, per grid cell: hidden = relu(V A + c), g = W hidden + b; over the cells:
    z_f = (1/r_f) log mean exp(r_f g_f). With `shares` s the mean counts each cell by its share, sum s exp(r_f g_f) / sum s:
    so findings are pooled within a structure that the model draws, and the gradient is taken with that outline held.
    Shapes: features A [K, h, w], hidden_weight V [J, K], hidden_bias c [J], out_weight W [F, J], out_bias b [F],
    sharpness r scalar or [F], above zero; shares [h, w], above zero, as `cell_shares` gives them.
    Source: d z_f / d g_f(cell) = softmax over cells of r_f g_f + log s; the ReLU passes where its input is above zero.
    Raises: InputError when the shapes do not fit.
    """
    channels, height, width = features.shape
    hidden_size, findings = len(hidden_weight), len(out_weight)
    if (
        hidden_weight.shape != (hidden_size, channels)
        or hidden_bias.shape != (hidden_size,)
        or out_weight.shape != (findings, hidden_size)
        or out_bias.shape != (findings,)
    ):
        raise InputError("grid head", "weights do not fit the features", mend="give V [J, K], c [J], W [F, J], b [F]")
    r = np.broadcast_to(np.asarray(sharpness, dtype=np.float64), (findings,))[:, None]
    if not (r > 0).all():
        raise InputError("sharpness", "must be above zero", mend="give the value that the head was trained with")
    cells = features.reshape(channels, -1).astype(np.float64)
    v, w = hidden_weight.astype(np.float64), out_weight.astype(np.float64)
    before = product(v, cells) + hidden_bias[:, None]
    grid = product(w, np.maximum(before, 0)) + out_bias[:, None]
    top = grid.max(axis=1, keepdims=True)
    powers = np.exp(r * (grid - top))
    if shares is not None:
        powers = powers * (shares.astype(np.float64) / shares.mean(dtype=np.float64)).ravel()
    logits = top[:, 0] + np.log(powers.mean(axis=1)) / r[:, 0]
    pooled = powers / powers.sum(axis=1, keepdims=True)
    # Finding by finding keeps memory at one [J, cells] array; the product with V is the costly step.
    gradients = np.empty((findings, channels, height * width), dtype=np.float32)
    passing = before > 0
    for f in range(findings):
        gradients[f] = product(v.T, w[f][:, None] * passing * pooled[f][None, :])
    return logits.astype(np.float32), gradients.reshape(findings, channels, height, width)


def product(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The product of two matrices, by strips so small that BLAS starts no threads: these would cost more than the sums."""
    rows = max(1, SMALL_PRODUCT // other.size)
    return np.concatenate([one[start : start + rows] @ other for start in range(0, max(1, len(one)), rows)])


def cell_shares(inside: Array, *, height: int, width: int) -> Array:
    """What each cell counts where findings are pooled within a structure, float32 [height, width]: 1 inside, `OUTSIDE` out.

    Shapes: inside [n height, n width], the structure's probability at a whole multiple of the grid.
    """
    cells = inside.reshape(height, len(inside) // height, width, inside.shape[1] // width)
    mean: Array = cells.mean(axis=(1, 3), dtype=np.float32)
    return mean + np.float32(OUTSIDE) * (1 - mean)


def resize_maps(maps: Array, *, height: int, width: int) -> Array:
    """Maps on a grid enlarged bilinearly to [F, height, width], half-pixel centres, edges held."""
    from scipy.ndimage import zoom

    if maps.shape[1:] == (height, width):
        return maps.astype(np.float32, copy=True)
    factors = (1, height / maps.shape[1], width / maps.shape[2])
    enlarged: NDArray[np.float32] = zoom(maps, factors, order=1, mode="nearest", grid_mode=True)
    return enlarged.astype(np.float32)


def fine_map(values: Array, *, height: int, width: int) -> Array:
    """A map of coarse cells [h, w] at float32 [height, width], by cubic convolution, nowhere below its lowest cell.

    What a map shows is often smaller than a cell. By straight lines between the cells' centres the highest point is always one
    of these centres; by cubic pieces it lies between them, nearer to the stronger neighbours. A cell reaches two cells far.
    Source: Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 1981, as in Pillow.
    """
    if values.shape == (height, width):
        return values
    cells = PillowImage.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    fine: Array = np.asarray(cells.resize((width, height), PillowImage.Resampling.BICUBIC)).clip(values.min())
    return fine


def _by_gradients(draw: Callable[[Array, Array], Array]) -> Callable[[Look, Sequence[int]], Array]:
    def from_look(look: Look, columns: Sequence[int]) -> Array:
        assert look.gradients is not None
        return draw(look.features, look.gradients)

    return from_look


def _own_cells(look: Look, columns: Sequence[int]) -> Array:
    assert look.cells is not None
    return np.ascontiguousarray(look.cells[list(columns)], dtype=np.float32)


CAMS: tuple[CamMethod, ...] = (
    CamMethod("grad_cam", "Grad-CAM", _by_gradients(grad_cam)),
    CamMethod("grad_cam_plus_plus", "Grad-CAM++", _by_gradients(grad_cam_plus_plus)),
    CamMethod("hires_cam", "HiResCAM", _by_gradients(hires_cam)),
    CamMethod("layer_cam", "LayerCAM", _by_gradients(layer_cam)),
    CamMethod("xgrad_cam", "XGrad-CAM", _by_gradients(xgrad_cam)),
    CamMethod(
        "eigen_cam", "Eigen-CAM", lambda look, columns: eigen_cam(look.features, len(columns)),
        unit="first principal component", needs=frozenset({"features"}),
    ),
    CamMethod("evidence_grid", "the model's own evidence grid", _own_cells, needs=frozenset({"cells"})),
)
