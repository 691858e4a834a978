"""From a told study to what others keep: DICOM objects, a FHIR bundle, or documents about the model.

The study is verified before anything leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from storyxai.errors import ArchiveError, InputError, OutputError, UnknownNameError
from storyxai.export.browser import find_browser
from storyxai.export.dicom import dicom_files, read_source
from storyxai.export.fhir import fhir_bundle
from storyxai.export.hospital import Export, Source
from storyxai.export.pdf import render_pdf
from storyxai.files import replace_files
from storyxai.programs.places import output_folder
from storyxai.programs.release import released_as
from storyxai.programs.verify import verify_held, verify_told
from storyxai.provenance import sha256_bytes
from storyxai.story.audiences.registry import find_audience
from storyxai.story.documents import DOCUMENTS, fill_document, render_document_json, render_document_markdown
from storyxai.types import Evidence

ALL: Final = "all"
"""Asks for every form, each in a folder of its name."""
PRINTED: Final = "clinician"
"""The page that goes along as PDF."""
MOST_SOURCE_BYTES = 1 << 30


@dataclass(frozen=True)
class Exported:
    """What was written into `folder`, and remarks on what was left out or made up."""

    folder: Path
    files: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Making:
    """What spares work where study after study is told and exported in one process.

    `written` are the files that this process has just told and `evidence` what they were told from (`verify_told` says what
    for), `pdf` prints a page as `render_pdf` does; None for no PDF.
    """

    written: Mapping[str, str] | None = None
    evidence: Evidence | None = None
    pdf: Callable[[bytes], bytes] | None = render_pdf


@dataclass(frozen=True)
class _Form:
    """What a word after --to makes of a study, its files and remarks; objects are about the patient, documents are not."""

    make: Callable[[Export, Making], tuple[dict[str, bytes], tuple[str, ...]]]
    is_object: bool = True


def export_study(study: Path, out: Path, *, to: str, source: Path | None = None, making: Making | None = None) -> Exported:
    """The objects of one told study, written into `out` whole or not at all; for "all", each form in a folder of its name.

    `source` is the DICOM file that the study was told from: it gives patient and study, which evidence does not keep.
    Raises: UnknownNameError for another form; ArchiveError for what is no sound study; InputError where the source is
    another film or a package is missing; OutputError.
    """
    return export_held(study, out, to=to, source=source, making=making)[0]


def export_held(
    study: Path, out: Path, *, to: str, source: Path | None = None, making: Making | None = None
) -> tuple[Exported, Evidence]:
    """As `export_study`, with the evidence that was exported: who goes on with it need not read it again."""
    if to not in (*FORMS, ALL):
        raise UnknownNameError("form", to, (*FORMS, ALL))
    with _printing(study, making or Making(), wanted=to in (ALL, "dicom")) as making:
        export = _opened(study, source, making)
        made = {name: FORMS[name].make(export, making) for name in (FORMS if to == ALL else [to])}
    objects = [name for name in made if FORMS[name].is_object]
    for name in objects:
        _require_no_others(out / name if to == ALL else out, made[name][0])
    files = {
        f"{name}/{file}" if to == ALL else file: data for name, (written, _) in made.items() for file, data in written.items()
    }
    with output_folder(out):
        replace_files(out, files)
    remarks = [*(_remarks(export) if objects else ()), *(remark for _, said in made.values() for remark in said)]
    return Exported(out, tuple(files), tuple(dict.fromkeys(remarks))), export.evidence


@contextmanager
def _printing(study: Path, making: Making, *, wanted: bool) -> Iterator[Making]:
    """Begin to print the clinician's page: a browser does so on another core while the study is verified.

    What comes of it is used for the very page that was found sound, and for nothing where none was.
    """
    path, pdf = study / f"{PRINTED}.html", making.pdf
    if pdf is None or not wanted or not path.is_file():
        yield making
        return
    page = path.read_bytes()
    with ThreadPoolExecutor(1) as beside:
        begun = beside.submit(pdf, page)
        yield replace(making, pdf=lambda sound: begun.result() if sound == page else pdf(sound))


def _opened(study: Path, source: Path | None, making: Making) -> Export:
    """The study, verified, with the film that it was told from."""
    written = making.written
    held = verify_held(study) if written is None else verify_told(study, written, making.evidence)
    found, evidence = held.verified, held.evidence
    if found.problems or evidence is None:
        why = f"does not hold together ({found.problems[0]})"
        raise ArchiveError(str(study), why, mend="tell the study again; nothing was exported")
    pages = {name.removesuffix(".html"): (study / name).read_bytes() for name in found.pages}
    release = released_as(study)
    open_pages = {name: page for name, page in pages.items() if release is not None or not find_audience(name).signed}
    return Export(evidence, open_pages, None if source is None else _film(source, evidence), release)


def _film(path: Path, evidence: Evidence) -> Source:
    """The film's header. Raises: InputError where the evidence was not told from this very file."""
    try:
        if path.stat().st_size > MOST_SOURCE_BYTES:
            raise InputError(str(path), "is larger than 1 GiB", mend="give the film that the study was told from")
        data = path.read_bytes()
    except OSError as error:
        why = f"cannot be read ({error.strerror})"
        raise InputError(str(path), why, mend="give the film that the study was told from") from error
    if sha256_bytes(data) != evidence.image.sha256:
        why = "is not the file that the study was told from: its SHA-256 is another"
        raise InputError(str(path), why, mend="give that file, or leave --source out for pseudonyms")
    return read_source(data, str(path))


