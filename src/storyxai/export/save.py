"""A story written where its reader finds it, in the form that the file's name asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from storyxai.errors import CitationError, InputError, UnknownNameError
from storyxai.evidence.record import as_record, record_sha256
from storyxai.export.pdf import render_pdf
from storyxai.export.story_json import render_json
from storyxai.export.text import render_markdown, render_text
from storyxai.files import write_whole
from storyxai.pages.story import render_html
from storyxai.types import Evidence, Story

FORMS: Final[Mapping[str, Callable[[Story, Evidence], bytes]]] = {
    ".html": render_html,
    ".pdf": lambda story, evidence: render_pdf(render_html(story, evidence)),
    ".json": render_json,
    ".md": lambda story, evidence: render_markdown(story).encode(),
    ".txt": lambda story, evidence: render_text(story).encode(),
}
"""What each ending of a file's name asks for."""


def render(story: Story, path: str | Path, *, evidence: Evidence | None = None) -> Path:
    """The path of the file that now holds `story`, whole: HTML, PDF, JSON, Markdown or plain text by its ending.

    `evidence` is needed for a story that does not know its own, such as one read back from a page.
    Raises: UnknownNameError for another ending; InputError where there is no evidence to draw from or no browser to print
    a PDF; CitationError where the evidence is another story's; OutputError.
    """
    if not isinstance(story, Story):
        raise InputError("story", f"is a {type(story).__name__}", mend="give what tell(evidence, audience) returns")
    known, place = evidence or story.evidence, Path(path)
    if place.suffix.lower() not in FORMS:
        raise UnknownNameError("ending", place.suffix, FORMS)
    if known is None:
        raise InputError("story", "does not know its evidence", mend="give evidence=, as load_evidence reads it")
    if story.provenance.get("evidence_sha256") != record_sha256(as_record(known)):
        raise CitationError("the story was told from other evidence than it is to be drawn with")
    write_whole(FORMS[place.suffix.lower()](story, known), place)
    return place
