"""What a network says about many examples, as plain arrays for metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from storyxai.data.batches import UNKNOWN_PIXEL, Examples, make_batch
from storyxai.metrics.segmentation import dice
from storyxai.models.network import Network
from storyxai.models.tokens import END, PAD, START, UNKNOWN, decode_tokens

__all__ = ["NetworkOutputs", "network_outputs"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class NetworkOutputs:
    """A network's answers on N examples; None for a head that it lacks.

    Shapes: logits [N, F]; dice [N, 3] of left lung, right lung and heart at the mask head's own grid (nan where there
    is no reference); `words` the tokens of each written report.
    """

    logits: NDArray[np.float32] | None
    dice: NDArray[np.float64] | None
    words: tuple[tuple[str, ...], ...] | None


def network_outputs(
    network: Network, examples: Examples, *, batch_size: int = 64, name: str = "network",
    progress: Progress | None = None,
) -> NetworkOutputs:
    """The answers of `network` to view 0 of every example."""
    network = network.to(memory_format=torch.channels_last).eval()
    tasks = network.spec.tasks
    logits, scores, words = [], [], []
    for start in range(0, len(examples), batch_size):
        rows = np.arange(start, min(start + batch_size, len(examples)))
        batch = make_batch(examples, rows, 0)
        with torch.inference_mode():
            said = network(batch.images.contiguous(memory_format=torch.channels_last))
            if "findings" in tasks:
                logits.append(said.logits.numpy())
            if "masks" in tasks:
                scores.append(_dice((said.masks > 0).numpy(), examples.masks[rows], examples.union[rows]))
            if "report" in tasks:
                words.extend(_write(network, said.memory))
        if progress:
            progress(f"judging {name}", int(rows[-1]) + 1, len(examples))
    return NetworkOutputs(
        np.concatenate(logits) if logits else None,
        np.concatenate(scores) if scores else None,
        tuple(words) if words else None,
    )


def _dice(drawn: NDArray[np.bool_], masks: NDArray[np.uint8], union: NDArray[np.uint8]) -> NDArray[np.float64]:
    out = np.full((len(drawn), 3), np.nan)
    for row in range(len(drawn)):
        for part in range(3):
            reference = masks[row, part]
            if (reference != UNKNOWN_PIXEL).any():
                out[row, part] = dice(drawn[row, part], reference == 1, ignore=reference == UNKNOWN_PIXEL)
    return out


def _write(network: Network, memory: torch.Tensor) -> list[tuple[str, ...]]:
    """Greedy reports for a batch, all rows at once; a row that has ended is padded."""
    spec = network.spec
    written = torch.full((len(memory), 1), START, dtype=torch.int64)
    ended = torch.zeros(len(memory), dtype=torch.bool)
    for _ in range(spec.max_tokens - 2):
        scores = network.decoder(written, memory)[:, -1]
        scores[:, [PAD, START, UNKNOWN]] = -torch.inf
        best = scores.argmax(dim=1).masked_fill(ended, PAD)
        written = torch.cat([written, best[:, None]], dim=1)
        ended |= best == END
        if bool(ended.all()):
            break
    return [tuple(decode_tokens(row[1:], spec.vocabulary)) for row in written.tolist()]
