"""The scorecard as one self-contained HTML page with tables and plots. Same scorecard, same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from storyxai.errors import InputError
from storyxai.metrics.bootstrap import Estimate
from storyxai.metrics.speed import Speeds
from storyxai.pages.layout import data_uri, render_document, render_fragment
from storyxai.pages.views import Block, Cell, Chapter, Document, Fold, Listing, Plot, Text, cell
from storyxai.provenance import read_as
from storyxai.scorecard import plots
from storyxai.scorecard.cells import Entry, Line
from storyxai.scorecard.cells import beside as _beside
from storyxai.scorecard.cells import estimate_cell as _estimate
from storyxai.scorecard.cells import gap_cell as _gap
from storyxai.scorecard.cells import plain_words as _plain
from storyxai.scorecard.cells import signed as _signed
from storyxai.scorecard.cells import table as _table
from storyxai.scorecard.explanations_page import explanation_chapters, explanation_facts
from storyxai.scorecard.plots import unique, words
from storyxai.scorecard.record import (
    Difference,
    MeanFigure,
    ModelScores,
    NumberedFigure,
    ScoresRead,
    ToldFinding,
    read_scores,
)
from storyxai.scorecard.record_maps import MapsRead, read_maps

__all__ = ["glance_html", "render_explanations", "render_scorecard"]

_DISTANCES = {
    "average_px": "Outlines apart, px",
    "hausdorff_95_px": "Hausdorff 95 %, px",
    "average_mm": "Outlines apart, mm",
    "hausdorff_95_mm": "Hausdorff 95 %, mm",
}
_REPORT_SCORES = (
    "Finding F1, micro", "Finding F1, macro", "F1 against labels", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr",
)


def render_scorecard(
    scorecard: Mapping[str, object], *, speed: Mapping[str, object] | None = None,
    explanations: Mapping[str, object] | None = None,
) -> bytes:
    """The page as UTF-8 HTML: no script, no outside file, no date. `scorecard` is `Scorecard.as_dict()`.

    `speed` are measured times, which differ from run to run: with them, so does the page. `explanations` are the figures of
    the model's maps (`judge_explanations`).
    Raises: InputError where `scorecard` is of another format, TableError where it lacks a field.
    """
    if scorecard.get("format") != "storyxai-scorecard/1":
        why = f"format '{scorecard.get('format')}' is not storyxai-scorecard/1"
        raise InputError("scorecard", why, mend="make it again with `storyxai evaluate`")
    speeds = read_as(Speeds, speed or {"models": ()}, "speed.json", mend="measure again with `evaluate`")
    maps = None if explanations is None else read_maps(explanations)
    return render_document(_document(read_scores(scorecard), speeds, maps))


def render_explanations(explanations: Mapping[str, object]) -> bytes:
    """The figures of a model's maps as a page of their own, UTF-8 HTML, for a model that has no scorecard."""
    return render_document(_explanations(read_maps(explanations)))


def _explanations(record: MapsRead) -> Document:
    chapters = tuple(explanation_chapters(record))
    return Document("Explanations", record.dataset.name, explanation_facts(record), chapters)


def glance_html(scorecard: Mapping[str, object]) -> str:
    """What the scorecard (or the figures of maps alone) says at a glance, as HTML to stand in a notebook."""
    if "methods" in scorecard:
        return render_fragment("fragment.html", _explanations(read_maps(scorecard)))
    whole = _document(read_scores(scorecard), Speeds(()), None)
    short = Document(whole.kind, whole.title, whole.facts, whole.chapters[:1], whole.language)
    return render_fragment("fragment.html", short)


def _document(scorecard: ScoresRead, speed: Speeds, explanations: MapsRead | None) -> Document:
    tell = (
        _summary, _told, _findings, _rare, _calibration, _own_metrics, _masks, _detection, _reports, _differences,
        _subgroups, _agreement,
    )
    chapters = [chapter for part in tell for chapter in part(scorecard)]
    return Document(
        "Scorecard", scorecard.dataset.name, _facts(scorecard),
        (*chapters, *(explanation_chapters(explanations) if explanations else ()), *_speed(speed), *_reading(scorecard)),
    )


