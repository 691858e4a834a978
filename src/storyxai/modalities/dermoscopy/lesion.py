"""What is measured of a lesion from its outline and its colours, and where in it a map lies. numpy and scipy only.

Asymmetry and irregularity have no unit and do not depend on the scale; every figure has the error that an outline drawn one of
the network's pixels too large or too small would make: shape is measured again of both. Directions are those of the picture:
nobody states how it was held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.modalities.contract import Place
from storyxai.modalities.masks import largest_piece
from storyxai.types import NO_REMARK, Array, Concept, Image, Mask, Remark

WORKING_SIDE_PX = 256
"""Everything is measured on at most so many pixels along the longer side."""
LEAST_SHARE = 0.005
"""A drawing smaller than this share of the picture is no lesion."""
MARGIN_SHARE = 0.12
"""How far around the lesion its evidence may lie, as a share of its size (the root of its area)."""
BORDER_SHARE = 0.5
"""The border is what lies nearer to the edge than this share of the greatest depth."""
QUADRANT_SHARE = 0.35
"""A quadrant is named when it holds at least this share of what lies in the lesion (an even map: 0.25 each)."""
EXTENT_LEVEL = 0.5
PLACE_CHECK = "inside_lesion"
AWAY = Remark("lesion_away")
COLOURS: Mapping[str, tuple[float, float, float]] = {
    "white": (0.95, 0.98, 1.0), "red": (0.85, 0.55, 0.52), "light brown": (0.75, 0.62, 0.50), "dark brown": (0.47, 0.36, 0.32),
    "blue grey": (0.45, 0.50, 0.58), "black": (0.22, 0.19, 0.20),
}  # fmt: skip
"""The six colours of dermoscopy, each channel over that of the skin around the lesion."""
LEAST_COLOUR_SHARE = 0.10
"""A colour counts when so much of the lesion is nearest to it."""
COLOUR_ERROR = 0.9
"""How far the count lies from that of PH2's readers on average (n = 150); it hardly follows theirs (rank correlation 0.1)."""


@dataclass(frozen=True, eq=False)
class Lesion:
    """A lesion's regions at working resolution (every `stride`-th pixel), or the `problem` that it cannot be measured.

    Shapes: `inside`, `near` (with a margin), `centre` bool [h, w]; `quadrants` by the picture's directions.
    """

    stride: int
    problem: Remark = NO_REMARK
    concepts: tuple[Concept, ...] = ()
    inside: Mask | None = None
    near: Mask | None = None
    centre: Mask | None = None
    quadrants: Mapping[str, Mask] | None = None

    def image_concepts(self) -> tuple[Concept, ...]:
        """Asymmetry, irregularity of the border, diameter."""
        return self.concepts

    def map_concepts(self, values: Array, finding: str) -> tuple[Concept, ...]:
        """`side` (centre, border or surroundings), `zones` (quadrants), `inside_share`, `extent_share` of one map."""
        if self.inside is None or self.near is None or self.centre is None or self.quadrants is None:
            units = (("side", "name"), ("zones", "names"), ("inside_share", "share"), ("extent_share", "share of the lesion"))
            return tuple(Concept(name, finding, None, unit, None, _unmeasured(self.problem)) for name, unit in units)
        positive = np.maximum(values[:: self.stride, :: self.stride], 0)
        if positive.shape != self.inside.shape:
            raise InputError("map", f"shape {values.shape} is not the masks'", mend="give the map in the original frame")
        total = float(positive.sum(dtype=np.float64))
        if total <= 0:
            why = _unmeasured(Remark("no_positive"))
            return tuple(Concept(name, finding, None, unit, None, why) for name, unit in (("side", "name"), ("zones", "names")))
        shares = {
            name: float(positive[region].sum(dtype=np.float64)) / total
            for name, region in (
                ("centre", self.centre),
                ("border", self.near & ~self.centre),
                ("surroundings", ~self.near),
            )
        }
        strongest = max(shares, key=lambda name: shares[name])
        strong = positive >= EXTENT_LEVEL * positive.max()
        extent_about = Remark("lesion_extent", {"level": EXTENT_LEVEL})
        even = float(self.near.mean())
        return (
            Concept("side", finding, strongest, "name", None, Remark("lesion_ring_shares", dict(shares))),
            self._zones(positive, finding),
            Concept(
                "inside_share",
                finding,
                1 - shares["surroundings"],
                "share",
                None,
                Remark("lesion_inside", {"even": even}),
            ),
            Concept("extent_share", finding, float(strong[self.inside].mean()), "share of the lesion", None, extent_about),
        )

    def _zones(self, positive: Array, finding: str) -> Concept:
        assert self.quadrants is not None
        mass = {name: float(positive[region].sum(dtype=np.float64)) for name, region in self.quadrants.items()}
        total = sum(mass.values())
        if total <= 0:
            return Concept("zones", finding, None, "names", None, _unmeasured(Remark("lesion_no_positive")))
        ranked = sorted((-value / total, name) for name, value in mass.items())
        about = Remark("lesion_quadrants", {name: -share for share, name in ranked})
        named = [name for share, name in ranked if -share >= QUADRANT_SHARE]
        return Concept("zones", finding, ", ".join(named) or None, "names", None, about)

    def place(self, finding: str) -> Place:
        """The lesion and a margin around it."""
        if self.near is None:
            return Place(PLACE_CHECK, None, 1, self.problem, AWAY)
        return Place(PLACE_CHECK, self.near, self.stride, Remark("lesion_with_margin", {"share": MARGIN_SHARE}), AWAY)


