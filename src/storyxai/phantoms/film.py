"""From rays to film: attenuation, scatter, quantum noise, blur, display curve, devices, side marker and collimation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw
from scipy import ndimage

from storyxai.phantoms.findings import Shadow, aerated
from storyxai.phantoms.thorax import SIDES, Anatomy, Grid
from storyxai.types import Array

# Linear attenuation per millimetre at about 70 keV effective.
SOFT, LUNG, BONE_EXCESS = 0.0182, 0.0046, 0.024
_STROKES: Mapping[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "L": (((0, 0), (0, 1), (0.6, 1)),),
    "R": (((0, 1), (0, 0), (0.5, 0.05), (0.62, 0.25), (0.5, 0.46), (0, 0.5)), ((0.25, 0.5), (0.65, 1))),
}


def line_integral(
    anatomy: Anatomy, shadows: Sequence[Shadow], rng: np.random.Generator, texture_rng: np.random.Generator,
) -> Array:
    """Beer-Lambert: the integral of attenuation along each ray, without devices."""
    grid = anatomy.grid
    sides = {side: aerated(anatomy, side) for side in SIDES}
    lung = sides["left"] + sides["right"]
    tissue, gain, emptied = np.zeros_like(lung), np.ones_like(lung), np.zeros_like(lung)
    rough = np.full_like(lung, rng.uniform(0.012, 0.03))
    for shadow in shadows:
        tissue = tissue + shadow.tissue_mm
        gain = gain if shadow.vessel_gain is None else gain * shadow.vessel_gain
        emptied = emptied if shadow.emptied is None else np.maximum(emptied, shadow.emptied)
        rough = rough if shadow.texture is None else rough + shadow.texture
    tissue = np.minimum(tissue, lung)
    air = (lung - tissue) * emptied
    breathing = lung - tissue - air
    grain = _grain(grid, texture_rng)
    drawn = anatomy.vessels_mm * gain * np.clip(breathing / 40, 0, 1)
    density = LUNG * rng.uniform(0.8, 1.25)
    path = SOFT * (np.maximum(anatomy.body_mm, lung + 25) - lung + tissue)
    path = path + density * breathing * (1 + 2.2 * rough * grain)
    path = path + (SOFT - density) * drawn
    # Thick tissue hardens the beam, and bone stands out less from a harder one.
    path = path + BONE_EXCESS * anatomy.bone_mm / (0.6 + 0.22 * path)
    fat = 1 - 0.05 * rng.random()
    return np.asarray((fat * path - SOFT * np.minimum(anatomy.air_mm, anatomy.body_mm)).clip(0), dtype=np.float32)


def _grain(grid: Grid, rng: np.random.Generator) -> Array:
    noise = rng.standard_normal((grid.size, grid.size)).astype(np.float32)
    fine = ndimage.gaussian_filter(noise, 1.3 / grid.spacing_mm, truncate=3.0)
    coarse = ndimage.gaussian_filter(noise, 4.0 / grid.spacing_mm, truncate=2.5)
    grain = fine - coarse
    return np.asarray(grain / grain.std(), dtype=np.float32)


def devices_mm(anatomy: Anatomy, devices: Sequence[str], leads: int, rng: np.random.Generator) -> Array:
    """Attenuation of a pacemaker with its lead, a central line, and `leads` monitoring wires on the skin."""
    grid, body = anatomy.grid, anatomy.body
    scale = 3
    canvas = Picture.new("F", (grid.size * scale, grid.size * scale))
    draw = ImageDraw.Draw(canvas)
    width, height = body.half_width_mm, body.height_mm

    def at(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        left, top = float(grid.x_mm[0, 0]), float(grid.y_mm[0, 0])
        return [((x - left) / grid.spacing_mm * scale, (y - top) / grid.spacing_mm * scale) for x, y in points]

    def wire(points: Sequence[tuple[float, float]], thick_mm: float, strength: float) -> None:
        knots = np.asarray(points)
        turn = np.linspace(0, len(points) - 1, 60)
        along = [np.interp(turn, range(len(points)), knots[:, axis]) for axis in (0, 1)]
        smooth = [ndimage.gaussian_filter1d(line, 4, mode="nearest") for line in along]
        width_px = max(1, round(thick_mm / grid.spacing_mm * scale))
        draw.line(at(list(zip(*smooth, strict=True))), fill=strength, width=width_px)

    vein = [(-0.1 * width, 0.1 * height), (-0.14 * width, 0.3 * height), (-0.15 * width, 0.5 * height)]
    for _ in range(leads):
        sign = rng.choice([-1.0, 1.0])
        start = (sign * rng.uniform(0.3, 0.8) * width, rng.uniform(0.1, 0.7) * height)
        middle = (sign * rng.uniform(0.6, 1.1) * width, start[1] + rng.uniform(0, 0.4) * height)
        wire([start, middle, (sign * rng.uniform(0.9, 1.3) * width, 1.4 * height)], 1.3, 0.35)
        (x, y), spot = at([start])[0], 4.0 / grid.spacing_mm * scale
        draw.ellipse([x - spot, y - spot, x + spot, y + spot], fill=0.5)
    if "central line" in devices:
        tip = (-0.15 * width, rng.uniform(0.36, 0.52) * height)
        wire([(-0.3 * width, -40.0), (-0.2 * width, 0.0), vein[0], vein[1], tip], 2.2, 0.55)
    if "pacemaker" in devices:
        box_x, box_y = rng.uniform(0.55, 0.7) * width, rng.uniform(0.1, 0.2) * height
        (left, top), (right, bottom) = at([(box_x - 22, box_y - 20), (box_x + 22, box_y + 22)])
        draw.rounded_rectangle([left, top, right, bottom], radius=14 / grid.spacing_mm * scale, fill=2.2)
        apex = (0.42 * width, body.dome_mm["left"] - 6)
        track = [(box_x, box_y - 10), (0.3 * width, 0.06 * height), (-0.08 * width, 0.12 * height), *vein[1:]]
        wire([*track, (-0.05 * width, 0.78 * height), apex], 2.0, 1.4)
    small = canvas.resize((grid.size, grid.size), Picture.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).copy()


def develop(anatomy: Anatomy, path: Array, rng: np.random.Generator, texture_rng: np.random.Generator) -> Array:
    """The displayed film in [0, 1], bright = dense: detector signal with scatter and noise, then the display curve."""
    grid, body = anatomy.grid, anatomy.body
    primary = np.exp(-path)
    coarse_size = max(16, grid.size // 8)
    coarse = np.asarray(Picture.fromarray(primary).resize((coarse_size, coarse_size), Picture.Resampling.BOX))
    spread = ndimage.gaussian_filter(np.minimum(coarse, 0.5), 28 / (grid.spacing_mm * grid.size / coarse_size))
    haze = np.asarray(Picture.fromarray(spread).resize((grid.size, grid.size), Picture.Resampling.BICUBIC))
    signal = primary + rng.uniform(0.2, 0.55) * haze
    blur = rng.uniform(0.35, 0.6) * (1.3 if body.view == "AP" else 1.0)
    signal = ndimage.gaussian_filter(signal, blur / grid.spacing_mm * 1.2, truncate=3.0)
    quanta = 10 ** rng.uniform(4.8, 5.6) / (1.5 if body.view == "AP" else 1.0)
    signal = signal + np.sqrt(signal / quanta) * texture_rng.standard_normal(signal.shape).astype(np.float32)
    film = -np.log(np.maximum(signal, 1e-3)).astype(np.float32)
    if rng.random() < 0.45:
        film = film + rng.uniform(0.3, 0.8) * (film - ndimage.gaussian_filter(film, 5 / grid.spacing_mm, truncate=2.5))
    return _display(anatomy, film, rng)


def _display(anatomy: Anatomy, film: Array, rng: np.random.Generator) -> Array:
    """The film's curve set on this patient's own lung and abdomen, as a radiographer's preset would."""
    grid, body = anatomy.grid, anatomy.body
    lung = (anatomy.lungs["left"].chord_mm + anatomy.lungs["right"].chord_mm) > 60
    low = float(np.quantile(film[lung], 0.35)) if lung.any() else float(np.median(film))
    belly = film[(grid.y_mm[:, 0] > body.dome_mm["left"] + 25), :][:, np.abs(grid.x_mm[0]) < 0.6 * body.half_width_mm]
    high = float(np.quantile(belly, 0.6)) if belly.size else float(np.quantile(film, 0.9))
    span = max(high - low, 0.3)
    if rng.random() < 0.7:
        middle = low + rng.uniform(-0.04, 0.30) * span
        shown = 1 / (1 + np.exp(-(film - middle) / (rng.uniform(0.34, 0.52) * span)))
        shown = shown * rng.uniform(0.88, 1.0)
    else:
        black, white = low - rng.uniform(0.6, 1.1) * span, high + rng.uniform(0.05, 0.35) * span
        shown = np.clip((film - black) / (white - black), 0, 1)
    shown = np.clip(shown, 0, 1) ** rng.uniform(0.85, 1.2)
    return np.asarray(_borders(_marked(shown, rng), rng), dtype=np.float32)


