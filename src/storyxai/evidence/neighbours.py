"""The images of an index that are most like one image by a model's features, and what was known of them.

An index holds features, labels, and eight bytes of each image's hash, so that an image is not its own neighbour: no picture,
no name, no patient. Memory and time are those of a table of N x K half floats, read through once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError
from storyxai.explain.contract import ExplainedModel, Look
from storyxai.explain.tcav import pooled_features
from storyxai.types import FindingNear, Image, Neighbours

FORMAT = "storyxai-neighbours/1"
ABSENT, PRESENT, NOT_STATED = 0, 1, 255
BLOCK: Final = 8192
"""Rows that are compared at a time."""
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NeighbourIndex:
    """Features and labels of N images.

    Shapes: `features` float16 [N, K], each row standardised and of length one; `labels` uint8 [N, F] (`PRESENT`, `ABSENT`,
    `NOT_STATED`); `keys` uint64 [N] of the images' hashes; `centre`, `scale` float32 [K]; `prototypes` float32 [F, 2, K], the
    mean of images without and with a finding, length one, zero where there is none. `part` is the part of the table.
    """

    model_id: str
    findings: tuple[str, ...]
    part: str
    table_sha256: str
    features: NDArray[np.float16]
    labels: NDArray[np.uint8]
    keys: NDArray[np.uint64]
    centre: NDArray[np.float32]
    scale: NDArray[np.float32]
    prototypes: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.features)

    def placed(self, features: Float64) -> NDArray[np.float32]:
        """Features [K] as they stand in the index."""
        placed: NDArray[np.float32] = _unit(((features - self.centre) / self.scale)[None])[0].astype(np.float32)
        return placed


def image_key(sha256: str) -> int:
    """The first eight bytes of an image's hash."""
    return int(sha256[:16], 16)


def build_index(
    model: ExplainedModel, features: Float64, labels: NDArray[np.uint8], keys: NDArray[np.uint64], *, part: str,
    table_sha256: str,
) -> NeighbourIndex:
    """The index of N images. Shapes: features [N, K], labels [N, F], keys [N]. Raises: InputError for fewer than two images."""
    if len(features) < 2:
        raise InputError("index", f"of {len(features)} images", mend="give a table of more images, or another --split")
    centre = features.mean(axis=0)
    spread = features.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    placed = _unit((features - centre) / scale)
    prototypes = np.stack([np.stack([_mean_of(placed, labels[:, i] == known) for known in (ABSENT, PRESENT)])
                           for i in range(labels.shape[1])])
    return NeighbourIndex(
        model.model_id, tuple(model.findings), part, table_sha256, placed.astype(np.float16), labels, keys,
        centre.astype(np.float32), scale.astype(np.float32), prototypes.astype(np.float32),
    )


def neighbours_of(
    index: NeighbourIndex | None, model: ExplainedModel, image: Image, look: Look | None, *, count: int
) -> Neighbours | None:
    """What was known of the `count` images of the index that are most like the image, itself left out; None without an index.

    Raises: InputError for an index of another model, a model that cannot be looked into, or fewer than one neighbour.
    """
    if index is None:
        return None
    if index.model_id != model.model_id:
        why = f"is of the model {index.model_id}, and this is {model.model_id}"
        raise InputError("neighbours", why, mend="build it again with `storyxai neighbours build` for this model")
    if look is None:
        raise InputError("neighbours", "need features, which this model does not show", mend="leave the index out")
    if count < 1:
        raise InputError("neighbours", f"{count} are asked for", mend="ask for one or more, best 20")
    mine = index.placed(pooled_features(look))
    alike = similarities(index, mine)
    alike[index.keys == np.uint64(image_key(image.sha256))] = -np.inf
    near = nearest(alike, count)
    if len(near) == 0:
        raise InputError("neighbours", "hold this image alone", mend="build an index of more images")
    return Neighbours(
        count=len(near), of=len(index), part=index.part, closest=float(alike[near[0]]), farthest=float(alike[near[-1]]),
        findings=tuple(_near(index, i, mine, near) for i in range(len(index.findings))), table_sha256=index.table_sha256,
    )


