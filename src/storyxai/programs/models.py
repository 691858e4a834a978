"""Which model a program speaks about: a student's folder, or an ONNX file whose outputs the caller names."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Never

from storyxai.errors import InputError
from storyxai.explain.contract import ExplainedModel
from storyxai.models.adapters.onnx_model import OnnxModel
from storyxai.models.card import at_prevalence
from storyxai.models.runtime import load_student, shipped_students

__all__ = ["AUTO", "SHIPPED_MODEL", "GraphWords", "ModelChoice", "open_model", "read_prevalence"]

AUTO = Path("auto")
"""Stands for the one of the known students whose gate accepts an image; a folder of that name is "./auto"."""


@dataclass(frozen=True)
class GraphWords:
    """What an ONNX file does not say of itself.

    `modality` is the kind of image that it reads (a key or a TOML file; "": as its findings say), `mean` and `std` bring images
    in [0, 1] to it, `probabilities` says whether it gives these (None: nothing was said).
    """

    modality: str = ""
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    probabilities: bool | None = None


@dataclass(frozen=True)
class ModelChoice:
    """A student's folder or an ONNX file, None for the student that comes along; `findings` name an ONNX file's outputs.

    The key of a modality, where no folder has that name, is the student of that modality that comes along.

    `prevalence` is the share of the reader's own patients with a finding, for those findings that it names. With the path
    `AUTO` a telling chooses for each image among the student that comes along and those in the folders `known`. A student runs
    in so many `threads` (None: all cores'), which changes no byte of what is told. `graph` says more of an ONNX file.
    """

    path: Path | None = None
    findings: Sequence[str] = ()
    prevalence: Mapping[str, float] = field(default_factory=dict)
    known: Sequence[Path] = ()
    threads: int | None = None
    graph: GraphWords = field(default_factory=GraphWords)


SHIPPED_MODEL = ModelChoice()


def read_prevalence(text: str) -> dict[str, float]:
    """Shares by finding, from "Mass=0.2,Fibrosis=0.1" or a TOML file of such lines. Raises: InputError naming what is none."""
    if not text.endswith(".toml"):
        pairs: list[tuple[str, Any]] = [(name.strip(), share) for name, _, share in (
            part.rpartition("=") for part in text.split(",") if part.strip()
        )]
    else:
        try:
            pairs = list(tomllib.loads(Path(text).read_text(encoding="utf-8-sig")).items())
        except FileNotFoundError as error:
            raise InputError(text, "is not there", mend="look at the path") from error
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(text, f"is not readable TOML ({error})", mend="write a line such as Mass = 0.2") from error
    names = [name for name, _ in pairs]
    if "" in names:
        why = f"'{text}' holds a share without a finding"
        raise InputError("prevalence", why, mend="write shares with a point, as in Mass=0.2,Fibrosis=0.1")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError("prevalence", f"names {twice} twice", mend="keep one of the two")
    try:
        return {name: float(share) for name, share in pairs}
    except (TypeError, ValueError) as error:
        raise InputError("prevalence", f"'{text}' is not understood", mend="write it as Mass=0.2,Fibrosis=0.1") from error


_WEIGHTS = frozenset({".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".h5", ".keras", ".pkl", ".joblib"})


def _refuse_file(path: Path) -> Never:
    """What a file is that is given as a model and is no ONNX graph. Raises: InputError."""
    if not path.exists():
        raise InputError(str(path), "is not there", mend="look at the path")
    if path.suffix.lower() in _WEIGHTS:
        why, mend = "holds weights, and no graph that says how to use them", "export the network to ONNX (torch.onnx.export)"
        raise InputError(str(path), why, mend=f"{mend}, or wrap it in Python: storyxai.TorchModel(net, findings=[...])")
    raise InputError(str(path), "is no model", mend="give a student's folder, or a file that ends in .onnx")


def open_model(choice: ModelChoice) -> ExplainedModel:
    """The model that was chosen.

    Raises: InputError where its findings are not named, or are named although it names them itself; WeightsError.
    """
    path, findings = choice.path, tuple(choice.findings)
    if path == AUTO:
        raise InputError("model 'auto'", "chooses a student for each image told, and none was asked for", mend="name a model")
    if choice.known:
        raise InputError("models", "are named, and one model was chosen", mend="say --model auto, or leave --models out")
    if path is not None and not path.exists():
        path = shipped_students().get(str(path), path)
    if path is None or path.suffix.lower() != ".onnx":
        if path is not None and not path.is_dir():
            _refuse_file(path)
        if findings:
            raise InputError("findings", "are named, but a student names its own", mend="leave --findings out")
        if choice.graph != GraphWords():
            why = "is a student: --modality, --mean, --std, --probabilities and --logits speak of an ONNX file"
            raise InputError("model", why, mend="leave them out, or name an ONNX file")
        student = replace(load_student(path), threads=choice.threads)
        return replace(student, card=at_prevalence(student.card, choice.prevalence)) if choice.prevalence else student
    if choice.prevalence:
        raise InputError("prevalence", "is given for a model without a calibration", mend="leave it out, or name a student")
    if not path.is_file():
        why = "is a folder or a device, and no file" if path.exists() else "is not there"
        raise InputError(str(path), why, mend="look at the path")
    if not findings:
        raise InputError("findings", "are not named", mend=f"add --findings A,B: a name for each output of {path.name}")
    said = choice.graph
    return OnnxModel(
        path, findings=findings, mean=said.mean, std=said.std, probabilities=said.probabilities, modality=said.modality or None
    )
