"""What the student says about one radiograph, calibrated, and back in the frame of the original image."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from storyxai.errors import WeightsError
from storyxai.evidence.boxes import evidence_boxes
from storyxai.imaging.geometry import ModelFrame, model_frame
from storyxai.modalities.chest_radiograph.anatomy import heart_problem
from storyxai.modalities.chest_radiograph.grammar import detokenize
from storyxai.models.card import Calibration
from storyxai.models.runtime import Answer, Student
from storyxai.types import Array, Box, Finding, Mask, Prediction, Study

__all__ = ["Seen", "calibrated", "grid_boxes", "outlines", "predict"]

MASK_NAMES = ("left_lung", "right_lung", "heart")
INTERVAL = (5.0, 95.0)
"""Percentiles of the calibration bootstrap that make a probability's 90 % interval."""


class Seen(NamedTuple):
    """A prediction with what explanations need of the pass that made it. `pixels` float32 [S, S] is the model's view."""

    prediction: Prediction
    look: Answer
    frame: ModelFrame
    pixels: Array
    report_confidence: float


def predict(student: Student, study: Study) -> Seen:
    """The student's prediction of the study's first image, from one pass and one decoding of the report."""
    image = study.images[0]
    frame = model_frame(*image.pixels.shape, size=student.size)
    pixels = frame.to_model(image.pixels)
    look = student.answer(pixels)
    findings = tuple(
        calibrated(name, float(look.logits[i]), _calibration(student, name)) for i, name in enumerate(student.findings)
    )
    words, confidence = student.write_report(look.memory)
    masks = outlines(look.masks, frame)
    prediction = Prediction(
        study_id=study.study_id,
        findings=findings,
        boxes=(),
        masks=masks,
        report=tuple(detokenize(words)),
        logits={name: float(look.logits[i]) for i, name in enumerate(student.findings)},
        model_id=student.card.model_id,
    )
    seen = Seen(prediction, look, frame, pixels, confidence)
    boxes = [box for i, f in enumerate(findings) if f.state != "absent" for box in grid_boxes(seen, f.name, i)]
    return seen._replace(prediction=replace(prediction, boxes=tuple(boxes)))


def outlines(probabilities: Array, frame: ModelFrame) -> dict[str, Mask]:
    """The outline of each structure in the original frame, from mask probabilities [3, h, w]: one piece each.

    A heart that has not the form or place of one is empty: on real films it often is none, and nothing may rest on it.
    """
    masks = {name: _one_piece(_outline(probabilities[i], frame)) for i, name in enumerate(MASK_NAMES)}
    if heart_problem(masks):
        masks["heart"] = np.zeros_like(masks["heart"])
    return masks


def calibrated(name: str, logit: float, calibration: Calibration) -> Finding:
    """The finding's probability, its interval over the calibration's bootstrap, and the threshold it is read against."""
    value = _sigmoid(calibration.scale * logit + calibration.bias)
    many = np.array([_sigmoid(scale * logit + bias) for scale, bias in calibration.replicates] or [value])
    low, high = np.percentile(many, INTERVAL)
    interval = (min(float(low), value), max(float(high), value))
    return Finding(name, value, interval, calibration.threshold)


def _calibration(student: Student, name: str) -> Calibration:
    found = student.card.calibration.get(name)
    if found is None:
        raise WeightsError(
            str(student.folder), f"has no calibration for {name}", mend="write the card again with `storyxai distil`"
        )
    return found


def grid_boxes(seen: Seen, finding: str, index: int) -> tuple[Box, ...]:
    """Boxes of one finding where its evidence grid is at least half its highest cell, original frame, best first."""
    return evidence_boxes(seen.look.grid[index], seen.frame, finding=finding)


def _outline(probability: NDArray[np.float32], frame: ModelFrame) -> NDArray[np.bool_]:
    """Where a mask of probabilities is at least one half, in the original frame.

    Log-odds are interpolated, not probabilities: these are flat on both sides of an edge, so that between two cells they
    draw it halfway whatever the cells say. Cubic first, from the cells to the model's pixels.
    """
    sure = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
    odds = np.log(sure / (1 - sure))
    fine = ndimage.zoom(odds, frame.size / odds.shape[0], order=3, mode="nearest", grid_mode=True)
    return np.asarray(frame.mask_to_original(fine.astype(np.float32), 0.0))


def _one_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected piece of a mask: a lung is one thing."""
    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == int(sizes.argmax()))


def _sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(value, -60.0, 60.0))))
