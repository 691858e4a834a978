"""The plots of a scorecard's page as SVG. Same scorecard, same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from storyxai.metrics.bootstrap import Estimate
from storyxai.model_facts import FindingCurves
from storyxai.pages.charts import chart_svg
from storyxai.scorecard.record import NOT_KNOWN, FindingScores, MaskScores, MeanFigure, ModelScores, ScoresRead

Item = TypeVar("Item")
Points = Literal["roc", "reliability"]
_STUDENT, _OTHERS = "#1f5f8b", ("#c4681c", "#4f7d3a", "#8a4f8f", "#7a6a55", "#4c8a8a", "#9a3b3b")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def words(name: str) -> str:
    """A name as it is printed."""
    return name.replace("_", " ")


def unique(items: Iterable[Item]) -> list[Item]:
    """The items in the order they first come."""
    return list(dict.fromkeys(items))


def looks(scorecard: ScoresRead) -> dict[str, tuple[str, str]]:
    """Colour and marker of each model: students blue, the others in the order they come."""
    chosen: dict[str, tuple[str, str]] = {}
    others = 0
    for model in scorecard.models:
        if model.role == "student" and _STUDENT not in [colour for colour, _ in chosen.values()]:
            chosen[model.name] = (_STUDENT, "o")
        else:
            chosen[model.name] = (_OTHERS[others % len(_OTHERS)], _MARKERS[1 + others % (len(_MARKERS) - 1)])
            others += 1
    return chosen


def forest(models: Sequence[ModelScores], styles: Mapping[str, tuple[str, str]]) -> bytes:
    """One row a finding: those with enough cases above by the first model's AUROC, the others below; the means on top."""
    from matplotlib.figure import Figure

    known = {model.name: model.by_finding for model in models}
    best = {row.finding: row.auroc.value or 0 for row in models[0].findings}
    names = unique(row.finding for model in models for row in model.findings if row.auroc.value is not None)
    rare = {name for name in names if all(rows[name].rare for rows in known.values() if name in rows)}
    names.sort(key=lambda name: (name in rare, -best.get(name, 0)))
    step = 0.9 / len(models)
    means = _mean_rows(models)
    places = {name: place + 0.3 + len(means) + (0.4 if name in rare else 0.0) for place, name in enumerate(names)}

    def drawn() -> Any:
        figure = Figure(figsize=(9.0, 1.2 + (len(names) + len(means) + 1) * (0.16 + 0.13 * len(models))))
        axes = figure.add_subplot()
        for number, model in enumerate(models):
            colour, marker = styles[model.name]
            entries: list[tuple[float, Estimate | None, bool]] = [
                (float(row), each[number], False) for row, (_, each) in enumerate(means)
            ]
            mine = known[model.name]
            entries += [(places[name], mine[name].auroc, name in rare) for name in names if name in mine]
            label: str | None = model.name
            for place, found, faint in entries:
                if found is None or found.value is None:
                    continue
                height, alpha = place + (number - (len(models) - 1) / 2) * step, 0.45 if faint else 1.0
                if found.interval is not None:
                    axes.plot(found.interval, [height] * 2, color=colour, lw=1.6, alpha=alpha)
                axes.plot([found.value], [height], marker, color=colour, ms=5, alpha=alpha, label=label, mew=0)
                label = None
        axes.axvline(0.5, color="#8a94a0", lw=0.9, ls=(0, (4, 3)))
        axes.axhline(len(means) - 0.35, color="#1e2733", lw=0.8)
        shown = [(text, float(row)) for row, (text, _) in enumerate(means)]
        shown += [(f"{words(name)} ({_cases(known, name)})", places[name]) for name in names]
        axes.set_yticks([place for _, place in shown], [text for text, _ in shown])
        axes.set_ylim(max(places.values(), default=0.0) + 0.75, -0.75)
        axes.set_xlabel("AUROC (present / all images beside each finding)")
        axes.grid(axis="x", color="#e4e8ec", lw=0.7)
        if axes.get_legend_handles_labels()[0]:  # nothing is drawn where no finding has both classes
            axes.legend(loc="lower center", bbox_to_anchor=(0.42, 1.0), ncols=min(3, len(models)), frameon=False)
        return figure

    return chart_svg(drawn)


