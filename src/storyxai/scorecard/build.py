"""The scorecard: every model side by side on the same images, each figure with its n and a patient-level interval.

Plain arrays come in, a record of figures goes out: nothing here knows how a model was made. A label that is nan is "not
stated" and left out; a logit that is nan is "this model does not know"; an image a model did not score is not held
against it, and the n beside each figure says so. Differences between models use the images that both have scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import UNSET
from numpy.typing import ArrayLike, NDArray

from storyxai.data.skipped import skipped_lines
from storyxai.data.table import Skipped
from storyxai.errors import TableError, UnknownNameError
from storyxai.metrics import agreement, calibration, classification, detection, tiers
from storyxai.metrics.bootstrap import Estimate, Floats, Statistic, gap_between, mean_statistic
from storyxai.metrics.own import Metric, own_metrics, statistic_of
from storyxai.metrics.text import nearest_neighbour_rows, report_statistics
from storyxai.model_facts import FindingCurves
from storyxai.scorecard import record as card
from storyxai.scorecard.inputs import (
    DISTANCES,
    Bench,
    References,
    Spoken,
    TaskOutputs,
    aligned,
    bench_of,
    column_of,
)
from storyxai.scorecard.page import glance_html
from storyxai.scorecard.record import ScoresRead, read_scores
from storyxai.types import TIERS

__all__ = ["References", "Scorecard", "TaskOutputs", "age_bands", "build_scorecard", "headline", "main_figures"]

_DICE_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_FALSE_ALARMS = (0.25, 0.5, 1.0, 2.0)
LEAST_DRAWN = 10
"""Curves are drawn of findings that so many patients have and so many have not: of fewer they would speak of each."""


@dataclass(frozen=True)
class Scorecard(ScoresRead):
    """All figures; what it says at a glance is what a notebook shows of it."""

    def _repr_html_(self) -> str:
        return glance_html(self.as_dict())


def build_scorecard(
    outputs: Sequence[TaskOutputs],
    references: References,
    *,
    seed: int,
    count: int = 1000,
    level: float = 0.95,
    min_positives: int = 20,
    map_cosines: Mapping[tuple[str, str], Mapping[str, ArrayLike]] | None = None,
) -> Scorecard:
    """The figures of all models on the references, side by side.

    A finding enters a mean when at least `min_positives` images are stated present and as many absent;
    "mean_auroc_all" is over every finding with one of each, and says over how many. `map_cosines`
    are similarities of maps by (student name, teacher name), finding, and image [N]. Every figure uses the same
    resamples of patients. Raises: TableError where the tables do not fit one another, UnknownNameError for a finding
    that is not in the vocabulary nor in the references.
    """
    bench = bench_of(references, seed=seed, count=count, level=level, min_positives=min_positives)
    names = [output.name for output in outputs]
    if len(set(names)) != len(names):
        raise TableError("scorecard", f"two models have one name: {', '.join(names)}", mend="name each differently")
    models = [aligned(output, bench) for output in outputs]
    baselines = _report_baselines(bench, models)
    students = [model for model in models if model.given.role == "student"]
    others = [model for model in models if model.given.role != "student"]
    pairs = [(student, other) for student in students for other in others]
    teachers = [(student, other) for student, other in pairs if other.given.role == "teacher"]
    cosines, metrics = map_cosines or {}, own_metrics()
    return Scorecard(
        dataset=_dataset(bench),
        settings=card.Settings(count, level, min_positives, seed),
        models=tuple(_model_scores(bench, model, metrics) for model in models),
        differences=tuple(_difference(bench, student, other) for student, other in pairs),
        agreement=tuple(
            _agreement(bench, student, teacher, cosines.get((student.given.name, teacher.given.name), {}))
            for student, teacher in teachers
        ),
        report_baselines=baselines,
        remedies=references.remedies or UNSET,
    )


def headline(record: Mapping[str, object]) -> dict[str, object]:
    """The main figures of a scorecard (`Scorecard.as_dict()`), those only that have a value, as plain values by model."""
    read = read_scores(record)
    models = [
        {
            "name": model.name, "role": model.role, "images": model.images,
            "figures": {name: {"value": one.value, "low": one.low, "high": one.high} for name, one in found.items()},
        }
        for model, found in zip(read.models, main_figures(read), strict=True)
    ]
    return {"dataset": read.dataset.name, "images": read.dataset.images, "patients": read.dataset.patients, "models": models}


def main_figures(read: ScoresRead) -> list[dict[str, Estimate]]:
    """The main figures of each model that have a value, by what they are called."""
    return [
        {name: figure for name, figure in _figures(model, read.settings.min_positives) if figure and figure.value is not None}
        for model in read.models
    ]


def _figures(model: card.ModelScores, least: int) -> Iterator[tuple[str, Estimate | None]]:
    yield from _means(model, least)
    for mask in model.masks:
        yield f"Dice of {mask.mask.replace('_', ' ')}", mask.dice
    for where in model.detection:
        yield f"hit rate, {where.finding.replace('_', ' ')}", where.hit_rate
    if model.told:
        yield "nothing named, of images without a finding", model.told.nothing_named
        yield "a right finding named, of images with one", model.told.right_named
        yield "findings named per image", model.told.named
    if model.reports:
        yield "report finding F1", model.reports.finding_f1_micro


def _means(model: card.ModelScores, least: int) -> Iterator[tuple[str, Estimate]]:
    """Both mean AUROCs by what they are over; once, where they are over the same findings."""
    guarded, every = model.mean_auroc, model.mean_auroc_all
    if every:
        count = len(every.findings)
        yield "mean AUROC of " + (f"all {count} findings" if count != 1 else "the one finding"), every
    if guarded and not (every and every.findings == guarded.findings):
        count = len(guarded.findings)
        yield f"mean AUROC of {count} finding{'s' if count != 1 else ''} with {least} or more positives", guarded


def age_bands(ages_years: ArrayLike) -> tuple[str, ...]:
    """The age band of each patient, "" where the age is not known."""
    bands = ("0-17", "18-39", "40-59", "60-79", "80+")
    ages = np.asarray(ages_years, dtype=np.float64)
    places = np.searchsorted([18, 40, 60, 80], ages, side="right")
    return tuple(bands[place] if known else "" for place, known in zip(places, np.isfinite(ages), strict=True))


def _dataset(bench: Bench) -> card.JudgedOn:
    labels, given = bench.labels, bench.references
    findings = tuple(
        card.FindingCounts(
            name, int(np.isfinite(labels[:, column]).sum()), int((labels[:, column] >= 0.5).sum()),
            bench.patients(labels[:, column] >= 0.5),
        )
        for column, name in enumerate(given.findings)
    )
    groups = {
        attribute: tuple(
            card.GroupCounts(group, **bench.counts(np.asarray(values, dtype=np.str_) == group))
            for group in sorted({value for value in values if value})
        )
        for attribute, values in given.subgroups.items()
    }
    return card.JudgedOn(
        name=given.dataset, synthetic=given.synthetic, **bench.counts(np.ones(len(labels), dtype=bool)), findings=findings,
        subgroups=groups, facts={**given.facts, **_left_out(given.left_out)},
        left_out=tuple(card.LeftOut(item.what, item.why) for item in given.left_out),
    )


def _left_out(skipped: Sequence[Skipped]) -> dict[str, str]:
    """What was not judged as a fact for readers; nothing where all was."""
    lines = [line.strip() for line in skipped_lines(skipped)]
    return {"left_out": f"{lines[0].removeprefix('left out: ')} ({'; '.join(lines[1:])})"} if lines else {}


def _model_scores(bench: Bench, model: Spoken, metrics: Sequence[Metric]) -> card.ModelScores:
    knows = [column for column in range(model.scores.shape[1]) if np.isfinite(model.scores[:, column]).any()]
    enough = bench.enough(model.scores)
    return card.ModelScores(
        name=model.given.name,
        role=model.given.role,
        **bench.counts(model.scored),
        facts=dict(model.given.facts),
        calibrated=model.given.calibration is not None,
        findings=tuple(_finding_scores(bench, model, column, rare=column not in enough) for column in knows),
        mean_auroc=bench.mean_auroc(model.scores) if knows else None,
        mean_auroc_all=bench.mean_auroc_all(model.scores) if knows else None,
        reliability=_reliability(bench, model, enough),
        told=_told(bench, model) if (model.tiers != "").any() else None,
        masks=tuple(_mask_scores(bench, model, name) for name in model.dices),
        detection=tuple(_detection(bench, model, name) for name in model.boxes if name in bench.references.boxes),
        reports=_report_scores(bench, model.reports) if model.given.reports is not None else None,
        subgroups=() if model.given.role == "control" else tuple(_subgroups(bench, model)),
        own_metrics=tuple(row for metric in metrics for row in _own_scores(bench, model, metric)) if metrics else UNSET,
    )


def _own_scores(bench: Bench, model: Spoken, metric: Metric) -> list[card.OwnFigure]:
    """Somebody's own metric of each finding, or of all together; nothing where the model gives not what it needs."""
    given = model.scores if metric.needs == "scores" else model.probabilities
    known = np.asarray(np.isfinite(bench.labels) & np.isfinite(given))

    def figure(finding: str, statistic: Statistic, rows: NDArray[np.bool_]) -> card.OwnFigure:
        found = vars(bench.mean_of(statistic, rows))
        return card.OwnFigure(**found, metric=metric.name, finding=finding, higher_is_better=metric.higher_is_better)

    if metric.over == "all":
        rows = np.asarray(known.any(axis=1))
        return [figure("", statistic_of(metric, bench.labels, given), rows)] if rows.any() else []
    return [
        figure(name, statistic_of(metric, bench.labels[:, column], given[:, column]), known[:, column])
        for column, name in enumerate(bench.references.findings) if known[:, column].any()
    ]


