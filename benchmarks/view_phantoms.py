"""Other views of a synthetic chest: a solid body in millimetres, projected from the side or the front, or cut in slices.

What the gate learns to refuse. The body is coarser than that of the frontal phantoms (no findings), but solid: any ray or plane
may cross it. Frame as in `thorax`: x to the patient's left, y downwards from the lung apex, z towards the patient's front.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy import ndimage

from storyxai.types import Array, Mask

__all__ = ["VIEWS", "Chest", "draw_chest", "hounsfield", "render_view"]

VIEWS = ("lateral", "frontal", "axial", "coronal", "sagittal")

# Hounsfield units.
_AIR, _LUNG, _FAT, _SOFT, _BONE = -1000.0, -860.0, -95.0, 40.0, 420.0


@dataclass(frozen=True)
class Chest:
    """One patient's measures in millimetres: half width, height and half depth of the lungs; the spine's bulge; the sternum's
    slope (a share of the depth); wall and breast; where the domes stand; the heart; how the arms are held (radians up from
    hanging, and forward)."""

    width: float
    height: float
    depth: float
    bulge: float
    slope: float
    wall: float
    breast: float
    dome: tuple[float, float]
    drop: float
    heart: float
    heart_left: float
    arms_up: float
    arms_forward: float
    neck_forward: float
    lung: float
    rib_lie: float


def draw_chest(rng: np.random.Generator) -> Chest:
    """A patient's measures: adults of all builds, some children (all lengths shorter)."""
    stout = float(np.clip(rng.normal(), -1.8, 2.3))
    width = 136 + 6 * stout + rng.normal(0, 6)
    height = width * rng.uniform(1.25, 1.85)
    raised = rng.random() < 0.85
    return Chest(
        width, height, rng.uniform(70, 100) + 5 * stout, rng.uniform(4, 38), rng.uniform(0.25, 0.75),
        max(10.0, 24 + 10 * stout), max(0.0, rng.uniform(-25, 45)), (height, height + rng.uniform(-12, 18)),
        rng.uniform(40, 75), rng.uniform(44, 66), rng.uniform(0.1, 0.35),
        rng.uniform(1.9, 3.0) if raised else rng.uniform(0, 1.6), rng.uniform(-0.2, 0.9),
        rng.uniform(-10, 40), _LUNG + rng.uniform(-60, 130), rng.uniform(0.3, 0.8),
    )


def render_view(view: str, rng: np.random.Generator, *, size: int = 80) -> Array:
    """A picture of a new synthetic patient in [0, 1], bright = dense. Shapes: float32 [H, W], longer side `size`.

    `view` is one of VIEWS: "lateral" and "frontal" are projections, the others slices as a CT shows them.
    """
    chest = draw_chest(rng)
    if view in ("lateral", "frontal"):
        return _developed(_projected(chest, view, rng, size), rng)
    return _windowed(*_cut(chest, view, rng, size), rng)


def _projected(chest: Chest, view: str, rng: np.random.Generator, size: int) -> Array:
    """Millimetres of water along each ray of a film that holds the lungs with more or less room, either side facing left."""
    high = (chest.height + 70) * rng.uniform(0.98, 1.3)
    middle = chest.height * 0.5 + rng.normal(0, 12)
    across = high * rng.uniform(0.66, 1.05) if view == "lateral" else max(high, 2.2 * chest.width) * rng.uniform(0.9, 1.1)
    spacing = max(high, across) / size
    y = (np.arange(round(high / spacing)) - high / spacing / 2) * spacing + middle
    side = (np.arange(round(across / spacing)) - across / spacing / 2) * spacing
    reach = chest.width + chest.wall + 110 if view == "lateral" else chest.depth + chest.wall + 70
    step = 8.0
    ray = np.arange(-reach, reach, step) + rng.uniform(0, step)
    side = side + rng.normal(0, 12 if view == "lateral" else 6)
    turn = rng.normal(0, 0.12)
    total = np.zeros((len(y), len(side)), np.float32)
    for at in ray:
        x, z = (at, side) if view == "lateral" else (side, at)
        x, z = x * np.cos(turn) + z * np.sin(turn), z * np.cos(turn) - x * np.sin(turn)
        total += hounsfield(chest, np.asarray(x)[None, :], y[:, None], np.asarray(z)[None, :]) + 1000
    film = total * (step / 1000)
    film = film + _vessel_shadows(film.shape, rng) * rng.uniform(2, 9)
    film = film[:, ::-1] if view == "lateral" and rng.random() < 0.5 else film
    return np.asarray(ndimage.rotate(film, rng.normal(0, 5), reshape=False, order=1, mode="nearest"), np.float32)


