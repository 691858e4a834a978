"""The twin of the DICOM side: a folder that is looked at now and then, whose new image files go into the queue.

Files stay as they are. One is taken when two looks found it alike, so that none is taken half-copied; after a restart all are
looked at again, and the queue knows those that it has.
"""

from __future__ import annotations

import threading
from pathlib import Path

from storyxai.errors import InputError
from storyxai.imaging.read import find_images
from storyxai.node.intake import Unfit, film_of_file
from storyxai.node.queue import Conflict, DiskQueue, NoRoom, Received
from storyxai.node.reports import Reports

Look = tuple[int, int]
"""A file's size and time of change."""


class Watcher:
    """Looks at a folder from `start` to `stop`."""

    def __init__(
        self, folder: Path, queue: DiskQueue, reports: Reports, *, every_seconds: float = 2.0, most_bytes: int = 64 << 20
    ) -> None:
        if not folder.is_dir():
            raise InputError(str(folder), "is no folder", mend="name the folder that images are put into")
        self._folder, self._queue, self._reports, self._every, self._most = folder, queue, reports, every_seconds, most_bytes
        self._seen: dict[Path, Look] = {}
        self._done: dict[Path, Look] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watching", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join(10)

    def look(self) -> int:
        """How many files one look took into the queue."""
        now = dict(self._found())
        taken = 0
        for path, look in now.items():
            if self._done.get(path) == look or self._seen.get(path) != look:
                continue
            try:
                taken += self._take(path, look)
            except NoRoom as error:  # the file stays where it is and is taken at a later look
                self._reports.line("folder_waits", why=error.why)
                break
            self._done[path] = look
        self._seen = now
        self._done = {path: look for path, look in self._done.items() if path in now}
        return taken

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self.look()

    def _found(self) -> list[tuple[Path, Look]]:
        try:
            paths = find_images([self._folder])
        except InputError:  # empty
            return []
        found = []
        for path in paths:
            try:
                state = path.stat()
            except OSError:  # gone since
                continue
            found.append((path, (state.st_size, state.st_mtime_ns)))
        return found

    def _take(self, path: Path, look: Look) -> bool:
        """Whether the file is newly in the queue. What cannot be taken is told of without its name: it may be a patient's."""
        try:
            if look[0] > self._most:
                raise Unfit("file", f"is larger than {self._most >> 20} MiB")
            received = self._queue.receive(film_of_file(path.read_bytes(), suffix=path.suffix.lower()))
        except OSError as error:
            self._refuse("unreadable", type(error).__name__)
        except Conflict as error:
            self._refuse("conflict", error.why)
        except Unfit as error:
            self._refuse("unfit", error.why)
        else:
            kept = received is Received.KEPT
            self._reports.count("objects_received" if kept else "objects_known")
            return kept
        return False

    def _refuse(self, reason: str, why: str) -> None:
        self._reports.count("objects_refused", reason)
        self._reports.line("file_refused", reason=reason, why=why)
