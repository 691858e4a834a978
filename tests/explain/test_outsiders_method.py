"""A method in another's package: one file and its entry point, none of ours changed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from storyxai.evidence.gather import GatherSettings, gather
from storyxai.explain.registry import known_methods, method_named
from storyxai.models.adapters.function import FunctionModel
from storyxai.testing import check_method
from storyxai.types import Image

SOURCE = '''
from dataclasses import dataclass

import numpy as np

from storyxai.explain.contract import BLANK_SCENE, DEFAULT_BUDGET, Explanation
from storyxai.explain.inputs import columns_of, image_for, logits_of


@dataclass(frozen=True)
class Halves:
    """Which half of the image moves the logit when it is blackened."""

    key: str = "halves"
    name: str = "halves"
    needs: frozenset = frozenset()
    checks: tuple = ("not_empty", "repeatable")

    def explain(self, model, image, findings, budget=DEFAULT_BUDGET, scene=BLANK_SCENE):
        columns, pixels = columns_of(model, findings), image_for(model, image)
        half = pixels.shape[2] // 2
        left, right = pixels.copy(), pixels.copy()
        left[..., :half], right[..., half:] = 0, 0
        whole, *hidden = logits_of(model.logits, np.stack([pixels, left, right]))
        return tuple(
            Explanation(f, self.key, np.array([[(whole - h)[c] for h in hidden]], dtype=np.float32), "logit lost")
            for f, c in zip(findings, columns)
        )
'''


def test_an_outsiders_method_is_found_held_to_the_contract_and_gathered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_halves.py").write_text(SOURCE, encoding="utf-8")
    about = tmp_path / "their_halves-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-halves\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[storyxai.methods]\nhalves = their_halves:Halves\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "their_halves", raising=False)
    assert "halves" in known_methods()

    def answer(x: np.ndarray) -> np.ndarray:
        return np.stack([x[:, 0, :, :32].mean(axis=(1, 2)), x[:, 0].mean(axis=(1, 2))], axis=1)

    model = FunctionModel(answer, ("left", "all"), size=(64, 64), probabilities=False)
    noise = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    check_method(method_named("halves"), model, noise[None])
    evidence = gather(model, Image(noise, "0" * 64, "noise"), methods=["halves"])
    maps = {heatmap.finding: heatmap for heatmap in evidence.heatmaps if heatmap.method == "halves"}
    assert maps["left"].values[:, :20].mean() > 0.1 and abs(maps["left"].values[:, -10:].mean()) < 1e-6


def test_methods_that_need_the_network_or_its_attention_are_gathered_too() -> None:
    torch_networks = pytest.importorskip("torch_networks")
    from storyxai.models.adapters.torch_model import TorchModel

    noise = np.random.default_rng(1).random((16, 16), dtype=np.float32)
    net = torch_networks.seeded(torch_networks.Tokens(channels=1))
    model = TorchModel(net, None, torch_networks.FINDINGS, size=16)
    asked = ["grad_cam", "input_x_gradient", "attention_rollout"]
    found = gather(model, Image(noise, "0" * 64, "noise"), methods=asked, settings=GatherSettings(force=True))
    assert set(asked) <= {heatmap.method for heatmap in found.heatmaps}
