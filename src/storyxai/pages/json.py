"""A story as JSON: its sentences with the values that they cite, for other programs."""

from __future__ import annotations

from storyxai.evidence.record import as_record, resolve, story_as_record
from storyxai.provenance import canonical_json
from storyxai.types import RESEARCH_USE, Evidence, Story

__all__ = ["FORMAT", "render_json"]

FORMAT = "storyxai-story/1"


def render_json(story: Story, evidence: Evidence) -> bytes:
    """The story as canonical JSON, with the value of every path that it cites. The same story, the same bytes."""
    record = as_record(evidence)
    paths = {path for section in story.sections for sentence in section.sentences for path in sentence.cites}
    evidence_values = {path: resolve(record, path) for path in sorted(paths)}
    content = {**story_as_record(story), "format": FORMAT, "notice": RESEARCH_USE, "evidence": evidence_values}
    return canonical_json(content)
