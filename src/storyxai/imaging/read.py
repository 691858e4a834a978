"""Reading: a file becomes an Image, or a ReadError that names the file and the mend.

Limits hold before anything is decoded: a file's bytes, a picture's pixels, a JPEG's scans. Compressed DICOM pixel data
are decoded in a process that can be lost (decode.py); what Pillow reads is decoded here, after the limits.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from storyxai.errors import InputError, ReadError, printable
from storyxai.imaging.array import image_of_array, of_bytes
from storyxai.imaging.decode import unpack_tiff_apart
from storyxai.imaging.dicom import is_dicom, read_dicom
from storyxai.imaging.dicom_file import parse
from storyxai.imaging.jsrt_film import is_jsrt_film, read_jsrt_film
from storyxai.imaging.notes import note
from storyxai.imaging.values import MAX_FILE_BYTES, MAX_PIXELS, check_size, robust_table
from storyxai.modalities.contract import Acquisition
from storyxai.provenance import sha256_bytes
from storyxai.types import Array, Image

__all__ = ["SUFFIXES", "dicom_header", "file_bytes", "find_images", "read_image"]

SUFFIXES = (".dcm", ".dicom", ".jpeg", ".jpg", ".png", ".tif", ".tiff")

# Pictures that are not read: in a folder they are named with the reason, as one that is damaged is.
_OTHER_SUFFIXES = (".avif", ".bmp", ".gif", ".heic", ".heif", ".j2k", ".jp2", ".jxl", ".webp")

# What damaged files make the libraries raise.
_DAMAGE = (
    OSError, ValueError, SyntaxError, LookupError, ArithmeticError, TypeError, AttributeError, AssertionError,
    EOFError, RuntimeError, struct.error, zlib.error, PillowImage.DecompressionBombError,
)  # fmt: skip
_PILLOW_FORMATS = ("PNG", "JPEG", "TIFF")
# A progressive JPEG repeats the whole picture per scan; real ones have about ten.
_MAX_JPEG_SCANS = 64
_OTHER_FORMATS = {
    b"GIF8": "a GIF picture", b"BM": "a BMP picture", b"%PDF": "a PDF document", b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive", b"n+1\x00": "a NIfTI volume", b"\x00\x00\x00\x0cjP": "a JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "a JPEG 2000 picture", b"II*\x00": "a TIFF of an unusual kind",
    b"II+\x00": "a TIFF of an unusual kind", b"MM\x00*": "a TIFF of an unusual kind", b"P5": "a PNM picture",
    b"P6": "a PNM picture", b"8BPS": "a Photoshop file", b"\x93NUMPY": "an array of NumPy", b"NRRD000": "an NRRD volume",
    b"\xff\x0a": "a JPEG XL picture", b"\0\0\0\x0cJXL ": "a JPEG XL picture", b"ObjectType": "a MetaImage volume",
    b"\x89HDF": "an HDF5 file", b"version https://git-lfs": "a pointer of Git LFS, not the file itself",
}  # fmt: skip
# ISO media files say what they are after their first four bytes.
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1", b"msf1"), "a HEIC picture, as phones make them"),
    **dict.fromkeys((b"avif", b"avis"), "an AVIF picture"),
}  # fmt: skip
_TINTED_AT = 0.03
_TINTED_SHARE = 0.5
_COLOURED_AT = 0.12
_COLOURED_SHARE = 0.005
# Values of 12 bits in words of 16 leave the upper eight bits with sixteen greys near black.
_LEAST_DEEP = 0.25


def read_image(
    path: str | Path | NDArray[Any], *, colour: bool = False, acquisition: Acquisition | None = None
) -> Image:
    """The image in `path`, or in an array of pixels (`image_of_array`): float32 [H, W] in [0, 1], bright = dense, as it is
    to be looked at.

    With `colour` a picture that holds colours is [H, W, 3] (RGB); without it their brightness is read, and a note says so.
    `acquisition` is that of the modality whose model is to see it: whether in colour, and which kinds of DICOM objects are
    taken (without it projections alone, in grey).
    8-bit values are divided by 255; 16-bit ones are scaled by their robust range; DICOM goes through its modality LUT,
    VOI LUT or window, and then the inversion of MONOCHROME1. Raw JSRT films (`.IMG`) are read too.
    Raises: ReadError naming the file and the mend.
    """
    if not isinstance(path, str | os.PathLike):
        return image_of_array(path)
    path = Path(path)
    data = file_bytes(path)
    colour = colour or (acquisition is not None and acquisition.colour)
    source = printable(path.name)  # it will stand in records and stories
    # Libraries warn about doubtful files on the console; what matters here is said in notes or in the error.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if is_jsrt_film(data, source=source):
                return read_jsrt_film(data, source=source)
            if is_dicom(data):
                return read_dicom(data, source=source, acquisition=acquisition)
            return _read_picture(data, source, colour=colour)
        except MemoryError as full:
            mend = "close other programs, raise the limit of memory, or give a smaller picture"
            raise ReadError(path.name, "needs more memory than there is", mend=mend) from full
        except _DAMAGE as damage:
            raise ReadError(path.name, _what_is_wrong(damage), mend="export or copy the file again") from damage


def dicom_header(path: Path) -> Any | None:
    """The pydicom header of a DICOM file that read_image reads, without pixel data; None for a file of another kind."""
    data = file_bytes(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return parse(data, printable(path.name)).header if is_dicom(data) else None


def find_images(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The files given and the image files in the folders given (and below), sorted by name, each once.

    A folder gives files with a suffix of SUFFIXES or of pictures that are not read (BMP, GIF, WebP, ...: who reads one says
    so), and, whatever they are called, files that start like DICOM, with a preamble or without; hidden files and indexes
    (DICOMDIR) are left out. Raises: InputError when a path does not exist or nothing
    was found.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found.extend(_images_below(path))
        elif path.exists():
            found.append(path)
        else:
            raise InputError(str(path), "no such file or folder", mend="check the spelling of the path")
    if not found:
        names = ", ".join(str(path) for path in paths) or "no path"
        raise InputError(names, "no image found", mend=f"give files or folders with {', '.join(SUFFIXES)} files")
    return tuple(sorted(dict.fromkeys(found), key=lambda path: (path.name, str(path))))


def _images_below(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(parent) / name for name in names if not name.startswith(".") and name != "DICOMDIR"]
        # Archives name files by their UIDs, so that what follows the last dot is no suffix.
        found += [p for p in paths if p.suffix.lower() in SUFFIXES + _OTHER_SUFFIXES or _starts_like_dicom(p)]
    return found


def _starts_like_dicom(path: Path) -> bool:
    try:
        # A pipe without a writer would block for ever.
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return is_dicom(stream.read(132))
    except OSError:
        return False


def file_bytes(path: Path) -> bytes:
    """The bytes of an image file within the limits. Raises: ReadError naming the file and the mend."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ReadError(path.name or str(path), "is a folder", mend="give an image file")
        if not stat.S_ISREG(status.st_mode):
            raise ReadError(path.name, "is not a regular file", mend="give an image file")
        if status.st_size == 0:
            raise ReadError(path.name, "is empty", mend="export or copy the file again")
        if status.st_size > MAX_FILE_BYTES:
            limit = f"{MAX_FILE_BYTES >> 20} MiB"
            raise ReadError(path.name, f"is larger than {limit}", mend="give a single image below that size")
        return path.read_bytes()
    except FileNotFoundError as missing:
        raise ReadError(str(path), "no such file", mend="check the spelling of the path") from missing
    except (OSError, ValueError) as denied:
        reason = getattr(denied, "strerror", None) or str(denied)
        mend = "check the path and its permissions"
        raise ReadError(str(path), f"cannot be opened ({reason})", mend=mend) from denied


