"""Tables as spreadsheets, data frames and other systems write them again: understood, or named; nothing is lost unsaid."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

from storyxai.data.importing import read_source
from storyxai.data.reading import report_text
from storyxai.data.table import StudyTable
from storyxai.errors import TableError


def read(folder: Path, source: str, files: Mapping[str, str | bytes]) -> StudyTable:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_source(source, folder)


def left_out(table: StudyTable) -> list[tuple[str, str]]:
    return [(item.what, item.why) for item in table.skipped]


PICTURES = dict.fromkeys(("a.png", "b.png", "c.png", "d.png"), b"x")


def mine(folder: Path, text: str, files: Mapping[str, str | bytes] = PICTURES) -> StudyTable:
    return read(folder, "manifest", {**files, "mine.csv": text})


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_paths_of_another_system(tmp_path: Path, form: str) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    on_disk = unicodedata.normalize(form, "Thöräx 1/ä b.png")  # type: ignore[arg-type]
    said = unicodedata.normalize(other, "Thöräx 1\\ä b.png")  # type: ignore[arg-type]
    table = mine(tmp_path, f"image,patient_id\n{said},1\n", {on_disk: b"x"})
    assert list(table.frame["image"]) == [on_disk]


def test_lines_of_commas_are_none_and_lines_twice_are_one(tmp_path: Path) -> None:
    table = mine(tmp_path, "image,patient_id,Effusion\na.png,1,1\n,,\na.png,1,1\nb.png,2,0\n")
    assert list(table.frame["image"]) == ["a.png", "b.png"]
    assert left_out(table) == [("a", "stands in the table twice with the same cells")]
    with pytest.raises(TableError, match="a: stands in the table twice with other cells"):
        mine(tmp_path, "image,patient_id,Effusion\na.png,1,1\na.png,1,0\n")


def test_truths_and_ages_as_other_programs_write_them(tmp_path: Path) -> None:
    pd.DataFrame({
        "image": ["a.png", "b.png", "c.png"], "patient_id": [1, 2, 3], "Effusion": [True, False, True],
        "age_years": ["045Y", "999Y", "018M"],
    }).to_parquet(tmp_path / "mine.parquet")  # fmt: skip
    frame = read(tmp_path, "manifest", PICTURES).frame
    assert list(frame["label_Effusion"]) == [1, 0, 1]
    assert list(frame["age_years"].fillna(-1)) == [45, -1, 1.5]


CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,Edema,Report\n"
    "C\\train\\patient1\\study1\\view1_frontal.jpg,Male,40,Frontal,PA,{},x\n"
)


def test_chexpert_with_backslashes_and_a_label_that_is_none(tmp_path: Path) -> None:
    films = {"train/patient1/study1/view1_frontal.jpg": b"x"}
    table = read(tmp_path, "chexpert", {**films, "train.csv": CHEXPERT.format("1.0")})
    assert list(table.frame["label_Edema"]) == [1] and table.skipped == ()
    for cell in ("yes", "2"):
        with pytest.raises(TableError, match=rf"train\.csv, line 2: has '{cell}' under 'Edema'"):
            read(tmp_path, "chexpert", {"train.csv": CHEXPERT.format(cell)})


MIMIC = {
    "mimic-cxr-2.0.0-metadata.csv": "dicom_id,subject_id,study_id,ViewPosition\na,10,50,PA\n",
    "mimic-cxr-2.0.0-split.csv": "dicom_id,study_id,subject_id,split\na,50,10,train\n",
    "mimic-cxr-2.0.0-chexpert.csv": "subject_id,study_id,Edema\n10.0,50.0,1.0\n",
    "s50/a.jpg": b"x", "s50.txt": "FINDINGS: Größe\n".encode("latin-1"),
}  # fmt: skip


def test_mimic_with_ids_as_fractions_and_a_report_in_latin_1(tmp_path: Path) -> None:
    """Every label of the set was lost without a word, and the report's letters with it."""
    row = read(tmp_path, "mimic-cxr-jpg", MIMIC).frame.iloc[0]
    assert (row["label_Edema"], row["findings_text"]) == (1, "Größe")
    with pytest.raises(TableError, match="the chexpert table, line 2: has 'yes' under 'Edema'"):
        read(tmp_path, "mimic-cxr-jpg", {"mimic-cxr-2.0.0-chexpert.csv": "subject_id,study_id,Edema\n10,50,yes\n"})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_reports_in_other_encodings_keep_their_letters(encoding: str) -> None:
    """UTF-16 was read as the letters of Western Europe, each followed by a NUL."""
    assert report_text("FINDINGS: Gr\u00f6\u00dfe".encode(encoding)) == "FINDINGS: Gr\u00f6\u00dfe"


