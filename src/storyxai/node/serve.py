"""`storyxai serve-dicom` and `storyxai watch-folder`: a node put together from its settings, until it is told to stop."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from storyxai.errors import InputError, StoryxaiError
from storyxai.export.hospital import require_package
from storyxai.node.answer import sender_of
from storyxai.node.commitment import Commitments
from storyxai.node.node import Desk, Node
from storyxai.node.queue import DiskQueue, QueueLimits
from storyxai.node.receive import Receiver
from storyxai.node.reports import Reports
from storyxai.node.settings import Settings, read_settings
from storyxai.node.status import StatusServer
from storyxai.node.telling import StudyTeller
from storyxai.node.tls import server_context
from storyxai.node.watch import Watcher
from storyxai.node.workers import Teller, import_ahead
from storyxai.programs.log import LogChoice, open_log
from storyxai.programs.models import ModelChoice, open_model
from storyxai.programs.tell import TellOptions

Say = Callable[[str], None]


@dataclass(frozen=True)
class Running:
    """A node that runs: its parts, and the port that it listens at (0 for a folder's)."""

    node: Node
    queue: DiskQueue
    reports: Reports
    port: int = 0
    status_port: int = 0


def serve_dicom(settings: Path, say: Say) -> None:
    """Serve until SIGTERM or SIGINT. `say` prints a line. Raises: InputError; what ended the node from inside."""
    require_package("highdicom", "highdicom")
    read = read_settings(settings)
    if read.receive is None:
        raise InputError(str(settings), "has no table [receive]", mend="add it, with calling_titles = [...]")
    _run_until_told(read, say, None)


def watch_folder(folder: Path, settings: Path | None, say: Say, *, queue: Path | None = None) -> None:
    """Tell what is put into `folder` until SIGTERM or SIGINT. `queue` is the queue's folder, for one without settings.

    Raises: InputError; what ended the node from inside.
    """
    require_package("highdicom", "highdicom")
    read = Settings() if settings is None else read_settings(settings)
    if queue is not None:
        read = replace(read, queue=replace(read.queue, folder=str(queue.absolute())))
    if settings is None:
        read = replace(read, home=read.place(read.queue.folder).parent)
    _run_until_told(replace(read, receive=None), say, folder)


def _run_until_told(settings: Settings, say: Say, folder: Path | None) -> None:
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    with running_node(settings, say, folder=folder) as running:
        while not told.wait(0.2) and not running.node.stopped:
            pass
        running.reports.line("stopping")
    if isinstance(running.node.fault, StoryxaiError):
        raise running.node.fault
    if running.node.fault is not None:
        raise StoryxaiError(f"the node stopped: {type(running.node.fault).__name__}") from running.node.fault


@contextmanager
def running_node(
    settings: Settings, say: Say, *, folder: Path | None = None, teller: Teller | None = None
) -> Iterator[Running]:
    """A node that runs within the block. `teller` stands in for the student's, in tests. Raises: InputError."""
    if teller is None:
        import_ahead(["storyxai.node.ahead"])
    log = open_log(LogChoice(settings.place(settings.log.file), settings.place(settings.log.key) if settings.log.key else None))
    assert log is not None
    place, sender = sender_of(settings)
    tls = settings.receive.tls if settings.receive else None
    context = None if tls is None else server_context(settings, tls)
    options = tell_options(settings)
    options.check()
    if teller is None:
        open_model(options.model)  # so that a model that cannot be used is said now, not by each study
    reports = Reports(say)
    limits = QueueLimits(settings.queue.most_studies, settings.queue.least_free_mib << 20, settings.queue.keep_days)
    quiet = settings.receive.complete_after_seconds if settings.receive else settings.watch.every_seconds
    with ExitStack() as parts:
        queue = DiskQueue(settings.place(settings.queue.folder), limits, quiet_seconds=quiet)
        parts.callback(queue.close)
        by = settings.receive.called_title if settings.receive else "watch-folder"
        shutil.rmtree(queue.root / "scratch", ignore_errors=True)  # what the browsers of a node that was killed left there
        teller = teller or StudyTeller(options, settings.answer.pdf)
        desk = Desk(queue, log, reports, teller, place, sender, by)
        node = Node(desk, settings.tell, settings.answer)
        parts.callback(node.stop)
        node.start()
        running = Running(node, queue, reports)
        if settings.receive is not None:
            commitments = Commitments(queue, reports, settings.peers, title=settings.receive.called_title)
            commitments.start()
            parts.callback(commitments.stop)
            commit = commitments.ask if settings.peers else None
            receiver = Receiver(settings.receive, queue, reports, tls=context, commit=commit)
            receiver.start()
            parts.callback(receiver.stop)
            running = replace(running, port=receiver.port)
        if folder is not None:
            watcher = Watcher(folder, queue, reports, every_seconds=settings.watch.every_seconds)
            watcher.start()
            parts.callback(watcher.stop)
        if settings.status.port:
            status = StatusServer(settings.status.port, reports, queue)
            status.start()
            parts.callback(status.stop)
            running = replace(running, status_port=status.port)
        _say_start(settings, running, reports)
        yield running


def _say_start(settings: Settings, running: Running, reports: Reports) -> None:
    waiting = sum(count for state, count in running.queue.counts().items() if state in ("queued", "telling", "told"))
    title = settings.receive.called_title if settings.receive else ""
    tls = ("yes" if settings.receive.tls else "no") if settings.receive else ""
    reports.line("ready", title=title, port=running.port or "", tls=tls, waiting=waiting, answers=settings.answer.to)


def tell_options(settings: Settings) -> TellOptions:
    """How studies are told, by the settings."""
    tell = settings.tell
    model = ModelChoice(settings.place(tell.model) if tell.model else None, threads=threads_each(tell.workers))
    samples = None if tell.samples == "auto" else tell.samples
    return TellOptions(audiences=tell.audiences, language=tell.language, model=model, samples=samples)


def threads_each(workers: int) -> int:
    """In how many threads each process that tells runs its model: they share the cores, and more would only get in the way."""
    return max(1, (os.cpu_count() or 1) // workers)
