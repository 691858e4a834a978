"""Teaching, whole: examples -> three teachers -> their soft targets -> one student. Read it from `distil` downwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from storyxai.data.assemble import examples_from_phantoms, examples_from_table
from storyxai.data.batches import Examples, join_examples
from storyxai.data.folds import deal_folds
from storyxai.data.learnt import Origin, origins_of
from storyxai.data.skipped import skipped_lines, write_skipped
from storyxai.data.table import Skipped, StudyTable, read_table
from storyxai.errors import RecipeError
from storyxai.modalities.contract import Modality
from storyxai.models.export import load_network
from storyxai.models.network import Network, NetworkSpec
from storyxai.models.teachers import Teacher
from storyxai.models.tokens import PAD, encode_tokens, full_vocabulary
from storyxai.progress import Progress
from storyxai.training.apart import side_by_side
from storyxai.training.config import TASKS, TEACHER_TABLES, Recipe, StudentRecipe, TeacherRecipe
from storyxai.training.earlier import draw_outlines, start_parts
from storyxai.training.fit import RunOptions
from storyxai.training.foreign import (
    Foreign,
    fit_probes,
    joined_teachers,
    open_foreign_teachers,
    replaced,
    with_foreign_reports,
)
from storyxai.training.published import read_published_answers
from storyxai.training.rounds import Answers, Lesson, Taught, keep_network, rounds_of, shape_of, train_in_rounds
from storyxai.training.sentences import teacher_sentences, with_sentences
from storyxai.training.soft_targets import AskOptions, TeacherTargets, cache_targets
from storyxai.training.weights import freeze_early_stages, load_encoder_weights
from storyxai.types import SoftTargets


@dataclass(frozen=True, eq=False)
class Parts:
    """The three parts of the data, patients apart; what of the tables became no example, by name; each domain's origin."""

    train: Examples
    validation: Examples
    test: Examples
    left_out: tuple[Skipped, ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class DistilledRun:
    """The trained networks, the data they were trained, calibrated and are to be judged on, and who else taught."""

    parts: Parts
    teachers: Mapping[str, Network]
    student: Network
    losses: Mapping[str, tuple[float, ...]]
    foreign: tuple[Mapping[str, object], ...] = ()


def distil(
    recipe: Recipe, out: Path, *, parts: Parts | None = None, progress: Progress | None = None
) -> DistilledRun:
    """The recipe's teachers and the student distilled from them and from foreign ones; networks found in `out` are kept.

    `parts` stand in for the recipe's own data where they are given.
    """
    foreign = open_foreign_teachers(recipe)  # before anything is trained: what is missing is told at once
    if parts is None:
        parts = gather_examples(recipe, progress=progress)
        check_parts(recipe, parts)
    write_skipped(parts.left_out, out / "left_out.csv")
    parts = with_outlines(recipe, parts, progress=progress)
    foreign = (*foreign, *fit_probes(recipe, parts.train, progress=progress))
    losses: dict[str, tuple[float, ...]] = {}
    tasks = tuple(task for task in TASKS if task in asked_tasks(recipe) and not replaced(recipe, task))
    teachers = train_teachers(recipe, tasks, parts, out, losses=losses, progress=progress)
    train = with_foreign_reports(foreign, parts.train, recipe.kind(), progress=progress)
    if recipe.distillation.sentence_share and "report" in teachers:
        written = teacher_sentences(teachers["report"], train, progress=progress)
        train = with_sentences(train, written, share=recipe.distillation.sentence_share, seed=recipe.seed)
    targets = ask_teachers(recipe, teachers, foreign, train, out / "soft_targets", progress=progress)
    student_path = out / "student-network.safetensors"
    if student_path.exists():
        student = load_network(student_path)
    else:
        run = out / "training" / "student"
        answers = Answers(targets, published_answers(recipe, train), recipe.kind().names)
        taught = train_student(
            recipe, Lesson(train, answers, parts.validation), teachers=teachers, run=RunOptions("student", run, progress)
        )
        student, losses["student"] = taught.network, taught.losses
        keep_network(student, student_path, run)
    told = tuple({"task": given.task, "name": one.name, "hash": one.hash, "weight": given.weight} for given, one in foreign)
    return DistilledRun(parts, teachers, student, losses, told)


def with_outlines(recipe: Recipe, parts: Parts, *, progress: Progress | None = None) -> Parts:
    """`parts` with the outlines that the recipe has an earlier student draw for what is learnt from."""
    drawn = recipe.data.outlines
    if drawn is None:
        return parts
    drawn = replace(drawn, structures=drawn.structures or paired_structures(recipe.kind()))
    return replace(parts, train=draw_outlines(parts.train, drawn, shares=recipe.data.mask_shares, progress=progress))


def paired_structures(modality: Modality) -> tuple[str, ...]:
    """The two sides of the modality's pair, or all its structures where it has none."""
    return modality.structure_names[:2] if modality.pair else modality.structure_names


def asked_tasks(recipe: Recipe) -> set[str]:
    """The tasks whose teachers the student's rounds learn from, or whose weights it starts from: no other is trained."""
    staged = {teacher for one in rounds_of(recipe, "student") for teacher in one.teachers}
    started = {task for task, table in TEACHER_TABLES.items() if table in recipe.student.start.values()}
    return staged & set(recipe.student.tasks) | started


def ask_teachers(
    recipe: Recipe, own: Mapping[str, Network], foreign: Foreign, train: Examples, folder: Path, *,
    progress: Progress | None = None,
) -> tuple[TeacherTargets, ...]:
    """The answers of the recipe's and foreign teachers; reasons and hints are those of our own (first) teacher of findings.

    Own teachers of findings that stand alone answer only about the sets that their rounds showed them, where these name any.
    """
    mirrored = recipe.teacher_findings is not None and recipe.teacher_findings.mirrored
    asked = joined_teachers(own, foreign, recipe.kind(), mirrored=mirrored)
    targets = _ask(recipe, asked, own, train, folder, progress)
    known = {name for one in rounds_of(recipe, "findings") for name in one.shown} if "findings" in own else set()
    if not known or any(given.task == "findings" for given, _ in foreign):
        return targets
    strange = np.array([name not in known for name in train.domain])
    return tuple(replace(item, findings=np.where(strange[:, None], np.float32(np.nan), item.findings)) for item in targets)


def _ask(
    recipe: Recipe, asked: Mapping[str, Network | Teacher], own: Mapping[str, Network], train: Examples, folder: Path,
    progress: Progress | None,
) -> tuple[TeacherTargets, ...]:
    ask = partial(cache_targets, examples=train, views=max(1, recipe.distillation.views), folder=folder, progress=progress)
    plain = AskOptions(settings=recipe.views)
    reasons, hints = "grad-cam" if recipe.distillation.reasons else "", recipe.distillation.hints > 0
    if asked.get("findings") is own.get("findings"):
        return ask(asked, options=replace(plain, reasons=reasons, hints=hints))
    targets = ask(asked, options=plain)
    if not reasons and not hints:
        return targets
    looked = ask({"findings": own["findings"]}, options=replace(plain, reasons=reasons, hints=hints))
    return tuple(
        replace(said, maps=seen.maps, attention=seen.attention) for said, seen in zip(targets, looked, strict=True)
    )


def gather_examples(recipe: Recipe, *, progress: Progress | None = None) -> Parts:
    """Phantoms made on the spot and the rows of the recipe's tables, split as the tables say."""
    data, kind = recipe.data, recipe.kind()
    words = words_of(kind)

    def encode(tokens: object) -> NDArray[np.int64]:
        return encode_tokens(tokens, words, length=64)  # type: ignore[arg-type]

    tables = [_recipe_table(recipe, name) for name in data.tables]  # before phantoms are drawn: a bad one is told at once
    first = data.phantom_seed * 1_000_000
    made: list[list[Examples]] = []
    for count in (data.phantom_train, data.phantom_validation, data.phantom_test):
        phantoms = [examples_from_phantoms(
            range(first, first + count), size=data.size, phantom_size=data.phantom_size, encode=encode,
            modality=kind.key, shares=data.mask_shares, progress=progress,
        )] if count else []
        made.append(phantoms)
        first += count
    left_out: list[Skipped] = []
    names = set_names(data.tables, tables)
    for name, table in zip(names, tables, strict=True):
        for part, split in zip(made, ("train", "val", "test"), strict=True):
            found, skipped = examples_from_table(
                _part_of(recipe, table, split), size=data.size, encode=encode,
                modality=kind, laterals=data.laterals, shares=data.mask_shares, progress=progress,
            )
            if found is not None:
                part.append(replace(found, domain=(name,) * len(found)) if name else found)
            left_out += skipped
    if progress:
        for line in skipped_lines(left_out):
            progress(line, len(left_out), len(left_out))
    if not made[0]:
        raise RecipeError(recipe.name, "has no image to learn from", mend="name phantoms or tables with a train part")
    nothing = made[0][0].take([])
    train, validation, test = (_leave_out(join_examples([nothing, *part]), data.leave_out) for part in made)
    return Parts(train, validation, test, tuple(left_out), origins_of(names, tables))


def words_of(modality: Modality) -> tuple[str, ...]:
    """The tokens that a decoder of the modality's reports knows."""
    return full_vocabulary(modality.grammar.vocabulary() if modality.grammar else ())


def _leave_out(examples: Examples, patients: tuple[str, ...]) -> Examples:
    if not set(patients) & set(examples.patient_ids):
        return examples
    return examples.take([row for row, patient in enumerate(examples.patient_ids) if patient not in patients])


def _part_of(recipe: Recipe, table: StudyTable, split: str) -> StudyTable:
    """The rows of a table that the recipe puts into one part."""
    parts, learnt = table.frame["split"], recipe.data.learn_from
    rows = parts.isin(learnt) if split == "train" else (parts == split) & (split not in learnt)
    return table.select(rows=rows.to_numpy(dtype=np.bool_))


def set_names(paths: Sequence[str], tables: Sequence[StudyTable]) -> tuple[str, ...]:
    """What to call the images of each table: "" by their source, or by the file's name where a source is in two tables."""
    sources = [set(table.frame["source"]) for table in tables]
    shared = [any(own & other for place, other in enumerate(sources) if place != at) for at, own in enumerate(sources)]
    return tuple(Path(path).stem if twice else "" for path, twice in zip(paths, shared, strict=True))


def _recipe_table(recipe: Recipe, name: str) -> StudyTable:
    """A table that the recipe names. Raises: TableError, and RecipeError when it has nothing to learn from."""
    table = read_table(Path(name))
    if not bool((table.frame["split"] == "train").any()):
        raise RecipeError(
            recipe.name, f"{name} has no image in its train part", mend="split it again (`data import`), or leave it out"
        )
    return table


def check_parts(recipe: Recipe, parts: Parts) -> None:
    """Raises: RecipeError when a patient stands in two parts, a part is empty or a stated finding has no positive image."""
    named = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    for name, part in named.items():
        if not len(part):
            raise RecipeError(recipe.name, f"the {name} part is empty", mend="give it images")
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        both = set(named[one].patient_ids) & set(named[other].patient_ids)
        if both:
            raise RecipeError(
                recipe.name, f"patient {min(both)} stands in {one} and in {other}",
                mend="split by patient (`data import`)",
            )
    check_labels(recipe, parts.train.labels)


def check_labels(recipe: Recipe, labels: NDArray[np.float32]) -> None:
    """Raises: RecipeError when nothing, or nothing of a stated finding, is present in the labels [N, F] to learn from."""
    if not np.nansum(labels):
        raise RecipeError(recipe.name, "no finding has a positive image to learn from", mend="add labelled images")
    stated, present = (~np.isnan(labels)).sum(axis=0), (labels >= 0.5).sum(axis=0)
    alone = [f"{name} ({stated[column]})" for column, name in enumerate(recipe.kind().names)
             if stated[column] and not present[column]]
    if alone:
        raise RecipeError(
            recipe.name, f"no training image has these findings, though so many state their absence: {', '.join(alone)}",
            mend="add images that have them, or leave their columns out of the table, which then states nothing",
        )


def new_network(
    recipe: Recipe, shape: TeacherRecipe | StudentRecipe, tasks: tuple[str, ...], *, seed: int
) -> Network:
    """A network of the recipe's shape with freshly drawn weights (or an encoder that starts from `shape.weights`)."""
    kind = recipe.kind()
    spec = NetworkSpec(
        encoder=shape.encoder, size=recipe.data.size, tasks=tasks, findings=kind.names, structures=kind.structure_names,
        vocabulary=words_of(kind), width=shape.width, hidden=shape.hidden, channels=kind.acquisition.channels,
    )
    if isinstance(shape, StudentRecipe):
        spec = replace(
            spec, fine_width=shape.fine_width, deepest=shape.deepest, decoder_width=shape.decoder_width,
            decoder_layers=shape.decoder_layers, within=shape.within if "masks" in tasks else "",
        )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        network = Network(spec)
    except RuntimeError as error:
        why = f"encoder '{shape.encoder}' is not known to timm"
        raise RecipeError(recipe.name, why, mend="name a timm model") from error
    finally:
        torch.random.set_rng_state(state)
    if shape.weights:
        load_encoder_weights(network, Path(shape.weights))
        if shape.frozen_stride:
            freeze_early_stages(network, stride=shape.frozen_stride)
    return network


def train_student(
    recipe: Recipe, lesson: Lesson, *, teachers: Mapping[str, Network] = MappingProxyType({}),
    tasks: tuple[str, ...] | None = None, seed: int | None = None, start: Network | None = None,
    run: RunOptions,
) -> Taught:
    """The student after the recipe's rounds; where no teacher answers it learns from labels alone (the control).

    It starts from the weights of `start` where given, else from weights drawn by `seed` but for the parts that the recipe
    takes from `teachers` or from an earlier student. What `fit` leaves goes to the run's folder, and a run that was cut
    goes on there.
    """
    seed = recipe.seed if seed is None else seed
    network = new_network(recipe, recipe.student, recipe.student.tasks if tasks is None else tasks, seed=seed + 17)
    if start is not None:
        network.load_state_dict(start.state_dict())
    elif recipe.student.start:
        start_parts(network, recipe.student.start, teachers)
    return train_in_rounds(recipe, "student", network, lesson, seed=seed, run=run)


def published_answers(recipe: Recipe, train: Examples) -> SoftTargets | None:
    """The recipe's published teacher's answers on the scale of the labels of `train`; None where it names none."""
    folders = recipe.data.soft_targets
    return read_published_answers(folders, train, recipe.kind().names, name=recipe.name) if folders else None


def train_teachers(
    recipe: Recipe, tasks: Sequence[str], parts: Parts, out: Path, *, losses: dict[str, tuple[float, ...]],
    progress: Progress | None = None,
) -> dict[str, Network]:
    """The recipe's own teachers of `tasks`, those found in `out` as they are, as many at once as the recipe says."""
    names = [name for task in tasks for name in member_names(recipe, task)]
    missing = [name for name in names if not (out / f"teacher-{name}.safetensors").exists()]
    if recipe.training.teachers_at_once > 1 and len(missing) > 1:
        alone = replace(recipe, training=replace(recipe.training, processes=1))
        work = {name: partial(_teach_apart, alone, name, parts, out) for name in missing}
        for said in side_by_side(work, at_once=recipe.training.teachers_at_once, progress=progress).values():
            assert isinstance(said, dict)
            losses.update({name: tuple(values) for name, values in said.items()})
    return {
        name: train_teacher(recipe, name, parts.train, out, validation=parts.validation, losses=losses, progress=progress)
        for name in names
    }


def member_names(recipe: Recipe, task: str) -> tuple[str, ...]:
    """What the recipe's own teachers of a task are called: "findings", and of several members "findings-2" and so on."""
    shape = shape_of(recipe, task)
    members = shape.members if isinstance(shape, TeacherRecipe) else 1
    return (task, *(f"{task}-{number}" for number in range(2, members + 1)))


def _teach_apart(recipe: Recipe, name: str, parts: Parts, out: Path, progress: Progress) -> dict[str, tuple[float, ...]]:
    """The losses of a teacher that was trained in this process and now lies in `out`."""
    losses: dict[str, tuple[float, ...]] = {}
    train_teacher(recipe, name, parts.train, out, validation=parts.validation, losses=losses, progress=progress)
    return losses


def train_teacher(
    recipe: Recipe, name: str, train: Examples, out: Path, *, losses: dict[str, tuple[float, ...]],
    validation: Examples | None = None, progress: Progress | None = None,
) -> Network:
    """The teacher called `name` (`member_names`), read from `out` where it was trained before; a cut training goes on."""
    path, task = out / f"teacher-{name}.safetensors", name.partition("-")[0]
    if path.exists():
        return load_network(path)
    member = member_names(recipe, task).index(name)
    mine = _without_fold(recipe, task, member, train.take(np.flatnonzero(_known_rows(train, task))))
    seed = recipe.seed + 100 * member
    network = new_network(recipe, shape_of(recipe, task), (task,), seed=seed + 1 + TASKS.index(task))
    if validation is not None:
        validation = validation.take(np.flatnonzero(_known_rows(validation, task)))
    run = out / "training" / f"teacher-{name}"
    asks = any("published" in one.teachers for one in rounds_of(recipe, task))
    answers = Answers((), published_answers(recipe, mine) if asks else None, recipe.kind().names)
    options = RunOptions(f"teacher of {name}", run, progress)
    taught = train_in_rounds(recipe, task, network, Lesson(mine, answers, validation), seed=seed, run=options)
    losses[options.name] = taught.losses
    keep_network(taught.network, path, run)
    return taught.network


def _without_fold(recipe: Recipe, task: str, member: int, train: Examples) -> Examples:
    """What a member learns from: all of `train`, or all but the patients of its fold. Phantoms are in no fold."""
    shape = shape_of(recipe, task)
    if not isinstance(shape, TeacherRecipe) or not shape.folds:
        return train
    real = [row for row, name in enumerate(train.domain) if name != "phantom"]
    patients = [train.patient_ids[row] for row in real]
    fold_of = deal_folds(patients, train.labels[real], folds=shape.folds, seed=recipe.seed)
    return train.take([row for row, patient in enumerate(train.patient_ids) if fold_of.get(patient) != member])


def _known_rows(train: Examples, task: str) -> NDArray[np.bool_]:
    if task == "findings":
        return np.asarray(~np.isnan(train.labels).all(axis=1))
    if task == "masks":
        known = (train.masks != 255).any(axis=(1, 2, 3)) | (train.union != 255).any(axis=(1, 2))
        return np.asarray(known)
    return np.asarray((train.tokens != PAD).any(axis=1))
