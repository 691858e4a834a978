"""A training that was killed ends with the very same weights; two processes learn as one with the same batch does."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickle
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from fit_processes import ALONE, KILL_AT, KILLED, TOGETHER, killed_run, shared_run, stated_alike, without_dropout

from storyxai.errors import OutputError, RecipeError, StoryxaiError, UnknownNameError
from storyxai.training import apart
from storyxai.training import fit as fit_module
from storyxai.training.apart import memory_kept, threads_each


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_processes_of_our_own_learn_alike_and_tell_what_happens(folder: Path) -> None:
    from safetensors.torch import load_file

    started, own = load_file(folder / "rank-0.safetensors"), load_file(folder / "own.safetensors")
    assert own.pop("losses").numpy() == pytest.approx(started.pop("losses").numpy(), rel=5e-5)
    assert max(float((own[name] - tensor).abs().max()) for name, tensor in started.items()) < 1e-3
    record = json.loads((folder / "own.json").read_text())
    assert [step for _, step, _ in record["told"]] == [1, 2, 3, 4]
    assert record["told"][-1][0].startswith("network: epoch 2/2, loss ")
    kind, said = record["error"]
    assert kind == "RecipeError" and said.startswith("broken: the loss of findings is not a number at step 0 — lower")
    assert (folder / "own" / "curves.png").is_file() and (folder / "own" / "log.csv").is_file()


def test_what_goes_to_a_process_can_be_sent() -> None:
    job = fit_module._Job(without_dropout(), stated_alike(), None, TOGETHER, (), None, fit_module.RunOptions("toy"))
    sent = pickle.loads(pickle.dumps(functools.partial(fit_module._train_apart, job=job)))
    assert sent.keywords["job"].train.ids == job.train.ids


def test_threads_are_shared_among_processes_and_never_more_than_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    assert [threads_each(count, given=8) for count in (1, 2, 3, 8, 16)] == [8, 4, 2, 1, 1]
    assert threads_each(2, given=1) == 1


def test_an_error_keeps_its_kind_on_the_way_back(tmp_path: Path) -> None:
    for error in (
        RecipeError("toy", "cannot work", mend="mend it"), OutputError("disk", "is full", mend="free some"),
        StoryxaiError("something else"), UnknownNameError("finding", "Effusio", ["Effusion"]),
    ):
        apart._leave_error(error, tmp_path / "error.json")
        back = apart._error_of(tmp_path / "error.json")
        assert str(back) == str(error) and back.exit_status == error.exit_status
        assert type(back) is type(error) or isinstance(error, UnknownNameError)
    assert [path.name for path in tmp_path.iterdir()] == ["error.json"]


def faults(*, rounds: int = 12) -> int:
    """How many pages the system had to map while a tensor of 64 MiB is made and thrown away again."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def memory_goes_and_comes() -> bool:
    given_back = faults()
    with memory_kept():
        kept = faults()
        resident = psutil.Process().memory_info().rss
    back = psutil.Process().memory_info().rss <= resident - (60 << 20)
    return kept < given_back / 4 and back and faults() > 4 * kept  # at the end as it was before


def test_memory_of_freed_tensors_is_kept_for_the_next_and_given_back_at_the_end() -> None:
    # What other threads of a busy process take in between is counted too: one turn of several must be undisturbed.
    assert any(memory_goes_and_comes() for _ in range(8))


def test_weights_do_not_depend_on_whether_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = shared_run(ALONE).network.state_dict()
    monkeypatch.setattr(fit_module, "memory_kept", contextlib.nullcontext)
    for name, tensor in shared_run(ALONE).network.state_dict().items():
        assert torch.equal(tensor, kept[name]), name


def test_elsewhere_than_on_glibc_memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart.sys, "platform", "darwin")
    asked: list[object] = []
    monkeypatch.setattr(apart.ctypes, "CDLL", asked.append)
    with memory_kept():
        pass
    assert not asked
    monkeypatch.setattr(apart.sys, "platform", "linux")
    musl = SimpleNamespace(malloc_trim=asked.append)  # it has no mallopt
    monkeypatch.setattr(apart.ctypes, "CDLL", lambda _name: musl)
    with memory_kept():
        pass
    assert not asked
