"""How several tasks share one network: fixed weights, learnt weights, or gradients brought to agree.

Every balancer takes the tasks' losses and leaves gradients in `.grad`, added to what is there, as `backward` does.
With processes side by side only "fixed", "dwa" and "uncertainty" pass through the hooks of a wrapped network; after the
others the caller averages `.grad` over the processes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from storyxai.errors import OutputError, RecipeError, UnknownNameError

Weighting: TypeAlias = Callable[[Tensor], Tensor]
GRADIENT_BALANCES = ("upgrad", "pcgrad", "mgda", "dualproj", "imtl-g", "aligned-mtl", "cagrad")
BALANCES = (
    "fixed", "uncertainty", "dwa", *GRADIENT_BALANCES, *(f"{name}-features" for name in GRADIENT_BALANCES),
)  # fmt: skip
SHARED_PARTS = {"encoder", "from_32", "from_16", "fuse_16"}
DWA_TEMPERATURE = 2.0
CAGRAD_RADIUS = 0.5


class Balancer:
    """The weighted sum of the losses with weights that stay as given; the other balancers change one step of it."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)

    def backward(self, losses: Mapping[str, Tensor], network: nn.Module, features: Tensor) -> dict[str, float]:
        """The factor each loss was given; the gradients are in `.grad` of the parameters that the losses reach.

        Shapes: each loss a scalar; `features` [B, K, h, w] is what the heads read. A task that has no weight is refused.
        Raises: RecipeError.
        """
        used = self._factors(losses)
        total = sum((used[task] * loss for task, loss in losses.items()), torch.zeros(()))
        total.backward()  # type: ignore[no-untyped-call]
        return used

    def end_epoch(self, means: Mapping[str, float]) -> None:
        """Takes note of each task's mean loss over the epoch that has ended."""

    def parameters(self) -> list[nn.Parameter]:
        """What is learnt beside the network; to be given to the optimizer without weight decay."""
        return []

    def state_dict(self) -> dict[str, Tensor | float]:
        """All that is needed to go on after a break: tensors and numbers by name."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor | float]) -> None:
        """Puts back what `state_dict` gave."""

    def _factors(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        for task in losses:
            if task not in self.weights:
                raise RecipeError(f"task '{task}'", "has no weight", mend=f"weigh it beside {', '.join(self.weights)}")
        return {task: self.weights[task] for task in losses}


class _Uncertainty(Balancer):
    """Sum of w (exp(-s) L + s) with a learnt s per task: at rest s = ln L, so that every task pulls alike.

    Source: Kendall, Gal, Cipolla, CVPR 2018, with s for the logarithm of the variance and no factor 1/2. The recipe's
    weight stands before both terms, so it says what a task is worth and leaves the place of rest alone.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(weights)
        self.spread = nn.Parameter(torch.zeros(len(self.weights)))

    def backward(self, losses: Mapping[str, Tensor], network: nn.Module, features: Tensor) -> dict[str, float]:
        given = self._factors(losses)
        places = {task: self.spread[list(self.weights).index(task)] for task in losses}
        total = torch.zeros(())
        for task, loss in losses.items():
            total = total + given[task] * torch.exp(-places[task]) * loss
            if float(loss.detach()) != 0.0:  # a batch that knows nothing of a task says nothing about its spread
                total = total + given[task] * places[task]
        total.backward()  # type: ignore[no-untyped-call]
        return {task: given[task] * float(torch.exp(-places[task].detach())) for task in losses}

    def parameters(self) -> list[nn.Parameter]:
        return [self.spread]

    def state_dict(self) -> dict[str, Tensor | float]:
        return {"spread": self.spread.detach().clone()}

    def load_state_dict(self, state: Mapping[str, Tensor | float]) -> None:
        with torch.no_grad():
            self.spread.copy_(torch.as_tensor(state["spread"]))


