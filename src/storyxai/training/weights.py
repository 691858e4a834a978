"""Starting an encoder from weights that were learnt elsewhere, read from safetensors by name."""

from __future__ import annotations

from pathlib import Path

import torch

from storyxai.errors import WeightsError
from storyxai.models.network import Network

__all__ = ["freeze_early_stages", "load_encoder_weights", "positive_weights"]


def load_encoder_weights(network: Network, path: Path) -> int:
    """The number of encoder tensors taken from the safetensors file at `path` (timm's names for `spec.encoder`).

    A first convolution over three colours is summed into the one grey channel. Raises: WeightsError when the file is
    missing, is no safetensors file, or fits less than nine tenths of the encoder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        given = load_file(path)
    except (OSError, SafetensorError) as error:
        why = "cannot be read as safetensors"
        raise WeightsError(str(path), why, mend="convert the weights once, see docs") from error
    own = network.encoder.state_dict()
    fitting = {}
    for name, tensor in own.items():
        source = given.get(name)
        if source is None:
            continue
        if source.shape != tensor.shape and source.ndim == 4 and source.shape[1] == 3 and tensor.shape[1] == 1:
            # Networks of colour images were fed (x - 0.5) / 0.5; ours divides by 0.25, hence the half.
            source = source.sum(dim=1, keepdim=True) * 0.5
        if source.shape == tensor.shape:
            fitting[name] = source
    if len(fitting) < 0.9 * len(own):
        raise WeightsError(
            str(path), f"fits {len(fitting)} of {len(own)} tensors of {network.spec.encoder}",
            mend="name the weights of this very encoder",
        )
    network.encoder.load_state_dict({**own, **fitting})
    return len(fitting)


def freeze_early_stages(network: Network, *, stride: int) -> int:
    """The number of encoder parameters kept as they are: those before the features at `stride`, edges and textures."""
    reduction = network.encoder.feature_info.reduction()
    modules = network.encoder.feature_info.module_name()
    last = next(name for name, at in zip(modules, reduction, strict=True) if at == stride)
    frozen = 0
    for name, parameter in network.encoder.named_parameters():
        if not name.startswith("blocks") or name.split(".")[1] <= last.split(".")[1]:
            parameter.requires_grad_(False)
            frozen += parameter.numel()
    return frozen


def positive_weights(labels: torch.Tensor, *, most: float = 8.0) -> torch.Tensor:
    """How much a positive of each finding weighs: sqrt(negatives / positives), at least 1, at most `most`, 1 if none."""
    positive = torch.nansum(labels, dim=0)
    negative = torch.nansum(1 - labels, dim=0)
    weight = (negative / positive.clamp(min=1)).sqrt().clamp(1.0, most)
    return torch.where(positive > 0, weight, torch.ones_like(weight))
