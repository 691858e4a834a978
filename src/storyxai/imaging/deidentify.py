"""De-identification of DICOM images by keep-list: what is not named here, or is not the value it should be, does not pass.

A header's text can hold a name anywhere, also in an element that should hold one word of a short list; so a kept element
keeps its value only where that value is such a word, a number within bounds or a table of the stated length. Pixels are
written anew, without what compressed frames, unused bits and bytes after the last pixel can carry. Source: PS3.15 annex E.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storyxai.imaging.burnt_in import Box, blank_boxes, find_text
from storyxai.imaging.dicom import read_stored
from storyxai.imaging.tags import PART_WORDS, age_years, items, numbers, text

_UNKNOWN_CLASS = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture
_STANDARD_UIDS = "1.2.840.10008."
# What an element of few words may hold (PS3.3; published files also write the views in the last line).
_WORDS: Mapping[str, frozenset[str]] = {
    name: frozenset(words.split("|"))
    for name, words in {
        "Modality": "CR|DX|DR|RG|XR|OT|SC|MG|US|CT|MR|PX|IO|XA|RF|XC|DMS",
        "PresentationIntentType": "FOR PRESENTATION|FOR PROCESSING",
        "ImageLaterality": "L|R|U|B",
        "PatientSex": "M|F|O",
        "PixelSpacingCalibrationType": "GEOMETRY|FIDUCIAL",
        "PixelIntensityRelationship": "LIN|LOG|DISP|OTHER",
        "VOILUTFunction": "LINEAR|LINEAR_EXACT|SIGMOID",
        "RescaleType": "US|OD|HU|MGML|Z_EFF|ED",
        "ModalityLUTType": "US|OD|HU|MGML|Z_EFF|ED",
        "PresentationLUTShape": "IDENTITY|INVERSE",
        "LossyImageCompression": "00|01",
        "LossyImageCompressionMethod": "ISO_10918_1|ISO_14495_1|ISO_15444_1",
        "BurnedInAnnotation": "YES|NO",
        "ShutterShape": "RECTANGULAR|CIRCULAR|POLYGONAL",
        "ViewPosition": "PA|AP|LL|RL|LLD|RLD|LLO|RLO|LAT|LATERAL|LEFT LATERAL|RIGHT LATERAL|L|R|AP SUPINE|LPO|RPO|LAO|RAO",
    }.items()
}
_IMAGE_TYPES = frozenset({"ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "OTHER", "POST_PROCESSED", ""})
_DIRECTIONS = re.compile(r"[LRAPHF]{1,3}")
# Numbers by how many there are and how far from zero they may lie.
_NUMBERS: Mapping[str, tuple[int, float]] = {
    "PixelSpacing": (2, 10), "ImagerPixelSpacing": (2, 10), "PixelAspectRatio": (2, 10_000), "WindowCenter": (9, 1e6),
    "WindowWidth": (9, 1e6), "RescaleIntercept": (1, 1e6), "RescaleSlope": (1, 1e6), "LossyImageCompressionRatio": (4, 1e4),
    "PixelIntensityRelationshipSign": (1, 1), "SeriesNumber": (1, 9999), "InstanceNumber": (1, 9999),
    "ShutterLeftVerticalEdge": (1, 65536), "ShutterRightVerticalEdge": (1, 65536), "ShutterUpperHorizontalEdge": (1, 65536),
    "ShutterLowerHorizontalEdge": (1, 65536), "CenterOfCircularShutter": (2, 65536), "RadiusOfCircularShutter": (1, 65536),
    "VerticesOfThePolygonalShutter": (64, 65536), "ShutterPresentationValue": (1, 65536),
    "PixelPaddingValue": (1, 65536), "PixelPaddingRangeLimit": (1, 65536),
}  # fmt: skip
_COUNTERS = frozenset({"SeriesNumber", "InstanceNumber"})
# Some stations count by the number of the examination: a counter that stands in one of these does not pass.
_IDENTIFIERS = ("PatientID", "AccessionNumber", "StudyID", "PatientBirthDate", "OtherPatientIDs")
_TABLES = ("ModalityLUTSequence", "VOILUTSequence")
_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
_UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
# Elements that an image must have and that may be empty (type 2).
_EMPTY = ("PatientBirthDate", "AccessionNumber", "StudyID", "StudyTime", "ReferringPhysicianName", "Manufacturer")
_PIXEL_ELEMENTS = ("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
                   "PixelRepresentation", "PixelData", "SOPClassUID", "NumberOfFrames", "SpecificCharacterSet")  # fmt: skip
_OLDEST_TOLD = 89
_MOST_DAYS = 1825
_MOST_LUT_ENTRIES = 65536
_FEWEST_LUT_ENTRIES = 8  # so many letters in pairs stand in order by chance once in 20,000 times
# PS3.16 CID 7050.
_BASIC = ("113100", "Basic Application Confidentiality Profile")
_CHARACTERISTICS = ("113108", "Retain Patient Characteristics Option")
_DATES_MOVED = ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")
_PIXELS_CLEANED = ("113101", "Clean Pixel Data Option")


class Identity(NamedTuple):
    """Who a file is about, under the key: a pseudonym, the name of its study and of the image, and days to move dates by."""

    pseudonym: str
    study: str
    image: str
    days: int


@dataclass(frozen=True, eq=False)
class Cleaned:
    """A file without the person: its bytes, who it is about under the key, and what was done.

    `removed` counts elements that did not pass, by keyword ("private" and "overlay" for all such); `replaced` names those that
    got a new value; `doubt` says why a name may still be in the pixels, "" where the file rules it out or a person looked;
    `blanked` are boxes [left, top, width, height] of pixels that were painted over.
    """

    data: bytes
    identity: Identity
    removed: Counter[str]
    replaced: tuple[str, ...]
    doubt: str
    blanked: tuple[Box, ...]


def identity_of(header: Any, key: bytes, *, data: bytes = b"") -> Identity:
    """The same person gives the same pseudonym under one key, and nobody without the key can tell whose it is.

    A file without a patient's identifier stands for its study, without a study for itself (`data`). Source: RFC 2104.
    """
    person = text(header, "PatientID").strip() or text(header, "StudyInstanceUID") or hashlib.sha256(data).hexdigest()
    study = text(header, "StudyInstanceUID") or person
    image = text(header, "SOPInstanceUID") or hashlib.sha256(data).hexdigest()
    pseudonym = base64.b32encode(_mac(key, "patient", person)[:10]).decode()
    days = 1 + int.from_bytes(_mac(key, "days", person)[:4], "big") % _MOST_DAYS
    return Identity(f"P-{pseudonym}", _mac(key, "study", study).hex()[:12], _mac(key, "image", image).hex()[:12], days)


def deidentify(data: bytes, *, source: str, key: bytes, blank_text: bool = False, seen: bool = False) -> Cleaned:
    """The DICOM file `data` with kept elements only, new UIDs, moved dates and the codes of what was done.

    `blank_text` paints over what looks like text in the pixels; `seen` says that a person looked at the pixels and saw no
    name. Without `seen` and without the file's own word, Patient Identity Removed stays NO. The same bytes and key give
    the same file. Raises: ReadError for what is no single grey image, or beyond the limits of `read_image`.
    """
    from pydicom.dataset import Dataset

    header, stored, bits = read_stored(data, source=source)
    identity = identity_of(header, key, data=data)
    boxes = find_text(stored) if blank_text else ()
    clean = Dataset()
    _keep_words(header, clean)
    _keep_numbers(header, clean)
    for name in _TABLES:
        if tables := [table for item in items(header, name) if (table := _lut(item)) is not None]:
            setattr(clean, name, tables)
    replaced = _replace(header, clean, identity, key, data)
    _put_pixels(header, clean, blank_boxes(stored, boxes), bits)
    doubt = "" if seen else burnt_in_doubt(header)
    _say_how(clean, doubt, moved=any(name in clean for name in _DATES), blanked=bool(boxes))
    return Cleaned(_written(clean), identity, _counted(header, clean), replaced, doubt, boxes)


def burnt_in_doubt(header: Any) -> str:
    """Why identity may still be in the pixels, or "" when the file says that nothing is burnt in."""
    stated = text(header, "BurnedInAnnotation").strip()
    if stated == "NO":
        return ""
    if stated == "YES":
        return "the file says that annotation is burnt into its pixels"
    return "the file does not say whether annotation is burnt into its pixels"


def _mac(key: bytes, kind: str, value: str) -> bytes:
    return hmac.new(key, f"{kind}\0{value}".encode(), hashlib.sha256).digest()


def _keep_words(header: Any, clean: Any) -> None:
    for name, known in _WORDS.items():
        value = text(header, name).strip()
        if value in known:
            setattr(clean, name, value)
    kinds = text(header, "ImageType").split("\\")
    if any(kinds):
        clean.ImageType = [kind for kind in kinds if kind in _IMAGE_TYPES][:4] or ["DERIVED", "SECONDARY"]
    directions = text(header, "PatientOrientation").split("\\")
    if len(directions) == 2 and all(map(_DIRECTIONS.fullmatch, directions)):
        clean.PatientOrientation = directions
    part = text(header, "BodyPartExamined").strip()
    if part and set(re.findall(r"[A-Z]+", part)) <= _part_words() and re.fullmatch(r"[A-Z ]{1,16}", part):
        clean.BodyPartExamined = part
    if (age := text(header, "PatientAge").replace(" ", "")) and (years := age_years(age)) is not None:
        clean.PatientAge = "090Y" if years > _OLDEST_TOLD else age[:-1].zfill(3)[-3:] + age[-1]


@lru_cache(maxsize=1)
def _part_words() -> frozenset[str]:
    """The words of the regions that DICOM names (PS3.16 CID 4) and of those that files name by their own words."""
    from pydicom.sr.codedict import codes

    named = " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) for name in codes.CID4.dir()).upper()
    return frozenset(named.split()) | frozenset(PART_WORDS)


def _keep_numbers(header: Any, clean: Any) -> None:
    for name, (most, bound) in _NUMBERS.items():
        values = numbers(header, name)
        if not 0 < len(values) <= most or any(abs(value) > bound for value in values):
            continue
        plain = [int(value) if value == int(value) else float(f"{value:.8g}") for value in values]
        if name in _COUNTERS and (plain[0] < 0 or _is_identifier(header, plain[0])):
            continue
        setattr(clean, name, plain[0] if len(plain) == 1 else plain)


def _is_identifier(header: Any, count: float) -> bool:
    """Whether a number of three digits or more stands in one of the file's identifiers."""
    return count > 99 and any(str(count) in text(header, name) for name in _IDENTIFIERS)


