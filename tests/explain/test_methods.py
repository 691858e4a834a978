"""Every method of the registry is held to the contract, on every kind of model; and each against another implementation."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from storyxai.errors import InputError, UnknownNameError, UnsupportedMethodError
from storyxai.explain import registry
from storyxai.explain.cam import CAMS, eigen_cam
from storyxai.explain.contract import Attention, Budget, Explanation, Scene
from storyxai.explain.gradients import IntegratedGradients, SmoothGrad
from storyxai.explain.kernel_shap import kernel_shap
from storyxai.explain.lime import Lime
from storyxai.explain.registry import METHODS, known_methods, method_named
from storyxai.explain.rollout import rollout
from storyxai.explain.superpixels import grid_segments, slic_segments
from storyxai.models.adapters.function import FunctionModel
from storyxai.models.adapters.torch_model import TorchModel
from storyxai.testing import check_method, check_model
from torch_networks import FINDINGS, ChannelsLast, Tokens, network, seeded

RNG = np.random.default_rng(5)
GREY = RNG.random((1, 16, 16), dtype=np.float32)
COLOUR = RNG.random((3, 16, 16), dtype=np.float32)
SMALL = {"lime": Lime(superpixels=9), "kernel_shap": replace(METHODS["kernel_shap"], superpixels=9)}  # type: ignore[type-var]


def convolutional(layer: str | None = "3") -> TorchModel:
    return TorchModel(network(), layer, FINDINGS)


def transformer() -> TorchModel:
    return TorchModel(seeded(Tokens()), None, FINDINGS)


def asked(key: str, model: Any, image: np.ndarray, **budget: Any) -> tuple[Explanation, ...]:
    return SMALL.get(key, METHODS[key]).explain(model, image, model.findings, Budget(**{"samples": 60, **budget}))


@pytest.mark.parametrize("key", [key for key in METHODS if key not in ("evidence_grid", "attention_rollout", "lrp")])
def test_the_contract_on_a_convolutional_network(key: str) -> None:
    check_method(SMALL.get(key, METHODS[key]), convolutional(), GREY, budget=Budget(samples=40, batch=16))


@pytest.mark.parametrize("key", ["grad_cam", "eigen_cam", "score_cam", "saliency", "attention_rollout", "lime"])
def test_the_contract_on_a_transformer(key: str) -> None:
    check_method(SMALL.get(key, METHODS[key]), transformer(), COLOUR, budget=Budget(samples=40, batch=16))


def test_the_contract_of_relevance_on_layers_that_it_knows() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.pool, self.head = nn.Conv2d(1, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(5, 4)

        def forward(self, x: Any) -> Any:
            return self.head(self.pool(self.relu(self.conv(x))).flatten(1))

    check_method(METHODS["lrp"], TorchModel(seeded(Plain()), None, FINDINGS), GREY)


def test_the_contract_of_models() -> None:
    check_model(convolutional(), GREY)
    check_model(transformer(), COLOUR)
    check_model(TorchModel(seeded(ChannelsLast()), None, FINDINGS), GREY)
    check_model(FunctionModel(lambda x: x[:, :1].mean(axis=(2, 3)) * np.float32([1, 2]), ("one", "two")), GREY)


def test_the_suite_catches_faults() -> None:
    model, good = convolutional(), METHODS["grad_cam"]

    class Faulty:
        key, name, needs, checks = "faulty", "faulty", frozenset[str](), ("not_empty",)

        def __init__(self, change: Any) -> None:
            self.change, self.calls = change, 0

        def explain(self, model: Any, image: Any, findings: Any, *rest: Any) -> Any:
            self.calls += 1
            found = [replace(each, method="faulty") for each in good.explain(model, image, findings, *rest)]
            return self.change(found, self.calls, image)

    def normalised(found: Any, calls: int, image: Any) -> Any:
        top = max(float(each.values.max()) for each in found)
        return tuple(replace(each, values=each.values / max(top, np.float32(1e-6))) for each in found)

    faults = {
        "depends on which others": normalised,
        "other bytes": lambda found, calls, image: tuple(replace(each, values=each.values + calls) for each in found),
        "in order": lambda found, calls, image: tuple(reversed(found)),
        "finite": lambda found, calls, image: tuple(replace(each, values=each.values * np.nan) for each in found),
        "other bytes: ": lambda found, calls, image: image.__imul__(np.float32(0.5)) is None or tuple(found),
    }
    for words, change in faults.items():
        with pytest.raises(AssertionError, match=words):
            check_method(Faulty(change), model, GREY.copy())
    check_method(Faulty(lambda found, calls, image: tuple(found)), model, GREY)


# Class activation maps


def oracle(name: str, net: Any, layer: Any, image: np.ndarray, finding: int) -> np.ndarray:
    """pytorch-grad-cam's map on the layer's grid, before it is enlarged and normalised."""
    library = pytest.importorskip("pytorch_grad_cam")
    targets = [pytest.importorskip("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget(finding)]
    cam = getattr(library, name)(model=net, target_layers=[layer])
    try:
        tensor = torch.tensor(image[None])
        cam.uses_gradients = True
        cam(tensor, targets=targets)
        features = cam.activations_and_grads.activations[0].numpy()
        gradients = cam.activations_and_grads.gradients[0].numpy()
        raw: np.ndarray = cam.get_cam_image(tensor, layer, targets, features, gradients, False)
        return raw[0]
    finally:
        cam.activations_and_grads.release()


class Steep(nn.Module):
    """A head that is not linear in the features, so that the methods differ; steep, so that an oracle's epsilon is nothing."""

    def __init__(self, *, stride: int = 4, steepness: float = 100.0) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 6, 3, stride=stride, padding=1), nn.Linear(6, 4)
        self.steepness = steepness

    def forward(self, x: Any) -> Any:
        cells = torch.relu(self.conv(x)).flatten(2)
        return self.steepness * self.head((cells**2).mean(dim=2))


