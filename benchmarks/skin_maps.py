"""How often shown maps of the shipped student of dermoscopy point into the structure that was planted.

    python benchmarks/skin_maps.py [--count 60]

Phantoms that it did not learn from (seeds from 900,000). Of each finding that is present and told, the strongest point of each
map is looked up in the mask of what was planted; chance is that mask's share of the picture.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np

from storyxai.evidence.gather import GatherSettings, gather
from storyxai.metrics.bootstrap import draw_resamples, estimate, mean_statistic
from storyxai.models.runtime import load_student, shipped_students
from storyxai.phantoms.dermoscopy import generate_skin_phantom

FIRST_SEED = 900_000


def main() -> None:
    """Gather and print a line for each method, shown and withheld."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--samples", type=int, default=300)
    given = parser.parse_args()
    student = load_student(shipped_students()["dermoscopy"])
    hits: dict[tuple[str, str], list[tuple[str, float, float]]] = defaultdict(list)
    for seed in range(FIRST_SEED, FIRST_SEED + given.count):
        phantom = generate_skin_phantom(seed, size=192)
        evidence = gather(student, phantom.image, settings=GatherSettings(samples=given.samples, force=True))
        for heatmap in evidence.heatmaps:
            planted = phantom.sign_masks.get(heatmap.finding)
            if planted is None or heatmap.finding not in evidence.provenance["told"]:
                continue
            row, column = np.unravel_index(int(heatmap.values.argmax()), planted.shape)
            key = heatmap.method, "shown" if heatmap.shown else "withheld"
            hits[key].append((phantom.patient_id, float(planted[row, column]), float(planted.mean())))
    for (method, how), found in sorted(hits.items()):
        patients, hit, share = zip(*found, strict=True)
        rate = estimate(mean_statistic(hit), draw_resamples(patients, count=2000, seed=0))
        print(
            f"{method:9s} {how:9s} hit {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}], n = {len(hit)} maps of "
            f"{len(set(patients))} phantoms, chance {np.mean(share):.3f}"
        )


if __name__ == "__main__":
    main()
