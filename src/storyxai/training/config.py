"""Recipes: a run described in TOML, read into frozen dataclasses; an unknown key is an error that names the nearest."""

from __future__ import annotations

import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from storyxai.data.augmentation import ViewSettings
from storyxai.errors import InputError, RecipeError, nearest_name
from storyxai.modalities.contract import Modality
from storyxai.modalities.registry import DEFAULT_MODALITY, modality_of
from storyxai.phantoms.registry import phantom_keys

__all__ = [
    "ITSELF", "LEARNING_PARTS", "AblationRecipe", "CalibrationRecipe", "DataRecipe", "DesignRecipe", "DistillationRecipe",
    "EvaluationRecipe", "FitConfig", "ForeignTeacherRecipe", "OutlinesRecipe", "Recipe", "RoundRecipe", "StudentRecipe",
    "TeacherRecipe", "TrainingRecipe", "read_recipe",
]

FINDING_LOSSES = ("cross_entropy", "focal", "asymmetric")
PRECISIONS = ("32-true", "bf16-mixed")
DEVICES = ("cpu", "cuda")
TASKS = ("findings", "masks", "report")
ITSELF = "itself"
"""What a round calls the network that it starts from, where that is a teacher too."""
LEARNING_PARTS: Mapping[str, tuple[str, ...]] = {
    "encoder": ("encoder",), "neck": ("from_32", "from_16", "fuse_16"), "findings": ("finding_head",),
    "masks": ("down_16", "from_8", "fuse_8", "from_4", "fuse_4", "mask_head"), "report": ("decoder",),
}
"""The parts of a network that a round may let learn, and what they are called in it."""
TEACHER_TABLES: Mapping[str, str] = {task: f"teacher_{task}" for task in TASKS}
"""The table of a recipe that describes the teacher of each task; a student's start names it so."""
TABLE_PARTS = ("train", "val", "test")
METRICS = {"validation_loss": -1, "validation_auroc": 1, "validation_dice": 1}
"""What training may stop on, and whether more of it is better (1) or worse (-1)."""


@dataclass(frozen=True)
class OutlinesRecipe:
    """Outlines for training images that have none: an earlier student draws them, and they are learnt like any others.

    `model` is the folder of that student; it draws `structures` (none named: the modality's pair, or all that it has where it
    has no pair) on the images of `sets`.
    """

    model: str
    sets: tuple[str, ...]
    structures: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataRecipe:
    """Where images come from. Units: counts of images; `size` is the side of the network's input in pixels.

    `phantom_*` are made on the spot from `phantom_seed`. `tables` are study tables (Parquet) with a split column,
    joined to the phantoms for training: their frontal views, with `laterals` every view; each is called by its source or,
    where several have the same source, by the name of its file. `soft_targets` are folders that hold a published teacher's
    predictions for them. With `mask_shares` outlines are learnt as the share of each pixel that they cover, without it as
    what the majority of the pixel is. Images of the patients in `leave_out` take no part in anything.

    The rows of the tables in the parts `learn_from` are learnt from; when "val" is among them, calibration must come out of
    fold.
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
    learn_from: tuple[str, ...] = ("train",)
    outlines: OutlinesRecipe | None = None


@dataclass(frozen=True)
class TeacherRecipe:
    """One teacher: which encoder (a timm name), how wide and how long it trains.

    `epochs` and `learning_rate` are for a teacher without [[rounds]], which say their own. `weights` names a safetensors
    file that the encoder starts from (`storyxai data weights`); what stands before its features at `frozen_stride` is then
    left as it came (0: all of it learns). Of several `members` the answers are averaged; they differ by their seed, and with
    `folds` above 0 also by their images: training patients are dealt into so many folds, and member k sees all but fold k.
    `mirrored` asks a teacher of findings about the image and about its mirror image and takes the mean log-odds.
    """

    encoder: str
    epochs: int = 0
    learning_rate: float = 1e-3
    width: int = 128
    hidden: int = 128
    batch_size: int = 32
    weights: str = ""
    frozen_stride: int = 8
    members: int = 1
    folds: int = 0
    mirrored: bool = False


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
    the branch that draws outlines, `decoder_width` and `decoder_layers` are of the one that writes reports.
    `epochs`, `learning_rate`, `weights` and `frozen_stride` are as for a teacher. `start` says where a part (encoder, neck,
    findings, masks, report) takes the weights that fit it: from "teacher_findings" (or the table of another task; of
    several members the first), or from the model folder of an earlier student.
    """

    encoder: str
    epochs: int = 0
    learning_rate: float = 1e-3
    width: int = 96
    hidden: int = 128
    batch_size: int = 32
    weights: str = ""
    frozen_stride: int = 8
    fine_width: int = 40
    decoder_width: int = 128
    decoder_layers: int = 2
    deepest: int = 32
    tasks: tuple[str, ...] = ("findings", "masks", "report")
    start: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundRecipe:
    """One stage in the training of one network, a [[rounds]] table each; without any a network trains as its own table says.

    `network` is "student" or the task of a teacher. Of `epochs` the last may be a part (3.5). The first round of a network
    starts from its fresh weights, each other from the end of the one before it, or of the round that `start` names. `shown`
    says how often an epoch shows the images of each set (0.5: half of them, drawn anew each epoch; sets that are not named
    are not shown; empty: each image once). Of `learns` (encoder, neck, findings, masks, report) only these parts move, with
    the statistics of their batch norms (empty: all). `teachers` are those that are learnt from (a task: the recipe's own and
    foreign ones; "published": data.soft_targets; "itself": the network that the round starts from, on findings). `ema_decay`,
    `warmup_share`, `temperature` and `mixing` at 0, and `task_weights` left out, are those of [training] and [distillation];
    teachers then weigh each task 1. The labels and boxes of a set in `label_weights` weigh so many times as much (0: they are
    not learnt from). Of a set in `report_shares` a report is learnt from only in this share of the times that its image is
    shown. The round hands on the mean of its end and of the ends of the rounds in `average_with`.
    """

    network: str
    epochs: float
    learning_rate: float
    name: str = ""
    start: str = ""
    shown: Mapping[str, float] = field(default_factory=dict)
    ema_decay: float = 0.0
    warmup_share: float = 0.0
    learns: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    temperature: float = 0.0
    mixing: float = 0.0
    task_weights: tuple[float, float, float, float] | None = None
    label_weights: Mapping[str, float] = field(default_factory=dict)
    report_shares: Mapping[str, float] = field(default_factory=dict)
    average_with: tuple[str, ...] = ()


