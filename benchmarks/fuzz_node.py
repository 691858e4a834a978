"""What the node does with broken peers: python fuzz_node.py [COUNT] [--seed 0]

A third of the cases each: associations (a sound A-ASSOCIATE-RQ, broken), PDUs of a C-STORE within a sound association, and the
bodies that a DICOMweb service answers with. Broken at random (seeded). A case fails where a thread of the node dies of an
error, a connection is not ended within its timeout, the node no longer answers an echo, or something half lies in the queue.
"""

from __future__ import annotations

import argparse
import random
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "node"))

from node_films import dataset, file_bytes
from node_tools import associate
from pynetdicom import evt
from pynetdicom.sop_class import Verification

from storyxai.errors import InputError
from storyxai.node import dicomweb
from storyxai.node.dicomweb import DicomWeb, multipart_parts
from storyxai.node.intake import film_of_file
from storyxai.node.queue import DiskQueue, QueueLimits
from storyxai.node.receive import Receiver
from storyxai.node.reports import Reports
from storyxai.node.settings import ReceiveSettings

CR, EXPLICIT = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.1.2.1"
PATIENCE = 20.0
TIMEOUT = 2.0
NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\x80\0\0\0", b"\xfe\xff\0\xe0")


def broken(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one to four faults."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(max(1, len(out)))
        kind = chance.randrange(6)
        if kind == 0 and out:
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            out[at : at + 4] = chance.choice(NUMBERS)
        elif kind == 2:
            del out[at : at + chance.randint(1, 64)]
        elif kind == 3:
            out[at:at] = chance.randbytes(chance.randint(1, 64))
        elif kind == 4:
            out[at:at] = out[at : at + chance.randint(1, 200)]
        else:
            del out[at:]
    return bytes(out)


def conversation(port: int) -> list[bytes]:
    """What a sound sender says: a request, then the PDUs of a C-STORE, then its release."""
    said: list[bytes] = []
    hear = (evt.EVT_DATA_SENT, lambda event: said.append(bytes(event.data)))
    association = associate(port, [(CR, EXPLICIT)], evt_handlers=[hear])
    association.send_c_store(dataset(1))
    association.release()
    return said


class Fuzz:
    """The cases, and what failed."""

    def __init__(self, home: Path) -> None:
        self.lines: list[str] = []
        self.reports = Reports(self.lines.append)
        self.queue = DiskQueue(home / "queue", QueueLimits(most_studies=10**9, least_free_bytes=0), quiet_seconds=1e9)
        settings = ReceiveSettings(("SENDER",), port=0, peer_timeout_seconds=TIMEOUT, most_objects_per_minute=10**9)
        self.receiver = Receiver(settings, self.queue, self.reports)
        self.receiver.start()
        self.outcomes: Counter[str] = Counter()
        self.failed: list[str] = []
        threading.excepthook = lambda told: self.failed.append(f"thread died: {told.exc_type.__name__}: {told.exc_value}")
        self.said = conversation(self.receiver.port)

    def association(self, chance: random.Random) -> None:
        self._talk([broken(self.said[0], chance)], "association")

    def pdus(self, chance: random.Random) -> None:
        number = chance.randrange(10**6)
        said = [one.replace(b"1.2.3.1.1", f"1.2.3.{number % 10}.{number % 7}".encode()) for one in self.said]
        at = chance.randrange(1, len(said))
        said[at] = broken(said[at], chance)
        self._talk(said, "pdus")

    def body(self, chance: random.Random) -> None:
        film = file_bytes(2)
        kinds = ['multipart/related; boundary=b', "multipart/related", 'multipart/related; boundary="']
        body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + film + b"\r\n--b--\r\n"
        service = DicomWeb("http://127.0.0.1:1/x")
        answer = b'[{"0020000D":{"vr":"UI","Value":["1.2"]}}]'
        status = chance.choice([200, 202, 204, 404])
        service_answers = {"content-type": chance.choice(kinds)}
        mutated = broken(chance.choice([body, answer]), chance)
        asking = dicomweb.DicomWeb._ask
        dicomweb.DicomWeb._ask = lambda *given, **more: (status, service_answers, mutated)  # type: ignore[method-assign,assignment]
        try:
            for ask in (lambda: service.fetch("1.2"), lambda: dicomweb.find_lines(service, []), lambda: service.store([])):
                try:
                    ask()
                    self.outcomes["body taken"] += 1
                except InputError:
                    self.outcomes["body refused"] += 1
            try:
                film_of_file(broken(film, chance))
                multipart_parts(kinds[0], mutated)
            except InputError:
                pass
        except Exception as error:
            self.failed.append(f"body: {type(error).__name__}: {error}")
        finally:
            dicomweb.DicomWeb._ask = asking  # type: ignore[method-assign]

    def _talk(self, said: list[bytes], kind: str) -> None:
        began = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", self.receiver.port), timeout=PATIENCE) as peer:
                for number, one in enumerate(said):
                    peer.sendall(one)
                    if number == 0 and len(said) > 1:
                        peer.recv(4096)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(65536):
                    pass
                self.outcomes[f"{kind} ended"] += 1
        except TimeoutError:
            self.failed.append(f"{kind}: not ended after {PATIENCE:g} s")
        except OSError:
            self.outcomes[f"{kind} cut"] += 1
        if time.monotonic() - began > 3 * TIMEOUT + 1:
            self.failed.append(f"{kind}: took {time.monotonic() - began:.1f} s")

    def look(self) -> None:
        """Whether the node answers, and nothing is half-stored."""
        ends = time.monotonic() + PATIENCE  # connections that were just ended may still count
        while not (association := associate(self.receiver.port, [(Verification, EXPLICIT)])).is_established:
            if time.monotonic() > ends:
                self.failed.append("no association")
                return
            time.sleep(0.2)
        if association.send_c_echo().get("Status") != 0:
            self.failed.append("no echo")
        association.release()
        for path in self.queue.root.glob("*/*/films/*"):
            film = film_of_file(path.read_bytes())
            if film.name != path.name:
                self.failed.append(f"half-stored: {path.name}")

    def end(self) -> dict[str, Any]:
        time.sleep(TIMEOUT + 1)
        parts = len(list((self.queue.root / "incoming").iterdir()))
        if parts:
            self.failed.append(f"{parts} parts left")
        stored = len(list(self.queue.root.glob("*/*/films/*")))
        self.receiver.stop()
        return {"stored": stored, "held_bytes": self.receiver._total._held, "threads": threading.active_count()}


def main() -> int:
    """Run the cases and print what came of them; 1 where any failed."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance, began = random.Random(given.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        fuzz = Fuzz(Path(home))
        for number in range(given.count):
            (fuzz.association, fuzz.pdus, fuzz.body)[number % 3](chance)
            if number % 500 == 499:
                fuzz.look()
        fuzz.look()
        ended: dict[str, Any] = fuzz.end()
    print(f"{given.count} cases in {time.monotonic() - began:.0f} s, seed {given.seed}: {dict(fuzz.outcomes)}")
    print(f"at the end: {ended}; refusals by the node: {fuzz.reports.counted('objects_refused')}")
    print(f"failed: {len(fuzz.failed)}")
    for one, count in Counter(fuzz.failed).most_common(20):
        print(f"  {count} x {one}")
    return int(bool(fuzz.failed))


if __name__ == "__main__":
    sys.exit(main())
