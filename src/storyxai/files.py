"""Writing to disk so that a failure leaves what was there before: the only place that does.

Everything is written in a hidden folder beside its final place and moved there when it is complete. A name that is there
is therefore a finished file, and a reader never meets half of one.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from storyxai.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows: two processes that append to one log are told apart nowhere
    fcntl = None  # type: ignore[assignment]

MORE_ROOM = "free some space or name another place"
NOT_YOURS = "name a place that you may write to"
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_PREFIX = ".storyxai-"


def require_writable(folder: Path) -> None:
    """`folder` made where it was absent and seen to be writable. Raises: OutputError."""
    with _told_of(folder, mend=NOT_YOURS):
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
            if last:
                _flush(path.parent)


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


def replace_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put `files`, by name, into `folder`, all of them or none; whatever else lies there stays as it is.

    Should one file fail to take its place, those before it are put back. Raises: OutputError naming `folder`.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(str(folder), "is a file, not a folder", mend="name another place with --out")
    if not folder.exists():
        with fresh_folder(folder) as fresh:
            _fill(fresh, files)
        return
    with _told_of(folder, mend=MORE_ROOM), tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder) as work:
        fresh, kept = Path(work) / "fresh", Path(work) / "kept"
        fresh.mkdir()
        kept.mkdir()
        _fill(fresh, files)
        _swap(folder, fresh, kept, tuple(files))


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        _beneath(folder, name).write_bytes(content)


def _beneath(folder: Path, name: str) -> Path:
    """The file `name`, which may lie in a folder of its own, and its folder made."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    return path


def _swap(folder: Path, fresh: Path, kept: Path, names: tuple[str, ...]) -> None:
    """Move the fresh files over the old ones; should one move fail, put the old ones back."""
    for name in names:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, _beneath(kept, name))
    moved: list[str] = []
    try:
        for name in names:
            (fresh / name).replace(_beneath(folder, name))
            moved.append(name)
    except OSError:
        for name in moved:
            if (kept / name).exists():
                (kept / name).replace(folder / name)
            else:
                (folder / name).unlink()
        raise


def _flush(path: Path) -> None:
    """Wait until the disk holds a file, or what a folder lists."""
    place = os.open(path, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def save_durably(parts: Iterable[bytes | memoryview], path: Path) -> None:
    """Write `parts` to the new file `path` and wait until the disk holds them. Raises: OutputError; nothing is left then."""
    with _told_of(path, mend=MORE_ROOM):
        try:
            with path.open("xb") as stream:
                stream.writelines(parts)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise


def move_durably(source: Path, target: Path) -> None:
    """Move a file or a folder within one disk, at once and so that a loss of power does not undo it. Raises: OutputError."""
    with _told_of(target, mend=MORE_ROOM):
        source.replace(target)
        _flush(target.parent)
        if source.parent != target.parent:
            _flush(source.parent)


def flush_tree(folder: Path) -> None:
    """Wait until the disk holds every file below `folder`, and what each folder lists. Raises: OutputError."""
    with _told_of(folder, mend=MORE_ROOM):
        for parent, _, names in os.walk(folder, topdown=False):
            for name in names:
                _flush(Path(parent) / name)
            _flush(Path(parent))


def append_durably(data: bytes, path: Path) -> None:
    """Add `data` to the end of `path` in one write and wait for the disk. Raises: OutputError; nothing is added then."""
    with _told_of(path, mend=MORE_ROOM):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as stream:
            before = stream.seek(0, os.SEEK_END)
            try:
                if stream.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(stream.fileno())
            except OSError:
                stream.truncate(before)
                raise


def cut_to(length: int, path: Path) -> None:
    """Cut `path` to `length` bytes, on the disk too. Raises: OutputError."""
    with _told_of(path, mend=MORE_ROOM), path.open("r+b") as stream:
        stream.truncate(length)
        os.fsync(stream.fileno())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else is within a block of the same `path` meanwhile, whichever process it is. Raises: OutputError."""
    with _told_of(path, mend=MORE_ROOM):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("ab")
    with stream:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def claim(path: Path) -> BinaryIO | None:
    """A lock on `path` that lasts until it is closed or this process ends, None where another process has it."""
    with _told_of(path, mend=MORE_ROOM):
        stream = path.open("ab")
    try:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        return None
    return stream


@contextmanager
def _told_of(path: Path, *, mend: str) -> Iterator[None]:
    """The system's error within the block as a sentence about `path`. Raises: OutputError."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        mend = NOT_YOURS if error.errno in _FORBIDDEN else mend
        raise OutputError(str(path), f"cannot be written ({why})", mend=mend) from error
