"""The maps of an image by every method that was asked for, each with the checks that decide whether it is shown.

No method is known by name here: a method says what its maps must face, and faces every other method as a second witness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError, UnknownNameError, UnsupportedMethodError
from storyxai.evidence import checks as check
from storyxai.evidence.filling import scene_of
from storyxai.evidence.predict import MOST_GRADIENTS, OneLook, Seen
from storyxai.evidence.trust import MapView, MethodTrust, map_values, trust_of
from storyxai.explain.cam import fine_map, grad_cam
from storyxai.explain.contract import Budget, ExplainedModel, Explanation, Look, Method, Scene, SmallSign
from storyxai.explain.superpixels import slic_segments
from storyxai.imaging.geometry import model_frame
from storyxai.modalities.contract import Modality, Place, Survey
from storyxai.types import Array, Check, Heatmap, Mask, Remark

MARGIN_SHARE = 0.03
"""Margin around the drawn structures, as a share of the model frame's side, within which two methods are compared."""
SUPERPIXELS = 60
"""Superpixels on which two methods are compared when neither brings its own."""
NOT_COMPARED = Remark("unasked", parts={"why": Remark("only_dwelt_on")})
ALONE = Remark("unasked", parts={"why": Remark("drawn_alone")})


@dataclass(frozen=True, eq=False)
class Drawing:
    """What one method drew of one image, by finding; `again` the same from a second look, where that is to be compared."""

    method: Method
    maps: Mapping[str, Explanation]
    again: Mapping[str, Explanation]


@dataclass(frozen=True)
class Wanted:
    """The findings that every method draws, and those that the first one draws."""

    told: tuple[str, ...]
    stored: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Drawings:
    """All drawings of one image; `left_out` are the methods that this model cannot serve, with what they need of it.

    `trust` is what is known of how often the model's maps hit, by method; empty where nothing is.
    """

    seen: Seen
    survey: Survey | None
    drawn: tuple[Drawing, ...]
    told: tuple[str, ...]
    stored: tuple[str, ...]
    seed: int
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trust: Mapping[str, MethodTrust] = field(default_factory=dict)
    _regions: dict[bytes, Array] = field(default_factory=dict)

    def region_in_view(self, region: Mask) -> Array:
        """The share of a region in each of the model's pixels; most findings are looked for in the same one."""
        return _in_view(self.seen, region, self._regions)

    @cached_property
    def around(self) -> Mask | None:
        """The drawn structures and a margin in the model's frame, bool [S, S]; None where nothing was drawn."""
        masks = list(self.seen.prediction.masks.values())
        small = self.seen.frame.mask_to_model(np.logical_or.reduce(masks)) >= 0.5 if masks else np.zeros(1, dtype=np.bool_)
        if not small.any():
            return None
        from scipy.ndimage import binary_dilation

        reach = max(1, round(MARGIN_SHARE * small.shape[0]))
        return np.asarray(binary_dilation(small, iterations=reach), dtype=np.bool_)

    @cached_property
    def segments(self) -> NDArray[np.int32]:
        """The superpixels on which methods are compared: those of the first method that has some."""
        brought = (one.segments for drawing in self.drawn for one in drawing.maps.values())
        first = next((segments for segments in brought if segments is not None), None)
        return slic_segments(self.seen.pixels, count=SUPERPIXELS) if first is None else first

    def leads(self, maps: Sequence[Heatmap]) -> Heatmap | None:
        """Of one finding's maps the shown one that says where it lies: of a method for small signs, else of the first."""
        small = [one.method.key for one in self.drawn if _small_only(one.method)]
        ranked = [one for key in (*small, self.drawn[0].method.key) for one in maps if one.method == key and one.shown]
        return ranked[0] if ranked else None

    def in_view(self, explanation: Explanation) -> Array:
        """A map in the model's frame, float32 [S, S]."""
        height, width = self.seen.pixels.shape[1:]
        return fine_map(explanation.values, height=height, width=width)


def draw(
    model: OneLook, seen: Seen, modality: Modality, methods: Sequence[Method], wanted: Wanted, *, budget: Budget,
    survey: Survey | None,
) -> Drawings:
    """What the methods draw: the first one all stored findings, the others those that are told.

    A method whose maps are compared across findings draws those of all. Raises: UnsupportedMethodError when this model can
    serve none of the methods.
    """
    told, stored = wanted.told, wanted.stored
    regions: dict[bytes, Array] = {}
    scene = replace(scene_of(seen, modality), small=_small_signs(seen, survey, told, regions))
    everything = tuple(model.findings) if len(model.findings) <= MOST_GRADIENTS else tuple(dict.fromkeys((*told, *stored)))
    drawn: list[Drawing] = []
    left_out: dict[str, tuple[str, ...]] = {}
    refused: UnsupportedMethodError | None = None
    for method in methods:
        findings = everything if "label_specific" in method.checks else told if drawn else stored
        if drawn and _small_only(method):
            findings = tuple(name for name in told if name in scene.small)
            if not findings:
                continue
        try:
            drawn.append(_drawing(model, seen, method, findings, budget, scene))
        except UnsupportedMethodError as error:
            refused, left_out[method.key] = error, tuple(sorted(method.needs))
    if refused is not None and not drawn:
        raise refused
    known = trust_of(model)
    return Drawings(
        seen, survey, tuple(drawn), told, stored, budget.seed, left_out, {} if known is None else known.methods,
        regions,
    )


