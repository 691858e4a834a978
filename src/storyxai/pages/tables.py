"""Tables read straight from the record: every cell that prints a value says at which path it stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final

from storyxai.errors import CitationError
from storyxai.evidence.paths import resolve
from storyxai.evidence.record import digits_apart, typed_record
from storyxai.evidence.schema import CheckRecord, EvidenceRecord
from storyxai.model_facts import DataSet
from storyxai.pages.layout import Labels
from storyxai.pages.views import Cell, Part, Row, Table
from storyxai.story.words import DRAFTED_IN

DIGITS = 3
SMALLEST = 1e-6
"""Nearer to 0 than this is printed as 0.000: the digit would say nothing but how small."""


@dataclass(frozen=True, eq=False)
class PrintedRecord:
    """A record as a page prints it: its values by their paths, the types by which a page decides, and the page's words."""

    record: Mapping[str, object]
    labels: Labels

    @cached_property
    def facts(self) -> EvidenceRecord:
        """The record as types. Raises: ArchiveError naming the field that is missing or of another kind."""
        return typed_record(self.record)


def table_of(name: str, printed: PrintedRecord) -> Table | None:
    """The table called `name`, None when the record has nothing for it. Raises: CitationError if unknown."""
    if name not in TABLES:
        raise CitationError(f"table '{name}' is not known")
    labels, (columns, rows) = printed.labels, TABLES[name](printed)
    if not rows:
        return None
    # A column in which nothing is known says nothing.
    used = [0, *(i for i in range(1, len(columns)) if any(row[i].parts for row in rows))]
    heads = tuple(labels.column(columns[i]) for i in used)
    empty = _text(labels.unknown)
    body = tuple(Row(row[0], tuple(row[i] if row[i].parts else empty for i in used[1:])) for row in rows)
    return Table(heads, body, labels.tables[name], name)


def value_part(printed: PrintedRecord, path: str, *, exact: bool = True) -> Part:
    """The value at `path` as it is printed where it stands for itself. Raises: CitationError when it is not known."""
    labels = printed.labels
    return Part(format_value(labels.words.spoken(path, resolve(printed.record, path)), labels, exact=exact), path)


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


def _digits(printed: PrintedRecord, limit: str, *compared: str) -> int:
    """The decimals of cells that are read against the one at `limit`: more than three where they would print alike."""
    known = []
    for path in compared:
        try:
            known.append((resolve(printed.record, path), resolve(printed.record, limit)))
        except CitationError:
            continue
    return digits_apart(known, lambda number, digits: format_value(float(number), printed.labels, digits=digits), least=DIGITS)


def _parts(printed: PrintedRecord, path: str, *, digits: int = DIGITS) -> tuple[Part, ...]:
    """The value at `path`, () where it is not known."""
    labels = printed.labels
    try:
        value = resolve(printed.record, path)
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


def _cell(printed: PrintedRecord, path: str, *, digits: int = DIGITS) -> Cell:
    return Cell(_parts(printed, path, digits=digits))


def _text(text: str, kind: str = "") -> Cell:
    return Cell((Part(text, kind=kind),))


def _finding(name: str, labels: Labels) -> Cell:
    return _text(labels.words.finding(name))


def _method(name: str, labels: Labels) -> Cell:
    return _text(labels.methods.get(name, name), "nb")


Cells = tuple[list[str], list[list[Cell]]]
"""Columns, and rows whose first cell is what the row is about."""


def _over_findings(printed: PrintedRecord, names: Iterable[str], columns: list[tuple[str, str]]) -> Cells:
    """A row a finding, a cell for each (column, path pattern), rows without any value left out."""
    rows = []
    for name in names:
        judged = [f"findings.{name}.{leaf}" for leaf in ("threshold", "probability", "interval.0", "interval.1")]
        digits = _digits(printed, *judged)
        told = dict.fromkeys((*judged, f"findings.{name}.interval"), digits)
        paths = [pattern.format(name) for _, pattern in columns]
        cells = [_cell(printed, path, digits=told.get(path, DIGITS)) for path in paths]
        if any(cell.parts for cell in cells):
            rows.append([_finding(name, printed.labels), *cells])
    return ["finding", *(column for column, _ in columns)], rows


def _others(printed: PrintedRecord) -> Cells:
    """The findings that the story does not name, likeliest first."""
    findings, named = printed.facts.findings, printed.facts.named
    names = sorted(findings.keys() - set(named), key=lambda name: (-findings[name].probability, name))
    fields = ("tier", "probability", "interval", "threshold")
    return _over_findings(printed, names, [(field, f"findings.{{}}.{field}") for field in fields])


def _findings(printed: PrintedRecord) -> Cells:
    findings = printed.facts.findings
    names = sorted(findings, key=lambda name: (-findings[name].probability, name))
    columns = [(f, f"findings.{{}}.{f}") for f in ("tier", "probability", "interval", "threshold", "logit")]
    return _over_findings(printed, names, columns + [(f, f"terms.{{}}.{f}") for f in ("snomed", "radlex")])


def _performance(printed: PrintedRecord) -> Cells:
    fields = ["auroc", "auroc_interval", "average_precision", "sensitivity", "specificity", "threshold", "ece"]
    fields += ["n", "positives", "data"]
    names = sorted(printed.facts.model.per_finding)
    return _over_findings(printed, names, [(f, f"model.per_finding.{{}}.{f}") for f in fields])


def _agreement(printed: PrintedRecord) -> Cells:
    fields = ("correlation", "mean_difference", "n", "teacher")
    names = sorted(printed.facts.model.agreement)
    return _over_findings(printed, names, [(f, f"model.agreement.{{}}.{f}") for f in fields])


