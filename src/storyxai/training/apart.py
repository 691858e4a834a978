"""Processes of our own making: what goes to them, what comes back, how many threads each may use, and how a process that
trains keeps its memory.

They are spawned, so everything crosses as bytes. A result left in the launcher's queue would wait for a reader that waits
for the process to end, and a tensor in it would be a handle that dies with its sender: so results and errors cross as files.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from storyxai.errors import InputError, OutputError, RecipeError, StoryxaiError, TableError, WeightsError
from storyxai.files import write_whole
from storyxai.progress import Progress

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from lightning_fabric import Fabric
    from torch import Tensor

__all__ = ["Trained", "launched", "memory_kept", "side_by_side", "threads_each"]

Trained: TypeAlias = "tuple[dict[str, Tensor], list[dict[str, float]], int]"
"""Weights by name, the history's rows, and the number of steps."""
_KINDS = {kind.__name__: kind for kind in (OutputError, RecipeError, TableError, WeightsError)}
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # M_TRIM_THRESHOLD and its like in glibc's malloc.h
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
# Where glibc itself ends in a process that has once freed a block of 32 MiB: it cannot be asked what it stood at.
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}
_RESULT, _ANSWER, _ERROR = "result.safetensors", "answer.json", "error.json"


def threads_each(processes: int, *, given: int) -> int:
    """How many threads each of `processes` on this machine may use: its share of the cores, never more than `given`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(given, cores // processes))


@contextmanager
def memory_kept() -> Iterator[None]:
    """Within it freed memory waits for the next tensor instead of going back to the system, up to 2 GiB of it (Linux, glibc).

    A step frees and asks for the same large tensors over and over; of memory that was given back each page is cleared and
    mapped anew, which took a fifth of a step on the CPU. At the end what is free goes back.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    for option, value in _KEPT.items():
        libc.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in _USUAL.items():
            libc.mallopt(option, value)
        libc.malloc_trim(0)


def launched(
    fabric: Fabric, work: Callable[[Fabric, Progress], Trained], *, progress: Progress | None = None
) -> Trained:
    """What `work` gives in the first of the fabric's processes; what that one tells its progress is told to ours.

    `work` must be importable where it is unpickled. Raises: what `work` raises of ours, as it was raised.
    """
    from safetensors import safe_open
    from torch.multiprocessing import get_context
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

    ear, mouth = get_context("spawn").Pipe(duplex=False)
    listener = threading.Thread(target=_relay, args=(ear, progress), daemon=True)
    listener.start()
    with tempfile.TemporaryDirectory(prefix="storyxai-") as folder:
        # Inside the function, not as arguments: those are walked through by the launcher, which no frozen value allows.
        errand = functools.partial(_run, work=work, folder=folder, mouth=mouth)
        try:
            fabric.launch(errand)
        except (ProcessRaisedException, ProcessExitedException) as error:
            told = Path(folder) / _ERROR
            raise (_error_of(told) if told.exists() else StoryxaiError(str(error))) from error
        finally:
            mouth.close()
            listener.join(timeout=5)
            ear.close()
        with safe_open(Path(folder) / _RESULT, framework="pt") as opened:
            record = json.loads(opened.metadata()["record"])
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
    return weights, record["history"], int(record["steps"])


def side_by_side(
    work: Mapping[str, Callable[[Progress], object]], *, at_once: int, progress: Progress | None = None
) -> dict[str, object]:
    """What each of `work` gives (plain JSON values), each in a process of its own, `at_once` at a time, begun in order.

    Each is told where to tell its progress, must survive pickling with what it holds, and computes on its share of the
    cores. Raises: what the first that fails raises of ours; the others are then ended.
    """
    import torch
    from torch.multiprocessing import get_context

    context = get_context("spawn")
    threads = threads_each(at_once, given=torch.get_num_threads())
    waiting, running = list(work.items()), dict[str, "BaseProcess"]()
    places, given = dict[str, Path](), dict[str, object]()
    with tempfile.TemporaryDirectory(prefix="storyxai-") as place:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    name, one = waiting.pop(0)
                    own = Path(place) / str(len(waiting))
                    own.mkdir()
                    places[name] = own / _ANSWER
                    running[name] = _begin(context, one, own, threads, progress)
                wait([process.sentinel for process in running.values()])
                for name in [name for name, process in running.items() if process.exitcode is not None]:
                    running.pop(name).join()
                    if not places[name].exists():
                        told = places[name].with_name(_ERROR)
                        raise _error_of(told) if told.exists() else StoryxaiError(f"the process of {name} was lost")
                    given[name] = json.loads(places[name].read_bytes())
        finally:
            for process in running.values():
                process.terminate()
                process.join()
    return {name: given[name] for name in work}


def _begin(
    context: Any, one: Callable[[Progress], Any], folder: Path, threads: int, progress: Progress | None
) -> BaseProcess:
    """The process that has begun with `one`; what it tells is told to `progress` as long as it lives."""
    ear, mouth = context.Pipe(duplex=False)
    process: BaseProcess = context.Process(target=_run_one, args=(one, folder, threads, mouth))
    process.start()
    mouth.close()
    threading.Thread(target=_relay, args=(ear, progress), daemon=True).start()
    return process


def _run_one(one: Callable[[Progress], Any], folder: Path, threads: int, mouth: Connection) -> None:
    import torch

    torch.set_num_threads(threads)

    def tell(said: str, done: int, total: int) -> None:
        mouth.send((said, done, total))

    try:
        write_whole(json.dumps(one(tell)).encode(), folder / _ANSWER)
    except StoryxaiError as error:
        _leave_error(error, folder / _ERROR)


def _run(fabric: Fabric, work: Callable[[Fabric, Progress], Trained], folder: str, mouth: Connection) -> None:
    from safetensors.torch import save

    def tell(said: str, done: int, total: int) -> None:
        mouth.send((said, done, total))

    try:
        weights, history, steps = work(fabric, tell)
        if fabric.is_global_zero:
            record = json.dumps({"history": history, "steps": steps})
            whole = {name: tensor.contiguous() for name, tensor in weights.items()}
            result = Path(folder) / _RESULT
            write_whole(save(whole, metadata={"record": record}), result, mend="free some space there; the run goes on")
    except StoryxaiError as error:
        _leave_error(error, Path(folder) / _ERROR)
        raise  # so that the launcher ends the others, which would wait for this one


def _leave_error(error: StoryxaiError, path: Path) -> None:
    """Nothing; the error stands at `path` as text, whole (every process may write it; the last one stays)."""
    parts = {"what": error.what, "why": error.why, "mend": error.mend} if isinstance(error, InputError) else {}
    with suppress(OutputError):  # no room for it: the launcher's own account of the error has to do
        write_whole(json.dumps({"kind": type(error).__name__, "said": str(error), **parts}).encode(), path)


def _error_of(path: Path) -> StoryxaiError:
    """The error that `_leave_error` left, of the same kind where a training raises it itself."""
    record = json.loads(path.read_text(encoding="utf-8"))
    if "why" not in record:
        return StoryxaiError(record["said"])
    return _KINDS.get(record["kind"], InputError)(record["what"], record["why"], mend=record["mend"])


def _relay(ear: Connection, progress: Progress | None) -> None:
    """Nothing; all that is said is told to `progress`, until the last process that could speak has gone."""
    while True:
        try:
            said, done, total = ear.recv()
        except (EOFError, OSError):
            return
        if progress is not None:
            progress(said, done, total)
