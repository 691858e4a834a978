"""The worst errors of the way to the model's frame and back: python geometry_error.py [COUNT]

Random sizes, crops, paddings and model sizes: points and boxes there and back, a planted blob seen through the model's
frame and drawn back, a half-covered mask's edge. Units: original pixels.
"""

from __future__ import annotations

import sys

import numpy as np

from storyxai.imaging.geometry import ModelFrame, model_frame
from storyxai.types import Box


def box_error(frame: ModelFrame, rng: np.random.Generator) -> float:
    """The largest error of a box's four numbers."""
    x, y = rng.random(2) * (frame.width, frame.height)
    w, h = rng.random(2) * (frame.width - x, frame.height - y)
    seen = frame.box_to_model(Box("Mass", x, y, w, h, 1.0))
    left, top = frame.point_to_original(seen.x, seen.y)
    right, bottom = frame.point_to_original(seen.x + seen.width, seen.y + seen.height)
    return float(max(abs(left - x), abs(top - y), abs(right - left - w), abs(bottom - top - h)))


def blob_error(frame: ModelFrame, rng: np.random.Generator, *, cut: int) -> tuple[float, float]:
    """How far the centre of mass of a blob moved in x and y; the blob stands in a larger picture that is cropped by `cut`."""
    sigma = max(1.2 * frame.side / frame.size, 0.02 * frame.side)
    x, y = (np.clip(rng.random() * side, 4 * sigma, max(side - 4 * sigma, side / 2)) for side in (frame.width, frame.height))
    rows, columns = np.arange(frame.height + cut) + 0.5, np.arange(frame.width + cut) + 0.5
    whole = np.outer(np.exp(-((rows - y - cut) ** 2) / (2 * sigma**2)), np.exp(-((columns - x - cut) ** 2) / (2 * sigma**2)))
    seen = frame.to_model(whole[cut:, cut:].astype(np.float32))
    drawn = frame.grid_to_original(seen).astype(np.float64)
    truth = whole[cut:, cut:]
    moved = [_centre(drawn.sum(axis)) - _centre(truth.sum(axis)) for axis in (0, 1)]
    return abs(moved[0]), abs(moved[1])


def _centre(line: np.ndarray) -> float:
    return float(line @ (np.arange(len(line)) + 0.5) / line.sum())


def mask_error(frame: ModelFrame, rng: np.random.Generator) -> float:
    """How far a straight edge of a mask moved, in model pixels' width (original pixels per model pixel = 1)."""
    edge = int(rng.integers(frame.width // 4, 3 * frame.width // 4 + 1))
    mask = np.zeros((frame.height, frame.width), np.bool_)
    mask[:, :edge] = True
    row = frame.mask_to_original(frame.mask_to_model(mask), 0.5)[frame.height // 2]
    return abs(float(row.sum()) - edge) * frame.scale


def main() -> None:
    """Prints the worst of each over COUNT random frames."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    rng = np.random.default_rng(0)
    boxes, blobs, edges = [], [], []
    for _ in range(count):
        height, width = (int(side) for side in rng.integers(300, 1500, 2))
        frame = model_frame(height, width, size=int(rng.choice([128, 192, 224, 320, 512])))
        boxes += [box_error(frame, rng) for _ in range(20)]
        blobs.append(max(blob_error(frame, rng, cut=int(rng.integers(0, 60)))))
        edges.append(mask_error(frame, rng))
    sys.stdout.write(f"boxes there and back, {len(boxes)}: worst {max(boxes):.2e} pixels (limit 0.01)\n")
    sys.stdout.write(f"planted blobs, {len(blobs)}: worst {max(blobs):.3f}, median {np.median(blobs):.3f} pixels (limit 0.5)\n")
    sys.stdout.write(f"mask edges, {len(edges)}: worst {max(edges):.2f} model pixels\n")


if __name__ == "__main__":
    main()
