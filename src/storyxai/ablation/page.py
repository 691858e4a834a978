"""An ablation as one self-contained HTML page with tables and plots. Same record, same bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from storyxai.errors import InputError
from storyxai.types import RESEARCH_USE

__all__ = ["render_ablation"]

Plain = Mapping[str, Any]

_STYLE = """
:root { --ink: #1e2733; --soft: #56616f; --line: #d5dbe1; --paper: #fdfdfb; --accent: #1f5f8b; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 0 1.5rem 2rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 "Source Sans 3", "Segoe UI", "Helvetica Neue", "Liberation Sans", Arial, sans-serif; }
.research { max-width: none; margin: 0 -1.5rem 1.4rem; padding: .45rem 1.5rem; background: #fff6dc;
  border-bottom: 1px solid #d9b44a; text-align: center; font-size: .88rem; font-weight: 600; }
.research.last { margin: 2rem -1.5rem -2rem; border-bottom: 0; border-top: 1px solid #d9b44a; }
header { border-bottom: 1px solid var(--line); margin-bottom: 1.2rem; padding-bottom: .8rem; }
.kind { margin: 0; color: var(--accent); font-weight: 600; font-size: .88rem; letter-spacing: .04em; }
h1 { margin: .1rem 0 .3rem; font-size: 1.75rem; line-height: 1.2; }
h2 { margin: 2.2rem 0 .4rem; font-size: 1.25rem; line-height: 1.3; }
h3 { margin: 1.4rem 0 .3rem; font-size: 1rem; }
p { margin: 0 0 .6rem; max-width: 48rem; }
.facts, .note { color: var(--soft); font-size: .88rem; }
.said { max-width: 50rem; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-size: .84rem; line-height: 1.35; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .8rem .28rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; border-bottom: 1.5px solid var(--soft); vertical-align: bottom;
  white-space: normal; max-width: 7.5rem; }
tbody th { font-weight: 600; }
td small { display: block; color: var(--soft); font-size: .86em; }
td.better { background: #e6f1e4; } td.worse { background: #fae6dc; }
tr.aside th, tr.aside td { color: var(--soft); font-weight: 400; }
figure { margin: .6rem 0 1.2rem; } figure img { display: block; max-width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: .86rem; max-width: 48rem; margin-top: .3rem; }
details { margin: .4rem 0; } summary { cursor: pointer; color: var(--accent); font-weight: 600; }
@media print { details > * { display: block; } .scroll { overflow: visible; } figure, tr { break-inside: avoid; } }
"""
_COLOURS = ("#1f5f8b", "#c4681c", "#4f7d3a", "#8a4f8f", "#7a6a55", "#4c8a8a", "#9a3b3b")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_SIDES = (("accuracy", "Accuracy"), ("interpretability", "Interpretability"))


def render_ablation(record: Plain) -> bytes:
    """The page as UTF-8 HTML: no script, no outside file, no date. `record` is what `storyxai ablate` wrote as JSON.

    Raises: InputError where `record` is of another format.
    """
    if record.get("format") != "storyxai-ablation/1":
        why = f"format '{record.get('format')}' is not storyxai-ablation/1"
        raise InputError("ablation", why, mend="make it again with `storyxai ablate`")
    parts = [_header(record), _said(record), _questions(record), _transfer(record), _figures(record), _reading(record)]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape('Ablation: ' + record['name'])}</title><style>{_STYLE}</style></head><body>"
        f'<p class="research">{escape(RESEARCH_USE)}</p>{"".join(parts)}'
        f'<p class="research last">{escape(RESEARCH_USE)}</p></body></html>\n'
    )
    return page.encode("utf-8")


def _header(record: Plain) -> str:
    data, settings = record["data"], record["settings"]
    kind = "synthetic phantoms, not patients" if data.get("synthetic") else "real radiographs"
    seeds = sorted({seed for cell in record["cells"] if cell["arm"] != "teacher" for seed in cell["seeds"]})
    facts = [
        f"Taught on {data['train_images']} images, judged on {data['test_images']} images of {data['test_patients']} "
        f"other patients ({kind}). " if "train_images" in data else "",
        f"Every student: {data['encoder']}, {data['size']} pixels, {data['epochs']} epochs, {data['steps']} steps. "
        if "encoder" in data else "",
        f"{len(seeds)} seed{'s' if len(seeds) != 1 else ''} ({', '.join(map(str, seeds))}), averaged within each resample. "
        f"Intervals hold {settings['level']:.0%}: {settings['bootstrap']} resamples of whole patients.",
    ]
    planned, done = record.get("cells_planned"), sum(len(c["seeds"]) for c in record["cells"] if c["arm"] != "teacher")
    if planned and done < planned:
        facts.append(f" Not finished: {done} of {planned} students.")
    return (
        f'<header><p class="kind">Ablation</p><h1>{escape(record["name"])}</h1>'
        f'<p class="facts">{escape("".join(facts))}</p></header>'
    )


def _said(record: Plain) -> str:
    paragraphs = []
    for text in record["conclusions"]:
        question, mark, answer = text.partition("? ")
        said = f"<strong>{escape(question)}?</strong> {escape(answer)}" if mark else escape(text)
        paragraphs.append(f'<p class="said">{said}</p>')
    return f"<h2>What the figures say</h2>{''.join(paragraphs)}"


def _questions(record: Plain) -> str:
    """One forest and one table for each question about ways of teaching; then one for learning several tasks."""
    parts = []
    for question in dict.fromkeys(item["question"] for item in record["comparisons"] if item["kind"] == "arms"):
        items = [item for item in record["comparisons"] if item["question"] == question]
        first, second = items[0]["first"]["arm"], items[0]["second"]["arm"]
        about = f"{_words(first)} ({record['arms'][first]}) minus {_words(second)} ({record['arms'][second]})."
        parts.append(_block(record, question, about, [(_tasks(item["first"]["tasks"]), item) for item in items]))
    together = [item for item in record["comparisons"] if item["kind"] == "tasks"]
    for number in sorted({len(item["first"]["tasks"]) for item in together}, reverse=True):
        items = [item for item in together if len(item["first"]["tasks"]) == number]
        named = [(f"{_words(item['first']['arm'])}{_pair(item) if number == 2 else ''}", item) for item in items]
        question = "What does learning three tasks at once do for each?" if number == 3 else "And two tasks?"
        about = f"A student of {number} tasks minus a student of the judged task alone, taught the same way."
        parts.append(_block(record, question, about, named))
    return "".join(parts)


def _pair(item: Plain) -> str:
    judged = item["second"]["tasks"][0]
    return f", with {' and '.join(task for task in item['first']['tasks'] if task != judged)}"


def _block(record: Plain, question: str, about: str, named: Sequence[tuple[str, Plain]]) -> str:
    metrics = [m for m in record["metrics"] if any(m["name"] in item["differences"] for _, item in named)]
    if not metrics:
        return ""
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
            gap = item["differences"].get(metric["name"])
            if gap:
                seeds = ", ".join(_signed(value) for value in gap["by_seed"] if value is not None)
                cells = [_cell(name), _gap(gap, metric["more_is_better"]), _cell(seeds)]
                rows.append((metric["words"] + ("" if metric["more_is_better"] else " *"), cells, ""))
    table = _table(["Figure", "Of", "Difference", "By seed"], rows)
    return (
        f"<h2>{escape(question)}</h2><p class=\"note\">{escape(about[0].upper() + about[1:])}</p>{figure}"
        f"<details><summary>The numbers</summary>{table}</details>"
    )


def _transfer(record: Plain) -> str:
    entries = record["transfer"]
    if not entries:
        return ""
    figure = _picture(
        lambda: _matrix(record, entries), "Which task helps which",
        "Each cell: the judged task's main figure (mean AUROC, lung Dice, report finding F1) of a student that also learns "
        "the added tasks, minus that of a student of the judged task alone. Bold: the interval leaves out 0.",
    )
    return f"<h2>Which task helps which</h2>{figure}"


def _figures(record: Plain) -> str:
    parts = []
    for side, title in _SIDES:
        metrics = [m for m in record["metrics"] if m["side"] == side
                   and any(m["name"] in cell["figures"] for cell in record["cells"])]
        rows: list[tuple[str, list[str], str]] = []
        for cell in record["cells"]:
            if any(m["name"] in cell["figures"] for m in metrics):
                cells = [_cell(_words(cell["arm"])), _cell(str(len(cell["seeds"])))]
                # Resampling adds noise of its own to a calibration error, so its interval lies above it: left out.
                cells += [_estimate(cell["figures"].get(m["name"]), span=m["name"] != "ece") for m in metrics]
                rows.append((_tasks(cell["tasks"]), cells, "aside" if cell["arm"] == "teacher" else ""))
        kinds = list(dict.fromkeys(kind for m in metrics for kind in record["floors"].get(m["name"], {})))
        for kind in kinds:
            floors = [record["floors"].get(m["name"], {}).get(kind) for m in metrics]
            cells = ["<td>–</td>", "<td>–</td>", *[_cell("–" if f is None else f"{f:.3f}") for f in floors]]
            rows.append((f"knows nothing: {kind}", cells, "aside"))
        if rows:
            heads = ["Learnt", "Taught by", "Seeds", *[m["words"] + ("" if m["more_is_better"] else " *") for m in metrics]]
            parts.append(f"<h3>{title}</h3>{_table(heads, rows)}")
    note = "Mean over seeds with its interval. * less is better. The report alone learns findings on the side, at a low weight."
    return f'<h2>All figures</h2><p class="note">{note}</p>{"".join(parts)}'


def _reading(record: Plain) -> str:
    data = record["data"]
    arms = _table(["Taught by", "What it means"], [(_words(a), [_cell(text)], "") for a, text in record["arms"].items()])
    metrics = _table(
        ["Figure", "Images or maps", "How it is measured"],
        [(m["words"], [_cell(str(data["measured"].get(m["name"], "–"))), _cell(m["about"])], "")
         for m in record["metrics"] if m["name"] in data["measured"]],
    )
    findings = _table(
        ["Finding", "Present", "Absent"],
        [(_words(f["finding"]), [_cell(str(f["present"])), _cell(str(f["absent"]))], "") for f in data["findings"]],
    )
    lines = [
        "Students of one comparison differ in one thing: same images, same number of steps, same views, same seeds. Arms "
        "that start from a first training have those steps in addition.",
        "Teachers were trained once and are the same for every seed.",
        "Places are judged on the maps' own grid, whose cells are 16 pixels wide; see what an even map and a cell drawn at "
        "random reach.",
    ]
    if data.get("synthetic"):
        lines.append("These images are drawn by a program: the figures show what the method does, not that it helps anyone.")
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h2>How to read this page</h2><ul>{listed}</ul>{arms}{metrics}{findings}"


def _table(heads: Sequence[str], rows: Iterable[tuple[str, Sequence[str], str]]) -> str:
    """Rows are (name, cells as HTML, class)."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(
        f'<tr class="{kind}"><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>' for name, cells, kind in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def _estimate(found: Plain | None, *, span: bool) -> str:
    if found is None or found["value"] is None:
        return "<td>–</td>"
    ends = f"<small>{found['low']:.3f} to {found['high']:.3f}</small>" if span and found["low"] is not None else ""
    return f"<td>{found['value']:.3f}{ends}</td>"


def _gap(gap: Plain, more_is_better: bool) -> str:
    if gap["low"] is None:
        return _cell(_signed(gap["value"]))
    kind = ""
    if gap["low"] > 0 or gap["high"] < 0:
        kind = "better" if (gap["low"] > 0) == more_is_better else "worse"
    span = f"<small>{_signed(gap['low'])} to {_signed(gap['high'])}</small>"
    return f'<td class="{kind}">{_signed(gap["value"])}{span}</td>'


def _signed(value: float) -> str:
    text = f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
    return "0.000" if text[1:] == "0.000" else text


def _words(name: str) -> str:
    return name.replace("_", " ")


def _tasks(tasks: Sequence[str]) -> str:
    return {1: f"{tasks[0]} alone", 3: "all three tasks"}.get(len(tasks), " and ".join(tasks))


def _forest(
    metrics: Sequence[Plain], named: Sequence[tuple[str, Plain]], looks: Mapping[str, tuple[str, str]]
) -> Any:
    """Accuracy on the left and interpretability on the right, each with its own scale."""
    from matplotlib.figure import Figure

    sides = [(title, [m for m in metrics if m["side"] == side]) for side, title in _SIDES]
    sides = [(title, chosen) for title, chosen in sides if chosen]
    rows = max(len(chosen) for _, chosen in sides)
    figure = Figure(figsize=(10.0, 1.3 + rows * (0.22 + 0.17 * len(looks))), layout="constrained")
    panels = figure.subplots(1, len(sides), squeeze=False)[0]
    step = 0.8 / len(looks)
    for axes, (title, chosen) in zip(panels, sides, strict=True):
        for place, metric in enumerate(chosen):
            sign = 1.0 if metric["more_is_better"] else -1.0
            for name, item in named:
                gap = item["differences"].get(metric["name"])
                if gap is None:
                    continue
                colour, marker = looks[name]
                height = place + (list(looks).index(name) - (len(looks) - 1) / 2) * step
                if gap["low"] is not None:
                    axes.plot([sign * gap["low"], sign * gap["high"]], [height] * 2, color=colour, lw=1.8)
                seeds = [sign * value for value in gap["by_seed"] if value is not None]
                axes.plot(seeds, [height] * len(seeds), "|", color=colour, ms=7, alpha=0.45)
                axes.plot([sign * gap["value"]], [height], marker, color=colour, ms=5.5, mew=0)
        axes.axvline(0.0, color="#1e2733", lw=0.9)
        words = [metric["words"] + ("" if metric["more_is_better"] else " *") for metric in chosen]
        axes.set_yticks(range(len(chosen)), words)
        axes.set_ylim(len(chosen) - 0.4, -0.6)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("worse  \N{LEFTWARDS ARROW}  difference  \N{RIGHTWARDS ARROW}  better")
        axes.grid(axis="x", color="#e4e8ec", lw=0.7)
        axes.locator_params(axis="x", nbins=6)
    marks = [axes.plot([], [], marker, color=colour, mew=0, label=name)[0] for name, (colour, marker) in looks.items()]
    figure.legend(handles=marks, loc="outside upper left", ncols=min(4, len(looks)), frameon=False)
    return figure


def _matrix(record: Plain, entries: Sequence[Plain]) -> Any:
    """Rows: the judged task; columns: how it was taught and what was added."""
    from matplotlib.figure import Figure

    rows = list(dict.fromkeys(entry["judged"] for entry in entries))
    apart = len({(entry["judged"], entry["arm"]) for entry in entries}) < len(entries)

    def added(entry: Plain) -> str:
        return "with both others" if len(entry["added"]) == 2 else f"with {entry['added'][0]}"

    def column_of(entry: Plain) -> str:
        return f"taught by {_words(entry['arm'])}" + (f"\n{added(entry)}" if apart else "")

    columns = list(dict.fromkeys(column_of(entry) for entry in entries))
    figure = Figure(figsize=(2.2 + 1.75 * len(columns), 1.2 + 0.75 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    most = max(max(abs(entry["difference"]["value"]) for entry in entries), 1e-6)
    values = [[float("nan")] * len(columns) for _ in rows]
    for entry in entries:
        gap, row, column = entry["difference"], rows.index(entry["judged"]), columns.index(column_of(entry))
        values[row][column] = gap["value"]
        sure = gap["low"] is not None and (gap["low"] > 0 or gap["high"] < 0)
        span = "" if gap["low"] is None else f"\n{_signed(gap['low'])} to {_signed(gap['high'])}"
        span += "" if apart else f"\n{added(entry)}"
        axes.text(column, row, _signed(gap["value"]) + span, ha="center", va="center", fontsize=8.5,
                  fontweight="bold" if sure else "normal", color="#1e2733")
    # The scale goes beyond what is there: the darkest colours would swallow the numbers.
    axes.imshow(values, cmap="PuOr", vmin=-2.2 * most, vmax=2.2 * most, aspect="auto")
    words = {metric["name"]: metric["words"] for metric in record["metrics"]}
    main = {entry["judged"]: words[entry["metric"]] for entry in entries}
    axes.set_yticks(range(len(rows)), [f"{row}\n({main[row]})" for row in rows])
    axes.set_xticks(range(len(columns)), columns)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _picture(draw: Callable[[], Any], alt: str, caption: str) -> str:
    """The figure that `draw` makes, as an SVG with outlined letters: no date, no font of the reader's, fixed ids."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({
            "svg.hashsalt": "storyxai", "font.size": 9.5, "axes.spines.top": False, "axes.spines.right": False,
            "axes.axisbelow": True, "axes.edgecolor": "#56616f", "xtick.color": "#56616f", "ytick.color": "#1e2733",
            "ytick.major.size": 0,
        })
        stream = io.BytesIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        draw().savefig(stream, format="svg", bbox_inches="tight", metadata=nothing, transparent=True)
    source = base64.b64encode(stream.getvalue()).decode("ascii")
    image = f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{source}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
