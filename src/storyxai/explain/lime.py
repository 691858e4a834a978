"""LIME on superpixels for many findings at once: one set of perturbed images, one weighted ridge solve.

Source: Ribeiro et al., KDD 2016. Where we deviate from the `lime` package: the kernel is exp(-d^2 / width^2) (the
package takes its square root, so its width w is our w * sqrt(2)); all findings share the perturbations; no feature
selection; each coefficient has a standard error; without a number of samples it stops when it is stable. Samples come as a
foldover design (Box & Wilson 1951): rows of Hadamard matrices in random order, each followed by its complement, in which every
superpixel is shown as often as hidden beside every other. What an image and its complement share, such as all interactions of
two superpixels, cancels in their difference; the package draws every sample by itself, as `design="independent"` does here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.explain.contract import DEFAULT_BUDGET, Budget, Explanation
from storyxai.explain.inputs import Asked, OwnMethod, Predict, checked_image, logits_of
from storyxai.explain.perturbation import Fill, HiddenSuperpixels, fill_for, fill_words
from storyxai.explain.ridge import BLOCK, RidgeFit, weighted_ridge, weighted_sums
from storyxai.explain.superpixels import check_segments, slic_segments
from storyxai.types import Array, Value

Float64 = NDArray[np.float64]
Design: TypeAlias = Literal["foldover", "independent"]
# Two-sided 95 % of the normal distribution.
Z_95 = 1.959963984540054


@dataclass(frozen=True)
class LimeFit:
    """How LIME fits and when it stops by itself.

    `width` of the kernel and `ridge` penalty; `design` of the samples: two that make a pair have their mean weight. Stable is
    a finding when order and signs of its `strongest` superpixels are known, each but for an error of at most `error` times
    the strongest coefficient. That is asked first after `first_per_superpixel` samples a superpixel, then whenever their
    number has grown by `growth`, until `most` samples; of a foldover design after whole matrices only.
    """

    width: float = 0.25
    ridge: float = 1.0
    strongest: int = 5
    error: float = 0.25
    first_per_superpixel: int = 4
    growth: float = 1.5
    most: int = 1024
    design: Design = "foldover"


DEFAULT_FIT = LimeFit()


@dataclass(frozen=True, eq=False)
class LimeResult:
    """What LIME found. Unit of every coefficient: logit per superpixel shown (rather than hidden by `fill`).

    Shapes: `coefficients`, `standard_error` [F, S]; `interval` [F, S, 2] (95 %, of the sampling only: it says how much
    another seed would move the coefficient, not whether the model is right); `intercept`, `r2`, `reliability`, `samples`,
    `stopped`, `error` [F].
    `r2` is weighted like the fit, 0 where the logit never changed. `reliability` in [0, 1] is the correlation over
    superpixels to expect with another seed, 1 - mean(standard_error^2) / variance(coefficients); too low, so
    cautious, below about ten samples per superpixel. `samples` were used for the finding, which `stopped` because it was
    "stable", or had all its "samples" or "seconds"; `error` is then `unsettled_error`. `design` is that of the samples.
    """

    coefficients: Float64
    intercept: Float64
    r2: Float64
    standard_error: Float64
    interval: Float64
    reliability: Float64
    samples: NDArray[np.int64]
    stopped: tuple[str, ...]
    error: Float64
    seed: int
    fill: str
    design: Design


def lime(
    predict: Predict,
    image: Array,
    segments: NDArray[np.int32],
    *,
    fill: Fill = "blur",
    fit: LimeFit = DEFAULT_FIT,
    budget: Budget = DEFAULT_BUDGET,
) -> LimeResult:
    """The LIME coefficients of every finding from one set of perturbed images.

    Shapes: image [C, H, W] in [0, 1], or [H, W] of one channel; segments int32 [H, W] labelled 0..S-1. Memory holds
    `budget.batch` images at a time. Without `budget.samples` each finding keeps the fit at which it was first stable, so
    that it does not depend on the others; the fit is then the same as with that number of samples given. Fewer samples than
    a foldover design needs, two a superpixel, are drawn independently; of an odd number it leaves out the last.
    Raises: InputError for too few samples, bad segments, a bad image or a model that does not answer [B, F].
    """
    pixels = checked_image(image)
    count = check_segments(segments, pixels.shape[1:])
    _check(count, fit, budget)
    if budget.samples is not None and budget.samples < 2 * (count + 2):
        fit = replace(fit, design="independent")
    ends = _rounds(count, fit) if budget.samples is None else (_whole_pairs(budget.samples, fit),)
    draw = foldover_vectors if fit.design == "foldover" else sample_vectors
    vectors = draw(count, samples=ends[-1], seed=budget.seed)
    hidden = HiddenSuperpixels(pixels, segments, fill, batch=budget.batch)
    fits, samples, stopped = _run(hidden, predict, vectors, ends=ends, options=fit, seconds=budget.seconds)
    reach = Z_95 * fits.standard_error
    return LimeResult(
        coefficients=fits.coefficients,
        intercept=fits.intercept,
        r2=fits.r2,
        standard_error=fits.standard_error,
        interval=np.stack([fits.coefficients - reach, fits.coefficients + reach], axis=-1),
        reliability=_reliability(fits),
        samples=samples,
        stopped=stopped,
        error=unsettled_error(fits, strongest=fit.strongest),
        seed=budget.seed,
        fill=fill_words(fill),
        design=fit.design,
    )


def _check(count: int, fit: LimeFit, budget: Budget) -> None:
    if budget.samples is not None and budget.samples < count + 2:
        why = f"{budget.samples} for {count} superpixels"
        raise InputError("samples", why, mend=f"use at least {count + 2}, better {10 * count}")
    if budget.batch < 1 or fit.width <= 0 or fit.ridge < 0 or fit.growth <= 1 or fit.strongest < 1:
        raise InputError("lime", "needs batch >= 1, width > 0, ridge >= 0, growth > 1", mend="change these settings")


def _rounds(count: int, fit: LimeFit) -> tuple[int, ...]:
    """The numbers of samples after which stability is asked."""
    ends = [max(fit.first_per_superpixel * count, count + 2)]
    while ends[-1] < fit.most:
        ends.append(min(fit.most, round(ends[-1] * fit.growth)))
    if fit.design == "independent":
        return tuple(ends)
    # Whole matrices, two or more: one alone cannot tell a superpixel's effect from that of three others together.
    whole = 2 * hadamard_order(count)
    return tuple(sorted({max(2, min(-(-end // whole), fit.most // whole)) * whole for end in ends}))


def _whole_pairs(samples: int, fit: LimeFit) -> int:
    return samples if fit.design == "independent" else samples // 2 * 2


def _run(
    hidden: HiddenSuperpixels,
    predict: Predict,
    vectors: NDArray[np.uint8],
    *,
    ends: tuple[int, ...],
    options: LimeFit,
    seconds: float | None,
) -> tuple[RidgeFit, NDArray[np.int64], tuple[str, ...]]:
    """The fit of each finding at the first round at which it is stable, or at the last; how many samples, and why."""
    deadline = None if seconds is None else time.monotonic() + seconds
    answers = np.zeros((0, 0))
    kept: RidgeFit | None = None
    open_findings = samples = np.zeros(0, dtype=np.int64)
    why: list[str] = []
    for end in ends:
        least = _least(vectors, answers, options)
        told, late = hidden.answers(predict, vectors[len(answers) : end], deadline=deadline, least=least)
        answers = told if kept is None else np.concatenate([answers, told])
        answers = answers[: _whole_pairs(len(answers), options)]
        new = _fit(vectors[: len(answers)], answers, options)
        if kept is None:
            kept, samples = new, np.zeros(answers.shape[1], dtype=np.int64)
            open_findings, why = np.arange(answers.shape[1]), ["samples"] * answers.shape[1]
        kept = _replaced(kept, new, open_findings)
        samples[open_findings] = len(answers)
        if late:
            why = ["seconds" if finding in open_findings else reason for finding, reason in enumerate(why)]
            break
        stable = unsettled_error(new, strongest=options.strongest)[open_findings] <= options.error
        if len(ends) > 1:
            why = ["stable" if finding in open_findings[stable] else reason for finding, reason in enumerate(why)]
        open_findings = open_findings[~stable]
        if len(open_findings) == 0:
            break
    assert kept is not None
    return kept, samples, tuple(why)


def _least(vectors: NDArray[np.uint8], answers: Float64, options: LimeFit) -> int:
    """How many more samples a fit needs at the least, whatever the time."""
    least = int(vectors.shape[1]) + 2
    return max(1, (least if options.design == "independent" else 2 * least) - len(answers))


def _fit(vectors: NDArray[np.uint8], answers: Float64, options: LimeFit) -> RidgeFit:
    """The weighted ridge fit; of a foldover design that of half the difference within each pair, and what it leaves open."""
    weights = kernel_weights(vectors, width=options.width)
    if options.design == "independent":
        return weighted_ridge(vectors, answers, weights=weights, ridge=options.ridge)
    paired = (weights[::2] + weights[1::2]) / 2
    # Half the rows carry half the penalty.
    odd = weighted_ridge(vectors[::2], (answers[::2] - answers[1::2]) / 2, weights=paired, ridge=options.ridge / 2)
    both, start = np.repeat(paired, 2), answers[0]
    mean = weighted_sums(both, answers - start) / both.sum()
    spread, missed = np.zeros(len(mean)), np.zeros(len(mean))
    for first in range(0, len(answers), BLOCK):
        rows = slice(first, first + BLOCK)
        moved = answers[rows] - start - mean
        spread += weighted_sums(both[rows], moved**2)
        missed += weighted_sums(both[rows], (moved - np.einsum("ns,fs->nf", vectors[rows] - 0.5, odd.coefficients)) ** 2)
    moves = spread > 0
    r2 = np.where(moves, 1 - missed / np.where(moves, spread, 1), 0.0)
    return replace(odd, intercept=start + mean - odd.coefficients.sum(axis=1) / 2, r2=r2)


def _replaced(kept: RidgeFit, new: RidgeFit, findings: NDArray[np.int64]) -> RidgeFit:
    """The fit `kept` with the rows `findings` from `new`."""
    pairs = [(old.copy(), fresh) for old, fresh in zip(vars(kept).values(), vars(new).values(), strict=True)]
    for old, fresh in pairs:
        old[findings] = fresh[findings]
    return RidgeFit(*(old for old, _ in pairs))


def unsettled_error(fit: RidgeFit, *, strongest: int) -> Float64:
    """How large the error of what is not yet known of each finding's strongest superpixels is, [F].

    Known is a sign when the coefficient's 95 % interval leaves zero out, and an order when that of the difference to the
    next stronger superpixel does. Unit: share of the finding's strongest coefficient; 0 when all is known, and for a
    logit that never moves.
    """
    rows = np.arange(len(fit.coefficients))[:, None]
    order = np.argsort(-np.abs(fit.coefficients), axis=1, kind="stable")[:, : strongest + 1]
    sizes, errors = np.abs(fit.coefficients)[rows, order], fit.standard_error[rows, order]
    signs = Z_95 * errors[:, :strongest]
    steps = Z_95 * np.hypot(errors[:, :-1], errors[:, 1:])
    open_signs = np.where(sizes[:, :strongest] > signs, 0, signs)
    open_steps = np.where(sizes[:, :-1] - sizes[:, 1:] > steps, 0, steps)
    worst = np.maximum(open_signs.max(axis=1), open_steps.max(axis=1, initial=0))
    scale = sizes[:, 0]
    share: Float64 = np.divide(worst, scale, out=np.zeros_like(worst), where=scale > 0)
    return share


def _reliability(fit: RidgeFit) -> Float64:
    spread = fit.coefficients.var(axis=1)
    noise = (fit.standard_error**2).mean(axis=1)
    share: Float64 = np.where(spread > 0, 1 - noise / np.where(spread > 0, spread, 1), 0).clip(0, 1)
    return share


@dataclass(frozen=True)
class Lime(OwnMethod):
    """LIME on about `superpixels` SLIC superpixels; `fill` of what is hidden (None: the scene's filling)."""

    superpixels: int = 30
    fill: Fill | None = None
    fit: LimeFit = DEFAULT_FIT
    key: str = "lime"
    name: str = "LIME"
    needs: frozenset[str] = frozenset()
    checks: tuple[str, ...] = ("not_empty", "stable_over_seeds", "methods_agree")

    def answer(self, asked: Asked) -> tuple[Explanation, ...]:
        """One map painted on the superpixels per finding, all from the same perturbed images.

        `details` say how many samples each finding took, why it stopped and how far it had converged.
        """
        segments = slic_segments(asked.pixels, count=self.superpixels, structures=asked.scene.structures)
        fill, words = fill_for(self.fill, asked.scene)

        def logits(images: Array) -> Array:
            # Only what is asked is waited for: a finding that nobody tells of would go on to the last sample.
            return np.ascontiguousarray(logits_of(asked.model.logits, images)[:, list(asked.columns)])

        result = lime(logits, asked.pixels, segments, fill=fill, fit=self.fit, budget=asked.budget)
        maps = lime_map(result, segments)
        return tuple(
            Explanation(
                finding, self.key, maps[row], "logit per superpixel", self._details(result, row, words),
                segments, result.interval[row].astype(np.float32),
            )
            for row, finding in enumerate(asked.findings)
        )

    def _details(self, result: LimeResult, row: int, words: str) -> dict[str, Value]:
        return {
            "r2": float(result.r2[row]), "reliability": float(result.reliability[row]),
            "samples": int(result.samples[row]), "stopped": result.stopped[row],
            "error": float(result.error[row]), "seed": result.seed, "fill": words,
            "superpixels": result.coefficients.shape[1], "kernel_width": self.fit.width, "ridge": self.fit.ridge,
            "design": result.design,
        }


def lime_map(result: LimeResult, segments: NDArray[np.int32]) -> Array:
    """Each superpixel painted with its coefficient, float32 [F, H, W], signed, logit per superpixel."""
    if check_segments(segments, segments.shape) != result.coefficients.shape[1]:
        raise InputError("segments", "are not those of the result", mend="pass the segments that lime() was given")
    return result.coefficients.astype(np.float32)[:, segments]


def sample_vectors(count: int, *, samples: int, seed: int) -> NDArray[np.uint8]:
    """Which superpixels each sample shows (1) or hides (0), uint8 [N, S]; the first shows all, the others half each.

    More samples with the same seed begin with the same vectors.
    """
    vectors = np.random.default_rng(seed).integers(0, 2, (samples, count), dtype=np.uint8)
    vectors[0] = 1
    return vectors


def hadamard_order(count: int) -> int:
    """The order of the Hadamard matrices whose columns stand for so many superpixels: a power of two above their number."""
    return 1 << count.bit_length()


def foldover_vectors(count: int, *, samples: int, seed: int) -> NDArray[np.uint8]:
    """Which superpixels a sample shows (1) or hides (0), uint8 [N, S]: rows of Hadamard matrices, each with its complement.

    Each matrix has rows, columns and the columns' signs in an order of its own. More samples with the same seed begin with
    the same vectors.
    """
    order, generator = hadamard_order(count), np.random.default_rng(seed)
    numbers = np.arange(order)
    # Sylvester's matrix: the parity of the bits that a row's and a column's number share.
    shared = numbers[:, None] & numbers[None, :]
    parity = np.zeros_like(shared)
    for bit in range(order.bit_length()):
        parity ^= shared >> bit & 1
    vectors = np.empty((-(-samples // (2 * order)) * 2 * order, count), dtype=np.uint8)
    for start in range(0, len(vectors), 2 * order):
        # The first column never changes, so that it can stand for no superpixel.
        columns = 1 + generator.permutation(order - 1)[:count]
        half = parity[generator.permutation(order)][:, columns] ^ generator.integers(0, 2, count)
        vectors[start : start + 2 * order : 2], vectors[start + 1 : start + 2 * order : 2] = half, 1 - half
    return vectors[:samples]


def kernel_weights(vectors: NDArray[np.uint8], *, width: float) -> Float64:
    """The weight of each sample, exp(-d^2 / width^2) with d the cosine distance to the whole image, float64 [N]."""
    # The cosine of a 0/1 vector with all ones is sqrt(share shown).
    distance = 1 - np.sqrt(vectors.sum(axis=1, dtype=np.int64) / vectors.shape[1])
    weights: Float64 = np.exp(-((distance / width) ** 2))
    return weights
