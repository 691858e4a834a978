"""What the scorecard's tables are made of: estimates with their intervals, differences with their signs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from storyxai.metrics.bootstrap import Estimate
from storyxai.pages.views import Cell, Part, Row, Table, cell

Entry: TypeAlias = Cell | str | int
Line: TypeAlias = tuple[str, Sequence[Entry], str]
"""A row: its name, its cells, its look."""


def table(heads: Sequence[str], rows: Iterable[Line], *, tight: bool = False) -> Table:
    """`tight` puts intervals on lines of their own."""
    body = tuple(
        Row(cell(name), tuple(c if isinstance(c, Cell) else cell(c) for c in cells), kind) for name, cells, kind in rows
    )
    return Table(tuple(heads), body, kind="tight" if tight else "numbers")


def beside(found: Cell, small: str) -> Cell:
    """The cell with a smaller remark behind it, as it is where there is none."""
    return Cell((*found.parts, Part(small, kind="small")), found.kind) if small else found


def estimate_cell(found: Estimate | None, *, digits: int = 3) -> Cell:
    """The value with its interval beside it; a dash where there is none."""
    if found is None or found.value is None:
        return cell("–")
    value, span = _number(found.value, digits), found.interval
    return cell(value, f"({_number(span[0], digits)} to {_number(span[1], digits)})") if span else cell(value)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def gap_cell(found: Estimate) -> Cell:
    """A difference with its sign and interval; a dash where there is none."""
    if found.value is None:
        return cell("–")
    span = found.interval
    return cell(signed(found.value), f"({signed(span[0])} to {signed(span[1])})" if span else "")


def signed(value: float) -> str:
    """The number with its sign, 0.000 where it is nothing."""
    text = f"{value:+.3f}".replace("-", "−")
    return "0.000" if text in {"+0.000", "−0.000"} else text


def plain_words(value: object) -> str:
    """A value of three decimals, a dash where it is not known."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return str(value)
