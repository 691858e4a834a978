"""German pages are read back by the same checker: nothing of it is English but the words of the English catalogue."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence_example import example_evidence
from storyxai.evidence.record import as_archived
from storyxai.pages.story import render_html
from storyxai.proof.checking import check_page, contradictions
from storyxai.story.tell import AUDIENCES, tell
from storyxai.types import Evidence


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return as_archived(example_evidence())


@pytest.fixture(scope="module")
def pages(evidence: Evidence) -> dict[str, str]:
    return {audience: render_html(tell(evidence, audience, "de"), evidence).decode() for audience in AUDIENCES}


def test_clean_pages_are_clean_and_agree_with_the_english_ones(evidence: Evidence, pages: dict[str, str]) -> None:
    proofs = [check_page(page.encode(), evidence) for page in pages.values()]
    proofs.append(check_page(render_html(tell(evidence, "clinician"), evidence), evidence))
    assert [proof.problems for proof in proofs] == [()] * 5 and contradictions(proofs) == []
    assert proofs[0].facts.tiers["Effusion"] == {"likely"} == proofs[-1].facts.tiers["Effusion"]


@pytest.mark.parametrize(("audience", "old", "new", "why"), [
    ("clinician", "Pleuraerguss im rechten Unterfeld (bei", "Pleuraerguss im linken Unterfeld (bei", "puts Effusion"),
    ("clinician", "Konsolidierung im linken Mittelfeld (61", "Pneumonie im linken Mittelfeld (61", "Pneumonia"),
    ("clinician", "Pleuraerguss ist wahrscheinlich", "Pleuraerguss ist nicht wahrscheinlich", "no sentence of this reader"),
    ("clinician", "(Wahrscheinlichkeit 0,83", "(Wahrscheinlichkeit 0,38", "0,38"),
    ("clinician", "beurteilbar: Kardiomegalie", "beurteilbar: Kardiomegalie (0,88)", "0,88"),
    ("clinician", "Pleuraergusses liegt rechts", "Pleuraergusses liegt links", "concepts.Effusion.side.value"),
    ("clinician", "93 mal 93 mm", "93 mal 93 Pixel", "no sentence of this reader"),
    ("patient", "Etwa 8 von 10", "Etwa 3 von 10", "3 von 10"),
    ("patient", "Ihrer rechten Seite", "Ihrer linken Seite", "Ihrer linken Seite"),
    ("patient", "heißt noch nicht, dass", "heißt, dass", "no sentence of this reader"),
])  # fmt: skip
def test_a_planted_fault_is_named(
    evidence: Evidence, pages: dict[str, str], audience: str, old: str, new: str, why: str
) -> None:
    assert old in pages[audience]
    problems = check_page(pages[audience].replace(old, new, 1).encode(), evidence).problems
    assert any(why in problem for problem in problems), problems
