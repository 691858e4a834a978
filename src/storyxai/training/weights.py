"""Starting an encoder from weights that were learnt elsewhere, read from safetensors by name."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from storyxai.errors import WeightsError
from storyxai.files import fresh_file
from storyxai.models.network import INPUT_MEAN, INPUT_STD, Network


def load_encoder_weights(network: Network, path: Path) -> int:
    """The number of encoder tensors taken from the safetensors file at `path` (timm's names for `spec.encoder`).

    The first convolution is brought to this network's own input. It was learnt on (x - m_c) / s_c of each colour c (m and s
    as timm states them for the encoder); this network feeds u = (x - 0.5) / 0.25 of one grey channel, or of each of three.
    As (x - m_c) / s_c = (0.25 / s_c) u + (0.5 - m_c) / s_c, each colour's kernel is multiplied by 0.25 / s_c (and, for grey,
    summed over colours), and what the constant adds goes into the bias that follows, so that everything but the outermost
    pixels, where both pad with zeros, is what it was. Raises: WeightsError when the file is missing, is no safetensors
    file, or fits less than nine tenths of the encoder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        given = load_file(path)
    except (OSError, SafetensorError) as error:
        why = "cannot be read as safetensors"
        raise WeightsError(str(path), why, mend="convert the weights once: `storyxai data weights`") from error
    # timm joins the first two parts of some names when an encoder gives features: features.conv0 becomes features_conv0.
    given = {name.replace(".", "_", 1): tensor for name, tensor in given.items()} | given
    own = network.encoder.state_dict()
    first = next(name for name, module in network.encoder.named_modules() if isinstance(module, nn.Conv2d))
    fitting, shift = {}, None
    for name, tensor in own.items():
        source = given.get(name)
        if source is not None and name == f"{first}.weight" and source.ndim == 4 and source.shape[1] == 3:
            source, shift = _adapt_first_convolution(source, network)
        if source is not None and source.shape == tensor.shape:
            fitting[name] = source
    if len(fitting) < 0.9 * len(own):
        raise WeightsError(
            str(path), f"fits {len(fitting)} of {len(own)} tensors of {network.spec.encoder}",
            mend="name the weights of this very encoder",
        )
    network.encoder.load_state_dict({**own, **fitting})
    if shift is not None and f"{first}.weight" in fitting:
        _add_constant(network.encoder, first, shift)
    return len(fitting)


def convert_encoder_weights(given: Path, encoder: str, out: Path) -> int:
    """The number of tensors of a published file of weights (.pth) that now stand in `out` as safetensors, by timm's names.

    The file must hold the tensors of `encoder` (a timm name) in the order in which timm's network has them, under whatever
    names. It is read with `weights_only`, so nothing in it can run. Raises: WeightsError when it holds something else.
    """
    from safetensors.torch import save_file

    try:
        found = torch.load(given, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch raise their own kinds
        why = f"cannot be read as weights alone ({str(error).splitlines()[0][:80]})"
        raise WeightsError(str(given), why, mend="name a file of tensors (.pth), as it was published") from error
    found = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise WeightsError(str(given), "holds no weights by name", mend="name a file of tensors (.pth), as it was published")
    try:
        own = timm.create_model(encoder, pretrained=False).state_dict()
    except RuntimeError as error:
        raise WeightsError(f"encoder '{encoder}'", "is not known to timm", mend="name a timm model") from error
    pairs = list(zip(found.items(), own.items(), strict=False))
    wrong = next((pair for pair in pairs if pair[0][1].shape != pair[1][1].shape), None)
    if wrong is not None or len(found) != len(own):
        why = f"holds {len(found)} tensors, {encoder} has {len(own)}" if wrong is None else (
            f"'{wrong[0][0]}' is {tuple(wrong[0][1].shape)}, where {encoder} has '{wrong[1][0]}' of {tuple(wrong[1][1].shape)}")
        raise WeightsError(str(given), why, mend="name the encoder whose weights these are")
    with fresh_file(out) as part:
        save_file({name: tensor.contiguous() for name, tensor in zip(own, found.values(), strict=True)}, part)
    return len(own)


def _adapt_first_convolution(kernel: Tensor, network: Network) -> tuple[Tensor, Tensor]:
    """The kernel for this network's input, and what the constant part adds to each output. Shapes: [K, 3, h, w], [K]."""
    stated = timm.get_pretrained_cfg(network.spec.encoder)
    mean, std = (torch.tensor(values or default, dtype=kernel.dtype) for values, default in (
        (stated and stated.mean, (0.5,) * 3), (stated and stated.std, (0.5,) * 3)
    ))
    shift = (kernel.sum(dim=(2, 3)) * ((INPUT_MEAN - mean) / std)).sum(dim=1)
    scaled = kernel * (INPUT_STD / std).view(1, 3, 1, 1)
    return (scaled if network.spec.channels == 3 else scaled.sum(dim=1, keepdim=True)), shift


@torch.no_grad()
def _add_constant(encoder: nn.Module, first: str, shift: Tensor) -> None:
    """Add `shift` to the outputs of the convolution called `first`: to its bias, or to the batch norm that follows it."""
    modules = dict(encoder.named_modules())
    convolution = modules[first]
    if isinstance(convolution, nn.Conv2d) and convolution.bias is not None:
        convolution.bias.add_(shift)
        return
    after = list(modules.values())[list(modules).index(first) + 1 :]
    norm = next((one for one in after if getattr(one, "running_mean", None) is not None), None)
    if norm is not None and len(norm.running_mean) == len(shift):  # a mean that is taken off: less of it adds
        norm.running_mean.sub_(shift)


def freeze_early_stages(network: Network, *, stride: int) -> int:
    """The number of encoder parameters kept as they are: those that the features at `stride` rest on, edges and textures."""
    encoder = network.encoder
    level = encoder.feature_info.reduction().index(stride)
    learning = encoder.training
    encoder.eval()  # running statistics are to stay as they came
    side = 2 * max(encoder.feature_info.reduction())
    features = encoder(torch.zeros(1, network.spec.channels, side, side))[level]
    parameters = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    reached = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    encoder.train(learning)
    early = [parameter for parameter, gradient in zip(parameters, reached, strict=True) if gradient is not None]
    for parameter in early:
        parameter.requires_grad_(False)
    return sum(parameter.numel() for parameter in early)


def average_networks(networks: Sequence[Network]) -> Network:
    """A network whose weights and running statistics are the means of those given, all of one shape and one start."""
    middle = copy.deepcopy(networks[0])
    states = [network.state_dict() for network in networks]
    middle.load_state_dict({
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.dtype.is_floating_point else value
        for name, value in states[0].items()
    })
    return middle


def positive_weights(labels: torch.Tensor, *, most: float = 8.0) -> torch.Tensor:
    """How much a positive of each finding weighs: sqrt(negatives / positives), at least 1, at most `most`, 1 if none."""
    positive = torch.nansum(labels, dim=0)
    negative = torch.nansum(1 - labels, dim=0)
    weight = (negative / positive.clamp(min=1)).sqrt().clamp(1.0, most)
    return torch.where(positive > 0, weight, torch.ones_like(weight))
