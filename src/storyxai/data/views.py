"""Which rows of a table are frontal views, and why the others are left out."""

from __future__ import annotations

import numpy as np

from storyxai.data.table import Skipped, StudyTable
from storyxai.imaging.views import view_of

__all__ = ["NOT_FRONTAL", "frontal_rows"]

NOT_FRONTAL = {
    "LATERAL": "is a lateral view, which this model was not made for",
    "OTHER": "is neither a frontal nor a lateral view, which this model was not made for",
}
"""Views that no model of frontal films may be taught or judged on, and why, in words."""
MEND = "nothing to do; `laterals` takes every view"


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
