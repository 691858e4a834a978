"""Weighted ridge regression of many answers on 0/1 vectors, in a fixed order of operations.

Arithmetic is float64 without BLAS, so that the same answers give the same bytes on any number of threads. Rows are taken a
block at a time: beside the vectors (a byte an entry) and the answers, memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError

Float64 = NDArray[np.float64]
BLOCK = 1024


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """One weighted ridge fit of F answers on S columns.

    Shapes: `coefficients`, `standard_error` [F, S]; `intercept`, `r2` [F]; `r2` is weighted like the fit, 0 where the
    answer never changed.
    """

    coefficients: Float64
    intercept: Float64
    standard_error: Float64
    r2: Float64


def weighted_ridge(vectors: NDArray[np.integer], answers: Float64, *, weights: Float64, ridge: float) -> RidgeFit:
    """The weighted ridge fit of all answers on the vectors, intercept not penalised.

    Shapes: vectors [N, S], answers [N, F], weights [N]. The standard error is the HC3 sandwich (MacKinnon & White
    1985): it needs no equal variances and allows that the model is not linear in the columns.
    Raises: InputError when the columns cannot be told apart (only possible with ridge 0).
    """
    # Measured from the first answer, one that never moves is exactly zero and not a rounding error.
    start = answers[0]
    total = weights.sum()
    size, findings = vectors.shape[1], answers.shape[1]
    x_mean, y_mean = np.zeros(size), np.zeros(findings)
    for rows in _blocks(len(vectors)):
        x_mean += np.einsum("n,ns->s", weights[rows], vectors[rows].astype(np.float64))
        y_mean += weighted_sums(weights[rows], answers[rows] - start)
    x_mean, y_mean = x_mean / total, y_mean / total
    gram, spread = np.zeros((size, size)), np.zeros(findings)
    for rows in _blocks(len(vectors)):
        x, y = vectors[rows] - x_mean, answers[rows] - start - y_mean
        gram += np.einsum("ns,nt->st", x * weights[rows, None], x)
        spread += weighted_sums(weights[rows], y**2)
    gram[np.diag_indices_from(gram)] += ridge
    inverse = inverse_of(gram)
    coefficients = np.zeros((findings, size))
    for rows in _blocks(len(vectors)):
        solver = np.einsum("st,nt->ns", inverse, (vectors[rows] - x_mean) * weights[rows, None])
        coefficients += np.einsum("ns,nf->fs", solver, answers[rows] - start - y_mean)
    variance, missed = np.zeros((findings, size)), np.zeros(findings)
    for rows in _blocks(len(vectors)):
        x = vectors[rows] - x_mean
        solver = np.einsum("st,nt->ns", inverse, x * weights[rows, None])
        errors = answers[rows] - start - y_mean - np.einsum("ns,fs->nf", x, coefficients)
        leverage = np.einsum("ns,ns->n", solver, x) + weights[rows] / total
        scaled = errors / np.maximum(1 - leverage, 1e-6)[:, None]
        variance += np.einsum("ns,nf->fs", solver**2, scaled**2)
        missed += weighted_sums(weights[rows], errors**2)
    moves = spread > 0
    r2 = np.where(moves, 1 - missed / np.where(moves, spread, 1), 0.0)
    intercept = start + y_mean - np.einsum("s,fs->f", x_mean, coefficients)
    return RidgeFit(coefficients, intercept, np.sqrt(variance), r2)


def weighted_sums(weights: Float64, values: Float64) -> Float64:
    """The weighted sum of each column. Shapes: weights [N], values [N, F] -> [F].

    Column by column: a sum over the table adds in an order that depends on how many findings stand in it.
    """
    return np.array([(weights * column).sum() for column in values.T.copy()])


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, count, BLOCK))


def inverse_of(matrix: Float64) -> Float64:
    """The inverse of a symmetric positive definite matrix by Gauss-Jordan, in a fixed order of operations.

    Raises: InputError when the matrix is singular.
    """
    size = len(matrix)
    work = np.hstack([matrix, np.eye(size)])
    floor = 1e-12 * np.abs(np.diag(matrix)).max()
    for k in range(size):
        if work[k, k] <= floor:
            raise InputError("lime", "two superpixels were always switched together", mend="use ridge > 0")
        work[k] /= work[k, k]
        factors = work[:, k].copy()
        factors[k] = 0.0
        work -= factors[:, None] * work[k][None, :]
    return work[:, size:]
