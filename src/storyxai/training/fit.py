"""The training loop, to be read top to bottom: the same for a teacher with one head and a student with three."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from storyxai.data.batches import Examples, make_batch
from storyxai.errors import StoryxaiError
from storyxai.models.network import Network
from storyxai.training.balance import make_balancer
from storyxai.training.config import FitConfig
from storyxai.training.objective import task_losses, task_weights
from storyxai.training.soft_targets import TeacherTargets

__all__ = ["FitConfig", "FitResult", "fit"]


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
    balancer = make_balancer(config.balance, task_weights(network.spec, config), seed=config.seed)
    optimizer = torch.optim.AdamW(_groups(network, config.training.weight_decay), lr=config.learning_rate)
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
                group["lr"] = config.learning_rate * _schedule(step / total, config.training.warmup_share)
            batch = make_batch(train, rows, view)
            said = network(batch.images.contiguous(memory_format=torch.channels_last))
            answers = targets[view % len(targets)] if targets else None
            losses = task_losses(network, said, batch, rows, config=config, targets=answers, weights=weights)
            for task, loss in losses.items():
                if not bool(torch.isfinite(loss)):
                    why = f"the loss of {task} is not a number at step {step}"
                    raise StoryxaiError(f"{name}: {why}; lower the learning rate")
            optimizer.zero_grad(set_to_none=True)
            used = balancer.backward(losses, network, said.features)
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.training.gradient_clip)
            optimizer.step()
            step += 1
            _follow(average, network, min(config.training.ema_decay, step / (step + 10)))
            seen.append(sum(used[task] * float(loss.detach()) for task, loss in losses.items()))
            if progress:
                progress(f"{name}: epoch {epoch + 1}/{config.epochs}, loss {np.mean(seen):.3f}", step, total)
        epoch_losses.append(float(np.mean(seen)))
    return FitResult(average, tuple(epoch_losses), step)


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
