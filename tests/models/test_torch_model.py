"""Anybody's torch network as a model: on paper, any layout of features, and without a trace left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from storyxai.errors import InputError
from storyxai.explain.contract import ExplainedModel
from storyxai.models.adapters.torch_model import TorchModel
from torch_networks import FINDINGS, ChannelsLast, Tokens, network, seeded

IMAGE = np.random.default_rng(1).random((1, 16, 16), dtype=np.float32)


def test_features_and_gradients_on_paper() -> None:
    # logit_f = w_f . mean over cells of relu(conv), so the gradient is w_fk / cells where the ReLU passes, else zero.
    net = network()
    model = TorchModel(net, "3", FINDINGS)
    assert isinstance(model, ExplainedModel)
    look = model.look(IMAGE)
    weight = net[7].weight.detach().numpy()
    expected = weight[:, :, None, None] / 16 * (look.features > 0)[None]
    np.testing.assert_allclose(look.gradients, expected, atol=1e-7)
    np.testing.assert_allclose(look.logits, net(torch.tensor(IMAGE[None]))[0].detach().numpy(), atol=1e-6)
    np.testing.assert_array_equal(model.look(IMAGE, (2, 0)).gradients, look.gradients[[2, 0]])


def test_pixel_gradients_of_a_linear_model_are_its_weights() -> None:
    net = seeded(nn.Sequential(nn.Flatten(), nn.Linear(32, 4, bias=False)))
    model = TorchModel(net, None, FINDINGS, channels=1, std=(0.5,))
    images = IMAGE[None, :, :4, :8].repeat(2, axis=0)
    weight = net[1].weight.detach().numpy().reshape(4, 1, 4, 8)
    np.testing.assert_allclose(model.input_gradients(images), np.stack([2 * weight] * 2), atol=1e-6)
    np.testing.assert_allclose(model.input_gradients(images, (3,))[0], 2 * weight[3:], atol=1e-6)


def test_mean_std_and_transform_stand_before_the_network() -> None:
    net, images = network(channels=3), np.random.default_rng(2).random((2, 3, 16, 16), dtype=np.float32)
    shifted = (images - np.array([0.4, 0.5, 0.6], np.float32)[:, None, None]) / np.float32(0.2)
    expected = net(torch.tensor(shifted)).detach().numpy()
    model = TorchModel(net, None, FINDINGS, mean=(0.4, 0.5, 0.6), std=(0.2,))
    np.testing.assert_allclose(model.logits(images), expected, atol=1e-5)
    grey = TorchModel(net, None, FINDINGS, channels=1, transform=lambda x: x.expand(-1, 3, -1, -1))
    expected = net(torch.tensor(images[:, :1].repeat(3, axis=1))).detach().numpy()
    np.testing.assert_allclose(grey.logits(images[:, :1]), expected, atol=1e-5)


def test_one_forward_pass_for_all_findings() -> None:
    net, passes = network(), []
    net[0].register_forward_hook(lambda *_: passes.append(1))
    assert TorchModel(net, "3", FINDINGS).look(IMAGE).gradients.shape == (4, 8, 4, 4)
    assert len(passes) == 1


def test_in_place_relu_after_the_layer_is_safe() -> None:
    plain, inplace = (TorchModel(network(inplace=kind), "3", FINDINGS) for kind in (False, True))
    first, second = plain.look(IMAGE), inplace.look(IMAGE)
    assert second.features.min() < 0
    for a, b in zip(first[:3], second[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(plain.input_gradients(IMAGE[None]), inplace.input_gradients(IMAGE[None]))


def test_the_layer_is_found() -> None:
    assert TorchModel(network(), None, FINDINGS).look(IMAGE).layer == "4"
    wide = np.random.default_rng(3).random((3, 16, 16), dtype=np.float32)
    # Behind the last attention only the class token moves the logits, so the norm before it is the last useful layer.
    assert TorchModel(Tokens(), None, FINDINGS).look(wide).layer == "norm1"
    assert TorchModel(Tokens(prefix=0), None, FINDINGS).look(wide).layer == "norm2"
    assert TorchModel(ChannelsLast(), None, FINDINGS).look(IMAGE).layer == "norm"
    blind = seeded(nn.Sequential(nn.Flatten(), nn.Linear(256, 4)))
    assert TorchModel(blind, None, FINDINGS, channels=1).look(IMAGE) is None


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize("shape", [(16, 16), (16, 32)])
def test_tokens_become_a_grid_without_those_of_no_cell(prefix: int, shape: tuple[int, int]) -> None:
    net = seeded(Tokens(prefix=prefix))
    image = np.random.default_rng(4).random((3, *shape), dtype=np.float32)
    look = TorchModel(net, net.norm1, FINDINGS).look(image)
    with torch.no_grad():
        patches = net.embed(torch.tensor(image[None])).flatten(2).transpose(1, 2)
        expected = net.norm1(patches)[0].T.reshape(12, shape[0] // 4, shape[1] // 4)
    np.testing.assert_allclose(look.features, expected.numpy(), atol=1e-6)
    assert look.gradients.shape == (4, *look.features.shape)


def test_channels_last_features_are_turned() -> None:
    net = seeded(ChannelsLast())
    look = TorchModel(net, "norm", FINDINGS).look(IMAGE)
    expected = net.head.weight.detach().numpy()[:, :, None, None] / 16 * np.ones((4, 4))
    np.testing.assert_allclose(look.gradients, expected, atol=1e-7)
    with torch.no_grad():
        features = net.norm(net.embed(torch.tensor(IMAGE[None])).permute(0, 2, 3, 1))[0].permute(2, 0, 1)
    np.testing.assert_allclose(look.features, features.numpy(), atol=1e-6)


class Raising(nn.Module):
    """A last step that fails."""

    def forward(self, x: Any) -> Any:
        raise ValueError("the user's own fault")


def traces_of(module: Any) -> tuple[Any, ...]:
    """Everything about a network that must be as before."""
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in module.modules())
    state = {name: value.clone() for name, value in module.state_dict().items()}
    kinds = [(p.requires_grad, p.grad) for p in module.parameters()]
    modes = [m.training for m in module.modules()]
    return hooks, modes, kinds, torch.get_rng_state().tolist(), torch.is_grad_enabled(), state


ENDS: dict[str, Callable[[Any], object]] = {
    "look": lambda net: TorchModel(net, "3", FINDINGS).look(IMAGE),
    "found layer": lambda net: TorchModel(net, None, FINDINGS).look(IMAGE),
    "logits": lambda net: TorchModel(net, "3", FINDINGS).logits(IMAGE[None]),
    "pixels": lambda net: TorchModel(net, "3", FINDINGS).input_gradients(IMAGE[None]),
    "bad target": lambda net: TorchModel(net, "3", FINDINGS).look(IMAGE, (0, 9)),
    "pooled layer": lambda net: TorchModel(net, "5", FINDINGS).look(IMAGE),
    "raising": lambda net: TorchModel(nn.Sequential(net, Raising()), "0.3", FINDINGS).look(IMAGE),
    "raising while a layer is sought": lambda net: TorchModel(nn.Sequential(net, Raising()), None, FINDINGS).look(IMAGE),
}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_behind(end: str) -> None:
    net = network().train()
    net.insert(5, nn.Dropout(0.5))
    net[1].eval()  # a frozen batch norm must stay frozen
    net[0].weight.requires_grad_(False)
    before = traces_of(net)
    fails = end in ("bad target", "pooled layer") or end.startswith("raising")
    if end == "pooled layer":
        net[5], net[6] = net[6], net[5]
    if fails:
        with pytest.raises((InputError, ValueError, IndexError)):
            ENDS[end](net)
    else:
        ENDS[end](net)
    after = traces_of(net)
    if end != "pooled layer":
        assert after[1] == before[1]
    assert (after[0], *after[2:5]) == (before[0], *before[2:5])
    assert all(torch.equal(after[5][name], value) for name, value in before[5].items())


def test_a_network_that_draws_in_evaluation_gives_the_same_twice() -> None:
    class Drawing(nn.Module):
        def forward(self, x: Any) -> Any:
            return x + torch.randn(x.shape)

    model = TorchModel(nn.Sequential(network(), Drawing()), "0.3", FINDINGS)
    np.testing.assert_array_equal(model.logits(IMAGE[None]), model.logits(IMAGE[None]))


def test_works_in_any_grad_mode() -> None:
    net = network()
    expected = TorchModel(net, "3", FINDINGS).look(IMAGE)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            before = torch.is_grad_enabled()
            look = TorchModel(net, "3", FINDINGS).look(IMAGE)
            found = TorchModel(net, None, FINDINGS).look(IMAGE).layer
            assert torch.is_grad_enabled() == before
        np.testing.assert_array_equal(look.gradients, expected.gradients)
        assert found == "4"


def test_the_id_changes_with_the_weights() -> None:
    net = network()
    model = TorchModel(net, None, FINDINGS)
    first = model.model_id
    assert first == TorchModel(network(), None, FINDINGS).model_id
    with torch.no_grad():
        net[0].bias[0] += 1
    assert model.model_id != first


class Wrapped(nn.Module):
    """A network whose answer is made into something else."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self.inner, self.make = network(), make

    def forward(self, x: Any) -> Any:
        return self.make(self.inner(x))


