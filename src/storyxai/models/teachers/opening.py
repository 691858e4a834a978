"""From a recipe's words to a teacher: the one table of kinds."""

from __future__ import annotations

from pathlib import Path

from storyxai.errors import RecipeError, UnknownNameError
from storyxai.models.network import MASKS, TASKS
from storyxai.models.teachers.contract import Teacher
from storyxai.models.teachers.files import onnx_teacher, timm_teacher, torch_program_teacher, torchvision_teacher
from storyxai.models.teachers.packages import huggingface_writer, xrv_anatomy, xrv_classifier

__all__ = ["KINDS", "open_teacher"]

KINDS = ("huggingface", "onnx", "timm", "torch_program", "torchvision", "torchxrayvision", "torchxrayvision_anatomy")


def open_teacher(
    kind: str, task: str, *, path: str = "", name: str = "", findings: tuple[str, ...] = (), space: str = "logits",
    value_range: str = "0..1", size: int = 0, channels: int = 1, trusted: bool = False,
) -> Teacher:
    """The teacher that a recipe's [[foreign_teachers]] table names. For masks, `findings` names its channels.

    Raises: UnknownNameError for another kind or task; RecipeError for a kind that cannot do the task or lacks a key;
    WeightsError for a file that is missing, damaged, pickled or does not fit.
    """
    if kind not in KINDS:
        raise UnknownNameError("kind of teacher", kind, KINDS)
    if task not in TASKS:
        raise UnknownNameError("task", task, TASKS)
    can = {"huggingface": ("report",), "torchxrayvision": ("findings",), "torchxrayvision_anatomy": ("masks",),
           "timm": ("findings",)}.get(kind, ("findings", "masks"))
    if task not in can:
        raise RecipeError(f"a teacher of kind '{kind}'", f"cannot teach {task}", mend=f"it teaches {' or '.join(can)}")
    needs_file = kind not in ("torchxrayvision", "torchxrayvision_anatomy")
    if needs_file and not path:
        raise RecipeError(f"a teacher of kind '{kind}'", "names no file", mend='add path = "..."')
    if kind in ("timm", "torchvision") and not name:
        raise RecipeError(f"a teacher of kind '{kind}'", "names no model", mend='add name = "...", such as "densenet121"')
    if needs_file and task == "findings" and not findings:
        raise RecipeError(path, "names no finding", mend="add findings = [...] in the order of its answers")
    file, structures = Path(path), (findings or MASKS) if task == "masks" else MASKS
    if kind == "timm":
        return timm_teacher(file, name, findings=findings, size=size, space=space)
    if kind == "torchvision":
        return torchvision_teacher(
            file, name, findings=findings, task=task, structures=structures, size=size, space=space
        )
    if kind == "onnx":
        return onnx_teacher(
            file, value_range, findings=findings, task=task, structures=structures, size=size, space=space
        )
    if kind == "torch_program":
        return torch_program_teacher(
            file, value_range, findings=findings, task=task, structures=structures, size=size, channels=channels,
            space=space, trusted=trusted,
        )
    if kind == "torchxrayvision":
        return xrv_classifier(file if path else None, name or "densenet121-res224-all", trusted=trusted)
    return xrv_anatomy() if kind == "torchxrayvision_anatomy" else huggingface_writer(file)
