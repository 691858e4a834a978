"""The study table: one row per image, what is known about it, and where that came from. Parquet on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storyxai.data.masks import IGNORED, read_grey_mask, split_pair
from storyxai.errors import TableError
from storyxai.files import fresh_file
from storyxai.modalities.contract import Modality, Pair
from storyxai.modalities.registry import DEFAULT_MODALITY, modality_named
from storyxai.types import Box, Labels, Mask

__all__ = [
    "COLUMNS", "BoxNote", "Skipped", "StudyRow", "StudyTable", "TableSchema", "join_by_name", "read_pair",
    "read_structures", "read_table", "split_pair",
]

Row: TypeAlias = Mapping[str, object]
Stated = TypeVar("Stated")
FORMAT = "storyxai study table 2"
COLUMN_A_MASK = "storyxai study table 1"
"""The format that had a column for each mask."""
SPLITS = ("train", "val", "test", "")
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
    "boxes_complete": ("truth", "a reader marked everything that the set marks in this image, even where there is nothing"),
    "masks": ("text", "JSON name -> mask (a file, or runs; 127 ignore) of a structure of the table's modality, of its pair"
                      " drawn as one, or of what a finding shows; without such a mask an image is not thereby free of it"),
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
    pair: Pair | None = None

    @staticmethod
    def of(modality: Modality) -> TableSchema:
        """The schema of tables of `modality`."""
        return TableSchema(modality.key, modality.names, modality.structure_names, modality.pair)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the label columns, in the order of the findings."""
        return tuple(f"label_{name}" for name in self.findings)

    @property
    def drawn(self) -> tuple[str, ...]:
        """The names of what a table of the modality may have masks of: the structures, and the pair drawn as one."""
        return (*self.structures, *((self.pair.name,) if self.pair else ()))

    def drawn_as(self, column: str) -> str | None:
        """What a column of masks is of ("<name>_mask", the pair also by a synonym); None where it is of none of these."""
        name = column.removesuffix("_mask")
        known = self.pair.name if self.pair and name in self.pair.synonyms else name
        return known if name != column and known in self.drawn else None

    @property
    def columns(self) -> Mapping[str, tuple[str, str]]:
        """By name the kind of each column ("text", "number", "truth") and what stands in it."""
        labels = dict.fromkeys(self.labels, ("number", "1 present, 0 absent, nan not stated"))
        return {**_BEFORE_LABELS, **labels, **_AFTER_LABELS}


_USUAL_SCHEMA = TableSchema.of(_USUAL)
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
    masks: Mapping[str, str] = field(default_factory=dict)
    findings_text: str = ""
    impression_text: str = ""
    notes: tuple[str, ...] = ()

    def cells(self, schema: TableSchema = _USUAL_SCHEMA) -> dict[str, object]:
        """The row's cells by column name."""
        return {
            **{name: getattr(self, name) for name in (*_BEFORE_LABELS, *_AFTER_LABELS) if hasattr(self, name)},
            "image_id": self.image_id or self.study_id,
            "split": "",
            **{f"label_{name}": float(self.labels.get(name, math.nan)) for name in schema.findings},
            "uncertain": ";".join(self.uncertain),
            "boxes": json.dumps([asdict(box) for box in self.boxes]) if self.boxes else "[]",
            "masks": json.dumps({name: cell for name, cell in self.masks.items() if cell}, sort_keys=True),
            "notes": "; ".join(self.notes),
        }


@dataclass(frozen=True, eq=False)
class StudyTable:
    """Images and what is stated about each; `root` is where relative paths start, `skipped` what became no row, `schema`
    the modality whose findings have columns.

    Methods give back a new table; the frame is not to be written to. Raises: TableError when a column is missing or of
    another kind, an image_id stands twice, or a label or split is none of the known ones.
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
        """A table of `rows` in order of image_id, so that the order of files on a disk changes nothing.

        A row that stands there again with the same cells is left out by name.
        """
        cells = sorted((row.cells(schema) for row in rows), key=lambda row: str(row["image_id"]))
        again = {place for place in range(1, len(cells)) if repr(cells[place]) == repr(cells[place - 1])}
        repeated = [Skipped(str(cells[place]["image_id"]), "stands in the table twice with the same cells", "remove one")
                    for place in sorted(again)]
        kept = [row for place, row in enumerate(cells) if place not in again]
        return cls(pd.DataFrame(kept, columns=list(schema.columns)), root, (*skipped, *repeated), schema)

    def __len__(self) -> int:
        return len(self.frame)

    def labels(self) -> Labels:
        """Labels of every row, ids = image_id, nan where a finding is uncertain. Shapes: [N, F]."""
        names = self.schema.findings
        values = self.frame[list(self.schema.labels)].to_numpy(dtype=np.float32, copy=True)
        doubtful = self.frame["uncertain"].str.split(";")
        for column, name in enumerate(names):
            rows = np.flatnonzero([name in doubts for doubts in doubtful])
            values[rows, column] = math.nan
        return Labels(names, values, tuple(self.frame["image_id"]))

    def select(
        self, *, split: str | None = None, rows: Sequence[bool] | NDArray[np.bool_] | None = None
    ) -> StudyTable:
        """The rows that agree with everything given; `skipped` goes along."""
        keep = np.ones(len(self.frame), dtype=np.bool_)
        if split is not None:
            keep &= (self.frame["split"] == split).to_numpy(dtype=np.bool_)
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
        for note in json.loads(str(row["boxes"])):
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


def read_table(path: Path) -> StudyTable:
    """The study table at `path`.

    A stored root that is relative starts at the table's own folder. A table of the earlier format, which had a column for
    each mask, is read too. Raises: TableError naming the file.
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
    if meta.get("format") not in (FORMAT, COLUMN_A_MASK):
        raise TableError(path.name, "is Parquet but not a study table of this version", mend=mend)
    try:
        schema = _stored_schema(meta)
        frame = _join_masks(frame, schema) if meta["format"] == COLUMN_A_MASK else frame
        return StudyTable(frame, path.parent / meta["root"], schema=schema)
    except TableError as error:
        raise TableError(path.name, f"{error.what} {error.why}", mend=error.mend or mend) from error


