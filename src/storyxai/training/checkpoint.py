"""Where a training stands, as one file: all tensors as safetensors, everything else as JSON in the file's header.

The file is written beside its place and moved there whole, so a process killed at any moment leaves the last one intact.
Dropout and order are drawn from seed, step and epoch (see `fit.py`), so there is no generator state to keep.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from storyxai.data.batches import Examples
from storyxai.errors import OutputError, RecipeError, WeightsError
from storyxai.files import fresh_file
from storyxai.models.network import Network
from storyxai.training.balance import Balancer
from storyxai.training.config import FitConfig
from storyxai.training.soft_targets import ShardRows, TeacherTargets, network_hash

FORMAT = 1


@dataclass(eq=False)
class TrainingState:
    """All that a step changes. It is the one thing in storyxai that is not frozen: the loop lives in it.

    `batch` counts the batches done of epoch `epoch`; `sums` are the sums over them that become the epoch's means;
    `history` has one row of means per epoch that has ended; `best` are the average's tensors when they were best.
    """

    network: Network
    average: Network
    optimizer: torch.optim.Optimizer
    balancer: Balancer
    step: int = 0
    epoch: int = 0
    batch: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)


def training_mark(
    network: Network, train: Examples, config: FitConfig, targets: tuple[TeacherTargets, ...],
    positive_weights: NDArray[np.float32] | None,
) -> str:
    """A SHA-256 of what decides the outcome: starting weights, examples, answers and recipe."""
    lasting = dataclasses.replace(config, training=dataclasses.replace(config.training, checkpoint_steps=0))
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(lasting), sort_keys=True).encode())
    digest.update(network_hash(network).encode())
    digest.update("|".join(train.ids).encode())
    known = (train.images, train.labels, train.masks, train.union, train.cells, train.tokens, positive_weights)
    for values in known:
        digest.update(b"none" if values is None else np.ascontiguousarray(values).data)
    for target in targets:
        digest.update(np.ascontiguousarray(target.findings).data)
        for rows in (target.masks, target.words, target.maps, target.attention):
            if isinstance(rows, ShardRows):  # the names of folder and file hold the hashes of teacher and question
                digest.update("|".join(f"{path.parent.name}/{path.name}" for path in rows.paths).encode())
                digest.update(np.ascontiguousarray(rows.shard_of).data)
                digest.update(np.ascontiguousarray(rows.row_of).data)
            else:
                digest.update(np.ascontiguousarray(rows).data)
    return digest.hexdigest()


def write_checkpoint(state: TrainingState, path: Path, *, mark: str) -> None:
    """Nothing; `state` stands at `path`, whole. Raises: OutputError when it cannot be written; the last one is kept."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    for prefix, values in (
        ("network", state.network.state_dict()), ("average", state.average.state_dict()), ("best", state.best)
    ):
        tensors |= {f"{prefix}.{name}": tensor for name, tensor in values.items()}
    for index, parameter in enumerate(_optimized(state)):
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.optimizer.state.get(parameter, {}).items()}
    for name, value in state.balancer.state_dict().items():
        if isinstance(value, Tensor):
            tensors[f"balancer.{name}"] = value
        else:
            numbers[name] = value
    record = {
        "format": FORMAT, "mark": mark, "step": state.step, "epoch": state.epoch, "batch": state.batch, "sums": state.sums,
        "history": state.history, "balancer": numbers,
    }
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    written = save(whole, metadata={"record": json.dumps(record)})
    try:
        with fresh_file(path, last=True) as part:
            part.write_bytes(written)
    except OutputError as error:
        mend = "free some space; the run goes on from the last one"
        raise OutputError(str(path), f"the checkpoint of step {state.step} {error.why}", mend=mend) from error


def read_checkpoint(state: TrainingState, path: Path, *, mark: str) -> bool:
    """Whether there is a checkpoint at `path`; `state` then stands where it was written.

    Raises: WeightsError when the file is damaged; RecipeError when it belongs to another training.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return False
    try:
        with safe_open(path, framework="pt") as opened:
            record = json.loads((opened.metadata() or {})["record"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
        if record["format"] != FORMAT or record["mark"] != mark:
            why = "is of a training with other data, another start or another recipe"
            raise RecipeError(str(path), why, mend="name another folder, or remove it")
        _put_back(state, tensors, record["balancer"])
        state.step, state.epoch, state.batch = (int(record[key]) for key in ("step", "epoch", "batch"))
        state.sums, state.history = dict(record["sums"]), list(record["history"])
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(str(path), f"is no checkpoint ({reason})", mend="remove it to start anew") from error
    return True


def _put_back(state: TrainingState, tensors: dict[str, Tensor], numbers: dict[str, float]) -> None:
    by_part: dict[str, dict[str, Tensor]] = {part: {} for part in ("network", "average", "best", "optimizer", "balancer")}
    for name, tensor in tensors.items():
        part, rest = name.split(".", 1)
        by_part[part][rest] = tensor
    state.network.load_state_dict(by_part["network"])
    state.average.load_state_dict(by_part["average"])
    state.best = by_part["best"]
    parameters = _optimized(state)
    for name, tensor in by_part["optimizer"].items():
        index, key = name.split(".")
        parameter = parameters[int(index)]
        moved = tensor
        if tensor.ndim:  # laid out in memory as the parameter is, as the optimizer would have made it
            moved = torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(tensor)
        state.optimizer.state[parameter][key] = moved
    state.balancer.load_state_dict({**by_part["balancer"], **numbers})


def _optimized(state: TrainingState) -> list[torch.nn.Parameter]:
    return [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
