"""A fresh look at what `tell` wrote, from the files alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from storyxai import __version__
from storyxai.errors import ArchiveError, StoryxaiError
from storyxai.evidence.archive import EVIDENCE_NAME, read_archive, verified_archive
from storyxai.evidence.record import as_record
from storyxai.evidence.seal import check_seal, read_key
from storyxai.pages.story import render_html
from storyxai.programs.release import PAGE, check_release, released_as
from storyxai.proof.checking import Proof, Reader, check_read
from storyxai.proof.checking import contradictions as contradictions_read
from storyxai.proof.forms import FORMS, read_form, text_problems
from storyxai.proof.lexicon import Lexicon
from storyxai.proof.page import read_page
from storyxai.proof.rewording import REWORDING_NAME, read_rewording, reworded_story, rewording_of
from storyxai.provenance import read_provenance, sha256_file, software_versions
from storyxai.story.audiences.own import own_words
from storyxai.story.audiences.registry import BUILT_IN, find_audience, known_audiences
from storyxai.story.citations import check_page, contradictions, story_of_page
from storyxai.story.tell import tell as tell_story
from storyxai.types import Evidence, Story

__all__ = ["Held", "Verified", "studies_in", "verify", "verify_any", "verify_held", "verify_told"]

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
    """One page looked at: its story where it could be read, what is wrong with it, and what it says when it is read back."""

    name: str
    story: Story | None
    problems: tuple[str, ...]
    proof: Proof | None = None


@dataclass(frozen=True)
class Held:
    """What was found of a study, and the evidence that its pages were held against; None where there is a problem with it."""

    verified: Verified
    evidence: Evidence | None


def verify(folder: str | Path, *, seal_key: Path | None = None) -> Verified:
    """What a fresh look at the files of one study finds.

    Each page is read back into facts from what stands on it, and these are held against the evidence and the other pages;
    then it is told and drawn again from the archive and compared byte by byte.
    Evidence that was altered and told anew agrees with itself: only a seal made with the key in `seal_key` shows that.
    Raises: ArchiveError when there is no evidence in `folder`; InputError for a key that cannot be used.
    """
    return verify_held(Path(folder), seal_key=seal_key).verified


def verify_held(folder: Path, *, seal_key: Path | None = None) -> Held:
    """As `verify`, with the evidence: who goes on with it need not read it again."""
    key = None if seal_key is None else read_key(seal_key)
    if not (folder / EVIDENCE_NAME).is_file():
        raise ArchiveError(str(folder), "holds no evidence.json", mend="name a study's folder that `tell` wrote")
    problems, evidence = verified_archive(folder)
    record = None if evidence is None else as_record(evidence)
    pages = [_page(folder, name, evidence, record) for name in known_audiences() if (folder / f"{name}.html").is_file()]
    proofs = [(page.name, page.proof) for page in pages if page.proof is not None]
    problems += [problem for page in pages for problem in page.problems]
    problems += [f"{name}: {problem}" for name, proof in proofs for problem in proof.problems]
    # A page that nobody told looks as if it had been checked with the others.
    strays = sorted({path.name for path in folder.glob("*.html")} - {page.name for page in pages})
    problems += [f"{name}: {_why_unchecked(folder / name)}" for name in strays]
    if not pages:
        problems.append("no story stands beside the evidence")
    stories = [page.story for page in pages if page.story is not None]
    problems += [] if evidence is None else _form_problems(folder, proofs, evidence)
    problems += contradictions(stories) or contradictions_read([proof for _, proof in proofs])
    problems += [] if record is None else check_release(folder, record)
    problems += [] if record is None else _rewording_problems(folder, record)
    problems += [] if key is None else check_seal(folder, key)
    sentences = sum(len(section.sentences) for story in stories for section in story.sections)
    return Held(Verified(folder, tuple(page.name for page in pages), sentences, tuple(problems)), evidence)


def _why_unchecked(page: Path) -> str:
    """Why a page is of no reader that is known here: somebody else wrote it, or it was told for a reader from a file."""
    try:
        audience = story_of_page(page.read_bytes()).audience
    except (StoryxaiError, OSError):
        return "was not written by tell; it is not checked"
    return f"is for the reader '{audience}', who is not known here; let STORYXAI_AUDIENCES name the folder of {audience}.toml"


def verify_told(folder: Path, written: Mapping[str, str], evidence: Evidence | None = None) -> Held:
    """What `verify` finds in a study that this very process has just told.

    `written` are its files by name with their SHA-256 (`Told.written`). Where they, and no other pages, lie in the folder as
    they were written, each page is read back and held against the evidence and the other pages, as ever; telling and drawing
    it again from the same evidence would only repeat what this process did a moment ago, and so would reading the `evidence`
    that these very files were written of, where it is given. Otherwise the study is verified whole.
    """
    pages = [name for name in known_audiences() if f"{name}.html" in written]
    lie_here = {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()
    if not pages or lie_here != set(written) or any(sha256_file(folder / name) != written[name] for name in written):
        return verify_held(folder)
    evidence = evidence or read_archive(folder)
    proofs = [(f"{name}.html", proof) for name in pages if (proof := _proof(folder, f"{name}.html", evidence)) is not None]
    problems = [f"{name}: {problem}" for name, proof in proofs for problem in proof.problems]
    problems += contradictions_read([proof for _, proof in proofs])
    sentences = sum(len(proof.page.said) for _, proof in proofs)
    return Held(Verified(folder, tuple(name for name, _ in proofs), sentences, tuple(problems)), evidence)


def studies_in(folders: Iterable[Path]) -> list[Path]:
    """The studies' folders: those given, and for a folder that holds no study itself the studies in it, by name."""
    found: list[Path] = []
    for folder in folders:
        inside = [] if (folder / EVIDENCE_NAME).is_file() else sorted(path.parent for path in folder.glob(f"*/{EVIDENCE_NAME}"))
        found += inside or [folder]
    return list(dict.fromkeys(found))


