"""De-identification: nothing but the keep-list passes, the picture stays, and doubt is said."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.dataset import Dataset

from storyxai.imaging.deidentify import burnt_in_doubt, deidentify
from storyxai.imaging.read import read_image

SECRET = "Zyxwv"
TAGS = {
    "PatientName": f"{SECRET}^Ada", "PatientID": SECRET, "PatientBirthDate": "19340102", "StudyDate": "20200304",
    "ReferringPhysicianName": SECRET, "InstitutionName": SECRET, "StudyDescription": f"chest of {SECRET}",
    "ImageComments": SECRET, "PatientAge": "095Y", "PatientSex": "F", "ViewPosition": "PA",
    "StudyInstanceUID": "1.2.3.987654321", "SeriesInstanceUID": "1.2.3.987654322",
    "WindowCenter": 100, "WindowWidth": 200,
}  # fmt: skip


def sent(dataset: Dataset) -> bytes:
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


@pytest.fixture
def original(dicom_file: Callable[..., Path]) -> Dataset:
    stored = np.random.default_rng(0).integers(0, 200, (64, 64)).astype(np.uint8)
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [256, 0, 8])
    item.add_new("LUTData", "OW", np.arange(256, dtype="<u2").tobytes())
    item.LUTExplanation = SECRET
    dataset = dcmread(dicom_file(stored, ModalityLUTSequence=[item], **TAGS))
    block = dataset.private_block(0x0011, "ACME", create=True)
    block.add_new(1, "LO", SECRET)
    return dataset


def test_no_trace_of_the_patient_is_left_in_the_bytes(original: Dataset) -> None:
    data = sent(deidentify(original, salt="pepper"))
    assert SECRET.encode() in sent(original)
    for trace in (SECRET.encode(), b"19340102", b"20200304", b"987654321", b"987654322", b"095Y", b"ACME"):
        assert trace not in data
    again = dcmread(io.BytesIO(data))
    assert (again.PatientAge, again.PatientSex, again.ViewPosition, again.PatientName) == ("090Y", "F", "PA", "")
    codes = [(code.CodeValue, code.CodingSchemeDesignator) for code in again.DeidentificationMethodCodeSequence]
    assert codes == [("113100", "DCM"), ("113108", "DCM")]


def test_the_picture_reads_the_same(original: Dataset, tmp_path: Path) -> None:
    paths = [tmp_path / "before.dcm", tmp_path / "after.dcm"]
    for path, dataset in zip(paths, (original, deidentify(original)), strict=True):
        path.write_bytes(sent(dataset))
    before, after = (read_image(path) for path in paths)
    assert (before.pixels == after.pixels).all()


def test_uids_are_new_valid_and_hold_a_study_together(original: Dataset) -> None:
    first, second, other = (deidentify(original, salt=salt) for salt in ("a", "a", "b"))
    assert first.StudyInstanceUID == second.StudyInstanceUID != other.StudyInstanceUID
    assert len({first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID}) == 3
    assert all(uid.UID(value).is_valid for value in (first.StudyInstanceUID, first.SOPInstanceUID))
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID != original.SOPInstanceUID


@pytest.mark.parametrize(("stated", "removed"), [("NO", "YES"), ("YES", "NO"), ("", "NO"), (None, "NO")])
def test_burnt_in_text_is_doubted_unless_the_file_rules_it_out(
    original: Dataset, stated: str | None, removed: str
) -> None:
    if stated is not None:
        original.BurnedInAnnotation = stated
    assert deidentify(original).PatientIdentityRemoved == removed
    assert bool(burnt_in_doubt(original)) == (removed == "NO")


def test_the_given_dataset_is_untouched(original: Dataset) -> None:
    before = sent(original)
    clean = deidentify(original)
    clean.ModalityLUTSequence[0].LUTDescriptor = [1, 1, 1]
    assert sent(original) == before


@pytest.mark.real
def test_a_real_film_loses_its_names(real_data: Path) -> None:
    clean = deidentify(dcmread(real_data / "dicom" / "RG1_J2KI.dcm"))
    data = sent(clean)
    for trace in (b"CompressedSamples", b"Philips", b"19400305", b"THORAVISION", b"26210", b"1.3.6.1.4.1.5962"):
        assert trace not in data
    assert clean.Rows == 1955