def _facts(scorecard: ScoresRead) -> tuple[str, ...]:
    dataset, settings = scorecard.dataset, scorecard.settings
    kind = "synthetic phantoms, not patients" if dataset.synthetic else "real images"
    facts = "; ".join(f"{words(name)}: {value}" for name, value in dataset.facts.items())
    judged = (
        f"{dataset.images} images of {dataset.patients} patients ({kind}). Intervals hold {settings.level:.0%}: "
        f"{settings.bootstrap} resamples of whole patients, seed {settings.seed}."
    )
    return (judged, facts) if facts else (judged,)


def _summary(scorecard: ScoresRead) -> list[Chapter]:
    models = scorecard.models
    masks = unique(mask.mask for model in models for mask in model.masks)
    facts = unique(name for model in models for name, value in model.facts.items() if not isinstance(value, str))
    reports = any(model.reports for model in models)
    least = scorecard.settings.min_positives
    heads = ["Model", "Role", "Images", "Mean AUROC, all findings", f"Mean AUROC, {least} or more present"]
    heads += [f"Dice, {words(name)}" for name in masks] + (["Report finding F1"] if reports else [])
    heads += [words(name).capitalize() for name in facts]
    rows: list[Line] = []
    for model in models:
        dices = {mask.mask: mask.dice for mask in model.masks}
        row: list[Entry] = [model.role, model.images]
        for mean in (model.mean_auroc_all, model.mean_auroc):
            row.append(_mean(mean))
        row += [_estimate(dices.get(name)) for name in masks]
        row += [_estimate(model.reports.finding_f1_micro if model.reports else None)] if reports else []
        row += [_fact(model.facts.get(name)) for name in facts]
        rows.append((model.name, row, model.role))
    said = [_difference_inwords(difference, gap) for difference in scorecard.differences for gap in _means(difference)]
    sentences = tuple(sentence for sentence in said if sentence)
    note = (
        "The first mean is over every finding with at least one present and one absent image; a finding with a handful of "
        f"cases moves it much, and its interval is then too narrow. The second holds findings with at least {least} present "
        f"and {least} absent images each. Models that scored other images or findings are compared fairly only in the "
        "sentences above and under Differences."
    )
    names = [f"{model.name}: {words(key)} {value}" for model in models for key, value in model.facts.items()
             if isinstance(value, str)]
    if names:
        note += f" {'; '.join(names)}."
    listed: list[Block] = [Listing(sentences)] if sentences else []
    return [Chapter("At a glance", (*listed, _table(heads, rows, tight=True), Text(note, "note")))]


def _means(row: Difference) -> list[MeanFigure]:
    """The mean over all findings and the one over those with enough cases; one where both are the same findings."""
    every, guarded = row.mean_auroc_all, row.mean_auroc
    found = [mean for mean in (every, guarded) if mean and mean.findings]
    return found[:1] if len(found) == 2 and found[0].findings == found[1].findings else found


def _mean(found: MeanFigure | None) -> Cell:
    return _over(found, len(found.findings) if found else 0)


def _over(found: Estimate | None, count: int) -> Cell:
    """A mean, with over how many findings it is."""
    return _beside(_estimate(found), f"{count} finding{'s' if count != 1 else ''}" if count else "")


def _difference_inwords(difference: Difference, gap: MeanFigure) -> str:
    if gap.value is None or gap.interval is None:
        return ""
    low, high = gap.interval
    pair = f"On the {difference.images} images that both scored, {difference.student}"
    count = len(gap.findings)
    of = f"mean AUROC over {count} finding{'s' if count != 1 else ''}"
    span = f"{_signed(gap.value)}, interval {_signed(low)} to {_signed(high)}"
    if low > 0:
        return f"{pair} is above {difference.other} in {of} ({span})."
    if high < 0:
        return f"{pair} is below {difference.other} in {of} ({span})."
    return f"{pair} and {difference.other} cannot be told apart in {of} ({span})."


