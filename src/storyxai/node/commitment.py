"""Storage commitment: what we are asked to vouch for is looked up on the disk, and the asker is told by a call of ours.

A request is kept on disk before it is acknowledged and goes when its report was delivered, so that a stop loses none. We vouch
for what lies in the queue at that moment, for as many days as the settings keep it; a node is no archive.
Source: PS3.4 J.3.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom import AE, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance  # type: ignore[attr-defined]

from storyxai.errors import OutputError
from storyxai.files import write_whole
from storyxai.node.queue import DiskQueue, key_of
from storyxai.node.receive import quiet_pynetdicom
from storyxai.node.reports import Reports
from storyxai.node.settings import Peer

SUCCESS, NO_SUCH_ACTION, INVALID_ARGUMENT, RESOURCES, UNKNOWN_PEER = 0x0000, 0x0123, 0x0115, 0x0213, 0x0124
ALL_SAFE, SOME_FAILED = 1, 2
"""Types of the event (PS3.4 J.3.3)."""
NO_SUCH_OBJECT = 0x0112
MOST_REFERENCES, MOST_WAITING = 10_000, 1000
SECONDS = 30.0


@dataclass(frozen=True)
class _Asked:
    """A request: its transaction, who asked, and the objects, as SOP class and UID."""

    transaction: str
    caller: str
    objects: tuple[tuple[str, str], ...]


class Commitments:
    """Takes requests and delivers reports, from `start` to `stop`."""

    def __init__(
        self, queue: DiskQueue, reports: Reports, peers: Sequence[Peer], *, title: str, retry_seconds: float = 10.0
    ) -> None:
        self._queue, self._reports, self._title, self._retry = queue, reports, title, retry_seconds
        self._peers: Mapping[str, Peer] = {peer.title: peer for peer in peers}
        self._folder = queue.root / "commitments"
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="commitments", daemon=True)

    def start(self) -> None:
        """Begin to deliver: first what a stop left."""
        self._thread.start()

    def stop(self) -> None:
        """Deliver no more; what waits is delivered at the next start."""
        self._stop.set()
        self._wake.set()
        self._thread.join(2 * SECONDS)

    def ask(self, caller: str, event: Any) -> int:
        """Keep a request and return the status of its acknowledgement."""
        if event.action_type != 1:
            return NO_SUCH_ACTION
        if caller not in self._peers:
            self._reports.line("commitment_refused", caller=caller, why="no address in [[peers]]")
            return UNKNOWN_PEER
        try:
            asked = _asked(caller, event.action_information)
        except Exception:  # what a peer's data set makes pydicom raise is no short list
            return INVALID_ARGUMENT
        if len(list(self._folder.iterdir())) >= MOST_WAITING:
            return RESOURCES
        try:
            write_whole(msgspec.json.encode(asked), self._folder / f"{key_of(caller + asked.transaction)}.json")
        except OutputError:
            return RESOURCES
        self._wake.set()
        return SUCCESS

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            for path in sorted(self._folder.glob("*.json")):
                if not self._stop.is_set():
                    self._report(path)
            self._wake.wait(self._retry)

    def _report(self, path: Path) -> None:
        asked = msgspec.json.decode(path.read_bytes(), type=_Asked)
        peer = self._peers.get(asked.caller)
        safe = [one for one in asked.objects if self._queue.holds(one[1])]
        lost = [one for one in asked.objects if one not in safe]
        if peer is None or not self._delivered(peer, _report(asked.transaction, safe, lost), SOME_FAILED if lost else ALL_SAFE):
            self._reports.count("commitments", "not_delivered")
            return
        path.unlink()
        self._reports.count("commitments", "failed" if lost else "kept")
        self._reports.line("commitment", to=asked.caller, safe=len(safe), missing=len(lost))

    def _delivered(self, peer: Peer, information: Dataset, kind: int) -> bool:
        quiet_pynetdicom()
        entity = AE(ae_title=self._title)
        entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = entity.connection_timeout = SECONDS
        entity.add_requested_context(StorageCommitmentPushModel)
        roles = [build_role(StorageCommitmentPushModel, scp_role=True)]
        association = entity.associate(peer.host, peer.port, ae_title=peer.title, ext_neg=roles)  # type: ignore[arg-type]
        if not association.is_established:
            return False
        try:
            status, _ = association.send_n_event_report(
                information, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            association.release()
        except (ValueError, RuntimeError):
            return False
        return bool(status) and status.Status == SUCCESS


def _asked(caller: str, information: Any) -> _Asked:
    objects = tuple(
        (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
        for item in information.ReferencedSOPSequence[:MOST_REFERENCES]
    )
    if not objects or len(information.ReferencedSOPSequence) > MOST_REFERENCES:
        raise ValueError("no objects, or too many")
    return _Asked(str(information.TransactionUID), caller, objects)


def _report(transaction: str, safe: Sequence[tuple[str, str]], lost: Sequence[tuple[str, str]]) -> Dataset:
    report = Dataset()
    report.TransactionUID = transaction
    if safe:
        report.ReferencedSOPSequence = Items([_reference(*one) for one in safe])
    if lost:
        report.FailedSOPSequence = Items([_reference(*one) for one in lost])
        for item in report.FailedSOPSequence:
            item.FailureReason = NO_SUCH_OBJECT
    return report


def _reference(sop_class: str, instance: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
    return item
