"""The gate's distance for a student: python calibrate_distance.py [--model DIR] [DATA] writes it into the model's folder.

Fitted on films of patients that the card names as trained on (NIH, Kermany) and on phantoms; the card then vouches for the
file. Kermany's films taught outlines alone: what is most like them is told nothing of, and so is a patient younger than 99
in 100 of NIH's films. DATA is a folder with nih/, nih128/, nih64/ and kermany/ (left out: ../shared/data beside the
checkout); without it, phantoms alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from storyxai.data.importing import read_source
from storyxai.data.table import StudyTable
from storyxai.imaging.distance import DISTANCE_NAME, calibrate_distance
from storyxai.imaging.read import read_image
from storyxai.models.card import write_card
from storyxai.models.runtime import SHIPPED, load_student
from storyxai.phantoms.generate import generate_phantom
from storyxai.provenance import sha256_file
from storyxai.scorecard.judge import patient_mark
from storyxai.types import Array

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {"nih": "nih", "nih128": "nih", "nih64": "nih", "kermany": "kermany"}
"""The folders and how each is read."""
UNTAUGHT = ("kermany",)
"""Films of children whose labels taught no finding: of 272 normal ones the student named something on 69 in 100, a
pneumothorax on 22."""
PHANTOM_SEED = 15_000_000  # far from those that students are trained on


def frontal(table: StudyTable) -> pd.DataFrame:
    """The rows that have an image which is no lateral view."""
    return table.frame[(table.frame["image"] != "") & (table.frame["view"] != "LATERAL")]


def trained_films(data: Path, source: str, marks: set[str], count: int) -> list[Path]:
    """Frontal films of the set whose patients bear a mark of the card, `count` drawn by seed."""
    table, digits = read_source(SOURCES[source], data / source), len(next(iter(marks), ""))
    rows = frontal(table).to_dict("records")
    known = [table.root / row["image"] for row in rows if patient_mark(row["patient_id"], digits) in marks]
    order = np.random.default_rng(0).permutation(len(known))[:count]
    return [known[place] for place in sorted(order)]


def least_age(data: Path) -> float | None:
    """The age in years that all but the youngest hundredth of the films have whose labels were learnt from."""
    tables = [read_source(SOURCES[name], data / name) for name in SOURCES if name not in UNTAUGHT and (data / name).is_dir()]
    ages = np.concatenate([np.array([np.nan]), *(table.frame["age_years"].to_numpy(float) for table in tables)])
    return None if np.isnan(ages).all() else float(np.nanquantile(ages, 0.01))


def main() -> None:
    """Fits, writes the file and the card, and says on how many films it rests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=ROOT.parent / "shared" / "data")
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--count", type=int, default=2500, help="films a set")
    parser.add_argument("--phantoms", type=int, default=1500)
    chosen = parser.parse_args()
    student = load_student(chosen.model)
    marks = set(student.card.training.get("patients", ()))
    sets: dict[str, Iterator[Array]] = {
        "phantom": (generate_phantom(PHANTOM_SEED + n, size=256).image.pixels for n in range(chosen.phantoms)),
    }
    for source in SOURCES:
        paths = trained_films(chosen.data, source, marks, chosen.count) if (chosen.data / source).is_dir() else []
        if len(paths) >= 20:
            sets[source] = (read_image(path).pixels for path in paths)
        sys.stdout.write(f"{source}: {len(paths)} films of patients that the student learnt from\n")
    # Phantoms scatter more than films: measured by the films' limit one in seven lay too far to be told anything of.
    untaught = [name for name in UNTAUGHT if name in sets]
    distance = calibrate_distance(
        lambda view: student.answer(view[None]).features, student.size, sets=sets, apart=("phantom",), untaught=untaught,
        least_age=least_age(chosen.data),
    )
    path = distance.write(chosen.model)
    write_card(replace(student.card, files={**student.card.files, DISTANCE_NAME: sha256_file(path)}), chosen.model)
    limits = ", ".join(f"{name} {limit:.2f}" for name, limit in zip(sorted(sets), distance.limits, strict=True))
    sys.stdout.write(f"{path}: {distance.n} films, limits {limits}, from {distance.least_age} years\n")


if __name__ == "__main__":
    main()
