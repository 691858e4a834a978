"""Images and references in the model's frame, and the exact views of them that a network is shown.

A view is a number. View 0 is the image as it is; view v > 0 is a small turn, shift, zoom and change of exposure whose
size depends only on (image id, v) and the settings of views, so that a teacher's cached answer belongs to the very pixels
that the student sees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from storyxai.data.augmentation import DEFAULT_VIEWS, ViewSettings
from storyxai.errors import TableError

__all__ = ["UNKNOWN_PIXEL", "Batch", "Examples", "image_tensor", "join_examples", "make_batch"]

UNKNOWN_PIXEL = 255
"""Marks a mask pixel or a grid cell that nobody states."""


@dataclass(frozen=True, eq=False)
class Examples:
    """References of N images, all in the model's frame (square, letterboxed).

    Shapes: images uint8 [N, S, S], in colour [N, 3, S, S]; labels float32 [N, F], nan = not stated;
    masks uint8 [N, C, S/4, S/4] share of a pixel inside each of the modality's structures in 0..100 or UNKNOWN_PIXEL;
    union uint8 [N, S/4, S/4] the same for the modality's pair where its sides are not told apart;
    cells uint8 [N, F, S/16, S/16] share of a cell inside a box, likewise; tokens int64 [N, T], all PAD where
    no report is known. `domain` names the source of each image ("phantom", "nih", "kermany").
    """

    ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    domain: tuple[str, ...]
    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    masks: NDArray[np.uint8]
    union: NDArray[np.uint8]
    cells: NDArray[np.uint8]
    tokens: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Examples:
        """The examples of the given rows."""
        index = np.asarray(rows, dtype=np.int64)
        mine = [getattr(self, item.name) for item in fields(self)]
        return Examples.of_columns(one[index] if isinstance(one, np.ndarray) else tuple(one[i] for i in index) for one in mine)

    @staticmethod
    def of_columns(columns: Iterable[Any]) -> Examples:
        """The examples whose fields are `columns`, in their order; texts may come as arrays."""
        given: list[Any] = [
            tuple(one.tolist()) if isinstance(one, np.ndarray) and one.dtype.kind == "U" else one for one in columns
        ]
        return Examples(*given)


class Batch(NamedTuple):
    """What a network is shown and judged by. Shapes as in `Examples`; nan marks what is not stated.

    `label_weights` [B] are how much labels and boxes of each image weigh, where a round says so (1 each).
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    union: Tensor
    cells: Tensor
    tokens: Tensor
    label_weights: Tensor


def join_examples(parts: Sequence[Examples]) -> Examples:
    """The examples of all parts in order. Raises: TableError when an id stands in more than one part."""
    columns = ([getattr(part, item.name) for part in parts] for item in fields(Examples))
    joined = Examples.of_columns(np.concatenate(one) if isinstance(one[0], np.ndarray) else sum(one, ()) for one in columns)
    ids = joined.ids
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise TableError(twice, "stands in the training examples twice", mend="give each image one id")
    return joined


def make_batch(
    examples: Examples, rows: NDArray[np.int64], view: int, settings: ViewSettings = DEFAULT_VIEWS
) -> Batch:
    """The given rows as the network is shown them in `view`, with every reference moved along with the pixels."""
    images = image_tensor(examples.images[rows])
    masks, union, cells = (_shares(part[rows]) for part in (examples.masks, examples.union, examples.cells))
    labels, tokens = torch.from_numpy(examples.labels[rows]), torch.from_numpy(examples.tokens[rows])
    batch = Batch(images, labels, masks, union.unsqueeze(1), cells, tokens, torch.ones(len(rows)))
    if view:
        batch = _augment(batch, [_view_of(examples, row, view, settings) for row in rows], settings)
    return batch._replace(union=batch.union.squeeze(1))


