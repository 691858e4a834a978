"""Stories of the skin, checked and measured as `story_figures.py` does it for chests: every reader, English and German.

    python benchmarks/skin_stories.py PH2 [--real 150] [--phantoms 150] [--samples 100] [--out FILE.json]

PH2 is that set's folder. The student of dermoscopy that comes along tells each picture, which it has not learnt from; it knows
synthetic lesions alone, so of people its stories are to be sound, not right. Each page is read back by the checker and held
against the evidence and the other pages of its study.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from story_figures import Found, archived, judged, summed
from storyxai.errors import StoryxaiError
from storyxai.files import write_whole
from storyxai.imaging.read import find_images, read_image
from storyxai.models.runtime import load_student, shipped_students
from storyxai.phantoms.dermoscopy import generate_skin_phantom
from storyxai.provenance import canonical_json
from storyxai.types import Image

FIRST_SEED, SIZE = 950_000, 256


def pictures(asked: argparse.Namespace) -> Iterator[tuple[str, str, Image]]:
    """Origin, name and picture: PH2's in the order of their names, then phantoms."""
    for path in sorted(find_images([asked.ph2 / "images"]))[: asked.real]:
        yield "ph2", path.stem, read_image(path, colour=True)
    for seed in range(FIRST_SEED, FIRST_SEED + asked.phantoms):
        yield "phantom", f"phantom-{seed}", generate_skin_phantom(seed, size=SIZE).image


def main() -> None:
    """Tell, check, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ph2", type=Path)
    parser.add_argument("--real", type=int, default=150)
    parser.add_argument("--phantoms", type=int, default=150)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found, student = Found(), load_student(shipped_students()["dermoscopy"])
    with tempfile.TemporaryDirectory() as scratch:
        for origin, name, image in pictures(asked):
            folder = Path(scratch) / name
            try:
                archived(student, image, folder, asked.samples)
            except StoryxaiError as error:
                found.counts[f"{origin}: refused"] += 1
                print(f"{name}: {error}", file=sys.stderr)
                continue
            judged(origin, name, folder, found, normal=False)
            if found.counts["studies"] % 25 == 0:
                print(found.counts["studies"], "studies,", len(found.problems), "problems", file=sys.stderr, flush=True)
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(canonical_json(summed(found)), asked.out)
    print(json.dumps(summed(found), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
