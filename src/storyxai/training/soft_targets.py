"""What teachers say about each exact view of each image, computed once and kept on disk in 16 bit.

One folder per teacher, task and view; in it shards of some hundred images, each one file that is there whole or not at all.
Every row carries the hash of its image, so new images are asked about alone and a killed run goes on at its last shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from storyxai.data.augmentation import DEFAULT_VIEWS, ViewSettings
from storyxai.data.batches import Examples, make_batch
from storyxai.errors import ArchiveError, OutputError, RecipeError, UnknownNameError
from storyxai.files import fresh_file
from storyxai.models.network import Network
from storyxai.models.teachers import OwnTeacher, Teacher, TeacherAnswers, join_by_name, network_hash
from storyxai.models.tokens import PAD
from storyxai.progress import Progress
from storyxai.training.apart import memory_kept
from storyxai.training.losses import attention_map
from storyxai.training.reasons import MAP_KINDS, maps_of
from storyxai.types import SoftTargets

__all__ = ["AskOptions", "ShardRows", "TeacherTargets", "cache_targets", "join_findings", "network_hash"]

Half: TypeAlias = NDArray[np.float16]
KEY_BYTES = 16


@dataclass(frozen=True, eq=False)
class ShardRows:
    """Rows [N, ...] that lie in memory-mapped shards; `rows[numbers]` reads those asked for, as a plain array.

    Handed to another process, it opens the files `paths` there instead of carrying what is in them.
    """

    paths: tuple[Path, ...]
    name: str
    shards: tuple[Half, ...]
    shard_of: NDArray[np.int64]
    row_of: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row_of)

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_rows, (self.paths, self.name, self.shard_of, self.row_of)

    @property
    def shape(self) -> tuple[int, ...]:
        """As that of an array."""
        return (len(self), *self.shards[0].shape[1:])

    def __getitem__(self, rows: Any) -> Half:
        shard_of, row_of = np.atleast_1d(self.shard_of[rows]), np.atleast_1d(self.row_of[rows])
        out = np.empty((len(row_of), *self.shape[1:]), dtype=np.float16)
        for shard in np.unique(shard_of):
            here = shard_of == shard
            out[here] = self.shards[shard][row_of[here]]
        return out if np.ndim(self.row_of[rows]) else out[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[np.arange(len(self))], dtype=dtype)


Rows: TypeAlias = Half | ShardRows


def _nothing() -> Half:
    return np.zeros((0,), dtype=np.float16)


@dataclass(frozen=True, eq=False)
class TeacherTargets:
    """Teachers' logits for one view of N examples; an empty array where no teacher of that task was given.

    Shapes: findings float32 [N, F] (nan = the teacher does not know), masks float16 [N, 3, h, w], words float16
    [M, T - 1, V] for the M examples that have a report, `word_row` int64 [N] their row or -1. `maps` float16
    [N, F, h, w] are the findings' teacher's reasons, each scaled to a largest size of 1 (nan = unknown); `attention`
    float16 [N, h, w] is `attention_map` of its features.
    """

    view: int
    findings: NDArray[np.float32]
    masks: Rows
    words: Rows
    word_row: NDArray[np.int64]
    maps: Rows = field(default_factory=_nothing)
    attention: Rows = field(default_factory=_nothing)


@dataclass(frozen=True)
class AskOptions:
    """What teachers are asked. `findings` are the student's: answers are joined to them by name (() = the teacher has the
    student's own). `reasons` ("grid" or "grad-cam", "" = none) keeps the maps of the findings' teacher, `hints` its attention.
    `settings` draw the views; `batch_size` images are asked about at once, and `shard_size` of them share a file.
    """

    findings: tuple[str, ...] = ()
    reasons: str = ""
    hints: bool = False
    settings: ViewSettings = DEFAULT_VIEWS
    batch_size: int = 64
    shard_size: int = 512


def cache_targets(
    teachers: Mapping[str, Network | Teacher], examples: Examples, *, views: int, folder: Path,
    options: AskOptions = AskOptions(), progress: Progress | None = None,
) -> tuple[TeacherTargets, ...]:
    """The targets of views 0 .. `views` - 1, read from `folder` where they were computed before.

    `teachers` maps a task ("findings", "masks", "report") to its teacher. An answer is kept under the hash of the teacher,
    the image, its id (which draws the views), the view and, for words, the reference words.
    Raises: RecipeError when a teacher does not answer what is asked; OutputError; ArchiveError for a damaged shard.
    """
    if options.reasons not in ("", *MAP_KINDS):
        mend = str(UnknownNameError("kind", options.reasons, MAP_KINDS))
        raise RecipeError(f"reasons '{options.reasons}'", "are not known", mend=mend)
    has_report = np.flatnonzero((examples.tokens != PAD).any(axis=1))
    word_row = np.full(len(examples), -1, dtype=np.int64)
    word_row[has_report] = np.arange(len(has_report))
    asked = {
        task: _Asked(task, OwnTeacher(teacher) if isinstance(teacher, Network) else teacher, options)
        for task, teacher in teachers.items()
    }
    rows = {task: has_report if task == "report" else np.arange(len(examples)) for task in asked}
    keys = {task: _image_keys(examples, rows[task], with_words=task == "report") for task in asked}
    frame = f"{examples.images.shape[1:]}|{examples.masks.shape[2:]}|{examples.tokens.shape[1]}"
    if options.settings != DEFAULT_VIEWS:
        frame += f"|{replace(options.settings, blend=0.0, plain=0.0)}"
    hashes = {task: f"{one.hash}|{frame}" for task, one in asked.items()}
    done: list[TeacherTargets] = []
    for view in range(views):
        read: dict[str, Rows] = {}
        for task, one in asked.items():
            name = hashlib.sha256(f"{hashes[task]}|{view}".encode()).hexdigest()[:24]
            place = _open_folder(folder / f"{task}-view{view}-{name}")
            stored = _stored(place)
            missing = [i for i, key in enumerate(keys[task]) if key not in stored.places]
            for start in range(0, len(missing), options.shard_size):
                part = missing[start : start + options.shard_size]
                values = one.answers(examples, rows[task][part], view, start, len(missing), progress)
                _write_shard(place, [keys[task][i] for i in part], values)
            if missing:
                stored = _stored(place)
            read |= _read(stored, keys[task], task)
        unknown = np.full((len(examples), len(options.findings) or examples.labels.shape[1]), np.nan, dtype=np.float32)
        known = np.asarray(read["findings"], dtype=np.float32) if "findings" in read else unknown
        done.append(
            TeacherTargets(
                view, known, read.get("masks", _nothing()), read.get("report", _nothing()), word_row,
                read.get("maps", _nothing()), read.get("attention", _nothing()),
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
    row_of = {name: row for row, name in enumerate(soft.ids)}
    asked = np.array([row_of.get(name, -1) for name in examples.ids], dtype=np.int64)
    columns = np.array([soft.findings.index(name) if name in soft.findings else -1 for name in findings], dtype=np.int64)
    known = (asked >= 0)[:, None] & (columns >= 0)
    theirs = np.where(known, soft.logits[asked][:, columns], np.nan)
    ours = targets.findings
    both = (np.float32(weight) * theirs + np.float32(1 - weight) * ours).astype(np.float32)
    mixed = np.where(np.isnan(theirs), ours, np.where(np.isnan(ours), theirs, both))
    return replace(targets, findings=mixed.astype(np.float32))


@dataclass(frozen=True, eq=False)
class _Asked:
    """One teacher and what is asked of it."""

    task: str
    teacher: Teacher
    options: AskOptions

    @property
    def hash(self) -> str:
        """Of all that the answers depend on but image and view."""
        wish = self.options
        extra = f"{'|'.join(wish.findings)}|{wish.reasons}|{wish.hints}" if self.task == "findings" else ""
        return hashlib.sha256(f"{self.teacher.hash}|{self.task}|{extra}".encode()).hexdigest()

    @memory_kept()
    def answers(
        self, examples: Examples, rows: NDArray[np.int64], view: int, before: int, total: int, progress: Progress | None
    ) -> dict[str, Half]:
        """Its answers about `rows` by name, 16 bit."""
        kept: dict[str, list[Half]] = {}
        batch_size = self.options.batch_size
        for start in range(0, len(rows), batch_size):
            batch = make_batch(examples, rows[start : start + batch_size], view, self.options.settings)
            with torch.no_grad():
                said = self.teacher.answers(batch.images, batch.tokens if self.task == "report" else None)
                named = self._named(said, examples.masks.shape[2:])
            for name, values in named.items():
                kept.setdefault(name, []).append(values.clamp(-60000, 60000).cpu().numpy().astype(np.float16))
            if progress:
                done = before + min(start + batch_size, len(rows))
                progress(f"soft targets: {self.task}, view {view}", done, total)
        return {name: np.concatenate(parts) for name, parts in kept.items()}

    def _named(self, said: TeacherAnswers, mask_grid: tuple[int, ...]) -> dict[str, Tensor]:
        if self.task == "masks":
            masks = self._given(said.masks, "masks")
            if masks.shape[2:] != mask_grid:
                masks = F.interpolate(masks, size=mask_grid, mode="bilinear", align_corners=False)
            return {"masks": masks}
        if self.task == "report":
            return {"report": self._given(said.words, "next words")}
        named = {"findings": self._joined(self._given(said.findings, "findings"))}
        if self.options.reasons:
            grid = self._given(said.maps, "maps")
            if self.options.reasons == "grad-cam" and not isinstance(self.teacher, OwnTeacher):
                mend = "do not ask for its reasons (0 in the recipe), or name a network trained here"
                raise RecipeError(self.teacher.name, "is not a network of ours: no Grad-CAM", mend=mend)
            if isinstance(self.teacher, OwnTeacher) and said.features is not None:
                network = self.teacher.network
                shares = None if said.masks is None else network.shares(said.masks)
                maps = maps_of(self.options.reasons, network.finding_head, said.features, grid, shares)
            else:
                maps = torch.sigmoid(grid)
            # Their distance does not depend on scale, and small numbers lose their digits in 16 bit.
            top = maps.abs().amax(dim=(2, 3), keepdim=True)
            named["maps"] = self._joined(maps / top.masked_fill(top == 0, 1.0))
        if self.options.hints:
            named["attention"] = attention_map(self._given(said.features, "features"))
        return named

    def _joined(self, values: Tensor) -> Tensor:
        mine = self.options.findings
        return join_by_name(values, self.teacher.findings, mine) if mine else values

    def _given(self, values: Tensor | None, what: str) -> Tensor:
        if values is None:
            mend = f"name another teacher of {self.task}, or do not ask for its {what}"
            raise RecipeError(self.teacher.name, f"gives no {what}", mend=mend)
        return values


def _image_keys(examples: Examples, rows: NDArray[np.int64], *, with_words: bool) -> list[bytes]:
    keys = []
    for row in rows:
        digest = hashlib.sha256(examples.ids[row].encode() + b"|" + examples.images[row].tobytes())
        if with_words:  # the next word is asked for after the words of the reference
            digest.update(examples.tokens[row].tobytes())
        keys.append(digest.digest()[:KEY_BYTES])
    return keys


def _open_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(str(folder), f"cannot be made ({error.strerror})", mend="name a writable folder") from error
    return folder


@dataclass(frozen=True, eq=False)
class _Stored:
    """The shards of a folder, and where each image's answer is: (shard, row)."""

    paths: tuple[Path, ...]
    places: Mapping[bytes, tuple[int, int]]


