"""Looking a study table over before anyone learns from it: a page with counts, pictures and everything that is wrong.

One pass over the files; of each image a few numbers are kept (about 1 kB), never its pixels.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storyxai.data.masks import read_grey_mask, runs_size
from storyxai.data.patients import suspect_patients
from storyxai.data.reading import picture_size
from storyxai.data.repeats import compare_repeats, say_repeats
from storyxai.data.splits import DuplicatePair, check_no_leak, grey_of, near_duplicates, thumbnail
from storyxai.data.table import StudyTable
from storyxai.errors import OutputError, StoryxaiError, TableError
from storyxai.files import write_whole
from storyxai.progress import Progress
from storyxai.provenance import sha256_file

SIDE = 16
FLAT = 0.02  # standard deviation of a 16 x 16 thumbnail, as a share of the full range
FEWEST_FOR_COMPARISON = 20
UNLIKE = -0.2  # correlation with the mean picture; real frontal films of four sets lie above 0
FAR_SPREADS = 6.0  # of mean brightness, in robust standard deviations
SMALLEST_SIDE = 128
SAMPLE = 12


@dataclass(frozen=True)
class Problem:
    """Something that is wrong or doubtful: `kind` groups it, `what` names the row or file, `why` says it in words."""

    kind: str
    what: str
    why: str


@dataclass(frozen=True)
class CheckReport:
    """What a look over a table found: all problems, and the same in a few lines of text.

    `counts` says how many problems of each kind there are, `twice` how far the references of images that stand twice
    agree; `sampled` are the rows to show as pictures.
    """

    images: int
    problems: tuple[Problem, ...]
    lines: tuple[str, ...]
    counts: Mapping[str, str]
    twice: tuple[str, ...]
    sampled: tuple[Mapping[str, object], ...]


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is kept of the readable images. Shapes: thumbnails uint8 [N, 16, 16]; the rest length N."""

    ids: list[str]
    sha256: list[str]
    thumbnails: NDArray[np.uint8]


def check_table(table: StudyTable, out: Path, *, progress: Progress | None = None) -> CheckReport:
    """What is wrong with `table`, also written to the folder `out` as problems.csv.

    Missing and unreadable files, masks of another size, boxes outside their image, exact and near duplicates, patients
    or pictures in two parts of the split, images unlike the others, rows without a label; and how far the references of
    films that stand twice agree. A dozen images, chosen by a hash of their ids with marked ones first, are to be shown
    with their masks and boxes.
    Raises: OutputError when `out` cannot be written.
    """
    problems: list[Problem] = []
    seen = _look_at_files(table, problems, progress)
    copies = _pairs_of_copies(seen)
    problems += [Problem("exact duplicate", f"{one} and {other}", "have the same bytes") for one, other in copies]
    # Of files with the same bytes only the first is compared: a thousand copies would make half a million pairs.
    again = {other for _, other in copies}
    pairs = near_duplicates(table.select(rows=(~table.frame["image_id"].isin(again)).to_numpy()), progress=progress)
    problems += [
        Problem("near duplicate", f"{pair.first} and {pair.second}",
                f"nearly the same picture ({pair.bits} of 256 hash bits differ)")
        for pair in pairs
    ]
    try:
        check_no_leak(table, look_alikes=_across_parts(table, copies, pairs))
    except TableError as error:
        problems.append(Problem("leak", error.what, error.why))
    _find_odd_images(seen, problems)
    problems += [Problem("patient", patient, why) for patient, why in suspect_patients(table).items()]
    frame = table.frame
    stated = frame[[name for name in frame.columns if name.startswith("label_")]].notna().any(axis=1)
    silent = int((~stated & (frame["uncertain"] == "")).sum())
    if silent:
        problems.append(Problem("no label", f"{silent} rows", "state no finding at all; they serve masks or reports only"))
    counts = {kind: str(count) for kind, count in sorted(Counter(problem.kind for problem in problems).items())}
    if silent:
        counts["no label"] = f"{silent} rows"
    images = int((frame["image"] != "").sum())
    noun = "problem" if len(problems) == 1 else "problems"
    twice = say_repeats(compare_repeats(table, [*copies, *((pair.first, pair.second) for pair in pairs)]))
    lines = (f"{extent(table)}, {len(problems)} {noun}", *(f"  {kind}: {count}" for kind, count in counts.items()),
             *(f"  {line}" for line in twice))
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_csv(out / "problems.csv", problems)
    except OSError as error:
        why = f"cannot be written ({error.strerror or error})"
        raise OutputError(str(out), why, mend="choose a folder of yours with room") from error
    broken = {problem.what for problem in problems if problem.kind in ("missing", "unreadable", "marks")}
    return CheckReport(images, tuple(problems), lines, counts, tuple(twice), tuple(_sampled(table, broken)))


