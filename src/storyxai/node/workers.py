"""Telling in processes of their own: one that runs out of memory or time is lost alone, and its study is tried again.

A process is given a study's films and an empty folder, and fills the folder. Only this process moves what is complete, so that
a process whose parent was killed can spoil nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from storyxai.errors import OutputError, StoryxaiError
from storyxai.files import MORE_ROOM

__all__ = ["Outcome", "RefusedFilm", "Teller", "ToldFilm", "Worker", "WorkerLost"]


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


Teller = Callable[[Sequence[Path], Path], Outcome]
"""Tells films and leaves stories/ and objects/ in a folder. Must be picklable: it is called in another process."""


class WorkerLost(StoryxaiError):
    """The process died, took too long, or met a fault of ours; `reason` says which in one word."""

    def __init__(self, reason: str, why: str = "") -> None:
        self.reason = reason
        super().__init__(f"telling: {reason} {why}".rstrip())


class Worker:
    """One process that tells study after study; a new one takes its place where it was lost, or has told many."""

    def __init__(self, teller: Teller, *, seconds: float, studies: int) -> None:
        self._teller, self._seconds, self._studies = teller, seconds, studies
        self._process: Any = None
        self._pipe: Connection | None = None
        self._told = 0

    def tell(self, films: Sequence[Path], out: Path) -> Outcome:
        """What the process made of the films, in `out`. Raises: WorkerLost; OutputError where the disk takes no more."""
        pipe = self._ready()
        try:
            pipe.send((list(films), out))
            if not pipe.poll(self._seconds):
                raise WorkerLost("too_long", f"(more than {self._seconds:g} s)")
            answer = pipe.recv()
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
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            self._process = context.Process(target=_work, args=(self._teller, theirs), daemon=True, name="storyxai-teller")
            self._process.start()
            theirs.close()
            self._pipe, self._told = ours, 0
        return self._pipe


def _work(teller: Teller, pipe: Connection) -> None:
    """What the process does until its parent is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            films, out = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(teller(films, out))
        except OutputError as error:
            pipe.send(_Full(error.why))
        except Exception as error:  # whatever it is, the study is tried again and then set aside
            pipe.send(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