def _findings(scorecard: ScoresRead) -> list[Chapter]:
    models = [model for model in scorecard.models if model.findings]
    if not models:
        return []
    heads = ["Finding", "n", "Present", "AUROC", "Average precision", "Threshold", "Sensitivity", "Specificity"]
    tables = []
    for model in models:
        rows: list[Line] = []
        for row in sorted(model.stated, key=lambda row: bool(row.rare)):
            cells: list[Entry] = [row.n, row.positives, _estimate(row.auroc), _estimate(row.average_precision)]
            cells += [_plain(row.threshold), _estimate(row.sensitivity), _estimate(row.specificity)]
            rows.append((words(row.finding), cells, "rare" if row.rare else ""))
        tables.append(Fold(model.name, (_table(heads, rows),), model.role == "student"))
    figure = _figure(
        plots.forest(models, plots.looks(scorecard)),
        "AUROC of every model by finding, with intervals",
        "Area under the ROC curve; 0.5 is chance. Findings in the lower part have few cases: they enter the mean of all only.",
    )
    note = (
        "Grey rows, last, have few cases and enter the mean of all findings only. Sensitivity and specificity are at "
        "thresholds that were chosen elsewhere; a model without one has none. Average precision depends on how common a "
        "finding is here."
    )
    silent = unique(words(row.finding) for model in models for row in model.findings if not row.n)
    if silent:
        note += f" No label here states: {', '.join(silent)}."
    return [Chapter("Findings", (figure, *_roc(scorecard, models), Text(note, "note"), *tables))]


def _roc(scorecard: ScoresRead, models: Sequence[ModelScores]) -> list[Plot]:
    """ROC curves by finding, where a scorecard has points of them."""
    names = plots.drawn_findings(models, "roc")
    if not names:
        return []
    areas = {model.name: {row.finding: row.auroc.value for row in model.findings} for model in models}
    told = [f"{words(name)}: " + ", ".join(f"{model} {_plain(found.get(name))}" for model, found in areas.items()
                                           if found.get(name) is not None) for name in names]  # fmt: skip
    return [_figure(
        plots.roc(models, plots.looks(scorecard)), f"ROC curves by finding. AUROC of {'; '.join(told)}",
        "ROC curves by finding, at most 40 points each, of findings that ten patients have and ten have not. The mark is where "
        "a model's threshold stands; the dashed line is chance.",
    )]


RARE = 0.01
"""A finding with fewer positives than this share of the images that state it is rare."""


def _rare(scorecard: ScoresRead) -> list[Chapter]:
    """Findings with fewer than 1 % positives apart, model beside model, and what the training did about them."""
    names = unique(
        row.finding for model in scorecard.models for row in model.stated if row.positives < RARE * row.n
    )
    if not names:
        return []
    heads = ["Finding", "Model", "n", "Present", "AUROC", "Average precision", "Sensitivity", "Specificity"]
    rows: list[Line] = []
    for name in names:
        for model in scorecard.models:
            for row in (row for row in model.stated if row.finding == name):
                figures = [_estimate(one) for one in (row.auroc, row.average_precision, row.sensitivity, row.specificity)]
                rows.append((words(name), [model.name, row.n, row.positives, *figures], ""))
    remedies = "; ".join(scorecard.remedies or ())
    done = f"The training did this about rare findings: {remedies}." if remedies else (
        "The training's record names nothing that was done about rare findings."
    )
    note = (
        "Findings that fewer than 1 in 100 of the images that state them have. A figure without an interval rests on too few "
        "patients for one. What a remedy is worth is the difference between two students judged here side by side "
        "(evaluate --beside), where the interval leaves 0 out."
    )
    return [Chapter("Rare findings", (Text(done), Text(note, "note"), _table(heads, rows)))]


