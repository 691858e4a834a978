"""Maps held against others that ought to be alike: on paper, in the record, in stories."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

from evidence_example import example_evidence
from evidence_models import OpenReader, image_of
from storyxai.evidence.gather import GatherSettings, gather
from storyxai.evidence.record import arrays_of, as_record, from_record
from storyxai.explain.contract import Look
from storyxai.modalities.contract import FindingTerm, Modality
from storyxai.pages.story import render_html
from storyxai.proof.judging import OUTCOMES
from storyxai.story.citations import check_story
from storyxai.story.tell import tell
from storyxai.types import Evidence, MapConsistency

TOY = Modality("toy", (FindingTerm("spot"),))
WHOLE = np.ones((32, 32), dtype=bool)
LEFT = np.zeros((32, 32), dtype=bool)
LEFT[:, :16] = True
SPOT = np.full((32, 32), 0.2, dtype=np.float32)
SPOT[8:12, 4:8] = 1.0  # one cell of 8 by 8: row 2, column 1


def compared(model: OpenReader, **companions: OpenReader) -> dict[str, MapConsistency]:
    settings = GatherSettings(modality=TOY, passes=0, samples=90, force=True, companions=companions)
    evidence = gather(model, image_of(SPOT), methods=("grad_cam",), settings=settings)
    return {one.beside: one for one in evidence.consistency}


def test_a_model_that_follows_the_image_keeps_its_map() -> None:
    found = compared(OpenReader({"spot": WHOLE}), twin=OpenReader({"spot": WHOLE}))
    for beside in ("mirror", "twin"):
        assert found[beside].correlation == pytest.approx(1) and (found[beside].distance, found[beside].near) == (0.0, True)
    assert found["turned"].near and set(found) == {"mirror", "turned", "twin"}


def test_a_model_that_looks_at_one_side_whatever_stands_there_does_not() -> None:
    # Of the mirrored image, whose spot lies on the right, it sees the even left half; mirrored back that begins at
    # row 0, column 4.
    found = compared(OpenReader({"spot": LEFT}))["mirror"]
    assert found.distance == pytest.approx(np.hypot(2, 3) / 8) and not found.near
    assert found.correlation < 0.2


def test_strongest_points_in_neighbouring_cells_are_near_and_two_cells_apart_are_not() -> None:
    @dataclass(frozen=True, eq=False)
    class Shifted(OpenReader):
        """Sees everything so many cells further down."""

        by: int = 1

        def look(self, image, columns=None) -> Look:
            seen = super().look(image, columns)
            return seen._replace(features=np.roll(seen.features, self.by, axis=1))

    one, two = (compared(OpenReader({"spot": WHOLE}), teacher=Shifted({"spot": WHOLE}, by=by))["teacher"] for by in (1, 2))
    assert (one.distance, one.near) == (0.125, True) and (two.distance, two.near) == (0.25, False)


def test_a_model_without_an_inside_and_a_method_that_samples_are_not_compared_with_a_mirror() -> None:
    settings = GatherSettings(modality=TOY, passes=0, samples=90, force=True)
    evidence = gather(OpenReader({"spot": WHOLE}), image_of(SPOT), methods=("lime",), settings=settings)
    assert evidence.consistency == ()


def known(*, doubtful: bool = False) -> Evidence:
    whole = example_evidence()
    maps = tuple(
        replace(one, hit_probability=0.83, doubtful=doubtful, shown=True, withheld_because=()) for one in whole.heatmaps
    )
    parts = (("lime", 0.5, 0.25, False), ("mirror", 0.9, 0.0, True), ("turned", 0.95, 0.125, True), ("teacher", 0.7, 0.1, True))
    return replace(
        whole, heatmaps=maps, consistency=tuple(MapConsistency("Effusion", "grad_cam", *part) for part in parts)
    )


def test_the_record_counts_and_gives_everything_back() -> None:
    evidence = known()
    record = as_record(evidence)
    assert (record["consistency"]["Effusion"]["asked"], record["consistency"]["Effusion"]["near"]) == (4, 3)
    assert from_record(record, arrays_of(evidence)).consistency == evidence.consistency


@pytest.mark.parametrize(("language", "short", "held"), [
    ("en", "83 in 100 maps like it point at a reader's box, and its strongest point keeps its place in 3 of 4 comparisons",
     "Held against the teacher's, the map of effusion has a rank correlation over cells of 0.70"),
    ("de", "etwa 83 von 100 auf den ärztlich gezeichneten Rahmen, und ihr stärkster Punkt bleibt in 3 von 4 Vergleichen",
     "Neben der Karte des Lehrermodells hat die Karte"),
])
def test_clinicians_read_one_sentence_and_practitioners_all(language: str, short: str, held: str) -> None:
    said = {
        reader: " ".join(line.text for part in tell(known(), reader, language).sections for line in part.sentences)
        for reader in ("clinician", "practitioner")
    }
    assert short in said["clinician"] and held not in said["clinician"]
    assert held in said["practitioner"] and ("0.95" if language == "en" else "0,95") in said["practitioner"]


def test_a_map_that_is_shown_with_doubt_says_so() -> None:
    lines = [line for part in tell(known(doubtful=True), "clinician").sections for line in part.sentences]
    doubted = [line for line in lines if "doubtful" in line.text]
    end, meant = OUTCOMES["map_doubtful"]
    assert doubted and all(any(path.endswith(f".{end}") for path in line.cites) for line in doubted) and meant is True
    assert not any("How far to trust" in line.text for line in lines if "Effusion" in " ".join(line.cites))


@pytest.mark.parametrize(("language", "said"), [
    ("en", "The Grad-CAM map of effusion is therefore doubtful"),
    ("de", "Die Grad-CAM-Karte des Pleuraergusses ist daher zweifelhaft"),
])
def test_a_map_that_another_method_contradicts_says_so_in_words_and_over_itself(language: str, said: str) -> None:
    base = example_evidence()
    checks = tuple(
        replace(c, value=0.1, passed=False) if c.passed and c.name == "methods_agree" else c for c in base.checks
    )
    maps = tuple(replace(one, doubtful=one.shown and one.finding == "Effusion") for one in base.heatmaps)
    evidence = replace(base, checks=checks, heatmaps=maps)
    story = tell(evidence, "clinician", language)
    lines = [line.text for part in story.sections for line in part.sentences]
    (at,) = [place for place, line in enumerate(lines) if line.startswith(said)]
    assert lines[at - 1].startswith("No other method points to" if language == "en" else "Kein anderes Verfahren weist auf")
    page = render_html(story, evidence).decode()
    assert ("Effusion: Grad-CAM, doubtful" if language == "en" else "Pleuraerguss: Grad-CAM, zweifelhaft") in page
    check_story(story, as_record(evidence))
    place = re.compile(r"the right|your right" if language == "en" else r"recht(s|en|er) ")
    for reader, parts in (("clinician", 1), ("patient", None)):
        sure, doubted = (
            " ".join(line.text for part in tell(given, reader, language).sections[:parts] for line in part.sentences)
            for given in (base, evidence)
        )
        assert place.search(sure) and not place.search(doubted), "no place is named on a map in doubt"


def test_a_map_that_is_nearly_another_findings_says_so() -> None:
    base = example_evidence()
    checks = tuple(
        replace(c, value=0.99, passed=False) if (c.name, c.finding) == ("label_specific", "Effusion") else c
        for c in base.checks
    )
    maps = tuple(replace(one, doubtful=one.shown and one.finding == "Effusion") for one in base.heatmaps)
    evidence = replace(base, checks=checks, heatmaps=maps)
    for language, said in (("en", "does not tell the two apart"), ("de", "trennt die beiden nicht")):
        story = tell(evidence, "clinician", language)
        assert any(said in line.text for part in story.sections for line in part.sentences)
        check_story(story, as_record(evidence))
