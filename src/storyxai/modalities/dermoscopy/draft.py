"""A draft report of dermoscopy read back into what it states, so that other languages can say it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from storyxai.modalities.dermoscopy.grammar import ABSENT, BENIGN, COMMON, NEGATED, NEGATIVE, PRESENT
from storyxai.modalities.sentences import tokenize
from storyxai.types import NO_REMARK, Remark

_FIXED: Final[Mapping[str, tuple[str, ...]]] = {
    "draft_asymmetric": PRESENT["Asymmetry"],
    "draft_symmetric": ABSENT["Asymmetry"],
    "draft_network_typical": ABSENT["Atypical_Network"][1:],
    "draft_melanoma": PRESENT["Melanoma"],
    "draft_naevus": PRESENT["Atypical_Naevus"],
    "draft_benign": BENIGN,
    "draft_common": COMMON,
}
"""Sentences that say more, or say it otherwise, than that a finding is there."""
_LIST_END = re.compile(r" or |, ")


def read_draft(sentences: Sequence[str]) -> tuple[Remark, ...]:
    """What each sentence of a draft states, as a remark; one without a code where the grammar has no such sentence."""
    return tuple(map(_read, sentences))


def _read(sentence: str) -> Remark:
    text = _plain(sentence)
    fixed = next((code for code, phrases in _FIXED.items() if text in map(_plain, phrases)), "")
    return Remark(fixed) if fixed else _present(text) or _absent(text)


def _plain(text: str) -> str:
    """The text in small letters, without its full stop."""
    return " ".join(token for token in tokenize(text) if token != ".").replace(" ,", ",")


def _present(text: str) -> Remark:
    found = next((name for name, phrases in PRESENT.items() if text in map(_plain, phrases)), "")
    return Remark("draft_present", {"finding": found}) if found else NO_REMARK


def _absent(text: str) -> Remark:
    nouns = {noun: name for name, noun in NEGATED.items()} | {"atypical network": "Atypical_Network"}
    for template in NEGATIVE:
        start = f"{_plain(template.format(list=''))} "
        # "dots or globules" is one noun: its "or" ends no item of the list.
        listed = text.removeprefix(start).replace(NEGATED["Dots_Globules"], "dots")
        names = [{**nouns, "dots": "Dots_Globules"}.get(noun, "") for noun in _LIST_END.split(listed)]
        if text.startswith(start) and all(names):
            return Remark(f"draft_absent_{len(names)}", dict(zip("abcd", names, strict=False)))
    return NO_REMARK
