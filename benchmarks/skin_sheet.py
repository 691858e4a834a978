"""A contact sheet of phantoms beside pictures of PH2, to be judged by eye; keep it out of the repository.

    python benchmarks/skin_sheet.py ../shared/data/ph2 sheet.png
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from storyxai.phantoms.dermoscopy import KINDS, generate_skin_phantom

SIDE, EACH = 180, 8
DIAGNOSES = ("common_nevus", "atypical_nevus", "melanoma")


def main() -> None:
    """Write the sheet: a row of phantoms and a row of real lesions for each diagnosis."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    lines = list(csv.DictReader((folder / "PH2_dataset.csv").open(encoding="utf-8")))
    phantoms = [generate_skin_phantom(seed, size=SIDE) for seed in range(70)]
    sheet = Picture.new("RGB", (EACH * SIDE, 6 * SIDE))
    for row, (kind, diagnosis) in enumerate(zip(KINDS, DIAGNOSES, strict=True)):
        made = [one for one in phantoms if one.kind == kind][:EACH]
        real = [line["image"] for line in lines if line["diagnosis"] == diagnosis]
        for column, one in enumerate(made):
            eight = np.rint(one.image.pixels * 255).astype(np.uint8)
            sheet.paste(Picture.fromarray(eight), (column * SIDE, 2 * row * SIDE))
        for column, name in enumerate(real[:: max(1, len(real) // EACH)][:EACH]):
            picture = Picture.open(folder / "images" / f"{name}.jpg")
            left = (picture.width - picture.height) // 2
            square = picture.crop((left, 0, left + picture.height, picture.height)).resize((SIDE, SIDE))
            sheet.paste(square, (column * SIDE, (2 * row + 1) * SIDE))
    sheet.save(out)


if __name__ == "__main__":
    main()
