"""The figures of the shipped student: out of fold on NIH and Kermany, and on COVID films and phantoms that it never met.

    python benchmarks/shipped_figures.py [DATA] [--write]

The shipped student learned from every film of nih/, nih128/, nih64/ and kermany/, so none of these can judge it. What is
judged is its recipe: students of the same recipe that were taught without one fifth of the patients, each asked about that
fifth (`results/shipped/out_of_fold.npz` holds their answers to the films of the folds that were judged, and no label). DATA
is the folder with these sets and covid/ (default: STORYXAI_REAL_DATA or ../shared/data). With --write calibration and
figures go into the model card, records and pages into results/.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from storyxai.data.folds import deal_folds
from storyxai.data.sources.nih import read_densenet_targets, read_nih
from storyxai.data.table import read_pair, read_table
from storyxai.evidence.predict import INTERVAL
from storyxai.files import write_whole
from storyxai.metrics.bootstrap import Estimate, Resamples, draw_resamples, estimate, ratio
from storyxai.metrics.calibration import ece, reliability_points
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH as CHEST
from storyxai.models.card import Calibration, card_figures, read_card, write_card
from storyxai.models.runtime import SHIPPED, load_student
from storyxai.programs.crossvalidate import render_page
from storyxai.programs.data import import_data, make_phantoms
from storyxai.programs.scorecards import figures_of, write_scorecard
from storyxai.provenance import canonical_json
from storyxai.scorecard.build import age_bands, build_scorecard
from storyxai.scorecard.crossvalidation import CrossValidation, Judged, judge_sets, view_scores
from storyxai.scorecard.inputs import References, TaskOutputs
from storyxai.scorecard.judge import JudgeOptions, evaluate_student
from storyxai.training.calibrate import Resampling, ThresholdRule, calibrate
from storyxai.types import tier_of

ROOT = Path(__file__).resolve().parents[1]
ANSWERS = ROOT / "results" / "shipped" / "out_of_fold.npz"
RULE = ThresholdRule("net_benefit", probability=0.135)
"""Chosen by the out-of-fold answers themselves: the lowest at which three of five normal films had nothing named."""
NATURAL = ("nih128", "nih64")
"""Whole archives of NIH, whose films nobody chose: what probabilities and thresholds rest on."""
ARRAYS = ("fold", "student", "teachers", "labels", "densenet")
REPLICATES, CROSS_REPLICATES = 1000, 200
PHANTOM_SEED, PHANTOMS = 9_000_000, 200


@dataclass(frozen=True, eq=False)
class Answers:
    """Out-of-fold answers with what is known of the films. Shapes: logits, labels, densenet [N, F], nan = not known."""

    findings: tuple[str, ...]
    rows: pd.DataFrame
    fold: NDArray[np.int64]
    student: NDArray[np.float32]
    teachers: NDArray[np.float32]
    labels: NDArray[np.float32]
    densenet: NDArray[np.float32]

    @property
    def patients(self) -> NDArray[np.str_]:
        """The patient of each film."""
        return self.rows["patient_id"].to_numpy(dtype=np.str_)

    @property
    def origin(self) -> NDArray[np.str_]:
        """The folder that each film came from."""
        return self.rows["folder"].to_numpy(dtype=np.str_)

    def take(self, chosen: NDArray[np.bool_]) -> Answers:
        """The answers of the chosen films."""
        arrays = {name: getattr(self, name)[chosen] for name in ARRAYS}
        return replace(self, rows=self.rows[chosen].reset_index(drop=True), **arrays)


def read_answers(data: Path, findings: tuple[str, ...]) -> Answers:
    """The committed answers, joined with NIH's tables in `data`."""
    frames, told = [], {}
    for name in ("nih", *NATURAL):
        frames.append(read_nih(data / name).frame.assign(folder=name))
        soft = read_densenet_targets(data / name)
        places = [soft.findings.index(finding) for finding in findings]
        told |= dict(zip(soft.ids, soft.logits[:, places], strict=True))
    known = pd.concat(frames).set_index("image_id")
    with np.load(ANSWERS, allow_pickle=False) as kept:
        ids, fold, student, teachers = (kept[name] for name in ("image_ids", "fold", "student", "teachers"))
    rows = known.loc[ids].reset_index()
    labels = rows[[f"label_{finding}" for finding in findings]].to_numpy(dtype=np.float32)
    silent = np.full(len(findings), np.nan, np.float32)
    densenet = np.stack([told.get(str(name), silent) for name in ids])
    return Answers(findings, rows, fold.astype(np.int64), student, teachers, labels, densenet)


