"""Where a map lies, in the words a clinician uses, measured against the lung and heart masks. numpy and scipy only.

Frame: original image; the patient's right lung is on the left of the picture. `right` and `left` are the patient's.
A concept that cannot be measured has the value None, and `about` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.modalities.contract import Place
from storyxai.modalities.masks import filled_window, largest_piece
from storyxai.types import NO_REMARK, Array, Concept, Mask, Remark

# Work on at most this many pixels along the longer side: maps come from far coarser grids.
WORKING_SIDE_PX = 512
# A lung smaller than this share of the picture is no lung; two lungs whose areas differ more than this are not a pair.
MIN_LUNG_SHARE, MAX_AREA_RATIO = 0.01, 6.0
# Margin around the lungs that still counts as "at the lungs" (pleura, mask error): share of the thorax's width, or mm.
MARGIN_SHARE, MARGIN_MM = 0.05, 15.0
# One side is named when it holds at least this share of what lies in the two lungs; else "bilateral".
ONE_SIDED_SHARE = 0.7
# "midline" when at least this share of what lies in lungs or between them lies between them.
MIDLINE_SHARE = 0.5
# A zone is named when it holds at least this share of what lies in the lungs (an even map: about 0.17 each).
ZONE_SHARE = 0.25
# extent: a pixel counts when the map there is at least this share of the map's own largest value.
EXTENT_LEVEL = 0.5
# What a heart's outline must be like to be measured and shown: convex but for small dents, on both sides of the midline,
# about as wide as high, down to the diaphragm, of a ratio that hearts have. Limits lie outside the extremes of 200 phantoms
# as the student draws them (0.94, 0.21, 1.14, 0.78, 0.35 to 0.71).
HEART_SOLIDITY, HEART_SIDE_SHARE, HEART_WIDTH_TO_HEIGHT, HEART_BOTTOM, HEART_RATIO = 0.92, 0.12, 0.9, 0.7, (0.3, 0.8)
THIRDS = ("upper", "mid", "lower")
PLACE_CHECK = "inside_lungs"
MEDIASTINAL = frozenset({"Cardiomegaly", "Hernia"})
"""Findings whose sign may lie in the heart or between the lungs."""
WIDEST: Mapping[str, float] = {"Nodule": 0.1}
"""How wide a finding is at most, as a share of the width of the thorax: a nodule is 3 cm by definition, a thorax about 30."""
PLEURAL_FLUID = frozenset({"Effusion"})
"""Findings that gather beside and beneath the lungs: the outlines leave out what fluid covers."""
FLUID_THIRDS, FLUID_MARGINS = 2, 3
"""Fluid is looked for in so many of the lower thirds of each lung's height, and so many margins beneath."""
AWAY = Remark("chest_away")
_NO_POSITIVE = Remark("no_positive")
_Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of one drawing of the lungs, bool [h, w] each. Zones by thirds of each lung's own height."""

    right: Mask
    left: Mask
    zones: Mapping[str, Mask]
    perihilar: Mask
    costophrenic: Mask


