"""Any function from images to numbers as a teacher, and several teachers of one task as one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from storyxai.errors import RecipeError, UnknownNameError, WeightsError
from storyxai.modalities.registry import modality_named
from storyxai.models.network import MASKS
from storyxai.models.teachers.contract import Teacher, TeacherAnswers, check_images, columns_by_name, join_by_name
from storyxai.models.teachers.conversion import SPACES, InputForm, to_logits

FUNCTION_TASKS = ("findings", "masks")


@dataclass(frozen=True, eq=False)
class CallableTeacher:
    """A function as a teacher of one task. It is shown `form.of(images)` and gives [B, F'] or [B, structures, h, w].

    `space` says what its numbers are: "logits" or "probabilities" (turned into logits, clipped at 1e-6). For masks,
    `structures` names its channels; those that are none of the default modality's are left out, and what it lacks is NaN.
    `fingerprint` is a text that changes when its answers do (a file's hash); without one the hash is taken from its
    answers about a fixed probe.

    Raises: RecipeError when it has no finding or structure that we know of; UnknownNameError for another task or space.
    """

    function: Callable[[Tensor], Any]
    findings: tuple[str, ...] = ()
    task: str = field(default="findings", kw_only=True)
    space: str = field(default="logits", kw_only=True)
    form: InputForm = field(default_factory=InputForm, kw_only=True)
    structures: tuple[str, ...] = field(default=MASKS, kw_only=True)
    name: str = field(default="callable", kw_only=True)
    fingerprint: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if self.task not in FUNCTION_TASKS:
            raise UnknownNameError("task of a function", self.task, FUNCTION_TASKS)
        if self.space not in SPACES:
            raise UnknownNameError("space", self.space, SPACES)
        if self.task == "findings" and not any(self.findings):
            raise RecipeError(self.name, "names no finding", mend="give findings = [...] in the order of its answers")
        if self.task == "masks":
            mask_columns(self.structures, source=self.name)

    @property
    def tasks(self) -> tuple[str, ...]:
        return (self.task,)

    @property
    def size(self) -> int:
        return self.form.size

    @property
    def hash(self) -> str:
        """The SHA-256 of what it is and of its fingerprint, or of its answers about a fixed probe."""
        about = f"{self.task}|{self.space}|{self.form}|{self.findings}|{self.structures}|{self.fingerprint}"
        digest = hashlib.sha256(about.encode())
        if not self.fingerprint:
            said = self.answers(_probe(self.size or 64))
            for values in (said.findings, said.masks):
                if values is not None:
                    digest.update(values.numpy().tobytes())
        return digest.hexdigest()

    def answers(self, images: Tensor, tokens: Tensor | None = None) -> TeacherAnswers:
        """Its logits. Raises: WeightsError when it refuses the images, or answers in another shape or space."""
        check_images(images)
        with torch.no_grad():
            try:
                values = _tensor_of(self.function(self.form.of(images)), self.name)
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                why = f"refuses images of {tuple(self.form.of(images[:1]).shape)} ({str(error).splitlines()[0]})"
                mend = "look at its size, channels and range, and that it takes any number of images"
                raise WeightsError(self.name, why, mend=mend) from error
        axes = (len(images), len(self.findings)) if self.task == "findings" else (len(images), len(self.structures))
        if tuple(values.shape[:2]) != axes or values.ndim != (2 if self.task == "findings" else 4):
            wanted = f"{axes}" if self.task == "findings" else f"({axes[0]}, {axes[1]}, h, w)"
            mend = "name as many findings (or structures) as it answers, in its order"
            raise WeightsError(self.name, f"answers {tuple(values.shape)}, not {wanted}", mend=mend)
        values = to_logits(values, self.space, source=self.name)
        if self.task == "findings":
            unnamed = [i for i, name in enumerate(self.findings) if not name]
            values[:, unnamed] = torch.nan  # a column without a name says nothing, whatever number stands in it
            return TeacherAnswers(findings=values)
        masks = torch.full((len(images), len(MASKS), *values.shape[2:]), torch.nan)
        for row, column in enumerate(mask_columns(self.structures, source=self.name)):
            if column is not None:
                masks[:, row] = values[:, column]
        return TeacherAnswers(masks=masks)


def mask_columns(structures: Sequence[str], *, source: str) -> tuple[int | None, ...]:
    """Which of a segmenter's channels is each structure of the default modality; None for what it lacks.

    Raises: RecipeError when it has none of them.
    """
    folded = [name.casefold().replace("_", " ").strip() for name in structures]
    found = tuple(folded.index(name.replace("_", " ")) if name.replace("_", " ") in folded else None for name in MASKS)
    if all(column is None for column in found):
        why = f"draws {', '.join(structures) or 'nothing'}, none of which is {', '.join(MASKS)}"
        raise RecipeError(source, why, mend="name its channels in their order, left and right as the patient's")
    return found


@dataclass(frozen=True, eq=False)
class TeacherAverage:
    """Several teachers as one: their logits averaged, per finding over those that know it, with `weights`.

    `findings` are the joint names; a teacher's own are joined to them by name and synonym. `weights` maps a finding, or
    "masks" or "report", to one weight per teacher; what is not named weighs 1 each. Masks are brought to the finest grid.

    Raises: RecipeError for no teacher, for weights of another number, negative or all zero, or of an unknown finding.
    """

    teachers: tuple[Teacher, ...]
    findings: tuple[str, ...] = modality_named().names
    weights: Mapping[str, Sequence[float]] = field(default_factory=dict, kw_only=True)
    name: str = field(default="average", kw_only=True)

    def __post_init__(self) -> None:
        if not self.teachers:
            raise RecipeError(self.name, "averages no teachers", mend="name one or more")
        for key, given in self.weights.items():
            if key not in (*self.findings, "masks", "report"):
                raise UnknownNameError("finding with weights", key, (*self.findings, "masks", "report"))
            if len(given) != len(self.teachers) or not all(0 <= one < float("inf") for one in given) or not sum(given):
                why = f"has the weights {list(given)} for {key}"
                raise RecipeError(self.name, why, mend=f"give {len(self.teachers)} numbers, not negative, not all 0")
        for teacher in self.teachers:
            if "findings" in teacher.tasks:
                columns_by_name(teacher.findings, self.findings)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(task for task in ("findings", "masks", "report") if any(task in t.tasks for t in self.teachers))

    @property
    def size(self) -> int:
        """0: each works at its own size."""
        return 0

    @property
    def hash(self) -> str:
        """The SHA-256 of all their hashes, the joint names and the weights."""
        weights = sorted((key, [float(one) for one in given]) for key, given in self.weights.items())
        text = "|".join(["average", *self.findings, *(teacher.hash for teacher in self.teachers), str(weights)])
        return hashlib.sha256(text.encode()).hexdigest()

    def answers(self, images: Tensor, tokens: Tensor | None = None) -> TeacherAnswers:
        """The averages; NaN where nobody knows. Maps and features have no common scale: they are the first teacher's."""
        said = [teacher.answers(images, tokens) for teacher in self.teachers]
        findings = [
            None if one.findings is None or "findings" not in teacher.tasks
            else join_by_name(one.findings, teacher.findings, self.findings)
            for teacher, one in zip(self.teachers, said, strict=True)
        ]
        table = torch.tensor([self._weights(name) for name in self.findings]).T[:, None]  # [teachers, 1, F]
        masks, words = [one.masks for one in said], [one.words for one in said]
        return TeacherAnswers(
            _average(findings, table),
            _average(_on_one_grid(masks), torch.tensor(self._weights("masks"))[:, None, None, None, None]),
            _average(words, torch.tensor(self._weights("report"))[:, None, None, None]),
            next((join_by_name(one.maps, teacher.findings, self.findings)
                  for teacher, one in zip(self.teachers, said, strict=True) if one.maps is not None), None),
            next((one.features for one in said if one.features is not None), None),
        )

    def _weights(self, key: str) -> list[float]:
        return [float(one) for one in self.weights.get(key, [1.0] * len(self.teachers))]


@dataclass(frozen=True, eq=False)
class MirroredTeacher:
    """A teacher of findings whose answer is the mean of its log-odds on the image and on its mirror image."""

    teacher: Teacher

    @property
    def name(self) -> str:
        return f"{self.teacher.name}, mirrored too"

    @property
    def hash(self) -> str:
        """The SHA-256 of the teacher's hash and of how it is asked."""
        return hashlib.sha256(f"mirrored|{self.teacher.hash}".encode()).hexdigest()

    @property
    def findings(self) -> tuple[str, ...]:
        return self.teacher.findings

    @property
    def tasks(self) -> tuple[str, ...]:
        """Findings alone: the mirror image of an outline or of a report is another."""
        return ("findings",)

    @property
    def size(self) -> int:
        return self.teacher.size

    def answers(self, images: Tensor, tokens: Tensor | None = None) -> TeacherAnswers:
        """The mean log-odds of the findings. Raises: WeightsError for a teacher that answers no findings."""
        plain, mirrored = (self.teacher.answers(shown).findings for shown in (images, images.flip(3)))
        if plain is None or mirrored is None:
            raise WeightsError(self.name, "answers no findings", mend="name a teacher of findings")
        return TeacherAnswers((plain + mirrored) / 2)


def _average(parts: Sequence[Tensor | None], weights: Tensor) -> Tensor | None:
    """Sum of w x / sum of w over the parts that are there and not NaN; NaN where no weight is left."""
    known = [i for i, part in enumerate(parts) if part is not None]
    if not known:
        return None
    shapes = {tuple(part.shape) for part in parts if part is not None}
    if len(shapes) > 1:
        why = f"they answer in the shapes {sorted(shapes)}"
        raise WeightsError("an average of teachers", why, mend="average those of one vocabulary and one task")
    stack = torch.stack([part for part in parts if part is not None])
    weight = weights[known].expand(stack.shape) * ~stack.isnan()
    return (stack.nan_to_num() * weight).sum(dim=0) / weight.sum(dim=0)


def _on_one_grid(masks: Sequence[Tensor | None]) -> list[Tensor | None]:
    there = [mask for mask in masks if mask is not None]
    if not there:
        return list(masks)
    finest = max((mask.shape[-2], mask.shape[-1]) for mask in there)
    return [
        mask if mask is None or mask.shape[-2:] == finest else F.interpolate(mask, size=finest, mode="bilinear")
        for mask in masks
    ]


def _tensor_of(output: Any, source: str) -> Tensor:
    """The one tensor in what a model returned: itself, the first of several, or "logits", "out" or the first of a dict."""
    if isinstance(output, Mapping):
        output = next((output[key] for key in ("logits", "out") if key in output), next(iter(output.values()), None))
    if isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        why = f"answers {type(output).__name__}, no tensor"
        raise WeightsError(source, why, mend="return a tensor, the tensor first, or a dict with 'logits'")
    return output.detach().to("cpu", torch.float32).clone()


def _probe(size: int) -> Tensor:
    """Four fixed images: grey, a ramp across, a ramp down, and a checker."""
    ramp = torch.linspace(0, 1, size)
    across, down = ramp.expand(size, size), ramp[:, None].expand(size, size)
    checker = ((torch.arange(size)[:, None] // 8 + torch.arange(size) // 8) % 2).float()
    return torch.stack([torch.full((size, size), 0.5), across, down, checker])[:, None]
