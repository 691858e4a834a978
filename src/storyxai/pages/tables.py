"""Tables read straight from the record: every cell that prints a value says at which path it stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from storyxai.errors import CitationError
from storyxai.evidence.record import digits_apart, resolve
from storyxai.pages.layout import Labels
from storyxai.pages.views import Cell, Part, Row, Table
from storyxai.story.words import DRAFTED_IN

__all__ = ["TABLES", "format_value", "table_of", "value_part"]

DIGITS = 3
SMALLEST = 1e-6
"""Nearer to 0 than this is printed as 0.000: the digit would say nothing but how small."""
Record = Mapping[str, Any]


def table_of(name: str, record: Record, labels: Labels) -> Table | None:
    """The table called `name`, None when the record has nothing for it. Raises: CitationError if unknown."""
    if name not in TABLES:
        raise CitationError(f"table '{name}' is not known")
    columns, rows = TABLES[name](record, labels)
    if not rows:
        return None
    # A column in which nothing is known says nothing.
    used = [0, *(i for i in range(1, len(columns)) if any(row[i].parts for row in rows))]
    heads = tuple(labels.columns.get(columns[i], columns[i]) for i in used)
    empty = _text(labels.unknown)
    body = tuple(Row(row[0], tuple(row[i] if row[i].parts else empty for i in used[1:])) for row in rows)
    return Table(heads, body, labels.tables[name], name)


def value_part(record: Record, path: str, labels: Labels, *, exact: bool = True) -> Part:
    """The value at `path` as it is printed where it stands for itself. Raises: CitationError when it is not known."""
    return Part(format_value(labels.words.spoken(path, resolve(record, path)), labels, exact=exact), path)


def format_value(value: Any, labels: Labels, *, exact: bool = False, digits: int = DIGITS) -> str:
    """`value` as a reader sees it: numbers in `digits` decimals (or all that the record has), lists with commas."""
    if isinstance(value, bool):
        return labels.answer(yes=value)
    if isinstance(value, int):
        return labels.words.number(value, ",")
    if isinstance(value, float):
        return _number(value, labels, exact, digits)
    if isinstance(value, list) and not any(isinstance(item, Mapping) for item in value):
        return ", ".join(format_value(item, labels, exact=exact) for item in value)
    if isinstance(value, Mapping | list):
        return labels.counted(len(value))
    return str(value)


def _number(value: float, labels: Labels, exact: bool, digits: int) -> str:
    if exact:
        decimals = max(1, len(f"{value:.12f}".rstrip("0").partition(".")[2]))
        return labels.words.number(value, f".{decimals}f")
    return labels.words.number(value, _number_format(value, digits))


def _number_format(value: float, digits: int) -> str:
    if SMALLEST <= abs(value) < 0.001 and digits == DIGITS:  # one digit that says something, instead of 0.000
        return f".{-math.floor(math.log10(abs(value)))}f"
    if abs(value) < 10:
        return f".{digits}f"
    if digits > DIGITS:
        return f",.{digits}f"
    return ".1f" if value != int(value) and abs(value) < 1000 else ",.0f"


def _digits(record: Record, labels: Labels, limit: str, *compared: str) -> int:
    """The decimals of cells that are read against the one at `limit`: more than three where they would print alike."""
    known = []
    for path in compared:
        try:
            known.append((resolve(record, path), resolve(record, limit)))
        except CitationError:
            continue
    return digits_apart(known, lambda number, digits: format_value(float(number), labels, digits=digits), least=DIGITS)


def _parts(record: Record, path: str, labels: Labels, *, digits: int = DIGITS) -> tuple[Part, ...]:
    """The value at `path`, () where it is not known."""
    try:
        value = resolve(record, path)
    except CitationError:
        return ()
    if value in ("", []):
        return ()
    if path.endswith(".tier"):
        return (_tier_part(value, path, labels),)
    if path.endswith("interval"):
        return (Part(f" {labels.to} ".join(format_value(end, labels, digits=digits) for end in value), path),)
    return (Part(format_value(labels.words.spoken(path, value), labels, digits=digits), path),)


def _tier_part(tier: str, path: str, labels: Labels) -> Part:
    """A tier in the page's words; they are held against the record where they are its own."""
    said = labels.tier(tier, calibrated=True)
    return Part(said, path if said == tier.replace("_", " ") else "")


def _cell(record: Record, path: str, labels: Labels, *, digits: int = DIGITS) -> Cell:
    return Cell(_parts(record, path, labels, digits=digits))


