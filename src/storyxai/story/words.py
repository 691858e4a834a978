"""Sentences from templates that are data: what a template states it cites, and what is not known it does not say.

A template is a text with marks `[path|format]`, or {"text": ..., "cites": [...]} where it rests on more than it prints;
"apart" there holds pairs of paths: numbers that the sentence compares, printed with so many digits that they differ.
`<F>` in a path is replaced by the name of a finding, `<M>` of a method; `[F|name]` and `[M|name]` print these names.
When a path is not in the record, or is null there, the sentence is left out.
Another language is another file in `languages/`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Final

from storyxai.errors import CitationError, UnknownNameError
from storyxai.evidence.record import digits_apart, resolve
from storyxai.types import Section, Sentence

__all__ = ["Teller", "Words", "known_languages", "load_words"]

_MARK = re.compile(r"\[([^\]|]+)\|([^\]]+)\]")
_NAME = re.compile(r"<(\w+)>")
_SIDE_RULES = ("gate.mirrored", "gate.lung_sides")


@dataclass(frozen=True, eq=False)
class Words:
    """All wording of one language. `data` is the language's file."""

    language: str
    data: Mapping[str, Any]

    def template(self, key: str) -> tuple[str, tuple[str, ...]]:
        """The text and the extra citations of the template called `key` ("clinician.present")."""
        room, name = key.split(".", 1)
        found = self.data[room][name]
        if isinstance(found, str):
            return found, ()
        return found["text"], tuple(found["cites"])

    def compared(self, key: str) -> tuple[tuple[str, str], ...]:
        """The pairs of paths whose numbers the template called `key` compares."""
        room, name = key.split(".", 1)
        found = self.data[room][name]
        return () if isinstance(found, str) else tuple((a, b) for a, b in found.get("apart", ()))

    def heading(self, key: str) -> str:
        """The plain text called `key`."""
        return self.template(key)[0]

    def word(self, table: str, value: str) -> str:
        """`value` in this language by a table; with spaces for underscores where the table does not have it."""
        return str(self.data["tables"][table].get(value, value.replace("_", " ")))

    def listed(self, items: Iterable[str]) -> str:
        """The items as one phrase: "a", "a and b", "a, b and c"."""
        many = list(items)
        if len(many) < 2:
            return "".join(many)
        return f"{', '.join(many[:-1])} {self.data['joins']['and']} {many[-1]}"

    def printed(self, value: Any, how: str, *, digits: int = 2) -> str:
        """`value` printed by the format called `how`; "table:NAME" looks a word up; `digits` are those of decimals."""
        kind, _, table = how.partition(":")
        if kind == "table":
            return self.word(table, str(value))
        if kind in ("decimal", "interval"):
            return (_bounded if kind == "decimal" else _interval)(self, value, digits)
        return _FORMATS[kind](self, value)


@dataclass(frozen=True, eq=False)
class Teller:
    """One record being told in one language."""

    record: Mapping[str, Any]
    words: Words

    def value(self, path: str) -> Any:
        """The value at `path`, or None when it is not known."""
        try:
            return resolve(self.record, path)
        except CitationError:
            return None

    def names(self, path: str) -> tuple[str, ...]:
        """The keys of the dict at `path`, sorted; () when there is none."""
        found = self.value(path)
        return tuple(sorted(found)) if isinstance(found, Mapping) else ()

    def say(
        self, key: str, names: Mapping[str, str] | None = None, *, cites: Iterable[str] = (),
        slots: Mapping[str, str] | None = None,
    ) -> list[Sentence]:
        """The sentence of template `key` as a list of one, or an empty list when a value it states is not known.

        `names` replace `<F>` in paths; `slots` replace `{slot}` in the text and must be backed by `cites`.
        """
        text, extra = self.words.template(key)
        paths = [self._named(path, names) for path in extra] + list(cites)
        for slot, words in (slots or {}).items():
            text = text.replace("{" + slot + "}", words)
        unknown = [path for path in paths if self.value(path) is None]
        digits = self._digits(key, names)

        def fill(mark: re.Match[str]) -> str:
            if mark[2] == "name":
                return self.words.word("method", (names or {})[mark[1]])
            path = self._named(mark[1], names)
            value = self.value(path)
            (paths if value is not None else unknown).append(path)
            return "" if value is None else self.words.printed(value, mark[2], digits=digits)

        text = _MARK.sub(fill, text)
        if unknown or not paths:
            return []
        return [Sentence(text[0].upper() + text[1:], tuple(dict.fromkeys(paths)))]

    def section(
        self, heading: str, sentences: Iterable[Iterable[Sentence]], *, figures: Iterable[str] = ()
    ) -> list[Section]:
        """The section as a list of one, or an empty list when it has neither a sentence nor a figure."""
        told, drawn = tuple(s for some in sentences for s in some), tuple(figures)
        return [Section(heading, told, drawn)] if told or drawn else []

    def findings_by_state(self, state: str) -> list[str]:
        """Names of the findings in that state, most probable first."""
        findings = self.record["findings"]
        found = [name for name, item in findings.items() if item["state"] == state]
        return sorted(found, key=lambda name: (-findings[name]["probability"], name))

    def told(self) -> list[str]:
        """Findings to dwell on: present ones, then those indeterminate ones of which maps were compared."""
        unsure, dwelt = self.findings_by_state("indeterminate"), self.value("provenance.told")
        return self.findings_by_state("present") + [name for name in unsure if dwelt is None or name in dwelt]

    def side_doubts(self) -> list[str]:
        """Paths of the failed checks that put the film's left and right in doubt."""
        gate = self.record["gate"]
        return [f"gate.{rule}.passed" for rule in _SIDE_RULES if gate.get(rule, {}).get("passed") is False]

    def named(self, finding: str) -> str:
        """The plain name of a finding."""
        return self.words.word("finding", finding)

    def methods_by_reason(self, finding: str) -> dict[str, list[str]]:
        """Why maps of the finding are withheld, and which methods' maps each reason holds back."""
        reasons: dict[str, list[str]] = {}
        for method in self.maps(finding, shown=False):
            reasons.setdefault(self.record["heatmaps"][finding][method]["withheld_because"], []).append(method)
        return reasons

    def maps(self, finding: str, *, shown: bool) -> list[str]:
        """Methods whose map of the finding is shown, or was withheld."""
        methods = self.record["heatmaps"].get(finding, {})
        return sorted(method for method, item in methods.items() if item["shown"] == shown)

    def box_told(self, finding: str) -> bool:
        """Whether the finding's box may be drawn and spoken of: it rests on the grid of its Grad-CAM map, and falls with it."""
        cam = self.record["heatmaps"].get(finding, {}).get("grad_cam", {"shown": True})
        return bool(cam["shown"] and self.maps(finding, shown=True) and self.value(f"boxes.{finding}"))

    def map_figures(self, finding: str) -> list[str]:
        """The figures of the finding's maps, withheld ones as what says why."""
        methods = self.record["heatmaps"].get(finding, {})
        return [f"{'map' if methods[m]['shown'] else 'withheld'}/{finding}/{m}" for m in sorted(methods)]

    def _digits(self, key: str, names: Mapping[str, str] | None) -> int:
        """The decimals of the sentence of template `key`: two, or more where what it compares would print alike."""
        pairs = [(self.value(self._named(a, names)), self.value(self._named(b, names))) for a, b in self.words.compared(key)]
        return digits_apart(pairs, lambda number, digits: _bounded(self.words, number, digits), least=2)

    def _named(self, path: str, names: Mapping[str, str] | None) -> str:
        return _NAME.sub(lambda mark: (names or {})[mark[1]], path)


