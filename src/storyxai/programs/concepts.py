"""From example images to concept vectors of a model, tested against chance: one small JSON file that `tell` reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from storyxai.errors import InputError
from storyxai.evidence.gather import modality_for
from storyxai.evidence.learned import (
    CONCEPTS_NAME,
    ConceptFigures,
    LearnedConcepts,
    StoredConcept,
    as_bytes,
    verdict_of,
)
from storyxai.evidence.predict import MOST_GRADIENTS, view_of
from storyxai.explain.contract import ExplainedModel
from storyxai.explain.tcav import FEWEST_IMAGES, ConceptScores, TcavSettings, pooled_features, pooled_gradients, tcav
from storyxai.files import write_whole
from storyxai.imaging.read import find_images, read_image
from storyxai.modalities.registry import DEFAULT_MODALITY
from storyxai.phantoms.concepts import CONCEPTS, concept_phantoms, films_of_all_kinds
from storyxai.programs.models import SHIPPED_MODEL, ModelChoice, open_model
from storyxai.programs.places import output_file
from storyxai.progress import Progress
from storyxai.provenance import sha256_bytes
from storyxai.types import Image

__all__ = ["ConceptOptions", "ConceptsMade", "TcavSettings", "make_concepts"]

JUDGED_SHARE = 0.25
"""A finding is judged on the quarter of the films that the model scores highest for it: those on which it speaks of it."""
PHANTOM_OTHERS, PHANTOM_FILMS = 100, 80
PHANTOM_SIZE = 128
DEFAULT_TEST = TcavSettings()
_WORDS = {"rests_on": "carries", "speaks_against": "speaks against"}
"""How the command line says what a concept is to findings, each with the change of its logit."""


@dataclass(frozen=True)
class ConceptOptions:
    """Where concepts come from.

    `folders` of examples by the concept's name; `others` a folder of images of the same kind without the concepts, `films` one
    of images on which findings are judged (None: the others). Without folders, `phantoms` of each of our four concepts are
    drawn. `any_size` takes folders of images of several sizes.
    """

    model: ModelChoice = SHIPPED_MODEL
    folders: Mapping[str, Path] = field(default_factory=dict)
    others: Path | None = None
    films: Path | None = None
    phantoms: int = 40
    any_size: bool = False
    test: TcavSettings = DEFAULT_TEST


@dataclass(frozen=True)
class ConceptsMade:
    """The file that was written and, by finding, what it rests on and what speaks against it, as lines."""

    path: Path
    concepts: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Images:
    """Images of one kind, each once; `what` names them in errors."""

    what: str
    images: tuple[Image, ...]
    source: str

    @property
    def hashes(self) -> frozenset[str]:
        return frozenset(image.sha256 for image in self.images)

    @property
    def sha256(self) -> str:
        return sha256_bytes("\n".join(sorted(self.hashes)).encode())


def make_concepts(out: Path | None, options: ConceptOptions, *, progress: Progress | None = None) -> ConceptsMade:
    """Test the model for each concept and write the file: `out`, or concepts.json beside the model.

    Raises: InputError for a model without gradients, a concept of too few images, images that stand on two sides, or images
    of several sizes.
    """
    path = _place(out, options)
    with output_file(path):
        model = open_model(options.model)
        if model.look(np.zeros((model.channels, *(model.input_size or (64, 64))), np.float32), (0,)) is None:
            why = "need the inside of a model, which this one does not show"
            raise InputError("concepts", why, mend="open it as a TorchModel")
        concepts, others, films = _given(model, options) if options.folders else _drawn(model, options)
        _refuse_what_is_twice([*concepts.values()], others, films)
        steps = _Steps(progress, sum(len(one.images) for one in (*concepts.values(), others, films)))
        learned = _tested(model, concepts, others, films, options, steps)
        write_whole(as_bytes(learned), path)
    return ConceptsMade(path, tuple(sorted(learned.concepts)), tuple(_lines(learned)))


@dataclass(eq=False)
class _Steps:
    """How many images were looked at, told as they are."""

    progress: Progress | None
    total: int
    done: int = 0

    def step(self) -> None:
        self.done += 1
        if self.progress:
            self.progress("looking", self.done, self.total)


def _place(out: Path | None, options: ConceptOptions) -> Path:
    if out is not None:
        return out / CONCEPTS_NAME if out.is_dir() else out
    model = options.model.path
    if model is None:
        mend = "name a file with --out; nothing is written beside the student that comes along"
        raise InputError("out", "is not said", mend=mend)
    return (model if model.is_dir() else model.parent) / CONCEPTS_NAME


def _given(model: ExplainedModel, options: ConceptOptions) -> tuple[dict[str, _Images], _Images, _Images]:
    """The user's own images."""
    if options.others is None:
        mend = "add --others DIR: images of the same kind that do not show the concept"
        raise InputError("others", "are not given, and without them a vector tells your images from phantoms", mend=mend)
    concepts = {
        name: _read(f"concept '{name}'", folder, any_size=options.any_size) for name, folder in options.folders.items()
    }
    for one in concepts.values():
        if len(one.images) < FEWEST_IMAGES:
            why = f"has {len(one.images)} different image{'' if len(one.images) == 1 else 's'}"
            raise InputError(one.what, why, mend=f"give {FEWEST_IMAGES} or more, best 50")
    others = _read("images without the concepts", options.others, any_size=options.any_size)
    films = others if options.films is None else _read("films", options.films, any_size=True)
    sizes = {image.pixels.shape[:2] for one in (*concepts.values(), others) for image in one.images}
    if len(sizes) > 1 and not options.any_size:
        told = " and ".join(f"{width} x {height}" for height, width in sorted(sizes)[:2])
        why = f"have several sizes ({told}), which a vector could learn in place of the concept"
        raise InputError("concept images and others", why, mend="scale all to one size, or say --any-size")
    return concepts, others, films


