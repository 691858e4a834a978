"""Dermoscopy, the picture of one pigmented skin lesion under a dermatoscope, as one value."""

from __future__ import annotations

from storyxai.modalities.contract import Acquisition, Modality, NeutralFilling, Structure, WhatIf
from storyxai.modalities.dermoscopy.draft import read_draft
from storyxai.modalities.dermoscopy.findings import DERMOSCOPY as FINDINGS
from storyxai.modalities.dermoscopy.gate import DERMOSCOPY_GATE
from storyxai.modalities.dermoscopy.grammar import GRAMMAR, label_report
from storyxai.modalities.dermoscopy.lesion import measure_colours, survey_lesion
from storyxai.modalities.words import LanguageFiles

DERMOSCOPY = Modality(
    key="dermoscopy",
    name="dermoscopic picture",
    findings=FINDINGS,
    # Two lesions are seen by the gate, so that no piece is taken away before it looks.
    structures=(Structure("lesion", one_piece=False),),
    survey=survey_lesion,
    measure=measure_colours,
    gate=DERMOSCOPY_GATE,
    # What hides a lesion is the skin around it: a blur of a lesion is still a lesion, and a tone of the lesion more so.
    filling=NeutralFilling(
        "skin",
        ("lesion",),
        0.5,
        "skin_blur",
        around=True,
    ),
    what_ifs=(WhatIf("lesion", "lesion", "skin"),),
    grammar=GRAMMAR,
    labeller=label_report,
    read_draft=read_draft,
    acquisition=Acquisition(channels=3, bright_is_dense=False, modalities=("DMS", "XC")),
    words=LanguageFiles("storyxai.modalities.dermoscopy"),
    limits=(
        "One picture of one pigmented lesion at a time: no earlier picture, no history, no other moles are known.",
        "Lesions on hands, feet, nails, mucosa and under hair have other signs, which it did not learn.",
    ),
    cannot_see=(
        "skin cancers without pigment",
        "changes over time",
        "what lies below the surface",
        "moles elsewhere on the body",
    ),
)
