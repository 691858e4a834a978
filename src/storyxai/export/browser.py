"""The Chromium browser that pages are printed with: where it is found and what it is called with."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from storyxai.errors import InputError

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


def find_browser() -> str:
    """The browser to print with: what STORYXAI_BROWSER names, else the first found. Raises: InputError when there is none."""
    named = os.environ.get(VARIABLE, "")
    found = next((path for name in ([named] if named else BROWSERS) if (path := shutil.which(name))), None)
    if found is None:
        why = f"{VARIABLE} names '{named}', which is no program" if named else "needs a Chromium browser, and none was found"
        raise InputError("PDF", why, mend=f"install chromium, or set {VARIABLE} to a browser's path; the HTML page prints too")
    return found


def browser_command(folder: Path) -> list[str]:
    """What starts a browser that keeps its files in `folder` and asks nobody for anything. Raises: InputError."""
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # as root it has no sandbox
    return [find_browser(), *QUIET, *root, f"--user-data-dir={folder}/profile"]


def browser_environment() -> dict[str, str]:
    """The environment of such a browser: TMPDIR is a folder that takes files, for without one it ends."""
    return {**os.environ, "TMPDIR": tempfile.gettempdir()}


def pdf_failure(why: str, cause: Exception | None = None) -> InputError:
    """That a page could not be printed, with the mend."""
    return InputError("PDF", f"{why} ({cause})" if cause else why, mend=print_mend())


def print_mend() -> str:
    """What helps where a browser prints nothing."""
    return f"set {VARIABLE} to another browser's path, or print the HTML page by hand"
