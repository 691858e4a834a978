"""The training loop, to be read top to bottom: the same for a teacher with one head and a student with three.

What a step does depends on the weights before it, the seed and its own number, never on how the process got there: so a
run that was killed goes on from its checkpoint to the very same weights, on the same machine with as many threads.

With several processes each takes every n-th row of the batch, and gradients, running statistics and losses are averaged
over them before anything is updated. This equals one process on the whole batch when every shard states as much as the
others; a shard with fewer stated labels weighs them more, as in data-parallel training everywhere. Batch norms see their
own shard only (`frozen_norms` takes that difference away), and dropout draws apart.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from storyxai.data.batches import Batch, Examples, make_batch
from storyxai.errors import RecipeError, StoryxaiError
from storyxai.models.network import Network, Outputs
from storyxai.progress import Progress
from storyxai.training.apart import Trained, launched, memory_kept, threads_each
from storyxai.training.balance import conflict_plot, conflict_row, make_balancer, shared_parameters
from storyxai.training.blend import blend_answers, blend_batch, draw_blend
from storyxai.training.checkpoint import TrainingState, read_checkpoint, training_mark, write_checkpoint
from storyxai.training.config import LEARNING_PARTS, FitConfig, TrainingRecipe
from storyxai.training.logs import RunLog, duration, plot_curves
from storyxai.training.objective import task_losses, task_weights
from storyxai.training.sampling import epoch_order, image_chances, shown_rows
from storyxai.training.soft_targets import TeacherTargets
from storyxai.training.validation import best_epoch, check_metric, validate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["CHECKPOINT", "FitConfig", "FitResult", "RunOptions", "fit"]

CHECKPOINT = "checkpoint.safetensors"
_OWN_PROCESSES = "ddp_spawn"
_TOO_FAST = "lower the learning rate, and name another --out for the changed recipe"


@dataclass(frozen=True)
class FitResult:
    """The trained network (its running average), the mean loss of each epoch, and everything else that was noted.

    `history` has a row an epoch: "loss", "loss_TASK", "weight_TASK", "learning_rate", "validation_...", and for each pair
    of tasks "conflict_TASK_TASK", the cosine of their gradients on the shared part in the epoch's first batch.
    """

    network: Network
    losses: tuple[float, ...]
    steps: int
    history: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True)
class RunOptions:
    """What a training is called, the folder that it leaves its checkpoint, log and curves in (None: nothing is left), who
    hears how far it is, and a clock that tells seconds, for progress and log alone.
    """

    name: str = "network"
    folder: Path | None = None
    progress: Progress | None = None
    clock: Callable[[], float] = time.perf_counter


@dataclass(frozen=True, eq=False)
class _Job:
    network: Network
    train: Examples
    validation: Examples | None
    config: FitConfig
    targets: tuple[TeacherTargets, ...]
    positive_weights: NDArray[np.float32] | None
    run: RunOptions


def fit(
    network: Network, train: Examples, *, config: FitConfig, targets: tuple[TeacherTargets, ...] = (),
    validation: Examples | None = None, positive_weights: NDArray[np.float32] | None = None, run: RunOptions = RunOptions(),
) -> FitResult:
    """`network` trained on `train`, distilled from `targets` where given.

    With a folder the run leaves checkpoint, log, events and curves there, and goes on from the checkpoint it finds.
    Under torchrun every process calls this and gets the result.

    Raises: RecipeError when the training cannot work, and on a loss that is not a number; OutputError.
    """
    if len(targets) > 1 and len(targets) != config.views:
        # One set of answers may stand for every mild view, as labels do; several belong each to its own exact view.
        raise StoryxaiError(f"{run.name}: {len(targets)} views were answered by teachers, {config.views} are to be trained on")
    shown = _rows_of(train, config, epoch=0, chances=None)
    if len(_batches(shown, config)) == 0:
        why = f"{len(shown)} examples are fewer than two for each of {config.training.processes} processes"
        raise RecipeError(run.name, why, mend="give it more images")
    check_metric(network, validation, config.training.stop_metric, name=run.name)
    fabric = _fabric(config.training, run.name)
    ours = config.training.processes > 1 and not _under_torchrun()
    # Processes of our own making are handed the job as bytes, which a progress bar cannot be: they tell us, and we tell it.
    told = dataclasses.replace(run, progress=None) if ours else run
    job = _Job(network, train, validation, config, targets, positive_weights, told)
    if ours:
        weights, history, steps = launched(fabric, functools.partial(_train_apart, job=job), progress=run.progress)
    else:
        weights, history, steps = fabric.launch(functools.partial(_train, job=job))
    average = copy.deepcopy(network).to("cpu").to(memory_format=torch.channels_last).eval()
    average.load_state_dict(weights)
    return FitResult(average, tuple(row["loss"] for row in history), steps, tuple(history))


def _under_torchrun() -> bool:
    """Whether the processes were made by torchrun, which then has each of them call us."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _fabric(how: TrainingRecipe, name: str) -> Fabric:
    """Device, precision and processes. Raises: RecipeError when the device is not there."""
    from lightning_fabric import Fabric  # takes seconds to import

    if how.device == "cuda" and torch.cuda.device_count() < how.processes:
        why = f"needs {how.processes} GPUs, {torch.cuda.device_count()} are there"
        raise RecipeError(name, why, mend='set training.device = "cpu" or fewer processes')
    strategy = "auto"
    if how.processes > 1:
        strategy = "ddp" if _under_torchrun() else _OWN_PROCESSES
    return Fabric(accelerator=how.device, devices=how.processes, strategy=strategy, precision=how.precision)  # type: ignore[arg-type]


