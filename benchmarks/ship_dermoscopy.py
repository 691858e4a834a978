"""From the run of recipes/dermoscopy.toml to the student of dermoscopy that comes along.

    python benchmarks/ship_dermoscopy.py runs/dermoscopy/model

Copies the run's model, adds how far an image lies from the phantoms that it learned from (fitted on 300 of these), and writes
the card anew. Pictures of people lie far away: of them the stories then say that nothing can be relied on, which is so.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from storyxai.data.sources import SOURCES
from storyxai.imaging.distance import DISTANCE_NAME, fit_distance, summary
from storyxai.imaging.geometry import model_frame, model_view
from storyxai.models.card import read_card, write_card
from storyxai.models.runtime import SHIPPED, load_student
from storyxai.phantoms.dermoscopy import generate_skin_phantom
from storyxai.provenance import sha256_file

FIRST_SEED, COUNT, SIZE = 15_000_000, 300, 128
"""The first of the phantoms that recipes/dermoscopy.toml learns from."""


def main() -> None:
    """Copy, fit and write."""
    given, out = Path(sys.argv[1]), SHIPPED.parent / f"{SHIPPED.name}_dermoscopy"
    out.mkdir(exist_ok=True)
    student = load_student(given)
    for name in student.card.files:
        shutil.copyfile(given / name, out / name)
    frame = model_frame(SIZE, SIZE, size=student.size)
    seen = []
    for seed in range(FIRST_SEED, FIRST_SEED + COUNT):
        view = model_view(generate_skin_phantom(seed, size=SIZE).image.pixels, frame, channels=student.channels)
        seen.append(summary(student.answer(view).features))
    fit_distance({"phantom": np.array(seen)}).write(out)
    limits = SOURCES["phantom"].limits
    card = replace(
        read_card(given), name="storyxai-dermoscopy-synthetic",
        files={**student.card.files, DISTANCE_NAME: sha256_file(out / DISTANCE_NAME)},
        trained_on=tuple(replace(one, limits=limits) for one in student.card.trained_on),
        limits=(*(limit for limit in student.card.limits if "ynthetic" not in limit), *limits),
    )
    write_card(card, out)
    for path in sorted(out.iterdir()):
        print(f"{path.name}: {path.stat().st_size} bytes")
    print(f"together {sum(path.stat().st_size for path in out.iterdir())} bytes")


if __name__ == "__main__":
    main()
