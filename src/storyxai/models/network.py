"""One network family: a shared encoder and up to three heads. A teacher has one head, the student has three."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from storyxai.errors import WeightsError
from storyxai.explain.cam import OUTSIDE
from storyxai.modalities.registry import modality_named
from storyxai.models.decoder import ReportDecoder

TASKS = ("findings", "masks", "report")
MASKS = modality_named().structure_names
"""What masks draw where nobody says otherwise: the structures of the default modality."""
INPUT_MEAN, INPUT_STD = 0.5, 0.25
"""The encoder reads (x - INPUT_MEAN) / INPUT_STD of pixels x in [0, 1]."""


@dataclass(frozen=True)
class NetworkSpec:
    """The shape of a network, saved with its weights. Units: `size` in pixels (square input), widths in channels.

    `encoder` is any network of timm that gives features at strides 4, 8 and 16. `deepest` is the deepest stride that is
    used: at 16 the stages behind it are left out, which makes a smaller and faster student. `channels` is 1 or 3. With
    `within`, one of `structures`, findings are pooled over the cells of that structure as the network itself draws it.
    """

    encoder: str = "mobilenetv3_small_100"
    size: int = 224
    tasks: tuple[str, ...] = TASKS
    findings: tuple[str, ...] = modality_named().names
    vocabulary: tuple[str, ...] = ()
    width: int = 96
    hidden: int = 128
    fine_width: int = 40
    decoder_width: int = 128
    decoder_layers: int = 2
    max_tokens: int = 64
    channels: int = 1
    deepest: int = 32
    structures: tuple[str, ...] = MASKS
    within: str = ""

    def as_dict(self) -> dict[str, object]:
        """The specification as plain JSON values; without `within` where it says nothing, so that hashes stay."""
        given = {key: value for key, value in asdict(self).items() if key != "within" or value}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}

    @staticmethod
    def from_dict(record: Mapping[str, object]) -> NetworkSpec:
        """The specification from `as_dict`'s values. Raises: WeightsError for an unknown or missing field."""
        try:
            values: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
            return NetworkSpec(**values)
        except TypeError as error:
            raise WeightsError("network specification", str(error), mend="use the storyxai that wrote it") from error


class Outputs(NamedTuple):
    """What one pass gives; None for a head that the network does not have.

    Shapes: features [B, K, h, w] at stride 16 (the maps' layer), grid [B, F, h, w] logits per cell, logits [B, F],
    masks [B, structures, 4h, 4w] logits at stride 4, memory [B, M, D] what the report decoder reads.
    """

    features: Tensor
    grid: Tensor | None
    logits: Tensor | None
    masks: Tensor | None
    memory: Tensor | None