def _stored(folder: Path) -> _Stored:
    paths = tuple(sorted(folder.glob("*.npy")))
    shards = [_open_shard(path) for path in paths]
    return _Stored(paths, {key.tobytes(): (i, row) for i, shard in enumerate(shards) for row, key in enumerate(shard["key"])})


def _open_shard(path: Path) -> Any:
    """A shard, memory-mapped. Raises: ArchiveError when it is damaged."""
    try:
        shard = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        mend = "delete it: it will be computed again"
        raise ArchiveError(str(path), "is cut short or no shard of soft targets", mend=mend) from error
    if "key" not in (shard.dtype.names or ()):
        raise ArchiveError(str(path), "is no shard of soft targets", mend="delete it: it will be computed again")
    return shard


def _open_rows(paths: tuple[Path, ...], name: str, shard_of: NDArray[np.int64], row_of: NDArray[np.int64]) -> ShardRows:
    return ShardRows(paths, name, tuple(_open_shard(path)[name] for path in paths), shard_of, row_of)


def _read(stored: _Stored, keys: list[bytes], task: str) -> dict[str, Rows]:
    if not keys:
        return {task: _nothing()} if task == "report" else {}
    where = np.array([stored.places[key] for key in keys], dtype=np.int64)
    names = [name for name in _open_shard(stored.paths[0]).dtype.names if name != "key"]
    return {name: _open_rows(stored.paths, name, where[:, 0], where[:, 1]) for name in names}


def _write_shard(folder: Path, keys: list[bytes], values: Mapping[str, Half]) -> None:
    fields: list[Any] = [("key", np.uint8, (KEY_BYTES,))]
    fields += [(name, np.float16, rows.shape[1:]) for name, rows in values.items()]
    shard = np.empty(len(keys), dtype=np.dtype(fields))
    shard["key"] = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY_BYTES)
    for name, rows in values.items():
        shard[name] = rows
    path = folder / f"{hashlib.sha256(b''.join(keys)).hexdigest()[:24]}.npy"
    with fresh_file(path, mend="free some space") as part:
        np.save(part, shard, allow_pickle=False)
