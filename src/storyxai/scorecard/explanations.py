"""A model's maps judged on a study table: where they lie, what the model makes of what they mark, what noise changes of them.

Every figure stands beside maps that know nothing of the model: smooth noise, the middle, the image's edges, and the average of
the method's maps of other patients. All figures are taken in the model's own frame; intervals are by patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from storyxai.data.opening import frontal_rows, open_row
from storyxai.data.table import Skipped, StudyTable, read_table
from storyxai.errors import InputError, UnknownNameError, UnsupportedMethodError
from storyxai.evidence.checks import rank_correlation
from storyxai.evidence.filling import scene_of
from storyxai.evidence.gather import modality_for
from storyxai.evidence.predict import OneLook, predict, view_of
from storyxai.explain.cam import fine_map
from storyxai.explain.contract import Budget, ExplainedModel, Method, Scene
from storyxai.explain.perturbation import hidden_image
from storyxai.explain.registry import method_named
from storyxai.imaging.geometry import ModelFrame
from storyxai.metrics.bootstrap import draw_resamples, estimate_mean, estimate_share, gap_between, mean_statistic
from storyxai.metrics.faithfulness import Masking, baseline_maps, faithfulness, gini, localisation, max_sensitivity
from storyxai.modalities.contract import Modality
from storyxai.models.randomise import randomised_models
from storyxai.models.runtime import Student
from storyxai.progress import Progress
from storyxai.scorecard.judge import SPLITS, unseen_rows
from storyxai.scorecard.record_maps import (
    BlindFigures,
    ExplainedOn,
    FindingMaps,
    JudgedModel,
    MapFigure,
    MapSettings,
    MapsRead,
    MethodMaps,
    read_maps,
)
from storyxai.types import Array, Box, Image, Mask

__all__ = ["BLIND", "FIGURES", "ExplanationPlan", "card_parts", "judge_explanations"]

BLIND: Final = ("random", "centre", "edge", "average")
"""The maps that know nothing of the model; the last is the average of the method's maps of other patients."""
FIGURES: Final[Mapping[str, str]] = {
    "hit": "higher", "energy": "higher", "iou": "higher", "deletion": "lower", "insertion": "higher", "road": "lower",
    "sparseness": "", "change": "lower", "randomised": "lower", "randomised_last": "lower",
}
"""The figures and which way is better ("": neither)."""
FAITHFUL = ("deletion", "insertion", "road")
MASKING = Masking(steps=16, shares=(0.2, 0.4, 0.6, 0.8))
RADIUS, NOISES = 0.02, 3
FEWEST_FOR_AVERAGE = 3
"""Of fewer other maps of a finding the average is taken over all findings."""


@dataclass(frozen=True)
class ExplanationPlan:
    """What is judged, and what it may cost.

    `images` at most, one a patient first, boxed ones before others; of each the maps of `findings` findings at most: those
    that are boxed, else those that are stated as present, else the likeliest. `samples` is the budget of methods that perturb.
    What noise and shuffled weights change of maps is asked of every `robust_every`-th image.
    """

    methods: tuple[str, ...] = ("grad_cam", "lime")
    images: int = 24
    findings: int = 2
    samples: int = 500
    robust_every: int = 3
    split: str = "unseen"
    bootstrap: int = 1000
    seed: int = 0
    laterals: bool = False

    def check(self) -> None:
        """Raise UnknownNameError for a method or part that there is not, InputError for a budget of nothing."""
        for method in self.methods:
            method_named(method)
        if self.split not in SPLITS:
            raise UnknownNameError("split", self.split, SPLITS)
        if not self.methods:
            raise InputError("methods", "are none", mend="name one, such as grad_cam")
        if min(self.images, self.findings, self.samples, self.robust_every, self.bootstrap) < 1:
            raise InputError("budget", "is nothing", mend="give 1 image or more, better 24, and 1 sample or more")


