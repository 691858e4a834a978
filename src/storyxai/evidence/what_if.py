"""What the model says when a structure, or a finding's own box, is hidden."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from storyxai.evidence.filling import neutral_filling
from storyxai.evidence.formats import BOXED
from storyxai.evidence.predict import Seen, calibrated, card_of
from storyxai.explain.contract import ExplainedModel
from storyxai.explain.perturbation import occlude
from storyxai.modalities.contract import Modality
from storyxai.types import Counterfactual, Mask


class _Region(NamedTuple):
    """A region of the original frame; `finding` is "" for one that is hidden for every finding."""

    name: str
    mask: Mask
    fill: str
    finding: str = ""


def hide_regions(
    model: ExplainedModel, seen: Seen, modality: Modality, told: tuple[str, ...]
) -> tuple[Counterfactual, ...]:
    """The probability of each told finding when a structure, or its own box, is hidden."""
    regions = [*_structures(seen, modality), *_boxes(seen, modality, told)] if told else []
    small = {str(i): seen.frame.mask_to_model(region.mask) >= 0.5 for i, region in enumerate(regions)}
    small = {key: mask for key, mask in small.items() if mask.any()}
    if not small:
        return ()
    painted, card = neutral_filling(seen, modality), card_of(model)
    answers = occlude(model.logits, seen.pixels, small, "blur" if painted is None else painted.image)
    found = []
    for finding in (f for name in told for f in seen.prediction.findings if f.name == name):
        index = list(model.findings).index(finding.name)
        calibration = None if card is None else card.calibration.get(finding.name)
        for key, logits in answers.items():
            region = regions[int(key)]
            if region.finding in ("", finding.name):
                hidden = calibrated(finding.name, float(logits[index]), calibration).probability
                fill = "blur" if painted is None else region.fill
                found.append(Counterfactual(finding.name, region.name, fill, hidden, hidden - finding.probability))
    return tuple(found)


def _structures(seen: Seen, modality: Modality) -> list[_Region]:
    masks = seen.prediction.masks
    drawn = [one for one in modality.what_ifs if one.structure in masks and masks[one.structure].any()]
    return [_Region(one.structure, masks[one.structure], one.fill) for one in drawn]


def _boxes(seen: Seen, modality: Modality, told: tuple[str, ...]) -> list[_Region]:
    fill = "blur" if modality.filling is None else modality.filling.mixed
    found = []
    for name in told:
        box = next((box for box in seen.prediction.boxes if box.finding == name), None)
        if box is not None:
            mask = np.zeros((seen.frame.height, seen.frame.width), dtype=np.bool_)
            x, y = max(0, int(box.x)), max(0, int(box.y))
            mask[y : y + max(1, round(box.height)), x : x + max(1, round(box.width))] = True
            found.append(_Region(BOXED, mask, fill, name))
    return found
