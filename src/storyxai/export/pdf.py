"""A page as PDF, printed by a Chromium that is found on this machine: tagged for screen readers, A4 or Letter."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Literal

from storyxai.errors import InputError
from storyxai.export.browser import PATIENCE_SECONDS, browser_command, browser_environment, find_browser, print_mend
from storyxai.export.printer import Printer, settled_pdf, sized_page


def render_pdf(page: bytes, *, paper: Literal["A4", "letter"] = "A4") -> bytes:
    """The HTML `page` as a tagged PDF; the same page and browser give the same bytes. Raises: InputError.

    The page is printed from a copy in which the sheet's size is set and grey pictures are JPEG (`sized_page`); nothing else of
    it is changed.
    """
    find_browser()
    with tempfile.TemporaryDirectory(prefix="storyxai-pdf-") as folder:
        if os.name == "posix":
            with suppress(InputError):  # a browser behind a wrapper may not take our pipes: it is called, as anybody would
                return _printed(page, paper, Path(folder) / "printer")
        return _called(page, paper, Path(folder) / "page.pdf")


def _printed(page: bytes, paper: str, folder: Path) -> bytes:
    """By a browser that is spoken to: half the time of one that is called, for it starts less of itself."""
    printer = Printer(folder)
    try:
        return printer.pdf(page, paper=paper)
    finally:
        printer.close()


def _called(page: bytes, paper: str, target: Path) -> bytes:
    how = ("--no-pdf-header-footer", "--generate-pdf-document-outline", f"--print-to-pdf={target}")
    return settled_pdf(_browsed(sized_page(page, paper), target, how))


def render_png(page: bytes, *, size: tuple[int, int] = (1600, 900)) -> bytes:
    """The HTML `page` as a browser of that window (width, height in pixels) shows it, as PNG. Raises: InputError."""
    with tempfile.TemporaryDirectory(prefix="storyxai-png-") as folder:
        target = Path(folder) / "page.png"
        how = ("--hide-scrollbars", f"--window-size={size[0]},{size[1]}", f"--screenshot={target}")
        return _browsed(page, target, how)


def _browsed(page: bytes, target: Path, how: tuple[str, ...]) -> bytes:
    """What the browser, called with `how`, wrote to `target` of the page, beside which nothing lies. Raises: InputError."""
    form, source = target.suffix[1:].upper(), target.with_name("page.html")
    source.write_bytes(page)
    command = [*browser_command(target.parent), *how, source.as_uri()]
    browser = command[0]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=PATIENCE_SECONDS, check=False, env=browser_environment()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(form, f"{browser} did not draw the page ({error})", mend=print_mend()) from error
    if not target.is_file():
        raise InputError(form, f"{browser} ended with status {done.returncode} and wrote no {form}", mend=print_mend())
    return target.read_bytes()
