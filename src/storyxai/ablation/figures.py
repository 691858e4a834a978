"""The figures of an ablation: what each arm reached, what each addition changed, and what may be said of it.

An arm is one way of teaching; its seeds are averaged within each resample of test patients, so an interval speaks of the
patients, and the seeds' own values stand beside it. Two arms are compared on the same resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from storyxai.ablation.record import CellFigures, Comparison, Estimate, Metric, Taught, Transfer, signed, tasks_words
from storyxai.metrics.bootstrap import Floats, Resamples, Statistic, draw_resamples, mean_statistic, ratio
from storyxai.metrics.calibration import calibrated, ece_statistic
from storyxai.metrics.classification import average_precision_statistic, mean_auroc_statistic
from storyxai.metrics.text import finding_f1_statistic
from storyxai.types import RESEARCH_USE

FORMAT = "storyxai-ablation/1"
BLOCK = 250  # resamples computed at once
WORTH_NAMING = 0.0005  # a smaller difference prints as 0.000
Cell: TypeAlias = tuple[tuple[str, ...], str]  # the tasks, and the arm that teaches them
Rows: TypeAlias = NDArray[np.float32]

ARMS: Mapping[str, str] = {
    "labels": "references only",
    "teachers": "references and our own teachers' soft targets",
    "reasons": "references, our own teachers' soft targets and their maps",
    "public": "references and a published teacher's soft targets",
    "phantoms_first": "references, after a first training on phantoms",
    "films_first": "references, after the encoder has learnt to fill in hidden parts of the training films",
    "teacher": "the teacher itself",
}
_PAIRS = (
    ("teachers", "labels", "What do our own teachers' soft targets add?"),
    ("reasons", "teachers", "What do the teachers' maps add to their soft targets?"),
    ("reasons", "labels", "What do soft targets and maps add together?"),
    ("public", "labels", "What do a published teacher's soft targets add?"),
    ("public", "teachers", "Does the published teacher teach more than our own?"),
    ("phantoms_first", "labels", "What does a first training on phantoms add?"),
    ("films_first", "labels", "What does self-supervision on the training films add?"),
)


METRICS = (
    Metric("auroc", "mean AUROC", "accuracy", "findings", True, "mean over the findings with enough cases; 0.5 is chance"),
    Metric("average_precision", "mean average precision", "accuracy", "findings", True, "over the same findings"),
    Metric("ece", "calibration error", "accuracy", "findings", False,
           "ten bins of equal size, mean over findings, after calibration on the validation part"),
    Metric("outline_dice", "Dice of outlines", "accuracy", "masks", True, "mean of both sides that have a reference"),
    Metric("report_f1", "report finding F1", "accuracy", "report", True, "findings claimed in the text against the labels"),
    Metric("cam_hit", "Grad-CAM hit rate", "interpretability", "findings", True,
           "the cell of the highest value holds part of the finding's true place"),
    Metric("cam_energy", "Grad-CAM share in place", "interpretability", "findings", True,
           "share of the map inside the finding's true place"),
    Metric("grid_hit", "evidence grid hit rate", "interpretability", "findings", True, "as for Grad-CAM"),
    Metric("grid_energy", "evidence grid share in place", "interpretability", "findings", True,
           "share of the cells' probabilities inside the true place"),
    Metric("inside_pair", "Grad-CAM share where expected", "interpretability", "findings", True,
           "findings expected inside the paired structures, images with a reference of them"),
    Metric("agreement", "agreement of Grad-CAM and grid", "interpretability", "findings", True,
           "correlation over the cells of an image"),
    Metric("overlap", "overlap with other findings' maps", "interpretability", "findings", False,
           "mean cosine with the maps of the other judged findings: high means that the maps say the same of all"),
)
_BY_NAME = {metric.name: metric for metric in METRICS}
_MAIN = {"findings": "auroc", "masks": "outline_dice", "report": "report_f1"}
_MAPS = tuple(metric.name for metric in METRICS if metric.side == "interpretability")


@dataclass(frozen=True, eq=False)
class Answers:
    """What one trained network said of the test part; an empty array where it has no such head.

    Shapes: logits [N, F], calibration [F, 2] (scale and bias, fitted on the validation part), dice [N, 2] of the pair's sides,
    claims [N, F] (1 = the text states it), maps by metric [N, F]; nan = not measured.
    """

    logits: Rows
    calibration: Rows
    dice: Rows
    claims: Rows
    maps: Mapping[str, Rows] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class References:
    """The test part as it is to be judged by.

    Shapes: labels [N, F], nan = not stated or not to be judged; report_labels [N, F] those of images with a report.
    `floors` are what maps that know nothing reach, by metric and kind. `about` is printed as it is.
    """

    patient_ids: tuple[str, ...]
    findings: tuple[str, ...]
    labels: Rows
    report_labels: Rows
    floors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    about: Mapping[str, object] = field(default_factory=dict)


def ablation_record(
    answers: Mapping[tuple[tuple[str, ...], str, int], Answers], references: References, *, name: str,
    min_positives: int, count: int = 1000, level: float = 0.95, seed: int = 0,
) -> dict[str, object]:
    """All figures of an ablation as plain JSON values; `answers` by tasks, arm and seed may be of part of the plan."""
    columns = _enough(references.labels, min_positives)
    bench = _Bench(draw_resamples(references.patient_ids, count=count, seed=seed), level)
    groups: dict[Cell, dict[int, dict[str, Floats]]] = {}
    for (tasks, arm, number), said in sorted(answers.items(), key=lambda item: _order(item[0])):
        statistics = _statistics(tasks, said, references, columns)
        groups.setdefault((tasks, arm), {})[number] = {name: bench.drawn(one) for name, one in statistics.items()}
    cells = [
        CellFigures(tasks, arm, seeds=tuple(sorted(seeds)), figures=bench.figures(seeds))
        for (tasks, arm), seeds in groups.items()
    ]
    comparisons = [bench.comparison(groups, *pair) for pair in _compared(groups)]
    comparisons = [item for item in comparisons if item.differences]
    return {
        "format": FORMAT, "research_use": RESEARCH_USE, "name": name,
        "data": {
            **references.about, "test_images": len(references.labels),
            "test_patients": len(set(references.patient_ids)),
            "findings": [
                {"finding": references.findings[c], "present": int((references.labels[:, c] >= 0.5).sum()),
                 "absent": int((references.labels[:, c] < 0.5).sum())} for c in columns
            ],
            "measured": _measured(answers, references),
        },
        "settings": {"bootstrap": count, "level": level, "min_positives": min_positives, "seed": seed, "unit": "patient"},
        "metrics": [vars(metric) for metric in METRICS],
        "arms": {arm: ARMS[arm] for arm in dict.fromkeys(arm for _, arm in groups)},
        "floors": {key: dict(value) for key, value in references.floors.items()},
        "cells": _plain(cells), "comparisons": _plain(comparisons),
        "transfer": _plain(_transfer(comparisons)),
        "conclusions": conclusions(comparisons, level=level, synthetic=bool(references.about.get("synthetic"))),
    }


@dataclass(frozen=True, eq=False)
class _Bench:
    """The resamples that all figures share. A figure's numbers: its value, then its value in each resample."""

    resamples: Resamples
    level: float

    def drawn(self, statistic: Statistic) -> Floats:
        """The numbers of one network's figure, computed once for every comparison that it enters."""
        images, count = len(self.resamples.patient_of), len(self.resamples.counts)
        steps = range(0, count, BLOCK)
        parts = [statistic(self.resamples.weights(start, min(start + BLOCK, count))) for start in steps]
        return np.concatenate([statistic(np.ones((1, images))), *parts])

    def figures(self, seeds: Mapping[int, Mapping[str, Floats]]) -> dict[str, Estimate]:
        """Each figure of an arm, its seeds averaged."""
        first = next(iter(seeds.values()))
        found = {metric: self._figure([said[metric] for said in seeds.values()]) for metric in first}
        return {metric: figure for metric, figure in found.items() if figure is not None}

    def comparison(
        self, groups: Mapping[Cell, Mapping[int, Mapping[str, Floats]]], first: Cell, second: Cell, kind: str,
        question: str,
    ) -> Comparison:
        """First minus second in every figure that both have, over the seeds that both have."""
        shared = sorted(groups[first].keys() & groups[second].keys())
        differences = {}
        for metric in _BY_NAME if shared else ():
            pairs = [(groups[first][seed].get(metric), groups[second][seed].get(metric)) for seed in shared]
            gaps = [one - other for one, other in pairs if one is not None and other is not None]
            figure = self._figure(gaps) if gaps else None
            if figure is not None:
                differences[metric] = figure
        return Comparison(kind, question, tuple(shared), differences, Taught(*first), Taught(*second))

    def _figure(self, seeds: Sequence[Floats]) -> Estimate | None:
        """The mean over seeds with its percentile interval; none where most resamples leave it undefined."""
        numbers = np.mean(seeds, axis=0)
        kept = numbers[1:][np.isfinite(numbers[1:])]
        count = len(numbers) - 1
        if not np.isfinite(numbers[0]):
            return None
        low = high = None
        if 2 * len(kept) > count:
            low, high = (float(q) for q in np.quantile(kept, [(1 - self.level) / 2, (1 + self.level) / 2]))
        return Estimate(
            value=float(numbers[0]), low=low, high=high, replicates=count, left_out=count - len(kept),
            by_seed=tuple(_number(one[0]) for one in seeds),
        )


