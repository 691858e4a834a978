"""Text that was burnt into a picture: where something looks like a line of letters, and painting it over.

Burnt-in letters are of one value at an end of the picture's range, thin, of one height and side by side. What is found is
painted over with the grey around it. A search finds some texts and not others: it never proves that a picture has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""

_SURE, _EDGE = 0.04, 0.35  # how near to the end of the range a letter's core lies, and its smoothed rim, in shares of the range
_STANDS_OUT = 0.25  # of the range, above what is left when everything thinner than a stroke's width is taken away
_STROKE = 0.02  # widest stroke, as a share of the picture's longer side
_LOW, _HIGH = 5, 0.06  # heights of letters: at least in pixels, at most as a share of the picture's longer side
_SIDES = (0.1, 2.0)  # width of a letter over its height
_INK = (0.12, 0.92)  # share of its box that a letter covers ("I" and "l" fill theirs: they come with others)
_THIN = 0.45  # width over height up to which a letter may fill its box
_MOST_PIECES = 20_000
_FEWEST_LETTERS = 3
_GAP, _UNLIKE = 1.2, 0.35


def find_text(stored: NDArray[Any]) -> tuple[Box, ...]:
    """The boxes of what looks like lines of at least three letters, with a margin, from top to bottom.

    Shapes: stored values [H, W], any whole-number type. Bright letters on darker ground, dark ones on brighter ground.
    """
    values = stored.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return ()
    found: list[Box] = []
    for shown in ((values - low) / (high - low), (high - values) / (high - low)):
        found += _lines(_letters(shown))
    rows, columns = stored.shape
    return tuple(sorted({_widened(box, rows, columns) for box in found}, key=lambda box: (box[1], box[0])))


def blank_boxes(stored: NDArray[Any], boxes: Sequence[Box]) -> NDArray[Any]:
    """A copy whose boxes hold the median of the pixels just around each. Shapes: [H, W]."""
    blanked = stored.copy()
    rows, columns = stored.shape
    for left, top, width, height in boxes:
        above, below = max(0, top - 3), min(rows, top + height + 3)
        before, after = max(0, left - 3), min(columns, left + width + 3)
        ring = np.ones((below - above, after - before), dtype=bool)
        ring[top - above : top - above + height, left - before : left - before + width] = False
        around = stored[above:below, before:after][ring]
        blanked[top : top + height, left : left + width] = np.median(around) if around.size else np.median(stored)
    return blanked


def _letters(shown: NDArray[np.float32]) -> list[Box]:
    """Boxes of thin bright pieces that have a letter's height and shape. Shapes: [H, W] in [0, 1]."""
    width = max(7, round(_STROKE * max(shown.shape)))
    ink = (shown >= 1 - _EDGE) & (ndimage.white_tophat(shown, size=width) >= _STANDS_OUT)
    pieces, count = ndimage.label(ink, structure=np.ones((3, 3), dtype=int))
    if not 0 < count <= _MOST_PIECES:
        return []
    sure = ndimage.maximum(shown, pieces, np.arange(1, count + 1)) >= 1 - _SURE
    highest = _HIGH * max(shown.shape)
    kept: list[Box] = []
    for number, place in enumerate(ndimage.find_objects(pieces), start=1):
        tall, wide = (one.stop - one.start for one in place)
        filled = float((pieces[place] == number).mean())
        shaped = _INK[0] <= filled <= _INK[1] or wide <= _THIN * tall
        if sure[number - 1] and _LOW <= tall <= highest and _SIDES[0] <= wide / tall <= _SIDES[1] and shaped:
            kept.append((place[1].start, place[0].start, wide, tall))
    return kept


def _lines(letters: list[Box]) -> list[Box]:
    """Boxes of rows of at least three letters of like height that stand side by side."""
    rows: list[list[Box]] = []
    for letter in sorted(letters):
        row = next((row for row in rows if _follows(row[-1], letter)), None)
        if row is None:
            rows.append([letter])
        else:
            row.append(letter)
    return [_around(row) for row in rows if len(row) >= _FEWEST_LETTERS]


def _follows(before: Box, letter: Box) -> bool:
    tall = max(before[3], letter[3])
    middles = abs((before[1] + before[3] / 2) - (letter[1] + letter[3] / 2))
    gap = letter[0] - (before[0] + before[2])
    return abs(before[3] - letter[3]) <= _UNLIKE * tall and middles <= _UNLIKE * tall and -0.3 * tall <= gap <= _GAP * tall


def _around(row: list[Box]) -> Box:
    left, top = min(box[0] for box in row), min(box[1] for box in row)
    right, bottom = max(box[0] + box[2] for box in row), max(box[1] + box[3] for box in row)
    return left, top, right - left, bottom - top


def _widened(box: Box, rows: int, columns: int) -> Box:
    left, top, width, height = box
    more = max(2, round(0.3 * height))
    first, above = max(0, left - more), max(0, top - more)
    return first, above, min(columns, left + width + more) - first, min(rows, top + height + more) - above
