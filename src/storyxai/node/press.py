"""Printing for processes that tell: the node's own process has the browsers, for one weighs as much as a process that tells.

A process asks for a page through the pipe that its studies come by, goes on with other work, and takes the PDF when it
needs it. The browsers end with the node, and one that crashed is followed by another.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from storyxai.errors import InputError
from storyxai.export.browser import pdf_failure
from storyxai.export.printer import Printer

TELLERS_EACH = 3
"""One browser prints for so many processes: a page costs it a sixth of what telling and exporting a study costs them."""
TRIES = 2


@dataclass(frozen=True)
class Page:
    """A page to be printed, from the process that tells."""

    html: bytes


@dataclass(frozen=True)
class Printed:
    """What came of a page: its PDF, or why there is none."""

    pdf: bytes = b""
    why: str = ""


class Press:
    """The side of the process that tells."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._awaited = pipe, 0

    def begin(self, html: bytes) -> Callable[[], bytes]:
        """Have the page printed; what comes back waits for its PDF, and is called before the next page is begun.

        It raises InputError where no browser printed the page.
        """
        self._pipe.send(Page(html))
        self._awaited += 1
        return self._taken

    def clear(self) -> None:
        """Wait for a page that nobody took."""
        while self._awaited:
            self._receive()

    def _taken(self) -> bytes:
        printed = self._receive()
        if printed.why:
            raise pdf_failure(printed.why)
        return printed.pdf

    def _receive(self) -> Printed:
        self._awaited -= 1
        printed: Printed = self._pipe.recv()
        return printed


class Browsers:
    """The node's side: as many browsers as so many processes need, started with the first page, their files in `folder`."""

    def __init__(self, folder: Path, tellers: int = 1) -> None:
        self._count = -(-tellers // TELLERS_EACH)
        self._free: queue.SimpleQueue[Printer] = queue.SimpleQueue()
        for _ in range(self._count):
            self._free.put(Printer(folder))

    def printed(self, page: Page) -> Printed:
        """The page's PDF; where a browser failed, once more by a new one."""
        printer = self._free.get()
        try:
            for tried in range(1, TRIES + 1):
                try:
                    return Printed(printer.pdf(page.html))
                except InputError as error:
                    if tried == TRIES:
                        return Printed(why=error.why)
        finally:
            self._free.put(printer)
        raise AssertionError("every try returns")

    def close(self) -> None:
        """End those that print nothing just now; the others end with this process."""
        for _ in range(self._count):
            try:
                self._free.get(timeout=1.0).close()
            except queue.Empty:
                return
