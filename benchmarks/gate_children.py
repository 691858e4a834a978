"""What the shipped student would tell of children's films, and how many films of whom are now told nothing of.

    python benchmarks/gate_children.py [DATA] [--write]

Kermany's films taught outlines alone; the labels of their folders (normal, pneumonia) taught nothing and can judge. Which films
are nearest to such a set is asked out of fold: a fifth of the patients at a time, by centres of the others. DATA is the
folder with nih/, nih128/, nih64/, kermany/ and covid/ (default: STORYXAI_REAL_DATA or ../shared/data). With --write the
figures go into `results/shipped/children.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from calibrate_distance import SOURCES, frontal
from shipped_figures import text_of
from storyxai.data.folds import deal_folds
from storyxai.data.importing import read_source
from storyxai.errors import StoryxaiError
from storyxai.evidence.predict import calibrated
from storyxai.files import write_whole
from storyxai.imaging.distance import fit_distance, summary
from storyxai.imaging.geometry import model_frame
from storyxai.imaging.read import read_image
from storyxai.metrics.bootstrap import draw_resamples, estimate_share, mean_statistic
from storyxai.models.runtime import Student, load_student
from storyxai.provenance import canonical_json

ROOT = Path(__file__).resolve().parents[1]
SETS = {**SOURCES, "covid": "covid"}
UNTAUGHT, MOST, FOLDS, REPLICATES = "kermany", 1200, 5, 1000


def looked_at(student: Student, data: Path, name: str) -> pd.DataFrame:
    """Up to `MOST` frontal films of a set, drawn by seed: patient, label of pneumonia, summary, what reaches its threshold."""
    table = read_source(SETS[name], data / name)
    frame = frontal(table)
    frame = frame.iloc[np.sort(np.random.default_rng(0).permutation(len(frame))[:MOST])]
    rows, scales = [], [student.card.calibration[finding] for finding in student.findings]
    for row in frame.to_dict("records"):
        try:
            pixels = read_image(table.root / row["image"]).pixels
        except StoryxaiError:
            continue
        answer = student.answer(model_frame(*pixels.shape, size=student.size).to_model(pixels)[None])
        asked = zip(student.findings, answer.logits, scales, strict=True)
        found = [calibrated(finding, float(logit), scale) for finding, logit, scale in asked]
        named = frozenset(one.name for one in found if one.probability >= one.threshold)
        rows.append((name, row["patient_id"], row["label_Pneumonia"], summary(answer.features), named))
    return pd.DataFrame(rows, columns=["set", "patient", "pneumonia", "summary", "named"])


def taken_for(films: pd.DataFrame) -> pd.Series:
    """Whether each film is nearest to the set that taught no findings, by centres of the other patients' films."""
    folds = films["patient"].map(deal_folds(films["patient"].tolist(), np.zeros((len(films), 1)), folds=FOLDS))
    said = pd.Series(False, index=films.index)
    for fold in range(FOLDS):
        others = films[(folds != fold) & (films["set"] != "covid")]
        sets = {name: np.stack(group.to_list()) for name, group in others.groupby("set")["summary"]}
        known = fit_distance(sets, untaught=(UNTAUGHT,))
        for place in films.index[folds == fold]:
            said[place] = (known.near(films.at[place, "summary"]).untaught or 0) > 0
    return said


def share(told: pd.Series, patients: pd.Series) -> str:
    """A share with its 95 % interval by patient, and on how much it rests."""
    resamples, people = draw_resamples(patients.tolist(), count=REPLICATES, seed=0), patients.nunique()
    one = estimate_share(mean_statistic(told.to_numpy(float)), resamples, patients=people)
    return f"{text_of(asdict(one))}, {len(told)} films of {people} patients"


def main() -> None:
    """Prints the figures, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    usual = Path(os.environ.get("STORYXAI_REAL_DATA") or ROOT.parent / "shared" / "data")
    parser.add_argument("data", type=Path, nargs="?", default=usual)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    student = load_student()
    films = pd.concat([looked_at(student, chosen.data, name) for name in SETS], ignore_index=True)
    films["taken"] = taken_for(films)
    figures: dict[str, str] = {}
    for name, group in films.groupby("set"):
        figures[f"{name}: taken for films that taught no findings"] = share(group["taken"], group["patient"])
    children = films[films["set"] == UNTAUGHT]
    for label, group in (("normal", children[children["pneumonia"] == 0]), ("pneumonia", children[children["pneumonia"] == 1])):
        some = group["named"].map(bool)
        figures[f"{UNTAUGHT}, {label}: some finding would be named"] = share(some, group["patient"])
        figures[f"{UNTAUGHT}, {label}: some finding is named"] = share(some & ~group["taken"], group["patient"])
        for finding in ("Infiltration", "Pneumothorax"):
            one = pd.Series([finding in named for named in group["named"]])
            figures[f"{UNTAUGHT}, {label}: {finding} would be named"] = share(one, group["patient"])
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    if chosen.write:
        write_whole(canonical_json(figures), ROOT / "results" / "shipped" / "children.json")


if __name__ == "__main__":
    main()
