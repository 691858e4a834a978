"""The frontal chest radiograph as one value."""

from __future__ import annotations

from storyxai.modalities.chest_radiograph.anatomy import MEDIASTINAL, heart_problem, survey_chest
from storyxai.modalities.chest_radiograph.draft import read_draft
from storyxai.modalities.chest_radiograph.findings import CHEST
from storyxai.modalities.chest_radiograph.gate import CHEST_GATE
from storyxai.modalities.chest_radiograph.grammar import GRAMMAR
from storyxai.modalities.chest_radiograph.labeler import label_report
from storyxai.modalities.contract import Acquisition, Code, Modality, NeutralFilling, Pair, Structure, WhatIf
from storyxai.modalities.words import LanguageFiles

__all__ = ["CHEST_RADIOGRAPH"]


CHEST_RADIOGRAPH = Modality(
    key="chest_radiograph",
    name="chest radiograph",
    findings=CHEST,
    structures=(
        Structure("left_lung", codes=(Code("44029006", "SCT", "Left lung"),)),
        Structure("right_lung", codes=(Code("3341006", "SCT", "Right lung"),)),
        # On real films the drawing often is no heart: nothing may rest on it then, and no one is to see it.
        Structure("heart", codes=(Code("80891009", "SCT", "Heart"),), fault=heart_problem),
    ),
    pair=Pair("lungs", synonyms=("lung",)),
    beside_pair=tuple(sorted(MEDIASTINAL)),
    searched=("Pneumonia",),  # RSNA's and our phantoms' readers marked every opacity
    survey=survey_chest,
    gate=CHEST_GATE,
    # The darker quarter of the drawn lungs: below most opacities, and no darker than lung is. A blurred opacity is still an
    # opacity, so a blur hides little of one; and lung-grey would be wrong outside the lungs.
    filling=NeutralFilling("lung", ("left_lung", "right_lung"), 0.25, "lung_blur"),
    what_ifs=(
        WhatIf("right_lung", "right lung", "lung"), WhatIf("left_lung", "left lung", "lung"), WhatIf("heart", "heart", "blur"),
    ),
    grammar=GRAMMAR,
    labeller=label_report,
    read_draft=read_draft,
    acquisition=Acquisition(modalities=("CR", "DX"), views=("PA", "AP"), body_parts=("CHEST", "THORAX", "LUNG")),
    words=LanguageFiles("storyxai.modalities.chest_radiograph"),
    limits=("One frontal film at a time: no lateral view, no prior examination, no clinical history is read.",),
    cannot_see=(
        "rib and clavicle fractures", "position of tubes and lines", "free air under the diaphragm", "bone lesions",
        "anything on a lateral view", "change over time",
    ),
    normal_report=(
        "The heart is normal in size. The mediastinum is unremarkable. The lungs are clear. "
        "No pleural effusion. No pneumothorax."
    ),
    asked_first=("Pneumothorax",),
    shared_names=(
        "Mass", "Nodule", "Nodule/Mass", "Infiltration", "Infiltrate", "Infiltrates", "Edema", "Oedema", "Fibrosis", "Hernia",
        "Collapse", "Volume loss",
    ),
)
