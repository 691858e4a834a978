"""Run by test_fit_processes.py as a program: trainings that need processes of their own, forked after one slow import.

    python fit_processes.py FOLDER      leaves FOLDER/killed/checkpoint.safetensors, FOLDER/rank-N.safetensors and
                                        FOLDER/own.safetensors with FOLDER/own.json
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import sys
from pathlib import Path

import lightning_fabric  # noqa: F401 - what the children would each import is imported before they are forked
import matplotlib.figure  # noqa: F401
import numpy as np
import tensorboardX  # noqa: F401
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from storyxai.data.batches import Examples
from storyxai.errors import StoryxaiError
from storyxai.models.network import Network
from storyxai.training import fit as fit_module
from storyxai.training.config import FitConfig, TrainingRecipe
from storyxai.training.fit import FitResult, RunOptions, fit
from teaching_examples import tiny_network, toy_examples

KILLED = FitConfig(
    epochs=3, batch_size=4, learning_rate=3e-3, seed=5, balance="uncertainty",
    training=TrainingRecipe(checkpoint_steps=2, rare_share=0.6, stop_metric="validation_loss", patience=3),
)
KILL_AT = 5  # of nine steps: in the middle of the second epoch, one step after a checkpoint

TOGETHER = FitConfig(
    epochs=2, batch_size=6, learning_rate=3e-3, views=1, seed=7, training=TrainingRecipe(frozen_norms=True, processes=2)
)
ALONE = dataclasses.replace(TOGETHER, training=TrainingRecipe(frozen_norms=True))


def killed_run(folder: Path | None, *, kill_at: int = 0) -> FitResult:
    """The training that a signal ends after step `kill_at`, if that is not 0."""

    def watch(_said: str, step: int, _total: int) -> None:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    return fit(
        tiny_network(), toy_examples(12), config=KILLED, validation=toy_examples(4, seed=1),
        run=RunOptions(folder=folder, progress=watch if kill_at else None),
    )


def stated_alike() -> Examples:
    """Examples of which every shard states as much as any other: all have a report."""
    examples = toy_examples(16)
    return examples.take(np.flatnonzero((examples.tokens != 0).any(axis=1)))


def without_dropout() -> Network:
    """A tiny network that draws nothing."""
    network = tiny_network()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return network


def shared_run(config: FitConfig, run: RunOptions | None = None) -> FitResult:
    """The training that one process or two do."""
    return fit(without_dropout(), stated_alike(), config=config, run=run or RunOptions())


def own_run(folder: Path) -> None:
    """The same by processes that `fit` makes itself (forked here; users' are spawned), and one that cannot work."""
    fit_module._OWN_PROCESSES = "ddp_fork"
    told: list[tuple[str, int, int]] = []
    result = shared_run(TOGETHER, RunOptions(folder=folder / "own", progress=lambda *said: told.append(said)))
    state = {name: tensor.contiguous() for name, tensor in result.network.state_dict().items()}
    save_file({**state, "losses": torch.tensor(result.losses, dtype=torch.float64)}, folder / "own.safetensors")
    broken, error = without_dropout(), None
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    try:
        fit(broken, stated_alike(), config=TOGETHER, run=RunOptions("broken"))
    except StoryxaiError as raised:
        error = [type(raised).__name__, str(raised)]
    (folder / "own.json").write_text(json.dumps({"told": told, "error": error}))


def main(folder: Path) -> None:
    """Fork: a child to be killed, two that train together as torchrun would have started them, one that forks its own two."""
    torch.set_num_threads(1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for child in (-2, -1, 0, 1):
        pid = os.fork()
        if pid:
            children.append(pid)
            continue
        if child == -2:
            own_run(folder)
            os._exit(0)
        if child == -1:
            killed_run(folder / "killed", kill_at=KILL_AT)
            os._exit(0)
        os.environ |= {
            "RANK": str(child), "LOCAL_RANK": str(child), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test",
        }
        result = shared_run(TOGETHER)
        state = {name: tensor.contiguous() for name, tensor in result.network.state_dict().items()}
        save_file({**state, "losses": torch.tensor(result.losses, dtype=torch.float64)}, folder / f"rank-{child}.safetensors")
        os._exit(0)
    ended = [os.waitpid(pid, 0)[1] for pid in children]
    sys.exit(0 if ended == [0, signal.SIGKILL, 0, 0] else f"children ended with {ended}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
