"""De-identification: nothing but the keep-list passes, the picture stays, and doubt is said."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from pydicom import dcmread, uid
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag

from storyxai import cli
from storyxai.imaging.burnt_in import blank_boxes, find_text
from storyxai.imaging.deidentify import deidentify
from storyxai.imaging.read import read_image
from storyxai.programs.deidentify import deidentify_files

SECRET = "ZYXWVUT"
KEY = bytes(range(32))
TAGS = {
    "PatientName": f"{SECRET}^Ada", "PatientID": SECRET, "PatientBirthDate": "19340102", "StudyDate": "20200304",
    "ReferringPhysicianName": SECRET, "InstitutionName": SECRET, "StudyDescription": f"film of {SECRET}",
    "ImageComments": SECRET, "PatientAge": "095Y", "PatientSex": "F", "ViewPosition": "PA", "BodyPartExamined": "CHEST",
    "StudyInstanceUID": "1.2.3.987654321", "SeriesInstanceUID": "1.2.3.987654322",
    "WindowCenter": 100, "WindowWidth": 200,
}  # fmt: skip
# A value of each kind of text with the planted name in it, as far as the kind allows.
PLANTED = {
    "AE": SECRET, "AS": None, "CS": SECRET, "DA": "19340102", "DS": "19340102", "DT": "19340102101112", "IS": "19340102",
    "LO": SECRET, "LT": SECRET, "PN": SECRET, "SH": SECRET, "ST": SECRET, "TM": "193401.02", "UC": SECRET,
    "UI": "1.2.3.987654321", "UR": f"http://{SECRET}", "UT": SECRET, "OB": SECRET.encode() + b"!", "OW": SECRET.encode() + b"!",
    "UN": SECRET.encode() + b"!", "UL": 19340102, "SL": 19340102,
}  # fmt: skip
SHAPE = {"Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PixelData",
         "PhotometricInterpretation", "NumberOfFrames", "SpecificCharacterSet"}  # fmt: skip


def sent(dataset: Dataset) -> bytes:
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def cleaned(dataset: Dataset, key: bytes = KEY, **options: Any) -> tuple[Dataset, bytes]:
    data = deidentify(sent(dataset), source="film.dcm", key=key, **options).data
    return dcmread(io.BytesIO(data)), data


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
    again, data = cleaned(original)
    assert SECRET.encode() in sent(original)
    for trace in (SECRET.encode(), b"19340102", b"20200304", b"987654321", b"987654322", b"095Y", b"ACME"):
        assert trace not in data
    assert (again.PatientAge, again.PatientSex, again.ViewPosition, again.BodyPartExamined) == ("090Y", "F", "PA", "CHEST")
    codes = [(code.CodeValue, code.CodingSchemeDesignator) for code in again.DeidentificationMethodCodeSequence]
    assert codes == [("113100", "DCM"), ("113108", "DCM"), ("113107", "DCM")]
    assert again.LongitudinalTemporalInformationModified == "MODIFIED"


def test_a_name_planted_in_every_element_of_the_dictionary_passes_through_none(original: Dataset) -> None:
    """Also in those that are kept: a body part called by the patient's name is no body part."""
    planted = 0
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        value = PLANTED.get(vr.split(" or ")[0])
        if value is None or retired or not keyword or keyword in SHAPE or tag >> 16 in {0, 2, 4, 0x7FE0, 0xFFFE}:
            continue
        original.add_new(tag, vr.split(" or ")[0], value)
        planted += 1
    for group in (0x6000, 0x6002):
        original.add_new((group, 0x0022), "LO", SECRET)
        original.add_new((group, 0x3000), "OW", SECRET.encode() + b"!")
    original.preamble = (SECRET.encode() * 20)[:128]
    before = sent(original)
    one = deidentify(before, source="film.dcm", key=KEY)
    assert planted > 2300 and before.count(SECRET.encode()) > 1200
    for trace in (SECRET, "19340102", "193401", "987654321", "ACME"):
        assert trace.encode() not in one.data
        assert trace not in json.dumps(dict(one.removed))
    assert one.removed["overlay"] == 4 and one.removed["private"] == 2


def test_nothing_hides_in_compressed_frames_unused_bits_or_behind_the_pixels(original: Dataset) -> None:
    picture = PillowImage.fromarray(original.pixel_array)
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", comment=SECRET.encode(), exif=b"Exif\0\0" + SECRET.encode())
    assert SECRET.encode() in jpeg.getvalue()
    del original.ModalityLUTSequence
    original.PixelData = encapsulate([jpeg.getvalue()])
    original["PixelData"].VR, original["PixelData"].is_undefined_length = "OB", True
    original.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    again, data = cleaned(original)
    assert SECRET.encode() not in data and again.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    assert np.abs(again.pixel_array.astype(int) - np.asarray(PillowImage.open(jpeg)).astype(int)).max() <= 1

    deep = Dataset()
    deep.update({element.tag: element for element in original})
    deep.file_meta = original.file_meta
    deep.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    values = np.random.default_rng(1).integers(0, 4096, (64, 64)).astype("<u2")
    hidden = values | (np.random.default_rng(2).integers(0, 16, (64, 64)) << 12).astype("<u2")
    deep.BitsAllocated, deep.BitsStored, deep.HighBit = 16, 12, 11
    deep.PixelData = hidden.tobytes() + SECRET.encode() + b"!"
    deep["PixelData"].VR, deep["PixelData"].is_undefined_length = "OW", False
    again, data = cleaned(deep)
    assert SECRET.encode() not in data and np.array_equal(np.frombuffer(again.PixelData, "<u2"), values.ravel())


