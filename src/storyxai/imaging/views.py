"""The view of an image in people's words: what DICOM's tags, names of series and tables' cells write for one view.

One vocabulary answers two questions: which views a text speaks of (`views_in`), and which single view a cell states
(`known_view`). What a whole header says is weighed in `imaging.tags`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from storyxai.modalities.registry import modality_named

__all__ = ["FRONTAL", "RANKED", "SIDES_ALONE", "known_view", "view_of", "views_in", "words_in"]

FRONTAL: Final = frozenset({"PA", "AP"})
RANKED: Final = ("DECUBITUS", "OBLIQUE", "LATERAL", "PA", "AP")
"""From a view that is certainly not frontal to one that is: the first that is stated counts."""
SIDES_ALONE: Final = frozenset({"L", "R", "LT", "RT", "LEFT", "RIGHT"})
"""A side alone, as some sets write their laterals, is a view only where a view is asked for."""
_SIDE = "(?:L|R|LT|RT|LEFT|RIGHT|LINKS|RECHTS)?"
_PATTERNS: Final = {
    name: re.compile(words)
    for name, words in {
        "DECUBITUS": rf"DECUB\w*|{_SIDE}DEC(?:UB)?|LLD|RLD|HFD[LR]|FFD[LR]",
        "OBLIQUE": rf"{_SIDE}OBL(?:I[CQ]\w*)?|[LR][AP]O|LLO|RLO|MLO|LMO|SCHRAEG\w*|SCHRAG\w*",
        "LATERAL": rf"(?:{_SIDE}|X|XT|XTABLE|CROSSTABLE)LAT(?:S|ERAL(?:E|ES|IS|S)?|ERAAL|ERO\w*)?{_SIDE}"
        r"|LL|RL|LLL|RLL|XTL|XTLAT|XTABLE|CROSSTABLE|PROFILE?|PERFIL|SEITLICH\w*|SEITENAUFNAHME|SAGITTAL|SWIMMERS?",
        "PA": r"PA(?:ERECT|UPRIGHT|STANDING|STEHEND)?|POSTEROANTERIOR|POSTERIORANTERIOR|DORSOVENTRAL",
        "AP": r"AP(?:SUP\w*|PORT\w*|ERECT|UPRIGHT|SITTING|BED\w*)?|ANTEROPOSTERIOR|ANTERIORPOSTERIOR|VENTRODORSAL",
    }.items()
}
# Dutch, German, Swedish, Czech, Polish, Hungarian, Finnish; scripts without Latin letters, of which nothing would be left.
_LATERAL_ABROAD: Final = re.compile(
    r"(?<![A-Z])(?:ZIJDELING\w*|DWARS|SEITE|SIDO?BILD\w*|BO[CČ]N[AEIYÁÉÍÝ]\w*|BOCZN\w*|OLDALIR[AÁ]NY\w*|SIVUKUVA)(?![A-Z])"
    r"|БОКОВ\w*|ΠΛ[ΑΆ]ΓΙ\w*|側面|側位|侧面|侧位|측면"
)
_BEAM: Final = {"PA": "BACKTOFRONT", "AP": "FRONTTOBACK"}
_NO_SINGLE_IMAGE: Final = frozenset({"EXCLUDE", "TOPOGRAM", "SCOUT", "LOCALIZER"})
_NEITHER: Final = frozenset({"AXIAL", "CORONAL", "COSTAL", "LORDOTIC", "OTHER"})
_FRONTAL_WORDS: Final = frozenset({"FRONTAL", "PORTABLE", "BEDSIDE", "SUPINE", "ERECT", "UPRIGHT", "STANDING", "FRONT"})
_UNSTATED: Final = frozenset({
    "", "UNKNOWN", "UNK", "NAN", "NONE", "NULL", "NA", "NOTSTATED", "UNSPECIFIED", "UNDEFINED",
})  # fmt: skip
_ALONE: Final = {"L": "LATERAL", "F": "unknown"}
"""A whole cell of one letter: an L for laterals, an F for frontal ones."""


def words_in(text: str) -> list[str]:
    """The words of a text in plain capitals, "P.A.", "A/P", "L-LAT" and "postero-anterior" as one word each."""
    known = _LATERAL_ABROAD.sub(" LATERAL ", unicodedata.normalize("NFC", text).upper())
    plain = unicodedata.normalize("NFKD", known).encode("ascii", "ignore").decode().replace(".", "")
    plain = re.sub(r"(?<![A-Z])([AP])[-/ ]([AP])(?![A-Z])", r"\1\2", plain)
    plain = re.sub(r"(?<![A-Z])(X|CROSS|[LR])[-_ ]?(TABLE|LAT)", r"\1\2", plain)
    joined = r"((?:POSTER|ANTER)(?:IOR|IO|O)|DORSO|VENTRO)[-_/ ]?(?:TO[-_/ ])?(?=(?:ANTER|POSTER)IOR|VENTRAL|DORSAL)"
    plain = re.sub(joined, r"\1", plain).replace("POSTERIOANTERIOR", "POSTEROANTERIOR")
    plain = plain.replace("ANTERIOPOSTERIOR", "ANTEROPOSTERIOR")
    return re.findall(r"[A-Z]+", plain)


def views_in(text: str) -> set[str]:
    """The views of `RANKED` that a text speaks of."""
    return _views_of(words_in(text))


def view_of(cell: str) -> str:
    """The view that a table's cell states: "PA", "AP", "LATERAL", "OTHER" (oblique, axial, ...) or "unknown".

    Spellings and codes of the published tables and of DICOM headers are understood: "LL", "L", "Lateral", "LLAT",
    "left lateral", "postero-anterior", "AP_horizontal", "AP Supine", "p.a.". A cell that names a frontal and a lateral
    view ("PA AND LATERAL") is of two films and states nothing of this one.
    """
    return known_view(cell) or "unknown"


def known_view(cell: str) -> str | None:
    """Like `view_of`, None where the words are none that are known."""
    words = words_in(cell)
    whole = "".join(words)
    if whole in _UNSTATED:
        return None if any(letter.isalpha() for letter in cell) and not words else "unknown"
    if whole in _ALONE:
        return _ALONE[whole]
    said = {*words, whole}
    found = _views_of(said) | {view for view, path in _BEAM.items() if path in whole}
    beam = sorted(found & FRONTAL)
    # A decubitus view is named after the side that the patient lies on; its beam may be frontal.
    lateral = "LATERAL" in found and "DECUBITUS" not in found
    if "OBLIQUE" in found or said & _NO_SINGLE_IMAGE:
        return "OTHER"
    if len(beam) > 1 or (beam and lateral):
        return "unknown"
    if beam or lateral:
        return beam[0] if beam else "LATERAL"
    if found or said & _NEITHER:
        return "OTHER"
    return "unknown" if said & (_FRONTAL_WORDS | set(modality_named().acquisition.body_parts)) else None


def _views_of(words: Iterable[str]) -> set[str]:
    return {name for name, pattern in _PATTERNS.items() if any(pattern.fullmatch(word) for word in words)}
