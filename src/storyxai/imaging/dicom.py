"""DICOM images: the picture as its file wants it shown, and what its tags say of view and patient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import ReadError
from storyxai.imaging.colours import COLOURS, has_palette, palette_colours, stored_colours
from storyxai.imaging.decode import DecodeError, decode_apart
from storyxai.imaging.dicom_file import DicomFile, find_pixels, is_dicom, parse, refuse_floats
from storyxai.imaging.frames import bring_up_frame
from storyxai.imaging.greyscale import Stored, grey_table, word_values
from storyxai.imaging.notes import note
from storyxai.imaging.shutter import covered, covered_grey, overlay_groups
from storyxai.imaging.tags import age_years, body_part, letters, pixel_aspect, spacing, text, view, whole
from storyxai.imaging.values import check_size
from storyxai.modalities.contract import Acquisition
from storyxai.provenance import sha256_bytes
from storyxai.types import Array, Image

__all__ = ["is_dicom", "read_dicom", "read_stored"]

# DR and XR are no modalities of DICOM, and are written.
_PROJECTIONS = {"CR", "DX", "DR", "RG", "XR"}
_ALIKE = 2
"""Channels that differ by no more are one grey: a compressed grey picture in three channels differs by rounding."""
_PALETTES = COLOURS | {"PALETTE COLOR"}
# De-identified archives often say OT or nothing; the gate judges such pixels.
_UNSTATED = {"", "OT", "SC"}
_KINDS = {
    **dict.fromkeys(_PROJECTIONS, "a projection"), "XC": "a photograph", "DMS": "a dermoscopic picture", "CT": "a CT slice",
    "MR": "an MR slice", "US": "an ultrasound image", "MG": "a mammogram", "NM": "a scintigram",
    "PT": "a PET slice", "XA": "an angiogram", "RF": "a fluoroscopy image", "PX": "a dental radiograph",
    "IO": "a dental radiograph", "SR": "a structured report", "SEG": "a segmentation", "PR": "a presentation state",
}  # fmt: skip
# Kinds of images by SOP class (PS3.4 B.5), for files whose modality says nothing or another thing: a slice is one all the same.
_IMAGES = "1.2.840.10008.5.1.4.1.1."
_MODALITY_BY_CLASS = {
    _IMAGES + end: modality
    for modality, ends in {
        "CT": "2 2.1 2.2", "MR": "4 4.1 4.3 4.4", "US": "3.1 6.1 6.2", "MG": "1.2 1.2.1 13.1.3", "IO": "1.3 1.3.1",
        "NM": "20", "PT": "128 128.1 130", "XA": "12.1 12.1.1 12.3", "RF": "12.2 12.2.1",
    }.items()
    for end in ends.split()
}  # fmt: skip
_SLICES = {"AXIAL", "LOCALIZER"}
"""What a CT's Image Type says third; conversions to Secondary Capture often keep it."""


def read_dicom(data: bytes, *, source: str, acquisition: Acquisition | None = None) -> Image:
    """The image in a DICOM file's bytes, upright and bright = dense, with what its tags say of view and patient.

    `acquisition` says which kinds of objects are taken, and whether colours are kept; without it single grey projections are.
    Raises: ReadError for an object of another kind, one of several frames, or one beyond the limits; the errors of pydicom
    and numpy for damaged files, which read_image turns into ReadError. Source: PS3.3 C.7.6.3, C.7.6.11, C.11.
    """
    with _damage_named(source):
        return _read(data, parse(data, source), source, _Taken.by(acquisition or Acquisition()))


@contextmanager
def _damage_named(source: str) -> Iterator[None]:
    """Damage of the pixels or the header as an error that names the file. Raises: ReadError."""
    try:
        yield
    except DecodeError as failed:
        raise ReadError(source, str(failed), mend=failed.mend) from failed
    except Exception as damage:
        # pydicom derives these from Exception alone, so no list of the usual kinds would hold them.
        if type(damage).__module__ != "pydicom.errors":
            raise
        raise ReadError(source, "its DICOM header is damaged", mend="export or copy the file again") from damage


def read_stored(data: bytes, *, source: str) -> tuple[Any, NDArray[Any], int]:
    """A single grey image as its file stores it: the header, the stored values and how many bits they have.

    Shapes: [H, W] of 8 or 16 bits, signed or not; nothing is left in unused bits. Any modality. Raises: as `read_dicom`.
    """
    if not is_dicom(data):
        raise ReadError(source, "is no DICOM file", mend="give the DICOM file that the picture was made from")
    with _damage_named(source):
        file = parse(data, source)
        rows, columns = _grey_shape(file.header, source)
        stored, _ = _stored(data, file, rows, columns)
        size = stored.words.dtype.itemsize
        values = stored.values.astype(f"{'i' if stored.signed else 'u'}{size}")[stored.words]
        return file.header, values, stored.bits