def _read_picture(data: bytes, source: str, *, colour: bool) -> Image:
    try:
        picture = PillowImage.open(io.BytesIO(data), formats=_PILLOW_FORMATS)
    except UnidentifiedImageError as unknown:
        if data.startswith((b"\x89PNG", b"\xff\xd8\xff")):
            raise ReadError(source, "is damaged in its first bytes", mend="export or copy the file again") from unknown
        why = f"is not an image this program reads ({_looks_like(data)})"
        is_tiff = data.startswith((b"II*\x00", b"II+\x00", b"MM\x00*"))
        mend = "save it as a plain TIFF of 8 or 16 bits, or as PNG" if is_tiff else "give DICOM, PNG, JPEG or TIFF"
        raise ReadError(source, why, mend=mend) from unknown
    except PillowImage.DecompressionBombError as bomb:
        mend = f"scale it to at most {MAX_PIXELS // 1_000_000} megapixels"
        raise ReadError(source, "is far larger than any image that a model reads", mend=mend) from bomb
    planes = 1 if picture.mode in {"1", "L"} or picture.mode.startswith("I;16") else 3
    check_size(source, picture.height, picture.width, planes=planes)
    if picture.format == "JPEG" and data.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        raise ReadError(source, "is a JPEG of far too many scans", mend="save it again as a plain JPEG or PNG")
    if _has_second_frame(picture):
        raise ReadError(source, "holds several pictures", mend="export the one image alone")
    deep = _is_deep_colour(picture, data)
    notes = [note("note_deep_colours")] if deep else []
    # Asked before loading: Pillow turns a TIFF itself on loading, and then forgets the tag.
    orientation = picture.getexif().get(0x0112, 1)
    _refuse_misread_tiff(picture, source)
    if orientation in range(2, 9):
        notes.append(note("note_exif", orientation=orientation))
    if picture.format == "TIFF" and picture.info.get("compression", "raw") != "raw":
        plain = unpack_tiff_apart(data, rows=picture.height, columns=picture.width)
        picture = PillowImage.open(io.BytesIO(plain), formats=("TIFF",))
        check_size(source, picture.height, picture.width)
    picture.load()
    white_is_zero = _white_is_zero(picture)
    ImageOps.exif_transpose(picture, in_place=True)
    pixels, said = _values(picture, white_is_zero=white_is_zero, colour=colour)
    if deep and pixels.max() < _LEAST_DEEP:
        why = "stores 16-bit colours of which the upper half, which alone is read, holds next to nothing"
        raise ReadError(source, why, mend="save it as a grey picture of 16 bits, or scale it to 8")
    return Image(pixels=pixels, sha256=sha256_bytes(data), source=source, notes=(*notes, *said))


