"""One page that lists many told studies: sorted, filtered, with small pictures in a folder beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from storyxai.errors import ArchiveError, InputError, OutputError
from storyxai.evidence.archive import EVIDENCE_NAME, read_record, stored_image
from storyxai.evidence.formats import upgraded
from storyxai.evidence.record import typed_record
from storyxai.evidence.schema import EvidenceRecord
from storyxai.files import write_whole
from storyxai.pages.figures import thumbnail_jpeg
from storyxai.pages.index import INDEX_MARK, LinkedPage, Listed, render_index
from storyxai.programs.places import name_full_disk
from storyxai.progress import Progress
from storyxai.story.audiences.registry import known_audiences
from storyxai.story.words import Words, load_words

INDEX_NAME = "index.html"


@dataclass(frozen=True)
class Indexed:
    """The page that was written, how many studies it lists, and why others are not listed, one sentence each."""

    page: Path
    studies: int
    unread: tuple[str, ...]


def index(
    folders: Sequence[Path], out: Path | None = None, *, language: str = "en", progress: Progress | None = None
) -> Indexed:
    """The index of all studies in `folders` and below, written to `out` (by default index.html in the first folder).

    Small pictures are written into the folder <name>-thumbs beside it, and kept where they are there. A study that cannot be
    read is named and left out. Raises: InputError where there is no study; OutputError, also for a page that is not ours.
    """
    page = out if out is not None else folders[0] / INDEX_NAME
    _require_page(page)
    studies = [study for folder in folders for study in find_studies(folder)]
    if not studies:
        raise InputError(str(folders[0]), "holds no study", mend="name a folder that `storyxai tell` wrote studies into")
    listed, unread, names = [], [], _Names(language)
    with name_full_disk(page):
        for done, study in enumerate(dict.fromkeys(studies), start=1):
            try:
                listed.append(_listed(study, page, names))
            except ArchiveError as error:
                unread.append(str(error))
            if progress:
                progress("listing", done, len(studies))
        write_whole(render_index(listed, unread=unread, language=language), page)
    return Indexed(page, len(listed), tuple(unread))


def is_ours(page: Path) -> bool:
    """Whether `page` is an index that we wrote."""
    return page.is_file() and INDEX_MARK in page.read_bytes()


def _require_page(page: Path) -> None:
    if page.is_dir():
        raise OutputError(str(page), "is a folder", mend="name the page, such as index.html")
    if page.exists() and not is_ours(page):
        raise OutputError(str(page), "is there already and is no index of ours", mend="name another page with --out")


def find_studies(folder: Path) -> list[Path]:
    """The folders at and below `folder` that hold evidence, by name. Raises: InputError where there is no such folder."""
    if not folder.is_dir():
        raise InputError(str(folder), "is no folder", mend="name a folder that `storyxai tell` wrote studies into")
    return sorted(path.parent for path in folder.rglob(EVIDENCE_NAME))


class _Names:
    """What a language calls the findings of studies, looked up once for each kind of image."""

    def __init__(self, language: str) -> None:
        self._language, self._words = language, dict[str, Words]()

    def of(self, facts: EvidenceRecord, record: Mapping[str, object]) -> dict[str, str]:
        """The names of the record's findings."""
        kind = repr((facts.made.words, facts.made.settings.modality))
        if kind not in self._words:
            self._words[kind] = load_words(self._language, record)
        return {name: self._words[kind].finding(name) for name in facts.findings}


def _listed(study: Path, page: Path, names: _Names) -> Listed:
    raw = read_record(study)
    record = upgraded(raw)
    try:
        facts = typed_record(record)
    except ArchiveError as error:
        raise ArchiveError(str(study / EVIDENCE_NAME), error.why, mend="tell the study again") from error
    image = facts.study.image
    return Listed(
        study_id=facts.study.study_id, source=image.source, model_id=facts.study.model_id,
        findings={name: (item.tier, item.probability) for name, item in facts.findings.items()},
        named=tuple(name for name in facts.named if name in facts.findings), withheld=facts.counts.maps_withheld,
        doubted=bool(facts.doubts), scored="calibration" in facts.gaps, thumbnail=_thumbnail(study, page, raw, image.sha256),
        pages=tuple(_pages(study, page)), names=names.of(facts, record),
        model=" ".join(filter(None, (facts.model.name, facts.model.version))),
    )


def _pages(study: Path, page: Path) -> Iterator[LinkedPage]:
    for audience in known_audiences():
        if (study / f"{audience}.html").is_file():
            yield LinkedPage(audience, _address(study / f"{audience}.html", page))


def _thumbnail(study: Path, page: Path, record: Mapping[str, object], sha256: str) -> str:
    """The address of the study's small picture, drawn where it is not there yet."""
    picture = page.with_name(f"{page.stem}-thumbs") / f"{sha256[:16]}.jpg"
    if not picture.is_file():
        write_whole(thumbnail_jpeg(stored_image(study, record)), picture)
    return _address(picture, page)


def _address(path: Path, page: Path) -> str:
    """The address of `path` as a link on `page` says it."""
    return quote(Path(os.path.relpath(path, page.parent)).as_posix())
