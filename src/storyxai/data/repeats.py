"""What a set says twice: images that stand in it under two names, and how far their references agree.

Nobody who is judged by such references can be expected to agree with them better than they agree with themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from storyxai.data.masks import resized
from storyxai.data.table import StudyTable, read_pair, read_structures
from storyxai.errors import StoryxaiError
from storyxai.metrics.segmentation import dice
from storyxai.types import Mask

COPY = 0.99
"""Outlines that overlap so much are one drawing, copied or brought to another size: nobody draws a structure twice so alike."""


@dataclass(frozen=True)
class Repeat:
    """One image under two names: the overlap of its two outlines (None: not drawn twice), and its two labellings.

    `outlined` is what the outlines are of. `stated` are the findings that both state, `differing` those of them that one
    calls present and the other absent.
    """

    first: str
    second: str
    dice: float | None
    stated: tuple[str, ...]
    differing: tuple[str, ...]
    outlined: str = ""


def compare_repeats(table: StudyTable, pairs: Iterable[tuple[str, str]]) -> tuple[Repeat, ...]:
    """The references of each pair of image_ids side by side; outlines are compared in the frame of the larger.

    Outlines that overlap by `COPY` or more were drawn once and say nothing: they count as None.
    """
    row_of = {name: row for row, name in enumerate(table.frame["image_id"])}
    labels, names = table.labels().values, np.array(table.schema.findings)
    found = []
    for first, second in pairs:
        one, other = labels[row_of[first]], labels[row_of[second]]
        both = ~np.isnan(one) & ~np.isnan(other)
        apart = both & ((one >= 0.5) != (other >= 0.5))
        found.append(Repeat(
            first, second, _overlap(table, row_of[first], row_of[second]),
            tuple(names[both].tolist()), tuple(names[apart].tolist()), _outlined(table),
        ))
    return tuple(found)


def say_repeats(repeats: Iterable[Repeat]) -> tuple[str, ...]:
    """What the repeats of a set say of its references, in at most two sentences."""
    given = tuple(repeats)
    lines = []
    overlaps = [item.dice for item in given if item.dice is not None]
    if overlaps:
        outlined = next(item.outlined for item in given if item.dice is not None)
        lines.append(
            f"{outlined} outlined twice on {len(overlaps)} image{'s' * (len(overlaps) > 1)} agree at Dice "
            f"{np.mean(overlaps):.3f} ({min(overlaps):.3f} to {max(overlaps):.3f}): expect no more of a model"
        )
    stated = sum(len(item.stated) for item in given)
    if stated:
        differing = sum(len(item.differing) for item in given)
        lines.append(f"findings stated twice on the same image: {stated}, of which {differing} contradict each other")
    return tuple(lines)


def _overlap(table: StudyTable, first: int, second: int) -> float | None:
    rows = [table.frame.iloc[row].to_dict() for row in (first, second)]
    try:
        masks = [_outline(table, {str(key): cell for key, cell in row.items()}) for row in rows]
    except StoryxaiError:
        return None  # named among the problems already
    if masks[0] is None or masks[1] is None:
        return None
    (one, unsure), (other, doubtful) = masks[0], masks[1]
    height, width = max(one.shape[0], other.shape[0]), max(one.shape[1], other.shape[1])
    one, other, unsure, doubtful = (resized(mask, height, width) for mask in (one, other, unsure, doubtful))
    overlap = dice(one, other, ignore=unsure | doubtful)
    return None if overlap >= COPY else overlap


def _outlined(table: StudyTable) -> str:
    """What two drawings of an image are compared in: the modality's pair, else its first structure."""
    schema = table.schema
    return schema.pair.name if schema.pair else schema.structures[0] if schema.structures else ""


def _outline(table: StudyTable, row: Mapping[str, object]) -> tuple[Mask, Mask] | None:
    """That outline of the row, and the pixels that count neither way."""
    if table.schema.pair:
        return read_pair(table, row)
    mask, _ = read_structures(table, row).get(_outlined(table), (None, None))
    return None if mask is None else (mask, np.zeros_like(mask))
