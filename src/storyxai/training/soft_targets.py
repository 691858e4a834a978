"""What teachers say about each exact view of each image, computed once and kept on disk in 16 bit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from storyxai.data.batches import Examples, make_batch
from storyxai.errors import OutputError
from storyxai.models.network import Network
from storyxai.models.tokens import PAD
from storyxai.types import SoftTargets

__all__ = ["TeacherTargets", "cache_targets", "join_findings", "network_hash"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class TeacherTargets:
    """Teachers' logits for one view of N examples; an empty array where no teacher of that task was given.

    Shapes: findings float32 [N, F] (nan = the teacher does not know), masks float16 [N, 3, h, w], words float16
    [M, T - 1, V] for the M examples that have a report, `word_row` int64 [N] their row or -1.
    """

    view: int
    findings: NDArray[np.float32]
    masks: NDArray[np.float16]
    words: NDArray[np.float16]
    word_row: NDArray[np.int64]


def network_hash(network: Network) -> str:
    """The SHA-256 of a network's shape and weights: two teachers with the same hash say the same."""
    digest = hashlib.sha256(json.dumps(network.spec.as_dict(), sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def cache_targets(
    teachers: Mapping[str, Network], examples: Examples, *, views: int, folder: Path, batch_size: int = 64,
    progress: Progress | None = None,
) -> tuple[TeacherTargets, ...]:
    """The targets of views 0 .. `views` - 1, read from `folder` where they were computed before.

    `teachers` maps a task ("findings", "masks", "report") to its teacher. The key of a cached array is the hash of
    teacher, images, view and task (for words also of the reference words); a killed run leaves whole arrays or none.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(str(folder), f"cannot be made ({error.strerror})", mend="name a writable folder") from error
    images_hash = hashlib.sha256(examples.images.tobytes() + "|".join(examples.ids).encode()).hexdigest()
    has_report = np.flatnonzero((examples.tokens != PAD).any(axis=1))
    word_row = np.full(len(examples), -1, dtype=np.int64)
    word_row[has_report] = np.arange(len(has_report))
    done: list[TeacherTargets] = []
    for view in range(views):
        arrays: dict[str, NDArray[np.float16]] = {}
        for task, teacher in teachers.items():
            asked = f"{network_hash(teacher)}|{images_hash}|{view}|{task}"
            if task == "report":  # the next word is asked for after the words of the reference
                asked += "|" + hashlib.sha256(examples.tokens.tobytes()).hexdigest()
            key = hashlib.sha256(asked.encode()).hexdigest()[:24]
            path = folder / f"{task}-{key}.npy"
            if not path.exists():
                rows = has_report if task == "report" else np.arange(len(examples))
                _write_targets(path, teacher, task, examples, rows, view, batch_size, progress)
            arrays[task] = np.load(path, mmap_mode="r", allow_pickle=False)
        empty = np.zeros((0,), dtype=np.float16)
        unknown = np.full((len(examples), examples.labels.shape[1]), np.nan, dtype=np.float32)
        findings = arrays.get("findings", empty)
        done.append(
            TeacherTargets(
                view, findings.astype(np.float32) if len(findings) else unknown,
                arrays.get("masks", empty), arrays.get("report", empty), word_row,
            )
        )
    return tuple(done)


def join_findings(
    targets: TeacherTargets, soft: SoftTargets, examples: Examples, findings: tuple[str, ...], *, weight: float
) -> TeacherTargets:
    """`targets` with a further teacher's finding logits mixed in by image id and finding name.

    Where both know, the logits are averaged with `weight` on `soft`; where one knows, it speaks alone. The image-level
    answer of `soft` is taken to hold for every mild view, as a label is.
    """
    mixed = targets.findings.copy()
    row_of = {name: row for row, name in enumerate(soft.ids)}
    for column, finding in enumerate(findings):
        if finding not in soft.findings:
            continue
        other = soft.findings.index(finding)
        for row, name in enumerate(examples.ids):
            if name in row_of and not np.isnan(soft.logits[row_of[name], other]):
                theirs, ours = soft.logits[row_of[name], other], mixed[row, column]
                mixed[row, column] = theirs if np.isnan(ours) else weight * theirs + (1 - weight) * ours
    return TeacherTargets(targets.view, mixed, targets.masks, targets.words, targets.word_row)


def _write_targets(
    path: Path, teacher: Network, task: str, examples: Examples, rows: NDArray[np.int64], view: int, batch_size: int,
    progress: Progress | None,
) -> None:
    part = path.with_suffix(".part")
    out: np.memmap[Any, np.dtype[np.float16]] | None = None
    try:
        for start, values in _answers(teacher, task, examples, rows, view, batch_size):
            if out is None:
                shape = (len(rows), *values.shape[1:])
                out = np.lib.format.open_memmap(part, mode="w+", dtype=np.float16, shape=shape)
            out[start : start + len(values)] = values
            if progress:
                progress(f"soft targets: {task}, view {view}", start + len(values), len(rows))
        if out is None:
            np.save(part.open("wb"), np.zeros((0,), dtype=np.float16))
        else:
            out.flush()
            del out
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(str(path.parent), f"cannot be written ({error.strerror})", mend="free some space") from error


def _answers(
    teacher: Network, task: str, examples: Examples, rows: NDArray[np.int64], view: int, batch_size: int
) -> Iterator[tuple[int, NDArray[np.float16]]]:
    # Weights must lie as the images do, or every layer turns them round again (five times slower on a CPU).
    teacher = teacher.to(memory_format=torch.channels_last).eval()
    for start in range(0, len(rows), batch_size):
        batch = make_batch(examples, rows[start : start + batch_size], view)
        with torch.inference_mode():
            said = teacher(batch.images.contiguous(memory_format=torch.channels_last))
            if task == "findings":
                values = said.logits
            elif task == "masks":
                values = said.masks
            else:
                values = teacher.decoder(batch.tokens[:, :-1], said.memory)
        yield start, values.clamp(-60000, 60000).numpy().astype(np.float16)