def _small_only(method: Method) -> bool:
    """Whether the method draws small signs alone where others draw too."""
    return bool(getattr(method, "small_only", False))


def _in_view(seen: Seen, region: Mask, kept: dict[bytes, Array]) -> Array:
    """The share of a region in each of the model's pixels, measured once."""
    key = region.tobytes()
    if key not in kept:
        kept[key] = model_frame(*region.shape, size=seen.frame.size).mask_to_model(region)
    return kept[key]


def _small_signs(
    seen: Seen, survey: Survey | None, told: tuple[str, ...], regions: dict[bytes, Array]
) -> dict[str, SmallSign]:
    """The told findings that the survey knows to be small, and where in the model's frame they may lie."""
    found: dict[str, SmallSign] = {}
    masks: dict[int, Mask] = {}
    for name, place in () if survey is None else ((name, survey.place(name)) for name in told):
        if place is not None and place.extent is not None and place.region is not None:
            share = _in_view(seen, place.region, regions)
            found[name] = SmallSign(place.extent, masks.setdefault(id(share), share >= 0.5))
    return found


def maps_of(drawings: Drawings, finding: str) -> list[tuple[Heatmap, list[Check]]]:
    """The finding's maps with their checks: by every method where it is told, by the first alone where it is stored."""
    kept = drawings.drawn if finding in drawings.told else drawings.drawn[:1] if finding in drawings.stored else ()
    return [_checked(drawings, drawing, finding) for drawing in kept if finding in drawing.maps]


def _drawing(
    model: OneLook, seen: Seen, method: Method, wanted: tuple[str, ...], budget: Budget, scene: Scene
) -> Drawing:
    if not wanted:
        return Drawing(method, {}, {})
    for name in method.checks:
        if name not in CHECKS:
            raise UnknownNameError(f"method '{method.key}': check", name, CHECKS)
    maps = _explained(model, seen, method, wanted, budget, scene)
    # The model itself, not the look that is kept: otherwise the check could not fail.
    again = _explained(model.model, seen, method, wanted, budget, scene) if "repeatable" in method.checks else {}
    return Drawing(method, maps, again)


def _explained(
    model: ExplainedModel, seen: Seen, method: Method, wanted: tuple[str, ...], budget: Budget, scene: Scene
) -> dict[str, Explanation]:
    explained = method.explain(model, seen.pixels, wanted, budget, scene)
    if tuple(one.finding for one in explained) != wanted:
        names = ", ".join(one.finding for one in explained) or "nothing"
        raise InputError(f"method '{method.key}'", f"explains {names}", mend=f"let it explain {', '.join(wanted)}, in order")
    return {one.finding: one for one in explained}


def _checked(drawings: Drawings, drawing: Drawing, finding: str) -> tuple[Heatmap, list[Check]]:
    explanation = drawing.maps[finding]
    values = drawings.seen.frame.grid_to_original(drawings.in_view(explanation))
    method = drawing.method.key
    found = [check.not_empty(values, finding=finding, method=method)]
    place = None if drawings.survey is None else drawings.survey.place(finding)
    if place is not None:
        found.append(check.in_place(values, place, finding=finding, method=method))
        if place.extent is not None and explanation.segments is None:
            found.append(check.fine_enough(explanation.values.shape, place, finding=finding, method=method))
    found += [CHECKS[name](drawings, drawing, finding) for name in drawing.method.checks if name != "not_empty"]
    heatmap = Heatmap(finding, method, values, explanation.unit, details=explanation.details)
    known = drawings.trust.get(method)
    hits = None if known is None else known.hit_probability(
        finding, values_of(drawings, drawing, finding, found, place)
    )
    if known is None or hits is None:
        return check.decide_shown(heatmap, found, place=place), found
    return check.decide_by_hits(heatmap, found, hits=hits, blind=known.blind, shown_from=known.shown_from), found


