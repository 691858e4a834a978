"""What networks say, their size and their speed; conformal limits that keep what the card promises."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch absent: install storyxai[teach]")

from storyxai.metrics.calibration import ConformalLimits, conformal_coverage, conformal_sets
from storyxai.training.calibrate import calibrate, conformal_limits
from storyxai.training.outputs import _apart, network_outputs, network_size, network_speeds
from teaching_examples import tiny_network, toy_examples


def test_outputs_hold_features_grids_and_outlines_row_by_row() -> None:
    examples, network = toy_examples(6), tiny_network()
    said = network_outputs(network, examples)
    assert said.features is not None and said.grid is not None and said.apart is not None and said.logits is not None
    assert said.features.shape == (6, network.spec.width)
    assert said.grid.shape == (6, 3, 4, 4)
    assert said.apart.shape == (6, 3, 2)
    # The pooled logit lies between the grid's mean and its maximum.
    cells = said.grid.reshape(6, 3, -1)
    assert (said.logits <= cells.max(axis=2) + 1e-5).all() and (said.logits >= cells.mean(axis=2) - 1e-5).all()
    assert np.isnan(said.apart[:, 2]).all()  # the toy set knows no heart


def test_outlines_apart_by_hand_and_not_where_one_mask_is_empty() -> None:
    drawn, masks = np.zeros((1, 3, 16, 16), dtype=bool), np.zeros((1, 3, 16, 16), dtype=np.uint8)
    drawn[0, 0, 2:8, 2:8], masks[0, 0, 2:8, 5:11] = True, 1
    drawn[0, 1, 2:8, 2:8] = True
    found = _apart(drawn, masks)
    assert found[0, 0, 1] == 3.0 and 0.0 < found[0, 0, 0] < 3.0
    assert np.isnan(found[0, 1]).all()
    assert found[0, 2].tolist() == [0.0, 0.0]  # both empty


def test_size_counts_every_number_and_speed_is_beside_the_first() -> None:
    student, teacher = tiny_network(), tiny_network(tasks=("findings",), seed=1)
    size = network_size(student)
    assert size["parameters"] == sum(p.numel() for p in student.parameters())
    assert size["bytes"] > 4 * size["parameters"]  # running means of normalisation come on top
    steps = iter([0.0, 1.0, 1.0, 2.0, 2.0, 6.0, 6.0, 10.0])  # student 1 s a batch, teacher 4 s
    found = network_speeds(
        {"student": student, "teacher": teacher}, toy_examples(6), clock=lambda: next(steps), batches=2, batch_size=4
    )
    ours, theirs = found["models"]
    assert (ours["images_per_second"], theirs["images_per_second"]) == (4.0, 1.0)
    assert (ours["student_times_faster"], theirs["student_times_faster"]) == (None, 4.0)


def test_conformal_limits_cover_their_own_cases_and_promise_nothing_of_too_few() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.3).astype(np.float32)
    said = np.clip(0.5 + 0.25 * (labels - 0.5) + 0.2 * rng.normal(size=400), 0.0, 1.0)
    present, absent, level = conformal_limits(said, labels)
    covered = conformal_coverage(conformal_sets(ConformalLimits(present, absent, level), said), labels)
    for name in ("present", "absent"):
        assert level <= covered[f"{name}_coverage"] < level + 0.03
    assert conformal_limits(said[:5], np.array([1, 1, 0, 0, 0], dtype=np.float32)) == (1.0, 1.0, level)
    logits = np.log(np.clip(said, 0.01, 0.99) / (1 - np.clip(said, 0.01, 0.99)))[:, None].astype(np.float32)
    found = calibrate(logits, labels[:, None], [str(i) for i in range(400)], findings=("a",), data="toy", replicates=5)["a"]
    assert found.conformal is not None and found.conformal[2] == level
