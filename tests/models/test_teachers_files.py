"""Teachers in files: what they are shown and say, and every file that is none refused with its mend."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from onnx import TensorProto, helper, save
from safetensors.torch import save_file
from torch import nn

from checks.teacher_checks import check_teacher
from storyxai.errors import RecipeError, UnknownNameError, WeightsError
from storyxai.models.teachers import (
    KINDS,
    CallableTeacher,
    InputForm,
    NamedTeacher,
    onnx_teacher,
    open_teacher,
    timm_teacher,
    torch_program_teacher,
)
from storyxai.models.teachers.conversion import fit_state, read_state
from teaching_examples import toy_examples

FINDINGS = ("Effusion", "Mass")
MODEL = "mobilenetv3_small_050"


def images(count: int = 2) -> torch.Tensor:
    return torch.from_numpy(toy_examples(count).images).float().div(255).unsqueeze(1)


class MeanGrey(nn.Module):
    """Logits [mean of what is shown, three times it]."""

    def __init__(self) -> None:
        super().__init__()
        self.times = nn.Parameter(torch.tensor([1.0, 3.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(1, 2, 3))[:, None] * self.times


class Bomb:
    """A pickle that leaves a file behind when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


def graph(path: Path, shape: tuple[object, ...], *, kind: int = TensorProto.FLOAT) -> Path:
    """An ONNX graph: the mean over everything but the batch, then three times it beside it."""
    weights = helper.make_tensor("times", TensorProto.FLOAT, [1, 2], [1.0, 3.0])
    axes = helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3])
    made = helper.make_graph(
        [helper.make_node("ReduceMean", ["film", "axes"], ["mean"], keepdims=0),
         helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
         helper.make_node("MatMul", ["column", "times"], ["said"])],
        "toy", [helper.make_tensor_value_info("film", kind, shape)],
        [helper.make_tensor_value_info("said", TensorProto.FLOAT, [shape[0], 2])],
        [weights, axes, helper.make_tensor("last", TensorProto.INT64, [1], [1])],
    )
    save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_a_timm_model_is_shown_what_its_configuration_says(tmp_path: Path, channels: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(channels)
        model = timm.create_model(MODEL, pretrained=False, num_classes=2, in_chans=channels).eval()
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    teacher = timm_teacher(tmp_path / "net.safetensors", MODEL, findings=FINDINGS, size=64)
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    if channels == 1:
        mean, std = mean.mean()[None], std.mean()[None]
    shown = (images().expand(-1, channels, -1, -1) - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(teacher.answers(images()).findings, model(shown), rtol=1e-4, atol=1e-4)
    assert timm_teacher(tmp_path / "net.safetensors", MODEL, findings=FINDINGS).size == 224
    if channels == 3:
        check_teacher(teacher)
        save_file({**model.state_dict(), "classifier.bias": torch.ones(2)}, tmp_path / "other.safetensors")
        assert timm_teacher(tmp_path / "other.safetensors", MODEL, findings=FINDINGS, size=64).hash != teacher.hash
        with pytest.raises(WeightsError, match=r"'classifier\.weight' is \(2, 1024\), not \(3, 1024\), and 1 more"):
            timm_teacher(tmp_path / "net.safetensors", MODEL, findings=(*FINDINGS, "Nodule"))
        with pytest.raises(WeightsError, match="is missing, and"):
            timm_teacher(tmp_path / "net.safetensors", "mobilenetv3_large_100", findings=FINDINGS)
        with pytest.raises(UnknownNameError, match="did you mean 'mobilenetv3_small_050'"):
            timm_teacher(tmp_path / "net.safetensors", "mobilenetv3_smal_050", findings=FINDINGS)


def test_a_torchvision_classifier_and_a_segmenter(tmp_path: Path) -> None:
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = models.squeezenet1_1(weights=None, num_classes=2).eval()
        segmenter = models.get_model("lraspp_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=3).eval()
    save_file(classifier.state_dict(), tmp_path / "find.safetensors")
    save_file(segmenter.state_dict(), tmp_path / "draw.safetensors")
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    shown = (images().expand(-1, 3, -1, -1) - mean) / std
    find = open_teacher(NamedTeacher(
        "torchvision", "findings", path=str(tmp_path / "find.safetensors"), name="squeezenet1_1", findings=FINDINGS, size=64
    ))
    draw = open_teacher(NamedTeacher(
        "torchvision", "masks", path=str(tmp_path / "draw.safetensors"), name="lraspp_mobilenet_v3_large",
        findings=("background", "right lung", "left lung"), size=64,
    ))
    with torch.no_grad():
        torch.testing.assert_close(find.answers(images()).findings, classifier(shown), rtol=1e-4, atol=1e-4)
        masks, expected = draw.answers(images()).masks, segmenter(shown)["out"]
    assert masks.shape == (2, 3, 64, 64) and masks[:, 2].isnan().all()
    torch.testing.assert_close(masks[:, :2], expected[:, [2, 1]], rtol=1e-4, atol=1e-4)
    with pytest.raises(UnknownNameError, match="did you mean 'squeezenet1_1'"):
        open_teacher(NamedTeacher("torchvision", "findings", str(tmp_path / "find.safetensors"), "squeezenet11", FINDINGS))
    with pytest.raises(RecipeError, match=r"'squeezenet1_1': is none of masks.*segmenter"):
        open_teacher(NamedTeacher("torchvision", "masks", str(tmp_path / "draw.safetensors"), "squeezenet1_1"))


@pytest.mark.parametrize(("shape", "size"), [(("B", 1, 64, 64), 0), ((2, 1, 64, 64), 0), (("B", 3, "H", "W"), 32)])
def test_an_onnx_graph_says_what_it_takes(tmp_path: Path, shape: tuple[object, ...], size: int) -> None:
    teacher = onnx_teacher(graph(tmp_path / "net.onnx", shape), "-1024..1024", findings=FINDINGS, size=size)
    given = images(3)
    mean = 2048 * given.mean(dim=(1, 2, 3)) - 1024
    torch.testing.assert_close(teacher.answers(given).findings, torch.stack([mean, 3 * mean], dim=1), rtol=1e-3, atol=0.2)
    assert teacher.size == (size or 64)
    check_teacher(teacher)


def test_imagenet_range_fits_an_onnx_graph_of_one_channel(tmp_path: Path) -> None:
    teacher = onnx_teacher(graph(tmp_path / "net.onnx", ("B", 1, 64, 64)), "imagenet", findings=FINDINGS)
    mean = (images().mean(dim=(1, 2, 3)) - 0.449) / 0.226
    torch.testing.assert_close(teacher.answers(images()).findings[:, 0], mean, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "kind", "size", "said"),
    [
        (("B", 2, 64, 64), TensorProto.FLOAT, 0, r"takes images of \['B', 2, 64, 64\]"),
        (("B", 1, 64, 32), TensorProto.FLOAT, 0, "takes images of"),
        (("B", 1, 64, 64), TensorProto.FLOAT, 32, "leave `size` out"),
        (("B", 1, "H", "W"), TensorProto.FLOAT, 0, "any size.*at which `size`"),
        (("B", 1, 64, 64), TensorProto.DOUBLE, 0, r"takes (film: tensor\(double\)|nothing)|cannot be|is not a graph"),
    ],
)
def test_an_onnx_graph_of_another_input_is_refused(
    tmp_path: Path, shape: tuple[object, ...], kind: int, size: int, said: str
) -> None:
    with pytest.raises((WeightsError, RecipeError), match=said):
        onnx_teacher(graph(tmp_path / "net.onnx", shape, kind=kind), findings=FINDINGS, size=size)


@pytest.mark.parametrize("ending", [".pt2", ".ts"])
def test_a_torch_program_runs_only_when_trusted(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"net{ending}"
    if ending == ".pt2":
        batch = {0: torch.export.Dim("batch", min=1, max=64)}
        program = torch.export.export(MeanGrey().eval(), (torch.rand(2, 1, 64, 64),), dynamic_shapes=(batch,))
        torch.export.save(program, path)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.trace(MeanGrey().eval(), torch.rand(2, 1, 64, 64)).save(str(path))
    with pytest.raises(WeightsError, match=r"may run code while it is read.*trusted = true"):
        torch_program_teacher(path, InputForm(64), findings=FINDINGS)
    with pytest.raises(RecipeError, match="does not tell the size"):
        torch_program_teacher(path, InputForm(), findings=FINDINGS, trusted=True)
    teacher = torch_program_teacher(path, InputForm(64, high=255.0), findings=FINDINGS, trusted=True)
    mean = 255 * images().mean(dim=(1, 2, 3))
    torch.testing.assert_close(teacher.answers(images()).findings, torch.stack([mean, 3 * mean], dim=1), rtol=1e-4, atol=1e-2)
    check_teacher(teacher)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WeightsError, match="cannot be read"):
        torch_program_teacher(path, InputForm(64), findings=FINDINGS, trusted=True)


def test_a_pickle_is_never_run_whatever_it_is_called(tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    pickle.loads(pickle.dumps(Bomb(mark)))  # the bomb is a bomb
    mark.unlink()
    for ending in (".pt", ".pth", ".bin", ".pkl", ".safetensors", ".onnx", ".pt2", ".ts"):
        path = tmp_path / f"net{ending}"
        torch.save(Bomb(mark), path)
        for kind in ("timm", "torchvision", "onnx", "torch_program"):
            with pytest.raises((WeightsError, RecipeError)) as caught:
                open_teacher(NamedTeacher(kind, "findings", path=str(path), name=MODEL, findings=FINDINGS, size=64))
            assert caught.value.mend and not mark.exists()
    with pytest.raises(WeightsError, match=r"may be a pickle.*convert it once to \.safetensors"):
        read_state(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("content", "said"), [(None, "does not exist"), (b"", "has 0 bytes"), (b"not one", "cannot be read as safetensors")]
)
def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "net.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=said) as caught:
        read_state(path)
    assert str(path) in caught.value.what and caught.value.mend


def test_a_file_cut_short_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"times": torch.arange(100.0)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        read_state(path)
    path.write_bytes(whole)
    assert torch.equal(read_state(path)["times"], torch.arange(100.0))
    monkeypatch.setattr("storyxai.models.teachers.conversion.MOST_BYTES", 100)
    with pytest.raises(WeightsError, match=r"4 GiB"):
        read_state(path)


def test_weights_left_over_are_told() -> None:
    with pytest.raises(WeightsError, match="'more' is left over"):
        fit_state(MeanGrey(), {"times": torch.ones(2), "more": torch.ones(1)}, source="net")
    fitted = fit_state(MeanGrey(), {"times": torch.tensor([2.0, 4.0])}, source="net")
    assert not fitted.training and not any(p.requires_grad for p in fitted.parameters())
    assert fitted(torch.ones(1, 1, 2, 2)).tolist() == [[2.0, 4.0]]


@pytest.mark.parametrize(
    ("kind", "task", "keys", "said"),
    [
        ("tim", "findings", {}, "did you mean 'timm'"),
        ("onnx", "boxes", {}, "task 'boxes'"),
        ("timm", "masks", {}, "cannot teach masks"),
        ("huggingface", "findings", {}, "cannot teach findings.*teaches report"),
        ("onnx", "findings", {}, "names no file"),
        ("timm", "findings", {"path": "a.safetensors"}, "names no model"),
        ("onnx", "findings", {"path": "a.onnx"}, "names no finding"),
        ("onnx", "findings", {"path": "nowhere.onnx", "findings": FINDINGS}, "nowhere.onnx: does not exist"),
    ],
)
def test_a_recipe_that_names_no_teacher_is_refused(kind: str, task: str, keys: dict[str, object], said: str) -> None:
    assert len(KINDS) == 7
    with pytest.raises((RecipeError, UnknownNameError, WeightsError), match=said) as caught:
        open_teacher(NamedTeacher(kind, task, **keys))
    assert caught.value.mend and caught.value.exit_status == 2


def test_a_module_put_back_into_training_still_answers_alike(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(MODEL, pretrained=False, num_classes=2, in_chans=1)
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    teacher = timm_teacher(tmp_path / "net.safetensors", MODEL, findings=FINDINGS, size=64)
    first = teacher.answers(images()).findings
    module = next(cell.cell_contents for cell in teacher.function.__closure__ if isinstance(cell.cell_contents, nn.Module))
    module.train()
    assert torch.equal(teacher.answers(images()).findings, first)
    assert isinstance(teacher, CallableTeacher) and not np.isnan(first.numpy()).any()
