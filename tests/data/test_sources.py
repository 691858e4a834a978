"""Every source: the published layout in small, its quirks, and the conformance suite."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from checks.source_checks import check_source
from storyxai.data.importing import import_source
from storyxai.data.masks import read_grey_mask
from storyxai.data.sources import (
    chexmask,
    chexpert,
    coco,
    covid,
    dicom_folder,
    jsrt,
    kermany,
    manifest,
    mimic_cxr_jpg,
    nih,
    openi,
    padchest,
    phantom,
    rsna,
    siim,
    tuberculosis,
    vindr,
)
from storyxai.data.table import StudyTable, read_pair, read_table
from storyxai.errors import ReadError, TableError, UnknownNameError
from storyxai.imaging.jsrt_film import jsrt_words
from storyxai.imaging.read import read_image
from storyxai.modalities.chest_radiograph.findings import NAMES

SIDE = 64
MODEL_CLASSES = (
    "Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,"
    "No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)


def film(path: Path, *, seed: int = 0) -> None:
    """A picture of SIDE x SIDE that can be told from those of other seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed + len(path.name)).uniform(20, 230, (6, 6)).astype(np.float32)
    grey = np.asarray(Picture.fromarray(coarse).resize((SIDE, SIDE), Picture.Resampling.BICUBIC)).clip(0, 255)
    Picture.fromarray(grey.astype(np.uint8)).save(path)


def dicom(path: Path, *, patient: str = "", study: str = "", modality: str = "DX", seed: int = 0) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid(entropy_srcs=[path.name, str(seed)])
    header.Modality, header.PatientID, header.StudyInstanceUID = modality, patient, study
    header.PatientSex, header.PatientAge, header.ViewPosition, header.BodyPartExamined = "F", "064Y", "PA", "CHEST"
    header.Rows = header.Columns = SIDE
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.PixelData = np.random.default_rng(seed).integers(0, 4096, (SIDE, SIDE), dtype=np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)


