"""Pages of processes that tell are printed by the node's own browsers, which outlive a crash of their own."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from storyxai.errors import InputError
from storyxai.export.browser import BROWSERS, VARIABLE
from storyxai.export.pdf import render_pdf
from storyxai.export.printer import Printer
from storyxai.node.press import Browsers, Page, Press, Printed
from storyxai.node.workers import Outcome, RefusedFilm, Worker

HTML = b"<html lang='en'><title>t</title><style>@page { margin: 1cm }</style><h1>%s</h1>"


def print_two(films: Sequence[Path], out: Path, press: Press) -> Outcome:
    """Begin a page for each film; of a film called "left" nobody takes it."""
    said = []
    for film in films:
        taken = press.begin(film.name.encode())
        if film.name == "left":
            raise RuntimeError("before the page was taken")
        said.append(RefusedFilm(film.name, "printed", taken().decode()))
    return Outcome((), tuple(said))


def test_each_page_comes_back_to_the_process_that_began_it_and_one_left_is_not_taken_for_the_next(tmp_path: Path) -> None:
    worker = Worker(print_two, seconds=60.0, studies=9, prints=lambda page: Printed(page.html * 100_000))
    for _ in range(2):  # pages larger than what a pipe holds
        said = worker.tell([Path("one"), Path("two")], tmp_path)
        assert [one.why for one in said.refused] == ["one" * 100_000, "two" * 100_000]
        with pytest.raises(Exception, match="before the page was taken"):
            worker.tell([Path("left")], tmp_path)
    worker.stop()


def test_that_no_browser_printed_reaches_the_teller(tmp_path: Path) -> None:
    worker = Worker(print_two, seconds=60.0, studies=9, prints=lambda page: Printed(why="the browser is away"))
    with pytest.raises(Exception, match="InputError: PDF: the browser is away"):
        worker.tell([Path("one")], tmp_path)
    worker.stop()


def test_a_page_that_failed_is_printed_once_more_and_then_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [1, 0, 1, 1]

    def pdf(self: Printer, page: bytes) -> bytes:
        if failures.pop(0):
            raise InputError("PDF", "the browser did not draw the page", mend="")
        return page

    monkeypatch.setattr(Printer, "pdf", pdf)
    browsers = Browsers(tmp_path)
    assert browsers.printed(Page(b"x")) == Printed(b"x")
    assert browsers.printed(Page(b"x")) == Printed(why="the browser did not draw the page") and not failures


def test_a_program_that_is_no_browser_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, shutil.which("false") or "false")
    browsers = Browsers(tmp_path / "scratch", tellers=4)
    assert "did not draw the page" in browsers.printed(Page(b"<p>")).why
    browsers.close()
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no Chromium browser here")
def test_a_browser_that_was_killed_is_replaced_within_the_same_page(tmp_path: Path) -> None:
    browsers = Browsers(tmp_path / "scratch")
    first = browsers.printed(Page(HTML % b"a"))
    printer = browsers._free.get()
    assert printer._browser is not None
    os.kill(printer._browser._process, signal.SIGKILL)
    browsers._free.put(printer)
    assert browsers.printed(Page(HTML % b"a")) == first == Printed(render_pdf(HTML % b"a"))
    browsers.close()
    assert list((tmp_path / "scratch").iterdir()) == []