def _is_deep_colour(picture: PillowImage.Image, data: bytes) -> bool:
    """Whether a PNG stores 16 bits a channel in several channels: Pillow reads the upper eight of each."""
    return picture.format == "PNG" and data[24] == 16 and data[25] in (2, 4, 6)


def _has_second_frame(picture: PillowImage.Image) -> bool:
    try:
        picture.seek(1)
    except EOFError:
        return False
    return True


def _white_is_zero(picture: PillowImage.Image) -> bool:
    """Whether a TIFF of more than 8 bits stores white as 0 (Pillow turns 8-bit ones itself, but not these)."""
    tags = getattr(picture, "tag_v2", {})
    return picture.mode[:1] in {"I", "F"} and bool(tags.get(262) == 0)


def _refuse_misread_tiff(picture: PillowImage.Image, source: str) -> None:
    """Raises ReadError for the TIFFs that Pillow reads as something else without a word."""
    tags = getattr(picture, "tag_v2", {})
    bits, signs = (set(_several(tags.get(tag, default))) for tag, default in ((258, 1), (339, 1)))
    if tags.get(284) == 2 and max(bits) > 8:
        why = "stores 16-bit colours in separate planes, which are not read"
        raise ReadError(source, why, mend="save it as a plain TIFF or PNG")
    if bits == {8} and signs == {2}:
        why = "stores signed values of 8 bits, which are not read"
        raise ReadError(source, why, mend="save it with unsigned or 16-bit values")