def mask(path: Path, *, left: int = 8, value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.zeros((SIDE, SIDE), dtype=np.uint8)
    grey[10:50, left : left + 16] = value
    Picture.fromarray(grey).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")


def write_rows(path: Path, head: str, rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    text.write(head + "\n")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write(path, text.getvalue())


def row_of(table: StudyTable, image_id: str) -> dict[str, Any]:
    found = table.frame[table.frame["image_id"] == image_id].to_dict("records")
    assert len(found) == 1, (image_id, list(table.frame["image_id"]))
    return {str(key): value for key, value in found[0].items()}


def stated(row: dict[str, Any]) -> dict[str, float]:
    return {name: row[f"label_{name}"] for name in NAMES if not math.isnan(row[f"label_{name}"])}


def left_out(table: StudyTable) -> dict[str, str]:
    return {item.what: item.why for item in table.skipped}


def nih_folder(root: Path, *, lists: bool = False) -> Path:
    head = ("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
            "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]")
    write_rows(root / "Data_Entry_2017_v2020.csv", head, [
        ("00000001_000.png", "Cardiomegaly|Effusion", 0, 1, 58, "M", "PA", 2682, 2749, 0.143, 0.143),
        ("00000001_001.png", "No Finding", 1, 1, "058Y", "M", "AP", 2682, 2749, 0.143, 0.143),
        ("00000002_000.png", "Pneumonia", 0, 2, 411, "F", "PA", 2682, 2749, 0.143, 0.143),
        ("00000003_000.png", "Mass", 0, 3, 60, "F", "PA", 2682, 2749, 0.143, 0.143),
    ])
    write(root / "BBox_List_2017.csv", "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
          "00000001_000.png,Infiltrate,512,256,128,64,,,\n")
    write(root / "rsna_boxes.csv", "Image Index,x,y,width,height,class\n00000001_001.png,,,,,Normal\n"
          "00000002_000.png,100,200,300,400,Lung Opacity\n00000002_000.png,500,200,300,400,Lung Opacity\n")
    for place, name in (("images_001/images", "00000001_000"), ("images_001/images", "00000001_001"),
                        ("images_002/images", "00000002_000")):
        film(root / place / f"{name}.png", seed=int(name[-5:-4] + name[7]))
    film(root / "images_002" / "images" / "00000099_000.png")
    if lists:
        write(root / "train_val_list.txt", "00000001_000.png\n00000001_001.png\n")
        write(root / "test_list.txt", "00000002_000.png\n")
    return root


def test_nih(tmp_path: Path) -> None:
    table = check_source(nih.read_nih, nih_folder(tmp_path))
    assert left_out(table) == {
        "images_002/images/00000099_000.png": "is an image without a line in the entry table",
        "00000003_000.png": "is in the entry table but not in the folder",
    }
    first, normal, third = (row_of(table, f"nih-{name}") for name in ("00000001_000", "00000001_001", "00000002_000"))
    assert stated(first) == {**dict.fromkeys(NAMES, 0.0), "Cardiomegaly": 1.0, "Effusion": 1.0}
    assert stated(normal) == dict.fromkeys(NAMES, 0.0)
    assert first["patient_id"] == normal["patient_id"] != third["patient_id"]
    assert (first["age_years"], normal["age_years"]) == (58, 58) and math.isnan(third["age_years"])
    box = table.boxes_of(first, height=512, width=512)[0]
    assert (box.finding, box.x, box.y, box.width, box.height) == ("Infiltration", 256, 128, 64, 32)
    assert [box.finding for box in table.boxes_of(third, height=1, width=1)] == ["Pneumonia", "Pneumonia"]
    # not in RSNA is unknown; read by RSNA and free of opacity is known, with no box
    assert (first["boxes_complete"], normal["boxes_complete"], normal["boxes"]) == (False, True, "[]")
    assert [row["origin"] for row in (first, normal, third)] == ["balanced-set", "pneumonia-set", "balanced-set"]
    assert "doubtful" in third["notes"] and "doubtful" not in first["notes"]


def test_nih_official_lists(tmp_path: Path) -> None:
    folder = nih_folder(tmp_path, lists=True)
    table = check_source(nih.read_nih, folder)
    assert list(table.frame["official_split"]) == ["train", "train", "test"] and not table.frame["origin"].any()
    write(folder / "test_list.txt", "00000001_000.png\n")
    with pytest.raises(TableError, match=r"test_list\.txt: names '00000001_000\.png'"):
        nih.read_nih(folder)
    write(folder / "test_list.txt", "30000001_000.png\n")  # of another set: to go on would test on training films
    with pytest.raises(TableError, match=r"test_list\.txt: names no image of the entry table") as refused:
        nih.read_nih(folder)
    assert "take it away" in refused.value.mend


def test_stray_files_of_the_nih_set_cost_no_look_at_the_whole_table_each(tmp_path: Path) -> None:
    """2,000 files without a line beside 40,000 lines without a file: a set made once, not once a file."""
    folder = nih_folder(tmp_path)
    with (folder / "Data_Entry_2017_v2020.csv").open("a", encoding="utf-8") as table:
        table.writelines(f"{number:08d}_000.png,No Finding,0,{number},50,F,PA,1,1,0.1,0.1\n" for number in range(100, 40_100))
    began = time.process_time()
    nih.read_nih(folder)
    alone = time.process_time() - began
    for number in range(2_000):
        (folder / "images_002" / "images" / f"9{number:07d}_000.png").touch()
    began = time.process_time()
    table = nih.read_nih(folder)
    assert time.process_time() - began < 2 * alone + 0.2
    assert sum(item.why == "is an image without a line in the entry table" for item in table.skipped) == 2_001


def test_a_damaged_table_is_refused_by_name_and_column(tmp_path: Path) -> None:
    folder = nih_folder(tmp_path)
    write(folder / "Data_Entry_2017_v2020.csv", "Image Index,Findings\na,b\n")
    with pytest.raises(TableError, match=r"Data_Entry_2017_v2020\.csv: lacks the column 'Finding Labels'"):
        nih.read_nih(folder)
    (folder / "Data_Entry_2017_v2020.csv").write_bytes(b"\xff\xfe\x00\x01broken")
    with pytest.raises(TableError, match=r"Data_Entry_2017_v2020\.csv: cannot be read as CSV"):
        nih.read_nih(folder)
    write(folder / "Data_Entry_2017_v2020.csv", "")
    with pytest.raises(TableError, match="cannot be read as CSV"):
        nih.read_nih(folder)


def test_kermany_as_published_and_with_pairs(tmp_path: Path) -> None:
    published = tmp_path / "chest_xray"
    for place, name in (("train", "NORMAL/IM-0115-0001"), ("train", "PNEUMONIA/person1_bacteria_1"),
                        ("test", "NORMAL/NORMAL2-IM-0115-0001"), ("test", "PNEUMONIA/person1_virus_6")):
        film(published / place / f"{name}.jpeg", seed=len(name))
    table = check_source(kermany.read_kermany, published)
    assert table.frame["patient_id"].nunique() == 2  # the prefix and the cause do not make another patient
    assert not table.frame["official_split"].any() and table.frame["notes"].str.contains("publisher's folder").all()
    normal, virus = row_of(table, "kermany-IM-0115-0001"), row_of(table, "kermany-person1_virus_6")
    assert stated(normal) == {"Pneumonia": 0.0} and stated(virus) == {"Pneumonia": 1.0} and "cause: virus" in virus["notes"]
    paired = tmp_path / "paired"
    for name in ("NORMAL/IM-0117-0001", "PNEUMONIA/person9_virus_1"):
        film(paired / "images" / f"{name}.jpg", seed=len(name))
    mask(paired / "masks" / "IM-0117-0001.png")
    write(paired / "pairs.csv", "image,mask,how,patient_id,width,height,v7_id\n"
          "images/NORMAL/IM-0117-0001.jpg,masks/IM-0117-0001.png,unique,IM-0117,9,9,1\n"
          "images/PNEUMONIA/person9_virus_1.jpg,masks/gone.png,order,person9,9,9,2\n")
    table = check_source(kermany.read_kermany, paired)
    assert [list(json.loads(cell)) for cell in table.frame["masks"]] == [["lungs"], []]
    assert list(left_out(table)) == ["masks/gone.png"]


def test_of_the_covid_collection_what_is_under_cc_by_alone(tmp_path: Path) -> None:
    head = "patientid,sex,age,finding,view,modality,filename,license,clinical_notes\n"
    licences = {"a": "CC BY 4.0", "b": "CC BY-NC-SA", "c": "", "d": "CC BY", "e": "CC BY-SA", "f": "CC BY 3.0 "}
    lines = [f"{name},M,40,COVID-19,PA,X-ray,{name}.png,{licence},\n" for name, licence in licences.items()]
    write(tmp_path / "metadata.csv", head + "".join(lines))
    for name in licences:
        film(tmp_path / "images" / f"{name}.png", seed=ord(name))
    table = covid.read_covid_cc_by(tmp_path)
    assert list(table.frame["image_id"]) == ["covid-a", "covid-d", "covid-f"] and set(table.frame["source"]) == {"covid"}
    said = {item.what: item.why for item in table.skipped}
    assert said["covid-c"] == "comes without a licence" and said["covid-b"] == "is not under CC BY but under 'CC BY-NC-SA'"
    assert set(said) == {"covid-b", "covid-c", "covid-e"}


def test_covid(tmp_path: Path) -> None:
    head = ("patientid,offset,sex,age,finding,survival,view,modality,date,location,folder,filename,doi,url,license,"
            "clinical_notes,other_notes,")
    lines = [
        ("2", "0", "M", "65", "COVID-19", "Y", "AP Supine", "X-ray", "", "", "images", "a.jpeg", "", "", "CC BY",
         "two  words", "", ""),
        ("3", "", "", "", "Pneumonia/Viral/SARS", "", "PA", "X-ray", "", "", "images", "b.png", "", "", " ", "", "", ""),
        ("4", "", "F", "", "No Finding", "", "L", "X-ray", "", "", "images", "c.png", "", "", "", "", "", ""),
        ("5", "", "F", "", "ARDS", "", "PA", "X-ray", "", "", "images", "d.png", "", "", "", "", "", ""),
        ("6", "", "F", "", "COVID-19", "", "Axial", "CT", "", "", "volumes", "e.nii.gz", "", "", "", "", "", ""),
        ("7", "", "F", "", "COVID-19", "", "PA", "X-ray", "", "", "images", "f.png", "", "", "", "", "", ""),
    ]
    write_rows(tmp_path / "metadata.csv", head, lines)
    for seed, name in enumerate(("a.jpg", "b.png", "c.png", "d.png")):
        film(tmp_path / "images" / name, seed=9 * seed)
    mask(tmp_path / "masks" / "a.png")
    mask(tmp_path / "lesions" / "d__consolidation.png")
    mask(tmp_path / "lesions" / "d__ground_glass_opacities.png")
    table = check_source(covid.read_covid, tmp_path)
    a, b, c, d = (row_of(table, f"covid-{name}") for name in "abcd")
    assert [stated(row) for row in (a, b, c, d)] == [
        {"Pneumonia": 1.0}, {"Pneumonia": 1.0}, {"Pneumonia": 0.0}, {"Consolidation": 1.0}
    ]
    assert (a["view"], b["view"], c["view"]) == ("AP", "PA", "LATERAL")
    assert a["license"] == "CC BY" and b["license"] == "" and "case note: two words" in a["notes"]
    assert set(json.loads(d["masks"])) == {"consolidation", "ground_glass_opacities"}
    assert left_out(table) == {
        "e.nii.gz": "is no radiograph (modality CT)", "f.png": "is in metadata.csv but not in the folder",
    }


def report_xml(number: int, *, majors: Sequence[str], images: Sequence[str] = (), prolog: str = "") -> bytes:
    pictures = "".join(f'<parentImage id="{name}"/>' for name in images)
    tags = "".join(f"<major>{tag}</major>" for tag in majors)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>{prolog}<eCitation><uId id="CXR{number}"/>'
        f'<licenseURL>http://x/by</licenseURL>'
        f'<Abstract><AbstractText Label="FINDINGS">Lungs\n  are clear XXXX.</AbstractText>'
        f'<AbstractText Label="IMPRESSION"/></Abstract><MeSH>{tags}<automatic>emphysema</automatic></MeSH>'
        f'{pictures}</eCitation>'
    ).encode()


def test_openi_from_the_archive_in_memory(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
    members = {
        "1.xml": report_xml(1, majors=["normal"], images=["CXR1_IM-0001-3001", "CXR1_IM-0001-4001"]),
        "2.xml": report_xml(2, majors=["Pleural Effusion/left/small", "Opacity/lung/base", "Nodule/breast"]),
        "3.xml": report_xml(3, majors=["Emphysema, Subcutaneous", "Cardiomegaly/questionable"]),
        "4.xml": report_xml(4, majors=["No Indexing"]),
        "5.xml": report_xml(5, majors=[], prolog=bomb),
        "6.xml": b"<eCitation><uId",
        "notes.txt": b"no report",
        "../../escape.xml": report_xml(7, majors=["normal"]),
    }
    with tarfile.open(tmp_path / "NLMCXR_reports.tgz", "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(f"ecgen-radiology/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    film(tmp_path / "NLMCXR_png" / "CXR1_IM-0001-3001.png")
    film(tmp_path / "NLMCXR_png" / "stray.png", seed=4)
    table = check_source(openi.read_openi, tmp_path)
    image, bare = row_of(table, "openi-CXR1_IM-0001-3001"), row_of(table, "openi-CXR2")
    assert image["image"] == "NLMCXR_png/CXR1_IM-0001-3001.png" and "1 of 2 images" in image["notes"]
    assert stated(image) == dict.fromkeys(NAMES, 0.0)
    assert (image["findings_text"], image["impression_text"], image["license"]) == ("Lungs are clear XXXX.", "", "http://x/by")
    known = stated(bare)
    assert bare["image"] == "" and known["Effusion"] == 1 and known["Hernia"] == 0
    assert "Consolidation" not in known and "Nodule" not in known  # an opacity may be either
    doubt = row_of(table, "openi-CXR3")
    assert doubt["uncertain"] == "Cardiomegaly" and stated(doubt)["Emphysema"] == 0 and "Cardiomegaly" not in stated(doubt)
    assert stated(row_of(table, "openi-CXR4")) == {}
    reasons = left_out(table)
    assert set(reasons) == {"5.xml", "6.xml", "NLMCXR_png/stray.png"}
    assert "EntitiesForbidden" in reasons["5.xml"] or "DTDForbidden" in reasons["5.xml"]
    (tmp_path / "NLMCXR_reports.tgz").write_bytes((tmp_path / "NLMCXR_reports.tgz").read_bytes()[:200])
    with pytest.raises(TableError, match=r"NLMCXR_reports\.tgz: cannot be read"):
        openi.read_openi(tmp_path)


def test_phantoms_come_back_as_they_were_made(tmp_path: Path) -> None:
    from storyxai.phantoms.generate import generate_phantom, write_phantoms

    write_phantoms(tmp_path / "phantoms", count=4, seed=3, size=96)
    table = check_source(phantom.read_phantom, tmp_path / "phantoms")
    for seed in range(3, 7):
        made, row = generate_phantom(seed, size=96), row_of(table, f"phantom-{seed}")
        assert stated(row) == dict(made.labels) and row["findings_text"].split("\n") == list(made.report)
        lungs, _ = read_pair(table, row) or pytest.fail("a phantom has lungs")
        assert np.array_equal(lungs, made.masks["left_lung"] | made.masks["right_lung"])
        for one, other in zip(table.boxes_of(row, height=96, width=96), made.boxes, strict=True):
            assert (one.finding, one.x, one.height) == (other.finding, pytest.approx(other.x), pytest.approx(other.height))
        assert set(json.loads(row["masks"])) == {*made.sign_masks, *made.masks}
    write(tmp_path / "phantoms" / "phantoms.json", '{"format": 1, "size": 96, "phantoms": [{"id": "phantom-3"}]}')
    with pytest.raises(TableError, match=r"phantoms\.json"):
        phantom.read_phantom(tmp_path / "phantoms")


def test_chexpert(tmp_path: Path) -> None:
    head = "Path,Sex,Age,Frontal/Lateral,AP/PA," + MODEL_CLASSES
    base = "CheXpert-v1.0-small/train/patient00001/study1"
    codes = ["-1.0", "1.0", "", "0.0", "", "1.0", "", "", "", "1.0", "", "", "", ""]
    write_rows(tmp_path / "train.csv", head, [
        (f"{base}/view1_frontal.jpg", "Female", 68, "Frontal", "AP", *codes),
        (f"{base}/view2_lateral.jpg", "Unknown", 0, "Lateral", "", *codes),
        (f"{base}/view3_frontal.jpg", "Male", 40, "Frontal", "PA", *codes),
    ])
    write_rows(tmp_path / "valid.csv", head, [
        ("CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg", "Male", 73, "Frontal", "AP", *["0.0"] * 14)])
    film(tmp_path / "train/patient00001/study1/view1_frontal.jpg")
    film(tmp_path / "train/patient00001/study1/view2_lateral.jpg", seed=3)
    film(tmp_path / "valid/patient64541/study1/view1_frontal.jpg", seed=7)
    table = check_source(chexpert.read_chexpert, tmp_path)
    front = row_of(table, "chexpert-patient00001-study1-view1_frontal")
    assert stated(front) == {"Cardiomegaly": 1.0, "Edema": 0.0, "Effusion": 1.0} and front["uncertain"] == "Atelectasis"
    assert front["notes"] == "also stated: Fracture" and (front["view"], front["sex"]) == ("AP", "F")
    side = row_of(table, "chexpert-patient00001-study1-view2_lateral")
    assert side["study_id"] == front["study_id"] and (side["view"], side["sex"]) == ("LATERAL", "")
    assert math.isnan(side["age_years"]) and list(left_out(table)) == [f"{base}/view3_frontal.jpg"]
    assert list(table.frame["official_split"]) == ["train", "train", "val"]


def test_mimic_cxr_jpg(tmp_path: Path) -> None:
    write(tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz",
          "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime\n"
          "aa-1,10000032,50414267,CHEST,PA,9,9,21800506,1\nbb-2,10000032,50414267,CHEST,LL,9,9,21800506,1\n"
          "cc-3,10000032,53189527,CHEST,,9,9,21800506,1\n")
    write(tmp_path / "mimic-cxr-2.0.0-split.csv.gz", "dicom_id,study_id,subject_id,split\naa-1,50414267,10000032,validate\n"
          "bb-2,50414267,10000032,validate\n")
    write(tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz", "subject_id,study_id," + MODEL_CLASSES + "\n"
          "10000032,50414267,,1.0,,,,,,,,-1.0,,,0.0,\n")
    home = tmp_path / "files/p10/p10000032"
    film(home / "s50414267" / "aa-1.jpg")
    film(home / "s50414267" / "bb-2.jpg", seed=5)
    write(home / "s50414267.txt", " FINAL REPORT\n INDICATION:  Cough.\n\n FINDINGS: \n \n Heart: large.\n Lungs clear.\n\n"
          " IMPRESSION:\n\n No change.\n")
    table = check_source(mimic_cxr_jpg.read_mimic_cxr_jpg, tmp_path)
    row = row_of(table, "mimic-aa-1")
    assert stated(row) == {"Cardiomegaly": 1.0, "Pneumothorax": 0.0} and row["uncertain"] == "Effusion"
    assert (row["findings_text"], row["impression_text"]) == ("Heart: large. Lungs clear.", "No change.")
    assert row["official_split"] == "val" and row_of(table, "mimic-bb-2")["view"] == "LATERAL"
    assert list(left_out(table)) == ["cc-3"]
    film(home / "s50414267" / "cc-3.jpg", seed=6)
    with pytest.raises(TableError, match=r"cc-3\.jpg: lies in the folder of another study"):
        mimic_cxr_jpg.read_mimic_cxr_jpg(tmp_path)


def test_padchest(tmp_path: Path) -> None:
    head = ("ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,"
            "MethodProjection,Pediatric,ReportID,Report,MethodLabel,Labels")
    write_rows(tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", head, [
        ("a.png", 0, 20140915, "S1", "P1", 1930.0, "F", "PA", "PA", "M", "No", 1, "derram pleural .", "Physician",
         "['pleural effusion', ' laminar atelectasis ', 'scoliosis', '']"),
        ("b.png", 0, 20140915, "S2", "P2", "", "O", "", "AP_horizontal", "M", "No", 2, "sin cambi .", "RNN_model",
         "['unchanged']"),
        ("c.png", 0, 20140915, "S3", "P2", 1990.0, "M", "", "L", "M", "No", 3, "normal", "RNN_model", "['normal']"),
        ("d.png", 0, 20140915, "S4", "P3", 1990.0, "M", "", "L", "M", "No", 3, "", "RNN_model", "[]"),
    ])
    for seed, name in enumerate("abc"):
        film(tmp_path / str(seed) / f"{name}.png", seed=7 * seed)
    table = check_source(padchest.read_padchest, tmp_path)
    a, b, c = (row_of(table, f"padchest-{name}") for name in "abc")
    assert stated(a) == {**dict.fromkeys(NAMES, 0.0), "Effusion": 1.0, "Atelectasis": 1.0}
    assert "also stated: scoliosis" in a["notes"]
    assert stated(b) == {} and stated(c) == dict.fromkeys(NAMES, 0.0)
    assert a["age_years"] == 84 and math.isnan(b["age_years"]) and [r["view"] for r in (a, b, c)] == ["PA", "AP", "LATERAL"]
    assert list(left_out(table)) == ["d.png"]


def test_vindr_from_physionet(tmp_path: Path) -> None:
    marks = tmp_path / "annotations"
    write(marks / "image_labels_train.csv", "image_id,rad_id,Cardiomegaly,Nodule/Mass,ILD,Pleural effusion,No finding\n"
          "x1,R8,1,0,0,1,0\nx1,R9,1,0,1,0,0\nx1,R10,0,0,0,0,0\n")
    write(marks / "annotations_train.csv", "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\n"
          "x1,R8,Cardiomegaly,10.5,20,50.5,40\nx1,R9,Cardiomegaly,11,20,50,40\nx1,R10,No finding,,,,\nx1,R9,ILD,1,1,9,9\n")
    write(marks / "image_labels_test.csv", "image_id,Cardiomegaly,Nodule/Mass,No finding\nx2,0,1,0\nx3,0,0,1\n")
    write(marks / "annotations_test.csv", "image_id,class_name,x_min,y_min,x_max,y_max\nx2,Nodule/Mass,1,2,3,4\n")
    dicom(tmp_path / "train" / "x1.dicom", seed=1)
    dicom(tmp_path / "test" / "x2.dicom", seed=2)
    table = check_source(vindr.read_vindr, tmp_path)
    one, two = row_of(table, "vindr-x1"), row_of(table, "vindr-x2")
    assert stated(one) == {"Cardiomegaly": 1.0, "Effusion": 0.0, "Nodule": 0.0, "Mass": 0.0}
    assert "Cardiomegaly: 2 of 3 readers" in one["notes"]
    boxes = table.boxes_of(one, height=SIDE, width=SIDE)
    assert [(box.x, box.width) for box in boxes] == [(10.5, 40.0), (11, 39)]  # pixels of the file itself
    assert stated(two) == {"Cardiomegaly": 0.0} and two["uncertain"] == "Mass;Nodule"
    assert [row["official_split"] for row in (one, two)] == ["train", "test"] and list(left_out(table)) == ["x3"]


def test_vindr_from_kaggle(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
          "x1,Pleural effusion,10,R8,1,2,30,40\nx1,Pleural effusion,10,R9,1,2,30,41\nx1,No finding,14,R10,,,,\n"
          "x2,No finding,14,R8,,,,\n")
    dicom(tmp_path / "train" / "x1.dicom", seed=1)
    dicom(tmp_path / "train" / "x2.dicom", seed=2)
    table = check_source(vindr.read_vindr, tmp_path)
    assert [stated(row_of(table, f"vindr-{name}")) for name in ("x1", "x2")] == [{"Effusion": 1.0}, {"Effusion": 0.0}]
    assert not table.frame["official_split"].any()


def test_rsna(tmp_path: Path) -> None:
    path = tmp_path / "stage_2_train_labels.csv"
    write(path, "patientId,x,y,width,height,Target\na,,,,,0\nb,264.0,152.0,213.0,379.0,1\n"
          "b,562.0,152.0,256.0,453.0,1\nc,,,,,0\n")
    write(tmp_path / "stage_2_detailed_class_info.csv", "patientId,class\na,Normal\nb,Lung Opacity\nb,Lung Opacity\n")
    dicom(tmp_path / "stage_2_train_images" / "a.dcm", seed=1)
    dicom(tmp_path / "stage_2_train_images" / "b.dcm", seed=2)
    table = check_source(rsna.read_rsna, tmp_path)
    assert [stated(row_of(table, f"rsna-{name}")) for name in "ab"] == [{"Pneumonia": 0.0}, {"Pneumonia": 1.0}]
    assert [box.x for box in table.boxes_of(row_of(table, "rsna-b"), height=512, width=512)] == [132, 281]
    assert list(left_out(table)) == ["c"] and row_of(table, "rsna-a")["notes"] == "RSNA: Normal"
    write(path, "patientId,x,y,width,height,Target\na,,,,,0\na,1,1,1,1,1\n")
    with pytest.raises(TableError, match="gives 'a' two targets"):
        rsna.read_rsna(tmp_path)


def test_siim_runs_go_down_the_columns_from_the_end_of_the_last(tmp_path: Path) -> None:
    # column 2 rows 5..7, then column 3 rows 5..6, written as gap and length
    first = f"{2 * 1024 + 5} 3 {1024 - 3} 2"
    write(tmp_path / "train-rle.csv", f"ImageId, EncodedPixels\na, {first}\na, 0 1\nb, -1\n")
    dicom(tmp_path / "dicom-images-train" / "1.2" / "1.3" / "a.dcm", seed=1)
    dicom(tmp_path / "dicom-images-train" / "1.4" / "1.5" / "b.dcm", seed=2)
    dicom(tmp_path / "dicom-images-train" / "1.4" / "1.5" / "c.dcm", seed=3)
    table = check_source(siim.read_siim, tmp_path)
    a = row_of(table, "siim-a")
    drawn = read_grey_mask(json.loads(a["masks"])["pneumothorax"], table.root) > 0
    assert sorted(map(tuple, np.argwhere(drawn).tolist())) == [(0, 0), (5, 2), (5, 3), (6, 2), (6, 3), (7, 2)]
    assert [stated(row_of(table, f"siim-{name}")) for name in "ab"] == [{"Pneumothorax": 1.0}, {"Pneumothorax": 0.0}]
    assert list(left_out(table)) == ["dicom-images-train/1.4/1.5/c.dcm"]
    write(tmp_path / "train-rle.csv", "ImageId, EncodedPixels\na, 1048570 99\n")
    with pytest.raises(TableError, match="a: has a run of 99"):
        siim.read_siim(tmp_path)


def test_montgomery_and_shenzhen(tmp_path: Path) -> None:
    county, hospital = tmp_path / "MontgomerySet", tmp_path / "ChinaSet_AllFiles"
    film(county / "CXR_png" / "MCUCXR_0001_0.png")
    film(county / "CXR_png" / "MCUCXR_0104_1.png", seed=5)
    write(county / "CXR_png" / "Thumbs.db", "x")
    write(county / "ClinicalReadings" / "MCUCXR_0104_1.txt",
          "Patient's Sex: F \nPatient's Age: 027Y\ncavitary nodular\n infiltrate in RUL\n")
    mask(county / "ManualMask" / "leftMask" / "MCUCXR_0104_1.png", left=38)
    mask(county / "ManualMask" / "rightMask" / "MCUCXR_0104_1.png", left=8)
    table = check_source(tuberculosis.read_montgomery, county)
    row = row_of(table, "montgomery-MCUCXR_0104_1")
    assert (row["sex"], row["age_years"], row["findings_text"]) == ("F", 27, "cavitary nodular infiltrate in RUL")
    assert list(json.loads(row["masks"])) == ["left_lung", "right_lung"] and stated(row) == {} and not table.skipped
    readings = {"0001_0": "male 45yrs\nnormal", "0002_0": "Female, 30 yrs\nnormal", "0003_1": "femal 24yrs\nright PTB",
                "0004_1": "male 18month\nx", "0005_1": "female 64days\n"}
    for seed, (name, text) in enumerate(readings.items()):
        film(hospital / "CXR_png" / f"CHNCXR_{name}.png", seed=9 * seed)
        write(hospital / "ClinicalReadings" / f"CHNCXR_{name}.txt", text)
    mask(hospital / "mask" / "CHNCXR_0001_0_mask.png")
    table = check_source(tuberculosis.read_shenzhen, hospital)
    assert list(table.frame["sex"]) == ["M", "F", "F", "M", "F"]
    assert table.frame["age_years"].round(3).tolist() == [45, 30, 24, 1.5, 0.175]
    assert [list(json.loads(cell)) for cell in table.frame["masks"]] == [["lungs"], [], [], [], []]


def test_jsrt(tmp_path: Path) -> None:
    write(tmp_path / "Clinical_Information" / "CLNDAT_EN.txt",
          "JPCLN001.IMG\t5\t14\t53\tFemale\t1634\t692\tmalignant\tl.upper lobe\tlung cancer\n"
          "JPCLN002.IMG\t5\t40\t78\tMale\t1614\t1090\tbenign\tr.upper lobe\tx\n")
    write(tmp_path / "Clinical_Information" / "CNNDAT_EN.TXT", "JPCNN001.IMG\t59\tFemale\tnon-nodule\n")
    film(tmp_path / "png" / "JPCLN001.png")
    film(tmp_path / "png" / "JPCNN001.png", seed=8)
    words = np.full((2048, 2048), 4095, dtype=">u2")
    words[3, 5] = 0
    raw = tmp_path / "All247images" / "JPCLN002.IMG"
    raw.parent.mkdir()
    words.tofile(raw)
    table = check_source(jsrt.read_jsrt, tmp_path)
    nodule = row_of(table, "jsrt-JPCLN001")
    assert stated(nodule) == {"Nodule": 1.0} and (nodule["sex"], nodule["age_years"]) == ("F", 53)
    box = table.boxes_of(nodule, height=2048, width=2048)[0]
    assert (box.x + box.width / 2, box.y + box.height / 2, box.width) == (1634, 692, pytest.approx(14 / 0.175))
    assert stated(row_of(table, "jsrt-JPCNN001")) == {"Nodule": 0.0, "Mass": 0.0}
    large = row_of(table, "jsrt-JPCLN002")  # raw, as it was published
    assert stated(large) == {"Mass": 1.0} and large["image"] == "All247images/JPCLN002.IMG" and not table.skipped
    image = read_image(table.image_path(large))
    assert image.pixels.shape == (2048, 2048) and image.pixels[3, 5] == 1 and image.pixels[5, 3] == 0  # bright was air
    assert (image.view, image.spacing_mm, image.spacing_kind) == ("PA", (0.175, 0.175), "detector")
    words[0, 0] = 5000
    words.tofile(raw)
    with pytest.raises(ReadError, match=r"JPCLN002\.IMG: holds more than 12 bits a pixel"):
        read_image(raw)
    words[0, 0] = 4095
    words.tofile(raw)
    Picture.fromarray(jsrt_words(raw.read_bytes(), source=raw.name) * np.uint16(16)).save(tmp_path / "png" / "JPCLN002.png")
    with Picture.open(tmp_path / "png" / "JPCLN002.png") as picture:
        grey = np.asarray(picture)
    assert grey[3, 5] == 4095 * 16 and grey[5, 3] == 0  # air is bright in the raw file
    assert row_of(jsrt.read_jsrt(tmp_path), "jsrt-JPCLN002")["image"] == "png/JPCLN002.png"  # a picture where there is one


def test_chexmask_counts_from_one_row_by_row(tmp_path: Path) -> None:
    film(tmp_path / "images" / "00000001_000.png")
    start = 10 * SIDE + 3 + 1
    write_rows(tmp_path / "OriginalResolution" / "ChestX-Ray8.csv",
               "Image Index,Dice RCA (Max),Dice RCA (Mean),Landmarks,Left Lung,Right Lung,Heart,Height,Width", [
                   ("00000001_000.png", 0.9, 0.65, "[1 2]", f"{start} 2 {start + SIDE} 1", f"{start + 30} 4", "", SIDE, SIDE),
                   ("00000009_000.png", 0.9, 0.9, "", "1 1", "1 1", "1 1", 1024, 1024)])
    table = check_source(chexmask.read_chexmask, tmp_path)
    row = row_of(table, "chexmask-00000001_000")
    drawn = read_grey_mask(json.loads(row["masks"])["left_lung"], table.root) > 0
    assert sorted(map(tuple, np.argwhere(drawn).tolist())) == [(10, 3), (10, 4), (11, 3)]
    assert "0.65 (doubtful)" in row["notes"] and "heart" not in json.loads(row["masks"])
    assert list(left_out(table)) == ["00000009_000.png"]


def test_manifest_in_csv_and_parquet(tmp_path: Path) -> None:
    for seed, name in enumerate("abc"):
        film(tmp_path / "films" / f"{name}.png", seed=11 * seed)
    path = tmp_path / "mine.csv"
    write(path, "image,patient_id,pleural effusion,label_Mass,age_years,split,Cardiomegali\n"
          "films/a.png,1,1,,40,train,1\nfilms/b.png,2,0,-1,,test,0\nfilms/gone.png,3,0,0,,,\n")
    table = check_source(manifest.read_manifest, tmp_path)
    a, b = row_of(table, "films/a"), row_of(table, "films/b")
    assert stated(a) == {"Effusion": 1.0} and stated(b) == {"Effusion": 0.0} and b["uncertain"] == "Mass"
    assert [a["official_split"], b["official_split"]] == ["train", "test"] and math.isnan(b["age_years"])
    assert left_out(table) == {"column 'Cardiomegali'": "is not used; did you mean 'Cardiomegaly'?",
                               "films/gone.png": "is in the table but not on disk"}
    import pandas as pd

    frame = pd.DataFrame({"image": ["films/a.png", "films/c.png"], "patient_id": [1, 2], "Mass": [1.0, np.nan]})
    frame.to_parquet(tmp_path / "mine.parquet")
    again = manifest.read_manifest(tmp_path / "mine.parquet")
    assert [stated(row) for row in again.frame.to_dict("records")] == [{"Mass": 1.0}, {}]
    write(path, "image,patient_id,Mass\nfilms/a.png,1,yes\n")
    with pytest.raises(TableError, match=r"mine\.csv, line 2: has 'yes' under 'Mass'"):
        manifest.read_manifest(path)


def test_coco(tmp_path: Path) -> None:
    film(tmp_path / "images" / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 128, "height": 128}, {"id": 2, "file_name": "b.png"}],
        "categories": [{"id": 7, "name": "Pleural Effusion"}, {"id": 8, "name": "rib"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [64, 32, 16, 8]},
                        {"id": 2, "image_id": 1, "category_id": 8, "bbox": [1, 1, 2, 2]}],
    }
    write(tmp_path / "annotations" / "instances.json", json.dumps(content))
    table = check_source(coco.read_coco, tmp_path)
    row = row_of(table, "coco-a")
    box = table.boxes_of(row, height=SIDE, width=SIDE)[0]
    assert stated(row) == {"Effusion": 1.0} and (box.x, box.y, box.width, box.height) == (32, 16, 8, 4)
    assert set(left_out(table)) == {"b.png", "category 'rib'"}
    for broken in ("[]", "{", '{"images": 3, "categories": [], "annotations": []}', "[" * 3000):
        write(tmp_path / "annotations" / "instances.json", broken)
        with pytest.raises(TableError, match=r"instances\.json"):
            coco.read_coco(tmp_path)


