"""Whether boxes and peaks fall where the reference boxes are.

Boxes are rows of (x, y, width, height), predicted ones with a fifth column, the score. Per image the reference is an
array of boxes: empty where the image was searched and nothing found, None where nobody searched (left out).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storyxai.errors import InputError
from storyxai.metrics.bootstrap import Floats, Statistic, ratio

IOU_LIMITS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def box_iou(first: ArrayLike, second: ArrayLike) -> Floats:
    """Shared over joint area of every pair. Shapes: [K, 4] and [M, 4] to [K, M]; 0 where both are without area."""
    a, b = _boxes(first), _boxes(second)
    left_top = np.maximum(a[:, None, :2], b[None, :, :2])
    right_bottom = np.minimum(a[:, None, :2] + a[:, None, 2:4], b[None, :, :2] + b[None, :, 2:4])
    shared = np.clip(right_bottom - left_top, 0.0, None).prod(axis=2)
    joint = (a[:, 2] * a[:, 3])[:, None] + (b[:, 2] * b[:, 3])[None] - shared
    overlap: Floats = np.divide(shared, joint, out=np.zeros_like(shared), where=joint > 0)
    return overlap


def hit_rows(points: ArrayLike, references: Sequence[ArrayLike | None]) -> Floats:
    """Pointing game: 1 where the point lies in a reference box, 0 where not, nan for images without a box.

    Shapes: `points` [N, 2] as (x, y), nan = nothing pointed at (a miss); [N]. Source: Zhang et al. 2018, no tolerance.
    """
    given = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    _paired(given, references)
    hits = np.full(len(given), np.nan)
    for row, boxes in enumerate(references):
        true = _boxes(() if boxes is None else boxes)
        if len(true):
            inside = (given[row] >= true[:, :2]) & (given[row] <= true[:, :2] + true[:, 2:4])
            hits[row] = float(inside.all(axis=1).any())
    return hits


def top_box_iou_rows(predicted: Sequence[ArrayLike], references: Sequence[ArrayLike | None]) -> Floats:
    """IoU of the highest-scoring box with the reference box it fits best; 0 without a prediction, nan without a box."""
    _paired(predicted, references)
    rows = np.full(len(predicted), np.nan)
    for row, (drawn, boxes) in enumerate(zip(predicted, references, strict=True)):
        true = _boxes(() if boxes is None else boxes)
        if len(true):
            ranked = _scored(drawn)
            rows[row] = float(box_iou(ranked[:1], true).max()) if len(ranked) else 0.0
    return rows


@dataclass(frozen=True, eq=False)
class Matches:
    """Predicted boxes from high to low score, each a hit or a false alarm.

    Shapes: `image`, `scores`, `hit` [D]; `boxes` [N], reference boxes an image; `searched` [N], False = left out.
    """

    image: NDArray[np.intp]
    scores: Floats
    hit: NDArray[np.bool_]
    boxes: Floats
    searched: NDArray[np.bool_]


def match_boxes(
    predicted: Sequence[ArrayLike], references: Sequence[ArrayLike | None], *, iou_limit: float = 0.5
) -> Matches:
    """Each predicted box, best score first, takes the free reference box it fits best with IoU >= `iou_limit`.

    Shapes: `predicted` one [K, 5] an image, `references` one [M, 4] or None an image.
    """
    _paired(predicted, references)
    found: list[tuple[int, float, bool]] = []
    boxes = np.zeros(len(references))
    for image, (drawn, wanted) in enumerate(zip(predicted, references, strict=True)):
        if wanted is None:
            continue
        ranked, true = _scored(drawn), _boxes(wanted)
        boxes[image] = len(true)
        fit = box_iou(ranked, true)
        for place in range(len(ranked)):
            best = int(np.argmax(fit[place])) if len(true) else -1
            hit = best >= 0 and bool(fit[place, best] >= iou_limit)
            if hit:
                fit[:, best] = -1.0  # taken
            found.append((image, float(ranked[place, 4]), hit))
    order = np.argsort([-score for _, score, _ in found], kind="stable")
    return Matches(
        np.array([found[place][0] for place in order], dtype=np.intp),
        np.array([found[place][1] for place in order], dtype=np.float64),
        np.array([found[place][2] for place in order], dtype=bool),
        boxes,
        np.array([wanted is not None for wanted in references], dtype=bool),
    )


def detection_ap_statistic(matches: Matches) -> Statistic:
    """Average precision as a statistic of image weights: area under the precision envelope over recall.

    Source: Everingham et al. 2010 (VOC, all points): at each recall the best precision at that recall or a higher one.
    Boxes of equal score are ranked as one.
    """
    ends = np.flatnonzero(np.append(np.diff(matches.scores) != 0, True)) if len(matches.scores) else np.array([], int)

    def precision(weights: Floats) -> Floats:
        total = weights @ matches.boxes
        if not len(ends):
            return np.where(total > 0, 0.0, np.nan)
        held = weights[:, matches.image]
        drawn = np.cumsum(held, axis=1)[:, ends]
        hits = np.cumsum(held * matches.hit, axis=1)[:, ends]
        share = np.divide(hits, drawn, out=np.zeros_like(hits), where=drawn > 0)
        envelope = np.maximum.accumulate(share[:, ::-1], axis=1)[:, ::-1]
        return ratio((np.diff(hits, axis=1, prepend=0.0) * envelope).sum(axis=1), total)

    return precision


def free_response_statistic(matches: Matches, *, false_alarms_per_image: float) -> Statistic:
    """The highest share of reference boxes hit with at most so many false alarms an image, as a statistic."""
    if false_alarms_per_image <= 0:
        raise InputError("false alarms per image", f"{false_alarms_per_image} is not above 0", mend="use 0.25, 1 or 2")
    ends = np.flatnonzero(np.append(np.diff(matches.scores) != 0, True)) if len(matches.scores) else np.array([], int)

    def share_hit(weights: Floats) -> Floats:
        held = weights[:, matches.image]
        alarms = np.cumsum(held * ~matches.hit, axis=1)[:, ends]
        hits = np.cumsum(held * matches.hit, axis=1)[:, ends]
        allowed = false_alarms_per_image * (weights @ matches.searched.astype(np.float64))
        best = np.where(alarms <= allowed[:, None], hits, 0.0).max(axis=1, initial=0.0)
        return ratio(best, weights @ matches.boxes)

    return share_hit


def _scored(boxes: ArrayLike) -> Floats:
    """Predicted boxes from high to low score. Shapes: [K, 5]."""
    given = np.asarray(boxes, dtype=np.float64)
    if given.size == 0:
        return np.zeros((0, 5))
    if given.ndim != 2 or given.shape[1] != 5:
        raise InputError("predicted boxes", f"shape {given.shape} is not [K, 5]", mend="x, y, width, height, score")
    return given[np.argsort(-given[:, 4], kind="stable")]


def _boxes(boxes: ArrayLike) -> Floats:
    given = np.asarray(boxes, dtype=np.float64)
    if given.size == 0:
        return np.zeros((0, 4))
    if given.ndim != 2 or given.shape[1] < 4:
        raise InputError("boxes", f"shape {given.shape} is not [K, 4]", mend="give x, y, width, height")
    return given[:, :4]


def _paired(predicted: Sequence[ArrayLike] | Floats, references: Sequence[ArrayLike | None]) -> None:
    if len(predicted) != len(references):
        why = f"{len(predicted)} images do not fit {len(references)} references"
        raise InputError("boxes", why, mend="give one entry an image, None where nobody searched")
