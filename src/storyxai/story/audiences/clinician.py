"""The clinician's story: what is judged, how surely, where, what would change it, and what the model cannot tell."""

from __future__ import annotations

from storyxai.evidence.record import figure_name
from storyxai.story.words import Teller
from storyxai.types import Section, Sentence

__all__ = ["clinician_sections"]

LITTLE = 0.05
"""A change of probability below this, on one side of the threshold, is not what would change the answer."""
COUNTERFACTUALS_TOLD = 2
BOXED = "the boxed area"
"""How counterfactuals call the strongest box of their finding."""
FEW_POSITIVES = 20
"""Measured on fewer images with the finding, sensitivity says little."""
FEWER_THAN_HALF = 0.495
"""Below it 49 in 100 or fewer is printed, so that "more lack it than show it" is not said beside "about 50 in 100"."""
MIN_SHARE_TOLD = 0.4
"""A part of the lung is named as the place of a map only when it holds at least this share of it."""


def clinician_sections(t: Teller) -> tuple[Section, ...]:
    """The sections of the clinician's story."""
    said = t.words.heading
    sections = t.section(said("clinician.in_short"), _in_short(t))
    sections += t.section(said("clinician.quality"), _quality(t), figures=_first_figures(t))
    for name in t.told():
        sections += _finding(t, name)
    sections += _in_brief(t)
    sections += _absent(t)
    ratio = t.say("clinician.ctr") or t.say("clinician.ctr_plain") or t.say("clinician.ctr_none")
    measures = [ratio, t.say("clinician.asymmetry"), t.say("clinician.lungs_drawn")]
    sections += t.section(said("clinician.measures"), measures)
    sections += t.section(said("clinician.report_heading"), _report(t))
    limits = [t.say("clinician.limit", {"I": str(i)}) for i in range(len(t.value("model.limits") or ()))]
    limits = [t.say("clinician.cannot_see"), *t.lacks("gap"), *limits, t.say("clinician.devices")]
    sections += t.section(said("clinician.limits"), limits)
    sections += t.section(said("clinician.model"), [t.say("clinician.version"), t.say("clinician.research")])
    return tuple(sections)


def _in_short(t: Teller) -> list[list[Sentence]]:
    lines = []
    for state in ("present", "indeterminate"):
        if found := t.findings_by_state(state):
            lines.append(_listed(t, f"clinician.short_{state}", found, numbers=True))
    if not t.findings_by_state("present"):
        lines.append(t.say("clinician.short_none", cites=["findings"]))
    return [*lines, *_warnings(t), t.say("clinician.short_read")]


def _listed(t: Teller, key: str, found: list[str], *, numbers: bool = False) -> list[Sentence]:
    """One sentence about several findings, each with its probability where `numbers` are wanted."""
    cites = [f"findings.{name}.state" for name in found]
    named = [t.named(name) for name in found]
    if numbers:
        paths = [f"findings.{name}.probability" for name in found]
        named = [f"{name} ({t.words.printed(t.value(path), 'decimal')})" for name, path in zip(named, paths, strict=True)]
        cites += paths
    return t.say(key, cites=cites, slots={"names": t.words.listed(named)})


def _warnings(t: Teller) -> list[list[Sentence]]:
    failed = [name for name, check in t.record["gate"].items() if check["passed"] is False]
    lines = [t.say("clinician.gate_failed", {"G": name}) for name in failed]
    if doubts := t.side_doubts():
        lines.append(t.say("clinician.sides_doubt", cites=doubts))
    if t.value("study.image.view") == "AP":
        lines.append(t.say("clinician.view_ap"))
    return lines


def _quality(t: Teller) -> list[list[Sentence]]:
    person = next((line for key in ("patient", "patient_sex", "patient_age") if (line := t.say(f"clinician.{key}"))), [])
    lines = [t.say("clinician.file"), person, t.say("clinician.indication") if _asked(t) else []]
    known = t.value("study.image.view") not in (None, "", "unknown")
    lines.append(t.say("clinician.view_known" if known else "clinician.view_unknown"))
    if t.value("study.image.spacing_mm") is None:
        lines.append(t.say("clinician.spacing_unknown"))
    else:
        lines.append(t.say("clinician.spacing"))
        if t.value("study.image.spacing_kind") == "detector":
            lines.append(t.say("clinician.spacing_detector"))
    lines += [t.say("clinician.note", {"I": str(i)}) for i in range(len(t.value("study.image.notes") or ()))]
    asked = [name for name, check in t.record["gate"].items() if check["passed"] is not None]
    if asked and all(t.record["gate"][name]["passed"] for name in asked):
        cites = [f"gate.{name}.passed" for name in asked]
        lines.append(t.say("clinician.gate_all", cites=cites, slots={"count": str(len(asked))}))
    return [*lines, t.say("clinician.prior")]


def _asked(t: Teller) -> bool:
    return bool(t.value("study.indication"))


def _first_figures(t: Teller) -> tuple[str, ...]:
    return ("image", "lungs") if t.record["masks"] else ("image",)


