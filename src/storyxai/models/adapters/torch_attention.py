"""What needs torch when it is imported: watching attention as it is computed, and a network with its preprocessing."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class Watching(TorchFunctionMode):
    """While it is entered, every self-attention of a network leaves its weights [B, heads, T, T] in `weights`, in order.

    Attention is met where it is computed, as one fused call or as a softmax of square scores, so it needs no knowledge of
    the network's own classes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """The function's own result; what it says of attention is kept."""
        kwargs = dict(kwargs or {})
        if function is functional.multi_head_attention_forward:
            # Inside this function the mode is off, so the weights are asked for.
            asked = kwargs.get("need_weights", True)
            output, weights = function(*args, **kwargs | {"need_weights": True, "average_attn_weights": False})
            assert weights is not None  # it was asked for
            self._keep(weights)
            return output, weights.mean(dim=-3) if asked else None
        result = function(*args, **kwargs)
        if function is functional.scaled_dot_product_attention:
            self._keep(_fused_weights(*args, **kwargs))
        elif function in (functional.softmax, torch.softmax, Tensor.softmax):
            self._keep(result)
        return result

    def _keep(self, weights: Tensor) -> None:
        if weights.ndim == 3:
            weights = weights[None]
        if weights.ndim == 4 and weights.shape[-1] == weights.shape[-2] > 1:
            self.weights.append(weights.detach())


def _fused_weights(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, **_: Any,
) -> Tensor:
    """The weights that fused attention does not give away."""
    with torch._C.DisableTorchFunction():
        scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
        return scores.softmax(dim=-1)


class _Prepared(nn.Module):
    """A network behind its preprocessing, and before what makes logits [B, F] of its answer."""

    def __init__(self, inner: nn.Module, prepare: Callable[[Tensor], Tensor], finish: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self._prepare, self._finish = inner, prepare, finish

    def forward(self, images: Tensor) -> Tensor:
        return self._finish(self.inner(self._prepare(images)))


def as_network(
    module: nn.Module, prepare: Callable[[Tensor], Tensor], finish: Callable[[Tensor], Tensor]
) -> nn.Module:
    """A copy of the network between `prepare` and `finish`, in evaluation mode, no operation in place, as hooks need it."""
    inner = copy.deepcopy(module).eval()
    for part in inner.modules():
        if getattr(part, "inplace", False) is True:
            part.inplace = False  # type: ignore[assignment]
    return _Prepared(inner, prepare, finish).eval()