@dataclass(frozen=True)
class CalibrationRecipe:
    """How thresholds are chosen (`threshold` "f1", "sensitivity": the highest at which so many positives are found, or
    "net_benefit": `probability` itself, for every finding) and on how many resamples of patients intervals rest.

    It is the images of the validation part that calibrate, or with `out_of_fold`, the folder of an ended `crossvalidate` of
    this recipe, all images of its tables by the answers of the students that had not seen them. Of `sets` alone, where given.
    """

    threshold: str = "f1"
    sensitivity: float = 0.8
    probability: float = 0.1
    replicates: int = 100
    out_of_fold: str = ""
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class DistillationRecipe:
    """Temperature tau, mixing a in [0, 1), and how many exact views of each image the teachers answer for.

    With `views` 0 they answer about the image as it is, and this stands for each of its mild views, as a label does.

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
    """A whole run: teachers, one student; `views` is how they are shown the images, `rounds` in which stages.

    The table of a teacher that nobody learns from may be left out. `modality` names the kind of image, which brings findings,
    structures and the words of reports: a key (ours, or of a package), a TOML file, or a folder that holds modality.toml.
    """

    name: str
    seed: int
    data: DataRecipe
    teacher_findings: TeacherRecipe | None
    teacher_masks: TeacherRecipe | None
    teacher_report: TeacherRecipe | None
    student: StudentRecipe
    distillation: DistillationRecipe = field(default_factory=DistillationRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    ablation: AblationRecipe = field(default_factory=AblationRecipe)
    foreign_teachers: tuple[ForeignTeacherRecipe, ...] = ()
    views: ViewSettings = field(default_factory=ViewSettings)
    rounds: tuple[RoundRecipe, ...] = ()
    calibration: CalibrationRecipe = field(default_factory=CalibrationRecipe)
    modality: str = DEFAULT_MODALITY

    def kind(self) -> Modality:
        """The modality that `modality` names."""
        return modality_of(self.modality)


@dataclass(frozen=True)
class FitConfig:
    """How one network is trained.

    `views` 0 draws a new view every epoch; K > 0 goes round the K views that teachers were asked about. `batch_size` is
    over all processes together. `mixing`, `task_weights`, `balance`, `reasons` and `hints` are as in `DistillationRecipe`,
    `epochs`, `shown`, `learns`, `label_weights` and `report_shares` as in `RoundRecipe`.
    """

    epochs: float
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
    label_weights: Mapping[str, float] = field(default_factory=dict)
    report_shares: Mapping[str, float] = field(default_factory=dict)

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
    if "tasks" not in record["student"]:
        recipe = replace(recipe, student=replace(recipe.student, tasks=_tasks_of(_modality(recipe, path.name))))
    _check(recipe, path.name)
    return recipe


def _modality(recipe: Recipe, file: str) -> Modality:
    """The recipe's modality. Raises: RecipeError naming the file and what is wrong with it."""
    try:
        return recipe.kind()
    except InputError as error:
        raise RecipeError(file, f"'modality': {error.what} {error.why}", mend=error.mend) from error


