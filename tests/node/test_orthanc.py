"""Against a real archive: a film goes from Orthanc to the node, and the answer is stored, read back equal and found valid."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from node_films import CHEST, file_bytes, filmed
from node_tellers import FakeTeller
from node_tools import wait_for
from orthanc import ABSENT, PLUGIN, PROGRAM, free_port, orthanc
from pydicom import dcmread

from storyxai.logbook import verify_log
from storyxai.node.dicomweb import DicomWeb
from storyxai.node.intake import data_set_start
from storyxai.node.serve import running_node
from storyxai.node.settings import AnswerSettings, DicomPlace, QueueSettings, ReceiveSettings, Settings, TellSettings, WebPlace

pytestmark = pytest.mark.skipif(PROGRAM is None or PLUGIN is None, reason=ABSENT)
FILM = Path(__file__).resolve().parents[2] / "src" / "storyxai" / "examples" / "nih_00006004_000.jpg"
CHECKS = {"dcmdump": ["dcmdump", "-q"], "dciodvfy": ["dciodvfy"]}


def complaints(path: Path) -> list[str]:
    """What dcmtk and dicom3tools find wrong with a file; tools that are absent find nothing."""
    found = []
    for name, command in CHECKS.items():
        if shutil.which(name):
            done = subprocess.run([*command, str(path)], capture_output=True, text=True, timeout=60, errors="replace")
            said = (done.stdout + done.stderr).splitlines()
            found += [f"{name}: {line}" for line in said if line.startswith(("Error", "E: "))]
    if dcmread(path).Modality == "SR" and shutil.which("dsrdump"):
        done = subprocess.run(["dsrdump", str(path)], capture_output=True, text=True, timeout=60, errors="replace")
        found += [f"dsrdump: {line}" for line in done.stderr.splitlines() if line.startswith("E: ")]
        assert "Comprehensive" in done.stdout
    return found


def test_a_film_goes_to_the_node_and_the_answer_comes_back_whole(tmp_path: Path, lines: list[str]) -> None:
    port = free_port()
    with orthanc(tmp_path / "orthanc", node_port=port) as archive:
        settings = Settings(
            ReceiveSettings(("ORTHANC",), port=port, complete_after_seconds=0.2), QueueSettings(least_free_mib=0),
            TellSettings(audiences=("clinician",), samples=100),
            AnswerSettings("dicom", DicomPlace("ORTHANC", "127.0.0.1", archive.dicom), retry_seconds=0.5), home=tmp_path,
        )
        (tmp_path / "film.dcm").write_bytes(filmed(FILM, 1))
        DicomWeb(archive.web).store([tmp_path / "film.dcm"])
        with running_node(settings, lines.append) as running:
            archive.ask("/modalities/storyxai/echo", {})
            archive.ask("/modalities/storyxai/store", archive.ask("/instances"))
            wait_for(lambda: running.queue.counts()["answered"] or running.node.fault, 240)
        kept = archive.instances()
    objects = sorted((tmp_path / "queue" / "answered").glob("*/objects/*/*.dcm"))
    assert len(objects) >= 4 and len(kept) == len(objects) + 1, lines
    assert {"SR", "SEG"} <= {modality for modality, _ in kept.values()}
    for path in objects:
        ours = dcmread(path)
        theirs, own = kept[ours.SOPInstanceUID][1], path.read_bytes()
        assert dcmread(io.BytesIO(theirs)) == ours
        assert theirs[data_set_start(theirs):] == own[data_set_start(own):]  # the data set, byte by byte
        assert ours.StudyInstanceUID == "1.2.3.1" and complaints(path) == []
    assert verify_log(tmp_path / "storyxai.log").problems == ()
    assert not any("PLANTED" in line for line in (*lines, (tmp_path / "storyxai.log").read_text(encoding="utf-8")))


def test_dicomweb_finds_fetches_and_stores_what_the_node_answers(tmp_path: Path, lines: list[str]) -> None:
    with orthanc(tmp_path / "orthanc", node_port=free_port()) as archive:
        answer = AnswerSettings("dicomweb", dicomweb=WebPlace(archive.web))
        settings = Settings(None, QueueSettings(least_free_mib=0), answer=answer, home=tmp_path)
        inbox = tmp_path / "inbox"
        inbox.mkdir()
        (inbox / "film.dcm").write_bytes(file_bytes(4, **CHEST))
        with running_node(settings, lines.append, folder=inbox, teller=FakeTeller()) as running:
            wait_for(lambda: running.queue.counts()["answered"], 60)
        service = DicomWeb(archive.web)
        (found,) = service.find({"StudyInstanceUID": "1.2.3.4"})
        assert found["0020000D"]["Value"] == ["1.2.3.4"] and service.find({"PatientID": "NOBODY"}) == []
        (fetched,) = service.fetch("1.2.3.4")
    assert dcmread(io.BytesIO(fetched)) == dcmread(inbox / "film.dcm")
