"""What people give beside their model: names, numbers for channels, sizes, and things that are no model."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from storyxai.errors import InputError
from storyxai.models.adapters.function import FunctionModel
from storyxai.models.adapters.settings import channel_numbers, checked_findings, checked_size
from storyxai.models.adapters.torch_model import TorchModel

FINDINGS = ("Mass", "Edema")
IMAGE = np.random.default_rng(0).random((1, 16, 16), dtype=np.float32)


class Net(nn.Module):
    """A convolution, a norm, and two logits that `last` may change."""

    def __init__(self, last: Callable[[Any], Any] = lambda logits: logits) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head, self.last = nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.Linear(4, 2), last

    def forward(self, images: torch.Tensor) -> Any:
        return self.last(self.head(self.norm(self.conv(images)).mean((2, 3))))


@pytest.mark.parametrize(("names", "said"), [
    (["Mass", "mass"], "differ in nothing but capitals"), (["Lung_Opacity", "Lung opacity"], "differ in nothing but capitals"),
    (["Mass", " Mass "], "twice"), (["0", "1"], "holds '0', which has no letter"), (["-", "Mass"], "no letter"),
    (["Mass\nEdema"], "cannot be printed on one line"), (["\x1b[31mMass"], "cannot be printed"),
    (["\u202eMass"], "cannot be printed"),
])  # fmt: skip
def test_names_that_no_story_can_tell_apart_are_refused(names: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        checked_findings(names)


def test_white_space_around_names_goes() -> None:
    assert checked_findings([" Mass", "Lung Opacity\t", "气胸"]) == ("Mass", "Lung Opacity", "气胸")


def test_numbers_for_channels_are_one_or_one_each() -> None:
    assert channel_numbers("mean", 0.5, 3) == (0.5,)
    assert channel_numbers("std", np.array([0.25, 0.5, 1.0]), 3) == channel_numbers("std", torch.tensor([0.25, 0.5, 1]), 3)
    assert channel_numbers("mean", None, 3) is None
    for what, given in (("mean", "imagenet"), ("mean", (1, 2)), ("std", (0.5, 0, 0.5)), ("std", -1), ("mean", np.nan)):
        with pytest.raises(InputError, match=what):
            channel_numbers(what, given, 3)


def test_a_size_is_one_side_or_two() -> None:
    assert (checked_size(None), checked_size(64), checked_size([64, 32])) == (None, (64, 64), (64, 32))
    for given in (0, -4, "64", (1, 2, 3), (64, 0), 64.5, True):
        with pytest.raises(InputError, match="size"):
            checked_size(given)


@pytest.mark.parametrize("given", [Net, Net().state_dict(), "net.pt", None])
def test_what_is_no_network_is_one_sentence(given: Any) -> None:
    with pytest.raises(InputError, match=r"module: is .* no network — give the network itself"):
        TorchModel(given, None, FINDINGS)


def test_a_network_without_weights_is_one_sentence() -> None:
    with pytest.raises(InputError, match="has no weights"):
        TorchModel(Net().to("meta"), None, FINDINGS)


@pytest.mark.parametrize(("last", "said"), [
    (torch.sigmoid, "ends in a sigmoid: it returns probabilities"), (lambda y: y.softmax(1), "ends in a softmax"),
    (lambda y: y.log_softmax(1), "ends in a log-softmax"), (lambda y: y.softmax(1) * 1.0, "sum to 1"),
    (lambda y: (y > 0).long(), "torch.int64, which are classes"), (lambda y: 1 // 0, r"cannot run .*ZeroDivisionError"),
])  # fmt: skip
def test_a_network_whose_answers_are_no_logits_is_refused(last: Callable[[Any], Any], said: str) -> None:
    """Of a softmax's 0.9 a sigmoid made 0.71, and of its 0.1 a score above one half."""
    with pytest.raises(InputError, match=said):
        TorchModel(Net(last), None, FINDINGS).look(IMAGE)


