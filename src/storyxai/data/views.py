"""The view of an image as tables write it, and which rows of a table are frontal views."""

from __future__ import annotations

import re

import numpy as np

from storyxai.data.table import Skipped, StudyTable
from storyxai.modalities.registry import modality_named

__all__ = ["NOT_FRONTAL", "frontal_rows", "known_view", "view_of"]

NOT_FRONTAL = {
    "LATERAL": "is a lateral view, which this model was not made for",
    "OTHER": "is neither a frontal nor a lateral view, which this model was not made for",
}
"""Views that no model of frontal films may be taught or judged on, and why, in words."""
MEND = "nothing to do; `laterals` takes every view"

_LATERAL = frozenset({
    "lat", "lats", "latl", "latr", "llat", "rlat", "lateral", "lateralis", "laterals", "latero", "laterolateral", "ll", "rl",
    "lateralleft", "lateralright", "leftlateral", "rightlateral", "profile", "profil", "perfil", "seitlich", "swimmer",
    "swimmers", "xtable", "crosstable",
})
_OTHER = frozenset({
    "oblique", "obl", "obliqua", "oblicua", "lao", "rao", "lpo", "rpo", "axial", "coronal", "sagittal", "costal", "exclude",
    "lordotic", "decubitus", "lld", "rld", "llo", "rlo", "topogram", "scout", "localizer",
    "other",
})
_LYING_ON_A_SIDE = frozenset({"decubitus", "lld", "rld"})  # named after the side the patient lies on; the beam is frontal
_OBLIQUE = frozenset({"oblique", "obl", "obliqua", "oblicua", "exclude", "topogram", "scout", "localizer"})
_FRONTAL = frozenset({
    "frontal", "portable", "bedside", "supine", "erect", "upright", "standing", "front",
    *(part.casefold() for part in modality_named().acquisition.body_parts),
})
_UNSTATED = frozenset({"", "unknown", "unk", "nan", "none", "null", "na", "notstated", "unspecified", "undefined"})
_ALONE = {"l": "LATERAL", "f": "unknown"}  # a whole cell of one letter: an L for laterals, an F for frontal ones
_BEAM = {
    "PA": ("posteroanterior", "posterioranterior", "posteriortoanterior", "posterioanterior", "backtofront"),
    "AP": ("anteroposterior", "anteriorposterior", "anteriortoposterior", "anterioposterior", "fronttoback"),
}


def view_of(text: str) -> str:
    """The view that a table's cell states: "PA", "AP", "LATERAL", "OTHER" (oblique, axial, ...) or "unknown".

    Spellings and codes of the published tables and of DICOM headers are understood: "LL", "L", "Lateral", "LLAT",
    "left lateral", "postero-anterior", "AP_horizontal", "AP Supine", "p.a.". A cell that names a frontal and a lateral
    view ("PA AND LATERAL") is of two films and states nothing of this one.
    """
    return known_view(text) or "unknown"


def known_view(text: str) -> str | None:
    """Like `view_of`, None where the words are none that are known."""
    words = re.findall(r"[^\W\d_]+", text.casefold())
    whole = "".join(words)
    if whole in _UNSTATED:
        return "unknown"
    if whole in _ALONE:
        return _ALONE[whole]
    said = set(words) | {whole}
    beam = [view for view, names in _BEAM.items() if view.casefold() in said or any(name in whole for name in names)]
    lateral = bool(said & _LATERAL) and not said & _LYING_ON_A_SIDE
    if said & _OBLIQUE or len(beam) > 1:
        return "OTHER" if said & _OBLIQUE else "unknown"
    if beam or lateral:
        return "unknown" if beam and lateral else "LATERAL" if lateral else beam[0]
    return "OTHER" if said & _OTHER else "unknown" if said & _FRONTAL else None


def frontal_rows(table: StudyTable, *, laterals: bool = False) -> tuple[StudyTable, tuple[Skipped, ...]]:
    """The rows of `table` that do not state a view beside the frontal ones, and the others by name.

    A row without a stated view stays. With `laterals` every row does.
    """
    views = [view_of(text) for text in table.frame["view"]]
    keep = np.array([laterals or view not in NOT_FRONTAL for view in views], dtype=np.bool_)
    if keep.all():
        return table, ()
    named = zip(table.frame["image_id"], views, keep, strict=True)
    left_out = tuple(Skipped(str(name), NOT_FRONTAL[view], MEND) for name, view, kept in named if not kept)
    return table.select(rows=keep), left_out
