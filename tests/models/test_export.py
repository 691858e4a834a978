"""A network on disk: weights that come back to the bit, graphs that answer as torch does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storyxai.errors import EvidenceError, WeightsError
from storyxai.models import export
from storyxai.models.export import load_network, save_network
from storyxai.models.runtime import GRAPHS, SHIPPED, open_graph
from storyxai.provenance import sha256_file
from teaching_examples import SIZE, VOCABULARY, tiny_network


def pictures(count: int, seed: int = 3) -> torch.Tensor:
    return torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def test_weights_come_back_to_the_bit(tmp_path: Path) -> None:
    network = tiny_network(tasks=("findings",), seed=2)
    save_network(network, tmp_path / "one.safetensors")
    again = load_network(tmp_path / "one.safetensors")
    assert again.spec == network.spec and not again.training
    for (name, ours), (other, theirs) in zip(network.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == other and torch.equal(ours, theirs)
    save_network(again, tmp_path / "two.safetensors")
    assert sha256_file(tmp_path / "one.safetensors") == sha256_file(tmp_path / "two.safetensors")


@pytest.mark.parametrize("content", [None, b"", b"junk" * 100])
def test_weights_that_are_missing_or_junk_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"broken\.safetensors: cannot be loaded") as caught:
        load_network(path)
    assert caught.value.mend


def test_weights_that_are_cut_short_or_lack_their_shape_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_network(tiny_network(tasks=("findings",)), tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    save_file({"a": torch.zeros(2)}, tmp_path / "bare.safetensors")
    for name in ("cut", "bare"):
        with pytest.raises(WeightsError, match=f"{name}.safetensors: cannot be loaded"):
            load_network(tmp_path / f"{name}.safetensors")


def test_the_hashes_are_those_of_the_files(exported: Any) -> None:
    assert set(exported.files) == {"student.safetensors", *GRAPHS.values()}
    for name, digest in exported.files.items():
        assert sha256_file(exported.folder / name) == digest


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_graphs_answer_as_torch_does(exported: Any, count: int) -> None:
    images = pictures(count)
    with torch.inference_mode():
        wanted = exported.network(images)
    said = open_graph(exported.folder / GRAPHS["look"]).run(None, {"images": images.numpy()})
    oracle = (wanted.features, wanted.grid, wanted.logits, torch.sigmoid(wanted.masks), wanted.memory)
    for theirs, ours in zip(said, oracle, strict=True):
        assert theirs.shape == ours.shape
        assert np.abs(theirs - ours.numpy()).max() < 1e-4
    alone = open_graph(exported.folder / GRAPHS["findings"]).run(None, {"images": images.numpy()})[0]
    assert np.abs(alone - wanted.logits.numpy()).max() < 1e-4


@pytest.mark.parametrize("length", [1, 3, 7])
def test_the_word_graph_answers_as_torch_does_at_every_length(exported: Any, length: int) -> None:
    words = torch.randint(1, len(VOCABULARY), (1, length), generator=torch.Generator().manual_seed(length))
    with torch.inference_mode():
        memory = exported.network(pictures(1)).memory
        wanted = torch.log_softmax(exported.network.decoder(words, memory), dim=2)
    feed = {"words": words.numpy(), "memory": memory.numpy()}
    said = open_graph(exported.folder / GRAPHS["words"]).run(None, feed)[0]
    assert np.abs(said - wanted.numpy()).max() < 1e-4
    assert np.exp(said).sum(axis=2) == pytest.approx(np.ones((1, length)), abs=1e-5)


def test_a_graph_that_answers_otherwise_is_not_written_off_as_good(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export's own check, shown graphs of another network: they are put in place instead of exporting again."""

    def other_graph(_module: Any, _inputs: Any, path: Path, *_rest: Any) -> None:
        path.write_bytes((exported.folder / path.name).read_bytes())

    monkeypatch.setattr(export, "_export", other_graph)
    with pytest.raises(EvidenceError, match="exported graph's features differ"):
        export.export_student(tiny_network(seed=5), tmp_path)
    assert export.export_student(exported.network, tmp_path) == exported.files


def test_graphs_hold_no_path_of_the_machine_that_exported_them(exported: Any) -> None:
    for folder in (exported.folder, SHIPPED):
        for name in GRAPHS.values():
            held = (folder / name).read_bytes()
            assert b"stack_trace" not in held and b"models/export.py" not in held