_TIERS = {"likely": "likely", "possible": "possible", "unlikely": "unlikely", "cannot_tell": "cannot tell"}
_NAMES = (
    "Nothing named, of images without a finding", "A right finding named, of images with one", "There, of the findings named",
    "Findings named per image", "Cannot tell, of all findings",
)


def _told(scorecard: ScoresRead) -> list[Chapter]:
    """What readers are told: a table over whole images, and one a model by finding and tier."""
    models = [(model, model.told) for model in scorecard.models if model.told]
    if not models:
        return []
    rows = [
        (model.name, [_beside(_estimate(found), f"of {found.images}") for found in
                      (told.nothing_named, told.right_named, told.named_have, told.named, told.cannot_tell)], model.role)
        for model, told in models
    ]
    note = (
        "A finding is told as likely from a probability of one half, as possible from the threshold of review to one half, as "
        "unlikely below; cannot tell where the probability's interval reaches into another tier. Likely and possible name it. "
        "In a hundred: of 100 images with the finding, and of 100 without it, so many are told this. Have it: of those told."
    )
    heads = ["Finding", "Told", "In 100 with it", "In 100 without it", "Have it, in 100"]
    tables = [
        Fold(model.name, (_table(heads, [line for row in told.findings for line in _told_lines(row)]),),
             model.role == "student")
        for model, told in models
    ]
    return [Chapter("What readers are told", (
        _table(["Model", *_NAMES], rows, tight=True), Text(note, "note"), *tables,
    ))]


def _told_lines(row: ToldFinding) -> list[Line]:
    return [
        (words(row.finding), [_TIERS[one.tier], *map(_in_hundred, (one.with_it, one.without_it, one.have))], "")
        for one in row.tiers if one.with_it.images or one.without_it.images or one.have.images
    ]


def _in_hundred(found: NumberedFigure) -> Cell:
    """A share as so many of a hundred, with its interval and what it is of."""
    value, low, high = (None if one is None else 100 * one for one in (found.value, found.low, found.high))
    return _beside(_estimate(Estimate(value, low, high), digits=0), f"of {found.images}" if found.images else "")


def _calibration(scorecard: ScoresRead) -> list[Chapter]:
    models = [model for model in scorecard.models if any(row.brier for row in model.findings)]
    if not models:
        return []
    tables = []
    for model in models:
        rows: list[Line] = []
        for row in model.stated:
            sets = row.conformal
            cells: list[Entry] = [row.n, _plain(row.temperature), _estimate(row.brier), _plain(row.ece and row.ece.value)]
            cells.append(_plain(row.ece_floor))
            cells += [_beside(_estimate(figure), f"of {n}") for figure, n in sets.covered] if sets else [cell("–"), cell("–")]
            cells.append(_plain(sets and sets.single_share))
            rows.append((words(row.finding), cells, "rare" if row.rare else ""))
        levels = {row.conformal.level for row in model.findings if row.conformal}
        promised = f" (promised {', '.join(f'{level:.0%}' for level in sorted(levels))})" if levels else " (none promised)"
        heads = ["Finding", "n", "Temperature", "Brier", "Calibration error", "by chance", f"Coverage, present{promised}"]
        table = _table([*heads, "Coverage, absent", "One answer"], rows)
        calibrated = "" if model.calibrated else " (not calibrated: plain sigmoid of its logits)"
        tables.append(Fold(model.name + calibrated, (table,), model.role == "student"))
    plotted = [model for model in models if model.reliability]
    figure = [] if not plotted else [_figure(
        plots.reliability(plotted, plots.looks(scorecard)),
        "Reliability: probability said against share seen",
        "All findings with enough cases together, ten bins of equal size, two binomial deviations. On the line, a "
        "probability means what it says.",
    )]
    if by_finding := plots.drawn_findings(models, "reliability"):
        figure.append(_figure(
            plots.reliability_by_finding(models, plots.looks(scorecard)),
            f"Reliability by finding: {', '.join(map(words, by_finding))}; the numbers stand in scorecard.json",
            "Reliability by finding: each panel to its own scale, ten groups of about equally many images, two binomial "
            "deviations.",
        ))
    note = (
        'A calibration error is about as large as "by chance" even where every probability is right: read the two '
        "together (resampling adds noise of its own, so its interval stands only in the file). Coverage is how often "
        "the conformal set holds the true answer, in each class apart, with limits chosen on validation cases; where a "
        "card holds no limits, nothing is promised and nothing stands here. Temperature: what the logits are divided by."
    )
    return [Chapter("Calibration", (*figure, Text(note, "note"), *tables))]


