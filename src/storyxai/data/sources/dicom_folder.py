"""A plain folder of DICOM files, as an archive exports it: each radiograph becomes a row, the rest is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from storyxai.data.table import Skipped, StudyRow, StudyTable
from storyxai.errors import OutputError, ReadError, TableError
from storyxai.imaging.read import read_image
from storyxai.provenance import sha256_bytes

__all__ = ["read_dicom_folder"]

NAME_DIGITS = 16


def read_dicom_folder(
    folder: Path, *, journal: Path | None = None, progress: Callable[[str, int, int], None] | None = None
) -> StudyTable:
    """One row per readable radiograph anywhere below `folder`, whatever the files are called.

    Every file is decoded once, under the limits of `read_image`; what is refused stands in `skipped` with its reason.
    Patient and study are hashes of PatientID and StudyInstanceUID: nothing that names a person enters the table (the
    path of the file does, and is the user's own). Without a PatientID each file counts as its own patient. Two files
    with the same bytes: the first by name is kept. No labels: a header states none that may be trusted.
    `journal` makes the walk resumable: a line of JSON per file, read back and continued when it is there; a file whose
    size or time of change differs is read again. Raises: TableError, OutputError.
    """
    if not folder.is_dir():
        raise TableError(str(folder), "is not a folder", mend="name the folder that holds the DICOM files")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "DICOMDIR"]
    done = _journalled(journal)
    rows: dict[str, StudyRow] = {}
    skipped = []
    for count, (path, entry) in enumerate(_entries(paths, folder, done, journal), start=1):
        name = path.relative_to(folder).as_posix()
        if entry["why"]:
            skipped.append(Skipped(name, entry["why"], entry["mend"]))
        elif entry["row"]["image_id"] in rows:
            kept = rows[entry["row"]["image_id"]].image
            skipped.append(Skipped(name, f"has the same bytes as {kept}", "nothing to do: the other file is in the table"))
        else:
            rows[entry["row"]["image_id"]] = StudyRow(**{**entry["row"], "notes": tuple(entry["row"]["notes"])})
        if progress is not None:
            progress("files", count, len(paths))
    return StudyTable.from_rows(rows.values(), root=folder, skipped=skipped)


def _entries(
    paths: list[Path], folder: Path, done: dict[str, dict[str, Any]], journal: Path | None
) -> Iterator[tuple[Path, dict[str, Any]]]:
    stream = None if journal is None else _opened(journal)
    home = _hashed(str(folder.resolve()))
    try:
        for path in paths:
            name = path.relative_to(folder).as_posix()
            mark = f"{home}:{_state(path)}"
            entry = done.get(name)
            if entry is None or entry["mark"] != mark:
                entry = {"name": name, "mark": mark, **_read(path, name)}
                if stream is not None:
                    stream.write(json.dumps(entry) + "\n")
            yield path, entry
    except OSError as error:
        raise _unwritable(journal or folder, error) from error
    finally:
        if stream is not None:
            stream.close()


def _opened(journal: Path) -> TextIO:
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        # A line at a time reaches the system, so that a killed walk loses at most the file it was reading.
        stream = journal.open("a", encoding="utf-8", buffering=1)
        if stream.tell():
            stream.write("\n")  # ends the line that a killed walk left open; empty lines are passed over
        return stream
    except OSError as error:
        raise _unwritable(journal, error) from error


def _unwritable(journal: Path, error: OSError) -> OutputError:
    why = f"cannot be written ({error.strerror})"
    return OutputError(str(journal), why, mend="choose a folder of yours with room")


def _state(path: Path) -> str:
    """Size and time of change; "gone" for a file that vanished since the walk began (reading it then says so)."""
    try:
        status = path.stat()
    except OSError:
        return "gone"
    return f"{status.st_size}:{status.st_mtime_ns}"


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        image = read_image(path)
        tags = _tags(path)
    except ReadError as error:
        return {"row": None, "why": error.why, "mend": error.mend}
    patient = _hashed(tags["PatientID"] or f"file {image.sha256}")
    study = _hashed(tags["StudyInstanceUID"] or f"file {image.sha256}")
    row = StudyRow(
        f"dicom-{study}", f"dicom-{patient}", name, "dicom-folder", image_id=f"dicom-{image.sha256[:NAME_DIGITS]}",
        view=image.view, sex=image.sex, age_years=float("nan") if image.age_years is None else image.age_years,
        notes=image.notes if tags["PatientID"] else (*image.notes, "no patient told: counts as its own"),
    )
    keep = ("study_id", "patient_id", "image", "source", "image_id", "view", "sex", "age_years", "notes")
    return {"row": {key: value for key, value in asdict(row).items() if key in keep}, "why": "", "mend": ""}


def _tags(path: Path) -> dict[str, str]:
    """PatientID and StudyInstanceUID; "" where there are none (a PNG, say). The file was vetted before."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    wanted = ["PatientID", "StudyInstanceUID"]
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=wanted)
    except InvalidDicomError:
        return dict.fromkeys(wanted, "")
    return {name: str(header.get(name, "") or "").strip() for name in wanted}


def _hashed(text: str) -> str:
    return sha256_bytes(text.encode("utf-8"))[:NAME_DIGITS]


def _journalled(journal: Path | None) -> dict[str, dict[str, Any]]:
    if journal is None or not journal.is_file():
        return {}
    done = {}
    for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            said = {key: str(entry[key]) for key in ("mark", "why", "mend")}
            if isinstance(entry["row"], dict | None):
                done[str(entry["name"])] = {**said, "row": entry["row"]}
        except (ValueError, KeyError, TypeError):
            continue  # the line that was being written when the walk was cut off
    return done
