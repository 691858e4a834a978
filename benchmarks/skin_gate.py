"""What each rule of the gate of dermoscopy measures on real lesions and on phantoms, and what the number of colours is worth.

    python benchmarks/skin_gate.py ../shared/data/ph2

PH2's pictures are shown as they are and blurred: the share that each rule fails is printed, and how far the counted colours lie
from those that PH2's readers saw.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from storyxai.imaging.gate import judge
from storyxai.imaging.read import read_image
from storyxai.modalities.dermoscopy.lesion import measure_colours
from storyxai.modalities.registry import modality_named
from storyxai.phantoms.dermoscopy import generate_skin_phantom
from storyxai.types import Image

SKIN = modality_named("dermoscopy")
COLOURS = ("white", "red", "light_brown", "dark_brown", "blue_gray", "black")


def values_of(images: list[Image], masks: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What each rule measures of each image, nan where it is not asked."""
    rows = [{c.name: c.value for c in judge(image, SKIN, masks=mask)} for image, mask in zip(images, masks, strict=True)]
    return {name: np.array([np.nan if row[name] is None else row[name] for row in rows]) for name in rows[0]}


def show(title: str, found: dict[str, np.ndarray]) -> None:
    """Print the least, median and largest value of each rule, and how often it fails."""
    print(title)
    for rule in SKIN.gate.rules if SKIN.gate else ():
        if not np.isnan(some := found[rule.name]).all():
            low, middle, high = np.nanpercentile(some, [0, 50, 100])
            failed = np.nanmean(some < rule.limit if rule.low else some > rule.limit)
            print(f"  {rule.name:14s} {low:7.3f} {middle:7.3f} {high:7.3f}  limit {rule.limit:g}, failed {failed:.1%}")


def main() -> None:
    """Measure and print."""
    folder = Path(sys.argv[1])
    lines = list(csv.DictReader((folder / "PH2_dataset.csv").open(encoding="utf-8")))
    images = [read_image(folder / "images" / f"{line['image']}.jpg", colour=True) for line in lines]
    masks = [
        {"lesion": np.asarray(Picture.open(folder / "masks" / f"{line['image']}.png").convert("L")) > 127} for line in lines
    ]
    show(f"PH2, n = {len(images)}: least, median, largest", values_of(images, masks))
    few, these = images[::5], masks[::5]
    for sigma in (2, 3, 4):
        show(
            f"blurred by {sigma} px",
            values_of([replace(i, pixels=gaussian_filter(i.pixels, (sigma, sigma, 0))) for i in few], these),
        )
    phantoms = [generate_skin_phantom(seed, size=192) for seed in range(40)]
    show("phantoms", values_of([one.image for one in phantoms], [dict(one.masks) for one in phantoms]))
    seen = np.array([sum(line[colour] == "1" for colour in COLOURS) for line in lines])
    found = [measure_colours(image, mask, mask_pixel=1.0) for image, mask in zip(images, masks, strict=True)]
    counted = np.array([float(one[0].value) if one and one[0].value is not None else np.nan for one in found])
    off = counted - seen
    known = ~np.isnan(off)
    print(
        f"colours: mean error {np.nanmean(off):+.2f}, mean size of it {np.nanmean(np.abs(off)):.2f}, "
        f"rank correlation {spearmanr(counted[known], seen[known]).statistic:.2f}, "
        f"not measured {int((~known).sum())}; always 2 colours would err by {np.abs(2 - seen).mean():.2f}"
    )


if __name__ == "__main__":
    main()
