"""What the students of a cross-validation said of images that they had not seen, read again, and a calibration from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import ArchiveError, RecipeError
from storyxai.models.card import Calibration
from storyxai.training.calibrate import Resampling, ThresholdRule, calibrate
from storyxai.training.config import Recipe

ANSWERS_NAME = "answers.npz"


@dataclass(frozen=True, eq=False)
class FoldAnswers:
    """What students said of images that they did not learn from, with what is known of these images.

    Shapes: ids, patient_ids, domain, view str [N]; fold int64 [N]; labels, student, teachers float32 [N, F] (nan = not
    stated; teachers are the mean log-odds of the fold's own teachers of findings, nan where there are none).
    """

    ids: NDArray[np.str_]
    patient_ids: NDArray[np.str_]
    domain: NDArray[np.str_]
    view: NDArray[np.str_]
    fold: NDArray[np.int64]
    labels: NDArray[np.float32]
    student: NDArray[np.float32]
    teachers: NDArray[np.float32]


def read_fold_answers(out: Path) -> FoldAnswers:
    """The answers that an ended cross-validation left in `out`. Raises: ArchiveError when it has not ended."""
    path = out / ANSWERS_NAME
    try:
        with np.load(path, allow_pickle=False) as kept:
            return FoldAnswers(**{name: kept[name] for name in kept.files})
    except (OSError, ValueError, KeyError, EOFError, TypeError) as error:
        why = "holds no answers of an ended cross-validation"
        raise ArchiveError(str(out), why, mend="run `storyxai crossvalidate` there first") from error


def calibration_out_of_fold(recipe: Recipe, answers: FoldAnswers) -> dict[str, Calibration]:
    """Each finding's calibration by the answers of students that had not seen the image, of `calibration.sets` alone if any.

    The students of the folds stand in for the one that learnt from all folds: they are of one recipe, not of one scale to
    the last digit. Raises: RecipeError when no answer is of those sets.
    """
    how = recipe.calibration
    rows = np.flatnonzero(np.isin(answers.domain, how.sets) if how.sets else np.ones(len(answers.ids), dtype=bool))
    if not len(rows):
        known = ", ".join(sorted(set(answers.domain.tolist())))
        why = f"calibrates on {', '.join(how.sets)}, of which nothing was answered out of fold"
        raise RecipeError(recipe.name, why, mend=f"known sets: {known}")
    return calibrate(
        answers.student[rows], answers.labels[rows], answers.patient_ids[rows].tolist(), findings=recipe.kind().names,
        data=f"out of fold, n = {len(rows)}", resampling=Resampling(how.replicates, recipe.seed),
        rule=ThresholdRule(how.threshold, how.sensitivity, how.probability),
    )
