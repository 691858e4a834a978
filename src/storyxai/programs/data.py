"""Study tables: phantoms made, published sets imported, tables looked over."""

from __future__ import annotations

from pathlib import Path

from storyxai.data.checking import check_table
from storyxai.data.importing import ImportOptions, ImportReport, import_source
from storyxai.data.sources import known_sources, source_named
from storyxai.data.table import read_table
from storyxai.errors import InputError
from storyxai.files import write_whole
from storyxai.modalities.registry import DEFAULT_MODALITY, modality_of
from storyxai.pages.data_check import render_data_check
from storyxai.phantoms.generate import write_phantoms
from storyxai.programs.places import output_file, output_folder
from storyxai.progress import Progress

__all__ = ["check_data", "import_data", "list_sources", "make_phantoms"]


def make_phantoms(
    out: Path, *, count: int, seed: int = 0, size: int = 512, modality: str = "", progress: Progress | None = None
) -> None:
    """Write `count` synthetic images of a modality with their references into `out`. Raises: OutputError, UnknownNameError."""
    step = None if progress is None else lambda done: progress("phantoms", done, count)
    write_phantoms(out, count=count, seed=seed, size=size, modality=modality or DEFAULT_MODALITY, progress=step)


def import_data(
    source: str, path: Path, out: Path, *, seed: int = 0, own_split: bool = False, modality: str = "",
    progress: Progress | None = None,
) -> ImportReport:
    """Write the study table of a published set to `out`; what was read comes back, and what was left out and why.

    `own_split` leaves the publisher's lists aside; `modality` names the kind of image of a manifest.
    Raises: UnknownNameError, TableError, OutputError.
    """
    with output_file(out):  # a place that cannot be written is said before hours of reading
        kind = modality_of(modality) if modality else None
        options = ImportOptions(seed=seed, own_split=own_split, modality=kind)
        return import_source(source, path, out, options, progress=progress)


def list_sources() -> list[str]:
    """Each set that can be imported, a line each: its key, its name, its licence and whether weights may be passed on."""
    return [_source_line(key) for key in known_sources()]


def _source_line(key: str) -> str:
    try:
        source = source_named(key)
    except InputError as error:  # another's package; the others are listed all the same
        return f"{key}: cannot be used: {error}"
    may = {None: "", True: ", weights may be passed on", False: ", weights trained on it may not be passed on"}
    terms = f" ({source.licence}{may[source.weights_may_be_shipped]})" if source.licence else ""
    return f"{key}: {source.name}{terms}"


def check_data(table: Path, out: Path, *, progress: Progress | None = None) -> list[str]:
    """What is wrong with a study table, a line each, also as a page with pictures in `out`."""
    with output_folder(out):
        known = read_table(table)
        report = check_table(known, out, progress=progress)
        write_whole(render_data_check(known, report), out / "index.html")
    return [*report.lines, f"{out}/index.html"]