@pytest.mark.parametrize(("key", "name"), [
    ("grad_cam", "GradCAM"), ("grad_cam_plus_plus", "GradCAMPlusPlus"), ("hires_cam", "HiResCAM"),
    ("layer_cam", "LayerCAM"), ("xgrad_cam", "XGradCAM"), ("eigen_cam", "EigenCAM"), ("score_cam", "ScoreCAM"),
])
def test_cams_agree_with_pytorch_grad_cam(key: str, name: str) -> None:
    # On a grid as fine as the image, so that how a channel is enlarged plays no part.
    net = seeded(Steep(stride=1, steepness=1.0) if key == "score_cam" else Steep())
    found = METHODS[key].explain(TorchModel(net, "conv", FINDINGS), GREY, FINDINGS, Budget(samples=None))
    for finding, each in enumerate(found):
        theirs = oracle(name, net, net.conv, GREY, finding)
        theirs = theirs if key == "eigen_cam" else np.maximum(theirs, 0)
        if key == "eigen_cam" and np.corrcoef(theirs.ravel(), each.values.ravel())[0, 1] < 0:
            theirs = -theirs  # algebra leaves the sign open
        np.testing.assert_allclose(each.values, theirs, rtol=2e-3, atol=1e-3 * max(np.abs(theirs).max(), 1e-3))


def test_hires_cam_adds_up_to_the_logit_of_a_linear_head() -> None:
    model = convolutional("4")
    net = model.module
    for each, bias in zip(asked("hires_cam", model, GREY), net[7].bias.tolist(), strict=True):
        look = model.look(GREY)
        signed = np.einsum("khw,khw->hw", look.gradients[FINDINGS.index(each.finding)], look.features)
        assert signed.sum() + bias == pytest.approx(float(look.logits[FINDINGS.index(each.finding)]), abs=1e-4)
        np.testing.assert_allclose(each.values, np.maximum(signed, 0), atol=1e-5)


