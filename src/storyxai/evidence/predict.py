"""What a model says about one image, calibrated where its card allows, and back in the frame of the original image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError, WeightsError
from storyxai.evidence.boxes import evidence_boxes
from storyxai.explain.cam import product
from storyxai.explain.contract import ExplainedModel, Look, WrittenReport
from storyxai.imaging.distance import GateDistance
from storyxai.imaging.geometry import ModelFrame, model_frame, model_view
from storyxai.modalities.contract import Modality
from storyxai.modalities.masks import largest_piece
from storyxai.models.card import Calibration, ModelCard
from storyxai.types import Array, Box, Finding, Image, Mask, Prediction

__all__ = ["OneLook", "Seen", "calibrated", "card_of", "distance_of", "grid_boxes", "outlines", "predict", "view_of"]

INTERVAL = (5.0, 95.0)
"""Percentiles of the calibration bootstrap that make a probability's 90 % interval."""
UNCALIBRATED_THRESHOLD = 0.5
MOST_GRADIENTS = 64
"""A model of more findings than this is not asked for the gradients of all."""
LARGEST_VIEW = 224
"""A model that takes any size and does not say which it learned from is shown the image with at most this many pixels a side:
what most networks learned from, and a fifth of the work of 512."""


class Seen(NamedTuple):
    """A prediction with what explanations need of the look that made it.

    Shapes: pixels float32 [C, S, S], the model's view; `mask_pixel` is the side of one pixel of the drawn masks in original
    pixels. `gaps` names what the model did not bring (`storyxai.types.GAPS`), `unbacked` the structures whose drawing was
    emptied because no finding that they are shown with reached its threshold.
    """

    prediction: Prediction
    look: Look | None
    frame: ModelFrame
    pixels: Array
    mask_pixel: float
    report_confidence: float | None
    gaps: frozenset[str]
    unbacked: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class OneLook:
    """A model that looks once at the image [C, H, W] it was given, whoever asks and however often."""

    model: ExplainedModel
    image: Array
    heard: Callable[[int], None] | None = None
    _looks: dict[tuple[int, ...] | None, Look | None] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[str, ...]:
        return tuple(self.model.findings)

    @property
    def channels(self) -> int:
        return self.model.channels

    @property
    def input_size(self) -> tuple[int, int] | None:
        return self.model.input_size

    @property
    def model_id(self) -> str:
        return self.model.model_id

    def logits(self, images: Array) -> Array:
        """The model's logits; whoever listens hears of how many images."""
        if self.heard is not None:
            self.heard(len(images))
        return self.model.logits(images)

    def look(self, image: Array, columns: Sequence[int] | None = None) -> Look | None:
        """The model's look, kept; where the gradients of all logits are kept, those of some come from them."""
        if not np.array_equal(image, self.image):
            return self.model.look(image, columns)
        count = len(self.model.findings)
        wanted = None if columns is None or tuple(columns) == tuple(range(count)) else tuple(columns)
        whole = self._looks.get(None)
        if wanted is not None and whole is not None:
            return whole if whole.gradients is None else whole._replace(gradients=whole.gradients[list(wanted)])
        if wanted not in self._looks:
            self._looks[wanted] = self.model.look(image, wanted)
        return self._looks[wanted]

    def input_gradients(self, images: Array, columns: Sequence[int] | None = None) -> Array | None:
        """The model's gradients by the pixels."""
        return self.model.input_gradients(images, columns)

    def structures(self, image: Array) -> Mapping[str, Array] | None:
        """What the model draws."""
        return self.model.structures(image)

    def report(self, image: Array) -> WrittenReport | None:
        """What the model writes."""
        return self.model.report(image)

    def __getattr__(self, name: str) -> object:
        # What only some models have (attention, a network) is asked of the model itself.
        return getattr(self.model, name)


def card_of(model: ExplainedModel) -> ModelCard | None:
    """The model's card; None where it has none."""
    card = getattr(model, "card", None)
    return card if isinstance(card, ModelCard) else None


def distance_of(model: ExplainedModel) -> GateDistance | None:
    """How far an image lies from those that the model learnt from; None where the model does not know."""
    distance = getattr(model, "distance", None)
    return distance if isinstance(distance, GateDistance) else None


def view_of(model: ExplainedModel, image: Image) -> tuple[Array, ModelFrame]:
    """The image as the model takes it, and the frame that leads back. Shapes: float32 [C, S, S].

    A grey image is given to a model of three channels three times; of a colour image a grey model gets the mean.
    Raises: InputError where the model takes no square image.
    """
    height, width = image.pixels.shape[:2]
    rows, columns = model.input_size or (min(max(height, width), LARGEST_VIEW),) * 2
    if rows != columns:
        mend = "wrap it so that it takes square images and brings them to that shape itself (transform= of a TorchModel)"
        raise InputError("model", f"takes images of {rows} x {columns}", mend=mend)
    frame = model_frame(height, width, size=rows)
    return model_view(image.pixels, frame, channels=model.channels), frame


