"""A toy task that a tiny network learns in seconds: a bright square on the left or the right of a grey field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from storyxai.data.batches import UNKNOWN_PIXEL, Examples
from storyxai.models.tokens import encode_tokens, full_vocabulary

if TYPE_CHECKING:
    from storyxai.models.network import Network

SIZE = 64
FINDINGS = ("left square", "right square", "never stated")
WORDS = ("bright", "dark", "left", "right", "square", ".")
VOCABULARY = full_vocabulary(WORDS)
MAX_TOKENS = 8


def toy_examples(count: int, *, seed: int = 0, findings: int = len(FINDINGS), max_tokens: int = MAX_TOKENS) -> Examples:
    """`count` squares: finding 0 on the left, 1 on the right, the rest not stated; every fourth has no report."""
    rng = np.random.default_rng(seed)
    images = rng.integers(60, 90, (count, SIZE, SIZE), dtype=np.uint8)
    labels = np.full((count, findings), np.nan, dtype=np.float32)
    masks = np.zeros((count, 3, SIZE // 4, SIZE // 4), dtype=np.uint8)
    cells = np.full((count, findings, SIZE // 16, SIZE // 16), UNKNOWN_PIXEL, dtype=np.uint8)
    tokens = np.zeros((count, max_tokens), dtype=np.int64)
    for row in range(count):
        right = row % 2
        images[row, 16:48, 32 * right : 32 * right + 32] = 220
        labels[row, :2] = (1 - right, right)
        masks[row, right, 4:12, 8 * right : 8 * right + 8] = 100
        cells[row, right] = 0
        cells[row, right, 1:3, 2 * right : 2 * right + 2] = 100
        if row % 4 != 3:
            words = ["bright", "right" if right else "left", "square", "."]
            tokens[row] = encode_tokens(words, VOCABULARY, length=max_tokens)
    masks[:, 2] = UNKNOWN_PIXEL
    names = tuple(f"toy-{seed}-{row}" for row in range(count))
    union = np.full((count, SIZE // 4, SIZE // 4), UNKNOWN_PIXEL, dtype=np.uint8)
    return Examples(names, names, ("toy",) * count, images, labels, masks, union, cells, tokens)


FEW_LAYERS = "test_efficientnet"
"""An encoder of timm's own tests, of the students' family: exported in less than half the time of the smallest real one."""


def tiny_network(
    *, tasks: tuple[str, ...] = ("findings", "masks", "report"), seed: int = 0, encoder: str = "mobilenetv3_small_050"
) -> Network:
    """The smallest network of the family, with weights drawn from `seed`, in evaluation mode."""
    from storyxai.models.network import Network, NetworkSpec  # slow to import, and not every test needs it

    spec = NetworkSpec(
        encoder=encoder, size=SIZE, tasks=tasks, findings=FINDINGS, vocabulary=VOCABULARY, width=16,
        hidden=16, fine_width=8, decoder_width=64, decoder_layers=1, max_tokens=MAX_TOKENS,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(spec).eval()
