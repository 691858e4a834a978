"""Maps from the derivative of each logit by the pixels: saliency, SmoothGrad, integrated gradients.

Colour images give the sum over their channels, so that a map is signed: what raises the logit is positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.explain.contract import Explanation, explanations
from storyxai.explain.inputs import Asked, OwnMethod, logits_of, pixel_gradients
from storyxai.explain.perturbation import Fill, fill_for, hidden_image
from storyxai.types import Array, Value

Float64 = NDArray[np.float64]
PER_GREY = "logit per unit of grey"


@dataclass(frozen=True)
class Saliency(OwnMethod):
    """The plain gradient by the pixels. Source: Simonyan et al., ICLR workshop 2014, with its sign kept."""

    key: str = "saliency"
    name: str = "saliency"
    needs: frozenset[str] = frozenset({"input_gradients"})
    checks: tuple[str, ...] = ("not_empty", "repeatable", "label_specific", "methods_agree")

    def answer(self, asked: Asked) -> tuple[Explanation, ...]:
        gradients = pixel_gradients(asked.model, asked.pixels[None], asked.columns, method=self.key)[0]
        return explanations(self.key, asked.findings, gradients.sum(axis=1, dtype=np.float64), PER_GREY, {})


@dataclass(frozen=True)
class SmoothGrad(OwnMethod):
    """The mean gradient over `copies` of the image under Gaussian noise of `noise` (share of the grey range).

    A budget of fewer samples than copies takes as many. Source: Smilkov et al., arXiv 1706.03825, with its sign kept.
    """

    copies: int = 32
    noise: float = 0.1
    key: str = "smooth_grad"
    name: str = "SmoothGrad"
    needs: frozenset[str] = frozenset({"input_gradients"})
    checks: tuple[str, ...] = ("not_empty", "repeatable", "label_specific", "methods_agree")

    def answer(self, asked: Asked) -> tuple[Explanation, ...]:
        """One map in the model's frame per finding, all from the same noise."""
        copies = self.copies if asked.budget.samples is None else min(self.copies, asked.budget.samples)
        generator = np.random.default_rng(asked.budget.seed)
        total = np.zeros((len(asked.columns), *asked.pixels.shape[1:]))
        for _ in range(copies):
            shaken = asked.pixels + generator.normal(scale=self.noise, size=asked.pixels.shape).astype(np.float32)
            # One image at a time: the sum must not depend on the batch size.
            total += pixel_gradients(asked.model, shaken[None], asked.columns, method=self.key)[0].sum(axis=1, dtype=np.float64)
        details: dict[str, Value] = {"samples": copies, "noise": self.noise, "seed": asked.budget.seed}
        return explanations(self.key, asked.findings, total / copies, PER_GREY, details)


@dataclass(frozen=True)
class IntegratedGradients(OwnMethod):
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

    def answer(self, asked: Asked) -> tuple[Explanation, ...]:
        if self.steps < 1:
            raise InputError("steps", f"{self.steps}", mend="use at least 1, better 32")
        fill, words = fill_for(self.fill, asked.scene)
        start = hidden_image(asked.pixels, fill=fill)
        maps = self._integral(asked, start)
        there, here = (logits_of(asked.model.logits, end[None])[0, list(asked.columns)] for end in (asked.pixels, start))
        found = explanations(self.key, asked.findings, maps, "logit per pixel", {})
        return tuple(
            Explanation(
                each.finding, self.key, each.values, each.unit,
                {"steps": self.steps, "baseline": words, "gap": float(maps[i].sum() - (there - here)[i])},
            )
            for i, each in enumerate(found)
        )

    def _integral(self, asked: Asked, start: Array) -> Float64:
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        way = asked.pixels - start
        total = np.zeros((len(asked.columns), *way.shape))
        for node, weight in zip(nodes, weights, strict=True):
            point = start + way * np.float32((node + 1) / 2)
            steep = pixel_gradients(asked.model, point[None], asked.columns, method=self.key)[0]
            total += steep.astype(np.float64) * (weight / 2)
        maps: Float64 = (total * way).sum(axis=1)
        return maps
