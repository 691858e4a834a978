"""From one radiograph to its evidence: prediction, maps, measured concepts, counterfactuals, and the checks of them all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from storyxai.evidence import checks as check
from storyxai.evidence.predict import Seen, calibrated, predict
from storyxai.explain.cam import grad_cam, grid_head_gradients, resize_maps
from storyxai.explain.contract import Budget
from storyxai.explain.lime import LimeFit, LimeResult, lime, lime_map
from storyxai.explain.perturbation import Fill, hidden_image, occlude
from storyxai.explain.superpixels import slic_segments
from storyxai.imaging.gate import judge, refuse
from storyxai.modalities.chest_radiograph.anatomy import Thorax, image_concepts, map_concepts, thorax_from_masks
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH
from storyxai.models.runtime import Student
from storyxai.provenance import software_versions
from storyxai.types import Array, Check, Counterfactual, Evidence, Finding, Heatmap, Mask, Study, Value

__all__ = ["ExplainSettings", "explain_finding", "gather", "look_at", "lung_fill", "told_findings"]

MOST_TOLD = 5
MOST_PIXELS_FOR_ALL_MAPS = 2_000_000
CHEST_MARGIN_SHARE = 0.03
"""Margin around lungs and heart, as a share of the model frame's side, within which two methods are compared."""
FILL_OF = {"right lung": "lung", "left lung": "lung", "heart": "blur", "box": "lung_blur"}
"""How a what-if calls the part of `lung_fill` that covers its region: a heart lies in the blurred part, a box in both."""
LUNG_QUANTILE = 0.25
"""The darker quarter of the drawn lungs: below most opacities, and no darker than lung is."""
NOT_COMPARED = "not asked: LIME is laid beside Grad-CAM only for findings that the stories dwell on"


@dataclass(frozen=True)
class ExplainSettings:
    """How maps are made. `samples` of LIME, `superpixels` wanted, `width` of its kernel, `fill` of what is hidden.

    `fill` is "lung" (`lung_fill`), "blur", "mean" or a grey value in [0, 1].
    """

    samples: int = 1000
    seed: int = 0
    superpixels: int = 60
    width: float = 0.25
    fill: str = "lung"


def gather(
    student: Student, study: Study, *, settings: ExplainSettings | None = None, force: bool = False
) -> Evidence:
    """All the evidence about the study's first image.

    Raises: GateRefusal when the image is not one that the student may speak about, unless `force` (the failed check
    then stays in the evidence and on every page).
    """
    settings = settings or ExplainSettings()
    image = study.images[0]
    seen, gate = look_at(student, study, force=force)
    witnesses = _witnesses(student, seen, settings, spacing_mm=image.spacing_mm)
    thorax = witnesses.thorax
    told = told_findings(seen.prediction.findings)
    # In a very large film the maps of findings that no story dwells on would fill hundreds of megabytes.
    stored = student.findings if image.pixels.size <= MOST_PIXELS_FOR_ALL_MAPS else told
    heatmaps, map_checks = [], []
    concepts = list(image_concepts(seen.prediction.masks, mask_pixel=_mask_pixel(seen)))
    for finding in stored:
        for heatmap, found in _maps(witnesses, finding, both=finding in told):
            heatmaps.append(heatmap)
            map_checks += found
            if finding in told and heatmap.method == "grad_cam" and heatmap.shown:
                concepts += map_concepts(heatmap.values, thorax, finding=finding)
    return Evidence(
        image=image,
        prediction=seen.prediction,
        heatmaps=tuple(heatmaps),
        concepts=tuple(concepts),
        checks=(*map_checks, *_whole_checks(seen, student)),
        counterfactuals=_counterfactuals(student, seen, told),
        gate=gate,
        model=student.card.model_record(),
        provenance=_provenance(student, study, settings, told, force),
        indication=study.indication,
    )


