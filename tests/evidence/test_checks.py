"""Each check on maps whose verdict is known; and that a map which fails, or was not checked, is not shown."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from evidence_example import in_english
from storyxai.errors import InputError
from storyxai.evidence.checks import (
    LIMITS,
    REASONS,
    Superpixels,
    decide_by_hits,
    decide_shown,
    fine_enough,
    in_place,
    label_specific,
    methods_agree,
    not_empty,
    rank_correlation,
    repeatable,
    same_spot,
    stable_over_seeds,
)
from storyxai.explain.superpixels import grid_segments
from storyxai.modalities.chest_radiograph.anatomy import thorax_from_masks
from storyxai.modalities.contract import Place
from storyxai.types import Check, Heatmap, Remark

H, W = 120, 140
WHO = {"finding": "Effusion", "method": "grad_cam"}


def mask(*places) -> np.ndarray:
    drawn = np.zeros((H, W), dtype=bool)
    for place in places:
        drawn[place] = True
    return drawn


MASKS = {
    "right_lung": mask(np.s_[20:100, 20:55]),
    "left_lung": mask(np.s_[20:100, 85:120]),
    "heart": mask(np.s_[60:105, 50:95]),
}
THORAX = thorax_from_masks(MASKS)
PLACE = THORAX.place("Mass")
UNUSABLE = thorax_from_masks({"left_lung": MASKS["left_lung"]}).place("Mass")
EVEN = np.ones((H, W), dtype=np.float32)
SEGMENTS = grid_segments((H, W), count=64)


def at(*places, weight: float = 1.0) -> np.ndarray:
    return mask(*places).astype(np.float32) * weight


@pytest.mark.parametrize(("count", "asked"), [(2, False), (3, False), (4, True)])
def test_superpixels_too_few_to_tell_agreement_from_chance_are_not_asked(count: int, asked: bool) -> None:
    """Of three there are six orders: the very same order comes by chance once in six times, too often to be a sign."""
    stripes = np.repeat(np.arange(count, dtype=np.int32)[:, None], 8, axis=1)
    values = (stripes + 1).astype(np.float32)
    check = methods_agree(values, values, Superpixels(stripes), **WHO, other="lime")
    assert check.passed is (True if asked else None) and (check.limit is None or check.limit < 1)
    assert asked or check.about.parts["why"].values == {"superpixels": count}


def test_agreement_and_its_limit_are_the_same_seen_from_either_map() -> None:
    for seed in range(20):
        first, second = noise_map(2 * seed), noise_map(2 * seed + 1)
        one, other = (methods_agree(*pair, Superpixels(SEGMENTS, seed=seed), **WHO, other="lime")
                      for pair in ((first, second), (second, first)))  # fmt: skip
        assert (one.value, one.limit) == pytest.approx((other.value, other.limit), abs=1e-12) and one.passed == other.passed


def test_inside_lungs_passes_in_and_fails_out_and_even() -> None:
    inside = in_place(at(np.s_[40:60, 30:50]), PLACE, **WHO)
    assert (inside.value, inside.passed) == (1.0, True)
    outside = in_place(at(np.s_[0:10, 0:140]), PLACE, **WHO)
    assert (outside.value, outside.passed) == (0.0, False)
    even = in_place(EVEN, PLACE, **WHO)
    assert even.passed is False
    assert even.value == pytest.approx(float(THORAX.near_lungs.mean()))


def test_inside_limit_is_the_stated_odds_over_an_even_map() -> None:
    limit = in_place(EVEN, PLACE, **WHO).limit
    even = float(THORAX.near_lungs.mean())
    assert limit / (1 - limit) == pytest.approx(LIMITS.inside_odds * even / (1 - even))
    assert even < limit < 1


def test_heart_counts_for_cardiomegaly_only() -> None:
    heart = at(np.s_[70:95, 60:80])
    assert in_place(heart, THORAX.place("Cardiomegaly"), finding="Cardiomegaly", method="grad_cam").passed is True
    assert in_place(heart, PLACE, **WHO).passed is False


def test_unusable_masks_make_the_check_not_applicable() -> None:
    check = in_place(EVEN, UNUSABLE, **WHO)
    assert check.passed is None
    assert "not drawn apart" in in_english(check.about)


def noise_map(seed: int) -> np.ndarray:
    cells = np.random.default_rng(seed).random(SEGMENTS.max() + 1)
    return cells[SEGMENTS].astype(np.float32)


def test_methods_that_agree_pass_and_opposites_fail() -> None:
    first = noise_map(0)
    same = methods_agree(first, first**3, Superpixels(SEGMENTS), **WHO, other="lime")
    assert same.value == pytest.approx(1.0)
    assert same.passed is True
    opposite = methods_agree(first, 1 - first, Superpixels(SEGMENTS), **WHO, other="lime")
    assert opposite.value == pytest.approx(-1.0)
    assert opposite.passed is False


def test_unrelated_maps_pass_about_as_seldom_as_stated() -> None:
    pairs = [(noise_map(2 * i), noise_map(2 * i + 1)) for i in range(200)]
    ranked = [methods_agree(a, b, Superpixels(SEGMENTS, seed=i), **WHO, other="lime").passed for i, (a, b) in enumerate(pairs)]
    # 5 % of 200 is 10; four binomial standard deviations are 12.
    assert 1 <= sum(ranked) <= 22


def test_permutation_limit_agrees_with_the_normal_approximation() -> None:
    check = methods_agree(noise_map(0), noise_map(1), Superpixels(SEGMENTS), **WHO, other="lime")
    count = int(SEGMENTS.max()) + 1
    assert check.limit == pytest.approx(1.645 / np.sqrt(count - 1), abs=0.05)
    assert check == methods_agree(noise_map(0), noise_map(1), Superpixels(SEGMENTS), **WHO, other="lime")


def test_black_borders_do_not_count_as_agreement() -> None:
    # Two maps opposite in the middle and both zero around it seem to agree, until only the middle is asked.
    row, column = np.divmod(SEGMENTS, SEGMENTS[0].max() + 1)
    middle = ((row > 1) & (row < row.max() - 1) & (column > 1) & (column < column.max() - 1)).astype(np.float32)
    first, second = middle * (0.5 + noise_map(0)), middle * (1.6 - noise_map(0))
    fooled = methods_agree(first, second, Superpixels(SEGMENTS), **WHO, other="lime")
    asked = methods_agree(first, second, Superpixels(SEGMENTS, middle > 0), **WHO, other="lime")
    assert fooled.passed is True
    assert asked.value == pytest.approx(-1.0)
    assert asked.passed is False
    nowhere = methods_agree(first, second, Superpixels(SEGMENTS, middle > 2), **WHO, other="lime")
    assert nowhere.passed is None


def test_agreement_needs_positive_evidence_of_both() -> None:
    unasked = methods_agree(noise_map(0), -EVEN, Superpixels(SEGMENTS), **WHO, other="lime")
    assert unasked.passed is None and in_english(unasked.about) == "not measured: Grad-CAM or LIME has no positive part"


def test_rank_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    for seed in range(5):
        generator = np.random.default_rng(seed)
        a, b = generator.integers(0, 6, 40).astype(float), generator.normal(size=40)
        assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert rank_correlation(np.ones(5), np.arange(5.0)) == 0.0
    with pytest.raises(InputError):
        rank_correlation(np.ones(5), np.ones(4))


def test_repeatable_means_the_same_numbers() -> None:
    first = noise_map(0)
    assert repeatable(first, first.copy(), **WHO).passed is True
    again = first.copy()
    again[3, 3] = np.nextafter(again[3, 3], np.float32(2))
    check = repeatable(first, again, **WHO)
    assert check.passed is False
    assert check.value is not None
    assert check.value > 0
    with pytest.raises(InputError):
        repeatable(first, first[:-1], **WHO)


def test_stable_over_seeds() -> None:
    assert stable_over_seeds(**WHO, reliability=0.9).passed is True
    assert stable_over_seeds(**WHO, reliability=0.2).passed is False
    assert stable_over_seeds(**WHO, reliability=None).passed is None


def test_label_specific_names_the_map_that_is_too_near() -> None:
    mine = noise_map(0)
    others = {"Effusion": mine, "Mass": 2 * mine, "Edema": at(np.s_[0:5, 0:5])}
    check = label_specific(mine, others, **WHO)
    assert check.value == pytest.approx(1.0)
    assert check.passed is False
    assert "Mass" in in_english(check.about)
    assert label_specific(mine, {"Edema": others["Edema"]}, **WHO).passed is True
    assert label_specific(mine, {"Effusion": mine, "Edema": 0 * mine}, **WHO).passed is None


def test_not_empty() -> None:
    assert not_empty(noise_map(0), **WHO).passed is True
    assert not_empty(np.zeros((H, W), np.float32), **WHO).passed is False
    assert not_empty(-EVEN, **WHO).passed is False
    assert not_empty(EVEN * np.nan, **WHO).passed is False


GOOD = at(np.s_[40:60, 30:50])
PASSES = (not_empty(GOOD, **WHO), in_place(GOOD, PLACE, **WHO))


def shown(*checks: Check) -> Heatmap:
    return decide_shown(Heatmap("Effusion", "grad_cam", GOOD, "logit"), checks, place=PLACE)


def test_a_map_that_passes_is_shown() -> None:
    assert shown(*PASSES).shown
    assert shown(*PASSES).withheld_because == ()
    not_applicable = Check("methods_agree", "Effusion", "grad_cam", None, None, None, "not measured: no LIME")
    assert shown(*PASSES, not_applicable).shown


@pytest.mark.parametrize("name", REASONS)
def test_one_failed_check_withholds_in_plain_words(name: str) -> None:
    failed = Check(name, "Effusion", "grad_cam", 0.1, 0.5, False, "x")
    heatmap = shown(*(c for c in PASSES if c.name != name), failed)
    assert not heatmap.shown
    assert heatmap.withheld_because == (REASONS[name],)
    assert not re.search(r"[0-9_]", in_english(*heatmap.withheld_because))


def test_a_map_that_another_method_contradicts_is_shown_with_doubt_and_no_other() -> None:
    apart = Check("methods_agree", "Effusion", "grad_cam", 0.1, 0.2, False)
    doubted = shown(*PASSES, apart)
    assert (doubted.shown, doubted.doubtful, doubted.withheld_because) == (True, True, ())
    assert not shown(*PASSES, replace(apart, passed=True)).doubtful
    assert shown(*PASSES, Check("label_specific", "Effusion", "grad_cam", 0.99, 0.98, False)).doubtful
    broken = shown(*PASSES, apart, Check("repeatable", "Effusion", "grad_cam", 0.1, 0.0, False))
    assert (broken.shown, broken.doubtful, broken.withheld_because) == (False, False, (REASONS["repeatable"],))


def test_checks_of_other_maps_do_not_count() -> None:
    other = Check("repeatable", "Mass", "grad_cam", 0.1, 0.0, False, "x")
    other_method = Check("repeatable", "Effusion", "lime", 0.1, 0.0, False, "x")
    assert shown(*PASSES, other, other_method).shown


def test_a_map_without_a_place_needs_only_not_to_be_empty() -> None:
    heatmap = Heatmap("Effusion", "grad_cam", GOOD, "logit")
    assert decide_shown(heatmap, PASSES[:1], place=None).shown and not decide_shown(heatmap, (), place=None).shown


def test_a_map_off_its_place_is_withheld_in_the_modalitys_words() -> None:
    outside = at(np.s_[0:10, 0:140])
    failed = (not_empty(outside, **WHO), in_place(outside, PLACE, **WHO))
    heatmap = decide_shown(Heatmap("Effusion", "grad_cam", outside, "logit"), failed, place=PLACE)
    assert heatmap.withheld_because == (PLACE.away,) and "part of the chest" in in_english(PLACE.away)


def test_silence_is_no_pass() -> None:
    assert "check was not run" in in_english(*shown(PASSES[0]).withheld_because)
    unmeasured = in_place(EVEN, UNUSABLE, **WHO)
    heatmap = shown(PASSES[0], unmeasured)
    assert not heatmap.shown
    assert "could not be checked" in in_english(*heatmap.withheld_because)
    assert not shown().shown


def test_an_empty_map_is_withheld_for_being_empty_alone() -> None:
    empty = np.zeros((H, W), np.float32)
    heatmap = decide_shown(
        Heatmap("Effusion", "grad_cam", empty, "logit"), (not_empty(empty, **WHO), in_place(empty, PLACE, **WHO)), place=PLACE
    )
    assert heatmap.withheld_because == (REASONS["not_empty"],)
    assert heatmap.values is empty


def test_a_map_of_cells_wider_than_the_finding_is_shown_with_doubt_and_no_other() -> None:
    place = Place("inside_lungs", np.ones((8, 8), dtype=bool), 1, Remark("lungs"), extent=0.1)
    inside = Check("inside_lungs", "Nodule", "m", 0.9, 0.5, True)
    heatmap = Heatmap("Nodule", "m", np.ones((8, 8), dtype=np.float32), "logit")
    for cells, coarse in (((8, 8), True), ((10, 10), False), ((16, 9), True)):
        found = fine_enough(cells, place, finding="Nodule", method="m")
        assert (found.value, found.limit, found.passed) == (1 / min(cells), 0.1, not coarse)
        judged = decide_shown(heatmap, [not_empty(heatmap.values, finding="Nodule", method="m"), inside, found], place=place)
        assert (judged.shown, judged.doubtful, judged.withheld_because) == (True, coarse, ())
        hit = decide_by_hits(heatmap, [found], hits=0.9, blind=0.2, shown_from=0.7)
        assert (hit.shown, hit.doubtful) == (True, coarse)
    failed = replace(inside, passed=False)
    away = decide_shown(heatmap, [failed, fine_enough((8, 8), place, finding="Nodule", method="m")], place=place)
    assert not away.shown and not away.doubtful and away.withheld_because[0].code == "away"


def test_a_coarser_map_agrees_on_a_spot_that_it_rates_half_as_high_as_its_best() -> None:
    fine, coarse = np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32)
    fine[2, 5], fine[6, 1] = 3.0, -9.0
    coarse[4, 4] = 2.0
    for there, passed in ((1.0, True), (0.9, False), (-1.0, False)):
        coarse[2, 5] = there
        found = same_spot(fine, coarse, finding="Nodule", method="lime")
        assert (found.name, found.method, found.value, found.limit) == ("methods_agree", "lime", pytest.approx(there / 2), 0.5)
        assert found.passed is passed
    for one, other in ((fine, -np.abs(coarse)), (-np.abs(fine), coarse)):
        assert same_spot(one, other, finding="Nodule", method="lime").passed is None
