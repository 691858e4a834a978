"""The study table: one row per image, what is known about it, and where that came from. Parquet on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storyxai.data.labels import settle_uncertain
from storyxai.data.masks import read_grey_mask, split_lungs
from storyxai.errors import TableError
from storyxai.files import fresh_file
from storyxai.modalities.contract import Modality
from storyxai.modalities.registry import DEFAULT_MODALITY, modality_named
from storyxai.types import Box, Labels, Mask

__all__ = [
    "COLUMNS", "BoxNote", "Skipped", "StudyRow", "StudyTable", "TableSchema", "join_by_name", "join_tables", "read_lung_mask",
    "read_structures", "read_table", "split_lungs",
]

Row = Mapping[str, Any]
FORMAT = "storyxai study table 1"
SPLITS = ("train", "val", "test", "")
MASK_KINDS = ("union", "left_right", "")
LUNG, IGNORE = 255, 127
_USUAL = modality_named()

_BEFORE_LABELS: Mapping[str, tuple[str, str]] = {
    "image_id": ("text", "unique in the table; equals study_id where a study has one image"),
    "study_id": ("text", "one examination; starts with the source's name"),
    "patient_id": ("text", "one person; starts with the source's name"),
    "image": ("text", "image file, absolute or relative to the table's root; empty for a report without an image"),
    "source": ("text", "data set: nih, kermany, ..."),
    "origin": ("text", "part of the data set with a mix of its own; empty where there is one"),
    "view": ("text", "PA, AP, LATERAL, OTHER (oblique, axial, ...) or unknown"),
    "sex": ("text", "M, F or empty"),
    "age_years": ("number", "nan = not stated"),
    "split": ("text", "train, val, test or empty"),
    "official_split": ("text", "what the publisher's own list says: train, val, test or empty"),
    "license": ("text", "terms of this image as published; empty = none given"),
}
_AFTER_LABELS: Mapping[str, tuple[str, str]] = {
    "uncertain": ("text", "findings stated as uncertain, joined by ;"),
    "boxes": ("text", "JSON list of finding, x, y, width, height, frame_width, frame_height, reader, source"),
    "boxes_complete": ("truth", "a reader marked every opacity of this image, even where none is"),
    "lung_mask": ("text", "mask of both lungs (255 lung, 127 ignore): a file, or runs"),
    "lung_mask_kind": ("text", "union, left_right or empty"),
    "left_lung_mask": ("text", "the patient's left lung, where told apart"),
    "right_lung_mask": ("text", "the patient's right lung, where told apart"),
    "heart_mask": ("text", "mask of the heart"),
    "lesion_masks": ("text", "JSON name -> mask of a lesion, or of another structure of the table's modality; an image without"
                             " any is not thereby free of lesions"),
    "findings_text": ("text", "findings section of the report"),
    "impression_text": ("text", "impression section of the report"),
    "notes": ("text", "what a reader of the row must know, joined by ;"),
}


@dataclass(frozen=True)
class TableSchema:
    """What the rows of a table may state: the findings and structures of the modality called `modality`."""

    modality: str = DEFAULT_MODALITY
    findings: tuple[str, ...] = _USUAL.names
    structures: tuple[str, ...] = _USUAL.structure_names

    @staticmethod
    def of(modality: Modality) -> TableSchema:
        """The schema of tables of `modality`."""
        return TableSchema(modality.key, modality.names, modality.structure_names)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the label columns, in the order of the findings."""
        return tuple(f"label_{name}" for name in self.findings)

    @property
    def columns(self) -> Mapping[str, tuple[str, str]]:
        """By name the kind of each column ("text", "number", "truth") and what stands in it."""
        labels = dict.fromkeys(self.labels, ("number", "1 present, 0 absent, nan not stated"))
        return {**_BEFORE_LABELS, **labels, **_AFTER_LABELS}


_USUAL_SCHEMA = TableSchema()
COLUMNS = _USUAL_SCHEMA.columns
"""The columns of a table of the default modality."""


@dataclass(frozen=True)
class BoxNote:
    """A box as a data set gives it. Units: pixels of `frame_width` x `frame_height` (0: the image's own)."""

    finding: str
    x: float
    y: float
    width: float
    height: float
    frame_width: float
    frame_height: float
    reader: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.x, self.y, self.width, self.height, self.frame_width, self.frame_height))):
            what = f"a box of {self.finding}" + (f" ({self.source})" if self.source else "")
            raise TableError(what, "has a place or size that is no finite number", mend="mend or remove it in the set")


@dataclass(frozen=True)
class Skipped:
    """Something of the data set that became no row, or lost a part of it, why, and what can be done about it."""

    what: str
    why: str
    mend: str = ""