def calibration_of(answers: Answers, said: str, *, replicates: int = REPLICATES) -> dict[str, Calibration]:
    """Calibration on these answers: thresholds by net benefit, intervals and limits by patient."""
    return calibrate(
        answers.student, answers.labels, answers.patients.tolist(), findings=answers.findings, data=said,
        resampling=Resampling(replicates), rule=RULE,
    )


def parts_of(answers: Answers) -> NDArray[np.int64]:
    """Five parts of the patients, so that what is fitted to answers is judged on answers of other patients, int [N]."""
    part = deal_folds(answers.patients.tolist(), answers.labels, folds=5, seed=1)
    return np.array([part[patient] for patient in answers.patients], np.int64)


def cross_fitted(answers: Answers) -> list[tuple[Answers, dict[str, Calibration]]]:
    """The answers of each part of the patients beside the calibration that natural films of the other parts gave."""
    natural, part = np.isin(answers.origin, NATURAL), parts_of(answers)
    return [
        (answers.take(part == one),
         calibration_of(answers.take(natural & (part != one)), "other patients", replicates=CROSS_REPLICATES))
        for one in np.unique(part)
    ]


@dataclass(frozen=True, eq=False)
class Told:
    """How films are told with calibrations from other patients. Shapes: probability float [N, F], tier str [N, F]."""

    answers: Answers
    probability: NDArray[np.float64]
    tier: NDArray[np.str_]