def _text(text: str, kind: str = "") -> Cell:
    return Cell((Part(text, kind=kind),))


def _finding(name: str, labels: Labels) -> Cell:
    return _text(labels.words.finding(name))


def _method(name: str, labels: Labels) -> Cell:
    return _text(labels.methods.get(name, name), "nb")


Cells = tuple[list[str], list[list[Cell]]]
"""Columns, and rows whose first cell is what the row is about."""


def _over_findings(
    record: Record, labels: Labels, names: Iterable[str], columns: list[tuple[str, str]]
) -> Cells:
    """A row a finding, a cell for each (column, path pattern), rows without any value left out."""
    rows = []
    for name in names:
        judged = [f"findings.{name}.{leaf}" for leaf in ("threshold", "probability", "interval.0", "interval.1")]
        digits = _digits(record, labels, *judged)
        told = dict.fromkeys((*judged, f"findings.{name}.interval"), digits)
        paths = [pattern.format(name) for _, pattern in columns]
        cells = [_cell(record, path, labels, digits=told.get(path, DIGITS)) for path in paths]
        if any(cell.parts for cell in cells):
            rows.append([_finding(name, labels), *cells])
    return ["finding", *(column for column, _ in columns)], rows


def _others(record: Record, labels: Labels) -> Cells:
    """The findings that the story does not name, likeliest first."""
    findings, named = record["findings"], record["named"]
    names = sorted(findings.keys() - set(named), key=lambda name: (-findings[name]["probability"], name))
    fields = ("tier", "probability", "interval", "threshold")
    return _over_findings(record, labels, names, [(field, f"findings.{{}}.{field}") for field in fields])


def _findings(record: Record, labels: Labels) -> Cells:
    findings = record["findings"]
    names = sorted(findings, key=lambda name: (-findings[name]["probability"], name))
    columns = [(f, f"findings.{{}}.{f}") for f in ("tier", "probability", "interval", "threshold", "logit")]
    return _over_findings(record, labels, names, columns + [(f, f"terms.{{}}.{f}") for f in ("snomed", "radlex")])


def _performance(record: Record, labels: Labels) -> Cells:
    fields = ["auroc", "auroc_interval", "average_precision", "sensitivity", "specificity", "threshold", "ece"]
    fields += ["n", "positives", "data"]
    names = sorted(record["model"].get("per_finding", {}))
    return _over_findings(record, labels, names, [(f, f"model.per_finding.{{}}.{f}") for f in fields])


def _agreement(record: Record, labels: Labels) -> Cells:
    fields = ("correlation", "mean_difference", "n", "teacher")
    names = sorted(record["model"].get("agreement", {}))
    return _over_findings(record, labels, names, [(f, f"model.agreement.{{}}.{f}") for f in fields])


def _subgroups(record: Record, labels: Labels) -> Cells:
    """A row a group: the mean AUROC over the findings that it has cases of, which differ from group to group."""
    fields = ("mean_auroc", "auroc_interval", "finding_count", "n_images", "n_patients", "data")
    found, rows = record["model"].get("subgroups", {}), []
    for attribute in sorted(found):
        for group in sorted(found[attribute]):
            path = f"model.subgroups.{attribute}.{group}"
            name = _text(f"{labels.words.word('group', attribute)}: {group}")
            rows.append([name, *(_cell(record, f"{path}.{f}", labels) for f in fields)])
    return ["group", *fields], rows


def _maps_of(record: Record) -> list[tuple[str, str]]:
    maps = record["heatmaps"]
    return [(finding, method) for finding in sorted(maps) for method in sorted(maps[finding])]


def _checks(record: Record, labels: Labels) -> Cells:
    """A row a map, a column a check: value / limit and its mark."""
    checks = record["checks"]
    maps = [(f, m) for f in sorted(checks) for m in sorted(checks[f]) if m in record["heatmaps"].get(f, {})]
    names = sorted({name for f, m in maps for name in checks[f][m]})
    rows = []
    for finding, method in maps:
        found = checks[finding][method]
        cells = [_check_mark(record, labels, f"checks.{finding}.{method}.{name}", found.get(name)) for name in names]
        rows.append([_finding(finding, labels), _method(method, labels), *cells])
    return ["finding", "method", *names], rows


