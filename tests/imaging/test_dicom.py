"""DICOM: the order of the grey scale, what tags say, and what is refused before it can hurt."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from storyxai.errors import ReadError
from storyxai.imaging import decode
from storyxai.imaging.decode import DecodeError, decode_apart
from storyxai.imaging.read import read_image

Write = Callable[..., Path]


def lut(length: int, first: int, bits: int, entries: np.ndarray) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [length % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


def test_a_window_is_the_line_of_the_standard(dicom_file: Write, ramp: np.ndarray) -> None:
    """PS3.3 C.11.2.1.2.1 on paper: centre 2048, width 1024 -> 0 at 1536 and below, 1 from 2559 on."""
    image = read_image(dicom_file(ramp, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=1024))
    grey = image.pixels.ravel()
    expected = np.clip((np.arange(4096) - 2047.5) / 1023 + 0.5, 0, 1)
    assert grey == pytest.approx(expected, abs=1e-6)
    assert (grey[1536], grey[2559]) == (0.0, 1.0)
    assert (image.pixels.dtype, image.pixels.flags.c_contiguous, image.notes) == (np.float32, True, ())


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_the_grey_scale_agrees_with_pydicom(dicom_file: Write, ramp: np.ndarray, function: str, syntax: str) -> None:
    tags: dict[str, Any] = {"RescaleSlope": 2, "RescaleIntercept": -1000, "VOILUTFunction": function}
    tags |= {"WindowCenter": 1500, "WindowWidth": 3000, "BitsStored": 12, "HighBit": 11}
    path = dicom_file(ramp, syntax=syntax, **tags)
    image, dataset = read_image(path), dcmread(path)
    wanted = apply_voi_lut(apply_modality_lut(ramp, dataset), dataset)
    low, high = -1000.0, 2 * 4095 - 1000.0
    assert image.pixels == pytest.approx(np.clip((wanted - low) / (high - low), 0, 1), abs=2e-4)


def test_lookup_tables_agree_with_pydicom(dicom_file: Write, ramp: np.ndarray) -> None:
    modality = lut(1000, 500, 16, np.linspace(0, 4000, 1000).astype(int))
    voi = lut(4096, 0, 12, (4095 * (np.arange(4096) / 4095) ** 2).astype(int))
    tags: dict[str, Any] = {"ModalityLUTSequence": [modality], "VOILUTSequence": [voi]}
    path = dicom_file(ramp, BitsStored=12, HighBit=11, **tags)
    image, dataset = read_image(path), dcmread(path)
    wanted = apply_voi_lut(apply_modality_lut(ramp, dataset), dataset) / 4095
    assert image.pixels == pytest.approx(wanted, abs=1e-6)


def test_monochrome1_is_inverted_after_the_window_not_before(dicom_file: Write, ramp: np.ndarray) -> None:
    """Inverting the stored values first would put the window at the other end: 0 where 1 belongs."""
    tags: dict[str, Any] = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 500, "WindowWidth": 400}
    image = read_image(dicom_file(ramp, PhotometricInterpretation="MONOCHROME1", **tags))
    grey = image.pixels.ravel()
    assert (grey[:300] == 1).all()
    assert (grey[700:] == 0).all()
    assert grey[500] == pytest.approx(1 - (0.5 + 0.5 / 399), abs=1e-6)
    assert "inverted: MONOCHROME1" in image.notes


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_signed_and_shifted_words(dicom_file: Write, syntax: str) -> None:
    values = np.linspace(-1000, 1000, 4096).astype(np.int16).reshape(64, 64)
    order = ">i2" if syntax == uid.ExplicitVRBigEndian else "<i2"
    tags = {"WindowCenter": 0.5, "WindowWidth": 2001, "PixelData": values.astype(order).tobytes()}
    image = read_image(dicom_file(values, syntax=syntax, **tags))
    assert image.pixels == pytest.approx((values + 1000) / 2000, abs=1e-6)
    # 12 bits in the upper part of the word, with overlay bits below that are not part of the value
    shifted = (values.astype(np.int16) << 4 | 0b1010).astype(np.int16)
    tags |= {"PixelData": shifted.astype(order).tobytes(), "BitsStored": 12, "HighBit": 15}
    assert read_image(dicom_file(shifted, syntax=syntax, **tags)).pixels == pytest.approx(image.pixels, abs=1e-6)


def test_without_a_window_the_robust_range_is_used_and_padding_left_out(dicom_file: Write) -> None:
    stored = np.linspace(1000, 2000, 64 * 64).astype(np.uint16).reshape(64, 64)
    stored[:8] = 60000
    image = read_image(dicom_file(stored, PixelPaddingValue=60000))
    assert (image.pixels[:8] == 0).all()
    assert image.pixels[8:].min() == 0 and image.pixels[8:].max() == 1
    assert any("robust range" in note for note in image.notes)
    nonsense = read_image(dicom_file(stored, WindowCenter=-50000, WindowWidth=10))
    assert any("shows nothing" in note for note in nonsense.notes)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (["L", "F"], lambda p: p), ([], lambda p: p), (["R", "F"], lambda p: p[:, ::-1]),
        (["L", "H"], lambda p: p[::-1]), (["R", "H"], lambda p: p[::-1, ::-1]),
        (["F", "L"], lambda p: p.T), (["F", "R"], lambda p: p.T[:, ::-1]),
    ],
)  # fmt: skip
def test_orientation_tags_bring_the_head_up(dicom_file: Write, orientation: list[str], turn: Any) -> None:
    stored = np.random.default_rng(0).integers(0, 255, (64, 80)).astype(np.uint8)
    tags = {"WindowCenter": 128, "WindowWidth": 256, "ImagerPixelSpacing": [0.1, 0.2]}
    image = read_image(dicom_file(stored, PatientOrientation=orientation, **tags))
    assert image.pixels == pytest.approx(turn(stored / 255.0), abs=1e-6)
    assert image.pixels.flags.c_contiguous
    assert image.spacing_mm == ((0.2, 0.1) if orientation[:1] == ["F"] else (0.1, 0.2))
    assert any("patient orientation" in note for note in image.notes) == (orientation not in (["L", "F"], []))
    assert "pixels are not square: the picture is shown as if they were" in image.notes


@pytest.mark.parametrize(
    ("tags", "spacing", "kind"),
    [
        ({"ImagerPixelSpacing": [0.143, 0.143]}, (0.143, 0.143), "detector"),
        ({"PixelSpacing": [0.143, 0.143], "ImagerPixelSpacing": [0.143, 0.143]}, (0.143, 0.143), "detector"),
        ({"PixelSpacing": [0.13, 0.13], "ImagerPixelSpacing": [0.143, 0.143]}, (0.13, 0.13), "patient"),
        ({"PixelSpacing": [0.13, 0.13], "PixelSpacingCalibrationType": "FIDUCIAL"}, (0.13, 0.13), "patient"),
        ({"PixelSpacing": [0.13, 0.13]}, (0.13, 0.13), "detector"),
        ({"PixelSpacing": [0, 0]}, None, ""),
        ({}, None, ""),
    ],
)
def test_the_two_spacings_are_told_apart(dicom_file: Write, tags: dict[str, Any], spacing: Any, kind: str) -> None:
    image = read_image(dicom_file(np.zeros((64, 64), np.uint8), **tags))
    assert (image.spacing_mm, image.spacing_kind) == (spacing, kind)


def test_view_sex_age_and_doubts(dicom_file: Write) -> None:
    stored = np.zeros((64, 64), np.uint8)
    tags = {"ViewPosition": "AP", "PatientSex": "F", "PatientAge": "018M", "BodyPartExamined": "HIP"}
    image = read_image(dicom_file(stored, BurnedInAnnotation="YES", PresentationIntentType="FOR PROCESSING", **tags))
    assert (image.view, image.sex, image.age_years) == ("AP", "F", 1.5)
    assert "body part: HIP" in image.notes
    assert sum("burnt-in" in note or "for processing" in note for note in image.notes) == 2
    assert read_image(dicom_file(stored, PatientSex="X")).sex == ""


def packed_rle(stored: np.ndarray) -> bytes:
    """One RLE frame by pydicom's own encoder."""
    from pydicom.pixels.encoders import RLELosslessEncoder

    about = {"rows": stored.shape[0], "columns": stored.shape[1], "samples_per_pixel": 1, "number_of_frames": 1}
    about |= {"bits_allocated": 8 * stored.dtype.itemsize, "bits_stored": 8 * stored.dtype.itemsize}
    about |= {"pixel_representation": int(stored.dtype.kind == "i"), "photometric_interpretation": "MONOCHROME2"}
    return bytes(RLELosslessEncoder.encode(stored, **about))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_rle_is_unpacked_as_pydicom_packed_it(dtype: str) -> None:
    kind = np.iinfo(dtype)
    stored = np.random.default_rng(0).integers(kind.min, kind.max, (70, 90)).astype(dtype)
    stored[20:50] = 7
    about: dict[str, Any] = {"syntax": uid.RLELossless, "rows": 70, "columns": 90, "signed": kind.min < 0}
    about["bits"] = (8 * stored.dtype.itemsize,) * 2
    seen = decode_apart(packed_rle(stored), **about)
    assert seen.dtype == stored.dtype and (seen == stored).all()
    with pytest.raises(DecodeError, match="cannot be decoded"):
        decode_apart(packed_rle(stored)[:-900], **about)


