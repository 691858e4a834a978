"""Students, ONNX graphs and plain functions as models that can be explained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from storyxai.errors import InputError, UnsupportedMethodError, WeightsError
from storyxai.explain.cam import grad_cam
from storyxai.explain.contract import Budget
from storyxai.explain.registry import METHODS
from storyxai.models.adapters.function import FunctionModel
from storyxai.models.adapters.onnx_model import OnnxModel
from storyxai.models.adapters.torch_model import TorchModel
from storyxai.models.runtime import load_student
from storyxai.testing import check_method, check_model
from torch_networks import FINDINGS, Tokens, network, seeded

IMAGE = np.random.default_rng(1).random((1, 16, 16), dtype=np.float32)
FEW = Budget(samples=24, batch=8)


@pytest.fixture(scope="module")
def student(exported: Any) -> Any:
    return load_student(exported.folder)


def picture(student: Any) -> np.ndarray:
    return np.random.default_rng(2).random((1, *student.input_size), dtype=np.float32)


def test_a_student_is_such_a_model(student: Any) -> None:
    image = picture(student)
    check_model(student, image)
    for key in ("grad_cam", "evidence_grid", "score_cam"):
        check_method(METHODS[key], student, image, budget=FEW)


def test_a_student_s_gradients_are_those_of_its_network(student: Any, exported: Any) -> None:
    """The closed form on exported weights, against autograd on the network that was exported."""
    image = picture(student)
    ours = student.look(image)
    head = exported.network.finding_head
    features = torch.tensor(ours.features[None], requires_grad=True)
    logits = head(features)
    logits = logits[0] if isinstance(logits, torch.Tensor) else logits[1][0]
    for column in range(len(student.findings)):
        (theirs,) = torch.autograd.grad(logits.flatten()[column], features, retain_graph=True)
        np.testing.assert_allclose(ours.gradients[column], theirs[0].numpy(), atol=1e-5)


def test_a_student_draws_and_writes(student: Any) -> None:
    image = picture(student)
    answer = student.answer(image)
    drawn = student.structures(image)
    assert list(drawn) == ["left_lung", "right_lung", "heart"]
    np.testing.assert_array_equal(np.stack(list(drawn.values())), answer.masks)
    assert student.report(image).confidence == student.write_report(answer.memory)[1]
    with pytest.raises(UnsupportedMethodError, match="saliency: this model gives no gradients by its pixels"):
        METHODS["saliency"].explain(student, image, student.findings)


class Scored(nn.Module):
    """A network whose answers leave through a sigmoid."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        return torch.sigmoid(self.inner(x))


class Meant(nn.Module):
    """The mean over cells by `mean`, the linear layer without bias: another spelling of the same head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3, stride=4), nn.Linear(8, 4, bias=False)

    def forward(self, x: Any) -> Any:
        return self.head(torch.relu(self.conv(x)).mean(dim=(2, 3)))


def written(module: Any, path: Path, *, image: np.ndarray = IMAGE, batch: bool = True) -> Path:
    images = torch.tensor(image[None])
    shapes = {0: torch.export.Dim("batch")} if batch else None
    if batch:
        images = images.expand(2, -1, -1, -1).contiguous()
    torch.onnx.export(
        module, (images,), path, input_names=["x"], output_names=["y"], dynamo=True, external_data=False, verbose=False,
        dynamic_shapes=(shapes,) if batch else None,
    )
    return path


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    folder = tmp_path_factory.mktemp("graphs")
    modules = {"plain": network(), "scored": Scored(network()), "meant": seeded(Meant())}
    return {name: (module, written(module, folder / f"{name}.onnx")) for name, module in modules.items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "layer"), [("plain", "4"), ("scored", "inner.4"), ("meant", None)])
def test_a_graph_with_a_pooled_head_has_grad_cam_without_torch(graphs: Any, name: str, layer: str | None) -> None:
    module, path = graphs[name]
    model = OnnxModel(path, FINDINGS)
    check_model(model, IMAGE)
    check_method(METHODS["grad_cam"], model, IMAGE)
    plain = module.inner if name == "scored" else module
    np.testing.assert_allclose(model.logits(IMAGE[None]), plain(torch.tensor(IMAGE[None])).detach().numpy(), atol=1e-5)
    look = model.look(IMAGE, (2, 0))
    assert look.gradients.shape == (2, *look.features.shape)
    if name != "meant":
        theirs = TorchModel(plain, "4", FINDINGS).look(IMAGE, (2, 0))
        np.testing.assert_allclose(look.features, theirs.features, atol=1e-5)
        np.testing.assert_allclose(
            grad_cam(look.features, look.gradients), grad_cam(theirs.features, theirs.gradients), atol=1e-5
        )
    found = METHODS["grad_cam"].explain(model, IMAGE, ("c",))[0]
    assert found.values.shape == look.features.shape[1:] and found.values.max() >= 0


class SoftmaxOf(Scored):
    """A network whose answers share one whole."""

    def forward(self, x: Any) -> Any:
        return torch.softmax(self.inner(x), dim=1)


class OddsAgainst(nn.Module):
    """The log-odds of the softmax of a network's answers: the oracle of the closed form."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        return torch.logit(torch.softmax(self.inner(x).double(), dim=1)).float()


