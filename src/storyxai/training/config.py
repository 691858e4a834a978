"""Recipes: a run described in TOML, read into frozen dataclasses; an unknown key is an error that names the nearest."""

from __future__ import annotations

import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from storyxai.errors import RecipeError, nearest_name

__all__ = [
    "AblationRecipe", "DataRecipe", "DesignRecipe", "DistillationRecipe", "EvaluationRecipe", "FitConfig",
    "ForeignTeacherRecipe", "Recipe", "StudentRecipe", "TeacherRecipe", "TrainingRecipe", "read_recipe",
]

FINDING_LOSSES = ("cross_entropy", "focal", "asymmetric")
PRECISIONS = ("32-true", "bf16-mixed")
DEVICES = ("cpu", "cuda")
METRICS = {"validation_loss": -1, "validation_auroc": 1, "validation_dice": 1}
"""What training may stop on, and whether more of it is better (1) or worse (-1)."""


@dataclass(frozen=True)
class DataRecipe:
    """Where images come from. Units: counts of images; `size` is the side of the network's input in pixels.

    `phantom_*` are made on the spot from `phantom_seed`. `tables` are study tables (Parquet) with a split column,
    joined to the phantoms for training: their frontal views, with `laterals` every view. `soft_targets` are folders that
    hold a published teacher's predictions for them.
    """

    size: int
    phantom_train: int
    phantom_validation: int
    phantom_test: int
    phantom_seed: int = 1
    phantom_size: int = 256
    tables: tuple[str, ...] = ()
    laterals: bool = False
    soft_targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class TeacherRecipe:
    """One teacher: which encoder (a timm name), how wide and how long it trains.

    `weights` names a safetensors file that the encoder starts from.
    """

    encoder: str
    epochs: int
    learning_rate: float = 1e-3
    width: int = 128
    hidden: int = 128
    batch_size: int = 32
    weights: str = ""


@dataclass(frozen=True)
class ForeignTeacherRecipe:
    """A teacher from elsewhere, one [[foreign_teachers]] table each (`models/teachers`, docs/how-to/bring-your-teachers.md).

    Its logits are averaged with those of the recipe's own teacher of that `task`, which weighs 1, finding by finding over
    those that know it; `finding_weights` says otherwise for the findings it names. With `instead` no own teacher is
    trained. A report writer's sentences stand in where no reference report is known, with `instead` everywhere. `range`
    names its numbers for black and white, `space` its answers.
    """

    kind: str
    task: str
    path: str = ""
    name: str = ""
    findings: tuple[str, ...] = ()
    space: str = "logits"
    range: str = "0..1"
    size: int = 0
    channels: int = 1
    weight: float = 1.0
    finding_weights: Mapping[str, float] = field(default_factory=dict)
    instead: bool = False
    trusted: bool = False


@dataclass(frozen=True)
class StudentRecipe:
    """The student: one encoder, three heads."""

    encoder: str
    epochs: int
    learning_rate: float = 1e-3
    width: int = 96
    hidden: int = 128
    batch_size: int = 32
    weights: str = ""


@dataclass(frozen=True)
class DistillationRecipe:
    """Temperature tau, mixing a in [0, 1), and how many exact views of each image the teachers answer for.

    `task_weights` are of findings, masks, report and boxes; `balance` is how tasks share the network: "fixed" keeps
    those weights, "uncertainty" learns them, "dwa" follows how fast each task learns, "upgrad", "pcgrad" and their like
    bring the gradients to agree (`training/balance.py`). `reasons` weighs 1 - cosine of the student's Grad-CAM and its
    findings' teacher's, `hints` the distance of their attention maps (0: neither is asked for). In `sentence_share` of
    the images the report is learnt from the teacher's own sentences instead of the reference (sequence level).
    """

    temperature: float = 2.0
    mixing: float = 0.5
    views: int = 4
    soft_target_weight: float = 0.7
    task_weights: tuple[float, float, float, float] = (1.0, 0.5, 0.3, 0.3)
    balance: str = "fixed"
    reasons: float = 0.0
    hints: float = 0.0
    sentence_share: float = 0.0


@dataclass(frozen=True)
class TrainingRecipe:
    """How the loop runs, for every network of the recipe alike.

    The rate rises over the first `warmup_share` of all steps and falls along a cosine to zero. `ema_decay` is of the
    running average of weights, which is what comes out. Findings rarer than `rare_share` are shown more often (0: every
    image once an epoch). `stop_metric` ("validation_loss", "validation_auroc", "validation_dice") ends training when
    `patience` epochs brought nothing better, and keeps the best average. `checkpoint_steps` is after how many steps a
    checkpoint is written (0: after each epoch). `frozen_norms` leaves batch norms at the statistics they came with.
    `processes` share each batch; of own teachers, `teachers_at_once` above 1 are trained side by side, one process each.
    """

    weight_decay: float = 0.02
    warmup_share: float = 0.08
    gradient_clip: float = 1.0
    ema_decay: float = 0.99
    finding_loss: str = "cross_entropy"
    rare_share: float = 0.0
    stop_metric: str = ""
    patience: int = 5
    checkpoint_steps: int = 200
    frozen_norms: bool = False
    precision: str = "32-true"
    device: str = "cpu"
    processes: int = 1
    teachers_at_once: int = 1