def _cut(chest: Chest, view: str, rng: np.random.Generator, size: int) -> tuple[Array, Mask]:
    """Hounsfield units of one slice, and where the scanner saw nothing. Shapes: [H, W] each."""
    room = rng.uniform(0.86, 1.25)
    wide, deep = chest.width + chest.wall + 14, chest.depth + chest.wall + 22
    if view == "axial":
        half = np.array([deep, wide]) * room
        level = chest.height * rng.uniform(0.12, 0.98)
        centre = np.array([0.0, 0.0])
    else:
        half = np.array([chest.height * 0.62, wide if view == "coronal" else deep]) * room
        level = rng.uniform(-0.3, 0.3) * chest.depth if view == "coronal" else rng.uniform(-0.6, 0.6) * chest.width
        centre = np.array([chest.height * 0.5, 0.0])
    if rng.random() < 0.3:
        half[:] = half.max()
    spacing = 2 * half.max() / size
    rows, columns = (
        np.arange(round(2 * h / spacing)) * spacing - h + c + rng.normal(0, 6) for h, c in zip(half, centre, strict=True)
    )
    r, c = rows[:, None], columns[None, :]
    places = {"axial": (c, level, -r), "coronal": (c, r, level), "sagittal": (level, r, c)}[view]
    units = hounsfield(chest, *(np.asarray(place) for place in places))
    lung = np.abs(units - chest.lung) < 40
    vessels = ndimage.gaussian_filter(rng.standard_normal(units.shape), rng.uniform(0.7, 1.3))
    units = np.where(lung & (vessels > np.quantile(vessels, rng.uniform(0.9, 0.985))), _SOFT - 100, units)
    if rng.random() < 0.5:
        patch = ndimage.gaussian_filter(rng.standard_normal(units.shape), size / rng.uniform(10, 25))
        units = np.where(lung & (patch > np.quantile(patch, rng.uniform(0.7, 0.97))), units + rng.uniform(200, 800), units)
    if view == "axial" and rng.random() < 0.6:
        curve = -r - (-deep - rng.uniform(0, 12) + (c / wide) ** 2 * rng.uniform(0, 40))
        units = np.where((np.abs(curve) < 5) & (units < -900), rng.uniform(-300, 200), units)
    blind: Mask = np.zeros(units.shape, np.bool_)
    if rng.random() < 0.35:
        far = np.hypot((rows - rows.mean())[:, None], (columns - columns.mean())[None, :])
        blind = far > half.max() * rng.uniform(0.95, 1.05)
    return np.asarray(units, np.float32), blind


def _windowed(units: Array, blind: Mask, rng: np.random.Generator) -> Array:
    """A slice in a lung, soft or wide window, with noise."""
    level, width = ((-600, 1500), (-500, 1200), (-650, 1000), (-400, 1600), (40, 400), (50, 900), (0, 2000))[rng.integers(7)]
    noisy = ndimage.gaussian_filter(units, rng.uniform(0.2, 0.8)) + rng.normal(0, rng.uniform(5, 60), units.shape)
    shown = np.clip((noisy - level * rng.uniform(0.85, 1.15)) / (width * rng.uniform(0.7, 1.3)) + 0.5, 0, 1)
    return np.asarray(np.where(blind, rng.choice([0.0, 0.0, 0.3, 1.0]), shown ** rng.uniform(0.7, 1.4)), np.float32)


def _developed(water_mm: Array, rng: np.random.Generator) -> Array:
    """A projection as a film shows it: haze, noise, a display curve, sometimes collimation and a letter."""
    film = water_mm * np.float32(0.0185)
    primary = np.exp(-film)
    haze = ndimage.gaussian_filter(np.minimum(primary, 0.3), film.shape[0] / 12)
    signal = np.maximum(primary + rng.uniform(0.05, 0.5) * haze, 1e-6)
    film = -np.log(signal) + rng.normal(0, rng.uniform(0.002, 0.02), film.shape)
    if rng.random() < 0.6:
        film = film + rng.uniform(0.3, 1.2) * (film - ndimage.gaussian_filter(film, rng.uniform(3, 8)))
    body = film[water_mm > 30]
    low, high = np.quantile(body, [rng.uniform(0.0, 0.15), rng.uniform(0.8, 1)])
    shown = np.clip((film - low) / max(float(high - low), 0.2), -0.3, 1.2)
    curved = rng.random() < 0.6
    shown = 1 / (1 + np.exp(-(shown - rng.uniform(0.2, 0.6)) * rng.uniform(3, 7))) if curved else np.clip(shown, 0, 1)
    shown = (shown - shown.min()) / max(float(np.ptp(shown)), 1e-6)
    return _collimated(np.asarray(shown ** rng.uniform(0.6, 1.5), np.float32), rng)


