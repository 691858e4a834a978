"""How far a map can be trusted: how alike it is to other maps of the same finding that ought to show the same.

A map is held against those of other methods, of the mirrored and of a slightly turned image, and, where they are given, of the
teacher and of a model trained with another seed. That two maps agree does not make them right; that they do not says that one
of them is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from storyxai.errors import UnsupportedMethodError
from storyxai.evidence.maps import Drawings
from storyxai.evidence.predict import OneLook, view_of
from storyxai.evidence.trust import cell_agreement, coarse_cells, strongest_cell
from storyxai.explain.contract import ExplainedModel, Method
from storyxai.types import Array, Image, MapConsistency

TURNED_DEGREES = 3.0
"""How far the turned copy is turned: as much as patients lie askew, about a third of a cell at the edge of 8 by 8."""
COMPANIONS = ("teacher", "twin")
"""Other models whose maps a model's are held against: the one that taught it, and one trained with another seed."""
_ONE_LOOK = frozenset({"features", "gradients", "cells"})


def consistency_of(
    model: OneLook, image: Image, drawings: Drawings, companions: Mapping[str, ExplainedModel]
) -> tuple[MapConsistency, ...]:
    """The first method's map of each told finding held against the others; empty where it drew none.

    Mirrored and turned images are shown only to a method that needs one look, so that the comparison costs two looks.
    """
    lead = drawings.drawn[0]
    own = {name: coarse_cells(lead.maps[name].values) for name in drawings.told if name in lead.maps}
    others = list(_others(model, image, drawings, companions)) if own else []
    return tuple(
        _compared(name, lead.method.key, beside, values, coarse_cells(maps[name]))
        for name, values in own.items() for beside, maps in others if name in maps and maps[name].any()
    )  # fmt: skip


def _others(
    model: OneLook, image: Image, drawings: Drawings, companions: Mapping[str, ExplainedModel]
) -> Iterator[tuple[str, Mapping[str, Array]]]:
    """The names and maps of what the first method's maps are held against, in its frame."""
    method, told, pixels = drawings.drawn[0].method, drawings.told, drawings.seen.pixels
    for drawing in drawings.drawn[1:]:
        yield drawing.method.key, {name: one.values for name, one in drawing.maps.items()}
    if not method.needs or not method.needs <= _ONE_LOOK:
        return
    mirrored = _maps(method, model.model, np.ascontiguousarray(pixels[:, :, ::-1]), told)
    yield "mirror", {name: values[:, ::-1] for name, values in mirrored.items()}
    turned = _maps(method, model.model, _turned(pixels, TURNED_DEGREES), told)
    yield "turned", {name: _turned(values, -TURNED_DEGREES) for name, values in turned.items()}
    for key, other in companions.items():
        shared = tuple(name for name in told if name in other.findings)
        yield key, _maps(method, other, view_of(other, image)[0], shared)


def _maps(method: Method, model: ExplainedModel, pixels: Array, findings: tuple[str, ...]) -> dict[str, Array]:
    """The method's maps by finding; none of a model that it cannot explain."""
    if not findings:
        return {}
    try:
        return {one.finding: one.values for one in method.explain(model, pixels, findings)}
    except UnsupportedMethodError:
        return {}


def _turned(values: Array, degrees: float) -> Array:
    """Values turned about the middle of the last two axes; what comes from outside is the nearest edge."""
    from scipy.ndimage import rotate

    return np.asarray(rotate(values, degrees, axes=(-2, -1), reshape=False, order=1, mode="nearest"), dtype=np.float32)


def _compared(finding: str, method: str, beside: str, own: Array, other: Array) -> MapConsistency:
    first, second = (
        (np.array(strongest_cell(cells)) + 0.5) / np.array(cells.shape) for cells in (own, other)
    )  # fmt: skip
    apart = np.abs(first - second)
    # Neighbouring cells of the coarser grid are as near as maps of such cells can say.
    step = 1 / np.minimum(own.shape, other.shape)
    near = bool((apart <= step * 1.001).all())
    return MapConsistency(finding, method, beside, cell_agreement(own, other), float(np.hypot(*apart)), near)
