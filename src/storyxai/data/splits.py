"""Who is learned from and who is tested on: whole patients, rare findings on both sides, no image on two sides."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storyxai.data.patients import join_people
from storyxai.data.table import StudyTable
from storyxai.errors import StoryxaiError, TableError
from storyxai.imaging.read import read_image
from storyxai.progress import Progress

PARTS = ("train", "test", "val")  # the order of dealing: of two patients one reaches the test part
HASH_SIDE = 16  # 256 bits: images of one kind share most of an 8 x 8 hash
NEAR_BITS = 12
NEAR_CORRELATION = 0.99
BLOCK = 2048


def split_by_patient(
    table: StudyTable, *, fractions: tuple[float, float, float] = (0.7, 0.1, 0.2), seed: int = 0,
    look_alikes: Sequence[DuplicatePair] = (), honour_lists: bool = True,
) -> StudyTable:
    """`table` with its split column filled: whole patients, fractions of (train, val, test) in every stratum.

    A patient's stratum is its origins and the rarest finding it ever has. Within a stratum
    patients stand in the order of a hash of seed and patient_id, and the fractions are cut off that order: a patient who
    joins later moves only patients at a cut. Publishers' lists (official_split) are kept; where they name no "val", it is cut
    from their train part alone, and patients they do not name are split as all others. Without `honour_lists` they are
    left aside.
    Patients of `look_alikes` (near-duplicate images), and of one study, are dealt out as one.
    Raises: TableError for fractions that are no fractions, or an official list with a patient on two sides.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise TableError(f"fractions {fractions}", "do not add up to 1", mend="give train, val, test as 0.7, 0.1, 0.2")
    train, val, _ = fractions
    person = _persons(table, look_alikes)
    official = _official_parts(table, person) if honour_lists else {}
    strata = _strata(table, table.schema.findings, person)
    named_val = "val" in official.values()
    part_of: dict[str, str] = {}
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for patient, stratum in strata.items():
        listed = official.get(patient, "")
        if listed in ("val", "test") or (listed == "train" and named_val):
            part_of[patient] = listed
        else:
            groups[listed, stratum].append(patient)
    for (listed, _), patients in groups.items():
        inner = (train / (train + val), val / (train + val), 0.0) if listed and train + val > 0 else fractions
        part_of.update(_dealt(patients, inner, seed))
    return table.with_column("split", [part_of[person[patient]] for patient in table.frame["patient_id"]])


def check_no_leak(table: StudyTable, *, look_alikes: Sequence[DuplicatePair] = ()) -> None:
    """Raises TableError when a patient, a study, a file or a pair of near-duplicates stands in two parts of the split."""
    part_of = dict(zip(table.frame["image_id"], table.frame["split"], strict=True))
    for pair in look_alikes:
        sides = sorted({part_of.get(pair.first, ""), part_of.get(pair.second, "")} - {""})
        if len(sides) > 1:
            why = f"are nearly the same picture, in {' and '.join(sides)}"
            mend = "give them one patient_id or remove one, then split again"
            raise TableError(f"{pair.first} and {pair.second}", why, mend=mend)
    rows = table.frame[table.frame["split"] != ""]
    for column, noun in (("patient_id", "patient"), ("study_id", "study"), ("image", "file")):
        named = rows[rows[column] != ""]
        parts = named.groupby(column)["split"].nunique()
        both = sorted(parts[parts > 1].index)
        if both:
            where = sorted(set(named["split"][named[column] == both[0]]))
            raise TableError(
                f"{noun} {both[0]}", f"stands in {' and '.join(where)} ({len(both)} such in all)",
                mend="split by patient (`split_by_patient`)",
            )


@dataclass(frozen=True)
class DuplicatePair:
    """Two rows whose pictures are nearly the same: image_ids, differing hash bits of 256, correlation of thumbnails."""

    first: str
    second: str
    bits: int
    correlation: float


