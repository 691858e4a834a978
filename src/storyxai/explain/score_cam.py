"""Score-CAM: channels of the features weighted by the logit of the image seen through each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storyxai.explain.cam import resize_maps
from storyxai.explain.contract import Explanation, explanations
from storyxai.explain.inputs import Asked, OwnMethod, logits_of, look_into
from storyxai.types import Array, Value


@dataclass(frozen=True)
class ScoreCam(OwnMethod):
    """Score-CAM; one forward pass a channel, so a budget of fewer samples takes the channels that vary most.

    Each channel, enlarged and scaled to [0, 1], dims the image; the softmax over channels of the logits weighs them. A channel
    that does not vary is left out. Source: Wang et al., CVPR workshop 2020.
    """

    key: str = "score_cam"
    name: str = "Score-CAM"
    needs: frozenset[str] = frozenset({"features"})
    checks: tuple[str, ...] = ("not_empty", "repeatable", "label_specific", "methods_agree")

    def answer(self, asked: Asked) -> tuple[Explanation, ...]:
        """One map on the features' grid per finding, all from the same passes."""
        look = look_into(asked.model, asked.pixels, (), method=self.key, needs=self.needs)
        channels = _chosen(look.features, asked.budget.samples)
        features = look.features[channels]
        scores = np.zeros((0, len(asked.model.findings)))
        for start in range(0, len(channels), asked.budget.batch):
            shown = _scaled(features[start : start + asked.budget.batch], asked.pixels.shape[1:])
            answer = logits_of(asked.model.logits, shown[:, None] * asked.pixels)
            scores = np.concatenate([scores, answer])
        maps = np.zeros((len(asked.findings), *look.features.shape[1:]))
        if len(channels):
            powers = np.exp(scores - scores.max(axis=0))
            weights = (powers / powers.sum(axis=0)).T[list(asked.columns)]
            maps = np.maximum(np.einsum("tk,khw->thw", weights, features.astype(np.float64)), 0)
        details: dict[str, Value] = {"layer": look.layer, "cells": int(maps[0].size), "channels": len(channels)}
        return explanations(self.key, asked.findings, maps, "weighted feature", details)


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