def known_languages() -> tuple[str, ...]:
    """The languages that have a file."""
    folder = resources.files("storyxai.story") / "languages"
    return tuple(sorted(f.name.removesuffix(".json") for f in folder.iterdir() if f.name.endswith(".json")))


@lru_cache(maxsize=4)
def load_words(language: str) -> Words:
    """The words of `language`. Raises: UnknownNameError naming the nearest language that has a file."""
    if language not in known_languages():
        raise UnknownNameError("language", language, known_languages())
    text = (resources.files("storyxai.story") / "languages" / f"{language}.json").read_text(encoding="utf-8")
    return Words(language, json.loads(text))


def _bounded(words: Words, value: float, digits: int) -> str:
    """`value` in `digits` decimals; what would round to 0 or 1 without being it is said to lie below or above."""
    step = 10.0**-digits
    if 0 < value < step / 2:
        return str(words.data["joins"]["below"].format(f"{step:.{digits}f}"))
    if 1 - step / 2 <= value < 1:
        return str(words.data["joins"]["above"].format(f"{1 - step:.{digits}f}"))
    return f"{value:.{digits}f}"


def _number(words: Words, value: Any) -> str:
    """A number of any size in about three significant digits; whole ones whole."""
    number = float(value)
    if number == int(number) and abs(number) < 1e9:
        return f"{int(number):,}"
    decimals = min(4, max(0, 2 - math.floor(math.log10(abs(number)))))
    text = f"{number:.{decimals}f}"
    while decimals > 2 and text.endswith("0"):
        text, decimals = text[:-1], decimals - 1
    return text


def _interval(words: Words, value: Any, digits: int) -> str:
    low, high = value
    return f"{_bounded(words, low, digits)} {words.data['joins']['to']} {_bounded(words, high, digits)}"


def _zones(words: Words, value: Any) -> str:
    """ "right mid, right lower" as "right mid and right lower zones"."""
    zones = str(value).split(", ")
    return f"{words.listed(zones)} {words.data['joins']['zone' if len(zones) == 1 else 'zones']}"


def _frequency(words: Words, value: Any, base: int) -> str:
    joins, many = words.data["joins"], round(float(value) * base)
    if many >= base and value < 1:
        return str(joins["more_than"].format(base - 1, base))
    if many <= 0 and value > 0:
        return str(joins["fewer_than"].format(1, base))
    return str(joins["about"].format(many, base))


def _data(words: Words, value: Any) -> str:
    """A data set's name as readers know it: "nih (unseen)" in words; any other text as it is."""
    match = re.fullmatch(r"(\w+) \((\w+)\)", str(value))
    sets, parts = words.data["tables"]["data_set"], words.data["tables"]["data_part"]
    if match is None or match[1] not in sets or match[2] not in parts:
        return str(value)
    return f"{sets[match[1]]}, {parts[match[2]]}"


_FORMATS: Final[Mapping[str, Callable[[Words, Any], str]]] = {
    "text": lambda words, value: str(value),
    "signed": lambda words, value: f"{float(value):+.2f}",
    "number": _number,
    "percent": lambda words, value: f"{100 * float(value):.0f} %",
    "interval_3": lambda words, value: _interval(words, value, 3),
    "of_100": lambda words, value: f"{100 * float(value):.0f}",
    "in_10": lambda words, value: _frequency(words, value, 10),
    "in_100": lambda words, value: _frequency(words, value, 100),
    "len": lambda words, value: str(len(value)),
    "list": lambda words, value: words.listed(map(str, value)),
    "short": lambda words, value: str(value)[:12],
    "data": _data,
    "zones": _zones,
    "mm": lambda words, value: f"{float(value):.0f}",
}