def extent(table: StudyTable) -> str:
    """How many images and reports of how many patients, in words."""
    frame = table.frame
    images = int((frame["image"] != "").sum())
    reports, patients = len(frame) - images, frame["patient_id"].nunique()
    if not images:
        return f"{reports} reports without an image, of {patients} patients"
    with_image = frame["patient_id"][frame["image"] != ""].nunique()
    return f"{images} images of {with_image} patients" + (f" and {reports} reports without an image" if reports else "")


def _look_at_files(table: StudyTable, problems: list[Problem], progress: Progress | None) -> _Seen:
    ids, digests, thumbnails = [], [], []
    frame = table.frame[table.frame["image"] != ""]
    columns = ["image_id", "study_id", "image", "boxes", "masks"]
    rows = zip(*(frame[name] for name in columns), strict=True)
    for done, cells in enumerate(rows, start=1):
        record = dict(zip(columns, cells, strict=True))
        path = table.image_path(record)
        try:
            if not path.is_file():
                raise FileNotFoundError
            grey = grey_of(table, record)
            digests.append(sha256_file(path))
            small = thumbnail(grey, SIDE, SIDE)
            top = 65535.0 if grey.max() > 255 else 255.0 if grey.max() > 1 else 1.0
            thumbnails.append((small * (255 / top)).clip(0, 255).astype(np.uint8))
            ids.append(str(record["image_id"]))
            height, width = grey.shape  # of a picture file it may have been read smaller
            _check_marks(table, record, picture_size(path) or (width, height), problems)
        except FileNotFoundError:
            problems.append(Problem("missing", str(record["image_id"]), f"{record['image']} is not there"))
        except OSError as error:
            why = f"{record['image']} cannot be opened ({error.strerror})"
            problems.append(Problem("unreadable", str(record["image_id"]), why))
        except StoryxaiError as error:
            problems.append(Problem("unreadable", str(record["image_id"]), str(error)))
        if progress is not None:
            progress("files", done, len(frame))
    return _Seen(ids, digests, np.array(thumbnails, dtype=np.uint8).reshape(-1, SIDE, SIDE))


def _check_marks(table: StudyTable, record: dict[str, object], size: tuple[int, int], problems: list[Problem]) -> None:
    """Masks of another size than the image, boxes that leave it, and cells that hold neither."""
    try:
        _compare_marks(table, record, size, problems)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        why = f"its boxes or masks are not in the form of a study table ({type(error).__name__}: {error})"
        problems.append(Problem("marks", str(record["image_id"]), why))


def _compare_marks(table: StudyTable, record: dict[str, object], size: tuple[int, int], problems: list[Problem]) -> None:
    width, height = size
    if min(size) < SMALLEST_SIDE:
        problems.append(Problem("small", str(record["image_id"]), f"is {width} x {height} pixels"))
    for name, cell in {f"mask {name}": str(cell) for name, cell in json.loads(str(record["masks"])).items()}.items():
        try:
            given = runs_size(cell)[::-1] if cell.startswith("runs:") else picture_size(table.root / cell)
            if given is None:
                given = read_grey_mask(cell, table.root).shape[::-1]
        except StoryxaiError as error:
            problems.append(Problem("mask", str(record["image_id"]), str(error)))
            continue
        if given != size:
            # Runs come in the frame of the published image, which may have been made smaller since: then the shape counts.
            same_shape = cell.startswith("runs:") and abs(given[0] * height - given[1] * width) <= max(*given, *size)
            if not same_shape:
                why = f"{name} is {given[0]} x {given[1]}, the image {width} x {height}"
                problems.append(Problem("mask", str(record["image_id"]), why))
    frames = {(note["frame_width"], note["frame_height"]) for note in json.loads(str(record["boxes"])) if note["frame_width"]}
    for across, down in sorted(frames):
        if abs(across * height - down * width) > max(across, down, *size):
            why = f"its boxes are in a frame of {across:g} x {down:g}, of another shape than the image ({width} x {height})"
            problems.append(Problem("box", str(record["image_id"]), why))
    for box in table.boxes_of(record, height=height, width=width):
        if box.x < -1 or box.y < -1 or box.x + box.width > width + 1 or box.y + box.height > height + 1:
            why = f"a box of {box.finding} leaves the image"
            problems.append(Problem("box", str(record["image_id"]), why))


