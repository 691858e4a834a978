"""A browser that stays open prints what a fresh one prints, whatever it printed before; one that dies is replaced."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from storyxai.errors import InputError
from storyxai.export.pdf import BROWSERS, VARIABLE, render_pdf, settled_pdf
from storyxai.export.printer import Printer, remove_folder

PAGE = b"<html lang='en'><title>t</title><style>@page { margin: 1cm }</style><table><tr><th>a<td>b</table><h1>%s</h1>"


@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no Chromium browser here")
def test_it_prints_the_same_bytes_as_a_fresh_browser_and_outlives_a_dead_one(tmp_path: Path) -> None:
    printer = Printer(tmp_path / "scratch")
    printer.pdf(PAGE % b"another page")
    second = printer.pdf(PAGE % b"this page")
    assert second == render_pdf(PAGE % b"this page") != printer.pdf(PAGE % b"other page")
    assert printer._browser is not None
    os.kill(printer._browser._process, signal.SIGKILL)
    with pytest.raises(InputError, match="did not draw the page"):
        printer.pdf(PAGE % b"this page")
    assert list((tmp_path / "scratch").iterdir()) == []  # the page, too, is gone
    assert printer.pdf(PAGE % b"this page") == second
    printer.close()
    printer.close()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_program_that_is_no_browser_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, shutil.which("false") or "false")
    with pytest.raises(InputError, match="did not draw the page"):
        Printer(tmp_path).pdf(b"<p>")
    assert list(tmp_path.iterdir()) == []


def test_neither_the_time_nor_what_a_browser_counted_before_stays_in_a_pdf() -> None:
    one = b"/CreationDate (D:20261130012345+00'00') /ID (node00000165) /K (node00000170) /P (node00000165)"
    other = b"/CreationDate (D:20261201000000+00'00') /ID (node00000007) /K (node00000012) /P (node00000007)"
    assert settled_pdf(one) == settled_pdf(other) and len(settled_pdf(one)) == len(one)  # offsets within the file hold
    assert settled_pdf(one) != settled_pdf(other.replace(b"/P (node00000007)", b"/P (node00000012)"))


def test_what_the_browser_wrote_last_is_gone_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its helpers outlive it by a moment: what they write between two removals is removed again."""
    folder, remove = tmp_path / "browser", shutil.rmtree
    folder.mkdir()
    late = iter([True, True])

    def removed(path: Path, **how: bool) -> None:
        remove(path, **how)
        if next(late, False):
            (path / "profile").mkdir(parents=True)

    monkeypatch.setattr(shutil, "rmtree", removed)
    remove_folder(folder, ends=time.monotonic() + 5)
    assert not folder.exists()
