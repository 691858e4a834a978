"""KernelSHAP on superpixels: Shapley values of the logits, all findings from one set of coalitions.

Source: Lundberg & Lee, NIPS 2017; coalitions drawn by the kernel's own mass of their size and in complementary pairs, as in
Covert & Lee, AISTATS 2021. With as many samples as there are coalitions all are asked and the values are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.explain.contract import DEFAULT_BUDGET, Budget, Explanation
from storyxai.explain.inputs import Asked, OwnMethod, Predict, checked_image
from storyxai.explain.perturbation import Fill, HiddenSuperpixels, fill_for
from storyxai.explain.ridge import inverse_of
from storyxai.explain.superpixels import check_segments, slic_segments
from storyxai.types import Array, Value

Float64 = NDArray[np.float64]
DEFAULT_SAMPLES = 1000


@dataclass(frozen=True)
class KernelShap(OwnMethod):
    """Shapley values on about `superpixels` SLIC superpixels; `fill` of absent ones (None: the scene's filling).

    Unit: the logit that a superpixel adds, averaged over all orders in which they may be shown; they sum to the change from
    the wholly hidden image to the whole one.
    """

    superpixels: int = 60
    fill: Fill | None = None
    key: str = "kernel_shap"
    name: str = "KernelSHAP"
    needs: frozenset[str] = frozenset()
    checks: tuple[str, ...] = ("not_empty", "repeatable", "label_specific", "methods_agree")

    def answer(self, asked: Asked) -> tuple[Explanation, ...]:
        """One map painted on the superpixels per finding."""
        segments = slic_segments(asked.pixels, count=self.superpixels, structures=asked.scene.structures)
        fill, words = fill_for(self.fill, asked.scene)
        values, passes = kernel_shap(asked.model.logits, asked.pixels, segments, fill=fill, budget=asked.budget)
        details: dict[str, Value] = {
            "samples": passes, "seed": asked.budget.seed, "fill": words, "superpixels": values.shape[1],
        }
        painted_maps = values[list(asked.columns)].astype(np.float32)[:, segments]
        return tuple(
            Explanation(finding, self.key, painted, "logit per superpixel", details, segments)
            for finding, painted in zip(asked.findings, painted_maps, strict=True)
        )


def kernel_shap(
    predict: Predict, image: Array, segments: NDArray[np.int32], *, fill: Fill = "blur", budget: Budget = DEFAULT_BUDGET
) -> tuple[Float64, int]:
    """The Shapley values [F, S] of the superpixels, and how many images were asked.

    Shapes: image [C, H, W], or [H, W] of one channel; segments int32 [H, W] labelled 0..S-1. The values sum to the logit of
    the whole image less that of the wholly hidden one.
    Raises: InputError for fewer samples than two a superpixel, a bad image or bad segments.
    """
    pixels = checked_image(image)
    count = check_segments(segments, pixels.shape[1:])
    samples = DEFAULT_SAMPLES if budget.samples is None else budget.samples
    coalitions, weights = _coalitions(count, samples, budget.seed)
    hidden = HiddenSuperpixels(pixels, segments, fill, batch=budget.batch)
    ends = np.repeat(np.array([[0], [1]], dtype=np.uint8), count, axis=1)
    answers, _ = hidden.answers(predict, np.concatenate([ends, coalitions]))
    return _solved(coalitions, weights, answers), len(answers)


def _coalitions(count: int, samples: int, seed: int) -> tuple[NDArray[np.uint8], Float64]:
    """Coalitions [N, S], neither empty nor whole, and their weights: all of them where they are no more than `samples`."""
    if count < 20 and 2**count - 2 <= samples:
        numbers = np.arange(1, 2**count - 1)
        every = (numbers[:, None] >> np.arange(count) & 1).astype(np.uint8)
        sizes = every.sum(axis=1)
        return every, np.array([(count - 1) / (comb(count, s) * s * (count - s)) for s in sizes.tolist()])
    if samples < 2 * count:
        raise InputError("samples", f"{samples} for {count} superpixels", mend=f"use at least {2 * count}, better {10 * count}")
    generator = np.random.default_rng(seed)
    sizes = np.arange(1, count)
    mass = 1 / (sizes * (count - sizes))
    drawn = generator.choice(sizes, size=samples // 2, p=mass / mass.sum())
    order = generator.random((len(drawn), count)).argsort(axis=1, kind="stable")
    half = (order < drawn[:, None]).astype(np.uint8)
    pairs = np.stack([half, 1 - half], axis=1).reshape(-1, count)
    return pairs, np.ones(len(pairs))


def _solved(coalitions: NDArray[np.uint8], weights: Float64, answers: Float64) -> Float64:
    """The weighted least squares whose values sum to the whole change. Shapes: answers [2 + N, F], hidden and whole first."""
    none, whole = answers[0], answers[1]
    x = coalitions.astype(np.float64)
    weighted = x * weights[:, None]
    gram = np.einsum("ns,nt->st", weighted, x)
    # A trace of ridge: a superpixel that was never seen apart from another must not stop the solve.
    gram[np.diag_indices_from(gram)] += 1e-12 * np.trace(gram)
    inverse = inverse_of(gram)
    free = np.einsum("st,tf->sf", inverse, np.einsum("ns,nf->sf", weighted, answers[2:] - none))
    row_sums = inverse.sum(axis=1)
    missing = (whole - none) - free.sum(axis=0)
    values: Float64 = (free + row_sums[:, None] * missing / row_sums.sum()).T
    return values
