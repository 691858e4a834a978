"""An ablation's record as types: what `ablation_record` makes, what its page and its conclusions read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from storyxai.metrics import bootstrap
from storyxai.provenance import read_as


@dataclass(frozen=True)
class Metric:
    """One figure: its name in words, the side it belongs to, the task that it judges, whether more is better."""

    name: str
    words: str
    side: str
    task: str
    more_is_better: bool
    about: str

    @property
    def marked_words(self) -> str:
        """Its words, with a mark where less is better."""
        return self.words + ("" if self.more_is_better else " *")


@dataclass(frozen=True, kw_only=True)
class Estimate(bootstrap.Estimate):
    """The mean over seeds with its interval, and what each seed gave."""

    value: float
    by_seed: tuple[float | None, ...] = ()

    @property
    def side_of_zero(self) -> int:
        """1 or -1 where the interval lies above or below 0; 0 where it holds 0 or there is none."""
        low, high = self.interval or (0.0, 0.0)
        return int(low > 0) - int(high < 0)


@dataclass(frozen=True)
class Taught:
    """The tasks that were learnt, and the arm that taught them."""

    tasks: tuple[str, ...]
    arm: str


@dataclass(frozen=True, kw_only=True)
class CellFigures(Taught):
    """What one way of teaching reached, by figure."""

    seeds: tuple[int, ...]
    figures: Mapping[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """The first minus the second in every figure that both have, over the seeds that both have; `kind`: arms or tasks."""

    kind: str
    question: str
    seeds: tuple[int, ...]
    differences: Mapping[str, Estimate]
    first: Taught
    second: Taught


@dataclass(frozen=True)
class Transfer:
    """The main figure of a task that was learnt with others, minus that of the task alone."""

    arm: str
    judged: str
    metric: str
    added: tuple[str, ...]
    difference: Estimate


@dataclass(frozen=True)
class JudgedFinding:
    """On how many images of the test part a finding is there, on how many it is not."""

    finding: str
    present: int
    absent: int


@dataclass(frozen=True, kw_only=True)
class AblationData:
    """The test part, and what the students were taught on where that is known; `measured` by figure."""

    test_images: int
    test_patients: int
    findings: tuple[JudgedFinding, ...]
    measured: Mapping[str, int]
    synthetic: bool = False
    train_images: int | None = None
    size: int | None = None
    encoder: str = ""
    epochs: int | None = None
    steps: int | None = None


@dataclass(frozen=True)
class AblationSettings:
    """How intervals were made."""

    bootstrap: int
    level: float


@dataclass(frozen=True, kw_only=True)
class AblationRead:
    """The whole record; `floors` are what maps that know nothing reach, by figure and kind."""

    name: str
    data: AblationData
    settings: AblationSettings
    metrics: tuple[Metric, ...]
    arms: Mapping[str, str]
    floors: Mapping[str, Mapping[str, float]]
    cells: tuple[CellFigures, ...]
    comparisons: tuple[Comparison, ...]
    transfer: tuple[Transfer, ...]
    conclusions: tuple[str, ...]
    cells_planned: int = field(default=0)


def read_ablation(record: Mapping[str, object]) -> AblationRead:
    """What `storyxai ablate` wrote as types. Raises: TableError naming a field that it lacks or garbles."""
    return read_as(AblationRead, record, "ablation", mend="make it again with `storyxai ablate`")


def signed(value: float) -> str:
    """The number with its sign and three decimals."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def tasks_words(tasks: tuple[str, ...]) -> str:
    """The tasks that were learnt, in words."""
    return {1: f"{tasks[0]} alone", 3: "all three tasks"}.get(len(tasks), " and ".join(tasks))
