"""Concepts that a model was tested for (TCAV): the file that `storyxai concepts` writes, and what it says of one image.

The file names the model that it is of and the hashes of the images that it rests on; with another model it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from storyxai.errors import InputError
from storyxai.explain.contract import ExplainedModel, Look
from storyxai.explain.tcav import pooled_gradients
from storyxai.provenance import canonical_json
from storyxai.types import LearnedConcept

CONCEPTS_NAME = "concepts.json"
FORMAT = "storyxai-concepts/1"
LEVEL: Final = 0.05
"""Below this adjusted p-value a concept counts as more than chance."""
SEPARABLE: Final = 0.7
"""A concept that the features tell from other images less well than this (AUROC) is not seen by the model, and not judged."""


@dataclass(frozen=True)
class ConceptFigures:
    """One concept and one finding, on the `films` images that the model scored highest for the finding: see `explain.tcav`."""

    films: int
    score: float
    low: float
    high: float
    effect: float
    p_value: float
    chance_low: float
    chance_high: float


@dataclass(frozen=True)
class StoredConcept:
    """One concept: where its images are from, how many, the SHA-256 of their sorted hashes, and what it is to each finding."""

    source: str
    images: int
    images_sha256: str
    separable: float
    vector: tuple[float, ...]
    findings: Mapping[str, ConceptFigures]


@dataclass(frozen=True)
class LearnedConcepts:
    """All concepts that one model was tested for, beside which images, and with which settings."""

    model_id: str
    layer: str
    others: int
    others_sha256: str
    films: int
    films_sha256: str
    controls: int
    chance: int
    seed: int
    concepts: Mapping[str, StoredConcept]


def verdict_of(separable: float, figures: ConceptFigures) -> str:
    """"unseen", "chance", or whether the finding "rests_on" the concept or the concept "speaks_against" it."""
    if separable < SEPARABLE:
        return "unseen"
    if figures.p_value >= LEVEL or (figures.effect > 0) != (figures.score > 0.5):
        return "chance"
    return "rests_on" if figures.effect > 0 else "speaks_against"


def as_bytes(learned: LearnedConcepts) -> bytes:
    """The file's bytes: the same concepts give the same."""
    return canonical_json({"format": FORMAT, **msgspec.to_builtins(learned)})


def read_concepts(path: Path) -> LearnedConcepts:
    """The concepts that `storyxai concepts` wrote. Raises: InputError naming the file and what is wrong with it."""
    mend = "write it again with `storyxai concepts`"
    try:
        record = json.loads(path.read_bytes())
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise InputError(str(path), f"is not of format {FORMAT}", mend=mend)
        return msgspec.convert(record, LearnedConcepts)
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"cannot be read ({error})", mend=mend) from error


def learned_here(
    learned: LearnedConcepts | None, model: ExplainedModel, look: Look | None, told: tuple[str, ...]
) -> tuple[LearnedConcept, ...]:
    """What each concept is to each told finding, and the derivative along its vector on this image.

    Raises: InputError for concepts of another model.
    """
    if learned is None:
        return ()
    if learned.model_id != model.model_id:
        why = f"are of the model {learned.model_id}, and this is {model.model_id}"
        raise InputError("concepts", why, mend="write them again with `storyxai concepts` for this model")
    along = _along(learned, model, look)
    return tuple(
        LearnedConcept(
            name, finding, verdict_of(concept.separable, found), found.score, found.low, found.high, found.effect,
            found.p_value, found.chance_low, found.chance_high, found.films, concept.images, concept.separable,
            along.get((name, finding)),
        )
        for finding in told for name, concept in sorted(learned.concepts.items())
        if (found := concept.findings.get(finding)) is not None
    )


def _along(learned: LearnedConcepts, model: ExplainedModel, look: Look | None) -> dict[tuple[str, str], float]:
    """The derivative of each logit along each vector on this image; empty where the model gives no gradients of all."""
    if look is None or look.gradients is None or len(look.gradients) != len(model.findings):
        return {}
    gradients = pooled_gradients(look)
    return {
        (name, finding): float(np.einsum("k,k->", gradients[column], np.asarray(concept.vector)))
        for name, concept in learned.concepts.items() for column, finding in enumerate(model.findings)
        if len(concept.vector) == gradients.shape[1]
    }
