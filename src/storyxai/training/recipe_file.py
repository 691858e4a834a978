"""A recipe in TOML, read and checked: an unknown key is told the nearest known one, a wrong value what it may be."""

from __future__ import annotations

import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from storyxai.errors import InputError, RecipeError, nearest_name
from storyxai.modalities.contract import Modality
from storyxai.modalities.registry import DEFAULT_MODALITY
from storyxai.phantoms.registry import phantom_keys
from storyxai.training import config
from storyxai.training.config import Recipe, StudentRecipe, TeacherRecipe


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file. Raises: RecipeError naming the file, the key and the nearest known key."""
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(str(path), "does not exist", mend="name a recipe, such as recipes/phantom.toml") from error
    except (OSError, ValueError, RecursionError) as error:  # not TOML, not text, a number of thousands of digits, [[[[...
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
    return tuple(task for task in config.TASKS if able[task])


def _check_modality(recipe: Recipe, file: str) -> None:
    """Raises: RecipeError where the recipe asks for what its modality has not."""
    modality, data = _modality(recipe, file), recipe.data
    what, able = f"is of the modality '{modality.key}'", _tasks_of(modality)
    for task in recipe.student.tasks:
        if task in config.TASKS and task not in able:
            why = f"{what}, which has no {'structures' if task == 'masks' else 'grammar of reports'}"
            raise RecipeError(file, f"'student.tasks' names '{task}', and the recipe {why}", mend="leave it out")
    within = recipe.student.within
    if within and ("masks" not in recipe.student.tasks or within not in modality.structure_names):
        near = nearest_name(within, modality.structure_names)
        mend = f"did you mean '{near}'?" if near else "name a structure that it draws, and let it learn masks"
        raise RecipeError(file, f"'student.within' is '{within}', which the student does not draw", mend=mend)
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
    given = [(table, getattr(recipe, table)) for table in ("student", *config.TEACHER_TABLES.values())]
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
    wanted = {config.TEACHER_TABLES[task] for task in asked & set(recipe.student.tasks) - elsewhere}
    wanted |= {source for source in recipe.student.start.values() if source in config.TEACHER_TABLES.values()}
    given = dict(_shapes(recipe))
    for table in sorted(wanted - set(given)):
        raise RecipeError(file, f"lacks the table [{table}], which the student learns from", mend="add it")
    for part in recipe.student.start:
        if part not in config.LEARNING_PARTS:
            why, known = f"'student.start' names '{part}', which is not known", ", ".join(config.LEARNING_PARTS)
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
        if part not in config.TABLE_PARTS:
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
            ("network", (one.network,), ("student", *config.TASKS)), ("learns", one.learns, tuple(config.LEARNING_PARTS)),
            ("teachers", one.teachers,
             (*config.TASKS, config.ITSELF, "published") if one.network == "student" else ("published",)),
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
        if config.ITSELF in one.teachers and ("findings" in one.teachers or not known.get(one.network)):
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
        if task not in config.TASKS:
            why = f"'student.tasks' names '{task}', which is not known"
            raise RecipeError(file, why, mend=f"known: {', '.join(config.TASKS)}")
    if balance != "fixed":  # the list of names stands where torch is imported, which takes seconds
        from storyxai.training.balance import make_balancer

        try:
            make_balancer(balance, {"findings": 1.0, "masks": 1.0})
        except RecipeError as error:
            raise RecipeError(file, f"{error.what} {error.why}", mend=error.mend) from error
    for place, given, known in (
        ("finding_loss", training.finding_loss, config.FINDING_LOSSES), ("precision", training.precision, config.PRECISIONS),
        ("device", training.device, config.DEVICES), ("stop_metric", training.stop_metric, ("", *config.METRICS)),
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
