"""Calibration of a trained student on validation cases: Platt scaling with a bootstrap, and a threshold per finding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from storyxai.metrics.calibration import bootstrap_platt, calibrated, fit_conformal, fit_platt
from storyxai.models.card import Calibration

__all__ = ["calibrate", "choose_threshold", "conformal_limits"]

FEWEST_POSITIVES = 10
"""With fewer validation positives than this a threshold cannot rest on them."""
CONFORMAL_LEVEL = 0.9
"""How often a conformal set is promised to hold the true answer, in each class apart."""
QUIET_SHARE = 0.95
"""Then the threshold is set by the negatives alone: this share of them stays below it."""


def calibrate(
    logits: NDArray[np.float32], labels: NDArray[np.float32], patient_ids: Sequence[str], *,
    findings: Sequence[str], data: str, replicates: int = 100, seed: int = 0,
) -> dict[str, Calibration]:
    """The calibration of each finding. Shapes: logits, labels [N, F] (nan = not stated); `data` names the set in words.

    A finding without any stated label keeps the raw logit and the threshold 0.5, its `n` is 0, and its interval is as
    wide as the prior allows: from sigmoid(logit - 1) to sigmoid(logit + 1).
    """
    out = {}
    ids = np.asarray(patient_ids)
    for column, finding in enumerate(findings):
        known = ~np.isnan(labels[:, column])
        if not known.any():
            out[finding] = Calibration(1.0, 0.0, 0.5, ((1.0, -1.0), (1.0, 1.0)), 0, 0, "not calibrated")
            continue
        given, stated, who = logits[known, column].astype(np.float64), labels[known, column], ids[known]
        scale, bias = fit_platt(given, stated)
        pairs = bootstrap_platt(given, stated, who, count=replicates, seed=seed)
        threshold = choose_threshold(calibrated(given, scale, bias), stated)
        rounded = tuple((round(float(a), 5), round(float(b), 5)) for a, b in pairs)
        positives = int((stated >= 0.5).sum())
        out[finding] = Calibration(
            round(scale, 5), round(bias, 5), round(threshold, 5), rounded, int(known.sum()), positives, data,
            conformal_limits(calibrated(given, scale, bias), stated),
        )
    return out


def conformal_limits(
    probabilities: NDArray[np.float64], labels: NDArray[np.float32], *, level: float = CONFORMAL_LEVEL
) -> tuple[float, float, float]:
    """(limit of "present", limit of "absent", level), rounded up so that nothing promised is lost; 1 excludes nothing.

    The same cases may serve the scaling: it keeps their order, and the limits rest on the order alone.
    """
    limits = fit_conformal(probabilities, labels, level=level)
    present, absent = (min(1.0, float(np.ceil(min(limit, 1.0) * 1e5)) / 1e5) for limit in (limits.present, limits.absent))
    return present, absent, level


def choose_threshold(probabilities: NDArray[np.float64], labels: NDArray[np.float32]) -> float:
    """The probability from which a finding counts as present, chosen on validation cases only.

    With at least `FEWEST_POSITIVES` positives: the one with the highest F1. With fewer: the one that leaves
    `QUIET_SHARE` of the negatives below it.
    """
    present = labels >= 0.5
    if present.sum() >= FEWEST_POSITIVES:
        order = np.argsort(-probabilities, kind="stable")
        hits = np.cumsum(present[order])
        score = 2 * hits / (np.arange(1, len(order) + 1) + present.sum())
        last = int(np.argmax(score))
        following = probabilities[order[min(last + 1, len(order) - 1)]]
        return float(np.clip((probabilities[order[last]] + following) / 2, 1e-4, 1 - 1e-4))
    negatives = probabilities[~present]
    return float(np.clip(np.quantile(negatives, QUIET_SHARE) if len(negatives) else 0.5, 1e-4, 1 - 1e-4))
