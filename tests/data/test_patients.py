"""Who is one person: studies stay whole, and an id for everybody is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storyxai.data.importing import import_source
from storyxai.data.patients import join_people, suspect_patients
from storyxai.data.splits import check_no_leak, split_by_patient
from storyxai.data.table import StudyRow, StudyTable, read_table
from storyxai.errors import TableError

ROOT = Path(__file__).resolve().parents[2]


def table_of(rows: list[tuple[str, str, str]]) -> StudyTable:
    """Rows of (study, patient, sex)."""
    made = [StudyRow(study, patient, f"{n}.png", "t", image_id=str(n), sex=sex) for n, (study, patient, sex) in enumerate(rows)]
    return StudyTable.from_rows(made, root=Path())


def test_ties_are_followed_to_the_end() -> None:
    assert join_people([("a", "b"), ("c", "d"), ("b", "d"), ("e", "e")]) == {**dict.fromkeys("abcd", "a"), "e": "e"}


def test_a_study_under_two_ids_stays_in_one_part() -> None:
    table = table_of([(f"s{n // 2}", f"p{n}", "") for n in range(40)])
    split = split_by_patient(table)
    assert split.frame.groupby("study_id")["split"].nunique().max() == 1
    torn = table.with_column("split", ["train", "test"] * 20)
    with pytest.raises(TableError, match="study s0: stands in test and train"):
        check_no_leak(torn)


def test_an_id_that_stands_for_everybody_is_told() -> None:
    everybody = suspect_patients(table_of([(f"s{n}", "anonymous", "") for n in range(5)]))
    assert set(everybody) == {"anonymous"} and "5 of all 5 studies" in everybody["anonymous"]
    assert "both sexes" in suspect_patients(table_of([("s1", "p", "M"), ("s2", "p", "F"), ("s3", "q", "F")]))["p"]
    assert suspect_patients(table_of([("s1", "p", "M"), ("s2", "p", "M"), ("s3", "q", ""), ("s4", "r", "")])) == {}


def test_public_cases_of_torn_studies(tmp_path: Path) -> None:
    cases = Path(os.environ.get("STORYXAI_CASES") or ROOT.parent / "shared" / "cases")
    if not cases.is_dir():
        pytest.skip("the public cases are absent: set STORYXAI_CASES to their folder")
    for name in ("nopatient", "twopatients", "allanonymous"):
        folder = cases / "05-study-torn-between-train-and-test" / name
        report = import_source("dicom-folder", folder, tmp_path / f"{name}.parquet")
        frame = read_table(tmp_path / f"{name}.parquet").frame
        assert frame.groupby("study_id")["split"].nunique().max() == 1, name
        assert frame.groupby("study_id")["patient_id"].nunique().max() == 1, name
        assert any("may stand for everybody" in line for line in report.lines()) == (name == "allanonymous")