@pytest.mark.filterwarnings("ignore")
def test_a_softmax_is_told_as_its_own_probabilities(tmp_path: Path) -> None:
    """Each logit went through a sigmoid of its own: 0.9 and 0.1, of logits 1.1 and -1.1, were told as 0.75 and 0.25."""
    plain = network()
    model = OnnxModel(written(SoftmaxOf(plain), tmp_path / "shared.onnx"), FINDINGS)
    images = np.stack([IMAGE, 1 - IMAGE])
    said = torch.softmax(plain(torch.tensor(images)), dim=1).detach().numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-model.logits(images))), said, atol=1e-6)
    ours, theirs = model.look(IMAGE), TorchModel(OddsAgainst(plain), "inner.4", FINDINGS).look(IMAGE)
    np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-4)
    np.testing.assert_allclose(ours.gradients, theirs.gradients, atol=1e-5)
    np.testing.assert_allclose(model.look(IMAGE, (2,)).gradients[0], ours.gradients[2])


class ChannelsLast(Scored):
    def forward(self, x: Any) -> Any:
        return self.inner(x.permute(0, 3, 1, 2))


class OfBytes(Scored):
    def forward(self, x: Any) -> Any:
        return self.inner(x.float() / 255)


@pytest.mark.filterwarnings("ignore")
def test_graphs_that_take_channels_last_or_bytes_are_given_them(tmp_path: Path) -> None:
    torch.manual_seed(1)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    grey = (np.random.default_rng(4).integers(0, 256, (3, 12, 16)) / 255).astype(np.float32)
    expected = plain(torch.tensor(grey[None])).detach().numpy()
    last = OnnxModel(written(ChannelsLast(plain), tmp_path / "last.onnx", image=grey.transpose(1, 2, 0)), FINDINGS)
    assert (last.channels, last.input_size) == (3, (12, 16))
    np.testing.assert_allclose(last.logits(grey[None]), expected, atol=1e-5)
    whole = np.rint(grey * 255).astype(np.uint8)
    of_bytes = OnnxModel(written(OfBytes(plain), tmp_path / "bytes.onnx", image=whole), FINDINGS)
    np.testing.assert_allclose(of_bytes.logits(grey[None]), expected, atol=1e-5)
    odd = written(OfBytes(plain), tmp_path / "odd.onnx", image=whole.astype(np.int64))
    with pytest.raises(InputError, match=r"odd\.onnx: takes tensor\(int64\) — export it with an input of float"):
        OnnxModel(odd, FINDINGS)


@pytest.mark.filterwarnings("ignore")
def test_a_graph_with_another_head_says_so_and_serves_the_rest(tmp_path: Path) -> None:
    image = np.random.default_rng(3).random((3, 16, 16), dtype=np.float32)
    path = written(seeded(Tokens()), tmp_path / "tokens.onnx", image=image, batch=False)
    model = OnnxModel(path, FINDINGS, mean=(0.5,), std=(0.25, 0.25, 0.25))
    assert model.look(image) is None and model.input_size == (16, 16) and model.channels == 3
    with pytest.raises(UnsupportedMethodError, match="grad_cam: this model cannot be looked into — use a method"):
        METHODS["grad_cam"].explain(model, image, FINDINGS)
    # The graph takes one image at a time; the model takes batches all the same.
    expected = seeded(Tokens())(torch.tensor((np.stack([image, image / 2]) - 0.5) / 0.25)).detach().numpy()
    np.testing.assert_allclose(model.logits(np.stack([image, image / 2])), expected, atol=1e-4)
    for count in (1, 2):
        with pytest.raises(InputError, match=r"tokens\.onnx: cannot run on"):
            model.logits(np.zeros((count, 3, 8, 8), np.float32))


