"""A table of one's own: what people write in it is understood, or refused by line; nothing of it is lost unsaid."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from checks.source_checks import check_source
from storyxai.data.masks import read_grey_mask
from storyxai.data.sources.manifest import read_manifest
from storyxai.data.table import TableSchema, read_structures
from storyxai.errors import TableError
from storyxai.modalities.contract import FindingTerm, Modality, Structure


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("a", "b", "c")):
        coarse = np.random.default_rng(seed).uniform(20, 230, (6, 6)).astype(np.float32)
        grey = np.asarray(Picture.fromarray(coarse).resize((64, 64), Picture.Resampling.BICUBIC)).clip(0, 255)
        Picture.fromarray(grey.astype(np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def put(folder: Path, text: str) -> Path:
    path = folder / "mine.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_views_and_sexes_are_understood_as_people_write_them(folder: Path) -> None:
    put(folder, "image,patient_id,view,sex\na.png,1,pa,female\nb.png,2,Lateral,m\nc.png,3,ap supine,Unknown\n")
    table = check_source(read_manifest, folder)  # the suite knows no view called "pa"
    assert list(table.frame["view"]) == ["PA", "LATERAL", "AP"] and list(table.frame["sex"]) == ["F", "M", ""]


@pytest.mark.parametrize(("column", "cell", "mend"), [
    ("view", "sideways", "PA, AP, LATERAL"), ("sex", "7", "M, F"), ("age_years", "old", "years"),
    ("lung_mask_kind", "", ""),
])
def test_what_is_not_understood_is_refused_by_line_and_column(folder: Path, column: str, cell: str, mend: str) -> None:
    path = put(folder, f"image,patient_id,{column}\na.png,1,\nb.png,2,{cell}\n")
    if not mend:  # a column that has no place here is named, not refused
        assert f"column '{column}'" in {item.what for item in read_manifest(path).skipped}
        return
    with pytest.raises(TableError, match=rf"mine\.csv, line 3: has '{cell}' under '{column}'") as refused:
        read_manifest(path)
    assert mend in refused.value.mend


def test_an_age_that_nobody_has_is_not_stated_and_said(folder: Path) -> None:
    row = read_manifest(put(folder, "image,patient_id,age_years\na.png,1,411\n")).frame.iloc[0]
    assert math.isnan(row["age_years"]) and "411" in row["notes"]


@pytest.mark.parametrize(("one", "other"), [
    ("007", "7"), ("1.0", "1"), ("12.", "012"), ("0", "0.0"), ("P1", "p1"), ("M\u00fcller", "Mu\u0308ller"),
])
def test_one_patient_written_in_two_ways_is_refused_not_torn(folder: Path, one: str, other: str) -> None:
    """Else the patient's films stand in train and in test, and no check sees it."""
    put(folder, f"image,patient_id,split\na.png,{one},train\nb.png,P7,train\nc.png,{other},test\n")
    with pytest.raises(TableError, match=rf"mine\.csv, line 4: has the patient '{other}', .* calls '{one}'") as refused:
        read_manifest(folder)
    assert "one way" in refused.value.mend


def test_one_picture_of_two_patients_is_refused_whatever_its_path_is(folder: Path) -> None:
    put(folder, "image,patient_id\na.png,1\nb.png,2\nsub/../a.png,3\n")
    (folder / "sub").mkdir()
    with pytest.raises(TableError, match=r"mine\.csv, line 4: has a picture of the patient '1' as one of '3'"):
        read_manifest(folder)


@pytest.mark.parametrize(("name", "sign"), [("mine.tsv", "\t"), ("MINE.CSV", ",")])
def test_a_table_of_tabs_or_capitals_is_found_in_its_folder(folder: Path, name: str, sign: str) -> None:
    (folder / name).write_text(f"image{sign}patient_id\na.png{sign}1\n")
    assert len(read_manifest(folder)) == 1
    (folder / "other.csv").write_text("image,patient_id\na.png,1\nb.png,2\n")  # comes before tabs, as it did
    if name.endswith("tsv"):
        assert len(read_manifest(folder)) == 2


def test_what_nobody_drew_in_a_mask_is_no_part_of_it(folder: Path) -> None:
    """The colour under a transparent pixel, and what a JPEG holds around an edge."""
    drawn = np.zeros((64, 64), dtype=np.uint8)
    drawn[13:51, 10:43] = 255
    Picture.fromarray(np.dstack([np.full((64, 64, 3), 255, np.uint8), drawn])).save(folder / "clear.png")
    Picture.fromarray(drawn).save(folder / "lossy.jpg", quality=60)
    for name in ("clear.png", "lossy.jpg"):
        assert np.array_equal(read_grey_mask(name, folder), drawn), name


