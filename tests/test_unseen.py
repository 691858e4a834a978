"""Whom a student learnt from: marks that many patients share keep the learnt ones out of judging and name nobody."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from storyxai.data.table import StudyRow, StudyTable
from storyxai.errors import InputError
from storyxai.models.card import read_card
from storyxai.models.runtime import SHIPPED, Student
from storyxai.scorecard.judge import patient_mark, unseen_rows

NIH_PATIENTS = 30_805


def student_of(patients: list[str], **training: Any) -> Student:
    marks = sorted({patient_mark(patient) for patient in patients})
    return cast(Student, SimpleNamespace(card=SimpleNamespace(training={"patients": marks, **training})))


def table_of(patients: list[str], *, source: str = "own", split: str = "test") -> StudyTable:
    rows = [StudyRow(f"{p}-1", p, f"{p}.png", source) for p in patients]
    table = StudyTable.from_rows(rows, root=Path())
    return StudyTable(table.frame.assign(split=split), table.root)


def judged(student: Student, table: StudyTable, split: str) -> set[str]:
    return set(unseen_rows(student, table, split, Path("t")).frame["patient_id"])


LEARNT = [f"learnt-{i}" for i in range(200)]
STRANGERS = [f"stranger-{i}" for i in range(400)]


def test_no_learnt_patient_is_judged_and_few_strangers_are_lost() -> None:
    student = student_of(LEARNT)
    left = judged(student, table_of(LEARNT + STRANGERS), "unseen")
    assert not left & set(LEARNT)
    lost = len(set(STRANGERS) - left) / len(STRANGERS)
    assert lost == pytest.approx(200 / 4096, abs=0.04)
    assert judged(student, table_of(LEARNT), "all") == set(LEARNT)


def test_a_test_part_of_strangers_is_judged_and_one_of_learnt_patients_refused() -> None:
    student = student_of(LEARNT)
    assert judged(student, table_of(STRANGERS), "test") == judged(student, table_of(STRANGERS), "unseen")
    with pytest.raises(InputError, match="patients this student learnt from"):
        judged(student, table_of(STRANGERS + LEARNT), "test")


def test_patients_of_a_source_that_nobody_learnt_from_are_all_strangers() -> None:
    student = student_of(LEARNT, patient_sources=["nih"])
    assert judged(student, table_of(LEARNT, source="own"), "unseen") == set(LEARNT)


def test_cards_of_before_are_read_by_their_long_marks() -> None:
    long = {"patients": [patient_mark(patient, 12) for patient in LEARNT]}
    student = cast(Student, SimpleNamespace(card=SimpleNamespace(training=long)))
    assert judged(student, table_of(LEARNT + STRANGERS), "unseen") == set(STRANGERS)


def test_a_mark_of_the_shipped_card_says_of_no_patient_that_it_was_learned_from() -> None:
    """Of NIH's numbers a third of those that bear a mark of the card were not among the 4,049 learned from."""
    marks = set(read_card(SHIPPED, check_files=False).training["patients"])
    marked = sum(patient_mark(f"nih-{number:08d}", 4) in marks for number in range(1, NIH_PATIENTS + 1))
    assert {len(mark) for mark in marks} == {4}
    assert 0.25 * marked < marked - 4049 < 0.1 * NIH_PATIENTS  # strangers that bear one: many, and few of all
