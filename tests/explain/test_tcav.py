"""Concept activation vectors: closed forms, captum's TCAV on the same vectors, and a test that keeps its level."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storyxai.errors import InputError
from storyxai.explain.contract import Look
from storyxai.explain.tcav import TcavSettings, concept_vector, derivatives, pooled_features, pooled_gradients, tcav

FEW = TcavSettings(controls=12, chance=150)


def test_the_vector_is_the_ridge_solution_in_primal_form() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(size=(12, 5)) + np.array([1, 0, 0, -0.5, 0]), rng.normal(size=(9, 5)) * [1, 1, 4, 1, 1]
    x = np.concatenate([positive, negative])
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    y = np.array([1.0] * 12 + [-1.0] * 9)
    weights = np.linalg.solve(scaled.T @ scaled + 0.7 * 21 * np.eye(5), scaled.T @ (y - y.mean())) / x.std(axis=0)
    expected = weights / np.linalg.norm(weights)
    np.testing.assert_allclose(concept_vector(positive, negative, ridge=0.7), expected, atol=1e-12)


def test_a_channel_that_never_moves_has_no_part_in_the_vector() -> None:
    rng = np.random.default_rng(1)
    positive, negative = rng.normal(size=(10, 3)), rng.normal(size=(10, 3))
    positive[:, 1] = negative[:, 1] = 2.0
    assert concept_vector(positive, negative)[1] == 0.0
    assert not concept_vector(np.ones((4, 2)), np.ones((4, 2))).any()


def test_a_step_along_a_vector_in_every_cell_moves_the_logit_by_the_derivative() -> None:
    """z = mean over cells of relu(features) weighted: its pooled gradient is the derivative of adding t v everywhere."""
    rng = np.random.default_rng(2)
    features, weights, v = rng.normal(size=(4, 3, 3)) + 2, rng.normal(size=4), rng.normal(size=4)
    gradients = np.broadcast_to((weights / 9)[:, None, None], (4, 3, 3)) * (features > 0)
    look = Look(np.zeros(1, np.float32), features.astype(np.float32), gradients[None].astype(np.float32))

    def logit(step: float) -> float:
        return float(np.maximum(features + step * v[:, None, None], 0).mean(axis=(1, 2)) @ weights)

    slope = (logit(1e-5) - logit(-1e-5)) / 2e-5
    found = derivatives(pooled_gradients(look)[None], v[None])[0, 0, 0]
    assert found == pytest.approx(slope, rel=1e-5)
    np.testing.assert_allclose(pooled_features(look), features.mean(axis=(1, 2)), rtol=1e-6)


def test_a_planted_concept_is_found_and_one_that_the_finding_ignores_is_chance() -> None:
    """Finding 0 reads channel 0, finding 1 channel 3; the concept moves channel 0 and leaves channel 3 alone."""
    rng = np.random.default_rng(3)
    others = rng.normal(size=(80, 24))
    concepts = {"moves_0": rng.normal(size=(30, 24)) + 4 * np.eye(24)[0], "nothing": rng.normal(size=(30, 24))}
    gradients = np.zeros((50, 2, 24))
    gradients[:, 0, 0] = 1 + 0.1 * rng.normal(size=50)
    gradients[:, 1, 3] = 1 + 0.1 * rng.normal(size=50)
    found = tcav(concepts, others, gradients, np.ones((50, 2), bool), FEW)
    planted, nothing = found["moves_0"], found["nothing"]
    assert planted.score[0] == 1 and planted.p_value[0] == pytest.approx(2 / 151) and planted.effect[0] > 1
    assert planted.separable > 0.7
    assert planted.p_value[1] > 0.05 and min(nothing.p_value) > 0.05 and 0.2 < nothing.separable < 0.8
    assert abs(planted.vector[0]) > 0.7 and np.linalg.norm(planted.vector) == pytest.approx(1)


def test_random_concepts_are_rarely_called_significant() -> None:
    """The family-wise level over findings holds: of 40 concepts that are none, few fall below 0.05 anywhere."""
    false = 0
    for seed in range(40):
        rng = np.random.default_rng(100 + seed)
        gradients = rng.normal(size=(1, 8, 10)) + 0.2 * rng.normal(size=(20, 8, 10))
        settings = TcavSettings(controls=4, chance=60, seed=seed)
        concepts, others = {"none": rng.normal(size=(15, 10))}, rng.normal(size=(60, 10))
        found = tcav(concepts, others, gradients, np.ones((20, 8), bool), settings)
        false += min(found["none"].p_value) < 0.05
    assert false <= 6  # 0.05 * 40 is 2; seven or more have a chance below 1 in 200


def test_the_same_seed_gives_the_same_numbers_and_only_judged_images_count() -> None:
    rng = np.random.default_rng(5)
    concepts, others = {"a": rng.normal(size=(12, 4)) + 1}, rng.normal(size=(40, 4))
    gradients, judged = rng.normal(size=(20, 3, 4)), np.zeros((20, 3), bool)
    judged[:7] = True
    one, two = (tcav(concepts, others, gradients, judged, FEW)["a"] for _ in range(2))
    cut = tcav(concepts, others, gradients[:7], judged[:7], FEW)["a"]
    for field in vars(one):
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
        np.testing.assert_allclose(getattr(one, field), getattr(cut, field), atol=1e-12)


def test_three_images_are_no_concept_and_others_must_be_twice_as_many() -> None:
    rng = np.random.default_rng(6)
    gradients, judged = np.ones((5, 1, 2)), np.ones((5, 1), bool)
    with pytest.raises(InputError, match="concept 'few': has 3 images — give 10 or more, best 50"):
        tcav({"few": rng.normal(size=(3, 2))}, rng.normal(size=(40, 2)), gradients, judged, FEW)
    with pytest.raises(InputError, match="are 12, the smallest concept has 10 — give 20 or more"):
        tcav({"ten": rng.normal(size=(10, 2))}, rng.normal(size=(12, 2)), gradients, judged, FEW)
    shut = Look(np.zeros(1, np.float32), np.zeros((2, 1, 1), np.float32), None)
    with pytest.raises(InputError, match="need gradients"):
        pooled_gradients(shut)


def test_captum_gives_the_same_scores_on_the_same_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle: captum's TCAV, given our classifier, counts the same signs and magnitudes behind a non-linear head."""
    torch = pytest.importorskip("torch")
    concept = pytest.importorskip("captum.concept")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2),
    ).eval()
    bright, plain = torch.rand(14, 1, 8, 8) + 0.8, torch.rand(14, 1, 8, 8)
    films = torch.rand(25, 1, 8, 8) * torch.linspace(0.2, 3, 25)[:, None, None, None]

    class Ours(concept.Classifier):  # type: ignore[misc]
        def __init__(self) -> None:
            self.vector = torch.zeros(0)

        def train_and_eval(self, dataloader: Any, **_: Any) -> dict[str, Any]:
            x, y = (torch.cat(parts) for parts in zip(*dataloader, strict=True))
            sides = [x[y == label].double().numpy() for label in sorted(set(y.tolist()))]
            self.vector = torch.tensor(concept_vector(*sides))
            return {"accs": torch.tensor(1.0)}

        def weights(self) -> Any:
            return torch.stack([self.vector, -self.vector]).float()

        def classes(self) -> list[int]:
            return [0, 1]

    def loaded(images: Any) -> Any:
        return torch.utils.data.DataLoader(images, batch_size=len(images))

    sets = [concept.Concept(0, "bright", loaded(bright)), concept.Concept(1, "plain", loaded(plain))]
    theirs = concept.TCAV(net, ["2"], classifier=Ours(), save_path=str(tmp_path) + os.sep)
    for target in range(2):
        found = theirs.interpret(films, [sets], target=target)["0-1"]["2"]
        with torch.no_grad():
            ours_at, theirs_at = (net[:3](some).flatten(1).double().numpy() for some in (bright, plain))
        vector = concept_vector(ours_at, theirs_at)
        pooled = net[:3](films).flatten(1).detach().requires_grad_(True)
        net[4:](pooled)[:, target].sum().backward()
        along = derivatives(pooled.grad.double().numpy()[:, None], vector[None])[0, :, 0]
        assert float(found["sign_count"][0]) == pytest.approx((along > 0).mean(), abs=1e-6)
        assert float(found["magnitude"][0]) == pytest.approx(along[along > 0].sum() / len(along), abs=1e-5)
