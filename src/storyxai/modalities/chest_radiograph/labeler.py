"""Finding labels read out of a report by rules: mention, negation and its reach, and what counts as not mentioned.

Policy: 1.0 where a finding is stated, also with doubt ("may represent", "possible", "cannot be excluded"): a doubtful
finding is one that the reader must look at. 0.0 where it is denied, or where something said of the whole organ denies
it ("the lungs are clear"). nan where nothing is said, or it is only asked for ("evaluate for pneumonia"). Where
sentences disagree, 1.0 wins: a report that names a finding once and later denies another one of its kind has it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from storyxai.modalities.chest_radiograph.findings import NAMES

_HEART = (
    r"(?:heart(?: size)?|cardi(?:ac|omediastinal|ovascular)(?: (?:and mediastinal|mediastinal))?"
    r"(?: (?:silhouettes?|contours?|size|shadow))+)"
)

# What names a finding. Words in between are allowed where reports put adjectives.
_MENTION: Mapping[str, str] = {
    "Atelectasis": r"\batelecta\w+|\bvolume loss\b|\b(?:lung|lobar|lobe) collapse\b|\bcollapse of the\b",
    "Cardiomegaly": r"\bcardiomegaly\b|\bborderline (?:cardiac|heart) \w+|\bcardiac enlargement\b"
    r"|\benlarge(?:d|ment)(?: of)?(?: the)? (?:heart|cardi\w+)"
    rf"|\b{_HEART}[^.;,]{{0,40}}?\b(?:enlarged|enlargement|increased|large|borderline)\b"
    r"|\bcardiothoracic ratio is (?:\w+ )?increased",
    "Effusion": r"(?<!pericardial )\beffusions?\b|\bpleural fluid\b"
    r"|\bblunt\w* (?:of )?(?:the )?(?:\w+ ){0,3}costophrenic|\bcostophrenic (?:\w+ )?blunting",
    "Infiltration": r"\binfiltrat\w*|\b(?:ill-defined|ill defined|hazy|patchy|vague) (?:\w+ ){0,3}opacit\w+",
    "Mass": r"\bmass(?:es)?\b(?! effect)",
    "Nodule": r"\bnodul\w+",
    "Pneumonia": r"\b(?:broncho)?pneumonias?\b",
    "Pneumothorax": r"\b(?:hydro)?pneumothora\w+",
    "Consolidation": r"\bconsolidat\w+|\b(?:air ?space|alveolar) (?:\w+ )?(?:disease|opacit\w+|process)",
    "Edema": r"(?<!tissue )\bo?edema\b|\bvascular congestion\b",
    "Emphysema": r"(?<!subcutaneous )\bemphysema\w*|\b(?:hyper|over)[- ]?(?:inflat|expan|aerat)\w+",
    "Fibrosis": r"(?<!cystic )\bfibro(?:sis|tic)\b",
    "Pleural_Thickening": r"\bpleural (?:\w+ )?thickening\b|\bthickening of the pleura\b",
    "Hernia": r"\bhernia\b",
}
# A statement about a whole organ that denies several findings at once.
_CLEAR_LUNGS = ("Consolidation", "Infiltration", "Pneumonia", "Atelectasis", "Edema", "Nodule", "Mass")
_NORMAL: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        r"\blungs?(?: fields?)?(?: \w+){0,4}? clear\b(?! of)|\bclear,? (?:\w+ )?lungs?\b|\bno other lung opacit",
        _CLEAR_LUNGS,
    ),
    (
        rf"\b{_HEART}[^.;]{{0,60}}?\b(?:normal|unremarkable|not enlarged|stable in size and appearance)\b"
        rf"|\bnormal (?:in size and contour )?{_HEART}|\bcardiothoracic ratio is (?:within )?normal",
        ("Cardiomegaly",),
    ),
)
_NEGATION = re.compile(
    r"\b(?:no|not|without|negative for|free of|clear of|absence of|absent|den(?:y|ies|ied)|neither|nor|resolution of|"
    r"resolved)\b"
)
# "No" that denies a change, not the finding; and words that end a denial's reach.
_PSEUDO = re.compile(
    r"\b(?:no|not|without)(?: \w+)? (?:interval |significant |appreciable |definite )*"
    r"(?:change|increase|decrease|improvement|worsening)\w*(?: (?:in|of|from))?"
    r"|\bnot only\b|\b(?:can ?not|not) (?:be |entirely |completely )*(?:excluded?|ruled out)\b|\bno doubt\b"
)
_REACH_ENDS = re.compile(
    r"\b(?:but|however|although|though|except|aside from|apart from|other than|with the exception of|yet|whereas)\b"
    r"|\bwhich\b|:|(?<!consistent )(?<!compatible )(?<!associated )\bwith\b"
    r"|,? and (?:the|there)\b|, (?:there|the|this)\b"
)
_DENIED_AFTER = re.compile(
    r"^[^.;]{0,45}?\b(?:(?:has|have|had|is|are|was) (?:\w+ )?(?:resolved|cleared|absent|unlikely|excluded)"
    r"|(?:is|are|was|were) (?:not|no longer) (?:\w+ )?"
    r"(?:seen|identified|present|visuali[sz]ed|evident|demonstrated|appreciated)"
    r"|resolved|no longer (?:seen|present|visuali[sz]ed|identified|evident))\b"
)
_ASKED = re.compile(
    r"\b(?:evaluate|evaluation|assess|assessment|rule out|r/o|history of|concern for any|question of any)\b[^.;,]*$"
)


def label_report(text: str | Sequence[str]) -> dict[str, float]:
    """For each of the 14 findings: 1.0 present (also if doubtful), 0.0 denied, nan not mentioned.

    `text` is one text or its sentences. Source: the idea of mention, negation and aggregation of Chapman et al. 2001
    (NegEx); rules and policy are ours.
    """
    said = dict.fromkeys(NAMES, math.nan)
    whole = text if isinstance(text, str) else "\n".join(text)
    for sentence in _sentences(whole):
        for name, value in _states(sentence):
            if value == 1.0 or math.isnan(said[name]):
                said[name] = value
    return said


def _sentences(text: str) -> list[str]:
    folded = re.sub(r"\s*\n\s*", ". ", text.casefold())
    parts = re.split(r"(?<!\d)[.;?!]+|[.;?!]+(?!\d)", folded)
    return [re.sub(r"\s+", " ", part).strip() for part in parts if part.strip()]


def _states(sentence: str) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    plain = _PSEUDO.sub(lambda match: " " * len(match.group()), sentence)
    for pattern, names in _NORMAL:
        normal = re.search(pattern, sentence)
        if normal and not re.search(r"\b(?:not|upper) (?:clear|normal)\b", normal.group()):
            found += [(name, 0.0) for name in names]
    for name, pattern in _MENTION.items():
        for match in re.finditer(pattern, sentence):
            denied = _denied(plain, match.start(), match.end())
            if denied is not None:
                found.append((name, 0.0 if denied else 1.0))
    return found


def _denied(sentence: str, start: int, end: int) -> bool | None:
    """Whether the mention at [start, end) is denied; None where it is only asked about."""
    before = sentence[:start]
    if _ASKED.search(before):
        return None
    cut = max((match.end() for match in _REACH_ENDS.finditer(before)), default=0)
    if _NEGATION.search(before[cut:]) or re.search(r"\bnot\b", sentence[start:end]):
        return True
    after = _REACH_ENDS.split(sentence[end:], maxsplit=1)[0]
    return bool(_DENIED_AFTER.search(after))
