"""How often each tier of a finding is told, and how often it is right, as statistics of the images' weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storyxai.metrics.bootstrap import Floats, Statistic, mean_statistic, ratio
from storyxai.types import TIERS, Tier, tier_of

NAMED: tuple[Tier, ...] = ("likely", "possible")
"""The tiers that name a finding to a reader."""
QUESTIONS = ("with", "without", "have")
Tiers = NDArray[np.str_]
Known = NDArray[np.bool_]


def tiers_of(probabilities: ArrayLike, lows: ArrayLike, highs: ArrayLike, threshold: float) -> Tiers:
    """The tier of each image's finding (`storyxai.types.tier_of`), "" where the probability is nan. Shapes: all [N]."""
    cells = zip(np.asarray(probabilities), np.asarray(lows), np.asarray(highs), strict=True)
    told = [
        "" if np.isnan(said) else tier_of(float(said), (float(low), float(high)), threshold) for said, low, high in cells
    ]
    return np.array(told, dtype="<U11")


def finding_statistics(tiers: Tiers, labels: Floats) -> dict[tuple[Tier, str], tuple[Statistic, Known]]:
    """By tier and question a share and the images that it is of. Shapes: both [N]; "" = not told, nan = not stated.

    The questions: "with" - of the images with the finding, how many are told this tier; "without" - of those without it;
    "have" - of those told this tier, how many have it.
    """
    stated = np.isfinite(labels) & (tiers != "")
    found: dict[tuple[Tier, str], tuple[Statistic, Known]] = {}
    for tier in TIERS:
        told, present = tiers == tier, labels >= 0.5
        asked = (told, stated & present), (told, stated & ~present), (present, stated & told)
        for name, (values, known) in zip(QUESTIONS, asked, strict=True):
            found[tier, name] = (mean_statistic(np.where(known, values, np.nan)), known)
    return found


def image_statistics(tiers: Tiers, labels: Floats) -> Mapping[str, tuple[Statistic, Known]]:
    """What an image's whole story names, by name, each with the images that it is of. Shapes: both [N, F].

    "nothing_named": of the images whose every finding is stated absent, the share where none is likely or possible.
    "right_named": of the images with a finding, the share where one that is there is named. "named": the mean number of
    findings that are named. "cannot_tell": the share of an image's findings of which nothing can be told. "named_have": of
    the findings that are named and have a label, the share that is there.
    """
    told, named = tiers != "", np.isin(tiers, NAMED)
    present, stated = labels >= 0.5, np.isfinite(labels)
    spoken = told.any(axis=1)
    normal = spoken & (labels < 0.5)[:, told.any(axis=0)].all(axis=1)
    affected = spoken & (present & told).any(axis=1)
    share = ratio((tiers == "cannot_tell").sum(axis=1).astype(np.float64), told.sum(axis=1).astype(np.float64))
    counted = named & stated
    return {
        "nothing_named": (mean_statistic(np.where(normal, ~named.any(axis=1), np.nan)), normal),
        "right_named": (mean_statistic(np.where(affected, (named & present).any(axis=1), np.nan)), affected),
        "named": (mean_statistic(np.where(spoken, named.sum(axis=1), np.nan)), spoken),
        "cannot_tell": (mean_statistic(share), spoken),
        "named_have": (_share_of_cells(counted & present, counted), counted.any(axis=1)),
    }


def _share_of_cells(part: Known, whole: Known) -> Statistic:
    """Of the cells in `whole`, the share in `part`, each as often as its image counts. Shapes: [N, F]."""
    sums = np.stack([part.sum(axis=1), whole.sum(axis=1)], axis=1).astype(np.float64)

    def share(weights: Floats) -> Floats:
        hits, count = (weights @ sums).T
        return ratio(hits, count)

    return share
