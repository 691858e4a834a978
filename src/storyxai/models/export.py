"""A trained student as files: safetensors for the weights, ONNX graphs for telling without torch, hashes for both."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from storyxai.errors import EvidenceError, WeightsError
from storyxai.models.network import Network, NetworkSpec
from storyxai.models.runtime import GRAPHS, HEADS, open_graph
from storyxai.provenance import sha256_file

__all__ = ["as_session", "export_student", "load_network", "save_network"]

LARGEST_DIFFERENCE = 1e-3
"""Largest difference of an exported graph's answers from the network's."""


class _Look(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        said = self.network(images)
        masks = None if said.masks is None else torch.sigmoid(said.masks)
        return tuple(head for head in (said.features, said.grid, said.logits, masks, said.memory) if head is not None)


class _Answers(nn.Module):
    """What the heads of any network answer about images: a teacher's single head, a student's three."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        said = self.network(images)
        return tuple(head for head in (said.logits, said.masks, said.memory) if head is not None)


class _Words(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.decoder = network.decoder

    def forward(self, words: Tensor, memory: Tensor) -> Tensor:
        return torch.log_softmax(self.decoder(words, memory), dim=2)


def save_network(network: Network, path: Path) -> None:
    """Write the weights of any network as safetensors, its specification in the file's metadata."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, path, metadata={"spec": json.dumps(network.spec.as_dict())})


def load_network(path: Path) -> Network:
    """The network that `save_network` wrote. Raises: WeightsError when the file is missing or does not fit."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
        network = Network(NetworkSpec.from_dict(json.loads(metadata["spec"])))
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(str(path), f"cannot be loaded ({reason})", mend="train it again or copy it whole") from error
    return network.eval()


def export_student(network: Network, folder: Path) -> dict[str, str]:
    """Write student.safetensors and the ONNX graphs into `folder`; returns file name -> SHA-256.

    A student that was not taught to write reports has no graph of words.
    Raises: EvidenceError when a graph does not answer as the network does (largest difference over 1e-3).
    """
    from onnx.utils import extract_model

    network = network.to(memory_format=torch.contiguous_format).eval()
    save_network(network, folder / "student.safetensors")
    spec = network.spec
    images = torch.rand(2, spec.channels, spec.size, spec.size, generator=torch.Generator().manual_seed(0))
    outputs = ["features", "grid", "logits", *(name for task, name in HEADS.items() if task in spec.tasks)]
    _export(_Look(network), (images,), folder / GRAPHS["look"], ["images"], outputs, {"images": {0: "batch"}})
    # The part of that graph which the finding logits need: LIME asks for nothing else, a thousand times.
    extract_model(str(folder / GRAPHS["look"]), str(folder / GRAPHS["findings"]), ["images"], ["logits"])
    _check_look(network, images, folder)
    written = ["look", "findings"]
    if "report" in spec.tasks:
        _export_words(network, images, folder / GRAPHS["words"])
        written.append("words")
    return {name: sha256_file(folder / name) for name in ("student.safetensors", *(GRAPHS[key] for key in written))}


def _check_look(network: Network, images: Tensor, folder: Path) -> None:
    with torch.inference_mode():
        expected = network(images)
    said = open_graph(folder / GRAPHS["look"]).run(None, {"images": images.numpy()})
    alone = open_graph(folder / GRAPHS["findings"]).run(None, {"images": images.numpy()})
    names = ("features", "grid", "logits", "logits alone")
    answers = (expected.features, expected.grid, expected.logits, expected.logits)
    for name, theirs, ours in zip(names, (*said[:3], *alone), answers, strict=True):
        worst = float(np.abs(theirs - ours.numpy()).max())
        if worst > LARGEST_DIFFERENCE:
            raise EvidenceError(f"the exported graph's {name} differ from the network's by {worst:.2g}")


def _export_words(network: Network, images: Tensor, path: Path) -> None:
    with torch.inference_mode():
        memory = network(images).memory[:1].clone()
    example = torch.ones(1, 5, dtype=torch.int64)
    _export(_Words(network), (example, memory), path, ["words", "memory"], ["log_probabilities"],
            {"words": {1: "length"}, "memory": {}})
    for length in (1, network.spec.max_tokens - 1):
        text = torch.ones(1, length, dtype=torch.int64)
        with torch.inference_mode():
            wanted = torch.log_softmax(network.decoder(text, memory), dim=2).numpy()
        got = open_graph(path).run(None, {"words": text.numpy(), "memory": memory.numpy()})[0]
        if float(np.abs(got - wanted).max()) > LARGEST_DIFFERENCE:
            raise EvidenceError(f"the exported decoder differs from the network's at length {length}")


def as_session(network: Network) -> Any:
    """`network` as an onnxruntime session, one float32 input "images" [B, C, S, S]: the form in which students run."""
    network = network.to(memory_format=torch.contiguous_format).eval()
    images = torch.zeros(2, network.spec.channels, network.spec.size, network.spec.size)
    heads = ["logits"] * (network.spec.tasks != ("masks",)) + ["masks"] * ("masks" in network.spec.tasks)
    heads += ["memory"] * ("report" in network.spec.tasks)
    with tempfile.TemporaryDirectory(prefix="storyxai-") as folder:
        path = Path(folder) / "network.onnx"
        _export(_Answers(network), (images,), path, ["images"], heads, {"images": {0: "batch"}})
        return open_graph(path)


def _export(
    module: nn.Module, inputs: tuple[Tensor, ...], path: Path, names: list[str], outputs: list[str],
    dynamic: dict[str, dict[int, str]],
) -> None:
    shapes = {name: {axis: torch.export.Dim(label) for axis, label in axes.items()} for name, axes in dynamic.items()}
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module.eval(), inputs, str(path), input_names=names, output_names=outputs, dynamo=True,
                dynamic_shapes=tuple(shapes[name] for name in names), external_data=False, verbose=False,
            )
    finally:
        quiet.setLevel(level)
    _forget_where(path)


def _forget_where(path: Path) -> None:
    """Take out what torch notes of the source lines behind each node: it holds paths of the machine that exported."""
    import onnx

    model = onnx.load(str(path))
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer,
                 *model.graph.input, *model.graph.output, *model.functions, *(n for f in model.functions for n in f.node)):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, str(path))
