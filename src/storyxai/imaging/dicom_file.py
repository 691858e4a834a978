"""A DICOM file's bytes as a header and its pixel data's bytes, encoded as they are and not only as the file says.

The file meta header is read first and its transfer syntax looked up in a list: a deflated file would be unpacked by any
parser before one could ask how large it is. The header is then parsed on a budget of reads. Preamble, meta header, byte
order, explicit value representations and the kind of compression are looked for in the bytes themselves, since published
files lack or misstate each of them.
"""

from __future__ import annotations

import io
import struct
from typing import Any, NamedTuple

from storyxai.errors import ReadError
from storyxai.imaging.decode import DecodeError
from storyxai.imaging.notes import note

IMPLICIT, LITTLE, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
_JPEG = "1.2.840.10008.1.2.4."
# Transfer syntaxes that are read (PS3.6 table A-1).
_NATIVE = frozenset({IMPLICIT, LITTLE, BIG})
_JPEGS = frozenset(_JPEG + end for end in ("50", "51", "57", "70", "80", "81"))
_JPEG2000S = frozenset(_JPEG + end for end in ("90", "91", "201", "202", "203"))
_DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"})
# The process of a JPEG stream by its start-of-frame marker: baseline, extended, lossless, JPEG-LS.
_JPEG_FRAMES = {0xC0: "50", 0xC1: "51", 0xC2: "51", 0xC3: "70", 0xF7: "80"}

_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"  # no coded pixels contain either

_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_UNDEFINED = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
# An image's header has a few hundred elements of two or three reads each.
_MAX_HEADER_READS = 60_000
_MAX_META_ELEMENTS = 200


class DicomFile(NamedTuple):
    """The header without pixel data, the transfer syntax ("" where none is named) and where the pixel element starts."""

    header: Any
    syntax: str
    at: int
    explicit: bool
    little: bool
    notes: tuple[str, ...]


class PixelData(NamedTuple):
    """Either native words that start at `start` (`syntax` ""), or one compressed frame and its transfer syntax.

    `stated` is whether the file states how long native words are.
    """

    start: int
    length: int
    swapped: bool
    frame: bytes
    syntax: str
    stated: bool = True


class _BudgetedBytes(io.BytesIO):
    """Bytes that may be read from a limited number of times: a header of millions of elements ends in an error."""

    reads_left = _MAX_HEADER_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise ValueError("its header has too many elements")
        return super().read(size)


def is_dicom(data: bytes) -> bool:
    """Whether `data` starts like a DICOM file: with preamble and DICM, or, as old archives write it, with neither."""
    return data[128:132] == b"DICM" or data[:4] == b"DICM" or _starts_with_element(data)


def _starts_with_element(data: bytes) -> bool:
    """Whether an element of group 2 or 8 with a low number and a credible length comes first, in either byte order."""
    if len(data) < 8:
        return False
    order = "<" if data[1] == 0 else ">"
    group, element = struct.unpack_from(f"{order}HH", data)
    (length,) = struct.unpack_from(f"{order}I", data, 4)
    return group in {2, 8} and element <= 0x70 and (_is_vr(data[4:6]) or length <= 1024)


def _is_vr(word: bytes) -> bool:
    return len(word) == 2 and all(65 <= letter <= 90 for letter in word)


def parse(data: bytes, source: str) -> DicomFile:
    """The header of a DICOM file's bytes, with notes where it is encoded otherwise than it says.

    Raises: ReadError for transfer syntaxes that are not read; the errors of pydicom for damaged headers.
    """
    # Imported here: a PNG is read without the third of a second that pydicom takes.
    from pydicom.filereader import read_dataset

    start = 132 if data[128:132] == b"DICM" else 4 if data[:4] == b"DICM" else 0
    syntax, at = _meta(data, start)
    if at + 8 > len(data):
        raise ReadError(source, "its DICOM header is cut short", mend="export or copy the file again")
    _refuse_syntax(syntax, data[at : at + 8], source)
    implicit, little = not _is_vr(data[at + 4 : at + 6]), _is_little(data[at : at + 2])
    notes = [] if start == 132 else [note("note_no_preamble")]
    if syntax and (implicit, little) != (syntax == IMPLICIT, syntax != BIG):
        kind = f"{'implicit' if implicit else 'explicit'} VR, {'little' if little else 'big'} endian"
        notes.append(note("note_encoding", kind=kind))
    stream = _BudgetedBytes(data)
    stream.seek(at)
    header = read_dataset(stream, implicit, little, stop_when=lambda tag, vr, length: tag in _PIXEL_TAGS)
    return DicomFile(header, syntax, stream.tell(), not implicit, little, tuple(notes))


