"""How far two outlines of one film agree, and the student with both: python reference_agreement.py [DATA] [SET ...]

Films that stand in a set under two names (nearly the same picture) were often outlined twice. DATA is the folder that holds the
sets (left out: ../shared/data beside the checkout); SET is covid and kermany unless named. No film counts of a patient
whom the student's card names as met.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from storyxai.data.importing import read_source
from storyxai.data.repeats import compare_repeats, say_repeats
from storyxai.data.splits import near_duplicates
from storyxai.data.table import StudyTable, read_pair
from storyxai.evidence.gather import modality_for
from storyxai.evidence.predict import predict
from storyxai.imaging.read import read_image
from storyxai.metrics.segmentation import dice
from storyxai.models.runtime import Student, load_student
from storyxai.scorecard.judge import unseen_rows

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print what stands twice, and the overlaps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=ROOT.parent / "shared" / "data")
    parser.add_argument("sets", nargs="*", default=["covid", "kermany"])
    given = parser.parse_args()
    student = load_student()
    for name in given.sets:
        if not (given.data / name).is_dir():
            sys.stdout.write(f"{name}: skipped, it is absent\n")
            continue
        folder = given.data / name
        table = unseen_rows(student, read_source(name, folder), "unseen", folder)
        pairs = near_duplicates(table)
        repeats = compare_repeats(table, [(pair.first, pair.second) for pair in pairs])
        row_of: dict[str, Any] = {str(row["image_id"]): row for row in table.frame.to_dict("records")}
        twice = [item for item in repeats if item.dice is not None]
        people = len({row_of[item.first]["patient_id"] for item in twice})
        whose = "1 patient" if people == 1 else f"{people} patients"
        sys.stdout.write(f"{name}: {len(pairs)} unseen films stand twice, {len(twice)} outlined twice, of {whose}\n")
        sys.stdout.writelines(f"  {line}\n" for line in say_repeats(repeats))
        own = [overlap(student, table, row_of[side]) for item in twice for side in (item.first, item.second)]
        if own:
            sys.stdout.write(f"  the student with each of these outlines: Dice {np.mean(own):.3f} "
                             f"({min(own):.3f} to {max(own):.3f})\n")


def overlap(student: Student, table: StudyTable, row: dict[str, Any]) -> float:
    """Dice of the student's lungs with the row's outline."""
    image = read_image(table.image_path(row))
    drawn = predict(student, image, modality_for(student)).prediction.masks
    reference = read_pair(table, row)
    assert reference is not None
    return dice(drawn["left_lung"] | drawn["right_lung"], reference[0], ignore=reference[1])


if __name__ == "__main__":
    main()
