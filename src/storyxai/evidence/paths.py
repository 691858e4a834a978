"""Paths into the evidence record, and the names of figures: what sentences cite and sections show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from storyxai.errors import CitationError

__all__ = ["figure_name", "figure_parts", "finding_in", "resolve"]


_GROUPED = ("model", "neighbours")
"""Rooms of a record that hold findings in groups."""


def resolve(record: Mapping[str, object], path: str) -> Any:
    """The value at `path`; keys may hold dots. Raises: CitationError when nothing is there or its value is None."""
    parts = path.split(".")
    if (plain := _plain_value(record, parts)) is not None:
        return plain
    if path:
        for value in _values_at(record, parts):
            if value is None:
                raise CitationError(f"'{path}' is not known in this evidence (its value is null)")
            return value
    raise CitationError(f"'{path}' is not in this evidence")


def finding_in(path: str, findings: Iterable[str]) -> str:
    """That of `findings` which the path is about, "" where it is about none.

    A finding stands behind its room ("findings.Mass.tier"), or behind a room and a group of it ("model.agreement.Mass.n"):
    what is said of it ("probability") is no finding of that name. Of "a" and "a.b" the longer one is meant.
    """
    room, _, rest = path.partition(".")
    inner = rest.partition(".")[2] if room in _GROUPED else rest
    return max((name for name in findings if f"{inner}.".startswith(f"{name}.")), key=len, default="")


def figure_name(kind: str, *names: str) -> str:
    """The name of a figure ("map/Mass/lime"); a "/" within a name is written as "%2F"."""
    return "/".join((kind, *(name.replace("%", "%25").replace("/", "%2F") for name in names)))


def figure_parts(name: str) -> tuple[str, ...]:
    """The kind of a figure and the names that `figure_name` made its name of."""
    return tuple(part.replace("%2F", "/").replace("%25", "%") for part in name.split("/"))


def _plain_value(value: Any, parts: list[str]) -> Any:
    """The value where each part is a key by itself, as nearly always; None where some is not, or nothing is there."""
    for part in parts:
        if type(value) is not dict or part not in value:
            return None
        value = value[part]
    return value


def _values_at(value: Any, parts: list[str]) -> Iterator[Any]:
    if not parts:
        yield value
    elif isinstance(value, Mapping):
        for count in range(1, len(parts) + 1):
            key = ".".join(parts[:count])
            if key in value:
                yield from _values_at(value[key], parts[count:])
    elif isinstance(value, list) and parts[0].isdecimal() and int(parts[0]) < len(value):
        yield from _values_at(value[int(parts[0])], parts[1:])
