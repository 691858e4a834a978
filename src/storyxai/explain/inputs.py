"""What our methods are asked and ask of an image, of a model and of its answers, and the errors where these do not fit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError, UnknownNameError, UnsupportedMethodError
from storyxai.explain.contract import BLANK_SCENE, DEFAULT_BUDGET, Budget, ExplainedModel, Explanation, Look, Scene
from storyxai.types import Array

# A model as perturbation sees it: float32 [B, C, H, W] in [0, 1] -> logits float32 [B, F].
Predict: TypeAlias = Callable[[Array], Array]
ASK_LOGITS_ONLY = "use a method that asks for logits alone: lime, kernel_shap, occlusion, rise"


class Asked(NamedTuple):
    """What a method is asked, once findings and image fit the model. Shapes: pixels [C, H, W]; `columns` of the logits."""

    model: ExplainedModel
    findings: Sequence[str]
    columns: tuple[int, ...]
    pixels: Array
    budget: Budget
    scene: Scene


class OwnMethod(ABC):
    """What our methods share: each answers what it is asked once that is known to fit the model."""

    def explain(
        self,
        model: ExplainedModel,
        image: Array,
        findings: Sequence[str],
        budget: Budget = DEFAULT_BUDGET,
        scene: Scene = BLANK_SCENE,
    ) -> tuple[Explanation, ...]:
        """One explanation per finding, in order, in the model's frame; see `Method`."""
        columns = columns_of(model, findings)
        return self.answer(Asked(model, findings, columns, image_for(model, image), budget, scene))

    @abstractmethod
    def answer(self, asked: Asked) -> tuple[Explanation, ...]: ...


def checked_image(image: NDArray[np.floating]) -> Array:
    """The image as contiguous float32 [C, H, W]; a grey image may leave its channel axis out.

    Raises: InputError unless it is one finite image in [0, 1] of one or three channels.
    """
    pixels = np.ascontiguousarray(image, dtype=np.float32)
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.size == 0 or pixels.shape[0] not in (1, 3):
        raise InputError("image", f"has shape {np.shape(image)}", mend="give one image [C, H, W] of 1 or 3 channels")
    if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
        raise InputError("image", "has values outside [0, 1]", mend="scale the pixels to [0, 1], bright = dense")
    return pixels


def image_for(model: ExplainedModel, image: NDArray[np.floating]) -> Array:
    """The image as contiguous float32 [C, H, W]. Raises: InputError unless the model takes such an image."""
    if np.ndim(image) != 3:
        raise InputError("image", f"has shape {np.shape(image)}", mend=f"give one image [{model.channels}, H, W]")
    pixels = checked_image(image)
    if pixels.shape[0] != model.channels:
        raise InputError("image", f"has {pixels.shape[0]} channels", mend=f"this model takes {model.channels}")
    if model.input_size is not None and pixels.shape[1:] != tuple(model.input_size):
        height, width = model.input_size
        raise InputError("image", f"is {pixels.shape[1]} x {pixels.shape[2]}", mend=f"this model takes {height} x {width}")
    return pixels


def columns_of(model: ExplainedModel, findings: Sequence[str]) -> tuple[int, ...]:
    """The column of each finding in the logits. Raises: UnknownNameError, naming the nearest."""
    for finding in findings:
        if finding not in model.findings:
            raise UnknownNameError("finding", finding, model.findings)
    return tuple(model.findings.index(finding) for finding in findings)


def logits_of(predict: Predict, batch: Array) -> NDArray[np.float64]:
    """The model's logits for one batch, checked. Shapes: [B, C, H, W] -> float64 [B, F].

    Raises: InputError when the answer is not one row of finite numbers per image.
    """
    answer = np.asarray(predict(batch))
    if answer.ndim != 2 or answer.shape[0] != batch.shape[0] or answer.shape[1] == 0:
        raise InputError(
            "predict", f"returned shape {answer.shape} for {batch.shape[0]} images", mend="return logits [B, F]"
        )
    logits = answer.astype(np.float64)
    if not np.isfinite(logits).all():
        raise InputError("predict", "returned logits that are not finite", mend="check the model for overflow or nan")
    return logits


def look_into(
    model: ExplainedModel, image: Array, columns: Sequence[int], *, method: str, needs: frozenset[str]
) -> Look:
    """The model's inside on one image. Raises: UnsupportedMethodError where it cannot give what the method needs."""
    look = model.look(image, columns)
    if look is None:
        mend = f"{ASK_LOGITS_ONLY}; or, of a TorchModel, name a layer that gives a grid with layer="
        raise UnsupportedMethodError(method, "this model cannot be looked into", mend=mend)
    if "gradients" in needs and look.gradients is None:
        raise UnsupportedMethodError(method, "this model gives no gradients of its features", mend=ASK_LOGITS_ONLY)
    if "cells" in needs and look.cells is None:
        raise UnsupportedMethodError(method, "this model's head does not judge the cells of a grid", mend="use grad_cam")
    return look


def pixel_gradients(model: ExplainedModel, images: Array, columns: Sequence[int], *, method: str) -> Array:
    """The gradients by the pixels, [B, T, C, H, W]. Raises: UnsupportedMethodError where the model gives none."""
    gradients = model.input_gradients(images, columns)
    if gradients is None:
        raise UnsupportedMethodError(method, "this model gives no gradients by its pixels", mend=ASK_LOGITS_ONLY)
    if not np.isfinite(gradients).all():
        raise InputError("gradients", "are not finite", mend="check the model for overflow or nan")
    return gradients