@pytest.mark.parametrize(("make", "sentence"), [
    (lambda y: (y, y), "returns a tuple — wrap it so that it returns logits"),
    (lambda y: {"logits": y}, "returns a dict — wrap it so that it returns logits"),
    (lambda y: y[0], r"returns shape \(4,\) for 1 images"),
    (lambda y: y.numpy(force=True), "returns a ndarray — wrap it so that it returns logits"),
    (lambda y: y[:, 0], "4 names for 1 logits"),
    (lambda y: y * torch.nan, "logits that are not finite"),
    (lambda y: y[:, :3], "4 names for 3 logits"),
])
def test_answers_that_are_no_logits_are_one_sentence(make: Callable[[Any], Any], sentence: str) -> None:
    model = TorchModel(Wrapped(make), None, FINDINGS)
    with pytest.raises(InputError, match=sentence):
        model.logits(IMAGE[None])
    with pytest.raises(InputError, match=sentence):
        model.look(IMAGE)


@pytest.mark.parametrize(("make", "count"), [
    (lambda y: y[:, 0], 1), (lambda y: y[:, :, None, None], 4), (lambda y: y[:, None], 4),
])  # fmt: skip
def test_axes_of_length_one_are_dropped(make: Callable[[Any], Any], count: int) -> None:
    """A network that ends in squeeze(1) answers [B], one without a flattening [B, F, 1, 1]."""
    model = TorchModel(Wrapped(make), None, FINDINGS[:count])
    assert model.logits(np.stack([IMAGE] * 2)).shape == (2, count)
    look = model.look(IMAGE)
    assert look is not None and look.gradients is not None and len(look.gradients) == count


