"""The healthy thorax of the phantom: solids in millimetres and how long each X-ray runs through them.

Frame: x to the right of the picture (the patient's left is +x), y downwards from the lung apex, z towards the
patient's front. Rays run along z, so a solid is known by its chord: millimetres of path per pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy import fft, ndimage

from storyxai.types import Array, Mask

SIDES: Mapping[str, float] = {"right": -1.0, "left": 1.0}


@dataclass(frozen=True, eq=False)
class Grid:
    """The film's pixel centres in millimetres: `x_mm` [1, W], `y_mm` [H, 1]."""

    size: int
    spacing_mm: float
    x_mm: Array
    y_mm: Array

    @staticmethod
    def of(size: int, field_mm: float, top_mm: float, shift_mm: float) -> Grid:
        """A square grid of `size` pixels over `field_mm` whose upper edge is `top_mm` above the lung apex."""
        spacing = field_mm / size
        along = ((np.arange(size) + 0.5) * spacing).astype(np.float32)
        return Grid(size, spacing, (along - field_mm / 2 + shift_mm)[None, :], (along - top_mm)[:, None])


@dataclass(frozen=True)
class Body:
    """One patient's measures. `dome_mm` is how far below the apex each diaphragm dome stands; `ratio` is the
    cardiothoracic ratio, from which the heart's size follows."""

    sex: str
    age_years: float
    view: str
    half_width_mm: float
    height_mm: float
    half_depth_mm: float
    wall_mm: float
    breast_mm: float
    rotation_rad: float
    ratio: float
    tilt_rad: float
    heart_right_share: float
    dome_mm: Mapping[str, float]
    angle_drop_mm: float
    aorta_mm: float
    arms_down: bool
    bone: float
    gas_mm: float


