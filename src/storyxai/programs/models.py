"""Which model a program speaks about: a student's folder, or an ONNX file whose outputs the caller names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storyxai.errors import InputError
from storyxai.explain.contract import ExplainedModel
from storyxai.models.adapters.onnx_model import OnnxModel
from storyxai.models.runtime import load_student

__all__ = ["SHIPPED_MODEL", "ModelChoice", "open_model"]


@dataclass(frozen=True)
class ModelChoice:
    """A student's folder or an ONNX file, None for the student that comes along; `findings` name an ONNX file's outputs."""

    path: Path | None = None
    findings: Sequence[str] = ()


SHIPPED_MODEL = ModelChoice()


def open_model(choice: ModelChoice) -> ExplainedModel:
    """The model that was chosen.

    Raises: InputError where its findings are not named, or are named although it names them itself; WeightsError.
    """
    path, findings = choice.path, tuple(choice.findings)
    if path is None or path.suffix.lower() != ".onnx":
        if findings:
            raise InputError("findings", "are named, but a student names its own", mend="leave --findings out")
        if path is not None and path.is_file():
            raise InputError(str(path), "is no model", mend="give a student's folder, or a file that ends in .onnx")
        return load_student(path)
    if not path.is_file():
        raise InputError(str(path), "is not there", mend="look at the path")
    if not findings:
        raise InputError("findings", "are not named", mend=f"add --findings A,B: a name for each output of {path.name}")
    return OnnxModel(path, findings=findings)