def similarities(index: NeighbourIndex, mine: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosine of the image with each of the index, float32 [N]; a block of rows at a time, in a fixed order of sums."""
    parts = [np.einsum("nk,k->n", index.features[at : at + BLOCK].astype(np.float32), mine)
             for at in range(0, len(index), BLOCK)]
    return np.concatenate(parts)


def nearest(alike: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The places of the `count` largest that are finite, largest first; of equal ones the earlier first."""
    count = min(count, int(np.isfinite(alike).sum()))
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    limit = np.partition(alike, len(alike) - count)[len(alike) - count]
    places = np.flatnonzero(alike >= limit)
    order: NDArray[np.int64] = places[np.argsort(-alike[places], kind="stable")][:count]
    return order


def _near(index: NeighbourIndex, column: int, mine: NDArray[np.float32], near: NDArray[np.int64]) -> FindingNear:
    labels, around = index.labels[:, column], index.labels[near, column]
    known, stated = int((around != NOT_STATED).sum()), int((labels != NOT_STATED).sum())
    without, with_it = (float(np.einsum("k,k->", one, mine)) for one in index.prototypes[column].astype(np.float32))
    both = bool((labels == PRESENT).any() and (labels == ABSENT).any())
    return FindingNear(
        index.findings[column], known, int((around == PRESENT).sum()), stated,
        float((labels == PRESENT).sum() / stated) if stated else None,
        with_it if both else None, without if both else None,
    )


def _mean_of(rows: Float64, chosen: NDArray[np.bool_]) -> Float64:
    return _unit(rows[chosen].mean(axis=0)[None])[0] if chosen.any() else np.zeros(rows.shape[1])


def _unit(rows: Float64) -> Float64:
    lengths = np.sqrt(np.einsum("nk,nk->n", rows, rows))[:, None]
    scaled: Float64 = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return scaled


_ARRAYS: Final[Mapping[str, type]] = {
    "features": np.float16, "labels": np.uint8, "keys": np.uint64, "centre": np.float32, "scale": np.float32,
    "prototypes": np.float32,
}


def index_bytes(index: NeighbourIndex) -> bytes:
    """The index as a safetensors file: the same index gives the same bytes."""
    from safetensors.numpy import save

    about = {"format": FORMAT, "model_id": index.model_id, "findings": list(index.findings), "part": index.part,
             "table_sha256": index.table_sha256}
    arrays = {name: np.ascontiguousarray(getattr(index, name)) for name in _ARRAYS}
    written: bytes = save(arrays, metadata={"storyxai": json.dumps(about, sort_keys=True)})
    return written


def read_index(path: Path) -> NeighbourIndex:
    """The index that `storyxai neighbours build` wrote. Raises: InputError naming the file and what is wrong with it."""
    from safetensors import SafetensorError, safe_open

    mend = "build it again with `storyxai neighbours build`"
    try:
        with safe_open(path, framework="numpy") as opened:
            about = json.loads((opened.metadata() or {}).get("storyxai", "{}"))
            if about.get("format") != FORMAT:
                raise InputError(str(path), f"is no index of format {FORMAT}", mend=mend)
            arrays = {name: opened.get_tensor(name) for name in _ARRAYS}
        told = {key: about[key] for key in ("model_id", "part", "table_sha256")}
        index = NeighbourIndex(findings=tuple(about["findings"]), **told, **arrays)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(str(path), f"cannot be read as an index ({error})", mend=mend) from error
    _refuse_misfits(index, path, mend)
    return index


def _refuse_misfits(index: NeighbourIndex, path: Path, mend: str) -> None:
    rows, width, findings = *index.features.shape[:2], len(index.findings)
    wanted = {
        "features": (rows, width), "labels": (rows, findings), "keys": (rows,), "centre": (width,), "scale": (width,),
        "prototypes": (findings, 2, width),
    }
    for name, kind in _ARRAYS.items():
        found = getattr(index, name)
        if found.shape != wanted[name] or found.dtype != kind or rows < 1:
            raise InputError(str(path), f"has '{name}' of shape {found.shape}, which does not fit", mend=mend)
