"""The training loop, to be read top to bottom: the same for a teacher with one head and a student with three."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from storyxai.data.batches import Batch, Examples, make_batch
from storyxai.errors import StoryxaiError
from storyxai.models.network import Network, Outputs
from storyxai.training import losses
from storyxai.training.soft_targets import TeacherTargets

__all__ = ["FitConfig", "FitResult", "fit"]


@dataclass(frozen=True)
class FitConfig:
    """How to train.

    `views` 0 draws a new view every epoch; K > 0 goes round the K views that teachers were asked about.

    `mixing` is a in L = (1 - a) hard + a tau^2 KL. `task_weights` are of findings, masks, report and boxes.
    """

    epochs: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup_share: float = 0.08
    views: int = 0
    temperature: float = 2.0
    mixing: float = 0.5
    task_weights: tuple[float, float, float, float] = (1.0, 0.5, 0.3, 0.3)
    gradient_clip: float = 1.0
    ema_decay: float = 0.99
    seed: int = 0


@dataclass(frozen=True)
class FitResult:
    """The trained network (its running average) and the mean loss of each epoch."""

    network: Network
    losses: tuple[float, ...]
    steps: int


Progress = Callable[[str, int, int], None]


def fit(
    network: Network, train: Examples, *, config: FitConfig, targets: tuple[TeacherTargets, ...] = (),
    positive_weights: NDArray[np.float32] | None = None, name: str = "network", progress: Progress | None = None,
) -> FitResult:
    """`network` trained on `train`, distilled from `targets` where given.

    Raises: StoryxaiError on a loss that is not a number.
    """
    with torch.random.fork_rng(devices=[]):  # dropout draws from it; the caller's seed is put back, come what may
        torch.manual_seed(config.seed)
        return _fit(network, train, config, targets, positive_weights, name, progress)


def _fit(
    network: Network, train: Examples, config: FitConfig, targets: tuple[TeacherTargets, ...],
    positive_weights: NDArray[np.float32] | None, name: str, progress: Progress | None,
) -> FitResult:
    if len(targets) > 1 and len(targets) != config.views:
        # One set of answers may stand for every mild view, as labels do; several belong each to its own exact view.
        raise StoryxaiError(f"{name}: {len(targets)} views were answered by teachers, {config.views} are to be trained on")
    generator = np.random.default_rng(config.seed)
    network = network.to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(_groups(network, config.weight_decay), lr=config.learning_rate)
    steps_an_epoch = math.ceil(len(train) / config.batch_size)
    total = steps_an_epoch * config.epochs
    weights = None if positive_weights is None else torch.from_numpy(positive_weights)
    step, epoch_losses = 0, []
    for epoch in range(config.epochs):
        network.train()
        view = epoch % config.views if config.views else epoch + 1
        order, seen = generator.permutation(len(train)), []
        for start in range(0, len(train), config.batch_size):
            rows = order[start : start + config.batch_size]
            if len(rows) < 2:  # batch normalisation needs two
                continue
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * _schedule(step / total, config.warmup_share)
            batch = make_batch(train, rows, view)
            said = network(batch.images.contiguous(memory_format=torch.channels_last))
            loss = total_loss(network, said, batch, config=config, weights=weights)
            if targets:
                loss = loss + distillation_loss(network, said, batch, rows, targets[view % len(targets)], config=config)
            if not bool(torch.isfinite(loss)):
                raise StoryxaiError(f"{name}: the loss is not a number at step {step}; lower the learning rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
            optimizer.step()
            step += 1
            _follow(average, network, min(config.ema_decay, step / (step + 10)))
            seen.append(float(loss.detach()))
            if progress:
                progress(f"{name}: epoch {epoch + 1}/{config.epochs}, loss {np.mean(seen):.3f}", step, total)
        epoch_losses.append(float(np.mean(seen)))
    return FitResult(average, tuple(epoch_losses), step)


def total_loss(
    network: Network, said: Outputs, batch: Batch, *, config: FitConfig, weights: Tensor | None = None
) -> Tensor:
    """The hard losses of the network's tasks against what is known, weighted."""
    finding, mask, report, box = config.task_weights
    tasks = network.spec.tasks
    total = said.features.sum() * 0.0
    if said.logits is not None and said.grid is not None:
        share = finding if "findings" in tasks else 0.3 * finding  # a report teacher learns findings on the side
        total = total + share * losses.finding_loss(said.logits, batch.labels, weights)
        total = total + share * box * losses.box_loss(said.grid, batch.cells)
    if said.masks is not None:
        total = total + mask * (
            losses.mask_loss(said.masks, batch.masks) + losses.union_loss(said.masks, batch.union)
        )
    if said.memory is not None:
        there = (batch.tokens != 0).any(dim=1)
        if bool(there.any()):
            words = network.decoder(batch.tokens[there, :-1], said.memory[there])
            total = total + report * losses.token_loss(words, batch.tokens[there])
    return total


def distillation_loss(
    network: Network, said: Outputs, batch: Batch, rows: NDArray[np.int64], targets: TeacherTargets, *,
    config: FitConfig,
) -> Tensor:
    """a / (1 - a) tau^2 KL of each task that has a teacher: with `total_loss` this is the mixture up to a factor."""
    finding, mask, report, _ = config.task_weights
    tau = config.temperature
    scale = config.mixing / (1 - config.mixing) * tau * tau
    total = said.features.sum() * 0.0
    if said.logits is not None:
        total = total + finding * losses.bernoulli_kl(said.logits, torch.from_numpy(targets.findings[rows]), tau)
    if said.masks is not None and len(targets.masks):
        teacher = torch.from_numpy(np.asarray(targets.masks[rows], dtype=np.float32))
        total = total + mask * losses.bernoulli_kl(said.masks, teacher, tau)
    if said.memory is not None and len(targets.words):
        there = np.flatnonzero(targets.word_row[rows] >= 0)
        if len(there):
            words = network.decoder(batch.tokens[there, :-1], said.memory[there])
            teacher = torch.from_numpy(np.asarray(targets.words[targets.word_row[rows[there]]], dtype=np.float32))
            total = total + report * losses.token_kl(words, teacher, batch.tokens[there], tau)
    return scale * total


def _groups(network: Network, weight_decay: float) -> list[dict[str, object]]:
    decayed = [p for p in network.parameters() if p.ndim > 1]
    free = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def _schedule(share: float, warmup: float) -> float:
    """Linear warm-up, then a cosine down to zero; `share` of all steps in [0, 1)."""
    if share < warmup:
        return share / warmup + 1e-3
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


@torch.no_grad()
def _follow(average: Network, network: Network, decay: float) -> None:
    for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(now, 1 - decay)
        else:
            mean.copy_(now)
