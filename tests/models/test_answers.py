"""What models answer is taken for what it is: probabilities for those, and each image's answer for its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from storyxai.errors import InputError
from storyxai.explain.registry import METHODS
from storyxai.models.adapters.function import FunctionModel
from storyxai.models.adapters.onnx_model import OnnxModel
from storyxai.models.adapters.torch_model import TorchModel
from torch_networks import network, seeded

FINDINGS = ("Effusion", "Edema", "Pneumonia", "Emphysema")
GREY = np.linspace(0.2, 1, 6, dtype=np.float32)[:, None, None, None]
IMAGES = np.random.default_rng(5).random((6, 1, 16, 16), dtype=np.float32) * GREY
LOGITS = network()(torch.tensor(IMAGES)).detach().numpy()


class Ending(nn.Module):
    """The small network and a last step; what goes in can be changed first."""

    def __init__(self, last: Callable[[Any], Any], first: Callable[[Any], Any] = lambda x: x) -> None:
        super().__init__()
        self.net, self.last, self.first = network(), last, first

    def forward(self, x: Any) -> Any:
        return self.last(self.net(self.first(x)))


HIDDEN: dict[str, Callable[[Any], Any]] = {
    "times one": lambda y: y.sigmoid() * 1.0,
    "mean of two": lambda y: (y.sigmoid() + y.sigmoid()) / 2,
    "by hand": lambda y: 1 / (1 + torch.exp(-y)),
    "rounded": lambda y: torch.round(y.sigmoid(), decimals=4),
    "hard": nn.functional.hardsigmoid,
    "out of numpy": lambda y: torch.from_numpy(y.detach().sigmoid().numpy()),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_probabilities_that_no_step_gives_away_are_asked_about(kind: str) -> None:
    model = TorchModel(Ending(HIDDEN[kind]), None, FINDINGS)
    for asked in (lambda: model.logits(IMAGES[:1]), lambda: model.look(IMAGES[0]) or model.logits(IMAGES[:1])):
        with pytest.raises(InputError, match="say which with probabilities=True or probabilities=False"):
            asked()


def test_logits_between_zero_and_one_are_told_where_a_linear_layer_makes_them_or_the_user_says_so() -> None:
    net = network()
    with torch.no_grad():
        net[7].weight.mul_(1e-3), net[7].bias.fill_(0.5)
    assert 0 < TorchModel(net, None, FINDINGS).logits(IMAGES).min() < 1
    times = TorchModel(Ending(lambda y: y * 0 + 0.5), None, FINDINGS, probabilities=False)
    np.testing.assert_array_equal(times.logits(IMAGES), 0.5)


@pytest.mark.parametrize("last", [torch.sigmoid, lambda y: y.sigmoid() * 1.0])
def test_told_probabilities_have_the_logits_maps_and_attributions_of_what_is_before_them(last: Callable[[Any], Any]) -> None:
    model, plain = TorchModel(Ending(last), "net.3", FINDINGS, probabilities=True), TorchModel(network(), "3", FINDINGS)
    np.testing.assert_allclose(model.logits(IMAGES), LOGITS, atol=1e-4)
    for mine, theirs in zip(model.look(IMAGES[0])[:3], plain.look(IMAGES[0])[:3], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)
    np.testing.assert_allclose(model.input_gradients(IMAGES), plain.input_gradients(IMAGES), atol=1e-4)
    asked = METHODS["input_x_gradient"]
    maps = [asked.explain(one, IMAGES[0], FINDINGS[:1])[0].values for one in (model, plain)]
    np.testing.assert_allclose(*maps, atol=1e-4)


def test_classes_that_exclude_each_other_are_told_by_their_own_probabilities() -> None:
    model = TorchModel(Ending(nn.Softmax(1)), None, FINDINGS, probabilities=True)
    told = 1 / (1 + np.exp(-model.logits(IMAGES)))
    np.testing.assert_allclose(told, torch.softmax(torch.tensor(LOGITS), 1).numpy(), atol=1e-5)
    with pytest.raises(InputError, match="leave probabilities=True out"):
        TorchModel(Ending(lambda y: 9 * y), None, FINDINGS, probabilities=True).logits(IMAGES)


MIXING: dict[str, Callable[[Any], Any]] = {
    "standardised over the batch": lambda x: (x - x.mean()) / x.std(),
    "divided by the batch's largest": lambda x: x / x.amax(),
    "a norm without running means": nn.BatchNorm2d(1, track_running_stats=False),
}


@pytest.mark.parametrize("kind", MIXING)
def test_no_answer_hangs_on_the_images_beside_it(kind: str) -> None:
    net = Ending(lambda y: y, MIXING[kind]).eval()
    model = TorchModel(net, None, FINDINGS)
    with torch.no_grad():
        alone = np.concatenate([net(torch.tensor(image[None])).numpy() for image in IMAGES])
        together = net(torch.tensor(IMAGES)).numpy()
    assert np.abs(alone - together).max() > 0.1
    np.testing.assert_allclose(model.logits(IMAGES), alone, atol=1e-5)
    gradients = [model.input_gradients(image[None])[0] for image in IMAGES]
    np.testing.assert_allclose(TorchModel(net, None, FINDINGS).input_gradients(IMAGES), gradients, atol=1e-6)

    def function(images: Any) -> Any:
        with torch.no_grad():
            return net(torch.tensor(images))

    np.testing.assert_allclose(FunctionModel(function, FINDINGS).logits(IMAGES), alone, atol=1e-5)


def test_a_model_that_keeps_images_apart_is_asked_for_batches() -> None:
    sizes: list[int] = []

    def function(images: Any) -> Any:
        sizes.append(len(images))
        return network()(torch.tensor(images))

    model = FunctionModel(function, FINDINGS)
    for _ in range(3):
        model.logits(IMAGES)
    assert sizes == [6, 1, 1, 6, 6]


def graph(path: Path, ends: list[Any], last: str, *, kind: int = TensorProto.FLOAT, values: Any = None) -> Path:
    """Weighted means of the image as logits of two findings, then the nodes `ends`, of which `last` is what comes out."""
    weights = np.array([[4, -2], [1, 3]], np.float32).repeat(128, axis=0) / 64
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["logits"]), *ends]
    out = values or helper.make_tensor_value_info(last, kind, None)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 16, 16])]
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array(0.5, np.float32), "half")]
    built = helper.make_graph(nodes, "g", inputs, [out], constants)
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    onnx.save(helper.make_model(built, opset_imports=versions, ir_version=8), str(path))
    return path


def steps(*names: str, **options: Any) -> list[Any]:
    """Nodes one behind another, from the logits to "y"."""
    between = ["logits", *(f"t{number}" for number in range(len(names) - 1)), "y"]
    return [helper.make_node(name, [between[i]], [between[i + 1]], **(options if i == 0 else {}))
            for i, name in enumerate(names)]


@pytest.mark.parametrize("names", [
    ("Sigmoid", "Flatten"), ("Sigmoid", "Identity", "Clip"), ("LogSoftmax",), ("Softmax", "Flatten"),
])
def test_a_graph_s_last_step_is_seen_through_what_only_shapes_its_answer(names: tuple[str, ...], tmp_path: Path) -> None:
    plain = OnnxModel(graph(tmp_path / "plain.onnx", steps("Identity"), "y"), FINDINGS[:2]).logits(IMAGES)
    found = OnnxModel(graph(tmp_path / "net.onnx", steps(*names), "y"), FINDINGS[:2]).logits(IMAGES)
    exclusive = np.stack([plain[:, 0] - plain[:, 1], plain[:, 1] - plain[:, 0]], axis=1)
    np.testing.assert_allclose(found, exclusive if names[0].endswith("Softmax") else plain, atol=1e-5)


def test_a_graph_that_hides_its_probabilities_is_asked_about_and_told(tmp_path: Path) -> None:
    ends = [helper.make_node("Sigmoid", ["logits"], ["s"]), helper.make_node("Add", ["s", "s"], ["twice"]),
            helper.make_node("Mul", ["twice", "half"], ["y"])]
    path = graph(tmp_path / "net.onnx", ends, "y")
    with pytest.raises(InputError, match="--probabilities or --logits"):
        OnnxModel(path, FINDINGS[:2]).logits(IMAGES)
    plain = OnnxModel(graph(tmp_path / "plain.onnx", steps("Identity"), "y"), FINDINGS[:2]).logits(IMAGES)
    np.testing.assert_allclose(OnnxModel(path, FINDINGS[:2], probabilities=True).logits(IMAGES), plain, atol=1e-4)


def test_a_graph_whose_first_output_holds_no_numbers_names_it(tmp_path: Path) -> None:
    label = graph(tmp_path / "label.onnx", steps("ArgMax", axis=1), "y", kind=TensorProto.INT64)
    sequence = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    several = graph(tmp_path / "several.onnx", steps("SequenceConstruct"), "y", values=sequence)
    for path, said in ((label, "tensor.int64"), (several, "seq.tensor.float")):
        with pytest.raises(InputError, match=f"gives {said}.* as its first output 'y', which are no logits"):
            OnnxModel(path, FINDINGS[:2])


def test_a_network_that_was_compiled_or_wrapped_is_the_one_inside() -> None:
    plain = TorchModel(network(), "3", FINDINGS)
    compiled = torch.compile(network(), backend="eager")
    in_place = network()
    in_place.compile(backend="aot_eager")
    for net in (compiled, nn.DataParallel(network()), in_place):
        model = TorchModel(net, "3", FINDINGS)
        np.testing.assert_array_equal(model.look(IMAGES[0]).gradients, plain.look(IMAGES[0]).gradients)
        assert model.model_id == plain.model_id


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore::DeprecationWarning")
def test_graphs_of_torch_jit_are_told_by_methods_that_ask_for_logits() -> None:
    traced = torch.jit.trace(network(), torch.tensor(IMAGES[:1]))
    for net in (traced, torch.jit.script(network()), torch.jit.freeze(traced)):
        model = TorchModel(net, None, FINDINGS, channels=1)
        assert model.look(IMAGES[0]) is None
        np.testing.assert_allclose(model.logits(IMAGES), LOGITS, atol=1e-5)
    with pytest.raises(InputError, match="scripted or traced"):
        TorchModel(traced, "3", FINDINGS, channels=1).look(IMAGES[0])


class Half(nn.Module):
    """A frozen part under no_grad, and a head on it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Any) -> Any:
        with torch.no_grad():
            features = self.net[:4](x)
        return self.net[4:](features)


