"""Teachers from packages that are not installed here, tested with modules of the same interface."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from checks.teacher_checks import check_teacher
from storyxai.errors import UnknownNameError, WeightsError
from storyxai.modalities.chest_radiograph.grammar import GRAMMAR
from storyxai.models.teachers import (
    NamedTeacher,
    huggingface_writer,
    open_teacher,
    packages,
    retokenize,
    xrv_anatomy,
    xrv_classifier,
)
from storyxai.models.tokens import END, START, decode_tokens, full_vocabulary
from teaching_examples import toy_examples

LABELS = ("Effusion", "", "Lung Opacity", "Mass")
THRESHOLDS = (0.1, math.nan, 0.3, 0.02)
NAME = "densenet121-res224-toy"


def images(count: int = 2) -> Tensor:
    return torch.from_numpy(toy_examples(count).images).float().div(255).unsqueeze(1)


class FakeDenseNet(nn.Module):
    """The interface of TorchXRayVision's DenseNet: published weights bring operating points, none give logits."""

    def __init__(self, weights: str | None = None, num_classes: int = 4) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.linspace(1.0, 2.0, num_classes))
        self.op_threshs = torch.tensor(THRESHOLDS) if weights else None
        self.targets = list(LABELS)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1:] == (1, 224, 224) and float(x.min()) >= -1024 and float(x.max()) <= 1024
        out = (x.mean(dim=(1, 2, 3)) / 512)[:, None] * self.slopes
        return out if self.op_threshs is None else slow_op_norm(torch.sigmoid(out), self.op_threshs)


class FakePSPNet(nn.Module):
    """The interface of its anatomy segmenter: 14 structures at 512 x 512."""

    targets = ("Left Clavicle", "Right Clavicle", "Left Scapula", "Right Scapula", "Left Lung", "Right Lung",
               "Left Hilus Pulmonis", "Right Hilus Pulmonis", "Heart", "Aorta", "Facies Diaphragmatica", "Mediastinum",
               "Weasand", "Spine")  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1:] == (1, 512, 512)
        return x[:, :, ::64, ::64] / 1024 + torch.arange(14.0)[:, None, None] * 10


def slow_op_norm(outputs: Tensor, thresholds: Tensor) -> Tensor:
    """TorchXRayVision's normalisation, written from its description: 0.5 at the operating point and where there is none."""
    said = torch.full_like(outputs, 0.5)
    for row in range(len(outputs)):
        for column, t in enumerate(thresholds.tolist()):
            p = float(outputs[row, column])
            if not math.isnan(t):
                said[row, column] = p / (2 * t) if p < t else 1 - (1 - p) / (2 * (1 - t))
    return said