def _own_metrics(scorecard: ScoresRead) -> list[Chapter]:
    """Figures that other packages bring."""
    rows: list[Line] = [
        (f"{found.metric}{', ' + words(found.finding) if found.finding else ''}",
         [model.name, found.images, _estimate(found), "higher" if found.higher_is_better else "lower"], model.role)
        for model in scorecard.models for found in model.own_metrics or ()
    ]
    note = Text("These figures come from packages beside storyxai; their intervals are made as all others.", "note")
    return [Chapter("Further figures", (_table(["Figure", "Model", "n", "Value", "Better is"], rows), note))] if rows else []


def _masks(scorecard: ScoresRead) -> list[Chapter]:
    entries = [(model, mask) for model in scorecard.models for mask in model.masks]
    if not entries:
        return []
    measures = [name for name in _DISTANCES if any(name in mask.distances for _, mask in entries)]
    heads = ["Mask", "Model", "Images", "Patients", "Dice", "Median", "Worst 5 % below"]
    rows: list[Line] = []
    for model, mask in sorted(entries, key=lambda entry: entry[1].mask):
        at = mask.dice_at
        cells: list[Entry] = [model.name, mask.images, mask.patients, _estimate(mask.dice)]
        cells += [_plain(at.get(0.5)), _plain(at.get(0.05))]
        cells += [_distance(mask.distances.get(name), mask.images) for name in measures]
        rows.append((words(mask.mask), cells, ""))
    measured = [(model, mask) for model, mask in entries if mask.quantiles]
    figure = [] if not measured else [_figure(
        plots.dice_plot(measured, plots.looks(scorecard)),
        "How Dice is spread over the images",
        "Box: middle half of the images, line: median, whiskers: 5 to 95 in a hundred, dot: the worst image.",
    )]
    table = _table([*heads, *[_DISTANCES[name] for name in measures]], rows, tight=True)
    where = str(scorecard.dataset.facts.get("outlines", "of the original image")).removeprefix("measured in pixels ")
    note = (
        "Outlines: the mean distance between both outlines, and the 95th percentile of the worse direction (Hausdorff), in "
        f"pixels {where} and in millimetres where the file states its spacing. A distance does not exist "
        "where one of the two masks is empty; its own n stands beside it where it is smaller."
    )
    return [Chapter("Masks", (*figure, table, *([Text(note, "note")] if measures else [])))]


def _detection(scorecard: ScoresRead) -> list[Chapter]:
    rows, limits = [], unique(e.iou for m in scorecard.models for d in m.detection for e in d.by_iou)
    for model in scorecard.models:
        for found in model.detection:
            by_limit = {entry.iou: entry.average_precision.value for entry in found.by_iou}
            alarms = {entry.false_alarms_per_image: entry.share_hit for entry in found.free_response}
            cells: list[Entry] = [model.name, found.images, found.boxes, _estimate(found.hit_rate)]
            cells += [_estimate(found.top_box_iou), _estimate(alarms.get(0.5))]
            rows.append((words(found.finding), [*cells, *[_plain(by_limit.get(limit)) for limit in limits]], ""))
    if not rows:
        return []
    heads = ["Finding", "Model", "Images", "Boxes", "Hit rate", "IoU of best box", "Found at 0.5 false alarms an image"]
    rows.sort(key=lambda row: row[0])  # stable: the models keep their order within a finding
    table = _table([*heads, *[f"AP at {limit:g}" for limit in limits]], rows, tight=True)
    note = (
        "Hit rate: the middle of the highest-scoring box lies in a reference box. Found: share of reference boxes met "
        "with IoU 0.3. AP: average precision at that IoU. Only images that were searched for boxes count. The centre map "
        "and the random map saw no image: a model that does not beat them does not know where."
    )
    return [Chapter("Where", (table, Text(note, "note")))]


