"""An ablation as one self-contained HTML page with tables and plots. Same record, same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from storyxai.ablation.record import (
    AblationRead,
    Comparison,
    Estimate,
    Metric,
    Transfer,
    read_ablation,
    signed,
    tasks_words,
)
from storyxai.errors import InputError
from storyxai.pages.charts import chart_svg
from storyxai.pages.layout import data_uri, render_document
from storyxai.pages.views import Cell, Chapter, Document, Fold, Listing, Plot, Row, Table, Text, cell

Line = tuple[str, Sequence[Cell], str]
"""A row: its name, its cells, its look."""
_COLOURS = ("#1f5f8b", "#c4681c", "#4f7d3a", "#8a4f8f", "#7a6a55", "#4c8a8a", "#9a3b3b")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_SIDES = (("accuracy", "Accuracy"), ("interpretability", "Interpretability"))


def render_ablation(record: Mapping[str, object]) -> bytes:
    """The page as UTF-8 HTML: no script, no outside file, no date. `record` is what `storyxai ablate` wrote as JSON.

    Raises: InputError where `record` is of another format, TableError where it lacks a field.
    """
    if record.get("format") != "storyxai-ablation/1":
        why = f"format '{record.get('format')}' is not storyxai-ablation/1"
        raise InputError("ablation", why, mend="make it again with `storyxai ablate`")
    read = read_ablation(record)
    chapters = (_said(read), *_questions(read), *_transfer(read), *_figures(read), *_reading(read))
    return render_document(Document("Ablation", read.name, _facts(read), chapters))


def _facts(record: AblationRead) -> tuple[str, ...]:
    data, settings = record.data, record.settings
    kind = "synthetic phantoms, not patients" if data.synthetic else "real images"
    seeds = sorted({seed for cell in record.cells if cell.arm != "teacher" for seed in cell.seeds})
    facts = [
        f"Taught on {data.train_images} images, judged on {data.test_images} images of {data.test_patients} "
        f"other patients ({kind}). " if data.train_images is not None else "",
        f"Every student: {data.encoder}, {data.size} pixels, {data.epochs} epochs, {data.steps} steps. "
        if data.encoder else "",
        f"{len(seeds)} seed{'s' if len(seeds) != 1 else ''} ({', '.join(map(str, seeds))}), averaged within each resample. "
        f"Intervals hold {settings.level:.0%}: {settings.bootstrap} resamples of whole patients.",
    ]
    planned, done = record.cells_planned, sum(len(c.seeds) for c in record.cells if c.arm != "teacher")
    if planned and done < planned:
        facts.append(f" Not finished: {done} of {planned} students.")
    return tuple(fact.strip() for fact in facts if fact)


def _said(record: AblationRead) -> Chapter:
    paragraphs = []
    for text in record.conclusions:
        question, mark, answer = text.partition("? ")
        paragraphs.append(Text(answer, "said", f"{question}?") if mark else Text(text, "said"))
    return Chapter("What the figures say", tuple(paragraphs))


def _questions(record: AblationRead) -> list[Chapter]:
    """One forest and one table for each question about ways of teaching; then one for learning several tasks."""
    parts: list[Chapter] = []
    for question in dict.fromkeys(item.question for item in record.comparisons if item.kind == "arms"):
        items = [item for item in record.comparisons if item.question == question]
        first, second = items[0].first.arm, items[0].second.arm
        about = f"{_words(first)} ({record.arms[first]}) minus {_words(second)} ({record.arms[second]})."
        parts += _block(record, question, about, [(tasks_words(item.first.tasks), item) for item in items])
    together = [item for item in record.comparisons if item.kind == "tasks"]
    for number in sorted({len(item.first.tasks) for item in together}, reverse=True):
        items = [item for item in together if len(item.first.tasks) == number]
        named = [(f"{_words(item.first.arm)}{_pair(item) if number == 2 else ''}", item) for item in items]
        question = "What does learning three tasks at once do for each?" if number == 3 else "And two tasks?"
        about = f"A student of {number} tasks minus a student of the judged task alone, taught the same way."
        parts += _block(record, question, about, named)
    return parts


def _pair(item: Comparison) -> str:
    judged = item.second.tasks[0]
    return f", with {' and '.join(task for task in item.first.tasks if task != judged)}"


def _block(record: AblationRead, question: str, about: str, named: Sequence[tuple[str, Comparison]]) -> list[Chapter]:
    metrics = [m for m in record.metrics if any(m.name in item.differences for _, item in named)]
    if not metrics:
        return []
    groups = list(dict.fromkeys(name for name, _ in named))
    looks = {name: (_COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)]) for i, name in enumerate(groups)}
    figure = _picture(
        lambda: _forest(metrics, named, looks), f"Differences with intervals: {question}",
        "Dot: mean over seeds; line: interval over patients; small marks: the seeds. Right of the line is better, also "
        "for the figures marked * of which less is better. A line across 0 shows no difference.",
    )
    rows = []
    for metric in metrics:
        for name, item in named:
            gap = item.differences.get(metric.name)
            if gap:
                seeds = ", ".join(_signed(value) for value in gap.by_seed if value is not None)
                cells = [cell(name), _gap(gap, metric.more_is_better), cell(seeds)]
                rows.append((metric.marked_words, cells, ""))
    table = _table(["Figure", "Of", "Difference", "By seed"], rows)
    return [Chapter(question, (Text(about[0].upper() + about[1:], "note"), figure, Fold("The numbers", (table,))))]


def _transfer(record: AblationRead) -> list[Chapter]:
    entries = record.transfer
    if not entries:
        return []
    figure = _picture(
        lambda: _matrix(record, entries), "Which task helps which",
        "Each cell: the judged task's main figure (mean AUROC, Dice, report finding F1) of a student that also learns "
        "the added tasks, minus that of a student of the judged task alone. Bold: the interval leaves out 0.",
    )
    return [Chapter("Which task helps which", (figure,))]


def _figures(record: AblationRead) -> list[Chapter]:
    parts = []
    for side, title in _SIDES:
        metrics = [m for m in record.metrics if m.side == side
                   and any(m.name in cell.figures for cell in record.cells)]
        rows: list[Line] = []
        for taught in record.cells:
            if any(m.name in taught.figures for m in metrics):
                cells = [cell(_words(taught.arm)), cell(len(taught.seeds))]
                # Resampling adds noise of its own to a calibration error, so its interval lies above it: left out.
                cells += [_estimate(taught.figures.get(m.name), span=m.name != "ece") for m in metrics]
                rows.append((tasks_words(taught.tasks), cells, "aside" if taught.arm == "teacher" else ""))
        kinds = list(dict.fromkeys(kind for m in metrics for kind in record.floors.get(m.name, {})))
        for kind in kinds:
            floors = [record.floors.get(m.name, {}).get(kind) for m in metrics]
            cells = [cell("–"), cell("–"), *[cell("–" if f is None else f"{f:.3f}") for f in floors]]
            rows.append((f"knows nothing: {kind}", cells, "aside"))
        if rows:
            heads = ["Learnt", "Taught by", "Seeds", *[m.marked_words for m in metrics]]
            parts.append(Chapter(title, (_table(heads, rows),), level=3))
    note = "Mean over seeds with its interval. * less is better. The report alone learns findings on the side, at a low weight."
    return [Chapter("All figures", (Text(note, "note"),)), *parts]


def _reading(record: AblationRead) -> list[Chapter]:
    data = record.data
    arms = _table(["Taught by", "What it means"], [(_words(a), [cell(text)], "") for a, text in record.arms.items()])
    metrics = _table(
        ["Figure", "Images or maps", "How it is measured"],
        [(m.words, [cell(data.measured.get(m.name, "–")), cell(m.about)], "")
         for m in record.metrics if m.name in data.measured],
    )
    findings = _table(
        ["Finding", "Present", "Absent"],
        [(_words(f.finding), [cell(f.present), cell(f.absent)], "") for f in data.findings],
    )
    lines = [
        "Students of one comparison differ in one thing: same images, same number of steps, same views, same seeds. Arms "
        "that start from a first training have those steps in addition.",
        "Teachers were trained once and are the same for every seed.",
        "Places are judged on the maps' own grid, whose cells are 16 pixels wide; see what an even map and a cell drawn at "
        "random reach.",
    ]
    if data.synthetic:
        lines.append("These images are drawn by a program: the figures show what the method does, not that it helps anyone.")
    return [Chapter("How to read this page", (Listing(tuple(lines)), arms, metrics, findings))]


def _table(heads: Sequence[str], rows: Iterable[Line]) -> Table:
    return Table(tuple(heads), tuple(Row(cell(name), tuple(cells), kind) for name, cells, kind in rows), kind="tight")


def _estimate(found: Estimate | None, *, span: bool) -> Cell:
    if found is None:
        return cell("–")
    ends = f"{found.low:.3f} to {found.high:.3f}" if span and found.interval else ""
    return cell(f"{found.value:.3f}", ends)


def _gap(gap: Estimate, more_is_better: bool) -> Cell:
    if gap.interval is None:
        return cell(_signed(gap.value))
    kind = ""
    if gap.side_of_zero:
        kind = "better" if (gap.side_of_zero > 0) == more_is_better else "worse"
    return cell(_signed(gap.value), _span(gap.interval), kind=kind)


def _span(interval: tuple[float, float]) -> str:
    return f"{_signed(interval[0])} to {_signed(interval[1])}"


def _signed(value: float) -> str:
    text = signed(value)
    return "0.000" if text[1:] == "0.000" else text


def _words(name: str) -> str:
    return name.replace("_", " ")


def _forest(
    metrics: Sequence[Metric], named: Sequence[tuple[str, Comparison]], looks: Mapping[str, tuple[str, str]]
) -> Any:
    """Accuracy on the left and interpretability on the right, each with its own scale."""
    from matplotlib.figure import Figure

    sides = [(title, [m for m in metrics if m.side == side]) for side, title in _SIDES]
    sides = [(title, chosen) for title, chosen in sides if chosen]
    rows = max(len(chosen) for _, chosen in sides)
    figure = Figure(figsize=(10.0, 1.3 + rows * (0.22 + 0.17 * len(looks))), layout="constrained")
    panels = figure.subplots(1, len(sides), squeeze=False)[0]
    step = 0.8 / len(looks)
    for axes, (title, chosen) in zip(panels, sides, strict=True):
        for place, metric in enumerate(chosen):
            sign = 1.0 if metric.more_is_better else -1.0
            for name, item in named:
                gap = item.differences.get(metric.name)
                if gap is None:
                    continue
                colour, marker = looks[name]
                height = place + (list(looks).index(name) - (len(looks) - 1) / 2) * step
                if gap.interval is not None:
                    axes.plot([sign * end for end in gap.interval], [height] * 2, color=colour, lw=1.8)
                seeds = [sign * value for value in gap.by_seed if value is not None]
                axes.plot(seeds, [height] * len(seeds), "|", color=colour, ms=7, alpha=0.45)
                axes.plot([sign * gap.value], [height], marker, color=colour, ms=5.5, mew=0)
        axes.axvline(0.0, color="#1e2733", lw=0.9)
        words = [metric.marked_words for metric in chosen]
        axes.set_yticks(range(len(chosen)), words)
        axes.set_ylim(len(chosen) - 0.4, -0.6)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("worse  \N{LEFTWARDS ARROW}  difference  \N{RIGHTWARDS ARROW}  better")
        axes.grid(axis="x", color="#e4e8ec", lw=0.7)
        axes.locator_params(axis="x", nbins=6)
    marks = [axes.plot([], [], marker, color=colour, mew=0, label=name)[0] for name, (colour, marker) in looks.items()]
    figure.legend(handles=marks, loc="outside upper left", ncols=min(4, len(looks)), frameon=False)
    return figure


def _matrix(record: AblationRead, entries: Sequence[Transfer]) -> Any:
    """Rows: the judged task; columns: how it was taught and what was added."""
    from matplotlib.figure import Figure

    rows = list(dict.fromkeys(entry.judged for entry in entries))
    apart = len({(entry.judged, entry.arm) for entry in entries}) < len(entries)

    def added(entry: Transfer) -> str:
        return "with both others" if len(entry.added) == 2 else f"with {entry.added[0]}"

    def column_of(entry: Transfer) -> str:
        return f"taught by {_words(entry.arm)}" + (f"\n{added(entry)}" if apart else "")

    columns = list(dict.fromkeys(column_of(entry) for entry in entries))
    figure = Figure(figsize=(2.2 + 1.75 * len(columns), 1.2 + 0.75 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    most = max(max(abs(entry.difference.value) for entry in entries), 1e-6)
    values = [[float("nan")] * len(columns) for _ in rows]
    for entry in entries:
        gap, row, column = entry.difference, rows.index(entry.judged), columns.index(column_of(entry))
        values[row][column] = gap.value
        span = "" if gap.interval is None else f"\n{_span(gap.interval)}"
        span += "" if apart else f"\n{added(entry)}"
        axes.text(column, row, _signed(gap.value) + span, ha="center", va="center", fontsize=8.5,
                  fontweight="bold" if gap.side_of_zero else "normal", color="#1e2733")
    # The scale goes beyond what is there: the darkest colours would swallow the numbers.
    axes.imshow(values, cmap="PuOr", vmin=-2.2 * most, vmax=2.2 * most, aspect="auto")
    words = {metric.name: metric.words for metric in record.metrics}
    main = {entry.judged: words[entry.metric] for entry in entries}
    axes.set_yticks(range(len(rows)), [f"{row}\n({main[row]})" for row in rows])
    axes.set_xticks(range(len(columns)), columns)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _picture(draw: Callable[[], Any], alt: str, caption: str) -> Plot:
    return Plot(data_uri(chart_svg(draw), "image/svg+xml"), alt, caption)
