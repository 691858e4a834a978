"""The vocabulary of chest radiographs: what each finding is called, by whom, and in whose words."""

from __future__ import annotations

from collections.abc import Mapping

from storyxai.errors import UnknownNameError
from storyxai.modalities.contract import Code, FindingTerm, folded_name

SNOMED: Mapping[str, str] = {
    "46621007": "Atelectasis", "8186001": "Cardiomegaly", "60046008": "Pleural effusion",
    "409609008": "Radiologic infiltrate of lung", "309529002": "Lung mass", "786838002": "Nodule of lung",
    "233604007": "Pneumonia", "36118008": "Pneumothorax", "95436008": "Lung consolidation", "19242006": "Pulmonary edema",
    "87433001": "Pulmonary emphysema", "51615001": "Fibrosis of lung", "39839004": "Diaphragmatic hernia",
}
"""What the codes mean in SNOMED CT."""


def _term(
    name: str, phrase: str, lay: str, look_alikes: tuple[str, ...], synonyms: tuple[str, ...], *, codes: Mapping[str, str],
    focal: bool = True,
) -> FindingTerm:
    """A term with its codes by scheme."""
    in_schemes = tuple(Code(value, scheme, SNOMED.get(value, "")) for scheme, value in codes.items())
    return FindingTerm(name, phrase, lay, look_alikes, synonyms, in_schemes, focal)


CHEST: tuple[FindingTerm, ...] = (
    _term(
        "Atelectasis", "atelectasis", "a part of the lung that is not fully open",
        ("consolidation", "a low breath", "scarring"), ("collapse", "volume loss", "linear atelectasis"),
        codes={"SCT": "46621007", "RADLEX": "RID28493"},
    ),
    _term(
        "Cardiomegaly", "an enlarged cardiac silhouette", "a heart shadow that looks larger than usual",
        ("an AP or supine view", "a shallow breath", "fluid around the heart"),
        ("enlarged heart", "cardiac enlargement", "heart enlarged"), codes={"SCT": "8186001"}, focal=False,
    ),
    _term(
        "Effusion", "pleural effusion", "fluid around the lung",
        ("pleural thickening", "a raised diaphragm", "atelectasis at the base"),
        ("pleural effusion", "pleural fluid"), codes={"SCT": "60046008", "RADLEX": "RID34539"},
    ),
    _term(
        "Infiltration", "an ill-defined lung opacity", "a hazy area in the lung",
        ("vessels close together in a low breath", "edema", "overlying soft tissue"),
        ("infiltrate", "infiltrates"), codes={"SCT": "409609008"},
    ),
    _term(
        "Mass", "a lung mass", "a larger spot in the lung",
        ("round consolidation", "a shadow of the chest wall", "a vessel seen end-on"),
        ("lung mass", "pulmonary mass"), codes={"SCT": "309529002", "RADLEX": "RID39056"},
    ),
    _term(
        "Nodule", "a lung nodule", "a small spot in the lung",
        ("a nipple shadow", "a vessel seen end-on", "a rib end"),
        ("lung nodule", "pulmonary nodule", "nodule/mass"), codes={"SCT": "786838002", "RADLEX": "RID50149"},
    ),
    _term(
        "Pneumonia", "an opacity that can stand for pneumonia", "a change that can come from a lung infection",
        ("atelectasis", "edema", "aspiration"), ("bacterial pneumonia", "viral pneumonia", "lobar pneumonia"),
        codes={"SCT": "233604007", "RADLEX": "RID5350"},
    ),
    _term(
        "Pneumothorax", "pneumothorax", "air between the lung and the chest wall",
        ("a skin fold", "a bulla", "the edge of the shoulder blade"), ("ptx",), codes={"SCT": "36118008", "RADLEX": "RID5352"},
    ),
    _term(
        "Consolidation", "consolidation", "a part of the lung that looks filled in",
        ("atelectasis", "a mass", "layered pleural fluid"),
        ("airspace consolidation", "airspace opacity", "lung consolidation"), codes={"SCT": "95436008", "RADLEX": "RID43255"},
    ),
    _term(
        "Edema", "pulmonary edema", "extra fluid in the lungs",
        ("infection on both sides", "a low breath", "chronic interstitial change"),
        ("pulmonary edema", "oedema", "pulmonary oedema"), codes={"SCT": "19242006", "RADLEX": "RID4866"}, focal=False,
    ),
    _term(
        "Emphysema", "emphysema", "lungs that hold more air than usual",
        ("a deep breath in a tall person", "asthma"), ("hyperinflation",),
        codes={"SCT": "87433001", "RADLEX": "RID4799"}, focal=False,
    ),
    _term(
        "Fibrosis", "fibrosis", "scar-like lines in the lung",
        ("edema", "old infection"), ("pulmonary fibrosis", "lung fibrosis"), codes={"SCT": "51615001", "RADLEX": "RID3820"},
    ),
    _term(
        "Pleural_Thickening", "pleural thickening", "a thicker lining of the lung",
        ("a small effusion", "fat beside the ribs"), ("pleural thickening", "pleural_thickening"), codes={},
    ),
    _term(
        "Hernia", "a hernia at the diaphragm", "a bulge at the muscle under the lungs",
        ("a mass behind the heart", "a raised diaphragm"), ("hiatal hernia", "hiatus hernia"), codes={"SCT": "39839004"},
    ),
)

NAMES: tuple[str, ...] = tuple(term.name for term in CHEST)


def find_term(name: str) -> FindingTerm:
    """The term called `name`. Raises: UnknownNameError naming the nearest finding."""
    matched = match_name(name)
    if matched is None:
        raise UnknownNameError("finding", name, NAMES)
    return CHEST[NAMES.index(matched)]


def match_name(text: str) -> str | None:
    """The canonical finding name that `text` (a name or synonym, any case, spaces or underscores) stands for, or None."""
    return _BY_FOLDED.get(folded_name(text))


_BY_FOLDED = {folded_name(alias): term.name for term in CHEST for alias in (term.name, *term.synonyms)}
