"""Tables as spreadsheets of other countries and systems save them: read as with commas in UTF-8, or refused with the mend."""

from __future__ import annotations

import codecs
import gzip
from pathlib import Path

import pandas as pd
import pytest

from storyxai.data.importing import read_source
from storyxai.data.reading import code_of, number, read_csv, read_json, read_lines
from storyxai.errors import TableError

PLAIN = "image,patient_id,age_years,Effusion,findings_text\na.png,p1,45.5,1,Größe: klein\nb.png,p2,7,0.25,\"zwei, drei\"\n"
SEMICOLONS = "image;patient_id;age_years;Effusion;findings_text\na.png;p1;45,5;1;Größe: klein\nb.png;p2;7;0,25;zwei, drei\n"


def frame_of(folder: Path, data: bytes, name: str = "mine.csv") -> pd.DataFrame:
    (folder / name).write_bytes(data)
    for picture in ("a.png", "b.png"):
        (folder / picture).write_bytes(b"x")
    return read_source("manifest", folder / name).frame


@pytest.fixture
def plain(tmp_path: Path) -> pd.DataFrame:
    folder = tmp_path / "plain"
    folder.mkdir()
    return frame_of(folder, PLAIN.encode())


SAVED = {
    "UTF-8 with mark": codecs.BOM_UTF8 + PLAIN.encode(),
    "UTF-16 little": codecs.BOM_UTF16_LE + PLAIN.encode("utf-16-le"),
    "UTF-16 big": codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
    "UTF-16 little without mark": PLAIN.encode("utf-16-le"),
    "UTF-16 big without mark": PLAIN.encode("utf-16-be"),
    "UTF-32": codecs.BOM_UTF32_LE + PLAIN.encode("utf-32-le"),
    "Excel's Unicode text": codecs.BOM_UTF16_LE + SEMICOLONS.replace(";", "\t").replace("\n", "\r\n").encode("utf-16-le"),
    "semicolons": codecs.BOM_UTF8 + SEMICOLONS.encode(),
    "semicolons and quotes": "\n".join(
        ";".join(f'"{cell}"' for cell in line.split(";")) for line in SEMICOLONS.splitlines()).encode(),
    "tabs": SEMICOLONS.replace(";", "\t").encode(),
    "bars": SEMICOLONS.replace(";", "|").encode(),
    "a line that names the separator": b"sep=;\r\n" + SEMICOLONS.encode(),
    "a line that names the comma": b"sep=,\n" + PLAIN.encode(),
    "lines of Windows": PLAIN.replace("\n", "\r\n").encode(),
    "lines of the old Mac": PLAIN.replace("\n", "\r").encode(),
    "lines of all kinds, and empty ones": b"\r\n" + PLAIN.replace("\n", "\r\n", 1).encode() + b"\r\n\n\r\n",
    "a column of commas at the end": PLAIN.replace("\n", ",\n").encode(),
}


@pytest.mark.parametrize("kind", SAVED)
def test_the_table_is_the_same_however_it_is_saved(tmp_path: Path, plain: pd.DataFrame, kind: str) -> None:
    pd.testing.assert_frame_equal(frame_of(tmp_path, SAVED[kind]), plain)


