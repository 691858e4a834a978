"""The machine-learning practitioner's story: measured performance, calibration, maps with their checks, and seeds."""

from __future__ import annotations

from collections.abc import Iterator

from storyxai.story.words import Teller
from storyxai.types import Section, Sentence

__all__ = ["failed_checks", "practitioner_sections", "states"]


def practitioner_sections(t: Teller) -> tuple[Section, ...]:
    """The sections of the practitioner's story."""
    said = t.words.heading
    told = t.told()
    sections = t.section(said("practitioner.in_short"), [t.say("practitioner.model"), _map_counts(t)])
    if t.names("model.per_finding"):
        lines = [t.say("practitioner.mean_auroc", {"F": name}) for name in told]
        lines += [t.say("practitioner.calibration", {"F": name}) for name in told]
        lines.append(t.say("practitioner.intervals"))
        sections += t.section(said("practitioner.performance"), lines, figures=("table/performance",))
    if t.names("model.agreement"):
        lines = [t.say("practitioner.agreement")]
        sections += t.section(said("practitioner.students"), lines, figures=("table/agreement",))
    scores = [t.say("practitioner.dice") or t.say("practitioner.dice_plain"), t.say("practitioner.report")]
    sections += t.section(said("practitioner.lungs"), scores)
    lines = [*states(t, "practitioner"), t.say("practitioner.logits")]
    sections += t.section(said("practitioner.prediction"), lines, figures=("table/findings",))
    sections += _maps(t)
    sections += _checks(t)
    lines = [t.say(f"practitioner.{key}") for key in ("seed", "software", "weights", "input", "research")]
    sections += t.section(said("practitioner.reproduce"), lines, figures=("table/provenance",))
    return tuple(sections)


def states(t: Teller, audience: str) -> list[list[Sentence]]:
    """One sentence a state, by the plain names of the findings."""
    lines = []
    for state in ("present", "indeterminate", "absent"):
        if found := t.findings_by_state(state):
            names = t.words.listed(t.words.word("finding", name) for name in found)
            cites = [f"findings.{name}.state" for name in found]
            lines.append(t.say(f"{audience}.state_{state}", cites=cites, slots={"names": names}))
    return lines


def failed_checks(t: Teller, audience: str, findings: list[str]) -> Iterator[list[Sentence]]:
    """One sentence for each check of these findings that failed."""
    for finding in findings:
        for method, checks in t.record["checks"].get(finding, {}).items():
            for name, check in checks.items():
                if check["passed"] is False:
                    names = {"F": finding, "M": method, "C": name}
                    yield t.say(f"{audience}.check_failed", names, slots={"check": t.words.word("check", name)})


def _map_counts(t: Teller) -> list[Sentence]:
    counts = t.record["counts"]
    slots = {"maps": "maps", "shown": "maps_shown", "withheld": "maps_withheld"}
    numbers = {slot: str(counts[name]) for slot, name in slots.items()}
    return t.say("practitioner.counts", cites=[f"counts.{name}" for name in slots.values()], slots=numbers)


def _maps(t: Teller) -> list[Section]:
    lines, figures = [], ["table/maps"]
    for name in t.told():
        lines.append(t.say("practitioner.lime", {"F": name}))
        lines += [t.say("practitioner.range", {"F": name, "M": m}) for m in t.maps(name, shown=True)]
        lines += [t.say("practitioner.withheld", {"F": name, "M": m}) for m in t.maps(name, shown=False)]
        figures += t.map_figures(name)
    return t.section(t.words.heading("practitioner.maps"), lines, figures=figures) if t.record["heatmaps"] else []


def _checks(t: Teller) -> list[Section]:
    if not t.record["checks"]:
        return []
    lines = [t.say("practitioner.checks_what"), *failed_checks(t, "practitioner", t.told())]
    return t.section(t.words.heading("practitioner.checks"), lines, figures=("table/checks",))
