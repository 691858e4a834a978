"""A story as JSON for other programs: its sentences with the values that they cite, by the schema beside this file."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from storyxai.evidence.record import as_record, resolve, story_as_record
from storyxai.pages.layout import labels_of
from storyxai.provenance import canonical_json
from storyxai.types import Evidence, Story

__all__ = ["FORMAT", "render_json", "story_schema"]

FORMAT = "storyxai-story/1"


def render_json(story: Story, evidence: Evidence) -> bytes:
    """The story as canonical JSON, with the value of every path that it cites. The same story, the same bytes.

    Raises: CitationError where the evidence does not hold what the story cites.
    """
    record = as_record(evidence)
    paths = {path for section in story.sections for sentence in section.sentences for path in sentence.cites}
    values = {path: resolve(record, path) for path in sorted(paths)}
    notice = labels_of(story.language)["research_use"]
    return canonical_json({**story_as_record(story), "format": FORMAT, "notice": notice, "evidence": values})


def story_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every JSON of `render_json` fits."""
    text = (resources.files("storyxai.export") / "story.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
