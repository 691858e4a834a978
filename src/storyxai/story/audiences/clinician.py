"""The clinician's story: the bottom line first, then the evidence of each named finding, then all that stands behind it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from storyxai.evidence.formats import BOXED
from storyxai.evidence.paths import figure_name
from storyxai.modalities.words import ASKED_FIRST, MEASURED, OF_A_PART
from storyxai.story.audiences.learned import learned_in_words
from storyxai.story.audiences.neighbours import near_sentence
from storyxai.story.audiences.practitioner import map_trust, only_synthetic, smallest_change
from storyxai.story.teller import Teller
from storyxai.story.words import DRAFTED_IN
from storyxai.types import Section, Sentence, of_unknown_kind

COUNTERFACTUALS_TOLD = 2
FEW_POSITIVES = 20
"""Measured on fewer images with the finding, sensitivity says little."""
MIN_SHARE_TOLD = 0.4
"""A part of a structure is named as the place of a map only when it holds at least this share of it."""
MOST_ZONES = 2
"""A finding in more zones than these is told by its side alone in the bottom line."""
SURE = 0.005
"""So close to 0 or 1 a whole number in a hundred would be 0 or 100."""
WARNINGS_FIRST = 2
"""Warnings about the image that stand in the bottom line; the others stand with the image."""


def clinician_sections(t: Teller) -> tuple[Section, ...]:
    """The sections of the clinician's story."""
    said = t.words.heading
    sections = t.section(said("clinician.bottom"), _bottom_line(t))
    for name in t.told():
        sections += _finding(t, name)
    sections += _others(t)
    sections += t.section(said("clinician.quality"), _quality(t), figures=_first_figures(t))
    sections += t.section(said("clinician.measures"), _measured(t))
    draft = _report(t)
    sections += t.section(said("clinician.report_heading"), draft, figures=("table/report",) if draft else ())
    limits = [t.say("clinician.limit", {"I": str(i)}) for i in range(len(t.value("model.limits") or ()))]
    limits = [t.say("clinician.cannot_see"), *t.lacks("gap"), *limits, t.say("clinician.devices")]
    sections += t.section(said("clinician.limits"), limits)
    sections += t.section(said("clinician.model"), [t.say("clinician.version"), t.say("clinician.research")])
    return tuple(sections)


def _bottom_line(t: Teller) -> list[list[Sentence]]:
    """What a colleague would say: the claim, how sure, where, what else it may be, what speaks against it, what next."""
    warnings, _ = _warnings(t)
    after = [only_synthetic(t, "clinician"), t.say("clinician.next")]
    if t.value("doubts"):
        return [*_not_to_be_relied_on(t, warnings), *after]
    lines = [*_unnamed(t), *_doubt(t, _lead(t))] if t.told() else _unnamed(t)
    return [*_verdict(t), *warnings, *lines, *after]


def _not_to_be_relied_on(t: Teller, warnings: Sequence[list[Sentence]] = ()) -> list[list[Sentence]]:
    """Where the image lies far from training, or was forced past the gate, no number is worth its name: none is told first."""
    cites = [*_tier_paths(t.facts.findings), "doubts"]
    lines = [t.say("clinician.cannot_any", cites=cites), *warnings]
    # Far from training is no refusal: with nothing else in doubt it would have been told without force.
    if t.value("provenance.settings.forced") and any(not t.facts.gate[name].warns for name in t.facts.doubts):
        lines.append(t.say("clinician.forced"))
    return lines


def _nothing_named(t: Teller) -> list[list[Sentence]]:
    """That nothing stands out, or that the model cannot tell of anything."""
    unlikely, findings = t.findings_of("unlikely"), t.facts.findings
    if not unlikely:
        return [t.say("clinician.cannot_any", cites=_tier_paths(findings))]
    key = "scores_low" if not t.calibrated else "normal_all" if len(unlikely) == len(findings) else "normal"
    slots = {"count": t.words.counted(len(unlikely))}
    return [t.say(f"clinician.{key}", cites=_tier_paths(unlikely), slots=slots)]