@dataclass(frozen=True, eq=False)
class Outline:
    """One pleural space: distance of its medial and lateral edge from the midline per row [H, 1], its chord [H, W] with
    (`whole_mm`) and less (`chord_mm`) what the diaphragm dome takes, its mask (see `_lung`), its hilum (x, y)."""

    inner_mm: Array
    outer_mm: Array
    whole_mm: Array
    chord_mm: Array
    mask: Mask
    hilum_mm: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Chords in millimetres, each [H, W]: body, bone (as cortical bone), heart, other mediastinum, vessels, airways."""

    body: Body
    grid: Grid
    lungs: Mapping[str, Outline]
    body_mm: Array
    bone_mm: Array
    heart_mm: Array
    mediastinum_mm: Array
    vessels_mm: Array
    air_mm: Array


def build_anatomy(body: Body, grid: Grid, rng: np.random.Generator) -> Anatomy:
    """The patient `body` on `grid`; `rng` draws only ribs' and vessels' small variations."""
    lungs = {side: _lung(body, grid, side) for side in SIDES}
    heart = _heart(body, grid)
    return Anatomy(
        body, grid, lungs, _torso(body, grid), _bones(body, grid, rng), heart, _mediastinum(body, grid),
        _vessels(body, grid, rng), _airways(body, grid),
    )


def splat(grid: Grid, x_mm: NDArray[np.float64], y_mm: NDArray[np.float64], mass: NDArray[np.float64]) -> Array:
    """Points of weight `mass` shared out bilinearly among their four pixels; points off the film are dropped."""
    column = (x_mm - float(grid.x_mm[0, 0])) / grid.spacing_mm
    row = (y_mm - float(grid.y_mm[0, 0])) / grid.spacing_mm
    inside = (column >= 0) & (row >= 0) & (column < grid.size - 1) & (row < grid.size - 1)
    column, row, mass = column[inside], row[inside], mass[inside]
    left, top = column.astype(np.int64), row.astype(np.int64)
    across, down = column - left, row - top
    index = top * grid.size + left
    cells = np.concatenate([index, index + 1, index + grid.size, index + grid.size + 1])
    shares = np.concatenate([(1 - across) * (1 - down), across * (1 - down), (1 - across) * down, across * down])
    flat = np.bincount(cells, shares * np.tile(mass, 4), minlength=grid.size**2)
    return flat.reshape(grid.size, grid.size).astype(np.float32)


def smooth_field(rng: np.random.Generator, grid: Grid, scale_mm: float) -> Array:
    """A smooth random field of unit spread [H, W], bumps about `scale_mm` wide, the same at every grid size."""
    cells = max(4, round(grid.size * grid.spacing_mm / scale_mm))  # the film's width in bumps
    coarse = rng.standard_normal((cells + 2, cells + 2)).astype(np.float32)
    frame = (1.0, 1.0, cells + 1.0, cells + 1.0)
    field = Picture.fromarray(coarse).resize((grid.size, grid.size), Picture.Resampling.BICUBIC, frame)
    return np.asarray(field, dtype=np.float32) * np.float32(1.3)


def _dome_profile(u: Array, power: float) -> Array:
    return np.asarray((1 - (1 - np.clip(u, 0, 1)) ** power) ** (1 / power), dtype=np.float32)


def _lung(body: Body, grid: Grid, side: str) -> Outline:
    sign, width, height = SIDES[side], body.half_width_mm, body.height_mm
    t = grid.y_mm / height
    apex = 0.40 * width
    outer = apex + (width - apex) * _dome_profile(t / 0.82, 2.1)
    medial = 0.07 * width - 9.0 * sign * body.rotation_rad
    inner = apex - (apex - medial) * _dome_profile(t / 0.3, 2.0)
    depth = body.half_depth_mm * (0.15 + 0.85 * _dome_profile(t / 0.62, 2.0)) * (t > 0)
    x = sign * grid.x_mm
    share = np.clip(x / np.maximum(outer, 1), 0, 1)
    section = np.sqrt(1 - share**2 * np.sqrt(share))
    # The medial face is steep, and rounded where lung meets mediastinum; above the apex level the cap narrows fast.
    face = np.clip((x - inner) / 34.0, 0, 1)
    chord = 2 * depth * section * face * (2 - face)
    hilum = (sign * (0.26 * width) + 20 * body.rotation_rad, height * (0.5 if side == "right" else 0.46))
    left = (chord - _dome_overlap(body, grid, side, depth * section, chord)).clip(0)
    # People who outline lungs stop a little below the dome's edge, where more tissue than lung lies on the ray.
    mask = np.asarray((left > 8) & (left > 0.42 * chord), dtype=np.bool_)
    return Outline(inner, outer, chord, left, mask, hilum)


def _dome_overlap(body: Body, grid: Grid, side: str, half_depth: Array, chord: Array) -> Array:
    """Millimetres of the ray that the diaphragm dome takes from the pleural space: a paraboloid, deepest behind."""
    width = body.half_width_mm
    x = SIDES[side] * grid.x_mm
    crest = 0.48 * width
    lateral = body.angle_drop_mm * np.clip((x - crest) / (width - crest), 0, None) ** 2.2
    medial = 6.0 * np.clip((crest - x) / crest, 0, None) ** 2
    centre = 0.25 * body.half_depth_mm
    curve = 1.15 * body.angle_drop_mm / (body.half_depth_mm + centre) ** 2
    rise = grid.y_mm - (body.dome_mm[side] + lateral + medial)
    half = np.sqrt(np.clip(rise / curve, 0, None))
    front = np.minimum(centre + half, half_depth)
    back = np.maximum(centre - half, -half_depth)
    # The front recess is shallow: what the dome does not cover there is taken to be covered.
    front = np.where(rise > 0, half_depth, front)
    overlap = np.clip(front - back, 0, None) * (rise > 0)
    return np.asarray(np.minimum(overlap * chord / np.maximum(2 * half_depth, 1), chord), dtype=np.float32)


def _half_width(part: tuple[float, float, float, float, float]) -> float:
    return float(np.hypot(part[2] * np.cos(part[4]), part[3] * np.sin(part[4])))


def _heart(body: Body, grid: Grid) -> Array:
    """The heart's chord; its largest width is exactly `ratio` times the inner thoracic width."""
    parts = ((0.22, 0.10, 0.64, 0.43, body.tilt_rad), (-0.27, 0.05, 0.46, 0.38, 1.45), (0.03, -0.20, 0.48, 0.47, 1.75))
    low = min(part[0] - _half_width(part) for part in parts)
    high = max(part[0] + _half_width(part) for part in parts)
    target = body.ratio * 2 * body.half_width_mm
    scale = target / (high - low)
    # However large, the heart stays inside the chest wall.
    room = 0.95 * body.half_width_mm - 40 * body.rotation_rad
    right_share = max(body.heart_right_share, 1 - room / target)
    x_centre = -right_share * target - scale * low + 40 * body.rotation_rad
    ventricle = parts[0]
    reach = float(np.hypot(ventricle[2] * np.sin(ventricle[4]), ventricle[3] * np.cos(ventricle[4])))
    flat = 0.86 * scale  # a heart is less tall than wide
    y_centre = body.dome_mm["left"] + 12 - flat * (ventricle[1] + reach)
    x, y = (grid.x_mm - x_centre) / scale, (grid.y_mm - y_centre) / flat
    chord = np.zeros((grid.size, grid.size), dtype=np.float32)
    for part_x, part_y, long, short, tilt in parts:
        along = (x - part_x) * np.cos(tilt) + (y - part_y) * np.sin(tilt)
        across = (y - part_y) * np.cos(tilt) - (x - part_x) * np.sin(tilt)
        inside = np.clip(1 - (along / long) ** 2 - (across / short) ** 2, 0, None)
        chord = np.maximum(chord, np.sqrt(inside))
    depth = min(1.5 * scale, 1.75 * body.half_depth_mm)
    return np.asarray(depth * chord, dtype=np.float32)


