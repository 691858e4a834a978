"""One slide of several told films and their maps, from the archives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storyxai.errors import InputError, UnknownNameError
from storyxai.evidence.archive import EVIDENCE_NAME, read_archive
from storyxai.evidence.record import as_record
from storyxai.export.pdf import render_pdf, render_png
from storyxai.files import write_whole
from storyxai.pages.gallery import MOST_FILMS, exhibit_of, render_gallery
from storyxai.programs.index import find_studies

ENDINGS: Final = (".html", ".png", ".pdf")


@dataclass(frozen=True)
class GalleryOptions:
    """Which finding's maps are shown ("" for the first that each story names), the slide's title and language."""

    finding: str = ""
    title: str = ""
    language: str = "en"


@dataclass(frozen=True)
class Gallery:
    """The slide that was written, how many films it shows, and what was left out."""

    slide: Path
    films: int
    remarks: tuple[str, ...]


def gallery(stories: Sequence[Path], out: Path, options: GalleryOptions | None = None) -> Gallery:
    """The slide of the studies in `stories` (studies, or folders of them), in their order, as the ending of `out` says.

    Raises: UnknownNameError for another ending or a finding that no study has; InputError where there is no study or no browser
    for PNG and PDF; ArchiveError for a study that is not sound; OutputError.
    """
    options = options or GalleryOptions()
    if out.suffix.lower() not in ENDINGS:
        raise UnknownNameError("ending", out.suffix, ENDINGS)
    found = [study for folder in stories for study in find_studies(folder)]
    if not found:
        raise InputError(str(stories[0]), "holds no study", mend=f"name folders that hold {EVIDENCE_NAME}")
    remarks, exhibits = [], []
    for study in found[:MOST_FILMS]:
        evidence = read_archive(study)
        if options.finding and options.finding not in (known := as_record(evidence)["findings"]):
            raise UnknownNameError("finding", options.finding, known)
        exhibits.append(exhibit_of(evidence, finding=options.finding, language=options.language))
    if more := len(found) - MOST_FILMS:
        remarks += [f"{more} more are not shown: a slide holds {MOST_FILMS}"] if more > 0 else []
    page = render_gallery(exhibits, title=options.title, language=options.language)
    forms = {".html": lambda: page, ".png": lambda: render_png(page), ".pdf": lambda: render_pdf(page)}
    write_whole(forms[out.suffix.lower()](), out)
    return Gallery(out, len(exhibits), tuple(remarks))
