"""One call from a published data set to a study table on disk: read, split by patient, nothing lost silently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from storyxai.data.opening import unreadable
from storyxai.data.patients import suspect_patients
from storyxai.data.skipped import skipped_lines, write_skipped
from storyxai.data.sources import Source, may_be_passed_on, reader_of, source_named
from storyxai.data.splits import DuplicatePair, check_no_leak, near_duplicates, split_by_patient
from storyxai.data.table import Skipped, StudyTable
from storyxai.errors import InputError, StoryxaiError, TableError
from storyxai.modalities.contract import Modality
from storyxai.progress import Progress

__all__ = ["ImportOptions", "ImportReport", "import_source", "read_source"]


@dataclass(frozen=True)
class ImportReport:
    """What an import did: counts, and everything that was left out with the reason.

    `positives` counts images by finding; `licences` are those of the rows, and `weights_may_be_shipped` says whether they let
    weights trained on these be passed on (None: nobody stated it). `skipped_file` is the CSV beside the table that names all
    that was left out.
    """

    source: str
    out: Path
    images: int
    reports_without_image: int
    patients: int
    splits: Mapping[str, int]
    positives: Mapping[str, int]
    licences: tuple[str, ...]
    weights_may_be_shipped: bool | None
    near_duplicates: int
    left_lists_aside: bool
    suspects: Mapping[str, str]
    skipped: tuple[Skipped, ...]
    skipped_file: Path | None

    def lines(self) -> tuple[str, ...]:
        """The report in a few lines of text."""
        parts = ", ".join(f"{name} {count}" for name, count in self.splits.items())
        found = ", ".join(f"{name} {count}" for name, count in self.positives.items() if count)
        lines = [f"{self.out}: {self.images} images of {self.patients} patients from {self.source} ({parts})"]
        if self.reports_without_image:
            lines.append(f"reports without an image: {self.reports_without_image}")
        lines.append(f"stated as present: {found or 'nothing'}")
        if self.licences:
            may = {None: "", True: "; weights trained on it may be passed on", False: "; weights trained on it stay with you"}
            lines.append(f"licence: {', '.join(self.licences)}{may[self.weights_may_be_shipped]}")
        if self.left_lists_aside:
            lines.append("the published parts were left aside: this split is none that others report on")
        lines += [f"warning: patient {patient} {why}" for patient, why in list(self.suspects.items())[:5]]
        if self.near_duplicates:
            lines.append(f"pairs of nearly the same picture, kept in one part: {self.near_duplicates}")
        if self.skipped_file is not None:
            lines += skipped_lines(self.skipped, named_in=str(self.skipped_file))
        return tuple(lines)


def read_source(
    name: str, folder: Path, *, journal: Path | None = None, progress: Progress | None = None
) -> StudyTable:
    """The study table of a published set in `folder`, not yet split. `journal` resumes a walk over a dicom-folder.

    Raises: UnknownNameError naming the nearest source; TableError when the folder is not such a set.
    """
    table = _read(source_named(name), folder, journal, progress)
    _refuse_empty(table, name, folder)
    return table


def _read(
    source: Source, folder: Path, journal: Path | None, progress: Progress | None, modality: Modality | None = None
) -> StudyTable:
    reader = reader_of(source)
    if modality is not None and source.key == "manifest":
        reader = partial(reader, modality=modality)
    table = reader(folder, journal=journal, progress=progress) if source.key == "dicom-folder" else reader(folder)
    if not isinstance(table, StudyTable):
        why = f"gives {type(table).__name__} where a StudyTable is wanted"
        raise InputError(f"the reader of source '{source.key}'", why, mend="mend or remove the package that brings it")
    if modality is not None and table.schema.modality != modality.key:
        why = f"brings findings of its own, not those of the modality '{modality.key}'"
        raise InputError(f"source '{source.key}'", why, mend="write a table of your own and import it as 'manifest'")
    return table


def _refuse_empty(table: StudyTable, name: str, folder: Path, listed: Path | None = None) -> None:
    """Raises TableError saying why nothing of the set became a row; `listed` is where each thing is named."""
    if len(table):
        return
    if not table.skipped:
        mend = "give a set that holds an image or a report"
        raise TableError(str(folder), f"holds nothing that can be read as '{name}'", mend=mend)
    why, count = Counter(item.why for item in table.skipped).most_common(1)[0]
    noun = "files" if name == "dicom-folder" else "entries"
    place = f"; each is named in {listed}" if listed else ""
    raise TableError(
        str(folder), f"none of its {len(table.skipped)} {noun} became a row ({count} x {why}{place})",
        mend=table.skipped[0].mend or "put the images where the table says, or name the folder that holds both",
    )


@dataclass(frozen=True)
class ImportOptions:
    """How a set becomes a table: the seed of its split, and the shares of train, val and test.

    With `compare_pictures`, patients who share a near-duplicate image go to one part; every file is opened for it, and
    the row of one that cannot be read is left out by name. With `own_split` the publisher's lists do not
    decide: the way on where they tear a patient or a picture apart. `modality` (None: the default one) says which findings
    a manifest has columns for.
    """

    seed: int = 0
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    compare_pictures: bool = True
    own_split: bool = False
    modality: Modality | None = None


def import_source(
    name: str, folder: Path, out: Path, options: ImportOptions = ImportOptions(), *, progress: Progress | None = None
) -> ImportReport:
    """What became of the set in `folder`: read as source `name`, split by patient and written to `out` (Parquet).

    Raises: UnknownNameError, TableError, OutputError; nothing is written when reading or splitting fails, but where
    every single thing was left out the list of them is.
    """
    # Paths are kept absolute: the table may be moved, the images stay where they are.
    journal = out.with_name(f"{out.name}.journal")
    source = source_named(name)
    folder = Path(folder).resolve()
    table = _read(source, folder, journal, progress, options.modality)
    if not len(table):
        journal.unlink(missing_ok=True)
        _refuse_empty(table, name, folder, write_skipped(table.skipped, _skipped_file(out)))
    pairs, table = _compared(table, progress) if options.compare_pictures else ((), table)
    if not len(table):
        _refuse_empty(table, name, folder, write_skipped(table.skipped, _skipped_file(out)))
    listed = bool((table.frame["official_split"] != "").any())
    table = split_by_patient(
        table, fractions=options.fractions, seed=options.seed, look_alikes=pairs, honour_lists=not options.own_split
    )
    check_no_leak(table, look_alikes=pairs)
    table.write(out)
    journal.unlink(missing_ok=True)
    frame = table.frame
    with_image = frame["image"] != ""
    return ImportReport(
        source=name, out=out, images=int(with_image.sum()), reports_without_image=int((~with_image).sum()),
        patients=int(frame["patient_id"].nunique()),
        splits={part: int((frame["split"] == part).sum()) for part in ("train", "val", "test")},
        positives={finding: int((frame[f"label_{finding}"] >= 0.5).sum()) for finding in table.schema.findings},
        licences=tuple(sorted(set(frame["license"]) - {""})),
        weights_may_be_shipped=may_be_passed_on(source, frame["license"]),
        near_duplicates=len(pairs), left_lists_aside=options.own_split and listed, suspects=suspect_patients(table),
        skipped=table.skipped,
        skipped_file=write_skipped(table.skipped, _skipped_file(out)),
    )


def _compared(table: StudyTable, progress: Progress | None) -> tuple[tuple[DuplicatePair, ...], StudyTable]:
    """Near-duplicate images, and the table without the images that cannot be read."""
    broken: dict[str, Skipped] = {}

    def note(image: str, error: StoryxaiError) -> None:
        broken[image] = unreadable(image, error)

    pairs = near_duplicates(table, progress=progress, unreadable=note)
    if not broken:
        return pairs, table
    kept = table.select(rows=~table.frame["image"].isin(list(broken)).to_numpy())
    return pairs, replace(kept, skipped=(*table.skipped, *broken.values()))


def _skipped_file(out: Path) -> Path:
    return out.with_name(f"{out.stem}.skipped.csv")
