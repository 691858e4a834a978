"""Teachers in files: timm, torchvision, ONNX, torch.export and TorchScript."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from storyxai.errors import RecipeError, UnknownNameError, WeightsError, nearest_name
from storyxai.models.network import MASKS
from storyxai.models.runtime import open_graph
from storyxai.models.teachers.conversion import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    InputForm,
    check_file,
    fit_state,
    form_of,
    read_state,
    teacher_hash,
)
from storyxai.models.teachers.function import CallableTeacher


def timm_teacher(
    path: Path, model: str, *, findings: tuple[str, ...], size: int = 0, space: str = "logits"
) -> CallableTeacher:
    """The timm model called `model` with the weights of a safetensors file, as a teacher of findings.

    It is shown what timm's own configuration says: size, mean and std of that model; one or three channels, as the
    weights have it (for one, mean and std are averaged over the colours).

    Raises: UnknownNameError for a name that timm does not know; WeightsError when the file does not fit.
    """
    import timm

    state = read_state(path)
    if not timm.is_model(model):
        raise UnknownNameError("timm model", model, _near(model, timm.list_models()))
    config = timm.get_pretrained_cfg(model)
    first = getattr(config, "first_conv", None)
    first = first[0] if isinstance(first, tuple | list) else first
    channels = int(state[f"{first}.weight"].shape[1]) if f"{first}.weight" in state else 3
    if channels not in (1, 3):
        raise WeightsError(str(path), f"looks at {channels} channels", mend="give weights for 1 or 3")
    module = timm.create_model(model, pretrained=False, num_classes=len(findings), in_chans=channels)
    fit_state(module, state, source=str(path))
    said = timm.data.resolve_model_data_config(module)
    mean, std = (tuple(said[key]) if channels == 3 else (float(np.mean(said[key])),) for key in ("mean", "std"))
    form = InputForm(size or int(said["input_size"][-1]), channels, mean=mean, std=std)
    print_of = teacher_hash(path, {"kind": "timm", "model": model})
    return CallableTeacher(
        _quiet(module), findings, space=space, form=form, name=f"timm {model} ({path.name})", fingerprint=print_of
    )


def torchvision_teacher(
    path: Path, model: str, *, findings: tuple[str, ...] = (), task: str = "findings",
    structures: tuple[str, ...] = MASKS, size: int = 0, space: str = "logits",
) -> CallableTeacher:
    """The torchvision model called `model` (a classifier, or a segmenter for masks) with the weights of a safetensors file.

    It is shown three channels with ImageNet's mean and std, at `size` (default 224) pixels a side.

    Raises: UnknownNameError for a name that torchvision does not know; WeightsError when the file does not fit.
    """
    from torchvision import models

    state = read_state(path)
    if model not in models.list_models():
        raise UnknownNameError("torchvision model", model, _near(model, models.list_models()))
    count = len(findings) if task == "findings" else len(structures)
    options: dict[str, object] = {"weights": None, "num_classes": count}
    if task == "masks":
        options["weights_backbone"] = None
    try:
        module = models.get_model(model, **options)
    except TypeError as error:
        mend = "name a classifier for findings, a segmenter (fcn, deeplabv3, lraspp) for masks"
        raise RecipeError(f"torchvision model '{model}'", f"is none of {task}", mend=mend) from error
    fit_state(module, state, source=str(path))
    form = InputForm(size or 224, 3, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return CallableTeacher(
        _quiet(module), findings, task=task, space=space, form=form, structures=structures,
        name=f"torchvision {model} ({path.name})", fingerprint=teacher_hash(path, {"kind": "torchvision", "model": model}),
    )


def onnx_teacher(
    path: Path, value_range: str = "0..1", *, findings: tuple[str, ...] = (), task: str = "findings",
    structures: tuple[str, ...] = MASKS, size: int = 0, space: str = "logits",
) -> CallableTeacher:
    """An ONNX graph under onnxruntime; its input's name, channels, side and batch size are read from the graph.

    `value_range` says which numbers it takes for black and white. Its first output must be the answer.

    Raises: WeightsError when the file is no graph or has another input than one image [B, 1 or 3, S, S] of floats;
    RecipeError when the side is open in the graph and `size` is not given.
    """
    session = open_graph(check_file(path, suffixes=(".onnx",)))
    inputs = session.get_inputs()
    shape = list(inputs[0].shape) if inputs else []
    if len(inputs) != 1 or len(shape) != 4 or inputs[0].type != "tensor(float)":
        said = "; ".join(f"{one.name}: {one.type} {one.shape}" for one in inputs)
        raise WeightsError(str(path), f"takes {said or 'nothing'}", mend="export it with one float32 input [B, C, S, S]")
    batch, channels, height, width = shape
    sides = {side for side in (height, width) if isinstance(side, int)}
    if channels not in (1, 3) or len(sides) > 1 or (sides and size and size not in sides):
        raise WeightsError(str(path), f"takes images of {shape}", mend="export it for [B, 1 or 3, S, S]; leave `size` out")
    if not sides and not size:
        raise RecipeError(str(path), "takes images of any size", mend="say at which `size` it was trained")
    form = replace(form_of(value_range, size=size or sides.pop(), channels=channels), channels=channels)
    if channels == 1 and len(form.mean) == 3:
        form = replace(form, mean=(float(np.mean(form.mean)),), std=(float(np.mean(form.std)),))
    chunk = batch if isinstance(batch, int) else 0

    def run(images: Tensor) -> Tensor:
        return _in_chunks(lambda part: session.run(None, {inputs[0].name: part})[0], images.numpy(), chunk)

    return CallableTeacher(
        run, findings, task=task, space=space, form=form, structures=structures, name=f"onnx {path.name}",
        fingerprint=teacher_hash(path, {"kind": "onnx"}),
    )


def torch_program_teacher(
    path: Path, form: InputForm, *, findings: tuple[str, ...] = (), task: str = "findings",
    structures: tuple[str, ...] = MASKS, space: str = "logits", trusted: bool = False,
) -> CallableTeacher:
    """A torch.export program (.pt2) or a TorchScript file (.pt, .ts), which runs only when you say that you trust it.

    Both formats can hold pickled objects: torch's documentation warns of `torch.jit.load` and of `torch.export.load`
    alike that a crafted file runs code while it is read. So `trusted` must be said; ONNX and safetensors do not need it.

    `form` says what it takes. Raises: WeightsError when it is not trusted, missing, damaged or no such file; RecipeError for
    a form without a size.
    """
    check_file(path, suffixes=(".pt2", ".ts", ".pt"))
    if not trusted:
        why = "is a program that may run code while it is read"
        raise WeightsError(str(path), why, mend="use ONNX, or say trusted = true if you know who made it")
    if not form.size:
        raise RecipeError(str(path), "does not tell the size of its input", mend="say at which `size` it was trained")
    if not zipfile.is_zipfile(path):
        raise WeightsError(str(path), "cannot be read (it is no whole archive)", mend="copy it whole, or export it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch announces TorchScript's end; the user chose the format
            if path.suffix.lower() == ".pt2":
                module: Any = torch.export.load(path).module()
            else:
                module = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError, KeyError, EOFError, AttributeError, AssertionError) as error:
        why = f"cannot be read ({(str(error) or type(error).__name__).splitlines()[0]})"
        raise WeightsError(str(path), why, mend="copy it whole, or export it again with this torch") from error
    return CallableTeacher(
        module, findings, task=task, space=space, form=form, structures=structures,
        name=f"torch program {path.name}", fingerprint=teacher_hash(path, {"kind": "torch program"}),
    )


def _in_chunks(run: Callable[[Any], Any], images: Any, chunk: int) -> Tensor:
    """`run` over all images; a graph of a fixed batch size gets just so many, the last filled up with its own last image."""
    if not chunk:
        return torch.from_numpy(np.array(run(images), dtype=np.float32))
    parts = []
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk]
        filled = np.concatenate([part, np.repeat(part[-1:], chunk - len(part), axis=0)])
        parts.append(np.asarray(run(filled), dtype=np.float32)[: len(part)])
    return torch.from_numpy(np.concatenate(parts))


def _quiet(module: nn.Module) -> Callable[[Tensor], Any]:
    """`module` in evaluation mode at each call, whatever was done to it in between."""

    def run(images: Tensor) -> Any:
        return module.eval()(images)

    return run


def _near(name: str, known: Sequence[str]) -> list[str]:
    """A few names near `name`, so that an error does not list a thousand."""
    near = nearest_name(name, known)
    same = [one for one in known if near and one.split("_")[0] == near.split("_")[0]]
    return same[:12] or list(known)[:12]
