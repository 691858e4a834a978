"""How often maps of the shipped student of dermoscopy hit what was planted: fits its `trust.json` on phantoms.

    python benchmarks/skin_trust.py [--count 250] [--out FILE.json] [--write]

Of phantoms that it did not learn from (seeds from 700,000) each finding that is present is explained by Grad-CAM, the
evidence grid and LIME; a hit is a strongest point within the mask of what was planted. The fit is that of `map_trust.py`
with a rate of its own for each finding (a lesion is larger than a streak), its figures are of parts of phantoms that were left
out. With --write the trust goes into the student's folder and its card.
`skin_maps.py` judges the maps that are then shown, on other phantoms. All is of synthetic lesions: of people it says nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from hit_fit import hits_of, judged, lines, write_trust
from map_trust import Row, drawn_rows
from storyxai.evidence.gather import told_findings
from storyxai.evidence.predict import OneLook, predict, view_of
from storyxai.evidence.trust import TRUST_NAME
from storyxai.modalities.dermoscopy.modality import DERMOSCOPY
from storyxai.models.card import card_figures, read_card, write_card
from storyxai.models.runtime import Student, load_student, shipped_students
from storyxai.phantoms.dermoscopy import SkinPhantom, generate_skin_phantom
from storyxai.provenance import canonical_json, sha256_file

FIRST_SEED, SIZE = 700_000, 192
DATA = "phantom (unseen)"
GROUPS = (("grad_cam", "lime"), ("evidence_grid",))
"""Methods that are drawn together face each other; the evidence grid is the witness of both, and is drawn apart."""


def main() -> None:
    """Collect, fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=250)
    parser.add_argument("--out", type=Path, help="where the figures go")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    student = load_student(shipped_students()["dermoscopy"])
    rows: list[Row] = []
    for seed in range(FIRST_SEED, FIRST_SEED + given.count):
        rows += rows_of(student, generate_skin_phantom(seed, size=SIZE))
    trust, record = judged(pd.DataFrame(rows), models="the shipped student of dermoscopy", by_finding=True)
    data = f"{given.count} synthetic lesions that the model had not learnt from"
    trust, record = replace(trust, data=data), record | {"data": data}
    sys.stdout.write("\n".join(lines(record)) + "\n")
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_bytes(canonical_json(record))
    if given.write:
        path = write_trust(trust, student.folder)
        card = read_card(student.folder, check_files=False)
        hits = {method: one | {"data": DATA} for method, one in hits_of(record).items()}
        figures = replace(card.figures, map_hits=card_figures({"map_hits": hits}).map_hits)
        write_card(replace(card, files={**card.files, TRUST_NAME: sha256_file(path)}, figures=figures), student.folder)


def rows_of(student: Student, phantom: SkinPhantom) -> Iterator[Row]:
    """One row a map of each finding that is present or told, by each method."""
    once = OneLook(student, view_of(student, phantom.image)[0])
    seen = predict(once, phantom.image, DERMOSCOPY)
    told = told_findings(seen.prediction.findings)
    wanted = tuple(name for name in student.findings if name in phantom.sign_masks or name in told)
    for keys in GROUPS:
        for row in drawn_rows(once, seen, keys, wanted, phantom.sign_masks, phantom.image, DERMOSCOPY):
            yield {"patient": phantom.patient_id, "told": row["finding"] in told, **row}


if __name__ == "__main__":
    main()
