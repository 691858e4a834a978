"""A stranger's network, file or function becomes a story by the five lines of README, with nothing but logits to go on."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from torch import nn

import storyxai as sx
from storyxai import cli
from storyxai.errors import InputError, UnknownNameError
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH
from storyxai.phantoms.generate import generate_phantom

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
SIDE = 128
FINDINGS = ["Effusion", "Edema"]


class Convolutional(nn.Module):
    """Three convolutions, the last one called layer4, and a linear head on their means."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 8, 3, 4, 1), nn.ReLU())
        self.layer4 = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(inplace=True))
        self.head = nn.Linear(16, len(FINDINGS))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer4(self.stem(images)).mean((2, 3)))


class Transformer(nn.Module):
    """Patches of 16 pixels as tokens behind a class token, two blocks, a head on the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 16, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.places = nn.Parameter(torch.randn(1, 1 + (SIDE // 16) ** 2, 16))
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) for _ in range(2))
        self.head = nn.Linear(16, len(FINDINGS))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], dim=1) + self.places
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens[:, 0])


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make()


def _function(images: np.ndarray) -> np.ndarray:
    """Two logits that follow the brightness of the lower left quarter and of the upper half."""
    low, high = images[:, 0, SIDE // 2 :, SIDE // 2 :].mean((1, 2)), images[:, 0, : SIDE // 2].mean((1, 2))
    return np.stack([8 * low - 2, 4 * high - 2], axis=1)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom as a DICOM file, film.dcm."""
    pixels = np.round(generate_phantom(7, size=SIDE).image.pixels * 4095).astype(np.uint16)
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.1", "1.2.3.4", "CR"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, "1.2.3.4"
    path = tmp_path_factory.mktemp("film") / "film.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The convolutional network as an ONNX file, net.onnx."""
    path = tmp_path_factory.mktemp("graph") / "net.onnx"
    images = torch.zeros(2, 1, SIDE, SIDE)
    torch.onnx.export(
        _seeded(Convolutional).eval(), (images,), str(path), input_names=["images"], output_names=["logits"], dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False, verbose=False,
    )
    return path


