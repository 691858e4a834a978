"""What is known of the sets that a student can learn from: full name, licence, and the limits that it brings into a card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

__all__ = ["AboutSet", "about_set"]


@dataclass(frozen=True)
class AboutSet:
    """One set. `licence` "" where nobody stated it here; `limits` are what holds for whoever learned from it."""

    name: str
    licence: str = ""
    synthetic: bool = False
    limits: tuple[str, ...] = ()


_SETS: Final[Mapping[str, AboutSet]] = {
    "phantom": AboutSet(
        "storyxai phantoms (synthetic)", "Apache-2.0", True,
        ("Synthetic films are drawn, not taken: what was learnt from them alone may not hold on films of people.",),
    ),
    "nih": AboutSet(
        "NIH ChestX-ray14, a selection (Wang et al. 2017; NIH Clinical Center)", "free use with attribution", False,
        ("NIH labels were mined from report text and hold errors; what was learnt from them holds those errors too.",),
    ),
    "kermany": AboutSet(
        "Kermany et al. 2018, children (CC BY 4.0), with v7 Labs lung masks (CC BY 4.0)", "CC BY 4.0", False,
        ("Kermany's films are of children of one hospital, and children and adults differ.",),
    ),
    "covid": AboutSet(
        "COVID-19 Image Data Collection, films under CC BY alone (doi 10.6084/m9.figshare.12275009 and 4 articles), "
        "with v7 Labs lung masks (CC BY 4.0)", "CC BY 3.0 and 4.0", False,
        ("The COVID-19 collection's films were taken from publications, which show what is striking.",),
    ),
}


def about_set(domain: str) -> AboutSet:
    """What is known of the set called `domain`, or of the set that it is a part of ("nih128"); else only its name."""
    known = max((name for name in _SETS if domain.startswith(name)), key=len, default="")
    if not known:
        return AboutSet(domain)
    return _SETS[known] if known == domain else replace(_SETS[known], name=f"{_SETS[known].name}, part {domain}")
