"""Writing to disk so that a failure leaves what was there before: the only place that does.

Everything is written in a hidden folder beside its final place and moved there when it is complete. A name that is there
is therefore a finished file, and a reader never meets half of one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from storyxai.errors import OutputError

__all__ = ["fresh_file", "fresh_folder", "replace_files", "require_writable", "write_whole"]

MORE_ROOM = "free some space or name another place"
_PREFIX = ".storyxai-"


def require_writable(folder: Path) -> None:
    """`folder` made where it was absent and seen to be writable. Raises: OutputError."""
    with _told_of(folder, mend="name a folder that you may write to"):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def write_whole(data: bytes, path: Path, *, mend: str = MORE_ROOM) -> None:
    """Write `data` to `path` whole or not at all; folders above it are made. Raises: OutputError naming `path`."""
    with fresh_file(path, mend=mend) as part:
        part.write_bytes(data)


@contextmanager
def fresh_file(path: Path, *, mend: str = MORE_ROOM, last: bool = False) -> Iterator[Path]:
    """A place to write to, of the same file name, that takes the place of `path` when the block ends well.

    `last` also waits until the disk holds the bytes, for a file that must survive a loss of power.
    Raises: OutputError naming `path` when it, or what the block writes, cannot be written.
    """
    with _told_of(path, mend=mend):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=path.parent) as work:
            part = Path(work) / path.name
            yield part
            if last:
                _flush(part)
            part.replace(path)


@contextmanager
def fresh_folder(path: Path, *, mend: str = MORE_ROOM) -> Iterator[Path]:
    """An empty folder to fill that becomes `path`, which must be absent or empty, when the block ends well.

    Raises: OutputError naming `path` when it, or what the block writes, cannot be written.
    """
    with _told_of(path, mend=mend):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=path.parent) as work:
            filled = Path(work) / path.name
            filled.mkdir()
            yield filled
            filled.replace(path)


def replace_files(folder: Path, files: Mapping[str, bytes], *, mend: str = MORE_ROOM) -> None:
    """Put `files`, by name, into `folder`, all of them or none; whatever else lies there stays as it is.

    Should one file fail to take its place, those before it are put back. Raises: OutputError naming `folder`.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(str(folder), "is a file, not a folder", mend="name another place with --out")
    if not folder.exists():
        with fresh_folder(folder, mend=mend) as fresh:
            _fill(fresh, files)
        return
    with _told_of(folder, mend=mend), tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder) as work:
        fresh, kept = Path(work) / "fresh", Path(work) / "kept"
        fresh.mkdir()
        kept.mkdir()
        _fill(fresh, files)
        _swap(folder, fresh, kept, tuple(files))


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _swap(folder: Path, fresh: Path, kept: Path, names: tuple[str, ...]) -> None:
    """Move the fresh files over the old ones; should one move fail, put the old ones back."""
    for name in names:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, kept / name)
    moved: list[str] = []
    try:
        for name in names:
            (fresh / name).replace(folder / name)
            moved.append(name)
    except OSError:
        for name in moved:
            if (kept / name).exists():
                (kept / name).replace(folder / name)
            else:
                (folder / name).unlink()
        raise


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


@contextmanager
def _told_of(path: Path, *, mend: str) -> Iterator[None]:
    """The system's error within the block as a sentence about `path`. Raises: OutputError."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise OutputError(str(path), f"cannot be written ({why})", mend=mend) from error
