"""The patient's page is held back until somebody releases it; the log of releases shows what was altered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evidence_example import example_evidence
from storyxai.errors import ArchiveError, InputError
from storyxai.evidence.archive import read_archive, write_archive
from storyxai.export.save import render
from storyxai.pages.story import render_html
from storyxai.programs.release import release
from storyxai.programs.verify import verify
from storyxai.story.tell import tell

NOON = "2026-11-29T12:00:00Z"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = write_archive(example_evidence(), tmp_path / "study")
    evidence = read_archive(folder)
    (folder / "patient.html").write_bytes(render_html(tell(evidence, "patient"), evidence))
    return folder


def test_a_page_is_held_back_without_a_picture_until_it_is_released(study: Path) -> None:
    before = (study / "patient.html").read_bytes()
    assert b"Not yet for reading" in before and b'class="film-frame' not in before
    assert release(study, by=" Dr. A.  Example ", time=NOON).release.by == "Dr. A. Example"
    plain = (study / "patient.html").read_bytes()
    assert b"Not yet for reading" not in plain and b"Released for reading by Dr. A. Example, 2026-11-29" in plain
    assert b'class="film-frame' not in plain and verify(study).problems == ()
    assert release(study, by="Dr. B", with_picture=True, time=NOON).lines == 2
    assert b'class="film-frame' in (study / "patient.html").read_bytes() and verify(study).problems == ()


@pytest.mark.parametrize(("old", "new", "why"), [
    ("Dr. A", "Dr. X", "the log was altered"), ('"page_sha256": "', '"page_sha256": "0', "another page"),
    ("storyxai-release/1", "x", "is not of format"), ('"evidence_sha256": "', '"evidence_sha256": "0', "other evidence"),
])
def test_an_altered_log_is_found(study: Path, old: str, new: str, why: str) -> None:
    release(study, by="Dr. A", time=NOON)
    release(study, by="Dr. B", time=NOON)
    path = study / "release.json"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    assert any(why in problem for problem in verify(study).problems), verify(study).problems


def test_what_cannot_be_released_is_one_sentence(study: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="by: is empty"):
        release(study, by=" ")
    with pytest.raises(ArchiveError, match="holds no patient"):
        release(tmp_path, by="Dr. A")
    record = json.loads((study / "evidence.json").read_text(encoding="utf-8"))
    record["study"]["indication"] = "altered"
    (study / "evidence.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ArchiveError):
        release(study, by="Dr. A")
    assert not (study / "release.json").exists()


def test_other_forms_that_lie_beside_the_page_are_released_with_it(study: Path) -> None:
    story = tell(read_archive(study), "patient")
    for ending in ("md", "txt"):
        render(story, study / f"patient.{ending}")
        assert "Not yet for reading" in (study / f"patient.{ending}").read_text(encoding="utf-8")
    assert verify(study).problems == ()
    release(study, by="Dr. A", time=NOON)
    for ending in ("md", "txt"):
        text = " ".join((study / f"patient.{ending}").read_text(encoding="utf-8").replace("\\", "").split())
        assert "Not yet for reading" not in text and "Released for reading by Dr. A, 2026-11-29" in text
    assert verify(study).problems == ()
    render(story, study / "patient.txt")  # as it was before
    assert any(problem.startswith("patient.txt: does not say who released it") for problem in verify(study).problems)
