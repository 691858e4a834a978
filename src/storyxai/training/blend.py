"""Blending: an image under a fainter other one, learnt with labels and teachers' answers blended alike.

Source: Zhang et al., ICLR 2018 (mixup), with the stronger image always the one whose row it is.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from storyxai.data.batches import Batch


def draw_blend(count: int, *, seed: int, step: int) -> tuple[float, NDArray[np.int64]]:
    """How much of each of `count` images stays (0.5 to 1), and which image it is laid over."""
    rng = np.random.default_rng([seed, step])
    return 0.5 + 0.5 * float(rng.random()), rng.permutation(count)


def blend_batch(batch: Batch, share: float, others: NDArray[np.int64]) -> Batch:
    """`batch` with each image blended with the one in `others`; boxes, outlines and reports no longer hold.

    A finding that one of both does not state is not stated.
    """
    index = torch.from_numpy(others)
    unknown = {name: torch.full_like(getattr(batch, name), torch.nan) for name in ("masks", "union", "cells")}
    return batch._replace(
        images=share * batch.images + (1 - share) * batch.images[index], tokens=torch.zeros_like(batch.tokens),
        labels=share * batch.labels + (1 - share) * batch.labels[index], **unknown,
    )


def blend_answers(logits: NDArray[np.float32], share: float, others: NDArray[np.int64]) -> NDArray[np.float32]:
    """A teacher's log-odds [B, F] for the blended images: those of its blended probabilities."""
    said: Tensor = torch.sigmoid(torch.from_numpy(logits).double())
    mixed = share * said + (1 - share) * said[torch.from_numpy(others)]
    return np.asarray(torch.logit(mixed, eps=1e-7).float().numpy())
