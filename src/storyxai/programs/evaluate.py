"""A model judged on a study table: scorecard.json and scorecard.html, the measured times apart in speed.json.

What a model's maps are worth goes to explanations.json: of any model, with a page of its own where there is no scorecard.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from storyxai.data.skipped import skipped_lines
from storyxai.data.table import Skipped
from storyxai.errors import InputError, UnknownNameError
from storyxai.explain.contract import ExplainedModel
from storyxai.files import replace_files, require_writable
from storyxai.metrics.bootstrap import Estimate
from storyxai.models.card import ModelCard, card_figures, read_card, write_card
from storyxai.models.runtime import load_student
from storyxai.programs.models import GraphWords, ModelChoice, open_model
from storyxai.programs.places import name_full_disk
from storyxai.programs.scorecards import write_scorecard
from storyxai.progress import Progress
from storyxai.provenance import canonical_json
from storyxai.scorecard.build import headline, main_figures
from storyxai.scorecard.explanations import ExplanationPlan, card_parts, judge_explanations
from storyxai.scorecard.judge import SPLITS, JudgeOptions, evaluate_student, student_speed
from storyxai.scorecard.page import glance_html, render_explanations
from storyxai.scorecard.record import read_scores
from storyxai.scorecard.record_maps import read_maps

__all__ = ["SPLITS", "EvaluateOptions", "Evaluated", "ExplanationPlan", "evaluate", "evaluate_explanations", "score_lines"]

SPEED_BATCHES = 10


@dataclass(frozen=True)
class EvaluateOptions:
    """How a student is judged: on which part of the table, with how many bootstrap replicates, `beside` which others.

    Views that are not frontal are left out, but with `laterals`. `explanations` asks what the maps are worth; of an ONNX file,
    whose outputs `findings` name, that alone is judged; `graph` is what else is said of it. With `write_card` faithfulness and
    robustness of the maps go into the card in the folder `model`, from where stories cite them.
    """

    model: Path | None = None
    beside: Sequence[Path] = ()
    split: str = "unseen"
    bootstrap: int = 1000
    seed: int = 0
    laterals: bool = False
    findings: Sequence[str] = ()
    explanations: ExplanationPlan | None = None
    write_card: bool = False
    graph: GraphWords = field(default_factory=GraphWords)

    @property
    def of_file(self) -> bool:
        """Whether the model is an ONNX file and no student's folder."""
        return self.model is not None and self.model.suffix.lower() == ".onnx"

    def check(self) -> None:
        """Raise UnknownNameError if there is no such part, InputError for options that do not go together."""
        if self.split not in SPLITS:
            raise UnknownNameError("split", self.split, SPLITS)
        if self.explanations is None and (self.of_file or self.write_card):
            what = str(self.model) if self.of_file else "the card"
            raise InputError(what, "gets no scorecard, only figures of its maps", mend="add --explanations")
        if self.write_card and (self.model is None or self.of_file):
            raise InputError("the card", "belongs to no folder that is named", mend="name a student's folder with --model")


@dataclass(frozen=True)
class Evaluated:
    """Where the scorecard (or the figures of the maps alone) and its page stand, the main figures, and the same in words."""

    scorecard: Path
    headline: Mapping[str, object]
    lines: tuple[str, ...]

    @property
    def page(self) -> Path:
        """The page beside the figures."""
        return self.scorecard.with_suffix(".html")

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        return glance_html(json.loads(self.scorecard.read_bytes()))


def evaluate(
    table: str | Path, out: str | Path, options: EvaluateOptions | None = None, *, progress: Progress | None = None
) -> Evaluated:
    """The scorecard of a student on a study table, written to `out` as scorecard.json and scorecard.html.

    Other students, `beside` it, are judged on the same images, with paired differences.
    """
    table, out, options = Path(table), Path(out), options or EvaluateOptions()
    options.check()
    plan = _plan_of(options)
    if options.of_file and plan is not None:
        model = open_model(ModelChoice(options.model, options.findings, graph=options.graph))
        return evaluate_explanations(model, table, out, plan, progress=progress)
    require_writable(out)
    if options.write_card and options.model is not None:
        require_writable(options.model)
    student, others = load_student(options.model), [load_student(one) for one in options.beside]
    with name_full_disk(out):
        record = evaluate_student(
            student, table, JudgeOptions(options.split, options.bootstrap, options.seed, options.laterals), beside=others,
            progress=progress,
        )
        maps = None if plan is None else judge_explanations(student, table, plan, progress=progress)
        speed = student_speed(student, batches=SPEED_BATCHES, clock=time.perf_counter, beside=others)
        write_scorecard(record, out, speed=speed, explanations=maps)
        if maps is not None and options.write_card:
            write_card(_with_maps(read_card(student.folder), maps), student.folder)
    lines = (*score_lines(record), *(() if maps is None else explanation_lines(maps)))
    return Evaluated(out / "scorecard.json", headline(record), lines)


def evaluate_explanations(
    model: ExplainedModel, table: str | Path, out: str | Path, plan: ExplanationPlan | None = None, *,
    progress: Progress | None = None,
) -> Evaluated:
    """What the maps of any model are worth on a study table, written to `out` as explanations.json and explanations.html.

    Raises: InputError where no image can be explained; UnsupportedMethodError when the model can serve none of the methods.
    """
    table, out = Path(table), Path(out)
    require_writable(out)
    with name_full_disk(out):
        record = judge_explanations(model, table, plan or ExplanationPlan(), progress=progress)
        replace_files(out, {"explanations.json": canonical_json(record), "explanations.html": render_explanations(record)})
    return Evaluated(out / "explanations.json", {}, explanation_lines(record))


def explanation_lines(record: Mapping[str, object]) -> tuple[str, ...]:
    """The figures of maps in words, one line a method."""
    lines = []
    for method in read_maps(record).methods:
        parts = [f"{found.figure.replace('_', ' ')} {_in_words(found.map)}" for found in method.figures]
        lines.append(f"{method.name} ({method.maps} maps): {'; '.join(parts) or 'all maps are empty'}")
    return tuple(lines)


def _plan_of(options: EvaluateOptions) -> ExplanationPlan | None:
    """The plan for maps on the same part, seed and resamples as the scorecard."""
    if options.explanations is None:
        return None
    plan = replace(
        options.explanations, split=options.split, bootstrap=options.bootstrap, seed=options.seed, laterals=options.laterals
    )
    plan.check()
    return plan


def _with_maps(card: ModelCard, maps: Mapping[str, object]) -> ModelCard:
    found = card_figures(card_parts(dict(maps)))
    return replace(card, figures=replace(card.figures, faithfulness=found.faithfulness, robustness=found.robustness))


def score_lines(record: Mapping[str, object]) -> list[str]:
    """A scorecard's main figures, one line a model; before them what was left out of it."""
    read = read_scores(record)
    lines = list(skipped_lines([Skipped(one.what, one.why) for one in read.dataset.left_out]))
    for model, found in zip(read.models, main_figures(read), strict=True):
        parts = [f"{name} {_in_words(figure)}" for name, figure in found.items()]
        lines.append(f"{model.name} ({model.images} images): {'; '.join(parts) or 'see the page'}")
    return lines


def _in_words(found: Estimate) -> str:
    span = "" if found.interval is None else f" [{found.low:.3f}, {found.high:.3f}]"
    return f"{found.value:.3f}{span}"