@dataclass(frozen=True)
class _Taken:
    """The kinds of objects that are read: DICOM's codes of the modality, what they are called, and their SOP classes."""

    modalities: frozenset[str]
    called: str
    mend: str
    sop_classes: tuple[str, ...]
    colour: bool

    @classmethod
    def by(cls, acquisition: Acquisition) -> _Taken:
        """What an acquisition takes: with one code of projections all of them, as archives write them."""
        asked = frozenset(acquisition.modalities)
        if not asked or asked & _PROJECTIONS:
            mend = "give a single projection (CR or DX)"
            return cls(asked | _PROJECTIONS, "projection", mend, acquisition.sop_classes, acquisition.colour)
        codes = acquisition.modalities
        called = " or ".join(dict.fromkeys(_KINDS.get(code, code).partition(" ")[2] or code for code in codes))
        mend = f"give a single {called} ({' or '.join(codes)})"
        return cls(asked, called, mend, acquisition.sop_classes, acquisition.colour)


def _read(data: bytes, file: DicomFile, source: str, taken: _Taken) -> Image:
    header = file.header
    modality = text(header, "Modality")
    rows, columns = _checked_shape(header, modality, source, taken)
    bring_up_frame(header)
    if _in_colour(header):
        pixels, notes = _colours(data, file, (rows, columns), source, taken), list[str]()
        hidden, shuttered, greyed = None, list[str](), list[str]()
    else:
        stored, notes = _stored(data, file, rows, columns)
        hidden, shuttered = covered(header, (rows, columns))
        table, greyed = grey_table(header, stored, hidden)
        pixels = np.take(table, stored.words)
    if hidden is not None:
        pixels[hidden] = covered_grey(header)
    spacing_mm, kind, measured = spacing(header)
    pixels, spacing_mm, turned = _upright(pixels, spacing_mm, letters(header))
    seen_from, viewed = view(header)
    if modality not in taken.modalities:
        notes.append(note("note_modality", modality=modality, kind=taken.called) if modality else
                     note("note_no_modality", kind=taken.called))  # fmt: skip
    return Image(
        pixels=np.ascontiguousarray(pixels),
        sha256=sha256_bytes(data),
        source=source,
        view=seen_from,
        spacing_mm=spacing_mm,
        spacing_kind=kind,
        sex={"M": "M", "MALE": "M", "F": "F", "FEMALE": "F"}.get(text(header, "PatientSex"), ""),
        age_years=age_years(text(header, "PatientAge")),
        notes=(*file.notes, *notes, *greyed, *shuttered, *_tag_notes(header), *viewed, *measured, *turned),
    )


def _checked_shape(header: Any, modality: str, source: str, taken: _Taken) -> tuple[int, int]:
    """Rows and columns. Raises: ReadError for an object of another kind than those that are taken."""
    a = "an" if taken.called[:1] in "aeiou" else "a"
    if modality not in taken.modalities | _UNSTATED:
        said = _KINDS.get(modality, "another kind of object")
        raise ReadError(source, f"is {said} (modality {modality[:16]}), not {a} {taken.called}", mend=taken.mend)
    stated = text(header, "SOPClassUID")
    kind = _MODALITY_BY_CLASS.get(stated, "")
    if not kind and modality in _UNSTATED and _SLICES & set(text(header, "ImageType").split("\\")[2:3]):
        kind = "CT"
    if kind and kind not in taken.modalities:
        raise ReadError(source, f"is {_KINDS[kind]} by its SOP class or image type, not {a} {taken.called}", mend=taken.mend)
    if taken.sop_classes and stated and stated not in taken.sop_classes:
        why = f"is an object of the SOP class {stated[:64]}, which this model does not take"
        raise ReadError(source, why, mend=taken.mend)
    if _in_colour(header):
        return _shape(header, source, called=taken.called, mend=taken.mend, planes=3)
    return _grey_shape(header, source, called=taken.called, mend=taken.mend)


def _in_colour(header: Any) -> bool:
    if (whole(header, "SamplesPerPixel") or 1) == 1:
        return has_palette(header)
    return whole(header, "SamplesPerPixel") == 3 and text(header, "PhotometricInterpretation") in COLOURS


def _colours(data: bytes, file: DicomFile, shape: tuple[int, int], source: str, taken: _Taken) -> Array:
    """The picture in its colours [H, W, 3] where these are read, else in grey [H, W] where it has no other colour.

    Raises: ReadError for colours where grey is read; DecodeError.
    """
    if has_palette(file.header):
        stored, _ = _stored(data, file, *shape)
        colours = palette_colours(stored.values[stored.words].astype(np.int32), file.header)
    else:
        colours = stored_colours(data, file, shape)
    if taken.colour:
        return np.divide(colours, np.float32(255), dtype=np.float32)
    spread = colours.max(axis=2) - colours.min(axis=2)
    if (coloured := float((spread > _ALIKE).mean())) > 0:
        why = f"has colour in {coloured:.1%} of its pixels, and this model reads grey ones"
        raise ReadError(source, why, mend="export the grey picture without coloured marks")
    return np.divide(colours[..., 1], np.float32(255), dtype=np.float32)