def _is_little(group: bytes) -> bool:
    # The groups of a header are small numbers: the reading that gives the smaller one is right.
    return int.from_bytes(group, "little") <= int.from_bytes(group, "big")


def _meta(data: bytes, at: int) -> tuple[str, int]:
    """The transfer syntax and where the data set starts; the meta group is always little endian (PS3.10 7.1)."""
    syntax = ""
    for _ in range(_MAX_META_ELEMENTS):
        if at + 12 > len(data) or data[at : at + 2] != b"\2\0":
            break
        vr = data[at + 4 : at + 6]
        if vr in _LONG_VRS:
            head, (length,) = 12, struct.unpack_from("<I", data, at + 8)
        elif _is_vr(vr):
            head, (length,) = 8, struct.unpack_from("<H", data, at + 6)
        else:
            head, (length,) = 8, struct.unpack_from("<I", data, at + 4)
        if data[at + 2 : at + 4] == b"\x10\0":
            syntax = data[at + head : at + head + min(length, 64)].decode("ascii", "replace").strip("\0 ")
        at += head + length
    return syntax, at


def _refuse_syntax(syntax: str, first: bytes, source: str) -> None:
    """Nothing, when this transfer syntax is read, or none is named and the first element can be."""
    if syntax in _NATIVE | _JPEGS | _JPEG2000S | {RLE}:
        return
    plain = _starts_with_element(first)
    mend = "export the image again as uncompressed (explicit VR little endian) DICOM"
    if syntax in _DEFLATED and not plain:
        raise ReadError(source, "is deflated DICOM, which is not read for safety", mend=mend)
    if not syntax and not plain:
        raise ReadError(source, "its DICOM header is cut short or names no transfer syntax", mend=mend)
    if syntax and syntax not in _DEFLATED:
        raise ReadError(source, f"its transfer syntax {syntax!r} is not read", mend=mend)


def refuse_floats(data: bytes, file: DicomFile) -> None:
    """Nothing, where the pixels are no floating-point numbers. Raises: DecodeError."""
    if file.at + 4 <= len(data) and _tag(data, file) in {(0x7FE0, 0x0008), (0x7FE0, 0x0009)}:
        why = "its pixels are floating-point numbers; whole numbers of 8 and 16 bits are read"
        raise DecodeError(why, mend="export the image again in whole numbers of 16 bits")


def _tag(data: bytes, file: DicomFile) -> tuple[int, int]:
    group, element = struct.unpack_from("<HH" if file.little else ">HH", data, file.at)
    return group, element


def find_pixels(data: bytes, file: DicomFile, *, needed: int) -> PixelData:
    """The pixel data of a single frame of `needed` bytes when it is not compressed. Raises: DecodeError."""
    if file.at + 12 > len(data):
        raise DecodeError("it has no pixel data")
    refuse_floats(data, file)
    if _tag(data, file) != (0x7FE0, 0x0010):
        raise DecodeError("it has no pixel data")
    start, length = _pixel_bytes(data, file)
    compressed, framed = file.syntax in _JPEGS | _JPEG2000S | {RLE}, data[start : start + 4] == b"\xfe\xff\x00\xe0"
    if framed and (length == _UNDEFINED or compressed):
        frame = _joined_fragments(data, start)
        return PixelData(start, len(frame), False, frame, _frame_syntax(frame, file.syntax))
    if length == _UNDEFINED and compressed:
        raise DecodeError("its pixel data have no stated length, and no frames")
    there = min(length, len(data) - start)
    if compressed and there < needed:
        frame = data[start : start + there]
        return PixelData(start, there, False, frame, _frame_syntax(frame, file.syntax))
    if there < needed:
        raise DecodeError(f"its pixel data are cut short ({there} of {needed} bytes)")
    # Words of big endian hold two pixels of 8 bits each the other way round (PS3.5 8.2).
    swapped = not file.little and data[file.at + 4 : file.at + 6] == b"OW"
    return PixelData(start, there, swapped, b"", "", length != _UNDEFINED)


