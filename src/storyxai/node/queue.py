"""The queue on disk: a study moves from folder to folder, and each move is one rename that the disk has kept.

    incoming/            an object that is being written; what a crash leaves here was never acknowledged
    queued/<job>/films   objects of a study that is still arriving or waits to be told
    telling/<job>        being told; after a crash it is told anew, unless result.json stands there
    told/<job>           told: result.json, stories/, objects/; the answer is to be sent
    answered/<job>       answered; kept for some days
    refused/<job>        no film could be told (the gate, an unreadable file): result.json says why
    failed/<job>         our own fault, several times: move it back to queued/ when that is mended
    seen/                which objects were taken in, by a hash of their UID

A job is one study, or what came of it after an earlier part was told. No name here comes from outside: jobs and files are
called by hashes of UIDs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from storyxai.errors import InputError, OutputError
from storyxai.files import claim, fresh_file, move_durably, require_writable, save_durably

ENDED = ("answered", "refused", "failed")
STATES = ("queued", "telling", "told", *ENDED)
DAY_SECONDS = 86400.0


class NoRoom(InputError):
    """The queue or the disk takes no more just now."""


class Conflict(InputError):
    """Another object with the same UID was taken in before."""


class Received(Enum):
    """What became of an object: newly kept, or known already."""

    KEPT = "kept"
    KNOWN = "known"


@dataclass(frozen=True)
class QueueLimits:
    """How many studies may be on their way at once, how many bytes of the disk stay free, how long the rest is kept."""

    most_studies: int = 1000
    least_free_bytes: int = 1 << 30
    keep_days: float = 30.0


@dataclass(frozen=True)
class Film:
    """An object to take in: its study's and its own UID, the digest of its data set, and its bytes in parts."""

    study: str
    instance: str
    digest: str
    parts: Sequence[bytes | memoryview]
    suffix: str = ".dcm"

    @property
    def name(self) -> str:
        return f"{key_of(self.instance)}-{self.digest[:32]}{self.suffix}"


@dataclass
class _Open:
    """A job that may still grow: the digest of each object by its key, and when the last one came."""

    films: dict[str, str] = field(default_factory=dict)
    touched: float = 0.0
    complete: bool = False


def key_of(uid: str) -> str:
    """A name for a UID that may stand in a path: 32 hex digits of its hash."""
    return hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()[:32]


