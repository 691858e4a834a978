"""The study table: what goes in comes out, and what does not hold together is refused by name."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from checks.source_checks import check_round_trip
from storyxai.data.labels import labels_from_codes, labels_from_list
from storyxai.data.masks import decode_runs, encode_runs, fill_runs
from storyxai.data.table import (
    COLUMNS,
    BoxNote,
    StudyRow,
    StudyTable,
    TableSchema,
    join_by_name,
    read_pair,
    read_structures,
    read_table,
    split_pair,
)
from storyxai.errors import OutputError, TableError
from storyxai.modalities.chest_radiograph.findings import NAMES


def table_of(*rows: StudyRow, root: Path = Path()) -> StudyTable:
    return StudyTable.from_rows(rows, root=root)


def test_labels_keep_the_three_kinds_apart_and_what_is_uncertain_is_not_stated() -> None:
    table = table_of(
        StudyRow("s1", "p1", "a.png", "x", labels={"Mass": 1.0, "Edema": 0.0}, uncertain=("Nodule",)),
        StudyRow("s2", "p1", "b.png", "x"),
    )
    labels = table.labels()
    assert labels.findings == NAMES and labels.ids == ("s1", "s2")
    mass, edema, nodule = (NAMES.index(name) for name in ("Mass", "Edema", "Nodule"))
    assert labels.values[0, mass] == 1 and labels.values[0, edema] == 0 and math.isnan(labels.values[0, nodule])
    assert np.isnan(labels.values[1]).all()


def test_every_cell_survives_the_file(tmp_path: Path) -> None:
    row = StudyRow(
        "s", "p", "ä/b.png", "x", age_years=3.5, labels={"Hernia": 1.0}, uncertain=("Mass", "Nodule"),
        masks={"b": "2", "a": "1", "lungs": ""},
        boxes=(BoxNote("Mass", 1, 2, 3, 4, 10, 20),), boxes_complete=True,
        notes=("one", "two"), findings_text="line\nline",
    )
    table = table_of(row, StudyRow("t", "q", "", "x"), root=tmp_path)
    check_round_trip(table, tmp_path / "t.parquet")
    again = read_table(tmp_path / "t.parquet")
    assert again.root == tmp_path
    record = again.frame.to_dict("records")[0]
    assert record["boxes_complete"] is True and json.loads(record["masks"]) == {"a": "1", "b": "2"}
    box = again.boxes_of(record, height=40, width=5)[0]
    assert (box.x, box.y, box.width, box.height) == (0.5, 4.0, 1.5, 8.0)
    with pytest.raises(TableError, match="no image"):
        again.image_path(again.frame.to_dict("records")[1])


def test_row_order_comes_from_ids_not_from_the_disk() -> None:
    rows = [StudyRow(name, "p", f"{name}.png", "x") for name in "cab"]
    assert list(table_of(*rows).frame["image_id"]) == list(table_of(*rows[::-1]).frame["image_id"]) == ["a", "b", "c"]


def test_a_table_that_does_not_hold_together_is_refused(tmp_path: Path) -> None:
    row = StudyRow("s", "p", "a.png", "x")
    with pytest.raises(TableError, match="s: stands in the table twice with other cells"):
        table_of(row, replace(row, sex="F"))
    twice = table_of(row, row)
    assert len(twice) == 1 and [(item.what, item.why) for item in twice.skipped] == [
        ("s", "stands in the table twice with the same cells"),
    ]  # fmt: skip
    with pytest.raises(TableError, match=r"label_Mass.*outside 0 to 1"):
        table_of(StudyRow("s", "p", "a.png", "x", labels={"Mass": -1.0}))
    frame = table_of(row).frame
    with pytest.raises(TableError, match="lacks the column 'view'"):
        StudyTable(frame.drop(columns="view"), tmp_path)
    with pytest.raises(TableError, match=r"'split'.*holds 'validation'"):
        StudyTable(frame.assign(split="validation"), tmp_path)
    with pytest.raises(TableError, match=r"'age_years'.*no number"):
        StudyTable(frame.assign(age_years="old"), tmp_path)
    with pytest.raises(TableError, match=r"'sex'.*no text"):
        StudyTable(frame.assign(sex=None), tmp_path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all" * 9])
def test_a_file_that_is_no_table_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.parquet").write_bytes(content)
    with pytest.raises(TableError, match=r"bad\.parquet: cannot be read as Parquet"):
        read_table(tmp_path / "bad.parquet")


def test_other_parquet_missing_files_and_unwritable_places(tmp_path: Path) -> None:
    table = table_of(StudyRow("s", "p", "a.png", "x"))
    table.frame.to_parquet(tmp_path / "other.parquet")
    with pytest.raises(TableError, match="not a study table"):
        read_table(tmp_path / "other.parquet")
    with pytest.raises(TableError, match="is not there"):
        read_table(tmp_path / "none.parquet")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        table.write(tmp_path / "file" / "t.parquet")
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(OutputError):
        table.write(tmp_path / "folder.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.parquet", "other.parquet"]


def test_joins_go_by_name_and_refuse_strangers() -> None:
    assert join_by_name(["a", "b"], {"b": 1}, what="list") == {"b": 1}
    with pytest.raises(TableError, match="list: names 1 images that are not in the set, first 'c'"):
        join_by_name(["a", "b"], {"b": 1, "c": 2}, what="list")


def test_select_keeps_rows_that_agree_with_all() -> None:
    table = table_of(*(StudyRow(f"s{i}", "p", f"{i}.png", "x", view=view) for i, view in enumerate(("PA", "AP", "PA"))))
    table = table.with_column("split", ["train", "train", "test"])
    assert list(table.select(split="train").frame["image_id"]) == ["s0", "s1"]
    assert list(table.select(split="train", rows=[True, False, True]).frame["image_id"]) == ["s0"]
    assert list(table.select(rows=[False, False, True]).frame["image_id"]) == ["s2"]


def test_union_mask_tells_lung_ignore_and_nothing_apart(tmp_path: Path) -> None:
    grey = np.array([[0, 127, 255, 255]], dtype=np.uint8)
    Picture.fromarray(grey).save(tmp_path / "m.png")
    drawn = StudyRow("s", "p", "a.png", "x", masks={"lungs": "m.png"})
    table = table_of(drawn, StudyRow("t", "p", "b.png", "x"), root=tmp_path)
    record, bare = table.frame.to_dict("records")
    lungs, ignore = read_pair(table, record) or pytest.fail("a mask is there")
    assert lungs.tolist() == [[False, False, True, True]] and ignore.tolist() == [[False, True, False, False]]
    assert read_pair(table, bare) is None
    (tmp_path / "m.png").write_bytes(b"text")
    with pytest.raises(TableError, match=r"m\.png: cannot be read as a mask"):
        read_pair(table, record)


def test_sides_are_joined_and_must_agree_in_size() -> None:
    left, right = np.zeros((4, 6), dtype=bool), np.zeros((4, 6), dtype=bool)
    left[1, 4], right[2, 1] = True, True
    row = StudyRow("s", "p", "a.png", "x", masks={"left_lung": encode_runs(left), "right_lung": encode_runs(right)})
    table = table_of(row)
    lungs, ignore = read_pair(table, table.frame.to_dict("records")[0]) or pytest.fail("masks are there")
    assert np.array_equal(lungs, left | right) and not ignore.any()
    odd = table_of(StudyRow("s", "p", "a.png", "x", masks={"left_lung": encode_runs(left), "right_lung": encode_runs(left.T)}))
    with pytest.raises(TableError, match="two sizes"):
        read_pair(odd, odd.frame.to_dict("records")[0])


def test_a_table_of_the_earlier_format_is_read_with_its_masks_in_one_column(tmp_path: Path) -> None:
    rows = [StudyRow("s", "p", "a.png", "x", masks={"lungs": "m.png"}), StudyRow("t", "p", "b.png", "x")]
    table = table_of(*rows, root=tmp_path)
    frame = table.frame.drop(columns="masks").assign(
        lung_mask=["m.png", ""], lung_mask_kind=["union", ""], left_lung_mask="", right_lung_mask="",
        heart_mask=["", "h.png"], lesion_masks=["{}", '{"pneumothorax": "runs:2x2:1 2"}'],
    )
    content = pyarrow.Table.from_pandas(frame, preserve_index=False)
    about = json.dumps({"format": "storyxai study table 1", "root": "."})
    parquet.write_table(content.replace_schema_metadata({"storyxai": about}), tmp_path / "old.parquet")
    read = read_table(tmp_path / "old.parquet")
    assert [json.loads(cell) for cell in read.frame["masks"]] == [
        {"lungs": "m.png"}, {"heart": "h.png", "pneumothorax": "runs:2x2:1 2"},
    ]
    assert list(read.frame.columns) == list(COLUMNS)


def test_the_patients_right_lung_is_on_the_left_of_the_picture() -> None:
    lungs = np.zeros((40, 40), dtype=bool)
    lungs[5:35, 4:16], lungs[8:30, 24:36], lungs[1, 1] = True, True, True
    left, right = split_pair(lungs) or pytest.fail("two lungs are there")
    assert left[10, 30] and not left[10, 10] and right[10, 10] and not right[10, 30]
    assert not (left | right)[1, 1]  # a crumb belongs to neither
    swapped = split_pair(lungs[:, ::-1]) or pytest.fail("two lungs are there")
    assert np.array_equal(swapped[0], right[:, ::-1]) and np.array_equal(swapped[1], left[:, ::-1])


def test_lungs_that_cannot_be_told_apart_are_not_guessed() -> None:
    lungs = np.zeros((40, 40), dtype=bool)
    assert split_pair(lungs) is None
    lungs[5:35, 4:16] = True
    assert split_pair(lungs) is None  # one lung
    lungs[8:30, 24:36], lungs[20, 16:24] = True, True
    assert split_pair(lungs) is None  # they touch
    stacked = np.zeros((40, 40), dtype=bool)
    stacked[2:18, 10:30], stacked[22:38, 10:30] = True, True
    assert split_pair(stacked) is None  # one above the other


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_runs_round_trip(height: int, width: int, random: object) -> None:
    mask = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])  # type: ignore[attr-defined]
    assert np.array_equal(decode_runs(encode_runs(mask)), mask)


def test_runs_outside_the_picture_are_refused() -> None:
    for starts, lengths in (([0], [7]), ([-1], [1]), ([5], [2]), ([0, 1], [1])):
        with pytest.raises(TableError, match="thing"):
            fill_runs(starts, lengths, height=2, width=3, what="thing")
    assert fill_runs([1, 4], [2, 1], height=2, width=3, what="x").tolist() == [[0, 1, 1], [0, 1, 0]]


def test_codes_become_labels_and_no_finding_states_nothing() -> None:
    labels, uncertain, others = labels_from_codes(
        {"No Finding": 1.0, "Pleural Effusion": 1.0, "Edema": 0.0, "Pneumonia": -1.0, "Mass": math.nan, "Fracture": 1.0}
    )
    assert labels == {"Effusion": 1.0, "Edema": 0.0} and uncertain == ("Pneumonia",) and others == ("Fracture",)
    # two names of one finding: present beats uncertain beats absent, in any order
    both = {"Edema": -1.0, "Pulmonary edema": 0.0}
    assert labels_from_codes(both)[:2] == labels_from_codes(dict(reversed(both.items())))[:2] == ({}, ("Edema",))
    listed, unknown = labels_from_list(["Mass", "Pleural effusion", "Dragon"])
    assert listed == {**dict.fromkeys(NAMES, 0.0), "Mass": 1.0, "Effusion": 1.0} and unknown == ("Dragon",)
    assert labels_from_list(["No Finding"]) == (dict.fromkeys(NAMES, 0.0), ())


def test_a_table_of_another_modality_has_its_findings_as_columns_and_keeps_them(tmp_path: Path) -> None:
    schema = TableSchema("toy_spots", ("Bright_spot", "Dark_spot"), ("spot",))
    rows = [StudyRow(name, name, f"{name}.png", "toy", labels={"Bright_spot": value}, masks={"spot": "runs:2x2:1 2"})
            for name, value in (("a", 1.0), ("b", 0.0))]
    table = StudyTable.from_rows(rows, root=tmp_path, schema=schema).select(rows=[True, True])
    table.write(tmp_path / "toy.parquet")
    read = read_table(tmp_path / "toy.parquet")
    assert read.schema == schema and list(read.frame.columns) == list(schema.columns)
    assert [name for name in read.frame.columns if name.startswith("label_")] == ["label_Bright_spot", "label_Dark_spot"]
    np.testing.assert_array_equal(read.labels().values, [[1, np.nan], [0, np.nan]])
    (spot, ignored) = read_structures(read, read.frame.iloc[0].to_dict())["spot"]
    np.testing.assert_array_equal(spot, [[False, True], [True, False]])
    assert ignored is None


def test_a_table_of_chest_radiographs_is_stored_as_before(tmp_path: Path) -> None:
    StudyTable.from_rows([StudyRow("c", "c", "c.png", "x")], root=tmp_path).write(tmp_path / "t.parquet")
    about = json.loads(parquet.read_metadata(tmp_path / "t.parquet").metadata[b"storyxai"])
    assert set(about) == {"format", "root"}
