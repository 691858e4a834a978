"""Evidence on disk: one folder with evidence.json and arrays.npz, the same bytes for the same evidence, hashes inside.

Arrays are kept losslessly: masks as bits, whole grey levels as integers, everything else as float32. No pickle is
written or read.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from storyxai.errors import ArchiveError
from storyxai.evidence.formats import FORMAT, OLD_FORMATS, upgraded
from storyxai.evidence.record import arrays_of, as_record, from_record, plain_record, typed_record
from storyxai.files import replace_files
from storyxai.provenance import canonical_json, sha256_bytes, sha256_file
from storyxai.types import Evidence

__all__ = ["ARRAYS_NAME", "EVIDENCE_NAME", "archive_files", "read_archive", "read_record",
           "stored_image", "verified_archive", "verify_hashes", "write_archive"]

EVIDENCE_NAME, ARRAYS_NAME = "evidence.json", "arrays.npz"
MAX_JSON_BYTES, MAX_ARRAY_BYTES = 64 << 20, 8 << 30
"""What is read at most: an altered folder must not fill the memory."""
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_AGAIN = "write the folder again with `storyxai tell`"


@dataclass(frozen=True)
class _Stored:
    """How an array is stored: its shape, its hash, its packing, and the levels of a picture's grey values."""

    shape: tuple[int, ...]
    sha256: str
    packing: str
    levels: int = 1


def write_archive(evidence: Evidence, folder: str | Path) -> Path:
    """The folder that now holds evidence.json and arrays.npz; other files in it are kept.

    Written beside it first and then moved in, so that a failure leaves what was there before. Raises: OutputError when
    the place cannot be written, EvidenceError when the evidence contradicts itself.
    """
    folder = Path(folder)
    replace_files(folder, archive_files(evidence))
    return folder


def archive_files(evidence: Evidence) -> dict[str, bytes]:
    """The archive's files by name. Raises: EvidenceError when the evidence contradicts itself."""
    record = as_record(evidence)
    items, entries = {}, {}
    for name, array in sorted(arrays_of(evidence).items()):
        stored, how = _packed(name, array)
        entries[name] = _npy(stored)
        items[name] = {**how, "shape": list(array.shape), "sha256": sha256_bytes(entries[name])}
    arrays_bytes = _npz(entries)
    record["arrays"] = {"file": ARRAYS_NAME, "sha256": sha256_bytes(arrays_bytes), "items": items}
    return {ARRAYS_NAME: arrays_bytes, EVIDENCE_NAME: canonical_json(record)}


def read_archive(folder: str | Path) -> Evidence:
    """The evidence in `folder`, every hash checked. Raises: ArchiveError naming the file and how to mend it."""
    folder = Path(folder)
    record = read_record(folder)
    listed, path = record.get("arrays"), folder / ARRAYS_NAME
    if not isinstance(listed, dict) or not isinstance(listed.get("items"), dict):
        raise ArchiveError(str(folder / EVIDENCE_NAME), "does not say which arrays belong to it", mend=_AGAIN)
    if not path.is_file():
        raise ArchiveError(str(path), "is missing", mend=_AGAIN)
    if sha256_file(path) != listed.get("sha256"):
        raise ArchiveError(str(path), "was altered: its SHA-256 is not the one in evidence.json", mend=_AGAIN)
    arrays = _read_arrays(path, listed["items"])
    return from_record({key: value for key, value in record.items() if key != "arrays"}, arrays)


def verify_hashes(folder: Path) -> list[str]:
    """What is wrong with the files in `folder`, one sentence each; empty when every hash holds and it can be read."""
    return verified_archive(folder)[0]


def verified_archive(folder: Path) -> tuple[list[str], Evidence | None]:
    """As `verify_hashes`, with the evidence that was read; None where anything is wrong with it."""
    try:
        evidence = read_archive(folder)
        record = read_record(folder)
    except ArchiveError as error:
        return [str(error)], None
    arrays = record.pop("arrays")
    # The format before had no place for values that are not known: its typed form has.
    meant = record if record["format"] == FORMAT else plain_record(typed_record(upgraded(record)))
    if canonical_json(meant) != canonical_json(as_record(evidence)):
        return [f"{folder / EVIDENCE_NAME}: a value that follows from others was altered — {_AGAIN}"], None
    if canonical_json({**record, "arrays": arrays}) != (folder / EVIDENCE_NAME).read_bytes():
        return [f"{folder / EVIDENCE_NAME}: was written anew by another program — {_AGAIN}"], None
    return [], evidence