def _pairs_of_copies(seen: _Seen) -> list[tuple[str, str]]:
    by_digest: dict[str, list[str]] = defaultdict(list)
    for image_id, digest in zip(seen.ids, seen.sha256, strict=True):
        by_digest[digest].append(image_id)
    return [(ids[0], other) for ids in by_digest.values() for other in ids[1:]]


def _across_parts(
    table: StudyTable, copies: Sequence[tuple[str, str]], pairs: Sequence[DuplicatePair]
) -> list[DuplicatePair]:
    """The pairs that a leak can hide in: copies with their first, and look-alikes with each part their copies stand in."""
    part_of = dict(zip(table.frame["image_id"], table.frame["split"], strict=True))
    standing: dict[str, dict[str, str]] = defaultdict(dict)  # first of its copies -> part -> one copy there
    for first, other in copies:
        standing[first].setdefault(part_of[first], first)
        standing[first].setdefault(part_of[other], other)
    found = [DuplicatePair(first, other, 0, 1.0) for first, other in copies]
    for pair in pairs:
        ones = standing.get(pair.first, {"": pair.first}).values()
        others = standing.get(pair.second, {"": pair.second}).values()
        found += [replace(pair, first=one, second=other) for one in ones for other in others]
    return found


def _find_odd_images(seen: _Seen, problems: list[Problem]) -> None:
    """Flat images; and, given enough to compare with, images whose brightness or layout is unlike the others'."""
    if not seen.ids:
        return
    values = seen.thumbnails.reshape(len(seen.ids), -1).astype(np.float64) / 255
    means, spreads = values.mean(axis=1), values.std(axis=1)
    for image_id, spread in zip(seen.ids, spreads, strict=True):
        if spread < FLAT:
            problems.append(Problem("intensity", image_id, "is blank or nearly so"))
    if len(seen.ids) < FEWEST_FOR_COMPARISON:
        return
    middle = float(np.median(means))
    robust = max(1.4826 * float(np.median(np.abs(means - middle))), 0.01)
    shapes = (values - means[:, None]) / np.maximum(spreads, FLAT)[:, None]
    typical = np.median(shapes, axis=0)
    typical = (typical - typical.mean()) / max(float(typical.std()), 1e-6)
    alike = (shapes * typical).mean(axis=1)
    for image_id, mean, likeness, spread in zip(seen.ids, means, alike, spreads, strict=True):
        if abs(mean - middle) > FAR_SPREADS * robust:
            side = "brighter" if mean > middle else "darker"
            why = f"is far {side} than the others (mean {mean:.2f}, median {middle:.2f})"
            problems.append(Problem("intensity", image_id, why))
        if likeness < UNLIKE and spread >= FLAT:
            why = f"looks unlike the others (correlation {likeness:.2f} with the typical one): inverted, turned, no such image?"
            problems.append(Problem("intensity", image_id, why))


def _sampled(table: StudyTable, broken: set[str]) -> list[dict[str, object]]:
    """Rows to show: a third with boxes, a third with masks of structures, a third with other masks, filled up with any."""
    frame = table.frame
    usable = (frame["image"] != "") & ~frame["image_id"].isin(broken)
    order = sorted(
        (int(row) for row in np.flatnonzero(usable.to_numpy())),
        key=lambda row: hashlib.sha256(f"0|{frame['image_id'].iloc[row]}".encode()).digest(),
    )
    drawn = [_names_drawn(cell) for cell in frame["masks"]]
    known = set(table.schema.drawn)
    marked = [
        (frame["boxes"] != "[]").to_numpy(), np.array([bool(names & known) for names in drawn], dtype=np.bool_),
        np.array([bool(names - known) for names in drawn], dtype=np.bool_),
    ]
    chosen: list[int] = []
    for flags in marked:
        chosen += [row for row in order if flags[row] and row not in chosen][: SAMPLE // len(marked)]
    chosen += [row for row in order if row not in set(chosen)][: max(0, SAMPLE - len(chosen))]
    records: Sequence[dict[Any, Any]] = frame.iloc[chosen].to_dict("records")
    return [{str(key): value for key, value in record.items()} for record in records]


def _names_drawn(cell: str) -> set[str]:
    """What a row's masks are of; nothing where the cell is damaged, which stands among the problems."""
    try:
        return set(json.loads(cell))
    except (ValueError, TypeError):
        return set()


def _write_csv(path: Path, problems: Sequence[Problem]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("kind", "what", "why"))
    writer.writerows((problem.kind, problem.what, problem.why) for problem in problems)
    write_whole(text.getvalue().encode(), path)