def told_one(logits: NDArray[np.float32], item: Calibration) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Probability and tier of one finding on many films, as `evidence.predict.calibrated` gives them one by one."""
    given, pairs = logits.astype(np.float64), np.array(item.replicates)
    value = expit(item.scale * given + item.bias)
    low, high = np.percentile(expit(pairs[:, :1] * given + pairs[:, 1:]), INTERVAL, axis=0)
    spans = zip(value, np.minimum(low, value), np.maximum(high, value), strict=True)
    return value, np.array([tier_of(float(v), (float(a), float(b)), item.threshold) for v, a, b in spans])


def told(parts: Sequence[tuple[Answers, dict[str, Calibration]]], names: Sequence[str]) -> Told:
    """The probability and tier of every finding of the films of the named folders."""
    kept, chances, tiers = [], [], []
    for answers, calibration in parts:
        mine = answers.take(np.isin(answers.origin, list(names)))
        found = [told_one(mine.student[:, column], calibration[name]) for column, name in enumerate(mine.findings)]
        kept.append(mine)
        chances.append(np.stack([chance for chance, _ in found], axis=1))
        tiers.append(np.stack([tier for _, tier in found], axis=1))
    arrays = {name: np.concatenate([getattr(one, name) for one in kept]) for name in ARRAYS}
    joined = replace(kept[0], rows=pd.concat([one.rows for one in kept], ignore_index=True), **arrays)
    return Told(joined, np.concatenate(chances), np.concatenate(tiers))


def share(part: NDArray[Any], whole: NDArray[Any], resamples: Resamples) -> Estimate:
    """The share of the films of `whole` that are in `part`, with its interval by patient. Shapes: [N] each."""
    return estimate(lambda weights: ratio(weights @ part.astype(float), weights @ whole.astype(float)), resamples)


def told_figures(said: Told) -> dict[str, Any]:
    """How often films are told what, per film and per finding, and what a tier means."""
    present = said.answers.labels >= 0.5
    named = np.isin(said.tier, ["likely", "possible"])
    normal = ~present.any(axis=1)
    resamples = draw_resamples(said.answers.patients, count=REPLICATES, seed=0)
    one = np.ones(len(normal))

    def of(part: NDArray[Any], whole: NDArray[Any]) -> dict[str, Any]:
        return asdict(share(part, whole, resamples))

    tiers = {}
    for column, finding in enumerate(said.answers.findings):
        has = present[:, column]
        tiers[finding] = {
            tier: {"per_100_with": 100 * float((said.tier[has, column] == tier).mean()) if has.any() else None,
                   "per_100_normal": 100 * float((said.tier[normal, column] == tier).mean())}
            for tier in ("likely", "possible", "unlikely", "cannot_tell")
        }
    return {
        "images": len(normal), "patients": len(set(said.answers.patients.tolist())),
        "normal_with_nothing_named": of(normal & ~named.any(axis=1), normal),
        "abnormal_with_a_right_finding_named": of(~normal & (named & present).any(axis=1), ~normal),
        "named_per_image": of(named.sum(axis=1), one), "named_per_normal_image": of(named.sum(axis=1) * normal, normal),
        "cannot_tell_share": of((said.tier == "cannot_tell").mean(axis=1), one),
        "likely_that_have_it": of(((said.tier == "likely") & present).sum(axis=1), (said.tier == "likely").sum(axis=1)),
        "possible_that_have_it": of(((said.tier == "possible") & present).sum(axis=1), (said.tier == "possible").sum(axis=1)),
        "calibration_error": {
            finding: ece(said.probability[:, column], present[:, column].astype(float))
            for column, finding in enumerate(said.answers.findings)
        },
        "tiers": tiers,
    }


def drawn_curves(measured: Mapping[str, Any], said: Told) -> dict[str, Any]:
    """Points of each finding's ROC as the scorecard measured it, of its reliability with other patients' calibration."""
    place = {finding: column for column, finding in enumerate(said.answers.findings)}
    return {
        finding: {"roc": curve["roc"], "reliability": reliability_points(
            said.probability[:, place[finding]], said.answers.labels[:, place[finding]],
        )} for finding, curve in measured.items()
    }  # fmt: skip


def conformal_coverage(said: Sequence[tuple[Answers, dict[str, Calibration]]]) -> dict[str, dict[str, float | None]]:
    """How often the conformal set of the other patients' calibration holds the truth, by finding, present and absent apart.

    As promised: of an image of a new patient, so each patient counts once in a class, its images sharing that one evenly.
    """
    out: dict[str, dict[str, float | None]] = {}
    for column, finding in enumerate(said[0][0].findings):
        held: list[tuple[str, str, bool]] = []
        for answers, calibration in said:
            item = calibration[finding]
            natural = np.isin(answers.origin, NATURAL)
            if item.conformal is None:
                continue
            chance = expit(item.scale * answers.student[natural, column].astype(np.float64) + item.bias)
            has = answers.labels[natural, column] >= 0.5
            inside = np.where(has, 1 - chance <= item.conformal[0], chance <= item.conformal[1])
            sides = np.where(has, "present", "absent").tolist()
            held += zip(sides, answers.patients[natural].tolist(), inside.tolist(), strict=True)
        table = pd.DataFrame(held, columns=["side", "patient", "inside"])
        by_patient = table.groupby(["side", "patient"])["inside"].mean().groupby("side").mean()
        out[finding] = {side: float(by_patient[side]) if side in by_patient else None for side in ("present", "absent")}
    return out


def scorecard_of(answers: Answers, calibration: Mapping[str, Calibration], name: str) -> dict[str, Any]:
    """The scorecard of the out-of-fold answers to some folders' films, read with the calibration that the card holds."""
    ids, count = tuple(answers.rows["image_id"]), len(answers.findings)
    scaled = np.array([[calibration[finding].scale, calibration[finding].bias] for finding in answers.findings])
    view = view_scores(answers.labels, answers.rows["view"].to_numpy(dtype=np.str_), parts_of(answers))
    outputs = [
        TaskOutputs(
            "student, out of fold", "student", ids, findings=answers.findings, logits=answers.student,
            calibration=scaled, thresholds=np.full(count, RULE.probability),
        ),
        TaskOutputs("teachers of findings, out of fold", "teacher", ids, findings=answers.findings, logits=answers.teachers),
        TaskOutputs("public DenseNet-121", "teacher", ids, findings=answers.findings, logits=answers.densenet),
        TaskOutputs("view position alone", "control", ids, findings=answers.findings, logits=view),
    ]
    groups = {key: [str(cell) for cell in answers.rows[key]] for key in ("sex", "view")}
    groups["age"] = list(age_bands(answers.rows["age_years"].to_numpy()))
    references = References(
        name, False, ids, tuple(answers.patients.tolist()), answers.findings, answers.labels, subgroups=groups,
        facts={"folds": len(set(answers.fold.tolist()))},
    )
    return build_scorecard(outputs, references, seed=0, count=REPLICATES).as_dict()


