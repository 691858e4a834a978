"""What stories say of the concepts that a model was tested for."""

from __future__ import annotations

from storyxai.story.teller import Teller
from storyxai.types import Section, Sentence

VERDICTS = ("rests_on", "speaks_against", "chance", "unseen")
IN_WORDS = ("rests_on", "chance")
"""What a clinician is told, and only where the finding rests on something."""
IN_WORDS_FROM = 0.5
"""Of what a finding rests on, a clinician is told what has at least this share of the strongest one's effect."""


def learned_section(t: Teller) -> list[Section]:
    """The practitioner's section: each concept's share of images with its p-value, or what random sets reach."""
    lines = []
    for finding in (one for one in t.mapped() if t.names(f"learned.{one}")):
        for verdict in VERDICTS:
            lines.append(_line(t, finding, verdict, "practitioner", numbers=verdict != "unseen"))
        grows = [name for name in t.names(f"learned.{finding}") if (t.value(f"learned.{finding}.{name}.here") or 0) > 0]
        if grows:
            cites = [f"learned.{finding}.{name}.{leaf}" for name in grows for leaf in ("name", "here")]
            slots = {"names": t.words.listed(_named(t, finding, name) for name in grows)}
            lines.append(t.say("practitioner.learned_here", {"F": finding}, cites=cites, slots=slots))
    return t.section(t.words.heading("practitioner.learned"), [*lines, t.say("practitioner.learned_how")] if lines else [])


def learned_in_words(t: Teller, finding: str) -> list[list[Sentence]]:
    """What the finding rests on, in words, and what it was tested for besides; empty where it rests on nothing known."""
    lines = [_line(t, finding, verdict, "clinician", numbers=False) for verdict in IN_WORDS]
    return lines if lines[0] else []


def learned_tested(t: Teller) -> list[Sentence]:
    """How many results of tested concepts stand in the record."""
    paths = [f"learned.{f}.{name}.p_value" for f in t.names("learned") for name in t.names(f"learned.{f}")]
    return t.say("auditor.learned", cites=paths, slots={"count": t.words.counted(len(paths))}) if paths else []


def _line(t: Teller, finding: str, verdict: str, audience: str, *, numbers: bool) -> list[Sentence]:
    names = [name for name in t.names(f"learned.{finding}") if t.value(f"learned.{finding}.{name}.verdict") == verdict]
    names.sort(key=lambda name: (-_effect(t, finding, name), name))
    if audience == "clinician" and verdict == "rests_on":
        names = [name for name in names if _effect(t, finding, name) >= IN_WORDS_FROM * _effect(t, finding, names[0])]
    if not names:
        return []
    leaves = ("score", "chance_low", "chance_high") if verdict == "chance" else ("effect", "score", "p_value")
    used = ("name", "verdict", *(leaves if numbers else ()))
    cites = [f"learned.{finding}.{name}.{leaf}" for name in names for leaf in used]
    told = [_with_numbers(t, finding, name, verdict) if numbers else _named(t, finding, name) for name in names]
    return t.say(f"{audience}.learned_{verdict}", {"F": finding}, cites=cites, slots={"names": t.words.listed(told)})


def _effect(t: Teller, finding: str, name: str) -> float:
    return abs(float(t.value(f"learned.{finding}.{name}.effect")))


def _named(t: Teller, finding: str, name: str) -> str:
    return t.words.word("learned_concept", str(t.value(f"learned.{finding}.{name}.name")))


def _with_numbers(t: Teller, finding: str, name: str, verdict: str) -> str:
    path, joins = f"learned.{finding}.{name}", t.words.file.joins
    score, p, low, high = (
        t.words.printed(t.value(f"{path}.{leaf}"), "decimal") for leaf in ("score", "p_value", "chance_low", "chance_high")
    )
    effect = t.words.printed(t.value(f"{path}.effect"), "signed")
    form = joins.learned_chance if verdict == "chance" else joins.learned
    return form.format(name=_named(t, finding, name), effect=effect, score=score, p=p, low=low, high=high)
