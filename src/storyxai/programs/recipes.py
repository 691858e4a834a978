"""What a recipe can be asked for: its teachers, its student, the whole way to stories, or what each part adds.

Every recipe is read before torch is loaded, which takes seconds: a bad one is told at once. So what needs torch is imported
in the functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from storyxai.ablation.page import render_ablation
from storyxai.ablation.record import read_ablation
from storyxai.files import require_writable, write_whole
from storyxai.programs.data import make_phantoms
from storyxai.programs.evaluate import score_lines
from storyxai.programs.models import ModelChoice
from storyxai.programs.places import name_full_disk
from storyxai.programs.tell import TellOptions, tell
from storyxai.progress import Progress
from storyxai.provenance import canonical_json
from storyxai.scorecard.build import headline
from storyxai.scorecard.record import ReportScores, TeacherFigures
from storyxai.training.recipe_file import read_recipe

if TYPE_CHECKING:
    from storyxai.programs.crossvalidate import CrossValidated


@dataclass(frozen=True)
class WeightsFile:
    """A teacher's weights beside its card."""

    file: str


@dataclass(frozen=True)
class TeacherCard:
    """A teacher's card as far as it is told of."""

    task: str
    hash: str
    weights: WeightsFile
    figures: tuple[TeacherFigures, ...]


@dataclass(frozen=True)
class Taught:
    """A recipe's teachers: what each is and where it lies, and their main figures in words."""

    out: Path
    teachers: tuple[Mapping[str, object], ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Ablated:
    """How many students were compared, and what was concluded, in words."""

    out: Path
    students: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Piped:
    """A recipe gone through: the scorecard's main figures, and the same in words."""

    out: Path
    headline: Mapping[str, object]
    lines: tuple[str, ...]


def convert_weights(given: Path, encoder: str, out: Path) -> int:
    """The number of an encoder's published tensors that now stand in `out` as safetensors. Raises: WeightsError."""
    from storyxai.training.weights import convert_encoder_weights

    return convert_encoder_weights(given, encoder, out)


def teach(recipe: Path, out: Path, *, task: str = "all", progress: Progress | None = None) -> Taught:
    """The teachers of a recipe in `out`, weights and a card each, with their figures on the validation part.

    Raises: UnknownNameError for a task that no teacher has, before anything is written; RecipeError, OutputError.
    """
    with name_full_disk(out):
        read_recipe(recipe)
        from storyxai.programs.teach import teach_to_folder

        cards = teach_to_folder(recipe, out, task=task, progress=progress)
    lines = [f"{out / _read_card(card).weights.file}: {line}" for card in cards for line in teacher_lines(card)]
    return Taught(out, tuple(_teacher(card, out) for card in cards), tuple(lines))


def distil(recipe: Path, out: Path, *, progress: Progress | None = None) -> str:
    """The id of the student of a recipe, which now stands in `out`/model."""
    with name_full_disk(out):
        read_recipe(recipe)
        from storyxai.programs.pipeline import distil_to_folder

        student, _ = distil_to_folder(recipe, out, progress=progress)
    return student.card.model_id


def ablate(recipe: Path, out: Path, *, finished_only: bool = False, progress: Progress | None = None) -> Ablated:
    """What each part of the method adds, as ablation.json and ablation.html in `out`; finished students are kept.

    `finished_only` trains nothing and judges the students that are there.
    """
    read = read_recipe(recipe)
    require_writable(out)
    from storyxai.ablation.run import run_ablation

    record = run_ablation(read, out, finished_only=finished_only, progress=progress)
    write_whole(canonical_json(record), out / "ablation.json")
    write_whole(render_ablation(record), out / "ablation.html")
    told = read_ablation(record)
    return Ablated(out, told.cells_planned, told.conclusions)


def pipeline(recipe: Path, out: Path, *, progress: Progress | None = None) -> Piped:
    """A recipe from nothing to stories: student, scorecard, and four stories of held-out phantoms."""
    with name_full_disk(out):
        read = read_recipe(recipe)
        from storyxai.programs.pipeline import run_pipeline

        _, record = run_pipeline(recipe, out, progress=progress)
    first = read.data.phantom_seed * 1_000_000 + read.data.phantom_train + read.data.phantom_validation
    count = min(read.evaluation.stories, read.data.phantom_test)
    if count:
        if not (out / "held_out").exists():  # a run that was cut short goes on
            make_phantoms(out / "held_out", count=count, seed=first, size=512, modality=read.kind().key)
        tell([out / "held_out" / "images"], out / "stories", TellOptions(model=ModelChoice(out / "model")), progress=progress)
    return Piped(out, headline(record), tuple(score_lines(record)))


def crossvalidate(
    recipe: Path, out: Path, *, folds: int = 5, at_once: int = 1, only: Sequence[int] = (), beside: Path | None = None,
    progress: Progress | None = None,
) -> CrossValidated:
    """The recipe's figures on patients that its students never saw, as `programs.crossvalidate` says."""
    read_recipe(recipe)
    from storyxai.programs import crossvalidate as program

    return program.crossvalidate(
        recipe, out, folds=folds, at_once=at_once, only=only, beside=beside, progress=progress
    )


def _teacher(card: Mapping[str, object], out: Path) -> Mapping[str, object]:
    read = _read_card(card)
    weights = out / read.weights.file
    return {
        "task": read.task, "weights": str(weights), "hash": read.hash, "card": str(weights.with_suffix(".json")),
        "figures": card["figures"],
    }


def _read_card(card: Mapping[str, object]) -> TeacherCard:
    return msgspec.convert(card, TeacherCard)


def teacher_lines(card: Mapping[str, object]) -> list[str]:
    """The main figure of a teacher on each validation set, with its n, in words."""
    lines, read = [], _read_card(card)
    for figure in read.figures:
        parts = _FIGURE_OF[read.task](figure)
        lines.append(f"{figure.data.name}, n = {figure.data.images}: {'; '.join(parts) or 'too few cases for a figure'}")
    return lines


def _ranking(figure: TeacherFigures) -> list[str]:
    mean = figure.model.mean_auroc
    if mean is None or mean.value is None:
        return []
    span = "" if mean.interval is None else f" [{mean.low:.3f}, {mean.high:.3f}]"
    return [f"mean AUROC {mean.value:.3f}{span}"]


def _outlines(figure: TeacherFigures) -> list[str]:
    return [f"{one.mask} Dice {one.dice.value:.3f}" for one in figure.model.masks if one.dice.value is not None]


def _reports(figure: TeacherFigures) -> list[str]:
    said = _finding_f1(figure.model.reports)
    if said is None:
        return []
    beside = {one.name: _finding_f1(one.reports) for one in figure.baselines}
    constant = [f"{name} {value:.3f}" for name, value in beside.items() if value is not None]
    return [f"finding F1 {said:.3f} (beside {', '.join(constant)})"]


def _finding_f1(reports: ReportScores | None) -> float | None:
    return None if reports is None else reports.finding_f1_micro.value


_FIGURE_OF = {"findings": _ranking, "masks": _outlines, "report": _reports}
