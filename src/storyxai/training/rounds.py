"""The stages in which one network is trained, as a recipe's [[rounds]] say: each starts where another ended."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from storyxai.data.batches import Examples, make_batch
from storyxai.errors import OutputError, RecipeError
from storyxai.files import fresh_file
from storyxai.modalities.registry import modality_named
from storyxai.models.export import load_network, save_network
from storyxai.models.network import Network
from storyxai.models.teachers import MirroredTeacher, OwnTeacher
from storyxai.progress import Progress
from storyxai.training.apart import memory_kept
from storyxai.training.config import (
    ITSELF,
    TASKS,
    TEACHER_TABLES,
    FitConfig,
    Recipe,
    RoundRecipe,
    StudentRecipe,
    TeacherRecipe,
    TrainingRecipe,
)
from storyxai.training.fit import CHECKPOINT, RunOptions, fit
from storyxai.training.published import unknown_targets, with_published_answers
from storyxai.training.soft_targets import TeacherTargets
from storyxai.training.weights import average_networks, positive_weights
from storyxai.types import SoftTargets

__all__ = [
    "Answers", "Lesson", "Taught", "check_sets", "keep_network", "only_findings", "rounds_of", "said_by_itself", "shape_of",
    "train_in_rounds",
]


@dataclass(frozen=True, eq=False)
class Answers:
    """What teachers said of a network's training images: the recipe's own and foreign ones by view, and a published one.

    `findings` are those of the images' labels, in their order; only a published one asks for them.
    """

    own: tuple[TeacherTargets, ...] = ()
    published: SoftTargets | None = None
    findings: tuple[str, ...] = modality_named().names

    def asked(self, one: RoundRecipe, train: Examples, *, weight: float) -> tuple[TeacherTargets, ...]:
        """The answers that a round learns from: of its teachers alone, a published one weighing `weight` beside ours."""
        tasks = ["findings"] if ITSELF in one.teachers else [task for task in TASKS if task in one.teachers]
        targets = tuple(_only(item, tasks) for item in self.own) if tasks else ()
        if "published" in one.teachers and self.published is not None:
            alone = 1.0 if "findings" not in tasks else weight
            own = targets or unknown_targets(train)
            targets = with_published_answers(own, self.published, train, self.findings, weight=alone)
        return targets


def _only(targets: TeacherTargets, tasks: list[str]) -> TeacherTargets:
    """The answers about some tasks; about the others nothing is known."""
    nothing = np.zeros((0,), dtype=np.float16)
    if "findings" not in tasks:
        targets = replace(targets, findings=np.full_like(targets.findings, np.nan), maps=nothing, attention=nothing)
    if "masks" not in tasks:
        targets = replace(targets, masks=nothing)
    return targets if "report" in tasks else replace(targets, words=nothing, word_row=np.full_like(targets.word_row, -1))


def only_findings(network: Network) -> Network:
    """A view of `network` that answers for findings only, for speed."""
    lean = copy.copy(network)
    lean.spec = replace(network.spec, tasks=("findings",))
    return lean


def rounds_of(recipe: Recipe, network: str) -> tuple[RoundRecipe, ...]:
    """The rounds of a network ("student" or a teacher's task): those of the recipe, else the one that its table describes."""
    given = tuple(one for one in recipe.rounds if one.network == network)
    if given:
        return given
    shape = shape_of(recipe, network)
    teachers = (*TASKS, "published") if network == "student" else ()
    return (RoundRecipe(network, shape.epochs, shape.learning_rate, teachers=teachers),)


def shape_of(recipe: Recipe, network: str) -> TeacherRecipe | StudentRecipe:
    """The table that describes a network's shape. Raises: RecipeError when the recipe has none."""
    table = TEACHER_TABLES.get(network, network)
    shape: TeacherRecipe | StudentRecipe | None = getattr(recipe, table)
    if shape is None:
        raise RecipeError(recipe.name, f"lacks the table [{table}]", mend="add it, or ask for another network")
    return shape


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a network learns from: images, what teachers say of them, and the images that a recipe's `stop_metric` looks at."""

    train: Examples
    answers: Answers = Answers()
    validation: Examples | None = None


@dataclass(frozen=True, eq=False)
class Taught:
    """A network after its rounds, and the mean loss of each epoch of those that were trained now."""

    network: Network
    losses: tuple[float, ...]


def train_in_rounds(
    recipe: Recipe, which: str, network: Network, lesson: Lesson, *, seed: int, run: RunOptions
) -> Taught:
    """`network` after the rounds of `which`; in the run's folder each ended round is kept and not trained again.

    Raises: RecipeError when a round shows a set that is not there.
    """
    rounds, ends, train, folder = rounds_of(recipe, which), dict[str, Network](), lesson.train, run.folder
    weights = positive_weights(torch.from_numpy(train.labels)).numpy() if recipe.training.positive_weights else None
    lost: list[float] = []
    for number, one in enumerate(rounds):
        check_sets(recipe, f"round '{one.name}' shows", one.shown, train)
        for key in ("label_weights", "report_shares"):
            check_sets(recipe, f"round '{one.name}': {key} names", getattr(one, key), train)
        place = None if folder is None else folder if len(rounds) == 1 else folder / one.name
        kept = None if place is None or len(rounds) == 1 else place / "network.safetensors"
        if kept is not None and kept.exists():
            network = load_network(kept)
        else:
            start = copy.deepcopy(ends[one.start] if one.start else network)  # `fit` trains what it is given
            answers = lesson.answers
            if ITSELF in one.teachers:
                answers = replace(answers, own=(said_by_itself(start, train, run.progress),))
            targets = answers.asked(one, train, weight=recipe.distillation.soft_target_weight)
            config = _config_of(recipe, which, one, network.spec.tasks, targets, seed=seed + 1000 * number)
            name = run.name if len(rounds) == 1 else f"{run.name}, {one.name}"
            result = fit(
                start, train, config=config, targets=targets, positive_weights=weights,
                validation=lesson.validation if config.training.stop_metric else None,
                run=replace(run, name=name, folder=place),
            )
            network, lost = result.network, [*lost, *result.losses]
            if one.average_with:
                network = average_networks([network, *(ends[other] for other in one.average_with)])
            for parameter in network.parameters():
                parameter.requires_grad_(True)
            if kept is not None and place is not None:
                keep_network(network, kept, place)
        ends[one.name] = network
    return Taught(network, tuple(lost))


@memory_kept()
def said_by_itself(
    network: Network, train: Examples, progress: Progress | None = None, *, batch_size: int = 64
) -> TeacherTargets:
    """What a network says of the findings of `train`: mean log-odds of each plain image and its mirror image, for every view.

    Of an image of which no finding is labelled nothing is said: its set teaches something else. Learning from one's own
    answers of the round before is self-distillation. Source: Furlanello et al., ICML 2018.
    """
    teacher = MirroredTeacher(OwnTeacher(only_findings(network), "the student of the round before"))
    training, said = network.training, []
    network.eval()
    for start in range(0, len(train), batch_size):
        rows = np.arange(start, min(start + batch_size, len(train)))
        with torch.no_grad():
            found = teacher.answers(make_batch(train, rows, 0).images).findings
        said.append(np.asarray(found, dtype=np.float32))
        if progress:
            progress("its own answers", int(rows[-1]) + 1, len(train))
    network.train(training)
    unlabelled = np.isnan(train.labels).all(axis=1, keepdims=True)
    return replace(unknown_targets(train)[0], findings=np.where(unlabelled, np.float32(np.nan), np.concatenate(said)))


def check_sets(recipe: Recipe, place: str, named: Iterable[str], train: Examples) -> None:
    """Nothing. Raises: RecipeError when `place` of the recipe names a set of which there is no image."""
    missing = sorted(set(named) - set(train.domain))
    if missing:
        known = ", ".join(sorted(set(train.domain)))
        raise RecipeError(recipe.name, f"{place} '{missing[0]}', of which nothing is learnt", mend=f"known sets: {known}")


def _config_of(
    recipe: Recipe, which: str, one: RoundRecipe, tasks: tuple[str, ...], targets: tuple[TeacherTargets, ...], *, seed: int
) -> FitConfig:
    distillation = recipe.distillation
    config = FitConfig(
        epochs=one.epochs, batch_size=shape_of(recipe, which).batch_size, learning_rate=one.learning_rate, seed=seed,
        temperature=one.temperature or distillation.temperature, mixing=one.mixing or distillation.mixing,
        training=_training(recipe, tasks, one), view_settings=recipe.views, shown=dict(one.shown), learns=one.learns,
        label_weights=dict(one.label_weights), report_shares=dict(one.report_shares),
        # One set of answers, a published teacher's, stands for every mild view; others belong each to its own.
        views=distillation.views if any(task in one.teachers for task in TASKS) and targets else 0,
    )
    if which != "student":
        return replace(config, task_weights=one.task_weights or (1.0, 1.0, 1.0, distillation.task_weights[3]))
    return replace(
        config, task_weights=one.task_weights or distillation.task_weights, balance=distillation.balance,
        reasons=distillation.reasons, hints=distillation.hints,
    )


def _training(recipe: Recipe, tasks: tuple[str, ...], one: RoundRecipe) -> TrainingRecipe:
    """How the loop runs for a network of these tasks: where it lacks what the recipe stops on, it stops on its loss."""
    training = recipe.training
    how = replace(
        training, ema_decay=one.ema_decay or training.ema_decay, warmup_share=one.warmup_share or training.warmup_share
    )
    needed = {"validation_auroc": "findings", "validation_dice": "masks"}.get(how.stop_metric)
    return how if needed is None or needed in tasks else replace(how, stop_metric="validation_loss")


def keep_network(network: Network, path: Path, run: Path) -> None:
    """The network stands at `path` whole or not at all; the checkpoint of its training in `run` has had its day."""
    mend = "free some space; the run goes on"
    try:
        with fresh_file(path, mend=mend) as part:
            save_network(network, part)
    except SafetensorError as error:
        raise OutputError(str(path), f"cannot be written ({error})", mend=mend) from error
    (run / CHECKPOINT).unlink(missing_ok=True)
