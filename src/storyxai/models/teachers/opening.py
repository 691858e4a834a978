"""From a recipe's words to a teacher: the one table of kinds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storyxai.errors import RecipeError, UnknownNameError
from storyxai.models.network import MASKS, TASKS
from storyxai.models.teachers.contract import Teacher
from storyxai.models.teachers.conversion import form_of
from storyxai.models.teachers.files import onnx_teacher, timm_teacher, torch_program_teacher, torchvision_teacher
from storyxai.models.teachers.packages import huggingface_writer, xrv_anatomy, xrv_classifier

KINDS = ("huggingface", "onnx", "timm", "torch_program", "torchvision", "torchxrayvision", "torchxrayvision_anatomy")


@dataclass(frozen=True)
class NamedTeacher:
    """A teacher as a recipe names it: one of KINDS for one task, and what that kind asks for.

    `findings` are those that it answers, in order; for masks the names of its channels. `value_range` names its numbers for
    black and white, `space` its answers. `trusted` lets a file run that may hold code.
    """

    kind: str
    task: str
    path: str = ""
    name: str = ""
    findings: tuple[str, ...] = ()
    space: str = "logits"
    value_range: str = "0..1"
    size: int = 0
    channels: int = 1
    trusted: bool = False


def open_teacher(named: NamedTeacher) -> Teacher:
    """The teacher that a recipe's [[foreign_teachers]] table names.

    Raises: UnknownNameError for another kind or task; RecipeError for a kind that cannot do the task or lacks a key;
    WeightsError for a file that is missing, damaged, pickled or does not fit.
    """
    _check(named)
    kind, file, task, findings, size, space = (
        named.kind, Path(named.path), named.task, named.findings, named.size, named.space
    )
    structures = (findings or MASKS) if task == "masks" else MASKS
    if kind == "timm":
        return timm_teacher(file, named.name, findings=findings, size=size, space=space)
    if kind == "torchvision":
        return torchvision_teacher(
            file, named.name, findings=findings, task=task, structures=structures, size=size, space=space
        )
    if kind == "onnx":
        return onnx_teacher(
            file, named.value_range, findings=findings, task=task, structures=structures, size=size, space=space
        )
    if kind == "torch_program":
        form = form_of(named.value_range, size=size, channels=named.channels)
        return torch_program_teacher(
            file, form, findings=findings, task=task, structures=structures, space=space, trusted=named.trusted
        )
    if kind == "torchxrayvision":
        return xrv_classifier(file if named.path else None, named.name or "densenet121-res224-all", trusted=named.trusted)
    return xrv_anatomy() if kind == "torchxrayvision_anatomy" else huggingface_writer(file)


def _check(named: NamedTeacher) -> None:
    """Raise UnknownNameError or RecipeError unless the words name a teacher that can be."""
    kind, task = named.kind, named.task
    if kind not in KINDS:
        raise UnknownNameError("kind of teacher", kind, KINDS)
    if task not in TASKS:
        raise UnknownNameError("task", task, TASKS)
    can = {"huggingface": ("report",), "torchxrayvision": ("findings",), "torchxrayvision_anatomy": ("masks",),
           "timm": ("findings",)}.get(kind, ("findings", "masks"))
    if task not in can:
        raise RecipeError(f"a teacher of kind '{kind}'", f"cannot teach {task}", mend=f"it teaches {' or '.join(can)}")
    needs_file = kind not in ("torchxrayvision", "torchxrayvision_anatomy")
    if needs_file and not named.path:
        raise RecipeError(f"a teacher of kind '{kind}'", "names no file", mend='add path = "..."')
    if kind in ("timm", "torchvision") and not named.name:
        raise RecipeError(f"a teacher of kind '{kind}'", "names no model", mend='add name = "...", such as "densenet121"')
    if needs_file and task == "findings" and not named.findings:
        raise RecipeError(named.path, "names no finding", mend="add findings = [...] in the order of its answers")
