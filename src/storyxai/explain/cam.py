"""Grad-CAM for every finding from one forward pass, and the gradients of a grid head in closed form (no autograd).

Source: Selvaraju et al., ICCV 2017. Maps are not normalised: two findings, or two images, stay comparable.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.types import Array

__all__ = ["grad_cam", "grid_head_gradients", "resize_maps"]


def grad_cam(features: Array, gradients: Array, *, signed: bool = False) -> Array:
    """ReLU of the features weighted by the spatial mean of their gradients, float32 [F, h, w].

    Shapes: features [K, h, w], gradients [F, K, h, w] (d logit_f / d feature). `signed` leaves the ReLU out, so that
    evidence against a finding stays visible as negative values.
    Units: logit per grid cell, to first order, when the gradient is even over the cells.
    Raises: InputError when the shapes do not fit or a value is not finite.
    """
    if gradients.ndim != 4 or features.shape != gradients.shape[1:]:
        raise InputError(
            "gradients", f"have shape {gradients.shape}, features {features.shape}", mend="give [F, K, h, w], [K, h, w]"
        )
    if not (np.isfinite(features).all() and np.isfinite(gradients).all()):
        raise InputError("features or gradients", "are not finite", mend="check the model for overflow or nan")
    weights = gradients.mean(axis=(2, 3), dtype=np.float64)
    # einsum without BLAS: the sum has the same order on any number of threads.
    maps = np.einsum("fk,khw->fhw", weights, features.astype(np.float64))
    kept: Array = (maps if signed else np.maximum(maps, 0)).astype(np.float32)
    return kept


def grid_head_gradients(
    features: Array,
    hidden_weight: Array,
    hidden_bias: Array,
    out_weight: Array,
    out_bias: Array,
    sharpness: float | Array,
) -> tuple[Array, Array]:
    """The image logits [F] and their gradients with respect to the features [F, K, h, w], both float32.

    The head, per grid cell: hidden = relu(V A + c), g = W hidden + b; over the cells:
    z_f = (1/r_f) log mean exp(r_f g_f).
    Shapes: features A [K, h, w], hidden_weight V [J, K], hidden_bias c [J], out_weight W [F, J], out_bias b [F],
    sharpness r scalar or [F], above zero.
    Source: d z_f / d g_f(cell) = softmax over cells of r_f g_f; the ReLU passes where its input is above zero.
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
    before = v @ cells + hidden_bias[:, None]
    grid = w @ np.maximum(before, 0) + out_bias[:, None]
    top = grid.max(axis=1, keepdims=True)
    powers = np.exp(r * (grid - top))
    logits = top[:, 0] + np.log(powers.mean(axis=1)) / r[:, 0]
    pooled = powers / powers.sum(axis=1, keepdims=True)
    # Finding by finding keeps memory at one [J, cells] array; the product with V is the costly step.
    gradients = np.empty((findings, channels, height * width), dtype=np.float32)
    passing = before > 0
    for f in range(findings):
        gradients[f] = v.T @ (w[f][:, None] * passing * pooled[f][None, :])
    return logits.astype(np.float32), gradients.reshape(findings, channels, height, width)


def resize_maps(maps: Array, *, height: int, width: int) -> Array:
    """Maps on a grid enlarged bilinearly to [F, height, width], half-pixel centres, edges held."""
    from scipy.ndimage import zoom

    if maps.shape[1:] == (height, width):
        return maps.astype(np.float32, copy=True)
    factors = (1, height / maps.shape[1], width / maps.shape[2])
    enlarged: NDArray[np.float32] = zoom(maps, factors, order=1, mode="nearest", grid_mode=True)
    return enlarged.astype(np.float32)
