"""Figures of a network on examples it does not learn from, for training to watch and to stop on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from storyxai.data.batches import Batch, Examples, make_batch
from storyxai.errors import RecipeError
from storyxai.metrics.classification import auroc
from storyxai.metrics.segmentation import dice
from storyxai.models.network import Network
from storyxai.training.config import METRICS, FitConfig
from storyxai.training.objective import task_losses, task_weights

BATCH_SIZE = 64


def check_metric(network: Network, validation: Examples | None, metric: str, *, name: str) -> None:
    """Nothing. Raises: RecipeError when `metric` cannot be had of this network on these examples."""
    if not metric:
        return
    if validation is None or not len(validation):
        raise RecipeError(name, f"'{metric}' needs a validation part", mend="give it images, or set no stop_metric")
    needed = {"validation_auroc": "findings", "validation_dice": "masks"}.get(metric)
    if needed is not None and needed not in network.spec.tasks:
        raise RecipeError(name, f"'{metric}' needs the task {needed}", mend="stop on validation_loss")
    if metric == "validation_auroc" and not _both_sides(validation.labels).any():
        why = "no finding is both present and absent in the validation part"
        raise RecipeError(name, why, mend="stop on validation_loss")
    if metric == "validation_dice" and not (validation.masks != 255).any():
        raise RecipeError(name, "the validation part has no masks", mend="stop on validation_loss")


def validate(network: Network, examples: Examples, *, config: FitConfig) -> dict[str, float]:
    """The weighted loss against references on view 0, and the figure that the recipe stops on, by name."""
    metric = config.training.stop_metric
    device = next(network.parameters()).device
    weights = task_weights(network.spec, config)
    lost, logits, scores = 0.0, [], []
    for start in range(0, len(examples), BATCH_SIZE):
        rows = np.arange(start, min(start + BATCH_SIZE, len(examples)))
        batch = Batch(*(part.to(device) for part in make_batch(examples, rows, 0)))
        with torch.inference_mode():
            said = network(batch.images.contiguous(memory_format=torch.channels_last))
            found = task_losses(network, said, batch, rows, config=config)
            lost += len(rows) * sum(weights[task] * float(loss) for task, loss in found.items())
            if metric == "validation_auroc":
                logits.append(said.logits.cpu().numpy())
            if metric == "validation_dice":
                scores.append(_dices((said.masks > 0).cpu().numpy(), batch.masks.cpu().numpy()))
    figures = {"validation_loss": lost / len(examples)}
    if logits:
        figures["validation_auroc"] = _mean_auroc(examples.labels, np.concatenate(logits))
    if scores:
        figures["validation_dice"] = float(np.nanmean(np.concatenate(scores)))
    return figures


def best_epoch(history: list[dict[str, float]], metric: str) -> int:
    """The index of the epoch with the best `metric`, of equals the first."""
    values = [METRICS[metric] * row[metric] for row in history]
    return int(np.argmax(values))


def _both_sides(labels: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray((labels > 0.5).any(axis=0) & (labels <= 0.5).any(axis=0))


def _mean_auroc(labels: NDArray[np.float32], logits: NDArray[np.float32]) -> float:
    areas = []
    for column in np.flatnonzero(_both_sides(labels)):
        stated = ~np.isnan(labels[:, column])
        areas.append(auroc(labels[stated, column] > 0.5, logits[stated, column]))
    return float(np.mean([area for area in areas if area is not None]))


def _dices(drawn: NDArray[np.bool_], masks: NDArray[np.float32]) -> NDArray[np.float64]:
    """Dice of each image and part, nan where nobody states it. Shapes: both [B, 3, h, w]."""
    out = np.full(drawn.shape[:2], np.nan)
    for row, part in np.argwhere(~np.isnan(masks).all(axis=(2, 3))):
        unknown = np.isnan(masks[row, part])
        out[row, part] = dice(drawn[row, part], masks[row, part] >= 0.5, ignore=unknown)
    return out
