"""A fresh look at what `tell` wrote, from the files alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storyxai.errors import ArchiveError, StoryxaiError
from storyxai.evidence.archive import read_archive, verify_hashes
from storyxai.evidence.record import as_record
from storyxai.evidence.seal import check_seal, read_key
from storyxai.pages.story import render_html
from storyxai.programs.release import check_release, released_as
from storyxai.provenance import software_versions
from storyxai.story.audiences.registry import known_audiences
from storyxai.story.citations import check_page, contradictions, story_of_page
from storyxai.story.tell import tell as tell_story
from storyxai.types import Evidence, Story

__all__ = ["Verified", "verify", "verify_any"]

DRAWN_BY = ("storyxai", "numpy", "scipy", "pillow")
"""Packages that change a page's bytes: pictures are packed by other code than ours."""


@dataclass(frozen=True)
class Verified:
    """What a fresh look at one study's folder found: its pages, how many sentences they hold, and problems in words."""

    folder: Path
    pages: tuple[str, ...]
    sentences: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Page:
    """One page looked at: its story where it could be read, and what is wrong with it."""

    name: str
    story: Story | None
    problems: tuple[str, ...]


def verify(folder: Path, *, seal_key: Path | None = None) -> Verified:
    """What a fresh look at the files of one study finds.

    Each page is told and drawn again from the archive and compared byte by byte, so that an edited picture is found too.
    Evidence that was altered and told anew agrees with itself: only a seal made with the key in `seal_key` shows that.
    Raises: ArchiveError when there is no evidence in `folder`; InputError for a key that cannot be used.
    """
    key = None if seal_key is None else read_key(seal_key)
    if not (folder / "evidence.json").is_file():
        raise ArchiveError(str(folder), "holds no evidence.json", mend="name a study's folder that `tell` wrote")
    problems = verify_hashes(folder)
    evidence = None if problems else read_archive(folder)
    record = None if evidence is None else as_record(evidence)
    pages = [_page(folder, name, evidence, record) for name in known_audiences() if (folder / f"{name}.html").is_file()]
    problems += [problem for page in pages for problem in page.problems]
    # A page that nobody told looks as if it had been checked with the others.
    strays = sorted({path.name for path in folder.glob("*.html")} - {page.name for page in pages})
    problems += [f"{name}: was not written by tell; it is not checked" for name in strays]
    if not pages:
        problems.append("no story stands beside the evidence")
    stories = [page.story for page in pages if page.story is not None]
    problems += contradictions(stories)
    problems += [] if record is None else check_release(folder, record)
    problems += [] if key is None else check_seal(folder, key)
    sentences = sum(len(section.sentences) for story in stories for section in story.sections)
    return Verified(folder, tuple(page.name for page in pages), sentences, tuple(problems))


def verify_any(folder: Path, *, seal_key: Path | None = None) -> Verified:
    """As `verify`; that there is no evidence in the folder is a problem like the others."""
    try:
        return verify(folder, seal_key=seal_key)
    except ArchiveError as error:
        return Verified(folder, (), 0, (f"{error.why} — {error.mend}",))


def _page(folder: Path, audience: str, evidence: Evidence | None, record: Mapping[str, Any] | None) -> _Page:
    name = f"{audience}.html"
    data = (folder / name).read_bytes()
    problems = [] if record is None else [f"{name}: {problem}" for problem in check_page(data, record)]
    try:
        story: Story = story_of_page(data)
    except StoryxaiError as error:
        return _Page(name, None, (*problems, f"{name}: {error}"))
    if evidence is not None and not problems:
        again = tell_story(evidence, audience, story.language)
        problems += [f"{name}: {other}"] if (other := _drawn_otherwise(data, again, folder, evidence)) else []
    return _Page(name, story, tuple(problems))


def _drawn_otherwise(page: bytes, again: Story, folder: Path, evidence: Evidence) -> str:
    """Why the page is not the one that its evidence makes, in words; empty where it is, byte by byte."""
    if render_html(again, evidence) == page:
        return ""
    try:
        release = released_as(folder) if again.signed else None
    except ArchiveError:  # said of the log itself
        return ""
    if release and render_html(again, evidence, release=release) == page:
        return ""
    told = {"storyxai": evidence.provenance.get("version"), **evidence.provenance.get("packages", {})}
    here = software_versions(*DRAWN_BY)
    others = [f"{name} {told[name]}" for name in DRAWN_BY if told.get(name, here[name]) != here[name]]
    if others:
        return f"was told with {', '.join(others)} and cannot be drawn again here: verify it with the same versions"
    return "is not the page that this evidence makes: its pictures or layout were changed after it was told"
