"""What networks hand on to a later student: the weights of their parts, and outlines drawn where a set has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from storyxai.data.batches import UNKNOWN_PIXEL, Examples, image_tensor
from storyxai.errors import RecipeError, WeightsError
from storyxai.models.export import load_network
from storyxai.models.network import Network
from storyxai.models.teachers import OwnTeacher
from storyxai.progress import Progress
from storyxai.training.config import LEARNING_PARTS, TEACHER_TABLES, OutlinesRecipe

WEIGHTS = "student.safetensors"
AT_ONCE = 64


def earlier_student(folder: str) -> Network:
    """The network of a model folder. Raises: WeightsError when it is missing or damaged."""
    return load_network(Path(folder) / WEIGHTS)


def start_parts(network: Network, sources: Mapping[str, str], teachers: Mapping[str, Network]) -> dict[str, int]:
    """How many tensors of each part of `network` now hold the weights that `sources` names, as `StudentRecipe.start` says.

    Tensors of another name or shape stay as they were drawn. Raises: WeightsError when none of a part fits, or a model
    folder cannot be read.
    """
    tables = {TEACHER_TABLES[task]: teacher for task, teacher in teachers.items() if task in TEACHER_TABLES}
    states = {source: (tables.get(source) or earlier_student(source)).state_dict() for source in sorted(set(sources.values()))}
    own, taken = network.state_dict(), {}
    for part, source in sources.items():
        fitting = {
            name: tensor for name, tensor in states[source].items()
            if name.split(".")[0] in LEARNING_PARTS[part] and name in own and own[name].shape == tensor.shape
        }
        if not fitting:
            raise WeightsError(source, f"has no weights that fit the student's {part}", mend="let that part start afresh")
        own |= fitting
        taken[part] = len(fitting)
    network.load_state_dict(own)
    return taken


def draw_outlines(
    train: Examples, how: OutlinesRecipe, *, shares: bool, progress: Progress | None = None
) -> Examples:
    """`train` with the outlines that an earlier student draws on those images of `how.sets` that have none at all.

    With `shares` a pixel holds the student's probability in hundredths, else what it holds likelier.
    Raises: WeightsError for a model folder that cannot be read or draws no outlines; RecipeError for a set that is not there.
    """
    missing = sorted(set(how.sets) - set(train.domain))
    if missing:
        known = ", ".join(sorted(set(train.domain)))
        raise RecipeError("data.outlines", f"names the set '{missing[0]}', of which nothing is learnt", mend=f"known: {known}")
    student = OwnTeacher(earlier_student(how.model), "the earlier student")
    if "masks" not in student.tasks:
        raise WeightsError(how.model, "draws no outlines", mend="name the folder of a student that does")
    bare = (train.masks == UNKNOWN_PIXEL).all(axis=(1, 2, 3)) & (train.union == UNKNOWN_PIXEL).all(axis=(1, 2))
    rows = np.flatnonzero(bare & np.isin(np.array(train.domain), how.sets))
    masks = train.masks.copy()
    for start in range(0, len(rows), AT_ONCE):
        chosen = rows[start : start + AT_ONCE]
        masks[chosen] = _drawn(student, train, chosen, how.structures, shares)
        if progress:
            progress("outlines by an earlier student", start + len(chosen), len(rows))
    return replace(train, masks=masks)


def _drawn(
    student: OwnTeacher, train: Examples, rows: np.ndarray, structures: Sequence[str], shares: bool
) -> np.ndarray:
    """The masks [B, C, h, w] of these rows in hundredths; what is not among `structures` is unknown."""
    said = student.answers(image_tensor(train.images[rows])).masks
    assert said is not None
    chance = F.interpolate(torch.sigmoid(said), size=train.masks.shape[2:], mode="area")
    hundredths = (100 * (chance if shares else (chance >= 0.5).float())).round().to(torch.uint8).numpy()
    hundredths[:, [name not in structures for name in student.network.spec.structures]] = UNKNOWN_PIXEL
    return np.asarray(hundredths)
