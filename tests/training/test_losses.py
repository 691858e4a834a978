"""Losses by hand, against torch's own and against slow twins; what is not known teaches nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, kl_divergence
from torch.nn import functional as F

from storyxai.training.losses import (
    asymmetric_loss,
    attention_map,
    bernoulli_kl,
    box_loss,
    dice_loss,
    finding_loss,
    focal_loss,
    hint_loss,
    mask_loss,
    token_kl,
    token_loss,
    union_loss,
)

NAN = math.nan
TEMPERATURES = (0.5, 1.0, 2.0, 8.0)


def normal(*shape: int, seed: int = 0, spread: float = 2.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_bernoulli_kl_is_zero_exactly_when_both_agree(temperature: float) -> None:
    logits = normal(5, 7).requires_grad_()
    loss = bernoulli_kl(logits, logits.detach().clone(), temperature)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None and logits.grad.abs().max() < 1e-15
    assert bernoulli_kl(logits.detach(), logits.detach() + 0.5, temperature) > 0


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_bernoulli_kl_is_that_of_torch(temperature: float) -> None:
    student, teacher = normal(5, 7), normal(5, 7, seed=1)
    oracle = kl_divergence(Bernoulli(logits=teacher / temperature), Bernoulli(logits=student / temperature)).mean()
    assert torch.allclose(bernoulli_kl(student, teacher, temperature), oracle, rtol=1e-10)


def test_hot_bernoulli_kl_pulls_logits_together_linearly() -> None:
    # tau^2 d KL / ds = tau (sigmoid(s / tau) - sigmoid(t / tau)), which tends to (s - t) / 4.
    student, teacher, temperature = normal(6).requires_grad_(), normal(6, seed=1), 500.0
    (temperature**2 * bernoulli_kl(student, teacher, temperature) * 6).backward()
    assert student.grad is not None
    assert torch.allclose(student.grad, (student.detach() - teacher) / 4, rtol=1e-3)


def test_bernoulli_kl_of_sure_answers_is_finite() -> None:
    # KL(1 || sigmoid(-80)) = 80 up to exp(-80).
    assert bernoulli_kl(torch.tensor([-80.0]), torch.tensor([80.0])).item() == pytest.approx(80.0)


def _parts_known(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor, known: Tensor) -> None:
    """What is unknown adds nothing to value or gradient, whatever the network says there."""
    holed = target.masked_fill(~known, NAN)
    free = logits.clone().requires_grad_()
    value = loss(free, holed)
    value.backward()
    assert free.grad is not None and torch.isfinite(free.grad).all() and torch.isfinite(value)
    assert (free.grad[~known] == 0).all() and free.grad[known].abs().sum() > 0
    shouted = torch.where(known, logits, torch.full_like(logits, 9.0))
    assert torch.allclose(loss(shouted, holed), value.detach())
    silent = logits.clone().requires_grad_()
    nothing = loss(silent, torch.full_like(target, NAN))
    nothing.backward()
    assert nothing.item() == 0.0 and silent.grad is not None and (silent.grad == 0).all()


@pytest.mark.parametrize("loss", [bernoulli_kl, finding_loss, focal_loss, asymmetric_loss, box_loss])
def test_unknown_entries_teach_nothing(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    target = (normal(3, 4, 2, 2, seed=2) > 0).double()
    _parts_known(loss, normal(3, 4, 2, 2), target, normal(3, 4, 2, 2, seed=3) > 0)


def test_unknown_pixels_teach_nothing() -> None:
    target = (normal(2, 3, 4, 4, seed=2) > 0).double()
    _parts_known(mask_loss, normal(2, 3, 4, 4), target, normal(2, 3, 4, 4, seed=3) > 0)


def test_unknown_union_pixels_teach_nothing() -> None:
    logits = normal(2, 3, 4, 4).requires_grad_()
    union = (normal(2, 4, 4, seed=2) > 0).double()
    union[0, :2] = NAN
    union_loss(logits, union).backward()
    assert logits.grad is not None
    assert (logits.grad[0, :, :2] == 0).all() and (logits.grad[:, 2] == 0).all()  # the heart is no lung
    assert logits.grad[0, :2, 2:].abs().min() > 0
    assert union_loss(logits, torch.full_like(union, NAN)).item() == 0.0


def test_finding_loss_by_hand() -> None:
    # Logit 0 costs ln 2 either way; a positive of weight 3 counts three times.
    logits, labels = torch.zeros(1, 3), torch.tensor([[1.0, 0.0, NAN]])
    assert finding_loss(logits, labels).item() == pytest.approx(math.log(2))
    assert finding_loss(logits, labels, torch.tensor([3.0, 3.0, 3.0])).item() == pytest.approx(2 * math.log(2))


def test_dice_loss_by_hand() -> None:
    p, y = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    p[0, 0, 0], y[0, 0, :, 0] = 1.0, 1.0  # a row and a column: overlap 1 of 2 + 2, smoothed by 1
    everywhere = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    assert dice_loss(p, y, everywhere).item() == pytest.approx(1 - 3 / 5)
    assert dice_loss(y, y, everywhere).item() == pytest.approx(0.0)
    corner = everywhere.clone()
    corner[0, 0, 1, 0] = False  # without the missed pixel: overlap 1 of 2 + 1
    assert dice_loss(p, y, corner).item() == pytest.approx(1 - 3 / 4)
    # A channel that nobody states is not averaged in.
    two, known = torch.cat([p, p], dim=1), torch.cat([everywhere, ~everywhere], dim=1)
    assert dice_loss(two, torch.cat([y, y], dim=1), known).item() == pytest.approx(1 - 3 / 5)


def test_mask_loss_of_a_sure_right_answer_is_nothing() -> None:
    target = (normal(2, 3, 4, 4) > 0).float()
    assert mask_loss(target * 60 - 30, target).item() < 1e-6
    assert mask_loss(30 - target * 60, target).item() > 10


def _slow_union(logits: Tensor, union: Tensor) -> float:
    cross, dices = [], []
    for image in range(len(union)):
        overlap = size = 0.0
        for place in (union[image] == union[image]).nonzero().tolist():
            left, right = (float(torch.sigmoid(logits[image, lung][tuple(place)])) for lung in (0, 1))
            p, y = 1 - (1 - left) * (1 - right), float(union[image][tuple(place)])
            cross.append(-math.log(p) if y else -math.log(1 - p))
            overlap, size = overlap + p * y, size + p + y
        dices.append(1 - (2 * overlap + 1) / (size + 1))
    return sum(cross) / len(cross) + sum(dices) / len(dices)


def test_union_loss_agrees_with_a_slow_twin() -> None:
    logits, union = normal(2, 3, 4, 4), (normal(2, 4, 4, seed=2) > 0).double()
    union[1, 2:] = NAN
    assert union_loss(logits, union).item() == pytest.approx(_slow_union(logits, union), rel=1e-9)


def test_union_loss_does_not_mind_which_lung_says_it() -> None:
    logits, union = normal(2, 3, 4, 4), (normal(2, 4, 4, seed=2) > 0).double()
    swapped = logits[:, [1, 0, 2]]
    assert torch.allclose(union_loss(logits, union), union_loss(swapped, union))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [-8.0, -14.0, -30.0, -80.0, 12.0, 30.0])
def test_union_loss_teaches_however_sure_the_lungs_are(logit: float, dtype: torch.dtype) -> None:
    # Far below zero P(either) is e^a + e^b, so d(-ln P)/da = -e^a / (e^a + e^b) = -1/2 for a = b (the Dice part adds ~0).
    logits = torch.full((1, 3, 2, 2), logit, dtype=dtype).requires_grad_()
    lung = torch.ones(1, 2, 2, dtype=dtype)
    loss = union_loss(logits, lung)
    loss.backward()
    assert torch.isfinite(loss) and logits.grad is not None and torch.isfinite(logits.grad).all()
    if logit < -10:
        assert logits.grad[0, :2].flatten().tolist() == pytest.approx([-0.5 / 4] * 8, rel=1e-3)
        assert loss.item() == pytest.approx(-logit - math.log(2) + 1 - 1 / 5, rel=1e-4)


def test_union_loss_has_no_step_where_its_two_forms_meet() -> None:
    places = torch.linspace(-13.0, -11.0, 4001, dtype=torch.float64)
    logits = places.view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    union = torch.ones(1, 1, 1, dtype=torch.float64)
    losses = torch.stack([union_loss(one[None], union) for one in logits[1500:2500]])
    assert (losses.diff().abs() - 0.0005).abs().max() < 1e-5


def test_focal_and_asymmetric_loss_by_hand() -> None:
    # p = 1/4 by logit -ln 3; a positive and a negative.
    logits, labels = torch.full((2, 1), -math.log(3.0)), torch.tensor([[1.0], [0.0]])
    miss, fine = math.log(4), math.log(4 / 3)
    assert focal_loss(logits, labels, gamma=2.0).item() == pytest.approx((miss * 9 / 16 + fine / 16) / 2)
    assert focal_loss(logits, labels, torch.tensor([3.0]), gamma=1.0).item() == pytest.approx((3 * miss * 3 / 4 + fine / 4) / 2)
    shifted = 0.2**4 * -math.log(0.8)  # q = 0.25 - 0.05
    assert asymmetric_loss(logits, labels).item() == pytest.approx((miss * 3 / 4 + shifted) / 2)


def test_focal_and_asymmetric_loss_without_focus_are_cross_entropy() -> None:
    logits, labels, weights = normal(6, 4), (normal(6, 4, seed=1) > 0).double(), normal(4, seed=2).exp()
    labels[0, 1], labels[2, 2] = NAN, 0.3
    plain = finding_loss(logits, labels, weights)
    assert torch.allclose(focal_loss(logits, labels, weights, gamma=0.0), plain)
    without = asymmetric_loss(logits, labels, weights, gamma_negative=0.0, gamma_positive=0.0, clip=0.0)
    assert torch.allclose(without, plain)


def test_sure_negatives_are_dropped_and_nothing_overflows() -> None:
    # p = sigmoid(-4) = 0.018 lies below the clip: it neither costs nor teaches.
    easy = torch.tensor([[-4.0]], requires_grad=True)
    loss = asymmetric_loss(easy, torch.zeros(1, 1))
    loss.backward()
    assert loss.item() == 0.0 and easy.grad is not None and easy.grad.item() == 0.0
    for gamma in (0.0, 0.5, 2.0):
        far = torch.tensor([[-200.0, 200.0, -200.0, 200.0]], requires_grad=True)
        value = asymmetric_loss(far, torch.tensor([[1.0, 0.0, 0.0, 1.0]]), gamma_negative=gamma, gamma_positive=gamma)
        value.backward()
        assert torch.isfinite(value) and far.grad is not None and torch.isfinite(far.grad).all()
        assert far.grad[0, 0] < 0


def test_hint_loss_by_hand() -> None:
    # One strong cell against another: unit maps at right angles are 2 apart; half way round 2 - 2 cos 45 degrees.
    one, other = torch.zeros(1, 5, 2, 2), torch.zeros(1, 3, 2, 2)
    one[0, :, 0, 0], other[0, 1, 1, 1] = 1.0, -7.0
    assert hint_loss(one, other).item() == pytest.approx(2.0)
    other[0, 2, 0, 0] = 7.0
    assert hint_loss(one, other).item() == pytest.approx(2 - math.sqrt(2), rel=1e-6)


def test_hint_loss_is_zero_only_when_both_look_alike() -> None:
    features = normal(3, 4, 6, 6).requires_grad_()
    same = hint_loss(features, features.detach().clone())
    same.backward()
    assert same.item() == 0.0 and features.grad is not None and features.grad.abs().max() < 1e-15
    assert hint_loss(features, -3 * features.detach()).item() < 1e-15  # the same places, in any sign and size
    assert hint_loss(features, attention_map(features.detach())).item() < 1e-15
    moved = features.detach().clone()
    moved[1, 0, 0, 0] += 5.0
    assert hint_loss(features, moved).item() > 1e-4


def test_hint_loss_averages_a_finer_grid_down_and_leaves_the_unknown_out() -> None:
    coarse = normal(2, 4, 3, 3).abs()
    fine = attention_map(coarse).repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert hint_loss(coarse, fine).item() < 1e-15 and hint_loss(fine, coarse).item() < 1e-15
    holed = attention_map(normal(2, 7, 3, 3, seed=5))
    alone = hint_loss(coarse[:1], holed[:1])
    holed[1, 0, 0] = NAN
    assert torch.allclose(hint_loss(coarse, holed), alone)
    silent = coarse.clone().requires_grad_()
    hint_loss(silent, torch.full_like(holed, NAN)).backward()
    assert silent.grad is not None and (silent.grad == 0).all()


def test_box_loss_averages_inside_and_outside_apart() -> None:
    # One cell inside at logit a costs softplus(-a); three outside at logit b cost softplus(b); each side weighs half.
    grid = torch.full((1, 1, 2, 2), -1.0)
    grid[0, 0, 0, 0] = 2.0
    cells = torch.zeros(1, 1, 2, 2)
    cells[0, 0, 0, 0] = 1.0
    inside, outside = math.log1p(math.exp(-2.0)), math.log1p(math.exp(-1.0))
    assert box_loss(grid, cells).item() == pytest.approx((inside + outside) / 2, rel=1e-6)
    assert box_loss(grid, torch.zeros_like(cells)).item() == pytest.approx(
        (3 * outside + math.log1p(math.exp(2.0))) / 4, rel=1e-6
    )


TOKENS = torch.tensor([[1, 4, 5, 2, 0], [1, 5, 2, 0, 0]])


def test_token_loss_counts_each_word_once_and_no_padding() -> None:
    logits = normal(2, 4, 6)
    there = [(0, 0, 4), (0, 1, 5), (0, 2, 2), (1, 0, 5), (1, 1, 2)]
    by_hand = -sum(torch.log_softmax(logits[b, t], 0)[word].item() for b, t, word in there) / 5
    assert token_loss(logits, TOKENS).item() == pytest.approx(by_hand)
    assert token_loss(torch.zeros(2, 4, 6), TOKENS).item() == pytest.approx(math.log(6), rel=1e-6)
    assert token_loss(logits, torch.zeros_like(TOKENS)).item() == 0.0


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_token_kl_is_that_of_torch(temperature: float) -> None:
    student, teacher, there = normal(2, 4, 6), normal(2, 4, 6, seed=1), TOKENS[:, 1:] != 0
    oracle = torch.nn.KLDivLoss(reduction="batchmean", log_target=True)(
        F.log_softmax(student[there] / temperature, -1), F.log_softmax(teacher[there] / temperature, -1)
    )
    assert torch.allclose(token_kl(student, teacher, TOKENS, temperature), oracle, rtol=1e-10)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_token_kl_is_zero_when_both_agree_and_padding_is_silent(temperature: float) -> None:
    student = normal(2, 4, 6).requires_grad_()
    same = student.detach().clone()
    same[1, 2:] = 50.0  # padding: may say anything
    loss = token_kl(student, same, TOKENS, temperature)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-15)
    assert student.grad is not None and student.grad.abs().max() < 1e-14
    assert token_kl(student, same, torch.zeros_like(TOKENS), temperature).item() == 0.0