@pytest.mark.parametrize("shape", [lambda p: p.squeeze(1), lambda p: p[:, 0], lambda p: p.T.flatten(), lambda p: p.double()])
def test_a_sigmoid_is_seen_through_what_only_shapes_its_answer(shape: Callable[[Any], Any]) -> None:
    model = TorchModel(Wrapped(lambda y: shape(torch.sigmoid(y[:, :1]))), None, FINDINGS[:1])
    with pytest.raises(InputError, match="ends in a sigmoid"):
        model.look(IMAGE)


def test_settings_that_cannot_be_are_refused_at_once() -> None:
    net = network()
    net.add_module("classifier", nn.Identity())
    with pytest.raises(InputError, match="did you mean 'classifier'"):
        TorchModel(net, "clasifier", FINDINGS)
    with pytest.raises(InputError, match="no part of the network"):
        TorchModel(net, nn.Conv2d(1, 1, 1), FINDINGS)
    for findings in ((), "Effusion", ("a", "a"), ("a", " "), None, (1, 2, 3, 4), (None,)):
        with pytest.raises(InputError, match="findings"):
            TorchModel(net, None, findings)
    with pytest.raises(InputError, match="channels"):
        TorchModel(nn.Sequential(nn.Linear(3, 4)), None, FINDINGS)
    with pytest.raises(InputError, match="mean"):
        TorchModel(net, None, FINDINGS, mean=(0.1, 0.2))
    with pytest.raises(InputError, match="images"):
        TorchModel(net, None, FINDINGS).logits(np.zeros((1, 3, 16, 16), np.float32))


def test_a_layer_that_cannot_be_drawn_on_is_named() -> None:
    with pytest.raises(InputError, match=r"layer '7': gives \(1, 4\), no grid"):
        TorchModel(network(), "7", FINDINGS).look(IMAGE)
    shared = network()
    shared[4] = shared[2]
    with pytest.raises(InputError, match="layer '2': ran 2 times"):
        TorchModel(shared, "2", FINDINGS).look(IMAGE)
