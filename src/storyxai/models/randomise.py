"""A network unlearnt from its last layer downwards: what a map must not survive.

Source: Adebayo et al., NeurIPS 2018 (sanity checks), cascading randomisation. Where we deviate: each tensor's values are
shuffled instead of drawn anew, so that their sizes stay; layers go in the order in which the network registers them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from storyxai.explain.contract import ExplainedModel
from storyxai.models.adapters.torch_layers import layer_named
from storyxai.models.adapters.torch_model import TorchModel
from storyxai.models.runtime import Student

if TYPE_CHECKING:
    from torch import nn

    from storyxai.models.network_model import NetworkModel

STAGES = (0.0, 1.0)
"""Shares of the layers that are shuffled, from the last one: the last layer alone, and all."""
_NOT_OF_FINDINGS = ("decoder", "mask_head", "down_16", "from_8", "fuse_8", "from_4", "fuse_4")
"""Parts of our networks that no finding's logit hangs on; where findings are pooled within an outline, that is held too."""


def randomised_models(
    model: ExplainedModel, *, stages: tuple[float, ...] = STAGES, seed: int = 0
) -> Iterator[tuple[float, ExplainedModel]]:
    """The model with more and more of its layers shuffled, with their share; nothing where weights are out of reach.

    The model itself is not changed. A student is looked at through its weights, which needs torch; without it: nothing.
    """
    opened = _opened(model)
    if opened is None:
        return
    original, module = opened
    for share in stages:
        shuffled = _shuffled(module, share, seed)
        if isinstance(original, TorchModel):
            yield share, replace(original, module=shuffled)
        else:
            yield share, replace(original, net=shuffled)  # type: ignore[arg-type]


def _opened(model: ExplainedModel) -> tuple[TorchModel | NetworkModel, nn.Module] | None:
    if isinstance(model, TorchModel):
        # A layer that was given as a module is of the caller's network: in a copy it is found by its name.
        named = None if model.layer is None else layer_named(model.module, model.layer)[0]
        return replace(model, layer=named), model.module
    if not isinstance(model, Student) and not hasattr(model, "net"):
        return None  # before torch and timm are loaded for it
    try:
        from storyxai.models.network_model import NetworkModel, network_of
    except ImportError:
        return None
    ours = network_of(model) if isinstance(model, Student) else model
    return (ours, ours.net) if isinstance(ours, NetworkModel) else None


def _shuffled(module: nn.Module, share: float, seed: int) -> nn.Module:
    """A copy in which the last layers, that share of them and at least one, have each parameter's values shuffled."""
    import torch

    changed = copy.deepcopy(module)
    layers = [
        part for name, part in changed.named_modules()
        if name.split(".")[0] not in _NOT_OF_FINDINGS and any(True for _ in part.parameters(recurse=False))
    ]
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for part in reversed(layers[len(layers) - max(1, math.ceil(share * len(layers))) :]):
            for parameter in part.parameters(recurse=False):
                order = torch.from_numpy(generator.permutation(parameter.numel())).to(parameter.device)
                parameter.copy_(parameter.reshape(-1)[order].reshape(parameter.shape))
    return changed
