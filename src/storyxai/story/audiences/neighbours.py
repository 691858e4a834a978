"""What stories say of the images most like this one."""

from __future__ import annotations

from storyxai.story.teller import Teller
from storyxai.types import Section, Sentence


def near_sentence(t: Teller, finding: str, audience: str) -> list[Sentence]:
    """How many of the most similar images had the finding, against all; empty where nobody knows of either."""
    if t.value("neighbours") is None or not t.value(f"neighbours.findings.{finding}.known"):
        return []
    whole = t.value(f"neighbours.findings.{finding}.known") == t.value("neighbours.count")
    return t.say(f"{audience}.near" if whole else f"{audience}.near_known", {"F": finding})


def near_section(t: Teller) -> list[Section]:
    """The practitioner's section: counts and similarity to the mean image with and without each finding."""
    if t.value("neighbours") is None:
        return []
    lines = [t.say("practitioner.near_what")]
    for name in t.mapped():
        lines += [near_sentence(t, name, "practitioner"), t.say("practitioner.near_prototypes", {"F": name})]
    return t.section(t.words.heading("practitioner.near_heading"), lines)
