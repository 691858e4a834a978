"""A browser that stays open prints what a fresh one prints, whatever it printed before; one that dies is replaced."""

from __future__ import annotations

import base64
import io
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from storyxai.errors import InputError
from storyxai.export.browser import BROWSERS, VARIABLE
from storyxai.export.pdf import render_pdf
from storyxai.export.printer import Printer, remove_folder, settled_pdf, sized_page

PAGE = b"<html lang='en'><title>t</title><style>@page { margin: 1cm }</style><table><tr><th>a<td>b</table><h1>%s</h1>"


BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), "")
needs_browser = pytest.mark.skipif(not BROWSER, reason="no Chromium browser here")


def _that_drops_pipes(folder: Path) -> Path:
    """A browser behind a wrapper that hands no pipe on: it can be called, not spoken to."""
    wrapper = folder / "wrapped"
    wrapper.write_text(f'#!/bin/sh\nexec {BROWSER} "$@" 3<&- 4>&-\n', encoding="utf-8")
    wrapper.chmod(0o755)
    return wrapper


@needs_browser
def test_a_browser_that_cannot_be_spoken_to_is_called_and_prints_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = render_pdf(PAGE % b"this page", paper="letter")
    monkeypatch.setenv(VARIABLE, str(_that_drops_pipes(tmp_path)))
    with pytest.raises(InputError, match="did not draw the page"):
        Printer(tmp_path / "scratch").pdf(PAGE % b"this page", paper="letter")
    assert render_pdf(PAGE % b"this page", paper="letter") == spoken != render_pdf(PAGE % b"this page")


@needs_browser
def test_it_prints_the_same_bytes_again_and_outlives_a_dead_browser(tmp_path: Path) -> None:
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


@needs_browser
def test_a_new_tab_takes_the_place_of_one_that_drew_many_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tab's process keeps what it drew: after forty studies a node's browser held 700 MiB."""
    monkeypatch.setattr("storyxai.export.printer.TAB_PAGES", 2)
    printer, tabs, printed = Printer(tmp_path / "scratch"), [], set()
    for _ in range(5):
        printed.add(printer.pdf(PAGE % b"this page"))
        assert printer._browser is not None
        tabs.append(printer._browser._target)
    printer.close()
    assert len(printed) == 1 and tabs[1] == tabs[3] == "" and len({*tabs} - {""}) == 3


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


@pytest.mark.parametrize(("mode", "form"), [("L", "JPEG"), ("P", "PNG"), ("RGB", "PNG"), ("LA", "PNG")])
def test_grey_pictures_alone_go_to_the_browser_as_jpeg_and_look_the_same(mode: str, form: str) -> None:
    """Noise is the worst that JPEG can meet."""
    noise = Picture.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96), dtype=np.uint8)).convert(mode)
    packed = io.BytesIO()
    noise.save(packed, "PNG")
    page = sized_page(b"<image href='data:image/png;base64,%s'>" % base64.b64encode(packed.getvalue()), "A4")
    printed = Picture.open(io.BytesIO(base64.b64decode(page.partition(b"base64,")[2].removesuffix(b"'>"))))
    assert (printed.format, printed.mode) == (form, mode) and f"image/{form.lower()}".encode() in page
    assert np.abs(np.asarray(printed).astype(int) - np.asarray(noise)).max() <= (2 if form == "JPEG" else 0)


def test_what_is_no_sound_picture_is_left_to_the_browser() -> None:
    page = b"<image href='data:image/png;base64,%s'>" % base64.b64encode(b"\x89PNG no more")
    assert sized_page(page, "A4") == page


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
