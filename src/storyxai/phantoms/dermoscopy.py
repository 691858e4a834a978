"""Synthetic dermoscopy: pigmented lesions drawn from a plan, so that outline, criteria, colours and scale are known exactly.

Melanin darkens skin by Beer-Lambert: each colour is multiplied by exp(-absorption x density), blue most and red least, so that
more pigment goes from light brown over dark brown to black as it does under a dermatoscope. What lies over or in place of
pigment (veil, regression) is mixed in. Coordinates run over the picture from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw
from scipy import ndimage
from scipy.spatial import cKDTree

from storyxai.modalities.dermoscopy.findings import NAMES
from storyxai.modalities.dermoscopy.grammar import write_report
from storyxai.modalities.dermoscopy.lesion import largest_extent
from storyxai.phantoms.registry import AnyPhantom, box_around, refuse_unmade
from storyxai.provenance import sha256_bytes
from storyxai.types import Array, Image, Mask, Note, Remark

MELANIN = np.array([1.0, 1.5, 2.0], dtype=np.float32)
"""Absorption of red, green and blue by one unit of pigment."""
KINDS = ("common naevus", "atypical naevus", "melanoma")
KIND_CHANCES = (0.40, 0.32, 0.28)
CRITERIA: Mapping[str, tuple[float, float, float]] = {
    "Asymmetry": (0.05, 0.55, 0.88),
    "Atypical_Network": (0.06, 0.80, 0.75),
    "Dots_Globules": (0.45, 0.42, 0.60),
    "Streaks": (0.03, 0.25, 0.45),
    "Regression": (0.02, 0.08, 0.60),
    "Blue_Whitish_Veil": (0.02, 0.12, 0.72),
}
"""The chance of each criterion in a common naevus, an atypical one and a melanoma."""
FIELD_MM = (9.0, 16.0)
WHOLE = ("Melanoma", "Atypical_Naevus", "Asymmetry")
"""Findings of the lesion as a whole: their place is all of it."""


@dataclass(frozen=True, eq=False)
class SkinPhantom(AnyPhantom):
    """One synthetic lesion and its truth. `masks` has "lesion". `diameter_mm` is the largest extent of the lesion."""

    kind: str
    diameter_mm: float

    def known(self) -> dict[str, object]:
        return {"kind": self.kind, "diameter_mm": round(self.diameter_mm, 3)}


@dataclass(frozen=True)
class _Plan:
    """What is drawn: the kind of lesion, its criteria with their strength, and how dark and large it is."""

    kind: str
    severity: Mapping[str, float]
    radius: float
    density: float
    skin: tuple[float, float, float]
    field_mm: float


@dataclass(frozen=True, eq=False)
class _Shape:
    """The lesion's outline: `reach` [size, size] is the distance from its centre over that of its edge (1 on the outline)."""

    reach: Array
    angle: Array
    mask: Mask


def generate_skin_phantom(seed: int, *, size: int = 192) -> SkinPhantom:
    """The lesion of `seed`: the same seed and size give the same bytes, and every size shows the same lesion in other pixels.

    Raises: InputError for a negative seed or a size below 64.
    """
    refuse_unmade(seed, size)
    plan_rng, shape_rng, paint_rng, grain_rng, word_rng = (
        np.random.default_rng(sequence) for sequence in np.random.SeedSequence([seed, 1505]).spawn(5)
    )
    plan = _plan(plan_rng)
    shape = _shape(plan, size, shape_rng)
    colours, places = _paint(plan, shape, size, paint_rng)
    pixels = _photograph(plan, shape, colours, size, grain_rng)
    places |= {name: shape.mask for name in WHOLE if name in plan.severity}
    spacing = plan.field_mm / size
    labels = {name: float(name in plan.severity) for name in NAMES}
    image = Image(
        pixels,
        sha256_bytes(pixels.tobytes()),
        f"phantom-{seed}.png",
        spacing_mm=(spacing, spacing),
        spacing_kind="patient",
        notes=(Note("synthetic: made by storyxai, shows nobody", Remark("note_synthetic")),),
    )
    return SkinPhantom(
        seed,
        f"phantom-{seed}",
        image,
        labels,
        dict(plan.severity),
        tuple(box for name in NAMES if name in places for box in box_around(name, places[name])),
        places,
        {"lesion": shape.mask},
        write_report(labels, word_rng),
        plan.kind,
        largest_extent(shape.mask) * spacing,
    )


