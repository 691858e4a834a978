"""From bytes that came to us to a film for the queue: which study and object they are, read with care.

Only the head of an object is parsed, on the budget that reading has, and the transfer syntax is asked for before.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final

from storyxai.errors import InputError, ReadError, StoryxaiError
from storyxai.imaging.dicom_file import is_dicom, parse
from storyxai.node.queue import Film

SOP_CLASSES: Final = {
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography Image Storage",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray Image Storage - For Presentation",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
}
"""The objects that the node takes."""
_JPEG = "1.2.840.10008.1.2.4."
SYNTAXES: Final = {
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    _JPEG + "50": "JPEG Baseline (Process 1)",
    _JPEG + "51": "JPEG Extended (Process 2 and 4)",
    _JPEG + "57": "JPEG Lossless, Non-Hierarchical (Process 14)",
    _JPEG + "70": "JPEG Lossless, Non-Hierarchical, First-Order Prediction",
    _JPEG + "80": "JPEG-LS Lossless",
    _JPEG + "81": "JPEG-LS Lossy (Near-Lossless)",
    _JPEG + "90": "JPEG 2000 (Lossless Only)",
    _JPEG + "91": "JPEG 2000",
    "1.2.840.10008.1.2.5": "RLE Lossless",
}
"""The transfer syntaxes that the node takes: those that are read, without deflated and big endian ones."""
MOST_HEAD_BYTES = 4 << 20
"""An image's header is some kilobytes; what is longer than this is not looked through."""
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_MEND = "send the object as its maker wrote it"


class Unfit(InputError):
    """An object that cannot be taken in; `status` is what DICOM calls the reason (PS3.4 B.2.3)."""

    status = 0xC000


class Mismatch(Unfit):
    """An object that is not what its message says."""

    status = 0xA900


def film_of_object(meta: bytes, data: Any, *, sop_class: str, instance: str) -> Film:
    """The film in a C-STORE: `meta` is our file meta information with its preamble, `data` the data set as it was sent.

    Raises: Unfit where the data set cannot be read, or is not of the class and UID that the message names.
    """
    header = _header(meta + bytes(data[:MOST_HEAD_BYTES]))
    told = {name: _uid(header, name) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")}
    for name, given in (("SOPInstanceUID", instance), ("SOPClassUID", sop_class)):
        if told[name] != given:
            raise Mismatch("object", f"its {name} is another than the message says", mend=_MEND)
    return Film(told["StudyInstanceUID"], instance, hashlib.sha256(data).hexdigest(), (meta, data))


def film_of_file(data: bytes, *, suffix: str = "") -> Film:
    """The film in a file's bytes: DICOM by its UIDs, a picture by its own hash.

    Raises: Unfit for DICOM that cannot be taken in.
    """
    digest = hashlib.sha256(data).hexdigest()
    if not is_dicom(data):
        return Film(digest, digest, digest, (data,), suffix if suffix in (".png", ".jpg", ".jpeg", ".tif", ".tiff") else ".img")
    header = _header(data[:MOST_HEAD_BYTES])
    start = data_set_start(data)
    return Film(
        _uid(header, "StudyInstanceUID"), _uid(header, "SOPInstanceUID"), hashlib.sha256(memoryview(data)[start:]).hexdigest(),
        (data,),
    )


def _header(head: bytes) -> Any:
    try:
        return parse(head, "object").header
    except ReadError as error:
        raise Unfit("object", error.why, mend=error.mend) from error
    except StoryxaiError:
        raise
    except Exception as damage:  # what a damaged header makes pydicom raise is no short list
        raise Unfit("object", f"its header is damaged ({type(damage).__name__})", mend=_MEND) from damage


def _uid(header: Any, name: str) -> str:
    try:
        value = str(header.get(name) or "").strip(" \0")
    except Exception as damage:
        raise Unfit("object", f"its {name} cannot be read ({type(damage).__name__})", mend=_MEND) from damage
    if not value:
        raise Mismatch("object", f"has no {name}", mend=_MEND)
    if len(value) > 64 or not _UID.fullmatch(value):
        raise Mismatch("object", f"its {name} is no UID", mend=_MEND)
    return value


def data_set_start(data: Sequence[int]) -> int:
    """Where the data set of a DICOM file begins: after group 2, whose length its first element tells; 0 where there is none."""
    head = bytes(data[:144 + 4])
    if head[128:132] == b"DICM" and head[132:136] == b"\2\0\0\0":
        return 144 + int.from_bytes(head[140:144], "little")
    return 0
