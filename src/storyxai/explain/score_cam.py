"""Score-CAM: channels of the features weighted by the logit of the image seen through each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storyxai.explain.cam import resize_maps
from storyxai.explain.contract import BLANK_SCENE, DEFAULT_BUDGET, Budget, ExplainedModel, Explanation, Scene, explanations
from storyxai.explain.inputs import columns_of, image_for, logits_of, look_into
from storyxai.types import Array, Value

__all__ = ["ScoreCam"]


@dataclass(frozen=True)
class ScoreCam:
    """Score-CAM; one forward pass a channel, so a budget of fewer samples takes the channels that vary most.

    Each channel, enlarged and scaled to [0, 1], dims the image; the softmax over channels of the logits weighs them. A channel
    that does not vary is left out. Source: Wang et al., CVPR workshop 2020.
    """

    key: str = "score_cam"
    name: str = "Score-CAM"
    needs: frozenset[str] = frozenset({"features"})
    checks: tuple[str, ...] = ("not_empty", "repeatable", "label_specific", "methods_agree")

    def explain(
        self,
        model: ExplainedModel,
        image: Array,
        findings: Sequence[str],
        budget: Budget = DEFAULT_BUDGET,
        scene: Scene = BLANK_SCENE,
    ) -> tuple[Explanation, ...]:
        """One map on the features' grid per finding, all from the same passes."""
        columns, pixels = columns_of(model, findings), image_for(model, image)
        look = look_into(model, pixels, (), method=self.key, needs=self.needs)
        channels = _chosen(look.features, budget.samples)
        features = look.features[channels]
        scores = np.zeros((0, len(model.findings)))
        for start in range(0, len(channels), budget.batch):
            shown = _scaled(features[start : start + budget.batch], pixels.shape[1:])
            answer = logits_of(model.logits, shown[:, None] * pixels)
            scores = np.concatenate([scores, answer])
        maps = np.zeros((len(findings), *look.features.shape[1:]))
        if len(channels):
            powers = np.exp(scores - scores.max(axis=0))
            weights = (powers / powers.sum(axis=0)).T[list(columns)]
            maps = np.maximum(np.einsum("tk,khw->thw", weights, features.astype(np.float64)), 0)
        details: dict[str, Value] = {"layer": look.layer, "cells": int(maps[0].size), "channels": len(channels)}
        return explanations(self.key, findings, maps, "weighted feature", details)


def _chosen(features: Array, samples: int | None) -> NDArray[np.int64]:
    """The channels that vary, at most `samples` of those that vary most, in order."""
    spread = np.ptp(features.reshape(len(features), -1), axis=1)
    most = np.argsort(-spread, kind="stable")[: len(features) if samples is None else samples]
    return np.sort(most[spread[most] > 0])


def _scaled(features: Array, frame: tuple[int, ...]) -> Array:
    """Each channel enlarged to the frame and scaled to [0, 1]."""
    large = resize_maps(features, height=frame[0], width=frame[1])
    low, high = (edge(large, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
    span = high - low
    scaled: Array = np.divide(large - low, span, out=np.zeros_like(large), where=span > 0)
    return scaled