def _read(what: str, folder: Path, *, any_size: bool) -> _Images:
    images = {image.sha256: image for image in map(read_image, find_images([folder]))}
    sizes = sorted({image.pixels.shape[:2] for image in images.values()})
    if len(sizes) > 1 and not any_size:
        told = " and ".join(f"{width} x {height}" for height, width in sizes[:2])
        why = f"has images of several sizes ({told}), which a vector could learn in place of the concept"
        raise InputError(what, why, mend="scale all to one size, or say --any-size")
    return _Images(what, tuple(images.values()), folder.name)


def _drawn(model: ExplainedModel, options: ConceptOptions) -> tuple[dict[str, _Images], _Images, _Images]:
    """Phantoms of our own concepts."""
    if modality_for(model).key != DEFAULT_MODALITY:
        why = f"are drawn for '{DEFAULT_MODALITY}' alone"
        raise InputError("phantom concepts", why, mend="give folders: --folder NAME=DIR --others DIR")
    if options.phantoms < FEWEST_IMAGES:
        raise InputError("phantoms", f"{options.phantoms} for each concept", mend=f"use {FEWEST_IMAGES} or more, best 40")
    others = max(PHANTOM_OTHERS, 2 * options.phantoms)
    drawn = {
        name: _Images(name, tuple(p.image for p in concept_phantoms(name, number, size=PHANTOM_SIZE)), "phantom")
        for name, number in [*((concept, options.phantoms) for concept in CONCEPTS), ("", others)]
    }
    films = _Images("films", tuple(p.image for p in films_of_all_kinds(PHANTOM_FILMS, size=PHANTOM_SIZE)), "phantom")
    return {name: drawn[name] for name in CONCEPTS}, drawn[""], films