def test_a_folder_of_dicom_is_resumable_and_loses_nothing_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "export"
    dicom(folder / "x" / "1", patient="DOE^JANE", study="1.2.3", seed=1)
    dicom(folder / "x" / "2.dcm", patient="DOE^JANE", study="1.2.4", seed=2)
    dicom(folder / "ct.dcm", patient="P", modality="CT", seed=3)
    (folder / "copy.dcm").write_bytes((folder / "x" / "1").read_bytes())
    write(folder / "readme.txt", "text")
    write(folder / "empty.dcm", "")
    table = check_source(dicom_folder.read_dicom_folder, folder)
    assert list(table.frame["image"]) != [] and set(table.frame["image"]) == {"copy.dcm", "x/2.dcm"}
    assert len(table) + len(table.skipped) == 6  # every file is accounted for
    reasons = left_out(table)
    assert "CT" in reasons["ct.dcm"] and reasons["x/1"] == "has the same bytes as copy.dcm" and "empty" in reasons["empty.dcm"]
    assert table.frame["patient_id"].nunique() == 1 and table.frame["study_id"].nunique() == 2
    assert "DOE" not in table.frame.to_csv() and list(table.frame["age_years"]) == [64, 64]
    journal = tmp_path / "walk.journal"
    dicom_folder.read_dicom_folder(folder, journal=journal)
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(lines[:4]) + '\n{"name": "x/2.dcm", "ma')  # cut off while writing
    decoded: list[str] = []

    def counted(path: Path) -> Any:
        decoded.append(path.name)
        return read_image(path)

    monkeypatch.setattr(dicom_folder, "read_image", counted)
    again = dicom_folder.read_dicom_folder(folder, journal=journal)
    assert again.frame.equals(table.frame) and again.skipped == table.skipped
    assert decoded == ["1", "2.dcm"]


def test_import_writes_table_and_skipped_list_or_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out" / "nih.parquet"
    report = import_source("nih", nih_folder(tmp_path / "set"), out)
    table = read_table(out)
    assert (report.images, report.patients, len(table)) == (3, 2, 3) and table.frame["split"].all()
    assert table.image_path(table.frame.to_dict("records")[0]).is_file()
    written = list(csv.DictReader((tmp_path / "out" / "nih.skipped.csv").open()))
    assert [(line["what"], line["why"]) for line in written] == [(item.what, item.why) for item in report.skipped]
    assert "left out: 2" in "\n".join(report.lines())
    with pytest.raises(UnknownNameError, match="did you mean 'kermany'"):
        import_source("kermani", tmp_path, tmp_path / "new.parquet")
    with pytest.raises(TableError, match=r"Data_Entry_2017_v2020\.csv"):
        import_source("nih", tmp_path, tmp_path / "new.parquet")
    assert not (tmp_path / "new.parquet").exists() and len(list((tmp_path / "out").iterdir())) == 2
