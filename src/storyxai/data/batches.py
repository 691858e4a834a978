"""Images and references in the model's frame, and the exact views of them that a network is shown.

A view is a number. View 0 is the image as it is; view v > 0 is a small turn, shift, zoom and change of exposure whose
size depends only on (image id, v), so that a teacher's cached answer belongs to the very pixels the student sees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from storyxai.errors import TableError

__all__ = ["UNKNOWN_PIXEL", "Batch", "Examples", "join_examples", "make_batch"]

UNKNOWN_PIXEL = 255
"""Marks a mask pixel or a grid cell that nobody states."""


@dataclass(frozen=True, eq=False)
class Examples:
    """References of N images, all in the model's frame (square, letterboxed).

    Shapes: images uint8 [N, S, S]; labels float32 [N, F], nan = not stated; masks uint8 [N, 3, S/4, S/4] with 0, 1 or
    UNKNOWN_PIXEL (left lung, right lung, heart); union uint8 [N, S/4, S/4] for lungs not told apart; cells uint8
    [N, F, S/16, S/16] share of a cell inside a box in 0..100 or UNKNOWN_PIXEL; tokens int64 [N, T], all PAD where no
    report is known. `domain` names the source of each image ("phantom", "nih", "kermany").
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
        chosen: dict[str, Any] = {}
        for item in fields(self):
            values = getattr(self, item.name)
            chosen[item.name] = values[index] if isinstance(values, np.ndarray) else tuple(values[i] for i in index)
        return replace(self, **chosen)


class Batch(NamedTuple):
    """What a network is shown and judged by. Shapes as in `Examples`; nan marks what is not stated."""

    images: Tensor
    labels: Tensor
    masks: Tensor
    union: Tensor
    cells: Tensor
    tokens: Tensor


def join_examples(parts: Sequence[Examples]) -> Examples:
    """The examples of all parts in order. Raises: TableError when an id stands in more than one part."""
    joined: dict[str, Any] = {}
    for item in fields(Examples):
        values = [getattr(part, item.name) for part in parts]
        joined[item.name] = np.concatenate(values) if isinstance(values[0], np.ndarray) else sum(values, ())
    ids = joined["ids"]
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise TableError(twice, "stands in the training examples twice", mend="give each image one id")
    return Examples(**joined)


def make_batch(examples: Examples, rows: NDArray[np.int64], view: int) -> Batch:
    """The given rows as the network is shown them in `view`, with every reference moved along with the pixels."""
    images = torch.from_numpy(examples.images[rows]).float().div_(255.0).unsqueeze(1)
    masks = _known(examples.masks[rows])
    union = _known(examples.union[rows]).unsqueeze(1)
    cells = _known(examples.cells[rows])
    cells = cells / 100.0
    if view:
        settings = np.stack([_view_settings(examples.ids[row], view) for row in rows])
        turn = torch.from_numpy(settings[:, :6].reshape(-1, 2, 3).astype(np.float32))
        images = _moved(images, turn, outside=0.0)
        images = _exposed(images, torch.from_numpy(settings[:, 6:].astype(np.float32)))
        masks, union, cells = (_moved(part, turn, outside=torch.nan) for part in (masks, union, cells))
    labels, tokens = torch.from_numpy(examples.labels[rows]), torch.from_numpy(examples.tokens[rows])
    return Batch(images, labels, masks, union.squeeze(1), cells, tokens)


def _known(values: NDArray[np.uint8]) -> Tensor:
    known = torch.from_numpy(values).float()
    known[known == UNKNOWN_PIXEL] = torch.nan
    return known


def _view_settings(image_id: str, view: int) -> NDArray[np.float64]:
    """Six affine numbers, then gamma, gain, offset and noise, from a generator seeded by the image and the view."""
    seed = int.from_bytes(hashlib.sha256(f"{image_id}|{view}".encode()).digest()[:8], "little")
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-8, 8) * np.pi / 180
    zoom_x, zoom_y = rng.uniform(0.86, 1.14) * rng.uniform(0.95, 1.05, size=2)
    shift_x, shift_y = rng.uniform(-0.10, 0.10, size=2)
    cos, sin = np.cos(angle), np.sin(angle)
    affine = [cos / zoom_x, -sin / zoom_x, shift_x, sin / zoom_y, cos / zoom_y, shift_y]
    exposure = [np.exp(rng.normal(0, 0.25)), rng.uniform(0.85, 1.15), rng.uniform(-0.08, 0.08), rng.uniform(0, 0.02)]
    return np.array([*affine, *exposure, float(rng.integers(0, 2**31 - 1))])


def _moved(values: Tensor, turn: Tensor, *, outside: float) -> Tensor:
    """`values` under the affine `turn`; nan stays nan (nearest cells), what comes from beyond the frame is `outside`."""
    size = [values.shape[0], values.shape[1], values.shape[2], values.shape[3]]
    grid = F.affine_grid(turn, size, align_corners=False)
    holds_nan = bool(values.isnan().any())
    mode = "nearest" if holds_nan or outside != 0.0 else "bilinear"
    moved = F.grid_sample(values.nan_to_num(-1.0), grid, mode=mode, padding_mode="zeros", align_corners=False)
    if outside != 0.0:
        beyond = (grid.abs() > 1).any(dim=3).unsqueeze(1)
        moved = moved.masked_fill(beyond, outside)
    return moved.masked_fill(moved < -0.5, torch.nan) if holds_nan else moved


def _exposed(images: Tensor, settings: Tensor) -> Tensor:
    gamma, gain, offset, grain = (settings[:, i].view(-1, 1, 1, 1) for i in range(4))
    exposed = images.clamp(1e-4, 1).pow(gamma) * gain + offset * (images > 0)
    noise = torch.stack(
        [torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(int(seed))) for seed in settings[:, 4]]
    )
    return (exposed + noise * grain).clamp(0, 1)
