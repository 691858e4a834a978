"""What each part of the method adds: students that differ in one thing, taught alike and judged on the same patients.

Read it from `run_ablation` downwards. A cell is one student: the tasks it learns, the arm that teaches it, and a seed.
Every cell has the same images, the same number of steps and the same exact views; an arm whose teachers know nothing
gets answers that are all "not known". A finished cell is a file, so a run that was cut goes on at the cell.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storyxai.ablation.figures import ARMS, Answers, References, ablation_record
from storyxai.ablation.truth import NAMES, Ground, answers_of, floors_of, ground_of, place_shares
from storyxai.data.batches import Examples
from storyxai.data.skipped import write_skipped
from storyxai.errors import RecipeError, UnknownNameError
from storyxai.files import write_whole
from storyxai.models.network import TASKS, Network
from storyxai.progress import Progress
from storyxai.provenance import canonical_json, sha256_bytes, sha256_file
from storyxai.training.config import FitConfig, Recipe
from storyxai.training.distil import (
    Parts,
    check_parts,
    gather_examples,
    new_network,
    train_student,
    train_teacher,
)
from storyxai.training.fit import RunOptions
from storyxai.training.hidden_parts import start_from_films
from storyxai.training.published import read_published_answers, unknown_targets, with_published_answers
from storyxai.training.rounds import Answers as TeachersSaid
from storyxai.training.rounds import Lesson
from storyxai.training.soft_targets import AskOptions, TeacherTargets, cache_targets

Clock = Callable[[], float]
# Seconds of an image in training, roughly, for the time left: a report costs as much as the rest together.
_COST = {"findings": 1.0, "masks": 1.0, "report": 2.5}


@dataclass(frozen=True)
class Cell:
    """One student to be trained."""

    tasks: tuple[str, ...]
    arm: str
    seed: int

    @property
    def key(self) -> str:
        """The name of the cell's file."""
        return f"{'+'.join(self.tasks)}-{self.arm}-seed{self.seed}"

    @property
    def cost(self) -> float:
        """How long it takes, in units of its own."""
        once = sum(_COST[task] for task in self.tasks)
        return once * (2.0 if self.arm in ("phantoms_first", "films_first") else 1.0)


def plan_cells(recipe: Recipe) -> tuple[Cell, ...]:
    """All cells, seed after seed, so that a run that is cut early can be judged on whole seeds.

    Raises: RecipeError for a design that is empty, unknown or cannot work.
    """
    design, name = recipe.ablation.design, recipe.name
    if not design or not recipe.ablation.seeds:
        raise RecipeError(name, "has no [[ablation.design]] or no seeds", mend="name tasks and arms, see docs/how-to/ablate.md")
    cells = []
    for seed in recipe.ablation.seeds:
        for part in design:
            for task in part.tasks:
                if task not in TASKS:
                    raise UnknownNameError("task", task, TASKS)
            tasks = tuple(task for task in TASKS if task in part.tasks)
            for arm in part.arms:
                _check_arm(recipe, tasks, arm)
                cells.append(Cell(tasks, arm, seed))
    twice = [cell.key for cell in cells if cells.count(cell) > 1]
    if twice:
        raise RecipeError(name, f"plans '{twice[0]}' twice", mend="name each arm once for a set of tasks")
    return tuple(cells)


def _check_arm(recipe: Recipe, tasks: tuple[str, ...], arm: str) -> None:
    known = [name for name in ARMS if name != "teacher"]
    if arm not in known:
        raise UnknownNameError("arm", arm, known)
    lacks = ""
    if not tasks:
        lacks = "a task"
    elif arm in ("reasons", "public") and "findings" not in tasks:
        lacks = "the task findings"
    elif arm == "reasons" and not recipe.distillation.reasons > 0:
        lacks = "distillation.reasons above 0"
    elif arm == "public" and not recipe.data.soft_targets:
        lacks = "data.soft_targets"
    elif arm == "phantoms_first" and not recipe.data.tables:
        lacks = "data.tables with real films"
    if lacks:
        raise RecipeError(recipe.name, f"arm '{arm}' of {'+'.join(tasks) or 'nothing'} needs {lacks}", mend="add it")