def predict(model: ExplainedModel, image: Image, modality: Modality, *, study_id: str = "") -> Seen:
    """The model's prediction of the image, from one look and one writing of the report.

    Raises: InputError where the model does not take such an image, WeightsError for a card without a finding's calibration.
    """
    pixels, frame = view_of(model, image)
    look = model.look(pixels, None if len(model.findings) <= MOST_GRADIENTS else (0,))
    logits = look.logits if look is not None else model.logits(pixels[None])[0]
    drawn, written = model.structures(pixels), model.report(pixels)
    card = card_of(model)
    findings = tuple(
        calibrated(name, float(logit), _calibration(model, card, name))
        for name, logit in zip(model.findings, logits, strict=True)
    )
    masks = outlines(drawn or {}, frame, modality)
    unbacked = _unbacked(masks, findings, modality)
    prediction = Prediction(
        study_id=study_id,
        findings=findings,
        boxes=(),
        masks={name: np.zeros_like(mask) if name in unbacked else mask for name, mask in masks.items()},
        report=() if written is None else tuple(written.sentences),
        logits={name: float(logit) for name, logit in zip(model.findings, logits, strict=True)},
        model_id=model.model_id,
    )
    side = max(len(mask) for mask in drawn.values()) if drawn else frame.size
    seen = Seen(
        prediction, look, frame, pixels, max(frame.height, frame.width) / side, None if written is None else written.confidence,
        _gaps(model, look, card, bool(drawn) or not modality.structures, written), unbacked,
    )
    boxes = [box for f in prediction.findings if f.tier != "unlikely" for box in grid_boxes(seen, f.name)]
    return seen._replace(prediction=replace(prediction, boxes=tuple(boxes)))


def _unbacked(masks: Mapping[str, Mask], findings: Sequence[Finding], modality: Modality) -> tuple[str, ...]:
    """The drawn structures that are shown with findings of which none reaches its threshold."""
    reached = {one.name for one in findings if one.probability >= one.threshold}
    asked = {one.name: one.shown_with for one in modality.structures if one.shown_with}
    return tuple(name for name, mask in masks.items() if name in asked and mask.any() and not reached.intersection(asked[name]))


def calibrated(name: str, logit: float, calibration: Calibration | None) -> Finding:
    """The finding's probability, its interval over the calibration's bootstrap, and the threshold it is read against.

    Without a calibration the probability is the logit's sigmoid, a score, its own interval, read against one half.
    """
    if calibration is None:
        score = _sigmoid(logit)
        return Finding(name, score, (score, score), UNCALIBRATED_THRESHOLD)
    value = _sigmoid(calibration.scale * logit + calibration.bias)
    replicates = np.array(calibration.replicates or ((calibration.scale, calibration.bias),), dtype=np.float64)
    low, high = np.percentile(_sigmoids(replicates[:, 0] * logit + replicates[:, 1]), INTERVAL)
    interval = (min(float(low), value), max(float(high), value))
    return Finding(name, value, interval, calibration.threshold, calibration.prevalence)


def grid_boxes(seen: Seen, finding: str) -> tuple[Box, ...]:
    """Boxes of one finding where its evidence grid is at least half its highest cell, original frame, best first."""
    if seen.look is None or seen.look.cells is None:
        return ()
    index = [f.name for f in seen.prediction.findings].index(finding)
    return evidence_boxes(seen.look.cells[index], seen.frame, finding=finding)


def _calibration(model: ExplainedModel, card: ModelCard | None, name: str) -> Calibration | None:
    if card is None or not card.calibration:
        return None
    if name not in card.calibration:
        raise WeightsError(model.model_id, f"has no calibration for {name}", mend="write the card again with `storyxai distil`")
    return card.calibration[name]


def _gaps(
    model: ExplainedModel, look: Look | None, card: ModelCard | None, drawn: bool, written: WrittenReport | None
) -> frozenset[str]:
    """What the model did not bring, by the words of `storyxai.types.GAPS`."""
    lacking = {
        "calibration": card is None or not card.calibration,
        "card": card is None,
        "masks": not drawn,
        "report": written is None,
        "gradients": look is None or look.gradients is None,
        "distance": look is None or distance_of(model) is None,
        "input_size": model.input_size is None,
    }
    return frozenset(gap for gap, lacks in lacking.items() if lacks)


def outlines(drawn: Mapping[str, Array], frame: ModelFrame, modality: Modality) -> dict[str, Mask]:
    """The outline of each structure in the original frame, from its probabilities [h, w].

    What has not its structure's form or place is emptied: nothing may rest on it, and no one is to see it.
    """
    structures = {structure.name: structure for structure in modality.structures}
    masks = {name: _outline(values, frame) for name, values in drawn.items()}
    for name in masks:
        if name not in structures or structures[name].one_piece:
            masks[name] = largest_piece(masks[name])  # a structure is one thing
    for name, structure in structures.items():
        if name in masks and structure.fault is not None and structure.fault(masks):
            masks[name] = np.zeros_like(masks[name])
    return masks


def _outline(probability: NDArray[np.float32], frame: ModelFrame) -> Mask:
    """Where a mask of probabilities is at least one half, in the original frame.

    Log-odds are interpolated, not probabilities: these are flat on both sides of an edge, so that between two cells they
    draw it halfway whatever the cells say. Cubic first, from the cells to the model's pixels.
    """
    sure = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
    odds = np.log(sure / (1 - sure))
    rows, columns = (_cubic(length, frame.size / odds.shape[0]) for length in odds.shape)
    fine = product(product(rows, odds), columns.T)
    return np.asarray(frame.mask_to_original(fine.astype(np.float32), 0.0))


@lru_cache(maxsize=8)
def _cubic(length: int, times: float) -> NDArray[np.float64]:
    """The cubic spline through `length` cells, read `times` as densely, as a matrix: a spline is linear in its cells.

    Shapes: [times x length, length].
    """
    from scipy.ndimage import zoom

    matrix: NDArray[np.float64] = zoom(np.eye(length), (times, 1), order=3, mode="nearest", grid_mode=True)
    return matrix


def _sigmoid(value: float) -> float:
    return float(_sigmoids(np.array([value], dtype=np.float64))[0])


def _sigmoids(values: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(values, -60.0, 60.0)))
    return shares
