"""How often shown maps of the shipped student of dermoscopy point into the structure that was planted.

    python benchmarks/skin_maps.py [--count 60]

Phantoms that it did not learn from, nor its trust (seeds from 900,000). Of each finding that is present and told, the
strongest point of each map is looked up in the mask of what was planted (of equally strong ones, as those of a superpixel, the
share that lies there); chance is that mask's share of the picture, and "middle" how often the middle of the picture lies in it.
Shown maps that are marked as doubtful are counted apart. Findings of the lesion as a whole have all of it as their place; the
others are criteria.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from storyxai.evidence.gather import GatherSettings, gather
from storyxai.metrics.bootstrap import draw_resamples, estimate, mean_statistic
from storyxai.metrics.faithfulness import hit_share
from storyxai.models.runtime import load_student, shipped_students
from storyxai.phantoms.dermoscopy import WHOLE, generate_skin_phantom
from storyxai.types import Heatmap

FIRST_SEED = 900_000


class Hit(NamedTuple):
    """One map: whose, what share of its strongest points hit, how large that is, and whether the middle would hit."""

    patient: str
    hit: float
    chance: float
    middle: float


def main() -> None:
    """Gather and print a line for each method, shown and withheld."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--samples", type=int, default=300)
    given = parser.parse_args()
    student = load_student(shipped_students()["dermoscopy"])
    hits: dict[tuple[str, str, str], list[Hit]] = defaultdict(list)
    for seed in range(FIRST_SEED, FIRST_SEED + given.count):
        phantom = generate_skin_phantom(seed, size=192)
        evidence = gather(student, phantom.image, settings=GatherSettings(samples=given.samples, force=True))
        for heatmap in evidence.heatmaps:
            planted = phantom.sign_masks.get(heatmap.finding)
            if planted is None or heatmap.finding not in evidence.provenance["told"]:
                continue
            middle = planted[planted.shape[0] // 2, planted.shape[1] // 2]
            found = Hit(phantom.patient_id, hit_share(heatmap.values, planted), float(planted.mean()), float(middle))
            for of in ("all", "lesion" if heatmap.finding in WHOLE else "criteria"):
                for method in (heatmap.method, "any"):
                    hits[(method, of, said(heatmap))].append(found)
    for key, found_all in sorted(hits.items()):
        rate = estimate(
            mean_statistic([one.hit for one in found_all]),
            draw_resamples([one.patient for one in found_all], count=2000, seed=0),
        )
        chance, middle = (np.mean([getattr(one, name) for one in found_all]) for name in ("chance", "middle"))
        print(
            f"{key[0]:9s} {key[1]:8s} {key[2]:9s} hit {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}], n = {len(found_all)} "
            f"maps of {len({one.patient for one in found_all})} phantoms, chance {chance:.3f}, middle {middle:.3f}"
        )


def said(heatmap: Heatmap) -> str:
    """What a story does with the map."""
    return "doubtful" if heatmap.doubtful else "shown" if heatmap.shown else "withheld"


if __name__ == "__main__":
    main()
