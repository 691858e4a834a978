"""Recipes: a run described in TOML, read into frozen dataclasses; an unknown key is an error that names the nearest."""

from __future__ import annotations

import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from storyxai.data.augmentation import ViewSettings
from storyxai.errors import RecipeError, nearest_name

__all__ = [
    "LEARNING_PARTS", "AblationRecipe", "CalibrationRecipe", "DataRecipe", "DesignRecipe", "DistillationRecipe",
    "EvaluationRecipe", "FitConfig", "ForeignTeacherRecipe", "Recipe", "RoundRecipe", "StudentRecipe", "TeacherRecipe",
    "TrainingRecipe", "read_recipe",
]

FINDING_LOSSES = ("cross_entropy", "focal", "asymmetric")
PRECISIONS = ("32-true", "bf16-mixed")
DEVICES = ("cpu", "cuda")
TASKS = ("findings", "masks", "report")
LEARNING_PARTS: Mapping[str, tuple[str, ...]] = {
    "encoder": ("encoder",), "neck": ("from_32", "from_16", "fuse_16"), "findings": ("finding_head",),
    "masks": ("down_16", "from_8", "fuse_8", "from_4", "fuse_4", "mask_head"), "report": ("decoder",),
}
"""The parts of a network that a round may let learn, and what they are called in it."""
METRICS = {"validation_loss": -1, "validation_auroc": 1, "validation_dice": 1}
"""What training may stop on, and whether more of it is better (1) or worse (-1)."""


@dataclass(frozen=True)
class DataRecipe:
    """Where images come from. Units: counts of images; `size` is the side of the network's input in pixels.

    `phantom_*` are made on the spot from `phantom_seed`. `tables` are study tables (Parquet) with a split column,
    joined to the phantoms for training: their frontal views, with `laterals` every view; each is called by its source or,
    where several have the same source, by the name of its file. `soft_targets` are folders that hold a published teacher's
    predictions for them. With `mask_shares` outlines are learnt as the share of each pixel that they cover, without it as
    what the majority of the pixel is. Images of the patients in `leave_out` take no part in anything.
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
    mask_shares: bool = False
    leave_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class TeacherRecipe:
    """One teacher: which encoder (a timm name), how wide and how long it trains.

    `weights` names a safetensors file that the encoder starts from (`storyxai data weights`); what stands before its features
    at `frozen_stride` is then left as it came (0: all of it learns). `members` are trained from different seeds, and what
    they answer is averaged; with `held_out` each is trained without one of as many folds of the training patients.
    """

    encoder: str
    epochs: int
    learning_rate: float = 1e-3
    width: int = 128
    hidden: int = 128
    batch_size: int = 32
    weights: str = ""
    frozen_stride: int = 8
    members: int = 1
    held_out: bool = False


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
    """The student: one encoder (a timm name), a head for each of `tasks`.

    `deepest` = 16 leaves the encoder's stages behind stride 16 out, for a smaller and faster student; `fine_width` is that of
    the branch that draws outlines. `weights` and `frozen_stride` are as for a teacher.
    """

    encoder: str
    epochs: int
    learning_rate: float = 1e-3
    width: int = 96
    hidden: int = 128
    batch_size: int = 32
    weights: str = ""
    frozen_stride: int = 8
    fine_width: int = 40
    deepest: int = 32
    tasks: tuple[str, ...] = ("findings", "masks", "report")


@dataclass(frozen=True)
class RoundRecipe:
    """One stage in the training of one network, a [[rounds]] table each; without any a network trains as its own table says.

    `network` is "student" or the task of a teacher. The first round of a network starts from its fresh weights, each other
    from the end of the one before it, or of the round that `start` names. `shown` says how often an epoch shows the
    images of each set (0.5: half of them, drawn anew each epoch; sets that are not named are not shown; empty: each image
    once). Of `learns` (encoder, neck, findings, masks, report) only these parts move, with the statistics of their batch
    norms (empty: all). `teachers` are those that are learnt from (a task: the recipe's own and foreign ones; "published":
    data.soft_targets). `ema_decay`, `temperature` and `mixing` at 0 are those of [training] and [distillation]. The round
    hands on the mean of its end and of the ends of the rounds in `average_with`.
    """

    network: str
    epochs: int
    learning_rate: float
    name: str = ""
    start: str = ""
    shown: Mapping[str, float] = field(default_factory=dict)
    ema_decay: float = 0.0
    learns: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    temperature: float = 0.0
    mixing: float = 0.0
    average_with: tuple[str, ...] = ()


@dataclass(frozen=True)
class CalibrationRecipe:
    """How thresholds are chosen (`threshold` "f1", "sensitivity": the highest at which so many positives are found, or
    "net_benefit": `probability` itself, for every finding) and on how many resamples of patients intervals rest."""

    threshold: str = "f1"
    sensitivity: float = 0.8
    probability: float = 0.1
    replicates: int = 100


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
    checkpoint is written (0: after each epoch). `frozen_norms` leaves batch norms at the statistics they came with. With
    `positive_weights` rare positives weigh more. `processes` share each batch; of own teachers, `teachers_at_once` above 1
    are trained side by side, one process each.
    """

    weight_decay: float = 0.02
    warmup_share: float = 0.08
    gradient_clip: float = 1.0
    ema_decay: float = 0.99
    finding_loss: str = "cross_entropy"
    rare_share: float = 0.0
    positive_weights: bool = True
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
    """A whole run: three teachers, one student; `views` is how they are shown the images, `rounds` in which stages."""

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
    views: ViewSettings = field(default_factory=ViewSettings)
    rounds: tuple[RoundRecipe, ...] = ()
    calibration: CalibrationRecipe = field(default_factory=CalibrationRecipe)


