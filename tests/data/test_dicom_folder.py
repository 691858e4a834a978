"""A walk over an archive that is killed goes on where it was, and ends with the same table."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from storyxai.data.importing import import_source
from storyxai.data.sources import dicom_folder
from storyxai.errors import TableError

COUNT = 12
# Each file takes a while, so that the kill falls into the walk.
WALK = """
import sys, time
from pathlib import Path
from storyxai.data.sources import dicom_folder
from storyxai.errors import TableError
plain = dicom_folder.read_image
def slow(path):
    time.sleep(0.15)
    return plain(path)
dicom_folder.read_image = slow
dicom_folder.read_dicom_folder(Path(sys.argv[1]), journal=Path(sys.argv[2]))
"""


def dicom(path: Path, seed: int) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.SOPClassUID, film.SOPInstanceUID, film.Modality = "1.2.840.10008.5.1.4.1.1.1.1", f"1.2.3.{seed}", "DX"
    film.PatientID, film.StudyInstanceUID = f"P{seed // 2}", f"1.2.{seed}"
    film.Rows = film.Columns = 64
    film.SamplesPerPixel, film.PhotometricInterpretation, film.PixelRepresentation = 1, "MONOCHROME2", 0
    film.BitsAllocated, film.BitsStored, film.HighBit = 16, 12, 11
    film.PixelData = np.random.default_rng(seed).integers(0, 4096, (64, 64), dtype=np.uint16).tobytes()
    film.save_as(path, enforce_file_format=True)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    for seed in range(COUNT):
        dicom(folder / f"{seed:02d}.dcm", seed)
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"rest")
    (folder / "readme.txt").write_text("about")
    return folder


def test_a_killed_walk_goes_on(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = tmp_path / "walk.journal"
    walk = subprocess.Popen([sys.executable, "-c", WALK, str(archive), str(journal)])
    until = time.monotonic() + 60
    while walk.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 3):
        assert time.monotonic() < until
        time.sleep(0.01)
    walk.send_signal(signal.SIGKILL)
    assert walk.wait() == -signal.SIGKILL, "it was to be killed on its way"
    finished = journal.read_bytes().count(b"\n")
    assert 3 <= finished < COUNT
    with journal.open("ab") as stream:
        stream.write(b'{"name": "11.dcm", "ma')  # a line cut off by the kill
    decoded: list[str] = []
    plain = dicom_folder.read_image
    monkeypatch.setattr(dicom_folder, "read_image", lambda path: (decoded.append(path.name), plain(path))[1])
    table = dicom_folder.read_dicom_folder(archive, journal=journal)
    assert len(decoded) == COUNT + 2 - finished
    decoded.clear()
    again = dicom_folder.read_dicom_folder(archive, journal=journal)
    assert decoded == []  # also the file whose line had been cut off
    monkeypatch.undo()
    whole = dicom_folder.read_dicom_folder(archive)
    assert whole.frame.equals(table.frame) and whole.frame.equals(again.frame)
    assert whole.skipped == table.skipped == again.skipped


def test_a_journal_of_another_folder_or_with_other_values_is_not_believed(archive: Path, tmp_path: Path) -> None:
    journal = tmp_path / "walk.journal"
    table = dicom_folder.read_dicom_folder(archive, journal=journal)
    other = tmp_path / "other"
    archive.rename(other)
    lines = journal.read_text().splitlines()
    spoiled = [json.dumps({**json.loads(line), "row": 3}) for line in lines[:4]]
    journal.write_text("\n".join([*spoiled, "[]", "7", "\x00"]))
    assert dicom_folder.read_dicom_folder(other, journal=journal).frame.equals(table.frame)


def test_what_was_left_out_is_listed_with_its_mend(archive: Path, tmp_path: Path) -> None:
    (archive / "zz_copy.dcm").write_bytes((archive / "00.dcm").read_bytes())
    report = import_source("dicom-folder", archive, tmp_path / "t.parquet")
    assert report.skipped_file is not None and report.images == COUNT
    with report.skipped_file.open() as stream:
        lines = {line["what"]: line for line in csv.DictReader(stream)}
    assert set(lines) == {"broken.dcm", "readme.txt", "zz_copy.dcm"}
    assert all(line["why"] and line["mend"] for line in lines.values())
    assert not list(tmp_path.glob("*.journal"))


def test_nothing_of_the_folder_is_lost_unsaid(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links into nothing, pipes, indexes and folders that do not open: each was passed over without a word."""
    import os

    (archive / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (archive / "link.dcm").symlink_to("nowhere.dcm")
    os.mkfifo(archive / "pipe.dcm")
    (archive / "closed").mkdir()
    elsewhere = archive.parent / "elsewhere"
    elsewhere.mkdir()
    dicom(elsewhere / "x.dcm", 99)
    (archive / "linked").symlink_to(elsewhere)
    plain = os.scandir

    def denied(place: str) -> object:
        if Path(place).name == "closed":  # whoever runs the tests may be allowed everything
            raise PermissionError(13, "Permission denied", str(place))
        return plain(place)

    monkeypatch.setattr(os, "scandir", denied)
    table = dicom_folder.read_dicom_folder(archive)
    said = {item.what: item for item in table.skipped}
    assert len(table) == COUNT
    assert set(said) == {"broken.dcm", "readme.txt", "DICOMDIR", "link.dcm", "pipe.dcm", "closed", "linked"}
    assert all(item.why and item.mend for item in said.values())
    assert "Permission denied" in said["closed"].why and "index" in said["DICOMDIR"].why and "link" in said["linked"].why


def test_a_folder_without_a_radiograph_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("text")
    with pytest.raises(TableError, match=r"none of its 2 files .*looks like text") as refused:
        import_source("dicom-folder", folder, tmp_path / "t.parquet")
    assert refused.value.mend and not (tmp_path / "t.parquet").exists()
    with (tmp_path / "t.skipped.csv").open() as stream:
        assert [line["what"] for line in csv.DictReader(stream)] == ["a.txt", "b.txt"]


@pytest.mark.parametrize(("stated", "doubt"), [("", "does not say whether"), ("YES", "burnt"), ("NO", "")])
def test_burnt_in_text_is_doubted_in_the_notes(tmp_path: Path, stated: str, doubt: str) -> None:
    from pydicom import dcmread

    dicom(tmp_path / "a.dcm", 1)
    film = dcmread(tmp_path / "a.dcm")
    film.BurnedInAnnotation = stated
    film.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    notes = dicom_folder.read_dicom_folder(tmp_path).frame["notes"].iloc[0]
    assert (doubt in notes) if doubt else ("burnt" not in notes)


def test_rows_of_another_shape_in_a_journal_are_read_again(archive: Path, tmp_path: Path) -> None:
    journal = tmp_path / "walk.journal"
    table = dicom_folder.read_dicom_folder(archive, journal=journal)
    entries = [json.loads(line) for line in journal.read_text().splitlines() if line]
    for entry, row in zip(entries, ({}, {"image_id": 3}, {"image_id": "x", "colour": "red"}, None), strict=False):
        entry.update(row=row, why="")
    journal.write_text("\n".join(json.dumps(entry) for entry in entries))
    assert dicom_folder.read_dicom_folder(archive, journal=journal).frame.equals(table.frame)


def test_names_of_another_encoding_are_named_and_stop_nothing(archive: Path, tmp_path: Path) -> None:
    """Archives of the nineties: a name that is no UTF-8 can stand in no table, so its file is left out by name."""
    import os

    sound = (archive / "00.dcm").read_bytes()
    for name, data in ((b"caf\xe9.dcm", sound[:-2] + b"\1\1"), (b"caf\xe8.txt", b"text")):
        (archive / os.fsdecode(name)).write_bytes(data)
    report = import_source("dicom-folder", archive, tmp_path / "t.parquet")
    assert report.images == COUNT and report.skipped_file is not None
    with report.skipped_file.open(encoding="utf-8") as stream:
        lines = {line["what"]: line for line in csv.DictReader(stream)}
    assert set(lines) == {"broken.dcm", "readme.txt", "caf\\xe9.dcm", "caf\\xe8.txt"}
    assert "UTF-8" in lines["caf\\xe9.dcm"]["why"] and "rename" in lines["caf\\xe9.dcm"]["mend"]


def test_films_without_a_preamble_keep_their_patient(tmp_path: Path) -> None:
    """pydicom takes them for no DICOM, so each was a patient of its own, and two films of one could be torn apart."""
    for seed in range(4):
        dicom(tmp_path / f"IM{seed}", seed)
        (tmp_path / f"IM{seed}").write_bytes((tmp_path / f"IM{seed}").read_bytes()[132 if seed % 2 else 0 :])
    patients = dicom_folder.read_dicom_folder(tmp_path).frame["patient_id"]
    assert patients.value_counts().tolist() == [2, 2]
