"""Sentences from templates that are data: what a template states it cites, and what is not known it does not say.

A template is a text with marks `[path|format]`, or {"text": ..., "cites": [...]} where it rests on more than it prints;
"apart" there holds pairs of paths: numbers that the sentence compares, printed with so many digits that they differ.
`<F>` in a path is replaced by the name of a finding, `<M>` of a method; `[F|name]` and `[M|name]` print these names,
`[F|within]` as they stand within a sentence, `[F|case:genitive]` in a case that the language's file has under `cases`.
When a path is not in the record, or is null or empty there, the sentence is left out. What a path brings is never read as
a template again, whatever stands in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from storyxai.catalogue.language import MARK, NAMED_HOW, Template, format_kind
from storyxai.errors import CitationError
from storyxai.evidence.paths import figure_name, resolve
from storyxai.evidence.record import digits_apart, typed_record
from storyxai.evidence.schema import EvidenceRecord
from storyxai.modalities.words import SIDE_RULES
from storyxai.story.words import Words
from storyxai.types import Section, Sentence

_NAME = re.compile(r"<(\w+)>")


@dataclass(frozen=True, eq=False)
class Teller:
    """One record being told in one language."""

    record: Mapping[str, object]
    words: Words

    @cached_property
    def facts(self) -> EvidenceRecord:
        """The record as types: what a teller decides by; what it prints it takes by its path."""
        return typed_record(self.record)

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
        return self.fill(self.words.template(key), names, cites=cites, slots=slots)

    def fill(
        self, template: Template, names: Mapping[str, str] | None = None, *, cites: Iterable[str] = (),
        slots: Mapping[str, str] | None = None,
    ) -> list[Sentence]:
        """As `say`, of a template that is not the language's own."""
        paths = [self._named(path, names) for path in template.cites] + list(cites)
        unknown = [path for path in paths if self.value(path) is None]
        digits, given = self._digits(template, names), {"quantity": self.quantity(), **self.words.own, **(slots or {})}

        def print_mark(mark: re.Match[str]) -> str:
            if mark[3]:
                return given[mark[3]]
            if format_kind(mark[2]) in NAMED_HOW:
                return self._name(mark[1], mark[2], (names or {})[mark[1]])
            path = self._named(mark[1], names)
            value = self.worded(path)
            (paths if _known(value) else unknown).append(path)
            return self.words.printed(value, mark[2], digits=digits) if _known(value) else ""

        text = MARK.sub(print_mark, template.text)
        if unknown or not paths or not text:
            return []
        return [Sentence(text[0].upper() + text[1:], tuple(dict.fromkeys(paths)))]

    def quantity(self) -> str:
        """What the model's numbers are called: probabilities, or scores where no calibration came with it."""
        joins = self.words.file.joins
        return joins.probability if self.calibrated else joins.score

    @property
    def calibrated(self) -> bool:
        """Whether the model's numbers are calibrated probabilities."""
        return "calibration" not in self.facts.gaps

    def lacks(self, room: str) -> list[list[Sentence]]:
        """One sentence for each part that the model did not bring, from the templates in `room`."""
        known = self.words.file.templates[room]
        return [self.say(f"{room}.{gap}" if gap in known else f"{room}.other", slots={"gap": gap})
                for gap in self.facts.gaps]

    def section(
        self, heading: str, sentences: Iterable[Iterable[Sentence]], *, figures: Iterable[str] = ()
    ) -> list[Section]:
        """The section as a list of one, or an empty list when it has neither a sentence nor a figure."""
        told, drawn = tuple(s for some in sentences for s in some), tuple(figures)
        return [Section(heading, told, drawn)] if told or drawn else []

    def findings_of(self, tier: str) -> list[str]:
        """Names of the findings of that tier, most probable first."""
        findings = self.facts.findings
        found = [name for name, item in findings.items() if item.tier == tier]
        return sorted(found, key=lambda name: (-findings[name].probability, name))

    def told(self) -> list[str]:
        """The findings that are named in text, likeliest first; behind them those of which the model cannot tell."""
        return sorted(self.facts.named, key=lambda name: self.tier(name) == "cannot_tell")

    def tier(self, finding: str) -> str:
        """The finding's tier."""
        return self.facts.findings[finding].tier

    def mapped(self) -> list[str]:
        """Findings whose maps were compared: those that are named, and without a calibration the likeliest others."""
        told = self.told()
        return told + [name for name in self.value("provenance.told") or () if name not in told]

    def side_doubts(self) -> list[str]:
        """Paths of the failed checks that put the film's left and right in doubt."""
        gate, rules = self.facts.gate, self.words.file.tables.get(SIDE_RULES, {})
        return [f"gate.{rule}.passed" for rule in rules if rule in gate and gate[rule].passed is False]

    def named(self, finding: str) -> str:
        """The plain name of a finding."""
        return self.words.finding(finding)

    def within(self, finding: str) -> str:
        """The plain name of a finding as it stands within a sentence."""
        return self.words.within(self.named(finding))

    def methods_by_reason(self, finding: str) -> dict[str, list[str]]:
        """Why maps of the finding are withheld, and which methods' maps each reason holds back."""
        reasons: dict[str, list[str]] = {}
        for method in self.maps(finding, shown=False):
            why = self.worded(f"heatmaps.{finding}.{method}.withheld_because")
            reasons.setdefault(why, []).append(method)
        return reasons

    def maps(self, finding: str, *, shown: bool) -> list[str]:
        """Methods whose map of the finding is shown, or was withheld."""
        methods = self.facts.heatmaps.get(finding, {})
        return sorted(method for method, item in methods.items() if item.shown == shown)

    def failed(self, finding: str, method: str) -> set[str]:
        """The checks that the method's map of the finding failed."""
        checks = self.facts.checks.get(finding, {}).get(method, {})
        return {name for name, check in checks.items() if check.passed is False}

    def placed(self, finding: str) -> bool:
        """Whether the finding's first shown map says where it lies: it is not in doubt, or only as its cells are coarse."""
        return any(
            not self.facts.heatmaps[finding][method].doubtful or self.failed(finding, method) == {"fine_enough"}
            for method in self.maps(finding, shown=True)[:1]
        )

    def box_told(self, finding: str) -> bool:
        """Whether the finding's box may be drawn and spoken of, as `boxed_findings` says of evidence."""
        cam, coarse = self.facts.heatmaps.get(finding, {}).get("grad_cam"), "fine_enough" in self.failed(finding, "grad_cam")
        stands = (cam is None or cam.shown) and not coarse
        return bool(stands and self.maps(finding, shown=True) and self.value(f"boxes.{finding}"))

    def map_figures(self, finding: str) -> list[str]:
        """The figures of the finding's maps, withheld ones as what says why."""
        methods = self.facts.heatmaps.get(finding, {})
        return [figure_name("map" if methods[m].shown else "withheld", finding, m) for m in sorted(methods)]

    def _name(self, mark: str, how: str, name: str) -> str:
        """The name of a method or a finding as a mark asks for it."""
        if how.startswith("case:"):
            return self.words.finding(name, how.removeprefix("case:"))
        plain = self.words.word("method", name) if mark == "M" else self.words.finding(name)
        return self.words.within(plain) if how == "within" else plain

    def worded(self, path: str) -> Any:
        """The value at `path` as this language says it."""
        return self.words.spoken(path, self.value(path))

    def _digits(self, template: Template, names: Mapping[str, str] | None) -> int:
        """The decimals of the template's sentence: two, or more where what it compares would print alike."""
        pairs = [(self.value(self._named(a, names)), self.value(self._named(b, names))) for a, b in template.apart]
        return digits_apart(pairs, lambda number, digits: self.words.printed(number, "decimal", digits=digits), least=2)

    def _named(self, path: str, names: Mapping[str, str] | None) -> str:
        return _NAME.sub(lambda mark: (names or {})[mark[1]], path)


def _known(value: Any) -> bool:
    """Whether there is something to print: no null, no blank text and no list without a text in it."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, list):
        return any(_known(item) for item in value)
    return value is not None
