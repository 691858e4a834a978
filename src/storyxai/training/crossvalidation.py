"""A recipe trained once for each fold without it, and what the students say of the images that they have not seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storyxai.data.batches import Examples, join_examples
from storyxai.data.folds import deal_folds
from storyxai.data.table import read_table
from storyxai.errors import ArchiveError, RecipeError
from storyxai.files import fresh_file, write_whole
from storyxai.models.network import Network
from storyxai.progress import Progress
from storyxai.training.apart import side_by_side
from storyxai.training.config import Recipe
from storyxai.training.distil import Parts, check_labels, distil, gather_examples
from storyxai.training.fold_answers import ANSWERS_NAME, FoldAnswers
from storyxai.training.outputs import network_outputs
from storyxai.training.rounds import only_findings

FOLDS_NAME = "folds.json"
_EXAMPLES = "examples.npz"


def out_of_fold_answers(
    recipe: Recipe, out: Path, *, folds: int, at_once: int, only: Sequence[int] = (), progress: Progress | None = None
) -> FoldAnswers:
    """The answers of `folds` students, each about the patients of its own fold, whom it and its teachers never saw.

    With `only`, no other fold is trained now, and the answers are those of the folds that have ended by then.

    Patients of all tables are dealt once (`out`/folds.json, ids hashed), whatever part the tables put them in; phantoms are
    learnt from in every fold and judged in none. A fold that has ended is not trained again. Raises: RecipeError when the
    recipe has no table, or `out` holds other folds; what training raises.
    """
    real, phantoms = _gather_once(recipe, out, progress)
    fold_of = deal_folds(real.patient_ids, real.labels, folds=folds, seed=recipe.seed)
    _keep_folds(recipe, fold_of, out / FOLDS_NAME)
    fold = np.array([fold_of[patient] for patient in real.patient_ids], dtype=np.int64)
    for number in range(folds):
        check_labels(recipe, _without(real, phantoms, fold != number).labels)
    missing = [number for number in only or range(folds) if not (out / f"fold-{number}" / ANSWERS_NAME).exists()]
    work = {f"fold {number}": partial(_run_fold, recipe, out, number, fold) for number in missing}
    if at_once > 1 and len(work) > 1:
        side_by_side(work, at_once=at_once, progress=progress)
    else:
        for one in work.values():
            one(progress)
    ended = [number for number in range(folds) if (out / f"fold-{number}" / ANSWERS_NAME).exists()]
    return _collect(recipe, real, fold, out, ended)


def patient_hash(patient: str, *, salt: str) -> str:
    """A patient's id as it stands in folds.json."""
    return hashlib.sha256(f"{salt}|{patient}".encode()).hexdigest()[:16]


def _gather_once(recipe: Recipe, out: Path, progress: Progress | None) -> tuple[Examples, Examples | None]:
    """All real images of the recipe's tables, and its training phantoms; kept in `out` for the processes of the folds."""
    if not recipe.data.tables:
        raise RecipeError(recipe.name, "has no table whose patients could be dealt into folds", mend="name data.tables")
    digest = hashlib.sha256(repr(recipe.data).encode())
    for table in recipe.data.tables:
        digest.update(Path(table).read_bytes() if Path(table).is_file() else b"")
    path, mark = out / _EXAMPLES, digest.hexdigest()
    if path.exists():
        kept, known = _read_examples(path)
        if known == mark:
            return _apart(kept)
    parts = gather_examples(recipe, progress=progress)
    others = (parts.validation, parts.test)
    later = [part.take([i for i, name in enumerate(part.domain) if name != "phantom"]) for part in others]
    whole = join_examples([parts.train, *later])
    with fresh_file(path) as part:
        named = {item.name: np.asarray(getattr(whole, item.name)) for item in fields(whole)}
        np.savez(part, mark=np.array(mark), **named)  # type: ignore[arg-type]
    return _apart(whole)


def _read_examples(path: Path) -> tuple[Examples, str]:
    with np.load(path, allow_pickle=False) as kept:
        return Examples.of_columns(kept[item.name] for item in fields(Examples)), str(kept["mark"])


def _apart(whole: Examples) -> tuple[Examples, Examples | None]:
    made = np.array(whole.domain) == "phantom"
    real = whole.take(np.flatnonzero(~made))
    return real, whole.take(np.flatnonzero(made)) if made.any() else None


