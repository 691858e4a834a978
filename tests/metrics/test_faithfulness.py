"""Faithfulness figures on models that are linear in the pixels, where every curve is known on paper, and beside plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from storyxai.errors import InputError
from storyxai.metrics.faithfulness import (
    DEFAULT_MASKING,
    Masking,
    baseline_maps,
    deletion_curve,
    energy_inside,
    faithfulness,
    gini,
    hit_share,
    insertion_curve,
    iou_of_top,
    localisation,
    max_sensitivity,
    noisy_imputation,
    road_curve,
    widened,
)

RNG = np.random.default_rng(7)
SIDE = 16
GREY = RNG.uniform(0.2, 1.0, (SIDE, SIDE)).astype(np.float32)
IMAGE = GREY[None]
BLACK = np.zeros_like(IMAGE)
STEPS_16 = Masking(steps=16)
WEIGHT = np.zeros((SIDE, SIDE), dtype=np.float32)
WEIGHT[3:7, 9:13] = 1.0
REGION = WEIGHT > 0


def predict(batch: np.ndarray) -> np.ndarray:
    """Column 1 is the sum of the lesion's pixels."""
    lesion = (batch[:, 0] * WEIGHT).sum(axis=(1, 2))
    return np.stack([0 * lesion, lesion], axis=1)


def test_deletion_and_insertion_on_paper() -> None:
    # 16 of 256 pixels carry the whole score: with 16 steps the true map deletes all of it in the first step.
    total = float((GREY * WEIGHT).sum())
    deleted = deletion_curve(predict, IMAGE, WEIGHT, background=BLACK, masking=STEPS_16)
    np.testing.assert_allclose(deleted.scores[:, 1], [total] + [0] * 16, atol=1e-5)
    assert deleted.area[1] == pytest.approx(total / 32, rel=1e-5)
    inserted = insertion_curve(predict, IMAGE, WEIGHT, background=BLACK, masking=STEPS_16)
    np.testing.assert_allclose(inserted.scores[:, 1], [0] + [total] * 16, atol=1e-4)
    assert inserted.area[1] == pytest.approx(total * (1 - 1 / 32), rel=1e-5)
    worst = deletion_curve(predict, IMAGE, -WEIGHT, background=BLACK, masking=STEPS_16)
    assert worst.area[1] == pytest.approx(total * (1 - 1 / 32), rel=1e-5)


def test_curves_do_not_depend_on_the_batch_and_use_real_ones() -> None:
    sizes: list[int] = []

    def watching(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return predict(batch)

    first = deletion_curve(watching, IMAGE, WEIGHT, background=BLACK, masking=Masking(steps=10, batch=4))
    assert sizes == [4, 4, 3]
    again = deletion_curve(predict, IMAGE, WEIGHT, background=BLACK, masking=Masking(steps=10, batch=64))
    assert (first.scores == again.scores).all()
    assert (first.shares[[0, -1]] == [0, 1]).all()


def test_the_true_map_beats_every_baseline() -> None:
    mine = faithfulness(predict, IMAGE, WEIGHT, background=BLACK)
    for values in baseline_maps(GREY).values():
        blind = faithfulness(predict, IMAGE, values, background=BLACK)
        assert mine.deletion[1] < blind.deletion[1] and mine.insertion[1] > blind.insertion[1]
        assert mine.deletion[0] == blind.deletion[0] == 0
        assert gini(WEIGHT) > gini(values)


def test_a_model_that_is_one_pixel() -> None:
    """Its logit is 10 x the pixel: with a step a pixel the right map deletes it in the first of 256 steps, the worst last."""
    place = (5, 11)

    def one_pixel(batch: np.ndarray) -> np.ndarray:
        return 10 * batch[:, 0, place[0], place[1], None]

    right = np.zeros((SIDE, SIDE), dtype=np.float32)
    right[place] = 1
    masking = Masking(steps=256, shares=(0.25, 0.75), noise=0.0)
    whole = 10 * float(GREY[place])
    best = faithfulness(one_pixel, IMAGE, right, background=BLACK, masking=masking)
    worst = faithfulness(one_pixel, IMAGE, -right, background=BLACK, masking=masking)
    # The curve is `whole` at share 0 and 0 from 1/256 on: half a step of area.
    assert best.deletion[0] == pytest.approx(whole * (0.5 / 256 - 1), rel=1e-5)
    assert best.insertion[0] == pytest.approx(-whole * 0.5 / 256, rel=1e-4)
    assert worst.deletion[0] == pytest.approx(-whole * 0.5 / 256, rel=1e-4)
    assert localisation(right, right > 0) == (1.0, 1.0, 1.0)
    assert best.road[0] == -worst.road[0] != 0


def test_curves_are_those_of_a_plain_loop_on_colour_images() -> None:
    colour = RNG.uniform(0, 1, (3, 6, 5)).astype(np.float32)
    behind = RNG.uniform(0, 1, (3, 6, 5)).astype(np.float32)
    values = RNG.normal(size=(6, 5)).astype(np.float32)
    weights = RNG.normal(size=(2, 3, 6, 5))

    def score(images: np.ndarray) -> np.ndarray:
        return np.einsum("bchw,fchw->bf", images, weights)

    found = deletion_curve(score, colour, values, background=behind, masking=Masking(steps=30, batch=7))
    changed, expected = colour.copy(), [score(colour[None])[0]]
    for place in sorted(np.ndindex(6, 5), key=lambda at: -values[at]):
        changed[:, place[0], place[1]] = behind[:, place[0], place[1]]
        expected.append(score(changed[None])[0])
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)
    np.testing.assert_allclose(found.area, np.trapezoid(expected, dx=1 / 30, axis=0), atol=1e-5)