def _finding_scores(bench: Bench, model: Spoken, column: int, *, rare: bool) -> card.FindingScores:
    labels, scores, said = bench.labels[:, column], model.scores[:, column], model.probabilities[:, column]
    known = np.isfinite(labels) & np.isfinite(scores)
    present, absent = known & (labels >= 0.5), known & (labels < 0.5)
    threshold, speaks = _known(model.thresholds[column]), bool(np.isfinite(said).any())
    found = spared = curve = None
    if speaks and threshold is not None:
        found = bench.share(classification.sensitivity_statistic(labels, said, threshold=threshold), present)
        spared = bench.share(classification.specificity_statistic(labels, said, threshold=threshold), absent)
    if min(bench.patients(present), bench.patients(absent)) >= LEAST_DRAWN:
        bins = calibration.reliability_points(said, labels) if speaks else ()
        curve = FindingCurves(classification.roc_points(labels, scores), bins)
    return card.FindingScores(
        finding=bench.references.findings[column],
        n=int(known.sum()),
        positives=int(present.sum()),
        rare=rare,
        auroc=bench.ranked(classification.auroc_statistic(labels, scores), labels, scores),
        average_precision=bench.mean(classification.average_precision_statistic(labels, scores), present),
        threshold=threshold,
        temperature=_known(model.temperatures[column]),
        sensitivity=found,
        specificity=spared,
        brier=bench.mean(calibration.brier_statistic(said, labels), known) if speaks else None,
        ece=bench.mean(calibration.ece_statistic(said, labels), known) if speaks else None,
        ece_floor=calibration.ece_floor(said[known]) if speaks else None,
        conformal=_conformal(bench, model.conformal[column], labels, said, known) if column in model.conformal else None,
        curve=curve or UNSET,
    )


