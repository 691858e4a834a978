"""What a recipe can say: its tables as frozen dataclasses (`recipe_file` reads them from TOML)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from storyxai.data.augmentation import ViewSettings
from storyxai.modalities.contract import Modality
from storyxai.modalities.registry import DEFAULT_MODALITY, modality_of

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
PROBE = "probe"
"""The kind of [[foreign_teachers]] that is fitted to the images that are learnt from (`training/probe.py`)."""
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

    Of the kind "probe" it is not from elsewhere: logistic regression on what the encoder `name` with the weights `path` sees
    of the images at `size`, and on their colours, fitted to the images that are learnt from.
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
    several members the first), or from the model folder of an earlier student. `within` names a structure of the modality:
    findings are then pooled over its cells as the student itself draws it, instead of over the whole image.
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
    within: str = ""


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
