"""Masks as data sets give them: picture files, several files a picture, or run lengths in a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import UnidentifiedImageError

from storyxai.errors import TableError
from storyxai.modalities.masks import filled_window, runs_of
from storyxai.types import Mask

RUNS_PREFIX = "runs:"
RUNS_MEND = "write it as runs:<height>x<width>:<start> <length> ..., row by row from 0"
LARGEST_MASK_PIXELS = 64_000_000
IGNORED = 127
SMALLEST_SHARE = 0.2  # of the larger one; below this the second piece is a crumb, not its like


def read_grey_mask(cell: str, root: Path) -> NDArray[np.uint8]:
    """The mask that a table's cell names: a picture (relative to `root`) as stored, or run lengths as 0 and 255.

    Shapes: uint8 [H, W]. Raises: TableError naming the file when missing, no picture, or over 64 million pixels.
    """
    if cell.startswith(RUNS_PREFIX):
        return decode_runs(cell).astype(np.uint8) * np.uint8(255)
    path = root / cell
    try:
        with Picture.open(path) as picture:
            if picture.width * picture.height > LARGEST_MASK_PIXELS:
                raise TableError(path.name, "is too large for a mask", mend="make it the size of its image")
            if "A" in picture.getbands() or "transparency" in picture.info:
                seen = picture.convert("RGBA")
                seen.paste((0, 0, 0, 255), mask=seen.getchannel("A").point(lambda alpha: 255 - alpha))
                return np.asarray(seen.convert("L"), dtype=np.uint8)
            grey = np.asarray(picture.convert("L"), dtype=np.uint8)
            if picture.format != "JPEG":
                _refuse_coded(grey, path.name)
            # Around an edge a JPEG holds faint values that nobody drew.
            return grey if picture.format != "JPEG" else np.where(grey > grey.max() // 2, 255, 0).astype(np.uint8)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Picture.DecompressionBombError) as error:
        why = f"cannot be read as a mask ({error})"
        raise TableError(path.name, why, mend="put the mask back or clear its cell") from error


def _refuse_coded(grey: NDArray[np.uint8], name: str) -> None:
    """Raise TableError for a mask whose values each stand for a structure: all would be read as one.

    A value counts where it fills a place, so that soft edges do not; values near the highest are the highest; 127 is ignored.
    """
    middle = grey[1:-1, 1:-1]
    beside = (grey[:-2, 1:-1], grey[2:, 1:-1], grey[1:-1, :-2], grey[1:-1, 2:])
    filled = np.bincount(middle[np.logical_and.reduce([one == middle for one in beside])], minlength=256)
    filled[[0, IGNORED]] = 0
    codes = np.flatnonzero(filled)
    highest = int(codes.max(initial=0))
    codes = codes[(codes == highest) | (codes < highest - highest // 32)]
    if len(codes) > 1:
        why = f"fills places with several values ({', '.join(map(str, codes[:6]))}), and one mask is of one structure"
        raise TableError(name, why, mend="write a mask of 0 and 255 for each structure")


def resized(mask: Mask, height: int, width: int) -> Mask:
    """`mask` in another frame, each pixel from the nearest. Shapes: bool [H, W] to bool [height, width]."""
    picture = Picture.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.resize((width, height), Picture.Resampling.NEAREST)) > 0


def encode_runs(mask: Mask) -> str:
    """`mask` as "runs:<height>x<width>:<start> <length> ...": row by row, counted from 0."""
    height, width = mask.shape
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask.ravel(), [False]]).astype(np.int8)))
    starts, lengths = edges[0::2], edges[1::2] - edges[0::2]
    text = " ".join(f"{start} {length}" for start, length in zip(starts, lengths, strict=True))
    return f"{RUNS_PREFIX}{height}x{width}:{text}"


def decode_runs(cell: str) -> Mask:
    """The mask that `encode_runs` wrote. Shapes: bool [H, W].

    Raises: TableError when the cell is not of that form or the runs leave the picture.
    """
    height, width = runs_size(cell)
    size = f"{height}x{width}"
    try:
        numbers = [int(part) for part in cell.split(":", 2)[2].split()]
    except ValueError as error:
        raise TableError(f"mask of {size}", "has runs that are no numbers", mend=RUNS_MEND) from error
    return fill_runs(numbers[0::2], numbers[1::2], height=height, width=width, what=f"mask of {size}")


def runs_size(cell: str) -> tuple[int, int]:
    """(height, width) that a cell of runs states. Raises: TableError when it states none."""
    parts = cell.split(":", 2)
    try:
        height, width = (int(part) for part in parts[1].split("x"))
        if len(parts) == 3 and cell.startswith(RUNS_PREFIX):
            return height, width
    except (ValueError, IndexError):
        pass
    raise TableError(f"mask '{cell[:40]}'", "is no list of runs", mend=RUNS_MEND)


def fill_runs(starts: list[int], lengths: list[int], *, height: int, width: int, what: str) -> Mask:
    """A mask from run starts (counted from 0, row by row) and lengths. Raises: TableError naming `what`."""
    if len(starts) != len(lengths) or height < 1 or width < 1 or height * width > LARGEST_MASK_PIXELS:
        raise TableError(what, "has run lengths that do not pair up, or no possible size", mend="fetch the file again")
    flat = np.zeros(height * width, dtype=np.bool_)
    for start, length in zip(starts, lengths, strict=True):
        if start < 0 or length < 0 or start + length > flat.size:
            raise TableError(what, f"has a run of {length} at {start}, outside {height} x {width}",
                             mend="check the order of the runs")
        flat[start : start + length] = True
    return flat.reshape(height, width)


def split_pair(both: Mask) -> tuple[Mask, Mask] | None:
    """The patient's (left, right) one of two structures drawn as one mask, or None where they cannot be told apart.

    The two largest connected pieces; the patient's right one is on the left of the picture. None when the second
    piece is under a fifth of the first (the two touch, or one is missing) or the two are not side by side.
    Shapes: bool [H, W] in and out. Smaller pieces are left out.
    """
    window = filled_window(both)
    runs = runs_of(both[window])
    areas = runs.areas
    if np.count_nonzero(areas) < 2:
        return None
    first, second = np.argsort(-areas, kind="stable")[:2]
    if areas[second] < SMALLEST_SHARE * areas[first]:
        return None
    sides = [runs.pieces == first, runs.pieces == second]
    spans, centres = [], []
    for side in sides:
        lefts, lengths = runs.starts[side] % runs.shape[1], (runs.ends - runs.starts)[side]
        spans.append((int(lefts.min()), int((lefts + lengths).max()) - 1))
        centres.append(float(((2 * lefts + lengths - 1) * lengths).sum() / (2 * lengths.sum())))
    on_left, on_right = (0, 1) if centres[0] < centres[1] else (1, 0)
    if not spans[on_left][0] <= centres[on_left] < spans[on_right][0] + (spans[on_right][-1] - spans[on_right][0]) / 2:
        return None
    if centres[on_right] <= spans[on_left][-1] and centres[on_left] >= spans[on_right][0]:
        return None  # one above the other, not side by side
    whole = np.zeros((2, *both.shape), dtype=np.bool_)
    whole[0][window], whole[1][window] = runs.drawn(sides[on_right]), runs.drawn(sides[on_left])
    return whole[0], whole[1]
