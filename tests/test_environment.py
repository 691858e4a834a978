"""The pinned pair of torch and torchvision imports, trains one step and infers: a mismatched pair fails here first."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
torch = pytest.importorskip("torch", reason="torch absent: install storyxai[teach]")


def _pinned(name: str) -> str:
    found = re.search(rf"^{name}==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, f"constraints.txt does not pin {name}"
    return found[1]


def test_what_is_installed_is_what_constraints_pin() -> None:
    for name in ("torch", "torchvision", "timm", "onnxruntime", "numpy"):
        assert metadata.version(name).split("+")[0] == _pinned(name), name


def test_torchvision_has_its_operators() -> None:
    # A torch built for another torchvision imports without complaint and has no nms.
    from torchvision.ops import nms

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    scores = torch.tensor([0.5, 0.9, 0.1])
    # Overlap of the first two is 81 / 100: the weaker one goes at 0.8 and stays at 0.82.
    assert nms(boxes, scores, 0.80).tolist() == [1, 2]
    assert nms(boxes, scores, 0.82).tolist() == [1, 0, 2]


def test_the_student_s_encoder_trains_one_step_and_infers() -> None:
    import timm

    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    try:
        network = timm.create_model("mobilenetv3_small_050", pretrained=False, in_chans=1, num_classes=2)
    finally:
        torch.random.set_rng_state(state)
    images = torch.linspace(-1, 1, 4 * 64 * 64).reshape(4, 1, 64, 64)
    wanted = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(network.train()(images), wanted)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    moved = [not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)]
    assert all(moved), "a parameter got no gradient"
    with torch.inference_mode():
        one, again = network.eval()(images), network(images)
    assert one.shape == (4, 2)
    assert torch.isfinite(one).all()
    assert torch.equal(one, again)


def test_telling_needs_no_torch() -> None:
    # What `tell` imports must not pull in what only teaching needs: that is what keeps a cold start in seconds.
    import subprocess
    import sys

    asked = "import sys, storyxai.cli; print([n for n in ('torch', 'torchvision', 'timm', 'sklearn') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