def test_a_layer_inside_a_no_grad_of_the_network_has_its_gradients() -> None:
    plain = TorchModel(network(), "3", FINDINGS).look(IMAGES[0])
    np.testing.assert_array_equal(TorchModel(Half(), "net.3", FINDINGS).look(IMAGES[0]).gradients, plain.gradients)
    blind = Ending(lambda y: torch.from_numpy(3 * y.detach().numpy()))
    with pytest.raises(InputError, match="does not move the logits as far as torch can see"):
        TorchModel(blind, "net.3", FINDINGS).look(IMAGES[0])


class Keeping(nn.Module):
    """A last step whose state is no tensor alone, as that of quantised layers."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("sparse", torch.eye(3).to_sparse())

    def get_extra_state(self) -> Any:
        return {"scale": (self.scale, None), "kind": torch.qint8, "weight": torch.tensor([self.scale]), "made by": object()}

    def set_extra_state(self, state: Any) -> None:
        self.scale = state["scale"][0]

    def forward(self, x: Any) -> Any:
        return self.scale * x


def test_whatever_layers_keep_belongs_to_what_a_network_is_known_by() -> None:
    one, same, other = (TorchModel(nn.Sequential(network(), Keeping(scale)), "0.3", FINDINGS) for scale in (2.0, 2.0, 3.0))
    np.testing.assert_allclose(one.logits(IMAGES), 2 * LOGITS, atol=1e-5)
    assert one.model_id == same.model_id != other.model_id


def test_a_network_whose_lazy_layers_never_ran_is_refused_and_left_as_it_is() -> None:
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(4))
    with pytest.raises(InputError, match="layers that never ran"):
        TorchModel(net, None, FINDINGS, channels=1)
    assert net[0].has_uninitialized_params()


def test_what_a_model_reads_can_be_named_beside_it(tmp_path: Path) -> None:
    path = graph(tmp_path / "net.onnx", steps("Identity"), "y")
    names = ("Mass", "Benign")
    for make in (
        lambda kind: TorchModel(seeded(nn.Linear(1, 1)), None, names, channels=1, modality=kind),
        lambda kind: FunctionModel(lambda images: images, names, modality=kind),
        lambda kind: OnnxModel(path, names, modality=kind),
    ):
        assert make("chest_radiograph").modality.key == "chest_radiograph" and make(None).modality is None
        with pytest.raises(InputError, match="did you mean 'chest_radiograph'"):
            make("chest_radiographs")
