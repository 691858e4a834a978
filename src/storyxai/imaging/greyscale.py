"""Stored words as grey values: modality LUT -> VOI LUT or window -> inversion. Source: PS3.3 C.7.6.3, C.11.1, C.11.2, C.11.6.

Every step is a function of the stored word alone, so it is worked out once per possible word and looked up per pixel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storyxai.imaging.decode import DecodeError
from storyxai.imaging.notes import note
from storyxai.imaging.tags import as_number, items, number, text
from storyxai.imaging.values import robust_range
from storyxai.types import Array, Mask

Values = NDArray[np.float64]

_MAX_LUT_BYTES = 1 << 18
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
# A window or table that leaves less than this of the grey scale to the picture's pixels shows nothing.
_LEAST_RANGE = 0.02
# Mean difference of grey values from which two pictures are told apart at a glance.
_DISAGREE = 0.1
# A table's largest entry fills the bits that it was made for, or nearly so.
_FILLED = 0.95


class Stored(NamedTuple):
    """The pixels as words, the stored value of each possible word, and the bits that a value has and whether it is signed."""

    words: NDArray[Any]
    values: Values
    bits: int
    signed: bool


class _Lut(NamedTuple):
    first: float
    entries: Values
    bits: int
    notes: tuple[str, ...] = ()


def word_values(word_bits: int, bits: int, *, signed: bool, shift: int = 0) -> Values:
    """The stored value of each word: `bits` bits that start at bit `shift`, in two's complement where signed."""
    words = np.arange(1 << word_bits, dtype=np.int64)
    values = (words >> shift) & ((1 << bits) - 1)
    if signed:
        values = np.where(values >= 1 << (bits - 1), values - (1 << bits), values)
    return values.astype(np.float64)


def grey_table(header: Any, stored: Stored, hidden: Mask | None = None) -> tuple[Array, list[str]]:
    """The grey value in [0, 1] of each word, bright = dense, and notes of what was done.

    Shapes: `hidden` bool [H, W], pixels that are covered and tell nothing of the range -> float32 [words].
    """
    notes: list[str] = []
    counts = _counts(stored, hidden)
    padding = _padding(header, stored)
    seen = np.where(padding, 0, counts)
    if not seen.any():
        padding, seen = np.zeros_like(padding), counts
    elif counts[padding].any():
        notes.append(note("note_padding"))
    values, said = _modality_values(header, stored.values)
    notes += said
    grey = _shown(header, values, seen, notes)
    if grey is None:
        low, high = robust_range(seen, values)
        grey = np.clip((values - low) / max(high - low, 1e-12), 0.0, 1.0)
        notes.append(note("note_robust_range"))
    # Last of all: the inversion says how the displayed value is meant, not how the stored one is.
    inverted, said = _inversion(header)
    notes += said
    grey = 1.0 - grey if inverted else grey
    grey[padding] = 0.0
    return grey.astype(np.float32), notes


def _counts(stored: Stored, hidden: Mask | None) -> NDArray[np.int64]:
    """How often each word occurs: a million pixels, evenly spread, tell the range of a large film as well as all."""
    step = max(1, int((stored.words.size / 1e6) ** 0.5))
    words = stored.words[::step, ::step]
    visible = words.ravel() if hidden is None else words[~hidden[::step, ::step]]
    return np.bincount(visible, minlength=stored.values.size)


def _inversion(header: Any) -> tuple[bool, list[str]]:
    photometric, shape = text(header, "PhotometricInterpretation"), text(header, "PresentationLUTShape")
    if photometric == "MONOCHROME1":
        doubt = [note("note_both_shapes")]
        return True, [note("note_monochrome1"), *(doubt if shape == "IDENTITY" else ())]
    return (True, [note("note_inverse_lut")]) if shape == "INVERSE" else (False, [])


def _padding(header: Any, stored: Stored) -> NDArray[np.bool_]:
    """Which words are padding outside the exposed field (PS3.3 C.7.5.1.1.2), read with the sign that the pixels have."""
    first, last = number(header, "PixelPaddingValue"), number(header, "PixelPaddingRangeLimit")
    if first is None:
        return np.zeros(stored.values.shape, dtype=np.bool_)
    low, high = sorted(_as_stored(edge, stored) for edge in (first, first if last is None else last))
    # Of unsigned pixels only the whole word can hold a value beyond the bits stored (65535 in 12 bits).
    beyond = not stored.signed and high >= 1 << stored.bits
    values = np.arange(stored.values.size) if beyond else stored.values
    return np.asarray((values >= low) & (values <= high))


def _as_stored(value: float, stored: Stored) -> float:
    """`value` in the range of the stored values: often written unsigned for signed pixels, or the other way round."""
    if stored.values.min() <= value <= stored.values.max():
        return value
    if not stored.signed:
        return value % stored.values.size
    wrapped = int(value) % (1 << stored.bits)
    return float(wrapped - (1 << stored.bits) if wrapped >> (stored.bits - 1) else wrapped)


def _modality_values(header: Any, values: Values) -> tuple[Values, list[str]]:
    table = _table(header, "ModalityLUTSequence")
    if table is not None:
        return _looked_up(values, table), list(table.notes)
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    # Both or neither (PS3.3 C.11.1); a slope of 0 would make every pixel the same.
    if slope and intercept is not None:
        return values * slope + intercept, []
    stated = {text(header, "RescaleSlope"), text(header, "RescaleIntercept")} - {""}
    nothing = not stated or (slope in {None, 1.0} and intercept in {None, 0.0} and len(stated) == 1)
    return values, [] if nothing else [note("note_rescale")]


