"""Occlusion sensitivity: how far each logit falls while a window of the image is hidden."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from storyxai.errors import InputError
from storyxai.explain.contract import Explanation, explanations
from storyxai.explain.inputs import Asked, OwnMethod, Predict, checked_image, logits_of
from storyxai.explain.perturbation import Fill, fill_for, hidden_image
from storyxai.types import Array, Value


@dataclass(frozen=True)
class Occlusion(OwnMethod):
    """Occlusion sensitivity; the window and its stride are shares of the shorter side; `fill` None: the scene's filling."""

    window_share: float = 0.15
    stride_share: float = 0.05
    fill: Fill | None = None
    key: str = "occlusion"
    name: str = "Occlusion"
    needs: frozenset[str] = frozenset()
    checks: tuple[str, ...] = ("not_empty", "repeatable", "label_specific", "methods_agree")

    def answer(self, asked: Asked) -> tuple[Explanation, ...]:
        """One map in the model's frame per finding; the number of passes is set by window and stride, not the budget."""
        side = min(asked.pixels.shape[1:])
        window, stride = (max(1, round(share * side)) for share in (self.window_share, self.stride_share))
        fill, words = fill_for(self.fill, asked.scene)
        batch, predict = asked.budget.batch, asked.model.logits
        maps = occlusion_map(predict, asked.pixels, window_px=window, stride_px=stride, fill=fill, batch=batch)
        details: dict[str, Value] = {"window_px": window, "stride_px": stride, "fill": words}
        return explanations(self.key, asked.findings, maps[list(asked.columns)], "logit lost when hidden", details)


def occlusion_map(
    predict: Predict, image: Array, *, window_px: int, stride_px: int, fill: Fill = "blur", batch: int = 32
) -> Array:
    """The mean fall of each logit while a square window hides a pixel, float32 [F, H, W], signed, logits.

    Shapes: image [C, H, W], or [H, W] of one channel. Windows start every `stride_px` and a last one touches the far edge,
    so that every pixel is hidden at least once.
    Source: Zeiler & Fergus, ECCV 2014 (occlusion sensitivity), with the fill stated instead of fixed grey.
    """
    pixels = checked_image(image)
    frame = pixels.shape[1:]
    if not 1 <= stride_px <= window_px <= min(frame):
        raise InputError("window", f"{window_px} px every {stride_px} px", mend="need 1 <= stride <= window <= side")
    rows, columns = (sorted({*range(0, side - window_px + 1, stride_px), side - window_px}) for side in frame)
    windows = [np.s_[row : row + window_px, column : column + window_px] for row in rows for column in columns]
    hidden = hidden_image(pixels, fill=fill)
    whole = logits_of(predict, pixels[None])[0]
    falls = np.zeros((len(whole), *frame))
    counts = np.zeros(frame)
    for start in range(0, len(windows), batch):
        part = windows[start : start + batch]
        images = np.repeat(pixels[None], len(part), axis=0)
        for index, window in enumerate(part):
            images[index, :, *window] = hidden[:, *window]
        for window, change in zip(part, whole - logits_of(predict, images), strict=True):
            falls[:, *window] += change[:, None, None]
            counts[window] += 1
    return (falls / counts).astype(np.float32)
