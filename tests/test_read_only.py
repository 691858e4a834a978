"""Places that nobody may write to are told before the work, with the mend that helps, and what lay there stays."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from evidence_models import CalibratedReader
from storyxai.errors import OutputError
from storyxai.export.browser import BROWSERS
from storyxai.export.pdf import render_pdf, render_png
from storyxai.files import write_whole
from storyxai.programs import concepts, evaluate, neighbours
from storyxai.programs import data as tables
from storyxai.programs import tell as telling
from storyxai.programs.models import ModelChoice

Lock = Callable[[Path], Path]


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> Lock:
    """Makes a folder one that takes no new file, also from root, whom permissions do not stop."""
    locked: list[Path] = []

    def refusing(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*words: Any, **given: Any) -> Any:
            if any(Path(given["dir"]).is_relative_to(folder) for folder in locked):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return make(*words, **given)

        return made

    for name in ("TemporaryFile", "TemporaryDirectory"):
        monkeypatch.setattr(tempfile, name, refusing(getattr(tempfile, name)))

    def close(folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        locked.append(folder)
        return folder

    return close


def never(*_: object, **__: object) -> None:
    pytest.fail("the work was begun")


def test_more_room_is_no_mend_for_a_place_that_one_may_not_write_to(lock: Lock, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"Read-only file system\) — name a place that you may write to"):
        write_whole(b"", lock(tmp_path / "locked") / "f")


@pytest.mark.parametrize("place", ["locked/f.json", "folder"])
def test_a_file_that_cannot_be_written_is_told_before_any_image_is_looked_at(
    place: str, lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand images were looked at first."""
    lock(tmp_path / "locked")
    (tmp_path / "folder").mkdir()
    for program in (concepts, neighbours):
        monkeypatch.setattr(program, "open_model", never)
    with pytest.raises(OutputError, match=place):
        neighbours.build_neighbours(tmp_path / "t.parquet", tmp_path / place)
    if place != "folder":  # where the concepts' file takes its own name
        with pytest.raises(OutputError, match=place):
            concepts.make_concepts(tmp_path / place, concepts.ConceptOptions(ModelChoice()))


def test_a_page_and_a_card_that_cannot_be_written_are_told_before_the_work(
    lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = lock(tmp_path / "locked")
    monkeypatch.setattr(tables, "read_table", never)
    with pytest.raises(OutputError, match="locked: cannot be written"):
        tables.check_data(tmp_path / "t.parquet", locked)
    monkeypatch.setattr(evaluate, "load_student", never)
    options = evaluate.EvaluateOptions(locked, write_card=True, explanations=evaluate.ExplanationPlan())
    with pytest.raises(OutputError, match="locked: cannot be written"):
        evaluate.evaluate(tmp_path / "t.parquet", tmp_path / "score", options)


def test_a_study_that_cannot_be_told_again_is_named_before_the_model_is_asked(
    lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of stories can be written, this study in it cannot: it was archived, say."""
    film = tmp_path / "film.png"
    Picture.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64).astype(np.uint8)).save(film)
    model = CalibratedReader({"A": np.ones((32, 32), np.bool_)})
    told = telling.tell_one(model, film, tmp_path / "out", telling.TellOptions(samples=100, force=True))
    before = {path: path.read_bytes() for path in told.folder.iterdir()}
    lock(told.folder)
    monkeypatch.setattr(telling, "gather", never)
    with pytest.raises(OutputError, match=f"{told.folder}: cannot be written .* — name a place that you may write to"):
        telling.tell_one(model, film, tmp_path / "out", telling.TellOptions(samples=100, force=True))
    assert {path: path.read_bytes() for path in told.folder.iterdir()} == before


@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no Chromium browser")
def test_a_browser_needs_no_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its TMPDIR was read-only it printed nothing: "ended with status 21"."""
    tempfile.gettempdir()  # ours is known by now; the browser looks for itself
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent" / "x"))
    page = b"<!DOCTYPE html><title>t</title><p>text</p>"
    assert render_png(page).startswith(b"\x89PNG") and render_pdf(page).startswith(b"%PDF")
