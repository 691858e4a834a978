"""Faithfulness figures on a model that is linear in the pixels, where every curve is known on paper."""

from __future__ import annotations

import numpy as np
import pytest

from storyxai.errors import InputError
from storyxai.metrics.faithfulness import (
    baseline_maps,
    deletion_curve,
    energy_inside,
    faithfulness,
    gini,
    insertion_curve,
    iou_of_top,
    localisation,
    max_sensitivity,
    noisy_imputation,
    pointing_hit,
    road_curve,
)

RNG = np.random.default_rng(7)
SIDE = 16
IMAGE = RNG.uniform(0.2, 1.0, (SIDE, SIDE)).astype(np.float32)
BLACK = np.zeros_like(IMAGE)
WEIGHT = np.zeros((SIDE, SIDE), dtype=np.float32)
WEIGHT[3:7, 9:13] = 1.0
REGION = WEIGHT > 0


def predict(batch: np.ndarray) -> np.ndarray:
    """Column 1 is the sum of the lesion's pixels."""
    lesion = (batch[:, 0] * WEIGHT).sum(axis=(1, 2))
    return np.stack([0 * lesion, lesion], axis=1)


def test_deletion_and_insertion_on_paper() -> None:
    # 16 of 256 pixels carry the whole score: with 16 steps the true map deletes all of it in the first step.
    total = float((IMAGE * WEIGHT).sum())
    deleted = deletion_curve(predict, IMAGE, WEIGHT, column=1, background=BLACK, steps=16)
    np.testing.assert_allclose(deleted.scores, [total] + [0] * 16, atol=1e-5)
    assert deleted.area == pytest.approx(total / 32, rel=1e-5)
    inserted = insertion_curve(predict, IMAGE, WEIGHT, column=1, background=BLACK, steps=16)
    np.testing.assert_allclose(inserted.scores, [0] + [total] * 16, atol=1e-4)
    assert inserted.area == pytest.approx(total * (1 - 1 / 32), rel=1e-5)
    worst = deletion_curve(predict, IMAGE, -WEIGHT, column=1, background=BLACK, steps=16)
    assert worst.area == pytest.approx(total * (1 - 1 / 32), rel=1e-5)


