"""A browser that stays open and prints page after page: starting one costs three times what a page does.

It is spoken to through two pipes that nobody else holds (no port is opened), in Chromium's DevTools protocol: messages of
JSON, each ended by a zero byte. It ends when the pipes close, so none outlives the process that started it.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import select
import shutil
import signal
import time
import uuid
from pathlib import Path
from typing import Any, Final

from PIL import Image as Picture

from storyxai.export.browser import PATIENCE_SECONDS, browser_command, browser_environment, pdf_failure

try:
    import fcntl
except ImportError:  # Windows, where a browser is called for each page
    fcntl = None  # type: ignore[assignment]

END_SECONDS: Final = 5.0
PAGES: Final = 200
"""After so many pages a new browser takes its place: what it gathers in memory stays bounded."""
TAB_PAGES: Final = 10
"""After so many pages a new tab takes the place of the old one, whose process keeps some 14 MiB of every page it drew."""
LEAN: Final = (
    "--no-startup-window", "--window-size=400,300", "--in-process-gpu", "--enable-features=NetworkServiceInProcess2",
    "--disable-features=SpareRendererForSitePerProcess,PreloadTopChromeWebUI,WebUIOmniboxPopup,WebUIOmniboxAimPopup",
)  # fmt: skip
"""No window, process or service that printing does not need, and little to draw for a screen that nobody sees: a third of the
memory less, and the same bytes."""
_HOW: Final = {
    "printBackground": True, "preferCSSPageSize": True, "generateTaggedPDF": True, "generateDocumentOutline": True,
    "displayHeaderFooter": False,
}  # fmt: skip
"""As `--print-to-pdf` prints."""
_POLICY = re.compile(rb'<meta http-equiv="Content-Security-Policy"[^>]*>')
_PNG = re.compile(rb"data:image/png;base64,([A-Za-z0-9+/=]+)")
_DATE = re.compile(rb"/(CreationDate|ModDate) \(D:\d{14}")
_NODE = re.compile(rb"\(node\d{8}\)")


class Printer:
    """Prints pages as `render_pdf` does, byte by byte, with one browser whose files lie in `folder`. Close it when done."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._pages = folder, 0
        self._browser: _Browser | None = None

    def pdf(self, page: bytes, *, paper: str = "A4") -> bytes:
        """The HTML `page` as a tagged PDF on that paper. Raises: InputError; the next page is printed by a new browser then."""
        if self._browser is None or self._pages >= PAGES:
            self.close()
            self._browser = _Browser(self._folder / f"browser-{uuid.uuid4().hex}")
        self._pages += 1
        try:
            return settled_pdf(self._browser.printed(sized_page(page, paper)))
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            self.close()
            raise pdf_failure("the browser did not draw the page", error) from error

    def close(self) -> None:
        """End the browser and remove its files."""
        if self._browser is not None:
            self._browser.end()
        self._browser, self._pages = None, 0