class _DynamicAverage(Balancer):
    """Weights that grow for tasks whose loss falls slowly: T softmax(r / 2), r = last epoch's mean over the one before.

    Source: Liu, Johns, Davison, CVPR 2019, equation 7; the first two epochs weigh as the recipe says.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(weights)
        self.last: dict[str, float] = {}
        self.before: dict[str, float] = {}

    def end_epoch(self, means: Mapping[str, float]) -> None:
        self.before, self.last = self.last, dict(means)

    def state_dict(self) -> dict[str, Tensor | float]:
        kept: dict[str, Tensor | float] = {f"last.{task}": value for task, value in self.last.items()}
        return kept | {f"before.{task}": value for task, value in self.before.items()}

    def load_state_dict(self, state: Mapping[str, Tensor | float]) -> None:
        self.last = {name.removeprefix("last."): float(v) for name, v in state.items() if name.startswith("last.")}
        self.before = {name.removeprefix("before."): float(v) for name, v in state.items() if name.startswith("before.")}

    def _factors(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        given = super()._factors(losses)
        ratios = [self.last[task] / self.before[task] if self.before.get(task) and task in self.last else 1.0 for task in given]
        shares = torch.softmax(torch.tensor(ratios, dtype=torch.float64) / DWA_TEMPERATURE, dim=0) * len(ratios)
        return {task: weight * float(share) for (task, weight), share in zip(given.items(), shares, strict=True)}


class _Aggregated(Balancer):
    """The tasks' gradients on the shared part brought to agree by torchjd; each head keeps its own task's gradient.

    Shared are the parameters that two tasks or more reach. The mask head reads the encoder past `features`, so the
    shared gradients are taken on the parameters themselves: one backward pass a task. With `on_features` the agreement
    is sought on `features` instead and one backward pass of the losses with those factors follows: cheaper, but blind to
    what goes past them, and the heads are scaled too.
    """

    def __init__(
        self, weights: Mapping[str, float], weighting: Callable[[int], Weighting], *, on_features: bool, seed: int
    ) -> None:
        super().__init__(weights)
        self.weighting, self.on_features, self.seed, self.step = weighting, on_features, seed, 0

    def backward(self, losses: Mapping[str, Tensor], network: nn.Module, features: Tensor) -> dict[str, float]:
        given = self._factors(losses)
        scaled = [given[task] * loss for task, loss in losses.items()]
        if self.on_features:
            rows = torch.stack([_flat(_gradients(loss, [features]), [features]) for loss in scaled])
            factors = self._agreement(rows)
            summed = torch.stack(scaled)
            (summed * factors.to(summed)).sum().backward()  # type: ignore[no-untyped-call]
        else:
            parameters = [p for p in network.parameters() if p.requires_grad]
            by_task = [_gradients(loss, parameters) for loss in scaled]
            reached = [sum(task[i] is not None for task in by_task) for i in range(len(parameters))]
            shared = [i for i, count in enumerate(reached) if count > 1]
            kept = [parameters[i] for i in shared]
            factors = self._agreement(torch.stack([_flat([task[i] for i in shared], kept) for task in by_task]))
            for i, parameter in enumerate(parameters):
                for factor, task in zip(factors.tolist(), by_task, strict=True):
                    gradient = task[i]
                    if gradient is not None:
                        moved = gradient * factor if reached[i] > 1 else gradient
                        parameter.grad = moved if parameter.grad is None else parameter.grad + moved
        return {task: weight * float(factor) for (task, weight), factor in zip(given.items(), factors, strict=True)}

    def state_dict(self) -> dict[str, Tensor | float]:
        return {"step": float(self.step)}

    def load_state_dict(self, state: Mapping[str, Tensor | float]) -> None:
        self.step = int(state["step"])

    def _agreement(self, rows: Tensor) -> Tensor:
        """One factor a task from the rows' inner products; a task without any gradient here has no say and factor 1."""
        products = (rows.double() @ rows.double().T).cpu()
        speaking = products.diagonal() > 0
        factors = torch.ones(len(rows), dtype=torch.float64)
        if int(speaking.sum()) > 1:
            # PCGrad draws the order of projection: from our own seed and step, so that a resumed run draws the same.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed * 1_000_003 + self.step)
                # torchjd takes small products for zero; the weights do not depend on the common scale.
                even = products[speaking][:, speaking] / products.diagonal().max()
                factors[speaking] = self.weighting(int(speaking.sum()))(even)
        self.step += 1
        return factors


def make_balancer(name: str, weights: Mapping[str, float], *, seed: int = 0) -> Balancer:
    """The balancer called `name` (one of BALANCES) for the tasks in `weights`, which are factors of their losses.

    Raises: UnknownNameError naming the nearest; RecipeError when torchjd, or what it needs, is not installed.
    """
    if name not in BALANCES:
        raise RecipeError(f"balance '{name}'", "is not known", mend=str(UnknownNameError("balance", name, BALANCES)))
    if name == "fixed":
        return Balancer(weights)
    if name == "uncertainty":
        return _Uncertainty(weights)
    if name == "dwa":
        return _DynamicAverage(weights)
    method = name.removesuffix("-features")
    return _Aggregated(weights, _weighting(method), on_features=name != method, seed=seed)