def _train_apart(fabric: Fabric, progress: Progress, job: _Job) -> Trained:
    """What `_train` gives, in a process of our own making."""
    torch.set_num_threads(threads_each(job.config.training.processes, given=torch.get_num_threads()))
    # The network came in memory that the processes share: each is to change its own.
    told = dataclasses.replace(job.run, progress=progress)
    return _train(fabric, dataclasses.replace(job, network=copy.deepcopy(job.network), run=told))


def _train(fabric: Fabric, job: _Job) -> Trained:
    """The average's weights, the history and the number of steps; each process runs this, the first one writes."""
    devices = [fabric.device.index or 0] if fabric.device.type == "cuda" else []
    kept = memory_kept() if fabric.device.type == "cpu" else nullcontext()
    with kept, torch.random.fork_rng(devices=devices):  # dropout draws from it; the caller's seed is put back, come what may
        state = _start(job.network.to(fabric.device).to(memory_format=torch.channels_last), job.config)
        writes = job.run.folder is not None and fabric.is_global_zero
        log = path = None
        mark = ""
        if job.run.folder is not None:
            mark = training_mark(state.network, job.train, job.config, job.targets, job.positive_weights)
            path = job.run.folder / CHECKPOINT
            read_checkpoint(state, path, mark=mark)
        fabric.barrier()
        if writes and job.run.folder is not None and not _ended(state, job.config):
            log = RunLog(job.run.folder, step=state.step)
        try:
            _loop(fabric, job, state, log, path if writes else None, mark)
        finally:
            if log is not None:
                log.close()
        if log is not None and job.run.folder is not None:
            plot_curves(state.history, job.run.folder / "curves.png", title=job.run.name)
            if any(name.startswith("conflict_") for row in state.history for name in row):
                conflict_plot(state.history, job.run.folder / "conflict.png")
    weights = state.best or state.average.state_dict()
    history = [{name: value for name, value in row.items() if name != "images_per_second"} for row in state.history]
    return {name: tensor.cpu() for name, tensor in weights.items()}, history, state.step


