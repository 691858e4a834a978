"""A training that was killed ends with the very same weights; two processes learn as one with the same batch does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fit_processes import ALONE, KILL_AT, KILLED, killed_run, shared_run


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The children have one thread each; sums of another number of threads differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the child processes leave behind; they are forked, so once for all tests here."""
    if sys.platform == "win32":
        pytest.skip("needs fork")
    path = tmp_path_factory.mktemp("processes")
    program = Path(__file__).with_name("fit_processes.py")
    ended = subprocess.run([sys.executable, str(program), str(path)], capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return path


def test_a_killed_training_ends_with_the_weights_of_one_that_was_left_alone(folder: Path) -> None:
    from safetensors import safe_open

    with safe_open(folder / "killed" / "checkpoint.safetensors", framework="pt") as opened:
        assert '"step": 4, "epoch": 1, "batch": 1' in opened.metadata()["record"] and KILL_AT == 5
    whole, resumed = killed_run(None), killed_run(folder / "killed")
    assert whole.steps == resumed.steps == 3 * KILLED.epochs
    assert resumed.losses == whole.losses and resumed.history == whole.history
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], tensor), name
    again = killed_run(folder / "killed")  # nothing is left to do
    assert again.losses == whole.losses and again.steps == whole.steps
    assert sorted(path.name for path in (folder / "killed").iterdir()) == [
        "checkpoint.safetensors", "curves.png", "events", "log.csv"
    ]


def test_two_processes_have_the_loss_curve_of_one(folder: Path) -> None:
    # Every shard states as much as the other (view 0, all reports there), nothing is drawn and norms are frozen: so the
    # numbers are the same up to the order of addition in float32, which four steps of training let grow to 1e-5 or so.
    from safetensors.torch import load_file

    alone = shared_run(ALONE)
    first, second = (load_file(folder / f"rank-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert first.pop("losses").numpy() == pytest.approx(alone.losses, rel=5e-5)
    apart = max(float((first[name] - tensor).abs().max()) for name, tensor in alone.network.state_dict().items())
    assert apart < 1e-3
    assert alone.losses[1] < alone.losses[0]
