"""Whole programs: from a recipe to a student with its scorecard, and from a student and a table to a scorecard."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storyxai.data.batches import Examples
from storyxai.data.learnt import learnt_sets, learnt_sources, weights_licence
from storyxai.errors import RecipeError
from storyxai.evidence.boxes import evidence_boxes
from storyxai.files import require_writable, write_whole
from storyxai.imaging.geometry import ModelFrame, model_frame
from storyxai.metrics.agreement import grid_cosines
from storyxai.metrics.text import constant_report
from storyxai.modalities.contract import Modality
from storyxai.modalities.registry import MODALITY_FILE, modality_bytes
from storyxai.model_facts import DataSet
from storyxai.models.card import Calibration, ModelCard, read_card, write_card
from storyxai.models.export import export_student
from storyxai.models.network import Network
from storyxai.models.runtime import Student, load_student
from storyxai.models.tokens import decode_tokens
from storyxai.phantoms.registry import phantom_maker
from storyxai.programs.runs import open_run
from storyxai.programs.scorecards import figures_of, write_scorecard
from storyxai.progress import Progress
from storyxai.provenance import sha256_file
from storyxai.scorecard.build import References, Scorecard, TaskOutputs, build_scorecard
from storyxai.scorecard.inputs import Role
from storyxai.scorecard.judge import conformal_of, patient_mark, told_tiers
from storyxai.scorecard.rows import blind_boxes, scored_boxes
from storyxai.training.calibrate import Resampling, ThresholdRule, calibrate
from storyxai.training.config import PROBE, CalibrationRecipe, Recipe
from storyxai.training.distil import DistilledRun, distil
from storyxai.training.fold_answers import FoldAnswers, calibration_out_of_fold, read_fold_answers
from storyxai.training.outputs import NetworkOutputs, network_outputs, network_size, network_speeds
from storyxai.training.recipe_file import read_recipe

__all__ = ["OWN_LICENCE", "distil_to_folder", "limits_of", "outputs_of", "reports_of", "run_pipeline"]

OWN_LICENCE = "Apache-2.0"
"""Of weights that no set's terms bind."""
LIMITS = ("Probabilities do not carry over to another hospital without calibration there.",)
"""Limits of every student; its modality and what it learned from bring more (`limits_of`)."""


def distil_to_folder(recipe_path: Path, out: Path, *, progress: Progress | None = None) -> tuple[Student, DistilledRun]:
    """The student that a recipe describes, written to `out`/model with its card. Raises: RecipeError, OutputError."""
    recipe = open_run(recipe_path, out)
    folds = recipe.calibration.out_of_fold
    answers = read_fold_answers(Path(folds)) if folds else None  # before anything is trained
    if "findings" not in recipe.student.tasks:
        why = f"has a student of {', '.join(recipe.student.tasks)} alone, of which no story can be told"
        raise RecipeError(recipe.name, why, mend="give it the task 'findings', or use `crossvalidate`")
    run = distil(recipe, out, progress=progress)
    write_model(recipe, run, out / "model", answers=answers)
    return load_student(out / "model"), run


def run_pipeline(recipe_path: Path, out: Path, *, progress: Progress | None = None) -> tuple[Student, dict[str, object]]:
    """`distil_to_folder`, then the scorecard of student and teachers on the held-out part, written into `out`."""
    student, run = distil_to_folder(recipe_path, out, progress=progress)
    recipe = read_recipe(recipe_path)
    scorecard = judge_run(recipe, run, student.card, progress=progress)
    record = scorecard.as_dict()
    write_scorecard(record, out, speed=_speeds(run))
    card = replace(read_card(out / "model"), figures=figures_of(record, recipe.kind()))
    write_card(card, out / "model")
    return Student(student.folder, card), record


