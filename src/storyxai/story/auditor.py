"""The auditor's story: five layers from regulation to prediction, then the log; what failed and what was withheld."""

from __future__ import annotations

from storyxai.story.practitioner import failed_checks, states
from storyxai.story.words import Teller
from storyxai.types import Section, Sentence

__all__ = ["auditor_sections"]


def auditor_sections(t: Teller) -> tuple[Section, ...]:
    """The sections of the auditor's story."""
    said = t.words.heading
    frame = ("purpose", "who", "misuse", "oversight", "no_claim", "layout")
    sections = t.section(said("auditor.regulation"), [t.say(f"auditor.{key}") for key in frame])
    sections += t.section(said("auditor.domain"), _domain(t), figures=("image", "table/gate"))
    sections += _data(t)
    figures: tuple[str, ...] = ("table/performance",) if t.names("model.per_finding") else ()
    sections += t.section(said("auditor.model"), _model(t), figures=figures)
    figures = ("table/findings", "table/failed", "table/withheld")
    sections += t.section(said("auditor.prediction"), _prediction(t), figures=figures)
    logged = [t.say(f"auditor.{key}") for key in ("logged", "input", "same")]
    sections += t.section(said("auditor.log"), logged, figures=("table/provenance",))
    return tuple(sections)


def _domain(t: Teller) -> list[list[Sentence]]:
    gate = t.record["gate"]
    asked = [name for name, check in gate.items() if check["passed"] is not None]
    failed = [name for name in asked if not gate[name]["passed"]]
    lines = [t.say("auditor.study"), t.say("auditor.indication") if t.value("study.indication") else []]
    if asked:
        slots = {"asked": str(len(asked)), "passed": str(len(asked) - len(failed))}
        lines.append(t.say("auditor.gate_counts", cites=["counts.gate_asked", "counts.gate_passed"], slots=slots))
    lines += [t.say("auditor.gate_failed", {"G": name}) for name in failed]
    if t.value("provenance.settings.forced"):
        lines.append(t.say("auditor.forced"))
    return [*lines, t.say("auditor.vocabulary")]


def _data(t: Teller) -> list[Section]:
    sets = t.value("model.trained_on") or []
    lines = []
    for i, item in enumerate(sets):
        lines.append(t.say("auditor.trained", {"I": str(i)}))
        if item.get("synthetic"):
            lines.append(t.say("auditor.synthetic", {"I": str(i)}))
    if any(item.get("n_patients") is not None for item in sets):
        lines.append(t.say("auditor.patients"))
    return t.section(t.words.heading("auditor.data"), lines, figures=("table/trained_on",)) if sets else []


def _model(t: Teller) -> list[list[Sentence]]:
    lines = [t.say("auditor.name")]
    lines += [t.say("auditor.limit", {"I": str(i)}) for i in range(len(t.value("model.limits") or ()))]
    lines.append(t.say("auditor.cannot_see"))
    unmeasured = [name for name in t.record["findings"] if t.value(f"model.per_finding.{name}.auroc") is None]
    if unmeasured:
        names = t.words.listed(t.words.word("finding", name) for name in unmeasured)
        cites = [f"findings.{name}.threshold" for name in unmeasured]
        lines.append(t.say("auditor.no_figures", cites=cites, slots={"names": names}))
    return lines


def _prediction(t: Teller) -> list[list[Sentence]]:
    lines = states(t, "auditor")
    counts = t.record["counts"]
    for outcome in ("passed", "failed", "unasked"):
        if number := counts[f"checks_{outcome}"]:
            slots = {"count": str(number)}
            lines.append(t.say(f"auditor.checks_{outcome}", cites=[f"counts.checks_{outcome}"], slots=slots))
    # Findings that were dwelt on in sentences; every failed check and withheld map stands in the tables.
    told = t.told()
    lines += failed_checks(t, "auditor", told)
    lines += [t.say("auditor.withheld", {"F": name, "M": m}) for name in told for m in t.maps(name, shown=False)]
    if t.record["heatmaps"] and not counts["maps_withheld"]:
        lines.append(t.say("auditor.nothing_withheld"))
    if t.record["counterfactuals"]:
        lines.append(t.say("auditor.what_if"))
    return lines
