"""Whole programs: from a recipe to a student with its scorecard, and from a student and a table to a scorecard."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from storyxai.archive import require_writable
from storyxai.data.grammar import detokenize
from storyxai.data.table import StudyTable, read_lung_mask, read_table, split_lungs
from storyxai.errors import InputError, RecipeError, UnknownNameError
from storyxai.evaluate import References, Scorecard, TaskOutputs, age_bands, build_scorecard
from storyxai.evaluate_page import render_scorecard
from storyxai.evidence.predict import grid_boxes, predict
from storyxai.findings import NAMES
from storyxai.imaging.read import read_image
from storyxai.metrics.segmentation import dice
from storyxai.models.card import Calibration, ModelCard, write_card
from storyxai.models.runtime import Student
from storyxai.provenance import canonical_json
from storyxai.types import Study

if TYPE_CHECKING:
    from storyxai.data.batches import Examples
    from storyxai.models.network import Network
    from storyxai.training.config import Recipe
    from storyxai.training.distil import DistilledRun

__all__ = ["distil_to_folder", "evaluate_student", "patient_mark", "run_pipeline", "write_scorecard"]

Progress = Callable[[str, int, int], None]
FINDING_F1 = "finding_f1_micro"
SPLITS = ("unseen", "train", "val", "test", "all")

LIMITS = (
    "Trained on small and selected sets: probabilities do not carry over to another hospital without calibration there.",
    "NIH labels were mined from report text and hold errors; what was learnt from them holds those errors too.",
    "The heart's outline, and so the cardiothoracic ratio, was learnt from synthetic phantoms only.",
    "One frontal film at a time: no lateral view, no prior examination, no clinical history is read.",
    "Children and adults differ: lungs were learnt partly from children of one hospital, findings mostly from adults.",
)
CANNOT_SEE = (
    "rib and clavicle fractures", "position of tubes and lines", "free air under the diaphragm", "bone lesions",
    "anything on a lateral view", "change over time",
)


def distil_to_folder(recipe_path: Path, out: Path, *, progress: Progress | None = None) -> tuple[Student, DistilledRun]:
    """The student that a recipe describes, written to `out`/model with its card. Raises: RecipeError, OutputError."""
    from storyxai.models.runtime import load_student
    from storyxai.training.config import read_recipe

    recipe = read_recipe(recipe_path)  # before torch is imported: a bad recipe is told at once
    require_writable(out)
    saved = out / "recipe.toml"
    if saved.exists() and saved.read_bytes() != recipe_path.read_bytes():
        raise RecipeError(
            str(out), f"holds a run of another recipe than {recipe_path.name}", mend="name another --out, or remove it"
        )
    saved.write_bytes(recipe_path.read_bytes())
    from storyxai.training.distil import distil

    run = distil(recipe, out, progress=progress)
    write_model(recipe, run, out / "model")
    return load_student(out / "model"), run


def run_pipeline(recipe_path: Path, out: Path, *, progress: Progress | None = None) -> tuple[Student, dict[str, Any]]:
    """`distil_to_folder`, then the scorecard of student and teachers on the held-out part, written into `out`."""
    from storyxai.models.card import read_card
    from storyxai.training.config import read_recipe

    student, run = distil_to_folder(recipe_path, out, progress=progress)
    recipe = read_recipe(recipe_path)
    scorecard = judge_run(recipe, run, student.card, progress=progress)
    record = scorecard.as_dict()
    write_scorecard(record, out)
    card = replace(read_card(out / "model"), figures=figures_of(record))
    write_card(card, out / "model")
    return Student(student.folder, card), record


def write_model(recipe: Recipe, run: DistilledRun, folder: Path) -> ModelCard:
    """The card of the exported student: calibrated on the validation part of real films where there are any."""
    from storyxai.models.export import export_student

    require_writable(folder)
    files = export_student(run.student, folder)
    # Real films where there are any; those of the set with the most stated labels.
    stated = ~np.isnan(run.parts.validation.labels)
    domain = np.array(run.parts.validation.domain)
    weight = {name: (name != "phantom", int(stated[domain == name].sum())) for name in sorted(set(domain.tolist()))}
    chosen = max(weight, key=lambda name: weight[name])
    card = ModelCard(
        name=f"storyxai-{recipe.name}", version="1", spec=run.student.spec.as_dict(), files=files,
        calibration=calibration_of(run.student, run.parts.validation, domain=chosen),
        trained_on=training_sets(run.parts.train), limits=LIMITS, cannot_see=CANNOT_SEE,
        training={
            "seed": recipe.seed, "losses": {name: list(values) for name, values in run.losses.items()},
            "patients": sorted({patient_mark(p) for part in (run.parts.train, run.parts.validation) for p in part.patient_ids
                                if not p.startswith("phantom")}),
        },
        licence="Apache-2.0",
    )
    write_card(card, folder)
    return card


def calibration_of(network: Network, validation: Examples, *, domain: str) -> dict[str, Calibration]:
    """The network's calibration on the validation images of one domain."""
    from storyxai.training.calibrate import calibrate
    from storyxai.training.outputs import network_outputs

    rows = [i for i, name in enumerate(validation.domain) if name == domain]
    mine = validation.take(rows)
    logits = network_outputs(_only(network, "findings"), mine).logits
    assert logits is not None
    return calibrate(logits, mine.labels, mine.patient_ids, findings=NAMES, data=f"{domain} validation, n = {len(mine)}")