@dataclass(frozen=True)
class StudyRow:
    """One row before it stands in a table; the columns are explained in `COLUMNS`. A missing label is not stated."""

    study_id: str
    patient_id: str
    image: str
    source: str
    image_id: str = ""
    origin: str = ""
    view: str = "unknown"
    sex: str = ""
    age_years: float = math.nan
    official_split: str = ""
    license: str = ""
    labels: Mapping[str, float] = field(default_factory=dict)
    uncertain: tuple[str, ...] = ()
    boxes: tuple[BoxNote, ...] = ()
    boxes_complete: bool = False
    lung_mask: str = ""
    left_lung_mask: str = ""
    right_lung_mask: str = ""
    heart_mask: str = ""
    lesion_masks: Mapping[str, str] = field(default_factory=dict)
    findings_text: str = ""
    impression_text: str = ""
    notes: tuple[str, ...] = ()

    def cells(self, schema: TableSchema = _USUAL_SCHEMA) -> dict[str, Any]:
        """The row's cells by column name."""
        kind = "left_right" if self.left_lung_mask or self.right_lung_mask else "union" if self.lung_mask else ""
        return {
            **{name: getattr(self, name) for name in (*_BEFORE_LABELS, *_AFTER_LABELS) if hasattr(self, name)},
            "image_id": self.image_id or self.study_id,
            "split": "",
            **{f"label_{name}": float(self.labels.get(name, math.nan)) for name in schema.findings},
            "uncertain": ";".join(self.uncertain),
            "boxes": json.dumps([asdict(box) for box in self.boxes]) if self.boxes else "[]",
            "lung_mask_kind": kind,
            "lesion_masks": json.dumps(dict(self.lesion_masks), sort_keys=True) if self.lesion_masks else "{}",
            "notes": "; ".join(self.notes),
        }


@dataclass(frozen=True, eq=False)
class StudyTable:
    """Images and what is stated about each; `root` is where relative paths start, `skipped` what became no row, `schema`
    the modality whose findings have columns.

    Methods give back a new table; the frame is not to be written to. Raises: TableError when a column is missing or of
    another kind, an image_id stands twice, or a label, split or mask kind is none of the known ones.
    """

    frame: pd.DataFrame
    root: Path
    skipped: tuple[Skipped, ...] = ()
    schema: TableSchema = _USUAL_SCHEMA

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame", _checked(self.frame, self.schema))
        object.__setattr__(self, "root", Path(self.root))

    @classmethod
    def from_rows(
        cls, rows: Iterable[StudyRow], *, root: Path, skipped: Iterable[Skipped] = (), schema: TableSchema = _USUAL_SCHEMA
    ) -> StudyTable:
        """A table of `rows` in order of image_id, so that the order of files on a disk changes nothing."""
        cells = sorted((row.cells(schema) for row in rows), key=lambda row: str(row["image_id"]))
        return cls(pd.DataFrame(cells, columns=list(schema.columns)), root, tuple(skipped), schema)

    def __len__(self) -> int:
        return len(self.frame)

    def labels(self, *, uncertain: str = "ignore") -> Labels:
        """Labels of every row, ids = image_id. Shapes: [N, F]. `uncertain` is a policy of `labels.POLICIES`."""
        names = self.schema.findings
        values = self.frame[list(self.schema.labels)].to_numpy(dtype=np.float32, copy=True)
        doubtful = self.frame["uncertain"].str.split(";")
        for column, name in enumerate(names):
            rows = np.flatnonzero([name in doubts for doubts in doubtful])
            values[rows, column] = settle_uncertain(math.nan, uncertain=True, policy=uncertain)
        return Labels(names, values, tuple(self.frame["image_id"]))

    def select(
        self, *, split: str | None = None, source: str | None = None, origin: str | None = None,
        views: Sequence[str] = (), rows: Sequence[bool] | NDArray[np.bool_] | None = None,
    ) -> StudyTable:
        """The rows that agree with everything given; `skipped` goes along."""
        keep = np.ones(len(self.frame), dtype=np.bool_)
        for column, wanted in (("split", split), ("source", source), ("origin", origin)):
            if wanted is not None:
                keep &= (self.frame[column] == wanted).to_numpy(dtype=np.bool_)
        if views:
            keep &= self.frame["view"].isin(list(views)).to_numpy(dtype=np.bool_)
        if rows is not None:
            keep &= np.asarray(rows, dtype=np.bool_)
        return replace(self, frame=self.frame[keep].reset_index(drop=True))

    def with_column(self, name: str, values: Sequence[Any] | NDArray[Any]) -> StudyTable:
        """A table whose column `name` holds `values`, row by row."""
        return replace(self, frame=self.frame.assign(**{name: values}))

    def image_path(self, row: Row) -> Path:
        """Where the row's image lies. Raises: TableError when the row has none."""
        if not row["image"]:
            raise TableError(str(row["study_id"]), "has a report but no image", mend="choose rows with an image")
        return self.root / str(row["image"])

    def boxes_of(self, row: Row, *, height: int, width: int) -> tuple[Box, ...]:
        """The row's boxes in the frame of its stored image of `height` x `width` pixels, every reader's, score 1."""
        boxes = []
        for note in json.loads(row["boxes"]):
            across, down = width / (note["frame_width"] or width), height / (note["frame_height"] or height)
            boxes.append(Box(note["finding"], note["x"] * across, note["y"] * down, note["width"] * across,
                             note["height"] * down, 1.0))
        return tuple(boxes)

    def write(self, path: Path) -> None:
        """Writes Parquet at `path`, whole or not at all. Raises: OutputError when the place cannot be written."""
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        content = arrow.Table.from_pandas(self.frame, schema=_arrow_schema(self.schema), preserve_index=False)
        about: dict[str, object] = {"format": FORMAT, "root": str(self.root)}
        if self.schema != _USUAL_SCHEMA:
            about["schema"] = asdict(self.schema)
        content = content.replace_schema_metadata({"storyxai": json.dumps(about)})
        with fresh_file(path, mend="choose a folder of yours with room") as part:
            parquet.write_table(content, part, compression="zstd")