def _mean_rows(models: Sequence[ModelScores]) -> list[tuple[str, list[MeanFigure | None]]]:
    """The means to draw, each with its name and those of the models; one where both are over the same findings."""
    every, guarded = [model.mean_auroc_all for model in models], [model.mean_auroc for model in models]
    named = (("Mean, all findings", every), ("Mean, enough cases", guarded))
    found = [(name, means) for name, means in named if any(mean and mean.value is not None for mean in means)]
    same = all((one and one.findings) == (other and other.findings) for one, other in zip(every, guarded, strict=True))
    return [("Mean", guarded)] if same or [means for _, means in found] == [guarded] else found


def _cases(known: Mapping[str, Mapping[str, FindingScores]], name: str) -> str:
    """Present / all images; the largest set where the models scored different ones."""
    rows = [rows[name] for rows in known.values() if name in rows]
    most = max(rows, key=lambda row: int(row.n))
    return f"{most.positives} / {most.n}"


def reliability(models: Sequence[ModelScores], styles: Mapping[str, tuple[str, str]]) -> bytes:
    """Said against seen of each model, with the diagonal."""
    from matplotlib.figure import Figure

    def drawn() -> Any:
        figure = Figure(figsize=(5.6, 5.2))
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="#8a94a0", lw=0.9, ls=(0, (4, 3)))
        for model in models:
            colour, marker = styles[model.name]
            points = model.reliability
            said, seen = [p.probability for p in points], [p.frequency for p in points]
            # Two binomial deviations of a bin: how far chance alone moves the dot.
            bars = [2.0 * (p.frequency * (1.0 - p.frequency) / p.n) ** 0.5 for p in points]
            axes.errorbar(said, seen, bars, color=colour, marker=marker, ms=5, lw=1.3, label=model.name)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set(xlabel="Probability said", ylabel="Share of images with the finding")
        axes.grid(color="#e4e8ec", lw=0.7)
        # Beside the axes: inside, a bar of few images runs through the names.
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=min(2, len(models)), frameon=False)
        return figure

    return chart_svg(drawn)


def drawn_findings(models: Sequence[ModelScores], points: Points) -> list[str]:
    """The findings of which any model has such points of a curve ("roc", "reliability"), by the first one's AUROC."""
    rows = [row for model in models for row in model.findings if _points(row, points)]
    best = {row.finding: row.auroc.value or 0.0 for row in reversed(rows)}
    return sorted(best, key=lambda name: (-best[name], name))


def _points(row: FindingScores, points: Points) -> Sequence[tuple[float, ...]]:
    curves = row.curve or FindingCurves()
    return curves.roc if points == "roc" else curves.reliability


def roc(models: Sequence[ModelScores], styles: Mapping[str, tuple[str, str]]) -> bytes:
    """A small square a finding: the ROC curve of each model, and where its threshold stands."""

    def draw_one(axes: Any, model: ModelScores, row: FindingScores) -> None:
        colour, marker = styles[model.name]
        alarms, hits = zip(*_points(row, "roc"), strict=True)
        student = model.role == "student"
        axes.plot(alarms, hits, color=colour, lw=1.8 if student else 1.0, zorder=3 if student else 2, label=model.name)
        found, spared = row.sensitivity or NOT_KNOWN, row.specificity or NOT_KNOWN
        if found.value is not None and spared.value is not None:
            at = 1 - spared.value, found.value
            axes.plot(*[[value] for value in at], marker, color=colour, ms=5, mec="white", mew=0.7, zorder=4)

    return _panels(models, "roc", draw_one, ("1 − specificity", "Sensitivity"))