def _ball(grid: Grid, x_mm: float, y_mm: float, half: tuple[float, float, float]) -> Array:
    q = ((grid.x_mm - x_mm) / half[0]) ** 2 + ((grid.y_mm - y_mm) / half[1]) ** 2
    return np.asarray(2 * half[2] * np.sqrt(np.clip(1 - q, 0, None)), dtype=np.float32)


def _mediastinum(body: Body, grid: Grid) -> Array:
    """Great vessels and soft tissue of the middle: column, aortic knob, descending aorta, pulmonary trunk, hila."""
    width, height, aorta = body.half_width_mm, body.height_mm, body.aorta_mm
    shift = 30 * body.rotation_rad
    column = 0.19 * width + 0.03 * width * np.sin(0.12 * grid.y_mm)
    middle = 100 * np.clip(1 - ((grid.x_mm - shift) / column) ** 2, 0, 1)
    middle = middle * np.clip((grid.y_mm + 30) / 40, 0, 1) * (1 - 0.5 * np.clip(grid.y_mm / height - 0.4, 0, 0.5))
    knob = _ball(grid, 0.13 * width + 0.6 * aorta + shift, 0.27 * height, (aorta, 1.15 * aorta, 1.4 * aorta))
    trunk = _ball(grid, 0.17 * width + shift, 0.42 * height, (0.10 * width, 0.13 * height, 16))
    cava = _ball(grid, -0.12 * width + shift, 0.33 * height, (0.1 * width, 0.26 * height, 20))
    edge = (grid.x_mm - 0.1 * width) / aorta
    descending = 1.6 * aorta * np.sqrt(np.clip(1 - edge**2, 0, 1)) * np.clip((grid.y_mm - 0.27 * height) / 15, 0, 1)
    hila = _ball(grid, -0.25 * width + shift, 0.49 * height, (0.085 * width, 0.13 * height, 17))
    hila = hila + _ball(grid, 0.26 * width + shift, 0.45 * height, (0.085 * width, 0.11 * height, 17))
    soft = np.asarray(ndimage.gaussian_filter(hila + trunk, 3.0 / grid.spacing_mm), dtype=np.float32)
    return np.asarray(np.maximum(np.maximum(middle, knob), np.maximum(descending, cava)) + soft, dtype=np.float32)


