"""Balancers on two quadratic tasks whose gradients are known on paper."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from storyxai.data.batches import make_batch
from storyxai.errors import OutputError, RecipeError
from storyxai.models.network import Network
from storyxai.training.balance import (
    BALANCES,
    GRADIENT_BALANCES,
    conflict_plot,
    conflict_row,
    gradient_conflict,
    make_balancer,
    shared_parameters,
)
from storyxai.training.losses import finding_loss, mask_loss, token_loss
from teaching_examples import tiny_network, toy_examples

CAN_CAGRAD = importlib.util.find_spec("cvxpy") is not None
USABLE = [name for name in BALANCES if CAN_CAGRAD or not name.startswith("cagrad")]
EVEN = {"a": 1.0, "b": 1.0}


class Toy(nn.Module):
    """Two shared numbers and one head a task; the losses are linear in them, so gradients are the given rows."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros((), dtype=torch.float64)) for _ in rows)
        self.rows = torch.tensor(rows, dtype=torch.float64)

    def losses(self) -> tuple[dict[str, Tensor], Tensor]:
        features = self.shared * 1.0
        made = {name: self.rows[i] @ features + 5 * self.heads[i] + 1 for i, name in enumerate("abcd"[: len(self.rows)])}
        return made, features


def gradient_of(name: str, rows: list[list[float]], weights: dict[str, float] | None = None) -> list[float]:
    toy = Toy(rows)
    losses, features = toy.losses()
    make_balancer(name, weights or dict.fromkeys(losses, 1.0)).backward(losses, toy, features)
    assert toy.shared.grad is not None
    return toy.shared.grad.tolist()


def test_fixed_is_the_weighted_sum_and_adds_to_what_is_there() -> None:
    toy = Toy([[1, 0], [-1, 2]])
    losses, features = toy.losses()
    toy.shared.grad = torch.ones(2, dtype=torch.float64)
    used = make_balancer("fixed", {"a": 2.0, "b": 3.0}).backward(losses, toy, features)
    assert used == {"a": 2.0, "b": 3.0}
    assert toy.shared.grad.tolist() == [1 + 2 - 3, 1 + 6]
    assert [head.grad.item() for head in toy.heads if head.grad is not None] == [10.0, 15.0]


def test_pcgrad_takes_the_conflicting_part_away() -> None:
    # g1 = (1, 0), g2 = (-1, 1): g1 . g2 = -1; g1' = g1 + g2 / 2 = (1/2, 1/2); g2' = g2 + g1 = (0, 1); the sum is (1/2, 3/2).
    assert gradient_of("pcgrad", [[1, 0], [-1, 1]]) == pytest.approx([0.5, 1.5])


def test_upgrad_sums_the_projections_on_the_dual_cone() -> None:
    # With two tasks the projection of each gradient on the other's half-space is also UPGrad's: as on paper above.
    assert gradient_of("upgrad", [[1, 0], [-1, 1]]) == pytest.approx([0.5, 1.5], abs=1e-5)


def test_mgda_is_twice_the_shortest_vector_of_the_hull() -> None:
    # Between (1, 0) and (0, 2) the point nearest to 0 has weight 4/5 on the first: (4/5, 2/5); times two tasks.
    assert gradient_of("mgda", [[1, 0], [0, 2]]) == pytest.approx([1.6, 0.8], abs=1e-2)


