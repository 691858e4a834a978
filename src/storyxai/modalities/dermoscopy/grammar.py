"""Reports of dermoscopy: a sentence for each criterion in the order of a reading, and the rules that read them again.

A finding that is not mentioned is not known; a report that is written from labels mentions every one that they state.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from storyxai.modalities.dermoscopy.findings import NAMES

__all__ = ["MAX_TOKENS", "DermoscopyGrammar", "label_report", "write_report"]

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


class DermoscopyGrammar:
    """The grammar as a modality's contract asks for it."""

    max_tokens = MAX_TOKENS

    def vocabulary(self) -> tuple[str, ...]:
        """Every token that a report can hold, sorted."""
        groups: list[Iterable[str]] = [
            *PRESENT.values(),
            *ABSENT.values(),
            NEGATED.values(),
            NEGATIVE,
            BENIGN,
            COMMON,
            ("or ,",),
        ]
        plain = (re.sub(r"\{[a-z]+\}", " ", text) for group in groups for text in group)
        return tuple(sorted({token for text in plain for token in self.tokenize(text)}))

    def tokenize(self, text: str | Sequence[str]) -> list[str]:
        """Lower-case words, full stops and commas of a report (one text, or its sentences)."""
        joined = text if isinstance(text, str) else " ".join(text)
        return re.findall(r"[a-z]+(?:-[a-z]+)*|[.,]", joined.casefold())

    def detokenize(self, tokens: Sequence[str]) -> list[str]:
        """Sentences from tokens: each ends at a full stop and starts with a capital; an unfinished last one is kept."""
        parts = " ".join(tokens).replace(" ,", ",").split(".")
        told = [part.strip()[:1].upper() + part.strip()[1:] for part in parts]
        whole = [f"{part}." for part in told[:-1] if part]
        return [*whole, told[-1]] if told[-1] else whole

    def write(self, labels: Mapping[str, float], rng: np.random.Generator, *, view: str) -> tuple[str, ...]:
        """A report that is true to the labels; a picture of the skin has no view."""
        return write_report(labels, rng)


def write_report(labels: Mapping[str, float], rng: np.random.Generator) -> tuple[str, ...]:
    """Sentences that state every label: 0.5 or more is present, less is absent, nan is not mentioned."""
    known = {name: labels[name] >= 0.5 for name in ORDER if name in labels and not math.isnan(labels[name])}
    told: list[str] = []
    for name in ("Asymmetry", "Atypical_Network"):
        if name in known:
            told.append(_pick((PRESENT if known[name] else ABSENT)[name], rng))
    told += [_pick(PRESENT[name], rng) for name in NEGATED if known.get(name)]
    if absent := [NEGATED[name] for name in NEGATED if known.get(name) is False]:
        listed = absent[0] if len(absent) == 1 else f"{', '.join(absent[:-1])} or {absent[-1]}"
        told.append(_pick(NEGATIVE, rng).format(list=listed))
    told += [_pick(PRESENT[name], rng) for name in ("Melanoma", "Atypical_Naevus") if known.get(name)]
    if known.get("Melanoma") is False:
        told.append(_pick(BENIGN, rng))
    if known.get("Atypical_Naevus") is False and not known.get("Melanoma", True):
        told.append(_pick(COMMON, rng))
    return tuple(told)


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


def _pick(phrases: Sequence[str], rng: np.random.Generator) -> str:
    return phrases[int(rng.integers(len(phrases)))]