def _loop(
    fabric: Fabric, job: _Job, state: TrainingState, log: RunLog | None, path: Path | None, mark: str
) -> None:
    config, how = job.config, job.config.training
    chances = image_chances(job.train.labels, rare_share=how.rare_share) if how.rare_share else None
    positives = None if job.positive_weights is None else torch.from_numpy(job.positive_weights).to(fabric.device)
    began, images = job.run.clock(), 0
    while not _ended(state, config):
        state.network.train()
        _freeze_norms(state.network, every=how.frozen_norms, still=bool(config.learns))
        view = state.epoch % config.views if config.views else state.epoch + 1
        batches = _batches(_rows_of(job.train, config, epoch=state.epoch, chances=chances), config)
        total = round(config.epochs * len(batches))
        part = min(1.0, config.epochs - state.epoch)  # the last epoch may be a part of one
        for rows in batches[state.batch : max(1, round(part * len(batches)))]:
            rate = config.learning_rate * _schedule(state.step / total, how.warmup_share)
            noted = _step(fabric, job, state, rows, view=view, rate=rate, positives=positives)
            noted["learning_rate"] = rate
            state.batch += 1
            state.sums = {name: state.sums.get(name, 0.0) + value for name, value in noted.items()}
            images += len(rows)
            if log is not None:
                log.note_step(noted, step=state.step)
            if job.run.progress is not None and fabric.is_global_zero:
                seconds = max(job.run.clock() - began, 1e-9)
                left = seconds / images * config.batch_size * (total - state.step)
                lost = state.sums["loss"] / state.batch
                said = f"{job.run.name}: epoch {state.epoch + 1}/{math.ceil(config.epochs)}, loss {lost:.3f}"
                job.run.progress(f"{said}, {images / seconds:.0f} images/s, {duration(left)} left", state.step, total)
            if path is not None and how.checkpoint_steps and state.step % how.checkpoint_steps == 0:
                write_checkpoint(state, path, mark=mark)
        _end_epoch(job, state, speed=images / max(job.run.clock() - began, 1e-9))
        if path is not None:
            write_checkpoint(state, path, mark=mark)
        if log is not None:
            log.note_epoch(state.history, step=state.step)


def _step(
    fabric: Fabric, job: _Job, state: TrainingState, rows: NDArray[np.int64], *, view: int, rate: float,
    positives: Tensor | None,
) -> dict[str, float]:
    """One batch: forward, losses, gradients, update, average. Returns the losses and weights of the tasks."""
    config, network = job.config, state.network
    torch.manual_seed((config.seed * 1_000_003 + state.step * fabric.world_size + fabric.global_rank) % 2**63)
    mine = rows[fabric.global_rank :: fabric.world_size]
    seen, answers, asked = _show(fabric, job, state.step, mine, view=view)
    batch = Batch(*(part.to(fabric.device) for part in seen))
    with fabric.autocast():
        said = _in_full(network(batch.images.contiguous(memory_format=torch.channels_last)))
        losses = task_losses(network, said, batch, asked, config=config, targets=answers, weights=positives)
    if fabric.world_size > 1:  # the shards may differ by one row
        losses = {task: loss * (len(mine) * fabric.world_size / len(rows)) for task, loss in losses.items()}
    means = dict(zip(losses, _mean_of(fabric, torch.stack([loss.detach() for loss in losses.values()])).tolist(), strict=True))
    for task, value in means.items():
        if not math.isfinite(value):
            raise RecipeError(job.run.name, f"the loss of {task} is not a number at step {state.step}", mend=_TOO_FAST)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad(set_to_none=True)
    # Once an epoch, on its first batch: whether the tasks pull the shared part the same way.
    shared = [parameter for parameter in shared_parameters(network) if parameter.requires_grad]
    pulls = conflict_row(losses, shared) if state.batch == 0 and len(losses) > 1 and shared else {}
    used = state.balancer.backward(losses, network, said.features)
    if fabric.world_size > 1:
        _all_reduce(fabric, [*network.parameters(), *state.balancer.parameters()], network)
    norm = nn.utils.clip_grad_norm_(network.parameters(), config.training.gradient_clip)
    if not bool(torch.isfinite(norm)):
        raise RecipeError(job.run.name, f"the gradient is not a number at step {state.step}", mend=_TOO_FAST)
    state.optimizer.step()
    state.step += 1
    _update_ema(state.average, network, min(config.training.ema_decay, state.step / (state.step + 10)))
    noted = {"loss": sum(used[task] * value for task, value in means.items())}
    noted |= {f"loss_{task}": value for task, value in means.items()}
    if pulls:
        mean = _mean_of(fabric, torch.tensor(list(pulls.values()), device=fabric.device)).tolist()
        noted |= {name: value for name, value in zip(pulls, mean, strict=True) if math.isfinite(value)}
    return noted | {f"weight_{task}": value for task, value in used.items()}


