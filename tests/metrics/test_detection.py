"""Boxes by hand, and average precision against a slow twin written from its definition."""

from __future__ import annotations

import numpy as np
import pytest
from tests.metrics.by_value import row_statistic

from storyxai.errors import InputError
from storyxai.metrics.bootstrap import bootstrap_interval, draw_resamples, value_of
from storyxai.metrics.detection import (
    IOU_LIMITS,
    box_iou,
    detection_ap_statistic,
    free_response_statistic,
    hit_rows,
    match_boxes,
    top_box_iou_rows,
)


def test_iou_by_hand() -> None:
    boxes = [[0, 0, 4, 4], [2, 0, 4, 4], [10, 10, 1, 1]]
    np.testing.assert_allclose(box_iou(boxes, boxes[:2]), [[1, 8 / 24], [8 / 24, 1], [0, 0]])
    assert box_iou([[1, 1, 0, 0]], [[1, 1, 0, 0]]) == 0.0
    assert box_iou([], boxes).shape == (0, 3)
    assert box_iou([[0, 0, 2, 2]], [[2, 0, 2, 2]]) == 0.0  # they touch and share nothing


def test_iou_is_that_of_drawn_pixels() -> None:
    rng = np.random.default_rng(1)
    boxes = np.concatenate([rng.integers(0, 20, (8, 2)), rng.integers(1, 15, (8, 2))], axis=1)
    drawn = np.zeros((8, 40, 40), dtype=bool)
    for number, (x, y, width, height) in enumerate(boxes):
        drawn[number, y : y + height, x : x + width] = True
    shared = (drawn[:, None] & drawn[None]).sum(axis=(2, 3))
    joint = (drawn[:, None] | drawn[None]).sum(axis=(2, 3))
    np.testing.assert_allclose(box_iou(boxes, boxes), shared / joint)


def test_a_point_hits_where_a_box_holds_it() -> None:
    references = [[[6, 3, 1, 1]], [[0, 0, 2, 2], [6, 3, 1, 1]], [[0, 0, 2, 2]], [], None, [[0, 0, 9, 9]]]
    points = [(6.5, 3.5)] * 5 + [(np.nan, np.nan)]
    np.testing.assert_array_equal(hit_rows(points, references), [1, 1, 0, np.nan, np.nan, 0])


def test_a_random_peak_hits_as_often_as_the_box_is_large() -> None:
    rng = np.random.default_rng(2)
    hits = hit_rows(rng.random((4000, 2)) * 100, [[[20, 30, 50, 40]]] * 4000)
    assert hits.mean() == pytest.approx(0.2, abs=0.02)


def test_top_box_overlap() -> None:
    predicted = [[[0, 0, 4, 4, 0.2], [2, 0, 4, 4, 0.9]], [], [[0, 0, 4, 4, 0.5]], [[0, 0, 1, 1, 1.0]]]
    references = [[[0, 0, 4, 4]], [[0, 0, 4, 4]], [[9, 9, 1, 1], [0, 0, 4, 4]], None]
    np.testing.assert_allclose(top_box_iou_rows(predicted, references), [8 / 24, 0, 1, np.nan])


def average_precision_of_boxes(
    predicted: list[list[list[float]]], references: list[list[list[float]] | None], *, iou_limit: float = 0.5
) -> float | None:
    return value_of(detection_ap_statistic(match_boxes(predicted, references, iou_limit=iou_limit)), len(references))


def test_average_precision_by_hand() -> None:
    """Ranked: hit, false, hit of three boxes: envelope 1 up to recall 1/3, 2/3 up to 2/3, 0 beyond."""
    box, far = [0, 0, 4, 4], [50, 50, 4, 4]
    predicted = [[[*box, 0.9], [*far, 0.8]], [[*box, 0.7]], []]
    assert average_precision_of_boxes(predicted, [[box], [box], [box]]) == pytest.approx((1 + 2 / 3) / 3)
    assert average_precision_of_boxes(predicted, [[], [], []]) is None
    assert average_precision_of_boxes([[]], [[box]]) == 0.0


def test_a_box_is_found_once_and_unsearched_images_count_nothing() -> None:
    box = [0, 0, 4, 4]
    twice = match_boxes([[[*box, 0.9], [*box, 0.8]]], [[box]])
    assert twice.hit.tolist() == [True, False]
    unsearched = match_boxes([[[*box, 0.9]], [[*box, 0.8]]], [None, [box]])
    assert (unsearched.hit.tolist(), unsearched.image.tolist()) == ([True], [1])
    searched_and_empty = match_boxes([[[*box, 0.9]], [[*box, 0.8]]], [[], [box]])
    assert searched_and_empty.hit.tolist() == [False, True]