class _Block(nn.Module):
    """Depthwise 3x3 then pointwise 1x1, each normalised: a cheap 3x3 convolution."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width_in, width_in, 3, padding=1, groups=width_in, bias=False),
            nn.BatchNorm2d(width_in),
            nn.Conv2d(width_in, width_out, 1, bias=False),
            nn.BatchNorm2d(width_out),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


class FindingHead(nn.Module):
    """One logit per finding and cell, pooled to the image by log-sum-exp, so labels and boxes can both teach it.

    z_f = (1 / r_f) log mean_cells exp(r_f g_f); r_f is learnt per finding: near 0 it is the mean (a diffuse finding),
    large it is the maximum (a small one). With `shares` [B, h, w] the mean counts each cell by its share.
    """

    def __init__(self, width: int, hidden: int, findings: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(width, hidden, 1)
        self.out = nn.Conv2d(hidden, findings, 1)
        self.log_sharpness = nn.Parameter(torch.full((findings,), 0.5))
        nn.init.constant_(self.out.bias, -2.5)  # type: ignore[arg-type]

    def sharpness(self) -> Tensor:
        return self.log_sharpness.clamp(-3.0, 2.5).exp()

    def as_arrays(self) -> dict[str, NDArray[np.float32]]:
        """Its weights as `explain.cam.grid_head_gradients` asks for them."""
        given = {
            "hidden_weight": self.hidden.weight[:, :, 0, 0], "hidden_bias": self.hidden.bias,
            "out_weight": self.out.weight[:, :, 0, 0], "out_bias": self.out.bias, "sharpness": self.sharpness(),
        }
        return {name: tensor.detach().contiguous().numpy() for name, tensor in given.items() if tensor is not None}

    def forward(self, features: Tensor, shares: Tensor | None = None) -> tuple[Tensor, Tensor]:
        grid = self.out(F.relu(self.hidden(features)))
        sharp = self.sharpness()[None, :, None]
        cells = grid.flatten(2)
        if shares is None:
            pooled = torch.logsumexp(cells * sharp, dim=2) - torch.log(torch.tensor(float(cells.shape[2])))
        else:
            counted = shares.flatten(1)[:, None]
            pooled = torch.logsumexp(cells * sharp + counted.log(), dim=2) - counted.sum(dim=2).log()
        return grid, pooled / sharp[:, :, 0]


class Network(nn.Module):
    """Encoder, top-down neck and the heads that `spec.tasks` names.

    Shapes: input float32 [B, C, S, S] in [0, 1], C = `spec.channels`, bright = dense. Raises: WeightsError when the encoder
    has no features at a stride that is needed.
    """

    encoder: Any  # timm's, which states its own features

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        _check_within(spec)
        self.spec = spec
        self.encoder, self.levels = _make_encoder(spec)
        channels = self.encoder.feature_info.channels()
        wide = [channels[level] for level in self.levels]
        if spec.deepest == 32:
            self.from_32 = nn.Conv2d(wide[3], spec.width, 1)
        self.from_16 = nn.Conv2d(wide[2], spec.width, 1)
        self.fuse_16 = _Block(spec.width, spec.width)
        if "findings" in spec.tasks or "report" in spec.tasks:
            self.finding_head = FindingHead(spec.width, spec.hidden, len(spec.findings))
        if "masks" in spec.tasks:
            self.down_16 = nn.Conv2d(spec.width, spec.fine_width, 1)
            self.from_8 = nn.Conv2d(wide[1], spec.fine_width, 1)
            self.fuse_8 = _Block(spec.fine_width, spec.fine_width)
            self.from_4 = nn.Conv2d(wide[0], spec.fine_width, 1)
            self.fuse_4 = _Block(spec.fine_width, spec.fine_width)
            self.mask_head = nn.Conv2d(spec.fine_width, len(spec.structures), 1)
        if "report" in spec.tasks:
            self.decoder = ReportDecoder(
                len(spec.vocabulary), spec.width, len(spec.findings),
                width=spec.decoder_width, layers=spec.decoder_layers, max_tokens=spec.max_tokens,
            )

    def forward(self, x: Tensor) -> Outputs:
        given = self.encoder((x - INPUT_MEAN) / INPUT_STD)
        at_4, at_8, at_16, *deeper = (given[level] for level in self.levels)
        summed = self.from_16(at_16)
        if deeper:
            summed = summed + F.interpolate(self.from_32(deeper[0]), size=at_16.shape[-2:], mode="nearest")
        features = self.fuse_16(summed)
        grid = logits = masks = memory = None
        if hasattr(self, "mask_head"):
            masks = self._masks(features, at_8, at_4)
        if hasattr(self, "finding_head"):
            grid, logits = self.finding_head(features, self.shares(masks))
        if hasattr(self, "decoder"):
            # The report may read what the finding head says but not bend it: the sentence follows the finding.
            memory = self.decoder.remember(features, torch.sigmoid(logits).detach())  # type: ignore[arg-type]
        return Outputs(features, grid, logits, masks, memory)

    def shares(self, masks: Tensor | None) -> Tensor | None:
        """What each cell counts in the findings [B, h, w], from the logits `masks`; None where all count alike.

        Findings read the outline but do not bend it: no gradient passes.
        """
        if masks is None or not self.spec.within:
            return None
        drawn = torch.sigmoid(masks[:, self.spec.structures.index(self.spec.within)].detach())
        inside = F.avg_pool2d(drawn[:, None], 4)[:, 0]
        return inside + OUTSIDE * (1 - inside)

    def only(self, task: str) -> Network:
        """A view of it that answers one task only, for speed."""
        lean = copy.copy(self)
        lean.spec = replace(self.spec, tasks=(task,))
        return lean

    def _masks(self, features: Tensor, at_8: Tensor, at_4: Tensor) -> Tensor:
        coarse = F.interpolate(self.down_16(features), size=at_8.shape[-2:], mode="nearest")
        middle = self.fuse_8(self.from_8(at_8) + coarse)
        fine = self.from_4(at_4) + F.interpolate(middle, size=at_4.shape[-2:], mode="nearest")
        return self.mask_head(self.fuse_4(fine))  # type: ignore[no-any-return]


def _check_within(spec: NetworkSpec) -> None:
    """Raises: WeightsError when findings are to be pooled within what the network does not draw."""
    if spec.within and ("masks" not in spec.tasks or spec.within not in spec.structures):
        why = f"pools findings within '{spec.within}', which it does not draw"
        mend = f"let it draw one of: {', '.join(spec.structures)}" if spec.structures else "leave 'within' out"
        raise WeightsError("network specification", why, mend=mend)


def _make_encoder(spec: NetworkSpec) -> tuple[Any, list[int]]:
    """The encoder up to the deepest stride that is used, and the places of strides 4, 8, 16 (and 32) in what it gives."""
    if spec.channels not in (1, 3) or spec.deepest not in (16, 32):
        why = f"has channels {spec.channels} and deepest stride {spec.deepest}"
        raise WeightsError("network specification", why, mend="1 or 3 channels and stride 16 or 32 are known")
    needed = [stride for stride in (4, 8, 16, 32) if stride <= spec.deepest]
    whole = {"pretrained": False, "in_chans": spec.channels, "features_only": True}
    encoder: Any = timm.create_model(spec.encoder, **whole)
    strides = encoder.feature_info.reduction()
    missing = [str(stride) for stride in needed if stride not in strides]
    if missing:
        why = f"gives no features at stride {', '.join(missing)}"
        raise WeightsError(f"encoder '{spec.encoder}'", why, mend="name a convolutional network of timm")
    if spec.deepest < max(strides):
        kept = tuple(range(strides.index(spec.deepest) + 1))
        encoder = timm.create_model(spec.encoder, **whole, out_indices=kept)
        last = encoder.feature_info.module_name()[-1]
        if last.startswith("blocks."):  # timm leaves the stages of an EfficientNet that nobody asks for
            encoder.blocks = encoder.blocks[: int(last.split(".")[1]) + 1]
    return encoder, [strides.index(stride) for stride in needed]


def count_parameters(network: nn.Module) -> int:
    """The number of learnt parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
