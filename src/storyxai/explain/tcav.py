"""What a model's findings rest on, in concepts that people name: concept activation vectors and their test (TCAV).

Source: Kim et al., Interpretability beyond feature attribution, ICML 2018. Where we deviate: features are the mean over the
cells of the layer, so that a step along a vector adds it to every cell; the linear classifier is a ridge regression on
standardised features, in closed form; beside the share of positive derivatives, which TCAV reports, stands the effect: by how
much a logit moves, to first order, on the way from images without the concept to images with it. The effect is what is tested,
by the single-step maxT of Westfall & Young (1993) over findings with Bonferroni over concepts: where a model is nearly linear
behind the layer the share is all or nothing for random sets too, and no test of it could tell a concept from chance. The
effect must also differ from zero by more than the images of the concept, drawn anew, would move it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.explain.contract import Look
from storyxai.explain.ridge import inverse_of

Float64 = NDArray[np.float64]
FEWEST_IMAGES = 10
"""A concept of fewer images is an anecdote: its vector follows whatever else these share."""


@dataclass(frozen=True)
class TcavSettings:
    """`controls` sets of images without the concept for each concept, `chance` vectors of random sets, and the seed.

    `ridge` is the penalty of the classifier for each image, on standardised features.
    """

    controls: int = 20
    chance: int = 400
    ridge: float = 1.0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class ConceptScores:
    """What one concept is to each of F findings.

    Shapes: `vector` float64 [K] of length one; all others [F]. `score` is the share of images whose logit grows along the
    vector, the mean over the control sets, `low` and `high` its 2.5th and 97.5th percentile over them; `effect` the change
    of the logit, to first order, from the mean image without the concept to the mean image with it; `p_value` is that of the
    effect, adjusted for all findings and concepts. `chance_low` and `chance_high` hold 95 %
    of the scores of random sets. `separable` is the AUROC, on images left out, at which the features tell images with the
    concept from images without.
    """

    vector: Float64
    separable: float
    score: Float64
    low: Float64
    high: Float64
    effect: Float64
    p_value: Float64
    chance_low: Float64
    chance_high: Float64


def pooled_features(look: Look) -> Float64:
    """The mean of each channel over the cells, float64 [K]."""
    pooled: Float64 = look.features.mean(axis=(1, 2), dtype=np.float64)
    return pooled


def pooled_gradients(look: Look) -> Float64:
    """The derivative of each asked logit by a step that is added to every cell, float64 [T, K].

    Raises: InputError where the model gives no gradients.
    """
    if look.gradients is None:
        raise InputError("concepts", "need gradients, which this model does not give", mend="open the network as a TorchModel")
    summed: Float64 = look.gradients.sum(axis=(2, 3), dtype=np.float64)
    return summed


def concept_vector(positive: Float64, negative: Float64, *, ridge: float = 1.0) -> Float64:
    """The direction, of length one, in which a linear classifier tells features [P, K] from features [N, K].

    Ridge regression of +1 and -1 on standardised features, penalty `ridge` times the number of images. Zero where the
    features are the same. Raises: InputError for fewer than two images a side.
    """
    if min(len(positive), len(negative)) < 2:
        raise InputError("concept", f"{len(positive)} images beside {len(negative)}", mend="give two or more of each")
    features = np.concatenate([positive, negative])
    spread = features.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    centred = (features - features.mean(axis=0)) / scale
    sides = np.concatenate([np.ones(len(positive)), -np.ones(len(negative))])
    gram = np.einsum("ik,jk->ij", centred, centred)
    gram[np.diag_indices_from(gram)] += ridge * len(features)
    # The dual form: there are fewer images than channels.
    weights = np.einsum("ij,j,ik->k", inverse_of(gram), sides - sides.mean(), centred) / scale
    return _unit(weights)


def derivatives(gradients: Float64, vectors: Float64) -> Float64:
    """The derivative of every logit along every vector. Shapes: gradients [M, F, K], vectors [V, K] -> [V, M, F]."""
    along: Float64 = np.einsum("mfk,vk->vmf", gradients, vectors)
    return along


def tcav(
    concepts: Mapping[str, Float64], others: Float64, gradients: Float64, judged: NDArray[np.bool_],
    settings: TcavSettings | None = None,
) -> dict[str, ConceptScores]:
    """What each concept is to each finding.

    Shapes: `concepts` features [P, K] of images that show it, `others` [N, K] of images without any, `gradients` [M, F, K] of
    the images on which findings are judged, `judged` [M, F] which of these count for a finding. Memory: two vectors of M * F
    numbers for each control and chance set.
    Raises: InputError for fewer than `FEWEST_IMAGES` of a concept, or fewer than twice as many others as of a concept.
    """
    settings = settings or TcavSettings()
    size = _set_size(concepts, others)
    rng = np.random.default_rng(settings.seed)
    chance = _Sets([_split(others, others, size, rng, settings) for _ in range(settings.chance)], gradients, judged)
    spread = np.sqrt((chance.effect**2).mean(axis=0))
    spread = np.where(spread > 0, spread, 1.0)
    largest = np.abs(chance.effect / spread).max(axis=1)
    chance_low, chance_high = np.percentile(chance.score, (2.5, 97.5), axis=0)
    found = {}
    for name, features in concepts.items():
        number = min(len(features), len(others) // 2)
        sets = _Sets([_split(features, others, number, rng, settings) for _ in range(settings.controls)], gradients, judged)
        effect = sets.effect.mean(axis=0)
        exceeded = (largest[:, None] >= np.abs(effect / spread)[None, :]).sum(axis=0)
        low, high = np.percentile(sets.score, (2.5, 97.5), axis=0)
        by_chance = len(concepts) * (1 + exceeded) / (1 + settings.chance)
        p_value = np.minimum(1.0, np.maximum(by_chance, len(concepts) * sets.p_of_no_effect()))
        found[name] = ConceptScores(
            _unit(np.mean([one.vector for one in sets.splits], axis=0)), float(np.mean([one.auroc for one in sets.splits])),
            sets.score.mean(axis=0), low, high, effect, p_value, chance_low, chance_high,
        )
    return found


def _set_size(concepts: Mapping[str, Float64], others: Float64) -> int:
    """How many images a random set has: as many as the smallest concept."""
    for name, features in concepts.items():
        if len(features) < FEWEST_IMAGES:
            why = f"has {len(features)} images"
            raise InputError(f"concept '{name}'", why, mend=f"give {FEWEST_IMAGES} or more, best 50")
    size = min(len(features) for features in concepts.values()) if concepts else FEWEST_IMAGES
    if len(others) < 2 * size:
        why = f"are {len(others)}, the smallest concept has {size}"
        raise InputError("images without the concepts", why, mend=f"give {2 * size} or more")
    return size


class _Split(NamedTuple):
    """A vector of all drawn images; the difference of the means of half of them [K]; the AUROC of a vector of one half on the
    other."""

    vector: Float64
    apart: Float64
    auroc: float


def _split(
    features: Float64, others: Float64, number: int, rng: np.random.Generator, settings: TcavSettings
) -> _Split:
    """`number` images with the concept against as many without, none on both sides where both are drawn from the same."""
    order = rng.permutation(len(others))
    theirs = others[order[:number]]
    ours = others[order[number : 2 * number]] if features is others else features[rng.permutation(len(features))[:number]]
    middle = number // 2
    half = concept_vector(ours[:middle], theirs[:middle], ridge=settings.ridge)
    with_it, without = (np.einsum("nk,k->n", part[middle:], half) for part in (ours, theirs))
    vector = concept_vector(ours, theirs, ridge=settings.ridge)
    return _Split(vector, ours[middle:].mean(axis=0) - theirs[middle:].mean(axis=0), _auroc(with_it, without))


class _Sets:
    """Many splits beside the gradients. Shapes: `score` and `effect` [V, F]."""

    def __init__(self, splits: Sequence[_Split], gradients: Float64, judged: NDArray[np.bool_]) -> None:
        self.splits = splits
        counted = np.maximum(judged.sum(axis=0), 1)
        along = derivatives(gradients, np.stack([one.vector for one in splits]))
        self.score: Float64 = ((along > 0) & judged[None]).sum(axis=1) / counted
        along = derivatives(gradients, np.stack([one.apart for one in splits]))
        self.effect: Float64 = np.einsum("vmf,mf->vf", along, judged.astype(np.float64)) / counted

    def p_of_no_effect(self) -> Float64:
        """Two-sided, that the mean effect is zero, times the number of findings, [F].

        The deviation over halves is that of the whole (delete-half jackknife).
        """
        error, size = self.effect.std(axis=0), np.abs(self.effect.mean(axis=0))
        z = np.divide(size, error, out=np.zeros_like(size), where=error > 0)
        tail: Float64 = np.array([math.erfc(value / math.sqrt(2)) for value in z])
        return tail * len(z)


def _auroc(positive: Float64, negative: Float64) -> float:
    higher = (positive[:, None] > negative[None, :]).mean()
    return float(higher + 0.5 * (positive[:, None] == negative[None, :]).mean())


def _unit(vector: Float64) -> Float64:
    length = float(np.sqrt(np.einsum("k,k->", vector, vector)))
    scaled: Float64 = np.divide(vector, length) if length > 0 else vector
    return scaled
