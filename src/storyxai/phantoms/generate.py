"""Synthetic frontal chest radiographs whose every fact is known: findings, places, masks, heart size and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from storyxai.errors import InputError, OutputError
from storyxai.files import fresh_folder
from storyxai.modalities.chest_radiograph.grammar import Fact, write_report
from storyxai.modalities.registry import DEFAULT_MODALITY
from storyxai.phantoms.film import develop, devices_mm, line_integral
from storyxai.phantoms.findings import INSERTED, Insertion, Shadow, insert
from storyxai.phantoms.registry import AnyPhantom, box_around, phantom_maker, refuse_unmade
from storyxai.phantoms.thorax import SIDES, Anatomy, Body, Grid, build_anatomy
from storyxai.provenance import canonical_json, sha256_bytes
from storyxai.types import Image, Mask, Note, Remark

__all__ = ["FINDINGS", "Phantom", "generate_phantom", "planned", "write_phantoms"]

FINDINGS: tuple[str, ...] = tuple(INSERTED)
LARGE_HEART: Mapping[str, float] = {"PA": 0.50, "AP": 0.55}  # above this ratio the heart counts as enlarged
ZONED = ("Consolidation", "Nodule", "Mass", "Atelectasis")


@dataclass(frozen=True, eq=False)
class Phantom(AnyPhantom):
    """One synthetic radiograph and its truth.

    `masks` has "left_lung", "right_lung" and "heart"; a lung mask is the pleural space with
    the lung behind the heart, whatever a finding filled it with, and a little below the dome's edge.
    `cardiothoracic_ratio` is largest heart width over largest inner thoracic width.
    """

    cardiothoracic_ratio: float
    facts: tuple[Fact, ...]
    devices: tuple[str, ...]

    def known(self) -> dict[str, object]:
        return {
            "devices": self.devices, "cardiothoracic_ratio": self.cardiothoracic_ratio,
            "facts": [vars(fact) for fact in self.facts],
        }


def generate_phantom(seed: int, *, size: int = 256) -> Phantom:
    """The phantom of `seed`: the same seed and size give the same bytes, and every size shows the same patient.

    Raises: InputError for a negative seed or a size below 64.
    """
    refuse_unmade(seed, size)
    plan_rng, shape_rng, film_rng, texture_rng, word_rng = _streams(seed)
    view = "AP" if plan_rng.random() < 0.35 else "PA"
    insertions = _plan(view, plan_rng)
    body = _body(view, insertions, plan_rng)
    devices, leads = _devices(view, plan_rng)
    anatomy = build_anatomy(body, _grid(body, size, plan_rng), shape_rng)
    shadows = tuple(insert(anatomy, insertion, shape_rng) for insertion in insertions)
    path = line_integral(anatomy, shadows, film_rng, texture_rng) + devices_mm(anatomy, devices, leads, shape_rng)
    pixels = develop(anatomy, path, film_rng, texture_rng)
    facts = _facts(anatomy, insertions, shadows)
    image = Image(
        pixels, sha256_bytes(pixels.tobytes()), f"phantom-{seed}.png", view=view,
        spacing_mm=(anatomy.grid.spacing_mm, anatomy.grid.spacing_mm), spacing_kind="patient", sex=body.sex,
        age_years=body.age_years, notes=(Note("synthetic: made by storyxai, shows nobody", Remark("note_synthetic")),),
    )
    present = {insertion.finding: insertion.severity for insertion in insertions}
    return Phantom(
        seed, f"phantom-{seed}", image, {name: float(name in present) for name in FINDINGS}, present,
        tuple(box for shadow in shadows for _, mask in shadow.masks for box in box_around(shadow.finding, mask)),
        {shadow.finding: _union(shadow, size) for shadow in shadows}, _masks(anatomy),
        write_report(facts, word_rng, view=view, devices=devices), body.ratio, facts, devices,
    )


def planned(seed: int) -> tuple[frozenset[str], tuple[str, ...]]:
    """The findings and devices of the phantom of `seed`, without drawing it."""
    plan_rng = _streams(seed)[0]
    view = "AP" if plan_rng.random() < 0.35 else "PA"
    insertions = _plan(view, plan_rng)
    _body(view, insertions, plan_rng)
    return frozenset(insertion.finding for insertion in insertions), _devices(view, plan_rng)[0]


def _streams(seed: int) -> list[np.random.Generator]:
    """The random numbers of the plan, of shapes, film, texture and words."""
    return [np.random.default_rng(sequence) for sequence in np.random.SeedSequence([seed, 2410]).spawn(5)]


def _plan(view: str, rng: np.random.Generator) -> tuple[Insertion, ...]:
    """Which findings this patient has: none in about a third; each otherwise with a chance of about one in five."""
    if rng.random() < (0.40 if view == "PA" else 0.26):
        return ()
    chances = rng.random(len(FINDINGS))
    while not (chances < 0.185).any():
        chances = rng.random(len(FINDINGS))
    return tuple(_insertion(name, view, rng) for name, chance in zip(FINDINGS, chances, strict=True) if chance < 0.185)


def _insertion(name: str, view: str, rng: np.random.Generator) -> Insertion:
    severity = float(np.clip(rng.beta(1.6, 1.5), 0.04, 1))
    side = "right" if rng.random() < 0.55 else "left"
    other = "left" if side == "right" else "right"
    both = rng.random() < {"Effusion": 0.35, "Consolidation": 0.2, "Nodule": 0.15, "Atelectasis": 0.15}.get(name, 0.0)
    sides: tuple[str, ...] = (side, other) if both else (side,)
    zone = str(rng.choice(["upper", "mid", "lower"], p=[0.3, 0.3, 0.4]))
    if name == "Atelectasis":
        zone = "lower" if rng.random() < 0.8 else "mid"
    layered = view == "AP" and bool(rng.random() < 0.5)
    if name == "Edema":
        sides = ("right", "left")
    if name == "Cardiomegaly":
        sides = ()
    return Insertion(name, sides, zone, severity, layered)


def _body(view: str, insertions: tuple[Insertion, ...], rng: np.random.Generator) -> Body:
    female, portable = rng.random() < 0.47, view == "AP"
    habitus = float(np.clip(rng.normal(0, 1), -1.8, 2.2))
    width = (129 if female else 143) + 6 * habitus + rng.normal(0, 4)
    height = width * (rng.uniform(1.15, 1.5) if portable else rng.uniform(1.42, 1.75)) * (1 - 0.03 * habitus)
    limit, severe = LARGE_HEART[view], {item.finding: item.severity for item in insertions}
    ratio = rng.uniform(0.39, 0.485) + (0.05 if portable else 0)
    if "Cardiomegaly" in severe:
        ratio = limit + 0.012 + 0.16 * severe["Cardiomegaly"]
    dome = {"right": height, "left": height + rng.uniform(4, 14)}
    for item in insertions:
        if item.finding == "Atelectasis":
            for side in item.sides:
                dome[side] -= (8 + 22 * item.severity) * (0.6 if len(item.sides) == 2 else 1)
    return Body(
        sex="F" if female else "M", age_years=float(rng.integers(19, 92)), view=view, half_width_mm=width,
        height_mm=height, half_depth_mm=58 + 0.11 * width + 2 * habitus, wall_mm=max(14.0, 28 + 9 * habitus),
        breast_mm=rng.uniform(8, 24) + 5 * max(habitus, 0) if female else 0.0,
        rotation_rad=float(rng.normal(0, 0.09 if portable else 0.04)), ratio=float(ratio),
        tilt_rad=rng.uniform(0.45, 0.85), heart_right_share=rng.uniform(0.29, 0.37), dome_mm=dome,
        angle_drop_mm=rng.uniform(38, 58), aorta_mm=rng.uniform(12, 17), arms_down=bool(portable or rng.random() < 0.3),
        bone=rng.uniform(0.75, 1.2), gas_mm=rng.uniform(10, 22) if rng.random() < 0.4 else 0.0,
    )


def _grid(body: Body, size: int, rng: np.random.Generator) -> Grid:
    """A film that holds both lungs, with more or less room about them."""
    portable = body.view == "AP"
    lowest = max(body.dome_mm.values()) + body.angle_drop_mm
    top = rng.uniform(22, 55) + (10 if portable else 0)
    across = 2 * body.half_width_mm / rng.uniform(0.66 if portable else 0.74, 0.86)
    field = max(across, lowest + top + 8)
    return Grid.of(size, float(field), float(top), float(rng.normal(0, 0.015 if not portable else 0.025) * field))


def _devices(view: str, rng: np.random.Generator) -> tuple[tuple[str, ...], int]:
    portable = view == "AP"
    pacemaker, line = rng.random() < (0.12 if portable else 0.06), rng.random() < (0.30 if portable else 0.03)
    leads = int(rng.integers(1, 5)) if rng.random() < (0.55 if portable else 0.04) else 0
    return tuple(name for name, use in (("pacemaker", pacemaker), ("central line", line)) if use), leads


def _masks(anatomy: Anatomy) -> dict[str, Mask]:
    masks: dict[str, Mask] = {
        f"{side}_lung": anatomy.lungs[side].mask for side in SIDES
    }
    masks["heart"] = np.asarray(anatomy.heart_mm > 0, dtype=np.bool_)
    return masks


def _union(shadow: Shadow, size: int) -> Mask:
    union = np.zeros((size, size), dtype=np.bool_)
    for _, mask in shadow.masks:
        union = union | mask
    return union


def _facts(anatomy: Anatomy, insertions: tuple[Insertion, ...], shadows: tuple[Shadow, ...]) -> tuple[Fact, ...]:
    """A fact per finding; the zone is read off the lesion's own mask by thirds of that lung's height."""
    found = {}
    for insertion, shadow in zip(insertions, shadows, strict=True):
        side = "bilateral" if len(insertion.sides) == 2 else "".join(insertion.sides)
        zones = {_zone(anatomy, one_side, mask) for one_side, mask in shadow.masks if one_side}
        zone = zones.pop() if len(zones) == 1 and insertion.finding in ZONED else ""
        amount = ("mild", "moderate", "severe")[min(int(insertion.severity * 3), 2)]
        found[insertion.finding] = Fact(insertion.finding, True, side, zone, amount)
    return tuple(found.get(name, Fact(name, False)) for name in FINDINGS)


def _zone(anatomy: Anatomy, side: str, mask: Mask) -> str:
    rows = np.flatnonzero(anatomy.lungs[side].mask.any(axis=1))
    if not mask.any():
        return ""
    centre = float(np.flatnonzero(mask.any(axis=1)).mean())
    return ("upper", "mid", "lower")[int(np.clip(3 * (centre - rows[0]) / len(rows), 0, 2))]


def write_phantoms(
    out: Path, *, count: int, seed: int, size: int = 256, modality: str = DEFAULT_MODALITY,
    progress: Callable[[int], None] | None = None,
) -> None:
    """`count` phantoms (seeds `seed`, `seed` + 1, ...) in the new folder `out`: images, masks, lesions, phantoms.json.

    They are of `modality`. The folder appears whole or not at all. `progress` is called with the number done after each.
    Raises: OutputError when `out` holds something already or cannot be written; InputError as `generate_phantom`;
    UnknownNameError for a modality without phantoms.
    """
    make = phantom_maker(modality)
    if count < 1:
        raise InputError(f"phantom count {count}", "makes no image", mend="ask for 1 or more")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(str(out), "is there already", mend="name a folder that does not exist yet, or an empty one")
    with fresh_folder(out, mend="choose a folder of yours with room") as work:
        for part in ("images", "masks", "lesions"):
            (work / part).mkdir()
        records, kind = [], {} if modality == DEFAULT_MODALITY else {"modality": modality}
        for done in range(count):
            phantom = make(seed + done, size=size)
            _write_pictures(work, phantom)
            records.append(_record(phantom))
            if progress is not None:
                progress(done + 1)
        (work / "phantoms.json").write_bytes(canonical_json({**kind, "format": 1, "size": size, "phantoms": records}))


def _write_pictures(folder: Path, phantom: AnyPhantom) -> None:
    name = phantom.patient_id
    eight = np.round(phantom.image.pixels * 255).astype(np.uint8)
    Picture.fromarray(eight).save(folder / "images" / f"{name}.png")
    for key, mask in phantom.masks.items():
        Picture.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{name}_{key}.png")
    for finding, mask in phantom.sign_masks.items():
        Picture.fromarray(mask.astype(np.uint8) * 255).save(folder / "lesions" / f"{name}__{finding}.png")


def _record(phantom: AnyPhantom) -> dict[str, object]:
    image = phantom.image
    return {
        "id": phantom.patient_id, "patient_id": phantom.patient_id, "seed": phantom.seed, "view": image.view,
        "sex": image.sex, "age_years": image.age_years, "spacing_mm": image.spacing_mm, "sha256": image.sha256,
        "labels": phantom.labels, "severity": phantom.severity, "report": phantom.report,
        "boxes": [vars(replace(box)) for box in phantom.boxes], **phantom.known(),
    }
