"""Machine checks of each map, and the decision to show it: one that fails a check, or lacks a needed one, is withheld.

What these checks cannot say: that the map is right. They say that it is not empty, not the same for every finding, not
off its place, not different from call to call, and not the word of one method alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.explain.superpixels import segment_means
from storyxai.modalities.contract import Place
from storyxai.types import Array, Check, Heatmap, Mask, Remark


@dataclass(frozen=True)
class Limits:
    """Every limit of the checks in one place. None was fitted to a result; each line says what it is meant to exclude.

    smallest_peak: largest absolute value below which a map is taken as empty (logits; far below any decision).
    inside_odds: odds of lying in the finding's place, over those of an even map. 1 is an even map; 2 asks for twice its
        odds, which can be reached whatever share of the picture the place fills.
    inside_share: whatever the odds, at least half of the positive map must lie there.
    agreement_quantile: agreement of two methods must exceed this quantile of what shuffled superpixels reach.
        Neighbouring superpixels are alike, so chance is in truth somewhat higher: a low bar, and named so in `about`.
    shuffles: shuffles for that quantile, half of them the others undone.
    repeat_difference: the same call twice must give the same numbers.
    seed_correlation: correlation of the superpixels between two seeds that is to be expected from their errors.
    highest_cosine: two findings whose maps are nearer than this are one map under two names.
    """

    smallest_peak: float = 1e-6
    inside_odds: float = 2.0
    inside_share: float = 0.5
    agreement_quantile: float = 0.95
    shuffles: int = 500
    repeat_difference: float = 0.0
    seed_correlation: float = 0.7
    highest_cosine: float = 0.98


LIMITS: Final = Limits()
# Why a map is withheld, without numbers (these are in the check).
REASONS: Final[Mapping[str, Remark]] = {
    "not_empty": Remark("empty"),
    "repeatable": Remark("not_repeatable"),
    "stable_over_seeds": Remark("unstable"),
}

BROKEN: Final = frozenset({"not_empty", "repeatable"})
"""Checks after which there is no map to speak of."""
COARSE: Final = "fine_enough"
SPOT_SHARE: Final = 0.5
"""From this share of its largest value on a map counts as pointing to a place, as where the extent of a map is measured."""
"""After it a map can say in which part of the image the finding lies, not where in it."""
DOUBTED: Final = frozenset({COARSE, "methods_agree", "label_specific"})
"""Checks after which a map is shown with doubt. Maps that fail the last two still hit far oftener than the middle of the image;
a coarse one seldom hits what is smaller than its cells, and still tells the part of it (docs/explanation/evidence.md)."""
NO_BETTER: Final = Remark("no_better")
_NO_POSITIVE = Remark("no_positive")


def not_empty(values: Array, *, finding: str, method: str, limits: Limits = LIMITS) -> Check:
    """Passed when the map is finite and has positive evidence; value is its largest value."""
    finite = bool(np.isfinite(values).all())
    peak = float(values.max()) if finite else None
    passed = peak is not None and peak > limits.smallest_peak
    about = Remark("largest_value" if finite else "not_finite")
    return Check("not_empty", finding, method, peak, limits.smallest_peak, passed, about)


def in_place(values: Array, place: Place, *, finding: str, method: str, limits: Limits = LIMITS) -> Check:
    """Passed when the positive map lies in the finding's place with clearly better odds than an even map.

    Value: share of the positive map; limit: the larger of `limits.inside_share` and the share at which the odds are
    `limits.inside_odds` times even. The modality names the check.
    """
    name = place.check
    if place.region is None:
        return Check(name, finding, method, None, None, None, _unmeasured(place.about))
    positive = _positive_like(values, place.region, place.stride)
    total = float(positive.sum(dtype=np.float64))
    if total <= 0:
        return Check(name, finding, method, None, None, None, _unmeasured(_NO_POSITIVE))
    share = float(positive[place.region].sum(dtype=np.float64)) / total
    even = float(place.region.mean())
    odds = limits.inside_odds * even
    limit = max(limits.inside_share, odds / (odds + 1 - even))
    about = Remark("share_in_place", {"even": even}, {"place": place.about})
    return Check(name, finding, method, share, limit, share >= limit, about)


@dataclass(frozen=True, eq=False)
class Superpixels:
    """What two maps are compared on. Shapes: segments and `within` [H, W], the maps' frame.

    `within` keeps superpixels of which at least half lies in it: pass the body, so that two methods do not seem to
    agree because neither looks at black borders. `seed` shuffles them.
    """

    segments: NDArray[np.int32]
    within: Mask | None = None
    seed: int = 0


def fine_enough(cells: tuple[int, ...], place: Place, *, finding: str, method: str) -> Check:
    """Passed when a cell of the map is no wider than the finding can be. Value, limit: shares of the picture's longer side.

    Shapes: `cells` are the rows and columns that the map was drawn on.
    """
    side = 1 / min(cells)
    limit = place.extent
    passed = None if limit is None else side <= limit
    return Check(COARSE, finding, method, side, limit, passed, Remark("cell_side"))


def methods_agree(
    first: Array, second: Array, superpixels: Superpixels, *, finding: str, method: str, other: str, limits: Limits = LIMITS
) -> Check:
    """Passed when two maps [H, W] rank the superpixels alike, better than shuffled superpixels do; the same seen from either.

    Value: Spearman's rank correlation of the positive parts' means over superpixels; limit: the stated quantile under
    shuffling. None when a map has no positive part, or when superpixels are too few for any order to be rarer than chance.
    """
    name = "methods_agree"
    a, b = _compared(first, second, superpixels.segments, superpixels.within)
    if len(a) < 2 or not (np.ptp(a) > 0 and np.ptp(b) > 0):
        about = _unmeasured(Remark("either_no_positive", {"method": method, "other": other}))
        return Check(name, finding, method, None, None, None, about)
    if math.factorial(len(a)) * (1 - limits.agreement_quantile) < 1:
        too_few = Remark("too_few_superpixels", {"superpixels": len(a)})
        return Check(name, finding, method, None, None, None, _unmeasured(too_few))
    value = rank_correlation(a, b)
    # With fixed ranks the correlation of a shuffle is one dot product; to shuffle one map is to undo that in the other.
    ranks_a, ranks_b = _standard(_ranks(a)), _standard(_ranks(b))
    orders = _orders(len(a), seed=superpixels.seed, count=limits.shuffles // 2)
    chance = [np.einsum("ns,s->n", ranks_b[order], ranks_a) for order in (orders, np.argsort(orders, axis=1))]
    limit = float(np.quantile(np.concatenate(chance), limits.agreement_quantile))
    about = Remark("rank_correlation", {"superpixels": len(a), "quantile": limits.agreement_quantile})
    return Check(name, finding, method, value, limit, value > limit, about)


def same_spot(fine: Array, coarse: Array, *, finding: str, method: str) -> Check:
    """Passed when a coarser map agrees on the strongest point of a map of a small sign.

    Shapes: both [H, W]. Value: the coarser map there, as a share of its own largest value; limit: `SPOT_SHARE`. None when a map
    has no positive part.
    """
    if not (fine.max() > 0 and coarse.max() > 0):
        about = _unmeasured(Remark("one_no_positive"))
        return Check("methods_agree", finding, method, None, None, None, about)
    value = float(coarse[np.unravel_index(int(fine.argmax()), fine.shape)] / coarse.max())
    return Check("methods_agree", finding, method, value, SPOT_SHARE, value >= SPOT_SHARE, Remark("same_spot"))


def repeatable(first: Array, again: Array, *, finding: str, method: str, limits: Limits = LIMITS) -> Check:
    """Passed when the same call twice gives the same map. Value: largest absolute difference."""
    if first.shape != again.shape:
        raise InputError("map", f"shapes {first.shape} and {again.shape} of one call", mend="explain the same image")
    difference = float(np.abs(first.astype(np.float64) - again).max())
    return Check(
        "repeatable", finding, method, difference, limits.repeat_difference,
        difference <= limits.repeat_difference, Remark("identical_calls"),
    )


def stable_over_seeds(*, finding: str, method: str, reliability: float | None, limits: Limits = LIMITS) -> Check:
    """Passed when another seed is expected to give the same order of superpixels.

    Value: `reliability`, the correlation to expect from the standard errors of one run; None: the method states none.
    """
    name, limit = "stable_over_seeds", limits.seed_correlation
    if reliability is None:
        return Check(name, finding, method, None, limit, None, _unmeasured(Remark("no_samples_drawn")))
    return Check(name, finding, method, reliability, limit, reliability >= limit, Remark("seeds_expected"))


def label_specific(
    values: Array, others: Mapping[str, Array], *, finding: str, method: str, limits: Limits = LIMITS
) -> Check:
    """Passed when the map differs from those of the other findings. Value: the highest cosine; `about` names which."""
    name, limit = "label_specific", limits.highest_cosine
    cosines = {key: _cosine(values, other) for key, other in others.items() if key != finding and other.any()}
    if not cosines or not values.any():
        return Check(name, finding, method, None, limit, None, _unmeasured(Remark("no_other_map")))
    nearest = max(sorted(cosines), key=lambda key: cosines[key])
    about = Remark("nearest_map", {"finding": nearest})
    return Check(name, finding, method, cosines[nearest], limit, cosines[nearest] <= limit, about)


def decide_shown(heatmap: Heatmap, checks: Iterable[Check], *, place: Place | None) -> Heatmap:
    """The heatmap with `shown` and `withheld_because` decided by its own checks (same finding and method).

    Shown when it is not empty, lies in its place where it has one, and failed no other check; others may be not applicable.
    One that failed nothing but checks in `DOUBTED` is shown with doubt.
    The reasons are in the order given.
    """
    own = [c for c in checks if c.finding == heatmap.finding and c.method == heatmap.method]
    known = REASONS if place is None else {**REASONS, place.check: place.away}
    failed = [c.name for c in own if c.passed is False]
    reasons = [known.get(name, Remark("failed_check", {"check": name})) for name in failed if name not in DOUBTED]
    by_name = {c.name: c for c in own}
    for name in ("not_empty",) if place is None else ("not_empty", place.check):
        check = by_name.get(name)
        # A map that could not be checked is not shown either: silence is no pass. An empty map is reason enough.
        if (check is None or check.passed is None) and REASONS["not_empty"] not in reasons:
            why = Remark("not_run") if check is None else check.about.parts.get("why", check.about)
            reasons.append(Remark("unchecked", {"check": name}, {"why": why}))
    doubtful = not reasons and not DOUBTED.isdisjoint(failed)
    return replace(heatmap, shown=not reasons, withheld_because=tuple(reasons), doubtful=doubtful)


def decide_by_hits(
    heatmap: Heatmap, checks: Iterable[Check], *, hits: float, blind: float, shown_from: float
) -> Heatmap:
    """The heatmap decided by how often maps like it hit a reader's box: withheld below `blind`, doubtful below `shown_from`.

    `blind` is the share that the best map hits which did not look at the image. Withheld too when it is empty or was not the
    same twice; what the other checks say is a note.
    """
    own = [c for c in checks if c.finding == heatmap.finding and c.method == heatmap.method]
    reasons = [REASONS[c.name] for c in own if c.name in BROKEN and c.passed is False]
    if not reasons and hits < blind:
        reasons = [NO_BETTER]
    shown = not reasons
    coarse = any(c.name == COARSE and c.passed is False for c in own)
    return replace(
        heatmap, shown=shown, withheld_because=tuple(reasons), hit_probability=hits,
        doubtful=shown and (hits < shown_from or coarse),
    )


def rank_correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Spearman's rank correlation with mean ranks for ties, 0 when one side does not vary."""
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise InputError("values", "are not two equal rows of at least two", mend="compare maps of one frame")
    return float(np.einsum("s,s->", _standard(_ranks(first)), _standard(_ranks(second))))


