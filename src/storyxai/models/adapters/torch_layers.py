"""Layers of a torch network: found by name or by looking, and their outputs as features on a grid.

A layer's output is one of: channels first [B, K, h, w]; channels last [B, h, w, K], as Swin has it; tokens [B, T, K], whose
last h * w are the cells of a grid row by row and whose first ones (class token, registers) belong to no cell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from storyxai.errors import InputError, nearest_name

if TYPE_CHECKING:
    import torch
    from torch import nn

MOST_PREFIX_TOKENS = 16
ASPECT_TOLERANCE = 0.2
"""How far a grid's height / width may lie from the image's, relative: grids round, tokens of other meaning do not fit."""


class Grid(NamedTuple):
    """How a layer's output lies on a grid of h x w cells."""

    kind: Literal["channels first", "channels last", "tokens"]
    height: int
    width: int

    def to_maps(self, output: torch.Tensor) -> torch.Tensor:
        """The output, without its batch axis, as maps [K, h, w]."""
        if self.kind == "channels first":
            return output
        if self.kind == "channels last":
            return output.permute(2, 0, 1)
        cells = output[-self.height * self.width :]
        return cells.T.reshape(cells.shape[1], self.height, self.width)


def grid_of(shape: tuple[int, ...], image: tuple[int, int]) -> Grid | None:
    """How an output of this shape lies on an image of height and width `image`; None where it does not, or is one cell."""
    if len(shape) == 4:
        kinds: tuple[tuple[Literal["channels first", "channels last"], int, int], ...]
        kinds = (("channels first", shape[2], shape[3]), ("channels last", shape[1], shape[2]))
        grids = [Grid(*kind) for kind in kinds]
        best = min(grids, key=lambda grid: _misfit(grid.height, grid.width, image))
    elif len(shape) == 3:
        found = _token_grid(shape[1], image)
        if found is None:
            return None
        best = Grid("tokens", *found)
    else:
        return None
    fits = _misfit(best.height, best.width, image) <= ASPECT_TOLERANCE
    return best if fits and best.height * best.width > 1 else None


def layer_named(module: nn.Module, layer: nn.Module | str) -> tuple[str, nn.Module]:
    """The layer and its dotted name. Raises: InputError where the network has none such, naming the nearest."""
    named = {name: part for name, part in module.named_modules() if name}
    if isinstance(layer, str):
        if layer in named:
            return layer, named[layer]
        nearest = nearest_name(layer, named)
        mend = f"did you mean '{nearest}'?" if nearest else f"it begins with {', '.join(list(named)[:5])}"
        raise InputError(f"layer '{layer}'", "the network has none of this name", mend=mend)
    for name, part in named.items():
        if part is layer:
            return name, part
    last = list(named)[-1] if named else ""
    raise InputError("layer", f"a {type(layer).__name__} that is no part of the network", mend=f"choose one, such as '{last}'")


def find_layer(module: nn.Module, run: Callable[[], torch.Tensor], image: tuple[int, int]) -> str:
    """The name of the last layer whose output lies on a grid and moves the logits that `run` gives.

    In a transformer with a class token that is the norm before the last attention: behind it only the class token counts.
    "" where there is none.
    """
    import torch

    outputs: dict[str, list[torch.Tensor]] = {}
    handles = [part.register_forward_hook(_keeper(outputs, name)) for name, part in _candidates(module)]
    try:
        logits = run()
    finally:
        for handle in handles:
            handle.remove()
    if not logits.requires_grad:
        return ""
    # Weighted one by one: the plain sum of a softmax would never move.
    weights = torch.arange(1, logits.shape[1] + 1, device=logits.device, dtype=logits.dtype)
    once = {name: found[0] for name, found in outputs.items() if len(found) == 1 and found[0].requires_grad}
    grids = {name: grid_of(tuple(output.shape), image) for name, output in once.items()}
    names = [name for name, grid in grids.items() if grid is not None and _is_norm_or_map(module, name, grid)]
    moved = torch.autograd.grad((logits * weights).sum(), [once[name] for name in names], allow_unused=True) if names else ()
    for name, gradient in reversed(list(zip(names, moved, strict=True))):
        grid = grids[name]
        if gradient is not None and grid is not None and bool(grid.to_maps(gradient[0]).any()):
            return name
    return ""


def _keeper(outputs: dict[str, list[torch.Tensor]], name: str) -> Callable[..., None]:
    """A hook that keeps what the layer called `name` gives, in the order in which layers finish."""
    import torch

    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            outputs.setdefault(name, []).append(output)

    return keep


def _candidates(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every layer that can be watched but the network itself and the parts of attention, whose heads may look like a grid."""
    import torch

    inside = [name for name, part in module.named_modules() if name and _is_attention(part)]
    return [
        (name, part)
        for name, part in module.named_modules()
        if name and not isinstance(part, torch.jit.ScriptModule)
        and not any(name == other or name.startswith(f"{other}.") for other in inside)
    ]


def _is_attention(part: nn.Module) -> bool:
    kind = type(part).__name__.lower()
    return "attention" in kind or kind.endswith("attn")


def _is_norm_or_map(module: nn.Module, name: str, grid: Grid) -> bool:
    """Of the layers that give tokens only norms count: what stands between is on another scale."""
    return grid.kind != "tokens" or "norm" in type(module.get_submodule(name)).__name__.lower()


def _misfit(height: int, width: int, image: tuple[int, int]) -> float:
    ratio = (height * image[1]) / (width * image[0])
    return max(ratio, 1 / ratio) - 1


def _token_grid(tokens: int, image: tuple[int, int]) -> tuple[int, int] | None:
    """Height and width of the grid that all tokens but the first few fill."""
    for cells in range(tokens, max(1, tokens - MOST_PREFIX_TOKENS - 1), -1):
        height = max(1, round((cells * image[0] / image[1]) ** 0.5))
        if cells % height == 0 and _misfit(height, cells // height, image) <= ASPECT_TOLERANCE / 4:
            return height, cells // height
    return None
