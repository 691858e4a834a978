"""What any teller must keep to: run `check_teller(tell, evidence)` on your own.

A teller is a function (evidence, audience, language) -> Story.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from storyxai.errors import CitationError, UnknownNameError
from storyxai.evidence.paths import resolve
from storyxai.evidence.record import as_record
from storyxai.evidence.story_record import story_as_record
from storyxai.story.citations import check_story, claims, contradictions
from storyxai.types import Evidence, Section, Sentence, Story

Teller = Callable[[Evidence, str, str], Story]


def check_teller(tell: Teller, evidence: Evidence, *, audiences: Sequence[str], language: str = "en") -> None:
    """Nothing, when `tell` keeps to every rule for this evidence; an assertion error names the rule it breaks."""
    record = as_record(evidence)
    stories = [tell(evidence, audience, language) for audience in audiences]
    for story, audience in zip(stories, audiences, strict=True):
        assert story.audience == audience and story.language == language
        sentences = [s for section in story.sections for s in section.sentences]
        assert sentences, f"{audience}: a story says something"
        assert all(s.cites for s in sentences), f"{audience}: every sentence cites evidence"
        assert all(resolve(record, path) is not None for s in sentences for path in s.cites)
        assert not any(mark in s.text for s in sentences for mark in "[]{}<>|"), f"{audience}: no template mark is left"
        check_story(story, record)
        again = tell(evidence, audience, language)
        assert story_as_record(again) == story_as_record(story), f"{audience}: same evidence, same story"
        _check_mutants(story, record)
    assert contradictions(stories) == [], "stories do not contradict each other"
    told = {finding: tiers for story in stories for finding, tiers in claims(story).items()}
    assert told == {f.name: {record["findings"][f.name]["tier"]} for f in evidence.prediction.findings}
    with pytest.raises(UnknownNameError):
        tell(evidence, "nobody at all", language)
    with pytest.raises(UnknownNameError):
        tell(evidence, audiences[0], "xx")


def _check_mutants(story: Story, record: dict[str, object]) -> None:
    """Every story is refused once a sentence loses its citations, cites nothing real, or gains a number."""
    first = story.sections[0].sentences[0]
    mutants = (
        Sentence(first.text, ()),
        Sentence(first.text, (*first.cites, "findings.Nowhere.probability")),
        Sentence(f"{first.text} 73.21", first.cites),
    )
    for mutant in mutants:
        section = story.sections[0]
        changed = Section(section.heading, (mutant, *section.sentences[1:]), section.figures)
        with pytest.raises(CitationError):
            check_story(dataclasses.replace(story, sections=(changed, *story.sections[1:])), record)
