"""DICOM elements as plain values: text, numbers, spacing, age, and what a file says of the view and the body part.

People write views and body parts in many ways: as View Position, as a code, as the patient's orientation, or only in the
name of the series or protocol. Free text is never passed on, only the known word that was found in it.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from storyxai.imaging.notes import note
from storyxai.imaging.views import FRONTAL, LATERAL_ALONE, RANKED, SIDES_ALONE, speaks_of_both, views_in, words_in

# Codes of views and of the patient's position: SNOMED CT, and SNOMED RT as older files write it (PS3.16 CID 4010, 20).
_VIEW_CODES = {
    "AP": "399348003 R-10206",
    "PA": "272479007 R-40888 R-10214",
    "LATERAL": "399067008 R-102CD 399198007 R-10232 399173006 R-10236 399260004 R-10224 399352003 R-10228 30730003 G-A145 "
    "R-10222",
    "OBLIQUE": "399182000 R-102C1 399160007 R-10204 399312000 R-10208 399038007 R-10210 399006002 R-10212 399059000 R-10216 "
    "399356000 R-40985 R-10218 399135007 R-10220 399368009 R-10226 399099002 R-10230 399236003 R-10234 399184004 R-10238 "
    "260427002 R-40783 260426006 R-40782",
    "DECUBITUS": "102535000 F-10317 102536004 F-10319",
}  # fmt: skip
_VIEW_BY_CODE = {code: name for name, codes in _VIEW_CODES.items() for code in codes.split()}
# Names of the series and of how it was processed describe this picture; the study's may list all of its pictures.
_SERIES_TEXTS = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription", "AcquisitionProtocolName")

PART_WORDS = (
    "CHEST", "THORAX", "LUNG", "RIBS", "RIB", "ABDOMEN", "ANKLE", "BREAST", "ELBOW", "FEMUR", "FINGER", "FOOT", "FOREARM",
    "HAND", "HIP", "HUMERUS", "KNEE", "PELVIS", "SHOULDER", "SKULL", "SPINE", "TIBIA", "WRIST",
)  # fmt: skip
# Regions by code where no meaning stands beside it (PS3.16 CID 4009, 4031).
_PART_BY_CODE = {
    code: part
    for part, codes in {
        "CHEST": "51185008 T-D3000 816094009", "ABDOMEN": "113345001 818981001 T-D4000", "PELVIS": "12921003 816092008 T-D6000",
        "HEAD": "69536005 T-D1100", "SKULL": "89546000 T-11100", "NECK": "45048000 T-D1600", "HAND": "85562004 T-D8700",
        "WRIST": "74670003 T-D8600", "ELBOW": "76248009 127949000 T-D8300", "SHOULDER": "16982005 T-D2220",
        "HIP": "29836001 24136001 T-D2500", "KNEE": "72696002 T-D9200", "ANKLE": "70258002 T-D9500",
        "FOOT": "56459004 T-D9700", "BREAST": "76752008 T-04000", "CERVICAL SPINE": "122494005 T-11501",
        "LUMBAR SPINE": "122496007 T-11503", "SPINE": "421060004 280717001 T-D0146",
    }.items()
    for code in codes.split()
}  # fmt: skip

_PER_YEAR = {"Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}
# Nobody has lived longer; 999Y and the like stand for an age that nobody asked.
_OLDEST_YEARS = 122.5
_DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d+)", re.ASCII)
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, NotImplementedError, OverflowError, struct.error)


def text(header: Any, name: str) -> str:
    """An element's value as upper-case text, several values joined by a backslash; "" where absent or unreadable."""
    try:
        value = header.get(name)
        words = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    except _UNREADABLE:
        words = [_letters_of_number(header, name)]
    joined = "\\".join("" if word is None else str(word).strip(" \0") for word in words).upper()
    # Texts end up in messages of one line and in stories: nothing but what can be printed.
    return "".join(letter if letter.isprintable() else "?" for letter in joined)


def _letters_of_number(header: Any, name: str) -> str:
    """The letters of a number in text (DS, IS) that pydicom does not take for one, as "1000,5"; "" for other elements."""
    try:
        raw = header.get_item(name)
        return raw.value.decode("ascii") if raw.VR in {"DS", "IS"} else ""
    except _UNREADABLE:
        return ""


def number(header: Any, name: str) -> float | None:
    """An element's first value as a finite number, or None."""
    return as_number(text(header, name).split("\\")[0])


def as_number(word: str) -> float | None:
    """A word as a finite number, or None; "0,5" is a half, "1,000" may be a thousand or one and is none."""
    comma = _DECIMAL_COMMA.fullmatch(word.strip())
    if comma and len(comma[2]) != 3:
        word = f"{comma[1]}.{comma[2]}"
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def numbers(header: Any, name: str) -> tuple[float, ...]:
    """All of an element's values as numbers; empty where one of them is none."""
    try:
        values = tuple(float(word) for word in text(header, name).split("\\"))
    except ValueError:
        return ()
    return values if all(map(math.isfinite, values)) else ()


def whole(header: Any, name: str) -> int | None:
    """An element's first value as a whole number, or None."""
    value = number(header, name)
    return None if value is None else int(value)


def items(header: Any, name: str) -> tuple[Any, ...]:
    """The items of a sequence; empty where it is absent or unreadable."""
    try:
        found = header.get(name)
        return tuple(found) if found is not None and not isinstance(found, (str, bytes)) else ()
    except _UNREADABLE:
        return ()


