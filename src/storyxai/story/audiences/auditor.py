"""The auditor's story: five layers from regulation to prediction, then the log; what failed and what was withheld."""

from __future__ import annotations

from storyxai.story.audiences.learned import learned_tested
from storyxai.story.audiences.practitioner import failed_checks, gaps, tiers, withheld_maps
from storyxai.story.teller import Teller
from storyxai.types import Section, Sentence


def auditor_sections(t: Teller) -> tuple[Section, ...]:
    """The sections of the auditor's story."""
    said = t.words.heading
    frame = ("purpose", "who", "misuse", "oversight", "oversight_limits", "robustness", "no_claim", "layout")
    sections = t.section(said("auditor.regulation"), [t.say(f"auditor.{key}") for key in frame])
    sections += t.section(said("auditor.domain"), _domain(t), figures=("image", "table/gate"))
    sections += _data(t)
    figures: tuple[str, ...] = ("table/performance",) if t.names("model.per_finding") else ()
    if t.names("model.subgroups"):
        figures += ("table/subgroups",)
    sections += t.section(said("auditor.model"), _model(t), figures=figures)
    figures = ("table/findings", "table/failed")
    sections += t.section(said("auditor.prediction"), _prediction(t), figures=figures)
    logged = [t.say(f"auditor.{key}") for key in ("logged", "input", "same")]
    sections += t.section(said("auditor.log"), logged, figures=("table/provenance",))
    return tuple(sections)


def _domain(t: Teller) -> list[list[Sentence]]:
    gate = t.facts.gate
    asked = [name for name, check in gate.items() if check.passed is not None]
    failed = [name for name in asked if not gate[name].passed]
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
        keys = ("synthetic",) if item.get("synthetic") else ("trained_patients", "trained", "trained_unlicensed")
        lines.append(next((line for key in keys if (line := t.say(f"auditor.{key}", {"I": str(i)}))), []))
    return t.section(t.words.heading("auditor.data"), lines, figures=("table/trained_on",)) if sets else []


def _model(t: Teller) -> list[list[Sentence]]:
    lines = [t.say("auditor.name")]
    lines += [t.say("auditor.limit", {"I": str(i)}) for i in range(len(t.value("model.limits") or ()))]
    lines += [t.say(f"auditor.{key}") for key in ("cannot_see", "outlines", "report")]
    if t.names("model.subgroups"):
        lines.append(t.say("auditor.groups"))
    lines += [gaps(t, "auditor"), *t.lacks("gap")]
    unmeasured = [name for name in t.facts.findings if t.value(f"model.per_finding.{name}.auroc") is None]
    if unmeasured:
        names = t.words.listed(map(t.named, unmeasured))
        cites = [f"findings.{name}.threshold" for name in unmeasured]
        lines.append(t.say("auditor.no_figures", cites=cites, slots={"names": names}))
    return lines


def _prediction(t: Teller) -> list[list[Sentence]]:
    lines = tiers(t, "auditor")
    counts = t.facts.counts
    for outcome in ("passed", "failed", "unasked"):
        if number := getattr(counts, f"checks_{outcome}"):
            slots = {"count": str(number)}
            lines.append(t.say(f"auditor.checks_{outcome}", cites=[f"counts.checks_{outcome}"], slots=slots))
    lines += failed_checks(t, "auditor")
    against = [name for name in t.facts.findings if t.value(f"checks.{name}.report.report_agrees.passed") is False]
    if against:
        cites = [f"checks.{name}.report.report_agrees.passed" for name in against]
        lines.append(t.say("auditor.report_contradicts", cites=cites, slots={"names": t.words.listed(map(t.named, against))}))
    lines += withheld_maps(t, "auditor")
    if t.facts.heatmaps and not counts.maps_withheld:
        lines.append(t.say("auditor.nothing_withheld"))
    if t.facts.counterfactuals:
        lines.append(t.say("auditor.what_if"))
    return [*lines, learned_tested(t), t.say("auditor.near") if t.value("neighbours") is not None else []]