@dataclass(frozen=True)
class FitConfig:
    """How one network is trained.

    `views` 0 draws a new view every epoch; K > 0 goes round the K views that teachers were asked about. `batch_size` is
    over all processes together. `mixing`, `task_weights`, `balance`, `reasons` and `hints` are as in `DistillationRecipe`,
    `shown` and `learns` as in `RoundRecipe`.
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
    view_settings: ViewSettings = field(default_factory=ViewSettings)
    shown: Mapping[str, float] = field(default_factory=dict)
    learns: tuple[str, ...] = ()

    @property
    def teacher_weight(self) -> float:
        """What the teachers' answers weigh beside labels: a / (1 - a) tau^2."""
        return self.mixing / (1 - self.mixing) * self.temperature**2


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
        count = len(get_args(hint))
        if get_args(hint)[-1] is not Ellipsis and len(given) != count:
            raise RecipeError(file, f"'{place}' has {len(given)} values", mend=f"it takes {count}")
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
        ("data.size", data.size, 64),
        *((f"data.phantom_{part}", getattr(data, f"phantom_{part}"), 0 if data.tables else 2)
          for part in ("train", "validation", "test")),
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
    _check_rounds(recipe, file)


def _check_rounds(recipe: Recipe, file: str) -> None:
    """Raises: RecipeError naming the round, the key and what is known."""
    known: dict[str, list[str]] = {}
    for one in recipe.rounds:
        place = f"rounds '{one.name}'" if one.name else "a round without a name"
        for key, given, names in (
            ("network", (one.network,), ("student", *TASKS)), ("learns", one.learns, tuple(LEARNING_PARTS)),
            ("teachers", one.teachers, (*TASKS, "published") if one.network == "student" else ("published",)),
            ("start", (one.start,), ("", *known.get(one.network, []))),
            ("average_with", one.average_with, tuple(known.get(one.network, []))),
        ):
            for value in given:
                if value not in names:
                    mend = f"known here: {', '.join(name for name in names if name) or 'none yet'}"
                    raise RecipeError(file, f"{place}: '{key}' names '{value}', which is not known", mend=mend)
        if one.epochs < 1 or not 0 < one.learning_rate < math.inf:
            why = f"{place} has {one.epochs} epochs at the learning rate {one.learning_rate}"
            raise RecipeError(file, why, mend="both must be over 0")
        for name, times in one.shown.items():
            if not 0 < times < math.inf:
                raise RecipeError(file, f"{place}: 'shown.{name}' is {times}", mend="it must be over 0, or left out")
        if not (0 <= one.ema_decay < 1 and 0 <= one.mixing < 1 and 0 <= one.temperature < math.inf):
            why = f"{place}: ema_decay {one.ema_decay}, mixing {one.mixing}, temperature {one.temperature}"
            raise RecipeError(file, why, mend="decay and mixing must be in [0, 1), the temperature 0 or more")
        if one.shown and recipe.training.rare_share:
            why = f"{place} says what is shown, and so does training.rare_share"
            raise RecipeError(file, why, mend="leave one of them out")
        if "published" in one.teachers and not recipe.data.soft_targets:
            raise RecipeError(file, f"{place} learns from 'published'", mend="name its answers in data.soft_targets")
        if not one.name or one.name in known.get(one.network, []):
            raise RecipeError(file, f"{place} of {one.network} needs a name of its own", mend="give each round another name")
        known.setdefault(one.network, []).append(one.name)


def _check_training(recipe: Recipe, file: str) -> None:
    training, balance = recipe.training, recipe.distillation.balance
    how = recipe.calibration
    if how.threshold not in ("f1", "sensitivity", "net_benefit") or not (0 < how.sensitivity <= 1 and 0 < how.probability < 1):
        why = f"'calibration' chooses by '{how.threshold}' at sensitivity {how.sensitivity}, probability {how.probability}"
        raise RecipeError(file, why, mend="f1, sensitivity (over 0, to 1) and net_benefit (probability in (0, 1)) are known")
    for task in recipe.student.tasks:
        if task not in TASKS:
            raise RecipeError(file, f"'student.tasks' names '{task}', which is not known", mend=f"known: {', '.join(TASKS)}")
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
