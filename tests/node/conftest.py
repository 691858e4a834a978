"""A node in this process: a queue in a temporary folder, a receiver at a free loopback port, a fake teller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pynetdicom", reason="pynetdicom absent: install storyxai[hospital]")

from storyxai.node.queue import DiskQueue, QueueLimits
from storyxai.node.receive import Receiver
from storyxai.node.reports import Reports
from storyxai.node.settings import ReceiveSettings


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def reports(lines: list[str]) -> Reports:
    return Reports(lines.append)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[DiskQueue]:
    made = DiskQueue(tmp_path / "queue", QueueLimits(least_free_bytes=0), quiet_seconds=0.2)
    yield made
    made.close()


@pytest.fixture
def receive(queue: DiskQueue, reports: Reports) -> Iterator[Callable[..., Receiver]]:
    """Starts receivers with settings of the test's own."""
    started: list[Receiver] = []

    def start(**settings: Any) -> Receiver:
        given = {"calling_titles": ("SENDER",), "port": 0, "peer_timeout_seconds": 5.0, **settings}
        further = {name: given.pop(name) for name in ("tls", "commit") if name in given}
        receiver = Receiver(ReceiveSettings(**given), queue, reports, **further)
        receiver.start()
        started.append(receiver)
        return receiver

    yield start
    for receiver in started:
        receiver.stop()
