"""A plain folder of DICOM files, as an archive exports it: each radiograph becomes a row, the rest is named."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

from storyxai.data.patients import join_people
from storyxai.data.table import Skipped, StudyRow, StudyTable
from storyxai.errors import OutputError, ReadError, TableError
from storyxai.imaging.deidentify import burnt_in_doubt
from storyxai.imaging.read import dicom_header, read_image
from storyxai.progress import Progress
from storyxai.provenance import sha256_bytes

NAME_DIGITS = 16
KEPT = ("study_id", "patient_id", "image", "source", "image_id", "view", "sex", "age_years", "notes")


def read_dicom_folder(
    folder: Path, *, journal: Path | None = None, progress: Progress | None = None
) -> StudyTable:
    """One row per readable radiograph anywhere below `folder`, whatever the files are called.

    Every file is decoded once, under the limits of `read_image`; what is refused stands in `skipped` with its reason,
    and so do links into nothing or to other folders, pipes, indexes (DICOMDIR) and folders that do not open.
    Patient and study are hashes of PatientID and StudyInstanceUID: nothing that names a person enters the table (the
    path of the file does, and is the user's own). The hashes have no secret in them: whoever can guess an ID can find
    its rows, so the table is to be kept as carefully as the files. `notes` doubt burnt-in text unless the file rules it
    out. Without a PatientID a study counts as one patient (without
    a study too, each file does), and so do several PatientIDs of one study. Two files
    with the same bytes: the first by name is kept. No labels: a header states none that may be trusted.
    `journal` makes the walk resumable: a line of JSON per file, read back and continued when it is there; a file whose
    size or time of change differs is read again. Raises: TableError, OutputError.
    """
    if not folder.is_dir():
        raise TableError(str(folder), "is not a folder", mend="name the folder that holds the DICOM files")
    paths, skipped = _found(folder)
    done = _journalled(journal)
    rows: dict[str, StudyRow] = {}
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
    return StudyTable.from_rows(_one_person_a_study(rows.values()), root=folder, skipped=skipped)


def _one_person_a_study(rows: Iterable[StudyRow]) -> list[StudyRow]:
    """The rows with one patient a study: films of one study are of one person, whatever the ids say."""
    rows = list(rows)
    first_in: dict[str, str] = {}
    first = join_people((first_in.setdefault(row.study_id, row.patient_id), row.patient_id) for row in rows)
    told = "its study has several patient ids: they count as one person"
    joined = {person for patient, person in first.items() if patient != person}
    return [
        replace(row, patient_id=first[row.patient_id], notes=(*row.notes, told))
        if first[row.patient_id] in joined else row
        for row in rows
    ]


def _found(folder: Path) -> tuple[list[Path], list[Skipped]]:
    """The files below `folder`, sorted, and everything there that is none."""
    skipped = []

    def closed(error: OSError) -> None:
        why = f"is a folder that cannot be opened ({error.strerror})"
        skipped.append(Skipped(_name(Path(error.filename), folder), why, "check its permissions and import again"))

    paths = []
    for parent, folders, names in os.walk(folder, onerror=closed):
        linked = [name for name in folders if (Path(parent) / name).is_symlink()]
        skipped += [
            Skipped(_name(Path(parent) / name, folder), "is a link to another folder, which is not followed",
                    "import that folder, or put it here itself")
            for name in linked
        ]
        for path in (Path(parent) / name for name in names):
            if not _is_text(str(path.relative_to(folder))):
                skipped.append(Skipped(_name(path, folder), "has a name that is not UTF-8", "rename the file or its folder"))
            elif path.name == "DICOMDIR":
                skipped.append(Skipped(_name(path, folder), "is an index of files, no image", "nothing to do"))
            elif path.is_file():
                paths.append(path)
            elif path.is_symlink():
                skipped.append(Skipped(_name(path, folder), "is a link into nothing", "put the file there itself"))
            else:
                skipped.append(Skipped(_name(path, folder), "is not a regular file", "nothing to do"))
    return sorted(paths), sorted(skipped, key=lambda item: item.what)


def _name(path: Path, folder: Path) -> str:
    """The path below `folder`, in signs that any file can hold."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


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
        tags, doubt = _tags(path)
    except ReadError as error:
        return {"row": None, "why": error.why, "mend": error.mend}
    study = _hashed(tags["StudyInstanceUID"] or f"file {image.sha256}")
    patient = _hashed(tags["PatientID"] or (f"study {study}" if tags["StudyInstanceUID"] else f"file {image.sha256}"))
    row = StudyRow(
        f"dicom-{study}", f"dicom-{patient}", name, "dicom-folder", image_id=f"dicom-{image.sha256[:NAME_DIGITS]}",
        view=image.view, sex=image.sex, age_years=float("nan") if image.age_years is None else image.age_years,
        notes=(*map(str, image.notes), *doubt, *(() if tags["PatientID"] else ("no patient told: its study counts as one",))),
    )
    return {"row": {key: value for key, value in asdict(row).items() if key in KEPT}, "why": "", "mend": ""}


def _tags(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """PatientID and StudyInstanceUID ("" where there are none: a PNG, say), and a doubt about burnt-in text.

    The file was vetted before.
    """
    wanted = ["PatientID", "StudyInstanceUID"]
    header = dicom_header(path)
    if header is None:
        return dict.fromkeys(wanted, ""), ()
    doubt = burnt_in_doubt(header)
    return {name: str(header.get(name, "") or "").strip() for name in wanted}, (doubt,) if doubt else ()


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
            if _holds(entry["row"], said["why"]):
                done[str(entry["name"])] = {**said, "row": entry["row"]}
        except (ValueError, KeyError, TypeError):
            continue  # the line that was being written when the walk was cut off
    return done


def _holds(row: Any, why: str) -> bool:
    """Whether `row` can become a StudyRow, or a reason stands in its place."""
    if row is None:
        return bool(why)
    kinds = {"age_years": float | int, "notes": list}
    return isinstance(row, dict) and set(row) == set(KEPT) and all(isinstance(row[key], kinds.get(key, str)) for key in KEPT)
