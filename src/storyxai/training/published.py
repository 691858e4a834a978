"""A published teacher's answers on the scale of our labels, and into the soft targets of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from storyxai.data.batches import Examples
from storyxai.data.sources.nih import read_densenet_targets
from storyxai.errors import RecipeError
from storyxai.training.soft_targets import TeacherTargets, join_findings
from storyxai.types import SoftTargets

FEWEST = 5
"""With fewer positives (or negatives) than this, nothing can be said about what a teacher's log-odds mean."""
RIDGE = 0.1
"""Of the slope: a trace of a penalty, so that labels which the teacher separates perfectly keep a finite one."""


def read_published_answers(folders: tuple[str, ...], train: Examples, findings: Sequence[str], *, name: str) -> SoftTargets:
    """The predictions in all of `folders`, on the scale of the labels of `train` (`fit_answers_to_labels`).

    Raises: RecipeError (naming the recipe `name`) when none of them is about a training image.
    """
    parts = [read_densenet_targets(Path(folder)) for folder in folders]
    ids = tuple(one for part in parts for one in part.ids)
    given = replace(parts[0], ids=ids, logits=np.concatenate([part.logits for part in parts]))
    if not set(ids) & set(train.ids):
        raise RecipeError(
            name, f"the predictions in {', '.join(folders)} are of none of the {len(train)} training images",
            mend="name the folder whose images data.tables holds, or leave data.soft_targets out",
        )
    return fit_answers_to_labels(given, train, findings)


def fit_answers_to_labels(soft: SoftTargets, train: Examples, findings: Sequence[str]) -> SoftTargets:
    """`soft` with each finding's log-odds z replaced by a z + b, where a and b fit the labels of `train` best.

    A teacher from another population ranks well and is off in level and in confidence. A teacher whose slope a is not
    positive, or a finding with fewer than FEWEST positives or negatives among the images that it answered, is not asked:
    its logits become nan. So a teacher that knows nothing says the share of positives, and not with more confidence than it
    has. Only images of `train`, labelled in the order of `findings`, are looked at. Other findings are left as they are.
    Source: Platt 1999, by maximum likelihood.
    """
    logits = soft.logits.copy()
    place = {name: row for row, name in enumerate(train.ids)}
    rows = [row for row, name in enumerate(soft.ids) if name in place]
    labels = train.labels[[place[soft.ids[row]] for row in rows]]
    for column, finding in enumerate(soft.findings):
        if finding in findings:
            fitted = _fit_finding(logits[rows, column], labels[:, findings.index(finding)])
            logits[:, column] = np.nan if fitted is None else fitted[0] * logits[:, column] + fitted[1]
    return replace(soft, logits=logits)


def _fit_finding(answers: NDArray[np.float32], labels: NDArray[np.float32]) -> tuple[float, float] | None:
    """(slope, intercept) by the images that have answer and label; None where the teacher is not to be asked."""
    known = np.isfinite(answers) & np.isfinite(labels)
    present = labels[known] >= 0.5
    if min(present.sum(), (~present).sum()) < FEWEST:
        return None
    slope, intercept = _fit_maximum_likelihood(answers[known].astype(np.float64), present)
    return (slope, intercept) if slope > 0 else None


def _fit_maximum_likelihood(values: NDArray[np.float64], present: NDArray[np.bool_]) -> tuple[float, float]:
    """(a, b) that make sigmoid(a value + b) the likeliest to have given `present`."""
    sign = np.where(present, 1.0, -1.0)

    def loss(pair: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (pair[0] * values + pair[1])
        pull = -sign * expit(-margin)
        value = float(np.logaddexp(0.0, -margin).sum() + 0.5 * RIDGE * pair[0] ** 2)
        return value, np.array([pull @ values + RIDGE * pair[0], pull.sum()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS")
    return float(found.x[0]), float(found.x[1])


def unknown_targets(train: Examples, views: int = 1) -> tuple[TeacherTargets, ...]:
    """The answers of teachers that know nothing about `views` views: no term in any loss."""
    empty = np.zeros((0,), dtype=np.float16)
    unknown = np.full(train.labels.shape, np.nan, dtype=np.float32)
    nobody = np.full(len(train), -1, dtype=np.int64)
    return tuple(TeacherTargets(view, unknown, empty, empty, nobody) for view in range(views))


def with_published_answers(
    targets: tuple[TeacherTargets, ...], soft: SoftTargets, train: Examples, findings: tuple[str, ...], *, weight: float
) -> tuple[TeacherTargets, ...]:
    """`targets` with a published teacher's answers mixed in: an answer about an image stands for each of its mild views."""
    return tuple(join_findings(item, soft, train, findings, weight=weight) for item in targets)