def _finding(t: Teller, name: str) -> list[Section]:
    names = {"F": name}
    state = t.value(f"findings.{name}.state")
    if t.calibrated:
        lines = [t.say(f"clinician.{key}", names) for key in (state, "in_patients")]
    else:
        lines = [t.say(f"clinician.{state}_score", names)]
    if t.calibrated and state == "present" and t.value(f"findings.{name}.probability") < FEWER_THAN_HALF:
        lines.append(t.say("clinician.below_half", names))
    lines.append(t.say("clinician.operating", names))
    if lines[-1] and t.value(f"model.per_finding.{name}.positives") < FEW_POSITIVES:
        lines.append(t.say("clinician.few_positives", names))
    shown = t.maps(name, shown=True)
    lines += _place(t, name) if shown else []
    lines += _agreement(t, name)
    lines += _withheld(t, name)
    lines += _what_if(t, name)
    lines += [t.say("clinician.look_alikes", names), t.say("clinician.teacher", names)]
    # Where every map is withheld the sentence says so; empty frames beside the film once more would say nothing else.
    figures = t.map_figures(name) if shown else []
    return t.section(t.named(name), lines, figures=(figure_name("gauge", name), *figures))


def _withheld(t: Teller, name: str) -> list[list[Sentence]]:
    """Which maps are withheld and why, in one sentence where no map is shown and one reason holds for all."""
    withheld, shown = t.maps(name, shown=False), t.maps(name, shown=True)
    cites = [f"heatmaps.{name}.{method}.shown" for method in withheld]
    if not shown and len(t.methods_by_reason(name)) == 1:
        return [t.say("clinician.all_withheld", {"F": name, "M": withheld[0]}, cites=cites)]
    lines = [t.say("clinician.withheld", {"F": name, "M": method}) for method in withheld]
    return lines if shown or not withheld else [*lines, t.say("clinician.no_place", cites=cites)]


def _place(t: Teller, name: str) -> list[list[Sentence]]:
    names = {"F": name}
    lines = [t.say("clinician.place", names) or t.say("clinician.place_side", names)]
    if lines[0] and (doubts := t.side_doubts()):
        lines.append(t.say("clinician.side_doubt", cites=doubts))
    lines.append(t.say("clinician.inside", names))
    for part in ("costophrenic", "perihilar"):
        if (t.value(f"concepts.{name}.{part}.value") or 0) >= MIN_SHARE_TOLD:
            lines.append(t.say(f"clinician.{part}", names))
    if t.box_told(name):
        lines.append(t.say("clinician.box_mm", names) or t.say("clinician.box", names))
    return lines


def _agreement(t: Teller, name: str) -> list[list[Sentence]]:
    """Whether the methods agree, once: the check is the same seen from either method."""
    for method in t.names(f"checks.{name}"):
        passed = t.value(f"checks.{name}.{method}.methods_agree.passed")
        if passed is not None:
            return [t.say("clinician.agree" if passed else "clinician.disagree", {"F": name, "M": method})]
    return []


def _what_if(t: Teller, name: str) -> list[list[Sentence]]:
    hidden, limit = t.record["counterfactuals"].get(name, []), t.value(f"findings.{name}.threshold")
    # A box that is not drawn on the page cannot be spoken of.
    told = [i for i in range(len(hidden)) if hidden[i]["region"] != BOXED or t.box_told(name)]
    lines = []
    for i in sorted(told, key=lambda i: (-abs(hidden[i]["change"]), i))[:COUNTERFACTUALS_TOLD]:
        numbers = (t.value(f"findings.{name}.probability"), hidden[i]["probability"])
        before, after = (p >= limit for p in numbers)
        key = "what_if" if before == after else "what_if_above" if after else "what_if_below"
        if key == "what_if" and abs(numbers[0] - numbers[1]) < LITTLE:
            key = "what_if_little"
        if before == after and len({t.words.printed(p, "decimal") for p in numbers}) == 1:
            key = "what_if_same"
        lines.append(t.say(f"clinician.{key}", {"F": name, "I": str(i)}))
    return lines


def _in_brief(t: Teller) -> list[Section]:
    """Indeterminate findings that the story does not dwell on."""
    rest = [name for name in t.findings_by_state("indeterminate") if name not in t.told()]
    if not rest:
        return []
    lines = [_listed(t, "clinician.brief_list", rest)]
    return t.section(t.words.heading("clinician.brief_heading"), lines, figures=("table/brief",))


def _absent(t: Teller) -> list[Section]:
    absent = t.findings_by_state("absent")
    if not absent:
        return []
    lines = [_listed(t, "clinician.absent_list", absent), t.say("clinician.absent_meaning")]
    return t.section(t.words.heading("clinician.absent_heading"), lines, figures=("table/absent",))


def _report(t: Teller) -> list[list[Sentence]]:
    sentences = t.value("report.sentences") or []
    if not sentences:
        return []
    lines = [t.say("clinician.report_label")]
    lines += [t.say("clinician.report_line", {"I": str(i)}) for i in range(len(sentences))]
    lines.append(t.say("clinician.report_score"))
    for name in t.record["findings"]:
        if t.value(f"checks.{name}.report.report_agrees.passed") is False:
            lines.append(t.say("clinician.report_contradicts", {"F": name}))
    return lines
