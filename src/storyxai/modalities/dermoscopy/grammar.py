"""Reports of dermoscopy: a sentence for each criterion in the order of a reading, and the rules that read them again.

A finding that is not mentioned is not known; a report that is written from labels mentions every one that they state.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from storyxai.modalities.dermoscopy.findings import NAMES
from storyxai.modalities.sentences import Grammar, either, pick

MAX_TOKENS = 63
ORDER = (
    "Asymmetry",
    "Atypical_Network",
    "Dots_Globules",
    "Streaks",
    "Regression",
    "Blue_Whitish_Veil",
    "Melanoma",
    "Atypical_Naevus",
)
PRESENT: Mapping[str, tuple[str, ...]] = {
    "Asymmetry": ("Asymmetric lesion.", "The lesion is asymmetric."),
    "Atypical_Network": ("Atypical pigment network.", "The pigment network is atypical."),
    "Dots_Globules": ("Dots and globules.", "There are dots and globules."),
    "Streaks": ("Streaks at the edge.", "There are streaks at the edge."),
    "Regression": ("Regression areas.", "There are regression areas."),
    "Blue_Whitish_Veil": ("Blue-whitish veil.", "There is a blue-whitish veil."),
    "Melanoma": ("Suspicious for melanoma.", "Findings suggest melanoma."),
    "Atypical_Naevus": ("Consistent with an atypical naevus.", "Findings suggest an atypical naevus."),
}
ABSENT: Mapping[str, tuple[str, ...]] = {
    "Asymmetry": ("Symmetric lesion.", "The lesion is symmetric."),
    "Atypical_Network": ("No atypical network.", "The pigment network is typical."),
}
NEGATED: Mapping[str, str] = {
    "Dots_Globules": "dots or globules",
    "Streaks": "streaks",
    "Regression": "regression",
    "Blue_Whitish_Veil": "veil",
}
NEGATIVE = ("No {list}.", "No evidence of {list}.")
BENIGN = ("No sign of melanoma.", "Findings do not suggest melanoma.")
COMMON = ("Common naevus.", "Consistent with a common naevus.")
_MENTION: Mapping[str, str] = {
    "Asymmetry": r"\basymmetric|\basymmetr(?:y|ical)\b",
    "Atypical_Network": r"\b(?:atypical|irregular)(?: pigment)? network\b"
    r"|network is (?:atypical|irregular)\b",
    "Dots_Globules": r"\bdots\b|\bglobules\b",
    "Streaks": r"\bstreaks\b|\bpseudopods\b",
    "Regression": r"\bregression\b",
    "Blue_Whitish_Veil": r"\bveil\b",
    "Melanoma": r"\bmelanoma\b",
    "Atypical_Naevus": r"\b(?:atypical|dysplastic|clark) n(?:ae|e)vus\b",
}
_DENIES: Mapping[str, str] = {
    "Asymmetry": r"(?<!a)\bsymmetric(?:al)?\b",
    "Atypical_Network": r"network is (?:typical|regular)\b",
    "Atypical_Naevus": r"\bcommon n(?:ae|e)vus\b",
}
_NEGATION = r"\bno\b|\bnot\b|\bwithout\b|\bfree of\b"


def write_report(labels: Mapping[str, float], rng: np.random.Generator, view: str = "") -> tuple[str, ...]:
    """Sentences that state every label: 0.5 or more is present, less is absent, nan is not mentioned.

    A picture of the skin has no `view`.
    """
    known = {name: labels[name] >= 0.5 for name in ORDER if name in labels and not math.isnan(labels[name])}
    told: list[str] = []
    for name in ("Asymmetry", "Atypical_Network"):
        if name in known:
            told.append(pick((PRESENT if known[name] else ABSENT)[name], rng))
    told += [pick(PRESENT[name], rng) for name in NEGATED if known.get(name)]
    if absent := [NEGATED[name] for name in NEGATED if known.get(name) is False]:
        told.append(pick(NEGATIVE, rng).format(list=either(absent)))
    told += [pick(PRESENT[name], rng) for name in ("Melanoma", "Atypical_Naevus") if known.get(name)]
    if known.get("Melanoma") is False:
        told.append(pick(BENIGN, rng))
    if known.get("Atypical_Naevus") is False and not known.get("Melanoma", True):
        told.append(pick(COMMON, rng))
    return tuple(told)


def _texts() -> list[str]:
    """What holds every word of a report."""
    groups = (*PRESENT.values(), *ABSENT.values(), NEGATED.values(), NEGATIVE, BENIGN, COMMON, ("or ,",))
    return [text for group in groups for text in group]


GRAMMAR = Grammar(MAX_TOKENS, _texts, write_report)


def label_report(text: str | Sequence[str]) -> dict[str, float]:
    """By finding what a report says: 1.0 stated, 0.0 denied, nan not mentioned; where sentences disagree 1.0 wins."""
    joined = text if isinstance(text, str) else " ".join(text)
    said = dict.fromkeys(NAMES, math.nan)
    for sentence in re.split(r"[.;\n]+", joined.casefold()):
        for name, pattern in _MENTION.items():
            if (value := _states(sentence, name, pattern)) is not None:
                said[name] = max(value, 0.0 if math.isnan(said[name]) else said[name])
    return said


def _states(sentence: str, name: str, pattern: str) -> float | None:
    if found := re.search(pattern, sentence):
        return 0.0 if re.search(_NEGATION, sentence[: found.start()]) else 1.0
    denied = name in _DENIES and re.search(_DENIES[name], sentence)
    return 0.0 if denied else None