def _lut(item: Any) -> Any | None:
    """A table with nothing but its numbers, None where it has more or fewer entries than it says, or may be a text: a table
    of greys goes one way, and letters do not."""
    from pydicom.dataset import Dataset

    descriptor = numbers(item, "LUTDescriptor")
    try:
        values = item.get("LUTData")
        words = np.frombuffer(values, "<u2") if isinstance(values, bytes) else np.atleast_1d(np.asarray(values, dtype="<u2"))
    except (ValueError, TypeError, OverflowError):
        return None
    if len(descriptor) != 3 or (int(descriptor[0]) or _MOST_LUT_ENTRIES) != len(words):
        return None
    steps = np.diff(words.astype(int))
    if len(words) < _FEWEST_LUT_ENTRIES or not ((steps >= 0).all() or (steps <= 0).all()):
        return None
    table = Dataset()
    table.add_new("LUTDescriptor", "SS" if descriptor[1] < 0 else "US", [int(value) for value in descriptor])
    table.add_new("LUTData", "OW", words.tobytes())
    for name in ("ModalityLUTType",):
        if (kind := text(item, name)) in _WORDS[name]:
            setattr(table, name, kind)
    return table


def _replace(header: Any, clean: Any, identity: Identity, key: bytes, data: bytes) -> tuple[str, ...]:
    """Give `clean` what stands in for identifiers, dates and elements that must be there; their keywords where it had them."""
    clean.PatientName = clean.PatientID = identity.pseudonym
    for name in _UIDS:
        if (old := text(header, name)) or name != "FrameOfReferenceUID":
            setattr(clean, name, _new_uid(key, name, old or f"{identity.study}\0{hashlib.sha256(data).hexdigest()}"))
    for name in _DATES:
        if moved := _moved(text(header, name), identity.days):
            setattr(clean, name, moved)
    for name in ("StudyDate", *_EMPTY):
        if name not in clean:
            setattr(clean, name, "")
    said = ("PatientName", "PatientID", *_UIDS, *_DATES, *_EMPTY)
    return tuple(name for name in said if text(header, name))


