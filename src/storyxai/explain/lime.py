"""LIME on superpixels for many findings at once: one set of perturbed images, one weighted ridge solve.

Source: Ribeiro et al., KDD 2016. Where we deviate from the `lime` package: the kernel is exp(-d^2 / width^2) (the
package takes its square root, so its width w is our w * sqrt(2)); all findings share the perturbations; no feature
selection; each coefficient has a standard error. Arithmetic is float64 in a fixed order without BLAS, so that the same
logits give the same bytes on any number of threads and for any batch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.explain.contract import BLANK_SCENE, DEFAULT_BUDGET, Budget, ExplainedModel, Explanation, Scene
from storyxai.explain.inputs import Predict, checked_image, columns_of, image_for, logits_of
from storyxai.explain.perturbation import Fill, fill_for, fill_words, hidden_image
from storyxai.explain.superpixels import check_segments, slic_segments
from storyxai.types import Array, Value

__all__ = ["Lime", "LimeResult", "kernel_weights", "lime", "lime_map", "sample_vectors", "weighted_ridge"]

Float64 = NDArray[np.float64]
# Two-sided 95 % of the normal distribution.
Z_95 = 1.959963984540054


@dataclass(frozen=True, eq=False)
class LimeResult:
    """What LIME found. Unit of every coefficient: logit per superpixel shown (rather than hidden by `fill`).

    Shapes: `coefficients`, `standard_error` [F, S]; `interval` [F, S, 2] (95 %, of the sampling only: it says how much
    another seed would move the coefficient, not whether the model is right); `intercept`, `r2`, `reliability` [F].
    `r2` is weighted like the fit, 0 where the logit never changed. `reliability` in [0, 1] is the correlation over
    superpixels to expect with another seed, 1 - mean(standard_error^2) / variance(coefficients); too low, so
    cautious, below about ten samples per superpixel.
    """

    coefficients: Float64
    intercept: Float64
    r2: Float64
    standard_error: Float64
    interval: Float64
    reliability: Float64
    samples: int
    seed: int
    fill: str
    width: float
    ridge: float


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """One weighted ridge fit of F answers. Shapes: [F, S] and [F]."""

    coefficients: Float64
    intercept: Float64
    standard_error: Float64
    r2: Float64


def lime(
    predict: Predict,
    image: Array,
    segments: NDArray[np.int32],
    *,
    samples: int = 1000,
    seed: int = 0,
    width: float = 0.25,
    fill: Fill = "blur",
    batch: int = 64,
    ridge: float = 1.0,
) -> LimeResult:
    """The LIME coefficients of every finding from one set of `samples` perturbed images (the first is the whole image).

    Shapes: image [C, H, W] in [0, 1], or [H, W] of one channel; segments int32 [H, W] labelled 0..S-1. Memory holds `batch`
    images at a time.
    Raises: InputError for too few samples, bad segments, a bad image or a model that does not answer [B, F].
    """
    pixels = checked_image(image)
    count = check_segments(segments, pixels.shape[1:])
    if samples < count + 2:
        raise InputError(
            "samples", f"{samples} for {count} superpixels", mend=f"use at least {count + 2}, better {10 * count}"
        )
    if batch < 1 or width <= 0 or ridge < 0:
        raise InputError("lime", "needs batch >= 1, width > 0 and ridge >= 0", mend="change these settings")
    vectors = sample_vectors(count, samples=samples, seed=seed)
    shaped = pixels[0] if isinstance(fill, np.ndarray) and fill.ndim == 2 else pixels
    hidden = hidden_image(shaped, fill=fill, segments=segments)
    parts = []
    for start in range(0, samples, batch):
        shown = vectors[start : start + batch].astype(bool)[:, None, segments]
        parts.append(logits_of(predict, np.where(shown, pixels, hidden)))
    fit = weighted_ridge(vectors, np.concatenate(parts), weights=kernel_weights(vectors, width=width), ridge=ridge)
    reach = Z_95 * fit.standard_error
    spread = fit.coefficients.var(axis=1)
    noise = (fit.standard_error**2).mean(axis=1)
    reliability = np.where(spread > 0, 1 - noise / np.where(spread > 0, spread, 1), 0).clip(0, 1)
    return LimeResult(
        coefficients=fit.coefficients,
        intercept=fit.intercept,
        r2=fit.r2,
        standard_error=fit.standard_error,
        interval=np.stack([fit.coefficients - reach, fit.coefficients + reach], axis=-1),
        reliability=reliability,
        samples=samples,
        seed=seed,
        fill=fill_words(fill),
        width=width,
        ridge=ridge,
    )


@dataclass(frozen=True)
class Lime:
    """LIME on SLIC superpixels; `width` of its kernel, `fill` of what is hidden (None: the scene's filling)."""

    superpixels: int = 60
    width: float = 0.25
    fill: Fill | None = None
    ridge: float = 1.0
    key: str = "lime"
    name: str = "LIME"
    needs: frozenset[str] = frozenset()
    checks: tuple[str, ...] = ("not_empty", "stable_over_seeds", "methods_agree")

    def explain(
        self,
        model: ExplainedModel,
        image: Array,
        findings: Sequence[str],
        budget: Budget = DEFAULT_BUDGET,
        scene: Scene = BLANK_SCENE,
    ) -> tuple[Explanation, ...]:
        """One map painted on the superpixels per finding, all from the same perturbed images."""
        columns, pixels = columns_of(model, findings), image_for(model, image)
        segments = slic_segments(pixels, count=self.superpixels, structures=scene.structures)
        fill, words = fill_for(self.fill, scene)
        result = lime(
            model.logits, pixels, segments, samples=budget.samples or 1000, seed=budget.seed, width=self.width, fill=fill,
            batch=budget.batch, ridge=self.ridge,
        )
        shared: dict[str, Value] = {
            "samples": result.samples, "seed": result.seed, "fill": words, "superpixels": int(segments.max()) + 1,
            "kernel_width": result.width, "ridge": result.ridge,
        }
        maps = lime_map(result, segments)
        return tuple(
            Explanation(
                finding, self.key, maps[column], "logit per superpixel",
                {"r2": float(result.r2[column]), "reliability": float(result.reliability[column]), **shared},
                segments, result.interval[column].astype(np.float32),
            )
            for finding, column in zip(findings, columns, strict=True)
        )


def lime_map(result: LimeResult, segments: NDArray[np.int32]) -> Array:
    """Each superpixel painted with its coefficient, float32 [F, H, W], signed, logit per superpixel."""
    if check_segments(segments, segments.shape) != result.coefficients.shape[1]:
        raise InputError("segments", "are not those of the result", mend="pass the segments that lime() was given")
    return result.coefficients.astype(np.float32)[:, segments]


def sample_vectors(count: int, *, samples: int, seed: int) -> NDArray[np.uint8]:
    """Which superpixels each sample shows (1) or hides (0), uint8 [N, S]; the first shows all, the others half each."""
    vectors = np.random.default_rng(seed).integers(0, 2, (samples, count), dtype=np.uint8)
    vectors[0] = 1
    return vectors


def kernel_weights(vectors: NDArray[np.uint8], *, width: float) -> Float64:
    """The weight of each sample, exp(-d^2 / width^2) with d the cosine distance to the whole image, float64 [N]."""
    # The cosine of a 0/1 vector with all ones is sqrt(share shown).
    distance = 1 - np.sqrt(vectors.sum(axis=1, dtype=np.int64) / vectors.shape[1])
    weights: Float64 = np.exp(-((distance / width) ** 2))
    return weights


def weighted_ridge(
    vectors: NDArray[np.integer], answers: Float64, *, weights: Float64, ridge: float
) -> RidgeFit:
    """The weighted ridge fit of all answers on the vectors, intercept not penalised.

    Shapes: vectors [N, S], answers [N, F], weights [N]. The standard error is the HC3 sandwich (MacKinnon & White
    1985): it needs no equal variances and allows that the model is not linear in the superpixels.
    Raises: InputError when the superpixels cannot be told apart (only possible with ridge 0).
    """
    x = vectors.astype(np.float64)
    total = weights.sum()
    x_mean = np.einsum("n,ns->s", weights, x) / total
    # Measured from the first answer, a logit that never moves is exactly zero and not a rounding error.
    start = answers[0]
    y_mean = np.einsum("n,nf->f", weights, answers - start) / total
    x -= x_mean
    y = answers - start - y_mean
    weighted = x * weights[:, None]
    gram = np.einsum("ns,nt->st", weighted, x)
    gram[np.diag_indices_from(gram)] += ridge
    inverse = _inverse(gram)
    solver = np.einsum("st,nt->ns", inverse, weighted)
    coefficients = np.einsum("ns,nf->fs", solver, y)
    errors = y - np.einsum("ns,fs->nf", x, coefficients)
    leverage = np.einsum("ns,ns->n", solver, x) + weights / total
    scaled = errors / np.maximum(1 - leverage, 1e-6)[:, None]
    variance = np.einsum("ns,nf->fs", solver**2, scaled**2)
    spread = np.einsum("n,nf->f", weights, y**2)
    missed = np.einsum("n,nf->f", weights, errors**2)
    moves = spread > 0
    r2 = np.where(moves, 1 - missed / np.where(moves, spread, 1), 0.0)
    intercept = start + y_mean - np.einsum("s,fs->f", x_mean, coefficients)
    return RidgeFit(coefficients, intercept, np.sqrt(variance), r2)


def _inverse(matrix: Float64) -> Float64:
    """The inverse of a symmetric positive definite matrix by Gauss-Jordan, in a fixed order of operations."""
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
