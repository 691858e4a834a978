"""The figures of the shipped student on patients it never met: NIH, Kermany, COVID, and fresh phantoms.

    python benchmarks/shipped_figures.py [DATA] [--only NAME] [--control MODEL] [--teacher WEIGHTS ...] [--write]

DATA is the folder that holds nih/, kermany/ and covid/ (default: STORYXAI_REAL_DATA or ../shared/data). --control names a
student that is judged beside it on the NIH films (the same network taught by labels alone), --teacher the weights of its
teachers of findings, whose answers there are averaged. With --write the figures go into
the model card, from which stories cite them, and the scorecards into results/.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storyxai.data.table import StudyTable, read_lung_mask, read_table
from storyxai.imaging.geometry import model_frame
from storyxai.imaging.read import read_image
from storyxai.models.card import card_figures, read_card, write_card
from storyxai.models.runtime import SHIPPED, load_student
from storyxai.programs.data import import_data, make_phantoms
from storyxai.programs.pipeline import evaluate_student, figures_of, write_scorecard
from storyxai.scorecard.judge import JudgeOptions, unseen_rows

ROOT = Path(__file__).resolve().parents[1]
PHANTOM_SEED, PHANTOMS = 9_000_000, 200
SETS = ("nih", "kermany", "covid", "phantom")


def say(step: str, done: int, total: int) -> None:
    """A line at every fifth."""
    if done % max(1, total // 5) == 0:
        sys.stderr.write(f"{step} ({done}/{total})\n")


def main() -> None:
    """Evaluate, print, and with --write keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("STORYXAI_REAL_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("data", type=Path, nargs="?", default=Path(default))
    parser.add_argument("--only", action="append", choices=SETS, help="may be repeated; default: all")
    parser.add_argument("--control", type=Path)
    parser.add_argument("--teacher", type=Path, action="append", default=[], help="may be repeated")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    chosen = given.only or list(SETS)
    student = load_student()
    records: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        if "phantom" in chosen:
            make_phantoms(work / "phantom", count=PHANTOMS, seed=PHANTOM_SEED, size=512, progress=say)
        for name in chosen:
            folder = work / "phantom" if name == "phantom" else given.data / name
            if not folder.is_dir():
                sys.stdout.write(f"{name}: skipped, {folder.name} is absent\n")
                continue
            table = work / f"{name}.parquet"
            import_data(name, folder, table)
            if name == "covid":
                keep_outlined(table)
            beside = [load_student(given.control)] if given.control and name == "nih" else []
            heard = {}
            if given.teacher and name == "nih":
                rows = unseen_rows(student, read_table(table), "unseen", table)
                heard = {"teachers of findings": answers_of(given.teacher, rows)}
            records[name] = evaluate_student(
                student, table, JudgeOptions("unseen"), beside=beside, teachers=heard, progress=say
            )
            for line in lines(name, records[name]):
                sys.stdout.write(line + "\n")
    if given.write:
        figures: dict[str, Any] = asdict(read_card(SHIPPED).figures)
        if "phantom" in records:
            phantom = figures_of(records["phantom"])
            figures |= {"report": phantom.get("report", {}), "phantom_per_finding": phantom["per_finding"]}
        if "kermany" in records:
            figures |= {"lungs": figures_of(records["kermany"]).get("lungs", {})}
        if "nih" in records:
            real = figures_of(records["nih"])
            figures |= {"per_finding": real["per_finding"], "subgroups": real["subgroups"]}
            if given.teacher:
                figures |= {"agreement": real["agreement"]}
        write_card(replace(read_card(SHIPPED), figures=card_figures(figures)), SHIPPED)
        for name, record in records.items():
            write_scorecard(record, ROOT / "results" / f"shipped-{name}")


def answers_of(weights: list[Path], table: StudyTable) -> dict[str, NDArray[np.float32]]:
    """The mean log-odds of the networks of `weights` for every image of a table, each seen as the network sees films."""
    import torch

    from storyxai.models.export import load_network

    networks = [load_network(path).eval() for path in weights]
    answers = {}
    for done, row in enumerate(table.frame.to_dict("records"), start=1):
        pixels = read_image(table.image_path(row)).pixels
        said = []
        for network in networks:
            shown = model_frame(*pixels.shape, size=network.spec.size).to_model(pixels)
            with torch.no_grad():
                said.append(network(torch.from_numpy(shown)[None, None]).logits[0].numpy())
        answers[str(row["image_id"])] = np.mean(said, axis=0)
        say("teachers", done, len(table.frame))
    return answers


def keep_outlined(table: Path) -> None:
    """The rows of a table that have a lung mask; the set's own findings are few and weak, and are not judged here."""
    read = read_table(table)
    keep = np.array([read_lung_mask(read, row) is not None for row in read.frame.to_dict("records")], dtype=np.bool_)
    read.select(rows=keep).write(table)


def lines(name: str, record: dict[str, Any]) -> list[str]:
    """The main figures of one scorecard."""
    out = [f"{name}: {record['dataset']['images']} images, {record['dataset']['patients']} patients"]
    for model in record["models"]:
        for which, mean in (("all ", model["mean_auroc_all"]), ("", model["mean_auroc"])):
            if mean and mean["value"] is not None:
                out.append(f"  {model['name']}: mean AUROC of {which}{mean['finding_count']} findings {said(mean)}")
        for item in model["findings"]:
            if model["role"] == "student" and item["positives"] >= 3:
                out.append(f"    {item['finding']}: AUROC {said(item['auroc'])}, positives {item['positives']} of {item['n']}")
        for mask in model["masks"]:
            out.append(f"  {model['name']}: Dice of {mask['mask']} {said(mask['dice'])}, n = {mask['images']}")
        for box in model["detection"]:
            if box["boxes"] >= 5:
                out.append(f"  {model['name']}: {box['finding']}, hit rate {said(box['hit_rate'])}, best box's IoU "
                           f"{said(box['top_box_iou'])}, {box['boxes']} boxes, {box['images']} images")
        if model["reports"]:
            out.append(f"  {model['name']}: report finding F1 {said(model['reports']['finding_f1_micro'])}")
    for baseline in record["report_baselines"]:
        if baseline["reports"]:
            out.append(f"  {baseline['name']}: report finding F1 {said(baseline['reports']['finding_f1_micro'])}")
    for item in record["differences"]:
        for which, gap in (("all ", item["mean_auroc_all"]), ("", item["mean_auroc"])):
            if gap and gap["value"] is not None:
                pair = f"{item['student']} minus {item['other']}"
                out.append(f"  {pair}, mean AUROC of {which}{gap['finding_count']} findings: {said(gap)}")
    return out


def said(estimate: dict[str, Any]) -> str:
    """A figure with its interval, in words."""
    if estimate["value"] is None:
        return "not defined"
    if estimate["low"] is None:
        return f"{estimate['value']:.3f} (no interval)"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


if __name__ == "__main__":
    main()
