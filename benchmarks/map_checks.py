"""Do the checks that withhold a map tell good maps from bad ones? Judged by boxes on films the student never met.

    python benchmarks/map_checks.py [DATA] [--only nih|phantom] [--count N] [--write]

For every finding that a story dwells on and that a reader (NIH, RSNA) or the phantom's maker boxed: whether its map was shown,
and whether its strongest point lies in a box (the pointing game of Zhang et al., ECCV 2016). Beside it the chance that a point
anywhere in the drawn lungs would hit. DATA is the folder that holds nih/ (default: STORYXAI_REAL_DATA or ../shared/data).
Intervals are 95 %, by patient. With --write the figures go into results/map-checks/figures.json,
and NIH's into the model card, from which stories cite them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shipped_figures import said
from storyxai.data.table import StudyTable, read_table
from storyxai.evidence.gather import GatherSettings, gather
from storyxai.imaging.read import read_image
from storyxai.metrics.bootstrap import Estimate, bootstrap_interval, mean_statistic, paired_difference
from storyxai.models.card import card_figures, read_card, write_card
from storyxai.models.runtime import SHIPPED, Student, load_student
from storyxai.programs.data import import_data, make_phantoms
from storyxai.provenance import canonical_json
from storyxai.scorecard.judge import unseen_rows
from storyxai.types import Box, Evidence

ROOT = Path(__file__).resolve().parents[1]
PHANTOM_SEED, SIZE = 9_000_000, 512


def main() -> None:
    """Gather, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("STORYXAI_REAL_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("data", type=Path, nargs="?", default=Path(default))
    parser.add_argument("--only", action="append", choices=("nih", "phantom"))
    parser.add_argument("--count", type=int, default=200, help="phantoms to make")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    student, records = load_student(), {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.only or ("nih", "phantom"):
            folder, table = given.data / name, Path(scratch) / f"{name}.parquet"
            if name == "phantom":
                folder = Path(scratch) / name
                make_phantoms(folder, count=given.count, seed=PHANTOM_SEED, size=SIZE)
            if not folder.is_dir():
                sys.stdout.write(f"{name}: skipped, {folder.name} is absent\n")
                continue
            import_data(name, folder, table)
            records[name] = judged(maps_of(student, table))
            sys.stdout.write("\n".join(lines(name, records[name])) + "\n")
    if given.write:
        if "nih" in records:
            card = read_card(SHIPPED)
            hits = card_figures({"map_hits": hits_of(records["nih"])}).map_hits
            write_card(replace(card, figures=replace(card.figures, map_hits=hits)), SHIPPED)
        out = ROOT / "results" / "map-checks"
        out.mkdir(exist_ok=True)
        (out / "figures.json").write_bytes(canonical_json({"model": student.card.model_id, "sets": records}))


def maps_of(student: Student, path: Path) -> pd.DataFrame:
    """One row for each map of a boxed finding that a story dwells on: shown or why not, hit, chance."""
    table = unseen_rows(student, read_table(path), "unseen", path)
    rows = [row for row in rows_of(table) if len(table.boxes_of(row, height=1, width=1))]
    found: list[dict[str, Any]] = []
    for done, row in enumerate(rows):
        image = read_image(table.image_path(row))
        evidence = gather(student, image, settings=GatherSettings(force=True))
        height, width = image.pixels.shape
        boxes = table.boxes_of(row, height=height, width=width)
        for item in _maps(evidence, boxes):
            found.append({"patient": str(row["patient_id"]), "image": done, **item})
        if done % max(1, len(rows) // 10) == 0:
            sys.stderr.write(f"films ({done}/{len(rows)})\n")
    return pd.DataFrame(found)


def rows_of(table: StudyTable) -> list[dict[str, Any]]:
    """The table's rows as plain mappings."""
    return table.frame.to_dict("records")  # type: ignore[return-value]


def _maps(evidence: Evidence, boxes: Sequence[Box]) -> list[dict[str, Any]]:
    out = []
    dwelt = {heatmap.finding for heatmap in evidence.heatmaps if heatmap.method == "lime"}
    tiers = {finding.name: finding.tier for finding in evidence.prediction.findings}
    masks = evidence.prediction.masks
    lungs = masks["left_lung"] | masks["right_lung"]
    for heatmap in evidence.heatmaps:
        mine = [box for box in boxes if box.finding == heatmap.finding]
        if heatmap.finding not in dwelt or not mine:
            continue
        region = np.zeros(heatmap.values.shape, dtype=np.bool_)
        for box in mine:
            x, y = max(0, round(box.x)), max(0, round(box.y))
            region[y : round(box.y + box.height), x : round(box.x + box.width)] = True
        # All of LIME's strongest superpixel is equally strong: a hit in part, by the share of it that lies in a box.
        top = float(heatmap.values.max())
        checks = {c.name: c.passed for c in evidence.checks if (c.finding, c.method) == (heatmap.finding, heatmap.method)}
        out.append({
            "finding": heatmap.finding, "method": heatmap.method, "tier": tiers[heatmap.finding], "shown": heatmap.shown,
            "failed": " ".join(sorted(name for name, passed in checks.items() if passed is False)),
            "hit": float(region[heatmap.values >= top - 1e-6 * abs(top)].mean()),
            "chance": float((region & lungs).sum() / lungs.sum()) if lungs.any() else np.nan,
        })
    return out


def judged(maps: pd.DataFrame) -> list[dict[str, Any]]:
    """Hit rates of shown and withheld maps of each method, and their difference; those failing each check apart."""
    out = []
    for method, rows in maps.groupby("method"):
        patients = rows["patient"].to_numpy(dtype=str)
        hit, shown = rows["hit"].to_numpy(), rows["shown"].to_numpy(dtype=bool)
        apart = {"shown": shown, "withheld": ~shown}
        for check in sorted({name for failed in rows["failed"] for name in failed.split()}):
            apart[f"failing {check}"] = np.array([check in failed.split() for failed in rows["failed"]])
        groups = {
            name: {"maps": int(mask.sum()), "patients": len(set(patients[mask])),
                   "hit_rate": _plain(bootstrap_interval(mean_statistic(np.where(mask, hit, np.nan)), patients, seed=0)),
                   "chance": float(np.nanmean(rows["chance"].to_numpy()[mask])) if mask.any() else None}
            for name, mask in apart.items()
        }
        gap = paired_difference(
            mean_statistic(np.where(shown, hit, np.nan)), mean_statistic(np.where(shown, np.nan, hit)), patients, seed=0
        )
        out.append({
            "method": str(method), "maps": len(rows), "images": int(rows["image"].nunique()), "groups": groups,
            "shown_minus_withheld": _plain(gap),
            "findings": {str(name): int(count) for name, count in rows["finding"].value_counts().sort_index().items()},
        })
    return out


def hits_of(record: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What stories cite of it, by method."""
    return {
        one["method"]: {"data": "nih (unseen)"} | {
            group: {
                "hit_rate": found["hit_rate"]["value"], "interval": [found["hit_rate"]["low"], found["hit_rate"]["high"]],
                "n": found["maps"], "chance": found["chance"],
            }
            for group, found in one["groups"].items() if group in ("shown", "withheld") and found["maps"]
        }
        for one in record
    }


def lines(name: str, record: Sequence[dict[str, Any]]) -> list[str]:
    """The figures in words."""
    out = []
    for one in record:
        out.append(f"{name}, {one['method']}: {one['maps']} maps of boxed findings in {one['images']} films")
        for group, found in one["groups"].items():
            chance = "" if found["chance"] is None else f" (chance {found['chance']:.3f})"
            out.append(f"  {group}: hit rate {said(found['hit_rate'])}{chance}, {found['maps']} maps, "
                       f"{found['patients']} patients")
        out.append(f"  shown minus withheld: {said(one['shown_minus_withheld'])}")
    return out


def _plain(found: Estimate) -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high}


if __name__ == "__main__":
    main()
