"""The report decoder: a small transformer that reads image cells and finding probabilities and writes words."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Attention(nn.Module):
    """Multi-head attention written out, so that it exports to a plain graph and can be read."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        def split(t: Tensor) -> Tensor:
            return t.unflatten(2, (self.heads, -1)).transpose(1, 2)  # type: ignore[no-any-return, no-untyped-call]

        q, k, v = split(self.query(x)), split(self.key(source)), split(self.value(source))
        weights = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        if mask is not None:
            weights = weights + mask
        mixed = torch.softmax(weights, dim=3) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.words, self.image = _Attention(width, heads), _Attention(width, heads)
        self.think = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        y = self.norms[0](x)
        x = x + self.drop(self.words(y, y, mask))
        x = x + self.drop(self.image(self.norms[1](x), memory, None))
        return x + self.drop(self.think(self.norms[2](x)))  # type: ignore[no-any-return]


class ReportDecoder(nn.Module):
    """Next-word logits [B, T, V] from words so far [B, T] and a memory [B, M, D] of the image."""

    def __init__(
        self, vocabulary: int, features: int, findings: int, *, width: int, layers: int, max_tokens: int
    ) -> None:
        super().__init__()
        self.word_embedding = nn.Embedding(vocabulary, width)
        self.place_embedding = nn.Parameter(torch.randn(max_tokens, width) * 0.02)
        self.cell_embedding = nn.Parameter(torch.randn(49, width) * 0.02)
        self.finding_embedding = nn.Parameter(torch.randn(findings, width) * 0.02)
        self.finding_slope = nn.Parameter(torch.randn(findings, width) * 0.02)
        self.cells = nn.Linear(features, width)
        self.layers = nn.ModuleList(_Layer(width, max(2, width // 32), 0.1) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, vocabulary)

    def remember(self, features: Tensor, probabilities: Tensor) -> Tensor:
        """The memory [B, 49 + F, D]: a 7 x 7 grid of image cells, then one entry per finding with its probability."""
        # Average pooling over equal windows equals adaptive pooling to 7 x 7 here, and exports for any batch size.
        window = features.shape[-1] // 7
        cells = F.avg_pool2d(features, window) if window > 1 else features
        cells = cells.flatten(2).transpose(1, 2)
        if cells.shape[1] != self.cell_embedding.shape[0]:
            side = round(cells.shape[1] ** 0.5)
            grid = cells.transpose(1, 2).unflatten(2, (side, side))  # type: ignore[no-untyped-call]
            cells = F.interpolate(grid, size=(7, 7), mode="bilinear").flatten(2).transpose(1, 2)
        seen = self.cells(cells) + self.cell_embedding
        found = self.finding_embedding + probabilities[:, :, None] * self.finding_slope * 10.0
        return torch.cat([seen, found], dim=1)

    def forward(self, words: Tensor, memory: Tensor) -> Tensor:
        length = words.shape[1]
        x = self.word_embedding(words) + self.place_embedding[:length]
        future = torch.triu(torch.full((length, length), -1e9, device=x.device), diagonal=1)
        for layer in self.layers:
            x = layer(x, memory, future)
        return self.out(self.norm(x))  # type: ignore[no-any-return]