@dataclass(frozen=True)
class EvaluationRecipe:
    """How the held-out part is judged: bootstrap replicates, least positives for a mean, how many stories to tell."""

    bootstrap: int = 1000
    min_positives: int = 20
    stories: int = 2


@dataclass(frozen=True)
class DesignRecipe:
    """The arms that are to teach one set of tasks (see training/ablation.py)."""

    tasks: tuple[str, ...]
    arms: tuple[str, ...]


@dataclass(frozen=True)
class AblationRecipe:
    """What `storyxai ablate` trains: a design, seeds, and the set whose images judge findings ("" = every image)."""

    design: tuple[DesignRecipe, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    findings_domain: str = ""


@dataclass(frozen=True)
class Recipe:
    """A whole run: three teachers, one student."""

    name: str
    seed: int
    data: DataRecipe
    teacher_findings: TeacherRecipe
    teacher_masks: TeacherRecipe
    teacher_report: TeacherRecipe
    student: StudentRecipe
    distillation: DistillationRecipe = field(default_factory=DistillationRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    ablation: AblationRecipe = field(default_factory=AblationRecipe)
    foreign_teachers: tuple[ForeignTeacherRecipe, ...] = ()


@dataclass(frozen=True)
class FitConfig:
    """How one network is trained.

    `views` 0 draws a new view every epoch; K > 0 goes round the K views that teachers were asked about. `batch_size` is
    over all processes together. `mixing`, `task_weights`, `balance`, `reasons` and `hints` are as in `DistillationRecipe`.
    """

    epochs: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    views: int = 0
    temperature: float = 2.0
    mixing: float = 0.5
    task_weights: tuple[float, float, float, float] = (1.0, 0.5, 0.3, 0.3)
    balance: str = "fixed"
    reasons: float = 0.0
    hints: float = 0.0
    seed: int = 0
    training: TrainingRecipe = field(default_factory=TrainingRecipe)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file. Raises: RecipeError naming the file, the key and the nearest known key."""
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(str(path), "does not exist", mend="name a recipe, such as recipes/phantom.toml") from error
    except (OSError, ValueError) as error:  # not TOML, not text, or a number of thousands of digits
        raise RecipeError(str(path), f"is not readable TOML ({error})", mend="mend the line that it names") from error
    recipe: Recipe = _build(Recipe, record, path.name, "")
    _check(recipe, path.name)
    return recipe


def _build(kind: Any, record: dict[str, Any], file: str, place: str) -> Any:
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}
    for key in record:
        if key not in known:
            near = nearest_name(key, known)
            mend = f"did you mean '{place}{near}'?" if near else f"known keys: {', '.join(sorted(known))}"
            raise RecipeError(file, f"has an unknown key '{place}{key}'", mend=mend)
    values = {}
    for name, item in known.items():
        if name not in record:
            if item.default is MISSING and item.default_factory is MISSING:
                raise RecipeError(file, f"lacks the key '{place}{name}'", mend="add it")
            continue
        values[name] = _value(hints[name], record[name], file, f"{place}{name}")
    return kind(**values)


def _value(hint: Any, given: Any, file: str, place: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if is_dataclass(hint):
        if not isinstance(given, dict):
            raise RecipeError(file, f"'{place}' must be a table", mend=f"write it as [{place}]")
        return _build(hint, given, file, f"{place}.")
    if origin is tuple:
        inner = get_args(hint)[0]
        if not isinstance(given, list):
            mend = f"write each as [[{place}]]" if is_dataclass(inner) else "write it in square brackets"
            raise RecipeError(file, f"'{place}' must be a list", mend=mend)
        return tuple(_value(inner, item, file, place) for item in given)
    if origin is Mapping:
        if not isinstance(given, dict):
            example = f"{place.rsplit('.', 1)[-1]} = {{Effusion = 1.0}}"
            raise RecipeError(file, f"'{place}' must be a table", mend=f"write it as {example}")
        return {name: _value(get_args(hint)[1], item, file, f"{place}.{name}") for name, item in given.items()}
    if hint is float and isinstance(given, int) and not isinstance(given, bool):
        return float(given)
    if type(given) is not hint:
        why = f"'{place}' must be of type {hint.__name__}, not {type(given).__name__}"
        raise RecipeError(file, why, mend="mend its value")
    return given


def _check(recipe: Recipe, file: str) -> None:
    data, distillation = recipe.data, recipe.distillation
    teachers = (
        ("findings", recipe.teacher_findings), ("masks", recipe.teacher_masks), ("report", recipe.teacher_report)
    )
    for place, value, least in (
        ("data.size", data.size, 64), ("data.phantom_train", data.phantom_train, 2),
        ("data.phantom_validation", data.phantom_validation, 2), ("data.phantom_test", data.phantom_test, 2),
        ("distillation.views", distillation.views, 1), ("student.epochs", recipe.student.epochs, 1),
        ("student.batch_size", recipe.student.batch_size, 2),
        *((f"teacher_{task}.epochs", shape.epochs, 1) for task, shape in teachers),
        *((f"teacher_{task}.batch_size", shape.batch_size, 2) for task, shape in teachers),
    ):
        if value < least:
            raise RecipeError(file, f"'{place}' is {value}", mend=f"it must be at least {least}")
    if data.size % 32:
        raise RecipeError(file, f"'data.size' is {data.size}", mend="it must be a multiple of 32")
    if not distillation.temperature > 0:
        raise RecipeError(file, f"'distillation.temperature' is {distillation.temperature}", mend="it must be over 0")
    if not 0 <= distillation.mixing < 1:
        raise RecipeError(file, f"'distillation.mixing' is {distillation.mixing}", mend="it must be in [0, 1)")
    if not 0 <= distillation.sentence_share <= 1:
        raise RecipeError(file, f"'distillation.sentence_share' is {distillation.sentence_share}", mend="it must be in [0, 1]")
    for name, weight in (("reasons", distillation.reasons), ("hints", distillation.hints)):
        if not 0 <= weight < math.inf:
            raise RecipeError(file, f"'distillation.{name}' is {weight}", mend="it must be 0 or more")
    for given in recipe.foreign_teachers:
        if given.task not in ("findings", "masks", "report"):
            near = nearest_name(given.task, ("findings", "masks", "report"))
            mend = f"did you mean '{near}'?" if near else "it teaches findings, masks or report"
            raise RecipeError(file, f"'foreign_teachers.task' is '{given.task}', which is not known", mend=mend)
        if not 0 < given.weight < math.inf:
            raise RecipeError(file, f"'foreign_teachers.weight' is {given.weight}", mend="it must be over 0")
        for name, weight in given.finding_weights.items():
            if not 0 <= weight < math.inf:
                raise RecipeError(file, f"'foreign_teachers.finding_weights.{name}' is {weight}", mend="it must be 0 or more")
    _check_training(recipe, file)


def _check_training(recipe: Recipe, file: str) -> None:
    training, balance = recipe.training, recipe.distillation.balance
    if balance != "fixed":  # the list of names stands where torch is imported, which takes seconds
        from storyxai.training.balance import make_balancer

        try:
            make_balancer(balance, {"findings": 1.0, "masks": 1.0})
        except RecipeError as error:
            raise RecipeError(file, f"{error.what} {error.why}", mend=error.mend) from error
    for place, given, known in (
        ("finding_loss", training.finding_loss, FINDING_LOSSES), ("precision", training.precision, PRECISIONS),
        ("device", training.device, DEVICES), ("stop_metric", training.stop_metric, ("", *METRICS)),
    ):
        if given not in known:
            near = nearest_name(given, known)
            names = ", ".join(name for name in known if name)
            mend = f"did you mean '{near}'? known: {names}" if near else f"known: {names}"
            raise RecipeError(file, f"'training.{place}' is '{given}', which is not known", mend=mend)
    for place, value, least, under in (
        ("weight_decay", training.weight_decay, 0.0, 1.0), ("warmup_share", training.warmup_share, 0.0, 1.0),
        ("ema_decay", training.ema_decay, 0.0, 1.0), ("rare_share", training.rare_share, 0.0, 1.0),
        ("gradient_clip", training.gradient_clip, 1e-6, math.inf), ("patience", training.patience, 1, math.inf),
        ("checkpoint_steps", training.checkpoint_steps, 0, math.inf), ("processes", training.processes, 1, 65),
        ("teachers_at_once", training.teachers_at_once, 1, 4),
    ):
        if not least <= value < under:
            mend = f"it must be at least {least}" + (f" and under {under}" if under < math.inf else "")
            raise RecipeError(file, f"'training.{place}' is {value}", mend=mend)
    for shape, name in ((recipe.student, "student"), (recipe.teacher_findings, "teacher_findings"),
                        (recipe.teacher_masks, "teacher_masks"), (recipe.teacher_report, "teacher_report")):
        if shape.batch_size < 2 * training.processes:
            why = f"'{name}.batch_size' is {shape.batch_size} for {training.processes} processes"
            raise RecipeError(file, why, mend="give each process two images at least")
