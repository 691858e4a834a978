"""A made-up evidence for tests: a drawn chest, made-up numbers; nothing here comes from a person or a real model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH
from storyxai.model_facts import ModelFacts
from storyxai.story.words import words_of
from storyxai.types import (
    Box,
    Check,
    Concept,
    Counterfactual,
    Evidence,
    Finding,
    FindingNear,
    Heatmap,
    Image,
    LearnedConcept,
    Neighbours,
    Prediction,
    Remark,
    SmallestChange,
)

HEIGHT, WIDTH = 240, 200
INPUT_SHA, WEIGHTS_SHA = "5e" * 32, "a1b2c3d4" * 8

# name: probability, interval, threshold, logit
FINDINGS: Mapping[str, tuple[float, tuple[float, float], float, float]] = {
    "Atelectasis": (0.11, (0.07, 0.16), 0.30, -1.9),
    "Cardiomegaly": (0.44, (0.33, 0.55), 0.40, 0.1),
    "Effusion": (0.83, (0.74, 0.90), 0.35, 2.4),
    "Infiltration": (0.18, (0.12, 0.25), 0.33, -1.3),
    "Mass": (0.012, (0.004, 0.03), 0.20, -4.1),
    "Nodule": (0.05, (0.02, 0.09), 0.22, -2.8),
    "Pneumonia": (0.09, (0.05, 0.15), 0.28, -2.0),
    "Pneumothorax": (0.002, (0.0006, 0.006), 0.15, -5.6),
    "Consolidation": (0.61, (0.47, 0.72), 0.31, 0.9),
    "Edema": (0.07, (0.04, 0.12), 0.29, -2.4),
    "Emphysema": (0.03, (0.01, 0.06), 0.25, -3.2),
    "Fibrosis": (0.02, (0.008, 0.05), 0.25, -3.5),
    "Pleural_Thickening": (0.14, (0.08, 0.22), 0.27, -1.6),
    "Hernia": (0.004, (0.001, 0.01), 0.10, -5.0),
}


_MARGIN = Remark("margin_mm", {"mm": 20.0})
_IN_PLACE = Remark("share_in_place", {"even": 0.44}, {"place": Remark("lungs", parts={"margin": _MARGIN})})
_SIDE = Remark("side_shares", {"right": 0.91, "left": 0.06, "between": 0.03, "from": 0.8})
_INSIDE = Remark("inside_share", {"even": 0.44}, {"margin": _MARGIN})
_RANKS = Remark("rank_correlation", {"superpixels": 60, "quantile": 0.95})
_ZONES = Remark("zone_shares", {f"{side} {part}": 0.1 for side in ("right", "left") for part in ("upper", "mid", "lower")})


def _unmeasured(why: str) -> Remark:
    return Remark("unmeasured", parts={"why": Remark(why)})


def in_english(*remarks: Remark) -> str:
    """What remarks say in English of a chest radiograph."""
    return words_of(CHEST_RADIOGRAPH).say(*remarks)


def gate_check(rule: str, value: float, limit: float, *, failed: str = "") -> Check:
    """A check of the gate, passed unless `failed` is the code of how it is not ("gate_failed", "gate_warned")."""
    about = Remark(failed or "gate_passed", {"rule": rule})
    return Check(rule, "", "gate", value, limit, not failed, about, warns=failed == "gate_warned")


def example_evidence() -> Evidence:
    """Effusion and consolidation present, cardiomegaly indeterminate, the rest absent; one map withheld."""
    yy, xx = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    masks = _masks(yy, xx)
    findings = tuple(Finding(name, *FINDINGS[name][:3]) for name in FINDINGS)
    prediction = Prediction(
        study_id="example-0001",
        findings=findings,
        boxes=(
            Box("Effusion", 22.0, 150.0, 62.0, 58.0, 0.81),
            Box("Consolidation", 120.0, 96.0, 44.0, 52.0, 0.58),
            Box("Effusion", 30.0, 60.0, 20.0, 18.0, 0.21),
        ),
        masks=masks,
        report=("There is a right pleural effusion.", "There is consolidation in the left mid zone."),
        logits={name: FINDINGS[name][3] for name in FINDINGS},
        model_id="example-student-0.1-a1b2c3d4a1b2",
    )
    return Evidence(
        image=Image(
            pixels=_pixels(yy, xx, masks),
            sha256=INPUT_SHA,
            source="example.png",
            view="AP",
            spacing_mm=(1.6, 1.5),
            spacing_kind="detector",
            sex="F",
            age_years=57.0,
            notes=("inverted: MONOCHROME1",),
        ),
        prediction=prediction,
        heatmaps=_heatmaps(yy, xx),
        concepts=_concepts(),
        checks=_checks(),
        counterfactuals=(
            Counterfactual("Effusion", "right_lung", "blur", 0.19, -0.64),
            Counterfactual("Effusion", "left_lung", "blur", 0.80, -0.03),
            Counterfactual("Effusion", "box", "blur", 0.22, -0.61),
            Counterfactual("Consolidation", "left_lung", "blur", 0.24, -0.37),
            Counterfactual("Cardiomegaly", "heart", "blur", 0.21, -0.23),
        ),
        gate=(
            gate_check("gate.size", 200.0, 64.0),
            gate_check("gate.inverted", 0.1, 0.9),
            gate_check("gate.cropped", 0.72, 0.6, failed="gate_warned"),
            Check("gate.distance", "", "gate", None, 0.0, None, Remark("gate_unasked")),
        ),
        model=_model(),
        provenance={
            "software": "storyxai", "version": "0.1.0", "seed": 0, "samples": 1000,
            "settings": {"superpixels": 60, "kernel_width": 0.25, "fill": "blur", "forced": False},
            "inputs": [{"source": "example.png", "sha256": INPUT_SHA}],
            "packages": {"numpy": "2.0.0", "onnxruntime": "1.20.0"},
        },
        indication="Breathless for three days; fluid?",
        learned=(
            LearnedConcept("fluid_level", "Effusion", "rests_on", 0.82, 0.7, 0.9, 0.41, 0.01, 0.2, 0.8, 20, 40, 0.98, 0.31),
            LearnedConcept("line", "Effusion", "chance", 0.49, 0.4, 0.6, 0.02, 1.0, 0.2, 0.8, 20, 40, 0.81, -0.02),
            LearnedConcept("dense_focus", "Consolidation", "unseen", 0.6, 0.4, 0.8, 0.01, 0.7, 0.2, 0.8, 20, 40, 0.55),
        ),
        neighbours=Neighbours(
            20, 4000, "train", 0.91, 0.63,
            (FindingNear("Cardiomegaly", 0, 0, 0, None, None, None), FindingNear("Effusion", 20, 14, 4000, 0.12, 0.58, -0.21),
             FindingNear("Consolidation", 17, 3, 3100, 0.05, 0.33, 0.02)),
            "c0" * 32,
        ),
        smallest_changes=(
            SmallestChange("Effusion", "blur", 0.5, 60, 71, False, 3, 0.064, 0.41),
            SmallestChange("Consolidation", "blur", 0.5, 60, 500, False),
        ),
    )


def normal_evidence() -> Evidence:
    """The same made-up picture with every finding absent, no map, little known about the model: a bare record."""
    whole = example_evidence()
    findings = tuple(Finding(name, 0.05, (0.02, 0.09), 0.3) for name in FINDINGS)
    old = whole.prediction
    prediction = Prediction(old.study_id, findings, (), {}, (), {}, old.model_id)
    image = Image(whole.image.pixels, INPUT_SHA, "example.png")
    model = ModelFacts("example-student", "0.1", WEIGHTS_SHA)
    return Evidence(image, prediction, (), (), (), (), (), model, {"software": "storyxai", "version": "0.1.0"})


def _masks(yy: NDArray[Any], xx: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    right = ((xx - 62) / 34) ** 2 + ((yy - 118) / 82) ** 2 < 1
    left = ((xx - 142) / 32) ** 2 + ((yy - 112) / 78) ** 2 < 1
    heart = ((xx - 112) / 34) ** 2 + ((yy - 158) / 36) ** 2 < 1
    return {"left_lung": left & ~heart, "right_lung": right & ~heart, "heart": heart}


def _pixels(yy: NDArray[Any], xx: NDArray[Any], masks: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.float32]:
    body = np.exp(-(((xx - 100) / 92) ** 4) - ((yy - 150) / 190) ** 4)
    grey = 0.12 + 0.62 * body + 0.12 * np.exp(-(((xx - 100) / 12) ** 2))
    for name, amount in (("right_lung", -0.36), ("left_lung", -0.36), ("heart", 0.12)):
        grey = grey + amount * masks[name]
    grey = grey + 0.05 * np.sin(yy / 7.0 + ((xx - 100) / 40) ** 2) * (masks["right_lung"] | masks["left_lung"])
    grey = grey + 0.35 * np.exp(-(((xx - 55) / 30) ** 2) - ((yy - 196) / 26) ** 2)
    grey = grey + 0.22 * np.exp(-(((xx - 142) / 18) ** 2) - ((yy - 122) / 22) ** 2)
    # Whole grey levels, as most films come.
    return (np.rint(np.clip(grey, 0, 1) * 255) / 255).astype(np.float32)


def _heatmaps(yy: NDArray[Any], xx: NDArray[Any]) -> tuple[Heatmap, ...]:
    def bump(x: float, y: float, size: float, top: float) -> NDArray[np.float32]:
        blob = top * np.exp(-(((xx - x) / size) ** 2) - ((yy - y) / size) ** 2)
        return blob.astype(np.float32)

    def blocks(values: NDArray[np.float32]) -> NDArray[np.float32]:
        coarse = values.reshape(HEIGHT // 20, 20, WIDTH // 20, 20).mean(axis=(1, 3))
        return np.repeat(np.repeat(coarse, 20, axis=0), 20, axis=1).astype(np.float32)

    effusion = bump(55, 185, 30, 0.8)
    consolidation = bump(142, 122, 26, 0.5)
    details = {"r2": 0.74, "samples": 1000, "seed": 0, "fill": "blur", "superpixels": 60, "kernel_width": 0.25}
    reason = (Remark("chest_away"),)
    return (
        Heatmap("Effusion", "grad_cam", effusion, "logit per cell", details={"layer": "stride 16"}),
        Heatmap("Effusion", "lime", blocks(effusion - bump(150, 60, 40, 0.3)), "logit per superpixel", details=details),
        Heatmap("Consolidation", "grad_cam", consolidation, "logit per cell"),
        Heatmap("Consolidation", "lime", blocks(bump(20, 20, 20, 0.2)), "logit per superpixel", False, reason, details),
        Heatmap("Cardiomegaly", "grad_cam", bump(10, 10, 15, 0.3), "logit per cell", False, reason),
    )


def _concepts() -> tuple[Concept, ...]:
    return (
        Concept("cardiothoracic_ratio", "", 0.53, "ratio", 0.02, Remark("ratio_px", {"heart": 68, "thorax": 128, "row": 170})),
        Concept("lung_area_asymmetry", "", 0.06, "share", 0.03, Remark("areas_px", {"right": 8000, "left": 7100})),
        Concept("side", "Effusion", "right", "name", None, _SIDE),
        Concept("zones", "Effusion", "right lower", "names", None, _ZONES),
        Concept("inside_share", "Effusion", 0.86, "share", 0.02, _INSIDE),
        Concept("costophrenic", "Effusion", 0.57, "share", 0.03, Remark("costophrenic_share", {"even": 0.12})),
        Concept("perihilar", "Effusion", 0.05, "share", 0.01, Remark("perihilar_share", {"even": 0.16})),
        Concept("side", "Consolidation", "left", "name", None, _SIDE),
        Concept("zones", "Consolidation", "left mid", "names", None, _ZONES),
        Concept("inside_share", "Consolidation", 0.92, "share", 0.02, _INSIDE),
        Concept("extent_share", "Cardiomegaly", None, "share of lung area", None, _unmeasured("no_positive")),
    )


def _checks() -> tuple[Check, ...]:
    checks = [Check("report_agrees", "Effusion", "report", 1.0, None, True, Remark("report_agrees"))]
    shares = {("Effusion", "grad_cam"): 0.86, ("Effusion", "lime"): 0.78, ("Consolidation", "grad_cam"): 0.92}
    for finding, method in (*shares, ("Consolidation", "lime"), ("Cardiomegaly", "grad_cam")):
        share = shares.get((finding, method), 0.21)
        checks += [
            Check("not_empty", finding, method, 0.5, 1e-6, True, Remark("largest_value")),
            Check("inside_lungs", finding, method, share, 0.61, share >= 0.61, _IN_PLACE),
            Check("label_specific", finding, method, 0.34, 0.98, True, Remark("nearest_map", {"finding": "Mass"})),
        ]
    checks.append(Check("methods_agree", "Effusion", "grad_cam", 0.71, 0.22, True, _RANKS))
    checks.append(Check("methods_agree", "Consolidation", "grad_cam", None, None, None, _unmeasured("empty")))
    checks.append(Check("report_confidence", "", "report", -0.42, None, None, Remark("report_confidence", {"sentences": 2})))
    return tuple(checks)


def _model() -> ModelFacts:
    figures = {
        "auroc": 0.87, "auroc_interval": [0.83, 0.91], "n": 312, "positives": 61, "average_precision": 0.66,
        "ece": 0.031, "sensitivity": 0.82, "specificity": 0.79, "threshold": 0.35, "data": "made-up test part",
    }
    rare = {**dict.fromkeys(figures), "n": 312, "positives": 3, "data": "made-up test part"}
    return msgspec.convert({
        "name": "example-student",
        "version": "0.1",
        "weights_sha256": WEIGHTS_SHA,
        "trained_on": [
            {"name": "Example films", "n_images": 1200, "n_patients": 950, "licence": "CC BY 4.0", "synthetic": False},
            {"name": "Phantom", "n_images": 8000, "n_patients": None, "licence": "Apache-2.0", "synthetic": True},
        ],
        "limits": ["Trained on few films of few hospitals.", "Not tested on children."],
        "cannot_see": ["broken bones", "lung cancer stage", "tubes and lines"],
        "per_finding": {
            "Effusion": figures,
            "Consolidation": {**figures, "auroc": 0.81, "auroc_interval": [0.76, 0.86], "positives": 44},
            "Cardiomegaly": {**figures, "auroc": 0.9, "auroc_interval": [0.86, 0.94], "positives": 38},
            "Mass": rare,
        },
        "outlines": {"dice": 0.957, "interval": [0.951, 0.962], "n": 140, "data": "made-up masks"},
        "report": {"finding_f1": 0.71, "constant_f1": 0.38, "n": 312, "data": "made-up test part"},
        "agreement": {"Effusion": {"correlation": 0.94, "mean_difference": -0.02, "n": 312, "teacher": "example"}},
        "subgroups": {
            "sex": {name: {
                "mean_auroc": mean, "auroc_interval": [round(mean - 0.04, 2), round(mean + 0.04, 2)], "finding_count": 3,
                "n_images": images, "n_patients": images - 20, "data": "made-up test part",
            } for name, mean, images in (("F", 0.86, 150), ("M", 0.84, 162))},
        },
        "map_hits": {"lime": {"data": "made-up boxes", **{name: {
            "hit_rate": rate, "interval": [round(rate - 0.1, 2), round(rate + 0.1, 2)], "n": maps, "chance": 0.2,
        } for name, rate, maps in (("shown", 0.71, 40), ("withheld", 0.35, 21))}}},
    }, ModelFacts)
