"""Grey B-mode pictures of the breast: two findings, one structure, a gate of two measured rules, no report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from breast_ultrasound.words import WORDS
from storyxai.modalities.any_image import GateLimits, gate_within
from storyxai.modalities.contract import Acquisition, FindingTerm, Gate, GateRule, Modality, Structure, WhatIf
from storyxai.types import Array, Image, Mask

__all__ = ["BREAST_ULTRASOUND", "fading", "layering"]

SIDE = 64
"""Layers and fading are measured on so many rows and columns: speckle is finer than that."""
_OBTAINED = "measured: 1st percentile of 150 pictures of BUSI (learnt from); 97 % of 150 chest films lie beyond"
_MEND = "give a B-mode picture of the breast, cut to the picture itself"

SOP_CLASSES = ("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1")
"""DICOM's Ultrasound Image Storage, and Ultrasound Multi-frame Image Storage, of which an object with one frame is read."""

LAYERS = GateRule(
    "gate.layers", 1.2, True, True, "Its layers lie across, as those of an ultrasound picture do.",
    "the picture has no layers across, as an ultrasound picture has", _MEND, _OBTAINED,
)
FADES = GateRule(
    "gate.fades", 0.03, True, True, "It fades with depth, as an ultrasound picture does.",
    "the picture does not fade with depth, as an ultrasound picture does", _MEND, _OBTAINED,
)


def _small(pixels: Array) -> Array:
    """The means of `SIDE` x `SIDE` equal parts. Shapes: pixels [H, W], each side `SIDE` or more."""
    rows, columns = (np.linspace(0, length, SIDE, endpoint=False).astype(int) for length in pixels.shape)
    sums = np.add.reduceat(np.add.reduceat(pixels.astype(np.float64), rows, axis=0), columns, axis=1)
    heights, widths = (
        np.diff(np.append(edges, length)) for edges, length in ((rows, pixels.shape[0]), (columns, pixels.shape[1]))
    )
    return np.asarray(sums / np.outer(heights, widths), dtype=np.float32)


def layering(pixels: Array) -> float:
    """How much faster grey changes downwards than across: over 1 where layers lie across."""
    small = _small(pixels)
    return float(np.abs(np.diff(small, axis=0)).mean() / max(float(np.abs(np.diff(small, axis=1)).mean()), 1e-6))


def fading(pixels: Array) -> float:
    """The mean of the upper third less that of the lower third."""
    third = SIDE // 3
    small = _small(pixels)
    return float(small[:third].mean() - small[-third:].mean())


_ANY = gate_within(GateLimits(least_size=SIDE, least_contrast=0.1, colour="grey"))


def _measure(image: Image, masks: Mapping[str, Mask] | None) -> dict[str, float | None]:
    values = dict(_ANY.measure(image, masks))
    grey = image.pixels if image.pixels.ndim == 2 else image.pixels.mean(axis=2)
    large = min(grey.shape) >= SIDE
    return {**values, LAYERS.name: layering(grey) if large else None, FADES.name: fading(grey) if large else None}


BREAST_ULTRASOUND = Modality(
    key="breast_ultrasound",
    name="breast ultrasound picture",
    findings=(
        FindingTerm(
            "Benign_mass", "a mass that looks benign", "a lump that looks harmless",
            ("a fat lobule", "a cyst", "a shadow behind a rib"), ("benign",),
        ),
        FindingTerm(
            "Malignant_mass", "a mass that looks malignant", "a lump that needs a closer look",
            ("a scar", "an inflammation", "a fibroadenoma with calcium"), ("malignant",),
        ),
    ),
    structures=(Structure("mass", lay="the lump", shown_with=("Benign_mass", "Malignant_mass")),),
    what_ifs=(WhatIf("mass", "mass"),),
    gate=Gate((*_ANY.rules[:-1], LAYERS, FADES, _ANY.rules[-1]), _measure),
    acquisition=Acquisition(bright_is_dense=False, modalities=("US",), sop_classes=SOP_CLASSES, body_parts=("BREAST",)),
    words=WORDS,
    limits=("One ultrasound picture at a time: no sweep, no elastography, no Doppler, no earlier examination is read.",),
    cannot_see=("what lies outside the picture", "lymph nodes of the armpit", "calcium without a mass", "change over time"),
)
