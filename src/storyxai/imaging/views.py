"""The view of an image in people's words: what DICOM's tags, names of series and tables' cells write for one view.

One vocabulary answers two questions: which views a text speaks of (`views_in`), and which single view a cell states
(`known_view`). What a whole header says is weighed in `imaging.tags`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Final

from storyxai.modalities.registry import modality_named

FRONTAL: Final = frozenset({"PA", "AP"})
RANKED: Final = ("DECUBITUS", "OBLIQUE", "LATERAL", "PA", "AP")
"""From a view that is certainly not frontal to one that is: the first that is stated counts."""
SIDES_ALONE: Final = frozenset({"L", "R", "LT", "RT", "LEFT", "RIGHT"})
"""A side alone, as some sets write their laterals, is a view only where a view is asked for."""
LATERAL_ALONE: Final = frozenset({"PERF", "PROF", "SIDE", "SEIT", "BOK", "YAN"})
"""Short for a side view, where a view is asked for; in the name of a series they may be anything (a Prof., say)."""
_SIDE = "(?:L|R|LT|RT|LEFT|RIGHT|LINKS|RECHTS)?"
_WORDS: Final = {
    "DECUBITUS": rf"DECUB\w*|{_SIDE}DEC(?:UB)?|LLD|RLD|HFD[LR]|FFD[LR]",
    "OBLIQUE": rf"{_SIDE}OBL(?:I[CQ]\w*)?|[LR][AP]O|LLO|RLO|MLO|LMO|SCHRAEG\w*|SCHRAG\w*",
    "LATERAL": rf"(?:{_SIDE}|X|XT|XTABLE|CROSSTABLE)LAT(?:S|ERAL(?:E|ES|IS|S)?|ERAAL|ERO\w*)?{_SIDE}"
    r"|LL|RL|LLL|RLL|XTL|XTLAT|XTABLE|CROSSTABLE|HBL|PROFILE?|PERFIL|SEITL(?:ICH\w*)?|SEITENAUFNAHME|SAGITTAL|SWIMMERS?"
    r"|ZIJ(?:DELINGS\w*)?|DWARS|SEITE|SIVUKUVA|SIDEBIL\w*|SIDOBILD\w*|BOCZN\w*|BOCN\w*|OLDALIRANY\w*|YANGRAFI"
    r"|[^\W正]*[侧側][位面]|[^\W정]*측면|БОК(?:ОВ\w*)?|ΠΛΑΓΙΑ",
    "PA": r"PA(?:ERECT|UPRIGHT|STANDING|STEHEND)?|POSTEROANTERI\w*|POSTERIORANTERIOR|DORSOVENTRAL",
    "AP": r"AP(?:SUP\w*|PORT\w*|ERECT|UPRIGHT|SITTING|BED\w*)?|ANTEROPOSTERI\w*|ANTERIORPOSTERIOR|VENTRODORSAL",
}
_OTHER_SCRIPTS: Final = "一-鿿가-힣А-ЯЁΑ-Ω"
_BEAM: Final = {"PA": "BACKTOFRONT", "AP": "FRONTTOBACK"}
_FACING: Final = re.compile(r"FRONTAL\w*|FRONT|FACE|FRENTE|FACIES|[^\W側侧]*正[位面]|정면|ПРЯМ\w*")
"""Words of a frontal view that say nothing of the beam."""
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
    marks = unicodedata.normalize("NFKD", text.upper())
    plain = unicodedata.normalize("NFC", "".join(mark for mark in marks if not unicodedata.combining(mark))).replace(".", "")
    plain = re.sub(r"(?<![A-Z])([AP])[-/ ]([AP])(?![A-Z])", r"\1\2", plain)
    plain = re.sub(r"(?<![A-Z])(X|CROSS|[LR])[-_ ]?(TABLE|LAT)", r"\1\2", plain)
    joined = r"((?:POSTER|ANTER)(?:IOR|IO|O)|DORSO|VENTRO)[-_/ ]?(?:TO[-_/ ])?(?=(?:ANTER|POSTER)I|VENTRAL|DORSAL)"
    plain = re.sub(joined, r"\1", plain).replace("POSTERIOANTERIOR", "POSTEROANTERIOR")
    plain = plain.replace("ANTERIOPOSTERIOR", "ANTEROPOSTERIOR")
    return re.findall(f"[A-Z]+|[{_OTHER_SCRIPTS}]+", plain)


def views_in(text: str) -> set[str]:
    """The views of `RANKED` that a text speaks of."""
    return _views_of(words_in(text))


def speaks_of_both(text: str) -> bool:
    """Whether a text speaks of a frontal and of a lateral view, as the name of a study of two films does."""
    words = words_in(text)
    found = _views_of(words)
    return "LATERAL" in found and bool(found & FRONTAL or any(_FACING.fullmatch(word) for word in words))


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
    if len(beam) > 1 or (lateral and speaks_of_both(cell)):
        return "unknown"
    if beam or lateral:
        return beam[0] if beam else "LATERAL"
    if found or said & _NEITHER:
        return "OTHER"
    return "unknown" if said & (_FRONTAL_WORDS | set(modality_named().acquisition.body_parts)) else None


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """The words of each view, made patterns when they are first asked for: most images that are told are no DICOM."""
    return {view: re.compile(words) for view, words in _WORDS.items()}


def _views_of(words: Iterable[str]) -> set[str]:
    # Names of protocols run the part and the view together.
    parts = "|".join(modality_named().acquisition.body_parts)
    bare = [re.sub(f"^(?:{parts})(?=[A-Z])", "", word) if parts else word for word in words]
    return {name for name, pattern in _patterns().items() if any(pattern.fullmatch(word) for word in bare)}
