"""The process that tells: with `pdf = false` no page is printed, and every object but the page is there."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("highdicom", reason="highdicom absent: install storyxai[hospital]")
pytest.importorskip("pynetdicom", reason="pynetdicom absent: install storyxai[hospital]")

from evidence_example import example_evidence
from storyxai.errors import InputError
from storyxai.evidence.archive import write_archive
from storyxai.export.browser import VARIABLE, pdf_failure
from storyxai.node import telling, workers
from storyxai.pages.story import render_html
from storyxai.programs.tell import TellOptions
from storyxai.provenance import sha256_file, software_versions
from storyxai.story.tell import tell
from storyxai.types import Evidence


def told(out: Path) -> tuple[Any, Evidence]:
    """What `tell_held` gives of the example."""
    example = example_evidence()
    here = {"packages": software_versions("numpy"), "version": software_versions("storyxai")["storyxai"]}
    evidence = replace(example, provenance={**example.provenance, **here})
    folder = write_archive(evidence, out / "study")
    (folder / "clinician.html").write_bytes(render_html(tell(evidence, "clinician"), evidence))
    return SimpleNamespace(folder=folder, written={path.name: sha256_file(path) for path in folder.iterdir()}), evidence


class ByHand:
    """Prints nothing: says which pages were begun, and gives what `pdf` makes."""

    def __init__(self, pdf: Any) -> None:
        self.pages, self.pdf = list[bytes](), pdf

    def begin(self, html: bytes) -> Any:
        self.pages.append(html)
        return self.pdf


def no_pdf() -> bytes:
    raise pdf_failure("no browser")


@pytest.mark.parametrize("pdf", [True, False])
def test_without_pdf_no_page_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pdf: bool) -> None:
    monkeypatch.setenv(VARIABLE, "true")  # a browser is there, and not asked by this process
    monkeypatch.setattr(telling, "tell_held", lambda model, film, out, options: told(out.parent))
    monkeypatch.setattr(telling, "open_model", lambda name: None)
    film = tmp_path / "film.png"
    film.write_bytes(b"\x89PNG")
    teller, press = telling.StudyTeller(TellOptions(), pdf), ByHand(lambda: b"%PDF-1.7\n%%EOF\n")
    outcome = teller([film], tmp_path / "out", press)  # type: ignore[arg-type]
    made = {path.name for path in (tmp_path / "out" / "objects" / outcome.told[0].objects).iterdir()}
    assert "report.dcm" in made and ("clinician.dcm" in made) is pdf
    assert press.pages == ([(tmp_path / "out" / "study" / "clinician.html").read_bytes()] if pdf else [])
    if pdf:
        with pytest.raises(InputError, match="no browser"):
            teller([film], tmp_path / "again", ByHand(no_pdf))  # type: ignore[arg-type]


def test_what_highdicom_reads_with_its_first_object_is_there_before_any_teller_is_forked() -> None:
    """In a process of its own: here other tests have read it."""
    asked = "from highdicom._standard_utils import get_module_attribute_map as table; print(table.cache_info().currsize)"
    command = [sys.executable, "-c", f"import storyxai.node.ahead; {asked}"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "1"


@pytest.mark.parametrize(("said", "threads"), [(None, "1"), ("3", "3")])
def test_processes_that_tell_multiply_in_one_thread_unless_somebody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, said: str | None, threads: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "")  # so that what is set below is taken back
    monkeypatch.delenv("OMP_NUM_THREADS")
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    started = list[str]()
    monkeypatch.setattr(workers.forkserver, "ensure_running", lambda: started.append(os.environ["OMP_NUM_THREADS"]))
    workers.import_ahead([])
    assert started == [threads]