def _lead(t: Teller) -> str:
    """The finding that carries the verdict: the likeliest one that is not left open, else the likeliest."""
    return next((name for name in t.told() if t.tier(name) != "cannot_tell"), t.told()[0])


def _verdict(t: Teller) -> list[list[Sentence]]:
    """A sentence a tier, the likeliest first; the first one carries the verdict."""
    if not t.told():
        return _nothing_named(t)
    lines: list[list[Sentence]] = []
    for tier in ("likely", "possible", "cannot_tell"):
        if found := [name for name in t.told() if t.tier(name) == tier]:
            key = f"{'also' if lines else 'verdict'}_{tier}" if t.calibrated else "scores_high"
            items = [_item(t, name, first=not lines and name == found[0]) for name in found]
            cites = [path for name, (_, paths) in zip(found, items, strict=True) for path in (*_tier_paths([name]), *paths)]
            names = t.words.listed(text for text, _ in items)
            lines.append(t.say(f"clinician.{key}", cites=cites, slots={"names": names}))
    return lines


def _item(t: Teller, name: str, *, first: bool) -> tuple[str, list[str]]:
    """ "mass in the right lower zone (about 83 in 100 such images have it)", and the paths that it states."""
    path, joins = f"findings.{name}.probability", t.words.file.joins
    if t.calibrated and t.tier(name) == "cannot_tell":
        return t.within(name), []  # a number and a place would say what the sentence says that nobody knows
    place, paths = _short_place(t, name)
    value = t.value(path)
    if not t.calibrated:
        number = t.words.printed(value, "decimal")
    elif first or not SURE <= value < 1 - SURE:
        number = t.words.printed(value, "in_100")
    else:
        number = joins.of_hundred.format(t.words.printed(value, "of_100"))
    form = joins.item_first if first and t.calibrated else joins.item
    return form.format(name=t.within(name), place=place, number=number), [path, *paths]


def _short_place(t: Teller, name: str) -> tuple[str, list[str]]:
    """Where a map that is not in doubt says that the finding is, and the path that says so; nothing where nobody knows."""
    if not t.placed(name) or not t.value(f"terms.{name}.focal") or t.side_doubts():
        return "", []
    zones, side = f"concepts.{name}.zones.value", f"concepts.{name}.side.value"
    joins = t.words.file.joins
    if (found := t.value(zones)) and len(str(found).split(", ")) <= MOST_ZONES:
        return joins.in_zone.format(t.words.printed(found, "zones")), [zones]
    if found := t.value(side):
        return joins.on_side.format(t.words.word("side", str(found))), [side]
    return "", []


def _unnamed(t: Teller) -> list[list[Sentence]]:
    """How many findings of a tier that a reader acts on stand in the table alone; where that is, is said once."""
    lines: list[list[Sentence]] = []
    for tier in ("likely", "possible", "cannot_tell"):
        if rest := [name for name in t.findings_of(tier) if name not in t.told()]:
            key = "more_scored" if tier == "likely" and not t.calibrated else f"{'rest' if lines else 'more'}_{tier}"
            slots = {"count": t.words.counted(len(rest))}
            lines.append(t.say(f"clinician.{key}", cites=_tier_paths(rest), slots=slots))
    if t.told() and t.calibrated:
        asked = [name for name in t.words.file.tables.get(ASKED_FIRST, {}) if name in t.findings_of("unlikely")]
        room = len(t.told()) < len(t.facts.findings) and len(t.told()) < MOST_WITH_ASKED
        lines += [t.say("clinician.asked_first", {"F": name}) for name in asked[:1] if room]
    return lines


MOST_DIFFERING = 2
"""With more findings on which the draft differs, none of them is named in the bottom line."""
MOST_WITH_ASKED = 5
"""With so many named findings no other is named, not even the one that is asked first."""