def test_an_empty_cell_of_nih_is_no_normal_film(tmp_path: Path) -> None:
    """All fourteen findings were stated as absent."""
    head = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
    lines = "00000001_000.png,,0,1,58,M,PA\n00000002_000.png,nan,0,2,58,M,PA\n00000003_000.png,No Finding,0,3,58,M,PA\n"
    films = {f"images/0000000{number}_000.png": b"x" for number in (1, 2, 3)}
    labels = read(tmp_path, "nih", {**films, "Data_Entry_2017_v2020.csv": head + lines}).labels().values
    assert pd.isna(labels[:2]).all() and (labels[2] == 0).all()


PADCHEST = (
    "ImageID,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,Projection,Labels,Report,MethodLabel\n"
    "a.png,20140915,S1,P1,1930.0,F,PA,{},x,Physician\n"
)


def test_padchest_lists_in_either_quotes_and_what_is_no_list(tmp_path: Path) -> None:
    name = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
    either = read(tmp_path, "padchest", {"a.png": b"x", name: PADCHEST.format('"[""pleural effusion"", \'normal\']"')})
    assert list(either.frame["label_Effusion"]) == [1] and either.skipped == ()
    bare = read(tmp_path, "padchest", {name: PADCHEST.format("pleural effusion")})
    assert bare.frame["label_Effusion"].isna().all()
    assert left_out(bare) == [("a.png", "has labels that are no list ('pleural effusion'); nothing is stated of the image")]


def test_boxes_without_an_area_are_named(tmp_path: Path) -> None:
    rsna = read(tmp_path / "rsna", "rsna", {
        "a.dcm": b"x", "stage_2_train_labels.csv": "patientId,x,y,width,height,Target\na,1,1,-2,5,1\na,1,1,2,5,1\n",
    })  # fmt: skip
    assert left_out(rsna) == [("a box of a", "has no area")] and len(json.loads(rsna.frame["boxes"][0])) == 1
    vindr = read(tmp_path / "vindr", "vindr", {
        "train/x.dicom": b"x",
        "train.csv": "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
                     "x,Cardiomegaly,3,R8,30,40,1,2\nx,No finding,14,R9,,,,\n",
    })  # fmt: skip
    assert left_out(vindr) == [("a box of x (Cardiomegaly)", "has no area")]


def test_a_target_of_rsna_that_is_none_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"stage_2_train_labels\.csv, 'a': has '2' under 'Target'"):
        read(tmp_path, "rsna", {"a.dcm": b"x", "stage_2_train_labels.csv": "patientId,x,y,width,height,Target\na,,,,,2\n"})


def test_a_patient_of_null_is_none(tmp_path: Path) -> None:
    """Every image of such a COCO file was one patient called None."""
    images = [{"id": 1, "file_name": "a.png", "patient_id": None}, {"id": 2, "file_name": "b.png", "patient_id": None}]
    about = json.dumps({"images": images, "categories": [], "annotations": []})
    table = read(tmp_path, "coco", {**PICTURES, "all.json": about})
    assert table.frame["patient_id"].nunique() == 2