def test_curves_do_not_depend_on_the_batch_and_use_real_ones() -> None:
    sizes: list[int] = []

    def watching(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return predict(batch)

    first = deletion_curve(watching, IMAGE, WEIGHT, column=1, background=BLACK, steps=10, batch=4)
    assert sizes == [4, 4, 3]
    again = deletion_curve(predict, IMAGE, WEIGHT, column=1, background=BLACK, steps=10, batch=64)
    assert (first.scores == again.scores).all()
    assert (first.shares[[0, -1]] == [0, 1]).all()


def test_the_true_map_beats_every_baseline() -> None:
    figures = faithfulness(predict, IMAGE, WEIGHT, column=1, background=BLACK)
    assert set(figures) == {"map", "random", "centre", "edge"}
    for name in ("random", "centre", "edge"):
        assert figures["map"].deletion < figures[name].deletion
        assert figures["map"].insertion > figures[name].insertion
        assert figures["map"].gini > figures[name].gini


def test_imputation_solves_for_the_neighbour_mean() -> None:
    ramp = (np.add.outer(np.arange(12), 2 * np.arange(12)) / 40).astype(np.float32)
    gone = np.zeros((12, 12), dtype=bool)
    gone[4:8, 3:9] = True
    # A plane is its own neighbour mean away from the border, so the gap fills in exactly.
    filled = noisy_imputation(ramp, gone, generator=np.random.default_rng(0), noise=0)
    np.testing.assert_allclose(filled, ramp, atol=1e-5)
    holes = RNG.random((12, 12)) < 0.5
    filled = noisy_imputation(ramp, holes, generator=np.random.default_rng(0), noise=0).astype(np.float64)
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
    image = np.full((40, 40), 0.5, dtype=np.float32)
    filled = noisy_imputation(image, gone, generator=np.random.default_rng(0), noise=0.05)
    assert filled.mean() == pytest.approx(0.5, abs=4 * 0.05 / 40)
    assert filled.std() == pytest.approx(0.05, rel=0.1)
    assert (noisy_imputation(image, ~gone, generator=np.random.default_rng(0)) == image).all()


def test_road_tells_the_true_map_from_its_opposite() -> None:
    dark = np.full((SIDE, SIDE), 0.2, dtype=np.float32)
    dark[REGION] = 0.9
    most = road_curve(predict, dark, WEIGHT, column=1)
    least = road_curve(predict, dark, WEIGHT, column=1, order="least")
    assert most.area < 0.5 * least.area
    # Filled in from dark neighbours the lesion scores about 16 x 0.2.
    assert most.scores[0] == pytest.approx(16 * 0.2, abs=0.5)
    assert least.scores[0] == pytest.approx(16 * 0.9, abs=1e-3)
    assert (road_curve(predict, dark, WEIGHT, column=1).scores == most.scores).all()


def test_pointing_on_paper() -> None:
    values = np.zeros((SIDE, SIDE), dtype=np.float32)
    values[3, 9] = 1
    assert pointing_hit(values, REGION)
    values[3, 5] = 2
    assert not pointing_hit(values, REGION)
    assert pointing_hit(values, REGION, tolerance_px=4)
    assert not pointing_hit(values, REGION, tolerance_px=3)


def test_energy_and_iou_on_paper() -> None:
    assert energy_inside(np.ones_like(WEIGHT), REGION) == pytest.approx(16 / 256)
    assert energy_inside(WEIGHT - 0.5, REGION) == 1.0
    assert energy_inside(-WEIGHT, REGION) == 0.0
    assert iou_of_top(WEIGHT, REGION) == 1.0
    shifted = np.roll(WEIGHT, 2, axis=1)
    assert iou_of_top(shifted, REGION) == pytest.approx(8 / 24)
    assert iou_of_top(-WEIGHT, REGION) == 0.0
    beside = localisation(IMAGE, WEIGHT, REGION)
    assert beside["map"] == {"pointing_hit": 1.0, "energy_inside": 1.0, "iou_of_top": 1.0}
    assert all(beside[name]["energy_inside"] < 0.5 for name in ("random", "centre", "edge"))


def test_gini_on_paper() -> None:
    one = np.zeros((4, 5), dtype=np.float32)
    one[2, 2] = -3
    assert gini(one) == pytest.approx(1 - 1 / 20)
    assert gini(np.full((4, 5), 0.7, dtype=np.float32)) == pytest.approx(0, abs=1e-12)
    assert gini(np.array([[1, 3]], dtype=np.float32)) == pytest.approx(0.25)
    assert gini(np.zeros((4, 5), dtype=np.float32)) == 0.0


def test_max_sensitivity_on_paper() -> None:
    # A map that is the image itself moves by at most radius x sqrt(n) / |image|; one that ignores it, not at all.
    grey = np.full((10, 10), 0.5, dtype=np.float32)
    value = max_sensitivity(lambda image: image, grey, radius=0.1, count=20)
    assert 0.5 * 0.2 < value < 0.2
    assert max_sensitivity(lambda image: WEIGHT, IMAGE) == 0.0
    assert value == max_sensitivity(lambda image: image, grey, radius=0.1, count=20)
    with pytest.raises(InputError, match="empty"):
        max_sensitivity(lambda image: 0 * image, grey)


def test_baselines_know_nothing_of_the_model() -> None:
    maps = baseline_maps(IMAGE)
    assert list(maps) == ["random", "centre", "edge"]
    centre = np.unravel_index(maps["centre"].argmax(), IMAGE.shape)
    assert set(centre) <= {7, 8}
    assert (maps["random"] == baseline_maps(IMAGE)["random"]).all()
    assert (maps["random"] != baseline_maps(IMAGE, seed=1)["random"]).any()
    step = np.zeros((20, 20), dtype=np.float32)
    step[:, 10:] = 1
    assert set(baseline_maps(step)["edge"].argmax(axis=1)) <= {9, 10}


def test_refusals() -> None:
    with pytest.raises(InputError, match="one frame"):
        deletion_curve(predict, IMAGE, WEIGHT[1:], column=1, background=BLACK)
    with pytest.raises(InputError, match="logits"):
        deletion_curve(predict, IMAGE, WEIGHT, column=2, background=BLACK)
    with pytest.raises(InputError, match="steps"):
        insertion_curve(predict, IMAGE, WEIGHT, column=1, background=BLACK, steps=0)