def _refuse_what_is_twice(concepts: Sequence[_Images], others: _Images, films: _Images) -> None:
    """Raise InputError where an image shows a concept and also stands among those without it, or among the judged films."""
    for one in concepts:
        for beside in (films, others):
            both = [image.source for image in one.images if image.sha256 in beside.hashes]
            if both:
                why = f"holds {len(both)} of the {beside.what} ({both[0]}), so that the test would judge what it learnt from"
                raise InputError(one.what, why, mend="take them out of one of the two folders")


def _tested(
    model: ExplainedModel, concepts: Mapping[str, _Images], others: _Images, films: _Images, options: ConceptOptions,
    steps: _Steps,
) -> LearnedConcepts:
    seen = {name: _features(model, one.images, steps) for name, one in concepts.items()}
    without = _features(model, others.images, steps)
    layer, logits, gradients = _films(model, films.images, steps)
    judged = _highest(logits)
    scores = tcav(seen, without, gradients, judged, options.test)
    counts = judged.sum(axis=0)
    return LearnedConcepts(
        model.model_id, layer, len(others.images), others.sha256, len(films.images), films.sha256, options.test.controls,
        options.test.chance, options.test.seed,
        {
            name: StoredConcept(
                one.source, len(one.images), one.sha256, scores[name].separable, tuple(map(float, scores[name].vector)),
                {f: _figures(scores[name], i, int(counts[i])) for i, f in enumerate(model.findings)},
            )
            for name, one in concepts.items()
        },
    )


def _figures(scores: ConceptScores, column: int, films: int) -> ConceptFigures:
    rows = (scores.score, scores.low, scores.high, scores.effect, scores.p_value, scores.chance_low, scores.chance_high)
    return ConceptFigures(films, *(float(row[column]) for row in rows))


def _features(model: ExplainedModel, images: Iterable[Image], steps: _Steps) -> np.ndarray:
    rows = []
    for image in images:
        look = model.look(view_of(model, image)[0], (0,))
        assert look is not None
        rows.append(pooled_features(look))
        steps.step()
    return np.stack(rows)


def _films(model: ExplainedModel, images: Sequence[Image], steps: _Steps) -> tuple[str, np.ndarray, np.ndarray]:
    """The layer, the logits [M, F] and the pooled gradients [M, F, K] of the films."""
    if len(model.findings) > MOST_GRADIENTS:
        why = f"are asked of {len(model.findings)} findings"
        raise InputError("concepts", why, mend=f"open the model with at most {MOST_GRADIENTS} findings")
    layer, logits, gradients = "", [], []
    for image in images:
        look = model.look(view_of(model, image)[0])
        assert look is not None
        layer = look.layer
        logits.append(look.logits)
        gradients.append(pooled_gradients(look))
        steps.step()
    return layer, np.stack(logits), np.stack(gradients)


def _highest(logits: np.ndarray) -> np.ndarray:
    """Which films count for each finding [M, F]: the quarter with its highest logits, ten or more."""
    number = min(len(logits), max(FEWEST_IMAGES, round(JUDGED_SHARE * len(logits))))
    order = np.argsort(-logits, axis=0, kind="stable")[:number]
    judged = np.zeros(logits.shape, dtype=np.bool_)
    np.put_along_axis(judged, order, True, axis=0)
    return judged


def _lines(learned: LearnedConcepts) -> Iterable[str]:
    for name, concept in sorted(learned.concepts.items()):
        by_verdict: dict[str, list[tuple[float, str]]] = {}
        for finding, figures in concept.findings.items():
            told = (figures.effect, f"{finding} {figures.effect:+.2f}")
            by_verdict.setdefault(verdict_of(concept.separable, figures), []).append(told)
        lines = [f"{words} {_by_size(by_verdict[key])}" for key, words in _WORDS.items() if key in by_verdict]
        lines = ["not seen by the features"] if "unseen" in by_verdict else lines
        yield f"{name} (AUROC {concept.separable:.2f}, {concept.images} images): {'; '.join(lines) or 'no more than chance'}"


def _by_size(effects: list[tuple[float, str]]) -> str:
    return ", ".join(text for _, text in sorted(effects, key=lambda one: -abs(one[0])))
