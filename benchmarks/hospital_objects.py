"""Every object of many studies, read by others: python hospital_objects.py [STUDIES] [--data FOLDER] [--json FILE]

Half of the studies are phantoms (chests and skin lesions, with findings and without), half real images of the developer pack in
FOLDER (films of three sets, dermoscopy, its DICOM files). Every other one comes as a DICOM film, the rest as a picture without
a patient; every fourth is released by name; of every tenth the objects are also made without masks. Each study is told,
verified and exported in every form. After --minutes no further one is; those that are there are read on. Then
- dciodvfy (dicom3tools), dcmdump and dsrdump (dcmtk) read each object: lines that say "Error" or "E:" are counted;
- Orthanc stores each object (STOW-RS), and gives it back: its data set is compared byte by byte;
- each bundle is validated by fhir.resources.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "node"))

import msgspec
from fhir.resources.bundle import Bundle
from fhir.resources.R4B.bundle import Bundle as BundleR4
from node_films import filmed
from orthanc import PLUGIN, PROGRAM, free_port, orthanc
from pydicom import dcmread

from storyxai import __version__
from storyxai.errors import StoryxaiError
from storyxai.evidence.archive import read_archive
from storyxai.evidence.gather import GatherSettings
from storyxai.export.dicom import dicom_files, read_source
from storyxai.export.hospital import Export
from storyxai.export.printer import Printer
from storyxai.node.dicomweb import DicomWeb
from storyxai.node.intake import data_set_start
from storyxai.programs.auto import known_students, student_for
from storyxai.programs.export import Making, export_study
from storyxai.programs.release import release
from storyxai.programs.tell import TellOptions, tell_one

STUDENTS = known_students(())
MODULE = [sys.executable, "-m", "storyxai"]
CHECKS = {"dciodvfy": ["dciodvfy", "-new"], "dcmdump": ["dcmdump", "-q"], "dsrdump": ["dsrdump"]}
REAL = {"nih/images": 0.4, "covid/images": 0.2, "kermany/images": 0.1, "ph2/images": 0.2}
"""Which share of the real images comes from which folder; the rest are the DICOM files of the pack."""


class Figures(msgspec.Struct):
    """What came of it."""

    version: str = __version__
    studies: int = 0
    real: int = 0
    dermoscopy: int = 0
    with_source: int = 0
    released: int = 0
    without_masks: int = 0
    with_named_findings: int = 0
    not_told: dict[str, int] = {}
    objects: dict[str, int] = {}
    checked_by: dict[str, int] = {}
    errors: dict[str, int] = {}
    warnings: dict[str, int] = {}
    stored: int = 0
    returned_equal: int = 0
    bundles_valid: dict[str, int] = {}
    bundles_wrong: dict[str, int] = {}
    examples: list[str] = []
    seconds: float = 0.0


def main() -> int:
    """Run it and print the figures; 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", type=int, nargs="?", default=200)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--minutes", type=float, default=24 * 60.0)
    given = parser.parse_args()
    began, found = time.monotonic(), Figures()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        images = [*phantoms(home, given.studies // 2), *real_images(home, given.data, given.studies - given.studies // 2)]
        printer = Printer(home / "browser")
        for done, (number, image) in enumerate(_mixed(list(enumerate(images)))):
            if time.monotonic() - began > 60 * given.minutes:
                found.examples.append(f"stopped after {given.minutes:g} minutes, at {done} of {len(images)}")
                break
            told_and_exported(home, number, image, printer, found)
            print(f"\r{done + 1}/{len(images)}", end="", file=sys.stderr, flush=True)
        printer.close()
        for path in sorted(home.glob("objects/*/*.dcm")):
            read_by_others(path, found)
        stored_by_orthanc(home, found)
    found.seconds = round(time.monotonic() - began)
    text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
    print(text)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(text + "\n", encoding="utf-8")
    objects = sum(found.objects.values())
    return int(bool(found.errors or found.bundles_wrong or not objects == found.stored == found.returned_equal))


def _mixed(images: Sequence[tuple[int, Path]]) -> list[tuple[int, Path]]:
    """Phantoms and real images by turns, so that a run that is stopped early saw both."""
    half = len(images) // 2
    pairs = zip(images[:half], images[half:], strict=False)
    return [*(one for pair in pairs for one in pair), *images[2 * half :]]


def phantoms(home: Path, count: int) -> list[Path]:
    """Chests, and one skin lesion for three chests; every other chest as a DICOM film."""
    skin = max(1, count // 4)
    for kind, many in (("chest_radiograph", max(1, count - skin)), ("dermoscopy", skin)):
        subprocess.run([*MODULE, "data", "phantom", "--modality", kind, "--count", str(many), "--seed", "11", "--size", "384",
                        "--out", home / kind], check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    chests = sorted((home / "chest_radiograph" / "images").iterdir())
    return [*films(home, chests, 0), *sorted((home / "dermoscopy" / "images").iterdir())][:count]


def real_images(home: Path, data: Path, count: int) -> list[Path]:
    """Images of the pack, spread over each folder, every other film as DICOM; then its DICOM files."""
    chosen: list[Path] = []
    for name, share in REAL.items():
        here = sorted(path for path in (data / name).rglob("*") if path.suffix in (".jpg", ".jpeg", ".png"))
        many = max(1, round(share * count))
        taken = here[:: max(1, len(here) // many)][:many]
        chosen += taken if name.startswith("ph2") else films(home, taken, 1000 * (len(chosen) + 1))
    stored = [*(data / "dicom").glob("*.dcm"), *sorted((data.parent / "cases").glob("*/*.dcm"))]
    return [*chosen, *stored][:count]


def films(home: Path, pictures: Sequence[Path], first: int) -> list[Path]:
    """The pictures, every other one made a DICOM film of a study of its own."""
    (home / "films").mkdir(exist_ok=True)
    made = []
    for number, path in enumerate(pictures, start=first + 1):
        made.append(path if number % 2 else home / "films" / f"film-{number}.dcm")
        if made[-1] != path:
            made[-1].write_bytes(filmed(path, number))
    return made


def told_and_exported(home: Path, number: int, image: Path, printer: Printer, found: Figures) -> None:
    """Tell, release and export one image into folders of its number."""
    try:
        model = student_for(image, students=STUDENTS, settings=GatherSettings())
        told = tell_one(model, image, home / "told" / str(number), TellOptions())
    except StoryxaiError as error:
        _count(found.not_told, type(error).__name__)
        return
    evidence = read_archive(told.folder)
    source = image if image.suffix == ".dcm" else None
    if number % 4 == 1:
        release(told.folder, by="Ada^Released", time="2026-11-30T12:00:00Z")
        found.released += 1
    made = home / "exported" / str(number)
    export_study(told.folder, made, to="all", source=source, making=Making(pdf=printer.pdf))
    (home / "objects").mkdir(exist_ok=True)
    (made / "dicom").rename(home / "objects" / str(number))
    for form, kind in (("fhir", Bundle), ("fhir-r4", BundleR4)):
        _validated((made / form / "bundle.json").read_bytes(), form, kind, found)
    if number % 10 == 0:
        bare = replace(evidence, prediction=replace(evidence.prediction, masks={}))
        header = None if source is None else read_source(source.read_bytes(), source.name)
        folder = home / "objects" / f"{number}-without-masks"
        folder.mkdir(parents=True)
        for name, data in dicom_files(Export(bare, {}, header)).items():
            (folder / name).write_bytes(data)
        found.without_masks += 1
    found.studies += 1
    found.real += home not in image.parents or _is_real(image, home)
    found.dermoscopy += evidence.image.pixels.ndim == 3
    found.with_source += source is not None
    found.with_named_findings += any(one["tier"] in ("likely", "possible") for one in told.findings.values())


def _is_real(image: Path, home: Path) -> bool:
    """Whether an image that was made here was made of a real one."""
    return image.parent == home / "films" and int(re.sub(r"\D", "", image.stem)) >= 1000


def _validated(data: bytes, form: str, kind: type, found: Figures) -> None:
    try:
        kind.model_validate_json(data)  # type: ignore[attr-defined]
    except ValueError as error:
        _count(found.bundles_wrong, form)
        found.examples.append(f"{form}: {str(error)[:300]}")
    else:
        _count(found.bundles_valid, form)


def read_by_others(path: Path, found: Figures) -> None:
    """What the three programs say of one object."""
    modality = str(dcmread(path, stop_before_pixels=True).SOPClassUID.name)
    _count(found.objects, modality)
    for name, command in CHECKS.items():
        if shutil.which(name) is None or (name == "dsrdump" and "SR" not in modality):
            continue
        done = subprocess.run([*command, str(path)], capture_output=True, timeout=120, check=False)
        said = (done.stderr + (done.stdout if name == "dciodvfy" else b"")).decode(errors="replace")
        _count(found.checked_by, name)
        errors = [line for line in said.splitlines() if line.startswith(("Error", "E:", "F:"))]
        for line in errors:
            _count(found.errors, f"{name}: {line[:160]}")
        for line in said.splitlines():
            if line.startswith("Warning"):
                _count(found.warnings, f"{name}: {_without_place(line)}")
        if errors and len(found.examples) < 20:
            found.examples.append(f"{path.parent.name}/{path.name}: {errors[0][:200]}")


def _without_place(line: str) -> str:
    """The complaint and the element that it is about, without where in the object that stands."""
    place, end, said = line.partition("> - ")
    return f"{place.rpartition('/')[2]}: {said}"[:160] if end else line[:160]


def stored_by_orthanc(home: Path, found: Figures) -> None:
    """Send every object to Orthanc and compare what it gives back."""
    if PROGRAM is None or PLUGIN is None:
        found.examples.append("Orthanc or its DICOMweb plug-in is absent: nothing was stored")
        return
    paths = sorted(home.glob("objects/*/*.dcm"))
    with orthanc(home / "orthanc", node_port=free_port()) as archive:
        service = DicomWeb(archive.web)
        for start in range(0, len(paths), 20):
            service.store(paths[start : start + 20])
        for path in paths:
            own = path.read_bytes()
            uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
            (known,) = archive.ask("/tools/find", {"Level": "Instance", "Query": {"SOPInstanceUID": uid}})
            theirs = archive.ask(f"/instances/{known}/file")
            found.stored += 1
            found.returned_equal += theirs[data_set_start(theirs):] == own[data_set_start(own):]


def _count(counts: dict[str, int], what: str) -> None:
    counts[what] = counts.get(what, 0) + 1


if __name__ == "__main__":
    sys.exit(main())