@dataclass(frozen=True, eq=False)
class Thorax:
    """Lungs, heart and what lies around them at working resolution (every `stride`-th pixel of the original frame).

    `problem` says why the masks cannot be used; then the regions are None. `near_lungs` are the lungs and a margin around
    them; `dependent` is where fluid gathers, the lower parts of both lungs and what lies beside and beneath; `between` lies
    between the lungs, row by row. `margin` states the margin, `width` is the thorax's as a share of the picture's longer
    side. `whole` are the concepts of the whole image.
    """

    stride: int
    problem: Remark = NO_REMARK
    drawn: Regions | None = None
    grown: Regions | None = None
    shrunk: Regions | None = None
    near_lungs: Mask | None = None
    dependent: Mask | None = None
    between: Mask | None = None
    heart: Mask | None = None
    margin: Remark = NO_REMARK
    width: float = 0.0
    whole: tuple[Concept, ...] = ()

    def image_concepts(self) -> tuple[Concept, ...]:
        """The cardiothoracic ratio and the asymmetry of the lungs' areas."""
        return self.whole

    def map_concepts(self, values: Array, finding: str) -> tuple[Concept, ...]:
        """Side, zones, perihilar, costophrenic, inside_share, extent_share of one map."""
        return map_concepts(values, self, finding=finding)

    def place(self, finding: str) -> Place:
        """The lungs and a margin; for findings of the heart and the midline also these, for fluid where it gathers."""
        if self.near_lungs is None or self.between is None:
            return Place(PLACE_CHECK, None, 1, self.problem, AWAY)
        if finding in PLEURAL_FLUID:
            return Place(PLACE_CHECK, self.dependent, self.stride, Remark("where_fluid_gathers"), AWAY)
        region, code = self.near_lungs, "lungs"
        if finding in MEDIASTINAL:
            region, code = region | self.between, "lungs_and_between"
            if self.heart is not None:
                region, code = region | self.heart, "lungs_heart_and_between"
        extent = WIDEST[finding] * self.width if finding in WIDEST else None
        return Place(PLACE_CHECK, region, self.stride, Remark(code, parts={"margin": self.margin}), AWAY, extent)


