"""The DICOM side: who is let in, what is taken, and what is refused with which status; nothing is half-stored."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from node_films import dataset, file_bytes
from node_tools import associate, wait_for
from pynetdicom import evt
from pynetdicom.sop_class import Verification

from storyxai.node import queue as queues
from storyxai.node.queue import DiskQueue
from storyxai.node.receive import PDU_BYTES, Receiver
from storyxai.node.reports import Reports

CR, EXPLICIT = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.1.2.1"
CT, DEFLATED, BIG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
Start = Callable[..., Receiver]


def stored(queue: DiskQueue) -> list[Path]:
    return sorted(queue.root.glob("*/*/films/*"))


def send(port: int, *sets: Any) -> list[int]:
    association = associate(port, [(CR, EXPLICIT)])
    assert association.is_established
    codes = [association.send_c_store(one).Status for one in sets]
    association.release()
    return codes


def test_an_echo_is_answered_and_a_film_kept_once(receive: Start, queue: DiskQueue, reports: Reports) -> None:
    port = receive().port
    association = associate(port, [(Verification, EXPLICIT), (CR, EXPLICIT)])
    assert association.send_c_echo().Status == 0x0000
    assert association.send_c_store(dataset(1)).Status == 0x0000
    assert association.send_c_store(dataset(1)).Status == 0x0000  # sent again: known
    association.release()
    (film,) = stored(queue)
    # The data set is kept as it was sent; the meta information before it is ours.
    assert film.read_bytes().endswith(file_bytes(1)[-300:])
    assert reports.counted("objects_received") == {"": 1} and reports.counted("objects_known") == {"": 1}
    assert not list((queue.root / "incoming").iterdir())


def test_another_object_with_the_same_uid_is_refused(receive: Start, queue: DiskQueue) -> None:
    port = receive().port
    assert send(port, dataset(1), dataset(1, Rows=7)) == [0x0000, 0xC111]
    assert len(stored(queue)) == 1


@pytest.mark.parametrize(("calling", "called"), [("NOBODY", "STORYXAI"), ("SENDER", "OTHER")])
def test_who_is_not_listed_is_rejected(receive: Start, lines: list[str], calling: str, called: str) -> None:
    association = associate(receive().port, [(CR, EXPLICIT)], calling=calling, called=called)
    assert association.is_rejected
    wait_for(lambda: any("reason=rejected" in line for line in lines))


@pytest.mark.parametrize("context", [(CT, EXPLICIT), (CR, DEFLATED), (CR, BIG)])
def test_other_objects_and_syntaxes_are_not_negotiated(
    receive: Start, lines: list[str], context: tuple[str, str]
) -> None:
    association = associate(receive().port, [context, (Verification, EXPLICIT)])
    assert association.is_established
    assert [one.abstract_syntax for one in association.accepted_contexts] == [Verification]
    association.release()
    wait_for(lambda: any("contexts_refused caller=SENDER count=1" in line for line in lines))


@pytest.mark.parametrize(("stated", "status"), [
    ({"SeriesInstanceUID": None}, 0xA900), ({"StudyInstanceUID": None}, 0xA900), ({"StudyInstanceUID": "../../x"}, 0xA900),
])
def test_a_study_that_does_not_hold_together_is_refused(
    receive: Start, queue: DiskQueue, lines: list[str], stated: dict[str, Any], status: int
) -> None:
    assert send(receive().port, dataset(1, **stated)) == [status]
    assert stored(queue) == [] and not list((queue.root / "incoming").iterdir())
    assert not any("PLANTED" in line or "1.2.3" in line for line in lines)


def test_a_full_disk_or_queue_is_out_of_resources_and_nothing_is_lost(
    receive: Start, queue: DiskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = receive().port
    usage = shutil.disk_usage(queue.root)
    monkeypatch.setattr(queues.shutil, "disk_usage", lambda path: usage._replace(free=0))
    assert send(port, dataset(1)) == [0xA700]
    monkeypatch.undo()

    def fail(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    assert send(port, dataset(1)) == [0xA700]
    monkeypatch.undo()
    assert stored(queue) == [] and not list((queue.root / "incoming").glob("*.part"))
    queue._limits = queues.QueueLimits(most_studies=1, least_free_bytes=0)
    assert send(port, dataset(1), dataset(2), dataset(1, 2)) == [0x0000, 0xA700, 0x0000]


def test_a_rate_beyond_the_cap_is_out_of_resources(receive: Start) -> None:
    assert send(receive(most_objects_per_minute=2).port, dataset(1), dataset(2), dataset(3)) == [0, 0, 0xA700]


def test_an_object_that_is_too_large_ends_the_connection(receive: Start, queue: DiskQueue, lines: list[str]) -> None:
    port = receive(most_object_mib=1).port
    association = associate(port, [(CR, EXPLICIT)])
    status = association.send_c_store(dataset(1, Rows=2048, Columns=2048, PixelData=b"\0" * (4 << 20)))
    assert status.get("Status") is None and stored(queue) == []
    wait_for(lambda: any("object_too_large" in line for line in lines))
    assert send(port, dataset(2)) == [0x0000]


def test_more_associations_than_allowed_are_told_to_come_later(receive: Start) -> None:
    port = receive(most_associations=1).port
    first = associate(port, [(Verification, EXPLICIT)])
    second = associate(port, [(Verification, EXPLICIT)])
    assert first.is_established and second.is_rejected
    first.release()


@pytest.mark.parametrize(("sent", "reason"), [
    (b"\1\0" + (PDU_BYTES * 64).to_bytes(4, "big"), "pdu_too_long"), (b"GET / HTTP/1.1\r\n\r\n", ""), (b"", ""),
    (b"\1\0\0", ""),
])
def test_a_peer_that_hangs_or_talks_something_else_holds_nothing(
    receive: Start, lines: list[str], sent: bytes, reason: str
) -> None:
    port = receive(peer_timeout_seconds=0.6).port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        heard = b"".join(iter(lambda: connection.recv(4096), b""))  # until the node hangs up
    assert len(heard) < 200
    if reason:
        wait_for(lambda: any(f"reason={reason}" in line for line in lines))
    assert send(port, dataset(2)) == [0x0000]


def test_a_broken_command_ends_its_connection_alone(receive: Start, queue: DiskQueue, lines: list[str]) -> None:
    """Found by benchmarks/fuzz_node.py: pynetdicom's thread died of a command without CommandDataSetType and hung."""
    port, said = receive(peer_timeout_seconds=30.0).port, list[bytes]()
    hear = (evt.EVT_DATA_SENT, lambda one: said.append(bytes(one.data)))
    association = associate(port, [(CR, EXPLICIT)], evt_handlers=[hear])
    assert association.send_c_store(dataset(1)).Status == 0x0000
    association.release()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(said[0])
        assert connection.recv(4096)[:1] == b"\2"
        connection.sendall(said[1].replace(b"\0\0\0\x08\2\0\0\0", b"\0\0\1\x08\2\0\0\0"))
        assert connection.recv(4096) == b""
    wait_for(lambda: any("broken_message" in line for line in lines))
    assert send(port, dataset(2)) == [0x0000] and len(stored(queue)) == 2


@pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk's storescu absent")
def test_dcmtk_stores(receive: Start, queue: DiskQueue, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(file_bytes(5))
    command = ["storescu", "-aet", "SENDER", "-aec", "STORYXAI", "127.0.0.1", str(receive().port), str(tmp_path / "a.dcm")]
    assert subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    assert len(stored(queue)) == 1
