"""Calibration and conformal coverage of the shipped student on phantoms, whose labels are exact.

    python benchmarks/phantom_calibration.py [--count 6000]

Half of `--count` fresh phantoms calibrate (scaling and class-conditional limits), the other half judge. The card's own
calibration is for NIH films; this one says whether the procedure keeps its promise where n is large. ECE has ten bins of equal
mass; coverage stands beside the nominal 0.90 for the present and for the absent cases of each finding apart.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storyxai.data.assemble import examples_from_phantoms
from storyxai.metrics.calibration import ConformalLimits, calibrated, conformal_coverage, conformal_sets, ece
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.modalities.chest_radiograph.grammar import GRAMMAR
from storyxai.models.export import load_network
from storyxai.models.runtime import SHIPPED
from storyxai.models.tokens import encode_tokens, full_vocabulary
from storyxai.programs.pipeline import _only
from storyxai.training.calibrate import calibrate, conformal_limits
from storyxai.training.outputs import network_outputs

FIRST_SEED = 12_000_000
SPLITS = 200


def said_of(count: int) -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[str, ...]]:
    """Logits and labels of fresh phantoms, some hundred at a time so that memory stays small."""
    network = load_network(SHIPPED / "student.safetensors")
    words = full_vocabulary(GRAMMAR.vocabulary())

    def encode(tokens: Any) -> NDArray[np.int64]:
        return encode_tokens(tokens, words, length=64)

    logits, labels, patients = [], [], []
    for start in range(0, count, 500):
        seeds = range(FIRST_SEED + start, FIRST_SEED + min(start + 500, count))
        made = examples_from_phantoms(seeds, size=network.spec.size, phantom_size=256, encode=encode)
        said = network_outputs(_only(network, "findings"), made).logits
        assert said is not None
        logits.append(said)
        labels.append(made.labels)
        patients += made.patient_ids
        sys.stderr.write(f"phantoms ({start + len(made)}/{count})\n")
    return np.concatenate(logits), np.concatenate(labels), tuple(patients)


def over_halves(
    probability: NDArray[np.float64], stated: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coverage of present and of absent in the second half of each of many random orders, with limits of the first half.

    What a conformal set promises holds on average over the cases that fix its limits; one half alone may miss by chance.
    """
    generator = np.random.default_rng(0)
    found = np.zeros((SPLITS, 2))
    for row in found:
        order = generator.permutation(len(stated))
        fit, judge = order[: len(order) // 2], order[len(order) // 2 :]
        limits = ConformalLimits(*conformal_limits(probability[fit], stated[fit]))
        cover = conformal_coverage(conformal_sets(limits, probability[judge]), stated[judge])
        row[:] = cover["present_coverage"], cover["absent_coverage"]
    return found[:, 0], found[:, 1]


def main() -> None:
    """Print a row per finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=6000)
    given = parser.parse_args()
    logits, labels, patients = said_of(given.count)
    half = given.count // 2
    fitted = calibrate(logits[:half], labels[:half], patients[:half], findings=NAMES, data="phantoms")
    sys.stdout.write(f"{half} phantoms calibrate, {given.count - half} judge\n")
    for column, name in enumerate(NAMES):
        stated = labels[half:, column]
        if np.isnan(stated).all():
            continue
        one = fitted[name]
        probability = calibrated(logits[half:, column], one.scale, one.bias)
        limits = ConformalLimits(one.conformal[0], one.conformal[1], one.conformal[2])
        cover = conformal_coverage(conformal_sets(limits, probability), stated)
        sys.stdout.write(
            f"{name}: ECE {ece(probability, stated):.3f}; covered present {cover['present_coverage']:.3f} "
            f"(n {cover['present_n']}), absent {cover['absent_coverage']:.3f} (n {cover['absent_n']}); "
            f"one answer in {cover['single_share']:.2f}\n"
        )
        present, absent = over_halves(calibrated(logits[:, column], one.scale, one.bias), labels[:, column])
        for answer, shares in (("present", present), ("absent", absent)):
            low, high = np.quantile(shares, (0.025, 0.975))
            middle = f"{shares.mean():.3f} (95 % of halves {low:.3f} to {high:.3f})"
            sys.stdout.write(f"  over {SPLITS} random halves, {answer}: {middle}\n")


if __name__ == "__main__":
    main()