def _keep_folds(recipe: Recipe, fold_of: dict[str, int], path: Path) -> None:
    """Write which fold each patient is in. Raises: RecipeError when `path` holds other folds."""
    hashed = {patient_hash(patient, salt=recipe.name): fold for patient, fold in fold_of.items()}
    folds = max(fold_of.values()) + 1
    whole = {"folds": folds, "seed": recipe.seed, "patients": hashed}
    record = json.dumps(whole, sort_keys=True, indent=1).encode()
    if path.exists() and path.read_bytes() != record:
        why = "deals other patients, or into other folds, than the recipe's tables"
        raise RecipeError(str(path), why, mend="name another --out, or put the tables back as they were")
    if not path.exists():
        write_whole(record, path)


def _without(real: Examples, phantoms: Examples | None, chosen: NDArray[np.bool_]) -> Examples:
    """The chosen real images and all phantoms."""
    kept = real.take(np.flatnonzero(chosen))
    return kept if phantoms is None else join_examples([kept, phantoms])


def _run_fold(recipe: Recipe, out: Path, number: int, fold: NDArray[np.int64], progress: Progress | None) -> bool:
    """Train the recipe without fold `number` and leave what its student and teachers say of that fold."""
    real, phantoms = _apart(_read_examples(out / _EXAMPLES)[0])
    place = out / f"fold-{number}"
    place.mkdir(parents=True, exist_ok=True)
    test = real.take(np.flatnonzero(fold == number))
    training, validation = fold != number, test.take([])
    if recipe.training.stop_metric:  # what training stops on must not be what judges it
        beside = (number + 1) % (int(fold.max()) + 1)
        training, validation = training & (fold != beside), real.take(np.flatnonzero(fold == beside))
    run = distil(recipe, place, parts=Parts(_without(real, phantoms, training), validation, test), progress=progress)
    said = _finding_logits(run.student, test)
    taught = [_finding_logits(teacher, test) for teacher in run.teachers.values() if teacher.spec.tasks == ("findings",)]
    unknown = np.full_like(test.labels, np.nan)
    with fresh_file(place / ANSWERS_NAME) as part:
        np.savez(part, ids=np.array(test.ids), student=said, teachers=np.mean(taught, axis=0) if taught else unknown)
    return True


def _finding_logits(network: Network, examples: Examples) -> NDArray[np.float32]:
    logits = network_outputs(only_findings(network), examples).logits
    assert logits is not None
    return logits


def _collect(recipe: Recipe, real: Examples, fold: NDArray[np.int64], out: Path, ended: Sequence[int]) -> FoldAnswers:
    """The answers of the folds that have ended, in the order of the images, also left in `out`."""
    student, teachers = (np.full_like(real.labels, np.nan) for _ in range(2))
    place = {name: row for row, name in enumerate(real.ids)}
    for number in ended:
        path = out / f"fold-{number}" / ANSWERS_NAME
        try:
            with np.load(path, allow_pickle=False) as kept:
                rows = [place[name] for name in kept["ids"].tolist()]
                student[rows], teachers[rows] = kept["student"], kept["teachers"]
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ArchiveError(str(path), "is cut short or of other images", mend="delete it: it is made again") from error
    columns = {
        "ids": np.array(real.ids), "patient_ids": np.array(real.patient_ids), "domain": np.array(real.domain),
        "view": _views(recipe, real.ids), "fold": fold, "labels": real.labels, "student": student, "teachers": teachers,
    }
    judged = np.isin(fold, ended)
    answers = FoldAnswers(**{name: column[judged] for name, column in columns.items()})
    with fresh_file(out / ANSWERS_NAME) as part:
        np.savez(part, **vars(answers))
    return answers


def _views(recipe: Recipe, ids: Sequence[str]) -> NDArray[np.str_]:
    """The view position of each image, as its table states it."""
    known: dict[str, str] = {}
    for name in recipe.data.tables:
        frame = read_table(Path(name)).frame
        known |= dict(zip(frame["image_id"].astype(str), frame["view"].astype(str), strict=True))
    return np.array([known.get(name, "unknown") for name in ids])