def gradient_conflict(losses: Mapping[str, Tensor], shared_parameters: Sequence[Tensor]) -> Tensor:
    """Cosines between the tasks' gradients on the shared parameters [T, T]; below 0 two tasks pull apart.

    The graph is kept and no `.grad` is touched. A task without any gradient has cosine nan with all, itself too.
    """
    shared = list(shared_parameters)
    rows = torch.stack([_flat(_gradients(loss, shared), shared) for loss in losses.values()])
    norms = rows.norm(dim=1, keepdim=True)
    directions = rows / norms.masked_fill(norms == 0, torch.nan)
    cosines: Tensor = (directions @ directions.T).clamp(-1.0, 1.0)
    return cosines


def shared_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The parameters of a `Network` that all heads stand on: encoder and top-down neck."""
    return [p for name, p in network.named_parameters() if name.split(".")[0] in SHARED_PARTS]


def conflict_row(losses: Mapping[str, Tensor], shared: Sequence[Tensor]) -> dict[str, float]:
    """`gradient_conflict` as columns for a log, one for each pair: {"conflict_findings_masks": cosine, ...}."""
    cosines, tasks = gradient_conflict(losses, shared).tolist(), list(losses)
    pairs = [(i, j) for i in range(len(tasks)) for j in range(i + 1, len(tasks))]
    return {f"conflict_{tasks[i]}_{tasks[j]}": cosines[i][j] for i, j in pairs}


def conflict_plot(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Nothing; a picture at `path` of every "conflict_..." column over the rows of `history`, gaps where one is missing.

    Raises: OutputError when the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    columns = list(dict.fromkeys(name for row in history for name in row if name.startswith("conflict_")))
    for column, marker in zip(columns, itertools.cycle("os^Dvx")):
        cosines = [row.get(column, float("nan")) for row in history]
        label = column.removeprefix("conflict_").replace("_", " and ")
        axes.plot(range(1, len(history) + 1), cosines, marker=marker, markersize=4, label=label)
    axes.axhspan(-1, 0, color="tab:red", alpha=0.08)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel="epoch", ylabel="cosine of the gradients", ylim=(-1, 1), title="Below zero, two tasks pull apart")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if columns:
        axes.legend(fontsize=8)
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise OutputError(str(path), f"cannot be written ({error.strerror})", mend="name a writable folder") from error


def _weighting(method: str) -> Callable[[int], Weighting]:
    """The factory of torchjd's weights for a number of tasks, scaled so that tasks in agreement are simply added."""
    try:
        from torchjd import aggregation as known
        from torchjd.linalg import QuadprogProjector
    except ImportError as error:
        raise RecipeError(f"balance '{method}'", "needs torchjd", mend='pip install "storyxai[teach]"') from error

    def exact() -> object:  # products come in float64, so a thousandth of torchjd's own slack is enough
        return QuadprogProjector(norm_eps=0.0, reg_eps=1e-7)

    made: dict[str, Callable[[int], Weighting]] = {
        "upgrad": lambda count: known.UPGradWeighting(_ones(count), projector=exact()),
        "dualproj": lambda count: known.DualProjWeighting(_ones(count), projector=exact()),
        "aligned-mtl": lambda count: known.AlignedMTLWeighting(_ones(count)),
        "pcgrad": lambda count: known.PCGradWeighting(),
        "mgda": lambda count: _times(count, known.MGDAWeighting(max_iters=1000)),
        "imtl-g": lambda count: _times(count, known.IMTLGWeighting()),
        "cagrad": lambda count: _times(count, known.CAGradWeighting(c=CAGRAD_RADIUS)),
    }
    try:
        made[method](2)
    except ImportError as error:
        extra = 'pip install "torchjd[cagrad]"' if method == "cagrad" else 'pip install "storyxai[teach]"'
        raise RecipeError(f"balance '{method}'", f"lacks a package ({error})", mend=extra) from error
    return made[method]


def _ones(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.float64)


def _times(count: int, weighting: Weighting) -> Weighting:
    return lambda products: count * weighting(products)


def _gradients(loss: Tensor, wanted: Sequence[Tensor]) -> list[Tensor | None]:
    if not loss.requires_grad:
        return [None] * len(wanted)
    return list[Tensor | None](torch.autograd.grad(loss, list(wanted), retain_graph=True, allow_unused=True))


def _flat(gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
    """The gradients as one row, zero where the loss does not reach."""
    parts = [torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in zip(gradients, like, strict=True)]
    return torch.cat(parts) if parts else torch.zeros(0)
