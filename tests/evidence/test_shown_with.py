"""A structure that goes with findings: its drawing is shown where one of them reaches its threshold, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from evidence_models import CalibratedReader, image_of
from storyxai.errors import UnknownNameError
from storyxai.evidence.gather import GatherSettings, gather
from storyxai.modalities.contract import FindingTerm, Modality, Structure
from storyxai.pages.story import render_html
from storyxai.proof.checking import check_page
from storyxai.story.tell import AUDIENCES, tell
from storyxai.types import Array

UPPER = np.zeros((32, 32), dtype=bool)
UPPER[:16] = True
SPOTS = Modality(
    "spots", (FindingTerm("Upper_spot"), FindingTerm("Lower_spot")), structures=(Structure("spot", shown_with=("Upper_spot",)),)
)


@dataclass(frozen=True, eq=False)
class Drawer(CalibratedReader):
    """Draws the same square whatever it sees."""

    def structures(self, image: Array) -> Mapping[str, Array]:
        return {"spot": np.pad(np.full((8, 8), 0.9, np.float32), 12)}


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("lit", ["upper", "lower", "both"])
def test_an_outline_is_shown_where_its_finding_is_and_withheld_in_words_elsewhere(lit: str, language: str) -> None:
    grey = np.tile(np.linspace(0, 0.2, 32), (32, 1))
    for name, rows in (("upper", slice(0, 16)), ("lower", slice(16, 32))):
        grey[rows] += 0.75 if lit in (name, "both") else 0
    model = Drawer({"Upper_spot": UPPER, "Lower_spot": ~UPPER})
    settings = GatherSettings(samples=60, modality=SPOTS, force=True)
    evidence = gather(model, image_of(grey), settings=settings)
    assert bool(evidence.prediction.masks["spot"].any()) is (lit != "lower")
    assert [one.name for one in evidence.concepts if not one.finding and one.name == "outline_withheld"] == (
        ["outline_withheld"] if lit == "lower" else []
    )
    pages = {one: render_html(tell(evidence, one, language), evidence) for one in AUDIENCES}
    assert [check_page(page, evidence).problems for page in pages.values()] == [()] * len(AUDIENCES)
    words = {"en": "An outline was drawn and is not shown", "de": "Ein Umriss wurde gezeichnet und wird nicht gezeigt"}
    caption = {"en": "Outlines that the model drew", "de": "Vom Modell gezeichnete Umrisse"}
    assert (caption[language].encode() in pages["clinician"]) is (lit != "lower")
    assert (words[language].encode() in pages["clinician"]) is (lit == "lower")


def test_without_the_rule_the_drawing_is_shown_whatever_is_found() -> None:
    bare = replace(SPOTS, structures=(Structure("spot"),))
    model = Drawer({"Upper_spot": UPPER, "Lower_spot": ~UPPER})
    grey = np.tile(np.linspace(0, 0.2, 32), (32, 1))
    evidence = gather(model, image_of(grey), settings=GatherSettings(samples=60, modality=bare, force=True))
    assert evidence.prediction.masks["spot"].any()


def test_a_structure_cannot_go_with_a_finding_that_nobody_knows() -> None:
    with pytest.raises(UnknownNameError, match="Uper_spot"):
        replace(SPOTS, structures=(Structure("spot", shown_with=("Uper_spot",)),))
