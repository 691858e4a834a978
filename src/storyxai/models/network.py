"""One network family: a shared encoder and up to three heads. A teacher has one head, the student has three."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from storyxai.errors import WeightsError
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.models.decoder import ReportDecoder

__all__ = ["MASKS", "TASKS", "Network", "NetworkSpec", "Outputs", "count_parameters"]

TASKS = ("findings", "masks", "report")
MASKS = ("left_lung", "right_lung", "heart")


@dataclass(frozen=True)
class NetworkSpec:
    """The shape of a network, saved with its weights. Units: `size` in pixels (square input), widths in channels."""

    encoder: str = "mobilenetv3_small_100"
    size: int = 224
    tasks: tuple[str, ...] = TASKS
    findings: tuple[str, ...] = NAMES
    vocabulary: tuple[str, ...] = ()
    width: int = 96
    hidden: int = 128
    fine_width: int = 40
    decoder_width: int = 128
    decoder_layers: int = 2
    max_tokens: int = 64

    def as_dict(self) -> dict[str, Any]:
        """The specification as plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_dict(record: dict[str, Any]) -> NetworkSpec:
        """The specification from `as_dict`'s values. Raises: WeightsError for an unknown or missing field."""
        try:
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
            return NetworkSpec(**values)
        except TypeError as error:
            raise WeightsError("network specification", str(error), mend="use the storyxai that wrote it") from error


class Outputs(NamedTuple):
    """What one pass gives; None for a head that the network does not have.

    Shapes: features [B, K, h, w] at stride 16 (the maps' layer), grid [B, F, h, w] logits per cell, logits [B, F],
    masks [B, 3, 4h, 4w] logits at stride 4, memory [B, M, D] what the report decoder reads.
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
    large it is the maximum (a small one).
    """

    def __init__(self, width: int, hidden: int, findings: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(width, hidden, 1)
        self.out = nn.Conv2d(hidden, findings, 1)
        self.log_sharpness = nn.Parameter(torch.full((findings,), 0.5))
        nn.init.constant_(self.out.bias, -2.5)  # type: ignore[arg-type]

    def sharpness(self) -> Tensor:
        return self.log_sharpness.clamp(-3.0, 2.5).exp()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        grid = self.out(F.relu(self.hidden(features)))
        sharp = self.sharpness()[None, :, None]
        cells = grid.flatten(2)
        pooled = torch.logsumexp(cells * sharp, dim=2) - torch.log(torch.tensor(float(cells.shape[2])))
        return grid, pooled / sharp[:, :, 0]


class Network(nn.Module):
    """Encoder, top-down neck and the heads that `spec.tasks` names.

    Shapes: input float32 [B, 1, S, S] in [0, 1], bright = dense.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = timm.create_model(spec.encoder, pretrained=False, in_chans=1, features_only=True)
        strides, channels = self.encoder.feature_info.reduction(), self.encoder.feature_info.channels()
        self.levels = [strides.index(stride) for stride in (4, 8, 16, 32)]
        wide = [channels[level] for level in self.levels]
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
            self.mask_head = nn.Conv2d(spec.fine_width, len(MASKS), 1)
        if "report" in spec.tasks:
            self.decoder = ReportDecoder(
                len(spec.vocabulary), spec.width, len(spec.findings),
                width=spec.decoder_width, layers=spec.decoder_layers, max_tokens=spec.max_tokens,
            )

    def forward(self, x: Tensor) -> Outputs:
        x = (x - 0.5) / 0.25
        levels = self.encoder(x)
        at_4, at_8, at_16, at_32 = (levels[level] for level in self.levels)
        top = F.interpolate(self.from_32(at_32), size=at_16.shape[-2:], mode="nearest")
        features = self.fuse_16(self.from_16(at_16) + top)
        grid = logits = masks = memory = None
        if hasattr(self, "finding_head"):
            grid, logits = self.finding_head(features)
        if hasattr(self, "mask_head"):
            masks = self._masks(features, at_8, at_4)
        if hasattr(self, "decoder"):
            # The report may read what the finding head says but not bend it: the sentence follows the finding.
            memory = self.decoder.remember(features, torch.sigmoid(logits).detach())  # type: ignore[arg-type]
        return Outputs(features, grid, logits, masks, memory)

    def _masks(self, features: Tensor, at_8: Tensor, at_4: Tensor) -> Tensor:
        coarse = F.interpolate(self.down_16(features), size=at_8.shape[-2:], mode="nearest")
        middle = self.fuse_8(self.from_8(at_8) + coarse)
        fine = self.from_4(at_4) + F.interpolate(middle, size=at_4.shape[-2:], mode="nearest")
        return self.mask_head(self.fuse_4(fine))  # type: ignore[no-any-return]


def count_parameters(network: nn.Module, *, without_embeddings: bool = False) -> int:
    """The number of learnt parameters, optionally without the decoder's word and position embeddings."""
    total = 0
    for name, parameter in network.named_parameters():
        if without_embeddings and "embedding" in name:
            continue
        total += parameter.numel()
    return total
