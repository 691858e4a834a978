"""Do the checks tell maps that hit a reader's box from maps that miss? Fits `trust.json` and says how well it does.

    python benchmarks/map_trust.py [DATA] --folds FOLDS.json --student 0=FILE --student 1=FILE [--lime N] [--theirs N]
        [--phantoms N] [--out FOLDER] [--models WORDS] [--write]
    python benchmarks/map_trust.py --ready FOLDER --write

FILE is a network (`save_network`) that was trained on every fold but the one it is named for, FOLDS.json gives each patient's
fold; DATA holds nih/, nih128/, nih64/ (default: STORYXAI_REAL_DATA or ../shared/data). Only films of the fold that a network
has not met are asked. A hit is the pointing game of Zhang et al., ECCV 2016, without its tolerance; the rate with it, where the
strongest point may lie beside the box by 3 % of the side, is given too. Intervals are 95 %, by patient. `--lime` and
`--theirs` also draw LIME's and pytorch-grad-cam's maps of so many films a fold, `--phantoms` judges the shipped student's maps
of so many phantoms with the fitted trust (LIME asked of as many as `--lime` says).
The trust goes into --out; with --write the figures go into results/map-checks/figures.json and docs/figures.md, trust and hits
into the shipped student's folder and card. --ready writes what an earlier run left in FOLDER, when the card was made anew.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from hit_fit import (
    GROUPS,
    decided,
    documented,
    grouped,
    hits_of,
    judged,
    lime_worth,
    lines,
    mean_of,
    worth_of_checks,
    write_trust,
)  # fmt: skip
from storyxai.data.sources.nih import read_nih
from storyxai.data.table import StudyTable
from storyxai.evidence.gather import told_findings
from storyxai.evidence.maps import Wanted, draw, maps_of, values_of
from storyxai.evidence.predict import OneLook, Seen, predict, view_of
from storyxai.evidence.trust import TRUST_NAME, Trust, read_trust
from storyxai.explain.contract import Budget, Method
from storyxai.explain.registry import method_named
from storyxai.imaging.geometry import model_frame
from storyxai.imaging.read import read_image
from storyxai.metrics.calibration import fit_platt
from storyxai.metrics.faithfulness import POINTING_TOLERANCE, baseline_maps, energy_inside, hit_share
from storyxai.modalities.chest_radiograph.anatomy import WIDEST
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH as CHEST
from storyxai.modalities.contract import Modality
from storyxai.models.card import Calibration, card_figures, read_card, write_card
from storyxai.models.export import load_network
from storyxai.models.network import Network
from storyxai.models.network_model import NetworkModel
from storyxai.models.runtime import GRAPHS, SHIPPED, Student, load_student
from storyxai.phantoms.generate import generate_phantom
from storyxai.provenance import canonical_json, sha256_file
from storyxai.types import Array, Box, Image, Mask

ROOT = Path(__file__).resolve().parents[1]
SETS = ("nih", "nih128", "nih64")
PHANTOM_SEED, PHANTOM_SIZE = 9_000_000, 256
LARGEST_SIDE = 128
"""Films are made no larger than this: maps have 8 x 8 cells, and a box is found on them to within a hundredth of the side."""
CALIBRATING = 300
LIME_SAMPLES = 500
ARRAYS = ("grid", "cells")
METHODS = ("grad_cam", "evidence_grid")
FINE, LEADING = "fine_occlusion", "leading"
"""The method of small findings, and the map that a story leads with: that one's where it drew the finding, else Grad-CAM's."""
ALSO = {"near": "near", "centre": "centre_hit"}
"""Rates that stand beside that of hits, and the columns that they are of."""
MODELS = "networks of the shipped student's architecture, each trained without the fold that it was asked about"
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Case:
    """One boxed film, at most LARGEST_SIDE pixels high and wide."""

    patient: str
    image: Image
    boxes: tuple[Box, ...]


def main() -> None:
    """Collect, fit, judge, print."""
    given = arguments()
    if given.ready is None:
        record = measured(given)
    else:
        given.out, record = given.ready, json.loads((given.ready / "figures.json").read_bytes())
    sys.stdout.write("\n".join(lines(record)) + "\n")
    if given.write:
        write_everywhere(record, read_trust(given.out))


def measured(given: argparse.Namespace) -> Row:
    """The figures; trust and figures are left in `given.out`."""
    folds = json.loads(given.folds.read_text(encoding="utf-8"))
    given.out.mkdir(parents=True, exist_ok=True)
    frame = pd.concat([fold_rows(given, fold, file, folds) for fold, file in given.student], ignore_index=True)
    trust, record = judged(frame, models=given.models)
    record["lime_agreement"] = lime_worth(frame)
    if given.phantoms:
        record["phantoms"] = phantoms_judged(load_student(), trust, given.phantoms, lime=given.lime)
    write_trust(trust, given.out)
    (given.out / "figures.json").write_bytes(canonical_json(record))
    return record


def fold_rows(given: argparse.Namespace, fold: int, file: Path, folds: Mapping[str, int]) -> pd.DataFrame:
    """The maps of one fold, kept in `given.out`: a later run of the same weights, outlines and numbers takes them."""
    network, numbers = load_network(file), f"{given.films}-{given.lime}-{given.theirs}"
    drawn = "own" if "masks" in network.spec.tasks else sha256_file(SHIPPED / GRAPHS["look"])[:8]
    path = given.out / f"fold-{fold}-{sha256_file(file)[:12]}-{drawn}-{numbers}.parquet"
    if not path.is_file():
        films, tables = {patient: place for patient, place in folds.items() if place == fold}, read_tables(given.data)
        student = calibrated_student(fold_student(network), tables, films)
        rows: list[Row] = []
        for done, case in enumerate(islice(boxed_cases(tables, films), given.films)):
            rows += rows_of_case(student, case, lime=done < given.lime, theirs=done < given.theirs)
            note(f"fold {fold}", done)
        flat = [{key: cell.ravel().tolist() if key in ARRAYS else cell for key, cell in row.items()} for row in rows]
        pd.DataFrame(flat).to_parquet(path)
    frame = pd.read_parquet(path)
    for key in ARRAYS:
        frame[key] = [_square(cell) for cell in frame[key]]
    return frame


def _square(cell: Any) -> Any:
    """A grid as it was before it was laid flat; what is no list stays."""
    if not isinstance(cell, np.ndarray):
        return cell
    side = round(len(cell) ** 0.5)
    return cell.reshape(side, -1) if cell.dtype.kind == "f" else cell


def write_everywhere(record: Row, trust: Trust) -> None:
    """Figures into results and docs, trust and hits into the shipped student's folder."""
    out = ROOT / "results" / "map-checks"
    out.mkdir(exist_ok=True)
    (out / "figures.json").write_bytes(canonical_json(record))
    page = ROOT / "docs" / "figures.md"
    text = page.read_text(encoding="utf-8")
    before, _, after = text.partition("## Maps\n")
    tail = after[after.index("\n## ") :] if "\n## " in after else ""
    page.write_text(before + documented(record).rstrip("\n") + "\n" + tail, encoding="utf-8")
    path = write_trust(trust, SHIPPED)
    card = read_card(SHIPPED, check_files=False)
    hits = card_figures({"map_hits": hits_of(record)}).map_hits
    files = {**card.files, TRUST_NAME: sha256_file(path)}
    write_card(replace(card, files=files, figures=replace(card.figures, map_hits=hits)), SHIPPED)


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("STORYXAI_REAL_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("data", type=Path, nargs="?", default=Path(default))
    parser.add_argument("--folds", type=Path)
    parser.add_argument("--student", type=_named, action="append", default=[], help="FOLD=FILE, may be repeated")
    parser.add_argument("--models", default=MODELS, help="what the networks are, in words that the trust and its page state")
    parser.add_argument("--ready", type=Path, help="FOLDER of an earlier run, of which nothing is measured again")
    parser.add_argument("--films", type=int, help="boxed films a fold at most, for a trial")
    parser.add_argument("--lime", type=int, default=0, help="films a fold, and phantoms, of which LIME's maps are drawn too")
    parser.add_argument("--theirs", type=int, default=0, help="films a fold of which pytorch-grad-cam's maps are drawn too")
    parser.add_argument("--phantoms", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("map-checks"))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.ready is None and (given.folds is None or not given.student):
        parser.error("name --folds and a --student or more, or --ready")
    return given


def boxed_cases(tables: Sequence[StudyTable], patients: Mapping[str, int]) -> Iterator[Case]:
    """The boxed films of these patients, smallest copies of the sets last."""
    for table in tables:
        for row in table.frame.to_dict("records"):
            if str(row["patient_id"]) not in patients or not len(table.boxes_of(row, height=1, width=1)):
                continue
            image = _small(read_image(table.image_path(row)))
            height, width = image.pixels.shape
            yield Case(str(row["patient_id"]), image, tuple(table.boxes_of(row, height=height, width=width)))


def fold_student(network: Network) -> NetworkModel:
    """The network, not yet calibrated."""
    outlines = None if "masks" in network.spec.tasks else load_student()
    return NetworkModel(network, outlines=outlines, model_id="fold")


def calibrated_student(
    student: NetworkModel, tables: Sequence[StudyTable], patients: Mapping[str, int]
) -> NetworkModel:
    """The student with its findings calibrated on CALIBRATING films that it has not met."""
    films = [(t, row) for t in tables for row in t.frame.to_dict("records") if str(row["patient_id"]) in patients]
    chosen = np.random.default_rng(0).permutation(len(films))[:CALIBRATING]
    drawn = [films[place] for place in sorted(chosen)]
    views = [view_of(student, _small(read_image(table.image_path(row))))[0] for table, row in drawn]
    logits = np.concatenate([student.logits(np.stack(views[at : at + 50])) for at in range(0, len(views), 50)])
    labels = np.array([[float(row[f"label_{name}"]) for name in student.findings] for _, row in drawn])
    return replace(student, card=replace(student.card, calibration=platt(student.findings, logits, labels)))


def platt(findings: Sequence[str], logits: Array, labels: NDArray[np.float64]) -> dict[str, Calibration]:
    """Each finding's calibration; twice as many films as are positive are at or above its threshold, as in a story's choice."""
    fitted = {}
    for column, name in enumerate(findings):
        scale, bias = fit_platt(logits[:, column], labels[:, column])
        known = labels[np.isfinite(labels[:, column]), column]
        share = float(np.clip(2 * np.mean(known >= 0.5), 0.02, 0.98)) if len(known) else 0.5
        cut = float(np.quantile(logits[:, column], 1 - share))
        threshold = float(1 / (1 + np.exp(-(scale * cut + bias))))
        fitted[name] = Calibration(scale, bias, threshold, (), len(known), int((known >= 0.5).sum()), "")
    return fitted


def rows_of_case(
    student: NetworkModel | Student, case: Case, *, lime: bool = False, theirs: bool = False, fine: bool = False
) -> list[Row]:
    """One row a map of each finding that is boxed or told, by each method; `fine`: also of small findings that are told."""
    once = OneLook(student, view_of(student, case.image)[0])
    seen = predict(once, case.image, CHEST)
    boxed = {box.finding for box in case.boxes}
    told = told_findings(seen.prediction.findings)
    wanted = tuple(name for name in student.findings if name in boxed or name in told)
    regions = {name: region_of([b for b in case.boxes if b.finding == name], case.image.pixels.shape) for name in boxed}
    rows = []
    for keys in ((METHODS[0], "lime") if lime else METHODS[:1], METHODS[1:]):
        rows += [
            {"patient": case.patient, "image": case.image.source, "told": row["finding"] in told, **row}
            for row in drawn_rows(once, seen, keys, wanted, regions, case.image)
        ]
    small = tuple(name for name in told if name in WIDEST) if fine else ()
    if small:
        drawn = drawn_rows(once, seen, (METHODS[0], FINE), small, regions, case.image)
        rows += [
            {"patient": case.patient, "image": case.image.source, "told": True, **row} for row in drawn if row["method"] == FINE
        ]
    if theirs and isinstance(student, NetworkModel):
        maps = their_grad_cam(student.net, seen, student.findings, tuple(sorted(boxed)))
        for row in rows:
            if row["method"] == "grad_cam" and row["finding"] in maps:
                row["their_hit"] = hit_share(maps[row["finding"]], regions[row["finding"]])
    return rows


def their_grad_cam(network: Network, seen: Seen, findings: Sequence[str], wanted: Sequence[str]) -> dict[str, Array]:
    """pytorch-grad-cam's maps of the same network and layer, in the original frame."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found = self.network(x).logits
            assert found is not None
            return found

    images = torch.tensor(seen.pixels[None])
    maps = {}
    with GradCAM(model=Logits().eval(), target_layers=[network.fuse_16]) as cam:
        for name in wanted:
            values = cam(input_tensor=images, targets=[ClassifierOutputTarget(list(findings).index(name))])[0]
            maps[name] = seen.frame.grid_to_original(values)
    return maps


def region_of(boxes: Sequence[Box], shape: tuple[int, ...]) -> Mask:
    """The pixels of the boxes. Shapes: bool [H, W]."""
    region = np.zeros(shape[:2], dtype=np.bool_)
    for box in boxes:
        x, y = max(0, round(box.x)), max(0, round(box.y))
        region[y : round(box.y + box.height), x : round(box.x + box.width)] = True
    return region


def phantoms_judged(student: Student, trust: Trust, count: int, *, lime: int = 0) -> dict[str, Any]:
    """Shares and hit rates on phantoms, whose causes are known, all and by finding; LIME is asked of the first `lime`."""
    rows: list[Row] = []
    for done in range(count):
        phantom = generate_phantom(PHANTOM_SEED + done, size=PHANTOM_SIZE)
        rows += rows_of_case(student, Case(str(done), phantom.image, tuple(phantom.boxes)), lime=done < lime, fine=True)
        note("phantoms", done)
    frame, found = pd.DataFrame(rows), {}
    frame = frame[np.isfinite(frame["hit"]) & frame["told"].astype(bool)]
    frame["group"] = ""
    for method in (*METHODS, "lime", FINE):
        frame.loc[frame["method"] == method, "group"] = decided(frame[frame["method"] == method], trust.methods.get(method))
    either = frame[frame["method"].isin((FINE, "grad_cam"))].sort_values("method", kind="stable")  # FINE comes first
    frame = pd.concat([frame, either.drop_duplicates(["patient", "finding"]).assign(method=LEADING)])
    for method in (*METHODS, *(("lime",) if lime else ()), FINE, LEADING):
        mine = frame[frame["method"] == method]
        group = mine["group"].to_numpy(dtype=str)
        hits, patients = mine["hit"].to_numpy() >= 0.5, mine["patient"].to_numpy(dtype=str)
        known = {name: mean_of(mine[key].astype(float), patients) for name, key in ALSO.items()}
        known["checks"] = worth_of_checks(mine)
        known["near_shown"] = mean_of(mine["near"].where(group == "shown").astype(float), patients)
        found[method] = {"maps": len(mine), "hit_rate": mean_of(hits.astype(float), patients), **known} | {
            name: grouped(group == name, hits, patients) for name in GROUPS
        } | {"findings": {
            name: {part: [int(hits[rows & (group == part)].sum()), int((rows & (group == part)).sum())] for part in GROUPS}
            for name in sorted(set(mine["finding"])) for rows in [(mine["finding"] == name).to_numpy()]
        }}
    return found


def note(step: str, done: int) -> None:
    """A line at every fiftieth."""
    if done % 50 == 0:
        sys.stderr.write(f"{step} ({done})\n")


def drawn_rows(
    once: OneLook, seen: Seen, keys: Sequence[str], wanted: tuple[str, ...], regions: Mapping[str, Mask], image: Image,
    modality: Modality = CHEST,
) -> Iterator[Row]:
    """Rows of the maps by the methods in `keys`, which are compared where there are several."""
    masks = seen.prediction.masks
    survey = modality.survey(masks, spacing_mm=None, mask_pixel=seen.mask_pixel) if masks and modality.survey else None
    methods = [_once(method_named(key)) for key in keys]
    told = wanted if len(keys) > 1 else ()
    drawings = draw(once, seen, modality, methods, Wanted(told, wanted), survey=survey, budget=Budget(samples=LIME_SAMPLES))
    drawings = replace(drawings, trust={})
    for finding in wanted:
        place = None if survey is None else survey.place(finding)
        for heatmap, found in maps_of(drawings, finding):
            drawing = next(one for one in drawings.drawn if one.method.key == heatmap.method)
            agreed = next((check.value for check in found if check.name == "methods_agree" and len(keys) > 1), None)
            row: Row = {
                "finding": finding, "method": heatmap.method, "passed": heatmap.shown, "doubtful": heatmap.doubtful,
                "peak": heatmap.values.max(), "hit": np.nan, "lime": np.nan if agreed is None else agreed,
                "grid": drawing.maps[finding].values,
                "failed": " ".join(sorted(check.name for check in found if check.passed is False)),
                **values_of(drawings, drawing, finding, found, place),
            }
            if finding in regions:
                row |= _against(heatmap.values, regions[finding], image)
                row["cells"] = _at_cells(regions[finding], row["grid"].shape)
            yield row


def _at_cells(region: Mask, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether the middle of each cell of a grid lies in the region. Shapes: [H, W] to [h * w]."""
    rows, columns = (((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip(shape, region.shape, strict=True))
    return region[np.ix_(rows, columns)].ravel()


def _once(method: Method) -> Method:
    """The method without the second look that only asks whether the same call gives the same map."""
    kept = tuple(name for name in method.checks if name != "repeatable")
    return replace(method, checks=kept)  # type: ignore[type-var]


def _against(values: Array, region: Mask, image: Image) -> Row:
    """Hit and energy of a map and of those that know nothing."""
    greys = image.pixels if image.pixels.ndim == 2 else image.pixels.mean(axis=2)
    blind = baseline_maps(greys, seed=int(image.sha256[:8], 16))
    row: Row = {"hit": hit_share(values, region), "energy": energy_inside(values, region)}
    row["near"] = hit_share(values, region, tolerance=POINTING_TOLERANCE)
    for name in ("centre", "random"):
        row |= {f"{name}_hit": hit_share(blind[name], region), f"{name}_energy": energy_inside(blind[name], region)}
    return row


def read_tables(data: Path) -> list[StudyTable]:
    """The sets that are there."""
    return [read_nih(data / name) for name in SETS if (data / name).is_dir()]


def _small(image: Image) -> Image:
    """The image at LARGEST_SIDE pixels where it is larger. All films of these sets are square."""
    height, width = image.pixels.shape
    if max(height, width) <= LARGEST_SIDE or height != width:
        return image
    return replace(image, pixels=model_frame(height, width, size=LARGEST_SIDE).to_model(image.pixels), spacing_mm=None)


def _named(text: str) -> tuple[int, Path]:
    fold, _, path = text.partition("=")
    return int(fold), Path(path)


if __name__ == "__main__":
    main()
