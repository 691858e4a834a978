"""The places that a program writes to: found writable before the work starts, and named as they were typed when they fail."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storyxai.errors import OutputError
from storyxai.files import MORE_ROOM, require_writable

DISK_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""What an operating system calls a disk that takes no more, whichever file it was met at."""


@contextmanager
def output_folder(folder: Path, *, typed: Path | None = None) -> Iterator[None]:
    """`folder`, made and seen to be writable; where the block fails and nothing was written, it is gone again.

    Raises: OutputError naming what was `typed` (by default the folder) when the folder cannot be written.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        require_writable(folder)
    except OutputError as error:
        raise OutputError(str(typed or folder), error.why, mend=error.mend) from error
    try:
        with name_full_disk(typed or folder):
            yield
    except BaseException:
        for place in made:
            with suppress(OSError):  # something was written there, so it stays
                place.rmdir()
        raise


@contextmanager
def output_file(out: Path) -> Iterator[None]:
    """The file `out` can be written: as `output_folder`, of the folder that it lies in. Raises: OutputError naming `out`."""
    if out.is_dir():
        raise OutputError(str(out), "is a folder", mend="name a file, which may lie in it")
    with output_folder(out.parent, typed=out):
        yield


@contextmanager
def name_full_disk(out: Path) -> Iterator[None]:
    """A disk that takes no more within the block is told in a sentence that names `out`. Raises: OutputError."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        raise OutputError(str(out), f"cannot be written ({error.strerror})", mend=MORE_ROOM) from error