def test_imputation_solves_for_the_neighbour_mean() -> None:
    ramp = (np.add.outer(np.arange(12), 2 * np.arange(12)) / 40).astype(np.float32)
    gone = np.zeros((12, 12), dtype=bool)
    gone[4:8, 3:9] = True
    # A plane is its own neighbour mean away from the border, so the gap fills in exactly.
    filled = noisy_imputation(ramp[None], gone, generator=np.random.default_rng(0), noise=0)
    np.testing.assert_allclose(filled[0], ramp, atol=1e-5)
    holes = RNG.random((12, 12)) < 0.5
    filled = noisy_imputation(ramp[None], holes, generator=np.random.default_rng(0), noise=0)[0].astype(np.float64)
    for row, column in np.argwhere(holes):
        total = weighed = 0.0
        for r in range(max(0, row - 1), min(12, row + 2)):
            for c in range(max(0, column - 1), min(12, column + 2)):
                if (r, c) != (row, column):
                    weight = 1 / 6 if r == row or c == column else 1 / 12
                    total, weighed = total + weight, weighed + weight * filled[r, c]
        assert filled[row, column] == pytest.approx(weighed / total, abs=1e-6)


def test_imputation_noise_and_edges() -> None:
    gone = np.ones((40, 40), dtype=bool)
    image = np.full((2, 40, 40), 0.5, dtype=np.float32)
    filled = noisy_imputation(image, gone, generator=np.random.default_rng(0), noise=0.05)
    assert filled.mean() == pytest.approx(0.5, abs=4 * 0.05 / 57)
    assert filled.std() == pytest.approx(0.05, rel=0.1)
    assert (noisy_imputation(image, ~gone, generator=np.random.default_rng(0)) == image).all()


def test_road_tells_the_true_map_from_its_opposite() -> None:
    dark = np.full((1, SIDE, SIDE), 0.2, dtype=np.float32)
    dark[:, REGION] = 0.9
    most = road_curve(predict, dark, WEIGHT)
    least = road_curve(predict, dark, WEIGHT, order="least")
    assert most.area[1] < 0.5 * least.area[1]
    # Filled in from dark neighbours the lesion scores about 16 x 0.2.
    assert most.scores[0, 1] == pytest.approx(16 * 0.2, abs=0.5)
    assert least.scores[0, 1] == pytest.approx(16 * 0.9, abs=1e-3)
    assert (road_curve(predict, dark, WEIGHT).scores == most.scores).all()


def test_noise_hides_no_more_than_a_hundredth_of_itself() -> None:
    """The solution that noise allows beside the exact one."""
    holes = np.random.default_rng(3).random((48, 48)) < 0.7
    smooth = np.add.outer(np.sin(np.arange(48) / 7), np.cos(np.arange(48) / 5)).astype(np.float32)[None]
    exact = noisy_imputation(smooth, holes, generator=np.random.default_rng(0), noise=0)
    rough = noisy_imputation(smooth, holes, generator=np.random.default_rng(0), noise=0.01)
    noise = np.random.default_rng(0).normal(0, 0.01, int(holes.sum()))
    assert np.abs(rough[0][holes] - noise - exact[0][holes]).max() < 1e-3


