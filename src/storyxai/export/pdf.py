"""A page as PDF, printed by a Chromium that is found on this machine: tagged for screen readers, A4 or Letter."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Literal

from storyxai.errors import InputError

__all__ = ["BROWSERS", "PATIENCE_SECONDS", "browser_command", "find_browser", "pdf_failure", "render_pdf", "render_png",
           "settled_pdf", "sized_page"]  # fmt: skip

BROWSERS: Final = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "msedge",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)  # fmt: skip
"""Where to look for a browser of the Chromium family: names on the path, then places."""
VARIABLE = "STORYXAI_BROWSER"
PATIENCE_SECONDS = 120
# Nothing of the page's is fetched; these keep the browser itself from asking for anything.
QUIET: Final = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
_POLICY = re.compile(rb'<meta http-equiv="Content-Security-Policy"[^>]*>')
_DATE = re.compile(rb"/(CreationDate|ModDate) \(D:\d{14}")
_NODE = re.compile(rb"\(node\d{8}\)")


def find_browser() -> str:
    """The browser to print with: what STORYXAI_BROWSER names, else the first found. Raises: InputError when there is none."""
    named = os.environ.get(VARIABLE, "")
    found = next((path for name in ([named] if named else BROWSERS) if (path := shutil.which(name))), None)
    if found is None:
        why = f"{VARIABLE} names '{named}', which is no program" if named else "needs a Chromium browser, and none was found"
        raise InputError("PDF", why, mend=f"install chromium, or set {VARIABLE} to a browser's path; the HTML page prints too")
    return found


def render_pdf(page: bytes, *, paper: Literal["A4", "letter"] = "A4") -> bytes:
    """The HTML `page` as a tagged PDF; the same page and browser give the same bytes. Raises: InputError.

    The page is printed from a copy in which the sheet's size is set; nothing else of it is changed.
    """
    with tempfile.TemporaryDirectory(prefix="storyxai-pdf-") as folder:
        target = Path(folder) / "page.pdf"
        how = ("--no-pdf-header-footer", "--generate-pdf-document-outline", f"--print-to-pdf={target}")
        return settled_pdf(_browsed(sized_page(page, paper), target, how))


def render_png(page: bytes, *, size: tuple[int, int] = (1600, 900)) -> bytes:
    """The HTML `page` as a browser of that window (width, height in pixels) shows it, as PNG. Raises: InputError."""
    with tempfile.TemporaryDirectory(prefix="storyxai-png-") as folder:
        target = Path(folder) / "page.png"
        how = ("--hide-scrollbars", f"--window-size={size[0]},{size[1]}", f"--screenshot={target}")
        return _browsed(page, target, how)


def settled_pdf(printed: bytes) -> bytes:
    """The PDF without its time, its elements numbered in the order in which they are met: a browser counts on and on."""
    met: dict[bytes, bytes] = {}
    numbered = _NODE.sub(lambda one: met.setdefault(one[0], b"(node%08d)" % (len(met) + 1)), printed)
    return _DATE.sub(rb"/\1 (D:19700101000000", numbered)


def browser_command(folder: Path) -> list[str]:
    """What starts a browser that keeps its files in `folder` and asks nobody for anything. Raises: InputError."""
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # as root it has no sandbox
    return [find_browser(), *QUIET, *root, f"--user-data-dir={folder}/profile"]


def pdf_failure(why: str, cause: Exception | None = None) -> InputError:
    """That a page could not be printed, with the mend."""
    return InputError("PDF", f"{why} ({cause})" if cause else why, mend=_mend())


def _browsed(page: bytes, target: Path, how: tuple[str, ...]) -> bytes:
    """What the browser, called with `how`, wrote to `target` of the page, beside which nothing lies. Raises: InputError."""
    form, source = target.suffix[1:].upper(), target.with_name("page.html")
    source.write_bytes(page)
    command = [*browser_command(target.parent), *how, source.as_uri()]
    browser = command[0]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(form, f"{browser} did not draw the page ({error})", mend=_mend()) from error
    if not target.is_file():
        raise InputError(form, f"{browser} ended with status {done.returncode} and wrote no {form}", mend=_mend())
    return target.read_bytes()


def _mend() -> str:
    return f"set {VARIABLE} to another browser's path, or print the HTML page by hand"


def sized_page(page: bytes, paper: str) -> bytes:
    """The page with its sheet's size named; its policy, which would refuse a changed style sheet, is left out."""
    return _POLICY.sub(b"", page, count=1).replace(b"@page {", b"@page { size: " + paper.encode() + b";", 1)