def write_model(recipe: Recipe, run: DistilledRun, folder: Path, *, answers: FoldAnswers | None = None) -> ModelCard:
    """The card of the exported student, calibrated by the answers out of fold where given, else on the validation part.

    There by real films where there are any.
    """
    require_writable(folder)
    files, kind = export_student(run.student, folder), recipe.kind()
    if described := modality_bytes(recipe.modality):  # it goes with the student, who is told by it
        write_whole(described, folder / MODALITY_FILE)
        files |= {MODALITY_FILE: sha256_file(folder / MODALITY_FILE)}
    learnt_from, origins = learnt_sets(run.parts.train, run.parts.origins), run.parts.origins
    card = ModelCard(
        name=f"storyxai-{recipe.name}", version="1", spec=run.student.spec.as_dict(), files=files,
        calibration=_calibration(recipe, run, answers),
        trained_on=learnt_from, limits=limits_of(learnt_from, kind), cannot_see=kind.cannot_see, modality=kind.key,
        training={
            "seed": recipe.seed, "foreign_teachers": [dict(one) for one in run.foreign],
            "losses": {name: list(values) for name, values in run.losses.items()},
            "patients": sorted({patient_mark(p) for part in (run.parts.train, run.parts.validation) for p in part.patient_ids
                                if not p.startswith("phantom")}),
            "patient_sources": list(learnt_sources(run.parts.train, origins)), "remedies": list(remedies_of(recipe)),
        },
        licence=weights_licence(run.parts.train, origins, OWN_LICENCE),
    )
    write_card(card, folder)
    return card


def _calibration(recipe: Recipe, run: DistilledRun, answers: FoldAnswers | None) -> dict[str, Calibration]:
    if answers is not None:
        return calibration_out_of_fold(recipe, answers)
    # Real films where there are any; those of the set with the most stated labels.
    stated, domain = ~np.isnan(run.parts.validation.labels), np.array(run.parts.validation.domain)
    sets = sorted(set(domain.tolist()) & set(recipe.calibration.sets or domain.tolist()))
    if not sets:
        why = f"calibrates on {', '.join(recipe.calibration.sets)}, of which nothing is in the validation part"
        raise RecipeError(recipe.name, why, mend=f"known sets: {', '.join(sorted(set(domain.tolist())))}")
    weight = {name: (name != "phantom", int(stated[domain == name].sum())) for name in sets}
    chosen = max(weight, key=lambda name: weight[name])
    return calibration_of(run.student, run.parts.validation, domain=chosen, how=recipe.calibration)


def calibration_of(
    network: Network, validation: Examples, *, domain: str, how: CalibrationRecipe = CalibrationRecipe()  # noqa: B008 - it is frozen
) -> dict[str, Calibration]:
    """The network's calibration on the validation images of one domain, as the recipe says."""
    rows = [i for i, name in enumerate(validation.domain) if name == domain]
    mine = validation.take(rows)
    logits = network_outputs(network.only("findings"), mine).logits
    assert logits is not None
    return calibrate(
        logits, mine.labels, mine.patient_ids, findings=network.spec.findings, data=f"{domain} validation, n = {len(mine)}",
        resampling=Resampling(how.replicates), rule=ThresholdRule(how.threshold, how.sensitivity, how.probability),
    )


def limits_of(sets: Sequence[DataSet], modality: Modality) -> tuple[str, ...]:
    """Where a student that learned from these sets ends: what holds for every one, of its modality, then of each set."""
    return tuple(dict.fromkeys((*LIMITS, *modality.limits, *(limit for one in sets for limit in one.limits))))


def remedies_of(recipe: Recipe) -> tuple[str, ...]:
    """What a recipe does about rare findings, in words, in the order of the recipe's tables; empty where it does nothing."""
    data, training = recipe.data, recipe.training
    foreign = [given for given in recipe.foreign_teachers if given.task == "findings" and given.kind != PROBE]
    elsewhere = len(foreign) + len(data.soft_targets)
    done = {
        f"{data.phantom_train} phantoms, made with every finding that a phantom can have": data.phantom_train > 0,
        f"images of findings rarer than {100 * training.rare_share:.2g} % shown more often": training.rare_share > 0,
        f"{training.finding_loss} loss": training.finding_loss != "cross_entropy",
        "rare positives weigh more in the loss": training.positive_weights,
        f"answers of {elsewhere} teacher{'s' if elsewhere > 1 else ''} from elsewhere where labels are silent": elsewhere > 0,
    }
    return tuple(text for text, holds in done.items() if holds)


