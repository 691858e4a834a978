"""What the node's tests share."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pynetdicom import AE

NO_OPENSSL = "openssl absent: no certificate for the test"


def has_openssl() -> bool:
    return shutil.which("openssl") is not None


def make_certificate(folder: Path, name: str = "") -> None:
    """cert.pem and key.pem, with `name` before them, of 127.0.0.1."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / f"{name}key.pem", "-out",
               folder / f"{name}cert.pem", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)


def wait_for(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What `what` returns once it is true; the test fails when that takes too long."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError(f"nothing after {seconds} s")


def associate(
    port: int, contexts: list[tuple[str, str]], *, calling: str = "SENDER", called: str = "STORYXAI", **more: Any
) -> Any:
    """An association with a node here."""
    entity = AE(ae_title=calling)
    for sop_class, syntax in contexts:
        entity.add_requested_context(sop_class, syntax)
    return entity.associate("127.0.0.1", port, ae_title=called, **more)
