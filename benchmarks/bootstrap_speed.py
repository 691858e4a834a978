"""How long patient-level intervals take: python benchmarks/bootstrap_speed.py.

1,000 resamples of 14 findings over 1,000 images (two a patient), weighted form against drawing rows one resample at a
time with the same AUROC. Prints one line a figure.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from storyxai.metrics.bootstrap import draw_resamples, estimate
from storyxai.metrics.classification import auroc, auroc_statistic, average_precision_statistic, mean_auroc_statistic


def main() -> None:
    """Prints one line a figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--findings", type=int, default=14)
    parser.add_argument("--count", type=int, default=1000, help="resamples")
    given = parser.parse_args()

    rng = np.random.default_rng(0)
    labels = (rng.random((given.images, given.findings)) < np.linspace(0.02, 0.4, given.findings)).astype(float)
    scores = rng.normal(size=labels.shape) + labels
    patients = [f"p{image // 2:06d}" for image in range(given.images)]

    started = time.perf_counter()
    resamples = draw_resamples(patients, count=given.count, seed=0)
    _say("drawing the resamples", started)
    for name, statistic in (("AUROC", auroc_statistic), ("average precision", average_precision_statistic)):
        started = time.perf_counter()
        for column in range(given.findings):
            estimate(statistic(labels[:, column], scores[:, column]), resamples)
        _say(f"{name} of {given.findings} findings, {given.count} resamples", started)
    started = time.perf_counter()
    estimate(mean_auroc_statistic(labels, scores), resamples)
    _say("their mean, resampled jointly", started)

    few = 20
    started = time.perf_counter()
    for weights in resamples.weights(0, few):
        rows = np.repeat(np.arange(given.images), weights.astype(np.intp))
        auroc(labels[rows, -1], scores[rows, -1])
    seconds = (time.perf_counter() - started) * given.count / few * given.findings
    sys.stdout.write(f"the same AUROCs row by row, from {few} resamples of one finding: {seconds:.1f} s\n")


def _say(what: str, started: float) -> None:
    sys.stdout.write(f"{what}: {time.perf_counter() - started:.2f} s\n")


if __name__ == "__main__":
    main()
