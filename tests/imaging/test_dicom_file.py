"""Files that are encoded otherwise than they say, or lack what a DICOM file should have: the same picture, or true words."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from pydicom import uid
from pydicom.encaps import encapsulate
from tests.imaging.conftest import dicom_dataset, written
from tests.imaging.test_dicom import packed_rle

from storyxai.errors import ReadError
from storyxai.imaging.decode import DecodeError
from storyxai.imaging.dicom_file import find_pixels, is_dicom, parse
from storyxai.imaging.read import find_images, read_image

# What is written here breaks the rules of DICOM on purpose, and pydicom says so.
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:The value length")

Write = Callable[..., Path]
WINDOW: dict[str, Any] = {"WindowCenter": 128, "WindowWidth": 256}
NATIVE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
OTHERWISE = "encoded otherwise than its meta header says"


def film() -> np.ndarray:
    return (np.add.outer(np.arange(96), 2 * np.arange(80)) % 251).astype(np.uint8)


def relabelled(data: bytes, says: str) -> bytes:
    """The same data set behind a meta header that names another transfer syntax."""
    at = data.index(b"\2\0\x10\0UI")
    end = at + 8 + struct.unpack_from("<H", data, at + 6)[0]
    name = says.encode() + b"\0" * (len(says) % 2)
    return data[:at] + b"\2\0\x10\0UI" + struct.pack("<H", len(name)) + name + data[end:]


def data_set(data: bytes) -> bytes:
    """What follows the meta header."""
    at = data.index(b"\2\0\0\0UL") + 8
    return data[at + 4 + struct.unpack_from("<I", data, at)[0] :]


def seen(tmp_path: Path, data: bytes) -> Any:
    (tmp_path / "IM0001").write_bytes(data)
    return read_image(tmp_path / "IM0001")


@pytest.mark.parametrize("is_", NATIVE)
@pytest.mark.parametrize("says", NATIVE)
def test_the_bytes_are_believed_before_the_meta_header(tmp_path: Path, says: str, is_: str) -> None:
    stored = film().astype(np.uint16) * 3
    order = ">u2" if is_ == uid.ExplicitVRBigEndian else "<u2"
    dataset = dicom_dataset(stored, PixelData=stored.astype(order).tobytes(), WindowCenter=400, WindowWidth=800)
    image = seen(tmp_path, relabelled(written(dataset, syntax=is_), says))
    assert image.pixels == pytest.approx(np.clip((stored - 399.5) / 799 + 0.5, 0, 1), abs=1e-6)
    assert any(note.startswith(OTHERWISE) for note in image.notes) == (says != is_)


@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_eight_bits_in_big_endian_words(tmp_path: Path, vr: str) -> None:
    """PS3.5 8.2: words of big endian hold two pixels the other way round, bytes do not."""
    dataset = dicom_dataset(film(), **WINDOW)
    data = written(dataset, syntax=uid.ExplicitVRBigEndian)
    at = data.index(b"\x7f\xe0\x00\x10OW") + 12
    if vr == "OB":
        data = data[: at - 8] + b"OB" + data[at - 6 :]
    else:
        data = data[:at] + np.frombuffer(data[at:], ">u2").astype("<u2").tobytes()
    assert seen(tmp_path, data).pixels == pytest.approx(film() / 255.0, abs=1e-6)


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("keep", ["data set", "meta and data set", "DICM, meta and data set"])
def test_without_a_preamble(tmp_path: Path, syntax: str, keep: str) -> None:
    data = written(dicom_dataset(film(), **WINDOW), syntax=syntax)
    if syntax == uid.ExplicitVRBigEndian:
        at = data.index(b"\x7f\xe0\x00\x10OW") + 12
        data = data[:at] + np.frombuffer(data[at:], ">u2").astype("<u2").tobytes()
    data = {"data set": data_set(data), "meta and data set": data[132:], "DICM, meta and data set": data[128:]}[keep]
    image = seen(tmp_path, data)
    assert image.pixels == pytest.approx(film() / 255.0, abs=1e-6)
    assert image.notes == ("no DICOM preamble: read from its first element on",)
    assert find_images([tmp_path]) == (tmp_path / "IM0001",)


def test_no_transfer_syntax_is_named(tmp_path: Path) -> None:
    data = written(dicom_dataset(film(), **WINDOW))
    assert seen(tmp_path, relabelled(data, "")).pixels == pytest.approx(film() / 255.0, abs=1e-6)


@pytest.mark.parametrize("data", [b"", b"\0" * 300, b"\x08\0", b"\x89PNG\r\n\x1a\n" + b"\0" * 200, b"II*\0\x08\0\0\0"])
def test_other_files_are_not_taken_for_dicom(data: bytes) -> None:
    assert not is_dicom(data)


def frames() -> dict[str, tuple[str, bytes]]:
    from openjpeg.utils import encode_array

    jpeg = io.BytesIO()
    Picture.fromarray(film() // 2 + 60).save(jpeg, "JPEG", quality=100)
    return {
        "rle": (uid.RLELossless, packed_rle(film())),
        "jpeg2000": (uid.JPEG2000Lossless, encode_array(film(), photometric_interpretation=2)),
        "jpeg": (uid.JPEGBaseline8Bit, jpeg.getvalue()),
    }


def item(body: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(body) + len(body) % 2) + body + b"\0" * (len(body) % 2)


END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


@pytest.mark.parametrize("codec", ["rle", "jpeg2000", "jpeg"])
def test_fragments_with_and_without_their_table(dicom_file: Write, codec: str) -> None:
    syntax, frame = frames()[codec]
    frame += b"\0" * (len(frame) % 2)
    ways = {
        "empty table": item(b"") + item(frame) + END, "no table": item(frame) + END,
        "table": item(b"\0\0\0\0") + item(frame) + END, "fragments": item(b"") + item(frame[:400]) + item(frame[400:]) + END,
        "no table, fragments": item(frame[:400]) + item(frame[400:]) + END, "no end": item(b"") + item(frame),
        "wrong table": item(struct.pack("<I", 4711)) + item(frame[:400]) + item(frame[400:]) + END,
        "table of three": item(struct.pack("<III", 7, 408, 816)) + item(frame) + END,
    }  # fmt: skip
    for name, pixel_data in ways.items():
        data = dicom_file(film(), syntax=syntax, PixelData=pixel_data, **WINDOW).read_bytes()
        found = find_pixels(data, parse(data, "film.dcm"), needed=film().size)
        assert (found.frame, found.syntax) == (frame, syntax), name


@pytest.mark.parametrize("codec", ["rle", "jpeg2000", "jpeg"])
@pytest.mark.parametrize("says", [uid.ExplicitVRLittleEndian, uid.JPEGLosslessSV1, uid.JPEG2000, uid.RLELossless])
def test_a_frame_is_decoded_as_what_it_is(dicom_file: Write, codec: str, says: str) -> None:
    syntax, frame = frames()[codec]
    path = dicom_file(film(), syntax=syntax, PixelData=encapsulate([frame]), **WINDOW)
    data = relabelled(path.read_bytes(), says)
    file = parse(data, "film.dcm")
    found = find_pixels(data, file, needed=film().size)
    assert found.frame.rstrip(b"\0") == frame.rstrip(b"\0")
    kind = {uid.JPEG2000Lossless: uid.JPEG2000TransferSyntaxes, uid.JPEGBaseline8Bit: uid.JPEGTransferSyntaxes}
    assert found.syntax in kind.get(syntax, [syntax])


def test_plain_words_behind_a_compressed_name(dicom_file: Write) -> None:
    path = dicom_file(film(), **WINDOW)
    path.write_bytes(relabelled(path.read_bytes(), uid.JPEGBaseline8Bit))
    assert read_image(path).pixels == pytest.approx(film() / 255.0, abs=1e-6)


@pytest.mark.parametrize(("data", "said"), [
    (item(b"") + END, "no pixel data"), (item(b"") + item(b"??" * 40) + END, "does not name"),
    (item(b"") + struct.pack("<HHI", 0xFFFE, 0xE000, 4000) + b"\xff\xd8", "cut short"),
])  # fmt: skip
def test_fragments_that_hold_no_frame(dicom_file: Write, data: bytes, said: str) -> None:
    path = dicom_file(film(), syntax=uid.RLELossless, PixelData=data, **WINDOW)
    path.write_bytes(relabelled(path.read_bytes(), uid.ExplicitVRLittleEndian))
    with pytest.raises(ReadError, match=said):
        read_image(path)


@pytest.mark.parametrize(("syntax", "start"), [(uid.JPEGBaseline8Bit, b"\xff\xc0"), (uid.JPEGLSLossless, b"\xff\xf7")])
def test_a_jpeg_stream_that_was_cut_is_refused(dicom_file: Write, syntax: str, start: bytes) -> None:
    """Decoders fill up what is missing: half a film was told as a whole one."""
    whole = frames()["jpeg"][1].replace(b"\xff\xc0", start)
    data = dicom_file(film(), syntax=syntax, PixelData=encapsulate([whole[: len(whole) // 2]]), **WINDOW).read_bytes()
    with pytest.raises(DecodeError, match="cut short"):
        find_pixels(data, parse(data, "film.dcm"), needed=film().size)


def test_floating_point_pixels_are_named(dicom_file: Write) -> None:
    path = dicom_file(film(), PixelData=None, FloatPixelData=np.zeros(96 * 80, "<f4").tobytes())
    with pytest.raises(ReadError, match="floating-point"):
        read_image(path)


def test_nothing_but_our_own_lines_on_the_console(dicom_file: Write, capfd: pytest.CaptureFixture[str]) -> None:
    """pydicom warns of doubtful values, libjpeg writes to standard error; the note or the refusal is all that is said."""
    tags = {"PatientAge": "47 years", "WindowCenter": 128, "WindowWidth": 256}
    path = dicom_file(film(), **tags)
    path.write_bytes(relabelled(path.read_bytes(), uid.ImplicitVRLittleEndian))
    read_image(path)
    syntax, frame = frames()["jpeg"]
    broken = frame[:-900] + b"\xff\xff\0\xd0" * 20
    with contextlib.suppress(ReadError):  # libjpeg forgives some damage
        read_image(dicom_file(film(), syntax=syntax, PixelData=encapsulate([broken])))
    assert capfd.readouterr() == ("", "")


@pytest.mark.real
def test_the_published_kinds(cases: Path) -> None:
    folder, bare = cases / "09-dataset-vr-differs-from-meta", cases / "15-no-preamble-and-missing-offset-table"
    right = read_image(folder / "base.dcm").pixels
    for path in [*sorted(folder.iterdir()), *sorted(bare.iterdir())]:
        assert (read_image(path).pixels == right).all(), path.name


def with_pixel_head(syntax: str, head: bytes, *, tail: bytes = b"") -> tuple[bytes, np.ndarray]:
    """A film whose pixel element begins with these bytes behind its tag, and its values."""
    stored = (film().astype(np.uint16) * 3).astype(">u2" if syntax == uid.ExplicitVRBigEndian else "<u2")
    tags: dict[str, Any] = {"WindowCenter": 384, "WindowWidth": 768}
    data = written(dicom_dataset(stored, **tags), syntax=syntax)
    at = len(data) - stored.nbytes - (8 if syntax == uid.ImplicitVRLittleEndian else 12)
    return data[: at + 4] + head + stored.tobytes() + tail, stored


@pytest.mark.parametrize("tail", [b"", struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)])
@pytest.mark.parametrize("syntax", NATIVE)
def test_plain_values_of_no_stated_length_are_read_with_a_note(tmp_path: Path, syntax: str, tail: bytes) -> None:
    """The values are there: "it has no pixel data" was untrue."""
    head = b"\xff\xff\xff\xff" if syntax == uid.ImplicitVRLittleEndian else b"OW\0\0\xff\xff\xff\xff"
    data, stored = with_pixel_head(syntax, head, tail=tail)
    image = seen(tmp_path, data)
    assert image.pixels == pytest.approx(np.clip((stored - 383.5) / 767 + 0.5, 0, 1), abs=1e-6)
    assert image.notes == ("pixel data without a stated length: read as plain values",)
    with pytest.raises(ReadError, match=r"cut short \(\d+ of 15360 bytes\)"):
        seen(tmp_path, data[: -200 - len(tail)])


@pytest.mark.parametrize("syntax", NATIVE[1:])
@pytest.mark.parametrize("vr", [b"OX", b"US", b"SS", b"OF", b"OL", b"OV", b"UT", b"??", b"  ", b"\0\0"])
def test_a_strange_vr_of_the_pixels_does_not_shift_the_picture(tmp_path: Path, vr: bytes, syntax: str) -> None:
    """It was taken for the length of an implicit element: the picture began two pixels too early, and was told."""
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    data, stored = with_pixel_head(syntax, vr + b"\0\0" + struct.pack(f"{order}I", 96 * 80 * 2))
    assert seen(tmp_path, data).pixels == pytest.approx(np.clip((stored - 383.5) / 767 + 0.5, 0, 1), abs=1e-6)


@pytest.mark.parametrize("vr", [b"US", b"SS"])
def test_a_short_length_of_the_pixels_is_read(tmp_path: Path, vr: bytes) -> None:
    data, stored = with_pixel_head(uid.ExplicitVRLittleEndian, vr + struct.pack("<H", 96 * 80 * 2))
    assert seen(tmp_path, data).pixels == pytest.approx(np.clip((stored - 383.5) / 767 + 0.5, 0, 1), abs=1e-6)


def test_compressed_pixels_without_frames_are_named(dicom_file: Write) -> None:
    syntax, frame = frames()["jpeg"]
    data = dicom_file(film(), syntax=syntax, PixelData=encapsulate([frame]), **WINDOW).read_bytes()
    at = data.index(b"\xfe\xff\x00\xe0")
    with pytest.raises(ReadError, match="pixel data have no stated length, and no frames"):
        seen(dicom_file(film()).parent, data[:at] + b"\x11\x22" * 5000)


@pytest.mark.parametrize(("allocated", "said"), [(32, "32 bits"), (64, "64 bits"), (12, "12 bits"), (1, "1 bit")])
def test_words_of_other_sizes_are_named_with_the_mend(dicom_file: Write, allocated: int, said: str) -> None:
    path = dicom_file(film().astype(np.uint16), BitsAllocated=allocated, BitsStored=min(allocated, 12), HighBit=0)
    with pytest.raises(ReadError, match=said) as refused:
        read_image(path)
    assert "8 or 16 bits" in refused.value.mend


def test_floats_are_named_whatever_bits_stand_beside_them(dicom_file: Write) -> None:
    floats = np.zeros(96 * 80, "<f4").tobytes()
    path = dicom_file(film(), PixelData=None, BitsAllocated=32, BitsStored=None, FloatPixelData=floats)
    with pytest.raises(ReadError, match="floating-point") as refused:
        read_image(path)
    assert "whole numbers" in refused.value.mend
