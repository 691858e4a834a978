"""Does LIME rank superpixels with few samples as with 4,000? The shipped student on phantoms and on real films.

    python benchmarks/lime_ranking.py [DATA] [--phantoms N] [--films N] [--superpixels N] [--out FILE]

The reference are 4,000 independent samples with a seed of their own; figures are Spearman's rank correlation with it over its
ten strongest superpixels, of each finding that a story tells (of the likeliest where it tells none): of LIME as it stops by
itself, of a foldover design and of independent samples at 256 and 400, and of half the reference, which says how well it knows
itself. DATA holds nih128/ (default: STORYXAI_REAL_DATA or ../shared/data). A line is printed after each film.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from storyxai.data.sources.nih import read_nih
from storyxai.evidence.filling import scene_of
from storyxai.evidence.gather import GatherSettings, look_at, modality_for, told_findings
from storyxai.explain.contract import Budget
from storyxai.explain.inputs import Predict
from storyxai.explain.lime import Lime, LimeFit, lime
from storyxai.explain.perturbation import fill_for
from storyxai.explain.superpixels import slic_segments
from storyxai.imaging.read import read_image
from storyxai.metrics.agreement import rank_correlation
from storyxai.models.runtime import Student, load_student
from storyxai.phantoms.generate import generate_phantom
from storyxai.provenance import canonical_json
from storyxai.types import Array, Image

REFERENCE, STRONGEST, FEW = 4000, 10, (256, 400)
FIRST_PHANTOM, FILM_ORDER = 8_200_000, 4
MOST = 2048


def main() -> None:
    """Measure film by film; what was measured is in the file after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path(os.environ.get("STORYXAI_REAL_DATA", "../shared/data")))
    parser.add_argument("--phantoms", type=int, default=10)
    parser.add_argument("--films", type=int, default=20)
    parser.add_argument("--superpixels", type=int, default=Lime().superpixels)
    parser.add_argument("--out", type=Path, default=Path("lime_ranking.json"))
    given = parser.parse_args()
    student, rows = load_student(), []
    for kind, name, image in images(given):
        rows += [{"kind": kind, "image": name, **row} for row in ranked(student, image, given.superpixels)]
        given.out.write_bytes(canonical_json({"rows": rows, "summary": summary(rows)}))
        sys.stdout.write(f"{kind} {name}: {json.dumps(summary(rows)[kind])}\n")
        sys.stdout.flush()


def images(given: argparse.Namespace) -> Iterator[tuple[str, str, Image]]:
    """Phantoms and films in turn, as long as there are any."""
    phantoms = ((f"{seed}", generate_phantom(seed, size=256).image) for seed in range(FIRST_PHANTOM, 2 * FIRST_PHANTOM))
    table = read_nih(given.data / "nih128") if given.films else None
    rows = [] if table is None else table.frame.to_dict("records")
    order = np.random.default_rng(FILM_ORDER).permutation(len(rows))[: given.films]
    for place in range(max(given.phantoms, given.films)):
        if place < len(order) and table is not None:
            path = table.image_path(rows[order[place]])
            yield "film", path.name, read_image(path)
        if place < given.phantoms:
            yield "phantom", *next(phantoms)


def ranked(student: Student, image: Image, superpixels: int) -> list[dict[str, object]]:
    """One row a finding."""
    seen, _ = look_at(student, image, settings=GatherSettings(force=True))
    findings = seen.prediction.findings
    told = told_findings(findings) or (max(findings, key=lambda f: f.probability).name,)
    columns = [list(student.findings).index(name) for name in told]
    scene = scene_of(seen, modality_for(student))
    segments, (fill, _) = slic_segments(seen.pixels, count=superpixels, structures=scene.structures), fill_for(None, scene)

    def predict(batch: Array) -> Array:
        return np.ascontiguousarray(student.logits(batch)[:, columns])

    def fitted(samples: int | None, seed: int, fit: LimeFit, ask: Predict = predict):
        return lime(ask, seen.pixels, segments, fill=fill, fit=fit, budget=Budget(samples, seed=seed))

    alone, pairs = LimeFit(design="independent"), LimeFit(most=MOST)
    reference, half = (fitted(count, seed, alone).coefficients for count, seed in ((REFERENCE, 77), (REFERENCE // 2, 78)))
    found = {"half the reference": half} | {
        f"{name} {count}": fitted(count, 1, fit).coefficients
        for name, fit in (("foldover", pairs), ("independent", alone)) for count in FEW
    }
    adaptive = fitted(None, 0, pairs)
    found["adaptive"] = adaptive.coefficients
    rows = []
    for row, name in enumerate(told):
        top = np.argsort(-np.abs(reference[row]), kind="stable")[:STRONGEST]
        agreed = {key: rank_correlation(values[row, top], reference[row, top]) for key, values in found.items()}
        rows.append({"finding": name, "superpixels": len(reference[row]), "samples": int(adaptive.samples[row]),
                     "stopped": adaptive.stopped[row], **agreed})
    return rows


def summary(rows: list[dict[str, object]]) -> dict[str, dict[str, object]]:
    """Medians by kind of image, and the share of findings that reach 0.9."""
    out: dict[str, dict[str, object]] = {}
    for kind in sorted({str(row["kind"]) for row in rows}):
        own = [row for row in rows if row["kind"] == kind]
        names = [key for key, value in own[0].items() if isinstance(value, float)]
        out[kind] = {"images": len({row["image"] for row in own}), "findings": len(own),
                     "median samples": float(np.median([row["samples"] for row in own]))} | {
            name: [round(float(np.median([row[name] for row in own])), 3),
                   round(float(np.mean([row[name] >= 0.9 for row in own])), 3)] for name in names
        }
    return out


if __name__ == "__main__":
    main()
