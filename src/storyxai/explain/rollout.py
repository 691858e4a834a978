"""Attention rollout: where a transformer's tokens look, followed through all its blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from storyxai.errors import UnsupportedMethodError
from storyxai.explain.contract import (
    AttendingModel,
    Attention,
    Explanation,
)
from storyxai.explain.inputs import Asked, OwnMethod
from storyxai.types import Array, Value


@dataclass(frozen=True)
class AttentionRollout(OwnMethod):
    """Attention rollout: one map for every finding alike, so the check of label specificity withholds it.

    Source: Abnar & Zuidema, ACL 2020.
    """

    key: str = "attention_rollout"
    name: str = "attention rollout"
    needs: frozenset[str] = frozenset({"attention"})
    checks: tuple[str, ...] = ("not_empty", "repeatable", "label_specific", "methods_agree")

    def answer(self, asked: Asked) -> tuple[Explanation, ...]:
        """The map on the tokens' grid, once per finding."""
        attention = asked.model.attention(asked.pixels) if isinstance(asked.model, AttendingModel) else None
        if attention is None:
            raise UnsupportedMethodError(self.key, "this model is no transformer over one grid", mend="use grad_cam or lime")
        values = rollout(attention)
        details: dict[str, Value] = {"blocks": len(attention.weights), "cells": int(values.size)}
        return tuple(Explanation(finding, self.key, values, "share of attention", details) for finding in asked.findings)


def rollout(attention: Attention) -> Array:
    """How much each cell reaches the first token (the mean over all tokens where none stands before the grid), [h, w].

    In each block the heads' mean and the identity, which stands for the residual, count half each; blocks multiply.
    """
    cells = attention.grid[0] * attention.grid[1]
    tokens = attention.weights.shape[-1]
    reach = np.eye(tokens)
    for block in attention.weights.astype(np.float64).mean(axis=1):
        step = (block + np.eye(tokens)) / 2
        reach = np.einsum("st,tu->su", step / step.sum(axis=1, keepdims=True), reach)
    row = reach[0] if tokens > cells else reach.mean(axis=0)
    values: Array = row[-cells:].reshape(attention.grid).astype(np.float32)
    return values