def scene(seed: int) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    rng = np.random.default_rng(seed)
    predicted, references = [], []
    for image in range(25):
        true = np.concatenate([rng.uniform(0, 60, (rng.integers(0, 3), 2)), np.full((0, 2), 0.0)])
        true = np.concatenate([true, rng.uniform(10, 30, (len(true), 2))], axis=1)
        near = true + rng.normal(0, 3, true.shape)
        wild = np.concatenate([rng.uniform(0, 60, (2, 2)), rng.uniform(10, 30, (2, 2))], axis=1)
        drawn = np.concatenate([near, wild])
        predicted.append(np.column_stack([drawn, np.round(rng.random(len(drawn)), 2)]))
        references.append(None if image % 7 == 3 else true)
    return predicted, references


def slow_average_precision(
    predicted: list[np.ndarray], references: list[np.ndarray | None], limit: float
) -> float | None:
    """Straight from the definition: match in order of score over all images, then integrate the envelope by recall."""
    every = [
        (box[4], image, box)
        for image, boxes in enumerate(predicted)
        if references[image] is not None
        for box in boxes
    ]
    taken: set[tuple[int, int]] = set()
    outcomes = []
    for score, image, box in sorted(every, key=lambda entry: -entry[0]):
        best, where = 0.0, None
        for number, true in enumerate(references[image]):  # type: ignore[arg-type]
            wide = min(box[0] + box[2], true[0] + true[2]) - max(box[0], true[0])
            high = min(box[1] + box[3], true[1] + true[3]) - max(box[1], true[1])
            shared = max(wide, 0) * max(high, 0)
            overlap = shared / (box[2] * box[3] + true[2] * true[3] - shared)
            if overlap >= limit and overlap > best and (image, number) not in taken:
                best, where = overlap, (image, number)
        if where is not None:
            taken.add(where)
        outcomes.append((score, where is not None))
    total = sum(len(boxes) for boxes in references if boxes is not None)
    points = []
    for score in {score for score, _ in outcomes}:
        kept = [hit for other, hit in outcomes if other >= score]
        points.append((sum(kept) / total, sum(kept) / len(kept)))
    area, before = 0.0, 0.0
    for recall in sorted({recall for recall, _ in points}):
        area += (recall - before) * max(precision for other, precision in points if other >= recall)
        before = recall
    return area


@pytest.mark.parametrize("limit", IOU_LIMITS)
def test_average_precision_agrees_with_the_slow_twin(limit: float) -> None:
    for seed in range(4):
        predicted, references = scene(seed)
        fast = average_precision_of_boxes(predicted, references, iou_limit=limit)
        assert fast == pytest.approx(slow_average_precision(predicted, references, limit), abs=1e-12)


def test_average_precision_of_weights_is_that_of_repeated_images() -> None:
    predicted, references = scene(9)
    weights = draw_resamples([f"p{i:02d}" for i in range(25)], count=20, seed=1).weights(0, 20)
    matches = match_boxes(predicted, references, iou_limit=0.3)

    def repeated(rows: np.ndarray) -> float | None:
        return average_precision_of_boxes([predicted[r] for r in rows], [references[r] for r in rows], iou_limit=0.3)

    slow = row_statistic(repeated)
    np.testing.assert_allclose(detection_ap_statistic(matches)(weights), slow(weights), atol=1e-12)
    found = bootstrap_interval(detection_ap_statistic(matches), [f"p{i:02d}" for i in range(25)], count=100, seed=2)
    assert found.low is not None and found.value is not None and found.low < found.value


def test_free_response_by_hand() -> None:
    """Two searched images, ranked: hit, false, false, hit. One false alarm in two images allows the first two only."""
    box, far = [0, 0, 4, 4], [50, 50, 4, 4]
    predicted = [[[*box, 0.9], [*far, 0.8]], [[*far, 0.7], [*box, 0.6]]]
    matches = match_boxes(predicted, [[box], [box]])
    assert value_of(free_response_statistic(matches, false_alarms_per_image=0.5), 2) == 0.5
    assert value_of(free_response_statistic(matches, false_alarms_per_image=1.0), 2) == 1.0
    assert value_of(free_response_statistic(match_boxes([[]], [[box]]), false_alarms_per_image=1.0), 1) == 0.0


def test_faults_of_the_call_are_named() -> None:
    with pytest.raises(InputError, match="score"):
        match_boxes([[[0, 0, 1, 1]]], [[]])
    with pytest.raises(InputError, match="width"):
        box_iou([[0, 0, 1]], [])
    with pytest.raises(InputError, match="one entry an image"):
        hit_rows([(0.0, 0.0)], [])
    with pytest.raises(InputError, match="above 0"):
        free_response_statistic(match_boxes([], []), false_alarms_per_image=0.0)
