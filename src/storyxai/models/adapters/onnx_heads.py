"""The end of an ONNX graph: which tensor holds the logits, and whether they are one linear layer on pooled features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import NodeProto

SAME_NUMBERS = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast"})
"""Steps behind pooling and behind the linear layer that leave the numbers as they are."""
SQUASHES = ("Sigmoid", "Softmax", "LogSoftmax")
"""Steps that make probabilities, or their logarithms, of logits."""


@dataclass(frozen=True, eq=False)
class PooledHead:
    """The names of the tensors of logits and of features [B, K, h, w]; weights [F, K] of the layer on the pooled features.

    `features` and `weights` are None where the head is another one. `softmax`: the graph goes on with one over the logits.
    `sure`: these are logits, since such a step follows or a linear layer makes them.
    """

    logits: str
    features: str | None = None
    weights: NDArray[np.float32] | None = None
    softmax: bool = False
    sure: bool = False


def pooled_head(path: Path) -> PooledHead | None:
    """The head of the graph; None where the package onnx, which reads graphs, is not installed."""
    try:
        import onnx
    except ImportError:
        return None
    graph = onnx.load(str(path)).graph
    makers = {name: node for node in graph.node for name in node.output}
    constants = _constants(graph)
    logits, squash = _before_squash(graph.output[0].name, makers)
    linear = _linear(_unshaped(logits, makers), makers, constants)
    features = None if linear is None else _pooled_from(linear[0], makers, constants)
    weights = None if linear is None or features is None else linear[1]
    return PooledHead(logits, features, weights, squash.endswith("Softmax"), bool(squash) or linear is not None)


def _before_squash(name: str, makers: Mapping[str, NodeProto]) -> tuple[str, str]:
    """The tensor before the graph's last Sigmoid, Softmax or LogSoftmax, and which of these it is; else `name`, and ""."""
    last = makers.get(_unshaped(name, makers, SAME_NUMBERS | {"Clip"}))
    if last is None or last.op_type not in SQUASHES:
        return name, ""
    axis = next((part.i for part in last.attribute if part.name == "axis"), -1)
    # One over the images is no softmax over findings.
    return (last.input[0], last.op_type) if axis in (1, -1) else (name, "")


def _unshaped(name: str, makers: Mapping[str, NodeProto], steps: frozenset[str] = SAME_NUMBERS) -> str:
    """The tensor whose numbers `name` holds, behind none of `steps`."""
    while (node := makers.get(name)) is not None and node.op_type in steps:
        name = node.input[0]
    return name


def one_against_others(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The log-odds of each finding against all others [B, F], whose sigmoid is the softmax of `logits` [B, F]."""
    if logits.shape[1] == 1:
        return logits
    values = logits.astype(np.float64)
    others = np.broadcast_to(values[:, None], (*values.shape, values.shape[1])).copy()
    others[:, np.arange(values.shape[1]), np.arange(values.shape[1])] = -np.inf
    top = others.max(axis=2)
    return np.asarray(values - top - np.log(np.exp(others - top[:, :, None]).sum(axis=2)), dtype=np.float32)


def slopes_against_others(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The derivative [F, F] of each finding's log-odds against all others (rows) by each of one image's logits [F]."""
    count = len(logits)
    if count == 1:
        return np.ones((1, 1), dtype=np.float32)
    values = np.broadcast_to(logits.astype(np.float64), (count, count)).copy()
    np.fill_diagonal(values, -np.inf)
    shares = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(np.eye(count) - shares / shares.sum(axis=1, keepdims=True), dtype=np.float32)


def with_output(path: Path, names: Sequence[str]) -> bytes:
    """The graph as bytes, the tensors called `names` among its outputs."""
    import onnx

    model = onnx.load(str(path))
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    written: bytes = model.SerializeToString()
    return written


def _constants(graph: Any) -> dict[str, NDArray[Any]]:
    from onnx import numpy_helper

    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], part.t) for part in node.attribute if part.name == "value")
    return {name: numpy_helper.to_array(tensor) for name, tensor in found.items()}


def _linear(
    name: str, makers: Mapping[str, NodeProto], constants: Mapping[str, NDArray[Any]]
) -> tuple[str, NDArray[np.float32]] | None:
    """The input of the linear layer that gives `name`, and its weight [F, K]."""
    node = makers.get(name)
    if node is not None and node.op_type == "Add":
        sides = [side for side in node.input if side not in constants]
        node = makers.get(sides[0]) if len(sides) == 1 else None
    if node is None or node.op_type not in ("Gemm", "MatMul") or node.input[1] not in constants:
        return None
    options = {part.name: part for part in node.attribute}
    weight = constants[node.input[1]]
    if weight.ndim != 2 or (node.op_type == "Gemm" and options.get("transA") is not None and options["transA"].i):
        return None
    transposed = "transB" in options and bool(options["transB"].i)
    scale = options["alpha"].f if "alpha" in options else 1.0
    return node.input[0], ((weight if transposed else weight.T) * scale).astype(np.float32)


def _pooled_from(name: str, makers: Mapping[str, NodeProto], constants: Mapping[str, NDArray[Any]]) -> str | None:
    """The tensor whose mean over the cells is `name`, up to its shape."""
    node = makers.get(_unshaped(name, makers))
    if node is None:
        return None
    if node.op_type == "GlobalAveragePool" or (node.op_type == "ReduceMean" and _over_cells(node, constants)):
        return str(node.input[0])
    return None


def _over_cells(node: Any, constants: Mapping[str, NDArray[Any]]) -> bool:
    """Does a ReduceMean go over height and width?"""
    axes = next((list(part.ints) for part in node.attribute if part.name == "axes"), None)
    if axes is None and len(node.input) > 1 and node.input[1] in constants:
        axes = constants[node.input[1]].tolist()
    return axes is not None and sorted(axis % 4 for axis in axes) == [2, 3]
