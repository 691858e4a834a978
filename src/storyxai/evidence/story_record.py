"""Stories as plain nested dicts, and read back from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from storyxai.types import Section, Story


@dataclass(frozen=True)
class _StoryRecord:
    audience: str
    language: str
    title: str
    sections: tuple[Section, ...]
    provenance: Mapping[str, object]
    style: str = "technical"
    signed: bool = False


def story_as_record(story: Story) -> dict[str, object]:
    """`story` as a nested dict of plain JSON values."""
    return {
        "audience": story.audience,
        "language": story.language,
        "title": story.title,
        "style": story.style,
        "signed": story.signed,
        "provenance": dict(story.provenance),
        "sections": [
            {
                "heading": section.heading,
                "figures": list(section.figures),
                "sentences": [{"text": s.text, "cites": list(s.cites)} for s in section.sentences],
            }
            for section in story.sections
        ],
    }


def story_from_record(record: Mapping[str, object]) -> Story:
    """The story that `story_as_record` came from. Raises: ValueError naming the field when it is not one."""
    read = msgspec.convert(record, _StoryRecord)
    return Story(
        read.audience, read.language, read.title, read.sections, read.provenance, style=read.style, signed=read.signed
    )
