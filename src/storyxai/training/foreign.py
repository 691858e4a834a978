"""Teachers from elsewhere in a run: opened from the recipe, averaged with our own, their sentences as reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from storyxai.data.batches import Examples, make_batch
from storyxai.errors import RecipeError, UnknownNameError
from storyxai.modalities.contract import Modality
from storyxai.modalities.registry import modality_named
from storyxai.models.network import Network
from storyxai.models.teachers import (
    MirroredTeacher,
    NamedTeacher,
    OwnTeacher,
    ReportWriter,
    Teacher,
    TeacherAverage,
    columns_by_name,
    open_teacher,
    retokenize,
)
from storyxai.models.tokens import PAD, full_vocabulary
from storyxai.progress import Progress
from storyxai.training.config import PROBE, ForeignTeacherRecipe, Recipe
from storyxai.training.probe import fit_probe

Foreign = tuple[tuple[ForeignTeacherRecipe, Teacher], ...]


def open_foreign_teachers(recipe: Recipe) -> Foreign:
    """Each foreign teacher that the recipe names, opened, but for those that are fitted to the training images (`fit_probes`).

    Raises: RecipeError, WeightsError or UnknownNameError for one that cannot teach, before anything is trained.
    """
    if replaced(recipe, "findings") and (recipe.distillation.reasons or recipe.distillation.hints):
        why = "asks for reasons or hints, which only a network of ours can give"
        raise RecipeError(recipe.name, why, mend="say instead = false, or set distillation.reasons and hints to 0")
    kind, opened = recipe.kind(), []
    for given in recipe.foreign_teachers:
        if given.kind == PROBE:
            continue
        teacher = open_teacher(NamedTeacher(
            given.kind, given.task, path=given.path, name=given.name, findings=given.findings, space=given.space,
            value_range=given.range, size=given.size, channels=given.channels, trusted=given.trusted,
        ))
        if given.task == "findings":
            columns_by_name(teacher.findings, kind.names, modality=kind)
        _weights_by_name(given, kind)
        opened.append((given, teacher))
    return tuple(opened)


def fit_probes(recipe: Recipe, train: Examples, *, progress: Progress | None = None) -> Foreign:
    """Each teacher of kind "probe" that the recipe names, fitted to `train`. Raises: as `fit_probe`."""
    named = (given for given in recipe.foreign_teachers if given.kind == PROBE)
    return tuple((given, fit_probe(recipe, given, train, progress=progress)) for given in named)


def _weights_by_name(given: ForeignTeacherRecipe, modality: Modality) -> dict[str, float]:
    """The teacher's own weights by our names of the findings. Raises: RecipeError, UnknownNameError."""
    if given.finding_weights and given.task != "findings":
        why = f"has finding_weights, but teaches {given.task}"
        raise RecipeError(given.path or given.name or given.kind, why, mend="say weight instead")
    found = {}
    for name, weight in given.finding_weights.items():
        ours = modality.match(name)
        if ours is None:
            raise UnknownNameError("finding with a weight", name, modality.names)
        found[ours] = weight
    return found


def replaced(recipe: Recipe, task: str) -> bool:
    """Whether a foreign teacher stands in for the recipe's own teacher of `task`."""
    return any(given.task == task and given.instead for given in recipe.foreign_teachers)


def members_of(own: Mapping[str, Network], task: str) -> tuple[Network, ...]:
    """The recipe's own teachers of a task: "findings" and, of several members, "findings-2" and so on."""
    return tuple(network for name, network in own.items() if name.partition("-")[0] == task)


def joined_teachers(
    own: Mapping[str, Network], foreign: Foreign, modality: Modality | None = None, *, mirrored: bool = False
) -> dict[str, Network | Teacher]:
    """One teacher a task: the recipe's own, or its average with the foreign ones by their weights.

    Members share the weight 1 of the recipe's own teacher; with `mirrored` those of findings are asked about the mirror
    image too. A task whose teachers only write whole sentences has no teacher of next words.
    """
    kind = modality or modality_named()
    joined: dict[str, Network | Teacher] = {}
    for task in ("findings", "masks", "report"):
        theirs = [(given, teacher) for given, teacher in foreign
                  if given.task == task and not isinstance(teacher, ReportWriter)]
        members = members_of(own, task)
        both_ways = mirrored and task == "findings"
        if not theirs and not members:
            continue
        if not theirs and len(members) == 1 and not both_ways:
            joined[task] = members[0]
            continue
        teachers: list[Teacher] = [OwnTeacher(member, f"teacher of {task}") for member in members]
        if both_ways:
            teachers = [MirroredTeacher(teacher) for teacher in teachers]
        own_weights = [1.0 / max(1, len(teachers))] * len(teachers)
        by_name = [_weights_by_name(given, kind) for given, _ in theirs]
        named = {
            key: own_weights + [said.get(key, given.weight) for said, (given, _) in zip(by_name, theirs, strict=True)]
            for key in (*kind.names, "masks", "report")
        }
        teachers += [teacher for _, teacher in theirs]
        joined[task] = TeacherAverage(tuple(teachers), kind.names, weights=named, name=f"teachers of {task}")
    return joined


def with_foreign_reports(
    foreign: Foreign, train: Examples, modality: Modality | None = None, *, progress: Progress | None = None
) -> Examples:
    """`train` with the sentences of foreign report writers as its reports.

    They stand where no reference report is known, or everywhere for a writer that teaches instead; sentences with words
    that ours lack are left out. Where several wrote, the first speaks.

    Raises: RecipeError when a writer wrote nothing that our vocabulary can say.
    """
    tokens, grammar = train.tokens.copy(), (modality or modality_named()).grammar
    writers = [(given, teacher) for given, teacher in foreign if isinstance(teacher, ReportWriter)]
    unwritten = (tokens == PAD).all(axis=1)
    if grammar is None:
        return train
    for given, writer in writers:
        rows = np.flatnonzero(unwritten | given.instead)
        written, kept = retokenize(
            _reports(writer, train, rows, progress), full_vocabulary(grammar.vocabulary()), tokenize=grammar.tokenize,
            length=tokens.shape[1],
        )
        said = (written != PAD).any(axis=1)
        if len(rows) and not said.any():
            why = f"wrote no sentence in our words ({kept:.0%} kept of {len(rows)} reports)"
            raise RecipeError(given.path or given.kind, why, mend="leave this teacher out: its reports are of another kind")
        tokens[rows[said]] = written[said]
        unwritten[rows[said]] = False
    return replace(train, tokens=tokens) if writers else train


def _reports(
    writer: ReportWriter, train: Examples, rows: Sequence[int] | np.ndarray, progress: Progress | None, batch_size: int = 16
) -> list[str]:
    reports: list[str] = []
    for start in range(0, len(rows), batch_size):
        chosen = np.asarray(rows[start : start + batch_size], dtype=np.int64)
        reports += writer.reports(make_batch(train, chosen, 0).images)
        if progress:
            progress("reports of a foreign teacher", len(reports), len(rows))
    return reports