def look_at(student: Student, study: Study, *, force: bool = False) -> tuple[Seen, tuple[Check, ...]]:
    """What the student sees in the study's first image, and what the gate says of it.

    Raises: GateRefusal when the image is not one that the student may speak about, unless `force`.
    """
    image = study.images[0]
    if not force:
        refuse(image, judge(image, CHEST_RADIOGRAPH), CHEST_RADIOGRAPH)
    seen = predict(student, study)
    lungs = {name: seen.prediction.masks[name] for name in ("left_lung", "right_lung")}
    known = student.distance
    gate = judge(
        image, CHEST_RADIOGRAPH, masks=lungs, distance=known.of(seen.look.features) if known else None,
        distance_limit=known.limit if known else None,
    )
    if not force:
        refuse(image, gate, CHEST_RADIOGRAPH)
    return seen, gate


def explain_finding(
    student: Student, seen: Seen, *, finding: str, method: str, settings: ExplainSettings,
    spacing_mm: tuple[float, float] | None = None,
) -> tuple[Heatmap, list[Check]]:
    """The map of one finding by "grad_cam" or "lime", and every check that a story would ask of it."""
    witnesses = _witnesses(student, seen, settings, spacing_mm=spacing_mm)
    maps = {heatmap.method: (heatmap, found) for heatmap, found in _maps(witnesses, finding, both=True)}
    return maps[method]


