"""What a language model reworded of a study's pages, kept beside them: by which model, accepted or refused, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from storyxai.errors import ArchiveError
from storyxai.evidence.record import record_sha256
from storyxai.proof.lexicon import Lexicon
from storyxai.proof.paraphrase import difference
from storyxai.types import Section, Sentence, Story

REWORDING_NAME, FORMAT = "rewording.json", "storyxai-rewording/1"
MOST_BYTES: Final = 4 << 20


class Paragraph(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A section's sentences as they were told, and as they were reworded; `refused` says why they stand as they were told."""

    told: tuple[str, ...]
    reworded: tuple[str, ...] = ()
    refused: str = ""


class PageRewording(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was reworded of one reader's page: in which language, by which model, and the SHA-256 of what it was asked."""

    language: str
    model: str
    prompt_sha256: str
    paragraphs: tuple[Paragraph, ...]

    @property
    def said(self) -> dict[str, str]:
        """What was told, by what stands on the page in its place."""
        return {new: old for one in self.paragraphs if not one.refused
                for old, new in zip(one.told, one.reworded, strict=True) if old != new}  # fmt: skip

    @property
    def summary(self) -> str:
        """How many paragraphs were reworded, and why the others were not."""
        taken = sum(not one.refused for one in self.paragraphs)
        reasons = list(dict.fromkeys(one.refused for one in self.paragraphs if one.refused))
        left = f"; the others stand as told ({'; '.join(reasons[:2])})" if reasons else ""
        return f"{taken} of {len(self.paragraphs)} paragraphs reworded{left}"


class Rewording(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was reworded of the pages of a study, by reader; the pages were told from the evidence of that SHA-256."""

    evidence_sha256: str
    pages: dict[str, PageRewording]
    format: str = FORMAT

    def without(self, audiences: Collection[str], evidence_sha256: str) -> Rewording:
        """What stays of it where pages of these readers are told anew from the evidence of that SHA-256."""
        same = self.evidence_sha256 == evidence_sha256
        kept = {key: page for key, page in self.pages.items() if same and key not in audiences}
        return Rewording(evidence_sha256, kept)

    def to_bytes(self) -> bytes:
        """The content of rewording.json: the same rewording, the same bytes."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=1) + b"\n"

    def problems(self, record: Mapping[str, object]) -> list[str]:
        """What is wrong with it, one line each: other evidence, or a paragraph that does not say what was told."""
        if self.evidence_sha256 != record_sha256(record):
            return ["was made of pages of other evidence"]
        return [f"“{new}” {why}" for page in self.pages.values() for new, old in page.said.items()
                if (why := difference(old, new, Lexicon.of(page.language, record)))]  # fmt: skip


def rewording_of(folder: Path, audience: str, language: str) -> PageRewording | None:
    """What was reworded of the page of `audience` in `language`, None where nothing was. Raises: ArchiveError."""
    found = read_rewording(folder)
    page = None if found is None else found.pages.get(audience)
    return page if page is not None and page.language == language else None


def read_rewording(folder: Path) -> Rewording | None:
    """What lies beside the study's pages, None where nothing was reworded. Raises: ArchiveError for what cannot be read."""
    path = folder / REWORDING_NAME
    if not path.is_file():
        return None
    mend = "remove it and tell the study again"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ArchiveError(str(path), f"is larger than {MOST_BYTES >> 20} MiB", mend=mend)
        found = msgspec.json.decode(path.read_bytes(), type=Rewording)
    except (OSError, msgspec.DecodeError) as error:
        raise ArchiveError(str(path), f"cannot be read ({error})", mend=mend) from error
    whole = all(one.refused or len(one.told) == len(one.reworded) for page in found.pages.values() for one in page.paragraphs)
    if found.format != FORMAT or not whole:
        raise ArchiveError(str(path), f"is not of format {FORMAT}", mend=mend)
    return found


def reworded_story(story: Story, page: PageRewording, lexicon: Lexicon) -> Story:
    """The story with its accepted paragraphs, and with one sentence at its end that says so; citations stay as they were."""
    taken = {one.told: one.reworded for one in page.paragraphs if not one.refused}
    sections = [_reworded(section, taken) for section in story.sections]
    note = lexicon.file.templates["rewording"]["some" if page.said else "none"]
    last = sections[-1]
    sections[-1] = replace(last, sentences=(*last.sentences, Sentence(note.text, note.cites)))
    return replace(story, sections=tuple(sections))


def _reworded(section: Section, taken: Mapping[tuple[str, ...], Sequence[str]]) -> Section:
    told = tuple(sentence.text for sentence in section.sentences)
    texts = taken.get(told, told)
    return replace(section, sentences=tuple(replace(s, text=text) for s, text in zip(section.sentences, texts, strict=True)))