def thorax_from_masks(
    masks: Mapping[str, Mask], *, spacing_mm: tuple[float, float] | None = None, mask_pixel: float = 1.0
) -> Thorax:
    """The regions that the concepts are measured in. Compute once for an image, use for every map.

    Shapes: masks "left_lung", "right_lung" and, where drawn, "heart", bool [H, W]. `mask_pixel` is the side of one
    pixel of the network's mask in original pixels: errors are for masks drawn one such pixel too large or too small.
    """
    problem = _problem_with(masks)
    if problem:
        return Thorax(stride=1, problem=problem)
    shape = masks["left_lung"].shape
    stride = max(1, -(-max(shape) // WORKING_SIDE_PX))
    right, left = (largest_piece(masks[name][::stride, ::stride]) for name in ("right_lung", "left_lung"))
    columns = np.flatnonzero((right | left).any(axis=0))
    if spacing_mm is not None:
        margin, about = MARGIN_MM / (spacing_mm[1] * stride), Remark("margin_mm", {"mm": MARGIN_MM})
    else:
        margin = MARGIN_SHARE * float(np.ptp(columns) + 1)
        about = Remark("margin_share", {"share": MARGIN_SHARE})
    step = max(1.0, mask_pixel / stride)
    heart = masks.get("heart")
    return Thorax(
        stride=stride,
        drawn=_regions(right, left),
        grown=_regions(_grow(right, step), _grow(left, step)),
        shrunk=_regions(_shrink(right, step), _shrink(left, step)),
        near_lungs=_grow(right | left, margin),
        dependent=_dependent(right, margin) | _dependent(left, margin),
        between=_between(right, left),
        heart=None if heart is None or not heart.any() else np.asarray(heart[::stride, ::stride], dtype=bool),
        margin=about,
        width=float(np.ptp(columns) + 1) / max(right.shape),
    )


def survey_chest(
    masks: Mapping[str, Mask], *, spacing_mm: tuple[float, float] | None, mask_pixel: float
) -> Thorax:
    """The regions and the whole image's concepts. Shapes: masks bool [H, W], original frame."""
    thorax = thorax_from_masks(masks, spacing_mm=spacing_mm, mask_pixel=mask_pixel)
    return replace(thorax, whole=image_concepts(masks, mask_pixel=mask_pixel))


def map_concepts(values: Array, thorax: Thorax, *, finding: str) -> tuple[Concept, ...]:
    """All concepts of one map: side, zones, perihilar, costophrenic, inside_share, extent_share."""
    measures = (side, zones, perihilar, costophrenic, inside_share, extent)
    return tuple(measure(values, thorax, finding=finding) for measure in measures)


def image_concepts(masks: Mapping[str, Mask], *, mask_pixel: float = 1.0) -> tuple[Concept, ...]:
    """The concepts of the whole image: cardiothoracic_ratio and lung_area_asymmetry."""
    return (
        cardiothoracic_ratio(masks, mask_pixel=mask_pixel),
        lung_area_asymmetry(masks, mask_pixel=mask_pixel),
    )


def side(values: Array, thorax: Thorax, *, finding: str) -> Concept:
    """"right", "left", "bilateral" or "midline" by where the positive part of the map lies; None if nowhere.

    Shapes: values [H, W]. Units: name. The patient's sides.
    """
    regions = thorax.drawn
    if regions is None or thorax.between is None:
        return _unmeasured("side", finding, "name", thorax.problem)
    positive = _positive(values, thorax)
    right, left = _mass(positive, regions.right), _mass(positive, regions.left)
    between = _mass(positive, thorax.between)
    total = right + left + between
    if total <= 0:
        return _unmeasured("side", finding, "name", Remark("no_positive_near_lungs"))
    if between >= MIDLINE_SHARE * total:
        name = "midline"
    elif max(right, left) >= ONE_SIDED_SHARE * (right + left):
        name = "right" if right > left else "left"
    else:
        name = "bilateral"
    shares = {"right": right / total, "left": left / total, "between": between / total, "from": ONE_SIDED_SHARE}
    return Concept("side", finding, name, "name", None, Remark("side_shares", shares))


def zones(values: Array, thorax: Thorax, *, finding: str) -> Concept:
    """Zones that hold much of the map, strongest first ("right lower, right mid"); None if none does. Units: names.

    Zones are thirds of each lung's own height in the picture, not lobes.
    """
    regions = thorax.drawn
    if regions is None:
        return _unmeasured("zones", finding, "names", thorax.problem)
    positive = _positive(values, thorax)
    mass = {name: _mass(positive, region) for name, region in regions.zones.items()}
    total = sum(mass.values())
    if total <= 0:
        return _unmeasured("zones", finding, "names", Remark("no_positive_in_lungs"))
    shares = sorted(((-value / total, name) for name, value in mass.items()))
    named = [name for share, name in shares if -share >= ZONE_SHARE]
    about = Remark("zone_shares", {**{name: -share for share, name in shares}, "from": ZONE_SHARE})
    if not named:
        return _unmeasured("zones", finding, "names", Remark("zones_spread", parts={"shares": about}))
    return Concept("zones", finding, ", ".join(named), "names", None, about)


def perihilar(values: Array, thorax: Thorax, *, finding: str) -> Concept:
    """Share of the map's in-lung positive part around the hila (medial half, middle third). Units: share."""
    return _region_share("perihilar", finding, values, thorax)


def costophrenic(values: Array, thorax: Thorax, *, finding: str) -> Concept:
    """Share of the map's in-lung positive part at the outer lower corners (lowest quarter). Units: share."""
    return _region_share("costophrenic", finding, values, thorax)


def inside_share(values: Array, thorax: Thorax, *, finding: str) -> Concept:
    """Share of the map's positive part in the lungs and the margin around them. Units: share of the positive map.

    `about` states the share that an even map would have; the error is for masks one pixel larger or smaller.
    """
    if thorax.near_lungs is None or thorax.drawn is None:
        return _unmeasured("inside_share", finding, "share", thorax.problem)
    positive = _positive(values, thorax)
    total = float(positive.sum(dtype=np.float64))
    if total <= 0:
        return _unmeasured("inside_share", finding, "share", _NO_POSITIVE)
    share = _mass(positive, thorax.near_lungs) / total
    error = share - _mass(positive, _inner(thorax.near_lungs)) / total
    about = Remark("inside_share", {"even": float(thorax.near_lungs.mean())}, {"margin": thorax.margin})
    return Concept("inside_share", finding, share, "share", error, about)


def extent(values: Array, thorax: Thorax, *, finding: str) -> Concept:
    """Share of the lungs' area where the map is at least half of its own largest value. Units: share of lung area."""
    unit = "share of lung area"
    if thorax.drawn is None or thorax.grown is None or thorax.shrunk is None:
        return _unmeasured("extent_share", finding, unit, thorax.problem)
    positive = _positive(values, thorax)
    if not positive.any():
        return _unmeasured("extent_share", finding, unit, _NO_POSITIVE)
    strong = positive >= EXTENT_LEVEL * positive.max()
    shares = [
        float(strong[regions.right | regions.left].mean()) if (regions.right | regions.left).any() else 0.0
        for regions in (thorax.drawn, thorax.grown, thorax.shrunk)
    ]
    about = Remark("extent_lungs", {"level": EXTENT_LEVEL})
    return Concept("extent_share", finding, shares[0], unit, max(abs(s - shares[0]) for s in shares), about)


def cardiothoracic_ratio(masks: Mapping[str, Mask], *, mask_pixel: float = 1.0) -> Concept:
    """Largest width of the heart over largest inner width of the thorax. Units: ratio, with its error.

    The heart's width is the sum of its largest reaches to the right and the left (they need not lie in one row); the
    thorax's is the widest row between the outer edges of the lung masks. The error adds, for each of the four edges,
    one mask pixel and the roughness of the outline there (distance of the edge from its running median).
    A heart whose outline has not a heart's form and place is not measured (`about` says what it lacks).
    Source: Danzer 1919, as read on a PA film; AP films enlarge the heart, which the ratio does not know.
    """
    heart = masks.get("heart")
    problem = heart_problem(masks)
    if problem or heart is None:
        return _unmeasured("cardiothoracic_ratio", "", "ratio", problem)
    lungs = np.asarray(masks["left_lung"] | masks["right_lung"], dtype=bool)
    heart = largest_piece(heart)
    heart_width, (thorax_width, row) = _width(heart), _thorax_width(lungs)
    edges = [*_row_edges(heart), *_row_edges(lungs)]
    rough = [_roughness(edge) for edge in edges]
    heart_error = float(np.hypot(np.hypot(mask_pixel, rough[0]), np.hypot(mask_pixel, rough[1])))
    thorax_error = float(np.hypot(np.hypot(mask_pixel, rough[2]), np.hypot(mask_pixel, rough[3])))
    ratio = heart_width / thorax_width
    error = ratio * float(np.hypot(heart_error / heart_width, thorax_error / thorax_width))
    about = Remark("ratio_px", {"heart": round(heart_width), "thorax": round(thorax_width), "row": row})
    return Concept("cardiothoracic_ratio", "", ratio, "ratio", error, about)


def lung_area_asymmetry(masks: Mapping[str, Mask], *, mask_pixel: float = 1.0) -> Concept:
    """(right - left) / (right + left) of the lung areas, in [-1, 1]. Units: share; error for edges one pixel off."""
    problem = _problem_with(masks)
    if problem:
        return _unmeasured("lung_area_asymmetry", "", "share", problem)
    right, left = (np.asarray(masks[name], dtype=bool) for name in ("right_lung", "left_lung"))
    a, b = float(right.sum()), float(left.sum())
    # Each area is off by its outline times one pixel; the two lungs independently.
    off_a, off_b = (_outline_px(m) * mask_pixel for m in (right, left))
    error = 2 * float(np.hypot(b * off_a, a * off_b)) / (a + b) ** 2
    about = Remark("areas_px", {"right": round(a), "left": round(b)})
    return Concept("lung_area_asymmetry", "", (a - b) / (a + b), "share", error, about)


def _problem_with(masks: Mapping[str, Mask]) -> Remark:
    """Why these lung masks cannot be measured in, an empty remark where they can.

    Raises: InputError for masks of different shapes.
    """
    if "left_lung" not in masks or "right_lung" not in masks:
        return Remark("lungs_not_apart")
    if len({mask.shape for mask in masks.values()}) != 1 or masks["left_lung"].ndim != 2:
        raise InputError("masks", "have different shapes", mend="give all masks in the original frame [H, W]")
    right, left = masks["right_lung"], masks["left_lung"]
    areas = [float(np.count_nonzero(m)) / m.size for m in (right, left)]
    if min(areas) < MIN_LUNG_SHARE:
        return Remark("lung_too_small")
    if max(areas) > MAX_AREA_RATIO * min(areas):
        return Remark("lungs_unequal")
    centres = [float(np.flatnonzero(m.any(axis=0)).mean()) for m in (right, left)]
    if centres[0] >= centres[1]:
        return Remark("lungs_swapped")
    return NO_REMARK


def heart_problem(masks: Mapping[str, Mask]) -> Remark:
    """What the masks lack for the heart among them to be measured or shown, an empty remark where they lack nothing.

    Raises: as `image_concepts`.
    """
    heart = masks.get("heart")
    if problem := _problem_with(masks):
        return problem
    if heart is None or not heart.any():
        return Remark("no_heart")
    lungs = np.asarray(masks["left_lung"] | masks["right_lung"], dtype=bool)
    window = filled_window(lungs | heart)
    heart, lungs, start = largest_piece(heart[window]), lungs[window], window[1].start
    rows, columns = np.flatnonzero(heart.any(axis=1)), np.flatnonzero(heart.any(axis=0))
    lung_rows, lung_columns = np.flatnonzero(lungs.any(axis=1)), np.flatnonzero(lungs.any(axis=0))
    # In the frame of the image, since halves are rounded to the even column.
    midline = round(start + (lung_columns[0] + lung_columns[-1]) / 2) - start
    right = np.count_nonzero(heart[:, :midline]) / np.count_nonzero(heart)
    ratio = _width(heart) / _thorax_width(lungs)[0]
    faults = {
        "heart_ragged": _solidity(heart) < HEART_SOLIDITY,
        "heart_on_one_side": min(right, 1 - right) < HEART_SIDE_SHARE,
        "heart_narrow": len(columns) < HEART_WIDTH_TO_HEIGHT * len(rows),
        "heart_high": rows[-1] - lung_rows[0] < HEART_BOTTOM * (lung_rows[-1] - lung_rows[0]),
        "heart_ratio": not HEART_RATIO[0] <= ratio <= HEART_RATIO[1],
    }
    fault = next((code for code, found in faults.items() if found), "")
    return Remark(fault, {"ratio": ratio} if fault == "heart_ratio" else {})


def _solidity(mask: Mask) -> float:
    """Area over that of the convex hull, measured on a mask of the working size at most."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    stride = max(1, -(-max(box.shape) // WORKING_SIDE_PX))
    small = box[::stride, ::stride]
    if min(small.shape) < 3 or not small.any():
        return 0.0  # a speck or a line has no hull to speak of
    return np.count_nonzero(small) / hull_area_px(small)


def hull_area_px(mask: Mask) -> int:
    """The pixels whose centres lie in the convex hull of the mask's pixels, which reach half a pixel to each side.

    Own lines because the library that has it takes as long to load as all that a film needs of scipy.
    """
    first, last = _row_edges(mask)
    rows = np.flatnonzero(first >= 0)
    ends = np.concatenate([rows, rows - 0.5, rows + 0.5])
    left = _chain(ends, np.concatenate([first[rows] - 0.5, first[rows], first[rows]]))
    right = [(y, -x) for y, x in _chain(ends, -np.concatenate([last[rows] + 0.5, last[rows], last[rows]]))]
    inside = np.arange(rows[0], rows[-1] + 1, dtype=np.float64)
    low, high = (np.interp(inside, *np.array(chain).T) for chain in (left, right))
    return int((np.floor(high + 1e-9) - np.ceil(low - 1e-9) + 1).sum())


def _chain(ys: _Float64, xs: _Float64) -> list[tuple[float, float]]:
    """The side of smallest x of the convex hull of (y, x) points, by rising y. Source: Andrew 1979 (monotone chain)."""
    order = np.lexsort((xs, ys))
    ys, xs = ys[order], xs[order]
    lowest = np.append(True, ys[1:] != ys[:-1])
    ys, xs = _outer(*_outer(*_outer(ys[lowest], xs[lowest])))
    kept: list[tuple[float, float]] = []
    for y, x in zip(ys.tolist(), xs.tolist(), strict=True):
        while len(kept) > 1:
            (y0, x0), (y1, x1) = kept[-2:]
            if (x1 - x0) * (y - y0) < (x - x0) * (y1 - y0):
                break  # the last point lies on the hull's outer side
            kept.pop()
        kept.append((y, x))
    return kept


def _outer(ys: _Float64, xs: _Float64) -> tuple[_Float64, _Float64]:
    """The points without those that do not lie on the outer side of their neighbours' line: they cannot be the hull's."""
    steps_y, steps_x = np.diff(ys), np.diff(xs)
    turns = steps_x[:-1] * (ys[2:] - ys[:-2]) < (xs[2:] - xs[:-2]) * steps_y[:-1]
    stays = np.concatenate([[True], turns, [True]])[: len(ys)]
    return ys[stays], xs[stays]


def _width(mask: Mask) -> float:
    """From the outermost column to the right to that to the left."""
    columns = np.flatnonzero(mask.any(axis=0))
    return float(columns[-1] - columns[0] + 1)


def _thorax_width(lungs: Mask) -> tuple[float, int]:
    """The widest row between the outer edges of the lungs, and which row it is."""
    first, last = _row_edges(lungs)
    widths = np.where(first >= 0, last - first + 1, 0)
    row = int(widths.argmax())
    return float(widths[row]), row


def _regions(right: Mask, left: Mask) -> Regions:
    named: dict[str, Mask] = {}
    hila, corners = np.zeros_like(right), np.zeros_like(right)
    for name, lung, inner_is_right_of_picture in (("right", right, True), ("left", left, False)):
        rows, columns = np.flatnonzero(lung.any(axis=1)), np.flatnonzero(lung.any(axis=0))
        if not len(rows):
            named.update({f"{name} {third}": lung for third in THIRDS})
            continue
        down = (np.arange(lung.shape[0]) - rows[0] + 0.5) / (rows[-1] - rows[0] + 1)
        across = (np.arange(lung.shape[1]) - columns[0] + 0.5) / (columns[-1] - columns[0] + 1)
        inner = across >= 0.5 if inner_is_right_of_picture else across < 0.5
        third = np.clip((down * 3).astype(int), 0, 2)
        for index, word in enumerate(THIRDS):
            named[f"{name} {word}"] = lung & (third == index)[:, None]
        hila |= lung & ((third == 1)[:, None] & inner[None, :])
        corners |= lung & ((down >= 0.75)[:, None] & ~inner[None, :])
    return Regions(right, left, named, hila, corners)


def _dependent(lung: Mask, margin: float) -> Mask:
    """The rectangle of a lung's lower thirds, a margin to its sides and several beneath it."""
    rows, columns = np.flatnonzero(lung.any(axis=1)), np.flatnonzero(lung.any(axis=0))
    top = rows[-1] + 1 - (rows[-1] + 1 - rows[0]) * FLUID_THIRDS / len(THIRDS)
    region = np.zeros_like(lung)
    region[
        round(top) : round(rows[-1] + 1 + FLUID_MARGINS * margin),
        max(0, round(columns[0] - margin)) : round(columns[-1] + 1 + margin),
    ] = True
    return region


def _region_share(name: str, finding: str, values: Array, thorax: Thorax) -> Concept:
    if thorax.drawn is None or thorax.grown is None or thorax.shrunk is None:
        return _unmeasured(name, finding, "share", thorax.problem)
    positive = _positive(values, thorax)
    shares = []
    for regions in (thorax.drawn, thorax.grown, thorax.shrunk):
        total = _mass(positive, regions.right | regions.left)
        region = regions.perihilar if name == "perihilar" else regions.costophrenic
        shares.append(_mass(positive, region) / total if total > 0 else 0.0)
        if total <= 0 and regions is thorax.drawn:
            return _unmeasured(name, finding, "share", Remark("no_positive_in_lungs"))
    lungs = thorax.drawn.right | thorax.drawn.left
    region = thorax.drawn.perihilar if name == "perihilar" else thorax.drawn.costophrenic
    even = float(region.sum() / lungs.sum())
    about = Remark(f"{name}_share", {"even": even})
    return Concept(name, finding, shares[0], "share", max(abs(s - shares[0]) for s in shares), about)


def _unmeasured(name: str, finding: str, unit: str, why: Remark) -> Concept:
    return Concept(name, finding, None, unit, None, Remark("unmeasured", parts={"why": why}))


def _positive(values: Array, thorax: Thorax) -> Array:
    """The positive part of the map at working resolution. Raises: InputError if the map is of another frame."""
    part = np.maximum(values[:: thorax.stride, :: thorax.stride], 0)
    if thorax.near_lungs is not None and part.shape != thorax.near_lungs.shape:
        raise InputError("map", f"shape {values.shape} is not the masks'", mend="give the map in the original frame")
    if not np.isfinite(part).all():
        raise InputError("map", "has values that are not finite", mend="check the model for overflow or nan")
    return part


def _mass(positive: Array, region: Mask) -> float:
    return float(positive[region].sum(dtype=np.float64))


def _grow(mask: Mask, by_px: float) -> Mask:
    """The mask and the pixels at most `by_px` from it."""
    from scipy.ndimage import distance_transform_edt

    reach = int(by_px)
    window = tuple(slice(max(0, one.start - reach), one.stop + reach) for one in filled_window(mask))
    grown = np.zeros(mask.shape, dtype=np.bool_)
    grown[window] = distance_transform_edt(~mask[window]) <= by_px
    return grown


def _shrink(mask: Mask, by_px: float) -> Mask:
    """The mask without its outermost `by_px` pixels; the picture's border counts as outside."""
    from scipy.ndimage import distance_transform_edt

    window, inner = filled_window(mask), np.zeros(mask.shape, dtype=np.bool_)
    inner[window] = distance_transform_edt(np.pad(mask[window], 1))[1:-1, 1:-1] > by_px
    return inner


def _inner(mask: Mask) -> Mask:
    """The mask's pixels whose neighbours above, below, left and right are in it too."""
    padded = np.pad(mask, 1)
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def _outline_px(mask: Mask) -> float:
    """The number of pixels of the mask with a neighbour outside it, above, below, left or right."""
    return float(np.count_nonzero(mask) - np.count_nonzero(_inner(mask)))


def _between(right: Mask, left: Mask) -> Mask:
    """Pixels between the inner edges of the two lungs, row by row, outside both."""
    columns = np.arange(right.shape[1])[None, :]
    right_inner, left_inner = _row_edges(right)[1], _row_edges(left)[0]
    both = (right_inner >= 0) & (left_inner >= 0)
    gap: Mask = both[:, None] & (columns > right_inner[:, None]) & (columns < left_inner[:, None])
    return gap & ~right & ~left


def _row_edges(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last column of the mask in each row, -1 where the row is empty, int64 [H] each."""
    filled = mask.any(axis=1)
    first = np.where(filled, mask.argmax(axis=1), -1)
    # Of a copy, since backwards through memory it takes six times as long.
    last = np.where(filled, mask.shape[1] - 1 - np.ascontiguousarray(mask[:, ::-1]).argmax(axis=1), -1)
    return first.astype(np.int64), last.astype(np.int64)


def _roughness(edge: NDArray[np.int64]) -> float:
    """Root mean square distance in pixels of an outline from its running median of five rows (0 for a smooth one)."""
    from scipy.ndimage import median_filter

    known = edge[edge >= 0].astype(np.float64)
    if len(known) < 5:
        return 0.0
    smooth = median_filter(known, size=5, mode="nearest")
    return float(np.sqrt(np.mean((known - smooth) ** 2)))
