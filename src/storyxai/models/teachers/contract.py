"""What any teacher must offer, its answers, the networks trained here as teachers, and findings joined by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from storyxai.errors import RecipeError, WeightsError, nearest_name
from storyxai.modalities.contract import Modality
from storyxai.modalities.registry import modality_named
from storyxai.models.network import Network


@dataclass(frozen=True, eq=False)
class TeacherAnswers:
    """What a teacher says about B images: float32, without gradients, NaN where it does not know; None = not its task.

    Shapes: findings [B, F'] logits; masks [B, C, h, w] logits of the modality's structures; words [B, T - 1, V]
    logits of the next word after each of `tokens[:, :-1]`; maps [B, F', h, w] its own evidence per finding and cell;
    features [B, K, h, w].

    Raises: WeightsError when an answer is no float32 tensor of such a shape or carries gradients.
    """

    findings: Tensor | None = None
    masks: Tensor | None = None
    words: Tensor | None = None
    maps: Tensor | None = None
    features: Tensor | None = None

    def __post_init__(self) -> None:
        axes = {"findings": 2, "masks": 4, "words": 3, "maps": 4, "features": 4}
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None:
                continue
            if value.dtype != torch.float32 or value.ndim != axes[item.name] or value.requires_grad:
                why = f"its {item.name} are {tuple(value.shape)} of {value.dtype}, requires_grad={value.requires_grad}"
                mend = f"give float32 with {axes[item.name]} axes and no gradients"
                raise WeightsError("a teacher's answer", why, mend=mend)


@runtime_checkable
class Teacher(Protocol):
    """Anything that can teach: it names itself, its findings and tasks, and answers about images.

    `hash` changes whenever its answers may; `size` is the side in pixels that it works at (0 = any); it resizes inside.
    """

    @property
    def name(self) -> str:
        """What cards and progress call it."""

    @property
    def hash(self) -> str:
        """Hex digest of all that its answers depend on."""

    @property
    def findings(self) -> tuple[str, ...]:
        """Its own names of its findings, in the order of its answers."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Which of "findings", "masks" and "report" it answers."""

    @property
    def size(self) -> int:
        """Side of the square it works at, in pixels; 0 = any."""

    def answers(self, images: Tensor, tokens: Tensor | None = None) -> TeacherAnswers:
        """What it says. Shapes: images float32 [B, C, S, S] in [0, 1], bright = dense; tokens int64 [B, T] references."""


@runtime_checkable
class ReportWriter(Protocol):
    """A teacher of reports that writes in words of its own; its sentences become targets (see `retokenize`)."""

    def reports(self, images: Tensor) -> list[str]:
        """One report per image."""


@dataclass(frozen=True, eq=False)
class OwnTeacher:
    """A network trained here, as a teacher. Its maps are its evidence grid, its features those of the maps' layer."""

    network: Network
    name: str = "own"

    @property
    def hash(self) -> str:
        return network_hash(self.network)

    @property
    def findings(self) -> tuple[str, ...]:
        """The findings of the network's head; none for a network without one."""
        return self.network.spec.findings if hasattr(self.network, "finding_head") else ()

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.network.spec.tasks

    @property
    def size(self) -> int:
        return self.network.spec.size

    def answers(self, images: Tensor, tokens: Tensor | None = None) -> TeacherAnswers:
        """The network's heads, in evaluation mode. Raises: WeightsError for images that are none or of other channels."""
        check_images(images)
        if images.shape[1] != self.network.spec.channels:
            why = f"looks at {self.network.spec.channels} channels and was shown {images.shape[1]}"
            raise WeightsError(f"teacher '{self.name}'", why, mend="show it images of the modality that it was trained for")
        network = self.network.to(memory_format=torch.channels_last).eval()
        with torch.no_grad():  # not inference mode, whose tensors a loss could not take as its target
            said = network(resized(images, self.size).contiguous(memory_format=torch.channels_last))
            words = None
            if said.memory is not None and tokens is not None:
                words = network.decoder(tokens[:, :-1], said.memory)
        return TeacherAnswers(said.logits, said.masks, words, said.grid, said.features)


def network_hash(network: Network) -> str:
    """The SHA-256 of a network's shape and weights: two teachers with the same hash say the same."""
    digest = hashlib.sha256(json.dumps(network.spec.as_dict(), sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def check_images(images: Tensor) -> None:
    """Raises: WeightsError unless `images` are float32 [B, C, S, S], C = 1 or 3, in [0, 1]."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.float32:
        why = f"was shown {tuple(images.shape)} of {images.dtype}"
        raise WeightsError("a teacher", why, mend="show it float32 [B, C, S, S] in [0, 1]")
    if images.numel() and not (float(images.min()) >= 0 and float(images.max()) <= 1):
        raise WeightsError("a teacher", "was shown pixels outside [0, 1]", mend="show it float32 [B, C, S, S] in [0, 1]")


def resized(images: Tensor, size: int) -> Tensor:
    """`images` at `size` pixels a side (bilinear, smoothed before shrinking, still in [0, 1]); 0 leaves them as they are."""
    if not size or images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)


def columns_by_name(
    teacher_findings: Sequence[str], student_findings: Sequence[str], *, modality: Modality | None = None
) -> tuple[tuple[int, ...], ...]:
    """For each of the student's findings, the teacher's columns that speak of it: by the same name, else by synonym.

    Synonyms are those of `modality`, None: the default one.
    Raises: RecipeError when they have nothing in common, naming the nearest.
    """
    folded = [name.casefold().strip() for name in teacher_findings]
    match = (modality or modality_named()).match
    columns = []
    for name in student_findings:
        same = [i for i, other in enumerate(folded) if other == name.casefold().strip()]
        meant = match(name)
        if not same and meant is not None:
            same = [i for i, other in enumerate(teacher_findings) if match(other) == meant]
        columns.append(tuple(same))
    if not any(columns):
        pairs = [(name, nearest_name(name, student_findings)) for name in teacher_findings if name]
        near = next((f"'{one}' is nearest to '{other}': rename it; " for one, other in pairs if other), "")
        raise RecipeError(
            f"a teacher of {', '.join(name for name in teacher_findings if name) or 'no finding'}",
            "has no finding in common with the student", mend=f"{near}the student knows {', '.join(student_findings)}",
        )
    return tuple(columns)


def join_by_name(answers: Tensor, teacher_findings: Sequence[str], student_findings: Sequence[str]) -> Tensor:
    """The teacher's `answers` [B, F', ...] in the student's order [B, F, ...], NaN for what the teacher does not know.

    The same name wins; where only synonyms match, those that know are averaged. Raises: RecipeError when nothing is in
    common; WeightsError when the answers are not as many as the teacher's names.
    """
    if answers.shape[1] != len(teacher_findings):
        why = f"gives {answers.shape[1]} answers for {len(teacher_findings)} named findings"
        raise WeightsError("a teacher", why, mend="name its findings in the order of its outputs")
    joined = torch.full((len(answers), len(student_findings), *answers.shape[2:]), torch.nan)
    for column, mine in enumerate(columns_by_name(teacher_findings, student_findings)):
        if mine:
            joined[:, column] = answers[:, list(mine)].float().nanmean(dim=1)
    return joined