def image_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Images as a network takes them, float32 [B, C, S, S] in [0, 1]. Shapes: images [B, S, S] or [B, C, S, S]."""
    shown = torch.from_numpy(images).float().div_(255.0)
    return shown.unsqueeze(1) if shown.ndim == 3 else shown


def _shares(values: NDArray[np.uint8]) -> Tensor:
    """Shares in 0..1, nan where nobody states one."""
    known = torch.from_numpy(values).float()
    known[known == UNKNOWN_PIXEL] = torch.nan
    return known / 100.0


@dataclass(frozen=True, eq=False)
class _View:
    """What was drawn for one image: six affine numbers; gamma, gain, offset and grain; the seed of its noise; the side that
    it is averaged down to, as a share (1: none); whether it is mirrored."""

    affine: NDArray[np.float64]
    exposure: NDArray[np.float64]
    noise_seed: int
    side: float
    mirrored: bool


def _view_of(examples: Examples, row: int, view: int, settings: ViewSettings) -> _View:
    """The view of one example, mirrored only where its set may be."""
    drawn = _draw_view(examples.ids[row], view, settings)
    return replace(drawn, mirrored=False) if examples.domain[row] in settings.never_mirrored else drawn


def _draw_view(image_id: str, view: int, given: ViewSettings) -> _View:
    """The view of an image, from a generator seeded by the image and the view."""
    seed = int.from_bytes(hashlib.sha256(f"{image_id}|{view}".encode()).digest()[:8], "little")
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-given.turn, given.turn) * np.pi / 180
    zoom_x, zoom_y = rng.uniform(*given.zoom) * rng.uniform(*given.stretch, size=2)
    shift_x, shift_y = rng.uniform(-given.shift, given.shift, size=2)
    cos, sin = np.cos(angle), np.sin(angle)
    affine = np.array([cos / zoom_x, -sin / zoom_x, shift_x, sin / zoom_y, cos / zoom_y, shift_y])
    exposure = np.array([
        np.exp(rng.normal(0, given.gamma)), rng.uniform(*given.gain), rng.uniform(-given.offset, given.offset),
        rng.uniform(0, given.grain),
    ])
    noise_seed = int(np.float32(rng.integers(0, 2**31 - 1)))  # rounded, as in every training so far
    mirrored, blurred, side = rng.uniform() < given.mirror, rng.uniform() < given.blur, rng.uniform(*given.blur_sides)
    return _View(affine, exposure, noise_seed, float(side) if blurred else 1.0, bool(mirrored))


def _augment(batch: Batch, views: Sequence[_View], settings: ViewSettings) -> Batch:
    """The batch with each image in its own view, and every reference where the pixels went."""
    turn = torch.from_numpy(np.stack([view.affine for view in views]).reshape(-1, 2, 3).astype(np.float32))
    images = _expose(_augment_affine(batch.images, turn, outside=0.0), views)
    masks, union, cells = (_augment_affine(part, turn, outside=torch.nan) for part in (batch.masks, batch.union, batch.cells))
    moved = batch._replace(images=_coarsen(images, views), masks=masks, union=union, cells=cells)
    mirrored = torch.tensor([view.mirrored for view in views])
    return _mirror(moved, mirrored, settings.mirror_order) if bool(mirrored.any()) else moved


def _mirror(batch: Batch, chosen: Tensor, mask_order: Sequence[int]) -> Batch:
    """The batch with the images marked in `chosen` (bool [B]) mirrored; their reports, which name sides, are unknown."""
    def flip(values: Tensor) -> Tensor:
        return torch.where(chosen[:, None, None, None], values.flip(3), values)

    order = list(mask_order) if len(mask_order) == batch.masks.shape[1] else slice(None)
    masks = torch.where(chosen[:, None, None, None], batch.masks[:, order].flip(3), batch.masks)
    tokens = torch.where(chosen[:, None], torch.zeros_like(batch.tokens), batch.tokens)
    return batch._replace(
        images=flip(batch.images), masks=masks, union=flip(batch.union), cells=flip(batch.cells), tokens=tokens
    )


def _coarsen(images: Tensor, views: Sequence[_View]) -> Tensor:
    """The images that are to be blurred averaged down to a smaller side and drawn up again."""
    if all(view.side == 1.0 for view in views):
        return images
    out = images.clone()
    for row, view in enumerate(views):
        if view.side < 1.0:
            side = max(1, round(view.side * images.shape[-1]))
            small = F.interpolate(images[row : row + 1], size=(side, side), mode="area")
            out[row] = F.interpolate(small, size=images.shape[-2:], mode="bilinear", align_corners=False)[0]
    return out


def _augment_affine(values: Tensor, turn: Tensor, *, outside: float) -> Tensor:
    """`values` under the affine `turn`; nan stays nan (nearest cells), what comes from beyond the frame is `outside`."""
    if not values.shape[1]:  # a modality without a structure
        return values
    size = [values.shape[0], values.shape[1], values.shape[2], values.shape[3]]
    grid = F.affine_grid(turn, size, align_corners=False)
    holds_nan = bool(values.isnan().any())
    mode = "nearest" if holds_nan or outside != 0.0 else "bilinear"
    moved = F.grid_sample(values.nan_to_num(-1.0), grid, mode=mode, padding_mode="zeros", align_corners=False)
    if outside != 0.0:
        beyond = (grid.abs() > 1).any(dim=3).unsqueeze(1)
        moved = moved.masked_fill(beyond, outside)
    return moved.masked_fill(moved < -0.5, torch.nan) if holds_nan else moved


def _expose(images: Tensor, views: Sequence[_View]) -> Tensor:
    exposure = torch.from_numpy(np.stack([view.exposure for view in views]).astype(np.float32))
    gamma, gain, offset, grain = (exposure[:, i].view(-1, 1, 1, 1) for i in range(4))
    exposed = images.clamp(1e-4, 1).pow(gamma) * gain + offset * (images > 0)
    noise = torch.stack(
        [torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(view.noise_seed)) for view in views]
    )
    return (exposed + noise * grain).clamp(0, 1)
