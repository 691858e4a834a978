"""What every kind of image asks of a drawn mask: where it lies, and its largest piece."""

from __future__ import annotations

import numpy as np

from storyxai.types import Mask

__all__ = ["filled_window", "largest_piece"]


def filled_window(mask: Mask) -> tuple[slice, slice]:
    """The rows and columns [H, W] that hold all of a mask; no rows and columns where it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def largest_piece(mask: Mask) -> Mask:
    """The largest connected piece of a mask [H, W], the first of equal ones; a mask of one piece or none as it is."""
    from scipy.ndimage import label

    window = filled_window(mask)
    pieces, count = label(mask[window])
    if count < 2:
        return np.asarray(mask, dtype=np.bool_)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    largest = np.zeros(mask.shape, dtype=np.bool_)
    largest[window] = pieces == sizes.argmax()
    return largest
