"""Methods of the library captum as entries of the registry, for models behind which a torch network stands.

captum and torch are imported when a map is asked for. The network that captum hooks is a copy.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from storyxai.errors import UnsupportedMethodError
from storyxai.explain.contract import (
    Explanation,
    TorchBacked,
    explanations,
)
from storyxai.explain.inputs import Asked, OwnMethod
from storyxai.explain.perturbation import fill_for, hidden_image
from storyxai.types import Array, Value


@dataclass(frozen=True)
class CaptumMethod(OwnMethod):
    """A method of captum: its class `kind` is asked, against a baseline or not, with so many `draws` between (0: none)."""

    key: str
    name: str
    kind: str
    unit: str
    from_baseline: bool = False
    draws: int = 0
    needs: frozenset[str] = frozenset({"network"})
    checks: tuple[str, ...] = ("not_empty", "repeatable", "label_specific", "methods_agree")

    def answer(self, asked: Asked) -> tuple[Explanation, ...]:
        """One map in the model's frame per finding, summed over channels; the baseline is the scene's filling or a blur."""
        if not isinstance(asked.model, TorchBacked):
            raise UnsupportedMethodError(self.key, "no torch network stands behind this model", mend="use lime or grad_cam")
        fill, words = fill_for(None, asked.scene)
        maps = self._maps(asked.model, asked.pixels, hidden_image(asked.pixels, fill=fill), asked.columns, asked.budget.seed)
        details: dict[str, Value] = {"library": "captum", "baseline": words, "seed": asked.budget.seed}
        return explanations(self.key, asked.findings, maps, self.unit, details)

    def _maps(self, model: TorchBacked, pixels: Array, behind: Array, columns: Sequence[int], seed: int) -> list[Array]:
        try:
            import captum.attr
            import torch
        except ImportError as error:
            raise UnsupportedMethodError(self.key, "needs the package captum", mend="install captum") from error
        network = model.network()
        first = next(network.parameters(), torch.zeros(1))
        image, start = (torch.tensor(part[None], dtype=first.dtype, device=first.device) for part in (pixels, behind))
        method = getattr(captum.attr, self.kind)(network)
        devices = [first.device] if first.device.type == "cuda" else []
        options: dict[str, object] = {"baselines": start} if self.from_baseline else {}
        options |= {"n_samples": self.draws} if self.draws else {}
        maps = []
        for column in columns:
            with (
                warnings.catch_warnings(),
                torch.inference_mode(False),
                torch.enable_grad(),
                torch.random.fork_rng(devices=devices),
                _numpy_seeded(seed),
            ):
                warnings.simplefilter("ignore")  # that it sets hooks, which go with the copy
                # Each finding from the same seed: none may depend on which others were asked for.
                torch.manual_seed(seed)
                try:
                    found = method.attribute(image.clone().requires_grad_(True), target=column, **options)
                except (AssertionError, RuntimeError, TypeError, AttributeError) as error:
                    reason = (str(error).splitlines() or [type(error).__name__])[0]
                    why = f"captum cannot serve this network ({reason})"
                    raise UnsupportedMethodError(self.key, why, mend="use grad_cam or integrated_gradients") from error
            maps.append(found.detach().double().sum(dim=1)[0].cpu().numpy().astype(np.float32))
        return maps


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """captum also draws from numpy's global generator: seeded here, and given back as it was."""
    state = np.random.get_state()  # noqa: NPY002 - another's choice
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


CAPTUM: tuple[CaptumMethod, ...] = (
    CaptumMethod("input_x_gradient", "input x gradient", "InputXGradient", "logit per pixel"),
    CaptumMethod("deep_lift", "DeepLIFT", "DeepLift", "logit per pixel", from_baseline=True),
    CaptumMethod("gradient_shap", "Gradient SHAP", "GradientShap", "logit per pixel", from_baseline=True, draws=32),
    CaptumMethod("guided_backprop", "guided backpropagation", "GuidedBackprop", "guided gradient"),
    CaptumMethod("deconvolution", "deconvolution", "Deconvolution", "guided gradient"),
    CaptumMethod("lrp", "layer-wise relevance propagation", "LRP", "relevance per pixel"),
)
