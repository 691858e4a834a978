"""Cross-validation folds: whole patients, every finding spread evenly, the rarest first."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storyxai.errors import TableError


def deal_folds(patient_ids: Sequence[str], labels: ArrayLike, *, folds: int = 5, seed: int = 0) -> dict[str, int]:
    """The fold of each patient, 0 to `folds` - 1. The order of the rows changes nothing.

    The rarest finding is dealt first: each of its patients goes to the fold that holds fewest cases of that finding, of
    equals to the one with fewest patients; then the next rarest among the patients that are left. Patients without a
    finding fill up the small folds. Patients are taken in the order of a hash of seed and id.
    Shapes: `patient_ids` [N]; `labels` [N, F], present at 0.5 or more, nan = not stated.
    Source: iterative stratification, Sechidis, Tsoumakas and Vlahavas 2011, with patients in place of images.
    Raises: TableError when rows and patients differ in number, or there are fewer patients than folds.
    """
    present = np.asarray(labels, dtype=np.float64) >= 0.5
    if present.ndim != 2 or len(present) != len(patient_ids):
        why = f"are {len(patient_ids)} for labels of shape {present.shape}"
        raise TableError("patient ids", why, mend="give one row of labels an image")
    people = sorted(set(patient_ids), key=lambda patient: hashlib.sha256(f"{seed}|{patient}".encode()).hexdigest())
    if folds < 2 or len(people) < folds:
        raise TableError(f"{folds} folds", f"cannot be dealt to {len(people)} patients", mend="use 2 folds or more, "
                         "and fewer than there are patients")
    has = _findings_of(people, patient_ids, present)
    fold = _dealt(has, folds)
    return {patient: int(place) for patient, place in zip(people, fold, strict=True)}


def check_folds(
    fold_of: Mapping[str, int], patient_ids: Sequence[str], labels: ArrayLike, findings: Sequence[str]
) -> tuple[str, ...]:
    """What a reader of figures over these folds must know: each finding that some fold has no case of, in words.

    Shapes: `labels` [N, F] of the table the folds are used on, a column a finding.
    Raises: TableError when the folds do not belong to the table: a patient without a fold, or a fold of no row.
    """
    strangers = sorted(set(patient_ids) - set(fold_of))
    if strangers:
        why = f"name no fold for {len(strangers)} patients of the table, first '{strangers[0]}'"
        raise TableError("folds", why, mend="deal the folds again from this table")
    fold = np.array([fold_of[patient] for patient in patient_ids])
    used = sorted(set(fold_of.values()))
    empty = [place for place in used if not (fold == place).any()]
    if empty:
        raise TableError("folds", f"leave fold {empty[0]} without an image", mend="deal the folds again from this table")
    present = np.asarray(labels, dtype=np.float64) >= 0.5
    return tuple(
        f"fold {place} has no case of {name}: its figure there is left out; merge folds, or leave the finding out"
        for column, name in enumerate(findings) if present[:, column].any()
        for place in used if not present[fold == place, column].any()
    )


def _findings_of(people: Sequence[str], patient_ids: Sequence[str], present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which findings each person ever has. Shapes: bool [P, F]."""
    place = {patient: row for row, patient in enumerate(people)}
    has = np.zeros((len(people), present.shape[1]), dtype=np.bool_)
    np.logical_or.at(has, [place[patient] for patient in patient_ids], present)
    return has


def _dealt(has: NDArray[np.bool_], folds: int) -> NDArray[np.intp]:
    """The fold of each person. Shapes: bool [P, F] to int [P]."""
    fold = np.full(len(has), -1, dtype=np.intp)
    cases, sizes = np.zeros((folds, has.shape[1]), dtype=np.int64), np.zeros(folds, dtype=np.int64)
    left = has.copy()
    while left.any():
        count = left.sum(axis=0)
        rarest = int(np.argmin(np.where(count > 0, count, len(has) + 1)))
        for person in np.flatnonzero(left[:, rarest]):
            place = int(np.lexsort((sizes, cases[:, rarest]))[0])
            fold[person], left[person] = place, False
            cases[place] += has[person]
            sizes[place] += 1
    for person in np.flatnonzero(fold < 0):
        fold[person] = place = int(np.argmin(sizes))
        sizes[place] += 1
    return fold