def _grey_shape(
    header: Any, source: str, *, called: str = "projection", mend: str = "give a single grey image"
) -> tuple[int, int]:
    """Rows and columns. Raises: ReadError for what is no single grey picture within the limits."""
    shape = _shape(header, source, called=called, mend=mend)
    photometric, samples = text(header, "PhotometricInterpretation"), whole(header, "SamplesPerPixel") or 1
    if samples != 1 or photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        kind = "colour pixels" if samples != 1 or photometric in _PALETTES else "pixels of a kind that is not read"
        why = f"has {kind} ({photometric[:16]}, {samples} to a pixel), no grey ones"
        raise ReadError(source, why, mend="give the image in grey values")
    return shape


def _shape(header: Any, source: str, *, called: str, mend: str, planes: int = 1) -> tuple[int, int]:
    """Rows and columns. Raises: ReadError for what is no single picture within the limits."""
    rows, columns = whole(header, "Rows"), whole(header, "Columns")
    if rows is None or columns is None:
        raise ReadError(source, "holds no picture", mend="give the file of the image itself")
    frames = whole(header, "NumberOfFrames") or 1
    if frames > 1:
        raise ReadError(source, f"holds {frames} frames, not a single {called}", mend=mend)
    photometric = text(header, "PhotometricInterpretation")
    if not photometric:
        why = "does not say how its values are to be seen (no photometric interpretation)"
        raise ReadError(source, why, mend="export the image again as a whole DICOM file")
    check_size(source, rows, columns, planes=planes)
    return rows, columns


def _stored(data: bytes, file: DicomFile, rows: int, columns: int) -> tuple[Stored, list[str]]:
    """The stored pixels, uncompressed in place or decoded apart, and notes. Raises: DecodeError."""
    allocated = whole(file.header, "BitsAllocated") or 0
    bits = whole(file.header, "BitsStored") or allocated
    signed = whole(file.header, "PixelRepresentation") == 1
    refuse_floats(data, file)
    if allocated not in {8, 16} or not 1 <= bits <= allocated:
        called = f"{allocated} bit{'s' * (allocated != 1)}"
        why = f"its pixels have {called} ({bits} stored); 8 and 16 are read"
        raise DecodeError(why, mend="export the image again with 8 or 16 bits to a pixel")
    found = find_pixels(data, file, needed=rows * columns * allocated // 8)
    if found.syntax:
        pixels = decode_apart(
            found.frame, syntax=found.syntax, rows=rows, columns=columns, bits=(allocated, bits), signed=signed
        )
        word_bits, is_signed = 8 * pixels.dtype.itemsize, pixels.dtype.kind == "i"
        values = word_values(word_bits, word_bits, signed=is_signed)
        return Stored(pixels.view(f"u{pixels.dtype.itemsize}"), values, min(bits, word_bits), is_signed), []
    notes: list[str] = [] if found.stated else [note("note_no_length")]
    words = np.frombuffer(data, f"{'<' if file.little else '>'}u{allocated // 8}", rows * columns, found.start)
    if found.swapped and allocated == 8:
        words = np.frombuffer(data, ">u2", (rows * columns + 1) // 2, found.start).astype("<u2").view("u1")[: rows * columns]
    high = whole(file.header, "HighBit")
    shift = max(0, min((bits - 1 if high is None else high) + 1 - bits, allocated - bits))
    notes += [note("note_high_bits", low=shift, high=shift + bits - 1)] if shift else []
    return Stored(words.reshape(rows, columns), word_values(allocated, bits, signed=signed, shift=shift), bits, signed), notes


def _upright(
    pixels: Array, spacing_mm: tuple[float, float] | None, directions: tuple[str, str]
) -> tuple[Array, tuple[float, float] | None, list[str]]:
    """The picture with the head up and the patient's left on its right side, where the tags say how it lies."""
    across, down = directions
    notes: list[str] = []
    if across in {"H", "F"} and down in {"L", "R", "A", "P"}:
        pixels, (across, down) = np.swapaxes(pixels, 0, 1), (down, across)
        spacing_mm = None if spacing_mm is None else (spacing_mm[1], spacing_mm[0])
        notes.append(note("note_exchanged"))
    if down == "H":
        pixels = pixels[::-1]
        notes.append(note("note_upside_down"))
    if across == "R":
        pixels = pixels[:, ::-1]
        notes.append(note("note_mirrored"))
    return pixels, spacing_mm, notes


def _tag_notes(header: Any) -> list[str]:
    """What else the file says of its picture."""
    notes: list[str] = []
    if part := body_part(header):
        notes.append(note("note_body_part", part=part))
    if text(header, "PresentationIntentType") == "FOR PROCESSING":
        notes.append(note("note_for_processing"))
    if text(header, "BurnedInAnnotation") == "YES":
        notes.append(note("note_burnt_in"))
    if text(header, "LossyImageCompression") == "01":
        notes.append(note("note_lossy"))
    if groups := overlay_groups(header):
        notes.append(note("note_overlay", count=len(groups)))
    if abs(pixel_aspect(header) - 1) > 0.01:
        notes.append(note("note_not_square"))
    return notes