def told_findings(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    """The findings a story dwells on: every present one, then indeterminate ones while fewer than MOST_TOLD are told.

    Likeliest against their threshold first.
    """
    order = {"present": 0, "indeterminate": 1}
    dwelt = [finding for finding in findings if finding.state in order]
    dwelt.sort(key=lambda f: (order[f.state], -(f.probability / max(f.threshold, 1e-6)), f.name))
    present = sum(finding.state == "present" for finding in dwelt)
    return tuple(finding.name for finding in dwelt[: max(present, MOST_TOLD)])


def lung_fill(seen: Seen) -> tuple[Array, float] | None:
    """What stands where LIME hides something, and its grey in the lungs (three digits); None where no lung was drawn.

    Shapes: float32 [S, S], the model's view. In the drawn lungs the grey of the darker lung, elsewhere the blurred film:
    a blurred opacity is still an opacity, so a blur hides little of one, and lung-grey would be wrong outside the lungs.
    """
    masks = seen.prediction.masks
    lungs = seen.frame.mask_to_model(masks["left_lung"] | masks["right_lung"]) >= 0.5
    if not lungs.any():
        return None
    grey = round(float(np.quantile(seen.pixels[lungs], LUNG_QUANTILE)), 3)
    return np.where(lungs, np.float32(grey), hidden_image(seen.pixels, fill="blur")), grey


def _explain_lime(student: Student, seen: Seen, *, settings: ExplainSettings) -> tuple[NDArray[np.int32], LimeResult]:
    """Superpixels [S, S] of the model's view and LIME's coefficients of every finding from one set of perturbations."""
    segments = slic_segments(seen.pixels, count=settings.superpixels)
    filled = lung_fill(seen) if settings.fill == "lung" else None
    fill: Fill = "blur" if settings.fill in ("blur", "lung") else "mean" if settings.fill == "mean" else float(settings.fill)
    result = lime(
        student.logits, seen.pixels, segments, fill=fill if filled is None else filled[0],
        fit=LimeFit(width=settings.width), budget=Budget(samples=settings.samples, seed=settings.seed),
    )
    if filled is None:
        return segments, result
    return segments, replace(result, fill=f"the darker lung's grey ({filled[1]:g}) in the lungs and by a blur elsewhere")


class _Witnesses(NamedTuple):
    """What both methods say of one image, of all findings at once. `cams`, `again` float32 [F, h, w]; the grid's own."""

    seen: Seen
    names: tuple[str, ...]
    cams: Array
    again: Array
    segments: NDArray[np.int32]
    lime: LimeResult
    thorax: Thorax
    chest: Mask | None
    settings: ExplainSettings


def _witnesses(
    student: Student, seen: Seen, settings: ExplainSettings, *, spacing_mm: tuple[float, float] | None
) -> _Witnesses:
    # A second pass of the network, not the same numbers again: otherwise the repeatability check could not fail.
    again = _grid_cams(student, seen._replace(look=student.answer(seen.pixels)))
    segments, result = _explain_lime(student, seen, settings=settings)
    thorax = thorax_from_masks(seen.prediction.masks, spacing_mm=spacing_mm, mask_pixel=_mask_pixel(seen))
    cams = _grid_cams(student, seen)
    return _Witnesses(seen, student.findings, cams, again, segments, result, thorax, _chest(seen), settings)


def _mask_pixel(seen: Seen) -> float:
    """How many pixels of the original film one pixel of the drawn masks covers."""
    drawn = next(iter(seen.prediction.masks.values()))
    return float(max(drawn.shape) / seen.look.masks.shape[1])


def _maps(w: _Witnesses, finding: str, *, both: bool) -> list[tuple[Heatmap, list[Check]]]:
    """The finding's maps with their checks: LIME and Grad-CAM where `both` are asked, else Grad-CAM alone."""
    index, out = w.names.index(finding), []
    values = w.seen.frame.grid_to_original(w.cams[index])
    found = _cam_checks(values, w.cams, w.again, index, w.names, w.thorax)
    if both:
        coarse, painted = _resized(w.cams, index, w.segments.shape[0]), lime_map(w.lime, w.segments)[index]
        agree = {"segments": w.segments, "finding": finding, "seed": w.settings.seed, "within": w.chest}
        found.append(check.methods_agree(coarse, painted, method="grad_cam", other="lime", **agree))  # type: ignore[arg-type]
        lime_heatmap = _lime_heatmap(finding, index, w.seen.frame.grid_to_original(painted), w)
        lime_found = _lime_checks(lime_heatmap, index, w.lime, w.thorax)
        lime_found.append(check.methods_agree(painted, coarse, method="lime", other="grad_cam", **agree))  # type: ignore[arg-type]
        out.append((check.decide_shown(lime_heatmap, lime_found), lime_found))
    else:
        found.append(Check("methods_agree", finding, "grad_cam", None, None, None, NOT_COMPARED))
    layer = {"layer": "fused features at stride 16", "cells": w.cams.shape[1] * w.cams.shape[2]}
    cam = check.decide_shown(Heatmap(finding, "grad_cam", values, "logit per cell", details=layer), found)
    return [*out, (cam, found)]


def _grid_cams(student: Student, seen: Seen) -> Array:
    """Grad-CAM of every finding on the features' own grid, float32 [F, h, w]."""
    _, gradients = grid_head_gradients(seen.look.features, **student.head)
    cams: Array = grad_cam(seen.look.features, gradients)
    return cams


def _resized(cams: Array, index: int, size: int) -> Array:
    """One map of the grid in the model's frame, float32 [S, S]."""
    enlarged: Array = resize_maps(cams[index : index + 1], height=size, width=size)
    return np.asarray(enlarged[0], dtype=np.float32)


def _chest(seen: Seen) -> Mask | None:
    """Lungs, heart and the margin around them in the model's frame, None where no lung was drawn."""
    drawn = np.logical_or.reduce([seen.prediction.masks[name] for name in seen.prediction.masks])
    small = seen.frame.mask_to_model(drawn) >= 0.5
    if not small.any():
        return None
    reach = max(1, round(CHEST_MARGIN_SHARE * small.shape[0]))
    return np.asarray(ndimage.binary_dilation(small, iterations=reach), dtype=np.bool_)


def _cam_checks(
    values: Array, cams: Array, again: Array, index: int, names: tuple[str, ...], thorax: Thorax
) -> list[Check]:
    finding, method = names[index], "grad_cam"
    others = {name: cams[i] for i, name in enumerate(names)}
    return [
        check.not_empty(values, finding=finding, method=method),
        check.inside_lungs(values, thorax, finding=finding, method=method),
        check.repeatable(cams[index], again[index], finding=finding, method=method),
        check.label_specific(cams[index], others, finding=finding, method=method),
    ]


def _lime_heatmap(finding: str, index: int, values: Array, w: _Witnesses) -> Heatmap:
    result = w.lime
    details: dict[str, Value] = {
        "r2": float(result.r2[index]), "samples": int(result.samples[index]), "seed": result.seed, "fill": result.fill,
        "superpixels": int(result.coefficients.shape[1]), "kernel_width": w.settings.width, "ridge": 1.0,
    }
    return Heatmap(finding, "lime", values, "logit per superpixel", details=details)


def _lime_checks(heatmap: Heatmap, index: int, result: LimeResult, thorax: Thorax) -> list[Check]:
    finding, method = heatmap.finding, heatmap.method
    return [
        check.not_empty(heatmap.values, finding=finding, method=method),
        check.inside_lungs(heatmap.values, thorax, finding=finding, method=method),
        check.stable_over_seeds(finding=finding, method=method, reliability=float(result.reliability[index])),
    ]


def _counterfactuals(student: Student, seen: Seen, told: tuple[str, ...]) -> tuple[Counterfactual, ...]:
    """The calibrated probability of each told finding when a lung, its own box, or the heart is hidden."""
    masks = seen.prediction.masks
    regions: dict[str, Mask] = {"right lung": masks["right_lung"], "left lung": masks["left_lung"]}
    if masks["heart"].any():
        regions["heart"] = masks["heart"]
    for name in told:
        box = next((box for box in seen.prediction.boxes if box.finding == name), None)
        if box is not None:
            drawn = np.zeros(masks["heart"].shape, dtype=np.bool_)
            x, y = max(0, int(box.x)), max(0, int(box.y))
            drawn[y : y + max(1, round(box.height)), x : x + max(1, round(box.width))] = True
            regions[f"box of {name}"] = drawn
    small = {name: seen.frame.mask_to_model(mask) >= 0.5 for name, mask in regions.items()}
    small = {name: mask for name, mask in small.items() if mask.any()}
    if not small or not told:
        return ()
    filled = lung_fill(seen)
    answers = occlude(student.logits, seen.pixels, small, "blur" if filled is None else filled[0])
    probability = {finding.name: finding.probability for finding in seen.prediction.findings}
    out = []
    for name in told:
        index = student.findings.index(name)
        for region, logits in answers.items():
            if region.startswith("box of ") and region != f"box of {name}":
                continue
            hidden = calibrated(name, float(logits[index]), student.card.calibration[name]).probability
            boxed = region.startswith("box of ")
            fill = "blur" if filled is None else FILL_OF["box" if boxed else region]
            words = "the boxed area" if boxed else f"the {region}"
            out.append(Counterfactual(name, words, fill, hidden, hidden - probability[name]))
    return tuple(out)


def _whole_checks(seen: Seen, student: Student) -> tuple[Check, ...]:
    """Checks of the record as a whole: does the generated report say what the findings say?"""
    from storyxai.modalities.chest_radiograph.labeler import label_report

    said = label_report(seen.prediction.report)
    found = []
    for finding in seen.prediction.findings:
        claim = said.get(finding.name, float("nan"))
        if np.isnan(claim):
            passed, about = None, "the generated report does not mention it"
        elif finding.state == "indeterminate":
            passed, about = None, "the finding is indeterminate, so the report can neither agree nor disagree"
        else:
            passed = (claim >= 0.5) == (finding.state == "present")
            about = "the generated report states the same as the finding's probability" if passed else (
                "the generated report contradicts the finding's probability"
            )
        value = None if np.isnan(claim) else float(claim)
        found.append(Check("report_agrees", finding.name, "report", value, None, passed, about))
    total = len(seen.prediction.report)
    found.append(
        Check("report_confidence", "", "report", seen.report_confidence, None, None,
              f"mean log-probability of a word of the generated report, {total} sentences")
    )
    return tuple(found)


def _provenance(
    student: Student, study: Study, settings: ExplainSettings, told: tuple[str, ...], force: bool
) -> dict[str, object]:
    return {
        "software": "storyxai",
        "version": software_versions("storyxai")["storyxai"],
        "seed": settings.seed,
        "samples": settings.samples,
        "settings": {
            "superpixels": settings.superpixels, "kernel_width": settings.width, "fill": settings.fill,
            "most_told": MOST_TOLD, "forced": force,
        },
        "told": list(told),
        "inputs": [{"source": image.source, "sha256": image.sha256} for image in study.images],
        "model_files": dict(student.card.files),
        "packages": software_versions("numpy", "scipy", "scikit-image", "pillow", "onnxruntime", "pydicom"),
    }