def judge_run(recipe: Recipe, run: DistilledRun, card: ModelCard, *, progress: Progress | None = None) -> Scorecard:
    """Student and teachers side by side on the held-out phantoms of the run, or without any on what the tables hold out."""
    domain, kind = _judged_domain(run.parts.test.domain), recipe.kind()
    phantoms = domain == "phantom"
    rows = [i for i, name in enumerate(run.parts.test.domain) if name == domain]
    test = run.parts.test.take(rows)
    findings = tuple(name for i, name in enumerate(kind.names) if not np.isnan(test.labels[:, i]).all())
    columns = [kind.names.index(name) for name in findings]
    frame = model_frame(recipe.data.phantom_size, recipe.data.phantom_size, size=recipe.data.size)
    paired = kind.pair is not None
    learnt = network_outputs(run.student, test, name="student", with_pair=paired, progress=progress)
    grids = learnt.grid if phantoms else None
    outputs = [replace(outputs_of("student", "student", learnt, test.ids, card.calibration, findings, kind),
                       boxes=_drawn_boxes(grids, findings, kind.names, frame), facts=network_size(run.student))]
    cosines: dict[tuple[str, str], dict[str, NDArray[np.float64]]] = {}
    for task, teacher in run.teachers.items():
        calibration = calibration_of(teacher, run.parts.validation, domain=domain) if task.startswith("findings") else {}
        name = f"teacher of {task}"
        said = network_outputs(teacher, test, name=name, with_pair=paired, progress=progress)
        outputs.append(replace(outputs_of(name, "teacher", said, test.ids, calibration, findings, kind),
                               boxes=_drawn_boxes(said.grid if phantoms else None, findings, kind.names, frame),
                               facts=network_size(teacher)))
        if said.grid is not None and learnt.grid is not None:
            cosines["student", name] = {
                finding: np.where(test.labels[:, i] >= 0.5, grid_cosines(said.grid[:, i], learnt.grid[:, i]), np.nan)
                for finding, i in zip(findings, columns, strict=True)
            }
    references = References(
        dataset="phantom, held out (synthetic)" if phantoms else f"{domain}, held out", synthetic=phantoms, ids=test.ids,
        patient_ids=test.patient_ids, findings=findings, labels=test.labels[:, columns],
        facts={"outlines": "measured in pixels of each network's own view"}, modality=kind,
        remedies=remedies_of(recipe),
    )
    if phantoms:
        boxes, views = _phantom_truth(test.ids, findings, recipe.data.phantom_size, kind, progress)
        references = replace(references, boxes=boxes, subgroups={"view": views} if kind.acquisition.views else {})
        blind = [blind_boxes(frame, seed=recipe.seed ^ row) for row in range(len(test))]
        outputs += [
            TaskOutputs(name, "control", test.ids, boxes={finding: [row[name] for row in blind] for finding in findings})
            for name in sorted(blind[0])
        ]
    if phantoms and kind.grammar:
        early = [i for i, name in enumerate(run.parts.train.domain[:500]) if name == "phantom"]
        constant = constant_report(reports_of(run.parts.train.take(early), run.student.spec.vocabulary, kind))
        references = replace(
            references, reports=reports_of(test, run.student.spec.vocabulary, kind),
            baseline_reports={"constant": [constant] * len(test)},
            baselines_about={"constant": "the commonest training report for everybody, whatever the image"},
        )
    return build_scorecard(
        outputs, references, seed=recipe.seed, count=recipe.evaluation.bootstrap,
        min_positives=recipe.evaluation.min_positives, map_cosines=cosines,
    )


