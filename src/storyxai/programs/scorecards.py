"""A scorecard written into a folder, and what of it goes into the model's card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storyxai.files import replace_files, require_writable
from storyxai.modalities.contract import Modality
from storyxai.provenance import canonical_json
from storyxai.scorecard.page import render_scorecard

__all__ = ["figures_of", "write_scorecard"]

FINDING_F1 = "finding_f1_micro"


def write_scorecard(
    record: Mapping[str, object], out: Path, *, speed: Mapping[str, Any] | None = None,
    explanations: Mapping[str, Any] | None = None,
) -> None:
    """Write scorecard.json and scorecard.html into `out`; measured times go to speed.json, apart from what is hashed.

    The figures of maps go to explanations.json and onto the page.
    """
    require_writable(out)
    page = render_scorecard(dict(record), speed=speed, explanations=explanations)
    files = {"scorecard.json": canonical_json(dict(record)), "scorecard.html": page}
    for name, more in (("speed.json", speed), ("explanations.json", explanations)):
        if more is not None:
            files[name] = canonical_json(dict(more))
    replace_files(out, files)


def figures_of(record: Mapping[str, Any], modality: Modality) -> dict[str, Any]:
    """The part of a scorecard that goes into the card and from there into stories; what was not measured is left out."""
    student = next(model for model in record["models"] if model["role"] == "student")
    data = record["dataset"]["name"]
    figures: dict[str, Any] = {"per_finding": {}}
    for item in student["findings"]:
        if item["auroc"]["value"] is None:
            continue
        figures["per_finding"][item["finding"]] = {
            "auroc": item["auroc"]["value"], "auroc_interval": _interval(item["auroc"]), "n": item["n"],
            "positives": item["positives"], "average_precision": _value(item, "average_precision"),
            "ece": _value(item, "ece"), "sensitivity": _value(item, "sensitivity"),
            "specificity": _value(item, "specificity"), "threshold": item["threshold"], "data": data,
        }
        if curve := item.get("curve"):
            figures.setdefault("curves", {})[item["finding"]] = curve
    for item in student["subgroups"]:
        mean = item["mean_auroc_all"]
        if mean and mean["value"] is not None:
            figures.setdefault("subgroups", {}).setdefault(item["attribute"], {})[item["group"]] = {
                "mean_auroc": mean["value"], "auroc_interval": _interval(mean), "finding_count": mean["finding_count"],
                "n_images": item["images"], "n_patients": item["patients"], "data": data,
            }
    drawn = {mask["mask"]: mask for mask in student["masks"] if mask["dice"]["value"] is not None}
    names = (*([modality.pair.name] if modality.pair else []), *modality.structure_names[:1])
    if best := next((drawn[name] for name in names if name in drawn), None):
        figures["outlines"] = {
            "dice": best["dice"]["value"], "interval": _interval(best["dice"]), "n": best["images"], "data": data,
        }
    said = student["reports"]
    constant = next((item["reports"] for item in record["report_baselines"] if item["name"] == "normal report"), None)
    if said and constant:
        figures["report"] = {
            "finding_f1": said[FINDING_F1]["value"], "constant_f1": constant[FINDING_F1]["value"], "n": said["images"],
            "data": data,
        }
    for pair in record["agreement"]:
        for item in pair["findings"]:
            # Of several teachers the first speaks: those that taught stand before published ones.
            figures.setdefault("agreement", {}).setdefault(item["finding"], {
                "correlation": item["correlation"], "mean_difference": item["mean_probability_difference"],
                "n": item["n"], "teacher": pair["teacher"],
            })
    return figures


def _interval(estimate: Mapping[str, Any]) -> list[float] | None:
    return None if estimate.get("low") is None else [estimate["low"], estimate["high"]]


def _value(item: Mapping[str, Any], name: str) -> float | None:
    estimate = item.get(name)
    return estimate.get("value") if isinstance(estimate, dict) else estimate
