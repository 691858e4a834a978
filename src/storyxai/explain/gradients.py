"""Maps from the derivative of each logit by the pixels: saliency, SmoothGrad, integrated gradients.

Colour images give the sum over their channels, so that a map is signed: what raises the logit is positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.explain.contract import BLANK_SCENE, DEFAULT_BUDGET, Budget, ExplainedModel, Explanation, Scene, explanations
from storyxai.explain.inputs import columns_of, image_for, logits_of, pixel_gradients
from storyxai.explain.perturbation import Fill, fill_for, hidden_image
from storyxai.types import Array, Value

__all__ = ["IntegratedGradients", "Saliency", "SmoothGrad"]

Float64 = NDArray[np.float64]
PER_GREY = "logit per unit of grey"


@dataclass(frozen=True)
class Saliency:
    """The plain gradient by the pixels. Source: Simonyan et al., ICLR workshop 2014, with its sign kept."""

    key: str = "saliency"
    name: str = "saliency"
    needs: frozenset[str] = frozenset({"input_gradients"})
    checks: tuple[str, ...] = ("not_empty", "repeatable", "label_specific", "methods_agree")

    def explain(
        self,
        model: ExplainedModel,
        image: Array,
        findings: Sequence[str],
        budget: Budget = DEFAULT_BUDGET,
        scene: Scene = BLANK_SCENE,
    ) -> tuple[Explanation, ...]:
        columns, pixels = columns_of(model, findings), image_for(model, image)
        gradients = pixel_gradients(model, pixels[None], columns, method=self.key)[0]
        return explanations(self.key, findings, gradients.sum(axis=1, dtype=np.float64), PER_GREY, {})


@dataclass(frozen=True)
class SmoothGrad:
    """The mean gradient over `copies` of the image under Gaussian noise of `noise` (share of the grey range).

    A budget of fewer samples than copies takes as many. Source: Smilkov et al., arXiv 1706.03825, with its sign kept.
    """

    copies: int = 32
    noise: float = 0.1
    key: str = "smooth_grad"
    name: str = "SmoothGrad"
    needs: frozenset[str] = frozenset({"input_gradients"})
    checks: tuple[str, ...] = ("not_empty", "repeatable", "label_specific", "methods_agree")

    def explain(
        self,
        model: ExplainedModel,
        image: Array,
        findings: Sequence[str],
        budget: Budget = DEFAULT_BUDGET,
        scene: Scene = BLANK_SCENE,
    ) -> tuple[Explanation, ...]:
        """One map in the model's frame per finding, all from the same noise."""
        columns, pixels = columns_of(model, findings), image_for(model, image)
        copies = self.copies if budget.samples is None else min(self.copies, budget.samples)
        generator = np.random.default_rng(budget.seed)
        total = np.zeros((len(columns), *pixels.shape[1:]))
        for _ in range(copies):
            shaken = pixels + generator.normal(scale=self.noise, size=pixels.shape).astype(np.float32)
            # One image at a time: the sum must not depend on the batch size.
            total += pixel_gradients(model, shaken[None], columns, method=self.key)[0].sum(axis=1, dtype=np.float64)
        details: dict[str, Value] = {"samples": copies, "noise": self.noise, "seed": budget.seed}
        return explanations(self.key, findings, total / copies, PER_GREY, details)


@dataclass(frozen=True)
class IntegratedGradients:
    """Gradients integrated on the straight line from a baseline to the image, `steps` Gauss-Legendre nodes.

    The baseline is `fill` (None: the scene's filling, else a blur): black often means something. A map sums to
    the logit's change from it; `details["gap"]` says how far it misses. Source: Sundararajan et al., ICML 2017.
    """

    steps: int = 32
    fill: Fill | None = None
    key: str = "integrated_gradients"
    name: str = "integrated gradients"
    needs: frozenset[str] = frozenset({"input_gradients"})
    checks: tuple[str, ...] = ("not_empty", "repeatable", "label_specific", "methods_agree")

    def explain(
        self,
        model: ExplainedModel,
        image: Array,
        findings: Sequence[str],
        budget: Budget = DEFAULT_BUDGET,
        scene: Scene = BLANK_SCENE,
    ) -> tuple[Explanation, ...]:
        if self.steps < 1:
            raise InputError("steps", f"{self.steps}", mend="use at least 1, better 32")
        columns, pixels = columns_of(model, findings), image_for(model, image)
        fill, words = fill_for(self.fill, scene)
        start = hidden_image(pixels, fill=fill)
        maps = self._integral(model, start, pixels, columns)
        change = np.subtract(*(logits_of(model.logits, end[None])[0, list(columns)] for end in (pixels, start)))
        found = explanations(self.key, findings, maps, "logit per pixel", {})
        return tuple(
            Explanation(
                each.finding, self.key, each.values, each.unit,
                {"steps": self.steps, "baseline": words, "gap": float(maps[i].sum() - change[i])},
            )
            for i, each in enumerate(found)
        )

    def _integral(self, model: ExplainedModel, start: Array, end: Array, columns: Sequence[int]) -> Float64:
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        way = end - start
        total = np.zeros((len(columns), *end.shape))
        for node, weight in zip(nodes, weights, strict=True):
            point = start + way * np.float32((node + 1) / 2)
            total += pixel_gradients(model, point[None], columns, method=self.key)[0].astype(np.float64) * (weight / 2)
        maps: Float64 = (total * way).sum(axis=1)
        return maps
