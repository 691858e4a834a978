"""Anatomy on a drawn thorax: two rectangles for lungs, one for the heart, so that every figure is known on paper."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from evidence_example import in_english
from storyxai.errors import InputError
from storyxai.modalities.chest_radiograph.anatomy import (
    _grow,
    _inner,
    _shrink,
    cardiothoracic_ratio,
    costophrenic,
    extent,
    hull_area_px,
    image_concepts,
    inside_share,
    lung_area_asymmetry,
    map_concepts,
    perihilar,
    side,
    thorax_from_masks,
    zones,
)

H, W = 200, 220
# Patient's right lung: columns 20-80 (left of the picture); left lung: 130-190; both rows 40-160; heart 75-145.
RIGHT, LEFT, HEART = np.s_[40:160, 20:80], np.s_[40:160, 130:190], np.s_[100:170, 75:145]


def mask(*places) -> np.ndarray:
    drawn = np.zeros((H, W), dtype=bool)
    for place in places:
        drawn[place] = True
    return drawn


MASKS = {"right_lung": mask(RIGHT), "left_lung": mask(LEFT), "heart": mask(HEART)}
THORAX = thorax_from_masks(MASKS)


def blob(*places, weight: float = 1.0) -> np.ndarray:
    return mask(*places).astype(np.float32) * weight


SIDES = {
    "right": blob(np.s_[50:60, 30:40]),
    "left": blob(np.s_[50:60, 150:160]),
    "bilateral": blob(np.s_[50:60, 30:40], np.s_[50:60, 150:160]),
    "midline": blob(np.s_[50:60, 90:110]),
}


@pytest.mark.parametrize("expected", SIDES)
def test_side(expected: str) -> None:
    concept = side(SIDES[expected], THORAX, finding="Mass")
    assert (concept.value, concept.finding, concept.unit) == (expected, "Mass", "name")


@pytest.mark.parametrize("expected", SIDES)
def test_mirrored_picture_mirrors_the_side(expected: str) -> None:
    masks = {"right_lung": MASKS["left_lung"][:, ::-1], "left_lung": MASKS["right_lung"][:, ::-1]}
    swapped = {"right": "left", "left": "right"}.get(expected, expected)
    assert side(SIDES[expected][:, ::-1], thorax_from_masks(masks), finding="Mass").value == swapped


def test_side_limit_on_paper() -> None:
    # 69 and 71 of 100 equal pixels in the right lung, the rest in the left; the limit is 0.7.
    for count, expected in ((69, "bilateral"), (71, "right")):
        values = np.zeros((H, W), dtype=np.float32)
        values[50, 20:80] = 1
        values[51, 20 : 20 + count - 60] = 1
        values[50, 130 : 130 + 100 - count] = 1
        assert side(values, THORAX, finding="Mass").value == expected


def test_negative_evidence_does_not_place_a_finding() -> None:
    values = SIDES["right"] - 5 * SIDES["left"]
    assert side(values, THORAX, finding="Mass").value == "right"


@pytest.mark.parametrize("lung", ["right", "left"])
@pytest.mark.parametrize(("third", "rows"), [("upper", 45), ("mid", 85), ("lower", 130)])
def test_zones(lung: str, third: str, rows: int) -> None:
    column = 30 if lung == "right" else 150
    values = blob(np.s_[rows : rows + 10, column : column + 10])
    assert zones(values, THORAX, finding="Mass").value == f"{lung} {third}"


def test_zones_are_thirds_of_each_lungs_own_height() -> None:
    # A high diaphragm on the left: rows 40-100, so row 85 is lower there and mid on the right.
    low = thorax_from_masks({"right_lung": mask(RIGHT), "left_lung": mask(np.s_[40:100, 130:190])})
    values = blob(np.s_[85:90, 30:50], np.s_[85:90, 150:170])
    assert zones(values, low, finding="Mass").value == "left lower, right mid"


def test_zones_strongest_first_and_none_when_even() -> None:
    values = blob(np.s_[130:140, 30:40]) + blob(np.s_[85:95, 30:40], weight=2)
    assert zones(values, THORAX, finding="Mass").value == "right mid, right lower"
    even = zones(np.ones((H, W), dtype=np.float32), THORAX, finding="Mass")
    assert even.value is None
    assert "spread over all zones" in in_english(even.about)


def test_even_map_has_the_area_of_each_region() -> None:
    even = np.ones((H, W), dtype=np.float32)
    # Medial half of the middle third is 1/6 of a rectangle; outer half of the lowest quarter is 1/8.
    assert perihilar(even, THORAX, finding="Edema").value == pytest.approx(1 / 6, abs=0.005)
    assert costophrenic(even, THORAX, finding="Effusion").value == pytest.approx(1 / 8, abs=0.005)
    assert extent(even, THORAX, finding="Edema").value == 1.0


def test_perihilar_is_medial_and_costophrenic_lateral() -> None:
    hila = blob(np.s_[90:110, 60:75], np.s_[90:110, 135:150])
    corners = blob(np.s_[145:158, 22:40], np.s_[145:158, 170:188])
    assert perihilar(hila, THORAX, finding="Edema").value == 1.0
    assert costophrenic(hila, THORAX, finding="Edema").value == 0.0
    assert costophrenic(corners, THORAX, finding="Effusion").value == 1.0
    assert perihilar(corners, THORAX, finding="Effusion").value == 0.0


def test_inside_share_counts_the_margin() -> None:
    # The thorax is 170 px wide, so the margin is 8.5 px: 5 px off the lung counts, 12 px off does not.
    near, far = blob(np.s_[100:101, 15:16]), blob(np.s_[100:101, 8:9])
    assert inside_share(near, THORAX, finding="Effusion").value == 1.0
    assert inside_share(far, THORAX, finding="Effusion").value == 0.0
    assert inside_share(near + 3 * far, THORAX, finding="Effusion").value == pytest.approx(0.25)
    # With a spacing the margin is 15 mm, at 1 mm per pixel 15 px: then both count.
    wide = thorax_from_masks(MASKS, spacing_mm=(1.0, 1.0))
    assert inside_share(far, wide, finding="Effusion").value == 1.0
    assert "15 mm" in in_english(wide.margin)


def test_extent_on_paper() -> None:
    # A tenth of the right lung's rows at full height of the map: 12 x 60 of 2 x 120 x 60 pixels is 1/20.
    values = blob(np.s_[50:62, 20:80]) + blob(np.s_[62:160, 20:80], weight=0.4)
    concept = extent(values, THORAX, finding="Consolidation")
    assert concept.value == pytest.approx(1 / 20)
    assert concept.error is not None
    assert 0 < concept.error < 0.01


def test_cardiothoracic_ratio_on_paper() -> None:
    concept = cardiothoracic_ratio(MASKS)
    assert concept.value == pytest.approx(70 / 170)
    # Four smooth edges, one pixel each: ratio x hypot(sqrt(2) / 70, sqrt(2) / 170).
    assert concept.error == pytest.approx(70 / 170 * np.hypot(2**0.5 / 70, 2**0.5 / 170))
    assert cardiothoracic_ratio(MASKS, mask_pixel=4.0).error == pytest.approx(4 * concept.error)


def test_heart_width_adds_its_reaches_of_different_rows() -> None:
    heart = mask(np.s_[105:135, 80:135], np.s_[135:165, 85:140])
    assert cardiothoracic_ratio({**MASKS, "heart": heart}).value == pytest.approx(60 / 170)


def test_a_ragged_heart_has_a_larger_error() -> None:
    ragged = MASKS["heart"].copy()
    ragged[100:170:3, 140:150] ^= True
    assert cardiothoracic_ratio({**MASKS, "heart": ragged}).error > 1.5 * cardiothoracic_ratio(MASKS).error


def test_true_ratio_lies_within_the_error_of_masks_one_pixel_off() -> None:
    truth = cardiothoracic_ratio(MASKS)
    grown = {**MASKS, "heart": mask(np.s_[99:171, 74:146])}
    assert abs(cardiothoracic_ratio(grown).value - truth.value) < 2 * truth.error


def test_specks_do_not_widen_the_heart() -> None:
    heart = MASKS["heart"].copy()
    heart[10:12, 5:8] = True
    assert cardiothoracic_ratio({**MASKS, "heart": heart}).value == pytest.approx(70 / 170)


def ellipse(row: float, column: float, half_height: float, half_width: float) -> np.ndarray:
    y, x = np.mgrid[:H, :W]
    return ((y - row) / half_height) ** 2 + ((x - column) / half_width) ** 2 <= 1


NO_HEARTS = {
    "ragged": ellipse(135, 115, 32, 40) & ~ellipse(120, 115, 25, 25),  # a crescent
    "one side of the midline": ellipse(135, 150, 30, 35),
    "too narrow": ellipse(110, 110, 55, 30),
    "far above the bases": ellipse(80, 110, 30, 35),
    "which no heart has": ellipse(140, 110, 20, 24),  # 49 of 170 columns
}


def test_a_heart_of_a_hearts_form_and_place_is_measured() -> None:
    for heart in (ellipse(135, 115, 32, 40), ellipse(130, 110, 35, 45), ellipse(140, 120, 30, 60)):
        width = int(heart.any(axis=0).sum())
        assert cardiothoracic_ratio({**MASKS, "heart": heart}).value == pytest.approx(width / 170)


@pytest.mark.parametrize("said", NO_HEARTS)
def test_an_outline_that_cannot_be_a_hearts_gives_no_ratio_and_says_why(said: str) -> None:
    concept = cardiothoracic_ratio({**MASKS, "heart": NO_HEARTS[said]})
    assert concept.value is None and concept.error is None and said in in_english(concept.about)


def test_a_speck_or_a_line_is_no_heart_however_large_the_film() -> None:
    for place in (np.s_[150, 110], np.s_[150, 100:120], np.s_[140:160, 110], np.s_[150:152, 109:111]):
        assert "not measured" in in_english(cardiothoracic_ratio({**MASKS, "heart": mask(place)}).about)
        large = {name: np.kron(m, np.ones((10, 10), dtype=bool)) for name, m in MASKS.items()}
        heart = np.zeros_like(large["heart"])
        heart[tuple(part if isinstance(part, int) else slice(part.start, part.stop) for part in place)] = True
        assert cardiothoracic_ratio({**large, "heart": heart}).value is None


def test_a_wide_heart_of_the_whole_thorax_is_none() -> None:
    assert "0.82, which no heart has" in in_english(
        cardiothoracic_ratio({**MASKS, "heart": mask(np.s_[90:165, 35:175])}).about
    )


def test_lung_area_asymmetry_on_paper() -> None:
    masks = {"right_lung": mask(RIGHT), "left_lung": mask(np.s_[40:100, 130:190])}
    concept = lung_area_asymmetry(masks)
    assert concept.value == pytest.approx((120 - 60) / (120 + 60))
    a, b, off_a, off_b = 7200, 3600, 2 * 120 + 2 * 58, 2 * 60 + 2 * 58
    assert concept.error == pytest.approx(2 * np.hypot(b * off_a, a * off_b) / (a + b) ** 2)


UNUSABLE = {
    "not drawn apart": {"left_lung": mask(LEFT)},
    "missing": {"right_lung": mask(RIGHT), "left_lung": mask()},
    "too unequal": {"right_lung": mask(RIGHT), "left_lung": mask(np.s_[40:60, 130:160])},
    "where the left should be": {"right_lung": mask(LEFT), "left_lung": mask(RIGHT)},
}


@pytest.mark.parametrize("words", UNUSABLE)
def test_unusable_masks_measure_nothing_and_say_why(words: str) -> None:
    masks = UNUSABLE[words]
    thorax = thorax_from_masks(masks)
    assert words in in_english(thorax.problem)
    concepts = (*map_concepts(SIDES["right"], thorax, finding="Mass"), *image_concepts(masks))
    assert len(concepts) == 8
    for concept in concepts:
        assert concept.value is None
        assert concept.error is None
        assert words in in_english(concept.about)


def test_a_map_without_positive_part_is_placed_nowhere() -> None:
    for concept in map_concepts(-np.ones((H, W), dtype=np.float32), THORAX, finding="Mass"):
        assert concept.value is None


def test_no_heart_no_ratio() -> None:
    masks = {name: MASKS[name] for name in ("left_lung", "right_lung")}
    assert cardiothoracic_ratio(masks).value is None
    assert "drew no heart" in in_english(cardiothoracic_ratio(masks).about)
    assert "drew no heart" in in_english(cardiothoracic_ratio({**masks, "heart": mask()}).about)


def test_large_films_give_the_same_answers() -> None:
    # Ten times the pixels: measured on every fourth, within a working pixel of the small film.
    large = {name: np.kron(m, np.ones((10, 10), dtype=bool)) for name, m in MASKS.items()}
    values = np.kron(SIDES["right"] + 0.5 * SIDES["left"], np.ones((10, 10), dtype=np.float32))
    thorax = thorax_from_masks(large)
    assert thorax.stride == 5
    small = map_concepts(SIDES["right"] + 0.5 * SIDES["left"], THORAX, finding="Mass")
    for a, b in zip(small, map_concepts(values, thorax, finding="Mass"), strict=True):
        if isinstance(a.value, float):
            assert b.value == pytest.approx(a.value, abs=0.02)
        else:
            assert b.value == a.value
    assert cardiothoracic_ratio(large).value == pytest.approx(70 / 170)


def test_wrong_frames_are_refused() -> None:
    with pytest.raises(InputError, match="shape"):
        side(np.ones((H, W + 1), dtype=np.float32), THORAX, finding="Mass")
    with pytest.raises(InputError, match="different shapes"):
        thorax_from_masks({**MASKS, "heart": np.zeros((3, 3), dtype=bool)})


def test_the_hull_of_a_mask_is_that_of_another_implementation() -> None:
    from skimage.morphology import convex_hull_image

    generator = np.random.default_rng(4)
    shapes = [mask(np.s_[3:9, 5:6]), mask(np.s_[10:60, 20:40], np.s_[80:90, 100:180]), np.eye(40, 60, dtype=bool)]
    for _ in range(20):
        y, x = np.mgrid[0:60, 0:70]
        blob = (((y - 30) / generator.uniform(8, 28)) ** 2 + ((x - 35) / generator.uniform(8, 30)) ** 2) < 1
        shapes.append(blob & (generator.random((60, 70)) < 0.8))
    for shape in shapes:
        assert hull_area_px(shape) == convex_hull_image(shape).sum()


def test_fluid_is_looked_for_low_beside_and_beneath_the_lungs() -> None:
    # The lungs span 40 to 160 in 170 columns: a margin is 8.5 pixels, the lower thirds begin at 80, the place ends at 185.5.
    place, others = THORAX.place("Effusion"), THORAX.place("Mass")
    assert place.region is not None and others.region is not None
    assert place.about.code == "where_fluid_gathers" and others.about.code == "lungs"
    beneath, beside, top = (175, 50), (150, 13), (60, 50)
    assert place.region[beneath] and not others.region[beneath]
    assert place.region[beside] and not place.region[top] and others.region[top]
    assert not place.region[187:].any() and not place.region[:80].any() and not place.region[:, 90:120].any()


@pytest.mark.parametrize("by_px", [1.0, 1.5, 4.0, 30.0])
def test_regions_grow_and_shrink_as_distances_over_the_whole_picture_say(by_px: float) -> None:
    chance = np.random.default_rng(3)
    for _ in range(10):
        mask = np.zeros((40, 56), dtype=np.bool_)
        top, left = chance.integers(0, 30, 2)
        mask[top : top + 14, left : left + 20] = chance.random((14, 20))[: 40 - top, : 56 - left] < 0.8
        far = distance_transform_edt(~mask)
        deep = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        assert np.array_equal(_grow(mask, by_px), far <= by_px)
        assert np.array_equal(_shrink(mask, by_px), deep > by_px)
        assert np.array_equal(_inner(mask), deep > 1)
