"""A recipe judged by cross-validation: from a recipe to a folder with answers, a record and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from storyxai.data.folds import check_folds
from storyxai.errors import InputError
from storyxai.files import write_whole
from storyxai.metrics.bootstrap import Estimate
from storyxai.pages.layout import render_document
from storyxai.pages.views import Cell, Chapter, Document, Row, Table, cell
from storyxai.programs.runs import open_run
from storyxai.progress import Progress
from storyxai.provenance import canonical_json, sha256_file
from storyxai.scorecard.crossvalidation import CrossValidation, Judged, SetFigures, judge_sets, match_rows, view_scores
from storyxai.training.config import PROBE, TEACHER_TABLES, Recipe
from storyxai.training.crossvalidation import out_of_fold_answers
from storyxai.training.fold_answers import FoldAnswers, calibration_out_of_fold, read_fold_answers

HEADS = (
    "Finding", "Images", "Positives", "AUROC", "View position alone", "Teachers", "Threshold", "Sensitivity", "Specificity",
)


@dataclass(frozen=True)
class CrossValidated:
    """Where the record, the page and the answers lie, and the main figures in words."""

    out: Path
    record: CrossValidation
    lines: tuple[str, ...]


def crossvalidate(
    recipe_path: Path, out: Path, *, folds: int = 5, at_once: int = 1, only: Sequence[int] = (),
    beside: Path | None = None, progress: Progress | None = None,
) -> CrossValidated:
    """The recipe's figures on patients that its students never saw: crossvalidation.json and .html in `out`.

    `at_once` folds are trained side by side, each on its share of the cores. `beside` is the folder of another recipe's
    cross-validation of the same tables: its students are compared with ours, patient by patient. A run that was cut goes on
    from the folds that had ended. With `only`, these folds alone are trained now, and the figures are those of all that have
    ended, which the record says. Raises: RecipeError, TableError, OutputError; InputError for folds that cannot be.
    """
    if folds < 2 or at_once < 1:
        raise InputError("folds", f"{folds} folds, {at_once} at once", mend="2 folds or more, at least one at a time")
    if wrong := [number for number in only if not 0 <= number < folds]:
        raise InputError("only", f"asks for fold {wrong[0]} of {folds}", mend=f"folds are 0 to {folds - 1}")
    recipe = open_run(recipe_path, out)
    other = None if beside is None else read_fold_answers(beside)  # before anything is trained
    answers = out_of_fold_answers(recipe, out, folds=folds, at_once=at_once, only=only, progress=progress)
    record = _judge(recipe, sha256_file(out / "recipe.toml"), answers, folds, other, beside)
    write_whole(canonical_json(asdict(record)), out / "crossvalidation.json")
    write_whole(render_page(record), out / "crossvalidation.html")
    return CrossValidated(out, record, tuple(_line(one) for one in record.sets))


def _judge(
    recipe: Recipe, recipe_hash: str, answers: FoldAnswers, folds: int, other: FoldAnswers | None, beside: Path | None
) -> CrossValidation:
    scores = {
        "student": answers.student.astype(np.float64),
        "view alone": view_scores(answers.labels, answers.view, answers.fold, answers.patient_ids),
    }
    if not np.isnan(answers.teachers).all():
        scores["teachers"] = answers.teachers.astype(np.float64)
    if other is not None:
        scores["beside"] = other.student[match_rows(answers.ids, other.ids)].astype(np.float64)
    calibration = calibration_out_of_fold(recipe, answers)
    judged = Judged(answers.domain, answers.patient_ids, answers.fold, answers.labels, scores)
    fold_of = dict(zip(answers.patient_ids.tolist(), answers.fold.tolist(), strict=True))
    return CrossValidation(
        recipe.name, recipe_hash, folds, len(answers.ids), len(fold_of),
        "" if beside is None else beside.name, (*_untrained(answers, folds), *_notes(recipe, fold_of, answers)),
        judge_sets(judged, recipe.kind().names, calibration, replicates=recipe.evaluation.bootstrap, seed=recipe.seed),
        calibration,
    )


def _untrained(answers: FoldAnswers, folds: int) -> tuple[str, ...]:
    """A note where some of the folds have not been trained."""
    ended = sorted(set(answers.fold.tolist()))
    if len(ended) == folds:
        return ()
    named = ", ".join(map(str, ended))
    return (f"of the {folds} folds only these have been trained so far, and only their images are judged: {named}",)


def _notes(recipe: Recipe, fold_of: dict[str, int], answers: FoldAnswers) -> tuple[str, ...]:
    notes = check_folds(fold_of, answers.patient_ids.tolist(), answers.labels, recipe.kind().names)
    elsewhere = [one.name or one.path or one.kind for one in recipe.foreign_teachers if one.kind != PROBE]
    models = {recipe.data.outlines.model} if recipe.data.outlines else set()
    models |= {source for source in recipe.student.start.values() if source not in TEACHER_TABLES.values()}
    elsewhere += [f"the earlier student in {Path(model).name}" for model in sorted(models)]
    if recipe.data.soft_targets:
        elsewhere.append("the published teacher of data.soft_targets")
    if elsewhere:
        said = f"{', '.join(elsewhere)} came from elsewhere and may have learnt from images that are judged here"
        notes = (*notes, said)
    return notes


def _line(one: SetFigures) -> str:
    return (
        f"{one.name}: mean AUROC {_text(one.mean_auroc)} over {len(one.findings)} findings, {one.images} images of "
        f"{one.patients} patients out of fold (view position alone {_text(one.view_alone)})"
    )


def _text(value: Estimate | None) -> str:
    if value is None or value.value is None:
        return "–"
    if value.low is None or value.high is None:
        return f"{value.value:.3f}"
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def render_page(record: CrossValidation) -> bytes:
    """The record as one page of tables, as UTF-8 bytes."""
    facts = (
        f"{record.images} images of {record.patients} patients, dealt once into {record.folds} folds; each is judged by a "
        "student that saw none of that patient's images. Intervals: 95 %, patients drawn anew.",
        *(f"{note[:1].upper()}{note[1:]}." for note in record.notes),
    )
    chapters = [Chapter("Means over findings", (_means(record),)), *(Chapter(one.name, (_table(one),)) for one in record.sets)]
    return render_document(Document("Cross-validation", f"{record.name[:1].upper()}{record.name[1:]}", facts, tuple(chapters)))


def _means(record: CrossValidation) -> Table:
    heads = ["Set", "Images", "Patients", "Mean AUROC", "View position alone", "Above view", "Teachers", "Student - teachers"]
    rows = [
        Row(cell(one.name), (cell(one.images), cell(one.patients), *map(_cell, (
            one.mean_auroc, one.view_alone, one.above_view, one.teachers, one.student_minus_teachers,
            *([one.minus_beside] if record.beside else []),
        ))))
        for one in record.sets
    ]  # fmt: skip
    return Table((*heads, *([f"Minus {record.beside}"] if record.beside else [])), tuple(rows), kind="tight")


def _table(one: SetFigures) -> Table:
    rows = (
        Row(cell(item.finding.replace("_", " ")), (
            cell(item.images), cell(item.positives), _cell(item.auroc), _cell(item.view_alone), _cell(item.teachers),
            cell(f"{item.threshold:.3f}"), _cell(item.sensitivity), _cell(item.specificity),
        ))
        for item in one.findings
    )  # fmt: skip
    return Table(HEADS, tuple(rows), kind="tight")


def _cell(value: Estimate | None) -> Cell:
    """A figure with its interval under it."""
    number, _, interval = _text(value).partition(" ")
    return cell(number, interval)