def _tasks_of(modality: Modality) -> tuple[str, ...]:
    """What a student of `modality` can be taught."""
    able = {"findings": True, "masks": bool(modality.structures), "report": modality.grammar is not None}
    return tuple(task for task in TASKS if able[task])


def _check_modality(recipe: Recipe, file: str) -> None:
    """Raises: RecipeError where the recipe asks for what its modality has not."""
    modality, data = _modality(recipe, file), recipe.data
    what, able = f"is of the modality '{modality.key}'", _tasks_of(modality)
    for task in recipe.student.tasks:
        if task in TASKS and task not in able:
            why = f"{what}, which has no {'structures' if task == 'masks' else 'grammar of reports'}"
            raise RecipeError(file, f"'student.tasks' names '{task}', and the recipe {why}", mend="leave it out")
    if modality.key == DEFAULT_MODALITY:
        return
    if modality.key not in phantom_keys() and (data.phantom_train or data.phantom_validation or data.phantom_test):
        raise RecipeError(file, f"{what}, which has no phantoms", mend="set data.phantom_* to 0 and name tables")
    if data.soft_targets:
        raise RecipeError(file, f"{what}, and data.soft_targets are of '{DEFAULT_MODALITY}'", mend="leave them out")


def _build(kind: Any, record: dict[str, object], file: str, place: str) -> Any:
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}
    for key in record:
        if key not in known:
            near = nearest_name(key, known)
            mend = f"did you mean '{place}{near}'?" if near else f"known keys: {', '.join(sorted(known))}"
            raise RecipeError(file, f"has an unknown key '{place}{key}'", mend=mend)
    values: dict[str, object] = {}
    for name, item in known.items():
        if name not in record:
            if type(None) in get_args(hints[name]):
                values[name] = None
            elif item.default is MISSING and item.default_factory is MISSING:
                raise RecipeError(file, f"lacks the key '{place}{name}'", mend="add it")
            continue
        values[name] = _value(hints[name], record[name], file, f"{place}{name}")
    return kind(**values)


