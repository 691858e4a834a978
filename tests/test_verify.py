"""Verify draws every page again from the archive: what was edited and sealed anew is found all the same."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as Picture

from evidence_example import example_evidence
from storyxai.evidence.archive import read_archive, write_archive
from storyxai.pages.story import render_html
from storyxai.programs.verify import studies_in, verify
from storyxai.provenance import software_versions
from storyxai.story.tell import AUDIENCES, tell
from storyxai.types import Evidence

SEAL = re.compile(rb'(name="storyxai-seal" content=")([0-9a-f]{64})(")')
PICTURE = re.compile(rb"data:image/png;base64,([A-Za-z0-9+/=]+)")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    example = example_evidence()
    here = software_versions("numpy", "scipy", "pillow")
    version = software_versions("storyxai")["storyxai"]
    evidence = replace(example, provenance={**example.provenance, "packages": here, "version": version})
    return written(evidence, tmp_path_factory.mktemp("told"))


@pytest.fixture
def study(told: Path, tmp_path: Path) -> Path:
    """A study of the test's own, which it may alter."""
    return shutil.copytree(told, tmp_path / "study")


def written(evidence: Evidence, tmp_path: Path) -> Path:
    folder = write_archive(evidence, tmp_path / "study")
    for audience in AUDIENCES:
        (folder / f"{audience}.html").write_bytes(render_html(tell(evidence, audience), evidence))
    return folder


def sealed(page: bytes) -> bytes:
    """The page with a seal that holds, as one who knows the trick would leave it."""
    bare = SEAL.sub(rb"\g<1>" + b"0" * 64 + rb"\g<3>", page)
    return SEAL.sub(rb"\g<1>" + hashlib.sha256(bare).hexdigest().encode() + rb"\g<3>", page)


def test_pages_as_they_were_told_have_no_problem(study: Path) -> None:
    found = verify(study)
    assert (found.problems, len(found.pages)) == ((), 4)


def test_a_swapped_picture_is_found_though_the_seal_holds(study: Path) -> None:
    path = study / "clinician.html"
    page = path.read_bytes()
    black = io.BytesIO()
    Picture.new("L", (8, 8)).save(black, "PNG")
    edited = PICTURE.sub(b"data:image/png;base64," + base64.b64encode(black.getvalue()), page, count=1)
    assert edited != page
    path.write_bytes(sealed(edited))
    drawn, *read = sorted(verify(study).problems)
    assert drawn.startswith("clinician.html: is not the page that this evidence makes")
    assert "clinician.html: shows another film than the one on record" in read


def test_what_other_versions_drew_is_said_to_be_beyond_judging(tmp_path: Path) -> None:
    study = written(example_evidence(), tmp_path)  # told with numpy 2.0.0, says its provenance
    path = study / "auditor.html"
    path.write_bytes(sealed(path.read_bytes().replace(b"</body>", b"<hr></body>")))
    (problem,) = verify(study).problems
    assert problem.startswith("auditor.html") and "numpy 2.0.0" in problem and "same versions" in problem


def test_an_added_heading_is_found_though_the_seal_holds(study: Path) -> None:
    path = study / "patient.html"
    path.write_bytes(sealed(path.read_bytes().replace(b"</body>", b"<h2>All is well</h2></body>")))
    drawn, read = sorted(verify(study).problems)
    assert drawn.startswith("patient.html: is not the page that this evidence makes")
    assert read == "patient.html: says “All is well”, which is no part of such a page"


def test_a_fact_altered_everywhere_on_a_page_is_named(study: Path) -> None:
    """In the sentence, in the story that the page carries, and in its seal: the evidence stands against all three."""
    path = study / "patient.html"
    page = path.read_text(encoding="utf-8")
    edited = page.replace("fluid around the lung", "a small spot in the lung")
    assert edited != page
    path.write_bytes(sealed(edited.encode()))
    problems = verify(study).problems
    assert any("prints “a small spot in the lung” where terms.Effusion.lay is fluid around the lung" in one for one in problems)


def test_a_folder_of_studies_is_its_studies(study: Path, tmp_path: Path) -> None:
    assert studies_in([tmp_path, study]) == [study]
    assert studies_in([tmp_path / "nothing"]) == [tmp_path / "nothing"]


def test_a_page_that_nobody_told_is_named(study: Path) -> None:
    (study / "discharge.html").write_text("<p>All is well.</p>", encoding="utf-8")
    (problem,) = verify(study).problems
    assert problem == "discharge.html: was not written by tell; it is not checked"


def test_a_page_for_a_reader_from_a_file_says_where_that_file_is_looked_for(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = tmp_path / "readers" / "nurse.toml"
    reader.parent.mkdir()
    lines = ('key = "nurse"', 'title = "For the nurse"', "[[sections]]", 'heading = "Found"', 'blocks = ["claim"]')
    reader.write_text("\n".join(lines), "utf-8")
    evidence = read_archive(study)
    (study / "nurse.html").write_bytes(render_html(tell(evidence, str(reader)), evidence))
    (problem,) = verify(study).problems
    assert "for the reader 'nurse', who is not known here; let STORYXAI_AUDIENCES name the folder of nurse.toml" in problem
    monkeypatch.setenv("STORYXAI_AUDIENCES", str(reader.parent))
    assert verify(study).problems == ()