@pytest.mark.parametrize("codec", ["rle", "jpeg2000", "jpeg"])
def test_compressed_frames_read_like_plain_ones(dicom_file: Write, codec: str) -> None:
    stored = (np.add.outer(np.arange(96), np.arange(80)) % 176).astype(np.uint8)
    tags = {"WindowCenter": 128, "WindowWidth": 256}
    plain = read_image(dicom_file(stored, **tags)).pixels
    if codec == "rle":
        frame, syntax = packed_rle(stored), uid.RLELossless
    elif codec == "jpeg2000":
        from openjpeg.utils import encode_array

        frame, syntax = encode_array(stored, photometric_interpretation=2), uid.JPEG2000Lossless
    else:
        buffer = io.BytesIO()
        Picture.fromarray(stored).save(buffer, "JPEG", quality=100)
        frame, syntax = buffer.getvalue(), uid.JPEGBaseline8Bit
    seen = read_image(dicom_file(stored, syntax=syntax, PixelData=encapsulate([frame]), **tags)).pixels
    assert seen == pytest.approx(plain, abs=0.015 if codec == "jpeg" else 1e-6)


def test_a_decoder_that_fails_is_a_read_error(dicom_file: Write) -> None:
    stored = np.zeros((64, 64), np.uint8)
    path = dicom_file(stored, syntax=uid.JPEG2000Lossless, PixelData=encapsulate([b"\xff\x4f\xff\x51 no such stream"]))
    with pytest.raises(ReadError, match=r"film\.dcm: its pixel data cannot be decoded"):
        read_image(path)


