"""The node: what is complete is told, what is told is answered, and each step is on the disk before the next begins."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from storyxai.errors import OutputError
from storyxai.files import flush_tree, fresh_file, move_durably, write_whole
from storyxai.logbook import Entry, Logbook
from storyxai.node.answer import NotDelivered, Sender
from storyxai.node.press import Browsers
from storyxai.node.queue import DiskQueue
from storyxai.node.reports import Reports, utc
from storyxai.node.settings import AnswerSettings, TellSettings
from storyxai.node.workers import Outcome, Teller, Worker, WorkerLost

RESULT, ATTEMPTS = "result.json", "attempts"
LOOK_SECONDS, STOP_SECONDS = 0.2, 20.0
HOUSEKEEPING_SECONDS = 3600.0


@dataclass(frozen=True)
class Desk:
    """What the node works with: the queue, the log, where reports go, who tells, and who delivers answers (None: nobody)."""

    queue: DiskQueue
    log: Logbook
    reports: Reports
    teller: Teller
    place: str = "nowhere"
    sender: Sender | None = None
    by: str = "node"


class Node:
    """Threads that tell and answer, from `start` to `stop`; killed at any instant it goes on from the disk."""

    def __init__(self, desk: Desk, tell: TellSettings | None = None, answer: AnswerSettings | None = None) -> None:
        self._desk, self._tell, self._answer = desk, tell or TellSettings(), answer or AnswerSettings()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        self._workers: list[Worker] = []
        self._browsers = Browsers(desk.queue.root / "scratch", self._tell.workers)
        self._begun = desk.queue.jobs("telling")
        self._doubtful = {*self._begun, *desk.queue.jobs("told")}
        self._lock = threading.Lock()
        self.fault: Exception | None = None

    def start(self) -> None:
        """Begin: first what a stop left half-told or unanswered."""
        names: list[tuple[str, Callable[[], None]]] = [("answers", self._answer_all), ("housekeeping", self._keep_house)]
        names += [(f"telling-{number}", self._tell_all) for number in range(self._tell.workers)]
        self._threads = [threading.Thread(target=self._guarded, args=(run,), name=name, daemon=True) for name, run in names]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop; a study that is being told is told anew at the next start."""
        self._stop.set()
        self._wake.set()
        ends = time.monotonic() + STOP_SECONDS
        while time.monotonic() < ends and any(thread.is_alive() for thread in self._threads):
            for worker in self._workers:
                worker.kill()
            for thread in self._threads:
                thread.join(0.05)
        self._browsers.close()

    def _guarded(self, run: Callable[[], None]) -> None:
        """A fault that nobody expected ends the node instead of one silent thread."""
        try:
            run()
        except Exception as error:
            if not self._stop.is_set():
                self.fault = error
                self._desk.reports.line("stopped_by_a_fault", kind=type(error).__name__)
                self._stop.set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def _tell_all(self) -> None:
        worker = Worker(self._desk.teller, seconds=self._tell.most_seconds, studies=self._tell.studies_per_process,
                        prints=self._browsers.printed)  # fmt: skip
        self._workers.append(worker)
        worker.start()
        while not self._stop.is_set():
            job = self._next()
            if job is None:
                self._stop.wait(LOOK_SECONDS)
                continue
            try:
                self._tell_one(worker, job)
            except OutputError as error:  # a full disk: the study stays where it is
                self._desk.reports.line("telling_waits", job=job, why=error.why)
                with self._lock:
                    self._doubtful.add(job)
                    self._begun.append(job)
                self._stop.wait(self._answer.retry_seconds)
        worker.stop()

    def _next(self) -> str | None:
        with self._lock:
            if self._begun:
                return self._begun.pop(0)
        return self._desk.queue.take()

    def _tell_one(self, worker: Worker, job: str) -> None:
        queue, folder = self._desk.queue, self._desk.queue.folder("telling", job)
        result = folder / RESULT
        if not result.is_file():
            outcome = self._outcome(worker, job, folder)
            if outcome is None:
                return
            with fresh_file(result, last=True) as part:
                part.write_bytes(msgspec.json.encode(outcome))
        outcome = msgspec.json.decode(result.read_bytes(), type=Outcome)
        self._write_log(job, _lines_of(job, outcome))
        queue.move(job, "telling", "told" if outcome.told else "refused")
        self._desk.reports.count("studies_told" if outcome.told else "studies_refused")
        kinds = ",".join(sorted({one.kind for one in outcome.refused}))
        self._desk.reports.line(
            "told" if outcome.told else "refused", job=job, films=len(outcome.told), refused=len(outcome.refused), why=kinds
        )
        self._wake.set()

    def _outcome(self, worker: Worker, job: str, folder: Path) -> Outcome | None:
        """What came of a job, its stories and objects in place; None where it is to be tried again, or was set aside."""
        for left in folder.glob("attempt-*"):
            shutil.rmtree(left, ignore_errors=True)
            self._desk.reports.count("tellings_repeated")
        attempt = folder / f"attempt-{uuid.uuid4().hex}"
        attempt.mkdir()
        try:
            outcome = worker.tell(self._desk.queue.films("telling", job), attempt)
        except WorkerLost as lost:
            if not self._stop.is_set():
                self._set_back(job, folder, lost)
            return None
        for name in ("stories", "objects"):
            shutil.rmtree(folder / name, ignore_errors=True)  # of a telling that was cut short after its first move
            if (attempt / name).is_dir():
                flush_tree(attempt / name)
                move_durably(attempt / name, folder / name)
        shutil.rmtree(attempt, ignore_errors=True)
        return outcome

    def _set_back(self, job: str, folder: Path, lost: WorkerLost) -> None:
        """Count the failure; try again, or set the study aside after too many."""
        counter = folder / ATTEMPTS
        failures = 1 + (int(counter.read_text(encoding="ascii")) if counter.is_file() else 0)
        write_whole(str(failures).encode(), counter)
        self._desk.reports.line("telling_failed", job=job, reason=lost.reason, attempt=failures)
        if failures < self._tell.most_attempts:
            with self._lock:
                self._begun.append(job)
            return
        self._write_log(job, [Entry("not_told", job=job, outcome=f"failed: {lost.reason}")])
        counter.unlink()
        self._desk.queue.move(job, "telling", "failed")
        self._desk.reports.count("studies_failed")

    def _answer_all(self) -> None:
        wait: dict[str, tuple[float, float]] = {}  # when to try a job again, and how long to wait after that
        while not self._stop.is_set():
            self._wake.clear()
            for job in self._desk.queue.jobs("told"):
                due, pause = wait.get(job, (0.0, self._answer.retry_seconds))
                if self._stop.is_set() or time.monotonic() < due:
                    continue
                if self._answered(job):
                    wait.pop(job, None)
                else:
                    wait[job] = (time.monotonic() + pause, min(2 * pause, self._answer.most_retry_seconds))
            self._wake.wait(1.0)

    def _answered(self, job: str) -> bool:
        folder = self._desk.queue.folder("told", job)
        objects = sorted(folder.glob("objects/*/*.dcm"))
        try:
            if self._desk.sender is not None and objects:
                self._desk.sender(objects)
        except NotDelivered as error:
            self._desk.reports.count("answers_failed")
            self._desk.reports.line("answer_failed", job=job, why=error.why)
            return False
        entry = Entry("answered", job=job, to=self._desk.place, outcome="ok", count=len(objects))
        try:
            self._write_log(job, [entry])
            self._desk.queue.move(job, "told", "answered")
        except OutputError as error:
            self._doubtful.add(job)
            self._desk.reports.line("answer_waits", job=job, why=error.why)
            return False
        self._desk.reports.count("studies_answered")
        self._desk.reports.line("answered", job=job, to=self._desk.place, objects=len(objects))
        return True

    def _write_log(self, job: str, entries: Sequence[Entry]) -> None:
        """Add lines to the log: of a job that was under way at the start or met a full disk, those that are not there yet.

        Its stop may have fallen between a line and the move that it tells of.
        """
        told = [replace(entry, by=self._desk.by) for entry in entries]
        for entry in self._desk.log.lacking(told, job) if job in self._doubtful else told:
            self._desk.log.append(entry, time=utc())

    def _keep_house(self) -> None:
        while not self._stop.is_set():
            dropped = self._desk.queue.drop_old(time.time())
            if dropped:
                self._desk.reports.line("dropped_old", studies=dropped)
            self._stop.wait(HOUSEKEEPING_SECONDS)


def _lines_of(job: str, outcome: Outcome) -> list[Entry]:
    """One line for each film of a study."""
    told = [
        Entry(
            "told", job=job, study=one.study, evidence_sha256=one.evidence_sha256, model=one.model,
            weights_sha256=one.weights_sha256, software=one.software, outcome="ok",
        )
        for one in outcome.told
    ]
    refused = [Entry("refused", job=job, outcome=one.kind) for one in outcome.refused]
    return [*refused, *told]
