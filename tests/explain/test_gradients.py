"""Gradients of torch models: on paper, against pytorch-grad-cam and captum, and without a trace left behind."""

from __future__ import annotations

import numpy as np
import pytest

from storyxai.errors import InputError
from storyxai.explain.gradients import input_gradients, integrated_gradients, layer_gradients, torch_cam

torch = pytest.importorskip("torch")
nn = torch.nn


def network(*, inplace: bool = False) -> nn.Module:
    torch_generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=inplace),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(inplace=inplace),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch_generator) * 0.5)
    return model.eval()


BATCH = np.random.default_rng(1).random((3, 1, 16, 16), dtype=np.float32)


def test_features_and_gradients_on_paper() -> None:
    # logit_f = w_f . mean over cells of relu(conv), so the gradient is w_fk / cells where the ReLU passes, else zero.
    model = network()
    found = layer_gradients(model, model[3], BATCH)
    cells = found.features[0, 0].size
    weight = model[7].weight.detach().numpy()
    expected = weight[None, :, :, None, None] / cells * (found.features > 0)[:, None]
    np.testing.assert_allclose(found.gradients, expected, atol=1e-7)
    np.testing.assert_allclose(found.logits, model(torch.tensor(BATCH)).detach().numpy(), atol=1e-6)


def test_every_image_of_the_batch_is_explained() -> None:
    model = network()
    together = torch_cam(model, model[3], BATCH, signed=True)
    alone = np.concatenate([torch_cam(model, model[3], BATCH[i : i + 1], signed=True) for i in range(3)])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.abs(together).max(axis=(2, 3)).min() > 0


def test_one_forward_pass_for_all_findings() -> None:
    model, passes = network(), []
    model[0].register_forward_hook(lambda *_: passes.append(1))
    assert layer_gradients(model, model[3], BATCH).gradients.shape[:3] == (3, 4, 8)
    assert len(passes) == 1


def test_in_place_relu_after_the_layer_is_safe() -> None:
    plain, inplace = network(), network(inplace=True)
    first, second = layer_gradients(plain, plain[3], BATCH), layer_gradients(inplace, inplace[3], BATCH)
    assert second.features.min() < 0
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(input_gradients(plain, BATCH), input_gradients(inplace, BATCH))


def test_cam_agrees_with_pytorch_grad_cam() -> None:
    pytest.importorskip("cv2")
    library = pytest.importorskip("pytorch_grad_cam")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    model = network()
    ours = torch_cam(model, model[3], BATCH)
    oracle = library.GradCAM(model=model, target_layers=[model[3]])
    for finding in range(4):
        oracle(torch.tensor(BATCH), targets=[targets.ClassifierOutputTarget(finding)] * 3)
        weights = oracle.activations_and_grads.gradients[0].numpy().mean(axis=(2, 3))
        activations = oracle.activations_and_grads.activations[0].numpy()
        theirs = np.maximum((weights[:, :, None, None] * activations).sum(axis=1), 0)
        np.testing.assert_allclose(ours[:, finding], theirs, atol=1e-6)
    oracle.activations_and_grads.release()


def test_integrated_gradients_agree_with_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    model = network()
    baseline = np.full((1, 1, 16, 16), 0.3, dtype=np.float32)
    ours = integrated_gradients(model, BATCH, baseline=baseline, findings=(1, 3), steps=24)
    oracle = captum.IntegratedGradients(model)
    for place, finding in enumerate((1, 3)):
        theirs, gap = oracle.attribute(
            torch.tensor(BATCH), torch.tensor(baseline), target=finding, n_steps=24,
            method="gausslegendre", return_convergence_delta=True,
        )
        np.testing.assert_allclose(ours.maps[:, place], theirs[:, 0].numpy(), atol=1e-5)
        np.testing.assert_allclose(ours.gap[:, place], gap.numpy(), atol=1e-4)


def test_integrated_gradients_of_a_linear_model_are_exact() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False))
    image = BATCH[:1, :, :4, :4]
    found = integrated_gradients(model, image, baseline=np.zeros_like(image), steps=1)
    weight = model[1].weight.detach().numpy().reshape(1, 2, 4, 4)
    np.testing.assert_allclose(found.maps, weight * image, atol=1e-6)
    np.testing.assert_allclose(found.gap, 0, atol=1e-6)
    np.testing.assert_allclose(input_gradients(model, image), weight, atol=1e-6)


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


class Raising(nn.Module):
    """A last step that fails."""

    def forward(self, x):
        raise ValueError("the user's own fault")


@pytest.mark.parametrize("case", ["success", "bad target", "raising model", "layer not run"])
def test_nothing_is_left_behind(case: str) -> None:
    model = network()
    model.train()
    model[1].eval()  # a frozen batch norm must stay frozen
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if case == "success":
        layer_gradients(model, model[3], BATCH)
    elif case == "bad target":
        with pytest.raises(InputError, match="column 9"):
            layer_gradients(model, model[3], BATCH, findings=(0, 9))
    elif case == "layer not run":
        with pytest.raises(InputError, match="ran 0 times"):
            layer_gradients(model, nn.Conv2d(1, 1, 1), BATCH)
    else:
        model.append(Raising())
        with pytest.raises(ValueError, match="own fault"):
            layer_gradients(model, model[3], BATCH)
    assert hooks_of(model) == 0
    assert model.training
    assert not model[1].training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all((before[name] == value).all() for name, value in model.state_dict().items() if name in before)


def test_works_in_any_grad_mode_and_gives_it_back() -> None:
    model = network()
    expected = torch_cam(model, model[3], BATCH)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            np.testing.assert_array_equal(torch_cam(model, model[3], BATCH), expected)
            assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    np.testing.assert_array_equal(torch_cam(model, model[3], BATCH), expected)


def test_refusals() -> None:
    model = network()
    with pytest.raises(InputError, match=r"\[B, K, h, w\]"):
        layer_gradients(model, model[7], BATCH)
    with pytest.raises(InputError, match="batch"):
        layer_gradients(model, model[3], BATCH[0])
    with pytest.raises(InputError, match="logits"):
        input_gradients(model[:4], BATCH)