def test_packed_tables_are_known_by_their_text_too(tmp_path: Path, plain: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(frame_of(tmp_path, gzip.compress(SAVED["Excel's Unicode text"]), "mine.csv.gz"), plain)


def test_text_with_commas_beside_numbers_with_commas_keeps_them(tmp_path: Path) -> None:
    """Only a column that holds nothing but numbers is one of decimal commas."""
    (tmp_path / "t.csv").write_bytes(b"a;b;c;d\n1,5;1,5;1,5,2;\nNaN;x;7;2,0E-3\n;2;;-1\n")
    frame = read_csv(tmp_path / "t.csv", columns=("a", "b"))
    assert frame.to_dict("list") == {
        "a": ["1.5", "NaN", ""], "b": ["1,5", "x", "2"], "c": ["1,5,2", "7", ""], "d": ["", "2.0E-3", "-1"]}


def test_a_comma_table_with_semicolons_in_its_head_stays_one_of_commas(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a;b,c|d\n1;2,3|4\n")
    assert read_csv(tmp_path / "t.csv").to_dict("list") == {"a;b": ["1;2"], "c|d": ["3|4"]}


@pytest.mark.parametrize(("cell", "value"), [("0,35", 0.35), ("45,5", 45.5), ("-1", -1), ("1e-3", 1e-3), ("0,125", 0.125)])
def test_numbers_with_a_decimal_comma(cell: str, value: float) -> None:
    assert number(cell) == value


@pytest.mark.parametrize("cell", ["1,000", "12,345", "1,2,3", "1_0", ",5,", "٣", ""])
def test_what_may_be_thousands_or_is_no_number_is_none(cell: str) -> None:
    assert number(cell) != number(cell)


@pytest.mark.parametrize("cell", ["", "nan", "NA", "N/A", "#N/A", "#NV", "NULL", "None", "<NA>", "-", "."])
def test_spellings_of_nothing_state_nothing(tmp_path: Path, cell: str) -> None:
    assert code_of(cell, "here", "Edema") != 0
    frame = frame_of(tmp_path, f"image,patient_id,age_years,Effusion,sex,view\na.png,p1,{cell},{cell},{cell},{cell}\n".encode())
    assert frame[["age_years", "label_Effusion"]].isna().all(axis=None)
    assert (frame["sex"].item(), frame["view"].item()) == ("", "unknown")
    with pytest.raises(TableError, match="line 2: has no image or no patient_id"):
        frame_of(tmp_path, f"image,patient_id\na.png,{cell}\n".encode())


@pytest.mark.parametrize("cell", ["1,00E+05", "1.23E+15", "1e+05", "1.5E+07"])
@pytest.mark.parametrize("column", ["patient_id", "study_id", "image_id"])
def test_ids_that_a_spreadsheet_rounded_are_refused(tmp_path: Path, cell: str, column: str) -> None:
    """Other ids may have become the same: patients would share a name, and nothing would say so."""
    others = {"image": "a.png", "patient_id": "p1", column: cell}
    table = f"{';'.join(others)}\n{';'.join(others.values())}\n".encode()
    with pytest.raises(TableError, match=rf"mine\.csv, line 2: has '{cell.replace('+', '.').replace(',', '.')}'") as refused:
        frame_of(tmp_path, table)
    assert "text" in refused.value.mend


@pytest.mark.parametrize("cell", ["01.02.1965", "1965-02-01", "2/1/65", "forty", "1,000"])
def test_a_date_is_no_age(tmp_path: Path, cell: str) -> None:
    with pytest.raises(TableError, match=r"line 2: has '.*' under 'age_years'") as refused:
        frame_of(tmp_path, f'image,patient_id,age_years\na.png,p1,"{cell}"\n'.encode())
    assert "years" in refused.value.mend


@pytest.mark.parametrize(("data", "why", "mend"), [
    ("image;patient_id\nä.png;1\n".encode("cp1252"), "not UTF-8", "CSV UTF-8"),
    (b"image,patient_id\nr\xf6.png,1\n", "not UTF-8", "CSV UTF-8"),
    (codecs.BOM_UTF16_LE + b"i\0m", "UTF-16", "UTF-8"),
    (b"Image,Patient_ID\na.png,1\n", "lacks the column 'image'", "'Image'"),
    (b"PK\x03\x04" + b"\0" * 60, "spreadsheet", "CSV"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 60, "spreadsheet", "CSV"),
    (b"image patient_id\na.png 1\n", "lacks the column 'image'", "commas"),
])
def test_what_is_refused_is_told_with_its_mend(tmp_path: Path, data: bytes, why: str, mend: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(TableError) as refused:
        read_csv(tmp_path / "t.csv", columns=("image", "patient_id"))
    assert why in refused.value.why and mend in refused.value.mend and refused.value.what == "t.csv"


def test_thousands_of_columns_are_read_and_told_in_one_line(tmp_path: Path) -> None:
    names = [f"radiomics_{place}" for place in range(4000)]
    data = f"image,patient_id,{','.join(names)}\na.png,p1{',1' * len(names)}\n".encode()
    (tmp_path / "mine.csv").write_bytes(data)
    (tmp_path / "a.png").write_bytes(b"x")
    table = read_source("manifest", tmp_path / "mine.csv")
    assert len(table) == 1 and len(table.skipped) == 1
    assert "4000 columns" in table.skipped[0].what and "radiomics_0" in table.skipped[0].what


def test_ids_of_a_published_set_that_a_spreadsheet_rounded(tmp_path: Path) -> None:
    (tmp_path / "mimic-cxr-2.0.0-metadata.csv").write_text("dicom_id,subject_id,study_id,ViewPosition\na,1.00E+07,5,PA\n")
    (tmp_path / "mimic-cxr-2.0.0-chexpert.csv").write_text("subject_id,study_id,Edema\n10000032,5,1\n")
    (tmp_path / "mimic-cxr-2.0.0-split.csv").write_text("dicom_id,study_id,subject_id,split\na,5,10000032,train\n")
    with pytest.raises(TableError, match=r"line 2: has '1\.00E\+07', a number that a spreadsheet rounded"):
        read_source("mimic-cxr-jpg", tmp_path)


def test_lists_and_json_in_other_encodings(tmp_path: Path) -> None:
    for data in (codecs.BOM_UTF16_LE + "ä\r\nb\r\n".encode("utf-16-le"), codecs.BOM_UTF8 + "ä\nb".encode()):
        (tmp_path / "l.txt").write_bytes(data)
        assert read_lines(tmp_path / "l.txt") == ["ä", "b"]
    for data in (codecs.BOM_UTF16_LE + '{"ä": 1}'.encode("utf-16-le"), codecs.BOM_UTF8 + '{"ä": 1}'.encode()):
        (tmp_path / "j.json").write_bytes(data)
        assert read_json(tmp_path / "j.json") == {"ä": 1}
