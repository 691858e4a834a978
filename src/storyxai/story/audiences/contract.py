"""What a reader is: one value that says what is told to them, how plainly, and with which pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from storyxai.story.teller import Teller
from storyxai.types import Section

__all__ = ["Audience", "Style", "TellSections"]

Style: TypeAlias = Literal["technical", "calm", "brief", "folded", "layered"]
TellSections: TypeAlias = Callable[[Teller], tuple[Section, ...]]


@dataclass(frozen=True)
class Audience:
    """One kind of reader.

    `sections` tells a record. `title` is the story's; "" takes the language's own "<key>.title"; `titles` are
    those of other languages, by language. `grade` is the highest
    school grade, by the measure that the language's file names, and `sentence_words` the longest mean sentence that a story may
    have, None where that is not asked. Without `maps` no map of an explanation is among the figures. `signed`: the page is
    held back until a clinician has signed it. `style`: "calm" pages draw one plain frame where "technical" ones draw all;
    "brief" ones run a section's sentences together; "folded" ones show their first section and fold the others;
    "layered" ones nest each section in the one before it, tables folded, and offer what they hold as files.
    """

    key: str
    sections: TellSections
    title: str = ""
    grade: float | None = None
    sentence_words: float | None = None
    maps: bool = True
    signed: bool = False
    style: Style = "technical"
    titles: Mapping[str, str] = field(default_factory=dict, hash=False)