def _statistics(
    tasks: tuple[str, ...], said: Answers, references: References, columns: Sequence[int]
) -> dict[str, Statistic]:
    """The figures that this network can be judged by, as statistics of image weights."""
    found: dict[str, Statistic] = {}
    if "findings" in tasks and len(said.logits) and columns:
        labels = references.labels[:, columns]
        logits = said.logits[:, columns]
        scale, bias = said.calibration[columns].T
        probabilities = calibrated(logits, scale, bias)
        found["auroc"] = mean_auroc_statistic(labels, logits)
        found["average_precision"] = _mean(
            [average_precision_statistic(labels[:, c], logits[:, c]) for c in range(len(columns))]
        )
        found["ece"] = _mean([ece_statistic(probabilities[:, c], labels[:, c]) for c in range(len(columns))])
        found |= {name: _pooled(said.maps[name]) for name in _MAPS if name in said.maps}
    if "masks" in tasks and len(said.dice):
        known = np.isfinite(said.dice)
        both = np.divide(np.nansum(said.dice, axis=1), known.sum(axis=1), where=known.any(axis=1),
                         out=np.full(len(known), np.nan))
        found["outline_dice"] = mean_statistic(both)
    if "report" in tasks and len(said.claims):
        found["report_f1"] = finding_f1_statistic(said.claims, references.report_labels, average="micro")
    return found


