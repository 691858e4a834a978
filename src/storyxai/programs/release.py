"""A clinician releases the patient's page of a study for reading: it is drawn anew, and a log says who did it and when."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from storyxai.errors import ArchiveError, InputError
from storyxai.evidence.archive import read_archive, verify_hashes
from storyxai.evidence.record import as_record, record_sha256
from storyxai.export.story_json import render_json
from storyxai.export.text import render_markdown, render_text
from storyxai.files import replace_files
from storyxai.logbook import START, broken_links, link_of
from storyxai.pages.story import render_html
from storyxai.proof.lexicon import Lexicon
from storyxai.proof.rewording import reworded_story, rewording_of
from storyxai.provenance import canonical_json, sha256_bytes
from storyxai.story.citations import story_of_page
from storyxai.story.tell import tell as tell_story
from storyxai.types import Evidence, Release, Story

RELEASE_NAME, FORMAT = "release.json", "storyxai-release/1"
PAGE = "patient.html"


@dataclass(frozen=True)
class Released:
    """A study whose patient's page was released: where it lies, by whom, when, and how many releases its log holds."""

    folder: Path
    release: Release
    lines: int


def release(folder: Path, *, by: str, with_picture: bool = False, time: str = "") -> Released:
    """The study's patient's page without the banner that holds it back, and one more line in its release.json.

    `time` is UTC in ISO 8601, "" for now. Each line of the log holds the hashes of the evidence, of the page and of the line
    before it. Raises: ArchiveError where there is no sound study with a patient's page; InputError without a name.
    """
    if not by.strip():
        raise InputError("by", "is empty", mend="name who releases the page")
    if not (folder / PAGE).is_file():
        raise ArchiveError(str(folder), f"holds no {PAGE}", mend="tell the patient's story first")
    if problems := verify_hashes(folder):
        raise ArchiveError(str(folder), problems[0], mend="tell the study again; altered evidence is not released")
    evidence = read_archive(folder)
    one = Release(" ".join(by.split()), time or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), with_picture)
    page = render_html(_story(evidence, folder), evidence, release=one)
    log = _read_log(folder)
    line = {
        **asdict(one), "evidence_sha256": record_sha256(as_record(evidence)), "page_sha256": sha256_bytes(page),
        "before": link_of(log[-1]) if log else START,
    }
    content = canonical_json({"format": FORMAT, "releases": [*log, line]})
    replace_files(folder, {PAGE: page, RELEASE_NAME: content, **_other_forms(evidence, folder, one)})
    return Released(folder, one, len(log) + 1)


def released_as(folder: Path) -> Release | None:
    """The release in force, None where the page is held back. Raises: ArchiveError for a log that cannot be read."""
    log = _read_log(folder)
    return Release(str(log[-1]["by"]), str(log[-1]["time"]), bool(log[-1]["with_picture"])) if log else None


def check_release(folder: Path, record: Mapping[str, object]) -> list[str]:
    """What is wrong with the study's log of releases, one sentence each; empty where it holds or there is none."""
    try:
        log = _read_log(folder)
    except ArchiveError as error:
        return [f"{RELEASE_NAME}: {error.why} — {error.mend}"]
    if not log:
        return []
    problems = [
        f"{RELEASE_NAME}: line {number} does not follow from the one before it: the log was altered"
        for number in broken_links(log)
    ]
    again = "release it again"
    if log[-1]["evidence_sha256"] != record_sha256(record):
        problems.append(f"{RELEASE_NAME}: releases a page that was told from other evidence — {again}")
    elif not (folder / PAGE).is_file() or log[-1]["page_sha256"] != sha256_bytes((folder / PAGE).read_bytes()):
        problems.append(f"{RELEASE_NAME}: releases another page than the one that lies here — {again}")
    return problems


def _other_forms(evidence: Evidence, folder: Path, one: Release) -> dict[str, bytes]:
    """The patient's story as Markdown, plain text and JSON, those that lie beside the page, as they are released."""
    story = _story(evidence, folder)
    forms: dict[str, Callable[[], bytes]] = {
        ".md": lambda: render_markdown(story, one).encode(), ".txt": lambda: render_text(story, one).encode(),
        ".json": lambda: render_json(story, evidence, release=one),
    }  # fmt: skip
    names = {PAGE.replace(".html", ending): draw for ending, draw in forms.items()}
    return {name: draw() for name, draw in names.items() if (folder / name).is_file()}


def _story(evidence: Evidence, folder: Path) -> Story:
    """The patient's story in the language that it was told in, reworded where it was."""
    story = tell_story(evidence, "patient", story_of_page((folder / PAGE).read_bytes()).language)
    if reworded := rewording_of(folder, "patient", story.language):
        story = reworded_story(story, reworded, Lexicon.of(story.language, as_record(evidence)))
    return story


def _read_log(folder: Path) -> list[dict[str, object]]:
    path, mend = folder / RELEASE_NAME, "remove it and release the page again"
    if not path.is_file():
        return []
    try:
        log = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ArchiveError(str(path), f"cannot be read ({type(error).__name__})", mend=mend) from error
    keys = {"by", "time", "with_picture", "evidence_sha256", "page_sha256", "before"}
    lines = log.get("releases") if isinstance(log, dict) and log.get("format") == FORMAT else None
    if not isinstance(lines, list) or not all(isinstance(line, dict) and set(line) == keys for line in lines):
        raise ArchiveError(str(path), f"is not of format {FORMAT}", mend=mend)
    return lines