class DiskQueue:
    """The queue in the folder `root`, which this process alone may use while it runs."""

    def __init__(
        self, root: Path, limits: QueueLimits, *, quiet_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.root, self._limits, self._quiet, self._clock = root, limits, quiet_seconds, clock
        self._lock = threading.RLock()
        self._open: dict[str, _Open] = {}
        self._count = dict.fromkeys(STATES, 0)
        for state in (*STATES, "incoming", "seen", "commitments"):
            require_writable(root / state)
        self._claim = claim(root / "lock")
        if self._claim is None:
            raise InputError(str(root), "is used by another node", mend="stop that one, or name another folder in [queue]")
        self._recover()

    def close(self) -> None:
        """Give the folder free for another process."""
        if self._claim is not None:
            self._claim.close()

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._lock:
            return dict(self._count)

    def folder(self, state: str, job: str) -> Path:
        return self.root / state / job

    def jobs(self, state: str) -> list[str]:
        """The jobs in a state, sorted."""
        return sorted(entry.name for entry in os.scandir(self.root / state) if entry.is_dir() and _is_job(entry.name))

    def receive(self, film: Film) -> Received:
        """Whether the object was kept or known; it is safely on disk when this returns.

        Raises: NoRoom where the queue or the disk is full; Conflict where another object with its UID was taken in.
        """
        if self._known(film):
            return Received.KNOWN
        self._require_room(film)
        part = self.root / "incoming" / f"{uuid.uuid4().hex}.part"
        try:
            save_durably(film.parts, part)
            with self._lock:
                if self._known(film):
                    return Received.KNOWN
                self._keep(film, part)
        except OutputError as error:
            raise NoRoom("queue", error.why, mend="free some space; the sender may try again") from error
        finally:
            part.unlink(missing_ok=True)
        return Received.KEPT

    def complete(self, studies: Iterable[str]) -> None:
        """Take these studies as complete at once, without waiting for more of them."""
        keys = {key_of(study) for study in studies}
        with self._lock:
            for job, one in self._open.items():
                one.complete |= job.rpartition("-")[0] in keys

    def take(self) -> str | None:
        """A job that is complete and now in telling/, the one that waited longest first; None where none is."""
        with self._lock:
            now = self._clock()
            ready = [(one.touched, job) for job, one in self._open.items()
                     if one.films and (one.complete or now - one.touched >= self._quiet)]
            if not ready:
                return None
            job = min(ready)[1]
            self._remember(job)
            self.move(job, "queued", "telling")
            del self._open[job]
            return job

    def move(self, job: str, source: str, target: str) -> None:
        """Move a job to another state. Raises: OutputError."""
        with self._lock:
            move_durably(self.folder(source, job), self.folder(target, job))
            self._count[source] -= 1
            self._count[target] += 1

    def films(self, state: str, job: str) -> list[Path]:
        """The films of a job, sorted."""
        return sorted((self.folder(state, job) / "films").glob("*-*.*"))

    def holds(self, instance: str) -> bool:
        """Whether the object with this UID is safely on disk now."""
        key = key_of(instance)
        with self._lock:
            if any(key in one.films for one in self._open.values()):
                return True
            told = self._seen(key)
            return told is not None and any(
                list((self.folder(state, told[1]) / "films").glob(f"{key}-*")) for state in STATES
            )

    def drop_old(self, now: float) -> int:
        """How many jobs that ended more than `keep_days` before `now` (seconds of the epoch) were removed."""
        dropped = 0
        for state in ("answered", "refused"):
            for job in self.jobs(state):
                if now - self.folder(state, job).stat().st_mtime > self._limits.keep_days * DAY_SECONDS:
                    for film in self.films(state, job):
                        (self._seen_path(film.name[:32])).unlink(missing_ok=True)
                    shutil.rmtree(self.folder(state, job))
                    with self._lock:
                        self._count[state] -= 1
                    dropped += 1
        return dropped

    def _recover(self) -> None:
        """What a stop at any instant left: parts that nobody was told of go, open studies are open again."""
        for part in [*(self.root / "incoming").iterdir(), *(self.root / "seen").glob("*/.*")]:
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        for state in STATES:
            self._count[state] = len(self.jobs(state))
        for job in self.jobs("queued"):
            found = [path.stem.partition("-") for path in self.films("queued", job)]
            if found:
                self._open[job] = _Open({key: digest for key, _, digest in found}, self._clock())
            else:  # the folder was made, its first object never came
                shutil.rmtree(self.folder("queued", job))
                self._count["queued"] -= 1

    def _known(self, film: Film) -> bool:
        key = key_of(film.instance)
        with self._lock:
            digest = next((one.films[key] for one in self._open.values() if key in one.films), None)
        if digest is None:
            told = self._seen(key)
            digest = told and told[0]
        if digest is not None and digest != film.digest[:32]:
            raise Conflict("object", "another one with its SOP Instance UID is here", mend="give it a UID of its own")
        return digest is not None

    def _require_room(self, film: Film) -> None:
        with self._lock:
            on_the_way = sum(count for state, count in self._count.items() if state not in ENDED)
            joins = any(job.rpartition("-")[0] == key_of(film.study) for job in self._open)
        if on_the_way >= self._limits.most_studies and not joins:
            raise NoRoom("queue", f"holds {on_the_way} studies", mend="the sender may try again later")
        size = sum(len(part) for part in film.parts)
        if shutil.disk_usage(self.root).free < self._limits.least_free_bytes + size:
            raise NoRoom("queue", "the disk is nearly full", mend="free some space; the sender may try again")

    def _keep(self, film: Film, part: Path) -> None:
        study = key_of(film.study)
        job = next((job for job in self._open if job.rpartition("-")[0] == study), None)
        if job is None:
            job = next(name for name in _numbered(study) if not any(self.folder(state, name).exists() for state in STATES))
            fresh = self.root / "incoming" / f"{job}.job"
            (fresh / "films").mkdir(parents=True, exist_ok=True)
            move_durably(fresh, self.folder("queued", job))
            self._open[job] = _Open()
            self._count["queued"] += 1
        move_durably(part, self.folder("queued", job) / "films" / film.name)
        one = self._open[job]
        one.films[key_of(film.instance)] = film.digest[:32]
        one.touched = self._clock()

    def _remember(self, job: str) -> None:
        """Keep of each object of a job that it was taken in, for as long as the job is kept."""
        for key, digest in self._open[job].films.items():
            path = self._seen_path(key)
            path.parent.mkdir(exist_ok=True)
            with fresh_file(path, last=True) as part:
                part.write_text(f"{digest} {job}", encoding="ascii")

    def _seen(self, key: str) -> tuple[str, str] | None:
        with suppress(FileNotFoundError):
            digest, _, job = self._seen_path(key).read_text(encoding="ascii").partition(" ")
            return digest, job
        return None

    def _seen_path(self, key: str) -> Path:
        return self.root / "seen" / key[:2] / key


def _numbered(study: str) -> Iterator[str]:
    number = 1
    while True:
        yield f"{study}-{number:04d}"
        number += 1


def _is_job(name: str) -> bool:
    return len(name) >= 37 and name[32] == "-" and not name.startswith(".")
