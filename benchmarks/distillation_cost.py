"""What an epoch of distillation from cached answers costs beside an epoch of plain training of the same student.

    python benchmarks/distillation_cost.py [--count 96] [--size 96] [--epochs 3] [--batch 16] [--encoder mobilenetv3_small_100]

Both run through `fit` on the same phantoms, in turns, on one thread; the first epoch of each warms up and is left out.
Prints seconds an epoch, their ratio, and the resident memory after each turn. A third turn trains plainly while freed memory
goes back to the system as the C library likes it, which is what `memory_kept` saves.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch

from storyxai.data.assemble import examples_from_phantoms
from storyxai.data.batches import Examples
from storyxai.modalities.chest_radiograph.grammar import GRAMMAR
from storyxai.models.network import Network, NetworkSpec
from storyxai.models.tokens import encode_tokens, full_vocabulary
from storyxai.training import fit as fit_module
from storyxai.training.apart import memory_kept
from storyxai.training.fit import FitConfig, RunOptions, fit
from storyxai.training.soft_targets import TeacherTargets, cache_targets

WORDS = full_vocabulary(GRAMMAR.vocabulary())


def network_of(size: int, encoder: str, seed: int) -> Network:
    """A network with all three heads."""
    torch.manual_seed(seed)
    return Network(NetworkSpec(encoder=encoder, size=size, vocabulary=WORDS))


def epoch_seconds(
    train: Examples, targets: tuple[TeacherTargets, ...], *, encoder: str, config: FitConfig,
    memory: Callable[[], contextlib.AbstractContextManager[None]] = memory_kept,
) -> list[float]:
    """Processor seconds of each epoch but the first: another program's turn on the core does not count."""
    ends: list[float] = []
    last = 0

    def watch(_said: str, step: int, total: int) -> None:
        nonlocal last
        if step * config.epochs // total > last:
            last = int(step * config.epochs // total)
            ends.append(time.process_time())

    fit_module.memory_kept = memory  # type: ignore[attr-defined]
    fit(network_of(train.images.shape[-1], encoder, 0), train, config=config, targets=targets, run=RunOptions(progress=watch))
    return np.diff(ends).tolist()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--encoder", default="mobilenetv3_small_100")
    given = parser.parse_args()
    torch.set_num_threads(1)
    config = FitConfig(epochs=given.epochs, batch_size=given.batch, views=2)
    train = examples_from_phantoms(
        range(given.count), size=given.size, phantom_size=128,
        encode=lambda tokens: encode_tokens(tokens, WORDS, length=64),
    )
    seconds: dict[str, list[float]] = {"plain": [], "distilled": [], "given back": []}
    with tempfile.TemporaryDirectory() as folder:
        teacher = network_of(given.size, given.encoder, 1)
        teachers = dict.fromkeys(("findings", "masks", "report"), teacher)
        targets = cache_targets(teachers, train, views=2, folder=Path(folder))
        for turn in range(given.turns):
            for kind, taken in seconds.items():
                taken += epoch_seconds(
                    train, targets if kind == "distilled" else (), encoder=given.encoder, config=config,
                    memory=contextlib.nullcontext if kind == "given back" else memory_kept,
                )
                held = psutil.Process().memory_info().rss / 2**20
                sys.stdout.write(f"turn {turn + 1}, {kind}: resident {held:.0f} MiB\n")
    plain, distilled, given_back = (float(np.median(values)) for values in seconds.values())
    sys.stdout.write(
        f"{given.count} images of {given.size} px, batches of {given.batch}, {given.encoder}: plain {plain:.2f} s an epoch, "
        f"distilled {distilled:.2f} s, {distilled / plain:.2f} times; plain, memory given back {given_back:.2f} s, "
        f"{given_back / plain:.2f} times\n"
    )


if __name__ == "__main__":
    main()