def _join_masks(frame: pd.DataFrame, schema: TableSchema) -> pd.DataFrame:
    """The frame of a table of the earlier format with its columns of masks in one."""
    single = {name: drawn for name in frame.columns if (drawn := schema.drawn_as(name)) is not None}
    several = [name for name in frame.columns if name.endswith("_masks")]
    cells = []
    for row in frame[[*single, *several]].to_dict("records"):
        masks = {drawn: row[name] for name, drawn in single.items() if row[name]}
        for name in several:
            masks |= json.loads(row[name])
        cells.append(json.dumps(masks, sort_keys=True))
    return frame.assign(masks=cells)


def _stored_schema(meta: Mapping[str, object]) -> TableSchema:
    """The schema that a table's own words state; the default one where they state none. Raises: TableError."""
    stored: Any = meta.get("schema", asdict(_USUAL_SCHEMA))
    try:
        pair = stored.get("pair")
        return TableSchema(
            str(stored["modality"]), tuple(map(str, stored["findings"])), tuple(map(str, stored["structures"])),
            pair and Pair(str(pair["name"]), tuple(map(str, pair["synonyms"]))),
        )
    except (KeyError, TypeError) as error:
        raise TableError("schema", "does not say modality, findings and structures") from error


def join_by_name(
    keys: Iterable[str], extra: Mapping[str, Stated], *, what: str, unmatched: str = "refuse"
) -> dict[str, Stated]:
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


def read_pair(table: StudyTable, row: Row) -> tuple[Mask, Mask] | None:
    """What the row has of the modality's pair as one mask, and the pixels that count neither way; None where it has nothing.

    Both sides, or the one that is stated, where masks tell them apart; else the mask of both, where 127 is ignored and any
    other non-zero value counts as inside (0/1 masks). Shapes: bool [H, W], the frame of the mask file.
    Raises: TableError naming the mask file, also when a left and a right mask differ in size.
    """
    pair, drawn = table.schema.pair, json.loads(str(row["masks"]))
    if pair is None:
        return None
    sides = [read_grey_mask(drawn[name], table.root) > 0 for name in table.schema.structures[:2] if name in drawn]
    if len({side.shape for side in sides}) > 1:
        why = f"has masks of the {pair.name.replace('_', ' ')} of two sizes"
        raise TableError(str(row["study_id"]), why, mend="make both the image's size")
    if sides:
        both = np.logical_or.reduce(sides)
        return both, np.zeros_like(both)
    if pair.name not in drawn:
        return None
    grey = read_grey_mask(drawn[pair.name], table.root)
    return (grey > 0) & (grey != IGNORED), grey == IGNORED


def read_structures(table: StudyTable, row: Row) -> dict[str, tuple[Mask, Mask | None]]:
    """The row's reference masks by name, each with the pixels that count neither way (None: every pixel counts).

    The structures of the table's modality where stated; its pair as one where both sides are, and its sides also where
    they can be told apart in a mask of both (`split_pair`).
    Shapes: bool [H, W], the frame of the mask file. Raises: TableError naming the mask file.
    """
    drawn, pair, sides = json.loads(str(row["masks"])), table.schema.pair, table.schema.structures[:2]
    found: dict[str, tuple[Mask, Mask | None]] = {
        name: (read_grey_mask(drawn[name], table.root) > 0, None) for name in table.schema.structures if name in drawn
    }
    stated = [name in found for name in sides]
    read = read_pair(table, row) if all(stated) or not any(stated) else None
    if pair is None or read is None:
        return found
    found[pair.name] = read
    if not any(stated) and (apart := split_pair(read[0])) is not None:
        found |= {name: (side, read[1]) for name, side in zip(sides, apart, strict=True)}
    return found


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
    casts: dict[str, type[np.bool_] | type[np.float64]] = {}
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
        raise TableError(str(twice.iloc[0]), "stands in the table twice with other cells", mend="give each image one id")
    for name in schema.labels:
        values = frame[name].to_numpy()
        if (values[~np.isnan(values)] < 0).any() or (values[~np.isnan(values)] > 1).any():
            mend = "use 1, 0 or nan; list doubts in 'uncertain'"
            raise TableError(f"column '{name}'", "holds a number outside 0 to 1", mend=mend)
    for name, known in (("split", SPLITS), ("official_split", SPLITS)):
        strange = set(frame[name]) - set(known)
        if strange:
            mend = f"use one of {', '.join(map(repr, known))}"
            raise TableError(f"column '{name}'", f"holds '{min(strange)}'", mend=mend)
    return frame
