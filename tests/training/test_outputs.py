"""What networks say, their size and their speed; conformal limits that keep what the card promises."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch absent: install storyxai[teach]")
import torch

from storyxai.metrics.calibration import ConformalLimits, conformal_coverage, conformal_sets
from storyxai.models.export import as_session
from storyxai.training.calibrate import Resampling, calibrate, conformal_limits
from storyxai.training.outputs import _apart, network_outputs, network_size, network_speeds
from teaching_examples import FEW_LAYERS, tiny_network, toy_examples


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
    drawn[0, 0, 2:8, 2:8], masks[0, 0, 2:8, 5:11] = True, 100
    drawn[0, 1, 2:8, 2:8] = True
    found = _apart(drawn, masks)
    assert found[0, 0, 1] == 3.0 and 0.0 < found[0, 0, 0] < 3.0
    assert np.isnan(found[0, 1]).all()
    assert found[0, 2].tolist() == [0.0, 0.0]  # both empty


@pytest.mark.slow
def test_size_counts_every_number_and_speed_is_beside_the_first() -> None:
    student, teacher = tiny_network(), tiny_network(tasks=("findings",), seed=1)
    size = network_size(student)
    assert size["parameters"] == sum(p.numel() for p in student.parameters())
    assert size["bytes"] > 4 * size["parameters"]  # running means of normalisation come on top
    # Two batches a row: the student takes 0.5 s for one image and 1 s for four, the teacher 1 s and 4 s.
    spans = [0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 4.0, 4.0]
    steps = iter([edge for row, span in enumerate(spans) for edge in (10.0 * row, 10.0 * row + span)])
    found = network_speeds(
        {"student": student, "teacher": teacher}, toy_examples(6), clock=lambda: next(steps), batches=2, batch_sizes=(1, 4)
    )
    told = [(row["name"], row["batch_size"], row["images_per_second"], row["student_times_faster"]) for row in found["models"]]
    assert told == [("student", 1, 2.0, None), ("student", 4, 4.0, None), ("teacher", 1, 1.0, 2.0), ("teacher", 4, 1.0, 4.0)]


@pytest.mark.parametrize("tasks", [("masks",), pytest.param(("report",), marks=pytest.mark.slow)])
def test_a_session_answers_as_its_network_does(tasks: tuple[str, ...]) -> None:
    network = tiny_network(tasks=tasks, encoder=FEW_LAYERS).eval()
    images = torch.rand(3, 1, network.spec.size, network.spec.size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network(images)
    heads = {"logits": expected.logits, "masks": expected.masks, "memory": expected.memory}
    session = as_session(network)
    names = [output.name for output in session.get_outputs()]
    assert names == [name for name, head in heads.items() if head is not None]
    for name, answer in zip(names, session.run(None, {"images": images.numpy()}), strict=True):
        assert np.allclose(answer, heads[name].numpy(), atol=1e-4)


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
    who = [str(i) for i in range(400)]
    found = calibrate(logits, labels[:, None], who, findings=("a",), data="toy", resampling=Resampling(5))["a"]
    assert found.conformal is not None and found.conformal[2] == level