def _pooled(values: Rows) -> Statistic:
    """The mean over all measured (image, finding) pairs: an image counts as often as it has findings."""
    known = np.isfinite(values)
    sums, counts = np.where(known, values, 0.0).sum(axis=1, dtype=np.float64), known.sum(axis=1).astype(np.float64)

    def mean(weights: Floats) -> Floats:
        return ratio(weights @ sums, weights @ counts)

    return mean


def _mean(statistics: Sequence[Statistic]) -> Statistic:
    def mean(weights: Floats) -> Floats:
        return np.asarray(np.mean([statistic(weights) for statistic in statistics], axis=0))

    return mean


def _plain(items: Sequence[object]) -> object:
    """The items as plain JSON values."""
    return msgspec.json.decode(msgspec.json.encode(items))


def _number(value: np.float64) -> float | None:
    return float(value) if np.isfinite(value) else None


def _enough(labels: Rows, least: int) -> list[int]:
    present, absent = (labels >= 0.5).sum(axis=0), (labels < 0.5).sum(axis=0)
    return [int(c) for c in np.flatnonzero((present >= least) & (absent >= least))]


def _measured(answers: Mapping[Any, Answers], references: References) -> dict[str, int]:
    """How many images (maps: image and finding pairs) stand behind each figure; the most that any network was asked."""
    most: dict[str, int] = {}
    for said in answers.values():
        counts = {name: int(np.isfinite(values).sum()) for name, values in said.maps.items()}
        counts["outline_dice"] = int(np.isfinite(said.dice).any(axis=1).sum()) if len(said.dice) else 0
        counts["report_f1"] = int(np.isfinite(references.report_labels).any(axis=1).sum()) if len(said.claims) else 0
        counts["auroc"] = int(np.isfinite(references.labels).any(axis=1).sum()) if len(said.logits) else 0
        counts["average_precision"] = counts["ece"] = counts["auroc"]
        for name, number in counts.items():
            most[name] = max(most.get(name, 0), number)
    return {name: number for name, number in most.items() if number}


