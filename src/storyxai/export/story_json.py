"""A story as JSON for other programs: its sentences with the values that they cite, by the schema beside this file."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import resources
from typing import Any

from storyxai.evidence.paths import resolve
from storyxai.evidence.record import as_record
from storyxai.evidence.story_record import story_as_record
from storyxai.pages.layout import Labels, labels_of
from storyxai.provenance import canonical_json
from storyxai.types import Evidence, Release, Story

FORMAT = "storyxai-story/1"


def render_json(story: Story, evidence: Evidence, *, release: Release | None = None) -> bytes:
    """The story as canonical JSON, with the value of every path that it cites. The same story, the same bytes.

    Its mark of release says whether a clinician must release it, whether one has, who and when, and the line to be shown.
    Raises: CitationError where the evidence does not hold what the story cites.
    """
    record = as_record(evidence)
    paths = {path for section in story.sections for sentence in section.sentences for path in sentence.cites}
    values = {path: resolve(record, path) for path in sorted(paths)}
    labels = labels_of(story.language)
    told = {"format": FORMAT, "notice": labels.research_use, "evidence": values}
    return canonical_json({**story_as_record(story), **told, "release": _mark(story, labels, release)})


def _mark(story: Story, labels: Labels, release: Release | None) -> dict[str, object]:
    """The story's mark of release."""
    if not story.signed:
        return {"needed": False}
    if release is None:
        return {"needed": True, "released": False, "text": labels.held_back}
    text = labels.released.format(by=release.by, time=release.time)
    return {"needed": True, "released": True, "text": text, **asdict(release)}


def story_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every JSON of `render_json` fits."""
    text = (resources.files("storyxai.export") / "story.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