def _pixel_bytes(data: bytes, file: DicomFile) -> tuple[int, int]:
    """Where the pixel element's value starts, and its stated length."""
    order, at = "<" if file.little else ">", file.at
    vr, between = data[at + 4 : at + 6], data[at + 6 : at + 8]
    # Lengths are even and these letters make odd ones, so an implicit length is never taken for them.
    if vr in _LONG_VRS or (file.explicit and between == b"\0\0" and not _credible(data, at, order)):
        return at + 12, struct.unpack_from(f"{order}I", data, at + 8)[0]
    if file.explicit and _is_vr(vr):
        return at + 8, struct.unpack_from(f"{order}H", data, at + 6)[0]
    return at + 8, struct.unpack_from(f"{order}I", data, at + 4)[0]


def _credible(data: bytes, at: int, order: str) -> bool:
    """Whether an implicit element's length stands here: one that ends where the file does, or nearly so."""
    (length,) = struct.unpack_from(f"{order}I", data, at + 4)
    return bool(length and abs(at + 8 + length - len(data)) <= 2)


def _joined_fragments(data: bytes, at: int) -> bytes:
    """The fragments of the only frame, joined, without the offset table that should come first (PS3.5 A.4)."""
    parts: list[bytes] = []
    while at + 8 <= len(data):
        group, element, length = struct.unpack_from("<HHI", data, at)
        if group << 16 | element != _ITEM:
            break
        if at + 8 + length > len(data):
            raise DecodeError("its pixel data are cut short")
        parts.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    # A table is empty or begins with the first frame's offset, 0; one with wrong offsets does no harm to a single frame.
    if parts and (parts[0][:4] in {b"", b"\0\0\0\0"} or (len(parts) > 1 and not _begins_frame(parts[0]))):
        del parts[0]
    if not parts:
        raise DecodeError("it has no pixel data")
    return b"".join(parts)


def _begins_frame(data: bytes) -> bool:
    """Whether a compressed frame of a known kind begins here."""
    return data[:2] == b"\xff\xd8" or data[:4] == b"\xff\x4f\xff\x51" or data[4:8] in {b"jP  ", b"\x40\0\0\0"}


def _frame_syntax(frame: bytes, stated: str) -> str:
    """The transfer syntax that the frame's own first bytes speak for, the stated one where they agree with it.

    Raises: DecodeError for a JPEG stream whose last scan does not end: decoders fill up what is missing without a word.
    """
    if frame[:2] == b"\xff\xd8":
        if frame.rfind(_END_OF_IMAGE) < frame.rfind(_START_OF_SCAN):
            raise DecodeError("its pixel data are cut short (a JPEG stream without its end)")
        return stated if stated in _JPEGS else _JPEG + _jpeg_process(frame)
    if frame[:4] == b"\xff\x4f\xff\x51" or frame[4:8] == b"jP  ":
        return stated if stated in _JPEG2000S else _JPEG + "91"
    if frame[4:8] == b"\x40\0\0\0" and 0 < frame[0] <= 15:
        return RLE
    if stated in _NATIVE or not stated:
        raise DecodeError("its pixel data are compressed in a way that the file does not name")
    return stated


def _jpeg_process(frame: bytes) -> str:
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF and frame[at + 1] not in _JPEG_FRAMES:
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return _JPEG_FRAMES.get(frame[at + 1] if at + 1 < len(frame) else 0, "50")
