"""RISE: each logit against random soft masks of the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from storyxai.errors import InputError
from storyxai.explain.contract import DEFAULT_BUDGET, Budget, Explanation, explanations
from storyxai.explain.inputs import Asked, OwnMethod, Predict, checked_image, logits_of
from storyxai.explain.perturbation import Fill, fill_for, hidden_image
from storyxai.types import Array, Value

DEFAULT_SAMPLES = 1000


@dataclass(frozen=True)
class Rise(OwnMethod):
    """RISE; masks are random grids of `cells` x `cells`, of which the share `keep` is seen; `fill` None: the scene's."""

    cells: int = 8
    keep: float = 0.5
    fill: Fill | None = None
    key: str = "rise"
    name: str = "RISE"
    needs: frozenset[str] = frozenset()
    checks: tuple[str, ...] = ("not_empty", "repeatable", "label_specific", "methods_agree")

    def answer(self, asked: Asked) -> tuple[Explanation, ...]:
        """One map in the model's frame per finding, all from the same masks."""
        fill, words = fill_for(self.fill, asked.scene)
        samples = DEFAULT_SAMPLES if asked.budget.samples is None else asked.budget.samples
        maps = rise_map(asked.model.logits, asked.pixels, cells=self.cells, keep=self.keep, fill=fill, budget=asked.budget)
        details: dict[str, Value] = {
            "samples": samples, "seed": asked.budget.seed, "cells": self.cells, "keep": self.keep, "fill": words,
        }
        return explanations(self.key, asked.findings, maps[list(asked.columns)], "logit per unit of being seen", details)


def rise_map(
    predict: Predict,
    image: Array,
    *,
    cells: int = 8,
    keep: float = 0.5,
    fill: Fill = "blur",
    budget: Budget = DEFAULT_BUDGET,
) -> Array:
    """Each logit's mean change when a pixel is seen rather than hidden, float32 [F, H, W], signed, logits.

    Shapes: image [C, H, W], or [H, W] of one channel. Masks are random grids of `cells` x `cells`, enlarged bilinearly and
    shifted by the generator.
    Source: Petsiuk et al., BMVC 2018; we subtract the mean logit (so that a model which ignores the image gives zero)
    and divide by the variance of the mask at each pixel, which makes the map the slope of the logit on being seen.
    """
    samples = DEFAULT_SAMPLES if budget.samples is None else budget.samples
    if samples < 2 or cells < 2 or not 0 < keep < 1:
        raise InputError("rise", "needs samples >= 2, cells >= 2 and 0 < keep < 1", mend="change these settings")
    pixels = checked_image(image)
    frame = pixels.shape[1:]
    hidden = hidden_image(pixels, fill=fill)
    cross = np.zeros((1, *frame))
    mask_sum, square_sum, logit_sum = np.zeros(frame), np.zeros(frame), np.zeros(1)
    for masks in _masks(frame, samples=samples, cells=cells, keep=keep, budget=budget):
        shown = masks[:, None]
        logits = logits_of(predict, np.clip(shown * pixels + (1 - shown) * hidden, 0, 1).astype(np.float32))
        # One sample after the other: the sum must not depend on the batch size.
        for mask, row in zip(masks, logits, strict=True):
            cross = cross + row[:, None, None] * mask
            mask_sum += mask
            square_sum += mask * mask
            logit_sum = logit_sum + row
    covariance = cross / samples - (logit_sum / samples)[:, None, None] * (mask_sum / samples)
    variance = square_sum / samples - (mask_sum / samples) ** 2
    return (covariance / np.maximum(variance, 1e-12)).astype(np.float32)


def _masks(
    frame: tuple[int, ...], *, samples: int, cells: int, keep: float, budget: Budget
) -> Iterator[Array]:
    """The masks [B, H, W] in [0, 1], a batch at a time."""
    from scipy.ndimage import zoom

    height, width = frame
    # A stream of its own for each: the masks must not depend on the batch size.
    grid_stream, shift_stream = (np.random.default_rng(part) for part in np.random.SeedSequence(budget.seed).spawn(2))
    step = (-(-height // cells), -(-width // cells))
    for start in range(0, samples, budget.batch):
        size = min(budget.batch, samples - start)
        grids = (grid_stream.random((size, cells + 1, cells + 1)) < keep).astype(np.float32)
        shifts = shift_stream.integers(0, step, (size, 2))
        large = zoom(grids, (1, *step), order=1, mode="nearest", grid_mode=True)
        yield np.stack([m[r : r + height, c : c + width] for m, (r, c) in zip(large, shifts, strict=True)])