def training_sets(train: Examples) -> tuple[Mapping[str, Any], ...]:
    """Name, size, licence and origin of each set the student learnt from."""
    about = {
        "phantom": ("storyxai phantoms (synthetic)", "Apache-2.0", True),
        "nih": ("NIH ChestX-ray14, a selection (Wang et al. 2017; NIH Clinical Center)", "free use with attribution", False),
        "kermany": ("Kermany et al. 2018, children (CC BY 4.0), with v7 Labs lung masks (CC BY 4.0)", "CC BY 4.0", False),
    }
    sets = []
    for domain in sorted(set(train.domain)):
        rows = [i for i, name in enumerate(train.domain) if name == domain]
        name, licence, synthetic = about.get(domain, (domain, "", False))
        sets.append({
            "name": name, "n_images": len({train.ids[i] for i in rows}),
            "n_patients": len({train.patient_ids[i] for i in rows}), "licence": licence, "synthetic": synthetic,
        })
    return tuple(sets)


def judge_run(recipe: Recipe, run: DistilledRun, card: ModelCard, *, progress: Progress | None = None) -> Scorecard:
    """Student and teachers side by side on the held-out phantoms of the run."""
    from storyxai.training.outputs import network_outputs

    rows = [i for i, name in enumerate(run.parts.test.domain) if name == "phantom"]
    test = run.parts.test.take(rows)
    findings = tuple(name for i, name in enumerate(NAMES) if not np.isnan(test.labels[:, i]).all())
    columns = [NAMES.index(name) for name in findings]
    outputs = [_outputs("student", "student", network_outputs(run.student, test, name="student", progress=progress),
                        test.ids, card.calibration, findings)]
    for task, teacher in run.teachers.items():
        calibration = calibration_of(teacher, run.parts.validation, domain="phantom") if task == "findings" else {}
        said = network_outputs(teacher, test, name=f"teacher of {task}", progress=progress)
        outputs.append(_outputs(f"teacher of {task}", "teacher", said, test.ids, calibration, findings))
    reports = [" ".join(detokenize(_words(test.tokens[i], run.student.spec.vocabulary))) for i in range(len(test))]
    train_reports = [
        " ".join(detokenize(_words(run.parts.train.tokens[i], run.student.spec.vocabulary)))
        for i, name in enumerate(run.parts.train.domain[:500]) if name == "phantom"
    ]
    references = References(
        dataset="phantom, held out (synthetic)", synthetic=True, ids=test.ids, patient_ids=test.patient_ids,
        findings=findings, labels=test.labels[:, columns], reports=reports,
        baseline_reports={"constant": [_constant_report(train_reports)] * len(test)},
    )
    return build_scorecard(
        outputs, references, seed=recipe.seed, count=recipe.evaluation.bootstrap,
        min_positives=recipe.evaluation.min_positives,
    )


def evaluate_student(
    student: Student, table_path: Path, *, split: str, bootstrap: int, seed: int, progress: Progress | None = None
) -> dict[str, Any]:
    """The scorecard of a student on a study table, in the frame of the original images, as plain JSON values.

    `split` "unseen" takes every patient whom the card does not name as trained or calibrated on, whatever the table's own
    split says. Raises: UnknownNameError for another split; InputError when no row is left, or when a patient of the
    chosen split was trained on.
    """
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    table = unseen_rows(student, read_table(table_path), split, table_path)
    rows = table.frame.to_dict("records")
    collected = _judge_rows(student, table, rows, progress)
    findings = student.findings
    labels = table.labels().values
    calibration = [student.card.calibration[name] for name in findings]
    sources = sorted(set(table.frame["source"]))
    output = TaskOutputs(
        name="student", role="student", ids=tuple(table.frame["image_id"]), findings=findings,
        logits=collected["logits"], calibration=[(c.scale, c.bias) for c in calibration],
        thresholds=[c.threshold for c in calibration], dices=collected["dices"], reports=collected["reports"],
        boxes=collected["boxes"], facts={"model_id": student.card.model_id},
    )
    outputs = [output]
    views = [str(row["view"]) for row in rows]
    if len(set(views)) > 1:
        scores = np.repeat(np.array([[float(view == "AP")] for view in views]), len(findings), axis=1)
        outputs.append(TaskOutputs("view position alone", "control", output.ids, findings=findings, logits=scores))
    outputs += _published_teacher(table, findings)
    subgroups = {
        "sex": [str(row["sex"]) for row in rows], "view": views, "origin": [str(row["origin"]) for row in rows],
        "age": age_bands([float(row["age_years"]) for row in rows]),
    }
    references = References(
        dataset=f"{', '.join(sources)} ({split})", synthetic=sources == ["phantom"], ids=output.ids,
        patient_ids=tuple(table.frame["patient_id"]), findings=findings, labels=labels,
        reports=collected["references"], boxes=collected["true_boxes"], subgroups=subgroups,
    )
    return build_scorecard(outputs, references, seed=seed, count=bootstrap).as_dict()