def _doubt(t: Teller, name: str) -> list[list[Sentence]]:
    """What else the first named finding may be, and what speaks against it or its place."""
    lines = [t.say("clinician.look_alikes", {"F": name}) if t.tier(name) != "cannot_tell" else []]
    agreed, withheld = _agreed(t, name), t.maps(name, shown=False)
    apart = [agreed] if agreed and not t.value(agreed) else []
    hidden = [f"heatmaps.{name}.{method}.shown" for method in withheld if not t.maps(name, shown=True)]
    if apart or hidden:
        key = "short_apart" if apart and hidden else "short_disagree" if apart else "short_no_map"
        lines.append(t.say(f"clinician.{key}", {"F": name}, cites=[*apart, *hidden]))
    return [*lines, _draft_differs(t)]


def _draft_differs(t: Teller) -> list[Sentence]:
    """On which findings the draft report says what the numbers speak against; of many, that they are several."""
    against = [name for name in t.facts.findings if t.value(_report_path(name)) is False]
    if not against:
        return []
    key = "short_report" if len(against) <= MOST_DIFFERING else "short_report_many"
    slots = {"names": t.words.listed(t.within(name) for name in against)}
    return t.say(f"clinician.{key}", cites=[_report_path(name) for name in against], slots=slots)


def _warnings(t: Teller) -> tuple[list[list[Sentence]], list[list[Sentence]]]:
    """What is wrong with the image, first what the gate refuses it for: what stands in the bottom line, and the others.

    Of warnings that advise the same one stands in the bottom line.
    """
    failed = [name for name, check in t.facts.gate.items() if check.passed is False]
    failed.sort(key=lambda name: t.facts.gate[name].warns)
    advice = {t.words.own.get(f"{name}.mend", name): name for name in reversed(failed)}  # the first of each is kept
    first = [name for name in failed if name in advice.values()][:WARNINGS_FIRST]
    others = [name for name in failed if name not in first]
    told = [[t.say("clinician.gate_failed", {"G": name}) for name in names] for names in (first, others)]
    return told[0], told[1]


def _quality(t: Teller) -> list[list[Sentence]]:
    person = next((line for key in ("patient", "patient_sex", "patient_age") if (line := t.say(f"clinician.{key}"))), [])
    lines = [*_warnings(t)[1], t.say("clinician.file"), person]
    lines.append(t.say("clinician.indication") if t.value("study.indication") else [])
    view = t.value("study.image.view")
    lines.append(t.say("clinician.view_ap" if view == "AP" else "clinician.view_known" if view not in (None, "", "unknown")
                       else "clinician.view_unknown"))  # fmt: skip
    if t.value("study.image.spacing_mm") is None:
        lines.append(t.say("clinician.spacing_unknown"))
    else:
        lines.append(t.say("clinician.spacing"))
        if t.value("study.image.spacing_kind") == "detector":
            lines.append(t.say("clinician.spacing_detector"))
    lines += [t.say("clinician.note", {"I": str(i)}) for i in range(len(t.value("study.image.notes") or ()))]
    asked = [name for name, check in t.facts.gate.items() if check.passed is not None]
    if asked and all(t.facts.gate[name].passed for name in asked):
        cites = [f"gate.{name}.passed" for name in asked]
        lines.append(t.say("clinician.gate_all", cites=cites, slots={"count": t.words.counted(len(asked))}))
    return [*lines, t.say("clinician.outline_withheld")]


def _measured(t: Teller) -> list[list[Sentence]]:
    """What the modality measures on the image: of its sentences of one number the first that can be told."""
    told: dict[int, list[Sentence]] = {}
    for key in t.words.own_sentences(MEASURED):
        number = int(key.removeprefix(MEASURED)[:-1])
        told[number] = told.get(number) or t.say(key)
    return [told[number] for number in sorted(told)]


def _first_figures(t: Teller) -> tuple[str, ...]:
    return ("image", "outlines") if any(one.area_share > 0 for one in t.facts.masks.values()) else ("image",)


