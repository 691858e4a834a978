"""A hospital in small for tests and benchmarks: senders, and a place that takes answers, all at loopback."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node_tools import associate
from pydicom import dcmread
from pynetdicom import AE, _config, evt

ANSWERS = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("66.4", "88.33", "11.1", "11.2", "104.1", "7", "1"))
"""Segmentation, Comprehensive SR, presentation states of grey and of colour, Encapsulated PDF, Secondary Capture, CR."""


@dataclass
class Place:
    """Takes answers: how often each object came, and when the last one did."""

    port: int = 0
    came: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    last: float = 0.0


@contextmanager
def place(*, port: int = 0, status: int = 0x0000, tls: Any = None) -> Iterator[Place]:
    """A node that counts what is sent to it and answers with `status`; `tls` is its context."""
    there, lock = Place(), threading.Lock()

    def store(event: Any) -> int:
        with lock:
            there.came[str(event.request.AffectedSOPInstanceUID)] += 1
            there.kinds[str(event.request.AffectedSOPClassUID)] += 1
            there.last = time.monotonic()
        return status

    entity = AE(ae_title="PLACE")
    for sop_class in ANSWERS:
        entity.add_supported_context(sop_class)
    entity.maximum_associations = 50
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)], ssl_context=tls)
    assert server is not None
    there.port = server.server_address[1]
    yield there
    server.shutdown()


def send_files(port: int, files: Sequence[Path], *, pause: float = 0.1) -> int:
    """Send each file in an association of its own until it is taken; how often one had to be sent again."""
    _config.STORE_SEND_CHUNKED_DATASET = True
    again = 0
    for path in files:
        while not _sent(port, path):
            again += 1
            time.sleep(pause)
    return again


def _sent(port: int, path: Path) -> bool:
    meta = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).file_meta
    association = associate(port, [(str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))])
    if not association.is_established:
        return False
    try:
        status = association.send_c_store(path)
        if association.is_established:
            association.release()
    except (RuntimeError, ValueError):
        return False
    return bool(status) and status.get("Status") == 0x0000