def _plan(rng: np.random.Generator) -> _Plan:
    number = int(rng.choice(3, p=KIND_CHANCES))
    draws = rng.random(len(CRITERIA)), rng.uniform(0.35, 1.0, len(CRITERIA))
    severity = {
        name: float(strength)
        for (name, chances), draw, strength in zip(CRITERIA.items(), *draws, strict=True)
        if draw < chances[number]
    }
    if number:
        severity[("Atypical_Naevus", "Melanoma")[number - 1]] = float(rng.uniform(0.4, 1.0))
    radius = float(rng.uniform(*((0.26, 0.52), (0.34, 0.64), (0.42, 0.74))[number]))
    density = float(rng.uniform(*((0.35, 0.85), (0.45, 0.95), (0.65, 1.35))[number]))
    light, warm = rng.uniform(0.78, 0.97), rng.uniform(0, 1)
    skin = (light, light * (0.70 + 0.14 * warm), light * (0.70 - 0.18 * warm + 0.08 * rng.random()))
    return _Plan(KINDS[number], severity, radius, density, skin, float(rng.uniform(*FIELD_MM)))


def _grid(size: int) -> tuple[Array, Array]:
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size) * 2 - 1
    across, down = np.meshgrid(axis, axis)
    return across.astype(np.float32, copy=False), down.astype(np.float32, copy=False)