def run_ablation(
    recipe: Recipe, out: Path, *, finished_only: bool = False, progress: Progress | None = None,
    clock: Clock = time.monotonic,
) -> dict[str, object]:
    """The record of the whole ablation (see `ablation_figures`), with each finished cell kept in `out`/cells.

    `finished_only` trains nothing and judges the students that are there.
    Raises: RecipeError for a design or data that cannot work, before anything is trained.
    """
    cells = plan_cells(recipe)
    _claim(recipe, out)
    ground = _ground(recipe, out, progress)
    lessons = _Lessons(recipe, ground, out, progress)
    saying = _Saying(cells, progress, clock)
    answers: dict[tuple[tuple[str, ...], str, int], Answers] = {}
    for number, cell in enumerate(cells):
        path = out / "cells" / f"{cell.key}.npz"
        if finished_only and not path.is_file():
            continue
        if not path.is_file():
            lessons.prepare(cell)
            network = lessons.student(cell, saying.inside(number))
            _write_answers(answers_of(network, ground), path)
            saying.finished(cell)
        answers[cell.tasks, cell.arm, cell.seed] = _read_answers(path)
    if any(cell.arm in ("teachers", "reasons") for cell in cells):
        for task in sorted({task for cell in cells for task in cell.tasks}):
            path = out / "cells" / f"teacher-{task}.npz"
            if finished_only and not path.is_file():
                continue
            if not path.is_file():
                _write_answers(answers_of(lessons.teachers[task], ground), path)
            answers[(task,), "teacher", recipe.seed] = _read_answers(path)
    evaluation = recipe.evaluation
    record = ablation_record(
        answers, _references(recipe, ground), name=recipe.name, min_positives=evaluation.min_positives,
        count=evaluation.bootstrap,
    )
    return {**record, "recipe": asdict(recipe), "cells_planned": len(cells)}


class _Lessons:
    """What cells are taught from; teachers and their answers are made once, when the first cell asks for them."""

    def __init__(self, recipe: Recipe, ground: Ground, out: Path, progress: Progress | None) -> None:
        self.recipe, self.ground, self.out, self.progress = recipe, ground, out, progress

    @cached_property
    def teachers(self) -> dict[str, Network]:
        """One teacher a task, trained on the same images as the students."""
        asked = {task for part in self.recipe.ablation.design for task in part.tasks}
        return {
            task: train_teacher(self.recipe, task, self.ground.train, self.out, losses={}, progress=self.progress)
            for task in TASKS if task in asked
        }

    @cached_property
    def answered(self) -> tuple[TeacherTargets, ...]:
        """Our own teachers' answers to every view, their maps with them where an arm asks for reasons."""
        explained = any("reasons" in part.arms for part in self.recipe.ablation.design)
        return cache_targets(
            self.teachers, self.ground.train, views=self.recipe.distillation.views, folder=self.out / "soft_targets",
            options=AskOptions(reasons="grad-cam" if explained else ""), progress=self.progress,
        )

    @cached_property
    def silent(self) -> tuple[TeacherTargets, ...]:
        """The answers of teachers that know nothing: the same views, and no term in the loss."""
        return unknown_targets(self.ground.train, self.recipe.distillation.views)

    @cached_property
    def published(self) -> tuple[TeacherTargets, ...]:
        """The published teacher's answers alone, at the level of the training labels."""
        train = self.ground.train
        soft = read_published_answers(self.recipe.data.soft_targets, train, NAMES, name=self.recipe.name)
        return with_published_answers(self.silent, soft, train, NAMES, weight=1.0)

    def prepare(self, cell: Cell) -> None:
        """Trains and asks the teachers that this cell needs; the time left is then told by students alone."""
        if cell.arm in ("teachers", "reasons"):
            _ = self.answered

    def student(self, cell: Cell, progress: Progress | None) -> Network:
        """The student of one cell."""
        recipe, train = self.recipe, self.ground.train
        start = None
        if cell.arm == "phantoms_first":
            start = self._after_phantoms(cell, progress)
        if cell.arm == "films_first":
            start = self._after_films(cell, progress)
        if cell.arm in ("teachers", "reasons"):
            targets = self.answered
            if "findings" not in cell.tasks:  # one task means one teacher: the report's side head learns from labels
                nobody = np.full_like(targets[0].findings, np.nan)
                targets = tuple(replace(item, findings=nobody) for item in targets)
        else:
            targets = self.published if cell.arm == "public" else self.silent
        reasons = recipe.distillation.reasons if cell.arm == "reasons" else 0.0
        how = replace(recipe, distillation=replace(recipe.distillation, reasons=reasons))
        return train_student(
            how, Lesson(train, TeachersSaid(targets)), tasks=cell.tasks, seed=cell.seed, start=start,
            run=RunOptions(cell.key, progress=progress),
        ).network

    def _after_phantoms(self, cell: Cell, progress: Progress | None) -> Network:
        """The student after as many epochs on phantoms; further teaching starts from it."""
        phantoms = self.ground.phantoms
        silent = unknown_targets(phantoms, self.recipe.distillation.views)
        return train_student(
            self.recipe, Lesson(phantoms, TeachersSaid(silent)), tasks=cell.tasks, seed=cell.seed,
            run=RunOptions(f"{cell.key} on phantoms", progress=progress),
        ).network

    def _after_films(self, cell: Cell, progress: Progress | None) -> Network:
        """A fresh student whose encoder has filled in hidden parts of the training films for as many epochs."""
        shape = self.recipe.student
        network = new_network(self.recipe, shape, cell.tasks, seed=cell.seed + 17)
        config = FitConfig(shape.epochs, shape.batch_size, shape.learning_rate, seed=cell.seed)
        name = f"{cell.key} fills in films"
        return start_from_films(network, self.ground.train, config=config, name=name, progress=progress)