def perceptual_hash(pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which neighbour is brighter in a 16 x 16 thumbnail: 256 bits, the same under any rise of gain or offset.

    Shapes: float [H, W] to bool [256].
    """
    small = thumbnail(pixels, HASH_SIDE, HASH_SIDE + 1)
    return np.asarray(small[:, 1:] > small[:, :-1]).ravel()


def near_duplicates(
    table: StudyTable, *, progress: Progress | None = None, unreadable: Callable[[str, StoryxaiError], None] | None = None
) -> tuple[DuplicatePair, ...]:
    """Pairs of rows whose pictures differ in at most `NEAR_BITS` hash bits and correlate by `NEAR_CORRELATION`.

    Every pair is compared, in blocks: memory is 1 kB a row. Files that cannot be read are passed over, and told
    to `unreadable` by their place in the table.
    """
    hashes, records = _hashes(table, progress, unreadable)
    found = []
    for left, right in _close_pairs(hashes, NEAR_BITS):
        one, other = records[left], records[right]
        alike = _correlation(thumbnail(grey_of(table, one), 64, 64), thumbnail(grey_of(table, other), 64, 64))
        if alike >= NEAR_CORRELATION:
            differing = int((hashes[left] != hashes[right]).sum())
            found.append(DuplicatePair(str(one["image_id"]), str(other["image_id"]), differing, round(alike, 6)))
    return tuple(sorted(found, key=lambda pair: (pair.first, pair.second)))


def _persons(table: StudyTable, look_alikes: Sequence[DuplicatePair]) -> dict[str, str]:
    """Each patient -> the first of all it is tied to, by near-duplicate images or by one study under two ids."""
    frame = table.frame
    patient_of = dict(zip(frame["image_id"], frame["patient_id"], strict=True))
    first_in: dict[str, str] = {}
    ties = [(first_in.setdefault(study, patient), patient)
            for study, patient in zip(frame["study_id"], frame["patient_id"], strict=True)]
    return join_people([*ties, *((patient_of[pair.first], patient_of[pair.second]) for pair in look_alikes)])


def _official_parts(table: StudyTable, person: dict[str, str]) -> dict[str, str]:
    rows = table.frame[table.frame["official_split"] != ""]
    parts: dict[str, tuple[str, str]] = {}
    for patient, part in zip(rows["patient_id"], rows["official_split"], strict=True):
        first, kept = parts.setdefault(person[patient], (patient, part))
        if kept != part:
            mend = "make a split of your own (--own-split), or mend the lists"
            if first == patient:
                raise TableError(f"patient '{patient}'", f"is in the publisher's {kept} and {part} lists", mend=mend)
            why = f"share nearly the same picture but are in the publisher's {kept} and {part} lists"
            raise TableError(f"patients '{first}' and '{patient}'", why, mend=mend)
    return {one: part for one, (_, part) in parts.items()}


def _strata(table: StudyTable, stratify: Sequence[str], person: dict[str, str]) -> dict[str, str]:
    """Each person's origins and rarest finding, as one text."""
    frame = table.frame
    origins: dict[str, set[str]] = defaultdict(set)
    for patient, source, origin in zip(frame["patient_id"], frame["source"], frame["origin"], strict=True):
        origins[person[patient]].add(f"{source}/{origin}")
    patients_with = {
        name: {person[patient] for patient in frame["patient_id"][frame[f"label_{name}"] >= 0.5]} for name in stratify
    }
    rarest_first = sorted(stratify, key=lambda name: (len(patients_with[name]), name))
    strata = {}
    for patient in sorted(origins):
        rarest = next((name for name in rarest_first if patient in patients_with[name]), "")
        strata[patient] = f"{'+'.join(sorted(origins[patient]))}|{rarest}"
    return strata


def _dealt(patients: Sequence[str], fractions: tuple[float, float, float], seed: int) -> dict[str, str]:
    ordered = sorted(patients, key=lambda patient: hashlib.sha256(f"{seed}|{patient}".encode()).digest())
    share = dict(zip(("train", "val", "test"), fractions, strict=True))
    dealt: dict[str, str] = {}
    upto, before = 0.0, 0
    for part in PARTS:
        upto += share[part]
        cut = min(len(ordered), int(np.floor(upto * len(ordered) + 0.5 + 1e-9)))
        dealt.update(dict.fromkeys(ordered[before:cut], part))
        before = cut
    return dealt


def _hashes(
    table: StudyTable, progress: Progress | None,
    unreadable: Callable[[str, StoryxaiError], None] | None,
) -> tuple[NDArray[np.bool_], list[dict[str, str]]]:
    frame = table.frame[table.frame["image"] != ""]
    hashes, records = [], []
    for done, (image_id, image) in enumerate(zip(frame["image_id"], frame["image"], strict=True), start=1):
        record = {"image_id": image_id, "study_id": image_id, "image": image}
        try:
            hashes.append(perceptual_hash(grey_of(table, record)))
        except StoryxaiError as error:
            if unreadable is not None:
                unreadable(str(image), error)
            continue
        finally:
            if progress is not None:
                progress("hashes", done, len(frame))
        records.append(record)
    return np.array(hashes, dtype=np.bool_).reshape(-1, HASH_SIDE * HASH_SIDE), records


def _close_pairs(hashes: NDArray[np.bool_], bits: int) -> Iterator[tuple[int, int]]:
    """Index pairs whose hashes differ in at most `bits`: with bits as -1 and 1 the product counts agreement."""
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    least = hashes.shape[1] - 2 * bits
    for top in range(0, len(signs), BLOCK):
        for left in range(top, len(signs), BLOCK):
            agree = signs[top : top + BLOCK] @ signs[left : left + BLOCK].T
            rows, columns = np.nonzero(agree >= least)
            for row, column in zip(rows + top, columns + left, strict=True):
                if row < column:
                    yield int(row), int(column)


def grey_of(table: StudyTable, record: dict[str, str]) -> NDArray[np.float32]:
    """The picture in grey, small where its format allows. Raises: StoryxaiError naming the file."""
    from PIL import Image as Picture

    path = table.image_path(record)
    if path.suffix.casefold() in (".jpg", ".jpeg", ".png"):
        try:
            with Picture.open(path) as picture:
                picture.draft("L", (128, 128))
                if picture.mode.startswith("I"):
                    return np.asarray(picture, dtype=np.float32)
                return np.asarray(picture.convert("L"), dtype=np.float32)
        except (OSError, SyntaxError, ValueError, Picture.DecompressionBombError) as error:
            raise TableError(path.name, "cannot be read as a picture", mend="fetch the file again") from error
    return read_image(path).pixels


def thumbnail(pixels: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Block means of `pixels` in `height` x `width` blocks that share the picture out evenly."""
    from PIL import Image as Picture

    picture = Picture.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    return np.asarray(picture.resize((width, height), Picture.Resampling.BOX), dtype=np.float32)


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    left, right = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float((left * right).sum() / norm) if norm > 0 else float(np.array_equal(one, other))