def test_eigen_cam_goes_with_stronger_features() -> None:
    features = np.zeros((3, 4, 4), dtype=np.float32)
    features[:, 1, 2] = [3, 4, 0]
    maps = eigen_cam(features, 2)
    assert maps.shape == (2, 4, 4) and np.argmax(maps[0]) == 6
    assert maps[0, 1, 2] - maps[0, 0, 0] == pytest.approx(5, rel=1e-5)


# Gradients


@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
def test_gradients_agree_with_captum(image: np.ndarray) -> None:
    captum = pytest.importorskip("captum.attr")
    net = network(channels=len(image))
    model = TorchModel(net, None, FINDINGS)
    tensor, dark = torch.tensor(image[None]), torch.full((1, *image.shape), 0.3)
    plain = METHODS["saliency"].explain(model, image, FINDINGS)
    paths = IntegratedGradients(steps=24, fill=0.3).explain(model, image, FINDINGS)
    for finding in range(4):
        theirs = captum.Saliency(net).attribute(tensor, target=finding, abs=False)[0].sum(dim=0).numpy()
        np.testing.assert_allclose(plain[finding].values, theirs, atol=1e-6)
        theirs, gap = captum.IntegratedGradients(net).attribute(
            tensor, dark, target=finding, n_steps=24, method="gausslegendre", return_convergence_delta=True,
        )
        np.testing.assert_allclose(paths[finding].values, theirs[0].sum(dim=0).numpy(), atol=1e-5)
        assert paths[finding].details["gap"] == pytest.approx(float(gap), abs=1e-4)


def test_integrated_gradients_of_a_linear_model_are_exact_in_one_step() -> None:
    net = seeded(nn.Sequential(nn.Flatten(), nn.Linear(256, 4, bias=False)))
    model = TorchModel(net, None, FINDINGS, channels=1)
    weight = net[1].weight.detach().numpy().reshape(4, 16, 16)
    for finding, each in enumerate(IntegratedGradients(steps=1, fill=0.0).explain(model, GREY, FINDINGS)):
        np.testing.assert_allclose(each.values, weight[finding] * GREY[0], atol=1e-6)
        assert abs(float(each.details["gap"])) < 1e-4
    # The gradient is the same everywhere, so noise changes nothing.
    for finding, each in enumerate(SmoothGrad(copies=3).explain(model, GREY, FINDINGS)):
        np.testing.assert_allclose(each.values, weight[finding], atol=1e-6)


def test_smooth_grad_is_the_mean_over_its_own_noise() -> None:
    model = convolutional()
    stream, total = np.random.default_rng(7), np.zeros((4, 16, 16))
    for _ in range(5):
        shaken = GREY + stream.normal(scale=0.2, size=GREY.shape).astype(np.float32)
        total += model.input_gradients(shaken[None])[0].sum(axis=1)
    found = SmoothGrad(copies=5, noise=0.2).explain(model, GREY, FINDINGS, Budget(seed=7))
    np.testing.assert_allclose(np.stack([each.values for each in found]), total / 5, atol=1e-6)


# Captum's own, through one adapter


def test_captum_methods_give_captum_s_numbers() -> None:
    captum = pytest.importorskip("captum.attr")
    net = network(channels=3)
    model, tensor = TorchModel(net, None, FINDINGS, mean=(0.5,), std=(0.25,)), torch.tensor(COLOUR[None])
    behind = np.full_like(COLOUR, 0.4)
    shift = lambda x: (x - 0.5) / 0.25  # noqa: E731 - the preprocessing, once more by hand
    for key, theirs in {
        "input_x_gradient": captum.InputXGradient(nn.Sequential(_Shift(shift), net)).attribute(tensor, target=2),
        "deep_lift": captum.DeepLift(nn.Sequential(_Shift(shift), net)).attribute(
            tensor, torch.tensor(behind[None]), target=2,
        ),
    }.items():
        found = METHODS[key].explain(model, COLOUR, ("c",), scene=Scene(behind))[0]
        np.testing.assert_allclose(found.values, theirs[0].sum(dim=0).detach().numpy(), atol=1e-5)


