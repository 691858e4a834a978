"""DICOM radiographs: stored value -> modality LUT -> VOI LUT or window -> inversion of MONOCHROME1, and what tags say.

The file meta header is read first and its transfer syntax looked up in a list: a deflated file would be unpacked by any
parser before one could ask how large it is. The header is then parsed on a budget of reads. Every step of the grey
scale is a function of the stored word alone, so it is worked out once per possible word and looked up per pixel.
"""

from __future__ import annotations

import io
import math
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import ReadError
from storyxai.imaging.decode import DecodeError, decode_apart
from storyxai.imaging.values import check_size, robust_range
from storyxai.provenance import sha256_bytes
from storyxai.types import Array, Image

__all__ = ["is_dicom", "read_dicom"]

# Transfer syntaxes that are read (PS3.6 table A-1): uncompressed by byte order, compressed by codec.
_UNCOMPRESSED = {"1.2.840.10008.1.2": "<", "1.2.840.10008.1.2.1": "<", "1.2.840.10008.1.2.2": ">"}
_COMPRESSED = {
    "1.2.840.10008.1.2.4.50": "jpeg", "1.2.840.10008.1.2.4.51": "jpeg", "1.2.840.10008.1.2.4.57": "jpeg",
    "1.2.840.10008.1.2.4.70": "jpeg", "1.2.840.10008.1.2.4.80": "jpeg", "1.2.840.10008.1.2.4.81": "jpeg",
    "1.2.840.10008.1.2.4.90": "jpeg2000", "1.2.840.10008.1.2.4.91": "jpeg2000",
    "1.2.840.10008.1.2.4.201": "jpeg2000", "1.2.840.10008.1.2.4.202": "jpeg2000",
    "1.2.840.10008.1.2.4.203": "jpeg2000", "1.2.840.10008.1.2.5": "rle",
}  # fmt: skip
_DEFLATED = {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"}

_RADIOGRAPHS = {"CR", "DX", "DR", "RG"}
# De-identified archives often say OT or nothing; the gate judges such pixels.
_UNSTATED = {"", "OT", "SC"}
_OTHERS = {
    "CT": "a CT slice", "MR": "an MR slice", "US": "an ultrasound image", "MG": "a mammogram", "NM": "a scintigram",
    "PT": "a PET slice", "XA": "an angiogram", "RF": "a fluoroscopy image", "PX": "a dental radiograph",
    "IO": "a dental radiograph", "SR": "a structured report", "SEG": "a segmentation", "PR": "a presentation state",
}  # fmt: skip

# A radiograph's header has a few hundred elements of two or three reads each.
_MAX_HEADER_READS = 60_000
_MAX_LUT_BYTES = 1 << 18


class _BudgetedBytes(io.BytesIO):
    """Bytes that may be read from a limited number of times: a header of millions of elements ends in an error."""

    reads_left = _MAX_HEADER_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise ValueError("its header has too many elements")
        return super().read(size)


class _Stored(NamedTuple):
    """The pixels as words, and the stored value that each possible word stands for."""

    words: NDArray[Any]
    values: NDArray[np.float64]


def is_dicom(data: bytes) -> bool:
    """Whether `data` starts like a DICOM file (128 bytes of preamble, then DICM)."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes, *, source: str) -> Image:
    """The radiograph in a DICOM file's bytes, upright and bright = dense, with what its tags say of view and patient.

    Raises: ReadError for what is no single grey projection radiograph or goes beyond the limits; the errors of pydicom
    and numpy for damaged files, which read_image turns into ReadError. Source: PS3.3 C.7.6.3, C.11.1, C.11.2.
    """
    syntax = _transfer_syntax(data, source)
    # Imported here: a PNG is read without the third of a second that pydicom takes.
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        return _read(data, syntax, source)
    except (BytesLengthException, InvalidDicomError) as damage:
        # pydicom derives these from Exception alone, so no list of the usual kinds would hold them.
        raise ReadError(source, "its DICOM header is damaged", mend="export or copy the file again") from damage


def _read(data: bytes, syntax: str, source: str) -> Image:
    from pydicom import dcmread

    stream = _BudgetedBytes(data)
    header = dcmread(stream, stop_before_pixels=True, force=False)
    modality = _text(header, "Modality")
    _refuse_others(header, modality, source)
    rows, columns = _whole(header, "Rows"), _whole(header, "Columns")
    if rows is None or columns is None:
        raise ReadError(source, "holds no picture", mend="give the file of the image itself")
    check_size(source, rows, columns)
    try:
        stored = _stored(header, data, at=stream.tell(), syntax=syntax, shape=(rows, columns))
    except DecodeError as failed:
        raise ReadError(source, str(failed), mend="export the image again, uncompressed if possible") from failed
    table, notes = _grey_table(header, stored)
    if modality not in _RADIOGRAPHS:
        notes.append(f"modality {modality or 'not stated'}: the file does not say that this is a radiograph")
    notes += _tag_notes(header)
    spacing, kind, said = _spacing(header)
    pixels, spacing, turned = _upright(table[stored.words], spacing, _letters(header))
    return Image(
        pixels=np.ascontiguousarray(pixels),
        sha256=sha256_bytes(data),
        source=source,
        view=_view(header),
        spacing_mm=spacing,
        spacing_kind=kind,
        sex={"M": "M", "F": "F"}.get(_text(header, "PatientSex"), ""),
        age_years=_age_years(_text(header, "PatientAge")),
        notes=(*notes, *said, *turned),
    )


def _transfer_syntax(data: bytes, source: str) -> str:
    """The transfer syntax, from the file meta group alone, which is always explicit little endian (PS3.10 7.1)."""
    at, found = 132, ""
    while at + 8 <= len(data):
        group, element, vr, length = struct.unpack_from("<HH2sH", data, at)
        if group != 2:
            break
        at += 8
        if vr in {b"OB", b"UN"}:
            (length,) = struct.unpack_from("<I", data, at) if at + 4 <= len(data) else (0,)
            at += 4
        if element == 0x0010:
            found = data[at : at + length].decode("ascii", "replace").strip("\0 ")
        at += length
    if found in _UNCOMPRESSED or found in _COMPRESSED:
        return found
    mend = "export the image again as uncompressed (explicit VR little endian) DICOM"
    if not found:
        raise ReadError(source, "its DICOM header is cut short or names no transfer syntax", mend=mend)
    if found in _DEFLATED:
        raise ReadError(source, "is deflated DICOM, which is not read for safety", mend=mend)
    raise ReadError(source, f"its transfer syntax {found[:64]!r} is not read", mend=mend)


def _refuse_others(header: Any, modality: str, source: str) -> None:
    mend = "give a frontal chest radiograph (CR or DX)"
    if modality not in _RADIOGRAPHS | _UNSTATED:
        said = _OTHERS.get(modality, "another kind of object")
        raise ReadError(source, f"is {said} (modality {modality[:16]}), not a projection radiograph", mend=mend)
    frames = _whole(header, "NumberOfFrames") or 1
    if frames > 1:
        raise ReadError(source, f"holds {frames} frames, not a single projection radiograph", mend=mend)
    photometric = _text(header, "PhotometricInterpretation")
    if (_whole(header, "SamplesPerPixel") or 1) != 1 or photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        said = photometric[:16] or "no photometric interpretation"
        raise ReadError(source, f"has colour pixels or none ({said})", mend="give the radiograph in grey values")


def _stored(header: Any, data: bytes, *, at: int, syntax: str, shape: tuple[int, int]) -> _Stored:
    """The stored pixels, uncompressed in place or decoded apart."""
    allocated = _whole(header, "BitsAllocated") or 0
    bits = _whole(header, "BitsStored") or allocated
    signed = _whole(header, "PixelRepresentation") == 1
    if allocated not in {8, 16} or not 1 <= bits <= allocated:
        raise DecodeError(f"its pixels have {allocated} bits; 8 and 16 are read")
    order = _UNCOMPRESSED.get(syntax, "<")
    start, length = _pixel_element(data, at, explicit=syntax != "1.2.840.10008.1.2", order=order)
    if syntax in _UNCOMPRESSED:
        needed = shape[0] * shape[1] * allocated // 8
        there = min(length, len(data) - start)
        if length == 0xFFFFFFFF or there < needed:
            raise DecodeError(f"its pixel data are cut short ({there} of {needed} bytes)")
        dtype = f"{order}u{allocated // 8}"
        words = np.frombuffer(data, dtype=dtype, count=shape[0] * shape[1], offset=start)
        high = _whole(header, "HighBit")
        shift = max(0, min((bits - 1 if high is None else high) + 1 - bits, allocated - bits))
        return _Stored(words.reshape(shape), _word_values(allocated, bits, signed=signed, shift=shift))
    frame = _joined_fragments(data, start)
    pixels = decode_apart(frame, codec=_COMPRESSED[syntax], rows=shape[0], columns=shape[1], bits=allocated)
    words = pixels.view(f"u{pixels.dtype.itemsize}")
    word_bits = 8 * pixels.dtype.itemsize
    # A codec knows its own precision and sign; only an unsigned result of signed pixels still needs the tag's.
    as_tagged = signed and pixels.dtype.kind == "u" and bits <= word_bits
    own = bits if as_tagged else word_bits
    return _Stored(words, _word_values(word_bits, own, signed=as_tagged or pixels.dtype.kind == "i", shift=0))


def _pixel_element(data: bytes, at: int, *, explicit: bool, order: str) -> tuple[int, int]:
    """Where the value of Pixel Data starts and its length, given where the element starts."""
    try:
        group, element = struct.unpack_from(f"{order}HH", data, at)
        if (group, element) != (0x7FE0, 0x0010):
            raise DecodeError("it has no pixel data")
        (length,) = struct.unpack_from(f"{order}I", data, at + (8 if explicit else 4))
    except struct.error as short:
        raise DecodeError("it has no pixel data") from short
    return at + (12 if explicit else 8), int(length)


def _joined_fragments(data: bytes, at: int) -> bytes:
    """The fragments of the only frame, joined; the first item is the offset table (PS3.5 A.4)."""
    parts: list[bytes] = []
    while at + 8 <= len(data):
        group, element, length = struct.unpack_from("<HHI", data, at)
        if (group, element) != (0xFFFE, 0xE000):
            break
        if at + 8 + length > len(data):
            raise DecodeError("its pixel data are cut short")
        parts.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    if len(parts) < 2:
        raise DecodeError("it has no pixel data")
    return b"".join(parts[1:])


def _word_values(word_bits: int, bits: int, *, signed: bool, shift: int) -> NDArray[np.float64]:
    """The stored value of each word: `bits` bits that start at bit `shift`, in two's complement where signed."""
    words = np.arange(1 << word_bits, dtype=np.int64)
    values = (words >> shift) & ((1 << bits) - 1)
    if signed:
        values = np.where(values >= 1 << (bits - 1), values - (1 << bits), values)
    return values.astype(np.float64)


def _grey_table(header: Any, stored: _Stored) -> tuple[Array, list[str]]:
    """The grey value in [0, 1] of each word, bright = dense, and notes of what was done."""
    notes: list[str] = []
    # A million pixels, evenly spread, tell the range as well as all of a large film and in a fraction of the time.
    step = max(1, int((stored.words.size / 1e6) ** 0.5))
    counts = np.bincount(stored.words[::step, ::step].ravel(), minlength=stored.values.size)
    padding = _padding(header, stored.values)
    seen = np.where(padding, 0, counts)
    if not seen.any():
        padding, seen = np.zeros_like(padding), counts
    values = _modality_values(header, stored.values)
    grey = _windowed(header, values, notes)
    if grey is not None and np.ptp(np.clip(grey[seen > 0], 0.0, 1.0)) < 0.02:
        notes.append("the stated window shows nothing and was left aside")
        grey = None
    if grey is None:
        low, high = robust_range(seen, values)
        grey = (values - low) / max(high - low, 1e-12)
        notes.append("scaled by the robust range of its values: no usable window is stated")
    grey = np.clip(grey, 0.0, 1.0)
    # Last of all: MONOCHROME1 says how the displayed value is meant, not how the stored one is.
    if _text(header, "PhotometricInterpretation") == "MONOCHROME1":
        grey = 1.0 - grey
        notes.append("inverted: MONOCHROME1")
    grey[padding] = 0.0
    return grey.astype(np.float32), notes


def _padding(header: Any, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which stored values are padding outside the exposed field (PS3.3 C.7.5.1.1.2)."""
    first = _number(header, "PixelPaddingValue")
    if first is None:
        return np.zeros(values.shape, dtype=np.bool_)
    last = _number(header, "PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
    return (values >= low) & (values <= high)


def _modality_values(header: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    table = _table_item(header, "ModalityLUTSequence")
    if table is not None:
        return _looked_up(values, *table[:2])
    slope, intercept = _number(header, "RescaleSlope"), _number(header, "RescaleIntercept")
    return values * (slope or 1.0) + (intercept or 0.0)


def _windowed(header: Any, values: NDArray[np.float64], notes: list[str]) -> NDArray[np.float64] | None:
    """The values as the VOI LUT or the first window shows them, unclipped [0, 1], or None where neither is usable."""
    table = _table_item(header, "VOILUTSequence")
    if table is not None:
        first, entries, bits = table
        return _looked_up(values, first, entries) / max((1 << bits) - 1, float(entries.max()), 1.0)
    center, width = _number(header, "WindowCenter"), _number(header, "WindowWidth")
    if center is None or width is None or width <= 0:
        return None
    function = _text(header, "VOILUTFunction")
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -50, 50)))
    if function == "LINEAR_EXACT" or width <= 1:
        return (values - center) / width + 0.5
    return (values - (center - 0.5)) / (width - 1.0) + 0.5


def _table_item(header: Any, name: str) -> tuple[float, NDArray[np.float64], int] | None:
    """First value mapped, entries and bits of the first table in the sequence `name`, or None where there is none."""
    raw = header.get_item(name) if name in header else None
    if raw is None:
        return None
    if isinstance(getattr(raw, "value", None), bytes) and len(raw.value) > _MAX_LUT_BYTES:
        raise DecodeError("its lookup table is too large")
    items = header[name].value
    if not items or "LUTDescriptor" not in items[0] or "LUTData" not in items[0]:
        return None
    length, first, bits = (int(number) for number in items[0].LUTDescriptor)
    data = items[0].LUTData
    length = length or 65536
    if isinstance(data, bytes):
        is_bytes = length > 1 and len(data) in {length, length + 1}
        order = ">" if header.original_encoding[1] is False else "<"
        entries = np.frombuffer(data, dtype="u1" if is_bytes else f"{order}u2")
    else:
        entries = np.atleast_1d(np.asarray(data, dtype=np.int64)) & 0xFFFF
    if entries.size < length or not 1 <= bits <= 16:
        raise DecodeError("its lookup table is cut short")
    return float(first), entries[:length].astype(np.float64), bits


def _looked_up(values: NDArray[np.float64], first: float, entries: NDArray[np.float64]) -> NDArray[np.float64]:
    # The first value mapped is signed where the values are, but is often written as unsigned.
    if first > 32767 and values.min() < 0:
        first -= 65536
    index = np.clip(np.rint(values - first), 0, entries.size - 1).astype(np.intp)
    return entries[index]


def _upright(
    pixels: Array, spacing: tuple[float, float] | None, letters: tuple[str, str]
) -> tuple[Array, tuple[float, float] | None, list[str]]:
    """The picture with the head up and the patient's left on its right side, where the tags say how it lies."""
    across, down = letters
    notes = []
    if across in {"H", "F"} and down in {"L", "R", "A", "P"}:
        pixels, (across, down) = pixels.T, (down, across)
        spacing = None if spacing is None else (spacing[1], spacing[0])
        notes.append("rows and columns exchanged: patient orientation")
    if down == "H":
        pixels = pixels[::-1]
        notes.append("turned top to bottom: patient orientation")
    if across == "R":
        pixels = pixels[:, ::-1]
        notes.append("mirrored left to right: patient orientation")
    return pixels, spacing, notes


def _letters(header: Any) -> tuple[str, str]:
    """The patient directions of the picture's right and lower side ("L", "F" for an upright frontal film), or ""."""
    words = _text(header, "PatientOrientation").split("\\")
    return (words[0][:1], words[1][:1]) if len(words) == 2 else ("", "")


def _view(header: Any) -> str:
    stated = _text(header, "ViewPosition")
    if stated in {"PA", "AP"}:
        return stated
    if stated in {"LL", "RL", "LAT", "LATERAL"} or set(_letters(header)) & {"A", "P"}:
        return "LATERAL"
    return "unknown"


def _spacing(header: Any) -> tuple[tuple[float, float] | None, str, list[str]]:
    """Row and column spacing in mm, where it holds, and a note. Source: PS3.3 10.7.1.3.

    Pixel Spacing holds at the patient only if it was calibrated: it says so, or differs from Imager Pixel Spacing.
    """
    patient, detector = _pair(header, "PixelSpacing"), _pair(header, "ImagerPixelSpacing")
    calibrated = _text(header, "PixelSpacingCalibrationType") in {"GEOMETRY", "FIDUCIAL"}
    if patient and (calibrated or (detector and not np.allclose(patient, detector, rtol=1e-3))):
        return patient, "patient", []
    if detector:
        return detector, "detector", []
    if patient:
        return patient, "detector", ["pixel spacing without calibration: taken as measured at the detector"]
    return None, "", []


def _pair(header: Any, name: str) -> tuple[float, float] | None:
    words = _text(header, name).split("\\")
    try:
        row, column = (float(word) for word in words)
    except ValueError:
        return None
    return (row, column) if 0.01 <= row <= 10 and 0.01 <= column <= 10 else None


def _tag_notes(header: Any) -> list[str]:
    notes = []
    if part := _text(header, "BodyPartExamined"):
        notes.append(f"body part: {part[:32]}")
    if _text(header, "PresentationIntentType") == "FOR PROCESSING":
        notes.append("stored for processing: not made for viewing")
    if _text(header, "BurnedInAnnotation") == "YES":
        notes.append("burnt-in text: the file says that its pixels hold annotation")
    if _text(header, "LossyImageCompression") == "01":
        notes.append("lossy compression: fine detail may be lost")
    return notes


def _age_years(text: str) -> float | None:
    """Years, from DICOM's three digits and a unit ("064Y", "011M")."""
    per_year = {"Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}
    if len(text) != 4 or not text[:3].isdigit() or text[3] not in per_year:
        return None
    return int(text[:3]) / per_year[text[3]]


def _text(header: Any, name: str) -> str:
    """An element's value as upper-case text, several values joined by a backslash; "" where absent or unreadable."""
    try:
        value = header.get(name)
        words = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    except (ValueError, TypeError, LookupError, AttributeError, NotImplementedError, struct.error):
        return ""
    text = "\\".join("" if word is None else str(word).strip(" \0") for word in words).upper()
    # Texts end up in messages of one line and in stories: nothing but what can be printed.
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _number(header: Any, name: str) -> float | None:
    """An element's first value as a finite number, or None."""
    try:
        number = float(_text(header, name).split("\\")[0])
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(header: Any, name: str) -> int | None:
    number = _number(header, name)
    return None if number is None else int(number)