def letters(header: Any) -> tuple[str, str]:
    """The patient directions of the picture's right and lower side ("L", "F" for an upright frontal film), or ""."""
    words = text(header, "PatientOrientation").split("\\")
    return (words[0][:1], words[1][:1]) if len(words) == 2 else ("", "")


def view(header: Any) -> tuple[str, tuple[str, ...]]:
    """"PA", "AP", "LATERAL", "OTHER" (oblique, decubitus) or "unknown", and notes on where it was found or contradicts itself.

    View Position, codes and the patient's orientation count first; the name of the series or protocol only without them.
    """
    found, notes = _named_view(header)
    if found in {"OBLIQUE", "DECUBITUS"}:
        return "OTHER", (*notes, note("note_view", view=found.lower()))
    return found, notes


def _named_view(header: Any) -> tuple[str, tuple[str, ...]]:
    stated = set(_stated_views(header))
    found = _first(stated)
    named = next(filter(None, (_one_view(text(header, name)) for name in _SERIES_TEXTS)), "")
    if found:
        said = stated | {named or found}
        contradicts = len(said & FRONTAL) == 2 or bool(said & FRONTAL and said - FRONTAL)
        views = " and ".join(name for name in RANKED if name in said)
        return found, (note("note_view_contradicts", views=views),) if contradicts else ()
    if named:
        return named, (note("note_view_series", view=named),)
    found = _one_view(text(header, "StudyDescription"))
    return (found, (note("note_view_study", view=found),)) if found not in {"", *FRONTAL} else ("unknown", ())


def _first(stated: Iterable[str]) -> str:
    return next((name for name in RANKED if name in set(stated)), "")


def _stated_views(header: Any) -> Iterator[str]:
    position = text(header, "ViewPosition")
    if position.strip() in SIDES_ALONE | LATERAL_ALONE:
        yield "LATERAL"
    yield from filter(None, [_first(views_in(position)), _first(views_in(text(header, "PatientPosition")) & {"DECUBITUS"})])
    for name in ("ViewCodeSequence", "PatientOrientationCodeSequence"):
        for item in items(header, name):
            inner = (sub for inside in ("ViewModifierCodeSequence", "PatientOrientationModifierCodeSequence")
                     for sub in items(item, inside))  # fmt: skip
            for code in (item, *inner):
                found = _VIEW_BY_CODE.get(text(code, "CodeValue")) or _first(views_in(text(code, "CodeMeaning")))
                if found:
                    yield found
    if set(letters(header)) & {"A", "P"}:
        yield "LATERAL"


def _one_view(said: str) -> str:
    """The view that a free text is about, or "" where it speaks of none or of frontal and other ones."""
    found = views_in(said)
    return "" if len(found & FRONTAL) == 2 or speaks_of_both(said) else _first(found)


def body_part(header: Any) -> str:
    """The body part that the file names, in capitals and at most 32 letters: stated, coded, or a known word of its names."""
    stated = text(header, "BodyPartExamined")
    if stated:
        return stated[:32]
    for item in items(header, "AnatomicRegionSequence"):
        found = text(item, "CodeMeaning") or _PART_BY_CODE.get(text(item, "CodeValue"), "")
        if found:
            return found[:32]
    said = [word for name in _SERIES_TEXTS for word in words_in(text(header, name))]
    return next((part for part in PART_WORDS if part in said), "")


def spacing(header: Any) -> tuple[tuple[float, float] | None, str, tuple[str, ...]]:
    """Row and column spacing in mm, where it holds ("patient", "detector" or ""), and a note. Source: PS3.3 10.7.1.3.

    Pixel Spacing holds at the patient only if it was calibrated: it says so, or differs from Imager Pixel Spacing.
    """
    patient, detector = _pair(header, "PixelSpacing"), _pair(header, "ImagerPixelSpacing")
    calibrated = text(header, "PixelSpacingCalibrationType") in {"GEOMETRY", "FIDUCIAL"}
    if patient and (calibrated or (detector and not np.allclose(patient, detector, rtol=1e-3))):
        return patient, "patient", ()
    if detector:
        return detector, "detector", ()
    if patient:
        return patient, "detector", (note("note_spacing"),)
    return None, "", ()


def _pair(header: Any, name: str) -> tuple[float, float] | None:
    values = numbers(header, name)
    return (values[0], values[1]) if len(values) == 2 and all(0.01 <= value <= 10 for value in values) else None


def pixel_aspect(header: Any) -> float:
    """A pixel's height over its width; 1 where the file does not say."""
    pair = _pair(header, "PixelSpacing") or _pair(header, "ImagerPixelSpacing") or numbers(header, "PixelAspectRatio")
    return pair[0] / pair[1] if len(pair) == 2 and min(pair) > 0 else 1.0


def age_years(stated: str) -> float | None:
    """Years, from DICOM's digits and a unit ("064Y", "011M"); None for what is no age or stands for an unknown one."""
    parts = re.fullmatch(r"(\d{1,4})([YMWD])", stated.replace(" ", ""))
    if parts is None or (int(parts[1]) == 0 and parts[2] != "D"):
        return None
    years = int(parts[1]) / _PER_YEAR[parts[2]]
    return years if years <= _OLDEST_YEARS else None