def _unmeasured(why: Remark) -> Remark:
    return Remark("unmeasured", parts={"why": why})


def _compared(
    first: Array, second: Array, segments: NDArray[np.int32], within: Mask | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The positive parts' means in each superpixel that counts, for both maps."""
    a, b = (segment_means(np.maximum(values, 0), segments) for values in (first, second))
    if within is None:
        return a, b
    kept = segment_means(within.astype(np.float32), segments) >= 0.5
    return a[kept], b[kept]


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean_ranks: NDArray[np.float64] = (ends - (counts - 1) / 2)[place]
    return mean_ranks


def _standard(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    centred: NDArray[np.float64] = ranks - ranks.mean()
    norm = float(np.sqrt(np.einsum("s,s->", centred, centred)))
    return np.divide(centred, norm) if norm > 0 else centred


def _orders(length: int, *, seed: int, count: int) -> NDArray[np.intp]:
    rows: NDArray[np.intp] = np.random.default_rng(seed).permuted(np.tile(np.arange(length), (count, 1)), axis=1)
    return rows


def _cosine(first: Array, second: Array) -> float:
    a, b = first.ravel().astype(np.float64), second.ravel().astype(np.float64)
    scale = float(np.sqrt(np.einsum("i,i->", a, a) * np.einsum("i,i->", b, b)))
    # Two tiny maps can have norms whose product is nothing in floating point.
    return float(np.einsum("i,i->", a, b)) / scale if scale > 0 else 0.0


def _positive_like(values: Array, region: Mask, stride: int) -> Array:
    part = np.maximum(values[::stride, ::stride], 0)
    if part.shape != region.shape:
        raise InputError("map", f"shape {values.shape} is not the masks'", mend="give the map in the original frame")
    return part