def _compared(groups: Mapping[Cell, Any]) -> list[tuple[Cell, Cell, str, str]]:
    """Which cells are compared: the same tasks taught two ways, and the same teaching of one task and of more."""
    pairs = [
        ((tasks, first), (tasks, second), "arms", question)
        for tasks in dict.fromkeys(tasks for tasks, _ in groups)
        for first, second, question in _PAIRS
        if (tasks, first) in groups and (tasks, second) in groups
    ]
    for tasks, arm in groups:
        for task in tasks if len(tasks) > 1 and arm != "teacher" else ():
            if ((task,), arm) in groups:
                others = " and ".join(other for other in tasks if other != task)
                pairs.append(((tasks, arm), ((task,), arm), "tasks", f"What does learning {others} too do for {task}?"))
    return pairs


def _order(cell: tuple[tuple[str, ...], str, int]) -> tuple[Any, ...]:
    """Single tasks first, and the arms in the order in which each adds to the one before."""
    tasks, arm, seed = cell
    return len(tasks), tasks, list(ARMS).index(arm), seed


def _transfer(comparisons: Sequence[Comparison]) -> list[Transfer]:
    """Which task helps which: the main figure of a task learnt with others minus that of the task alone."""
    return [
        Transfer(
            item.first.arm, judged := item.second.tasks[0], _MAIN[judged],
            tuple(task for task in item.first.tasks if task != judged), item.differences[_MAIN[judged]],
        )
        for item in comparisons
        if item.kind == "tasks" and _MAIN[item.second.tasks[0]] in item.differences
    ]


def conclusions(comparisons: Sequence[Comparison], *, level: float, synthetic: bool) -> list[str]:
    """Plain sentences that the intervals allow, and no others: one for each question, then how far they carry."""
    said, shown, asked = [], 0, 0
    for question in dict.fromkeys(item.question for item in comparisons):
        parts = []
        for item in (item for item in comparisons if item.question == question):
            better, worse, other = _sorted_differences(item)
            shown, asked = shown + len(better) + len(worse), asked + len(better) + len(worse) + len(other)
            words = [f"better in {_listed(better)}"] if better else []
            words += [f"worse in {_listed(worse)}"] if worse else []
            if other:
                rest = len(other) > 3
                named = f"the other {len(other)} figures" if rest and words else _listed(other)
                words.append(f"no difference shown in {named if not rest or words else f'any of {len(other)} figures'}")
            if words:
                taught = f"taught by {item.first.arm.replace('_', ' ')}"
                parts.append(f"{tasks_words(item.first.tasks) if item.kind == 'arms' else taught}: {'; '.join(words)}")
        if parts:
            said.append(f"{question} {'. '.join(part[0].upper() + part[1:] for part in parts)}.")
    if asked:
        said.append(
            f"Of {asked} intervals {shown} leave out 0; about {asked * (1 - level):.0f} would by chance alone if nothing made "
            "any difference. Intervals speak of the patients of the test part, not of other seeds, sets or sizes of network."
        )
    fewest = min((len(item.seeds) for item in comparisons), default=0)
    if fewest < 3 and asked:
        said.append("Some comparisons rest on fewer than three seeds: what one seed shows, another may not.")
    kind = "synthetic phantoms" if synthetic else "small sets of real images"
    said.append(f"These figures are of {kind} and of small networks. {RESEARCH_USE}.")
    return said


def _sorted_differences(item: Comparison) -> tuple[list[str], list[str], list[str]]:
    """The figures that got better, got worse, and of which no difference was shown, in words."""
    better: list[str] = []
    worse: list[str] = []
    other: list[str] = []
    for name, gap in item.differences.items():
        metric = _BY_NAME[name]
        if abs(gap.value) < WORTH_NAMING or not gap.side_of_zero:
            other.append(metric.words)
        else:
            side = better if (gap.side_of_zero > 0) == metric.more_is_better else worse
            side.append(f"{metric.words} ({signed(gap.value)})")
    return better, worse, other


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