def unseen_rows(student: Student, table: StudyTable, split: str, path: Path) -> StudyTable:
    """The rows of the chosen split that have an image. Raises: InputError as `evaluate_student` says."""
    seen = set(student.card.training.get("patients", ()))
    known = np.array([patient_mark(str(patient)) in seen for patient in table.frame["patient_id"]], dtype=np.bool_)
    keep = (table.frame["image"] != "").to_numpy(dtype=np.bool_, copy=True)
    if split == "unseen":
        keep &= ~known
    elif split != "all":
        keep &= (table.frame["split"] == split).to_numpy(dtype=np.bool_)
        if split == "test" and bool((keep & known).any()):
            raise InputError(
                path.name, f"{int((keep & known).sum())} images of the test part are of patients this student learnt from",
                mend="use --split unseen",
            )
    if not keep.any():
        raise InputError(path.name, f"has no image in the part '{split}'", mend="choose another --split")
    return table.select(rows=keep)


def patient_mark(patient_id: str) -> str:
    """A short hash of a patient id, so that a card can name whom it learnt from without naming anyone."""
    return hashlib.sha256(f"storyxai-patient|{patient_id}".encode()).hexdigest()[:12]


def write_scorecard(record: Mapping[str, Any], out: Path) -> None:
    """Write scorecard.json and scorecard.html into `out`."""
    require_writable(out)
    (out / "scorecard.json").write_bytes(canonical_json(dict(record)))
    (out / "scorecard.html").write_bytes(render_scorecard(dict(record)))


