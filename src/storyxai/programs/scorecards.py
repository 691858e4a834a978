"""A scorecard written into a folder, and what of it goes into the model's card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from storyxai.files import replace_files, require_writable
from storyxai.metrics.bootstrap import Estimate
from storyxai.modalities.contract import Modality
from storyxai.model_facts import AgreementFigures, FindingFigures, GroupFigures, OutlineFigures, ReportFigures
from storyxai.models.card import CardFigures
from storyxai.provenance import canonical_json
from storyxai.scorecard.page import render_scorecard
from storyxai.scorecard.record import FindingScores, ModelScores, ScoresRead, read_scores


def write_scorecard(
    record: Mapping[str, object], out: Path, *, speed: Mapping[str, object] | None = None,
    explanations: Mapping[str, object] | None = None,
) -> None:
    """Write scorecard.json and scorecard.html into `out`; measured times go to speed.json, apart from what is hashed.

    The figures of maps go to explanations.json and onto the page.
    """
    require_writable(out)
    page = render_scorecard(dict(record), speed=speed, explanations=explanations)
    files = {"scorecard.json": canonical_json(dict(record)), "scorecard.html": page}
    for name, more in (("speed.json", speed), ("explanations.json", explanations)):
        if more is not None:
            files[name] = canonical_json(dict(more))
    replace_files(out, files)


def figures_of(record: Mapping[str, object], modality: Modality) -> CardFigures:
    """The part of a scorecard that goes into the card and from there into stories; what was not measured is left out."""
    found = read_scores(record)
    student, data = next(model for model in found.models if model.role == "student"), found.dataset.name
    ranked = [one for one in student.findings if one.auroc.value is not None]
    subgroups: dict[str, dict[str, GroupFigures]] = {}
    for group in student.subgroups:
        if (mean := group.mean_auroc_all) and mean.value is not None:
            subgroups.setdefault(group.attribute, {})[group.group] = GroupFigures(
                mean.value, mean.interval, len(mean.findings), group.images, group.patients, data,
            )
    agreement: dict[str, AgreementFigures] = {}
    for pair in found.agreement:
        for one in pair.findings:
            # Of several teachers the first speaks: those that taught stand before published ones.
            told = AgreementFigures(one.correlation, one.mean_probability_difference, one.n, pair.teacher)
            agreement.setdefault(one.finding, told)
    return CardFigures(
        per_finding={one.finding: _of_finding(one, data) for one in ranked},
        curves={one.finding: one.curve for one in ranked if one.curve},
        subgroups=subgroups, agreement=agreement, outlines=_outlines(student, modality, data), report=_report(found, student),
    )


def _of_finding(one: FindingScores, data: str) -> FindingFigures:
    return FindingFigures(
        auroc=one.auroc.value, auroc_interval=one.auroc.interval, n=one.n, positives=one.positives,
        average_precision=one.average_precision.value, ece=_value(one.ece), sensitivity=_value(one.sensitivity),
        specificity=_value(one.specificity), threshold=one.threshold, data=data,
    )


def _outlines(student: ModelScores, modality: Modality, data: str) -> OutlineFigures:
    """The paired structures' outlines, or those of the first structure."""
    drawn = {mask.mask: mask for mask in student.masks if mask.dice.value is not None}
    names = (*([modality.pair.name] if modality.pair else []), *modality.structure_names[:1])
    best = next((drawn[name] for name in names if name in drawn), None)
    return OutlineFigures(best.dice.value, best.dice.interval, best.images, data) if best else OutlineFigures()


def _report(found: ScoresRead, student: ModelScores) -> ReportFigures:
    said = student.reports
    constant = next((one.reports for one in found.report_baselines if one.name == "normal report"), None)
    if not said or not constant:
        return ReportFigures()
    return ReportFigures(said.finding_f1_micro.value, constant.finding_f1_micro.value, said.images, found.dataset.name)


def _value(figure: Estimate | None) -> float | None:
    return None if figure is None else figure.value