@pytest.fixture
def xrv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The package in place of the real one, its published files in a folder of the test's own."""
    models, anatomy = ModuleType("torchxrayvision.models"), ModuleType("torchxrayvision.baseline_models.chestx_det")
    models.DenseNet, models.ResNet, anatomy.PSPNet = FakeDenseNet, FakeDenseNet, FakePSPNet  # type: ignore[attr-defined]
    about = {"weights_url": "https://example.org/v1/toy.pt", "labels": list(LABELS), "op_threshs": list(THRESHOLDS)}
    models.model_urls = {NAME: about, "all": about, "resnet50-res512-toy": about}  # type: ignore[attr-defined]
    for name in ("torchxrayvision", "torchxrayvision.baseline_models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, models.__name__, models)
    monkeypatch.setitem(sys.modules, anatomy.__name__, anatomy)
    monkeypatch.setattr(packages, "XRV_FOLDER", tmp_path / "models_data")
    (tmp_path / "models_data").mkdir()
    return tmp_path / "models_data"


def test_op_norm_is_undone_exactly() -> None:
    thresholds = torch.tensor(THRESHOLDS)
    probabilities = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    back = packages.undo_op_norm(slow_op_norm(probabilities, thresholds), thresholds)
    assert back[:, 1].isnan().all()
    known = [0, 2, 3]
    torch.testing.assert_close(back[:, known], probabilities[:, known].double(), rtol=1e-4, atol=1e-6)


def test_a_classifier_of_torchxrayvision_speaks_in_its_own_logits(xrv: Path) -> None:
    (xrv / "toy.pt").write_bytes(b"published")
    published = xrv_classifier(None, NAME, trusted=True)
    logit = ((2048 * images().mean(dim=(1, 2, 3)) - 1024) / 512)[:, None] * torch.linspace(1.0, 2.0, 4)
    said = published.answers(images()).findings
    torch.testing.assert_close(said[:, [0, 2, 3]], logit[:, [0, 2, 3]], rtol=1e-2, atol=1e-2)
    assert said[:, 1].isnan().all()  # the 0.5 of a finding that these weights do not know is no answer
    check_teacher(published)
    save_file(FakeDenseNet().state_dict(), xrv / "mine.safetensors")
    safe = open_teacher(NamedTeacher("torchxrayvision", "findings", path=str(xrv / "mine.safetensors"), name=NAME))
    torch.testing.assert_close(safe.answers(images()).findings, said, rtol=1e-3, atol=1e-3, equal_nan=True)
    assert safe.hash != published.hash


def test_torchxrayvision_says_what_is_missing_and_how_to_get_it(xrv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=r"toy\.pt: is a pickle.*trusted = true"):
        xrv_classifier(None, NAME)
    with pytest.raises(WeightsError, match=r"is not there.*https://example\.org/v1/toy\.pt"):
        xrv_classifier(None, NAME, trusted=True)
    with pytest.raises(UnknownNameError, match=f"did you mean '{NAME}'"):
        xrv_classifier(None, "densenet121-res224-toi")
    with pytest.raises(WeightsError, match="only DenseNets"):
        xrv_classifier(xrv / "x.safetensors", "resnet50-res512-toy")
    with pytest.raises(WeightsError, match=r"is not there.*pspnet_chestxray_best_model_4\.pth"):
        xrv_anatomy()
    for module in ("torchxrayvision.models", "torchxrayvision.baseline_models.chestx_det"):
        monkeypatch.setitem(sys.modules, module, None)
    for kind, task in (("torchxrayvision", "findings"), ("torchxrayvision_anatomy", "masks")):
        with pytest.raises(WeightsError, match=r"need the package torchxrayvision.*pip install torchxrayvision"):
            open_teacher(NamedTeacher(kind, task))


def test_a_published_file_that_torch_refuses_is_told(xrv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(weights: str) -> nn.Module:
        return torch.load(xrv / "toy.pt", weights_only=True)

    (xrv / "toy.pt").write_bytes(b"published")
    monkeypatch.setattr(sys.modules["torchxrayvision.models"], "DenseNet", refuse)
    with pytest.raises(WeightsError, match=r"cannot be loaded.*convert it to safetensors"):
        xrv_classifier(None, NAME, trusted=True)


def test_the_anatomy_segmenter_gives_lungs_and_heart(xrv: Path) -> None:
    (xrv / packages.PSPNET_FILE).write_bytes(b"published")
    teacher = xrv_anatomy()
    said = teacher.answers(images()).masks
    base = said[:, 0] - 40
    assert said.shape == (2, 3, 8, 8) and float(base.abs().max()) <= 1
    assert torch.allclose(said[:, 1], base + 50) and torch.allclose(said[:, 2], base + 80)
    check_teacher(teacher)


class FakeWriter:
    """The interface of a vision-encoder-decoder model: one of two reports, by the brightness of the left half."""

    def eval(self) -> FakeWriter:
        return self

    def generate(self, shown: Tensor, *, do_sample: bool, num_beams: int, max_new_tokens: int) -> Tensor:
        assert not do_sample and num_beams == 1 and max_new_tokens > 0
        half = shown.shape[-1] // 2
        return (shown[:, 0, :, :half].mean(dim=(1, 2)) > shown[:, 0, :, half:].mean(dim=(1, 2))).long()[:, None]


class FakeProcessor:
    def __call__(self, images: list[Any], *, return_tensors: str) -> dict[str, Tensor]:
        assert return_tensors == "pt" and all(one.shape[2] == 3 and one.dtype == np.uint8 for one in images)
        return {"pixel_values": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255}


class FakeTokenizer:
    def batch_decode(self, rows: Tensor, *, skip_special_tokens: bool) -> list[str]:
        assert skip_special_tokens
        return [("The lungs are clear.", " Cardiomegaly. The dog barks. ")[int(row)] for row in rows[:, 0]]


@pytest.fixture
def report_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder as it is downloaded, and a package of transformers' interface."""
    seen: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    package = ModuleType("transformers")
    for name, made in (("VisionEncoderDecoderModel", FakeWriter), ("AutoImageProcessor", FakeProcessor),
                       ("AutoTokenizer", FakeTokenizer)):
        def load(folder: str, *, made: type = made, use_safetensors: bool = True, **options: object) -> object:
            assert Path(folder) == tmp_path and options == seen and use_safetensors
            return made()

        setattr(package, name, type(name, (), {"from_pretrained": staticmethod(load)}))
    monkeypatch.setitem(sys.modules, "transformers", package)
    (tmp_path / "config.json").write_text("{}")
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    return tmp_path


def test_a_report_model_writes_and_its_sentences_become_targets(report_model: Path) -> None:
    teacher = huggingface_writer(report_model)
    check_teacher_of_words(teacher)
    reports = teacher.reports(images())
    assert reports == ["Cardiomegaly. The dog barks.", "The lungs are clear."]
    words = full_vocabulary(GRAMMAR.vocabulary())
    rows, kept = retokenize(reports, words, tokenize=GRAMMAR.tokenize, length=16)
    assert rows.shape == (2, 16) and rows.dtype == np.int64 and kept == pytest.approx(2 / 3)
    written = [" ".join(GRAMMAR.detokenize(decode_tokens(row[1:].tolist(), words))) for row in rows]
    assert written == ["Cardiomegaly.", "The lungs are clear."]
    assert (rows[:, 0] == START).all() and (rows == END).sum(axis=1).tolist() == [1, 1]


def test_a_report_model_is_shown_the_colours(report_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    plain = FakeProcessor.__call__

    def watched(self: FakeProcessor, images: list[Any], *, return_tensors: str) -> dict[str, Tensor]:
        seen.extend(images)
        return plain(self, images, return_tensors=return_tensors)

    monkeypatch.setattr(FakeProcessor, "__call__", watched)
    huggingface_writer(report_model).reports(torch.tensor([1.0, 0.4, 0.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8))
    assert seen[0].shape == (8, 8, 3) and seen[0][2, 5].tolist() == [255, 102, 0]


def check_teacher_of_words(teacher: Any) -> None:
    from checks import teacher_checks

    for check in teacher_checks.CHECKS:
        check(teacher)


def test_what_cannot_be_said_in_our_words_is_left_out() -> None:
    words = full_vocabulary(("lungs", "clear", "."))
    reports = ["", "dog .", "lungs clear . lungs clear ."]
    rows, kept = retokenize(reports, words, tokenize=str.split, length=6)
    assert not rows[:2].any() and kept == pytest.approx(1 / 3)  # the second sentence does not fit
    assert rows[2].tolist() == [START, 4, 5, 6, END, 0]
    assert retokenize([], words, tokenize=str.split, length=4)[1] == 0.0


def test_a_report_model_that_is_incomplete_says_what_to_get(report_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = huggingface_writer(report_model).hash
    (report_model / "config.json").write_text('{"a": 1}')
    assert huggingface_writer(report_model).hash != before
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(WeightsError, match=r"need the package transformers.*pip install transformers"):
        open_teacher(NamedTeacher("huggingface", "report", path=str(report_model)))
    (report_model / "model.safetensors").rename(report_model / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"holds no model\.safetensors; its weights are pickled.*download"):
        huggingface_writer(report_model)
    with pytest.raises(WeightsError, match=r"holds no config\.json.*huggingface-cli download"):
        huggingface_writer(report_model / "nowhere")