def _judged_domain(domains: Sequence[str]) -> str:
    """The set that a run is judged on: phantoms where there are any, else the one with the most images."""
    return "phantom" if "phantom" in domains else max(sorted(set(domains)), key=domains.count)


def _drawn_boxes(
    grid: NDArray[np.float32] | None, findings: Sequence[str], names: Sequence[str], frame: ModelFrame
) -> dict[str, list[NDArray[np.float64]]]:
    """By finding, the boxes [K, 5] that a network's evidence [N, F, h, w] draws on each phantom, in the phantom's frame."""
    if grid is None:
        return {}
    return {
        finding: [scored_boxes(evidence_boxes(one, frame, finding=finding)) for one in grid[:, names.index(finding)]]
        for finding in findings
    }


def _phantom_truth(
    ids: Sequence[str], findings: Sequence[str], size: int, kind: Modality, progress: Progress | None
) -> tuple[dict[str, list[NDArray[np.float64]]], list[str]]:
    """The true boxes [K, 4] of each phantom by finding, and its view: drawn again from the seed that its id names."""
    make = phantom_maker(kind.key)
    boxes: dict[str, list[NDArray[np.float64]]] = {finding: [] for finding in findings}
    views = []
    for row, name in enumerate(ids):
        phantom = make(int(name.removeprefix("phantom-")), size=size)
        views.append(str(phantom.image.view))
        for finding in findings:
            mine = [(b.x, b.y, b.width, b.height) for b in phantom.boxes if b.finding == finding]
            boxes[finding].append(np.array(mine, dtype=np.float64).reshape(-1, 4))
        if progress:
            progress("boxes of phantoms", row + 1, len(ids))
    return boxes, views


def _speeds(run: DistilledRun) -> dict[str, object]:
    """The speed of student and teachers on the same held-out images, measured one after the other."""
    teachers = {f"teacher of {task}": teacher for task, teacher in run.teachers.items()}
    return network_speeds({"student": run.student, **teachers}, run.parts.test, clock=time.perf_counter)


def outputs_of(
    name: str, role: Role, said: NetworkOutputs, ids: Sequence[str], calibration: Mapping[str, Calibration],
    findings: tuple[str, ...], modality: Modality,
) -> TaskOutputs:
    """What a network said as a scorecard takes it, for the named findings."""
    columns = [said.names.index(finding) for finding in findings]
    chosen = [calibration[finding] for finding in findings] if calibration and said.logits is not None else None
    masks = {} if said.dice is None else {
        **({} if said.paired is None or modality.pair is None else {modality.pair.name: said.paired}),
        **{mask: said.dice[:, i] for i, mask in enumerate(said.structures)},
    }
    apart = {} if said.apart is None else {
        mask: {"average_px": said.apart[:, i, 0], "hausdorff_95_px": said.apart[:, i, 1]}
        for i, mask in enumerate(said.structures)
    }
    return TaskOutputs(
        name=name, role=role, ids=ids, findings=findings if said.logits is not None else (),
        logits=None if said.logits is None else said.logits[:, columns],
        calibration=None if chosen is None else [(c.scale, c.bias) for c in chosen],
        thresholds=None if chosen is None else [c.threshold for c in chosen],
        tiers=None if chosen is None or said.logits is None else told_tiers(said.logits[:, columns], chosen),
        conformal=() if chosen is None else conformal_of(chosen), features=said.features, distances=apart, dices=masks,
        reports=None if said.words is None else [_text(words, modality) for words in said.words],
    )


def _words(tokens: NDArray[np.int64], vocabulary: Sequence[str]) -> list[str]:
    return decode_tokens(tokens[1:].tolist(), vocabulary)


def _text(words: Sequence[str], modality: Modality) -> str:
    return " ".join(modality.grammar.detokenize(words)) if modality.grammar else ""


def reports_of(examples: Examples, vocabulary: Sequence[str], modality: Modality) -> list[str]:
    """The reference report of each example as text, "" where none is known."""
    return [_text(_words(row, vocabulary), modality) for row in examples.tokens]
