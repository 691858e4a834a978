"""A keyed seal: evidence that was altered and drawn anew passes every hash, and fails the seal."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
from pathlib import Path

import pytest

from evidence_example import example_evidence
from storyxai.errors import InputError
from storyxai.evidence.archive import archive_files
from storyxai.evidence.record import as_archived
from storyxai.evidence.seal import SEAL_NAME, check_seal, read_key, seal_of
from storyxai.pages.story import render_html
from storyxai.programs.verify import verify
from storyxai.provenance import canonical_json, software_versions
from storyxai.story.tell import tell
from storyxai.types import Evidence, Finding

KEY = bytes(range(32))


def study_files(evidence: Evidence) -> dict[str, bytes]:
    kept = as_archived(evidence)
    return {**archive_files(evidence), "patient.html": render_html(tell(kept, "patient"), kept)}


def example() -> Evidence:
    base = example_evidence()
    here = software_versions("numpy", "scipy", "pillow")
    version = software_versions("storyxai")["storyxai"]
    return dataclasses.replace(base, provenance={**base.provenance, "packages": here, "version": version})


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    (tmp_path / "key").write_bytes(KEY)
    files = study_files(example())
    for name, content in {**files, SEAL_NAME: seal_of(files, KEY)}.items():
        (folder / name).write_bytes(content)
    return folder


def test_the_seal_is_an_hmac_of_the_files_hashes(study: Path) -> None:
    seal = json.loads((study / SEAL_NAME).read_bytes())
    mac = seal.pop("mac")
    assert mac == hmac.new(KEY, canonical_json(seal), hashlib.sha256).hexdigest()
    for name, digest in seal["files"].items():
        assert digest == hashlib.sha256((study / name).read_bytes()).hexdigest()
    assert check_seal(study, KEY) == [] and KEY.hex() not in (study / SEAL_NAME).read_text(encoding="utf-8")


def test_evidence_altered_and_drawn_anew_is_found_by_the_seal_alone(study: Path) -> None:
    base = example()
    lower = tuple(
        Finding("Effusion", 0.05, (0.02, 0.09), 0.35) if f.name == "Effusion" else f for f in base.prediction.findings
    )
    forged = dataclasses.replace(base, prediction=dataclasses.replace(base.prediction, findings=lower))
    for name, content in study_files(forged).items():
        (study / name).write_bytes(content)
    assert verify(study).problems == (), "every hash and page agrees: without a key nobody can tell"
    problems = verify(study, seal_key=study.parent / "key").problems
    assert [problem.split(":")[0] for problem in problems] == ["evidence.json", "patient.html"]
    assert all("changed after it was sealed" in problem for problem in problems)


def test_whoever_alters_the_seal_needs_the_key(study: Path) -> None:
    own = seal_of({path.name: path.read_bytes() for path in study.iterdir()}, b"x" * 32)
    (study / SEAL_NAME).write_bytes(own)
    assert "another key" in check_seal(study, KEY)[0]
    pretended = json.loads(seal_of(study_files(example()), KEY)) | {"mac": "0" * 64}
    (study / SEAL_NAME).write_bytes(canonical_json(pretended))
    assert "HMAC does not hold" in check_seal(study, KEY)[0]


def test_missing_and_added_files_and_broken_seals(study: Path) -> None:
    (study / "patient.html").rename(study / "auditor.html")
    (study / "notes.txt").write_text("mine", encoding="utf-8")
    assert check_seal(study, KEY)[0] == "patient.html: is under the seal and missing"
    assert check_seal(study, KEY)[1].startswith("auditor.html: is not under the seal")
    for content, why in ((b"{", "cannot be read"), (b"[]", "not of format")):
        (study / SEAL_NAME).write_bytes(content)
        assert why in check_seal(study, KEY)[0]
    (study / SEAL_NAME).unlink()
    assert "is missing" in check_seal(study, KEY)[0]


def test_keys_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_key(tmp_path / "nowhere")
    (tmp_path / "short").write_bytes(b"secret")
    with pytest.raises(InputError, match="holds 6 bytes") as caught:
        read_key(tmp_path / "short")
    assert caught.value.mend and caught.value.exit_status == 2
