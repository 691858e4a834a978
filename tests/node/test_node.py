"""From a film in the queue to an answer: told once, refused, failed; what a stop at any instant leaves is taken up again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from node_films import file_bytes
from node_tellers import FakeTeller, break_down, die, hang, refuse
from node_tools import wait_for

from storyxai.errors import ArchiveError, OutputError
from storyxai.logbook import Entry, Logbook, verify_log
from storyxai.node.answer import NotDelivered
from storyxai.node.intake import film_of_file
from storyxai.node.node import Desk, Node
from storyxai.node.queue import Conflict, DiskQueue, QueueLimits, Received
from storyxai.node.reports import Reports
from storyxai.node.settings import AnswerSettings, TellSettings
from storyxai.node.workers import Teller

SOON = AnswerSettings(retry_seconds=0.1)


class Place:
    """Takes objects after refusing so many times."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals, self.taken = refusals, list[Path]()

    def __call__(self, objects: Any) -> None:
        self.refusals -= 1
        if self.refusals >= 0:
            raise NotDelivered("PACS", "is away", mend="wait")
        self.taken += objects


@contextmanager
def running(queue: DiskQueue, reports: Reports, teller: Teller, place: Place | None = None, **tell: Any) -> Iterator[Logbook]:
    log = Logbook(queue.root.parent / "log")
    desk = Desk(queue, log, reports, teller, "PACS" if place else "nowhere", place)
    node = Node(desk, TellSettings(**tell), SOON)
    node.start()
    yield log
    node.stop()
    assert node.fault is None


def events(log: Logbook) -> list[str]:
    assert verify_log(log.path).problems == ()
    return [json.loads(line)["event"] for line in log.path.read_text(encoding="utf-8").splitlines()]


def jobs(queue: DiskQueue) -> dict[str, int]:
    return {state: count for state, count in queue.counts().items() if count}


def test_a_study_is_told_once_and_answered_when_the_place_takes_it(queue: DiskQueue, reports: Reports) -> None:
    place = Place(refusals=2)
    with running(queue, reports, FakeTeller(), place) as log:
        for number in (1, 1, 2):
            queue.receive(film_of_file(file_bytes(1, number)))
        wait_for(lambda: jobs(queue) == {"answered": 1})
        assert len(place.taken) == 2 and reports.counted("answers_failed") == {"": 2}
        # Sent again after it was told: known. A film that comes late is told alone.
        assert queue.receive(film_of_file(file_bytes(1, 1))) is Received.KNOWN
        assert queue.receive(film_of_file(file_bytes(1, 3))) is Received.KEPT
        wait_for(lambda: jobs(queue) == {"answered": 2})
    assert events(log) == ["opened", "told", "told", "answered", "told", "answered"]
    assert "PLANTED" not in log.path.read_text(encoding="utf-8")
    with pytest.raises(Conflict):
        queue.receive(film_of_file(file_bytes(1, 1, Rows=7)))


def test_a_study_that_is_refused_is_set_down_with_its_reason(queue: DiskQueue, reports: Reports) -> None:
    queue.receive(film_of_file(file_bytes(1)))
    with running(queue, reports, refuse) as log:
        wait_for(lambda: jobs(queue) == {"refused": 1})
    assert events(log) == ["opened", "refused"]
    (job,) = queue.jobs("refused")
    assert b"not a chest" in (queue.folder("refused", job) / "result.json").read_bytes()


@pytest.mark.parametrize(("teller", "reason"), [(die, "died"), (hang, "too_long"), (break_down, "fault")])
def test_a_fault_of_ours_is_tried_again_and_then_set_aside(
    queue: DiskQueue, reports: Reports, lines: list[str], teller: Teller, reason: str
) -> None:
    queue.receive(film_of_file(file_bytes(1)))
    with running(queue, reports, teller, most_seconds=1.0 if teller is hang else 30.0, most_attempts=2) as log:
        wait_for(lambda: jobs(queue) == {"failed": 1}, 40)
    assert events(log) == ["opened", "not_told"]
    assert sum(f"reason={reason}" in line for line in lines) == 2
    assert len(queue.films("failed", queue.jobs("failed")[0])) == 1  # nothing is lost


