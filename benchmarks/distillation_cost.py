"""What an epoch of distillation from cached answers costs beside an epoch of plain training of the same student.

    python benchmarks/distillation_cost.py [--count 96] [--size 96] [--epochs 3] [--encoder mobilenetv3_small_100]

Both run through `fit` on the same phantoms, in turns, on one thread; the first epoch of each warms up and is left out.
Prints seconds an epoch, their ratio, and the resident memory after each turn.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from storyxai.data.assemble import examples_from_phantoms
from storyxai.data.batches import Examples
from storyxai.modalities.chest_radiograph.grammar import GRAMMAR
from storyxai.models.network import Network, NetworkSpec
from storyxai.models.tokens import encode_tokens, full_vocabulary
from storyxai.training.fit import FitConfig, RunOptions, fit
from storyxai.training.soft_targets import TeacherTargets, cache_targets

WORDS = full_vocabulary(GRAMMAR.vocabulary())


def network_of(size: int, encoder: str, seed: int) -> Network:
    """A network with all three heads."""
    torch.manual_seed(seed)
    return Network(NetworkSpec(encoder=encoder, size=size, vocabulary=WORDS))


def epoch_seconds(
    train: Examples, targets: tuple[TeacherTargets, ...], *, size: int, encoder: str, epochs: int
) -> list[float]:
    """Processor seconds of each epoch but the first: another program's turn on the core does not count."""
    ends: list[float] = []
    last = 0

    def watch(_said: str, step: int, total: int) -> None:
        nonlocal last
        if step * epochs // total > last:
            last = step * epochs // total
            ends.append(time.process_time())

    config = FitConfig(epochs=epochs, batch_size=16, views=2)
    fit(network_of(size, encoder, 0), train, config=config, targets=targets, run=RunOptions(progress=watch))
    return np.diff(ends).tolist()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--encoder", default="mobilenetv3_small_100")
    given = parser.parse_args()
    torch.set_num_threads(1)
    train = examples_from_phantoms(
        range(given.count), size=given.size, phantom_size=128,
        encode=lambda tokens: encode_tokens(tokens, WORDS, length=64),
    )
    seconds: dict[str, list[float]] = {"plain": [], "distilled": []}
    with tempfile.TemporaryDirectory() as folder:
        teacher = network_of(given.size, given.encoder, 1)
        teachers = dict.fromkeys(("findings", "masks", "report"), teacher)
        targets = cache_targets(teachers, train, views=2, folder=Path(folder))
        for turn in range(given.turns):
            for kind, answers in (("plain", ()), ("distilled", targets)):
                seconds[kind] += epoch_seconds(
                    train, answers, size=given.size, encoder=given.encoder, epochs=given.epochs
                )
                held = psutil.Process().memory_info().rss / 2**20
                sys.stdout.write(f"turn {turn + 1}, {kind}: resident {held:.0f} MiB\n")
    plain, distilled = (float(np.median(values)) for values in seconds.values())
    sys.stdout.write(
        f"{given.count} images of {given.size} px, {given.encoder}: plain {plain:.2f} s an epoch, "
        f"distilled {distilled:.2f} s, {distilled / plain:.2f} times\n"
    )


if __name__ == "__main__":
    main()