class _Browser:
    """One browser and the tab that it prints from."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder, self._unread, self._asked, self._page = folder, b"", 0, 0
        self._target = self._tab = ""
        self._until = 0.0
        to_us, theirs = map(_high, os.pipe())
        ours, from_us = (_high(end) for end in reversed(os.pipe()))
        command = [*browser_command(folder), *LEAN, "--remote-debugging-pipe"]
        try:
            self._process = os.posix_spawn(command[0], command, browser_environment(), file_actions=[
                (os.POSIX_SPAWN_DUP2, from_us, 3), (os.POSIX_SPAWN_DUP2, theirs, 4),
                *((os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)),
            ])  # fmt: skip
        finally:
            os.close(theirs)
            os.close(from_us)
        self._from, self._to = to_us, ours

    def printed(self, page: bytes) -> bytes:
        """The page as the browser prints it. Raises: OSError, EOFError, ValueError, KeyError or TypeError."""
        self._until, self._page = time.monotonic() + PATIENCE_SECONDS, self._page + 1
        source = self._folder / f"page-{self._page}.html"
        source.write_bytes(page)
        try:
            self._open_tab()
            if said := self._ask("Page.navigate", url=source.absolute().as_uri()).get("errorText"):
                raise ValueError(said)
            while self._heard().get("method") != "Page.loadEventFired":
                pass
            printed = base64.b64decode(self._ask("Page.printToPDF", **_HOW)["data"])
            if self._page % TAB_PAGES == 0:
                self._ask("Target.closeTarget", targetId=self._target)
                self._tab = self._target = ""
            return printed
        finally:
            source.unlink(missing_ok=True)

    def end(self) -> None:
        """Close the pipes, which ends the browser; one that hangs is killed."""
        for pipe in (self._from, self._to):
            os.close(pipe)
        ends = time.monotonic() + END_SECONDS
        while not os.waitpid(self._process, os.WNOHANG)[0]:
            if time.monotonic() > ends:
                os.kill(self._process, signal.SIGKILL)
            time.sleep(0.02)
        remove_folder(self._folder, ends=ends + END_SECONDS)

    def _open_tab(self) -> None:
        if self._tab:
            return
        self._target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._tab = str(self._ask("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"])
        self._ask("Page.enable")

    def _ask(self, method: str, **given: Any) -> dict[str, Any]:
        """The browser's answer to a command; what it tells besides is passed over."""
        self._asked += 1
        tab = {"sessionId": self._tab} if method.startswith("Page.") else {}
        os.write(self._to, json.dumps({"id": self._asked, "method": method, "params": given, **tab}).encode() + b"\0")
        while (answer := self._heard()).get("id") != self._asked:
            pass
        if "error" in answer:
            raise ValueError(answer["error"].get("message", ""))
        return dict(answer["result"])

    def _heard(self) -> dict[str, Any]:
        """The next message. Raises: TimeoutError, EOFError, ValueError."""
        blocks = [self._unread]
        while b"\0" not in blocks[-1]:
            if not select.select([self._from], [], [], max(0.0, self._until - time.monotonic()))[0]:
                raise TimeoutError(f"nothing within {PATIENCE_SECONDS} s")
            blocks.append(os.read(self._from, 1 << 20))
            if not blocks[-1]:
                raise EOFError("it ended")
        message, _, self._unread = b"".join(blocks).partition(b"\0")
        return dict(json.loads(message))


def remove_folder(folder: Path, *, ends: float) -> None:
    """Remove the folder of a browser that ended; helpers outlive it by a moment and write on. `ends` is of time.monotonic."""
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < ends:
        time.sleep(0.02)
        shutil.rmtree(folder, ignore_errors=True)


def _high(pipe: int) -> int:
    """The same end of a pipe under a number above those that the browser expects its pipes at."""
    try:
        return fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, 16)
    finally:
        os.close(pipe)


def settled_pdf(printed: bytes) -> bytes:
    """The PDF without its time, its elements numbered in the order in which they are met: a browser counts on and on."""
    met: dict[bytes, bytes] = {}
    numbered = _NODE.sub(lambda one: met.setdefault(one[0], b"(node%08d)" % (len(met) + 1)), printed)
    return _DATE.sub(rb"/\1 (D:19700101000000", numbered)


def sized_page(page: bytes, paper: str) -> bytes:
    """The page with its sheet's size named; its policy, which would refuse a changed style sheet, is left out.

    Grey pictures become JPEG of the highest quality, no grey level further than two of 255 from the page's own: a browser hands
    JPEG on as it is, but unpacks a PNG to three colours and packs it anew, a quarter of its time and twice the bytes.
    """
    sized = _POLICY.sub(b"", page, count=1).replace(b"@page {", b"@page { size: " + paper.encode() + b";", 1)
    return _PNG.sub(_grey_as_jpeg, sized)


def _grey_as_jpeg(found: re.Match[bytes]) -> bytes:
    target = io.BytesIO()
    try:
        with Picture.open(io.BytesIO(base64.b64decode(found[1])), formats=("PNG",)) as picture:
            if picture.mode != "L" or "transparency" in picture.info:
                return found[0]
            picture.save(target, "JPEG", quality=100)
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError):  # no sound PNG: the browser sees for itself
        return found[0]
    return b"data:image/jpeg;base64," + base64.b64encode(target.getvalue())