def _torso(body: Body, grid: Grid) -> Array:
    """The chord through the whole body: trunk, shoulders, neck, arms, breasts."""
    width, height = body.half_width_mm, body.height_mm
    x, y = np.abs(grid.x_mm), grid.y_mm
    girdle = 44 * np.clip(1 - y / (0.55 * height), 0, 1)
    edge = width * (0.97 + 0.05 * np.clip(y / height, 0, 1.4)) + 0.9 * body.wall_mm + 10 + girdle
    depth = body.half_depth_mm + 0.9 * body.wall_mm
    trunk = 2 * depth * np.sqrt(np.clip(1 - np.square(np.square(np.minimum(x / edge, 1))), 0, 1))
    trunk = trunk * np.sqrt(np.clip((y + 15) / 90, 0, 1))
    slope = 0.22 if body.arms_down else 0.12
    top = -38 + slope * np.clip(x - 50, 0, None) + 10 * np.exp(-(((x - 70) / 40) ** 2))
    reach = width + 80 + 0.5 * body.wall_mm
    shoulder = 1.5 * depth * np.sqrt(np.clip((y - top) / 55, 0, 1)) * np.sqrt(np.clip(1 - (x / reach) ** 6, 0, 1))
    shoulder = shoulder * np.sqrt(np.clip((0.8 * height - y) / (0.5 * height), 0, 1))
    neck = 118 * np.sqrt(np.clip(1 - (x / 60) ** 2, 0, 1)) * np.clip((40 - y) / 40, 0, 1)
    lean = 0.12 if body.arms_down else 0.45
    middle = width + 44 + 0.6 * body.wall_mm + lean * (y - 40)
    arm = 92 * np.sqrt(np.clip(1 - ((x - middle) / 44) ** 2, 0, 1)) * np.clip((y - 5) / 50, 0, 1)
    solid = np.sqrt(np.sqrt(sum(part * part * part * part for part in (trunk, shoulder, neck, arm))))
    if body.breast_mm > 0:
        for sign in SIDES.values():
            low = 0.82 * height
            half = (0.44 * width, 0.30 * height)
            q = ((sign * grid.x_mm - 0.56 * width) / half[0]) ** 2
            q = q + (np.where(y > low, (y - low) / (0.55 * half[1]), (y - low) / half[1])) ** 2
            solid = solid + body.breast_mm * np.clip(1 - q, 0, None) ** 0.7
    return np.asarray(solid, dtype=np.float32)


def _bones(body: Body, grid: Grid, rng: np.random.Generator) -> Array:
    """Ribs and collar bones as shells of cortical bone, the spine, the shoulder blades' edges, the humeral heads."""
    width, height = body.half_width_mm, body.height_mm
    turn = np.linspace(0, 1, 200)
    first, lie = rng.normal(-14, 2), rng.uniform(0.28, 0.42)
    pitch = height / 9.6 * rng.uniform(0.96, 1.04)
    starts = (first + pitch * np.arange(1, 12, dtype=np.float64))[:, None]
    lines = [_ribs(body, sign, starts, lie, turn) for sign in SIDES.values()]
    lines += [_collar_bone(body, sign, turn, rng) for sign in SIDES.values()]
    x, y, mass = (np.concatenate([part.ravel() for part in column]) for column in zip(*lines, strict=True))
    tubes = _tubes(grid, splat(grid, x, y, mass), 0.042 * width)
    blade_x, blade_y, blade_mass = _shoulder_blades(body, turn)
    blades = ndimage.gaussian_filter(splat(grid, blade_x, blade_y, blade_mass), 1.6 / grid.spacing_mm)
    heads = np.zeros_like(tubes)
    for sign in SIDES.values():
        heads = heads + 0.22 * _ball(grid, sign * (width + 42), 22 if body.arms_down else 8, (25, 25, 24))
    bone = tubes + np.asarray(blades, dtype=np.float32) * (9.0 / grid.spacing_mm) + heads + _spine(body, grid)
    return np.asarray(body.bone * bone, dtype=np.float32)


