"""How often maps of the shipped student of dermoscopy hit what was planted: fits its `trust.json` on phantoms.

    python benchmarks/skin_trust.py [--count 250] [--write]

Of phantoms that it did not learn from (seeds from 700,000) each finding that is present is explained by Grad-CAM, the
evidence grid and LIME; a hit is a strongest point within the mask of what was planted. The fit is that of `map_trust.py`,
its figures are of parts of phantoms that were left out. With --write the trust goes into the student's folder and its card.
`skin_maps.py` judges the maps that are then shown, on other phantoms. All is of synthetic lesions: of people it says nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from hit_fit import hits_of, judged, lines
from storyxai.evidence.gather import told_findings
from storyxai.evidence.maps import draw, maps_of, values_of
from storyxai.evidence.predict import OneLook, predict, view_of
from storyxai.evidence.trust import TRUST_NAME, write_trust
from storyxai.explain.contract import Budget
from storyxai.explain.registry import method_named
from storyxai.metrics.faithfulness import baseline_maps, energy_inside, hit_share
from storyxai.modalities.dermoscopy.modality import DERMOSCOPY
from storyxai.models.card import card_figures, read_card, write_card
from storyxai.models.runtime import Student, load_student, shipped_students
from storyxai.phantoms.dermoscopy import SkinPhantom, generate_skin_phantom
from storyxai.provenance import sha256_file
from storyxai.types import Array, Mask

FIRST_SEED, SIZE = 700_000, 192
DATA = "phantom (unseen)"
GROUPS = (("grad_cam", "lime"), ("evidence_grid",))
"""Methods that are drawn together face each other; the evidence grid is the witness of both, and is drawn apart."""
Row = dict[str, Any]


def main() -> None:
    """Collect, fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=250)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    student = load_student(shipped_students()["dermoscopy"])
    rows: list[Row] = []
    for seed in range(FIRST_SEED, FIRST_SEED + given.count):
        rows += rows_of(student, generate_skin_phantom(seed, size=SIZE), given.samples)
    trust, record = judged(pd.DataFrame(rows), models="the shipped student of dermoscopy")
    trust = replace(trust, data=f"{given.count} synthetic lesions that the model had not learnt from")
    sys.stdout.write("\n".join(lines(record)) + "\n")
    if given.write:
        path = write_trust(trust, student.folder)
        card = read_card(student.folder, check_files=False)
        hits = {method: one | {"data": DATA} for method, one in hits_of(record).items()}
        figures = replace(card.figures, map_hits=card_figures({"map_hits": hits}).map_hits)
        write_card(replace(card, files={**card.files, TRUST_NAME: sha256_file(path)}, figures=figures), student.folder)


def rows_of(student: Student, phantom: SkinPhantom, samples: int) -> Iterator[Row]:
    """One row a map of each finding that is present or told, by each method."""
    once = OneLook(student, view_of(student, phantom.image)[0])
    seen = predict(once, phantom.image, DERMOSCOPY)
    told = told_findings(seen.prediction.findings)
    wanted = tuple(name for name in student.findings if name in phantom.sign_masks or name in told)
    assert DERMOSCOPY.survey is not None
    survey = DERMOSCOPY.survey(seen.prediction.masks, spacing_mm=None, mask_pixel=seen.mask_pixel)
    blind = baseline_maps(phantom.image.pixels.mean(axis=2), seed=phantom.seed)
    for keys in GROUPS:
        drawings = replace(
            draw(
                once,
                seen,
                DERMOSCOPY,
                [method_named(key) for key in keys],
                told=wanted,
                stored=wanted,
                survey=survey,
                budget=Budget(samples=samples),
            ),
            trust={},
        )
        for finding in wanted:
            place = None if survey is None else survey.place(finding)
            for heatmap, found in maps_of(drawings, finding):
                drawing = next(one for one in drawings.drawn if one.method.key == heatmap.method)
                grid = drawing.maps[finding].values
                row: Row = {
                    "patient": phantom.patient_id,
                    "finding": finding,
                    "method": heatmap.method,
                    "told": finding in told,
                    "passed": heatmap.shown,
                    "peak": heatmap.values.max(),
                    "hit": np.nan,
                    "lime": np.nan,
                    "grid": grid,
                    **values_of(drawings, drawing, finding, found, place),
                }
                planted = phantom.sign_masks.get(finding)
                yield row if planted is None else row | against(heatmap.values, planted, blind, grid.shape)


def against(values: Array, planted: Mask, blind: dict[str, Array], shape: tuple[int, ...]) -> Row:
    """Hit and energy of a map and of those that know nothing; whether the middle of each of its cells was planted."""
    rows, columns = (((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip(shape, planted.shape, strict=True))
    row: Row = {"hit": hit_share(values, planted), "energy": energy_inside(values, planted)}
    for name in ("centre", "random"):
        row |= {f"{name}_hit": hit_share(blind[name], planted), f"{name}_energy": energy_inside(blind[name], planted)}
    return row | {"cells": planted[np.ix_(rows, columns)].ravel()}


if __name__ == "__main__":
    main()