def _dicom(export: Export, making: Making) -> tuple[dict[str, bytes], tuple[str, ...]]:
    page, pdf = export.pages.get(PRINTED), making.pdf
    if page is None:
        return dicom_files(export), ("no clinician's page was told: no PDF",)
    if pdf is None:
        return dicom_files(export), ("no PDF of the clinician's page: none was asked for",)
    try:
        find_browser()
    except InputError as error:
        return dicom_files(export), (f"no PDF of the clinician's page: it {error.why}",)
    return dicom_files(export, page_pdf=lambda: pdf(page)), ()


def _fhir(export: Export, _: Making) -> tuple[dict[str, bytes], tuple[str, ...]]:
    return {"bundle.json": fhir_bundle(export)}, ()


def _fhir_r4(export: Export, _: Making) -> tuple[dict[str, bytes], tuple[str, ...]]:
    return {"bundle.json": fhir_bundle(export, version="R4")}, ()


def _document(key: str, export: Export, _: Making) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The document as Markdown and as JSON, and how much of it people must fill."""
    document = fill_document(key, export.evidence)
    counts = document.counts()
    remark = f"{counts['filled']} fields filled, {counts['partly']} in part, {counts['not_filled']} not: people must fill these"
    files = {f"{key}.md": render_document_markdown(document), f"{key}.json": render_document_json(document)}
    return files, (remark, "a layout, no claim of conformity")


def _remarks(export: Export) -> tuple[str, ...]:
    withheld = sum(not one.shown for one in export.evidence.heatmaps)
    made_up = "patient and study are pseudonyms, dates are not known: name the film with --source"
    which = "1 map that failed its checks was" if withheld == 1 else f"{withheld} maps that failed their checks were"
    left = f"{which} not exported"
    if not export.of_known_kind:
        left, withheld = "no map and no box is exported: the model learnt no findings from images like this one", 1
    return (*([] if export.source else [made_up]), *([left] if withheld else []))


def _require_no_others(out: Path, files: Mapping[str, bytes]) -> None:
    """Raise OutputError where `out` holds objects that would be taken for this study's."""
    found = [*out.glob("*.dcm"), *out.glob("bundle.json")] if out.is_dir() else []
    if strays := sorted(path.name for path in found if path.name not in files):
        raise OutputError(str(out), f"holds {strays[0]}, which is of another export", mend="name an empty folder")


FORMS: Final[Mapping[str, _Form]] = {
    "dicom": _Form(_dicom), "fhir": _Form(_fhir), "fhir-r4": _Form(_fhir_r4),
    **{key: _Form(partial(_document, key), is_object=False) for key in DOCUMENTS},
}
"""What each word after --to makes of a study."""
