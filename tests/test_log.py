"""`--log`: what was told, verified, released and exported stands in the log, and nothing of a patient."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evidence_example import example_evidence
from storyxai import cli
from storyxai.evidence.archive import write_archive
from storyxai.pages.story import render_html
from storyxai.programs.log import LogChoice, log_told, open_log
from storyxai.programs.tell import NotTold, Told
from storyxai.provenance import software_versions
from storyxai.story.tell import tell

Call = tuple[int, str]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    example = example_evidence()
    here = software_versions("numpy", "scipy", "pillow")
    evidence = replace(
        example, provenance={**example.provenance, "packages": here, "version": software_versions("storyxai")["storyxai"]}
    )
    folder = write_archive(evidence, tmp_path / "PLANTED^NAME")
    for audience in ("clinician", "patient"):
        (folder / f"{audience}.html").write_bytes(render_html(tell(evidence, audience), evidence))
    return folder


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> Call:
    monkeypatch.setattr("sys.argv", ["storyxai", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out + said.err


def lines_of(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def test_what_was_done_to_a_study_stands_in_the_log(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fhir.resources", reason="fhir.resources absent: install storyxai[hospital]")
    log, key = tmp_path / "log", tmp_path / "key"
    key.write_bytes(b"k" * 32)
    monkeypatch.setenv("STORYXAI_LOG_KEY", str(key))
    log_told(open_log(LogChoice(log, key)), [
        Told("PLANTED.dcm", study, ("clinician.html",), "", {}), NotTold(str(study / "evidence.json"), "PLANTED: no", 2),
    ])
    assert call(monkeypatch, capsys, "verify", study, "--log", log)[0] == 0
    assert call(monkeypatch, capsys, "release", study, "--by", "Dr. A", "--log", log)[0] == 0
    assert call(monkeypatch, capsys, "export", study, "--to", "fhir", "--out", tmp_path / "out", "--log", log)[0] == 0
    (study / "clinician.html").write_bytes(b"altered")
    assert call(monkeypatch, capsys, "verify", study, "--log", log)[0] == 2
    told = lines_of(log)
    assert [line["event"] for line in told] == ["opened", "told", "not_told", "verified", "released", "exported", "verified"]
    assert told[4]["by"] == "Dr. A" and told[5]["to"] == "fhir" and told[6]["outcome"] == "problems"
    assert {line["model"] for line in told if line["event"] in ("told", "released", "exported")} == {told[1]["model"]}
    assert "PLANTED" not in log.read_text(encoding="utf-8")
    status, said = call(monkeypatch, capsys, "log", "verify", log)
    assert status == 0 and "7 lines, each follows from the one before" in said
    log.write_text(log.read_text(encoding="utf-8").replace("Dr. A", "Dr. B"), encoding="utf-8")
    status, said = call(monkeypatch, capsys, "log", "verify", log, "--json")
    assert status == 2 and json.loads(said)["problems"]


def test_a_release_by_nobody_and_an_export_of_an_altered_study_are_refused_and_logged(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log, before = tmp_path / "log", {path.name: path.read_bytes() for path in study.iterdir()}
    code, said = call(monkeypatch, capsys, "release", study, "--by", " ", "--log", log)
    assert code == 2 and "by: is empty" in said
    assert before == {path.name: path.read_bytes() for path in study.iterdir()}
    (study / "clinician.html").write_bytes(before["clinician.html"] + b" ")
    assert call(monkeypatch, capsys, "export", study, "--to", "dicom", "--out", tmp_path / "out", "--log", log)[0] == 2
    assert not (tmp_path / "out").exists()
    assert [(line["event"], line["to"], line["outcome"]) for line in lines_of(log)[1:]] == [
        ("refused", "release", "InputError"), ("refused", "export dicom", "ArchiveError"),
    ]
    assert "PLANTED" not in log.read_text(encoding="utf-8")


def test_a_log_that_cannot_be_kept_is_said_before_any_work(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (study / "patient.html").read_bytes()
    words = ("release", study, "--by", "Dr. A", "--log", tmp_path / "log", "--log-key", tmp_path / "nowhere")
    assert call(monkeypatch, capsys, *words)[0] == 2
    (tmp_path / "log").write_bytes(b"something else\n")
    assert call(monkeypatch, capsys, *words[:-2])[0] == 2
    assert (study / "patient.html").read_bytes() == before
