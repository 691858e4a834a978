"""Every kind of page in German, from several studies, with no English function word left on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evidence_example import example_evidence, normal_evidence
from german_words import english_left
from storyxai.evidence.archive import write_archive
from storyxai.evidence.compare import compare
from storyxai.imaging.notes import NOTES, note
from storyxai.modalities.chest_radiograph.draft import read_draft
from storyxai.model_facts import FindingCurves
from storyxai.pages.comparison import render_comparison, say_comparison
from storyxai.pages.gallery import exhibit_of, render_gallery
from storyxai.pages.story import render_html
from storyxai.programs.index import index
from storyxai.proof.checking import Reader, check_page
from storyxai.story.audiences.own import own_words
from storyxai.story.audiences.registry import BUILT_IN, find_audience, known_audiences
from storyxai.story.tell import tell
from storyxai.types import Evidence

READERS = (*BUILT_IN, "emergency", "student")
DRAFT = ("The heart is mildly enlarged.", "Moderate right lower zone consolidation.", "No evidence of mass or pneumothorax.")


def bare(evidence: Evidence) -> Evidence:
    """The evidence of a model whose card has no words of its own: what a card says is quoted as it stands."""
    model = replace(evidence.model, limits=(), cannot_see=("bone lesions",), trained_on=())
    return replace(evidence, model=model, indication="")


def drafted() -> Evidence:
    """With a draft that was read, and with every note that reading can make which holds no value."""
    evidence = bare(example_evidence())
    notes = tuple(note(code) for code, text in NOTES.items() if "{" not in text)
    prediction = replace(evidence.prediction, report=DRAFT, stated=read_draft(DRAFT))
    curves = {"Effusion": FindingCurves(((0.0, 0.0), (0.1, 0.8), (1.0, 1.0)), ((0.1, 0.2, 50), (0.7, 0.6, 50)))}
    model, image = replace(evidence.model, curves=curves), replace(evidence.image, notes=notes)
    return replace(evidence, prediction=prediction, image=image, model=model)


def doubted() -> Evidence:
    evidence = bare(example_evidence())
    gate = tuple(replace(check, value=9.0, passed=False) if check.name == "gate.distance" else check for check in evidence.gate)
    return replace(evidence, gate=gate)


STUDIES: dict[str, Callable[[], Evidence]] = {
    "abnormal": lambda: bare(example_evidence()), "normal": lambda: bare(normal_evidence()), "drafted": drafted,
    "doubted": doubted,
}  # fmt: skip


@pytest.mark.parametrize("study", STUDIES)
def test_no_reader_of_a_german_story_meets_english(study: str) -> None:
    evidence = STUDIES[study]()
    assert set(READERS) <= set(known_audiences())
    for audience in READERS:
        page = render_html(tell(evidence, audience, "de"), evidence)
        left = english_left(page, (*evidence.prediction.report, evidence.indication))
        assert left == set(), audience
        reader = None if audience in BUILT_IN else Reader(*own_words(find_audience(audience), "de"))
        assert check_page(page, evidence, reader).problems == (), audience


def test_a_draft_is_said_in_german_and_stands_below_as_it_was_written() -> None:
    evidence = drafted()
    page = render_html(tell(evidence, "clinician", "de"), evidence).decode()
    places = ("Kardiomegalie, gering.", "Konsolidierung im rechten Unterfeld, mäßig.")
    assert [text for text in (*places, "Nicht gesehen: Raumforderung, Pneumothorax.") if text not in page] == []
    for text in DRAFT:
        assert f'<span lang="en" data-path="report.sentences.{DRAFT.index(text)}">{text}</span>' in page
        assert page.count(text) == 1 + text_of_notes(page, text)
    assert "“The heart is mildly enlarged.”" in render_html(tell(evidence, "clinician"), evidence).decode()


def text_of_notes(page: str, text: str) -> int:
    """How often the evidence behind a sentence prints it."""
    return page[page.index('id="evidence"') :].count(text)


def pages_of_many(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The pages that are of more than one study."""
    evidence = bare(example_evidence())
    other = replace(evidence, prediction=replace(evidence.prediction, model_id="zweites-1-000000000000"))
    yield "compare", render_comparison(compare(evidence, other), evidence, other, "de")
    yield "gallery", render_gallery([exhibit_of(one, language="de") for one in (evidence, doubted())], language="de")
    write_archive(evidence, folder / "a")
    write_archive(bare(normal_evidence()), folder / "b")
    yield "index", index([folder], language="de").page.read_bytes()


def test_pages_of_several_studies_are_german(tmp_path: Path) -> None:
    for name, page in pages_of_many(tmp_path):
        assert english_left(page) == set(), name
        body = page.decode().split("<body", 1)[1].split("<script", 1)[0]
        text = re.sub(r"<[^>]*>", " ", body)
        assert "Pleuraerguss" in text and "Effusion" not in text, name
        assert "0,83" in text and "0.83" not in text, name


def test_a_comparison_in_plain_text_is_german() -> None:
    evidence = bare(example_evidence())
    other = replace(evidence, prediction=replace(evidence.prediction, model_id="zweites-1-000000000000"))
    text = say_comparison(compare(evidence, other), evidence, "de")
    assert "Pleuraerguss" in text and "0,83" in text and "Effusion" not in text