@dataclass(frozen=True, eq=False)
class _Case:
    """One image as the model sees it; `regions` are the readers' boxes of a finding in that frame. Shapes: pixels [C, S, S]."""

    patient: str
    pixels: Array
    scene: Scene
    wanted: tuple[str, ...]
    regions: Mapping[str, Mask]
    seed: int

    @property
    def grey(self) -> Array:
        return np.asarray(self.pixels.mean(axis=0, dtype=np.float64), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """One method's map of one finding of case number `case`, in the model's frame [S, S]."""

    case: int
    method: str
    finding: str
    values: Array


@dataclass(frozen=True)
class _Measured:
    """One figure of one map, under "map", and of the maps that know nothing beside it."""

    method: str
    finding: str
    patient: str
    figure: str
    values: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class _Judge:
    """The model, the plan, and the methods that this model can serve; `not_served` says what others need."""

    model: ExplainedModel
    plan: ExplanationPlan
    cases: Sequence[_Case]
    methods: tuple[Method, ...] = ()
    not_served: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def draw(self, model: ExplainedModel, method: Method, case: _Case, pixels: Array) -> Array:
        """The method's maps of the case's findings, on the frame of the model. Shapes: [T, S, S]."""
        budget = Budget(samples=self.plan.samples, seed=self.plan.seed)
        found = method.explain(model, pixels, case.wanted, budget, case.scene)
        height, width = pixels.shape[1:]
        return np.stack([fine_map(one.values, height=height, width=width) for one in found])


def judge_explanations(
    model: ExplainedModel, table_path: Path, plan: ExplanationPlan, *, progress: Progress | None = None
) -> dict[str, object]:
    """The figures of a model's maps on a study table, as plain JSON values (format `EXPLANATIONS_FORMAT`).

    Raises: as `ExplanationPlan.check`; InputError when no image is left; UnsupportedMethodError when the model can serve none
    of the methods.
    """
    plan.check()
    cases, left_out = _cases_of(model, table_path, plan, progress)
    judge = _with_methods(_Judge(model, plan, cases))
    drawn = list(_drawings(judge, progress))
    measured = [*_placed_and_faithful(judge, drawn, progress), *_robust(judge, drawn, progress)]
    return MapsRead(
        JudgedModel(model.model_id, tuple(model.findings)), _dataset(table_path, plan, cases, left_out), _settings(plan, judge),
        tuple(_method_maps(method, drawn, measured, plan) for method in judge.methods),
    ).as_dict()


def card_parts(record: Mapping[str, object]) -> Mapping[str, Mapping[str, dict[str, object]]]:
    """The parts "faithfulness" and "robustness" of a card, by method, from what `judge_explanations` gave.

    Each faithfulness is held against the map without knowledge that did best at it, so that it is above zero only where the
    method beats all of them. A figure without an interval stays away.
    """
    parts: dict[str, dict[str, dict[str, object]]] = {"faithfulness": {}, "robustness": {}}
    read = read_maps(record)
    for method in read.methods:
        figures = {found.figure: found for found in method.figures}
        gains = _gains(figures)
        if gains:
            parts["faithfulness"][method.method] = {**gains, "n": method.maps, "data": read.dataset.name}
        change, shuffled = figures.get("change"), figures.get("randomised")
        if change is not None and change.map.interval is not None:
            parts["robustness"][method.method] = {
                "change": change.map.value, "interval": list(change.map.interval), "radius": read.settings.noise,
                "randomised": None if shuffled is None else shuffled.map.value, "n": change.n, "data": read.dataset.name,
            }
    return parts


def _gains(figures: Mapping[str, MapFigure]) -> dict[str, object]:
    gains: dict[str, object] = {}
    for name in FAITHFUL:
        found = figures.get(name)
        if found is None:
            continue
        sign = 1 if FIGURES[name] == "higher" else -1
        beaten = zip(found.baselines.in_order, found.minus.in_order, strict=True)
        gap = max(beaten, key=lambda pair: sign * (pair[0].value or 0.0))[1]
        if gap.interval is not None and gap.value is not None:
            gains[name] = sign * gap.value
            gains[f"{name}_interval"] = sorted(sign * end for end in gap.interval)
    return gains


def _cases_of(
    model: ExplainedModel, table_path: Path, plan: ExplanationPlan, progress: Progress | None
) -> tuple[list[_Case], tuple[Skipped, ...]]:
    table, left_out = frontal_rows(read_table(table_path), laterals=plan.laterals)
    table = _rows_of(model, table, plan, table_path)
    modality = modality_for(model)
    cases: list[_Case] = []
    for row in _in_order(table, plan.seed):
        if len(cases) == plan.images:
            break
        opened = open_row(table, row, laterals=plan.laterals, acquisition=modality.acquisition)
        if isinstance(opened, Skipped):
            left_out += (opened,)
            continue
        cases.append(_case(model, modality, table, row, opened.image, plan))
        if progress:
            progress("explanations: opening", len(cases), plan.images)
    if not cases:
        raise InputError(table_path.name, "has no image that can be explained", mend="give one with images that can be read")
    return cases, left_out


def _rows_of(model: ExplainedModel, table: StudyTable, plan: ExplanationPlan, path: Path) -> StudyTable:
    """The rows of the part that is asked for; of a model that does not say from whom it learned, "unseen" is all of them."""
    if isinstance(model, Student):
        return unseen_rows(model, table, plan.split, path)
    keep = (table.frame["image"] != "").to_numpy(dtype=np.bool_, copy=True)
    if plan.split not in ("unseen", "all"):
        keep &= (table.frame["split"] == plan.split).to_numpy(dtype=np.bool_)
    if not keep.any():
        raise InputError(path.name, f"has no image in the part '{plan.split}'", mend="choose another --split")
    return table.select(rows=keep)


def _in_order(table: StudyTable, seed: int) -> list[dict[str, object]]:
    """The rows as they are taken: boxed ones first, every patient's first image before any second, else by chance."""
    rows = [{str(key): cell for key, cell in row.items()} for row in table.frame.to_dict("records")]
    rows = [rows[place] for place in np.random.default_rng(seed).permutation(len(rows))]
    taken: dict[tuple[str, bool], int] = {}
    keys = []
    for row in rows:
        boxed = row["boxes"] != "[]"
        count = taken.setdefault((str(row["patient_id"]), boxed), 0)
        taken[str(row["patient_id"]), boxed] += 1
        keys.append((not boxed, count))
    return [rows[place] for place in sorted(range(len(rows)), key=lambda place: keys[place])]


def _case(
    model: ExplainedModel, modality: Modality, table: StudyTable, row: Mapping[str, object], image: Image, plan: ExplanationPlan
) -> _Case:
    once = OneLook(model, view_of(model, image)[0])
    seen = predict(once, image, modality)
    height, width = image.pixels.shape[:2]
    boxes = table.boxes_of(row, height=height, width=width)
    regions = {name: _region(found, seen.frame) for name in model.findings if (found := _boxes_of(boxes, name, modality))}
    regions = {name: region for name, region in regions.items() if region.any()}
    stated = [name for name in model.findings if _label(row, name, modality) >= 0.5]
    logits = seen.prediction.logits
    likeliest = sorted(model.findings, key=lambda name: -logits[name])
    wanted = tuple((list(regions) or stated or likeliest[:1])[: plan.findings])
    return _Case(
        str(row["patient_id"]), seen.pixels, scene_of(seen, modality), wanted, regions, plan.seed ^ int(image.sha256[:8], 16)
    )


def _boxes_of(boxes: Iterable[Box], finding: str, modality: Modality) -> list[Box]:
    """The boxes of a finding, by its own name or by a synonym."""
    mine = modality.match(finding)
    return [box for box in boxes if box.finding == finding or (mine is not None and modality.match(box.finding) == mine)]


def _label(row: Mapping[str, object], finding: str, modality: Modality) -> float:
    cell = row.get(f"label_{modality.match(finding) or finding}", row.get(f"label_{finding}"))
    return float(str(cell)) if cell is not None else float("nan")


def _region(boxes: Sequence[Box], frame: ModelFrame) -> Mask:
    """The boxes' pixels in the model's frame, bool [S, S]: those covered by half or more."""
    region = np.zeros((frame.height, frame.width), dtype=np.bool_)
    for box in boxes:
        x, y = max(0, round(box.x)), max(0, round(box.y))
        region[y : round(box.y + box.height), x : round(box.x + box.width)] = True
    return np.asarray(frame.mask_to_model(region) >= 0.5, dtype=np.bool_)


def _with_methods(judge: _Judge) -> _Judge:
    """The judge with the methods that the model can serve. Raises: UnsupportedMethodError when it can serve none."""
    served, needs = [], {}
    refused: UnsupportedMethodError | None = None
    first = judge.cases[0]
    for key in judge.plan.methods:
        method = method_named(key)
        try:
            judge.draw(judge.model, method, first, first.pixels)
            served.append(method)
        except UnsupportedMethodError as error:
            refused, needs[key] = error, tuple(sorted(method.needs))
    if refused is not None and not served:
        raise refused
    return _Judge(judge.model, judge.plan, judge.cases, tuple(served), needs)


def _drawings(judge: _Judge, progress: Progress | None) -> Iterator[_Drawn]:
    for number, case in enumerate(judge.cases):
        once = OneLook(judge.model, case.pixels)
        for method in judge.methods:
            maps = judge.draw(once, method, case, case.pixels)
            yield from (_Drawn(number, method.key, name, values) for name, values in zip(case.wanted, maps, strict=True))
        if progress:
            progress("explanations: maps", number + 1, len(judge.cases))


def _placed_and_faithful(judge: _Judge, drawn: Sequence[_Drawn], progress: Progress | None) -> Iterator[_Measured]:
    """Place, faithfulness and sparseness of every map that is not empty."""
    averages = _Averages(judge.cases, drawn)
    for number, case in enumerate(judge.cases):
        background = hidden_image(case.pixels, fill="blur")
        columns = {name: list(judge.model.findings).index(name) for name in case.wanted}

        def figures_of(values: Array, case: _Case = case, background: Array = background) -> _FiguresOf:
            return _figures_of(judge.model, case, values, background)

        blind = {name: figures_of(values) for name, values in baseline_maps(case.grey, seed=case.seed).items()}
        for one in (one for one in drawn if one.case == number and one.values.any()):
            beside = {**blind, "average": figures_of(averages.of(one)), "map": figures_of(one.values)}
            found = {name: figures(one.finding, columns[one.finding]) for name, figures in beside.items()}
            for figure in found["map"]:
                values = {name: figures[figure] for name, figures in found.items()}
                yield _Measured(one.method, one.finding, case.patient, figure, values)
        if progress:
            progress("explanations: faithfulness", number + 1, len(judge.cases))


_FiguresOf = Callable[[str, int], dict[str, float]]


def _figures_of(model: ExplainedModel, case: _Case, values: Array, background: Array) -> _FiguresOf:
    """The figures of one map by finding and its column: what is hidden is the same for all findings, so it is asked once."""
    trusted = faithfulness(model.logits, case.pixels, values, background=background, masking=MASKING)
    sparse = gini(values)

    def of_finding(finding: str, column: int) -> dict[str, float]:
        found = {"deletion": trusted.deletion, "insertion": trusted.insertion, "road": trusted.road}
        figures = {name: float(one[column]) for name, one in found.items()} | {"sparseness": sparse}
        if finding in case.regions:
            figures |= localisation(values, case.regions[finding])._asdict()
        return figures

    return of_finding


class _Averages:
    """The average of a method's maps of other patients, each with the same total."""

    def __init__(self, cases: Sequence[_Case], drawn: Sequence[_Drawn]) -> None:
        self._patients = [case.patient for case in cases]
        self._drawn = drawn

    def of(self, one: _Drawn) -> Array:
        """The average beside one map: of its finding, of all findings where fewer than three others have it. Shapes: [S, S]."""
        patient = self._patients[one.case]
        others = [
            other for other in self._drawn
            if other.method == one.method and self._patients[other.case] != patient and other.values.shape == one.values.shape
        ]
        same = [other for other in others if other.finding == one.finding]
        chosen = same if len(same) >= FEWEST_FOR_AVERAGE else others
        total = np.zeros(one.values.shape)
        for other in chosen:
            positive = np.maximum(other.values, 0).astype(np.float64)
            total += positive / max(float(positive.sum()), 1e-12)
        return total.astype(np.float32)


def _robust(judge: _Judge, drawn: Sequence[_Drawn], progress: Progress | None) -> Iterator[_Measured]:
    """What noise changes of maps, and what is left of them when the network's weights are shuffled."""
    asked = range(0, len(judge.cases), judge.plan.robust_every)
    shuffled = list(randomised_models(judge.model, seed=judge.plan.seed))
    for done, number in enumerate(asked):
        case = judge.cases[number]
        for method in judge.methods:

            def explain(pixels: Array, method: Method = method, case: _Case = case) -> Array:
                return judge.draw(judge.model, method, case, pixels)

            changes = max_sensitivity(explain, case.pixels, radius=RADIUS, count=NOISES, seed=judge.plan.seed)
            edges = max_sensitivity(_edges, case.pixels, radius=RADIUS, count=NOISES, seed=judge.plan.seed)[0]
            # What does not look at the image is not moved by noise; what does not look at the weights not by shuffling.
            still = {"random": 0.0, "centre": 0.0, "average": 0.0, "edge": float(edges)}
            for name, change in zip(case.wanted, changes, strict=True):
                if np.isfinite(change):
                    yield _Measured(method.key, name, case.patient, "change", {**still, "map": float(change)})
            own = {one.finding: one.values for one in drawn if one.case == number and one.method == method.key}
            yield from _unlearnt(judge, method, case, own, shuffled)
        if progress:
            progress("explanations: robustness", done + 1, len(asked))


def _unlearnt(
    judge: _Judge, method: Method, case: _Case, own: Mapping[str, Array], shuffled: Sequence[tuple[float, ExplainedModel]]
) -> Iterator[_Measured]:
    """How like maps stay themselves when the last layer alone, and when all layers are shuffled."""
    for share, other in shuffled:
        figure = "randomised" if share == 1 else "randomised_last"
        maps = judge.draw(other, method, case, case.pixels)
        for name, values in zip(case.wanted, maps, strict=True):
            if own[name].any():
                like = rank_correlation(own[name].ravel(), values.ravel()) if np.ptp(values) > 0 else 0.0
                yield _Measured(method.key, name, case.patient, figure, {**dict.fromkeys(BLIND, 1.0), "map": like})


def _edges(pixels: Array) -> Array:
    grey = np.asarray(pixels.mean(axis=0, dtype=np.float64), dtype=np.float32)
    return baseline_maps(grey)["edge"][None]


def _method_maps(method: Method, drawn: Sequence[_Drawn], measured: Sequence[_Measured], plan: ExplanationPlan) -> MethodMaps:
    mine = [one for one in measured if one.method == method.key]
    maps = [one for one in drawn if one.method == method.key]
    return MethodMaps(
        method.key, method.name, len(maps), sum(not one.values.any() for one in maps), _map_figures(mine, plan),
        tuple(
            FindingMaps(name, _map_figures([one for one in mine if one.finding == name], plan))
            for name in sorted({one.finding for one in mine})
        ),
    )


def _map_figures(measured: Sequence[_Measured], plan: ExplanationPlan) -> tuple[MapFigure, ...]:
    by_figure = {name: [one for one in measured if one.figure == name] for name in FIGURES}
    return tuple(_map_figure(name, found, plan) for name, found in by_figure.items() if found)


def _map_figure(figure: str, found: Sequence[_Measured], plan: ExplanationPlan) -> MapFigure:
    patients = [one.patient for one in found]
    resamples = draw_resamples(patients, count=plan.bootstrap, seed=plan.seed)
    people = len(set(patients))
    of, *blind = (mean_statistic([one.values[name] for one in found]) for name in ("map", *BLIND))
    estimated = partial(estimate_share if figure == "hit" else estimate_mean, resamples=resamples, patients=people)
    return MapFigure(
        figure, FIGURES[figure], len(found), people, estimated(of), BlindFigures(*map(estimated, blind)),
        BlindFigures(*(estimate_mean(gap_between(of, one), resamples, patients=people, difference=True) for one in blind)),
    )


def _dataset(path: Path, plan: ExplanationPlan, cases: Sequence[_Case], left_out: tuple[Skipped, ...]) -> ExplainedOn:
    return ExplainedOn(
        f"{path.stem} ({plan.split})", len(cases), len({case.patient for case in cases}),
        sum(bool(case.regions) for case in cases), left_out,
    )


def _settings(plan: ExplanationPlan, judge: _Judge) -> MapSettings:
    return MapSettings(
        images=plan.images, findings_an_image=plan.findings, samples=plan.samples, robust_every=plan.robust_every,
        bootstrap=plan.bootstrap, seed=plan.seed, split=plan.split, steps=MASKING.steps,
        road_shares=tuple(MASKING.shares), road_noise=MASKING.noise, noise=RADIUS, noises=NOISES,
        background="blur", not_served=judge.not_served,
    )