def read_table(path: Path, *, root: Path | None = None) -> StudyTable:
    """The study table at `path`; `root` overrides where relative paths start.

    A stored root that is relative starts at the table's own folder. Raises: TableError naming the file.
    """
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    mend = "write it with `storyxai data import`"
    if not path.is_file():
        raise TableError(str(path), "is not there" if not path.exists() else "is not a file", mend=mend)
    try:
        content = parquet.read_table(path)
        meta = json.loads((content.schema.metadata or {}).get(b"storyxai", b"{}"))
        frame = content.to_pandas()
    except (arrow.ArrowException, OSError, ValueError) as error:
        first = (str(error).splitlines() or ["damaged"])[0][:160]
        raise TableError(path.name, f"cannot be read as Parquet ({first})", mend=mend) from error
    if meta.get("format") != FORMAT:
        raise TableError(path.name, "is Parquet but not a study table of this version", mend=mend)
    try:
        return StudyTable(frame, root or path.parent / meta["root"], schema=_stored_schema(meta))
    except TableError as error:
        raise TableError(path.name, f"{error.what} {error.why}", mend=error.mend or mend) from error


def _stored_schema(meta: Mapping[str, Any]) -> TableSchema:
    """The schema that a table's own words state; the default one where they state none. Raises: TableError."""
    stored = meta.get("schema", asdict(_USUAL_SCHEMA))
    try:
        return TableSchema(str(stored["modality"]), tuple(map(str, stored["findings"])), tuple(map(str, stored["structures"])))
    except (KeyError, TypeError) as error:
        raise TableError("schema", "does not say modality, findings and structures") from error


def join_tables(tables: Sequence[StudyTable]) -> StudyTable:
    """All rows of several tables; paths become absolute.

    Raises: TableError when an image_id stands in two of them, or they are of two modalities.
    """
    if not tables:
        raise TableError("join", "got no table", mend="give at least one")
    if strange := next((table.schema.modality for table in tables if table.schema != tables[0].schema), ""):
        why = f"got tables of '{tables[0].schema.modality}' and of '{strange}'"
        raise TableError("join", why, mend="join tables of one modality, written with the same findings")
    paths = ("image", "lung_mask", "left_lung_mask", "right_lung_mask", "heart_mask")
    frames = []
    for table in tables:
        base = table.root.resolve()
        frame = table.frame.copy()
        for name in paths:
            frame[name] = [_absolute(cell, base) for cell in frame[name]]
        frame["lesion_masks"] = [
            cell if cell == "{}" else json.dumps({key: _absolute(item, base) for key, item in json.loads(cell).items()})
            for cell in frame["lesion_masks"]
        ]
        frames.append(frame)
    joined = pd.concat(frames, ignore_index=True)
    skipped = tuple(item for table in tables for item in table.skipped)
    return StudyTable(joined, tables[0].root, skipped, tables[0].schema)


def join_by_name(
    keys: Iterable[str], extra: Mapping[str, Any], *, what: str, unmatched: str = "refuse"
) -> dict[str, Any]:
    """`extra` for the given keys only, joined by exact name.

    Raises: TableError when a name in `extra` is not among the keys, unless `unmatched` is "leave" (a published list
    that covers more than the folder holds). Rows are never matched by order or by likeness.
    """
    known = set(keys)
    strangers = sorted(set(extra) - known)
    if strangers and unmatched == "refuse":
        raise TableError(what, f"names {len(strangers)} images that are not in the set, first '{strangers[0]}'",
                         mend="use the list that belongs to these images")
    return {key: value for key, value in extra.items() if key in known}