def _marked(shown: Array, rng: np.random.Generator) -> Array:
    """A side letter of lead, on its own side of the picture, in about half the films."""
    letter, place, tall = str(rng.choice(["L", "R", "", ""])), rng.uniform(0.03, 0.12, 2), rng.uniform(0.035, 0.06)
    if not letter:
        return shown
    size = shown.shape[0]
    x = (1 - place[0] - tall if letter == "L" else place[0]) * size
    y, unit = place[1] * size, tall * size
    canvas = Picture.new("L", (size * 2, size * 2))
    draw = ImageDraw.Draw(canvas)
    for stroke in _STROKES[letter]:
        points = [(2 * (x + a * unit), 2 * (y + b * unit)) for a, b in stroke]
        draw.line(points, fill=255, width=max(2, round(unit / 3.5)))
    ink = np.asarray(canvas.resize((size, size), Picture.Resampling.BOX), dtype=np.float32) / 255
    return np.asarray(np.maximum(shown, 0.97 * ink), dtype=np.float32)


def _borders(shown: Array, rng: np.random.Generator) -> Array:
    """Unexposed edges where the collimator was closed: black in most films, white in a few."""
    use, edges, white = rng.random() < 0.3, rng.integers(0, 2, 4), rng.random() < 0.15
    depth = (rng.uniform(0.005, 0.035, 4) * shown.shape[0]).astype(int) * edges
    if not use:
        return shown
    framed = np.full_like(shown, 0.99 if white else 0.01)
    rows, columns = slice(depth[0], shown.shape[0] - depth[1]), slice(depth[2], shown.shape[1] - depth[3])
    framed[rows, columns] = shown[rows, columns]
    return framed