@pytest.mark.parametrize("room", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_name_as_the_entries_of_a_table_does_not_pass(original: Dataset, room: str) -> None:
    name = f"{SECRET}^ADA LOVELACE".encode()
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(name) // 2, 0, 16])
    item.add_new("LUTData", "OW", name)
    setattr(original, room, [item])
    again, data = cleaned(original)
    assert room not in again and not any(name[at : at + 4] in data for at in range(0, len(name) - 4, 2))


def test_a_counter_that_repeats_an_identifier_does_not_pass(original: Dataset) -> None:
    original.AccessionNumber, original.InstanceNumber, original.SeriesNumber = "RX-8123", 8123, 2
    again, data = cleaned(original)
    assert "InstanceNumber" not in again and b"8123" not in data and again.SeriesNumber == 2


@pytest.mark.parametrize("stated", [b"1e400 ", b"inf "])
def test_a_number_beyond_all_numbers_is_left_out(original: Dataset, stated: bytes) -> None:
    tag = Tag("SeriesNumber")
    original._dict[tag] = RawDataElement(tag, "IS", len(stated), stated, 0, False, True)
    again, _ = cleaned(original)
    assert "SeriesNumber" not in again


def test_a_second_image_under_one_uid_is_left_out_and_said(original: Dataset, tmp_path: Path) -> None:
    """It has the place of the first, and one of both would be lost without a word."""
    (tmp_path / "in").mkdir()
    (tmp_path / "key").write_bytes(KEY)
    for name, number in (("a", 1), ("b", 2)):
        original.InstanceNumber = number
        (tmp_path / "in" / f"{name}.dcm").write_bytes(sent(original))
    done = deidentify_files([tmp_path / "in"], tmp_path / "out", key_file=tmp_path / "key")
    (written,) = (tmp_path / "out").rglob("*.dcm")
    assert done.written == 1 and dcmread(written).InstanceNumber == 1
    assert [one.number for one in done.left_out] == [2] and "SOP Instance UID" in done.left_out[0].why


def test_the_picture_reads_the_same(original: Dataset, tmp_path: Path) -> None:
    paths = [tmp_path / "before.dcm", tmp_path / "after.dcm"]
    for path, data in zip(paths, (sent(original), cleaned(original)[1]), strict=True):
        path.write_bytes(data)
    before, after = (read_image(path) for path in paths)
    assert (before.pixels == after.pixels).all() and before.view == after.view == "PA"


def test_signed_values_and_a_shutter_read_the_same(dicom_file: Callable[..., Path], tmp_path: Path) -> None:
    stored = np.random.default_rng(3).integers(-900, 900, (80, 70)).astype("<i2")
    path = dicom_file(
        stored, BitsStored=12, HighBit=11, RescaleSlope=2, RescaleIntercept=-5, ShutterShape="RECTANGULAR",
        ShutterLeftVerticalEdge=5, ShutterRightVerticalEdge=60, ShutterUpperHorizontalEdge=4, ShutterLowerHorizontalEdge=70,
    )
    after = tmp_path / "after.dcm"
    after.write_bytes(deidentify(path.read_bytes(), source="film.dcm", key=KEY).data)
    assert np.array_equal(read_image(path).pixels, read_image(after).pixels)


def test_the_key_makes_the_names(original: Dataset) -> None:
    first, second, other = (cleaned(original, key)[0] for key in (KEY, KEY, KEY[::-1]))
    assert sent(first) == sent(second)
    assert first.StudyInstanceUID != other.StudyInstanceUID and first.PatientID != other.PatientID
    assert len({first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID}) == 3
    assert all(uid.UID(value).is_valid for value in (first.StudyInstanceUID, first.SOPInstanceUID))
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID != original.SOPInstanceUID


def test_dates_of_a_person_move_together(original: Dataset) -> None:
    early, _ = cleaned(original)
    original.StudyDate, original.StudyInstanceUID = "20200314", "1.2.3.5"
    late, _ = cleaned(original)
    days = [datetime.strptime(str(one.StudyDate), "%Y%m%d").date() for one in (early, late)]
    assert (days[1] - days[0]).days == 10 and days[0] < date(2020, 3, 4)
    assert early.PatientID == late.PatientID and early.StudyInstanceUID != late.StudyInstanceUID
    original.PatientID = "another"
    assert cleaned(original)[0].StudyDate != late.StudyDate


@pytest.mark.parametrize(("stated", "seen", "removed"), [
    ("NO", False, "YES"), ("YES", False, "NO"), ("", False, "NO"), (None, False, "NO"), ("YES", True, "YES"),
])  # fmt: skip
def test_burnt_in_text_is_doubted_unless_the_file_or_a_person_rules_it_out(
    original: Dataset, stated: str | None, seen: bool, removed: str
) -> None:
    if stated is not None:
        original.BurnedInAnnotation = stated
    one = deidentify(sent(original), source="film.dcm", key=KEY, seen=seen)
    assert dcmread(io.BytesIO(one.data)).PatientIdentityRemoved == removed
    assert bool(one.doubt) == (removed == "NO")


def deidentify_by(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["storyxai", "deidentify", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def lettered(text: str, *, size: int = 18, ink: int = 255) -> tuple[np.ndarray, np.ndarray]:
    """A soft picture with text in it, and where its letters are."""
    rows, columns = np.mgrid[:300, :400]
    soft = (90 + 50 * np.sin(rows / 60) * np.cos(columns / 80)).astype(np.uint8)
    soft[0, 0], soft[0, 1] = 255, 0
    picture = PillowImage.fromarray(soft.copy())
    ImageDraw.Draw(picture).text((40, 30), text, fill=ink, font=ImageFont.load_default(size))
    drawn = np.asarray(picture)
    return drawn, drawn != soft


@pytest.mark.parametrize("ink", [255, 0])
@pytest.mark.parametrize("text", ["ZYXWVUT, ADA", "1934-01-02", "Portable AP 10:45"])
def test_text_in_the_pixels_is_painted_over_and_nothing_else(text: str, ink: int) -> None:
    picture, letters = lettered(text, ink=ink)
    boxes = find_text(picture)
    blanked = blank_boxes(picture, boxes)
    left = (np.abs(blanked[letters].astype(int) - ink) < 40).mean()
    assert left <= 0.04, f"{left:.0%} of the ink is left"
    assert (blanked != picture).mean() < 0.08


def test_a_picture_without_text_is_left_as_it_is() -> None:
    soft = lettered(" ")[0]
    assert find_text(soft) == () and find_text(np.zeros((100, 100), dtype=np.uint16)) == ()
    noise = np.random.default_rng(0).normal(2000, 200, (400, 400)).astype(np.uint16)
    assert find_text(noise) == ()


def test_a_folder_is_written_without_the_people_in_it(
    original: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    films, out, key = tmp_path / SECRET / "films", tmp_path / "out", tmp_path / "key"
    films.mkdir(parents=True)
    key.write_bytes(KEY)
    for number in (1, 2):
        original.SOPInstanceUID = f"1.2.3.{number}"
        (films / f"{SECRET}_{number}.dcm").write_bytes(sent(original))
    (films / f"{SECRET}.png").write_bytes(b"no picture")
    call = [str(films), "--out", str(out), "--key", str(key)]
    assert deidentify_by(call, monkeypatch) == 0
    said = capsys.readouterr().out
    assert "2 images of 1 people" in said and "left out: file 1" in said
    written = sorted(path for path in out.rglob("*") if path.is_file())
    assert len(written) == 3
    for path in written:
        assert SECRET not in str(path.relative_to(out)) and SECRET.encode() not in path.read_bytes()
    report = json.loads((out / "report.json").read_text())
    assert report["removed"]["InstitutionName"] == 2 and report["left_out"] == [{"number": 1}]
    before = {path: path.read_bytes() for path in written}
    assert deidentify_by(call, monkeypatch) == 0
    assert before == {path: path.read_bytes() for path in written}


@pytest.mark.parametrize(("spoil", "said"), [
    ("short key", "too few for a key"), ("out inside", "apart from them"), ("no dicom", "is no DICOM file"),
    ("picture", "is no DICOM file"),
])  # fmt: skip
def test_what_cannot_be_done_is_said(
    original: Dataset, tmp_path: Path, spoil: str, said: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    films, out, key = tmp_path / "films", tmp_path / "out", tmp_path / "key"
    films.mkdir()
    key.write_bytes(KEY[: 5 if spoil == "short key" else 32])
    if spoil == "picture":
        PillowImage.new("L", (64, 64)).save(films / "a.jpg")
    else:
        (films / "a.dcm").write_bytes(b"nothing" if spoil == "no dicom" else sent(original))
    place = films.parent if spoil == "out inside" else out
    assert deidentify_by([str(films), "--out", str(place), "--key", str(key)], monkeypatch) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.real
def test_a_real_film_loses_its_names(real_data: Path) -> None:
    before = (real_data / "dicom" / "RG1_J2KI.dcm").read_bytes()
    data = deidentify(before, source="film.dcm", key=KEY).data
    for trace in (b"CompressedSamples", b"Philips", b"19400305", b"THORAVISION", b"26210", b"1.3.6.1.4.1.5962"):
        assert trace not in data
    assert dcmread(io.BytesIO(data)).Rows == 1955
