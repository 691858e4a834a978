"""From evidence to a story for one reader, checked against the evidence before it is handed out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from storyxai.errors import UnknownNameError
from storyxai.evidence.record import as_record, record_sha256
from storyxai.story.audiences.auditor import auditor_sections
from storyxai.story.audiences.clinician import clinician_sections
from storyxai.story.audiences.patient import check_readability, patient_sections
from storyxai.story.audiences.practitioner import practitioner_sections
from storyxai.story.citations import check_story
from storyxai.story.words import Teller, load_words
from storyxai.types import Evidence, Section, Story

__all__ = ["AUDIENCES", "tell"]

_TELLERS: Final[Mapping[str, Callable[[Teller], tuple[Section, ...]]]] = {
    "clinician": clinician_sections,
    "practitioner": practitioner_sections,
    "patient": patient_sections,
    "auditor": auditor_sections,
}
AUDIENCES: Final = tuple(_TELLERS)


def tell(evidence: Evidence, audience: str, language: str = "en") -> Story:
    """The story of `evidence` for `audience`, every sentence backed by what it cites.

    Raises: UnknownNameError for an unknown audience or language (it names the nearest); CitationError when a sentence
    is not backed; EvidenceError when the patient's story is too hard to read.
    """
    if audience not in _TELLERS:
        raise UnknownNameError("audience", audience, AUDIENCES)
    record = as_record(evidence)
    words = load_words(language)
    provenance = {
        "evidence_sha256": record_sha256(record),
        "evidence_format": record["format"],
        "study_id": record["study"]["study_id"],
        "model_id": record["study"]["model_id"],
        **{key: record["provenance"][key] for key in ("software", "version", "seed") if key in record["provenance"]},
    }
    sections = _TELLERS[audience](Teller(record, words))
    story = Story(audience, language, words.heading(f"{audience}.title"), sections, provenance, evidence)
    check_story(story, record)
    if audience == "patient":
        # What a finding of somebody else's vocabulary is called is nobody's wording here.
        own = [term["lay"] for term in record["terms"].values() if term["look_alikes"] is None]
        check_readability(story, own)
    return story
