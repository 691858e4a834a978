"""Checkpoints: what is put back is what was there, a broken or foreign one is refused, a full disk spares the last one."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from storyxai.data.batches import Examples
from storyxai.errors import OutputError, RecipeError, WeightsError
from storyxai.training.balance import make_balancer
from storyxai.training.checkpoint import TrainingState, read_checkpoint, training_mark, write_checkpoint
from storyxai.training.config import FitConfig, TrainingRecipe
from storyxai.training.soft_targets import TeacherTargets
from teaching_examples import tiny_network, toy_examples

WEIGHTS = {"findings": 1.0, "masks": 0.5}


def state_of(seed: int, *, balance: str = "uncertainty") -> TrainingState:
    """A state whose every tensor and number depends on `seed`, after a real step of the optimizer."""
    network, average = (tiny_network(tasks=("findings",), seed=seed + i) for i in range(2))
    network.to(memory_format=torch.channels_last)
    balancer = make_balancer(balance, WEIGHTS)
    optimizer = torch.optim.AdamW([*network.parameters(), *balancer.parameters()], lr=1e-3)
    generator = torch.Generator().manual_seed(seed)
    learnt = list(network.parameters())
    learnt[0].requires_grad_(False)  # a frozen one has no moments to keep
    for parameter in (*learnt[1:], *balancer.parameters()):
        parameter.grad = torch.rand(parameter.shape, generator=generator)
    optimizer.step()
    state = TrainingState(network, average, optimizer, balancer, step=seed, epoch=seed + 1, batch=seed + 2)
    state.sums, state.history = {"loss": 0.1 + seed}, [{"loss": 1 / (3 + seed)}]
    state.best = {"weight": torch.full((2,), float(seed))}
    return state


def everything(state: TrainingState) -> list[torch.Tensor]:
    moments = [
        state.optimizer.state[p][key]
        for group in state.optimizer.param_groups for p in group["params"] if p in state.optimizer.state
        for key in sorted(state.optimizer.state[p])
    ]
    kept = [value for value in state.balancer.state_dict().values() if isinstance(value, torch.Tensor)]
    return [*state.network.state_dict().values(), *state.average.state_dict().values(), *moments, *kept, *state.best.values()]


def test_what_is_put_back_is_what_was_there(tmp_path: Path) -> None:
    one, other = state_of(1), state_of(5)
    path = tmp_path / "run" / "checkpoint.safetensors"
    assert not read_checkpoint(other, path, mark="a")
    write_checkpoint(one, path, mark="a")
    assert read_checkpoint(other, path, mark="a")
    assert len(everything(one)) == len(everything(other)) > 50
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(everything(one), everything(other), strict=True))
    for ours, theirs in zip(one.optimizer.state.values(), other.optimizer.state.values(), strict=True):
        assert ours["exp_avg"].stride() == theirs["exp_avg"].stride()
    assert (other.step, other.epoch, other.batch, other.sums, other.history) == (1, 2, 3, one.sums, one.history)
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.safetensors"]


def test_numbers_of_a_balancer_are_put_back_too(tmp_path: Path) -> None:
    one, other = (state_of(seed, balance="dwa") for seed in (1, 2))
    for means in ({"findings": 3.0, "masks": 2.0}, {"findings": 1.0, "masks": 1.9}):
        one.balancer.end_epoch(means)
    write_checkpoint(one, tmp_path / "c.safetensors", mark="")
    read_checkpoint(other, tmp_path / "c.safetensors", mark="")
    assert other.balancer.state_dict() == one.balancer.state_dict() != {}


def test_a_full_disk_is_said_and_spares_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(state_of(1), path, mark="a")
    before = path.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"checkpoint of step 2 cannot be written \(No space left.*free some space"):
        write_checkpoint(state_of(2), path, mark="a")
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == [path.name]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def no_record(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"network.a": torch.zeros(1)}, path)


def other_shape(path: Path) -> None:
    state = state_of(1)
    state.network = tiny_network(tasks=("findings",))
    state.network.finding_head.out = torch.nn.Conv2d(16, 7, 1)
    write_checkpoint(state, path, mark="a")


@pytest.mark.parametrize("spoil", [cut, no_record, other_shape, lambda path: path.write_bytes(b"\x80\x04pickle")])
def test_a_broken_checkpoint_is_refused_by_name(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(state_of(1), path, mark="a")
    spoil(path)
    with pytest.raises(WeightsError, match=r"checkpoint\.safetensors: is no checkpoint .*remove it"):
        read_checkpoint(state_of(2), path, mark="a")


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    write_checkpoint(state_of(1), tmp_path / "c.safetensors", mark="a")
    with pytest.raises(RecipeError, match=r"another recipe.*name another folder"):
        read_checkpoint(state_of(1), tmp_path / "c.safetensors", mark="b")


def test_the_mark_of_a_training_changes_with_all_that_decides_its_outcome() -> None:
    network, train, config = tiny_network(tasks=("findings",)), toy_examples(4), FitConfig(epochs=2)
    mark = training_mark(network, train, config, (), None)
    often = dataclasses.replace(config, training=TrainingRecipe(checkpoint_steps=3))
    assert training_mark(tiny_network(tasks=("findings",)), toy_examples(4), often, (), None) == mark
    others = [
        training_mark(tiny_network(tasks=("findings",), seed=1), train, config, (), None),
        training_mark(network, toy_examples(4, seed=1), config, (), None),
        training_mark(network, dataclasses.replace(train, labels=1 - train.labels), config, (), None),
        training_mark(network, train, dataclasses.replace(config, epochs=3), (), None),
        training_mark(network, train, dataclasses.replace(config, training=TrainingRecipe(ema_decay=0.5)), (), None),
        training_mark(network, train, config, (), train.labels[0]),
        training_mark(network, dataclasses.replace(train, masks=1 - train.masks), config, (), None),
        training_mark(network, train, config, (answers_of(train, 0.0),), None),
        training_mark(network, train, config, (answers_of(train, 1.0),), None),
    ]
    assert len({mark, *others}) == 10


def answers_of(train: Examples, mask_logit: float) -> TeacherTargets:
    """A teacher who knows nothing of findings and draws the same everywhere."""
    unknown = np.full(train.labels.shape, np.nan, dtype=np.float32)
    masks = np.full(train.masks.shape, mask_logit, dtype=np.float16)
    return TeacherTargets(0, unknown, masks, np.zeros((0,), np.float16), np.full(len(train), -1))