def _value(hint: Any, given: Any, file: str, place: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
        origin = get_origin(hint)
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
            example = f"{place.rsplit('.', 1)[-1]} = {{name = 1.0}}"
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
    for place, value, least in (
        ("data.size", data.size, 64),
        *((f"data.phantom_{part}", getattr(data, f"phantom_{part}"), 0 if data.tables else 2)
          for part in ("train", "validation", "test")),
        ("distillation.views", distillation.views, 0),
        *((f"{table}.batch_size", shape.batch_size, 2) for table, shape in _shapes(recipe)),
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
    _check_modality(recipe, file)
    _check_training(recipe, file)
    _check_rounds(recipe, file)
    _check_epochs(recipe, file)
    _check_teachers(recipe, file)
    _check_data(recipe, file)


def _shapes(recipe: Recipe) -> list[tuple[str, TeacherRecipe | StudentRecipe]]:
    """The tables that describe a network, by name."""
    given = [(table, getattr(recipe, table)) for table in ("student", *TEACHER_TABLES.values())]
    return [(table, shape) for table, shape in given if shape is not None]


def _check_epochs(recipe: Recipe, file: str) -> None:
    """Raises: RecipeError for a network that is told twice how long it trains, or not at all."""
    staged = {one.network for one in recipe.rounds}
    for table, shape in _shapes(recipe):
        in_rounds = table.removeprefix("teacher_") in staged
        if in_rounds and shape.epochs:
            why = f"'{table}.epochs' is {shape.epochs}, and its rounds say how long it trains"
            raise RecipeError(file, why, mend="leave it out")
        if not in_rounds and shape.epochs < 1:
            raise RecipeError(file, f"'{table}.epochs' is {shape.epochs}", mend="it must be at least 1")


def _check_teachers(recipe: Recipe, file: str) -> None:
    """Raises: RecipeError for a teacher that is asked and not described, or for one that cannot be what its table says."""
    staged = [one for one in recipe.rounds if one.network == "student"]
    asked = {name for one in staged for name in one.teachers} if staged else set(recipe.student.tasks)
    elsewhere = {one.task for one in recipe.foreign_teachers if one.instead}
    wanted = {TEACHER_TABLES[task] for task in asked & set(recipe.student.tasks) - elsewhere}
    wanted |= {source for source in recipe.student.start.values() if source in TEACHER_TABLES.values()}
    given = dict(_shapes(recipe))
    for table in sorted(wanted - set(given)):
        raise RecipeError(file, f"lacks the table [{table}], which the student learns from", mend="add it")
    for part in recipe.student.start:
        if part not in LEARNING_PARTS:
            why, known = f"'student.start' names '{part}', which is not known", ", ".join(LEARNING_PARTS)
            raise RecipeError(file, why, mend=f"known: {known}")
    for table, shape in given.items():
        if isinstance(shape, StudentRecipe):
            continue
        if shape.members < 1 or shape.folds < 0 or (shape.folds and not max(2, shape.members) <= shape.folds):
            why = f"'{table}' has {shape.members} members over {shape.folds} folds"
            raise RecipeError(file, why, mend="take 1 member or more, and folds 0, or 2 or more and no fewer than members")
        if shape.mirrored and table != "teacher_findings":
            raise RecipeError(file, f"'{table}.mirrored' is set", mend="only a teacher of findings can be asked so")
    distillation = recipe.distillation
    if not distillation.views and (asked & {"masks", "report"} or distillation.reasons or distillation.hints):
        why = "'distillation.views' is 0, but outlines, words, reasons and hints belong to an exact view"
        raise RecipeError(file, why, mend="set it to 1 or more, or let the student's rounds learn from findings alone")


def _check_data(recipe: Recipe, file: str) -> None:
    """Raises: RecipeError for parts of tables that are not known, or a calibration on what was learnt from."""
    data = recipe.data
    for part in data.learn_from:
        if part not in TABLE_PARTS:
            raise RecipeError(file, f"'data.learn_from' names '{part}', which is not known", mend="known: train, val, test")
    if "train" not in data.learn_from:
        raise RecipeError(file, "'data.learn_from' lacks 'train'", mend="add it")
    if "val" in data.learn_from and not recipe.calibration.out_of_fold:
        why = "learns from the images that would calibrate it"
        raise RecipeError(file, why, mend="name the folder of a `crossvalidate` in calibration.out_of_fold")
    drawn, known = data.outlines.structures if data.outlines else (), _modality(recipe, file).structure_names
    for name in drawn:
        if name not in known:
            raise RecipeError(file, f"'data.outlines.structures' names '{name}'", mend=f"known: {', '.join(known)}")


def _check_rounds(recipe: Recipe, file: str) -> None:
    """Raises: RecipeError naming the round, the key and what is known."""
    known: dict[str, list[str]] = {}
    for one in recipe.rounds:
        place = f"rounds '{one.name}'" if one.name else "a round without a name"
        for key, given, names in (
            ("network", (one.network,), ("student", *TASKS)), ("learns", one.learns, tuple(LEARNING_PARTS)),
            ("teachers", one.teachers, (*TASKS, ITSELF, "published") if one.network == "student" else ("published",)),
            ("start", (one.start,), ("", *known.get(one.network, []))),
            ("average_with", one.average_with, tuple(known.get(one.network, []))),
        ):
            for value in given:
                if value not in names:
                    mend = f"known here: {', '.join(name for name in names if name) or 'none yet'}"
                    raise RecipeError(file, f"{place}: '{key}' names '{value}', which is not known", mend=mend)
        if not 0 < one.epochs < math.inf or not 0 < one.learning_rate < math.inf:
            why = f"{place} has {one.epochs:g} epochs at the learning rate {one.learning_rate}"
            raise RecipeError(file, why, mend="both must be over 0")
        for key, least, most in (("shown", 1e-9, math.inf), ("label_weights", 0.0, math.inf), ("report_shares", 0.0, 1.0)):
            for name, value in getattr(one, key).items():
                if not least <= value <= most or value == math.inf:
                    bound = {"shown": "over 0, or left out", "label_weights": "0 or more", "report_shares": "in [0, 1]"}[key]
                    raise RecipeError(file, f"{place}: '{key}.{name}' is {value}", mend=f"it must be {bound}")
        shares = (one.ema_decay, one.mixing, one.warmup_share)
        if not (all(0 <= share < 1 for share in shares) and 0 <= one.temperature < math.inf):
            why = f"{place}: ema_decay, mixing and warmup_share are {shares}, the temperature {one.temperature}"
            raise RecipeError(file, why, mend="the three must be in [0, 1), the temperature 0 or more")
        if one.shown and recipe.training.rare_share:
            why = f"{place} says what is shown, and so does training.rare_share"
            raise RecipeError(file, why, mend="leave one of them out")
        if ITSELF in one.teachers and ("findings" in one.teachers or not known.get(one.network)):
            also = " and from 'findings'" if "findings" in one.teachers else ", and is the first"
            why = f"{place} learns from 'itself'{also}"
            raise RecipeError(file, why, mend="only a later round has answers of its own, and they stand in for the teachers'")
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
    for name, shape in _shapes(recipe):
        if shape.batch_size < 2 * training.processes:
            why = f"'{name}.batch_size' is {shape.batch_size} for {training.processes} processes"
            raise RecipeError(file, why, mend="give each process two images at least")