def test_without_the_package_that_reads_graphs_logits_are_still_told(graphs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    module, path = graphs["plain"]
    model = OnnxModel(path, FINDINGS)
    np.testing.assert_allclose(model.logits(IMAGE[None]), module(torch.tensor(IMAGE[None])).detach().numpy(), atol=1e-5)
    assert model.look(IMAGE) is None
    with pytest.raises(InputError, match=r"answers within \[0, 1\].* — say which with probabilities=True"):
        OnnxModel(graphs["scored"][1], FINDINGS).logits(IMAGE[None])


def test_graphs_and_settings_that_cannot_be(graphs: Any, tmp_path: Path) -> None:
    _, path = graphs["plain"]
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(WeightsError, match=r"junk\.onnx: is not a graph"):
        OnnxModel(tmp_path / "junk.onnx", FINDINGS)
    with pytest.raises(InputError, match="3 names for 4 logits"):
        OnnxModel(path, FINDINGS[:3]).logits(IMAGE[None])
    with pytest.raises(InputError, match="cannot run on"):
        OnnxModel(path, FINDINGS).logits(np.zeros((1, 1, 7, 9), np.float32))
    with pytest.raises(InputError, match="mean"):
        OnnxModel(path, FINDINGS, mean=(0.1, 0.2))
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(path.read_bytes() + b"\x00")
    assert OnnxModel(path, FINDINGS).model_id == OnnxModel(path, FINDINGS).model_id


def test_a_graph_of_a_fixed_batch_is_asked_in_batches_of_it(graphs: Any, tmp_path: Path) -> None:
    """The last batch is filled up: a graph exported for four images could not be told at all."""
    onnx = pytest.importorskip("onnx")
    _, path = graphs["plain"]
    graph = onnx.load(path)
    for end in (graph.graph.input[0], graph.graph.output[0]):
        end.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(graph, tmp_path / "four.onnx")
    images = np.random.default_rng(5).random((6, *IMAGE.shape), dtype=np.float32)
    fixed, free = (OnnxModel(one, FINDINGS).logits(images) for one in (tmp_path / "four.onnx", path))
    np.testing.assert_allclose(fixed, free, atol=1e-6)


def test_a_graph_that_cannot_be_opened_says_why(graphs: Any, tmp_path: Path) -> None:
    """The mend was always to copy the model again, also where it was a folder, or its weights were left behind."""
    onnx = pytest.importorskip("onnx")
    _, path = graphs["plain"]
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "empty.onnx").touch()
    onnx.save_model(onnx.load(path), tmp_path / "apart.onnx", save_as_external_data=True, location="w", size_threshold=0)
    (tmp_path / "w").unlink()
    newer = onnx.load(path)
    newer.ir_version = 99
    onnx.save(newer, tmp_path / "newer.onnx")
    for name, said in (
        ("gone", "no such file — check"), ("folder", "is a folder — name the ONNX file"), ("empty", "is empty — copy"),
        ("apart", "keeps its weights in another file, which is not there"), ("newer", "that this onnxruntime does not know"),
    ):
        with pytest.raises(WeightsError, match=rf"{name}\.onnx: .*{said}"):
            OnnxModel(tmp_path / f"{name}.onnx", FINDINGS)


def test_a_function_serves_methods_that_ask_for_logits_alone() -> None:
    model = FunctionModel(lambda x: x[:, 0].reshape(len(x), 2, -1).mean(axis=2), ("up", "down"), probabilities=False)
    check_model(model, IMAGE)
    up, down = METHODS["occlusion"].explain(model, IMAGE, ("up", "down"))
    assert np.abs(up.values[:4]).max() > 0 and np.abs(up.values[12:]).max() < 1e-6
    assert np.abs(down.values[12:]).max() > 0 and np.abs(down.values[:4]).max() < 1e-6
    for answer, sentence in (("0 1", "returns a str"), (np.zeros((1, 3)), "2 names for 3 logits")):
        with pytest.raises(InputError, match=sentence):
            FunctionModel(lambda x, said=answer: said, ("up", "down")).logits(IMAGE[None])
