"""DICOM images for research: a folder without the people in it, and a report of what was removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from storyxai.errors import InputError, OutputError, ReadError
from storyxai.evidence.seal import read_key
from storyxai.files import write_whole
from storyxai.imaging.burnt_in import Box
from storyxai.imaging.deidentify import Cleaned, deidentify
from storyxai.imaging.read import file_bytes, find_images
from storyxai.programs.places import output_folder
from storyxai.progress import Progress
from storyxai.provenance import canonical_json

REPORT_NAME, FORMAT = "report.json", "storyxai-deidentified/1"
STILL_THERE = (
    "a face, a device's shape or text that was not found may still tell who somebody is: look at the pixels before you pass "
    "them on"
)


@dataclass(frozen=True)
class LeftOut:
    """A file that was not written: its place in the sorted list of files, its path (for the person at the keyboard only) and
    what was wrong."""

    number: int
    path: str
    why: str


@dataclass(frozen=True)
class Deidentified:
    """What was done: the folder, files written, people, files whose pixels are doubted, boxes painted over, files left out."""

    folder: Path
    written: int
    people: int
    doubted: int
    blanked: int
    left_out: tuple[LeftOut, ...]


def deidentify_files(
    paths: Sequence[Path], out: Path, *, key_file: Path, blank_text: bool = False, seen: bool = False,
    progress: Progress | None = None,
) -> Deidentified:
    """Write OUT/<pseudonym>/<study>/<image>.dcm for every DICOM image of `paths`, and report.json.

    Names come from the key alone: neither the path nor the name of an input file enters any output. One file is in memory at
    a time. Raises: InputError for a key that cannot be used or where nothing was written; OutputError for a place that
    cannot be written, or that holds an input.
    """
    key = read_key(key_file)
    files = find_images(paths)
    inside = [one for one in files if out.resolve() in one.resolve().parents]
    if inside:
        raise OutputError(str(out), "holds files that are to be read", mend="name a folder apart from them with --out")
    with output_folder(out):
        return _written(files, out, key, blank_text=blank_text, seen=seen, progress=progress)


def _written(
    files: Sequence[Path], out: Path, key: bytes, *, blank_text: bool, seen: bool, progress: Progress | None
) -> Deidentified:
    """The files written one after the other, and the report."""
    notes: list[_Note] = []
    removed: Counter[str] = Counter()
    left_out: list[LeftOut] = []
    for number, path in enumerate(files, start=1):
        if progress:
            progress("images", number - 1, len(files))
        try:
            one = deidentify(file_bytes(path), source=path.name, key=key, blank_text=blank_text, seen=seen)
        except ReadError as error:
            left_out.append(LeftOut(number, str(path), f"{error.why} — {error.mend}" if error.mend else error.why))
            continue
        if _place(one) in {note.file for note in notes}:
            why = "has the SOP Instance UID of an image that was written before it — give it a UID of its own"
            left_out.append(LeftOut(number, str(path), why))
            continue
        write_whole(one.data, out / _place(one))
        removed.update(one.removed)
        notes.append(_Note(_place(one), sum(one.removed.values()), sorted(one.replaced), one.doubt, one.blanked))
    if not notes:
        first = left_out[0]
        raise InputError(first.path, first.why if len(files) == 1 else f"left out, as all {len(files)} files are: {first.why}")
    write_whole(_report(notes, removed, left_out), out / REPORT_NAME)
    people = {note.file.split("/")[0] for note in notes}
    doubted, blanked = sum(bool(note.doubt) for note in notes), sum(len(note.blanked) for note in notes)
    return Deidentified(out, len(notes), len(people), doubted, blanked, tuple(left_out))


@dataclass(frozen=True)
class _Note:
    """What the report says of one file that was written."""

    file: str
    removed: int
    replaced: list[str]
    doubt: str
    blanked: tuple[Box, ...]


def _place(one: Cleaned) -> str:
    who = one.identity
    return f"{who.pseudonym}/{who.study}/{who.image}.dcm"


def _report(notes: Sequence[_Note], removed: Counter[str], left_out: Sequence[LeftOut]) -> bytes:
    """The report: keywords and counts; no value, name or path of any input, which a list of files left out would hold."""
    return canonical_json({
        "format": FORMAT, "software": f"storyxai {version('storyxai')}",
        "files": [asdict(note) for note in notes], "removed": dict(sorted(removed.items())),
        "left_out": [{"number": one.number} for one in left_out], "still_there": STILL_THERE,
    })
