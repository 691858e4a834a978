"""From our images to what a foreign model was trained on, from its numbers to logits, and from files to tensors."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from storyxai.errors import RecipeError, WeightsError
from storyxai.models.teachers.contract import resized
from storyxai.provenance import canonical_json, sha256_file

CLIP = 1e-6
"""Probabilities are held to [CLIP, 1 - CLIP] before their logit is taken, so that no logit is over 13.8 in size."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SPACES = ("logits", "probabilities")
MOST_BYTES = 4 << 30
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".th")


@dataclass(frozen=True)
class InputForm:
    """What a model wants to be shown: x = ((low + (high - low) image) - mean) / std, repeated over `channels`.

    Units: `size` in pixels (0 = as given); `low` and `high` the model's numbers for black and white.
    """

    size: int = 0
    channels: int = 1
    low: float = 0.0
    high: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def of(self, images: Tensor) -> Tensor:
        """The images [B, C, S, S] in [0, 1] as the model wants them: [B, channels, size, size]; of colours the mean for one."""
        shown = images.mean(dim=1, keepdim=True) if self.channels == 1 else images
        scaled = self.low + (self.high - self.low) * resized(shown, self.size)
        mean, std = (torch.tensor(part, dtype=torch.float32).view(1, -1, 1, 1) for part in (self.mean, self.std))
        return ((scaled.expand(-1, self.channels, -1, -1) - mean) / std).contiguous()


def form_of(text: str, *, size: int = 0, channels: int = 1) -> InputForm:
    """The form that a recipe's `range` names: "0..1", "-1..1", "0..255", "-1024..1024", any two numbers, or "imagenet".

    Raises: RecipeError for any other text.
    """
    if text == "imagenet":
        return InputForm(size, 3, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    number = r"\s*([+-]?\d+(?:\.\d+)?)\s*"
    found = re.fullmatch(rf"{number}\.\.{number}", text)
    if not found or float(found[1]) == float(found[2]):
        mend = "write the model's numbers for black and white as '0..1' or '-1024..1024', or 'imagenet'"
        raise RecipeError(f"range '{text}'", "is not two different numbers", mend=mend)
    return InputForm(size, channels, float(found[1]), float(found[2]))


def to_logits(values: Tensor, space: str, *, source: str) -> Tensor:
    """`values` as float32 logits; probabilities p as ln(p / (1 - p)) after clipping to [CLIP, 1 - CLIP]. NaN stays NaN.

    Raises: WeightsError for infinite values and for probabilities outside [0, 1].
    """
    values = values.detach().float()
    if bool(values.isinf().any()):
        raise WeightsError(source, "answers infinity", mend="look at its input range and its weights")
    if space == "logits":
        return values
    known = values[~values.isnan()]
    if known.numel() and not (float(known.min()) >= -CLIP and float(known.max()) <= 1 + CLIP):
        why = f"answers from {float(known.min()):.3g} to {float(known.max()):.3g}, which are no probabilities"
        raise WeightsError(source, why, mend="say space = 'logits'")
    return torch.logit(values.double(), eps=CLIP).float()


def check_file(path: Path, *, suffixes: tuple[str, ...]) -> Path:
    """`path`, which is there, is of one of `suffixes` and not over 4 GiB. Raises: WeightsError with the mend."""
    if not path.is_file():
        why = "does not exist" if not path.exists() else "is no file"
        raise WeightsError(str(path), why, mend=f"name a {' or '.join(suffixes)} file")
    if path.suffix.lower() not in suffixes:
        if path.suffix.lower() in PICKLES:
            why = "may be a pickle, which runs code when it is read"
            mend = f"convert it once to {suffixes[0]} where you trust it (docs/how-to/bring-your-teachers.md)"
            raise WeightsError(str(path), why, mend=mend)
        raise WeightsError(str(path), f"is no {' or '.join(suffixes)} file", mend="name one, or another kind of teacher")
    if not 0 < path.stat().st_size <= MOST_BYTES:
        raise WeightsError(str(path), f"has {path.stat().st_size} bytes", mend="teachers have between 1 byte and 4 GiB")
    return path


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises: WeightsError when it is missing, a pickle, cut short or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_file(path, suffixes=(".safetensors",))
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
        why = f"cannot be read as safetensors ({str(error).splitlines()[0]})"
        raise WeightsError(str(path), why, mend="copy it whole, or convert the weights again") from error


def fit_state(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> nn.Module:
    """`module` with every tensor of `state`, in evaluation mode and frozen.

    Raises: WeightsError when a tensor is missing, left over or of another shape, naming the first.
    """
    own = module.state_dict()
    problems = [f"'{name}' is missing" for name in own if name not in state and not name.endswith("num_batches_tracked")]
    problems += [f"'{name}' is left over" for name in state if name not in own]
    problems += [
        f"'{name}' is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in own if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        why = f"does not fit: {problems[0]}" + (f", and {len(problems) - 1} more" if len(problems) > 1 else "")
        mend = "name the model these weights are of, and as many findings as it answers, in its order"
        raise WeightsError(source, why, mend=mend)
    module.load_state_dict(dict(state), strict=False)
    return module.eval().requires_grad_(False)


def teacher_hash(path: Path | None, about: Mapping[str, object]) -> str:
    """The SHA-256 of a teacher's file and of everything else that its answers depend on."""
    record = {**{key: str(value) for key, value in about.items()}, "file": sha256_file(path) if path else ""}
    return hashlib.sha256(canonical_json(record)).hexdigest()
