"""PH2, HAM10000 and ISIC in their published layouts, and phantoms of lesions, become tables of dermoscopy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from storyxai.data.importing import ImportOptions, import_source, read_source
from storyxai.data.table import StudyTable, read_structures, read_table
from storyxai.errors import InputError, TableError
from storyxai.modalities.registry import modality_named
from storyxai.phantoms.generate import write_phantoms


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(path)


def outline(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((64, 80), np.uint8)
    mask[20:40, 30:60] = 255
    Picture.fromarray(mask).save(path)


PH2 = """image,histology,diagnosis,asymmetry,pigment_network,dots_globules,streaks,regression_areas,\
blue_whitish_veil,white,red,light_brown,dark_brown,blue_gray,black
IMD002,,common_nevus,0,T,T,A,A,A,0,0,1,0,0,0
IMD003,Melanoma,melanoma,2,AT,A,P,P,P,1,0,0,1,1,1
IMD004,,atypical_nevus,1,AT,AT,A,A,A,0,0,0,0,0,0
IMD009,,common_nevus,0,T,A,A,A,A,0,0,1,0,0,0
"""


@pytest.fixture
def ph2(tmp_path: Path) -> Path:
    (tmp_path / "PH2_dataset.csv").write_text(PH2, encoding="utf-8")
    for number, name in enumerate(("IMD002", "IMD003", "IMD004")):
        picture(tmp_path / "images" / f"{name}.jpg", number)
        outline(tmp_path / "masks" / f"{name}.png")
    return tmp_path


def labels_of(table: StudyTable, name: str) -> dict[str, float]:
    row = table.frame[table.frame["study_id"] == name].iloc[0]
    return {finding: float(row[f"label_{finding}"]) for finding in table.schema.findings}


def test_ph2_states_diagnosis_and_criteria(ph2: Path) -> None:
    table = read_source("ph2", ph2)
    assert table.schema.modality == "dermoscopy" and len(table) == 3 and table.skipped[0].what == "IMD009"
    assert {name for name, value in labels_of(table, "ph2-IMD003").items() if value} == {
        "Melanoma",
        "Asymmetry",
        "Atypical_Network",
        "Streaks",
        "Regression",
        "Blue_Whitish_Veil",
    }
    assert {name for name, value in labels_of(table, "ph2-IMD004").items() if value} == {
        "Atypical_Naevus",
        "Asymmetry",
        "Atypical_Network",
        "Dots_Globules",
    }
    row = table.frame[table.frame["study_id"] == "ph2-IMD003"].iloc[0].to_dict()
    assert row["notes"] == "colours: white, dark brown, blue gray, black"
    lesion, ignored = read_structures(table, row)["lesion"]
    assert lesion.sum() == 600 and ignored is None


def test_ph2_with_a_value_that_is_not_known_is_refused(ph2: Path) -> None:
    (ph2 / "PH2_dataset.csv").write_text(PH2.replace("AT,AT", "AT,maybe"), encoding="utf-8")
    with pytest.raises(TableError, match=r"IMD004.*'maybe' under dots_globules"):
        read_source("ph2", ph2)


def test_importing_takes_the_modality_of_the_set(ph2: Path, tmp_path: Path) -> None:
    kinds = (modality_named("dermoscopy"), modality_named("chest_radiograph"))
    skin, films = (ImportOptions(modality=kind, compare_pictures=False) for kind in kinds)
    import_source("ph2", ph2, tmp_path / "t.parquet", skin)
    assert read_table(tmp_path / "t.parquet").schema.modality == "dermoscopy"
    with pytest.raises(InputError, match="brings findings of its own"):
        import_source("ph2", ph2, tmp_path / "u.parquet", films)


def test_ham10000_keeps_pictures_of_a_lesion_together(tmp_path: Path) -> None:
    (tmp_path / "HAM10000_metadata.csv").write_text(
        "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
        "HAM_1,ISIC_1,mel,histo,80.0,male,scalp\nHAM_1,ISIC_2,mel,histo,80.0,male,scalp\nHAM_2,ISIC_3,nv,histo,,female,back\n"
        "HAM_3,ISIC_4,nv,histo,30,female,back\n",
        encoding="utf-8",
    )
    for part, name in (("HAM10000_images_part_1", "ISIC_1"), ("HAM10000_images_part_2", "ISIC_2"), ("images", "ISIC_3")):
        picture(tmp_path / part / f"{name}.jpg")
    outline(tmp_path / "HAM10000_segmentations_lesion_tvt" / "ISIC_1_segmentation.png")
    frame = read_source("ham10000", tmp_path).frame.set_index("study_id")
    assert list(frame["label_Melanoma"]) == [1.0, 1.0, 0.0] and frame["label_Streaks"].isna().all()
    assert list(frame["patient_id"]) == ["ham10000-HAM_1", "ham10000-HAM_1", "ham10000-HAM_2"]
    assert list(frame["sex"]) == ["M", "M", "F"] and frame["age_years"].iloc[0] == 80.0 and np.isnan(frame["age_years"].iloc[2])
    assert frame["masks"].iloc[0] != "{}" == frame["masks"].iloc[1]


def test_isic_reads_its_ground_truth(tmp_path: Path) -> None:
    (tmp_path / "ISIC_2019_Training_GroundTruth.csv").write_text(
        "image,MEL,NV\nISIC_1,1.0,0.0\nISIC_2,0.0,1.0\n", encoding="utf-8"
    )
    (tmp_path / "ISIC_2019_Training_Metadata.csv").write_text(
        "image,age_approx,anatom_site_general,lesion_id,sex\nISIC_1,55,head,L1,female\nISIC_2,,,,\n", encoding="utf-8"
    )
    for name in ("ISIC_1", "ISIC_2"):
        picture(tmp_path / "ISIC_2019_Training_Input" / f"{name}.jpg")
    frame = read_source("isic", tmp_path).frame
    assert list(frame["label_Melanoma"]) == [1.0, 0.0] and list(frame["patient_id"]) == ["isic-L1", "isic-ISIC_2"]
    (tmp_path / "ISIC_2019_Training_GroundTruth.csv").write_text("image,MEL\nISIC_1,yes\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"ISIC_1.*'yes' under MEL"):
        read_source("isic", tmp_path)


def test_phantoms_of_lesions_are_written_and_read(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "set", count=3, seed=20, size=64, modality="dermoscopy")
    table = read_source("phantom", tmp_path / "set")
    assert table.schema.modality == "dermoscopy" and len(table) == 3
    for row in table.frame.to_dict("records"):
        assert "lesion" in read_structures(table, row) and row["findings_text"]
    with pytest.raises(InputError, match="dermoscopy"):
        write_phantoms(tmp_path / "none", count=1, seed=0, size=64, modality="dermoscpy")