def figures_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a scorecard that goes into the card and from there into stories; what was not measured is left out."""
    student = next(model for model in record["models"] if model["role"] == "student")
    data = record["dataset"]["name"]
    figures: dict[str, Any] = {"per_finding": {}}
    for item in student["findings"]:
        if item["auroc"]["value"] is None:
            continue
        figures["per_finding"][item["finding"]] = {
            "auroc": item["auroc"]["value"], "auroc_interval": _interval(item["auroc"]), "n": item["n"],
            "positives": item["positives"], "average_precision": _value(item, "average_precision"),
            "ece": _value(item, "ece"), "sensitivity": _value(item, "sensitivity"),
            "specificity": _value(item, "specificity"), "threshold": item["threshold"], "data": data,
        }
    lungs = [mask for mask in student["masks"] if mask["mask"] in ("lungs", "left_lung") and mask["dice"]["value"] is not None]
    if lungs:
        best = next((mask for mask in lungs if mask["mask"] == "lungs"), lungs[0])
        figures["lungs"] = {
            "dice": best["dice"]["value"], "interval": _interval(best["dice"]), "n": best["images"], "data": data,
        }
    said = student["reports"]
    constant = next((item["reports"] for item in record["report_baselines"] if item["name"] == "normal report"), None)
    if said and constant:
        figures["report"] = {
            "finding_f1": said[FINDING_F1]["value"], "constant_f1": constant[FINDING_F1]["value"], "n": said["images"],
            "data": data,
        }
    for pair in record["agreement"]:
        for item in pair["findings"]:
            figures.setdefault("agreement", {})[item["finding"]] = {
                "correlation": item["correlation"], "mean_difference": item["mean_probability_difference"],
                "n": item["n"], "teacher": pair["teacher"],
            }
    return figures


def _judge_rows(
    student: Student, table: StudyTable, rows: Sequence[Mapping[Any, Any]], progress: Progress | None
) -> dict[str, Any]:
    names = ("lungs", "left_lung", "right_lung")
    logits, reports, references = [], [], []
    dices: dict[str, list[float]] = {name: [] for name in names}
    boxed = sorted({box.finding for row in rows for box in table.boxes_of(row, height=1, width=1)})
    boxes: dict[str, list[NDArray[np.float64]]] = {name: [] for name in boxed}
    true_boxes: dict[str, list[NDArray[np.float64] | None]] = {name: [] for name in boxed}
    for done, row in enumerate(rows):
        image = read_image(table.image_path(row))
        seen = predict(student, Study(str(row["study_id"]), (image,)))
        logits.append(seen.look.logits)
        reports.append(" ".join(seen.prediction.report))
        references.append(str(row["findings_text"]))
        height, width = image.pixels.shape
        given = table.boxes_of(row, height=height, width=width)
        for name in boxed:
            mine = grid_boxes(seen, name, student.findings.index(name))
            boxes[name].append(np.array([(b.x, b.y, b.width, b.height, b.score) for b in mine]).reshape(-1, 5))
            true = np.array([(b.x, b.y, b.width, b.height) for b in given if b.finding == name]).reshape(-1, 4)
            true_boxes[name].append(true if len(true) else None)
        for name, value in _dices(table, row, seen.prediction.masks).items():
            dices[name].append(value)
        if progress:
            progress("judging", done + 1, len(rows))
    kept = {name: values for name, values in dices.items() if not np.isnan(values).all()}
    return {
        "logits": np.stack(logits), "reports": reports, "references": references if any(references) else None,
        "dices": kept, "boxes": boxes, "true_boxes": true_boxes,
    }


def _dices(table: StudyTable, row: Mapping[Any, Any], masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, float]:
    read = read_lung_mask(table, row)
    nothing = {"lungs": np.nan, "left_lung": np.nan, "right_lung": np.nan}
    if read is None:
        return nothing
    lungs, ignore = read
    found = {**nothing, "lungs": dice(masks["left_lung"] | masks["right_lung"], lungs, ignore=ignore)}
    sides = split_lungs(lungs)
    if sides is not None:
        for name, side in zip(("left_lung", "right_lung"), sides, strict=True):
            found[name] = dice(masks[name], side, ignore=ignore)
    return found


def _published_teacher(table: StudyTable, findings: tuple[str, ...]) -> list[TaskOutputs]:
    """The public DenseNet-121's published predictions for these images, where they lie beside the table's images."""
    if set(table.frame["source"]) != {"nih"} or not (table.root / "densenet121_predictions.csv").is_file():
        return []
    from storyxai.data.sources.nih import read_densenet_targets

    soft = read_densenet_targets(table.root)
    row_of = {name: i for i, name in enumerate(soft.ids)}
    ids = [name for name in table.frame["image_id"] if name in row_of]
    if not ids:
        return []
    logits = soft.logits[[row_of[name] for name in ids]][:, [soft.findings.index(name) for name in findings]]
    return [TaskOutputs("public DenseNet-121", "control", ids, findings=findings, logits=logits)]


def _outputs(
    name: str, role: Any, said: Any, ids: Sequence[str], calibration: Mapping[str, Calibration], findings: tuple[str, ...]
) -> TaskOutputs:
    columns = [NAMES.index(finding) for finding in findings]
    chosen = [calibration[finding] for finding in findings] if calibration and said.logits is not None else None
    masks = {} if said.dice is None else {
        mask: said.dice[:, i] for i, mask in enumerate(("left_lung", "right_lung", "heart"))
    }
    return TaskOutputs(
        name=name, role=role, ids=ids, findings=findings if said.logits is not None else (),
        logits=None if said.logits is None else said.logits[:, columns],
        calibration=None if chosen is None else [(c.scale, c.bias) for c in chosen],
        thresholds=None if chosen is None else [c.threshold for c in chosen],
        dices=masks, reports=None if said.words is None else [" ".join(detokenize(words)) for words in said.words],
    )


def _only(network: Network, task: str) -> Network:
    """A view of `network` that answers one task only, for speed."""
    import copy

    lean = copy.copy(network)
    lean.spec = replace(network.spec, tasks=(task,))
    return lean


def _words(tokens: NDArray[np.int64], vocabulary: Sequence[str]) -> list[str]:
    from storyxai.models.tokens import decode_tokens

    return decode_tokens(tokens[1:].tolist(), vocabulary)


def _constant_report(reports: Sequence[str]) -> str:
    """The commonest training report: what a writer says who looks at nothing."""
    return max(sorted(set(reports)), key=reports.count)


def _interval(estimate: Mapping[str, Any]) -> list[float] | None:
    return None if estimate.get("low") is None else [estimate["low"], estimate["high"]]


def _value(item: Mapping[str, Any], name: str) -> float | None:
    estimate = item.get(name)
    return estimate.get("value") if isinstance(estimate, dict) else estimate