def _reports(scorecard: ScoresRead) -> list[Chapter]:
    entries = [(model.name, model.reports, model.role) for model in scorecard.models if model.reports]
    entries += [(base.name, base.reports, "") for base in scorecard.report_baselines if base.reports]
    if not entries:
        return []
    rows: list[Line] = []
    for name, scores, kind in entries:
        cells: list[Entry] = [scores.images, scores.distinct_reports, *map(_estimate, scores.in_order)]
        rows.append((name, cells, kind))
    about = "; ".join(f"{base.name}: {base.about}" for base in scorecard.report_baselines)
    note = f"Word scores reward usual phrases: read them beside what knowing nothing earns. Baselines: {about}."
    heads = ["Reports by", "Images", "Distinct", *_REPORT_SCORES]
    return [Chapter("Reports", (_table(heads, rows, tight=True), Text(note, "note")))]


def _differences(scorecard: ScoresRead) -> list[Chapter]:
    parts = []
    for difference in scorecard.differences:
        rows: list[Line] = []
        if difference.mean_auroc:
            for gap in _means(difference):
                which = "all " if gap is difference.mean_auroc_all else ""
                name = f"Mean AUROC, {which}{len(gap.findings)} finding{'s' if len(gap.findings) != 1 else ''}"
                rows.append((name, [difference.images if gap.images is None else gap.images, "", _gap(gap)], "student"))
        for row in difference.findings:
            rows.append((f"AUROC, {words(row.finding)}", [row.n, row.positives, _gap(row.auroc)], ""))
        rows += [(f"Dice, {words(m.mask)}", [m.images, "", _gap(m.dice)], "") for m in difference.masks]
        for found in difference.detection:
            name = words(found.finding)
            rows.append((f"Hit rate, {name}", [found.images, "", _gap(found.hit_rate)], ""))
            rows.append((f"IoU of best box, {name}", [found.images, "", _gap(found.top_box_iou)], ""))
        if difference.reports:
            gaps = zip(_REPORT_SCORES, difference.reports.in_order, strict=True)
            rows += [(head, ["", "", _gap(gap)], "") for head, gap in gaps]
        if rows:
            name = f"{difference.student} minus {difference.other}"
            table = _table(["Figure", "Images", "Present", "Difference"], rows)
            parts.append(Fold(name, (table,), difference.role == "teacher"))
    note = "Both models on the same images and the same resamples. Where the interval holds 0, no difference was shown."
    return [Chapter("Differences", (Text(note, "note"), *parts))] if parts else []


def _subgroups(scorecard: ScoresRead) -> list[Chapter]:
    parts = []
    for model in scorecard.models:
        rows: list[Line] = []
        for row in model.subgroups:
            cells: list[Entry] = [row.group, row.images, row.patients, _mean(row.mean_auroc_all)]
            cells += [_over(row.mean_auroc, len(row.findings)), _gap(row.minus_others)]
            cells += [_estimate(dice) for dice in row.dice.values()]
            rows.append((words(row.attribute), cells, ""))
        if rows:
            heads = ["Attribute", "Group", "Images", "Patients", "Mean AUROC, all findings", "Mean AUROC, enough cases",
                     "Minus all others"]
            table = _table([*heads, *[f"Dice, {words(name)}" for name in model.subgroups[0].dice]], rows)
            parts.append(Fold(model.name, (table,), model.role == "student"))
    note = ("The first mean is over every finding with a present and an absent image in the group. The second, and its "
            "difference from all others, is over the findings that have enough cases on both sides.")
    return [Chapter("Subgroups", (Text(note, "note"), *parts))] if parts else []