def _subgroups(printed: PrintedRecord) -> Cells:
    """A row a group: the mean AUROC over the findings that it has cases of, which differ from group to group."""
    fields = ("mean_auroc", "auroc_interval", "finding_count", "n_images", "n_patients", "data")
    found, rows = printed.facts.model.subgroups, []
    for attribute in sorted(found):
        for group in sorted(found[attribute]):
            path = f"model.subgroups.{attribute}.{group}"
            name = _text(f"{printed.labels.words.word('group', attribute)}: {group}")
            rows.append([name, *(_cell(printed, f"{path}.{f}") for f in fields)])
    return ["group", *fields], rows


def _maps_of(facts: EvidenceRecord) -> list[tuple[str, str]]:
    maps = facts.heatmaps
    return [(finding, method) for finding in sorted(maps) for method in sorted(maps[finding])]


def _checks(printed: PrintedRecord) -> Cells:
    """A row a map, a column a check: value / limit and its mark."""
    checks, maps_known = printed.facts.checks, printed.facts.heatmaps
    maps = [(f, m) for f in sorted(checks) for m in sorted(checks[f]) if m in maps_known.get(f, {})]
    names = sorted({name for f, m in maps for name in checks[f][m]})
    rows = []
    for finding, method in maps:
        found = checks[finding][method]
        cells = [_check_mark(printed, f"checks.{finding}.{method}.{name}", found.get(name)) for name in names]
        rows.append([_finding(finding, printed.labels), _method(method, printed.labels), *cells])
    return ["finding", "method", *names], rows


def _check_mark(printed: PrintedRecord, path: str, check: CheckRecord | None) -> Cell:
    """ "0.61 / 0.70 no": a check's value, its limit and whether it passed; empty where it was not asked."""
    if check is None or check.passed is None:
        return Cell()
    kind, passed = ("pass", printed.labels.yes) if check.passed else ("fail", printed.labels.no)
    mark = Part(passed, f"{path}.passed", kind)
    value, limit = (found.parts for found in _check_cells(printed, path, ("value", "limit")))
    return Cell((*value, Part(" / "), *limit, Part(" "), mark) if value and limit else (mark,))


def _maps(printed: PrintedRecord) -> Cells:
    rows = []
    for finding, method in _maps_of(printed.facts):
        path = f"heatmaps.{finding}.{method}"
        details = sorted(printed.facts.heatmaps[finding][method].details)
        told: list[Part] = []
        for key in details:
            told += [Part((", " if told else "") + printed.labels.details.get(key, key.replace("_", " ")) + " ")]
            told += _parts(printed, f"{path}.details.{key}")
        cells = [_cell(printed, f"{path}.{field}") for field in ("unit", "minimum", "maximum", "shown")]
        rows.append([_finding(finding, printed.labels), _method(method, printed.labels), *cells, Cell(tuple(told))])
    return ["finding", "method", "unit", "minimum", "maximum", "shown", "details"], rows


def _gate(printed: PrintedRecord) -> Cells:
    fields = ["value", "limit", "passed", "about"]
    rows = [
        [_text(printed.labels.words.word("rule", name.removeprefix("gate."))), *_check_cells(printed, f"gate.{name}", fields)]
        for name in printed.facts.gate
    ]
    return ["rule", *fields], rows


def _check_cells(printed: PrintedRecord, path: str, fields: Iterable[str]) -> list[Cell]:
    """A check's cells; its value and limit in so many digits that they differ where they are not the same."""
    digits = _digits(printed, f"{path}.limit", f"{path}.value")
    return [_cell(printed, f"{path}.{field}", digits=digits) for field in fields]


def _trained_on(printed: PrintedRecord) -> Cells:
    columns = [field.name for field in fields(DataSet)]
    rows = [
        [Cell() if name == "n_patients" and item.synthetic else _cell(printed, f"model.trained_on.{i}.{name}")
         for name in columns] for i, item in enumerate(printed.facts.model.trained_on)
    ]  # no patient stands behind a synthetic image, however its set counts them
    return columns, rows


def _failed(printed: PrintedRecord) -> Cells:
    rows = []
    for finding, methods in printed.facts.checks.items():
        for method, checks in methods.items():
            for name, check in checks.items():
                if check.passed is False:
                    path = f"checks.{finding}.{method}.{name}"
                    cells = _check_cells(printed, path, ("value", "limit", "about"))
                    label = _text(printed.labels.column(name))
                    rows.append([_finding(finding, printed.labels), _method(method, printed.labels), label, *cells])
    return ["finding", "method", "check", "value", "limit", "about"], rows


def _report(printed: PrintedRecord) -> Cells:
    """The draft as the model wrote it, for readers whose language says what it states."""
    own = printed.labels.words.language == DRAFTED_IN
    texts = () if own else range(len(printed.facts.report.sentences))
    paths = {i: f"report.sentences.{i}" for i in texts}
    said = printed.facts.report.sentences
    rows = [[_text(str(i + 1)), Cell((Part(said[i], path, DRAFTED_IN),))] for i, path in paths.items()]
    return ["sentence", "original"], rows


def _provenance(printed: PrintedRecord) -> Cells:
    paths = [*_leaves(printed.record["provenance"], "provenance"), "study.model_id", "study.image.sha256"]
    rows = [[_text(path, "code"), _cell(printed, path)] for path in paths]
    return ["path", "value"], [row for row in rows if row[1].parts]


def _leaves(value: Any, path: str) -> list[str]:
    if isinstance(value, Mapping):
        return [leaf for key in sorted(value) for leaf in _leaves(value[key], f"{path}.{key}")]
    if isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        return [leaf for i, item in enumerate(value) for leaf in _leaves(item, f"{path}.{i}")]
    return [path]


TABLES: Final[Mapping[str, Callable[[PrintedRecord], Cells]]] = {
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
