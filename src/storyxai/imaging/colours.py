"""The colours of a DICOM picture of 8 bits: RGB as stored, or from luminance and chrominance. Source: PS3.3 C.7.6.3.1.2."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from storyxai.imaging.decode import DecodeError, decode_apart
from storyxai.imaging.dicom_file import DicomFile, find_pixels
from storyxai.imaging.tags import text, whole

COLOURS: Final = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
"""Photometric interpretations that are read; the last two stand in compressed frames alone."""
_FROM_YBR: Final = np.array([[1, 0, 1.402], [1, -0.114 * 1.772 / 0.587, -0.299 * 1.402 / 0.587], [1, 1.772, 0]])


def stored_colours(data: bytes, file: DicomFile, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Red, green and blue. Shapes: [H, W, 3]. Raises: DecodeError for what is damaged, or not of 8 bits."""
    header, (rows, columns) = file.header, shape
    photometric = text(header, "PhotometricInterpretation")
    if (whole(header, "BitsAllocated"), whole(header, "PixelRepresentation") or 0) != (8, 0):
        raise DecodeError("its colours are not of 8 bits, which alone are read")
    halved = photometric == "YBR_FULL_422"
    found = find_pixels(data, file, needed=rows * columns * (2 if halved else 3))
    if found.syntax:
        return decode_apart(
            found.frame, syntax=found.syntax, rows=rows, columns=columns, bits=(8, 8), signed=False, colours=photometric
        )
    if halved and found.length < rows * columns * 3:  # some say so and store all of it
        words = np.frombuffer(data, np.uint8, rows * columns * 2, found.start).reshape(rows, columns // 2, 4)
        chroma = np.repeat(words[..., 2:], 2, axis=1)
        return _rgb(np.concatenate([words[..., :2].reshape(rows, columns, 1), chroma], axis=2))
    words = np.frombuffer(data, np.uint8, rows * columns * 3, found.start)
    planes = whole(header, "PlanarConfiguration") == 1
    stored = np.moveaxis(words.reshape(3, rows, columns), 0, 2) if planes else words.reshape(rows, columns, 3)
    return stored.copy() if photometric == "RGB" else _rgb(stored)


def has_palette(header: Any) -> bool:
    """Whether the values of the picture are entries of a palette that the file holds."""
    return text(header, "PhotometricInterpretation") == "PALETTE COLOR" and "RedPaletteColorLookupTableDescriptor" in header


def palette_colours(entries: NDArray[Any], header: Any) -> NDArray[np.uint8]:
    """Red, green and blue by the file's palette, of 16 bits the upper 8. Shapes: entries [H, W] -> [H, W, 3].

    Raises: what pydicom raises for a palette that does not hold together. Source: PS3.3 C.7.9.
    """
    from pydicom.pixels import apply_color_lut

    colours: NDArray[Any] = apply_color_lut(entries, header)
    # Some writers put 8 bits into words of 16: the upper half is empty then.
    shift = 8 if colours.dtype.itemsize == 2 and colours.max() > 255 else 0
    upper: NDArray[np.uint8] = np.right_shift(colours, shift).astype(np.uint8)
    return upper


def _rgb(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Red, green and blue from luminance and the two differences of colour. Shapes: [H, W, 3]."""
    centred = stored.astype(np.float32) - np.array([0, 128, 128], np.float32)
    return np.clip(np.rint(centred @ _FROM_YBR.T.astype(np.float32)), 0, 255).astype(np.uint8)
