"""Reports written from facts: short, varied, with a closed vocabulary, and true to the facts by construction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from storyxai.modalities.chest_radiograph.findings import NAMES, find_term
from storyxai.modalities.sentences import Grammar, either, pick, sentence_of, tokenize

MAX_TOKENS = 60
SIDE_WORDS = ("right", "left", "bilateral", "")
ZONE_WORDS = ("upper", "mid", "lower", "")
SEVERITY_WORDS = ("mild", "moderate", "severe", "")
DEVICES = ("pacemaker", "central line")


@dataclass(frozen=True)
class Fact:
    """One thing that is known: a finding is there or not, and where and how much ("" = not known or not fitting).

    `side` is right, left or bilateral (the patient's); `zone` upper, mid or lower; `severity` mild, moderate or severe.
    """

    finding: str
    present: bool
    side: str = ""
    zone: str = ""
    severity: str = ""


@dataclass(frozen=True)
class StatedSentence:
    """One sentence and the findings it states: 1.0 present, 0.0 absent."""

    text: str
    states: Mapping[str, float]


# {amount} is a severity word, {adjective} a place before the noun, {place} the same after it. Any may be empty.
PRESENT: Mapping[str, tuple[str, ...]] = {
    "Cardiomegaly": (
        "{amount} cardiomegaly.", "The heart is {adverb} enlarged.", "The cardiac silhouette is {adverb} enlarged.",
        "The cardiothoracic ratio is {adverb} increased.",
    ),
    "Consolidation": (
        "{amount} {adjective} consolidation.", "There is {amount} consolidation {place}.",
        "{amount} airspace consolidation {place}.",
    ),
    "Infiltration": (
        "{amount} {adjective} infiltrate.", "There is {amount} infiltrate {place}.", "Ill-defined opacity {place}.",
    ),
    "Pneumonia": (
        "{adjective} pneumonia.", "Findings suggest pneumonia {place}.", "There is pneumonia {place}.",
    ),
    "Atelectasis": (
        "{amount} {adjective} atelectasis.", "There is {amount} atelectasis {place}.",
        "Linear atelectasis {place}.", "Volume loss {place} with atelectasis.",
    ),
    "Edema": (
        "{amount} pulmonary edema.", "There is {amount} interstitial edema.",
        "{amount} pulmonary vascular congestion with edema.",
    ),
    "Nodule": ("{adjective} lung nodule.", "A nodule is seen {place}.", "There is a nodule {place}."),
    "Nodule/bilateral": ("{adjective} lung nodules.", "Nodules are seen {place}.", "There are nodules {place}."),
    "Mass": ("{adjective} lung mass.", "A mass is seen {place}.", "There is a mass {place}."),
    "Mass/bilateral": ("{adjective} lung masses.", "Masses are seen {place}.", "There are masses {place}."),
    "Emphysema": ("{amount} emphysema.", "There is {amount} emphysema.", "Hyperinflated lungs with emphysema."),
    "Fibrosis": (
        "{amount} {adjective} fibrosis.", "There is {amount} fibrosis {place}.", "Fibrotic change {place}.",
    ),
    "Hernia": ("Hiatal hernia.", "There is a hiatal hernia.", "A hiatal hernia is seen."),
    "Effusion": (
        "{size} {adjective} pleural effusion.", "There is {size} pleural effusion {place}.",
        "{size} pleural fluid {place}.",
    ),
    "Pneumothorax": (
        "{size} {adjective} pneumothorax.", "There is {size} pneumothorax {place}.",
        "{size} pneumothorax is seen {place}.",
    ),
    "Pleural_Thickening": (
        "{amount} {adjective} pleural thickening.", "There is {amount} pleural thickening {place}.",
        "Thickening of the pleura {place}.",
    ),
}
NEGATED_NOUN: Mapping[str, str] = {
    "Cardiomegaly": "cardiomegaly", "Consolidation": "consolidation", "Infiltration": "infiltrate",
    "Pneumonia": "pneumonia", "Atelectasis": "atelectasis", "Edema": "pulmonary edema", "Nodule": "lung nodule",
    "Mass": "mass", "Emphysema": "emphysema", "Fibrosis": "fibrosis", "Hernia": "hiatal hernia",
    "Effusion": "pleural effusion", "Pneumothorax": "pneumothorax", "Pleural_Thickening": "pleural thickening",
}
NEGATIVE = ("No {list}.", "No evidence of {list}.", "There is no {list}.", "Negative for {list}.")
HEART_NORMAL = (
    "The heart size is normal.", "Normal heart size.", "The heart is not enlarged.",
    "The cardiothoracic ratio is normal.", "The cardiac silhouette is within normal limits.",
)
LUNGS_CLEAR = ("The lungs are clear.", "Both lungs are clear.", "Clear lungs.", "The lungs are well aerated and clear.")
OTHERWISE_CLEAR = ("The lungs are otherwise clear.", "Otherwise clear lungs.", "No other lung opacity.")
DEVICE_PHRASES: Mapping[str, tuple[str, ...]] = {
    "pacemaker": ("A pacemaker is in place.", "Pacemaker with lead in place.", "There is a pacemaker."),
    "central line": ("A central line is in place.", "Central venous line in place.", "There is a central line."),
}
PORTABLE = ("Portable view.", "This is a portable view.", "Portable frontal view.")
CONCLUSION_NORMAL = ("No acute abnormality.", "Normal chest radiograph.", "No acute cardiopulmonary disease.")

# The order of a report: heart, lungs, pleura and below. "Clear lungs" speaks of the first group only.
LUNG_FINDINGS = ("Consolidation", "Infiltration", "Pneumonia", "Atelectasis", "Edema", "Nodule", "Mass")
DIFFUSE = ("Emphysema", "Fibrosis")
PLEURAL = ("Effusion", "Pneumothorax", "Pleural_Thickening")
LATE = ("Hernia",)

ADVERB = {"mild": "mildly", "moderate": "moderately", "severe": "severely", "": ""}
SIZE = {"mild": "small", "moderate": "moderate", "severe": "large", "": ""}


def write_report(
    facts: Sequence[Fact], rng: np.random.Generator, *, view: str = "PA", devices: Sequence[str] = (),
) -> tuple[str, ...]:
    """A report of at most 60 tokens, one sentence an entry: heart, lungs, pleura, devices, conclusion.

    Every fact that is present is stated. An absent one is stated, or passed over, or covered by "the lungs are clear".
    Raises: UnknownNameError for a finding outside the vocabulary.
    """
    return tuple(sentence.text for sentence in compose_report(facts, rng, view=view, devices=devices))


def compose_report(
    facts: Sequence[Fact], rng: np.random.Generator, *, view: str = "PA", devices: Sequence[str] = (),
) -> tuple[StatedSentence, ...]:
    """The same report with what each sentence states, so that a labeler can be judged on it."""
    for fact in facts:
        find_term(fact.finding)
    sentences = [*_heart(facts, rng, view), *_lungs(facts, rng), *_pleura(facts, rng), *_late(facts, rng)]
    for device in devices:
        sentences.append(StatedSentence(pick(DEVICE_PHRASES[device], rng), {}))
    if facts and not any(fact.present for fact in facts) and rng.random() < 0.6:
        sentences.append(StatedSentence(pick(CONCLUSION_NORMAL, rng), {}))
    return _shortened(sentences, facts)


def facts_from_labels(labels: Mapping[str, float]) -> tuple[Fact, ...]:
    """Facts without a place from labels by finding: 0.5 or more is present, less is absent, nan is not mentioned."""
    return tuple(
        Fact(name, float(labels[name]) >= 0.5) for name in NAMES if name in labels and not math.isnan(labels[name])
    )


def _texts() -> list[str]:
    """What holds every word of a report."""
    texts: list[str] = [
        *NEGATIVE, *HEART_NORMAL, *LUNGS_CLEAR, *OTHERWISE_CLEAR, *PORTABLE, *CONCLUSION_NORMAL,
        *NEGATED_NOUN.values(), *ADVERB.values(), *SIZE.values(), *SEVERITY_WORDS, "or ,",
    ]
    for phrases in (*PRESENT.values(), *DEVICE_PHRASES.values()):
        texts.extend(phrases)
    for side in SIDE_WORDS:
        for zone in ZONE_WORDS:
            for pleural in (False, True):
                texts.extend(_place(side, zone, pleural))
    return texts


def _of_labels(labels: Mapping[str, float], rng: np.random.Generator, view: str) -> tuple[str, ...]:
    return write_report(facts_from_labels(labels), rng, view=view)


GRAMMAR = Grammar(MAX_TOKENS, _texts, _of_labels)


def _place(side: str, zone: str, pleural: bool) -> tuple[str, str]:
    """The place as an adjective and as a phrase after the noun."""
    adjective = " ".join(word for word in (side, f"{zone} zone" if zone else "") if word)
    if side == "bilateral":
        return adjective, f"in both {zone} zones" if zone else ("on both sides" if pleural else "in both lungs")
    if zone:
        return adjective, f"in the {adjective}"
    if side:
        return adjective, f"on the {side}" if pleural else f"in the {side} lung"
    return "", ""


def _tell(fact: Fact, template: str) -> StatedSentence:
    adjective, place = _place(fact.side, fact.zone, fact.finding in PLEURAL)
    text = template.format(
        amount=fact.severity, adverb=ADVERB[fact.severity], size=SIZE[fact.severity], adjective=adjective, place=place,
    )
    return StatedSentence(sentence_of(text.replace(".", " ").split()) + ".", {fact.finding: 1.0})


def _templates(fact: Fact) -> tuple[str, ...]:
    return PRESENT.get(f"{fact.finding}/{fact.side}", PRESENT[fact.finding])


def _present(facts: Sequence[Fact], names: Sequence[str], rng: np.random.Generator) -> list[StatedSentence]:
    chosen = [fact for name in names for fact in facts if fact.finding == name and fact.present]
    return [_tell(fact, pick(_templates(fact), rng)) for fact in chosen]


def _absent(facts: Sequence[Fact], names: Sequence[str]) -> list[str]:
    return [fact.finding for name in names for fact in facts if fact.finding == name and not fact.present]


def _negative(names: Sequence[str], rng: np.random.Generator) -> list[StatedSentence]:
    if not names:
        return []
    listed = either([NEGATED_NOUN[name] for name in names])
    return [StatedSentence(pick(NEGATIVE, rng).format(list=listed), dict.fromkeys(names, 0.0))]


def _heart(facts: Sequence[Fact], rng: np.random.Generator, view: str) -> list[StatedSentence]:
    sentences = [StatedSentence(pick(PORTABLE, rng), {})] if view == "AP" and rng.random() < 0.3 else []
    sentences += _present(facts, ("Cardiomegaly",), rng)
    if _absent(facts, ("Cardiomegaly",)):
        if rng.random() < 0.15:
            return sentences + _negative(("Cardiomegaly",), rng)
        sentences.append(StatedSentence(pick(HEART_NORMAL, rng), {"Cardiomegaly": 0.0}))
    return sentences


def _lungs(facts: Sequence[Fact], rng: np.random.Generator) -> list[StatedSentence]:
    told = _present(facts, LUNG_FINDINGS, rng)
    absent = _absent(facts, LUNG_FINDINGS)
    # Clear lungs may be said only where someone looked for consolidation and more than one lung finding is known.
    clear = "Consolidation" in absent and len(absent) > 2 and not told
    if clear and rng.random() < 0.8:
        told.append(StatedSentence(pick(LUNGS_CLEAR, rng), dict.fromkeys(absent, 0.0)))
    elif told and "Consolidation" in absent and rng.random() < 0.3:
        told.append(StatedSentence(pick(OTHERWISE_CLEAR, rng), dict.fromkeys(absent, 0.0)))
    elif absent and (clear or rng.random() < 0.35):
        count = int(rng.integers(1, min(3, len(absent)) + 1))
        drawn = set(rng.permutation(absent)[:count].tolist())  # once: a draw for each name may name none
        told += _negative([name for name in absent if name in drawn], rng)
    told += _present(facts, DIFFUSE, rng)
    diffuse = _absent(facts, DIFFUSE)
    return told + (_negative(diffuse, rng) if rng.random() < 0.15 else [])


def _pleura(facts: Sequence[Fact], rng: np.random.Generator) -> list[StatedSentence]:
    told = _present(facts, PLEURAL, rng)
    absent = _absent(facts, PLEURAL)
    if "Pleural_Thickening" in absent and rng.random() < 0.85:
        absent.remove("Pleural_Thickening")
    return told + _negative(absent, rng)


def _late(facts: Sequence[Fact], rng: np.random.Generator) -> list[StatedSentence]:
    told = _present(facts, LATE, rng)
    return told + (_negative(_absent(facts, LATE), rng) if rng.random() < 0.15 else [])


def _shortened(sentences: list[StatedSentence], facts: Sequence[Fact]) -> tuple[StatedSentence, ...]:
    """Within MAX_TOKENS: first optional sentences go, then each fact is told in its shortest way, then placeless."""

    def length(given: Sequence[StatedSentence]) -> int:
        return len(tokenize([sentence.text for sentence in given]))

    if length(sentences) <= MAX_TOKENS:
        return tuple(sentences)
    kept = [sentence for sentence in sentences if 1.0 in sentence.states.values()]
    present = {fact.finding: fact for fact in facts if fact.present}
    for bare in (False, True):
        if length(kept) <= MAX_TOKENS:
            break
        shortest = []
        for sentence in kept:
            fact = present[next(iter(sentence.states))]
            fact = Fact(fact.finding, True) if bare else fact
            told = [_tell(fact, template) for template in _templates(fact)]
            shortest.append(min(told, key=lambda one: length([one])))
        kept = shortest
    return tuple(kept)
