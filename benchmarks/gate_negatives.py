"""Pictures that are no frontal chest film, drawn at random: what the gate's view rule learns beside rendered views.

Crude on purpose: they need not deceive anybody, only to cover what a picture may be. Real CT, skin and ultrasound
pictures are kept for judging. Each maker gives float32 [S, S] in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw
from scipy.ndimage import gaussian_filter

from storyxai.types import Array

__all__ = ["MAKERS", "cropped", "photographs", "shuffled", "varied"]

SIDE = 96
PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "chelsea", "clock", "coffee", "coins", "grass", "gravel", "moon", "rocket", "text", "page",
    "retina", "hubble_deep_field", "horse", "immunohistochemistry", "cell", "microaneurysms", "logo",
)  # fmt: skip
"""scikit-image's bundled pictures, each under a free licence (see its data/README.txt)."""


def _scaled(values: Array) -> Array:
    low = values - values.min()
    return np.asarray(low / max(float(np.ptp(values)), 1e-6), np.float32)


def _places() -> tuple[Array, Array]:
    """Rows and columns of the picture, from -0.5 to 0.5."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    return rows, columns


def limb(rng: np.random.Generator) -> Array:
    """Arms, legs, hands: tubes of bone in soft tissue."""
    rows, columns = _places()
    count = int(rng.choice([1, 2, 2, 4, 5]))
    heading = rng.uniform(0, np.pi) if rng.random() < 0.4 else np.pi / 2 + rng.normal(0, 0.15)
    soft, bone = np.zeros((2, SIDE, SIDE))
    for number in range(count):
        off = number - (count - 1) / 2
        angle = heading + rng.normal(0, 0.08) + off * rng.uniform(0, 0.2) * (count > 2)
        x, y = columns - off / (count + 0.5) * rng.uniform(0.5, 1), rows - rng.normal(0, 0.1)
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        radius, end = rng.uniform(0.03, 0.10) * (1 if count < 4 else 0.5), rng.uniform(0.2, 0.7)
        thick = radius * (1 + 0.6 * np.exp(-(((np.abs(along) - end) / (1.5 * radius)) ** 2)))
        shaft = _chord(across / thick) - 0.55 * _chord(across / (0.72 * thick))
        bone += shaft * (np.abs(np.abs(along) - end) > 0.015)
        flesh = radius * rng.uniform(1.8, 4)
        soft = np.maximum(soft, _chord(across / flesh) * flesh * 12 * (np.abs(along) < rng.uniform(0.8, 3)))
    path = soft * rng.uniform(0.3, 1.5) + bone * rng.uniform(0.5, 2)
    return _scaled(1 - np.exp(-path) + rng.normal(0, 0.01, path.shape))


def _chord(share: Array) -> Array:
    return np.sqrt(np.clip(1 - share**2, 0, 1))


def skull(rng: np.random.Generator) -> Array:
    """A head, or a slice through one: an oval with a bright rim and blots."""
    rows, columns = _places()
    far = np.hypot(columns / rng.uniform(0.3, 0.48), (rows - rng.uniform(-0.1, 0.1)) / rng.uniform(0.32, 0.5))
    shown = 0.7 * _chord(far) + 0.8 * np.exp(-(((far - 0.93) / 0.04) ** 2))
    for _ in range(rng.integers(0, 8)):
        x, y = (columns - rng.normal(0, 0.12)) / rng.uniform(0.03, 0.1), (rows - rng.normal(0.1, 0.15)) / rng.uniform(0.03, 0.1)
        shown = shown + rng.uniform(-0.4, 0.5) * np.exp(-(x**2) - y**2)
    return _scaled(shown + 0.1 * _scaled(gaussian_filter(rng.normal(size=far.shape), rng.uniform(1, 6))) * (far < 1))


def belly(rng: np.random.Generator) -> Array:
    """An abdomen or a pelvis: bright, a spine in the middle, gas, hip bones."""
    rows, columns = _places()
    shown = _chord((columns / rng.uniform(0.42, 0.6)) ** 2) * rng.uniform(0.5, 0.8)
    gaps = 1 - 0.4 * ((rows * 9) % 1 < 0.15)
    shown = shown + 0.3 * (np.abs(columns) < 0.06) * (rows < rng.uniform(0.1, 0.5)) * gaps
    for _ in range(rng.integers(3, 25)):
        x = (columns - rng.uniform(-0.4, 0.4)) / rng.uniform(0.02, 0.09)
        y = (rows - rng.uniform(-0.4, 0.4)) / rng.uniform(0.02, 0.07)
        shown = shown - rng.uniform(0.1, 0.5) * np.exp(-((x**2 + y**2) ** 2))
    if rng.random() < 0.6:
        hip = rng.uniform(0, 0.35)
        for sign in (-1, 1):
            wing = np.hypot((columns - sign * 0.25) / 0.18, (rows - hip) / 0.22) < 1
            head = np.hypot(columns - sign * 0.3, rows - hip - 0.2) < 0.08
            hole = np.hypot(columns - sign * 0.12, rows - hip - 0.25) < 0.08
            shown = shown + 0.35 * (wing & (rows < hip + 0.1)) + 0.3 * head - 0.15 * hole
    return _scaled(np.clip(gaussian_filter(shown, 0.8) + rng.normal(0, 0.02, shown.shape), 0, 1.2))


def ultrasound(rng: np.random.Generator) -> Array:
    """Speckle in layers with dark cysts, sometimes in a fan."""
    rows, columns = _places()
    speckle = gaussian_filter(rng.exponential(1, rows.shape), (rng.uniform(0.5, 1.2), rng.uniform(0.8, 2)))
    shown = speckle * (1 + 0.5 * np.sin(np.cumsum(np.abs(rng.normal(0, 0.2, SIDE)))))[:, None]
    for _ in range(rng.integers(1, 4)):
        x = (columns - rng.uniform(-0.3, 0.3)) / rng.uniform(0.08, 0.3)
        y = (rows - rng.uniform(-0.3, 0.3)) / rng.uniform(0.06, 0.25)
        shown = shown * np.where(np.hypot(x, y) < 1, rng.uniform(0.05, 0.5), 1)
    shown = shown * np.linspace(rng.uniform(0.8, 1.3), rng.uniform(0.1, 1), SIDE)[:, None]
    if rng.random() < 0.4:
        fan = (np.hypot(columns, rows + 0.75) < 1.15) & (np.hypot(columns, rows + 0.75) > 0.25)
        shown = shown * (fan & (np.abs(columns) < 0.75 * (rows + 0.85)))
    return _scaled(np.clip(shown, 0, np.quantile(shown, 0.995))) ** np.float32(rng.uniform(0.5, 1))


def skin(rng: np.random.Generator) -> Array:
    """A dark spot on bright skin, sometimes seen through a round lens, sometimes with hair."""
    rows, columns = _places()
    turn = np.arctan2(rows, columns)
    lobes = sum(rng.normal(0, 0.1) * np.cos(k * turn + rng.uniform(0, 6)) for k in (1, 2, 3, 5))
    edge = rng.uniform(0.12, 0.45) * (1 + lobes)
    far = np.hypot(columns - rng.normal(0, 0.06), (rows - rng.normal(0, 0.06)) * rng.uniform(0.8, 1.3)) / edge
    shown = rng.uniform(0.5, 0.9) - rng.uniform(0.2, 0.6) / (1 + np.exp((far - 1) * rng.uniform(4, 20)))
    shown = shown + rng.normal(0, 0.1) * columns + rng.normal(0, 0.1) * rows
    shown = shown + 0.08 * _scaled(gaussian_filter(rng.normal(size=far.shape), rng.uniform(1, 4)))
    if rng.random() < 0.4:
        shown = shown * (np.hypot(columns, rows) < rng.uniform(0.48, 0.65))
    if rng.random() < 0.4:
        hair = PillowImage.new("F", (SIDE, SIDE))
        draw = ImageDraw.Draw(hair)
        for _ in range(rng.integers(3, 20)):
            draw.line([tuple(rng.uniform(0, SIDE, 2)) for _ in range(3)], fill=1.0)
        shown = shown * (1 - 0.5 * np.asarray(hair))
    return _scaled(shown) if rng.random() < 0.7 else np.clip(shown, 0, 1).astype(np.float32)


def leaves(rng: np.random.Generator) -> Array:
    """Ovals of any size over one another."""
    rows, columns = _places()
    shown = np.full(rows.shape, rng.random())
    for _ in range(rng.integers(3, 40)):
        angle = rng.uniform(0, np.pi)
        x, y = columns - rng.uniform(-0.5, 0.5), rows - rng.uniform(-0.5, 0.5)
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        shown = np.where(np.hypot(along / rng.uniform(0.03, 0.4), across / rng.uniform(0.03, 0.4)) < 1, rng.random(), shown)
    return _scaled(gaussian_filter(shown, rng.uniform(0, 3)))


def noise(rng: np.random.Generator) -> Array:
    """Noise of any coarseness."""
    return _scaled(gaussian_filter(rng.random((SIDE, SIDE)), rng.choice([0, 0.5, 1, 2, 4, 8, 16])))


def page(rng: np.random.Generator) -> Array:
    """Lines of text, dark on bright or the other way round."""
    paper = int(rng.choice([255, 240, 0]))
    canvas = PillowImage.new("L", (SIDE, SIDE), paper)
    draw = ImageDraw.Draw(canvas)
    y = int(rng.integers(2, 15))
    while y < SIDE - 6:
        x, right = int(rng.integers(2, 20)), SIDE - int(rng.integers(5, 40))
        while x < right:
            long = int(rng.integers(2, 13))
            draw.rectangle([x, y, x + long, y + int(rng.integers(1, 4))], fill=0 if paper else 255)
            x += long + 3
        y += int(rng.integers(4, 10))
    return np.asarray(canvas, np.float32) / 255


MAKERS: tuple[Callable[[np.random.Generator], Array], ...] = (
    limb, limb, skull, belly, belly, ultrasound, skin, leaves, noise, page,
)  # fmt: skip


def photographs() -> list[Array]:
    """scikit-image's bundled pictures in grey."""
    from skimage import data

    pictures = (np.asarray(getattr(data, name)(), np.float64) for name in PHOTOGRAPHS)
    return [_scaled(picture[..., :3].mean(axis=2) if picture.ndim == 3 else picture) for picture in pictures]


