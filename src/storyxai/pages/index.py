"""Many studies as one list: what is named of each, by tier, with a small picture and its pages.

The list stands in the page as plain HTML, worst first; the script sorts, filters and takes keys. Pictures are files beside
the page, loaded as they come into view, so that thousands of studies open at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from storyxai.pages.layout import Labels, labels_of, render_template
from storyxai.types import TIERS

INDEX_MARK = b'<meta name="storyxai-index"'
"""What a page of ours holds, so that nobody's own index.html is written over."""
ABSENT = "-"


@dataclass(frozen=True)
class LinkedPage:
    """A page of a study: its reader's key and its address, relative to the index."""

    audience: str
    href: str


@dataclass(frozen=True)
class Listed:
    """One study as the index lists it, from its record.

    `findings` are (tier, probability) by name; `named` those that stories name. `thumbnail` is an address, "" for none.
    `model` is what the model of that id is called, "" where it has no name.
    `scored`: its model came without a calibration, so that its numbers are scores. `names` are what the page's language calls
    the findings; a name that is not among them is printed with spaces.
    """

    study_id: str
    source: str
    model_id: str
    findings: Mapping[str, tuple[str, float]]
    named: tuple[str, ...]
    withheld: int
    doubted: bool
    scored: bool
    thumbnail: str
    pages: tuple[LinkedPage, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    model: str = ""

    def called(self, finding: str) -> str:
        """The name of a finding in print."""
        return self.names.get(finding, finding.replace("_", " "))

    @property
    def urgency(self) -> tuple[int, float, str]:
        """Worst first: the tier of its first named finding, the probability, then the file's name; in doubt before nothing."""
        if self.doubted:
            return TIERS.index("cannot_tell"), 0.0, self.source
        if not self.named:
            return len(TIERS), 0.0, self.source
        tier, probability = min((self.findings[name] for name in self.named), key=lambda one: (TIERS.index(one[0]), -one[1]))
        return TIERS.index(tier), -probability, self.source


@dataclass(frozen=True)
class _Chip:
    tier: str
    name: str
    said: str


@dataclass(frozen=True)
class _Line:
    """One study as the template prints it: a letter a finding for its tier, and its probability in percent."""

    study: Listed
    chips: tuple[_Chip, ...]
    tiers: str
    shares: str
    pages: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _View:
    studies: tuple[Listed, ...]
    unread: tuple[str, ...]
    language: str
    labels: Labels

    @cached_property
    def called(self) -> Mapping[str, str]:
        """What each finding is called, by its name."""
        return {name: study.called(name) for study in self.studies for name in study.findings}

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """All findings that any study was asked for, sorted by what they are called."""
        return tuple(sorted(self.called, key=lambda name: (self.called[name].casefold(), name)))

    def number(self, count: int) -> str:
        """A count in print."""
        return self.labels.words.number(count, ",")

    @cached_property
    def models(self) -> tuple[str, ...]:
        """What the models are called; with their ids where two are called alike."""
        called = {study.model_id: study.model or study.model_id for study in self.studies}
        names = list(called.values())
        return tuple(sorted(name if names.count(name) == 1 else f"{name} ({id_})" for id_, name in called.items()))

    @property
    def tiers(self) -> tuple[str, ...]:
        return TIERS

    @cached_property
    def counts(self) -> tuple[str, ...]:
        """How many studies have a named finding of each tier, and how many are not to be relied on; none are left out."""
        told = [("scored" if one.scored and tier == "likely" else tier, one) for one in self.studies if not one.doubted
                for tier in dict.fromkeys(one.findings[name][0] for name in one.named)]  # fmt: skip
        count = Counter([*(kind for kind, _ in told), *("doubted" for one in self.studies if one.doubted)])
        words = self.labels.index.counts
        return tuple(said.format(self.number(count[kind])) for kind, said in words.items() if count[kind])

    @cached_property
    def lines(self) -> tuple[_Line, ...]:
        return tuple(map(self._line, sorted(self.studies, key=lambda study: study.urgency)))

    def _line(self, study: Listed) -> _Line:
        chips = tuple(
            _Chip(tier, study.called(name), f"{self.labels.words.printed(probability, 'decimal')} "
                  f"{self.labels.tier(tier, calibrated=not study.scored)}")
            for name in study.named for tier, probability in [study.findings[name]]
        )
        if study.doubted:  # no finding of it can be told
            chips = (_Chip("cannot_tell", self.labels.index.doubted, ""),)
        known = [study.findings.get(name) for name in self.findings]
        audiences = self.labels.audiences_short
        return _Line(
            study, chips, "".join(one[0][0] if one else ABSENT for one in known),
            ",".join(f"{one[1]:.3f}".removeprefix("0") if one else "" for one in known),
            tuple((audiences.get(page.audience, page.audience), page.href) for page in study.pages),
        )


def render_index(studies: Sequence[Listed], *, unread: Sequence[str] = (), language: str = "en") -> bytes:
    """The page that lists `studies` as UTF-8 bytes; `unread` says of what could not be listed why, one sentence each."""
    labels = labels_of(language)
    view = _View(tuple(studies), tuple(unread), language, labels)
    return render_template("index.html", view, labels, script="index.js", beside=True)
