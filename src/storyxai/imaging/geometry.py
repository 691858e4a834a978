"""The model's square frame and the original image's frame, and how pixels, maps, boxes and points pass between.

Coordinates are continuous and measured from the outer corner of the top left pixel: pixel (row i, column j) covers
[j, j + 1) x [i, i + 1) and has its centre at (j + 0.5, i + 0.5). A frame of any resolution covers the same square, so a
7 x 7 grid and a 224 x 224 map follow the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from storyxai.types import Array, Box, Mask

_ROWS_AT_ONCE = 16
_SMALL_PIXELS = 1 << 17


@dataclass(frozen=True)
class ModelFrame:
    """A square of `size` x `size` model pixels that holds the whole original image, padded on its shorter side with 0.

    Units: `height`, `width`, `side`, `top`, `left` in original pixels; `side` is the longer side, `top` and `left` are
    the padding before the image.
    """

    height: int
    width: int
    size: int
    side: int
    top: int
    left: int

    @property
    def scale(self) -> float:
        """Model pixels per original pixel."""
        return self.size / self.side

    def to_model(self, pixels: Array) -> Array:
        """`pixels` as the model sees them: padded to a square with 0, then resized with antialiasing.

        Shapes: [H, W] -> [size, size], [H, W, 3] -> [size, size, 3], float32. Values stay within the range of `pixels` and 0.
        """
        if pixels.ndim == 3:
            return np.stack([self.to_model(np.ascontiguousarray(pixels[..., i])) for i in range(pixels.shape[2])], axis=2)
        self._expect(pixels.shape)
        if self.height == self.width:
            square = np.ascontiguousarray(pixels, dtype=np.float32)
        else:
            square = np.zeros((self.side, self.side), dtype=np.float32)
            square[self.top : self.top + self.height, self.left : self.left + self.width] = pixels
        if self.side == self.size:
            return square.copy()
        # Pillow's bilinear filter widens with the reduction (so it averages) and takes pixel centres at one half.
        resized = PillowImage.fromarray(square).resize((self.size, self.size), PillowImage.Resampling.BILINEAR)
        return np.array(resized, dtype=np.float32)

    def mask_to_model(self, mask: Mask) -> Array:
        """The share of each model pixel that `mask` covers. Shapes: bool [H, W] -> float32 [size, size] in [0, 1]."""
        return np.clip(self.to_model(mask.astype(np.float32)), 0.0, 1.0)

    def grid_to_original(self, values: NDArray[Any]) -> Array:
        """`values` on any grid over the model frame, interpolated at every original pixel; the padding is cropped away.

        Shapes: [..., h, w] -> float32 [..., H, W]. Bilinear between cell centres, constant outside the outermost ones,
        so values never leave their range.
        """
        grid = np.asarray(values, dtype=np.float32)
        if grid.ndim < 2:
            raise ValueError(f"a grid needs two axes, got shape {grid.shape}")
        h, w = grid.shape[-2:]
        small = self.height * self.width <= _SMALL_PIXELS
        left, right, top, bottom = self._rectangle(h, w)
        rows, weights = _bilinear_taps(h, top, bottom, self.height)
        out = np.empty((*grid.shape[:-2], self.height, self.width), dtype=np.float32)
        for index in np.ndindex(*grid.shape[:-2]):
            if small:
                cells = PillowImage.fromarray(np.ascontiguousarray(grid[index]))
                whole = cells.resize((self.width, self.height), PillowImage.Resampling.BILINEAR, (left, top, right, bottom))
                out[index] = whole
                continue
            # Of a large picture Pillow widens the few rows; all of it by Pillow would be copied twice at its size.
            mix_rows(self._widened(grid[index]).astype(np.float64), rows, weights, out[index])
        return out

    def rows_to_original(self, grid: Array) -> tuple[Array, NDArray[np.intp], NDArray[np.float64]]:
        """`grid` [h, w] interpolated across alone, float32 [h, W], and which of its rows each of the H original rows mixes, by
        what weights ([H, taps] each): what `grid_to_original` is made of.
        """
        h, w = grid.shape
        _, _, top, bottom = self._rectangle(h, w)
        return self._widened(grid), *_bilinear_taps(h, top, bottom, self.height)

    def _rectangle(self, h: int, w: int) -> tuple[float, float, float, float]:
        """Left, right, top and bottom of the image within a grid of h x w cells, whose edge is a hard limit for Pillow."""
        left, right = self.left * w / self.side, min((self.left + self.width) * w / self.side, w)
        top, bottom = self.top * h / self.side, min((self.top + self.height) * h / self.side, h)
        return left, right, top, bottom

    def _widened(self, grid: Array) -> Array:
        h, w = grid.shape
        left, right, _, _ = self._rectangle(h, w)
        cells = PillowImage.fromarray(np.ascontiguousarray(grid))
        return np.asarray(cells.resize((self.width, h), PillowImage.Resampling.BILINEAR, box=(left, 0, right, h)))

    def mask_to_original(self, probability: NDArray[Any], threshold: float) -> Mask:
        """Where the interpolated `probability` reaches `threshold`. Shapes: [..., h, w] -> bool [..., H, W].

        The same as of `grid_to_original`; but a value lies between those that it is mixed of, so that only pixels whose cells
        lie on both sides of the threshold are mixed. That pays in a large picture.
        """
        if self.height * self.width <= _SMALL_PIXELS:
            return self.grid_to_original(probability) >= np.float32(threshold)
        grid = np.asarray(probability, dtype=np.float32)
        out = np.empty((*grid.shape[:-2], self.height, self.width), dtype=np.bool_)
        for index in np.ndindex(*grid.shape[:-2]):
            out[index] = _rows_above(*self.rows_to_original(grid[index]), np.float32(threshold))
        return out

    def point_to_model(self, x: float, y: float) -> tuple[float, float]:
        """The model-frame position (x, y) of an original-frame position. Units: pixels of each frame."""
        return (x + self.left) * self.scale, (y + self.top) * self.scale

    def point_to_original(self, x: float, y: float) -> tuple[float, float]:
        """The original-frame position (x, y) of a model-frame position; outside the image if it lies in the padding."""
        return x / self.scale - self.left, y / self.scale - self.top

    def box_to_model(self, box: Box) -> Box:
        """`box`, given in the original frame, in the model frame."""
        x, y = self.point_to_model(box.x, box.y)
        return replace(box, x=x, y=y, width=box.width * self.scale, height=box.height * self.scale)

    def _expect(self, shape: tuple[int, ...]) -> None:
        if shape != (self.height, self.width):
            raise ValueError(f"this frame is for {self.height} x {self.width} pixels, got {shape}")


def model_frame(height: int, width: int, *, size: int) -> ModelFrame:
    """The frame in which a model of `size` x `size` pixels sees an image of `height` x `width` pixels.

    Raises: ValueError when a length is below 1.
    """
    if min(height, width, size) < 1:
        raise ValueError(f"lengths must be at least 1, got {height} x {width} and size {size}")
    side = max(height, width)
    return ModelFrame(height, width, size, side, (side - height) // 2, (side - width) // 2)


def model_view(pixels: Array, frame: ModelFrame, *, channels: int) -> Array:
    """`pixels` as a model of so many channels sees them, float32 [channels, size, size].

    Shapes: pixels [H, W] or [H, W, 3]. Grey is given to three channels three times; of colours one channel gets the mean.
    """
    if pixels.ndim == 2:
        grey = frame.to_model(pixels)
        return np.ascontiguousarray(np.broadcast_to(grey, (channels, *grey.shape)))
    if channels == 1:
        return frame.to_model(pixels.mean(axis=2, dtype=np.float32))[None]
    return np.ascontiguousarray(np.moveaxis(frame.to_model(pixels), 2, 0))


@lru_cache(maxsize=16)
def _bilinear_taps(n_in: int, low: float, high: float, n_out: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Which inputs each of `n_out` outputs over [low, high) mixes, and by what weights: Pillow's bilinear filter, to the bit.

    Shapes: [n_out, taps] each.
    """
    # Pillow takes its box as float32, and so is the difference.
    scale = float(np.float32(high) - np.float32(low)) / n_out
    low = float(np.float32(low))
    reach = max(scale, 1.0)
    centers = low + (np.arange(n_out) + 0.5) * scale
    first = np.maximum((centers - reach + 0.5).astype(np.intp), 0)
    last = np.minimum((centers + reach + 0.5).astype(np.intp), n_in) - 1
    taps = first[:, None] + np.arange((last - first).max() + 1)
    weights = np.maximum(1.0 - np.abs((taps - centers[:, None] + 0.5) * (1.0 / reach)), 0.0) * (taps <= last[:, None])
    # In order, as Pillow adds them.
    total = np.add.accumulate(weights, axis=1)[:, -1:]
    used = weights.any(axis=0)  # often all but the last
    return np.minimum(taps, last[:, None])[:, used], (weights / total)[:, used]