def kermany_figures() -> dict[str, Any]:
    """Dice of both lungs of children's films, each outlined by a student that saw none of that patient's."""
    with np.load(ANSWERS, allow_pickle=False) as kept:
        patients, dice = kept["kermany_patients"], kept["kermany_dice"].astype(np.float64)
    resamples = draw_resamples(patients, count=REPLICATES, seed=0)
    found = estimate(lambda weights: ratio(weights @ dice, weights.sum(axis=1)), resamples)
    return {"dice": found.value, "interval": [found.low, found.high], "n": len(dice), "data": "kermany (out of fold)"}


def met_never(data: Path, write: bool) -> dict[str, dict[str, Any]]:
    """Scorecards of the shipped student itself on COVID films of other patients and on fresh phantoms."""
    student, records = load_student(), {}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        make_phantoms(work / "phantom", count=PHANTOMS, seed=PHANTOM_SEED, size=512)
        for name in ("phantom", "covid"):
            folder = work / "phantom" if name == "phantom" else data / name
            table = work / f"{name}.parquet"
            import_data(name, folder, table)
            if name == "covid":  # its own findings are few and weak, and are not judged here
                read = read_table(table)
                keep = [read_pair(read, row) is not None for row in read.frame.to_dict("records")]
                read.select(rows=np.array(keep, dtype=np.bool_)).write(table)
            records[name] = evaluate_student(student, table, JudgeOptions("unseen"))
            if write:
                write_scorecard(records[name], ROOT / "results" / f"shipped-{name}")
    return records


def text_of(found: Mapping[str, Any]) -> str:
    """A figure with its interval, in words."""
    if found["value"] is None:
        return "not defined"
    return f"{found['value']:.3f}" + ("" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]")


def say(line: str) -> None:
    """One line on the console."""
    sys.stdout.write(line + "\n")


def print_scorecard(record: Mapping[str, Any]) -> None:
    """Means, differences and groups of one scorecard."""
    say(f"{record['dataset']['name']}: {record['dataset']['images']} images, {record['dataset']['patients']} patients")
    for model in record["models"]:
        mean = model["mean_auroc_all"]
        if mean and mean["value"] is not None:
            say(f"  {model['name']}: mean AUROC of {mean['finding_count']} findings {text_of(mean)} ({model['images']} images)")
        for mask in model["masks"]:
            say(f"  {model['name']}: Dice of {mask['mask']} {text_of(mask['dice'])}, n = {mask['images']}")
        if model["reports"]:
            say(f"  {model['name']}: report finding F1 {text_of(model['reports']['finding_f1_micro'])}")
        if model["role"] == "student":
            for item in model["findings"]:
                if item["auroc"]["value"] is not None:
                    say(f"    {item['finding']}: AUROC {text_of(item['auroc'])}, {item['positives']} of {item['n']}")
            for item in model["subgroups"]:
                if item["mean_auroc_all"] and item["mean_auroc_all"]["value"] is not None:
                    say(f"    {item['attribute']} {item['group']}: {text_of(item['mean_auroc_all'])} ({item['images']} images)")
    for item in record["differences"]:
        gap = item["mean_auroc_all"]
        if gap and gap["value"] is not None:
            say(f"  {item['student']} minus {item['other']}: {text_of(gap)}")


