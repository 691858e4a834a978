"""Tiny torch networks of the kinds that people bring: convolutional, token by token, channels last; weights seeded."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

FINDINGS = ("a", "b", "c", "d")


def seeded(module: Any, *, scale: float = 0.5) -> Any:
    """The module in evaluation mode, every parameter drawn from one seed."""
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=stream) * scale)
    return module.eval()


def network(*, inplace: bool = False, channels: int = 1) -> Any:
    """Two convolutions (the second is layer "3"), the mean over the cells, one linear layer ("7")."""
    return seeded(nn.Sequential(
        nn.Conv2d(channels, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=inplace),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(inplace=inplace),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ))


class Tokens(nn.Module):
    """A small vision transformer, 4 x 4 pixels a patch; its head is on the first token, or on the mean without prefix."""

    def __init__(self, *, prefix: int = 1, channels: int = 3) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, 12, 4, stride=4)
        self.prefix = nn.Parameter(torch.zeros(1, prefix, 12))
        self.norm1 = nn.LayerNorm(12)
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.norm2 = nn.LayerNorm(12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Any) -> Any:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.prefix.expand(len(x), -1, -1), x], dim=1)
        inner = self.norm1(x)
        x = x + self.attention(inner, inner, inner, need_weights=False)[0]
        x = self.norm2(x)
        return self.head(x[:, 0] if self.prefix.shape[1] else x.mean(dim=1))


class ChannelsLast(nn.Module):
    """Channels-last features, as Swin has them, then the mean over the cells."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.head = nn.Conv2d(1, 10, 4, stride=4), nn.LayerNorm(10), nn.Linear(10, 4)

    def forward(self, x: Any) -> Any:
        return self.head(self.norm(self.embed(x).permute(0, 2, 3, 1)).mean(dim=(1, 2)))
