"""Methods of the library captum as entries of the registry, for models behind which a torch network stands.

captum and torch are imported when a map is asked for. The network that captum hooks is a copy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from storyxai.errors import UnsupportedMethodError
from storyxai.explain.contract import (
    BLANK_SCENE,
    DEFAULT_BUDGET,
    Budget,
    ExplainedModel,
    Explanation,
    Scene,
    TorchBacked,
    explanations,
)
from storyxai.explain.inputs import columns_of, image_for
from storyxai.explain.perturbation import fill_for, hidden_image
from storyxai.types import Array, Value

__all__ = ["CAPTUM", "CaptumMethod"]


@dataclass(frozen=True)
class CaptumMethod:
    """A method of captum; `call` asks captum's class `kind` for one column of the logits."""

    key: str
    name: str
    kind: str
    call: Callable[[Any, Any, Any, int], Any]
    unit: str
    needs: frozenset[str] = frozenset({"network"})
    checks: tuple[str, ...] = ("not_empty", "repeatable", "label_specific", "methods_agree")

    def explain(
        self,
        model: ExplainedModel,
        image: Array,
        findings: Sequence[str],
        budget: Budget = DEFAULT_BUDGET,
        scene: Scene = BLANK_SCENE,
    ) -> tuple[Explanation, ...]:
        """One map in the model's frame per finding, summed over channels; the baseline is the scene's filling or a blur."""
        columns, pixels = columns_of(model, findings), image_for(model, image)
        if not isinstance(model, TorchBacked):
            raise UnsupportedMethodError(self.key, "no torch network stands behind this model", mend="use lime or grad_cam")
        fill, words = fill_for(None, scene)
        maps = self._maps(model, pixels, hidden_image(pixels, fill=fill), columns, budget.seed)
        details: dict[str, Value] = {"library": "captum", "baseline": words, "seed": budget.seed}
        return explanations(self.key, findings, maps, self.unit, details)

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
                    found = self.call(method, image.clone().requires_grad_(True), start, column)
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


def _plain(method: Any, image: Any, start: Any, column: int) -> Any:
    return method.attribute(image, target=column)


def _from_baseline(method: Any, image: Any, start: Any, column: int) -> Any:
    return method.attribute(image, baselines=start, target=column)


def _from_line(method: Any, image: Any, start: Any, column: int) -> Any:
    """Gradient SHAP draws points between baseline and image."""
    return method.attribute(image, baselines=start, target=column, n_samples=32)


CAPTUM: tuple[CaptumMethod, ...] = (
    CaptumMethod("input_x_gradient", "input x gradient", "InputXGradient", _plain, "logit per pixel"),
    CaptumMethod("deep_lift", "DeepLIFT", "DeepLift", _from_baseline, "logit per pixel"),
    CaptumMethod("gradient_shap", "Gradient SHAP", "GradientShap", _from_line, "logit per pixel"),
    CaptumMethod("guided_backprop", "guided backpropagation", "GuidedBackprop", _plain, "guided gradient"),
    CaptumMethod("deconvolution", "deconvolution", "Deconvolution", _plain, "guided gradient"),
    CaptumMethod("lrp", "layer-wise relevance propagation", "LRP", _plain, "relevance per pixel"),
)