def _new_uid(key: bytes, kind: str, old: str) -> str:
    """A UID under 2.25 from a hash of the old one under the key (PS3.5 B.2: 2.25 and a 128-bit number)."""
    return f"2.25.{int.from_bytes(_mac(key, kind, old)[:16], 'big')}"


def _moved(stated: str, days: int) -> str:
    """A date of eight digits `days` earlier, "" where it is none."""
    try:
        day = date(int(stated[:4]), int(stated[4:6]), int(stated[6:8])) - timedelta(days)
    except (ValueError, OverflowError):
        return ""
    return day.strftime("%Y%m%d") if len(stated) == 8 and day.year > 1800 else ""


def _put_pixels(header: Any, clean: Any, stored: NDArray[Any], bits: int) -> None:
    sop_class = text(header, "SOPClassUID")
    known = sop_class.startswith(_STANDARD_UIDS) and _is_named(sop_class)
    clean.SOPClassUID = sop_class if known else _UNKNOWN_CLASS
    clean.SamplesPerPixel = 1
    clean.PhotometricInterpretation = text(header, "PhotometricInterpretation")
    size = stored.dtype.itemsize
    clean.Rows, clean.Columns = stored.shape
    clean.BitsAllocated, clean.BitsStored, clean.HighBit = 8 * size, bits, bits - 1
    clean.PixelRepresentation = int(stored.dtype.kind == "i")
    packed = stored.astype(f"<{stored.dtype.kind}{size}").tobytes()
    clean.add_new("PixelData", "OW" if size == 2 else "OB", packed + b"\0" * (len(packed) % 2))


