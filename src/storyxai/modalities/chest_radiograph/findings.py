"""The vocabulary: what each finding is called, by whom, and in whose words. Data, not code: another modality, another table."""

from __future__ import annotations

import re
from dataclasses import dataclass

from storyxai.errors import UnknownNameError

__all__ = ["CHEST", "NAMES", "FindingTerm", "find_term", "match_name"]


@dataclass(frozen=True)
class FindingTerm:
    """One finding.

    `phrase` is how a report says it; `lay` is a noun phrase a patient of ten years' schooling reads; `look_alikes` are
    other causes of the same shadow; `synonyms` are names other data sets give it (compared without case or marks);
    `snomed`, `radlex` are codes ("" where none was verified); `focal` says that it has a place smaller than a lung.
    """

    name: str
    phrase: str
    lay: str
    look_alikes: tuple[str, ...]
    synonyms: tuple[str, ...]
    snomed: str
    radlex: str
    focal: bool


CHEST: tuple[FindingTerm, ...] = (
    FindingTerm(
        "Atelectasis", "atelectasis", "a part of the lung that is not fully open",
        ("consolidation", "a low breath", "scarring"), ("collapse", "volume loss", "linear atelectasis"),
        "46621007", "RID28493", True,
    ),
    FindingTerm(
        "Cardiomegaly", "an enlarged cardiac silhouette", "a heart shadow that looks larger than usual",
        ("an AP or supine view", "a shallow breath", "fluid around the heart"),
        ("enlarged heart", "cardiac enlargement", "heart enlarged"), "8186001", "", False,
    ),
    FindingTerm(
        "Effusion", "pleural effusion", "fluid around the lung",
        ("pleural thickening", "a raised diaphragm", "atelectasis at the base"),
        ("pleural effusion", "pleural fluid"), "60046008", "RID34539", True,
    ),
    FindingTerm(
        "Infiltration", "an ill-defined lung opacity", "a hazy area in the lung",
        ("vessels close together in a low breath", "edema", "overlying soft tissue"),
        ("infiltrate", "infiltrates"), "409609008", "", True,
    ),
    FindingTerm(
        "Mass", "a lung mass", "a larger spot in the lung",
        ("round consolidation", "a shadow of the chest wall", "a vessel seen end-on"),
        ("lung mass", "pulmonary mass"), "309529002", "RID39056", True,
    ),
    FindingTerm(
        "Nodule", "a lung nodule", "a small spot in the lung",
        ("a nipple shadow", "a vessel seen end-on", "a rib end"),
        ("lung nodule", "pulmonary nodule", "nodule/mass"), "786838002", "RID50149", True,
    ),
    FindingTerm(
        "Pneumonia", "an opacity that can stand for pneumonia", "a change that can come from a lung infection",
        ("atelectasis", "edema", "aspiration"), ("bacterial pneumonia", "viral pneumonia", "lobar pneumonia"),
        "233604007", "RID5350", True,
    ),
    FindingTerm(
        "Pneumothorax", "pneumothorax", "air between the lung and the chest wall",
        ("a skin fold", "a bulla", "the edge of the shoulder blade"), ("ptx",), "36118008", "RID5352", True,
    ),
    FindingTerm(
        "Consolidation", "consolidation", "a part of the lung that looks filled in",
        ("atelectasis", "a mass", "layered pleural fluid"),
        ("airspace consolidation", "airspace opacity", "lung consolidation"), "95436008", "RID43255", True,
    ),
    FindingTerm(
        "Edema", "pulmonary edema", "extra fluid in the lungs",
        ("infection on both sides", "a low breath", "chronic interstitial change"),
        ("pulmonary edema", "oedema", "pulmonary oedema"), "19242006", "RID4866", False,
    ),
    FindingTerm(
        "Emphysema", "emphysema", "lungs that hold more air than usual",
        ("a deep breath in a tall person", "asthma"), ("hyperinflation",), "87433001", "RID4799", False,
    ),
    FindingTerm(
        "Fibrosis", "fibrosis", "scar-like lines in the lung",
        ("edema", "old infection"), ("pulmonary fibrosis", "lung fibrosis"), "51615001", "RID3820", True,
    ),
    FindingTerm(
        "Pleural_Thickening", "pleural thickening", "a thicker lining of the lung",
        ("a small effusion", "fat beside the ribs"), ("pleural thickening", "pleural_thickening"), "", "", True,
    ),
    FindingTerm(
        "Hernia", "a hernia at the diaphragm", "a bulge at the muscle under the lungs",
        ("a mass behind the heart", "a raised diaphragm"), ("hiatal hernia", "hiatus hernia"), "39839004", "", True,
    ),
)

NAMES: tuple[str, ...] = tuple(term.name for term in CHEST)


def find_term(name: str) -> FindingTerm:
    """The term called `name`. Raises: UnknownNameError naming the nearest finding."""
    matched = match_name(name)
    if matched is None:
        raise UnknownNameError("finding", name, NAMES)
    return next(term for term in CHEST if term.name == matched)


def match_name(text: str) -> str | None:
    """The canonical finding name that `text` (a name or synonym, any case, spaces or underscores) stands for, or None."""
    return _BY_FOLDED.get(_folded(text))


def _folded(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", text.casefold()).strip()


_BY_FOLDED = {_folded(alias): term.name for term in CHEST for alias in (term.name, *term.synonyms)}