def verify_any(folder: Path, *, seal_key: Path | None = None) -> Verified:
    """As `verify`; that there is no evidence in the folder is a problem like the others."""
    try:
        return verify(folder, seal_key=seal_key)
    except ArchiveError as error:
        return Verified(folder, (), 0, (f"{error.why} — {error.mend}",))


def _proof(folder: Path, name: str, evidence: Evidence | None) -> Proof | None:
    """What the page says when it is read back from what stands on it; None where another version worded it."""
    if evidence is None or evidence.provenance.get("version", __version__) != __version__:
        return None
    page = read_page((folder / name).read_bytes())
    return check_read(page, evidence, _reader(folder, name, page.language))


def _form_problems(folder: Path, proofs: Sequence[tuple[str, Proof]], evidence: Evidence) -> Iterator[str]:
    """What is wrong with the stories in other forms that lie beside their pages."""
    for name, proof in proofs:
        stem, page = name.removesuffix(".html"), proof.page
        for path in (folder / f"{stem}{form}" for form in FORMS):
            read = read_form(path.read_bytes(), path.suffix, audience=stem, language=page.language) if path.is_file() else None
            if read is not None:
                problems = check_read(read, evidence, _reader(folder, name, page.language)).problems
                yield from (f"{path.name}: {problem}" for problem in problems)
        if (path := folder / f"{stem}.txt").is_file():
            yield from (f"{path.name}: {problem}" for problem in text_problems(path.read_bytes(), page))


def _reader(folder: Path, name: str, language: str) -> Reader:
    """What is known of a page's reader beside the language's file: words of one's own, and a release."""
    key = name.removesuffix(".html")
    try:
        release = released_as(folder) if name == PAGE else None
        rewording = read_rewording(folder)
    except ArchiveError:  # said of the file itself
        release = rewording = None
    said = rewording.pages[key].said if rewording is not None and key in rewording.pages else {}
    if key in BUILT_IN:
        return Reader(release=release, reworded=said)
    sentences, texts = own_words(find_audience(key), language)
    return Reader(sentences, texts, is_known=bool(sentences or texts), release=release, reworded=said)


def _page(folder: Path, audience: str, evidence: Evidence | None, record: Mapping[str, object] | None) -> _Page:
    name = f"{audience}.html"
    data = (folder / name).read_bytes()
    problems = [] if record is None else [f"{name}: {problem}" for problem in check_page(data, record)]
    proof = _proof(folder, name, evidence)
    try:
        story: Story = story_of_page(data)
    except StoryxaiError as error:
        return _Page(name, None, (*problems, f"{name}: {error}"), proof)
    if evidence is not None and not problems:
        again = _told_again(folder, evidence, audience, story.language)
        problems += [f"{name}: {other}"] if (other := _drawn_otherwise(data, again, folder, evidence)) else []
    return _Page(name, story, tuple(problems), proof)


def _told_again(folder: Path, evidence: Evidence, audience: str, language: str) -> Story:
    """The page's story as its evidence and what was reworded make it."""
    again = tell_story(evidence, audience, language)
    try:
        page = rewording_of(folder, audience, language)
    except ArchiveError:  # said of the file itself
        page = None
    return again if page is None else reworded_story(again, page, Lexicon.of(language, as_record(evidence)))


def _rewording_problems(folder: Path, record: Mapping[str, object]) -> list[str]:
    try:
        found = read_rewording(folder)
    except ArchiveError as error:
        return [f"{REWORDING_NAME}: {error.why} — {error.mend}"]
    return [] if found is None else [f"{REWORDING_NAME}: {problem}" for problem in found.problems(record)]


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
    made = read_provenance(evidence.provenance)
    told = {"storyxai": made.version, **made.packages}
    here = software_versions(*DRAWN_BY)
    others = [f"{name} {told[name]}" for name in DRAWN_BY if told.get(name, here[name]) != here[name]]
    if others:
        return f"was told with {', '.join(others)} and cannot be drawn again here: verify it with the same versions"
    return "is not the page that this evidence makes: its pictures or layout were changed after it was told"