def _known(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def _conformal(
    bench: Bench, limits: calibration.ConformalLimits, labels: Floats, said: Floats, known: NDArray[np.bool_]
) -> card.Conformal:
    sets = calibration.conformal_sets(limits, said[known])
    kept = np.full((len(labels), 2), np.nan)
    kept[known] = sets
    present, absent = (
        bench.share(mean_statistic(np.where(mine, kept[:, place], np.nan)), known & mine)
        for place, mine in enumerate((labels >= 0.5, labels < 0.5))
    )
    return card.Conformal(
        level=limits.level, **calibration.conformal_coverage(sets, labels[known]), present_estimate=present,
        absent_estimate=absent,
    )


def _reliability(bench: Bench, model: Spoken, columns: list[int]) -> tuple[calibration.ReliabilityBin, ...]:
    """Said against seen over all cells of the findings that have enough cases."""
    said, seen = model.probabilities[:, columns].reshape(-1), bench.labels[:, columns].reshape(-1)
    return calibration.reliability_curve(said, seen)


def _told(bench: Bench, model: Spoken) -> card.ToldScores:
    """How often each tier is told and how often it is right: by finding, and over what an image's whole story names."""
    whole = {
        name: (bench.mean_of if name == "named" else bench.share_of)(statistic, known)
        for name, (statistic, known) in tiers.image_statistics(model.tiers, bench.labels).items()
    }
    told = np.flatnonzero((model.tiers != "").any(axis=0))
    return card.ToldScores(**whole, findings=tuple(_told_finding(bench, model, int(column)) for column in told))


def _told_finding(bench: Bench, model: Spoken, column: int) -> card.ToldFinding:
    found = tiers.finding_statistics(model.tiers[:, column], bench.labels[:, column])
    rows = (card.TierScores(tier, *(bench.share_of(*found[tier, question]) for question in tiers.QUESTIONS)) for tier in TIERS)
    return card.ToldFinding(bench.references.findings[column], tuple(rows))


def _mask_scores(bench: Bench, model: Spoken, name: str) -> card.MaskScores:
    values = model.dices[name]
    known = np.isfinite(values)
    shares = _DICE_QUANTILES if known.any() else ()
    return card.MaskScores(
        mask=name,
        **bench.counts(known),
        dice=bench.mean(mean_statistic(values), known),
        quantiles=tuple(card.DiceQuantile(share, float(np.quantile(values[known], share))) for share in shares),
        distances=_distances(bench, model, name),
    )


def _distances(bench: Bench, model: Spoken, name: str) -> dict[str, card.NumberedFigure]:
    """The distances of a mask's outlines that were measured, by measure."""
    given = model.distances.get(name, {})
    for measure in given:
        if measure not in DISTANCES:
            raise UnknownNameError("measure of distance", measure, DISTANCES)
    measured = {measure: np.isfinite(found) for measure, found in given.items()}
    return {
        measure: bench.mean_of(mean_statistic(given[measure]), known) for measure, known in measured.items() if known.any()
    }


@dataclass(frozen=True, eq=False)
class _Pointed:
    """Where a model's boxes of one finding fall. Shapes: `hits` and `overlaps` [N], nan for images without a box."""

    drawn: list[ArrayLike]
    wanted: list[ArrayLike | None]
    hits: Floats
    overlaps: Floats


def _pointed(bench: Bench, model: Spoken, name: str) -> _Pointed:
    wanted = [box if model.scored[row] else None for row, box in enumerate(bench.references.boxes[name])]
    drawn: list[ArrayLike] = [() if box is None else box for box in model.boxes[name]]
    tops = [np.asarray(box, dtype=np.float64).reshape(-1, 5) for box in drawn]
    best = [box[np.argmax(box[:, 4])] if len(box) else np.full(5, np.nan) for box in tops]
    centres = np.array([(box[0] + box[2] / 2, box[1] + box[3] / 2) for box in best])
    hits, overlaps = detection.hit_rows(centres, wanted), detection.top_box_iou_rows(drawn, wanted)
    return _Pointed(drawn, wanted, hits, overlaps)


def _detection(bench: Bench, model: Spoken, name: str) -> card.BoxScores:
    found = _pointed(bench, model, name)
    matches = {limit: detection.match_boxes(found.drawn, found.wanted, iou_limit=limit) for limit in detection.IOU_LIMITS}
    loose = matches[0.3]
    boxed = np.asarray(loose.boxes > 0)

    def hit(alarms: float) -> Estimate:
        return bench.mean(detection.free_response_statistic(loose, false_alarms_per_image=alarms), boxed)

    return card.BoxScores(
        finding=name,
        **bench.counts(loose.searched),
        boxes=int(loose.boxes.sum()),
        hit_rate=bench.share(mean_statistic(found.hits), boxed),
        top_box_iou=bench.mean(mean_statistic(found.overlaps), boxed),
        by_iou=tuple(
            card.BoxPrecision(limit, bench.mean(detection.detection_ap_statistic(matched), boxed))
            for limit, matched in matches.items()
        ),
        free_response=tuple(card.FreeResponse(alarms, hit(alarms)) for alarms in _FALSE_ALARMS),
    )


def _report_statistics(bench: Bench, reports: Sequence[str | None]) -> tuple[NDArray[np.intp], dict[str, Statistic]]:
    """The images with both texts, and the statistics of their scores over all images' weights."""
    wanted = bench.references.reports or ()
    texts = zip(reports, wanted, strict=False)
    pairs = [(row, said, true) for row, (said, true) in enumerate(texts) if said is not None and true]
    rows = np.array([row for row, _, _ in pairs], dtype=np.intp)
    statistics = report_statistics(
        [said for _, said, _ in pairs],
        [true for _, _, true in pairs],
        findings=bench.references.findings,
        labels=bench.labels[rows],
        labeller=bench.references.kind.labeller,
    )
    return rows, {name: _on_rows(statistic, rows) for name, statistic in statistics.items()}


def _report_scores(bench: Bench, reports: Sequence[str | None]) -> card.ReportScores | None:
    if bench.references.reports is None:
        return None
    rows, statistics = _report_statistics(bench, reports)
    known = np.isin(np.arange(len(bench.labels)), rows)
    texts = len({reports[row] for row in rows})
    scores = {name: bench.mean(statistic, known) for name, statistic in statistics.items()}
    return card.ReportScores(**scores, **bench.counts(known), distinct_reports=texts)


def _report_baselines(bench: Bench, models: Sequence[Spoken]) -> tuple[card.Baseline, ...]:
    """What reports earn that saw no image, or that copy the report of a look-alike of another patient."""
    if bench.references.reports is None:
        return ()
    wanted = bench.references.reports
    given: dict[str, tuple[str, Sequence[str | None]]] = {}
    if normal := bench.references.kind.normal_report:
        given["normal report"] = ("the same sentences for everybody, whatever the image", [normal] * len(wanted))
    for name, texts in bench.references.baseline_reports.items():
        given[name] = (bench.references.baselines_about.get(name, "given by the caller"), texts)
    for model in models:
        rows = [row for row in range(len(wanted)) if wanted[row] and np.isfinite(model.scores[row]).any()]
        patients = [str(bench.references.patient_ids[row]) for row in rows]
        if model.given.role == "student" and len(set(patients)) > 1:
            features = np.nan_to_num(model.scores[rows])
            near = nearest_neighbour_rows(features, features, patients=patients, known_patients=patients)
            texts_of: list[str | None] = [None] * len(wanted)
            for row, other in zip(rows, near, strict=True):
                texts_of[row] = wanted[rows[other]]
            about = f"the reference report of another patient's image, the nearest by the logits of {model.given.name}"
            given["nearest neighbour"] = (about, texts_of)
            break
    return tuple(card.Baseline(name, about, _report_scores(bench, said)) for name, (about, said) in given.items())


def _subgroups(bench: Bench, model: Spoken) -> Iterator[card.GroupScores]:
    for attribute, values in bench.references.subgroups.items():
        named = np.asarray(values, dtype=np.str_)
        for group in sorted({value for value in values if value}):
            inside = named == group
            here = np.where(inside[:, None], model.scores, np.nan)
            rest = np.where((~inside & (named != ""))[:, None], model.scores, np.nan)
            # The same findings on both sides, or the group would be compared on other questions.
            columns = [column for column in bench.enough(here) if column in bench.enough(rest)]
            labels = bench.labels[:, columns]
            first = classification.mean_auroc_statistic(labels, here[:, columns])
            second = classification.mean_auroc_statistic(labels, rest[:, columns])
            yield card.GroupScores(
                attribute=attribute,
                group=group,
                **bench.counts(inside & model.scored),
                findings=tuple(bench.references.findings[column] for column in columns),
                mean_auroc_all=bench.mean_auroc_all(here) if model.scored.any() else None,
                mean_auroc=bench.ranked(first, labels, here[:, columns]),
                minus_others=bench.ranked(gap_between(first, second), labels, here[:, columns], difference=True),
                dice={
                    name: bench.mean(mean_statistic(np.where(inside, dices, np.nan)), inside & np.isfinite(dices))
                    for name, dices in model.dices.items()
                },
            )


def _difference(bench: Bench, student: Spoken, other: Spoken) -> card.Difference:
    """Student minus the other model on the images and findings that both have scored."""
    both = np.isfinite(student.scores) & np.isfinite(other.scores)
    ours, theirs = np.where(both, student.scores, np.nan), np.where(both, other.scores, np.nan)
    shared = np.flatnonzero(both.any(axis=0)).tolist()
    return card.Difference(
        student=student.given.name,
        other=other.given.name,
        role=other.given.role,
        **bench.counts(np.asarray(both.any(axis=1))),
        findings=tuple(_finding_gap(bench, column, ours[:, column], theirs[:, column]) for column in shared),
        mean_auroc=bench.mean_auroc(ours, minus=theirs) if shared else None,
        mean_auroc_all=bench.mean_auroc_all(ours, minus=theirs) if shared else None,
        masks=tuple(
            _mask_gap(bench, name, student.dices[name] - other.dices[name])
            for name in sorted(set(student.dices) & set(other.dices))
        ),
        detection=tuple(
            _box_gap(bench, name, student, other)
            for name in student.boxes if name in other.boxes and name in bench.references.boxes
        ),
        reports=_report_gap(bench, student, other),
    )


def _finding_gap(bench: Bench, column: int, ours: Floats, theirs: Floats) -> card.FindingGap:
    labels = bench.labels[:, column]
    known = np.isfinite(ours) & np.isfinite(labels)
    gap = gap_between(classification.auroc_statistic(labels, ours), classification.auroc_statistic(labels, theirs))
    return card.FindingGap(
        bench.references.findings[column], int(known.sum()), int((labels[known] >= 0.5).sum()),
        bench.ranked(gap, labels, ours, difference=True),
    )


def _mask_gap(bench: Bench, name: str, gap: Floats) -> card.MaskGap:
    known = np.isfinite(gap)
    return card.MaskGap(name, **bench.counts(known), dice=bench.mean(mean_statistic(gap), known, difference=True))


def _box_gap(bench: Bench, name: str, student: Spoken, other: Spoken) -> card.BoxGap:
    """Hit rate and IoU of the best box, on the images with a box that both have scored."""
    ours, theirs = _pointed(bench, student, name), _pointed(bench, other, name)
    both = np.isfinite(ours.hits) & np.isfinite(theirs.hits)
    hits, overlaps = (
        bench.mean(mean_statistic(gap), both, difference=True)
        for gap in (ours.hits - theirs.hits, ours.overlaps - theirs.overlaps)
    )
    return card.BoxGap(name, **bench.counts(both), hit_rate=hits, top_box_iou=overlaps)


def _report_gap(bench: Bench, student: Spoken, other: Spoken) -> card.ReportFigures | None:
    if student.given.reports is None or other.given.reports is None or bench.references.reports is None:
        return None
    pairs = zip(student.reports, other.reports, strict=True)
    both_said = [(None, None) if None in pair else pair for pair in pairs]
    rows, own = _report_statistics(bench, [said for said, _ in both_said])
    here = np.isin(np.arange(len(bench.labels)), rows)
    _, taught = _report_statistics(bench, [said for _, said in both_said])
    return card.ReportFigures(**{name: bench.mean(gap_between(own[name], taught[name]), here, difference=True) for name in own})


def _agreement(bench: Bench, student: Spoken, teacher: Spoken, cosines: Mapping[str, ArrayLike]) -> card.Pair:
    both = np.isfinite(student.scores) & np.isfinite(teacher.scores)
    rows = (
        _finding_agreement(bench, student, teacher, column, cosines.get(bench.references.findings[column]))
        for column in np.flatnonzero(both.any(axis=0)).tolist()
    )
    features = None
    if student.features is not None and teacher.features is not None:
        known = np.isfinite(np.concatenate([student.features, teacher.features], axis=1)).all(axis=1)
        features = bench.mean_of(agreement.linear_cka_statistic(student.features, teacher.features), np.asarray(known))
    return card.Pair(student.given.name, teacher.given.name, tuple(rows), features)


def _finding_agreement(
    bench: Bench, student: Spoken, teacher: Spoken, column: int, cosines: ArrayLike | None
) -> card.FindingPair:
    """Scores, probabilities and decisions of one finding side by side; "intervals" holds those of the plain figures."""
    name = bench.references.findings[column]
    scores = teacher.scores[:, column], student.scores[:, column]
    known = np.isfinite(scores[0]) & np.isfinite(scores[1])
    said = teacher.probabilities[:, column], student.probabilities[:, column]
    statistics = {
        "correlation": agreement.correlation_statistic(*scores),
        "rank_correlation": agreement.rank_correlation_statistic(*scores),
        "mean_probability_difference": mean_statistic(said[1] - said[0]),
        "kl_nats": agreement.bernoulli_kl_statistic(*scores),
    }
    equal = kappa = alike = None
    limits = float(teacher.thresholds[column]), float(student.thresholds[column])
    if not np.isnan(limits).any():
        thresholds = {"teacher_threshold": limits[0], "student_threshold": limits[1]}
        equal, kappa = agreement.decision_agreement(*said, **thresholds), agreement.decision_kappa(*said, **thresholds)
        statistics["decisions_equal"] = agreement.decision_statistic(*said, **thresholds)
        statistics["decisions_kappa"] = agreement.decision_kappa_statistic(*said, **thresholds)
    if cosines is not None:
        values = column_of(student.given, f"map similarities of {name}", cosines, (len(bench.labels),))
        alike = bench.mean_of(mean_statistic(values), np.isfinite(values))
    estimates = {key: bench.mean(statistic, known) for key, statistic in statistics.items()}
    return card.FindingPair(
        finding=name,
        n=int(known.sum()),
        correlation=agreement.correlation(*scores),
        rank_correlation=agreement.rank_correlation(*scores),
        mean_probability_difference=agreement.mean_difference(*said),
        kl_nats=agreement.bernoulli_kl(*scores),
        decisions_equal=equal,
        decisions_kappa=kappa,
        map_cosine=alike,
        intervals={key: (found.low, found.high) for key, found in estimates.items()},
    )


def _on_rows(statistic: Statistic, rows: NDArray[np.intp]) -> Statistic:
    return lambda weights: statistic(weights[:, rows])