def test_imtl_g_projects_alike_on_every_task() -> None:
    rows = torch.tensor([[3.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)
    direction = torch.tensor(gradient_of("imtl-g", rows.tolist()), dtype=torch.float64)
    along = rows @ direction / rows.norm(dim=1)
    assert along[0].item() == pytest.approx(along[1].item()) and along[0] > 0


@pytest.mark.parametrize("name", [name for name in USABLE if name.startswith(("upgrad", "dualproj", "mgda"))])
@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_no_task_is_made_worse(name: str, scale: float) -> None:
    rows = torch.tensor([[8.0, 0.0], [-1.0, 2.0], [1.0, 1.0]], dtype=torch.float64) * scale
    assert (rows @ rows.sum(dim=0)).min() < -1.9 * scale**2  # the plain sum does make one worse
    along = rows @ torch.tensor(gradient_of(name, rows.tolist()), dtype=torch.float64)
    assert along.min() > -1e-3 * scale**2 and along.max() > 0


@pytest.mark.parametrize("name", [name for name in USABLE if name not in {"uncertainty", "dwa"}])
def test_tasks_at_right_angles_and_alike_are_added(name: str) -> None:
    assert gradient_of(name, [[2, 0], [0, 2]]) == pytest.approx([2, 2], rel=0.6 if name.startswith("cagrad") else 1e-4)


@pytest.mark.parametrize("name", [name for name in USABLE if name.removesuffix("-features") in GRADIENT_BALANCES])
def test_a_silent_task_has_no_say(name: str) -> None:
    toy = Toy([[1, 0], [0, 1]])
    losses, features = toy.losses()
    losses["b"] = features.sum() * 0.0
    used = make_balancer(name, EVEN).backward(losses, toy, features)
    assert toy.shared.grad is not None and toy.shared.grad.tolist() == pytest.approx([1, 0]) and used["a"] == 1.0


def test_each_head_keeps_its_own_gradient_under_aggregation() -> None:
    toy = Toy([[1, 0], [-1, 1]])
    losses, features = toy.losses()
    used = make_balancer("upgrad", {"a": 2.0, "b": 1.0}).backward(losses, toy, features)
    assert [head.grad.item() for head in toy.heads if head.grad is not None] == [10.0, 5.0]
    # g1 = (2, 0), g2 = (-1, 1): g1' = g1 + g2, g2' = g2 + g1 / 2; together 3/2 g1 + 2 g2.
    assert used == pytest.approx({"a": 3.0, "b": 2.0}, abs=1e-5)


def test_what_goes_past_the_features_counts_on_parameters() -> None:
    # Task b reads the shared numbers directly, past `features`: the gradient on parameters must still know it.
    toy = Toy([[1, 0], [0, 0]])
    losses, features = toy.losses()
    losses["b"] = losses["b"] + toy.shared @ torch.tensor([-1.0, 1.0], dtype=torch.float64)
    make_balancer("pcgrad", EVEN).backward(losses, toy, features)
    assert toy.shared.grad is not None and toy.shared.grad.tolist() == pytest.approx([0.5, 1.5])


def test_pcgrad_draws_alike_again_and_leaves_the_callers_generator() -> None:
    rows = [[1.0, 0.0], [-1.0, 0.5], [-0.6, -1.0]]
    toy, drawn = Toy(rows), []
    balancer = make_balancer("pcgrad", dict.fromkeys("abc", 1.0), seed=4)
    before = torch.random.get_rng_state()
    for _ in range(6):
        toy.zero_grad()
        losses, features = toy.losses()
        balancer.backward(losses, toy, features)
        assert toy.shared.grad is not None
        drawn.append(toy.shared.grad.tolist())
    assert torch.equal(before, torch.random.get_rng_state())
    assert len({tuple(one) for one in drawn}) > 1  # the order of projection matters here
    resumed = make_balancer("pcgrad", dict.fromkeys("abc", 1.0), seed=4)
    resumed.load_state_dict({"step": 3.0})
    toy.zero_grad()
    losses, features = toy.losses()
    resumed.backward(losses, toy, features)
    assert toy.shared.grad is not None and toy.shared.grad.tolist() == drawn[3]


def test_uncertainty_rests_where_the_spread_is_the_log_of_the_loss() -> None:
    balancer = make_balancer("uncertainty", {"a": 1.0, "b": 0.2})
    (spread,) = balancer.parameters()
    for _ in range(300):
        spread.grad = None
        features = torch.zeros(1, requires_grad=True)
        used = balancer.backward({"a": features.sum() + 3.0, "b": features.sum() + 0.25}, nn.Identity(), features)
        assert spread.grad is not None
        with torch.no_grad():
            spread.sub_(spread.grad, alpha=0.5)
    assert spread.tolist() == pytest.approx([math.log(3.0), math.log(0.25)], abs=1e-4)
    assert used == pytest.approx({"a": 1 / 3, "b": 0.2 / 0.25}, rel=1e-3)
    again = make_balancer("uncertainty", {"a": 1.0, "b": 0.2})
    again.load_state_dict(balancer.state_dict())
    assert again.parameters()[0].tolist() == spread.tolist()


def test_uncertainty_learns_nothing_of_a_task_the_batch_does_not_know() -> None:
    balancer = make_balancer("uncertainty", EVEN)
    features = torch.zeros(1, requires_grad=True)
    balancer.backward({"a": features.sum() + 3.0, "b": features.sum() * 0.0}, nn.Identity(), features)
    (spread,) = balancer.parameters()
    assert spread.grad is not None and spread.grad.tolist() == [1.0 - 3.0, 0.0]


def test_dynamic_average_on_paper() -> None:
    balancer = make_balancer("dwa", {"a": 1.0, "b": 10.0})
    features = torch.zeros(1, requires_grad=True)
    losses = {"a": features.sum(), "b": features.sum()}

    def used() -> dict[str, float]:
        return balancer.backward(losses, nn.Identity(), features)

    assert used() == {"a": 1.0, "b": 10.0}
    balancer.end_epoch({"a": 2.0, "b": 4.0})
    assert used() == {"a": 1.0, "b": 10.0}
    balancer.end_epoch({"a": 1.0, "b": 4.0})  # r = 1/2 and 1, temperature 2
    first, second = math.exp(0.25), math.exp(0.5)
    share = {"a": 2 * first / (first + second), "b": 20 * second / (first + second)}
    assert used() == pytest.approx(share)
    again = make_balancer("dwa", {"a": 1.0, "b": 10.0})
    again.load_state_dict(balancer.state_dict())
    assert again.backward(losses, nn.Identity(), features) == pytest.approx(share)


def test_conflict_is_the_cosine_of_the_tasks_gradients() -> None:
    toy = Toy([[1, 0], [-1, 1], [0, 3]])
    losses, features = toy.losses()
    cosines = gradient_conflict(losses | {"silent": features.sum() * 0.0}, [toy.shared])
    half = math.sqrt(0.5)
    expected = torch.tensor([[1, -half, 0], [-half, 1, half], [0, half, 1]], dtype=torch.float64)
    assert torch.allclose(cosines[:3, :3], expected) and cosines[3].isnan().all() and cosines[:, 3].isnan().all()
    assert toy.shared.grad is None
    losses["a"].backward()  # the graph is still there


def test_conflict_plot_writes_a_picture_or_says_why_not(tmp_path: Path) -> None:
    history = [{"loss": 2.0, "conflict_findings_masks": c, "conflict_masks_report": c + 0.3} for c in (0.4, -0.2, math.nan)]
    conflict_plot([*history, {"loss": 1.0}, history[1]], tmp_path / "conflict.png")
    assert (tmp_path / "conflict.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OutputError, match="writable folder"):
        conflict_plot(history, tmp_path / "absent" / "conflict.png")


def real_losses(network: Network) -> tuple[dict[str, Tensor], Tensor]:
    batch = make_batch(toy_examples(3), np.arange(3), 0)
    said = network(batch.images)
    words = network.decoder(batch.tokens[:, :-1], said.memory)
    losses = {"findings": finding_loss(said.logits, batch.labels), "masks": mask_loss(said.masks, batch.masks)}
    return losses | {"report": token_loss(words, batch.tokens)}, said.features


def test_shared_is_what_two_tasks_of_our_network_reach() -> None:
    network = tiny_network()
    losses, _ = real_losses(network)
    parameters = list(network.parameters())
    reached = [torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) for loss in losses.values()]
    counts = [sum(g is not None for g in gradients) for gradients in zip(*reached, strict=True)]
    shared = {id(p) for p in shared_parameters(network)}
    assert shared == {id(p) for p, count in zip(parameters, counts, strict=True) if count > 1} and shared
    row = conflict_row(losses, shared_parameters(network))
    assert list(row) == ["conflict_findings_masks", "conflict_findings_report", "conflict_masks_report"]
    assert all(-1 <= cosine <= 1 for cosine in row.values())


@pytest.mark.parametrize("name", ["upgrad", "pcgrad", "upgrad-features"])
def test_on_our_network_the_gradient_is_the_sum_with_the_factors_used(name: str) -> None:
    network, weights = tiny_network(), {"findings": 1.0, "masks": 0.5, "report": 0.3}
    losses, features = real_losses(network)
    used = make_balancer(name, weights).backward(losses, network, features)
    ours = [p.grad.clone() for p in shared_parameters(network) if p.grad is not None]
    head = network.mask_head.weight.grad
    network.zero_grad()
    losses, _ = real_losses(network)
    torch.stack([used[task] * loss for task, loss in losses.items()]).sum().backward()
    assert len(ours) == len(shared_parameters(network))
    for one, parameter in zip(ours, shared_parameters(network), strict=True):
        assert parameter.grad is not None and torch.allclose(one, parameter.grad, rtol=1e-3, atol=1e-5)
    scale = 1.0 if name.endswith("features") else weights["masks"] / used["masks"]
    assert head is not None and torch.allclose(head, network.mask_head.weight.grad * scale, rtol=1e-3, atol=1e-6)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'pcgrad'"):
        make_balancer("pcgrd", EVEN)
    features = torch.zeros(1, requires_grad=True)
    with pytest.raises(RecipeError, match=r"'c'.*a, b"):
        make_balancer("fixed", EVEN).backward({"c": features.sum()}, nn.Identity(), features)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if not CAN_CAGRAD:
        with pytest.raises(RecipeError, match=r"torchjd\[cagrad\]"):
            make_balancer("cagrad", EVEN)
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(RecipeError, match=r"storyxai\[teach\]"):
        make_balancer("upgrad", EVEN)
    assert make_balancer("fixed", EVEN).parameters() == []