def mix_rows(values: NDArray[np.float64], rows: NDArray[np.intp], weights: NDArray[np.float64], out: Array) -> None:
    """Write into `out` the weighted rows of `values`, a few at a time so that they stay in the processor's cache."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        mixed = np.zeros((len(rows[part]), values.shape[1]))
        for tap in range(rows.shape[1]):
            mixed += weights[part, tap, None] * values[rows[part, tap]]
        out[part] = mixed


def _rows_above(values: Array, rows: NDArray[np.intp], weights: NDArray[np.float64], threshold: np.float32) -> Mask:
    """Where the weighted rows of `values` [h, W] reach the threshold, bool [n_out, W], as `mix_rows` would find it."""
    # Neighbouring outputs mix the same rows: each set of rows is looked at once.
    first = np.flatnonzero(np.append(True, (rows[1:] != rows[:-1]).any(axis=1)))
    counts = np.diff(np.append(first, len(rows)))
    above = values >= threshold
    sure, maybe = above[rows[first, 0]], above[rows[first, 0]]
    for tap in range(1, rows.shape[1]):
        sure &= above[rows[first, tap]]
        maybe |= above[rows[first, tap]]
    out = np.repeat(sure, counts, axis=0)
    sets, columns = np.divmod(np.flatnonzero(sure != maybe), values.shape[1])
    repeats = counts[sets]
    # Output rows follow one another within a set: counted from the set's first.
    within = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    at, columns = np.repeat(first[sets], repeats) + within, np.repeat(columns, repeats)
    mixed = np.zeros(len(at))
    for tap in range(rows.shape[1]):
        mixed += weights[at, tap] * values[rows[at, tap], columns]
    out[at, columns] = mixed.astype(np.float32) >= threshold
    return out