def survey_lesion(masks: Mapping[str, Mask], *, spacing_mm: tuple[float, float] | None, mask_pixel: float) -> Lesion:
    """The regions of the largest piece that was drawn, and what is measured of its outline. Shapes: masks bool [H, W]."""
    from scipy.ndimage import distance_transform_edt

    drawn = masks.get("lesion")
    if drawn is None or float(drawn.mean()) < LEAST_SHARE:
        return Lesion(1, Remark("lesion_none"))
    stride = max(1, -(-max(drawn.shape) // WORKING_SIDE_PX))
    inside = largest_piece(drawn[::stride, ::stride])
    depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    away = distance_transform_edt(~inside)
    near = np.asarray(away <= MARGIN_SHARE * np.sqrt(inside.sum()), dtype=np.bool_)
    centre = np.asarray(depth > BORDER_SHARE * depth.max(), dtype=np.bool_)
    rows, columns = np.nonzero(inside)
    upper = (np.arange(inside.shape[0]) < rows.mean())[:, None]
    left = (np.arange(inside.shape[1]) < columns.mean())[None, :]
    quadrants = {
        "upper left": inside & upper & left,
        "upper right": inside & upper & ~left,
        "lower left": inside & ~upper & left,
        "lower right": inside & ~upper & ~left,
    }
    concepts = measure_outline(inside, spacing_mm=_spaced(spacing_mm, stride), mask_pixel=mask_pixel / stride)
    return Lesion(stride, NO_REMARK, concepts, inside, near, centre, quadrants)


def _spaced(spacing_mm: tuple[float, float] | None, stride: int) -> tuple[float, float] | None:
    return None if spacing_mm is None else (spacing_mm[0] * stride, spacing_mm[1] * stride)


def measure_outline(
    mask: Mask, *, spacing_mm: tuple[float, float] | None = None, mask_pixel: float = 1.0
) -> tuple[Concept, ...]:
    """lesion_asymmetry, border_irregularity and lesion_diameter of one lesion. Shapes: mask bool [H, W], not empty."""
    major, minor = fold_asymmetry(mask)
    solidity, others = border_irregularity(mask), _larger_and_smaller(mask, mask_pixel)
    folded = Remark("lesion_folded", {"long": major, "short": minor})
    solid = Remark("lesion_solid")
    extent = largest_extent(mask)
    concepts = [
        Concept(
            "lesion_asymmetry", "", max(major, minor), "share of the lesion",
            _furthest(max(major, minor), [max(fold_asymmetry(one)) if one.any() else None for one in others]), folded,
        ),
        Concept(
            "border_irregularity", "", solidity, "share of the hull",
            _furthest(solidity, [border_irregularity(one) if one.any() else None for one in others]), solid,
        ),
    ]
    if spacing_mm is None:
        why = _unmeasured(Remark("lesion_no_scale"))
        return (*concepts, Concept("lesion_diameter", "", None, "mm", None, why))
    scale = float(np.mean(spacing_mm))
    about = Remark("lesion_across")
    return (*concepts, Concept("lesion_diameter", "", extent * scale, "mm", 2 * mask_pixel * scale, about))


def _larger_and_smaller(mask: Mask, pixels: float) -> tuple[Mask, Mask]:
    """The lesion with its outline so many pixels further out, and further in. Shapes: bool, padded alike on all sides."""
    from scipy.ndimage import distance_transform_edt

    padded = np.pad(mask, int(np.ceil(pixels)) + 1)
    larger = np.asarray(distance_transform_edt(~padded) <= pixels, dtype=np.bool_)
    return larger, np.asarray(distance_transform_edt(padded) > pixels, dtype=np.bool_)


def _furthest(value: float, others: list[float | None]) -> float:
    """How far the others lie from a share; 1 where one of them could not be measured, for a lesion that is all outline."""
    return max(1.0 if other is None else abs(other - value) for other in others)


def _unmeasured(why: Remark) -> Remark:
    return Remark("unmeasured", parts={"why": why})


def fold_asymmetry(mask: Mask) -> tuple[float, float]:
    """The shares of the lesion that do not fall onto it when it is folded about its long axis and about the other one.

    Axes go through the centroid along the principal directions. 0 is a shape that folds onto itself.
    """
    rows, columns = np.nonzero(mask)
    points = np.stack([columns, rows], axis=1).astype(np.float64)
    centre = points.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((points - centre).T) if len(points) > 1 else np.eye(2))
    shares = []
    for axis in (axes[:, 1], axes[:, 0]):  # eigenvalues rise: the long axis is the last
        away = points - centre
        mirrored = np.rint(2 * np.outer(away @ axis, axis) - away + centre).astype(np.intp)
        within = ((mirrored >= 0) & (mirrored < np.array(mask.shape)[::-1])).all(axis=1)
        folds = np.zeros(len(points), dtype=np.bool_)
        folds[within] = mask[mirrored[within, 1], mirrored[within, 0]]
        shares.append(1 - float(folds.mean()))
    return shares[0], shares[1]


def border_irregularity(mask: Mask) -> float:
    """1 - area over that of the convex hull of the pixels' corners: 0 for a rectangle, near 0 for any convex shape."""
    hull = _hull(mask)
    return 0.0 if hull is None else max(0.0, 1 - float(mask.sum()) / float(hull.volume))


def largest_extent(mask: Mask) -> float:
    """The largest distance between two points of the mask's outline, in pixels; 0 for an empty one."""
    hull = _hull(mask)
    if hull is None:
        return 0.0
    corners = hull.points[hull.vertices]
    return float(np.sqrt(((corners[:, None] - corners[None]) ** 2).sum(axis=2)).max())


def _hull(mask: Mask) -> Any:
    from scipy.spatial import ConvexHull

    rows, columns = np.nonzero(mask & ~_inner(mask))
    if not len(rows):
        return None
    corners = [np.stack([columns + x, rows + y], axis=1) for x in (0, 1) for y in (0, 1)]
    return ConvexHull(np.concatenate(corners).astype(np.float64))


def _inner(mask: Mask) -> Mask:
    padded = np.pad(mask, 1)
    return np.asarray(padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:], dtype=np.bool_)


