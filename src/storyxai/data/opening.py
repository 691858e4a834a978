"""Rows of a study table opened: which are frontal views, the image and reference masks of each, or why it cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from storyxai.data.table import Skipped, StudyTable, read_structures
from storyxai.errors import InputError, StoryxaiError
from storyxai.imaging.read import read_image
from storyxai.imaging.views import view_of
from storyxai.modalities.contract import Acquisition
from storyxai.types import Image, Mask

NOT_FRONTAL = {
    "LATERAL": "is a lateral view, which this model was not made for",
    "OTHER": "is neither a frontal nor a lateral view, which this model was not made for",
}
"""Views that no model of frontal films may be taught or judged on, and why, in words."""
MEND = "nothing to do; `laterals` takes every view"


@dataclass(frozen=True, eq=False)
class OpenedRow:
    """An image and its reference masks as `read_structures` gives them; `lost` says what was damaged and left out."""

    image: Image
    structures: Mapping[str, tuple[Mask, Mask | None]]
    lost: tuple[Skipped, ...] = ()


def open_row(
    table: StudyTable, row: Mapping[str, object], *, laterals: bool = False, acquisition: Acquisition | None = None
) -> OpenedRow | Skipped:
    """The row's image and masks. What cannot be used is told instead: a file that cannot be read, or one whose own
    header calls it a view that is not frontal where the table says nothing (not with `laterals`). A damaged mask is left
    out of its row. `acquisition` is that of the modality, as for `read_image`.
    """
    name = str(row["image_id"])
    try:
        image = read_image(table.image_path(row), acquisition=acquisition)
    except StoryxaiError as error:
        return unreadable(name, error)
    view = view_of(image.view)
    if view in NOT_FRONTAL and view_of(str(row["view"])) == "unknown" and not laterals:
        return Skipped(name, NOT_FRONTAL[view], "say its view in the table if the file is wrong")
    try:
        return OpenedRow(image, read_structures(table, row))
    except StoryxaiError as error:
        why = error.why if isinstance(error, InputError) else str(error)
        return OpenedRow(image, {}, (Skipped(name, f"is used without its masks: {why}", "mend the mask or clear its cell"),))


def unreadable(name: str, error: StoryxaiError) -> Skipped:
    """An image that could not be read, with the reason in the error's words."""
    why, mend = (error.why, error.mend) if isinstance(error, InputError) else (str(error), "")
    return Skipped(name, why if why.startswith("cannot be read") else f"cannot be read: {why}", mend)


def frontal_rows(table: StudyTable, *, laterals: bool = False) -> tuple[StudyTable, tuple[Skipped, ...]]:
    """The rows of `table` that do not state a view beside the frontal ones, and the others by name.

    A row without a stated view stays. With `laterals` every row does.
    """
    views = [view_of(text) for text in table.frame["view"]]
    keep = np.array([laterals or view not in NOT_FRONTAL for view in views], dtype=np.bool_)
    if keep.all():
        return table, ()
    named = zip(table.frame["image_id"], views, keep, strict=True)
    left_out = tuple(Skipped(str(name), NOT_FRONTAL[view], MEND) for name, view, kept in named if not kept)
    return table.select(rows=keep), left_out
