"""Writing files so that a failure leaves what was there before: the only place that does."""

from __future__ import annotations

import tempfile
from pathlib import Path

from storyxai.errors import OutputError

__all__ = ["require_writable", "write_whole"]


def require_writable(folder: Path) -> None:
    """`folder` made where it was absent and seen to be writable. Raises: OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = f"cannot be written ({error.strerror or error})"
        raise OutputError(str(folder), why, mend="name a folder that you may write to") from error


def write_whole(data: bytes, path: Path) -> None:
    """Write whole or not at all: a file that is there is a finished one. Raises: OutputError."""
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(str(path.parent), f"cannot be written ({error.strerror})", mend="free some space") from error
