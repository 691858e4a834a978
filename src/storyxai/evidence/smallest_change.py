"""The smallest part of the image whose hiding turns what is told of a finding: its counterfactual on superpixels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from storyxai.evidence.filling import neutral_filling
from storyxai.evidence.predict import Seen, calibrated, card_of
from storyxai.explain.contract import ExplainedModel
from storyxai.explain.counterfactual import Margin, Turn, TurnSearch, turn_decisions
from storyxai.explain.perturbation import HiddenSuperpixels
from storyxai.modalities.contract import Modality
from storyxai.types import LIKELY, Finding, SmallestChange

BATCH = 64


def decision_limit(finding: Finding) -> float:
    """The probability at which the finding would be told otherwise: where its tier begins, or the next one above does."""
    if finding.probability >= LIKELY:
        return LIKELY
    return min(finding.threshold, LIKELY)


def smallest_changes(
    model: ExplainedModel, seen: Seen, modality: Modality, told: tuple[str, ...], *, segments: NDArray[np.int32], passes: int,
    batch: int = BATCH,
) -> tuple[SmallestChange, ...]:
    """For each told finding the fewest superpixels that were found to turn it when they are hidden, with the new probability.

    Shapes: segments int32 [S, S], the model's frame. Empty where `passes` do not try every superpixel once.
    """
    count = int(segments.max()) + 1
    findings = [f for name in told for f in seen.prediction.findings if f.name == name]
    if not findings or passes <= count:
        return ()
    painted = neutral_filling(seen, modality)
    hidden = HiddenSuperpixels(seen.pixels, segments, "blur" if painted is None else painted.image, batch=batch)
    turns = turn_decisions(
        lambda vectors: hidden.answers(model.logits, vectors)[0], count,
        [_margin(model, finding) for finding in findings], TurnSearch(passes=passes),
    )
    fill = "blur" if painted is None or modality.filling is None else modality.filling.mixed
    return tuple(_change(model, f, turn, segments, fill) for f, turn in zip(findings, turns, strict=True))


def _margin(model: ExplainedModel, finding: Finding) -> Margin:
    """How far the calibrated log-odds lie on the finding's side of its limit."""
    column, limit, card = list(model.findings).index(finding.name), decision_limit(finding), card_of(model)
    calibration = None if card is None else card.calibration.get(finding.name)
    scale, bias = (1.0, 0.0) if calibration is None else (calibration.scale, calibration.bias)
    at = math.log(limit / (1 - limit)) if 0 < limit < 1 else math.copysign(math.inf, limit - 0.5)
    side = 1.0 if finding.probability >= limit else -1.0
    return lambda logits: side * (scale * logits[:, column] + bias - at)


def _change(
    model: ExplainedModel, finding: Finding, turn: Turn, segments: NDArray[np.int32], fill: str
) -> SmallestChange:
    count, limit = int(segments.max()) + 1, decision_limit(finding)
    change = SmallestChange(finding.name, fill, limit, of=count, passes=turn.passes, smallest=turn.smallest)
    if not turn.hidden:
        return change
    card = card_of(model)
    calibration = None if card is None else card.calibration.get(finding.name)
    logit = turn.logits[list(model.findings).index(finding.name)]
    return SmallestChange(
        finding.name, fill, limit, count, turn.passes, turn.smallest, superpixels=len(turn.hidden),
        share=float(np.isin(segments, turn.hidden).mean()),
        probability=calibrated(finding.name, logit, calibration).probability,
    )