@pytest.mark.parametrize("state", ["telling", "told"])
def test_what_a_stop_left_is_taken_up_and_logged_once(queue: DiskQueue, reports: Reports, tmp_path: Path, state: str) -> None:
    """As if the node were killed after the result or the log's line was written and before the folder was moved."""
    queue.receive(film_of_file(file_bytes(1)))
    with running(queue, reports, FakeTeller()) as log:
        wait_for(lambda: jobs(queue) == {"answered": 1})
    before = events(log)
    job = queue.jobs("answered")[0]
    queue.move(job, "answered", state)
    queue.close()
    again = DiskQueue(queue.root, QueueLimits(least_free_bytes=0), quiet_seconds=0.1)
    with running(again, reports, FakeTeller()) as log:
        wait_for(lambda: jobs(again) == {"answered": 1})
    assert events(log) == before
    again.close()


def test_parts_that_were_never_acknowledged_are_gone_after_a_restart(queue: DiskQueue) -> None:
    queue.receive(film_of_file(file_bytes(1)))
    (queue.root / "incoming" / "half.part").write_bytes(b"half")
    (queue.root / "incoming" / "x.job").mkdir()
    queue.close()
    again = DiskQueue(queue.root, QueueLimits(least_free_bytes=0), quiet_seconds=0.0)
    assert not list((again.root / "incoming").iterdir()) and jobs(again) == {"queued": 1}
    assert again.receive(film_of_file(file_bytes(1))) is Received.KNOWN
    assert again.take() is not None and again.take() is None
    again.close()


def test_what_is_old_is_dropped_and_may_come_again(queue: DiskQueue, reports: Reports) -> None:
    queue.receive(film_of_file(file_bytes(1)))
    with running(queue, reports, FakeTeller()):
        wait_for(lambda: jobs(queue) == {"answered": 1})
    assert queue.drop_old(0.0) == 0 and queue.holds("1.2.3.1.1")
    queue._limits = replace(queue._limits, keep_days=1.0)
    assert queue.drop_old(1e12) == 1 and jobs(queue) == {} and not queue.holds("1.2.3.1.1")
    assert queue.receive(film_of_file(file_bytes(1))) is Received.KEPT


def test_a_disk_that_is_full_for_a_while_delays_and_doubles_nothing(
    queue: DiskQueue, reports: Reports, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moves, move = list[str](), queue.move

    def fail_first(job: str, source: str, target: str) -> None:
        moves.append(target)
        if moves.count(target) == 1 and target in ("told", "answered"):
            raise OutputError("queue", "cannot be written (No space left on device)", mend="free some")
        move(job, source, target)

    monkeypatch.setattr(queue, "move", fail_first)
    queue.receive(film_of_file(file_bytes(1)))
    with running(queue, reports, FakeTeller()) as log:
        wait_for(lambda: jobs(queue) == {"answered": 1})
    assert events(log) == ["opened", "told", "answered"]
    assert any("telling_waits" in line for line in lines) and any("answer_waits" in line for line in lines)


def test_a_log_that_was_altered_stops_the_node_before_it_would_hide_it(queue: DiskQueue, reports: Reports) -> None:
    log = Logbook(queue.root.parent / "log")
    for _ in range(3):
        log.append(Entry("told"), time="2026-11-29T12:00:00Z")
    log.path.write_bytes(b"".join(log.path.read_bytes().splitlines(keepends=True)[:-1]))
    queue.receive(film_of_file(file_bytes(1)))
    node = Node(Desk(queue, log, reports, FakeTeller()))
    node.start()
    wait_for(lambda: node.stopped)
    node.stop()
    assert isinstance(node.fault, ArchiveError) and jobs(queue) == {"telling": 1}
