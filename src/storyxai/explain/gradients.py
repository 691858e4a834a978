"""Gradient explanations of any torch model: features and gradients of a layer, Grad-CAM, integrated gradients.

Nothing of the caller's model changes: hooks go, train or eval state and grad mode come back, also when the model
raises. torch is imported inside the functions, so that this module costs nothing until it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.explain.cam import grad_cam
from storyxai.types import Array

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["LayerGradients", "PathGradients", "input_gradients", "integrated_gradients", "layer_gradients", "torch_cam"]


class LayerGradients(NamedTuple):
    """Shapes: `logits` [B, F], `features` [B, K, h, w], `gradients` [B, T, K, h, w] for the T findings asked for."""

    logits: Array
    features: Array
    gradients: Array


class PathGradients(NamedTuple):
    """Shapes: `maps` [B, T, H, W] signed, logit per pixel; `gap` [B, T] = sum of map - (logit - baseline's)."""

    maps: Array
    gap: NDArray[np.float64]


def layer_gradients(
    model: nn.Module, layer: nn.Module, batch: Array, *, findings: Sequence[int] | None = None
) -> LayerGradients:
    """Features of `layer` and the gradients of each finding's logit, for every image of the batch, one forward pass.

    Shapes: batch float32 [B, 1, H, W]. `findings` are columns of the logits; None means all. The gradients go only
    through what follows the layer. Works under no_grad and inference_mode, and with in-place ReLU after the layer.
    Raises: InputError for a finding out of range, a layer that did not run once, or an answer that is not [B, F].
    """
    import torch

    seen: list[torch.Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if not isinstance(output, torch.Tensor) or output.ndim != 4:
            raise InputError("layer", "does not give one tensor [B, K, h, w]", mend="choose a convolutional layer")
        leaf = output.detach().clone().requires_grad_(True)
        seen.append(leaf)
        # The model goes on with a copy: an in-place operation after the layer must not overwrite what is explained.
        return leaf.clone()

    with _undisturbed(model):
        handle = layer.register_forward_hook(keep)
        try:
            logits = _logits(model, _tensor(model, batch))
        finally:
            handle.remove()
        if len(seen) != 1:
            raise InputError("layer", f"ran {len(seen)} times in one pass", mend="choose a layer that runs once")
        gradients = _gradients(logits, seen[0], _columns(findings, logits.shape[1]))
        return LayerGradients(_array(logits), _array(seen[0]), _array(gradients))


def torch_cam(
    model: nn.Module, layer: nn.Module, batch: Array, *, findings: Sequence[int] | None = None, signed: bool = False
) -> Array:
    """Grad-CAM of every image and finding on the layer's grid, float32 [B, T, h, w], not normalised.

    Source: Selvaraju et al., ICCV 2017. Raises: as `layer_gradients`.
    """
    found = layer_gradients(model, layer, batch, findings=findings)
    pairs = zip(found.features, found.gradients, strict=True)
    return np.stack([grad_cam(features, gradients, signed=signed) for features, gradients in pairs])


def input_gradients(model: nn.Module, batch: Array, *, findings: Sequence[int] | None = None) -> Array:
    """Plain gradients of each logit with respect to the pixels, float32 [B, T, H, W], logit per unit of grey."""
    with _undisturbed(model):
        pixels = _tensor(model, batch).requires_grad_(True)
        # A copy goes in, so that a model which changes its input in place neither fails nor changes the caller's array.
        logits = _logits(model, pixels.clone())
        return _array(_gradients(logits, pixels, _columns(findings, logits.shape[1])))[:, :, 0]


def integrated_gradients(
    model: nn.Module,
    batch: Array,
    *,
    baseline: Array,
    findings: Sequence[int] | None = None,
    steps: int = 32,
) -> PathGradients:
    """Integrated gradients from `baseline` to each image: maps and how far their sums miss the change of the logit.

    Shapes: batch [B, 1, H, W]; baseline broadcast to it (a blurred image says more than black on a radiograph, where
    black means air). Gauss-Legendre nodes; memory holds one batch at a time.
    Source: Sundararajan et al., ICML 2017.
    """
    import torch

    if steps < 1:
        raise InputError("steps", f"{steps}", mend="use at least 1, better 32")
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    with _undisturbed(model):
        end = _tensor(model, batch)
        start = _tensor(model, np.broadcast_to(baseline, batch.shape).astype(np.float32))
        columns = _columns(findings, _logits(model, end.clone()).shape[1])
        total = torch.zeros((len(batch), len(columns), *batch.shape[1:]), device=end.device)
        for node, weight in zip(nodes, weights, strict=True):
            point = (start + (end - start) * float((node + 1) / 2)).requires_grad_(True)
            total += _gradients(_logits(model, point.clone()), point, columns) * float(weight / 2)
        maps = _array((total * (end - start)[:, None])[:, :, 0])
        with torch.no_grad():
            change = (_logits(model, end.clone()) - _logits(model, start.clone()))[:, list(columns)]
        gap = maps.sum(axis=(2, 3), dtype=np.float64) - _array(change)
    return PathGradients(maps, gap)


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluate with gradients, whatever the caller's mode, and give every module its own train or eval state back."""
    import torch

    states = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        # One by one: model.train() would also switch submodules that the caller had frozen in eval.
        for module, training in states:
            module.training = training


def _tensor(model: nn.Module, batch: Array) -> torch.Tensor:
    import torch

    if batch.ndim != 4 or batch.shape[1] != 1 or len(batch) == 0:
        raise InputError("batch", f"has shape {batch.shape}", mend="give float32 [B, 1, H, W] in [0, 1]")
    first = next(model.parameters(), None)
    return torch.tensor(batch, dtype=torch.float32, device=None if first is None else first.device)


def _logits(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    import torch

    logits = model(pixels)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(pixels):
        raise InputError("model", "does not return logits [B, F]", mend="wrap it so that it does")
    return logits


def _columns(findings: Sequence[int] | None, count: int) -> tuple[int, ...]:
    columns = tuple(range(count)) if findings is None else tuple(findings)
    for column in columns:
        if not 0 <= column < count:
            raise InputError("finding", f"column {column} of {count} logits", mend=f"use 0 to {count - 1}")
    return columns


def _gradients(logits: torch.Tensor, inputs: torch.Tensor, columns: tuple[int, ...]) -> torch.Tensor:
    """Shapes: [B, T, *inputs.shape[1:]]. Images do not mix in eval mode, so the sum over the batch separates again."""
    import torch

    found = []
    for column in columns:
        (gradient,) = torch.autograd.grad(logits[:, column].sum(), inputs, retain_graph=True, allow_unused=True)
        found.append(torch.zeros_like(inputs) if gradient is None else gradient)
    return torch.stack(found, dim=1)


def _array(tensor: torch.Tensor) -> Array:
    values: Array = tensor.detach().cpu().numpy().astype(np.float32, copy=True)
    return values