class _Shift(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def test_what_captum_cannot_serve_is_one_sentence() -> None:
    with pytest.raises(UnsupportedMethodError, match="lrp: captum cannot serve this network"):
        METHODS["lrp"].explain(transformer(), COLOUR, FINDINGS)


# Superpixels


def test_kernel_shap_by_enumeration_is_the_shapley_value() -> None:
    """Against the definition: the mean over all orders of what a superpixel adds."""
    segments = grid_segments((16, 16), count=4)
    segments = np.minimum(segments, 4)
    count = int(segments.max()) + 1

    def curved(batch: np.ndarray) -> np.ndarray:
        means = np.stack([batch[:, 0][:, segments == s].mean(axis=1) for s in range(count)], axis=1)
        return np.stack([means[:, 0] * means[:, 1] + means[:, 2] ** 2, np.exp(means.sum(axis=1) / 2)], axis=1)

    def value(shown: tuple[int, ...]) -> np.ndarray:
        image = np.where(np.isin(segments, shown), GREY[0], 0.0).astype(np.float32)
        return curved(image[None, None])[0]

    expected = np.zeros((2, count))
    for order in itertools.permutations(range(count)):
        for place, superpixel in enumerate(order):
            before = tuple(order[:place])
            expected[:, superpixel] += (value((*before, superpixel)) - value(before)) / math.factorial(count)
    found, asked_for = kernel_shap(curved, GREY, segments, fill=0.0, budget=Budget(samples=2**count))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert asked_for == 2**count


def test_kernel_shap_by_sampling_nears_it_and_always_adds_up() -> None:
    segments = grid_segments((16, 16), count=9)
    model = convolutional()
    exact, _ = kernel_shap(model.logits, GREY, segments, fill=0.0, budget=Budget(samples=600))
    drawn, asked_for = kernel_shap(model.logits, GREY, segments, fill=0.0, budget=Budget(samples=400))
    assert asked_for == 402
    change = (model.logits(GREY[None]) - model.logits(np.zeros_like(GREY)[None]))[0]
    for found in (exact, drawn):
        np.testing.assert_allclose(found.sum(axis=1), change, atol=1e-5)
    assert np.corrcoef(drawn.ravel(), exact.ravel())[0, 1] > 0.99
    with pytest.raises(InputError, match="samples"):
        kernel_shap(model.logits, GREY, segments, budget=Budget(samples=17))


def test_superpixels_do_not_cross_a_structure() -> None:
    structures = np.zeros((48, 48), dtype=np.int32)
    structures[10:40, 8:22] = 1
    structures[3:5, 40:42] = 2  # smaller than any superpixel: it may not vanish
    noise = np.random.default_rng(0).random((48, 48), dtype=np.float32)
    labels = slic_segments(noise, count=20, structures=structures)
    assert sorted(np.unique(labels)) == list(range(labels.max() + 1))
    for label in range(labels.max() + 1):
        assert len(np.unique(structures[labels == label])) == 1
    assert np.bincount(labels.ravel()).min() >= 4
    plain = slic_segments(noise, count=20)
    assert (slic_segments(noise, count=20, structures=np.ones_like(structures)) == plain).all()
    with pytest.raises(InputError, match="structures"):
        slic_segments(noise, count=20, structures=structures[:-1])


def test_lime_hides_with_what_the_scene_says() -> None:
    model = convolutional()
    filling = np.full_like(GREY, 0.7)
    found = Lime(superpixels=9).explain(model, GREY, ("b",), Budget(samples=60), Scene(filling, "grey of the lung"))[0]
    plain = Lime(superpixels=9, fill=0.7).explain(model, GREY, ("b",), Budget(samples=60))[0]
    assert found.values.tobytes() == plain.values.tobytes()
    assert (found.details["fill"], plain.details["fill"]) == ("grey of the lung", "0.7")


def test_lime_s_intervals_belong_to_its_superpixels() -> None:
    for each in asked("lime", convolutional(), GREY):
        values = np.array([each.values[each.segments == s][0] for s in range(each.segments.max() + 1)])
        np.testing.assert_allclose(each.intervals.mean(axis=1), values, atol=1e-5)


# Attention


def test_attention_is_that_of_the_network() -> None:
    model = transformer()
    attention = model.attention(COLOUR)
    net = model.module
    with torch.no_grad():
        x = net.embed(torch.tensor(COLOUR[None])).flatten(2).transpose(1, 2)
        x = net.norm1(torch.cat([net.prefix, x], dim=1))
        expected = net.attention(x, x, x, average_attn_weights=False)[1][0].numpy()
    assert attention.grid == (4, 4)
    np.testing.assert_allclose(attention.weights[0], expected, atol=1e-5)
    assert convolutional().attention(GREY) is None


def test_fused_and_plain_attention_are_both_seen() -> None:
    class Block(nn.Module):
        def __init__(self, fused: bool) -> None:
            super().__init__()
            self.fused, self.embed, self.head = fused, nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 4)

        def forward(self, x: Any) -> Any:
            x = self.embed(x).flatten(2).transpose(1, 2)
            q = x.reshape(len(x), -1, 2, 4).transpose(1, 2)
            if self.fused:
                y = nn.functional.scaled_dot_product_attention(q, q, q)
            else:
                y = (q @ q.transpose(-2, -1) / 2).softmax(dim=-1) @ q
            return self.head(y.transpose(1, 2).flatten(2).mean(dim=1))

    fused, plain = (TorchModel(seeded(Block(kind)), "embed", FINDINGS).attention(COLOUR) for kind in (True, False))
    np.testing.assert_allclose(fused.weights, plain.weights, atol=1e-6)
    np.testing.assert_allclose(fused.weights.sum(axis=-1), 1, atol=1e-5)