def _show(
    fabric: Fabric, job: _Job, step: int, mine: NDArray[np.int64], *, view: int
) -> tuple[Batch, TeacherTargets | None, NDArray[np.int64]]:
    """A batch in the view that the epoch shows, what teachers answered about it, and its rows among those answers."""
    config, place = job.config, step * fabric.world_size + fabric.global_rank
    if config.view_settings.plain and np.random.default_rng([config.seed, place, 2]).random() < config.view_settings.plain:
        view = 0
    batch = _weigh(make_batch(job.train, mine, view, config.view_settings), job, mine, place)
    answers = job.targets[view % len(job.targets)] if job.targets else None
    if np.random.default_rng([config.seed, place, 1]).random() >= config.view_settings.blend:
        return batch, answers, mine
    share, others = draw_blend(len(mine), seed=config.seed, step=place)
    blended = blend_batch(batch, share, others)
    if answers is None:
        return blended, None, mine
    nothing, nobody = np.zeros((0,), dtype=np.float16), np.full(len(mine), -1, dtype=np.int64)
    mixed = TeacherTargets(view, blend_answers(answers.findings[mine], share, others), nothing, nothing, nobody)
    return blended, mixed, np.arange(len(mine))


def _weigh(batch: Batch, job: _Job, rows: NDArray[np.int64], place: int) -> Batch:
    """The batch with what the round says of its sets: how much labels weigh, and whether the report is learnt this time."""
    config, sets = job.config, [job.train.domain[row] for row in rows]
    if config.label_weights:
        batch = batch._replace(label_weights=torch.tensor([config.label_weights.get(name, 1.0) for name in sets]))
    if config.report_shares:
        shares = np.array([config.report_shares.get(name, 1.0) for name in sets])
        told = torch.from_numpy(np.random.default_rng([config.seed, place, 3]).random(len(rows)) < shares)
        batch = batch._replace(tokens=torch.where(told[:, None], batch.tokens, 0))
    return batch


def _end_epoch(job: _Job, state: TrainingState, *, speed: float) -> None:
    """The epoch's means become a row of history; the balancer takes note, and the best average is kept."""
    row = {name: value / (1 if name.startswith("conflict_") else state.batch) for name, value in state.sums.items()}
    row["images_per_second"] = speed
    if job.validation is not None and len(job.validation):
        row |= validate(state.average, job.validation, config=job.config)
    state.history.append(row)
    state.balancer.end_epoch({name[5:]: value for name, value in row.items() if name.startswith("loss_")})
    state.epoch, state.batch, state.sums = state.epoch + 1, 0, {}
    metric = job.config.training.stop_metric
    if metric and best_epoch(state.history, metric) == state.epoch - 1:
        state.best = {name: tensor.clone() for name, tensor in state.average.state_dict().items()}


def _ended(state: TrainingState, config: FitConfig) -> bool:
    metric = config.training.stop_metric
    if metric and state.history and len(state.history) - 1 - best_epoch(state.history, metric) >= config.training.patience:
        return True
    return state.epoch >= config.epochs


