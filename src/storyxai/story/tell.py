"""From evidence to a story for one reader, checked against the evidence before it is handed out."""

from __future__ import annotations

from typing import Final

from storyxai.errors import InputError
from storyxai.evidence.paths import figure_parts
from storyxai.evidence.record import as_record, record_sha256
from storyxai.story.audiences.contract import Audience
from storyxai.story.audiences.patient import check_readability
from storyxai.story.audiences.registry import BUILT_IN, find_audience
from storyxai.story.citations import check_story
from storyxai.story.teller import Teller
from storyxai.story.words import load_words
from storyxai.types import Evidence, Section, Story

__all__ = ["AUDIENCES", "tell"]

AUDIENCES: Final = tuple(BUILT_IN)
"""Our own readers; `find_audience` knows others'."""
_MAPS = ("map", "withheld")


def tell(evidence: Evidence, audience: str | Audience, language: str = "en") -> Story:
    """The story of `evidence` for `audience` (a reader, its key, or the path of its TOML file), backed by what it cites.

    Raises: InputError for what is no evidence; UnknownNameError for an unknown audience or language (it names the nearest);
    CitationError when a sentence is not backed; EvidenceError when the story is too hard to read for its reader.
    """
    if not isinstance(evidence, Evidence):
        raise InputError("evidence", f"is a {type(evidence).__name__}", mend="give what gather(model, image) returns")
    for what, given in (("audience", audience), ("language", language)):
        if not isinstance(given, str | Audience):
            raise InputError(what, f"is a {type(given).__name__}", mend="give its name")
    reader = audience if isinstance(audience, Audience) else find_audience(audience)
    record = as_record(evidence)
    words = load_words(language, record)
    provenance = {
        "evidence_sha256": record_sha256(record),
        "evidence_format": record["format"],
        "study_id": record["study"]["study_id"],
        "model_id": record["study"]["model_id"],
        **{key: record["provenance"][key] for key in ("software", "version", "seed") if key in record["provenance"]},
    }
    sections = reader.sections(Teller(record, words))
    if not reader.maps:
        sections = tuple(map(_without_maps, sections))
    title = reader.titles.get(language) or reader.title or words.heading(f"{reader.key}.title")
    story = Story(reader.key, language, title, sections, provenance, evidence, reader.style, reader.signed)
    check_story(story, record)
    # What a finding of somebody else's vocabulary is called is nobody's wording here.
    own = [term["lay"] for term in record["terms"].values() if term["look_alikes"] is None]
    check_readability(story, own, grade=reader.grade, words=reader.sentence_words)
    return story


def _without_maps(section: Section) -> Section:
    figures = tuple(figure for figure in section.figures if figure_parts(figure)[0] not in _MAPS)
    return Section(section.heading, section.sentences, figures)