def _check_mark(record: Record, labels: Labels, path: str, check: Mapping[str, Any] | None) -> Cell:
    """ "0.61 / 0.70 no": a check's value, its limit and whether it passed; empty where it was not asked."""
    if check is None or check["passed"] is None:
        return Cell()
    kind, passed = ("pass", labels.yes) if check["passed"] else ("fail", labels.no)
    mark = Part(passed, f"{path}.passed", kind)
    value, limit = (found.parts for found in _check_cells(record, labels, path, ("value", "limit")))
    return Cell((*value, Part(" / "), *limit, Part(" "), mark) if value and limit else (mark,))


def _maps(record: Record, labels: Labels) -> Cells:
    rows = []
    for finding, method in _maps_of(record):
        path = f"heatmaps.{finding}.{method}"
        details = sorted(record["heatmaps"][finding][method]["details"])
        told: list[Part] = []
        for key in details:
            told += [Part((", " if told else "") + labels.details.get(key, key.replace("_", " ")) + " ")]
            told += _parts(record, f"{path}.details.{key}", labels)
        cells = [_cell(record, f"{path}.{field}", labels) for field in ("unit", "minimum", "maximum", "shown")]
        rows.append([_finding(finding, labels), _method(method, labels), *cells, Cell(tuple(told))])
    return ["finding", "method", "unit", "minimum", "maximum", "shown", "details"], rows


def _gate(record: Record, labels: Labels) -> Cells:
    fields = ["value", "limit", "passed", "about"]
    rows = [
        [_text(labels.words.word("rule", name.removeprefix("gate."))), *_check_cells(record, labels, f"gate.{name}", fields)]
        for name in record["gate"]
    ]
    return ["rule", *fields], rows


def _check_cells(record: Record, labels: Labels, path: str, fields: Iterable[str]) -> list[Cell]:
    """A check's cells; its value and limit in so many digits that they differ where they are not the same."""
    digits = _digits(record, labels, f"{path}.limit", f"{path}.value")
    return [_cell(record, f"{path}.{field}", labels, digits=digits) for field in fields]


def _trained_on(record: Record, labels: Labels) -> Cells:
    sets = record["model"].get("trained_on", [])
    fields = ["name", "n_images", "n_patients", "licence", "synthetic"]
    fields += sorted({key for item in sets for key in item} - set(fields))
    rows = [
        [Cell() if field == "n_patients" and item.get("synthetic") else _cell(record, f"model.trained_on.{i}.{field}", labels)
         for field in fields] for i, item in enumerate(sets)
    ]  # no patient stands behind a synthetic image, however its set counts them
    return fields, rows


def _failed(record: Record, labels: Labels) -> Cells:
    rows = []
    for finding, methods in record["checks"].items():
        for method, checks in methods.items():
            for name, check in checks.items():
                if check["passed"] is False:
                    path = f"checks.{finding}.{method}.{name}"
                    cells = _check_cells(record, labels, path, ("value", "limit", "about"))
                    label = _text(labels.columns.get(name, name.replace("_", " ")))
                    rows.append([_finding(finding, labels), _method(method, labels), label, *cells])
    return ["finding", "method", "check", "value", "limit", "about"], rows


def _report(record: Record, labels: Labels) -> Cells:
    """The draft as the model wrote it, for readers whose language says what it states."""
    own = labels.words.language == DRAFTED_IN
    texts = () if own else range(len(record["report"]["sentences"]))
    paths = {i: f"report.sentences.{i}" for i in texts}
    rows = [[_text(str(i + 1)), Cell((Part(str(resolve(record, path)), path, DRAFTED_IN),))] for i, path in paths.items()]
    return ["sentence", "original"], rows


def _provenance(record: Record, labels: Labels) -> Cells:
    paths = [*_leaves(record["provenance"], "provenance"), "study.model_id", "study.image.sha256"]
    rows = [[_text(path, "code"), _cell(record, path, labels)] for path in paths]
    return ["path", "value"], [row for row in rows if row[1].parts]


def _leaves(value: Any, path: str) -> list[str]:
    if isinstance(value, Mapping):
        return [leaf for key in sorted(value) for leaf in _leaves(value[key], f"{path}.{key}")]
    if isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        return [leaf for i, item in enumerate(value) for leaf in _leaves(item, f"{path}.{i}")]
    return [path]


TABLES: Final[Mapping[str, Callable[[Record, Labels], Cells]]] = {
    "others": _others,
    "findings": _findings,
    "performance": _performance,
    "agreement": _agreement,
    "subgroups": _subgroups,
    "checks": _checks,
    "maps": _maps,
    "gate": _gate,
    "trained_on": _trained_on,
    "failed": _failed,
    "report": _report,
    "provenance": _provenance,
}