def read_lung_mask(table: StudyTable, row: Row) -> tuple[Mask, Mask] | None:
    """The row's (lungs, ignore) masks, None where it has none. Shapes: bool [H, W], the frame of the mask file.

    Values in a union mask: 255 lung, 127 ignore; any other non-zero value counts as lung (0/1 masks).
    Raises: TableError naming the mask file, also when a left and a right mask differ in size.
    """
    kind = row["lung_mask_kind"]
    if kind == "union":
        grey = read_grey_mask(str(row["lung_mask"]), table.root)
        ignore = grey == IGNORE
        return (grey > 0) & ~ignore, ignore
    if kind == "left_right":
        named = [str(row[name]) for name in ("left_lung_mask", "right_lung_mask") if row[name]]
        sides = [read_grey_mask(name, table.root) for name in named]
        if len({side.shape for side in sides}) > 1:
            raise TableError(str(row["study_id"]), "has lung masks of two sizes", mend="make both the image's size")
        lungs = np.logical_or.reduce([side > 0 for side in sides])
        return lungs, np.zeros_like(lungs)
    return None


def read_structures(table: StudyTable, row: Row) -> dict[str, tuple[Mask, Mask | None]]:
    """The row's reference masks by name, each with the pixels that count neither way (None: every pixel counts).

    "lungs" where both are stated; "left_lung" and "right_lung" where stated, or where a mask of both can be told apart
    (`split_lungs`); "heart"; other structures of the table's modality by their names.
    Shapes: bool [H, W], the frame of the mask file. Raises: TableError naming the mask file.
    """
    found: dict[str, tuple[Mask, Mask | None]] = {}
    for name in ("left_lung", "right_lung", "heart"):
        if row[f"{name}_mask"]:
            found[name] = read_grey_mask(str(row[f"{name}_mask"]), table.root) > 0, None
    drawn = json.loads(row["lesion_masks"])
    found |= {name: (read_grey_mask(drawn[name], table.root) > 0, None) for name in table.schema.structures if name in drawn}
    read = read_lung_mask(table, row)
    if read is None or (row["lung_mask_kind"] == "left_right" and not {"left_lung", "right_lung"} <= set(found)):
        return found
    lungs, ignore = read
    found["lungs"] = lungs, ignore
    if row["lung_mask_kind"] == "union" and (sides := split_lungs(lungs)) is not None:
        found |= {name: (side, ignore) for name, side in zip(("left_lung", "right_lung"), sides, strict=True)}
    return found


def _absolute(cell: str, base: Path) -> str:
    return cell if not cell or cell.startswith("runs:") else str(base / cell)


def _arrow_schema(schema: TableSchema) -> Any:
    import pyarrow as arrow

    kinds = {"text": arrow.string(), "number": arrow.float64(), "truth": arrow.bool_()}
    return arrow.schema([(name, kinds[kind]) for name, (kind, _) in schema.columns.items()])


def _checked(frame: pd.DataFrame, schema: TableSchema) -> pd.DataFrame:
    """`frame` with exactly the columns of the schema, in its order. Raises: TableError."""
    columns = schema.columns
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise TableError("table", f"lacks the column '{missing[0]}'", mend="write it with `storyxai data import`")
    frame = frame[list(columns)].reset_index(drop=True)
    casts: dict[str, Any] = {}
    for name, (kind, _) in columns.items():
        column = frame[name]
        if kind == "text":
            if column.isna().any() or not all(isinstance(cell, str) for cell in column):
                raise TableError(f"column '{name}'", "holds a cell that is no text", mend="use '' for unknown")
        elif kind == "truth":
            if len(frame) and column.dtype != np.bool_:
                raise TableError(f"column '{name}'", "holds what is neither true nor false", mend="use true or false")
            casts[name] = np.bool_
        else:
            if len(frame) and column.dtype.kind not in "fiu":
                raise TableError(f"column '{name}'", "holds a cell that is no number", mend="use nan for unknown")
            casts[name] = np.float64
    frame = frame.astype(casts)
    twice = frame["image_id"][frame["image_id"].duplicated()]
    if len(twice):
        raise TableError(str(twice.iloc[0]), "stands in the table twice", mend="give each image one id")
    for name in schema.labels:
        values = frame[name].to_numpy()
        if (values[~np.isnan(values)] < 0).any() or (values[~np.isnan(values)] > 1).any():
            mend = "use 1, 0 or nan; list doubts in 'uncertain'"
            raise TableError(f"column '{name}'", "holds a number outside 0 to 1", mend=mend)
    for name, known in (("split", SPLITS), ("official_split", SPLITS), ("lung_mask_kind", MASK_KINDS)):
        strange = set(frame[name]) - set(known)
        if strange:
            mend = f"use one of {', '.join(map(repr, known))}"
            raise TableError(f"column '{name}'", f"holds '{min(strange)}'", mend=mend)
    return frame