def stored_image(folder: Path, record: Mapping[str, object]) -> NDArray[np.float32]:
    """The untouched image [H, W] of the study in `folder` alone, its hash checked; `record` is what `read_record` gave.

    Raises: ArchiveError.
    """
    listed = record.get("arrays")
    items = listed.get("items") if isinstance(listed, dict) else None
    if not isinstance(items, dict) or not isinstance(items.get("image"), dict):
        raise ArchiveError(str(folder / EVIDENCE_NAME), "does not say which arrays belong to it", mend=_AGAIN)
    return _read_arrays(folder / ARRAYS_NAME, {"image": items["image"]}, all_of_them=False)["image"]


def read_record(folder: Path) -> dict[str, object]:
    """What evidence.json in `folder` says, as it stands there: nothing but its format is checked. Raises: ArchiveError."""
    path = folder / EVIDENCE_NAME
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ArchiveError(str(path), f"is larger than {MAX_JSON_BYTES >> 20} MiB", mend=_AGAIN)
        record = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ArchiveError(str(path), "is missing", mend="name a study's folder that `storyxai tell` wrote") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArchiveError(str(path), "cannot be read as evidence", mend=_AGAIN) from error
    found = record.get("format") if isinstance(record, dict) else None
    if not isinstance(record, dict) or found not in (FORMAT, *OLD_FORMATS):
        mend = f"this storyxai reads {FORMAT}; {_AGAIN}"
        raise ArchiveError(str(path), f"is not of format {FORMAT} but {found!r}", mend=mend)
    return record


def _read_arrays(path: Path, listed: Mapping[str, object], *, all_of_them: bool = True) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    try:
        items = msgspec.convert(listed, dict[str, _Stored])
        with zipfile.ZipFile(path) as file:
            if sum(entry.file_size for entry in file.infolist()) > MAX_ARRAY_BYTES:
                raise ArchiveError(str(path), f"unpacks to more than {MAX_ARRAY_BYTES >> 30} GiB", mend=_AGAIN)
            names = {entry.removesuffix(".npy") for entry in file.namelist()}
            if names != set(items) if all_of_them else not set(items) <= names:
                odd = ", ".join(sorted(names ^ set(items)))
                raise ArchiveError(str(path), f"does not hold the arrays of evidence.json ({odd})", mend=_AGAIN)
            for name, how in items.items():
                entry = file.read(f"{name}.npy")
                if sha256_bytes(entry) != how.sha256:
                    raise ArchiveError(str(path), f"array {name} was altered: its SHA-256 differs", mend=_AGAIN)
                arrays[name] = _unpacked(np.lib.format.read_array(io.BytesIO(entry), allow_pickle=False), how)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ArchiveError(str(path), f"cannot be read as arrays ({error})", mend=_AGAIN) from error
    return arrays


def _packed(name: str, array: NDArray[Any]) -> tuple[NDArray[Any], dict[str, object]]:
    """The array as it is stored, and how: packing "bits", "levels" (whole steps of 1 / `levels`) or "plain"."""
    if array.dtype == np.bool_:
        return np.packbits(array), {"packing": "bits"}
    if name == "image":
        for levels, kind in ((255, np.uint8), (65535, np.uint16)):
            steps = np.rint(array * np.float32(levels))
            if steps.min() >= 0 and steps.max() <= levels and np.array_equal(_from_levels(steps, levels), array):
                return steps.astype(kind), {"packing": "levels", "levels": levels}
    return np.ascontiguousarray(array, dtype=np.float32), {"packing": "plain"}


def _unpacked(raw: NDArray[Any], how: _Stored) -> NDArray[Any]:
    if how.packing == "bits":
        return np.unpackbits(raw, count=int(np.prod(how.shape))).astype(np.bool_).reshape(how.shape)
    if how.packing == "levels":
        return _from_levels(raw, how.levels).reshape(how.shape)
    return np.asarray(raw, dtype=np.float32).reshape(how.shape)


def _from_levels(steps: NDArray[Any], levels: int) -> NDArray[Any]:
    return np.asarray(steps, dtype=np.float32) / np.float32(levels)


def _npy(array: NDArray[Any]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return header.getvalue() + array.tobytes("A")  # as write_array writes it, which copies an array in pieces


def _npz(entries: Mapping[str, bytes]) -> bytes:
    # numpy's own writer stamps the time into the file; this one gives the same bytes for the same arrays.
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=_ZIP_DATE)
            entry.external_attr = 0o644 << 16
            how = zipfile.ZIP_DEFLATED if _shrinks(content) else zipfile.ZIP_STORED
            file.writestr(entry, content, compress_type=how, compresslevel=1)
    return target.getvalue()


def _shrinks(content: bytes) -> bool:
    """Whether a sample of 4 KiB blocks packs to less than half: smooth float maps do not, and cost seconds to pack."""
    sample = b"".join(content[start : start + 4096] for start in range(0, len(content), 64 << 10))
    return 2 * len(zlib.compress(sample, 1)) < len(sample)