def cropped(pixels: Array, rng: np.random.Generator, low: float, high: float) -> Array:
    """A window that keeps the share `low` to `high` of each side."""
    height, width = pixels.shape
    share = rng.uniform(low, high)
    h, w = max(24, int(height * share)), max(24, int(width * min(1, share * rng.uniform(0.8, 1.25))))
    top, left = rng.integers(0, max(1, height - h + 1)), rng.integers(0, max(1, width - w + 1))
    return pixels[top : top + h, left : left + w]


def shuffled(pixels: Array, rng: np.random.Generator) -> Array:
    """The sixteen tiles of a square picture in disorder."""
    side = len(pixels) // 4
    tiles = pixels.reshape(4, side, 4, side).transpose(0, 2, 1, 3).reshape(16, side, side)[rng.permutation(16)]
    return tiles.reshape(4, 4, side, side).transpose(0, 2, 1, 3).reshape(pixels.shape)


def varied(pixels: Array, rng: np.random.Generator, turn: float = 8) -> Array:
    """The picture turned by up to `turn` degrees, stretched, moved, exposed, blurred, framed differently, or mirrored."""
    bilinear = PillowImage.Resampling.BILINEAR
    small = PillowImage.fromarray(np.ascontiguousarray(pixels, np.float32)).resize((SIDE, SIDE), bilinear)
    angle, zoom = np.radians(rng.uniform(-turn, turn)), rng.uniform(0.85, 1.08)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = matrix @ np.diag([zoom * rng.uniform(0.87, 1.15), zoom])
    offset = np.full(2, SIDE / 2) - matrix @ np.full(2, SIDE / 2) + rng.uniform(-5, 5, 2)
    terms = (*matrix[0], offset[0], *matrix[1], offset[1])
    outside = float(rng.choice([0.0, 0.0, float(pixels.min())]))
    moved = small.transform((SIDE, SIDE), PillowImage.Transform.AFFINE, terms, bilinear, fillcolor=outside)
    shown = np.clip(np.asarray(moved), 0, 1) ** rng.uniform(0.6, 1.6)
    if rng.random() < 0.3:
        shown = gaussian_filter(shown, rng.uniform(0.3, 1.2))
    if rng.random() < 0.3:
        shown = shown + rng.normal(0, rng.uniform(0.005, 0.05), shown.shape)
    if rng.random() < 0.3:
        shown = np.clip(shown * rng.uniform(0.9, 1.4) - rng.uniform(-0.1, 0.15), 0, 1)
    if rng.random() < 0.2:
        shown = shown * rng.uniform(0.5, 0.9) + rng.uniform(0, 0.1)
    if rng.random() < 0.15:
        top, bottom, left, right = rng.integers(2, 8, 4)
        framed = np.full_like(shown, rng.choice([0.0, 0.0, 1.0, 0.3]))
        framed[top : SIDE - bottom, left : SIDE - right] = shown[top : SIDE - bottom, left : SIDE - right]
        shown = framed
    return np.clip(shown[:, ::-1] if rng.random() < 0.3 else shown, 0, 1).astype(np.float32)
