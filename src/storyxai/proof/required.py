"""What a reader's page must not leave out: named findings, warnings, withheld maps, limits, and its fixed sentences."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from storyxai.evidence.schema import EvidenceRecord
from storyxai.proof.lexicon import Lexicon
from storyxai.types import of_unknown_kind

FIXED: Final[Mapping[str, tuple[str, ...]]] = {
    "clinician": ("next",),
    "patient": ("looked", "no_old", "tool", "mean_1", "mean_2", "next_1", "next_2", "help_1", "help_2", "ask_1", "ask_2",
                "ask_3", "back_1"),
    "practitioner": (),
    "auditor": ("purpose", "who", "misuse", "oversight", "oversight_limits", "robustness", "no_claim", "logged", "same"),
}  # fmt: skip
"""Sentences that stand on every page of a reader."""
_TECHNICAL: Final = ("clinician", "practitioner", "auditor")
MOST_SIGNS: Final = 2
"""Signs that a patient reads of one by one."""


def dropped(audience: str, cited: set[str], keys: Collection[str], lexicon: Lexicon) -> Iterator[str]:
    """What the page of `audience` does not say though the record holds it, one line each.

    `cited` are all paths that its sentences cite, `keys` the forms of its sentences.
    """
    known = lexicon.file.templates.get(audience, {})
    for name in FIXED.get(audience, ()):
        key = f"{audience}.{name}"
        told = lexicon.own.get(key, known[name].text if name in known else "")  # an empty one is not said
        if told and key not in keys:
            yield f"leaves out the sentence “{key}”, which stands on every such page"
    for path, what in _must_cite(audience, lexicon.facts):
        if path not in cited:
            yield f"leaves out {what}"
    for finding in lexicon.facts.named if audience == "clinician" else ():
        maps = lexicon.facts.heatmaps.get(finding, {})
        for why in [item.withheld_because for item in maps.values() if not item.shown]:
            same = [f"heatmaps.{finding}.{method}.withheld_because" for method, item in maps.items()
                    if item.withheld_because == why]  # fmt: skip
            if not cited.intersection(same):
                yield f"leaves out why maps of {finding} are withheld"
        if (apart := _apart(finding, lexicon.facts)) and cited.isdisjoint(apart):
            yield f"leaves out that the maps of {finding} point to different places"


def _apart(finding: str, facts: EvidenceRecord) -> list[str]:
    """Where a map is shown though another method points elsewhere: the paths of which one must be cited."""
    maps, checks = facts.heatmaps.get(finding, {}), facts.checks.get(finding, {})
    apart = [key for key, named in checks.items() if "methods_agree" in named and named["methods_agree"].passed is False]
    if not any(key in maps and maps[key].shown and maps[key].doubtful for key in apart):
        return []
    return [f"checks.{finding}.{key}.methods_agree.passed" for key in apart]


def refused(facts: EvidenceRecord) -> bool:
    """Whether the gate refused the image: a check failed that does not only warn."""
    return any(check.passed is False and not check.warns for check in facts.gate.values())


def _must_cite(audience: str, facts: EvidenceRecord) -> Iterator[tuple[str, str]]:
    """Paths that some sentence must cite, and what each stands for."""
    for name, check in facts.gate.items():
        if check.passed is False and audience in (*_TECHNICAL, "patient"):
            yield f"gate.{name}.passed", f"the warning that {name.removeprefix('gate.')} failed"
    if audience in _TECHNICAL:
        yield from ((f"findings.{name}.tier", f"the finding {name}") for name in facts.findings)
    if audience == "clinician":
        yield from _of_clinician(facts)
    if audience in ("practitioner", "auditor"):
        yield from _of_all_maps(facts)
    if audience == "patient" and facts.doubts:
        yield from ((f"findings.{name}.tier", "that the computer cannot tell") for name in facts.findings)
    elif audience == "patient":
        signs = [name for name in facts.named if facts.findings[name].tier in ("likely", "possible")]
        yield from ((f"findings.{name}.tier", f"the finding {name}") for name in signs[:MOST_SIGNS])
    if audience in ("clinician", "auditor"):
        limits = range(len(facts.model.limits))
        yield from ((f"model.limits.{i}", f"the model's limit {i + 1}") for i in limits)
        if facts.model.cannot_see:
            yield "model.cannot_see", "what the model was not made to find"
        # The clinician hears of force that passed over a refusal, the auditor of any.
        if facts.made.settings.forced and (audience == "auditor" or refused(facts)):
            yield "provenance.settings.forced", "that it was told because the caller forced it"


def _of_clinician(facts: EvidenceRecord) -> Iterator[tuple[str, str]]:
    if facts.doubts:
        yield "doubts", "that nothing can be relied on"
    for name in facts.named:
        # A score that nobody calibrated is its own interval: there is none to tell.
        leaf, what = ("probability", "score") if "calibration" in facts.gaps else ("interval", "interval")
        yield f"findings.{name}.{leaf}", f"the {what} of {name}"
        for method, item in facts.heatmaps.get(name, {}).items():
            if not item.shown:
                yield f"heatmaps.{name}.{method}.shown", f"that the {method} map of {name} is withheld"
    yield "notices.research_use", "that it is for research use only"
    drafted = () if of_unknown_kind(facts.doubts) else facts.report.sentences
    for place in range(len(drafted)):
        yield f"report.sentences.{place}", f"sentence {place + 1} of the draft report"


def _of_all_maps(facts: EvidenceRecord) -> Iterator[tuple[str, str]]:
    for finding, methods in facts.heatmaps.items():
        for method, item in methods.items():
            if not item.shown:
                yield f"heatmaps.{finding}.{method}.shown", f"that the {method} map of {finding} is withheld"
            for name, check in facts.checks.get(finding, {}).get(method, {}).items():
                if check.passed is False:
                    path = f"checks.{finding}.{method}.{name}.passed"
                    yield path, f"that the {method} map of {finding} failed {name}"