def test_pointing_on_paper() -> None:
    values = np.zeros((SIDE, SIDE), dtype=np.float32)
    values[3, 9] = 1
    assert hit_share(values, REGION) == 1
    values[3, 5] = 2
    assert hit_share(values, REGION) == 0
    values[3, 5], values[9, 9], values[4, 9] = 0, 1, 1
    assert hit_share(values, REGION) == pytest.approx(2 / 3)


def test_a_point_beside_the_region_counts_within_the_tolerance() -> None:
    # The region spans columns 9 to 12 of 16: column 7 is two pixels off, an eighth of the side.
    values = np.zeros((SIDE, SIDE), dtype=np.float32)
    values[4, 7] = 1
    assert hit_share(values, REGION, tolerance=1.9 / SIDE) == 0 and hit_share(values, REGION, tolerance=2 / SIDE) == 1
    # Corners are round: three columns and three rows off are more than four pixels.
    assert not widened(REGION, tolerance=4 / SIDE)[0, 6] and widened(REGION, tolerance=4.3 / SIDE)[0, 6]
    assert not widened(np.zeros_like(REGION), tolerance=0.5).any()


def test_energy_and_iou_on_paper() -> None:
    assert energy_inside(np.ones_like(WEIGHT), REGION) == pytest.approx(16 / 256)
    assert energy_inside(WEIGHT - 0.5, REGION) == 1.0
    assert energy_inside(-WEIGHT, REGION) == 0.0
    assert iou_of_top(WEIGHT, REGION) == 1.0
    shifted = np.roll(WEIGHT, 2, axis=1)
    assert iou_of_top(shifted, REGION) == pytest.approx(8 / 24)
    assert iou_of_top(-WEIGHT, REGION) == 0.0
    assert localisation(WEIGHT, REGION) == (1.0, 1.0, 1.0)
    assert all(localisation(values, REGION).energy < 0.5 for values in baseline_maps(GREY).values())


def test_gini_on_paper() -> None:
    one = np.zeros((4, 5), dtype=np.float32)
    one[2, 2] = -3
    assert gini(one) == pytest.approx(1 - 1 / 20)
    assert gini(np.full((4, 5), 0.7, dtype=np.float32)) == pytest.approx(0, abs=1e-12)
    assert gini(np.array([[1, 3]], dtype=np.float32)) == pytest.approx(0.25)
    assert gini(np.zeros((4, 5), dtype=np.float32)) == 0.0


def test_max_sensitivity_on_paper() -> None:
    # A map that is the image itself moves by at most radius x sqrt(n) / |image|; one that ignores it, not at all.
    grey = np.full((1, 10, 10), 0.5, dtype=np.float32)

    def maps(image: np.ndarray) -> np.ndarray:
        return np.stack([image[0], 0 * image[0] + 1, 0 * image[0]])

    value, still, empty = max_sensitivity(maps, grey, radius=0.1, count=20)
    assert 0.5 * 0.2 < value < 0.2
    assert still == 0.0 and np.isnan(empty)
    assert value == max_sensitivity(maps, grey, radius=0.1, count=20)[0]
    generator, worst = np.random.default_rng(0), 0.0
    for _ in range(5):
        worst = max(worst, float(np.linalg.norm(generator.uniform(-0.1, 0.1, grey.shape))) / 5.0)
    assert max_sensitivity(maps, grey, radius=0.1, count=5)[0] == pytest.approx(worst, rel=1e-6)


def test_baselines_know_nothing_of_the_model() -> None:
    maps = baseline_maps(GREY)
    assert list(maps) == ["random", "centre", "edge"]
    centre = np.unravel_index(maps["centre"].argmax(), GREY.shape)
    assert set(centre) <= {7, 8}
    assert (maps["random"] == baseline_maps(GREY)["random"]).all()
    assert (maps["random"] != baseline_maps(GREY, seed=1)["random"]).any()
    step = np.zeros((20, 20), dtype=np.float32)
    step[:, 10:] = 1
    assert set(baseline_maps(step)["edge"].argmax(axis=1)) <= {9, 10}


def test_refusals() -> None:
    with pytest.raises(InputError, match="one frame"):
        deletion_curve(predict, IMAGE, WEIGHT[1:], background=BLACK)
    with pytest.raises(InputError, match="background"):
        deletion_curve(predict, IMAGE, WEIGHT, background=GREY)
    with pytest.raises(InputError, match="logits"):
        deletion_curve(lambda batch: batch[:, 0], IMAGE, WEIGHT, background=BLACK)
    with pytest.raises(InputError, match="steps"):
        insertion_curve(predict, IMAGE, WEIGHT, background=BLACK, masking=replace(DEFAULT_MASKING, steps=0))