def _start(network: Network, config: FitConfig) -> TrainingState:
    _hold_still(network, config.learns)
    balancer = make_balancer(config.balance, task_weights(network.spec, config), seed=config.seed)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    free = [p for p in network.parameters() if p.ndim <= 1] + balancer.parameters()
    groups = [{"params": decayed, "weight_decay": config.training.weight_decay}, {"params": free, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
    return TrainingState(network, copy.deepcopy(network).eval(), optimizer, balancer)


def _batches(order: NDArray[np.int64], config: FitConfig) -> list[NDArray[np.int64]]:
    """The epoch cut into batches; one too small is left out, as batch normalisation needs two rows in each process."""
    size = config.batch_size
    cut = [order[start : start + size] for start in range(0, len(order), size)]
    return [rows for rows in cut if len(rows) >= 2 * config.training.processes]


def _in_full(said: Outputs) -> Outputs:
    """Outputs as the losses need them; the features stay as the heads read them, for balancers that look at these."""
    return Outputs(said.features, *(None if part is None else part.float() for part in said[1:]))


def _mean_of(fabric: Fabric, values: Tensor) -> Tensor:
    if fabric.world_size == 1:
        return values
    mean = fabric.all_reduce(values, reduce_op="mean")
    assert isinstance(mean, Tensor)
    return mean


def _all_reduce(fabric: Fabric, parameters: list[nn.Parameter], network: Network) -> None:
    """Gradients and running statistics become their means over the processes, in one message."""
    buffers = [buffer for buffer in network.buffers() if buffer.dtype.is_floating_point]
    learnt = [p for p in parameters if p.requires_grad]
    reached = torch.tensor([float(p.grad is not None) for p in learnt], device=fabric.device)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in learnt]
    parts = [part.to(fabric.device).flatten() for part in (*grads, *buffers)]
    mean = _mean_of(fabric, torch.cat([reached, *parts]))
    place = len(learnt)
    with torch.no_grad():
        for parameter, gradient, share in zip(learnt, grads, mean[:place].tolist(), strict=True):
            values = mean[place : place + gradient.numel()].view(gradient.shape)
            # A parameter that no process reached keeps no gradient: the optimizer is to leave it alone.
            parameter.grad = torch.empty_like(gradient).copy_(values) if share > 0 else None
            place += gradient.numel()
        for buffer in buffers:
            buffer.copy_(mean[place : place + buffer.numel()].view(buffer.shape))
            place += buffer.numel()


def _rows_of(
    train: Examples, config: FitConfig, *, epoch: int, chances: NDArray[np.float64] | None
) -> NDArray[np.int64]:
    """The rows that an epoch shows, in order."""
    if config.shown:
        return shown_rows(train.domain, config.shown, seed=config.seed, epoch=epoch)
    return epoch_order(len(train), seed=config.seed, epoch=epoch, chances=chances)


def _freeze_norms(network: Network, *, every: bool, still: bool) -> None:
    """Leave the statistics of batch norms as they are: of `every` one, or with `still` of those that learn nothing."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and (every or (still and not module.weight.requires_grad)):
            module.eval()


def _hold_still(network: Network, learns: tuple[str, ...]) -> None:
    """Let only the parameters of the parts in `learns` move (() = those that may move already)."""
    prefixes = {name for part in learns for name in LEARNING_PARTS[part]}
    for name, parameter in network.named_parameters():
        if learns and name.split(".")[0] not in prefixes:
            parameter.requires_grad_(False)


def _schedule(share: float, warmup: float) -> float:
    """Linear warm-up, then a cosine down to zero; `share` of all steps in [0, 1)."""
    if share < warmup:
        return share / warmup + 1e-3
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


@torch.no_grad()
def _update_ema(average: Network, network: Network, decay: float) -> None:
    for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(now, 1 - decay)
        else:
            mean.copy_(now)
