"""Cross-validation folds: balanced on rare findings, whole patients, the same whatever the order of rows."""

from __future__ import annotations

import numpy as np
import pytest

from storyxai.data.folds import check_folds, deal_folds
from storyxai.errors import TableError

FINDINGS = ("Hernia", "Effusion", "Nodule")


def _table(patients=200, seed=3):
    """Patients of one to four images; Hernia in ten patients, Effusion in a third, Nodule in a tenth of the images."""
    rng = np.random.default_rng(seed)
    ids = [f"p{patient}" for patient in range(patients) for _ in range(int(rng.integers(1, 5)))]
    labels = np.zeros((len(ids), 3))
    hernia = {f"p{patient}" for patient in rng.choice(patients, 10, replace=False)}
    labels[:, 0] = [patient in hernia for patient in ids]
    labels[:, 1] = [int(patient[1:]) % 3 == 0 for patient in ids]
    labels[:, 2] = rng.random(len(ids)) < 0.1
    labels[rng.random(len(ids)) < 0.1, 2] = np.nan
    return ids, labels


def test_a_finding_of_ten_patients_stands_twice_in_each_of_five_folds():
    ids, labels = _table()
    fold_of = deal_folds(ids, labels)
    hernia = {patient for patient, row in zip(ids, labels, strict=True) if row[0] == 1}
    assert np.bincount([fold_of[patient] for patient in hernia], minlength=5).tolist() == [2] * 5
    effusion = {patient for patient, row in zip(ids, labels, strict=True) if row[1] == 1}
    counts = np.bincount([fold_of[patient] for patient in effusion], minlength=5)
    assert counts.max() - counts.min() <= 1 and counts.sum() == 67
    sizes = np.bincount(list(fold_of.values()), minlength=5)
    assert sizes.sum() == 200 and sizes.max() - sizes.min() <= 2


def test_the_order_of_rows_changes_nothing_and_the_seed_does():
    ids, labels = _table()
    turned = np.random.default_rng(0).permutation(len(ids))
    again = deal_folds([ids[row] for row in turned], labels[turned])
    assert again == deal_folds(ids, labels)
    assert deal_folds(ids, labels, seed=1) != again


def test_two_patients_a_fold_as_worked_by_hand():
    # One rare finding in two patients, one common in four: the rare ones part first, then the common even out.
    ids, labels = ["a", "b", "c", "d"], np.array([[1, 1], [1, 1], [0, 1], [0, 1]])
    fold_of = deal_folds(ids, labels, folds=2)
    assert fold_of["a"] != fold_of["b"] and fold_of["c"] != fold_of["d"]


def test_few_patients_and_rows_that_do_not_fit_are_refused():
    with pytest.raises(TableError, match="5 folds: cannot be dealt to 3 patients"):
        deal_folds(["a", "b", "c"], np.zeros((3, 1)))
    with pytest.raises(TableError, match="one row of labels an image"):
        deal_folds(["a", "b"], np.zeros((3, 1)), folds=2)


def test_folds_of_another_table_are_refused_and_a_fold_without_a_case_is_named():
    ids, labels = _table()
    fold_of = deal_folds(ids, labels)
    assert check_folds(fold_of, ids, labels, FINDINGS) == ()
    with pytest.raises(TableError, match="name no fold for 1 patients of the table, first 'stranger'"):
        check_folds(fold_of, [*ids, "stranger"], np.vstack([labels, labels[:1]]), FINDINGS)
    kept = [row for row, patient in enumerate(ids) if fold_of[patient] != 3]
    with pytest.raises(TableError, match="leave fold 3 without an image"):
        check_folds(fold_of, [ids[row] for row in kept], labels[kept], FINDINGS)
    bare = labels.copy()
    bare[[fold_of[patient] == 2 for patient in ids], 0] = 0
    (said,) = check_folds(fold_of, ids, bare, FINDINGS)
    assert said.startswith("fold 2 has no case of Hernia")