def _several(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)


def _stored_deep(picture: PillowImage.Image) -> NDArray[np.generic]:
    """The values of a picture of more than 8 bits; Pillow takes unsigned ones of 32 bits for signed."""
    values = np.asarray(picture)
    tags = getattr(picture, "tag_v2", {})
    unsigned = picture.mode == "I" and set(_several(tags.get(258, 0))) == {32} and set(_several(tags.get(339, 1))) == {1}
    return values.view(np.uint32) if unsigned else values


def _values(picture: PillowImage.Image, *, white_is_zero: bool, colour: bool) -> tuple[Array, list[str]]:
    """The picture's grey values, or with `colour` its colours, in [0, 1], and notes of what was done to get them."""
    if picture.mode in {"L", "1"} and "transparency" not in picture.info:
        # convert copies even where there is nothing to convert.
        return of_bytes(np.asarray(picture if picture.mode == "L" else picture.convert("L"))), []
    if picture.mode.startswith("I") or picture.mode == "F":
        return _deep(_stored_deep(picture), white_is_zero=white_is_zero)
    notes: list[str] = []
    if picture.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in picture.info:
        seen = picture.convert("RGBA")
        if np.asarray(seen.getchannel("A")).min() < 255:
            notes.append(note("note_transparent"))
        ground = PillowImage.new("RGBA", seen.size, (0, 0, 0, 255))
        picture = PillowImage.alpha_composite(ground, seen)
    seen_as = np.asarray(picture.convert("RGB"))
    if colour:
        return of_bytes(seen_as), notes
    spread = seen_as.max(axis=2) - seen_as.min(axis=2)
    share = float((spread > _COLOURED_AT * 255).mean())
    if share > _COLOURED_SHARE:
        notes.append(note("note_colour", share=share))
    elif float((spread > _TINTED_AT * 255).mean()) > _TINTED_SHARE:
        notes.append(note("note_tinted"))
    return of_bytes(np.asarray(picture.convert("RGB").convert("L"))), notes


def _deep(values: NDArray[np.generic], *, white_is_zero: bool) -> tuple[Array, list[str]]:
    """Values of more than 8 bits, scaled by their robust range."""
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        numbers = values.astype(np.float64)
        if not np.isfinite(numbers).all():
            raise ValueError("pixel values that are not numbers")
        low, high = np.quantile(numbers, [0.005, 0.995])
        pixels, said = np.clip((numbers - low) / max(high - low, 1e-12), 0, 1).astype(np.float32), "note_deep"
    else:
        words = values.astype(np.uint16)
        pixels, said = robust_table(words, np.arange(65536, dtype=np.float64))[words], "note_16_bits"
    notes: list[str] = [note(said)]
    if white_is_zero:
        pixels = np.subtract(np.float32(1), pixels, dtype=np.float32)
        notes.append(note("note_white_zero"))
    return np.ascontiguousarray(pixels), notes


def _looks_like(data: bytes) -> str:
    head = data[:512]
    for start, name in _OTHER_FORMATS.items():
        if head.startswith(start):
            return f"it is {name}"
    if head[4:8] == b"ftyp":
        return f"it is {_BRANDS.get(head[8:12], 'a film or picture in an ISO media file')}"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "it is a WebP picture"
    if head.lstrip()[:1] == b"<":
        return "it looks like HTML or XML"
    if not any(byte < 9 for byte in head):
        return "it looks like text"
    return "its first bytes are of no known image format"


def _what_is_wrong(damage: BaseException) -> str:
    said = " ".join(str(damage).split())[:120]
    return f"is damaged or cut short ({said})" if said else "is damaged or cut short"