def test_a_network_s_own_error_stays_the_cause() -> None:
    with pytest.raises(InputError, match="give the size=") as refused:
        TorchModel(Net(), None, FINDINGS, transform=lambda images: images[:, :, 0]).logits(IMAGE[None])
    assert isinstance(refused.value.__cause__, ValueError)


def test_norms_that_learn_while_they_answer_get_their_means_back() -> None:
    net = Net()
    net.norm.register_forward_pre_hook(lambda norm, _: norm.train() and None)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    TorchModel(net, None, FINDINGS).look(IMAGE)
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())


@pytest.mark.parametrize(("function", "said"), [
    (lambda images: {"logits": [[0.0, 2.0]]}, "returns a dict"),
    (lambda images: [0.0, 2.0], r"returns shape \(2,\) for 1 images"),
    (lambda images: [[1.0], [1.0, 2.0]], "fails on images of shape"), (lambda images: 1 / 0, "ZeroDivisionError"),
    (lambda images: images.mean((2, 3)) * np.array([0.2, 0.9]), "say which with probabilities=True"),
    (lambda images: np.zeros((len(images), 2), int), "int64, which are classes"),
    (lambda images: np.full((len(images), 2), 0.5), "sum to 1: the probabilities of a softmax"),
])  # fmt: skip
def test_a_function_whose_answers_are_no_logits_is_refused(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        FunctionModel(function, FINDINGS).logits(IMAGE[None])


def test_a_function_may_answer_with_whatever_holds_its_numbers() -> None:
    """Lists and tensors were refused as "a list"; a table and an answer [B] of one finding too."""
    rows = [[-1.5, 2.5]]
    array = np.array(rows)
    for answer in (rows, tuple(rows), torch.tensor(rows, requires_grad=True), array[:, None], array[:, :, None]):
        assert FunctionModel(lambda _, said=answer: said, FINDINGS).logits(IMAGE[None]).tolist() == rows
    assert FunctionModel(lambda images: [3.0] * len(images), ["A"]).logits(np.stack([IMAGE] * 2)).tolist() == [[3], [3]]


def test_probabilities_of_a_function_are_told_as_such() -> None:
    """A probability of 0.02 was taken for a logit, and told as a score of 0.505."""
    model = FunctionModel(lambda images: np.array([[0.02, 0.5]] * len(images)), FINDINGS, probabilities=True)
    assert np.allclose(1 / (1 + np.exp(-model.logits(IMAGE[None]))), [[0.02, 0.5]])
    with pytest.raises(InputError, match="leave probabilities=True out"):
        FunctionModel(lambda images: np.array([[0.02, 1.5]]), FINDINGS, probabilities=True).logits(IMAGE[None])
    # Logits that lie within [0, 1] on one image lie elsewhere on others.
    steep = FunctionModel(lambda x: 9 * x.mean((2, 3)) - np.array([[4.0, 4.2]]), FINDINGS)
    assert np.allclose(steep.logits(np.full_like(IMAGE[None], 0.5)), [[0.5, 0.3]])


def test_a_function_may_change_what_it_is_given() -> None:
    images = IMAGE[None].copy()

    def darken(given: np.ndarray) -> np.ndarray:
        given -= 1
        return given.mean((2, 3)) * np.array([1.0, 2.0]) - 2

    FunctionModel(darken, FINDINGS).logits(images)
    assert np.array_equal(images, IMAGE[None])
    with pytest.raises(InputError, match="no function"):
        FunctionModel("net.pt", FINDINGS)  # type: ignore[arg-type]


def test_threads_take_turns_at_one_network() -> None:
    """Hooks of one thread saw the passes of another: "layer ran 3 times in one pass"."""
    model = TorchModel(Net(), "conv", FINDINGS)
    wanted = model.look(IMAGE)
    with ThreadPoolExecutor(4) as pool:
        looks = list(pool.map(lambda _: model.look(IMAGE), range(40)))
    assert wanted is not None
    assert all(look is not None and np.array_equal(look.features, wanted.features) for look in looks)
    assert model.module.training