def _agreement(scorecard: ScoresRead) -> list[Chapter]:
    parts = []
    for pair in scorecard.agreement:
        rows: list[Line] = []
        for row in pair.findings:
            alike, ranked, gap, *others = row.in_order
            cells: list[Entry] = [row.n, _estimate(alike), _estimate(ranked), _gap(gap), *map(_estimate, others)]
            cells.append(_beside(_estimate(row.map_cosine), f"n = {row.map_cosine.images}" if row.map_cosine else ""))
            rows.append((words(row.finding), cells, ""))
        heads = ["Finding", "n", "Correlation", "Rank correlation", "Probability, student minus teacher", "KL, nats"]
        blocks: list[Block] = [_table([*heads, "Same decision", "Kappa", "Cosine of maps"], rows, tight=True)] if rows else []
        features = pair.feature_cka
        if features and features.value is not None:
            span = " ".join(part.text for part in _estimate(features).parts)
            blocks.append(Text(f"Features (linear CKA, {features.images} images): {span}", "note"))
        if blocks:
            parts.append(Chapter(f"{pair.student} and {pair.teacher}", tuple(blocks), level=3))
    note = (
        "Whoever is right. Correlations and KL are of log-odds (KL from teacher to student, 0 when equal), kappa is of "
        "decisions at each one's own threshold. Cosine of maps: evidence grids less their own mean, on images with the "
        "finding. Linear CKA: 1 when the features differ by a rotation and a scale only; resampling raises it a little."
    )
    return [Chapter("Agreement with the teacher", (Text(note, "note"),)), *parts] if parts else []


def _speed(speed: Speeds) -> list[Chapter]:
    rows: list[Line] = []
    for found in speed.models:
        ratio = found.student_times_faster
        cells: list[Entry] = [f"{found.images_per_second:.1f}", f"{found.slowest:.1f} to {found.fastest:.1f}"]
        cells += [str(found.batches), str(found.batch_size), f"{ratio:.1f}" if isinstance(ratio, float) else "–"]
        rows.append((found.name, cells, ""))
    heads = ["Model", "Images a second", "Slowest and fastest batch", "Batches", "Images a batch", "Student faster, times"]
    note = (
        "One pass each under onnxruntime, no report written, on the machine and in the run that made this page; not part of "
        "scorecard.json."
    )
    return [Chapter("Speed", (_table(heads, rows), Text(note, "note")))] if rows else []


def _reading(scorecard: ScoresRead) -> list[Chapter]:
    dataset = scorecard.dataset
    rows: list[Line] = [
        (words(row.finding), [row.n, row.positives, row.positive_patients], "")
        for row in dataset.findings
    ]
    groups: list[Line] = [
        (words(attribute), [row.group, row.images, row.patients], "")
        for attribute, found in dataset.subgroups.items()
        for row in found
    ]
    lines = [
        "A label that is not stated is left out, never counted as absent.",
        "A figure without an interval could not be resampled: too few cases of one class. A dash means not known.",
        "Figures describe these images. They do not carry over to another hospital, device or population.",
    ]
    if dataset.synthetic:
        lines.append("These images are drawn by a program: the figures show that the method works, not that it helps.")
    tables = [_table(["Finding", "Images with a label", "Present", "Patients with it"], rows)]
    tables += [_table(["Attribute", "Group", "Images", "Patients"], groups)] if groups else []
    return [Chapter("The data, and how to read this page", (Listing(tuple(lines)), *tables))]


def _figure(svg: bytes, alt: str, caption: str) -> Plot:
    return Plot(data_uri(svg, "image/svg+xml"), alt, caption)


def _distance(found: NumberedFigure | None, images: int) -> Cell:
    if found is None:
        return cell("–")
    return _beside(_estimate(found, digits=1), f"n = {found.images}" if found.images != images else "")


def _fact(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}".replace(",", "\u202f")
    return f"{value:.4g}" if isinstance(value, float) else _plain(value)