def values_of(
    drawings: Drawings, drawing: Drawing, finding: str, found: Sequence[Check], place: Place | None
) -> dict[str, float | None]:
    """The values of a map from which its hit is predicted (`trust.MAP_VALUES`); `found` are its checks."""
    seen, by_name = drawings.seen, {one.name: one.value for one in found}
    column = [one.name for one in seen.prediction.findings].index(finding)
    region = None if place is None else place.region
    return map_values(MapView(
        values=drawing.maps[finding].values,
        logit=seen.prediction.logits[finding],
        inside=None if place is None else by_name.get(place.check),
        cosine=by_name.get("label_specific"),
        place=None if region is None else drawings.region_in_view(region),
        beside=_map_beside(seen.look, column, own_cells="cells" in drawing.method.needs),
    ))


def _map_beside(look: Look | None, column: int, *, own_cells: bool) -> Array | None:
    """The map that another one is held against: the evidence grid, and for the evidence grid itself Grad-CAM."""
    if look is None or look.cells is None:
        return None
    if not own_cells:
        return np.asarray(look.cells[column], dtype=np.float32)
    return None if look.gradients is None else grad_cam(look.features, look.gradients[column : column + 1])[0]


def _not_empty(drawings: Drawings, drawing: Drawing, finding: str) -> Check:
    return check.not_empty(drawing.maps[finding].values, finding=finding, method=drawing.method.key)


def _repeatable(drawings: Drawings, drawing: Drawing, finding: str) -> Check:
    first, again = drawing.maps[finding].values, drawing.again[finding].values
    return check.repeatable(first, again, finding=finding, method=drawing.method.key)


def _label_specific(drawings: Drawings, drawing: Drawing, finding: str) -> Check:
    others = {name: one.values for name, one in drawing.maps.items()}
    return check.label_specific(drawing.maps[finding].values, others, finding=finding, method=drawing.method.key)


def _stable_over_seeds(drawings: Drawings, drawing: Drawing, finding: str) -> Check:
    told = drawing.maps[finding].details.get("reliability")
    reliability = float(told) if isinstance(told, int | float) else None
    return check.stable_over_seeds(finding=finding, method=drawing.method.key, reliability=reliability)


def _methods_agree(drawings: Drawings, drawing: Drawing, finding: str) -> Check:
    """The comparison with the witness that agrees best; of several, each is held to a limit that chance passes more rarely."""
    name, method = "methods_agree", drawing.method.key
    if finding not in drawings.told:
        return Check(name, finding, method, None, None, None, NOT_COMPARED)
    witnesses = _witnesses(drawings, drawing, finding)
    if not witnesses:
        return Check(name, finding, method, None, None, None, ALONE)
    if (fine := _finer(drawings, finding)) is not None:
        return _same_spot(drawings, drawing, fine, finding)
    limits = check.LIMITS
    if len(witnesses) > 1:
        limits = replace(limits, agreement_quantile=1 - (1 - limits.agreement_quantile) / len(witnesses))
    mine = drawings.in_view(drawing.maps[finding])
    superpixels = check.Superpixels(drawings.segments, drawings.around, drawings.seed)
    compared = [
        check.methods_agree(
            mine, drawings.in_view(other.maps[finding]), superpixels, finding=finding, method=method, other=other.method.key,
            limits=limits,
        )
        for other in witnesses
    ]
    return max(compared, key=lambda c: -np.inf if c.value is None or c.limit is None else c.value - c.limit)


def _finer(drawings: Drawings, finding: str) -> Drawing | None:
    """What a method for small signs drew of the finding beside other methods."""
    drawn = [one for one in drawings.drawn if finding in one.maps]
    return next((one for one in drawn if _small_only(one.method)), None) if len(drawn) > 1 else None


def _same_spot(drawings: Drawings, drawing: Drawing, fine: Drawing, finding: str) -> Check:
    """Where a sign is small its finest map is one spot: the others are asked about it, since ranks of all parts say little."""
    others = _witnesses(drawings, drawing, finding) if drawing is fine else [drawing]
    spot = drawings.in_view(fine.maps[finding])
    compared = [
        check.same_spot(spot, drawings.in_view(other.maps[finding]), finding=finding, method=drawing.method.key)
        for other in others
    ]
    return max(compared, key=lambda c: -np.inf if c.value is None else c.value)


def _witnesses(drawings: Drawings, drawing: Drawing, finding: str) -> list[Drawing]:
    """The other methods that drew the finding; those that ask the model for the same thing count where there are no others.

    Two maps made from the same gradients agree whether they are right or not.
    """
    others = [one for one in drawings.drawn if one is not drawing and finding in one.maps]
    unlike = [one for one in others if one.method.needs != drawing.method.needs]
    return unlike or others


AskCheck: TypeAlias = Callable[[Drawings, Drawing, str], Check]
CHECKS: Mapping[str, AskCheck] = {
    "not_empty": _not_empty, "repeatable": _repeatable, "label_specific": _label_specific,
    "stable_over_seeds": _stable_over_seeds, "methods_agree": _methods_agree,
}
"""The checks that a method may name. Every map must not be empty, and lie in its place where it has one, unasked."""