def test_rollout_on_paper() -> None:
    # Two tokens that look half at themselves and half at the other: with the residual 3/4 and 1/4; twice: 10/16 and 6/16.
    half = np.full((2, 1, 2, 2), 0.5, dtype=np.float32)
    np.testing.assert_allclose(rollout(Attention(half[:1], (1, 1))), [[0.25]])
    np.testing.assert_allclose(rollout(Attention(half, (1, 1))), [[6 / 16]])
    np.testing.assert_allclose(rollout(Attention(half, (1, 2))), [[0.5, 0.5]])


# The registry


def test_names() -> None:
    assert all(method_named(key).key == key for key in METHODS)
    assert set(known_methods()) >= set(METHODS) and len(CAMS) == 7
    with pytest.raises(UnknownNameError, match="did you mean 'lime'"):
        method_named("lme")


@pytest.mark.parametrize(("value", "sentence"), [
    ("storyxai.explain.rise:Rise", ""),
    ("no.such.module:Method", "method 'theirs': cannot be loaded from no.such.module:Method"),
    ("storyxai.explain.rise:rise_map", "method 'theirs': cannot be loaded"),
    ("builtins:dict", "method 'theirs': builtins:dict is no method of explanation"),
])
def test_methods_of_other_packages(monkeypatch: pytest.MonkeyPatch, value: str, sentence: str) -> None:
    points = [EntryPoint("theirs", value, registry.GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda group, name=None: points if name in (None, "theirs") else [])
    assert known_methods()[-1] == "theirs"
    if not sentence:
        assert method_named("theirs").key == "rise"
        return
    with pytest.raises(InputError, match=sentence) as told:
        method_named("theirs")
    assert "mend or uninstall" in str(told.value)