def _collimated(shown: Array, rng: np.random.Generator) -> Array:
    rows, columns = shown.shape
    if rng.random() < 0.3:
        depth = (rng.uniform(0, 0.07, 4) * rng.integers(0, 2, 4) * min(rows, columns)).astype(int)
        framed = np.full_like(shown, rng.choice([0.0, 0.02, 0.25, 1.0]))
        inner = np.s_[depth[0] : rows - depth[1], depth[2] : columns - depth[3]]
        framed[inner] = shown[inner]
        shown = framed
    if rng.random() < 0.4:
        top, left = rng.integers(2, rows // 5), rng.integers(2, columns - columns // 5)
        shown[top : top + rows // 25, left : left + columns // 30] = rng.uniform(0.8, 1)
    return shown


def _vessel_shadows(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    noise = rng.standard_normal(shape)
    fine = ndimage.gaussian_filter(noise, 1.5) - ndimage.gaussian_filter(noise, 5)
    return np.asarray(fine / fine.std(), np.float32)


def hounsfield(chest: Chest, x: Array, y: Array, z: Array) -> Array:
    """Hounsfield units at each point (the three broadcast against one another)."""
    t = y / chest.height
    spine = -0.72 * chest.depth - chest.bulge * (1 - ((t - 0.5) / 0.75) ** 2)
    cap = _rounded(t / 0.7)
    back = spine - 8 * np.clip(t / 0.3, 0, 1)
    leaning = 1 - chest.slope + chest.slope * np.clip(t / 0.85, 0, 1.1)
    front = spine + 20 + (1.72 * chest.depth - 20) * leaning * _rounded(t / 0.35)
    middle, half = (front + back) / 2, np.maximum((front - back) / 2, 1)
    outer = (0.40 + 0.60 * cap) * chest.width
    across, along = np.abs(x) / outer, np.abs(z - middle) / half
    shell = across**2.4 + along**2.4
    units = _torso(chest, x, y, z, middle, half)
    inside = units > -900
    muscle = (across / (1 + 12 / chest.width)) ** 2.4 + (along / (1 + 12 / half)) ** 2.4 < 1
    units = np.where(inside & muscle & (y > -20), _SOFT, units)
    phase = (y + chest.rib_lie * (z - back)) / (chest.height / 9.0) % 1.0
    ribs = (shell > 1.0) & (shell < 1.22) & (phase < 0.38) & (z < front - 6) & (t > -0.02)
    units = np.where(ribs & inside & (t < 1.15), _BONE, units)
    lung = (shell < 1) & (y > 0) & (y < _dome(chest, x, z, middle, half)) & _beside_middle(chest, x, y, z, front, spine)
    units = np.where(lung & inside, chest.lung, units)
    return np.asarray(_skeleton(chest, (x, y, z), units, spine, front), np.float32)


def _rounded(u: Array) -> Array:
    return np.asarray(np.sqrt(np.clip(1 - (1 - np.clip(u, 0, 1)) ** 2, 0, 1)))


def _torso(chest: Chest, x: Array, y: Array, z: Array, middle: Array, half: Array) -> Array:
    """Fat inside the skin (trunk, neck, arms, breasts), air outside."""
    t = y / chest.height
    girth = 1 + 0.25 * np.clip(0.5 - t, 0, 0.5)
    wide = (chest.width * (0.97 + 0.06 * np.clip(t, 0, 1.3)) + chest.wall) * girth
    deep = np.maximum(half, 0.62 * chest.depth) + 0.8 * chest.wall + 12
    trunk = ((np.abs(x) / wide) ** 2.6 + (np.abs(z - middle) / deep) ** 2.6 < 1) & (y > -35 + 0.002 * x**2)
    neck = (x / 62) ** 2 + ((z - middle - chest.neck_forward) / 62) ** 2 < 1
    head = (x / 80) ** 2 + ((y + 190) / 115) ** 2 + ((z - middle - 1.6 * chest.neck_forward) / 95) ** 2 < 1
    bust = ((np.abs(x) - 0.55 * chest.width) / 75) ** 2 + ((y - 0.72 * chest.height) / 70) ** 2
    bust = bust + ((z - middle - half) / (chest.wall + chest.breast + 1)) ** 2
    parts = [trunk, neck & (y < 40), head, bust < 1]
    direction = np.array([0.2, np.cos(chest.arms_up), np.sin(chest.arms_up) * np.cos(chest.arms_forward) + 0.15])
    direction = direction / np.linalg.norm(direction)
    parts.append(_rod(chest, (x, y, z), direction, middle) < 46)
    return np.where(reduce(np.logical_or, parts), _FAT + 60, _AIR)


def _rod(chest: Chest, place: tuple[Array, Array, Array], direction: Array, middle: Array) -> Array:
    """The distance from the nearer upper arm's axis, which starts at the shoulder. Units: mm."""
    x, y, z = place
    dx, dy, dz = np.abs(x) - (chest.width + 25), y - 18, z - middle
    along = np.clip(dx * direction[0] + dy * direction[1] + dz * direction[2], 0, 330)
    far = np.sqrt((dx - along * direction[0]) ** 2 + (dy - along * direction[1]) ** 2 + (dz - along * direction[2]) ** 2)
    return np.asarray(far)


def _dome(chest: Chest, x: Array, z: Array, middle: Array, half: Array) -> Array:
    """How far down the lung reaches: a dome a side, low at the back and at the flanks."""
    stand = np.where(x > 0, chest.dome[1], chest.dome[0])
    along = (z - middle - 0.25 * half) / half
    fall = np.where(along < 0, chest.drop * (along / 1.25) ** 2, 0.45 * chest.drop * (along / 0.75) ** 2)
    flank = 1.4 * chest.drop * np.clip(np.abs(x) / chest.width - 0.45, 0, 1) ** 2
    return np.asarray(stand - 0.12 * chest.height + fall + flank)


def _beside_middle(chest: Chest, x: Array, y: Array, z: Array, front: Array, spine: Array) -> Array:
    """Where there is no mediastinum: neither heart, great vessels nor spine."""
    t = y / chest.height
    spread = np.where(z > spine + 15, 9 + 16 * np.exp(-(((t - 0.42) / 0.22) ** 2)), 18.0)
    away = np.abs(x - 4) > spread
    radius = chest.heart
    hx = (x - chest.heart_left * radius) / (1.12 * radius)
    hy = (y - 0.80 * chest.height + 0.35 * radius) / (1.0 * radius)
    hz = (z - front + 0.85 * radius) / (0.92 * radius)
    heart = hx**2 + hy**2 + (hz + 0.35 * hy) ** 2 < 1
    arch = (np.hypot(y - 0.27 * chest.height, z - spine - 45) - 30) ** 2 + (x - 10) ** 2 < 13**2
    hilum = ((np.abs(x) - 34) / 20) ** 2 + ((y - 0.47 * chest.height) / 26) ** 2 + ((z - spine - 62) / 20) ** 2 < 1
    return np.asarray(away & ~heart & ~(arch & (y < 0.45 * chest.height)) & ~hilum)


def _skeleton(chest: Chest, place: tuple[Array, Array, Array], units: Array, spine: Array, front: Array) -> Array:
    """Adds spine, sternum, shoulder blades, upper arms' bones and the windpipe."""
    x, y, z = place
    phase = y / (chest.height / 9.6) % 1.0
    vertebra = ((x / 17) ** 4 + ((z - spine) / 15) ** 4 < 1) & (np.abs(phase - 0.5) < 0.40)
    arch = (np.abs(x) < 6) & (z < spine - 15) & (z > spine - 46) & (np.abs(phase - 0.5) < 0.28)
    sternum = (np.abs(x) < 19) & (np.abs(z - front - 8) < 6) & (y > 0.08 * chest.height) & (y < 0.72 * chest.height)
    blade = (np.abs(np.abs(x) - 0.80 * chest.width) < 0.28 * chest.width) & (np.abs(z - spine + 26 - 0.3 * np.abs(x)) < 4)
    blade = blade & (y > 0.02 * chest.height) & (y < 0.5 * chest.height)
    bone = (vertebra | arch | sternum | blade) & (units > -900)
    units = np.where(bone, np.where(vertebra, 230.0, _BONE), units)
    pipe = (x / 9) ** 2 + ((z - spine - 38 - 0.1 * y) / 9) ** 2 < 1
    return np.where(pipe & (y < 0.4 * chest.height) & (units > -900), _AIR, units)