def test_the_five_lines_of_readme_make_a_page_with_maps(
    film: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(film.parent)
    names: dict[str, object] = {"net": _seeded(Convolutional)}
    exec(lines.replace('"story.html"', repr(str(tmp_path / "story.html"))), names)
    page = (tmp_path / "story.html").read_text(encoding="utf-8")
    assert page.count("<img") >= 1 and "Grad-CAM" in page and "LIME" in page
    assert "No card came with this model" in page and "No calibration came with this model" in page
    assert not list(film.parent.glob("*.html"))


MODELS: dict[str, Callable[[], object]] = {
    "one channel": lambda: sx.TorchModel(_seeded(Convolutional), layer="layer4", findings=FINDINGS),
    "three channels": lambda: sx.TorchModel(_seeded(lambda: Convolutional(3)), findings=FINDINGS),
    "transformer": lambda: sx.TorchModel(_seeded(Transformer), layer="blocks.0", findings=FINDINGS, size=SIDE),
    "function": lambda: sx.FunctionModel(_function, FINDINGS, size=(SIDE, SIDE)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model_is_told_to_every_reader(kind: str, film: Path, tmp_path: Path) -> None:
    model, image = MODELS[kind](), sx.read(film)
    evidence = sx.gather(model, image, methods=["grad_cam", "lime"], settings=sx.GatherSettings(samples=100))
    again = sx.gather(MODELS[kind](), image, methods=["grad_cam", "lime"], settings=sx.GatherSettings(samples=100))
    methods = {heatmap.method for heatmap in evidence.heatmaps}
    assert methods == ({"lime"} if kind == "function" else {"grad_cam", "lime"})
    assert all(heatmap.values.shape == image.pixels.shape for heatmap in evidence.heatmaps)
    for audience in ("clinician", "practitioner", "patient", "auditor"):
        page = sx.render(sx.tell(evidence, audience), tmp_path / f"{audience}.html").read_bytes()
        assert page == sx.render(sx.tell(again, audience), tmp_path / "again.html").read_bytes()
        shown = re.sub(rb"<(script|style).*?</\1>", b"", page, flags=re.DOTALL)
        assert not re.search(rb"version ,|find \.|weights \.", shown), "a sentence with a hole"


def test_what_a_function_says_where_it_looks_is_found(film: Path) -> None:
    """The first logit hangs on the lower right of the picture alone: that is where LIME's map must be."""
    heatmap, _ = sx.explain(MODELS["function"](), sx.read(film), finding="Effusion", method="lime")
    values = np.abs(heatmap.values)
    inside = values[SIDE // 2 :, SIDE // 2 :].sum() / values.sum()
    assert inside > 0.8


def _run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["storyxai", *map(str, words)])
    with pytest.raises(SystemExit) as leave:
        cli.main()
    return leave.value.code if isinstance(leave.value.code, int) else 0


def test_an_onnx_file_is_told_and_verified_on_the_command_line(
    graph: Path, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model", graph, "--findings", "Effusion, Edema", "--samples", 100)
    assert _run(monkeypatch, "tell", film, "--out", tmp_path, *words, "--json") == 0, capsys.readouterr().err
    (told,) = json.loads(capsys.readouterr().out)["told"]
    assert set(told["findings"]) == set(FINDINGS) and len(told["pages"]) == 4
    record = json.loads((Path(told["folder"]) / "evidence.json").read_bytes())
    assert {method for maps in record["heatmaps"].values() for method in maps} == {"grad_cam", "lime"}
    assert _run(monkeypatch, "verify", told["folder"]) == 0, capsys.readouterr().out
    out = tmp_path / "map.png"
    explained = ("explain", film, "--finding", "effusion", "--method", "occlusion", "--out", out, *words)
    assert _run(monkeypatch, *explained) == 0, capsys.readouterr().err
    assert out.is_file()


def test_what_a_graph_does_not_say_of_itself_can_be_typed(
    graph: Path, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*words: object) -> tuple[dict[str, float], str, str]:
        audience = ("--audience", "auditor", "--samples", 100)
        asked = ("tell", film, "--out", tmp_path, "--model", graph, "--findings", "Mass,Plaque", *audience, "--json", *words)
        assert _run(monkeypatch, *asked) == 0
        said = capsys.readouterr()
        (one,) = json.loads(said.out)["told"]
        record = json.loads((Path(one["folder"]) / "evidence.json").read_bytes())
        told_of = {name: item["probability"] for name, item in one["findings"].items()}
        return told_of, record["provenance"]["settings"]["modality"], said.err

    plain, modality, doubt = told()
    assert modality == "image" and "'Mass' says too little" in doubt and doubt.count("--modality chest_radiograph") == 1
    other, modality, doubt = told("--modality", "chest_radiograph", "--mean", "0.5", "--std", "0.25", "--logits")
    assert modality == "chest_radiograph" and "says too little" not in doubt
    library = sx.OnnxModel(graph, findings=["Mass", "Plaque"], mean=[0.5], std=[0.25])
    expected = sx.gather(library, sx.read(film), methods=["grad_cam"], settings=sx.GatherSettings(modality=CHEST_RADIOGRAPH))
    assert other == pytest.approx({one.name: one.probability for one in expected.prediction.findings}, abs=1e-4)
    assert plain != other


def test_the_page_of_the_library_is_the_page_of_the_command(
    graph: Path, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--model", graph, "--findings", "Effusion,Edema", "--samples", 100, "--audience", "practitioner")
    assert _run(monkeypatch, "tell", film, "--out", tmp_path, *words) == 0
    (page,) = tmp_path.glob("*/practitioner.html")
    evidence = sx.gather(sx.OnnxModel(graph, findings=FINDINGS), sx.read(film), settings=sx.GatherSettings(samples=100))
    ours = sx.render(sx.tell(evidence, "practitioner"), tmp_path / "ours.html")
    assert ours.read_bytes() == page.read_bytes()
    folder = sx.save_evidence(evidence, tmp_path / "kept")
    assert sx.tell(sx.load_evidence(folder), "practitioner") == sx.tell(evidence, "practitioner")


@pytest.mark.parametrize(("words", "said"), [
    (("--model", "net.onnx"), "--findings"),
    (("--findings", "Effusion"), "a student names its own"),
    (("--model", "gone.onnx", "--findings", "Effusion"), "gone.onnx: is not there"),
    (("--model", "film.dcm"), "film.dcm: is no model"),
    (("--model", "film.dcm", "--findings", "Effusion"), "film.dcm: is no model"),
    (("--model", "gone", "--findings", "Effusion"), "gone: is not there"),
    (("--model", "net.pt", "--findings", "Effusion"), "net.pt: holds weights, and no graph that says how to use them"),
    (("--method", "grad_cm"), "'grad_cam'"),
    (("--model", "net.onnx", "--findings", "Effusion"), "findings"),
    (("--model", "net.onnx", "--findings", "Effusion,Effusion"), "twice"),
    (("--model", "net.onnx", "--findings", "Effusion,Edema", "--mean", "0.5;0.4"), "--mean 0.485,0.456,0.406"),
    (("--model", "net.onnx", "--findings", "Effusion,Edema", "--std", "0"), "a std above zero"),
    (("--model", "net.onnx", "--findings", "Effusion,Edema", "--modality", "chest_radiographs"), "'chest_radiograph'"),
    (("--probabilities",), "is a student: --modality"),
])
def test_a_choice_of_model_that_cannot_be_is_one_sentence(
    words: tuple[str, ...], said: str, graph: Path, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "net.pt").write_bytes(b"PK")
    places = {"net.onnx": str(graph), "film.dcm": str(film), "net.pt": str(tmp_path / "net.pt")}
    given = [places.get(word, word) for word in words]
    assert _run(monkeypatch, "tell", film, "--out", tmp_path / "out", *given) == 2
    sentence = capsys.readouterr().err
    assert said in sentence and sentence.startswith("storyxai: ") and sentence.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_a_stranger_may_get_wrong_is_one_typed_sentence(film: Path) -> None:
    net, image = _seeded(Convolutional), sx.read(film)
    with pytest.raises(InputError, match="layer4"):
        sx.TorchModel(net, layer="layr4", findings=FINDINGS)
    for module, findings in ((net, ["Effusion"]), (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(0)), FINDINGS)):
        with pytest.raises(InputError, match=r"findings|logit"):
            sx.gather(sx.TorchModel(module, findings=findings), image, methods=["lime"])
    with pytest.raises(InputError, match=r"finite|nan|NaN"):
        sx.gather(sx.FunctionModel(lambda images: np.full((len(images), 2), np.nan), FINDINGS), image)
    with pytest.raises(UnknownNameError, match="did you mean 'lime'"):
        sx.gather(MODELS["function"](), image, methods=["lmie"])
    with pytest.raises(UnknownNameError, match="did you mean 'practitioner'"):
        sx.tell(sx.gather(MODELS["function"](), image, settings=sx.GatherSettings(samples=100)), audience="practitoner")
