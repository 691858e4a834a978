"""Findings put into the phantom's thorax: what each adds to the rays, and exactly which pixels it covers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from storyxai.phantoms.thorax import SIDES, Anatomy, smooth_field
from storyxai.types import Array, Mask

VISIBLE_MM = 6.0  # tissue thinner than this does not count as lesion


@dataclass(frozen=True)
class Insertion:
    """One finding to be put in: the sides it takes, the zone aimed at ("" = where the finding belongs), severity."""

    finding: str
    sides: tuple[str, ...]
    zone: str
    severity: float
    layered: bool = False


@dataclass(frozen=True, eq=False)
class Shadow:
    """What a finding does: millimetres of tissue in place of lung [H, W], the factor on lung vessels, the share of the
    pleural space that holds bare air, extra fine texture (0 = none), and a mask per instance with its side."""

    finding: str
    tissue_mm: Array
    masks: tuple[tuple[str, Mask], ...]
    vessel_gain: Array | None = None
    emptied: Array | None = None
    texture: Array | None = None


def aerated(anatomy: Anatomy, side: str) -> Array:
    """Millimetres of aerated lung per pixel on one side: the pleural space less heart and mediastinum."""
    solid = anatomy.heart_mm + anatomy.mediastinum_mm
    lung = anatomy.lungs[side]
    # Heart and dome both take the front of the ray, so the larger of the two counts, not their sum.
    return np.asarray(np.minimum(lung.chord_mm, (lung.whole_mm - solid).clip(0)), dtype=np.float32)


def insert(anatomy: Anatomy, insertion: Insertion, rng: np.random.Generator) -> Shadow:
    """The shadow of one finding in this thorax."""
    shadow = INSERTED[insertion.finding](anatomy, insertion, rng)
    masks = tuple((side, mask & anatomy.lungs[side].mask if side else mask) for side, mask in shadow.masks)
    return replace(shadow, masks=masks)


def _cardiomegaly(anatomy: Anatomy, insertion: Insertion, rng: np.random.Generator) -> Shadow:
    mask = anatomy.heart_mm > 0
    return Shadow("Cardiomegaly", np.zeros_like(anatomy.heart_mm), (("", mask),))


def _site(anatomy: Anatomy, side: str, zone: str, rng: np.random.Generator) -> tuple[float, float]:
    """A point of well aerated lung in the zone: the first of the drawn ones that qualifies, else the best aerated."""
    lung, air, grid = anatomy.lungs[side], aerated(anatomy, side), anatomy.grid
    low, high = {"upper": (0.14, 0.31), "mid": (0.38, 0.60), "lower": (0.68, 0.82), "": (0.14, 0.82)}[zone]
    rows = np.flatnonzero(lung.mask.any(axis=1))
    tall = anatomy.grid.spacing_mm * len(rows)
    best, best_air = (0.0, 0.0), -1.0
    for down, across in zip(rng.uniform(low, high, 24), rng.uniform(0.28, 0.85, 24), strict=True):
        row = min(int(rows[0] + down * len(rows)), grid.size - 1)
        inner, outer = float(lung.inner_mm[row, 0]), float(lung.outer_mm[row, 0])
        x, y = SIDES[side] * (inner + across * (outer - inner)), float(grid.y_mm[rows[0], 0]) + down * tall
        column = int(np.clip((x - float(grid.x_mm[0, 0])) / grid.spacing_mm + 0.5, 0, grid.size - 1))
        if air[row, column] > best_air:
            best, best_air = (x, y), float(air[row, column])
        if best_air > 75:
            break
    return best


def _blob(anatomy: Anatomy, centre: tuple[float, float], half: tuple[float, float], tilt: float) -> Array:
    """1 at the centre falling to 0 on an ellipse and below it outside: 1 - (distance)^2 in half axes."""
    x, y = anatomy.grid.x_mm - centre[0], anatomy.grid.y_mm - centre[1]
    along = (x * np.cos(tilt) + y * np.sin(tilt)) / half[0]
    across = (y * np.cos(tilt) - x * np.sin(tilt)) / half[1]
    return np.asarray(1 - along**2 - across**2, dtype=np.float32)


def _round_lesions(
    anatomy: Anatomy, insertion: Insertion, rng: np.random.Generator, radii_mm: tuple[float, float], rough: float,
) -> Shadow:
    """Balls with a slightly uneven surface."""
    tissue = np.zeros_like(anatomy.heart_mm)
    masks = []
    for side in insertion.sides:
        radius = radii_mm[0] + (radii_mm[1] - radii_mm[0]) * insertion.severity
        shape = rng.uniform(0.85, 1.15)
        site = _site(anatomy, side, insertion.zone, rng)
        ball = _blob(anatomy, site, (radius * shape, radius / shape), rng.uniform(0, 3))
        ball = ball + rough * smooth_field(rng, anatomy.grid, 1.1 * radius)
        chord = 2 * radius * np.sqrt(np.clip(ball, 0, None)) * (ball < 4)
        edge = ndimage.gaussian_filter(chord, rng.uniform(0.7, 1.3) / anatomy.grid.spacing_mm)
        chord = np.minimum(edge, anatomy.lungs[side].chord_mm).astype(np.float32)
        # Nodules are a little denser than muscle: some hold calcium.
        tissue = tissue + chord * rng.uniform(1.25, 1.6)
        masks.append((side, _largest(chord > min(VISIBLE_MM, 0.5 * radius))))
    return Shadow(insertion.finding, tissue.astype(np.float32), tuple(masks))


def _nodule(anatomy: Anatomy, insertion: Insertion, rng: np.random.Generator) -> Shadow:
    return _round_lesions(anatomy, insertion, rng, (8.5, 14.5), 0.06)


def _mass(anatomy: Anatomy, insertion: Insertion, rng: np.random.Generator) -> Shadow:
    return _round_lesions(anatomy, insertion, rng, (18.0, 36.0), 0.12)


def _consolidation(anatomy: Anatomy, insertion: Insertion, rng: np.random.Generator) -> Shadow:
    """Airspace filled in patches with a woolly border; vessels vanish in it and bronchi stay dark."""
    tissue = np.zeros_like(anatomy.heart_mm)
    gain = np.ones_like(anatomy.heart_mm)
    masks = []
    for side in insertion.sides:
        reach = 26 + 30 * insertion.severity
        half = (reach * rng.uniform(0.8, 1.2), reach * rng.uniform(0.8, 1.15))
        core = _blob(anatomy, _site(anatomy, side, insertion.zone, rng), half, rng.uniform(0, 3))
        woolly = core + 0.26 * smooth_field(rng, anatomy.grid, 26) + 0.10 * smooth_field(rng, anatomy.grid, 8)
        share = np.clip(woolly * 0.9 + 0.12, 0, 1) * (core > -0.9)
        deep = np.minimum(0.85 * anatomy.lungs[side].chord_mm, 34 + 62 * insertion.severity)
        patch = np.asarray(share * deep, dtype=np.float32)
        tissue = tissue + patch
        gain = gain * (1 - 1.5 * share)
        masks.append((side, _largest(patch > 2.5 * VISIBLE_MM)))
    return Shadow("Consolidation", tissue, tuple(masks), vessel_gain=gain)


def _atelectasis(anatomy: Anatomy, insertion: Insertion, rng: np.random.Generator) -> Shadow:
    """Plates of collapsed lung, seen edge on, over a hazier base; the dome of that side already stands higher."""
    tissue = np.zeros_like(anatomy.heart_mm)
    masks = []
    for side in insertion.sides:
        centre_x, centre_y = _site(anatomy, side, insertion.zone or "lower", rng)
        plates = np.zeros_like(tissue)
        for number in range(2 + (insertion.severity > 0.4) + (insertion.severity > 0.75)):
            tilt = -SIDES[side] * rng.uniform(-0.15, 0.5)
            spot = (centre_x + rng.normal(0, 4), centre_y + (number - 1) * rng.uniform(9, 15))
            half = (rng.uniform(26, 38) + 14 * insertion.severity, rng.uniform(2.2, 3.2) + 2.4 * insertion.severity)
            plates = np.maximum(plates, np.sqrt(np.clip(_blob(anatomy, spot, half, tilt), 0, 1)))
        haze = np.clip(_blob(anatomy, (centre_x, centre_y + 6), (44, 28), 0), 0, 1)
        added = (30 + 30 * insertion.severity) * plates + (6 + 22 * insertion.severity) * haze
        chord = np.minimum(added, anatomy.lungs[side].chord_mm).astype(np.float32)
        tissue = tissue + np.asarray(ndimage.gaussian_filter(chord, 1.6 / anatomy.grid.spacing_mm), dtype=np.float32)
        masks.append((side, _largest(chord > 16)))
    return Shadow("Atelectasis", tissue, tuple(masks))


def _edema(anatomy: Anatomy, insertion: Insertion, rng: np.random.Generator) -> Shadow:
    """Haze around both hila, fuller and blurred vessels, coarse interstitial texture and septal lines at the base."""
    grid, severity = anatomy.grid, insertion.severity
    tissue = np.zeros_like(anatomy.heart_mm)
    masks = []
    wool = 1 + 0.3 * smooth_field(rng, grid, 30) + 0.25 * smooth_field(rng, grid, 10)
    for side in insertion.sides:
        lung = anatomy.lungs[side]
        x, y = lung.hilum_mm
        wing = np.exp(-(((grid.x_mm - 1.25 * x) / 46) ** 2) - ((grid.y_mm - y - 12) / 62) ** 2)
        chord = lung.chord_mm
        haze = ((20 + 42 * severity) * wing + 6 * severity) * wool * np.clip(chord / 60, 0, 1)
        tissue = tissue + np.clip(haze, 0, chord)
        masks.append((side, _largest((wing > 0.42) & (chord > 8))))
    every = sum(anatomy.lungs[side].chord_mm for side in insertion.sides) > 8
    return Shadow(
        "Edema", np.asarray(tissue, dtype=np.float32), tuple(masks),
        vessel_gain=np.where(every, 1.35 + 0.6 * severity, 1).astype(np.float32),
        texture=np.where(every, 0.02 + 0.045 * severity, 0).astype(np.float32),
    )


def _effusion(anatomy: Anatomy, insertion: Insertion, rng: np.random.Generator) -> Shadow:
    """Fluid at the base whose upper edge rises to the chest wall; lying down, a veil over the whole side as well."""
    grid, body = anatomy.grid, anatomy.body
    tissue = np.zeros_like(anatomy.heart_mm)
    masks = []
    for side in insertion.sides:
        lung = anatomy.lungs[side]
        severity = insertion.severity * rng.uniform(0.8, 1.0)
        share = np.clip((SIDES[side] * grid.x_mm - lung.inner_mm) / (lung.outer_mm - lung.inner_mm + 1), 0, 1.1)
        angle_y = body.dome_mm[side] + 0.55 * body.angle_drop_mm
        level = angle_y - (26 + 0.48 * body.height_mm * severity)
        surface = level + (20 + 26 * (1 - severity)) * (1 - share**1.6)
        ramp = 24 + 12 * rng.random()
        fill = np.clip((grid.y_mm - surface) / ramp + 0.5, 0, 1)
        fluid = fill**1.3 * lung.chord_mm
        if insertion.layered:
            down = np.clip(grid.y_mm / body.height_mm, 0, 1)
            fluid = np.maximum(fluid, (10 + 34 * severity) * (0.4 + 0.6 * down) * np.clip(lung.chord_mm / 50, 0, 1))
        fluid = np.minimum(fluid, lung.chord_mm)
        tissue = np.asarray(tissue + fluid, dtype=np.float32)
        masks.append((side, _largest((fluid > 2 * VISIBLE_MM) & (fill > 0.25))))
    return Shadow("Effusion", tissue, tuple(masks))


def _pneumothorax(anatomy: Anatomy, insertion: Insertion, rng: np.random.Generator) -> Shadow:
    """Bare air outside the fallen lung's edge: no vessels there, a thin pleural line, the lung a little denser."""
    grid, severity = anatomy.grid, insertion.severity
    tissue = np.zeros_like(anatomy.heart_mm)
    gain, emptied = np.ones_like(tissue), np.zeros_like(tissue)
    masks = []
    for side in insertion.sides:
        lung = anatomy.lungs[side]
        fall = (14 + 52 * severity) * rng.uniform(0.85, 1.15)
        level = np.clip(grid.y_mm / anatomy.body.height_mm, 0, 1.3)
        shrink = (0.10 + 0.42 * severity) * (1 - 0.45 * level)
        fallen = np.interp(grid.y_mm[:, 0] - fall, grid.y_mm[:, 0], lung.outer_mm[:, 0])[:, None]
        edge = lung.inner_mm + (fallen - lung.inner_mm) * (1 - shrink)
        edge = np.where(grid.y_mm < fall, 0, edge)
        slope = np.gradient(edge[:, 0], grid.spacing_mm)[:, None]
        beyond = (SIDES[side] * grid.x_mm - edge) / np.sqrt(1 + slope**2)
        # The fallen apex is round: lateral and upper distance meet in a corner of 25 mm.
        round_mm = 25.0
        corner = np.hypot((beyond + round_mm).clip(0), (fall - grid.y_mm + round_mm).clip(0)) - round_mm
        near = (beyond > -round_mm) & (fall - grid.y_mm > -round_mm)
        beyond = np.where(near, corner, np.maximum(beyond, fall - grid.y_mm))
        air = np.clip(beyond / 1.5 + 0.5, 0, 1) * (lung.chord_mm > 8)
        line = np.exp(-((beyond / 1.1) ** 2)) * np.clip(lung.chord_mm / 30, 0, 1)
        within = (lung.chord_mm > 8) & (air < 0.5)
        denser = (2 + 14 * severity) * np.clip(lung.chord_mm / 80, 0, 1) * within
        tissue = np.asarray(tissue + 11 * line + denser, dtype=np.float32)
        gain, emptied = gain * (1 - air) * np.where(within, 1 + 0.4 * severity, 1), np.maximum(emptied, air)
        masks.append((side, _largest((air > 0.5) & (aerated(anatomy, side) > 8))))
    return Shadow(
        "Pneumothorax", np.asarray(tissue, dtype=np.float32), tuple(masks),
        vessel_gain=np.asarray(gain, dtype=np.float32), emptied=np.asarray(emptied, dtype=np.float32),
    )


def _largest(mask: NDArray[np.bool_]) -> Mask:
    """The largest connected part."""
    parts, count = ndimage.label(mask)
    if count < 2:
        return np.asarray(mask, dtype=np.bool_)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == int(sizes.argmax()), dtype=np.bool_)


INSERTED: Mapping[str, Callable[[Anatomy, Insertion, np.random.Generator], Shadow]] = {
    "Cardiomegaly": _cardiomegaly,
    "Effusion": _effusion,
    "Pneumothorax": _pneumothorax,
    "Consolidation": _consolidation,
    "Nodule": _nodule,
    "Mass": _mass,
    "Atelectasis": _atelectasis,
    "Edema": _edema,
}