def test_ids_that_are_no_numbers_stay_apart(folder: Path) -> None:
    put(folder, "image,patient_id\na.png,P07\nb.png,P7\nc.png,7\n")
    assert list(read_manifest(folder).frame["patient_id"]) == ["P07", "P7", "7"]


@pytest.mark.parametrize("cell", ["nan", "NaN", "None", "<NA>"])
def test_an_id_that_says_nothing_is_no_patient(folder: Path, cell: str) -> None:
    put(folder, f"image,patient_id\na.png,1\nb.png,{cell}\n")
    with pytest.raises(TableError, match=r"line 3: has no image or no patient_id"):
        read_manifest(folder)


def test_two_films_of_one_study_are_two_rows_of_it(folder: Path) -> None:
    put(folder, "image,patient_id,study_id\na.png,1,s\nb.png,1,s\nc.png,2,t\n")
    table = check_source(read_manifest, folder)
    assert list(table.frame["image_id"]) == ["a", "b", "t"] and list(table.frame["study_id"]) == ["s", "s", "t"]


def test_a_study_of_two_patients_is_refused(folder: Path) -> None:
    with pytest.raises(TableError, match=r"study 's': has the patients '1' and '2'") as refused:
        read_manifest(put(folder, "image,patient_id,study_id\na.png,1,s\nb.png,2,s\n"))
    assert "patient" in refused.value.mend


def test_a_mask_that_is_not_there_is_named_and_the_film_kept(folder: Path) -> None:
    Picture.fromarray(np.full((64, 64), 255, dtype=np.uint8)).save(folder / "m.png")
    put(folder, "image,patient_id,lung_mask,heart_mask\na.png,1,m.png,gone.png\nb.png,2,elsewhere/m.png,\n")
    table = check_source(read_manifest, folder)
    assert list(table.frame["masks"]) == ['{"lungs": "m.png"}', "{}"]
    assert [(item.what, item.why) for item in table.skipped] == [
        ("gone.png", "is the heart_mask of a.png but not on disk; the image is kept"),
        ("elsewhere/m.png", "is the lung_mask of b.png but not on disk; the image is kept"),
    ]


@pytest.mark.parametrize("cell", ["runs:", "runs:64x64", "runs:axb:0 1", "runs:64x64:0 x", "runs:64x64:9999 5"])
def test_runs_that_are_none_are_refused(folder: Path, cell: str) -> None:
    with pytest.raises(TableError) as refused:
        read_manifest(put(folder, f"image,patient_id,lung_mask\na.png,1,{cell}\n"))
    assert refused.value.mend


def test_a_modality_brings_its_own_columns(folder: Path) -> None:
    spots = Modality("spots", (FindingTerm("Bright_spot", synonyms=("white dot",)),), structures=(Structure("spot"),))
    path = put(folder, "image,patient_id,White dot,spot_mask,Effusion\na.png,1,1,runs:64x64:0 3,1\nb.png,2,0,gone.png,\n")
    table = read_manifest(path, modality=spots)
    assert table.schema == TableSchema("spots", ("Bright_spot",), ("spot",))
    np.testing.assert_array_equal(table.labels().values, [[1], [0]])
    first, second = (read_structures(table, row) for row in table.frame.to_dict("records"))
    assert first["spot"][0].sum() == 3 and not second
    assert [item.what for item in table.skipped] == ["column 'Effusion'", "gone.png"]


def test_a_mask_that_codes_several_structures_is_refused_with_its_values(tmp_path: Path) -> None:
    """All of them were read as one structure, without a word. Soft edges, and what counts neither way, are no codes."""
    coded = np.zeros((64, 64), np.uint8)
    coded[8:24, 8:24], coded[30:50, 30:50] = 1, 2
    Picture.fromarray(coded).save(tmp_path / "coded.png")
    with pytest.raises(TableError, match=r"coded.png: fills places with several values \(1, 2\).* for each structure"):
        read_grey_mask("coded.png", tmp_path)
    drawn = Picture.fromarray(np.where(coded == 1, 255, 0).astype(np.uint8)).resize((200, 200), Picture.Resampling.BICUBIC)
    soft = np.asarray(drawn).copy()
    soft[100:140, 100:140] = 127
    Picture.fromarray(soft).save(tmp_path / "soft.png")
    assert np.array_equal(read_grey_mask("soft.png", tmp_path), soft)