def _finding(t: Teller, name: str) -> list[Section]:
    names = {"F": name}
    lines = [t.say(f"clinician.{t.tier(name)}{'' if t.calibrated else '_score'}", names), t.say("clinician.prevalence", names)]
    lines.append(t.say("clinician.operating", names))
    if lines[-1] and t.value(f"model.per_finding.{name}.positives") < FEW_POSITIVES:
        lines.append(t.say("clinician.few_positives", names))
    shown = t.maps(name, shown=True)
    lines += _place(t, name) if shown else []
    if agreed := _agreed(t, name):
        method = agreed.removeprefix(f"checks.{name}.").removesuffix(".methods_agree.passed")
        lines.append(t.say("clinician.agree" if t.value(agreed) else "clinician.disagree", {"F": name, "M": method}))
    lines += [map_trust(t, name, "clinician"), *_withheld(t, name)]
    lines += [*_what_if(t, name), smallest_change(t, name, "clinician")]
    lines += [*learned_in_words(t, name), near_sentence(t, name, "clinician")]
    told = name == _lead(t) and not t.value("doubts") and t.tier(name) != "cannot_tell"
    lines.append([] if told else t.say("clinician.look_alikes", names))
    lines.append(t.say("clinician.teacher", names))
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
    return lines if shown or not withheld else [*lines, t.say("clinician.no_place", {"F": name}, cites=cites)]


def _place(t: Teller, name: str) -> list[list[Sentence]]:
    names = {"F": name}
    lines = [t.say("clinician.place", names) or t.say("clinician.place_side", names)]
    if lines[0] and (doubts := t.side_doubts()):
        lines.append(t.say("clinician.side_doubt", names, cites=doubts))
    lines.append(t.say("clinician.inside", names))
    for key in t.words.own_sentences(OF_A_PART):
        if (t.value(f"concepts.{name}.{key.removeprefix(OF_A_PART)}.value") or 0) >= MIN_SHARE_TOLD:
            lines.append(t.say(key, names))
    if t.box_told(name):
        lines.append(t.say("clinician.box_mm", names) or t.say("clinician.box", names))
    return lines


def _agreed(t: Teller, name: str) -> str:
    """Where it stands whether another method agrees, "" where nobody asked: of a shown map, first of one that none backs."""
    shown = t.maps(name, shown=True)
    asked = {method: path for method in t.names(f"checks.{name}")
             if t.value(path := f"checks.{name}.{method}.methods_agree.passed") is not None}  # fmt: skip
    return next((asked[key] for key in sorted(asked, key=lambda key: (key not in shown, bool(t.value(asked[key]))))), "")


def _what_if(t: Teller, name: str) -> list[list[Sentence]]:
    hidden, limit = t.facts.counterfactuals.get(name, ()), t.value(f"findings.{name}.threshold")
    # A box that is not drawn on the page cannot be spoken of.
    told = [i for i in range(len(hidden)) if hidden[i].region != BOXED or t.box_told(name)]
    lines: list[list[Sentence]] = []
    filled: set[str] = set()
    for i in sorted(told, key=lambda i: (-abs(hidden[i].change), i))[:COUNTERFACTUALS_TOLD]:
        numbers = (t.value(f"findings.{name}.probability"), hidden[i].probability)
        before, after = (p >= limit for p in numbers)
        key = "what_if" if before == after else "what_if_above" if after else "what_if_below"
        if before == after and len({t.words.printed(p, "decimal") for p in numbers}) == 1:
            key = "what_if_same"
        if hidden[i].fill in filled:  # how parts are hidden is said once
            key = f"again_{key}"
        filled.add(hidden[i].fill)
        lines.append(t.say(f"clinician.{key}", {"F": name, "I": str(i)}))
    return lines


def _others(t: Teller) -> list[Section]:
    """The findings that are not named in text, in one quiet table."""
    rest = [name for name in t.facts.findings if name not in t.told()]
    unlikely = [name for name in t.findings_of("unlikely") if name not in t.told()]
    if not rest:
        return []
    lines = []
    if unlikely and t.told():
        slots = {"count": t.words.counted(len(unlikely))}
        key = "others_unlikely" if t.calibrated else "others_scored"
        lines.append(t.say(f"clinician.{key}", cites=_tier_paths(unlikely), slots=slots))
    heading = "clinician.others" if t.told() else "clinician.all_findings"
    return t.section(t.words.heading(heading), lines, figures=("table/others",))