class _Saying:
    """Progress in words: which cell, and about how long the rest will take, told by what the finished cells took."""

    def __init__(self, cells: tuple[Cell, ...], progress: Progress | None, clock: Clock) -> None:
        self.cells, self.progress, self.clock = cells, progress, clock
        self.cost_done, self.seconds, self.since = 0.0, 0.0, clock()

    def inside(self, number: int) -> Progress | None:
        """What the training of cell `number` says while it runs."""
        self.since = self.clock()
        if self.progress is None:
            return None
        tell = self.progress
        left = ""
        if self.cost_done:
            ahead = sum(cell.cost for cell in self.cells[number:])
            left = f", about {math.ceil(ahead * self.seconds / self.cost_done / 60)} min left"
        text = f"cell {number + 1} of {len(self.cells)}{left}: {self.cells[number].key}"
        return lambda _step, done, total: tell(text, done, total)

    def finished(self, cell: Cell) -> None:
        """Takes the time of the cell that was begun last."""
        self.seconds += self.clock() - self.since
        self.cost_done += cell.cost


def _claim(recipe: Recipe, out: Path) -> None:
    """Marks `out` as this recipe's; arms and seeds may be added later, what shapes a student may not change.

    Raises: RecipeError when `out` holds students of another recipe, OutputError.
    """
    shaping = {name: value for name, value in asdict(recipe).items() if name not in ("name", "evaluation", "ablation")}
    path, mine = out / "recipe.json", canonical_json(shaping)
    if path.is_file() and path.read_bytes() != mine:
        raise RecipeError(str(out), "holds students of another recipe", mend="name another --out, or remove it")
    write_whole(mine, path)


def _ground(recipe: Recipe, out: Path, progress: Progress | None) -> Ground:
    """The data of the ablation, kept in `out`/data under the hash of what made them."""
    tables = {name: sha256_file(Path(name)) for name in recipe.data.tables if Path(name).is_file()}
    key = sha256_bytes(canonical_json({"data": asdict(recipe.data), "tables": tables}))[:16]
    path = out / "data" / f"examples-{key}.npz"
    real = bool(recipe.data.tables)
    if not path.is_file():
        parts = gather_examples(recipe, progress=progress)
        write_skipped(parts.left_out, out / "left_out.csv")
        check_parts(recipe, parts)
        arrays = {
            f"{part}.{item.name}": np.asarray(getattr(getattr(parts, part), item.name))
            for part in ("train", "validation", "test") for item in fields(Examples)
        }
        side = recipe.data.size // 16
        arrays["places"] = np.zeros((0, len(NAMES), side, side), np.float32) if real else place_shares(
            parts.test.ids, size=recipe.data.size, phantom_size=recipe.data.phantom_size, progress=progress
        )
        _write_arrays(arrays, path)
    with np.load(path, allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files}
    train, validation, test = (_examples(arrays, part) for part in ("train", "validation", "test"))
    ground = ground_of(
        train, validation, test, drawn=arrays["places"], real=real, domain=recipe.ablation.findings_domain
    )
    check_parts(recipe, Parts(ground.train, ground.validation, ground.test))
    return ground


def _examples(arrays: Mapping[str, NDArray[Any]], part: str) -> Examples:
    return Examples.of_columns(arrays[f"{part}.{item.name}"] for item in fields(Examples))


def _references(recipe: Recipe, ground: Ground) -> References:
    test = ground.test
    told = (test.tokens != 0).any(axis=1)
    pairs = np.isfinite(ground.places).all(axis=(2, 3))
    domains = {name: test.domain.count(name) for name in sorted(set(test.domain))}
    return References(
        test.patient_ids, NAMES, ground.labels, np.where(told[:, None], ground.labels, np.nan).astype(np.float32),
        floors_of(ground),
        {
            "synthetic": not recipe.data.tables, "train_images": len(ground.train),
            "validation_images": len(ground.validation), "phantoms_to_start_from": len(ground.phantoms),
            "test_domains": domains, "places": int(pairs.sum()), "size": recipe.data.size,
            "encoder": recipe.student.encoder, "epochs": recipe.student.epochs,
            "steps": recipe.student.epochs * math.ceil(len(ground.train) / recipe.student.batch_size),
        },
    )


def _write_answers(answers: Answers, path: Path) -> None:
    arrays = {name: np.asarray(getattr(answers, name)) for name in ("logits", "calibration", "dice", "claims")}
    _write_arrays({**arrays, **{f"maps.{name}": values for name, values in answers.maps.items()}}, path)


def _read_answers(path: Path) -> Answers:
    with np.load(path, allow_pickle=False) as kept:
        maps = {name.removeprefix("maps."): kept[name] for name in kept.files if name.startswith("maps.")}
        return Answers(kept["logits"], kept["calibration"], kept["dice"], kept["claims"], maps)


def _write_arrays(arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    write_whole(stream.getvalue(), path)
