"""Whether a printed text is what a remark on record says: the language's text for its code, read backwards, slot by slot."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from storyxai.proof.lexicon import Lexicon
from storyxai.types import Remark

_MARK: Final = re.compile(r"\[([^\]|]+)\|([^\]]+)\]|\{(\w+)\}")
Prints: TypeAlias = Callable[[str, Any, str], bool]


def is_remark(value: Any) -> bool:
    """Whether the value is a remark: a code, its values and remarks within it."""
    return isinstance(value, Mapping) and value.keys() == {"code", "values", "parts"}


def is_remarks(value: Any) -> bool:
    """Whether the value is a list of remarks, which reads as one text."""
    return isinstance(value, list) and bool(value) and all(map(is_remark, value))


def says_remarks(text: str, remarks: Sequence[Remark], lexicon: Lexicon, prints: Prints) -> bool:
    """Whether the text says these remarks, in their order. `prints` judges the value of a slot by its format."""
    slots: list[tuple[Any, str]] = []
    pattern = "; ".join(_pattern(remark, lexicon, slots) for remark in remarks)
    found = re.fullmatch(re.sub(r"\\?\s+", r"\\s+", pattern), text.strip().rstrip("."), re.IGNORECASE | re.DOTALL)
    told = [] if found is None else zip(found.groups(), slots, strict=True)
    return found is not None and all(_says(said, *slot, lexicon, prints) for said, slot in told)


def _pattern(remark: Remark, lexicon: Lexicon, slots: list[tuple[Any, str]]) -> str:
    """The remark's text as a pattern with a group for each of its values, which `slots` collects."""
    text = lexicon.own.get(f"remarks.{remark.code}") or lexicon.file.remarks.get(remark.code, remark.code)
    parts, end = [], 0
    for mark in _MARK.finditer(text.rstrip(".")):
        parts.append(re.escape(text[end : mark.start()]))
        end = mark.end()
        if mark[3]:
            parts.append(_pattern(remark.parts[mark[3]], lexicon, slots))
        else:
            slots.append((remark.values.get(mark[1]), mark[2]))
            parts.append("(.+?)")
    return "".join([*parts, re.escape(text.rstrip(".")[end:])])


def _says(said: str, value: Any, how: str, lexicon: Lexicon, prints: Prints) -> bool:
    kind, _, leaf = how.partition(":")
    if kind in ("name", "case"):
        return any(said.casefold() == name.casefold() for name in lexicon.findings.get(str(value), (str(value),)))
    if kind == "gate":
        meant = lexicon.own.get(f"{value}.{leaf}", str(value).replace("_", " "))
        return " ".join(said.split()).rstrip(".").casefold() == meant.rstrip(".").casefold()
    if kind == "words":
        return said.casefold() == ", ".join(lexicon.table(leaf, one) for one in str(value).split(", ")).casefold()
    return prints(said, value, how)
