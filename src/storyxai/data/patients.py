"""Who is one person: films of one study are, whatever their ids say, and an id that stands for everybody is no person."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from storyxai.data.table import StudyTable

MOST_STUDIES = 3
LARGEST_SHARE = 0.5


def join_people(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Each person -> the first, by name, of all whom the pairs tie it to; who is tied to nobody is paired with itself."""
    first: dict[str, str] = {}

    def root(person: str) -> str:
        first.setdefault(person, person)
        while first[person] != person:
            person = first[person]
        return person

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        first[high] = low
    return {person: root(person) for person in first}


def suspect_patients(table: StudyTable) -> dict[str, str]:
    """Patients whose id may stand for several people, and why: most studies of the table, or two sexes, under one id."""
    frame = table.frame
    studies = frame.groupby("patient_id")["study_id"].nunique()
    count = int(frame["study_id"].nunique())
    found: dict[str, str] = {}
    for patient, number in studies.items():
        if number >= MOST_STUDIES and number > LARGEST_SHARE * count:
            found[str(patient)] = f"has {number} of all {count} studies: its id may stand for everybody ('ANONYMOUS')"
    sexes: dict[str, set[str]] = defaultdict(set)
    for patient, sex in zip(frame["patient_id"], frame["sex"], strict=True):
        sexes[str(patient)].add(str(sex))
    for patient, said in sexes.items():
        if {"M", "F"} <= said:
            found.setdefault(patient, "is of both sexes: its id may stand for several people")
    return found