@pytest.mark.parametrize(
    ("child", "said"),
    [
        ("import os; os.kill(os.getpid(), 11)", "made the decoder stop"),
        ("import time; time.sleep(60)", "were not decoded within"),
        ("print('uint8'); print('short')", "hold another size"),
        ("print('object'); print('x' * 100)", "hold another size"),
    ],
)
def test_a_decoder_that_is_lost_takes_nobody_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: str, said: str
) -> None:
    script = tmp_path / "child.py"
    script.write_text(child)
    monkeypatch.setattr(decode, "__file__", str(script))
    monkeypatch.setattr(decode, "GRACE_S", 0.5)
    with pytest.raises(DecodeError, match=said):
        decode_apart(b"", syntax=uid.RLELossless, rows=64, columns=64, bits=(8, 8), signed=False)


def test_a_decoder_is_limited_by_its_own_time_not_by_that_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that others kept busy sound films were refused after 20 s."""
    assert decode.GRACE_S >= 300
    script = tmp_path / "child.py"
    script.write_text("import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass")
    monkeypatch.setattr(decode, "__file__", str(script))
    with pytest.raises(DecodeError, match="s of the processor's time"):
        decode_apart(b"", syntax=uid.RLELossless, rows=64, columns=64, bits=(8, 8), signed=False)


def test_the_decoder_cannot_take_more_memory_than_its_limit(tmp_path: Path) -> None:
    """A bomb that claims 60,000 x 60,000 pixels in its own stream, under a modest DICOM header."""
    from openjpeg.utils import encode_array

    stream = bytearray(encode_array(np.zeros((64, 64), np.uint8), photometric_interpretation=2))
    at = stream.index(b"\xff\x51") + 6
    stream[at : at + 8] = struct.pack(">II", 60000, 60000)
    with pytest.raises(DecodeError, match=r"cannot be decoded|made the decoder stop|another size"):
        decode_apart(bytes(stream), syntax=uid.JPEG2000Lossless, rows=64, columns=64, bits=(8, 8), signed=False)


def test_deflated_and_unknown_syntaxes_are_refused_unparsed(dicom_file: Write, ramp: np.ndarray) -> None:
    data = dicom_file(ramp).read_bytes()
    plain = uid.ExplicitVRLittleEndian.encode().ljust(20, b"\0")
    assert plain in data
    at = data.index(plain) + 20
    for other, said in [(b"1.2.840.10008.1.2.1.99", "deflated"), (b"1.2.3.4.5.6.7.8.90.123", "is not read")]:
        bomb = data[:at].replace(b"\x10\0UI\x14\0" + plain, b"\x10\0UI\x16\0" + other)
        path = dicom_file(ramp)
        path.write_bytes(bomb + zlib.compress(bytes(1 << 24)))
        with pytest.raises(ReadError, match=said):
            read_image(path)


def test_a_header_of_endless_elements_ends_soon(dicom_file: Write, ramp: np.ndarray) -> None:
    data = dicom_file(ramp).read_bytes()
    at = data.index(struct.pack("<HH", 8, 0x16) + b"UI", 200)
    filler = b"".join(struct.pack("<HH2sH", 8, 0x17, b"LO", 0) for _ in range(400_000))
    nested = struct.pack("<HH2sHI", 8, 0x17, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    for padding in (filler, nested * 5000):
        path = dicom_file(ramp)
        path.write_bytes(data[:at] + padding + data[at:])
        start = time.perf_counter()
        with pytest.raises(ReadError, match="damaged"):
            read_image(path)
        assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"Modality": "CT"}, r"is a CT slice \(modality CT\)"),
        ({"Modality": "MR", "NumberOfFrames": 10}, "is an MR slice"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CR"}, "is a CT slice by its SOP class or image type, not a"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1", "Modality": "DX"}, "is an MR slice by its SOP class"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1", "Modality": ""}, "is a CT slice by its SOP class"),
        ({"Modality": "ZZ"}, "another kind of object"),
        ({"NumberOfFrames": 2}, "holds 2 frames"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "its colours are not of 8 bits"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 4}, "colour pixels"),
        ({"PhotometricInterpretation": "MONOCHROME"}, r"pixels of a kind that is not read \(MONOCHROME, 1 to a pixel\)"),
        ({"PhotometricInterpretation": "MON\n0"}, r"\(MON\?0, 1 to a pixel\)"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour pixels"),
        ({"PhotometricInterpretation": None}, "no photometric interpretation"),
        ({"Rows": None}, "holds no picture"),
        ({"Rows": 1, "Columns": 1}, "too small"),
        ({"Rows": 20000, "Columns": 20000}, "larger than any image"),
        ({"Rows": 65}, r"cut short \(8192 of 8320 bytes\)"),
        ({"PixelData": None}, "no pixel data"),
        ({"BitsAllocated": 32}, "8 and 16 are read"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_what_is_no_radiograph_is_refused(dicom_file: Write, ramp: np.ndarray, tags: dict[str, Any], said: str) -> None:
    with pytest.raises(ReadError, match=said) as refused:
        read_image(dicom_file(ramp, **tags))
    assert refused.value.what == "film.dcm" and refused.value.mend


@pytest.mark.parametrize("modality", ["", "OT", "CR"])
@pytest.mark.parametrize(("sop_class", "said"), [
    ("2", "a CT slice"), ("4", "an MR slice"), ("6.1", "an ultrasound image"), ("128", "a PET slice"), ("1.2", "a mammogram"),
    ("12.1", "an angiogram"),
])  # fmt: skip
def test_what_the_sop_class_calls_another_kind_is_refused(
    dicom_file: Write, ramp: np.ndarray, modality: str, sop_class: str, said: str
) -> None:
    """A CT slice whose modality was blanked, or called OT or CR, was read as a film without a word."""
    path = dicom_file(ramp, Modality=modality, SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{sop_class}")
    with pytest.raises(ReadError, match=f"is {said} by its SOP class"):
        read_image(path)


@pytest.mark.parametrize("third", ["AXIAL", "LOCALIZER"])
def test_a_captured_slice_is_known_by_its_image_type(dicom_file: Write, ramp: np.ndarray, third: str) -> None:
    secondary: dict[str, Any] = {"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}
    with pytest.raises(ReadError, match="is a CT slice by its SOP class or image type"):
        read_image(dicom_file(ramp, **secondary, ImageType=["DERIVED", "SECONDARY", third]))
    assert read_image(dicom_file(ramp, **secondary, ImageType=["DERIVED", "SECONDARY"])).pixels.shape == (64, 64)


def test_other_modality_words_pass_with_a_doubt(dicom_file: Write, ramp: np.ndarray) -> None:
    assert any("modality OT" in note for note in read_image(dicom_file(ramp, Modality="OT")).notes)


@pytest.mark.real
def test_the_real_chest_film_is_upright_and_dense_is_bright(real_data: Path) -> None:
    image = read_image(real_data / "dicom" / "RG1_J2KI.dcm")
    assert image.pixels.shape == (1955, 1841)
    assert (image.view, image.sex, image.spacing_mm) == ("PA", "F", None)
    # lungs darker than the mediastinum between them; the belly brighter than the air above the shoulders
    band = image.pixels[800:1000].mean(axis=0)
    assert band[300:700].mean() < band[850:1000].mean() - 0.1
    assert band[1200:1500].mean() < band[850:1000].mean() - 0.1
    assert image.pixels[1700:, 600:1200].mean() > image.pixels[40:120, 40:200].mean() + 0.3


@pytest.mark.real
@pytest.mark.parametrize("name", ["CT_small", "MR_small", "emri_small", "MR_truncated"])
def test_real_slices_are_refused_by_name(real_data: Path, name: str) -> None:
    with pytest.raises(ReadError, match="not a projection"):
        read_image(real_data / "dicom" / "odd" / f"{name}.dcm")
