"""Orthanc, a real archive, started in a temporary folder at free loopback ports, for tests and for `make hospital`."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
PLUGINS = ("/usr/share/orthanc/plugins/libOrthancDicomWeb.so", "/usr/lib/orthanc/libOrthancDicomWeb.so")
PLUGIN = next((path for path in PLUGINS if Path(path).exists()), None)
ABSENT = "Orthanc or its DICOMweb plug-in absent: install Debian's orthanc and orthanc-dicomweb"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass(frozen=True)
class Orthanc:
    """An archive that runs: its ports, and what it says over HTTP."""

    http: int
    dicom: int

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.http}/dicom-web"

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", data, timeout=60) as answer:
            read = answer.read()
        return read if path.endswith("/file") else json.loads(read)

    def instances(self) -> dict[str, tuple[str, bytes]]:
        """The modality and the bytes of each stored object by its SOP Instance UID."""
        found = {}
        for one in self.ask("/instances"):
            tags = self.ask(f"/instances/{one}/simplified-tags")
            found[tags["SOPInstanceUID"]] = (tags["Modality"], self.ask(f"/instances/{one}/file"))
        return found


@contextmanager
def orthanc(folder: Path, *, node_port: int) -> Iterator[Orthanc]:
    """An Orthanc with an empty archive in `folder` that knows a node, "storyxai", at a port here."""
    assert PROGRAM is not None
    ports = Orthanc(free_port(), free_port())
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "Name": "storyxai's test", "StorageDirectory": str(folder), "IndexDirectory": str(folder), "HttpPort": ports.http,
        "DicomPort": ports.dicom, "DicomAet": "ORTHANC", "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "Plugins": [PLUGIN] if PLUGIN else [], "DicomModalities": {"storyxai": ["STORYXAI", "127.0.0.1", node_port]},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}, "DicomAlwaysAllowStore": True, "ConcurrentJobs": 2,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "orthanc.log").open("wb") as log:
        started = subprocess.Popen([PROGRAM, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        ends = time.monotonic() + 60
        while True:
            try:
                ports.ask("/system")
                break
            except OSError as error:
                if started.poll() is not None or time.monotonic() > ends:
                    raise RuntimeError((folder / "orthanc.log").read_text(errors="replace")[-2000:]) from error
                time.sleep(0.1)
        yield ports
    finally:
        started.terminate()
        started.wait(30)
