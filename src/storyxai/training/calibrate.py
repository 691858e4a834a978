"""Calibration of a student on cases it did not learn from: Platt scaling, thresholds and conformal limits, by patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storyxai.metrics.bootstrap import draw_resamples
from storyxai.metrics.calibration import bootstrap_platt, calibrated, fit_conformal, fit_platt
from storyxai.models.card import Calibration

__all__ = ["RULES", "Resampling", "ThresholdRule", "calibrate", "choose_threshold", "conformal_limits"]

FEWEST_POSITIVES = 10
"""With fewer validation positives than this a threshold cannot rest on them."""
CONFORMAL_LEVEL = 0.9
"""How often a conformal set is promised to hold the true answer, in each class apart."""
QUIET_SHARE = 0.95
"""Then the threshold is set by the negatives alone: this share of them stays below it."""
RULES = ("f1", "sensitivity", "net_benefit")


@dataclass(frozen=True)
class ThresholdRule:
    """How a threshold is chosen: the highest "f1", the highest one at which `sensitivity` of the positives are reached, or by
    "net_benefit" the same calibrated `probability` for every finding: at p, one found is worth (1 - p) / p false alarms.

    Source of the last: Vickers and Elkin, Medical Decision Making 2006.
    """

    rule: str = "f1"
    sensitivity: float = 0.8
    probability: float = 0.1


@dataclass(frozen=True)
class Resampling:
    """How many resamples of patients the intervals rest on, and the seed that draws them."""

    replicates: int = 100
    seed: int = 0


def calibrate(
    logits: NDArray[np.float32], labels: NDArray[np.float32], patient_ids: Sequence[str], *, findings: Sequence[str],
    data: str, resampling: Resampling = Resampling(), rule: ThresholdRule = ThresholdRule(),
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
        said = calibrated(given, scale, bias)
        pairs = bootstrap_platt(given, stated, who, count=resampling.replicates, seed=resampling.seed)
        thresholds = _resampled_thresholds(given, stated, who, pairs, seed=resampling.seed, rule=rule)
        rounded = tuple((round(float(a), 5), round(float(b), 5)) for a, b in pairs)
        positives = int((stated >= 0.5).sum())
        out[finding] = Calibration(
            round(scale, 5), round(bias, 5), round(choose_threshold(said, stated, rule=rule), 5), rounded, int(known.sum()),
            positives, data, conformal_limits(said, stated, who), tuple(round(value, 5) for value in thresholds),
        )
    return out


def _resampled_thresholds(
    logits: NDArray[np.float64], labels: NDArray[np.float32], who: NDArray[np.str_], pairs: NDArray[np.float64], *, seed: int,
    rule: ThresholdRule,
) -> list[float]:
    """The threshold chosen anew on each resample of patients, on the scale that the same resample fitted."""
    resamples = draw_resamples(who, count=len(pairs), seed=seed)  # those of the fits, which drew by the same seed
    chosen = []
    for row, (scale, bias) in enumerate(pairs):
        drawn = np.repeat(np.arange(len(logits)), resamples.weights(row, row + 1)[0].astype(np.intp))
        chosen.append(choose_threshold(calibrated(logits[drawn], scale, bias), labels[drawn], rule=rule))
    return chosen


def conformal_limits(
    probabilities: NDArray[np.float64], labels: NDArray[np.float32],
    patient_ids: Sequence[str] | NDArray[np.str_] | None = None,
) -> tuple[float, float, float]:
    """(limit of "present", limit of "absent", level), rounded up so that nothing promised is lost; 1 excludes nothing.

    Patients are the cases (`fit_conformal`). The same cases may serve the scaling: it keeps their order, and the limits
    rest on the order alone.
    """
    limits = fit_conformal(probabilities, labels, level=CONFORMAL_LEVEL, patient_ids=patient_ids)
    present, absent = (min(1.0, float(np.ceil(min(limit, 1.0) * 1e5)) / 1e5) for limit in (limits.present, limits.absent))
    return present, absent, CONFORMAL_LEVEL


def choose_threshold(
    probabilities: NDArray[np.float64], labels: NDArray[np.float32], *, rule: ThresholdRule = ThresholdRule()
) -> float:
    """The probability from which a finding counts as present, chosen by `rule` on cases that were not learnt from.

    With fewer than `FEWEST_POSITIVES` positives no rule can be followed: then `QUIET_SHARE` of the negatives stay below.
    """
    if rule.rule == "net_benefit":
        return rule.probability
    present = labels >= 0.5
    if present.sum() >= FEWEST_POSITIVES:
        order = np.argsort(-probabilities, kind="stable")
        last = _PLACES[rule.rule](present[order], rule)
        following = probabilities[order[min(last + 1, len(order) - 1)]]
        return float(np.clip((probabilities[order[last]] + following) / 2, 1e-4, 1 - 1e-4))
    negatives = probabilities[~present]
    return float(np.clip(np.quantile(negatives, QUIET_SHARE) if len(negatives) else 0.5, 1e-4, 1 - 1e-4))


def _place_of_best_f1(present: NDArray[np.bool_], rule: ThresholdRule) -> int:
    """The last of the cases, most probable first, that are to count as present."""
    score = 2 * np.cumsum(present) / (np.arange(1, len(present) + 1) + present.sum())
    return int(np.argmax(score))


def _place_of_sensitivity(present: NDArray[np.bool_], rule: ThresholdRule) -> int:
    return int(np.searchsorted(np.cumsum(present), rule.sensitivity * present.sum() - 1e-9))


_PLACES: dict[str, Callable[[NDArray[np.bool_], ThresholdRule], int]] = {
    "f1": _place_of_best_f1, "sensitivity": _place_of_sensitivity,
}  # fmt: skip