def _report(t: Teller) -> list[list[Sentence]]:
    sentences = t.value("report.sentences") or []
    if not sentences or of_unknown_kind(t.facts.doubts):
        return []
    lines, told = [t.say("clinician.report_label")], set()
    for i, text in enumerate(sentences):
        # Where nothing is to be relied on, no number can agree with the draft or speak against it.
        spoken = [] if t.value("doubts") else [name for name in t.facts.findings if _speaks_of(t, i, text, name)]
        told.update(spoken)
        lines.append(_report_line(t, i, spoken))
    against = [name for name in t.facts.findings if t.value(_report_path(name)) is False and name not in told]
    against = [] if t.value("doubts") else against
    lines += [t.say("clinician.report_contradicts", {"F": name}) for name in against]
    return [*dict.fromkeys(map(tuple, lines)), t.say("clinician.report_score")]  # type: ignore[list-item]


def _report_line(t: Teller, index: int, spoken: list[str]) -> list[Sentence]:
    """A sentence of the draft with what the numbers say of the findings that it speaks of."""
    paths = {name: path for name in spoken if t.value(path := _report_path(name)) is not None}
    against = [name for name, path in paths.items() if not t.value(path)]
    asked = [f"checks.{name}.report.report_agrees.about" for name in spoken]
    open_ = [name for name, path in zip(spoken, asked, strict=True) if name not in paths and t.value(path)]
    for key, names, leaf in (("against", against, "passed"), ("backed", list(paths), "passed"), ("open", open_, "about")):
        if names:
            cites = [f"checks.{name}.report.report_agrees.{leaf}" for name in names]
            slots = {"names": t.words.listed(map(t.within, names))}
            return t.say(f"clinician.{_draft_key(t, index)}_{key}", {"I": str(index)}, cites=cites, slots=slots)
    return t.say(f"clinician.{_draft_key(t, index)}", {"I": str(index)})


def _draft_key(t: Teller, index: int) -> str:
    """A sentence of the draft is quoted in the language it is written in; in others it is said, where it could be read."""
    stated = t.facts.report.stated
    known = index < len(stated) and bool(stated[index].code)
    return "report_said" if t.words.language != DRAFTED_IN and known else "report_line"


def _speaks_of(t: Teller, index: int, text: str, name: str) -> bool:
    """Whether a sentence of the draft was read as one about the finding, or calls it by its name or its phrase."""
    if index < len(t.facts.report.stated) and name in t.facts.report.stated[index].values.values():
        return True
    term = t.facts.terms[name]
    bare = re.sub(r"^(an?|the) ", "", term.phrase)
    return any(re.search(rf"(?<!\w){re.escape(one)}(?!\w)", text, re.IGNORECASE) for one in (name.replace("_", " "), bare))


def _report_path(name: str) -> str:
    return f"checks.{name}.report.report_agrees.passed"


def _tier_paths(names: Iterable[str]) -> list[str]:
    return [f"findings.{name}.tier" for name in names]


def _claim(t: Teller) -> list[list[Sentence]]:
    """What the bottom line claims: what is named, that nothing is, or that nothing here is to be relied on."""
    if t.value("doubts"):
        return _not_to_be_relied_on(t)
    return _verdict(t) if t.told() else [*_verdict(t), *_unnamed(t)]


def _others_counted(t: Teller) -> list[list[Sentence]]:
    """How many more findings stand in the table; nothing where the claim has left all of them open."""
    return [] if t.value("doubts") else _unnamed(t)


def _watch(t: Teller) -> list[list[Sentence]]:
    """What speaks against the claim or stands beside it: other readings, maps that failed, warnings about the image."""
    first, others = _warnings(t)
    if t.value("doubts") or not t.told():
        return [*first, *others]
    return [*first, *others, *_doubt(t, _lead(t)), *_unnamed(t)]


BLOCKS: Final[Mapping[str, Callable[[Teller], list[list[Sentence]]]]] = {
    "claim": _claim, "watch": _watch, "image": _quality, "report": _report, "others": _others_counted,
}
"""Parts of this story that a reader's own file can take whole."""
