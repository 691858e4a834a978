"""Stories in Markdown, JSON and plain text are read back like their pages."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence_example import example_evidence
from storyxai.evidence.archive import write_archive
from storyxai.evidence.record import as_archived, as_record
from storyxai.export.save import render
from storyxai.pages.story import render_html
from storyxai.programs.verify import verify
from storyxai.proof.lexicon import Lexicon
from storyxai.proof.templates import Form, readings
from storyxai.provenance import software_versions
from storyxai.story.tell import AUDIENCES, tell


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    example = example_evidence()
    here = {**software_versions("numpy", "scipy", "pillow")}
    version = software_versions("storyxai")["storyxai"]
    evidence = as_archived(replace(example, provenance={**example.provenance, "packages": here, "version": version}))
    folder = write_archive(evidence, tmp_path_factory.mktemp("told") / "study")
    for audience in AUDIENCES:
        story = tell(evidence, audience)
        (folder / f"{audience}.html").write_bytes(render_html(story, evidence))
        for form in ("md", "txt", "json"):
            render(story, folder / f"{audience}.{form}")
    return folder


@pytest.fixture
def study(told: Path, tmp_path: Path) -> Path:
    """A study of the test's own, which it may alter."""
    return shutil.copytree(told, tmp_path / "study")


def test_every_form_of_a_clean_study_is_clean(study: Path) -> None:
    assert verify(study).problems == ()


@pytest.mark.parametrize(("name", "old", "new", "why"), [
    ("clinician.md", "Effusion is likely", "Effusion is unlikely", "no sentence of this reader"),
    ("clinician.md", "`findings.Effusion.tier`", "`findings.Effusion.stage`", "leads nowhere"),
    ("patient.md", "fluid around the lung", "a small spot in the lung", "terms.Effusion.lay"),
    ("auditor.md", "**Research use only", "**For use", "research use only"),
    ("practitioner.md", "## ", "## All is well, ", "no part of such a page"),
    ("clinician.json", "Effusion is likely", "Effusion is possible", "no sentence of this reader"),
    ("clinician.json", '"findings.Effusion.threshold": 0.', '"findings.Effusion.threshold": 1.', "Effusion.threshold is 0."),
    ("patient.json", "Call the emergency number", "Do not call the emergency number", "no sentence of this reader"),
    ("patient.txt", "fluid around the lung", "a small spot in the lung", "which its page does not"),
    ("patient.txt", "- The computer can be wrong.\n", "", "which its page says"),
    ("patient.md", "> Not yet for reading: a clinician must release this page first\n", "", "no release is on record"),
    ("patient.txt", "Not yet for reading", "For reading", "not yet for reading"),
    ("auditor.txt", "Research use only", "For use", "research use only"),
])  # fmt: skip
def test_a_fault_in_any_form_is_named(study: Path, name: str, old: str, new: str, why: str) -> None:
    path = study / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    problems = verify(study).problems
    assert any(problem.startswith(f"{name}: ") and why in problem for problem in problems), problems


def test_a_reason_with_a_colon_of_its_own_is_read_whole() -> None:
    form = Form("clinician.withheld", "Withheld, because {why}: {maps}.")
    why, maps = "it could not be checked (inside the lungs): a lung is missing", "LIME of Nodule"
    (read,) = readings(f"Withheld, because {why}: {maps}.", (), [form], Lexicon.of("en", as_record(example_evidence())))
    assert [claim.text for claim in read.claims] == [why, maps]