def asked(about: str | None) -> argparse.Namespace:
    """DATA and --write, as this program and `remedies.py` are called."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("STORYXAI_REAL_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("data", type=Path, nargs="?", default=Path(default))
    parser.add_argument("--write", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Judge, print, and with --write keep calibration and figures."""
    given = asked(__doc__)
    card = read_card(SHIPPED)
    answers = read_answers(given.data, tuple(card.spec["findings"]))
    natural = answers.take(np.isin(answers.origin, NATURAL))
    where = f"NIH, natural mix, out of fold: {len(natural.rows)} films of {len(set(natural.patients.tolist()))} patients"
    calibration = calibration_of(natural, where)
    parts = cross_fitted(answers)
    natural_told = told(parts, NATURAL)
    scores = {
        "student": answers.student.astype(np.float64), "teachers": answers.teachers.astype(np.float64),
        "view alone": view_scores(answers.labels, answers.rows["view"].to_numpy(dtype=np.str_), parts_of(answers)),
    }
    sets = judge_sets(
        Judged(answers.origin, answers.patients, answers.fold, answers.labels, scores), answers.findings, calibration,
        replicates=REPLICATES, seed=0,
    )
    whole = CrossValidation(
        "the shipped student", "", len(set(answers.fold.tolist())), len(answers.rows), len(set(answers.patients.tolist())), "",
        ("each fold that was judged was judged by a student taught on the other four of five",), sets, calibration,
    )
    for one in sets:
        gap = one.student_minus_teachers
        beside = "" if gap is None else f", minus its teacher {text_of(asdict(gap))}"
        say(f"{one.name}: student {text_of(asdict(one.mean_auroc))}{beside}, view alone {text_of(asdict(one.view_alone))} "
            f"({one.images} films, {one.patients} patients)")
    natural_record = scorecard_of(natural, calibration, "NIH natural mix (out of fold)")
    selection_record = scorecard_of(answers.take(answers.origin == "nih"), calibration, "NIH selection (out of fold)")
    figures_told = told_figures(natural_told)
    coverage = conformal_coverage(parts)
    lungs = kermany_figures()
    for record in (natural_record, selection_record):
        print_scorecard(record)
    for key, value in figures_told.items():
        say(f"told: {key} {text_of(value) if isinstance(value, dict) and 'value' in value else value}")
    say(f"conformal coverage: {coverage}")
    say(f"Dice of both lungs, Kermany out of fold: {lungs}")
    records = met_never(given.data, given.write)
    for record in records.values():
        print_scorecard(record)
    if given.write:
        real, phantom = figures_of(natural_record, CHEST), figures_of(records["phantom"], CHEST)
        for finding, item in real["per_finding"].items():  # judged on patients that the calibration had not seen
            item["ece"] = figures_told["calibration_error"][finding]
        figures: dict[str, Any] = asdict(card.figures) | {
            "per_finding": real["per_finding"], "subgroups": real["subgroups"], "agreement": real["agreement"], "lungs": lungs,
            "curves": drawn_curves(real.get("curves", {}), natural_told),
            "report": phantom.get("report", {}), "phantom_per_finding": phantom["per_finding"],
        }
        write_card(replace(card, calibration=calibration, figures=card_figures(figures)), SHIPPED)
        write_scorecard(natural_record, ROOT / "results" / "shipped-nih-natural")
        write_scorecard(selection_record, ROOT / "results" / "shipped-nih-selection")
        write_whole(canonical_json(asdict(whole)), ROOT / "results" / "shipped" / "crossvalidation.json")
        write_whole(render_page(whole), ROOT / "results" / "shipped" / "crossvalidation.html")
        write_whole(canonical_json({"told": figures_told, "conformal_coverage": coverage, "kermany": lungs}),
                    ROOT / "results" / "shipped" / "told.json")


if __name__ == "__main__":
    main()
