"""Storage commitment: vouched for is what lies on the disk, the report is delivered in the end, and a stop loses no request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from node_films import file_bytes
from node_tools import associate, wait_for
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from storyxai.node.commitment import Commitments
from storyxai.node.intake import film_of_file
from storyxai.node.queue import DiskQueue
from storyxai.node.receive import Receiver
from storyxai.node.reports import Reports
from storyxai.node.settings import Peer

CR, IMPLICIT = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.1.2"


@contextmanager
def asker(heard: list[Any]) -> Iterator[int]:
    """A modality that waits for reports."""

    def report(event: Any) -> tuple[int, None]:
        heard.append((event.event_type, event.event_information))
        return 0x0000, None

    entity = AE(ae_title="SENDER")
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, report)])
    assert server is not None
    yield server.server_address[1]
    server.shutdown()


def request(*instances: str) -> Dataset:
    asked = Dataset()
    asked.TransactionUID = "1.2.3.999"
    items = []
    for instance in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CR, instance
        items.append(item)
    asked.ReferencedSOPSequence = Sequence(items)
    return asked


def ask(port: int, asked: Dataset) -> int:
    association = associate(port, [(StorageCommitmentPushModel, IMPLICIT)])
    status, _ = association.send_n_action(asked, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    association.release()
    return int(status.Status)


def uids(items: Any) -> list[str]:
    return [str(item.ReferencedSOPInstanceUID) for item in items or []]


def test_what_is_on_the_disk_is_vouched_for_and_what_is_not_is_named(
    receive: Callable[..., Receiver], queue: DiskQueue, reports: Reports
) -> None:
    heard: list[Any] = []
    queue.receive(film_of_file(file_bytes(1)))
    with asker(heard) as port:
        service = Commitments(queue, reports, [Peer("SENDER", "127.0.0.1", port)], title="STORYXAI")
        ours = receive(commit=service.ask).port
        assert ask(ours, request("1.2.3.1.1", "9.9.9")) == 0x0000
        assert ask(ours, request()) == 0x0115
        assert len(list((queue.root / "commitments").iterdir())) == 1  # on disk before it was acknowledged
        service.start()  # as after a restart
        wait_for(lambda: heard and not list((queue.root / "commitments").iterdir()))
        service.stop()
    (kind, told), = heard
    assert kind == 2 and uids(told.ReferencedSOPSequence) == ["1.2.3.1.1"] and uids(told.FailedSOPSequence) == ["9.9.9"]
    assert told.FailedSOPSequence[0].FailureReason == 0x0112 and told.TransactionUID == "1.2.3.999"


def test_all_safe_is_told_when_the_asker_can_be_reached_again(queue: DiskQueue, reports: Reports) -> None:
    heard: list[Any] = []
    queue.receive(film_of_file(file_bytes(1)))

    class Event:
        action_type, action_information = 1, request("1.2.3.1.1")

    with asker(heard) as port:
        pass  # it is gone now
    service = Commitments(queue, reports, [Peer("SENDER", "127.0.0.1", port)], title="STORYXAI", retry_seconds=0.1)
    assert service.ask("SENDER", Event) == 0x0000 and service.ask("NOBODY", Event) == 0x0124
    service.start()
    wait_for(lambda: reports.counted("commitments").get("not_delivered"))
    service._peers = {}
    service.stop()
    with asker(heard) as port:
        again = Commitments(queue, reports, [Peer("SENDER", "127.0.0.1", port)], title="STORYXAI", retry_seconds=0.1)
        again.start()
        wait_for(lambda: heard)
        again.stop()
    assert heard[0][0] == 1 and uids(heard[0][1].ReferencedSOPSequence) == ["1.2.3.1.1"]


@pytest.mark.parametrize("kind", [2, 0])
def test_another_action_is_refused(queue: DiskQueue, reports: Reports, kind: int) -> None:
    class Event:
        action_type, action_information = kind, request("1.2.3.1.1")

    assert Commitments(queue, reports, [], title="STORYXAI").ask("SENDER", Event) == 0x0123