def measure_colours(image: Image, masks: Mapping[str, Mask], *, mask_pixel: float) -> tuple[Concept, ...]:
    """`colour_count`: how many of the six colours of dermoscopy a lesion has; nothing where it cannot be asked."""
    drawn = masks.get("lesion")
    if image.pixels.ndim != 3 or drawn is None or float(drawn.mean()) < LEAST_SHARE:
        return ()
    stride = max(1, -(-max(drawn.shape) // WORKING_SIDE_PX))
    pixels, lesion = image.pixels[::stride, ::stride], largest_piece(drawn[::stride, ::stride])
    skin = surrounding_skin(pixels, lesion)
    if skin is None:
        return (Concept("colour_count", "", None, "colours", None, _unmeasured(Remark("lesion_no_skin"))),)
    shares = colours_of(pixels[lesion], skin)
    named = [name for name, share in shares.items() if share >= LEAST_COLOUR_SHARE]
    about = Remark("lesion_colours", {"colours": ", ".join(named), "least": LEAST_COLOUR_SHARE})
    return (Concept("colour_count", "", len(named), "colours", COLOUR_ERROR, about),)


def surrounding_skin(pixels: Array, lesion: Mask) -> NDArray[np.float64] | None:
    """The median colour of what surrounds the lesion and is neither in the dark of the lens; None where nothing is.

    Shapes: pixels [H, W, 3], lesion bool [H, W] -> [3].
    """
    from scipy.ndimage import binary_dilation

    reach = max(2, round(0.15 * float(np.sqrt(lesion.sum()))))
    gap = binary_dilation(lesion, iterations=max(1, reach // 4))
    around = binary_dilation(gap, iterations=reach) & ~gap & (pixels.max(axis=2) > 0.25)
    if around.sum() < 30:
        return None
    return np.asarray(np.median(pixels[around], axis=0), dtype=np.float64)


def colours_of(pixels: Array, skin: NDArray[np.float64]) -> dict[str, float]:
    """The share of pixels [N, 3] that is nearest to each of the six colours, relative to the skin's [3]."""
    relative = np.log(np.clip(pixels / np.maximum(skin, 0.05), 0.05, 2.0))
    known = np.log(np.array(list(COLOURS.values())))
    nearest = ((relative[:, None] - known[None]) ** 2).sum(axis=2).argmin(axis=1)
    counts = np.bincount(nearest, minlength=len(COLOURS))
    return {name: float(count / len(pixels)) for name, count in zip(COLOURS, counts, strict=True)}
