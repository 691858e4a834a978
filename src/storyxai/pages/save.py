"""A story written where its reader finds it."""

from __future__ import annotations

from pathlib import Path

from storyxai.errors import CitationError, InputError
from storyxai.evidence.record import as_record, record_sha256
from storyxai.files import write_whole
from storyxai.pages.story import render_html
from storyxai.types import Evidence, Story

__all__ = ["render"]


def render(story: Story, path: str | Path, *, evidence: Evidence | None = None) -> Path:
    """The path of the page that now holds `story`, whole: one HTML file with its pictures, which opens from disk.

    `evidence` is needed for a story that does not know its own, such as one read back from a page.
    Raises: InputError where there is no evidence to draw from, CitationError where it is another story's; OutputError.
    """
    known = evidence or story.evidence
    if known is None:
        raise InputError("story", "does not know its evidence", mend="give evidence=, as load_evidence reads it")
    if story.provenance.get("evidence_sha256") != record_sha256(as_record(known)):
        raise CitationError("the story was told from other evidence than it is to be drawn with")
    place = Path(path)
    write_whole(render_html(story, known), place)
    return place
