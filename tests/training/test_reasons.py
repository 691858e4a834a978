"""Maps and their distance by hand, against autograd, captum and the closed form that telling uses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from storyxai.errors import RecipeError
from storyxai.explain.cam import grad_cam, grid_head_gradients
from storyxai.models.network import FindingHead
from storyxai.training.reasons import evidence_maps, finding_maps, maps_of, present_findings, reasons_loss

NAN = math.nan


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def head() -> FindingHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        made = FindingHead(5, 8, 3).double()
        torch.nn.init.normal_(made.log_sharpness)
        return made


def test_maps_are_those_of_autograd_for_every_image_and_finding(head: FindingHead) -> None:
    features = normal(4, 5, 3, 6).requires_grad_()
    maps = finding_maps(head, features)
    signed = finding_maps(head, features, signed=True)
    for finding in range(3):
        (gradient,) = torch.autograd.grad(head(features)[1][:, finding].sum(), features)
        by_hand = (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1)
        assert torch.allclose(signed[:, finding], by_hand, rtol=1e-10, atol=1e-14)
        assert torch.equal(maps[:, finding], signed[:, finding].clamp(min=0))
    assert (signed < 0).any() and (signed > 0).any()


def test_maps_are_those_of_captum(head: FindingHead) -> None:
    from captum.attr import LayerGradCam

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = torch.nn.Conv2d(1, 5, 3, padding=1).double(), head

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(x))[1]  # type: ignore[no-any-return]

    whole, images = Whole().eval(), normal(2, 1, 4, 4)
    maps = finding_maps(head, whole.layer(images))
    for finding in range(3):
        theirs = LayerGradCam(whole, whole.layer).attribute(images, target=finding, relu_attributions=True)
        assert torch.allclose(maps[:, finding : finding + 1], theirs, rtol=1e-10, atol=1e-14)


def test_maps_are_those_that_telling_shows(head: FindingHead) -> None:
    features = normal(1, 5, 4, 4)
    weights = [head.hidden.weight[:, :, 0, 0], head.hidden.bias, head.out.weight[:, :, 0, 0], head.out.bias, head.sharpness()]
    arrays = [part.detach().numpy().astype(np.float32) for part in (features[0], *weights)]
    _, gradients = grid_head_gradients(*arrays)
    with torch.no_grad():
        ours = finding_maps(head, features)[0].numpy()
    assert np.allclose(ours, grad_cam(arrays[0], gradients), rtol=1e-4, atol=1e-6)


def test_a_gradient_through_the_maps_is_the_true_one(head: FindingHead) -> None:
    features = normal(2, 5, 2, 2, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: finding_maps(head, x, signed=True), (features,))
    (gradient,) = torch.autograd.grad(finding_maps(head, features).sum(), head.hidden.weight)
    assert gradient.abs().max() > 0


def test_the_loss_by_hand() -> None:
    student, teacher = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    student[0, 0], teacher[0, 0] = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.1])  # at right angles: 1
    student[0, 1], teacher[0, 1] = torch.tensor([1.0, 0.0]), torch.tensor([2.0, 2.0])  # 45 degrees
    student[0, 2], teacher[0, 2] = torch.tensor([9.0, 0.0]), torch.tensor([0.0, 9.0])  # absent
    present = torch.tensor([[True, True, False]])
    assert reasons_loss(student, teacher, present).item() == pytest.approx((1 + 1 - math.sqrt(0.5)) / 2)


def test_the_loss_is_zero_only_for_proportional_maps() -> None:
    maps, present = normal(2, 3, 4, 4).abs().requires_grad_(), torch.ones(2, 3, dtype=torch.bool)
    loss = reasons_loss(maps, maps.detach().clone(), present)
    loss.backward()
    assert loss.item() == 0.0 and maps.grad is not None and maps.grad.abs().max() < 1e-15
    scales = torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64)[None, :, None, None]
    assert reasons_loss(maps * scales, maps, present).item() < 1e-14
    other = maps.detach().clone()
    other[0, 1, 2, 2] += 1.0
    assert reasons_loss(maps, other, present).item() > 1e-3
    assert reasons_loss(maps, -maps, present).item() == pytest.approx(2.0)


def test_what_is_absent_unknown_or_empty_teaches_nothing() -> None:
    student, teacher = normal(1, 4, 2, 2).requires_grad_(), normal(1, 4, 2, 2, seed=1)
    teacher[0, 1, 0, 0], teacher[0, 2] = NAN, 0.0
    reasons_loss(student, teacher, torch.tensor([[True, True, True, False]])).backward()
    assert student.grad is not None and torch.isfinite(student.grad).all()
    assert (student.grad[0, 1:] == 0).all() and student.grad[0, 0].abs().max() > 0
    silent = student.detach().clone().requires_grad_()
    nothing = reasons_loss(silent, teacher, torch.zeros(1, 4, dtype=torch.bool))
    nothing.backward()
    assert nothing.item() == 0.0 and silent.grad is not None and (silent.grad == 0).all()


def test_a_student_without_a_map_costs_one_and_breaks_nothing() -> None:
    student = torch.zeros(1, 1, 2, 2, requires_grad=True)
    loss = reasons_loss(student, torch.ones(1, 1, 2, 2), torch.ones(1, 1, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 1.0 and student.grad is not None and torch.isfinite(student.grad).all()


def test_a_finer_map_is_averaged_down() -> None:
    coarse = normal(1, 2, 3, 3).abs()
    fine = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert reasons_loss(coarse, fine, torch.ones(1, 2, dtype=torch.bool)).item() < 1e-14


def test_following_the_loss_brings_the_maps_together(head: FindingHead) -> None:
    features, present = normal(1, 5, 3, 3, seed=2), torch.ones(1, 3, dtype=torch.bool)
    wanted = finding_maps(head, normal(1, 5, 3, 3, seed=9)).detach()
    first = reasons_loss(finding_maps(head, features), wanted, present).item()
    for _ in range(150):
        features.requires_grad_()
        (step,) = torch.autograd.grad(reasons_loss(finding_maps(head, features), wanted, present), features)
        features = (features - 0.5 * step).detach()
    assert reasons_loss(finding_maps(head, features), wanted, present).item() < 0.5 * first


def test_present_is_what_is_stated_else_what_the_teacher_thinks() -> None:
    labels = torch.tensor([[1.0, 0.0, NAN, NAN, NAN]])
    logits = torch.tensor([[-5.0, 5.0, 0.1, -0.1, NAN]])
    assert present_findings(labels, logits).tolist() == [[True, False, True, False, False]]


def test_kinds_of_maps(head: FindingHead) -> None:
    features = normal(1, 5, 2, 2)
    grid = head(features)[0]
    assert torch.equal(maps_of("grid", head, features, grid), evidence_maps(grid))
    assert evidence_maps(torch.zeros(1)).item() == 0.5
    assert torch.equal(maps_of("grad-cam", head, features, grid), finding_maps(head, features))
    with pytest.raises(RecipeError, match="did you mean 'grad-cam'"):
        maps_of("gradcam", head, features, grid)