def reliability_by_finding(models: Sequence[ModelScores], styles: Mapping[str, tuple[str, str]]) -> bytes:
    """A small square a finding: said against seen of each calibrated model, with two binomial deviations."""

    def draw_one(axes: Any, model: ModelScores, row: FindingScores) -> None:
        colour, marker = styles[model.name]
        said, seen, counts = zip(*_points(row, "reliability"), strict=True)
        bars = [2.0 * (share * (1.0 - share) / n) ** 0.5 for share, n in zip(seen, counts, strict=True)]
        axes.errorbar(said, seen, bars, color=colour, marker=marker, ms=3, lw=1.0, label=model.name)

    return _panels(models, "reliability", draw_one, ("Probability said", "Share with it"))


ACROSS = 5
"""Panels in a row."""


def _panels(
    models: Sequence[ModelScores], points: Points, draw_one: Callable[[Any, ModelScores, FindingScores], None],
    axis: tuple[str, str],
) -> bytes:
    from matplotlib.figure import Figure

    names = drawn_findings(models, points)
    known = {model.name: model.by_finding for model in models}
    rows = -(-len(names) // ACROSS)

    def drawn() -> Any:
        figure = Figure(figsize=(9.0, 0.6 + 1.95 * rows), layout="constrained")
        panels = figure.subplots(rows, ACROSS, squeeze=False).ravel()
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        for name, axes in zip(names, panels, strict=False):
            axes.axline((0, 0), slope=1, color="#8a94a0", lw=0.9, ls=(0, (4, 3)))
            for model in models:
                row = known[model.name].get(name)
                if row is not None and _points(row, points):
                    draw_one(axes, model, row)
            end = 1.0 if points == "roc" else min(1.0, max(axes.get_xlim()[1], axes.get_ylim()[1]))
            axes.set(xlim=(0, end), ylim=(0, end), aspect="equal")
            axes.set_xticks([0, end], ["0", f"{end:.2g}"])
            axes.set_yticks([0, end], ["0", f"{end:.2g}"])
            axes.set_title(words(name), fontsize=9)
        first = panels[ACROSS * (rows - 1)]
        first.set_xlabel(axis[0], fontsize=8)
        first.set_ylabel(axis[1], fontsize=8)
        drawn_by = [pair for axes in panels[: len(names)] for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
        handles = {text: one for one, text in drawn_by}
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(3, len(handles)), frameon=False)
        return figure

    return chart_svg(drawn)


def dice_plot(entries: Sequence[tuple[ModelScores, MaskScores]], styles: Mapping[str, tuple[str, str]]) -> bytes:
    """How the Dice of each mask is spread over the images."""
    from matplotlib.figure import Figure

    ordered = sorted(entries, key=lambda entry: entry[1].mask)

    def drawn() -> Any:
        figure = Figure(figsize=(9.0, 1.1 + 0.42 * len(ordered)))
        axes = figure.add_subplot()
        for place, (model, mask) in enumerate(ordered):
            colour, _ = styles[model.name]
            at = mask.dice_at
            axes.plot([at[0.05], at[0.95]], [place, place], color=colour, lw=1.3)
            axes.barh(place, at[0.75] - at[0.25], left=at[0.25], height=0.5, color=colour, alpha=0.3)
            axes.plot([at[0.5]] * 2, [place - 0.25, place + 0.25], color=colour, lw=2.2)
            axes.plot([at[0.0]], [place], "o", color=colour, ms=3.5)
        axes.set_yticks(range(len(ordered)), [f"{words(mask.mask)}, {model.name}" for model, mask in ordered])
        axes.set_ylim(len(ordered) - 0.5, -0.5)
        axes.set_xlim(right=1.0)
        axes.set_xlabel("Dice")
        axes.grid(axis="x", color="#e4e8ec", lw=0.7)
        return figure

    return chart_svg(drawn)
