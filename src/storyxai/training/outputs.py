"""What a network says about many examples, as plain arrays for metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from storyxai.data.batches import UNKNOWN_PIXEL, Examples, make_batch
from storyxai.metrics.segmentation import dice, surface_distances
from storyxai.metrics.speed import ModelSpeed, Speeds, images_per_second
from storyxai.models.export import as_session
from storyxai.models.network import Network, count_parameters
from storyxai.models.tokens import END, PAD, START, UNKNOWN, decode_tokens
from storyxai.progress import Progress
from storyxai.training.apart import memory_kept

__all__ = ["NetworkOutputs", "network_outputs", "network_size", "network_speeds"]


@dataclass(frozen=True, eq=False)
class NetworkOutputs:
    """A network's answers on N examples; None for a head that it lacks.

    Shapes: logits [N, F]; grid [N, F, h, w] its evidence; dice [N, C] of each structure at the mask
    head's own grid, apart [N, C, 2] their outlines' average distance and 95 % Hausdorff in pixels of the network's
    input (nan where there is no reference, apart also where one mask is empty); paired [N] Dice of the modality's pair as
    one, also where a reference does not tell its sides apart; `words` the tokens of each written report; features [N, K]
    the spatial mean of the last shared layer. `names` and `structures` are what F and C count.
    """

    logits: NDArray[np.float32] | None
    dice: NDArray[np.float64] | None
    words: tuple[tuple[str, ...], ...] | None
    apart: NDArray[np.float64] | None = None
    grid: NDArray[np.float32] | None = None
    features: NDArray[np.float32] | None = None
    paired: NDArray[np.float64] | None = None
    names: tuple[str, ...] = ()
    structures: tuple[str, ...] = ()


@memory_kept()
def network_outputs(
    network: Network, examples: Examples, *, batch_size: int = 64, name: str = "network",
    with_pair: bool = False, progress: Progress | None = None,
) -> NetworkOutputs:
    """The answers of `network` to view 0 of every example; `with_pair`: its first two structures are the modality's pair."""
    network = network.to(memory_format=torch.channels_last).eval()
    tasks = network.spec.tasks
    logits, scores, words = [], [], []
    apart, grids, features, paired = [], [], [], []
    for start in range(0, len(examples), batch_size):
        rows = np.arange(start, min(start + batch_size, len(examples)))
        batch = make_batch(examples, rows, 0)
        with torch.inference_mode():
            said = network(batch.images.contiguous(memory_format=torch.channels_last))
            features.append(said.features.mean(dim=(2, 3)).numpy())
            if "findings" in tasks:
                logits.append(said.logits.numpy())
                grids.append(said.grid.numpy())
            if "masks" in tasks:
                drawn = (said.masks > 0).numpy()
                scores.append(_dice(drawn, examples.masks[rows]))
                if with_pair:
                    paired.append(_both(drawn, examples.masks[rows], examples.union[rows]))
                apart.append(_apart(drawn, examples.masks[rows]) * (network.spec.size / drawn.shape[-1]))
            if "report" in tasks:
                words.extend(_write(network, said.memory))
        if progress:
            progress(f"judging {name}", int(rows[-1]) + 1, len(examples))
    return NetworkOutputs(
        np.concatenate(logits) if logits else None,
        np.concatenate(scores) if scores else None,
        tuple(words) if words else None,
        np.concatenate(apart) if apart else None,
        np.concatenate(grids) if grids else None,
        np.concatenate(features) if features else None,
        np.concatenate(paired) if paired else None,
        network.spec.findings, network.spec.structures,
    )


def network_size(network: Network) -> dict[str, int]:
    """Learnt parameters, and bytes of all that the weights' file holds."""
    held = list(network.state_dict().values())
    return {"parameters": count_parameters(network), "bytes": sum(t.numel() * t.element_size() for t in held)}


def network_speeds(
    networks: Mapping[str, Network], examples: Examples, *, clock: Callable[[], float], batches: int = 9,
    batch_sizes: Sequence[int] = (1, 16),
) -> dict[str, object]:
    """How fast each network passes the same batch (no report written), and how many times faster the first one is.

    The first network is the student. All run under onnxruntime, as a student does when a story is told, one after the
    other: two sessions at once would wait for each other's threads. Units: `clock` counts seconds. Plain values, for a
    file beside the scorecard.
    """
    sizes = sorted({min(size, len(examples)) for size in batch_sizes})
    rows: list[ModelSpeed] = []
    first: dict[int, float] = {}
    for name, network in networks.items():
        session = as_session(network)
        for size in sizes:
            feed = {"images": make_batch(examples, np.arange(size), 0).images.numpy()}
            found = images_per_second(partial(session.run, None, feed), batch_size=size, batches=batches, clock=clock)
            ratio = first[size] / found.images_per_second if size in first else None
            first.setdefault(size, found.images_per_second)
            rows.append(ModelSpeed(**vars(found), name=name, student_times_faster=ratio))
    return Speeds(tuple(rows)).as_dict()


def _inside(shares: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels of which at least half is inside, from shares in 0..100 or UNKNOWN_PIXEL."""
    return np.asarray((shares >= 50) & (shares != UNKNOWN_PIXEL))


def _both(drawn: NDArray[np.bool_], masks: NDArray[np.uint8], union: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Dice of the first two structures as one, from outlines told apart where there are any. Shapes: [N], nan: no reference."""
    out = np.full(len(drawn), np.nan)
    for row in range(len(drawn)):
        sides = masks[row, :2]
        told = (sides != UNKNOWN_PIXEL).any(axis=(1, 2)).all()
        ignore = (sides == UNKNOWN_PIXEL).any(axis=0) if told else union[row] == UNKNOWN_PIXEL
        if not ignore.all():
            reference = np.asarray(_inside(sides).any(axis=0)) if told else _inside(union[row])
            out[row] = dice(np.asarray(drawn[row, :2].any(axis=0)), reference, ignore=ignore)
    return out


def _dice(drawn: NDArray[np.bool_], masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    out = np.full(drawn.shape[:2], np.nan)
    for row in range(len(drawn)):
        for part in range(drawn.shape[1]):
            reference = masks[row, part]
            if (reference != UNKNOWN_PIXEL).any():
                out[row, part] = dice(drawn[row, part], _inside(reference), ignore=reference == UNKNOWN_PIXEL)
    return out


def _apart(drawn: NDArray[np.bool_], masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Average and 95 % Hausdorff distance of the outlines, in cells of the mask grid. Shapes: [N, C, 2]."""
    out = np.full((*drawn.shape[:2], 2), np.nan)
    for row, part in np.ndindex(*drawn.shape[:2]):
        ignore = masks[row, part] == UNKNOWN_PIXEL
        if not ignore.all():
            found = surface_distances(drawn[row, part], _inside(masks[row, part]), ignore=ignore)
            if found.average is not None and found.hausdorff_95 is not None:
                out[row, part] = found.average, found.hausdorff_95
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
