"""What each task loses on a batch: its hard loss against what is known, and its distillation term where a teacher spoke."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from storyxai.data.batches import Batch
from storyxai.models.network import Network, NetworkSpec, Outputs
from storyxai.models.tokens import PAD
from storyxai.training import losses
from storyxai.training.config import FitConfig
from storyxai.training.reasons import finding_maps, present_findings, reasons_loss
from storyxai.training.soft_targets import TeacherTargets

FINDING_LOSSES = {
    "cross_entropy": losses.finding_loss, "focal": losses.focal_loss, "asymmetric": losses.asymmetric_loss,
}  # fmt: skip
SIDE_SHARE = 0.3
"""What findings weigh in a network that writes reports only: it learns them on the side, to have something to tell."""


def task_weights(spec: NetworkSpec, config: FitConfig) -> dict[str, float]:
    """The recipe's weight of each task that a network of this shape loses on."""
    finding, mask, report, _ = config.task_weights
    weights = {}
    if "findings" in spec.tasks:
        weights["findings"] = finding
    elif "report" in spec.tasks:
        weights["findings"] = SIDE_SHARE * finding
    if "masks" in spec.tasks:
        weights["masks"] = mask
    if "report" in spec.tasks:
        weights["report"] = report
    return weights


def task_losses(
    network: Network, said: Outputs, batch: Batch, rows: NDArray[np.int64], *, config: FitConfig,
    targets: TeacherTargets | None = None, weights: Tensor | None = None,
) -> dict[str, Tensor]:
    """Each task's hard loss plus a / (1 - a) tau^2 KL from its teacher; not yet weighted by task.

    Times 1 - a this is the mixture (1 - a) hard + a tau^2 KL: the factor common to all tasks is left to the learning
    rate. Boxes, maps and hints belong to the findings. `rows` are the batch's rows among those that `targets` answer for;
    `weights` [F] weigh the positives. What nobody knows costs nothing.
    """
    found = {}
    if said.logits is not None and said.grid is not None:
        answers = None if targets is None else _like(targets.findings[rows], said.logits)
        if config.label_weights:
            found["findings"] = _weighted_findings(said.logits, said.grid, batch, answers, config=config, weights=weights)
        else:
            found["findings"] = _findings(said.logits, said.grid, batch, answers, config=config, weights=weights)
        if targets is not None:
            found["findings"] = found["findings"] + _reasons(network, said, batch, rows, config, targets)
    if said.masks is not None:
        found["masks"] = _masks(said.masks, batch, rows, config, targets)
    if said.memory is not None:
        found["report"] = _report(network, said.memory, batch, rows, config, targets)
    return found


def _findings(
    logits: Tensor, grid: Tensor, batch: Batch, answers: Tensor | None, *, config: FitConfig, weights: Tensor | None,
    times: float = 1.0,
) -> Tensor:
    """Labels and boxes, weighing `times`, and a teacher's answers about the same images."""
    loss = FINDING_LOSSES[config.training.finding_loss](logits, batch.labels, weights)
    loss = times * (loss + config.task_weights[3] * losses.box_loss(grid, batch.cells))
    if answers is not None:
        loss = loss + config.teacher_weight * losses.bernoulli_kl(logits, answers, config.temperature)
    return loss


def _weighted_findings(
    logits: Tensor, grid: Tensor, batch: Batch, answers: Tensor | None, *, config: FitConfig, weights: Tensor | None
) -> Tensor:
    """`_findings` of the images of each label weight apart, summed by their share of the batch.

    An image of which nothing is known, or whose labels weigh 0 and about which no teacher spoke, is in no share.
    """
    stated = ~batch.labels.isnan().all(dim=1) & (batch.label_weights > 0)
    known = stated if answers is None else stated | ~answers.isnan().all(dim=1)
    loss = logits.sum() * 0.0
    for times in sorted(set(batch.label_weights[known].tolist())):
        rows = known & (batch.label_weights == times)
        part = Batch(*(values[rows] for values in batch))
        said = None if answers is None else answers[rows]
        mine = _findings(logits[rows], grid[rows], part, said, config=config, weights=weights, times=times)
        loss = loss + rows.float().mean() * mine
    return loss


def _reasons(
    network: Network, said: Outputs, batch: Batch, rows: NDArray[np.int64], config: FitConfig, targets: TeacherTargets
) -> Tensor:
    """How far the student's maps and attention are from its findings' teacher's, weighted; 0 where none were asked for."""
    features = said.features
    apart = features.sum() * 0.0
    if config.reasons and len(targets.maps):
        present = present_findings(batch.labels, _like(targets.findings[rows], features))
        maps = finding_maps(network.finding_head, features, network.shares(said.masks))
        apart = apart + config.reasons * reasons_loss(maps, _like(targets.maps[rows], features), present)
    if config.hints and len(targets.attention):
        apart = apart + config.hints * losses.hint_loss(features, _like(targets.attention[rows], features))
    return apart


def _masks(
    masks: Tensor, batch: Batch, rows: NDArray[np.int64], config: FitConfig, targets: TeacherTargets | None
) -> Tensor:
    loss = losses.mask_loss(masks, batch.masks) + losses.union_loss(masks, batch.union)
    if targets is not None and len(targets.masks):
        loss = loss + config.teacher_weight * losses.bernoulli_kl(masks, _like(targets.masks[rows], masks), config.temperature)
    return loss


def _report(
    network: Network, memory: Tensor, batch: Batch, rows: NDArray[np.int64], config: FitConfig,
    targets: TeacherTargets | None,
) -> Tensor:
    told = (batch.tokens != PAD).any(dim=1)
    if not bool(told.any()):
        return memory.sum() * 0.0
    tokens = batch.tokens[told]
    words = network.decoder(tokens[:, :-1], memory[told]).float()  # asked once, for reference and teacher
    loss = losses.token_loss(words, tokens)
    if targets is None or not len(targets.words):
        return loss
    answers = targets.word_row[rows[told.cpu().numpy()]]
    answered = np.flatnonzero(answers >= 0)
    if len(answered):
        teacher = _like(targets.words[answers[answered]], words)
        index = torch.from_numpy(answered).to(words.device)
        loss = loss + config.teacher_weight * losses.token_kl(words[index], teacher, tokens[index], config.temperature)
    return loss


def _like(values: NDArray[np.generic], beside: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32)).to(beside.device)
