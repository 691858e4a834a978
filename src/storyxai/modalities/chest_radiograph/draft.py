"""A draft report read back into what it states, so that other languages can say it: the grammar's sentences, turned round."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import Final

from storyxai.modalities.chest_radiograph import grammar
from storyxai.modalities.sentences import plain
from storyxai.types import NO_REMARK, Remark

MOST_ABSENT: Final = 4
"""Findings that one sentence may call absent; one with more is quoted as it stands."""
_FIXED: Final = {
    "draft_heart_normal": grammar.HEART_NORMAL, "draft_lungs_clear": grammar.LUNGS_CLEAR,
    "draft_otherwise_clear": grammar.OTHERWISE_CLEAR, "draft_portable": grammar.PORTABLE,
    "draft_normal": grammar.CONCLUSION_NORMAL, "draft_pacemaker": grammar.DEVICE_PHRASES["pacemaker"],
    "draft_central_line": grammar.DEVICE_PHRASES["central line"],
}
_SLOT = re.compile(r"\{(\w+)\}")
_LIST_END = re.compile(r" or |, ")


def read_draft(sentences: Sequence[str]) -> tuple[Remark, ...]:
    """What each sentence of a draft states, as a remark; one without a code where the grammar has no such sentence."""
    return tuple(map(_read, sentences))


def _read(sentence: str) -> Remark:
    text = plain(sentence)
    if code := next((code for code, phrases in _FIXED.items() if text in map(plain, phrases)), ""):
        return Remark(code)
    return _absent(text) or _present(text)


def _absent(text: str) -> Remark:
    nouns = {noun: name for name, noun in grammar.NEGATED_NOUN.items()}
    for template in grammar.NEGATIVE:
        start = plain(template.format(list=""))
        listed = text.removeprefix(f"{start} ").replace(" ,", ",")
        names = [nouns.get(noun.strip(), "") for noun in _LIST_END.split(listed)]
        if listed != text and all(names) and len(names) <= MOST_ABSENT:
            return Remark(f"draft_absent_{len(names)}", dict(zip("abcd", names, strict=False)))
    return NO_REMARK


def _present(text: str) -> Remark:
    for name, template in ((name, template) for name, templates in _longest_first() for template in templates):
        if found := _pattern(template).fullmatch(f"{text} "):
            given = {slot: value for slot, value in found.groupdict().items() if value}
            grade = _grade(given)
            place = _place_of(given, bilateral=name.endswith("/bilateral"))
            known = {part: value for part, value in (("place", place), ("grade", grade)) if value}
            return Remark("_".join(["draft_present", *known]), {"finding": name.partition("/")[0], **known})
    return NO_REMARK


def _grade(given: dict[str, str]) -> str:
    words = {"amount": {word: word for word in grammar.SEVERITY_WORDS},
             "adverb": {word: name for name, word in grammar.ADVERB.items()},
             "size": {word: name for name, word in grammar.SIZE.items()}}  # fmt: skip
    return next((words[slot][given[slot]] for slot in words if slot in given), "")


def _place_of(given: dict[str, str], *, bilateral: bool) -> str:
    """Where, as the zones are named on record: "right upper", "bilateral", "lower"."""
    if said := given.get("adjective"):
        return said.removesuffix(" zone")
    if said := given.get("place"):
        return _places()[said]
    return "bilateral" if bilateral else ""


@lru_cache(maxsize=1)
def _places() -> dict[str, str]:
    """Every place behind a noun, by what it says."""
    found: dict[str, str] = {}
    for side in filter(None, grammar.SIDE_WORDS):
        for zone in grammar.ZONE_WORDS:
            at = f"{side} {zone}".strip()
            if side == "bilateral":
                found |= {f"in both {zone} zones": at} if zone else {"on both sides": at, "in both lungs": at}
            else:
                found |= {f"in the {at} zone": at} if zone else {f"on the {side}": at, f"in the {side} lung": at}
    return found | {f"in the {zone} zone": zone for zone in grammar.ZONE_WORDS if zone}


def _longest_first() -> Iterator[tuple[str, Sequence[str]]]:
    """What is said of both sides goes before what may be said of one."""
    yield from sorted(grammar.PRESENT.items(), key=lambda item: "/" not in item[0])


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """The template's words, each with the space behind it, its slots filled or left out."""
    zones, sides = "|".join(filter(None, grammar.ZONE_WORDS)), "|".join(filter(None, grammar.SIDE_WORDS))
    kinds = {
        "amount": "|".join(filter(None, grammar.SEVERITY_WORDS)), "adverb": "|".join(filter(None, grammar.ADVERB.values())),
        "size": "|".join(filter(None, grammar.SIZE.values())), "place": "|".join(sorted(_places(), key=len, reverse=True)),
        "adjective": f"(?:{sides})(?: (?:{zones}) zone)?|(?:{zones}) zone",
    }
    parts = []
    for word in template.rstrip(".").split():
        slot = _SLOT.fullmatch(word)
        parts.append(f"(?:(?P<{slot[1]}>{kinds[slot[1]]}) )?" if slot else f"{re.escape(word.casefold())} ")
    return re.compile("".join(parts))