def _shown(header: Any, values: Values, seen: NDArray[np.int64], notes: list[str]) -> Values | None:
    """The values as the VOI LUT shows them, or the first window, in [0, 1]; None where neither shows anything."""
    table, said = _voi_table(header, values)
    window, warned = _window(header, values)
    if table is not None and window is not None:
        apart = np.average(np.abs(table - window), weights=seen)
        said += [note("note_lut_and_window")] if apart > _DISAGREE else []
    for grey, told in ((table, said), (window, warned)):
        if grey is None:
            notes += told
        elif np.ptp(grey[seen > 0]) >= _LEAST_RANGE:
            notes += told
            return grey
        else:
            notes.append(note("note_window_empty"))
    return None


def _voi_table(header: Any, values: Values) -> tuple[Values | None, list[str]]:
    table = _table(header, "VOILUTSequence")
    if table is None:
        return None, []
    top, notes = _top(table)
    return np.clip(_looked_up(values, table) / top, 0.0, 1.0), [*table.notes, *notes]


def _top(table: _Lut) -> tuple[float, list[str]]:
    """The entry that stands for full brightness, and a note where the entries have other bits than the descriptor says."""
    largest = float(table.entries.max())
    held = max(int(largest).bit_length(), 1)
    filled = largest >= _FILLED * ((1 << held) - 1)
    if held > table.bits or held < table.bits - 1 or (held == table.bits - 1 and filled):
        said = note("note_lut_bits", held=held, stated=table.bits)
        return float((1 << held) - 1), [said]
    return float((1 << table.bits) - 1), []


def _window(header: Any, values: Values) -> tuple[Values | None, list[str]]:
    """The values as the first window shows them, by pydicom's own functions, and notes on what it says wrongly."""
    from pydicom.dataset import Dataset
    from pydicom.pixels.processing import apply_windowing

    center, width = _first_window(header)
    if center is None or width is None:
        return None, []
    function, notes = text(header, "VOILUTFunction") or "LINEAR", list[str]()
    if function not in _FUNCTIONS:
        function, notes = "LINEAR", [note("note_lut_function")]
    if width <= 0:
        return None, [note("note_window_no_width")]
    if function == "LINEAR" and width < 1:
        function, notes = "LINEAR_EXACT", [note("note_window_narrow")]
    scale = Dataset()
    scale.PhotometricInterpretation, scale.PixelRepresentation, scale.BitsStored = "MONOCHROME2", 0, 1
    scale.VOILUTFunction, scale.WindowCenter, scale.WindowWidth = function, center, width
    with np.errstate(over="ignore"):
        return apply_windowing(values, scale), notes


def _first_window(header: Any) -> tuple[float | None, float | None]:
    """Center and width of the first of several windows that states both; some files leave the first one empty."""
    pairs = zip(*(text(header, name).split("\\") for name in ("WindowCenter", "WindowWidth")), strict=False)
    stated = ((as_number(center), as_number(width)) for center, width in pairs)
    return next((pair for pair in stated if None not in pair), (None, None))


def _table(header: Any, name: str) -> _Lut | None:
    """The first table in the sequence `name`, or None where there is none. Raises: DecodeError for a broken one."""
    raw = header.get_item(name) if name in header else None
    if raw is None:
        return None
    if isinstance(getattr(raw, "value", None), bytes) and len(raw.value) > _MAX_LUT_BYTES:
        raise DecodeError("its lookup table is too large")
    found = items(header, name)
    if not found or "LUTDescriptor" not in found[0] or "LUTData" not in found[0]:
        return None
    length, first, bits = (int(value) for value in found[0].LUTDescriptor)
    # 0 stands for 65536, and a length of more than 32767 may be written as a negative number.
    length = length & 0xFFFF or 65536
    packed = bits <= 8
    entries = _entries(found[0].LUTData, length, packed=packed, little=header.original_encoding[1] is not False)
    if entries.size < length:
        raise DecodeError("its lookup table is cut short")
    # One entry more may make the length even, and zeros fill a table up.
    more = entries.size > length + 1 and bool(entries[length:].any())
    notes = [note("note_lut_entries", held=int(entries.size), stated=length)] if more else []
    return _Lut(float(first), (entries if more else entries[:length]).astype(np.float64), bits, tuple(notes))


def _entries(data: Any, length: int, *, packed: bool, little: bool) -> NDArray[Any]:
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data, dtype=np.int64)) & 0xFFFF
    if packed and length > 1 and len(data) in {length, length + 1}:
        return np.frombuffer(data, dtype="u1")
    return np.frombuffer(data[: len(data) & ~1], dtype="<u2" if little else ">u2")


def _looked_up(values: Values, table: _Lut) -> Values:
    first, last = table.first, table.first + table.entries.size - 1
    # The first value mapped has the sign of the values, but is often written with the other.
    if first > values.max() and last - 65536 >= values.min():
        first -= 65536
    elif last < values.min() and first + 65536 <= values.max():
        first += 65536
    return table.entries[np.clip(np.rint(values - first), 0, table.entries.size - 1).astype(np.intp)]
