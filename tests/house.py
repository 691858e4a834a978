"""Figures of the house, from the source and the last measurement of coverage; `python tests/house.py` prints them."""

from __future__ import annotations

import ast
import functools
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "storyxai"
FILES = sorted(SOURCE.rglob("*.py"))
COVERAGE = ROOT / "build" / "coverage"
Function = ast.FunctionDef | ast.AsyncFunctionDef
OPEN = re.compile(r"\b(?:dict|Mapping)\[str, Any\]")
JSON_CALLS = {
    "loads", "load", "dumps", "canonical_json", "to_builtins", "convert", "read_json", "asdict", "as_dict", "as_record",
}


@functools.cache
def _nodes(path: Path) -> tuple[ast.AST, ...]:
    """Everything in a module, walked once."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def functions() -> Iterator[tuple[str, Function]]:
    """Every function of the source with its place, "room/module.py:name"."""
    for path in FILES:
        for node in _nodes(path):
            if isinstance(node, Function):
                yield f"{path.relative_to(SOURCE)}:{node.name}", node


def parameters(function: Function) -> int:
    """How many parameters a caller may give."""
    given = [one.arg for one in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return len([name for name in given if name not in ("self", "cls")])


def wide_functions(most: int = 7) -> set[str]:
    """The functions with more than `most` parameters."""
    return {place for place, node in functions() if parameters(node) > most}


def lazy_imports() -> list[str]:
    """Imports of our own modules inside functions."""
    return [
        f"{place} imports {one.module}" for place, node in functions() for one in ast.walk(node)
        if isinstance(one, ast.ImportFrom) and (one.module or "").split(".")[0] == "storyxai"
    ]


def open_dicts(*, border: bool) -> dict[str, int]:
    """How often each module says dict[str, Any] or Mapping[str, Any], by itself or by a name for it ("Plain"):
    with `border` at the JSON border, without it elsewhere.

    At the border stands a function that itself reads or writes JSON, calls what does, or is called as_dict or from_dict.
    """
    found: Counter[str] = Counter()
    texts = {path: path.read_text(encoding="utf-8") for path in FILES}
    named = {_module(path): _names_for_open(text) for path, text in texts.items()}
    for path, text in texts.items():
        nodes = _nodes(path)
        spans = [(node.lineno, node.end_lineno or 0, _at_border(node)) for node in nodes if isinstance(node, Function)]
        names = named[_module(path)] | _imported(nodes, named)
        uses = Counter(node.lineno for node in nodes
                       if isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load))
        for number, line in enumerate(text.splitlines(), start=1):
            if count := len(OPEN.findall(line)) + uses[number]:
                inside = [span for span in spans if span[0] <= number <= span[1]]
                found[str(path.relative_to(SOURCE))] += count * (bool(inside and max(inside)[2]) == border)
    return {name: count for name, count in found.items() if count}


def _module(path: Path) -> str:
    return "storyxai." + ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def _names_for_open(text: str) -> set[str]:
    """Names that a module gives to an open dict."""
    return set(re.findall(rf"^(\w+)(?:: TypeAlias)? = {OPEN.pattern}$", text, re.MULTILINE))


def _imported(nodes: tuple[ast.AST, ...], named: dict[str, set[str]]) -> set[str]:
    """Names for an open dict that a module has from another."""
    return {one.asname or one.name for node in nodes if isinstance(node, ast.ImportFrom)
            for one in node.names if one.name in named.get(node.module or "", ())}


def _at_border(function: Function) -> bool:
    called = {ast.unparse(node.func).split(".")[-1] for node in ast.walk(function) if isinstance(node, ast.Call)}
    return function.name in ("as_dict", "from_dict") or bool(called & JSON_CALLS)


def body_lines() -> list[int]:
    """The lines of each function's body without its docstring."""
    found = []
    for _, node in functions():
        body = node.body[1:] if ast.get_docstring(node) else node.body
        found.append(0 if not body else (body[-1].end_lineno or 0) - body[0].lineno + 1)
    return found


def coverage() -> tuple[float, float] | None:
    """The share of lines and of branches of the source that the last tests ran; None where nothing was measured."""
    if not COVERAGE.is_file():
        return None
    from coverage import Coverage

    measured = Coverage(data_file=str(COVERAGE), config_file=str(ROOT / "pyproject.toml"))
    measured.load()
    report = COVERAGE.with_suffix(".json")
    measured.json_report(outfile=str(report), ignore_errors=True)
    total = json.loads(report.read_bytes())["totals"]
    return total["covered_lines"] / total["num_statements"], total["covered_branches"] / total["num_branches"]


def main() -> None:
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in FILES)
    said = [
        f"source: {len(FILES)} modules, {lines} lines, median function {statistics.median(body_lines()):g} lines",
        f"functions over 7 parameters: {len(wide_functions())}; lazy imports of own modules: {len(lazy_imports())}; "
        f"dict[str, Any] and Mapping[str, Any]: {sum(open_dicts(border=True).values())} where JSON is read or written, "
        f"{sum(open_dicts(border=False).values())} elsewhere",
    ]
    shares = coverage()
    if shares is not None:
        said.append(f"the tests ran {100 * shares[0]:.1f} % of the lines and {100 * shares[1]:.1f} % of the branches of src")
    sys.stdout.write("\n".join(said) + "\n")


if __name__ == "__main__":
    main()