def _is_named(sop_class: str) -> bool:
    from pydicom.uid import UID

    return bool(UID(sop_class).name != sop_class)


def _say_how(clean: Any, doubt: str, *, moved: bool, blanked: bool) -> None:
    from pydicom.dataset import Dataset

    done = [_BASIC, _CHARACTERISTICS, *([_DATES_MOVED] if moved else []), *([_PIXELS_CLEANED] if blanked else [])]
    clean.PatientIdentityRemoved = "NO" if doubt else "YES"
    clean.LongitudinalTemporalInformationModified = "MODIFIED" if moved else "REMOVED"
    clean.DeidentificationMethod = "storyxai keep-list; text in pixels " + ("painted over" if blanked else "not looked for")
    clean.DeidentificationMethodCodeSequence = []
    for value, meaning in done:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        clean.DeidentificationMethodCodeSequence.append(code)


def _written(clean: Any) -> bytes:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = clean.SOPClassUID, clean.SOPInstanceUID
    clean.file_meta = meta
    out = io.BytesIO()
    clean.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _counted(header: Any, clean: Any) -> Counter[str]:
    """How many elements did not pass, by keyword; no value of any."""
    removed: Counter[str] = Counter()
    for tag in header.keys():  # noqa: SIM118 - a data set iterates over elements, and reading one may fail
        if tag not in clean and (keyword := _keyword(tag)) not in _PIXEL_ELEMENTS:
            removed[keyword] += 1
    return removed


def _keyword(tag: Any) -> str:
    from pydicom.datadict import keyword_for_tag

    if tag.is_private:
        return "private"
    if 0x6000 <= tag.group <= 0x601E:
        return "overlay"
    return str(keyword_for_tag(tag)) or "unknown"
