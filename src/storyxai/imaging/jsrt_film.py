"""The raw films of the JSRT set: words without a head, known by their length and their ending."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import ReadError
from storyxai.imaging.notes import note
from storyxai.provenance import sha256_bytes
from storyxai.types import Image

SIDE = 2048
BRIGHTEST = 4095
MM_PER_PIXEL = 0.175


def is_jsrt_film(data: bytes, *, source: str) -> bool:
    """Whether the bytes can be a raw film: `.IMG`, and 2048 x 2048 words."""
    return len(data) == SIDE * SIDE * 2 and source.casefold().endswith(".img")


def jsrt_words(data: bytes, *, source: str) -> NDArray[np.uint16]:
    """The film's 12 bits, turned so that bright = dense. Shapes: uint16 [2048, 2048]. Raises: ReadError.

    Source: Shiraishi et al., AJR 2000;174:71-74 (most significant byte first, 4096 grey levels, white stored as 0).
    """
    words = np.frombuffer(data, dtype=">u2").reshape(SIDE, SIDE)
    if int(words.max()) > BRIGHTEST:
        raise ReadError(source, "holds more than 12 bits a pixel", mend="give a raw film of the JSRT set, or PNG or DICOM")
    return (BRIGHTEST - words).astype(np.uint16)


def read_jsrt_film(data: bytes, *, source: str) -> Image:
    """The film as it is to be looked at: its whole range as [0, 1]. Raises: ReadError."""
    pixels = jsrt_words(data, source=source).astype(np.float32) / np.float32(BRIGHTEST)
    return Image(
        pixels=pixels, sha256=sha256_bytes(data), source=source, view="PA", spacing_mm=(MM_PER_PIXEL, MM_PER_PIXEL),
        spacing_kind="detector", notes=(note("note_jsrt"),),
    )