def _shape(plan: _Plan, size: int, rng: np.random.Generator) -> _Shape:
    """An ellipse with even ripples along its own axes, which folds onto itself; uneven ones where it is to be asymmetric."""
    across, down = _grid(size)
    turn, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.35)
    x0, y0 = rng.uniform(-0.12, 0.12, 2)
    cos, sin = np.cos(turn), np.sin(turn)
    x, y = across - x0, down - y0
    u, v = (cos * x + sin * y) / np.sqrt(stretch), (-sin * x + cos * y) * np.sqrt(stretch)
    angle = np.arctan2(v, u).astype(np.float32)
    edge = 1 + rng.uniform(-0.05, 0.05) * np.cos(4 * angle) + rng.uniform(-0.02, 0.02) * np.cos(6 * angle)
    uneven = plan.severity.get("Asymmetry", 0.0)
    phases, sizes = rng.uniform(0, 2 * np.pi, 4), rng.uniform(0.6, 1.0, 4)
    for order, phase, amount in zip((1, 3, 5, 7), phases, sizes, strict=True):
        edge = edge + uneven * amount * (0.22, 0.13, 0.08, 0.04)[order // 2] * np.cos(order * angle + phase)
    reach = np.hypot(u, v) / (plan.radius * edge)
    return _Shape(np.asarray(reach, dtype=np.float32), angle, np.asarray(reach <= 1, dtype=np.bool_))


def _paint(plan: _Plan, shape: _Shape, size: int, rng: np.random.Generator) -> tuple[Array, dict[str, Mask]]:
    """The lit lesion on its skin, [size, size, 3], and where each local criterion lies."""
    severity, places = plan.severity, dict[str, Mask]()
    clouds = 0.7 * _clouds(size, rng, cells=4) + 0.5 * _clouds(size, rng, cells=11) + 0.35 * _clouds(size, rng, cells=26)
    soft = rng.uniform(0.10, 0.34)
    inside = _smooth(0.5 + (1.0 - shape.reach - 0.05 * clouds) / soft)  # the outline lies at half the pigment of the edge
    density = plan.density * inside * (0.82 + 0.22 * clouds).clip(0.15) * (1 - 0.25 * shape.reach.clip(0, 1) ** 2)
    if "Asymmetry" in severity:  # one half is darker: structure folds onto itself as little as the outline does
        half = np.cos(shape.angle + rng.uniform(0, 2 * np.pi)) * shape.reach.clip(0, 1)
        density = density * (1 + 0.35 * severity["Asymmetry"] * half)
    density = density + _network(plan, shape, inside, size, rng, places)
    if "Dots_Globules" in severity:
        drawn = _globules(shape, size, severity["Dots_Globules"], rng)
        density, places["Dots_Globules"] = density + (0.5 + 0.4 * plan.density) * drawn, _grown(drawn > 0.4, size) & shape.mask
    if "Streaks" in severity:
        drawn = _streaks(shape, severity["Streaks"], rng)
        density, places["Streaks"] = density + 1.2 * drawn, _grown(drawn > 0.25, size)
    ground = 1 + 0.03 * _clouds(size, rng, cells=3) + 0.012 * _clouds(size, rng, cells=40)
    skin = np.array(plan.skin, dtype=np.float32) * ground[..., None]
    colours = skin * np.exp(-MELANIN * density[..., None].clip(0, None))
    for name, tone, tint in (
        ("Regression", (0.86, 0.74, 0.70), 0.75),
        ("Blue_Whitish_Veil", (0.42, 0.47, 0.60), 0.80),
    ):
        patch = _patch(shape, size, rng)
        if name in severity:
            cover = (patch * tint * (0.6 + 0.4 * severity[name]))[..., None]
            veiled = np.array(tone, dtype=np.float32) * (0.88 + 0.12 * clouds)[..., None]
            # What lies under it still shows: darker under dark pigment.
            under = colours.mean(axis=2, keepdims=True)
            colours = (1 - cover) * colours + cover * veiled * (0.72 + 0.28 * under / max(float(under.mean()), 1e-6))
            places[name] = (patch > 0.5) & shape.mask
    return np.asarray(colours, dtype=np.float32), places


def _network(plan: _Plan, shape: _Shape, inside: Array, size: int, rng: np.random.Generator, places: dict[str, Mask]) -> Array:
    """Lines between cells: fine and even in a typical network, broad, dark and torn in an atypical one."""
    atypical = plan.severity.get("Atypical_Network", 0.0)
    jitter, cells = (0.95, rng.uniform(13, 17)) if atypical else (0.3, rng.uniform(20, 26))
    lines = _cell_lines(size, float(cells), jitter, rng)
    spread = _clouds(size, rng, cells=5)
    if not atypical:
        return np.asarray(0.22 * inside * lines * (1 - 0.4 * shape.reach.clip(0, 1)), dtype=np.float32)
    patches = np.clip(0.55 + 1.1 * spread, 0, 1)
    places["Atypical_Network"] = (patches > 0.35) & shape.mask
    return np.asarray((0.45 + 0.55 * atypical) * inside * lines * patches, dtype=np.float32)


def _cell_lines(size: int, cells: float, jitter: float, rng: np.random.Generator) -> Array:
    """1 on the borders between jittered cells, falling to 0 within them. Shapes: [size, size]."""
    count = int(np.ceil(cells)) + 4
    rows, columns = np.mgrid[0:count, 0:count].astype(np.float64)
    columns += 0.5 * (rows % 2)  # a hexagonal lattice
    moved = np.stack([columns, rows * 0.866], axis=-1) + rng.uniform(-0.5, 0.5, (count, count, 2)) * jitter
    points = (moved.reshape(-1, 2) - 2) * 2 / cells - 1
    across, down = _grid(size)
    near, _ = cKDTree(points).query(np.stack([across, down], axis=-1).reshape(-1, 2), k=2)
    gap = (near[:, 1] - near[:, 0]) * cells / 2
    width = 0.18 + 0.16 * jitter
    return np.asarray(np.exp(-((gap / width) ** 2)).reshape(size, size), dtype=np.float32)


def _globules(shape: _Shape, size: int, amount: float, rng: np.random.Generator) -> Array:
    across, down = _grid(size)
    rows, columns = np.nonzero(shape.reach < 0.92)
    drawn = np.zeros((size, size), dtype=np.float32)
    for place, radius in zip(rng.random(int(10 + 22 * amount)), rng.uniform(0.022, 0.045, int(10 + 22 * amount)), strict=True):
        at = int(place * len(rows))
        distance = np.hypot(across - across[0, columns[at]], down - down[rows[at], 0])
        drawn = np.maximum(drawn, _smooth(1.5 - distance / radius))
    return drawn


def _streaks(shape: _Shape, amount: float, rng: np.random.Generator) -> Array:
    """Radial lines over the edge in one or two sectors, thinning outwards."""
    drawn = np.zeros_like(shape.reach)
    for middle in rng.uniform(-np.pi, np.pi, 1 + int(amount > 0.6)):
        half = rng.uniform(0.35, 0.75)
        for angle in np.arange(-half, half, 0.13) + middle + rng.uniform(-0.02, 0.02):
            off = np.abs(np.angle(np.exp(1j * (shape.angle - angle)))) * shape.reach
            end = rng.uniform(1.14, 1.28)
            along = np.clip((end - shape.reach) / (end - 0.95), 0, 1)
            line = np.clip(1.5 - off / (0.045 * (0.35 + 0.65 * along)), 0, 1) * np.sqrt(along) * (shape.reach > 0.82)
            drawn = np.maximum(drawn, line)
    return np.asarray(drawn, dtype=np.float32)


def _patch(shape: _Shape, size: int, rng: np.random.Generator) -> Array:
    """A soft-edged part of the lesion about a point off its centre, [size, size] in [0, 1]."""
    angle, radius = rng.uniform(-np.pi, np.pi), rng.uniform(0.15, 0.55)
    near = shape.reach * np.exp(1j * shape.angle) - radius * np.exp(1j * angle)
    ragged = np.abs(near) / rng.uniform(0.36, 0.58) - 0.3 * _clouds(size, rng, cells=6) - 0.18 * _clouds(size, rng, cells=15)
    return np.asarray(_smooth((1.25 - ragged) / 0.6) * np.clip((1.0 - shape.reach) / 0.15, 0, 1), dtype=np.float32)


def _photograph(plan: _Plan, shape: _Shape, colours: Array, size: int, rng: np.random.Generator) -> Array:
    """The lesion as the camera takes it: hairs, blur, reflections, uneven light, the dark rim of the lens, grain; 8 bits."""
    across, down = _grid(size)
    seen = _hairs(colours, size, rng) if rng.random() < 0.35 else colours
    seen = ndimage.gaussian_filter(seen, (size / 480, size / 480, 0))
    tilt, angle = rng.uniform(0, 0.10), rng.uniform(0, 2 * np.pi)
    light = 1 + tilt * (np.cos(angle) * across + np.sin(angle) * down)
    if rng.random() < 0.6:
        rim, soft = rng.uniform(0.98, 1.3), rng.uniform(0.10, 0.28)
        light = light * np.clip((rim - np.hypot(across, down)) / soft, 0.06, 1)
    shiny = _clouds(size, rng, cells=4) > 1.0
    glints = ndimage.gaussian_filter((shiny & (rng.random((size, size)) < 0.003)).astype(np.float32), 0.6) * 1.2
    grain = rng.standard_normal((size, size, 3)).astype(np.float32) * rng.uniform(0.006, 0.016)
    lit = np.clip((seen + glints[..., None]) * np.asarray(light, dtype=np.float32)[..., None] + grain, 0, 1)
    return np.asarray(np.rint(lit * 255) / np.float32(255), dtype=np.float32)


def _hairs(colours: Array, size: int, rng: np.random.Generator) -> Array:
    """Thin curved hairs over everything."""
    drawn = Picture.new("L", (2 * size, 2 * size), 0)
    pen = ImageDraw.Draw(drawn)
    for _ in range(int(rng.integers(2, 13))):
        ends, bend = rng.uniform(-1.1, 1.1, (2, 2)), rng.uniform(-0.35, 0.35, 2)
        t = np.linspace(0, 1, 24)[:, None]
        curve = (1 - t) * ends[0] + t * ends[1] + 4 * t * (1 - t) * bend
        points = [(float(x), float(y)) for x, y in (curve + 1) * size]
        pen.line(points, fill=255, width=max(1, round(size * rng.uniform(0.008, 0.016))))
    cover = np.asarray(drawn.resize((size, size), Picture.Resampling.BOX), dtype=np.float32)[..., None] / 255 * 0.85
    tone = np.array([0.16, 0.11, 0.09], dtype=np.float32) * rng.uniform(0.6, 1.8)
    return np.asarray((1 - cover) * colours + cover * tone, dtype=np.float32)


def _smooth(values: Array) -> Array:
    """From 0 to 1 without a corner (a cubic step)."""
    clipped = np.clip(values, 0, 1)
    return np.asarray(clipped * clipped * (3 - 2 * clipped), dtype=np.float32)


def _clouds(size: int, rng: np.random.Generator, *, cells: int) -> Array:
    """Smooth variation of mean 0 and size about 1, [size, size]."""
    coarse = rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    fine = Picture.fromarray(coarse).resize((size, size), Picture.Resampling.BICUBIC, box=(1, 1, cells + 2, cells + 2))
    return np.asarray(np.asarray(fine).clip(-2, 2) * 0.8, dtype=np.float32)


def _grown(mask: Mask, size: int) -> Mask:
    return np.asarray(ndimage.binary_dilation(mask, iterations=max(1, size // 96)), dtype=np.bool_)