def _ribs(
    body: Body, sign: float, start: NDArray[np.float64], lie: float, turn: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """One side's ribs from spine to cartilage: x, y and weight (arc length times mineral) of points, [rib, point].

    `start` is where each rib leaves the spine; the lower four end earlier. `lie` is how far they run down, in heights.
    """
    width, height = body.half_width_mm, body.height_mm
    number = np.arange(1, len(start) + 1)[:, None]
    share = turn * np.where(number < 8, 0.80, 0.62)
    angle = np.pi * share
    level = np.clip((start + 0.5 * lie * height) / (0.82 * height), 0, 1)
    reach = 0.40 * width + 0.6 * width * (1 - (1 - level) ** 2.1) ** (1 / 2.1) + 3
    depth = body.half_depth_mm * np.minimum(1.0, 0.45 + 0.09 * number)
    x = sign * (16 + (reach - 16) * np.sin(angle) ** 0.85) + 25 * body.rotation_rad * np.sin(angle - np.pi / 2)
    fall = lie * height * np.minimum(1, 0.4 + 0.15 * number) / 0.8
    y = start - 0.035 * height * np.sin(np.clip(2.6 * angle, 0, np.pi)) + fall * share**1.15
    z = -depth * np.cos(angle)
    arc = np.sqrt(sum(np.diff(part, axis=1, append=part[:, -1:]) ** 2 for part in (x, y, 0.9 * z)))
    mineral = np.where(share < 0.5, 1.0, 0.6) * np.clip((1 - turn) / 0.04, 0.15, 1)
    return x, y, arc * mineral


def _collar_bone(
    body: Body, sign: float, turn: NDArray[np.float64], rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    width = body.half_width_mm
    medial = (22 if body.view == "PA" else 8) + rng.normal(0, 4)
    x = sign * (14 + (width + 8) * turn) + 55 * body.rotation_rad * (1 - turn)
    y = medial - (28 if body.arms_down else 38) * turn + 7 * np.sin(2 * np.pi * turn)
    arc = np.hypot(np.gradient(x), np.gradient(y))
    return x, y, 1.9 * arc


def _shoulder_blades(body: Body, turn: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    width, height = body.half_width_mm, body.height_mm
    inward = 0.74 if body.arms_down else 0.93
    rows = []
    for sign in SIDES.values():
        for top, bottom in ((inward + 0.02, inward), (1.16, inward + 0.02)):
            x = sign * width * (top + (bottom - top) * turn) + sign * 4 * np.sin(np.pi * turn)
            y = 0.06 * height + 0.52 * height * turn
            rows.append((x, y, np.hypot(np.gradient(x), np.gradient(y)) * (0.5 + 0.4 * (top > 1))))
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))


def _tubes(grid: Grid, line: Array, radius_mm: float) -> Array:
    """Chord of cortical bone along centre lines: sweeping a ball of radius R gives 2 sqrt(R^2 - d^2) at distance d."""
    pad = grid.size + 2 * round(2 * radius_mm / grid.spacing_mm) + 2
    pad = int(fft.next_fast_len(pad, real=True))
    step = np.minimum(np.arange(pad), pad - np.arange(pad)).astype(np.float32) * grid.spacing_mm
    far = np.hypot(step[:, None], step[None, :])
    outer = np.clip((radius_mm - far) / grid.spacing_mm + 0.5, 0, 1)
    inner = np.clip((0.74 * radius_mm - far) / grid.spacing_mm + 0.5, 0, 1)
    spectrum = fft.rfft2(line, (pad, pad)) * fft.rfft2(outer - 0.74 * inner)
    return np.asarray(fft.irfft2(spectrum, (pad, pad))[: grid.size, : grid.size].clip(0), dtype=np.float32)


def _spine(body: Body, grid: Grid) -> Array:
    """Vertebral bodies with brighter end plates, pedicles and spinous processes, as millimetres of cortical bone."""
    pitch = body.height_mm / 9.6
    phase = (grid.y_mm / pitch + 0.35) % 1.0
    half = 15 + 0.02 * np.clip(grid.y_mm, -60, 400)
    x = grid.x_mm - 6 * body.rotation_rad
    across = np.clip(1 - np.abs(x / half) ** 5, 0, 1) ** 0.5
    gap = np.clip(np.minimum(phase, 1 - phase) / 0.09, 0, 1)
    plate = np.exp(-(((np.minimum(phase, 1 - phase) - 0.13) / 0.05) ** 2))
    body_part = across * (4.5 * gap + 2.0 * plate)
    pedicle = np.exp(-(((np.abs(x) - 0.62 * half) / 3.5) ** 2) - ((phase - 0.4) / 0.16) ** 2)
    process = np.exp(-((x / 3.2) ** 2) - ((phase - 0.75) / 0.16) ** 2)
    return np.asarray(body_part + 4 * pedicle + 4 * process, dtype=np.float32)


def _vessels(body: Body, grid: Grid, rng: np.random.Generator) -> Array:
    """The chord of the lungs' branching vessels, which start at the hila and thin outwards."""
    count = 15
    sign = np.repeat([SIDES["right"], SIDES["left"]], count)
    angle = np.tile(np.linspace(-1.4, 1.4, count), 2) + rng.normal(0, 0.12, 2 * count)
    x = sign * 0.22 * body.half_width_mm + 20 * body.rotation_rad + rng.normal(0, 4, 2 * count)
    y = body.height_mm * np.where(sign < 0, 0.49, 0.45) + 18 * np.sin(angle) + rng.normal(0, 4, 2 * count)
    # Upright, blood goes to the bases: lower vessels are wider.
    radius = np.where(angle > 0.2, 3.4, 2.6) * rng.uniform(0.75, 1.2, 2 * count)
    length = rng.uniform(0.13, 0.24, 2 * count) * body.height_mm
    total = np.zeros((grid.size, grid.size), dtype=np.float32)
    steps = np.linspace(0, 1, 16)[None, :]
    for _level in range(5):
        bend = rng.normal(0, 0.4, len(x))
        heading = angle[:, None] + bend[:, None] * steps
        stride = (length / 16)[:, None]
        path_x = x[:, None] + sign[:, None] * np.cumsum(np.cos(heading) * stride, axis=1)
        path_y = y[:, None] + np.cumsum(np.sin(heading) * stride, axis=1)
        thick = radius[:, None] * (1 - 0.2 * steps)
        mass = 1.5 * np.pi * thick**2 * stride / grid.spacing_mm**2
        drawn = splat(grid, path_x.ravel(), path_y.ravel(), mass.ravel())
        total += ndimage.gaussian_filter(drawn, max(0.45, float(radius.mean()) / 1.8 / grid.spacing_mm), truncate=3.0)
        pick = np.repeat(np.arange(len(x)), 2)
        at = rng.integers(8, 16, len(pick))
        x, y, sign = path_x[pick, at], path_y[pick, at], sign[pick]
        angle = heading[pick, at] + np.tile([-1.0, 1.0], len(pick) // 2) * rng.uniform(0.2, 0.7, len(pick))
        radius = radius[pick] * rng.uniform(0.65, 0.85, len(pick))
        length = length[pick] * rng.uniform(0.65, 1.0, len(pick))
    return total


def _airways(body: Body, grid: Grid) -> Array:
    """Chord of air outside the lung tissue: windpipe, main bronchi, stomach bubble."""
    height, width = body.height_mm, body.half_width_mm
    carina = 0.38 * height
    middle = 25 * body.rotation_rad - 2
    pipe = 17 * np.sqrt(np.clip(1 - ((grid.x_mm - middle) / 9) ** 2, 0, 1))
    pipe = pipe * np.clip((carina - grid.y_mm) / 6, 0, 1)
    for sign, steep, long in ((-1.0, 1.1, 30.0), (1.0, 0.75, 45.0)):
        along = sign * (grid.x_mm - middle)
        off = grid.y_mm - carina + 6 - steep * along
        bronchus = 12 * np.sqrt(np.clip(1 - (off / 9) ** 2, 0, 1))
        pipe = np.maximum(pipe, bronchus * ((along > 0) & (along < long)) * np.clip((long - along) / 12, 0, 1))
    if body.gas_mm > 0:
        bubble_y = body.dome_mm["left"] + 14 + 0.6 * body.gas_mm
        bubble = _ball(grid, 0.42 * width, bubble_y, (1.3 * body.gas_mm, 0.6 * body.gas_mm, 0.9 * body.gas_mm))
        pipe = np.maximum(pipe, bubble)
    return np.asarray(ndimage.gaussian_filter(pipe, 1.2 / grid.spacing_mm), dtype=np.float32)
