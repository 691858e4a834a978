"""Teachers alone: trained from a recipe, judged on the validation part, a card beside each one's weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import msgspec

from storyxai.data.learnt import learnt_sets, weights_licence
from storyxai.data.skipped import write_skipped
from storyxai.errors import UnknownNameError
from storyxai.files import write_whole
from storyxai.metrics.text import constant_report
from storyxai.models.network import Network, count_parameters
from storyxai.models.teachers import network_hash
from storyxai.programs.pipeline import OWN_LICENCE, limits_of, outputs_of, reports_of
from storyxai.programs.runs import open_run
from storyxai.progress import Progress
from storyxai.provenance import canonical_json, sha256_file
from storyxai.scorecard.build import References, build_scorecard
from storyxai.scorecard.record import TeacherFigures
from storyxai.training.config import TASKS, TEACHER_TABLES, Recipe
from storyxai.training.distil import Parts, check_parts, gather_examples, train_teachers, with_outlines
from storyxai.training.outputs import network_outputs

TEACHER_FORMAT = "storyxai-teacher/1"


def teach_to_folder(
    recipe_path: Path, out: Path, *, task: str = "all", progress: Progress | None = None
) -> list[dict[str, object]]:
    """The cards of the recipe's teachers, of several members each, beside the weights in `out`; `distil` there goes on.

    Teachers found in `out` are kept. Raises: UnknownNameError for another task; RecipeError, OutputError.
    """
    if task not in (*TASKS, "all"):
        raise UnknownNameError("task", task, (*TASKS, "all"))
    recipe = open_run(recipe_path, out)
    parts = gather_examples(recipe, progress=progress)
    write_skipped(parts.left_out, out / "left_out.csv")
    check_parts(recipe, parts)
    parts = with_outlines(recipe, parts, progress=progress)
    described = tuple(one for one in TASKS if getattr(recipe, TEACHER_TABLES[one]) is not None)
    losses: dict[str, tuple[float, ...]] = {}
    teachers = train_teachers(
        recipe, described if task == "all" else (task,), parts, out, losses=losses, progress=progress
    )
    cards = []
    for one, teacher in teachers.items():
        own = {name: values for name, values in losses.items() if name == f"teacher of {one}"}
        cards.append(_write_card(recipe, one, teacher, parts, own, out, progress))
    return cards


def judge_teacher(
    recipe: Recipe, task: str, teacher: Network, parts: Parts, *, progress: Progress | None = None
) -> list[dict[str, object]]:
    """What a teacher reaches on each set of the validation part, phantoms and real films apart, as plain JSON values.

    Reports stand beside the one that is always the same. The validation part may also have chosen among epochs, so this
    is no test.
    """
    figures = []
    kind = recipe.kind()
    name, words = f"teacher of {task}", teacher.spec.vocabulary
    for domain in sorted(set(parts.validation.domain)):
        examples = parts.validation.take([i for i, at in enumerate(parts.validation.domain) if at == domain])
        learnt = parts.train.take([i for i, at in enumerate(parts.train.domain) if at == domain][:500])
        shown = f"{name} on {domain}"
        said = network_outputs(teacher, examples, name=shown, with_pair=kind.pair is not None, progress=progress)
        written, constant = reports_of(examples, words, kind), constant_report(reports_of(learnt, words, kind) or [""])
        references = References(
            dataset=f"{domain}, validation", synthetic=domain == "phantom", ids=examples.ids,
            patient_ids=examples.patient_ids, findings=teacher.spec.findings, labels=examples.labels,
            reports=written if any(written) else None, modality=kind,
            baseline_reports={"constant": [constant] * len(examples)} if any(written) else {},
        )
        judged = build_scorecard(
            [outputs_of(name, "teacher", said, examples.ids, {}, teacher.spec.findings, kind)], references, seed=recipe.seed,
            count=recipe.evaluation.bootstrap, min_positives=recipe.evaluation.min_positives,
        )
        baselines = judged.report_baselines if task == "report" else ()
        figures.append(msgspec.to_builtins(TeacherFigures(judged.dataset, judged.models[0], baselines)))
    return figures


def _write_card(
    recipe: Recipe, name: str, teacher: Network, parts: Parts, losses: Mapping[str, tuple[float, ...]], out: Path,
    progress: Progress | None,
) -> dict[str, object]:
    """The card of the teacher called `name`, written beside its weights."""
    weights, path, task = out / f"teacher-{name}.safetensors", out / f"teacher-{name}.json", name.partition("-")[0]
    learnt = [value for values in losses.values() for value in values]
    if not learnt and path.exists():  # it was trained in an earlier run
        learnt = json.loads(path.read_bytes()).get("losses", [])
    spec = {key: value for key, value in teacher.spec.as_dict().items() if key != "vocabulary"}
    learnt_from = learnt_sets(parts.train, parts.origins)
    card: dict[str, object] = {
        "format": TEACHER_FORMAT, "name": f"storyxai-{recipe.name}-teacher-{name}", "task": task, "spec": spec,
        "weights": {"file": weights.name, "sha256": sha256_file(weights)}, "hash": network_hash(teacher),
        "parameters": count_parameters(teacher), "seed": recipe.seed, "losses": learnt,
        "recipe_sha256": sha256_file(out / "recipe.toml"),
        "trained_on": [asdict(item) for item in learnt_from], "limits": list(limits_of(learnt_from, recipe.kind())),
        "figures": judge_teacher(recipe, task, teacher, parts, progress=progress),
        "licence": weights_licence(parts.train, parts.origins, OWN_LICENCE),
        "research_use_only": True,
    }
    write_whole(canonical_json(card), path)
    return card
