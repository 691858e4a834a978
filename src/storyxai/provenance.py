"""Hashes, versions, canonical JSON and what a record says of its making: what makes two runs comparable byte for byte."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from storyxai.errors import ArchiveError, TableError

Read = TypeVar("Read")


@dataclass(frozen=True)
class ProvenanceSettings:
    """The settings of one telling. Older records hold those of LIME here.

    `view` is the side in pixels at which a model saw the image that takes any size and does not say which it learned from.
    """

    modality: str = ""
    forced: bool = False
    most_told: int | None = None
    view: int | None = None
    superpixels: int | None = None
    kernel_width: float | None = None
    fill: str | None = None


@dataclass(frozen=True)
class Provenance:
    """What a record says of its making: by which versions, from which files, with which settings. None: not stated.

    `terms` are words of findings that are not ours, `words` by language those of images of another modality, whose key they
    hold too. `prevalence` is by finding; `methods` (their options), `methods_left_out` (what each needs), `companions` by key.
    """

    software: str | None = None
    version: str | None = None
    seed: int | None = None
    samples: int | None = None
    settings: ProvenanceSettings = ProvenanceSettings()
    prevalence: Mapping[str, float] = field(default_factory=dict)
    methods: Mapping[str, object] = field(default_factory=dict)
    methods_left_out: Mapping[str, object] = field(default_factory=dict)
    told: tuple[str, ...] | None = None
    terms: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    words: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    concepts: object = None
    inputs: tuple[Mapping[str, object], ...] = ()
    model_files: Mapping[str, object] = field(default_factory=dict)
    companions: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str | None] = field(default_factory=dict)


def read_provenance(stated: object) -> Provenance:
    """What a record's "provenance" states, as types. Raises: ArchiveError naming the field that is of another kind."""
    try:
        return msgspec.convert(stated, Provenance)
    except msgspec.ValidationError as error:
        mend = "write the folder again with `storyxai tell`"
        raise ArchiveError("evidence", f"garbles its provenance ({error})", mend=mend) from error


def read_as(kind: type[Read], record: Mapping[str, object], what: str, *, mend: str) -> Read:
    """Plain JSON values, called `what`, as a value of the type. Raises: TableError naming a field that they lack or garble."""
    try:
        return msgspec.convert(record, kind)
    except msgspec.ValidationError as error:
        raise TableError(what, f"lacks or garbles a field ({error})", mend=mend) from error


def sha256_bytes(data: bytes) -> str:
    """The SHA-256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes as 64 hex digits, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def canonical_json(value: Any) -> bytes:
    """`value` as UTF-8 JSON with sorted keys and two-space indent, ending in a newline.

    The same value gives the same bytes. numpy scalars become numbers; floats keep six significant digits (more would
    pretend precision). Raises: ValueError for nan or infinity, which JSON cannot say; use None.
    """
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # json's own indent is written by Python, character by character; msgspec lays out the same text in C.
    return msgspec.json.format(text.encode("utf-8"), indent=2) + b"\n"


def software_versions(*names: str) -> dict[str, str]:
    """Installed versions of the named distributions ("not installed" where absent)."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _plain(value: Any) -> Any:
    if value is None or type(value) in (str, int, bool):  # nearly all values, known by a look
        return value
    if isinstance(value, float | np.floating):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"{number} cannot be written as JSON; use None for an unknown value")
        return float(f"{number:.6g}")
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, str):
        return value
    raise TypeError(f"{type(value).__name__} has no plain JSON form")
