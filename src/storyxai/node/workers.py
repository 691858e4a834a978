"""Telling in processes of their own: one that runs out of memory or time is lost alone, and its study is tried again.

A process is given a study's films and an empty folder, and fills the folder. Only this process moves what is complete, so that
a process whose parent was killed can spoil nothing. Where the system can, they are forked from one that has imported what they
need and does nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from storyxai.errors import OutputError, StoryxaiError
from storyxai.files import MORE_ROOM
from storyxai.node.press import Page, Press, Printed

FORKED, SPAWNED = "forkserver", "spawn"


@dataclass(frozen=True)
class ToldFilm:
    """A film that was told: the study's id, the evidence and the model that it came of, and the folder of its objects."""

    film: str
    study: str
    evidence_sha256: str
    model: str
    weights_sha256: str
    software: str
    objects: str


@dataclass(frozen=True)
class RefusedFilm:
    """A film that was not told: the kind of the reason, and the reason in words (which stay in the queue's folder)."""

    film: str
    kind: str
    why: str


@dataclass(frozen=True)
class Outcome:
    """What came of a study's films."""

    told: tuple[ToldFilm, ...]
    refused: tuple[RefusedFilm, ...] = ()


@dataclass(frozen=True)
class _Full:
    """The disk took no more: that is no fault of the study."""

    why: str


Teller = Callable[[Sequence[Path], Path, Press], Outcome]
"""Tells films and leaves stories/ and objects/ in a folder. Must be picklable: it is called in another process."""
Prints = Callable[[Page], Printed]
"""Prints a page for a process that tells."""


def import_ahead(modules: Sequence[str]) -> None:
    """Begin to import, in the process that workers are forked from, what all of them need; nothing where none can be forked.

    There numpy multiplies in one thread, unless OMP_NUM_THREADS says otherwise: the processes share the cores, and threads that
    wait for one another at full speed took an eighth of the time in which a film is told. The bytes are the same.
    """
    if FORKED in multiprocessing.get_all_start_methods():
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        multiprocessing.get_context(FORKED).set_forkserver_preload(list(modules))
        forkserver.ensure_running()


def _no_browser(_: Page) -> Printed:
    return Printed(why="no browser was set up")


class WorkerLost(StoryxaiError):
    """The process died, took too long, or met a fault of ours; `reason` says which in one word."""

    def __init__(self, reason: str, why: str = "") -> None:
        self.reason = reason
        super().__init__(f"telling: {reason} {why}".rstrip())


class Worker:
    """One process that tells study after study; a new one takes its place where it was lost, or has told many."""

    def __init__(self, teller: Teller, *, seconds: float, studies: int, prints: Prints = _no_browser) -> None:
        self._teller, self._seconds, self._studies, self._prints = teller, seconds, studies, prints
        self._process: Any = None
        self._pipe: Connection | None = None
        self._told = 0

    def tell(self, films: Sequence[Path], out: Path) -> Outcome:
        """What the process made of the films, in `out`. Raises: WorkerLost; OutputError where the disk takes no more."""
        pipe = self._ready()
        try:
            pipe.send((list(films), out))
            answer = self._heard(pipe)
        except (EOFError, OSError) as error:
            self.stop()
            raise WorkerLost("died") from error
        except WorkerLost:
            self.stop()
            raise
        self._told += 1
        if isinstance(answer, Outcome):
            return answer
        if isinstance(answer, _Full):
            raise OutputError("queue", answer.why, mend=MORE_ROOM)
        raise WorkerLost("fault", str(answer))

    def start(self) -> None:
        """Start the process before there is anything to tell."""
        self._ready()

    def _heard(self, pipe: Connection) -> Any:
        """What the process says in the end; pages that it wants to have printed meanwhile are printed."""
        ends = time.monotonic() + self._seconds
        while pipe.poll(max(0.0, ends - time.monotonic())):
            answer = pipe.recv()
            if not isinstance(answer, Page):
                return answer
            pipe.send(self._prints(answer))
        raise WorkerLost("too_long", f"(more than {self._seconds:g} s)")

    def kill(self) -> None:
        """End the process from another thread than the one that tells: that one sees it die."""
        process = self._process
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join(10)
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _ready(self) -> Connection:
        if self._told >= self._studies or (self._process is not None and not self._process.is_alive()):
            self.stop()
        if self._process is None or self._pipe is None:
            context: Any = multiprocessing.get_context(FORKED if FORKED in multiprocessing.get_all_start_methods() else SPAWNED)
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(self._teller, theirs), daemon=True, name="storyxai-teller")
            process.start()
            theirs.close()
            self._process, self._pipe, self._told = process, ours, 0  # known to `kill` only now that it runs
        return self._pipe


def _work(teller: Teller, pipe: Connection) -> None:
    """What the process does until its parent is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    press = Press(pipe)
    while True:
        try:
            films, out = pipe.recv()
        except EOFError:
            return
        said = _said(teller, films, out, press)
        press.clear()
        pipe.send(said)


def _said(teller: Teller, films: Sequence[Path], out: Path, press: Press) -> Outcome | _Full | str:
    try:
        return teller(films, out, press)
    except OutputError as error:
        return _Full(error.why)
    except Exception as error:  # whatever it is, the study is tried again and then set aside
        return f"{type(error).__name__}: {error}"


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
