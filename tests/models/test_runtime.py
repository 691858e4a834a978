"""A student at work without torch: the same answers as the network it came from, every time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storyxai.errors import WeightsError
from storyxai.models.runtime import load_student, open_graph
from storyxai.models.tokens import END, PAD, START, UNKNOWN
from teaching_examples import FINDINGS, SIZE, VOCABULARY

PICTURE = np.random.default_rng(8).random((SIZE, SIZE), dtype=np.float32)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_and_batches_change_no_bit_of_the_answers(threads: int) -> None:
    student = load_student()
    images = np.random.default_rng(5).random((6, student.channels, student.size, student.size), dtype=np.float32)
    shared = replace(student, threads=threads)
    whole = student.logits(images)
    assert np.array_equal(whole, shared.logits(images))
    assert np.array_equal(whole, np.concatenate([shared.logits(images[:4]), shared.logits(images[4:])]))
    assert np.array_equal(student.answer(images[0]).grid, shared.answer(images[0]).grid)


def test_the_runtime_is_light() -> None:
    heavy = ("torch", "timm", "onnxruntime")
    code = f"import sys, storyxai.models.runtime; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_look_is_one_pass_of_the_network(exported: Any) -> None:
    student = load_student(exported.folder)
    assert student.size == SIZE and student.findings == FINDINGS
    with torch.inference_mode():
        wanted = exported.network(torch.from_numpy(PICTURE)[None, None])
    look = student.answer(PICTURE[None])
    assert look.features.shape == (16, 4, 4) and look.grid.shape == (3, 4, 4) and look.masks.shape == (3, 16, 16)
    for ours, theirs in (
        (look.features, wanted.features[0]), (look.grid, wanted.grid[0]), (look.logits, wanted.logits[0]),
        (look.masks, torch.sigmoid(wanted.masks[0])), (look.memory, wanted.memory),
    ):
        assert np.abs(ours - theirs.numpy()).max() < 1e-4
    assert np.abs(student.logits(PICTURE[None, None])[0] - look.logits).max() < 1e-5
    for many, one in zip(student.answer_all(PICTURE[None, None])[:4], look[:4], strict=True):
        assert np.array_equal(many[0], one)


def test_the_same_image_gives_the_same_bits(exported: Any) -> None:
    one, other = (load_student(exported.folder) for _ in range(2))
    for ours, theirs in zip(one.answer(PICTURE[None]), other.answer(PICTURE[None]), strict=True):
        assert np.array_equal(ours, theirs)
    assert one.write_report(one.answer(PICTURE[None]).memory) == other.write_report(other.answer(PICTURE[None]).memory)


def test_the_head_as_arrays_gives_the_grid_and_the_logits(exported: Any) -> None:
    student = load_student(exported.folder)
    head, look = student.head, student.answer(PICTURE[None])
    mixed = np.einsum("jk,khw->jhw", head["hidden_weight"], look.features) + head["hidden_bias"][:, None, None]
    hidden = np.maximum(mixed, 0)
    grid = np.einsum("fj,jhw->fhw", head["out_weight"], hidden) + head["out_bias"][:, None, None]
    assert np.abs(grid - look.grid).max() < 1e-4
    sharp = head["sharpness"]
    pooled = np.log(np.exp(grid.reshape(3, -1) * sharp[:, None]).mean(axis=1)) / sharp
    assert np.abs(pooled - look.logits).max() < 1e-4


def test_the_report_is_the_greedy_one(exported: Any) -> None:
    student = load_student(exported.folder)
    memory = student.answer(PICTURE[None]).memory
    words, chosen = [START], []
    with torch.inference_mode():
        while len(words) < exported.network.spec.max_tokens - 1 and words[-1] != END:
            logits = exported.network.decoder(torch.tensor([words]), torch.from_numpy(memory))
            scores = torch.log_softmax(logits, 2)[0, -1]
            scores[[PAD, START, UNKNOWN]] = -torch.inf
            words.append(int(scores.argmax()))
            chosen.append(float(scores.max()))
    said, mean = student.write_report(memory)
    assert said == [VOCABULARY[word] for word in words[1:] if word != END]
    assert mean == pytest.approx(np.mean(chosen), abs=1e-4) and mean < 0


def test_a_student_with_an_altered_or_missing_graph_is_not_loaded(exported: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported.folder, tmp_path / "copy"))
    graph = folder / "look.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(WeightsError, match=r"look\.onnx: is not the file that the card vouches for"):
        load_student(folder)
    graph.unlink()
    with pytest.raises(WeightsError, match=r"look\.onnx: is missing"):
        load_student(folder)


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "junk.onnx"
    path.write_bytes(b"junk")
    with pytest.raises(WeightsError, match=r"junk\.onnx: is not a graph"):
        open_graph(path)
    with pytest.raises(WeightsError, match=r"nowhere\.onnx: no such file"):
        open_graph(tmp_path / "nowhere.onnx")
