"""Which of several students speaks about an image: the one whose gate accepts it, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storyxai.errors import GateRefusal, InputError, ReadError
from storyxai.evidence.gather import GatherSettings, look_at
from storyxai.imaging.read import read_image
from storyxai.models.card import CARD_NAME
from storyxai.models.runtime import Student, load_student, shipped_students


@dataclass(frozen=True)
class _Opinion:
    """What a student's gate says of an image: why it refuses ("" where it does not), the names of its warnings, and the
    error where it cannot read the file at all.
    """

    student: Student
    refusal: str
    warnings: tuple[str, ...] = ()
    unread: ReadError | None = None


def known_students(folders: Sequence[Path] = ()) -> tuple[Student, ...]:
    """The students that come along and those in `folders`, each a student's own folder or one that holds such folders.

    Raises: InputError for a folder without a student; WeightsError for a damaged one.
    """
    found = {folder.resolve(): load_student(folder) for folder in shipped_students().values()}
    for folder in folders:
        inside = [folder] if (folder / CARD_NAME).is_file() else sorted(card.parent for card in folder.glob(f"*/{CARD_NAME}"))
        if not inside:
            raise InputError(str(folder), "holds no student", mend=f"name the folder of a student (it holds {CARD_NAME})")
        for one in inside:
            found.setdefault(one.resolve(), load_student(one))
    return tuple(found.values())


def student_for(path: Path, students: Sequence[Student], *, settings: GatherSettings) -> Student:
    """The one student whose gate accepts the image; of several the one that accepts it without a warning.

    Raises: ReadError for a file that nobody can read; GateRefusal, with each student's reason, where none accepts it, and
    with their names where more than one does.
    """
    opinions = [_opinion(student, path, settings) for student in students]
    unread = [one.unread for one in opinions if one.unread is not None]
    if len(unread) == len(opinions):  # what one modality takes another may not: what none takes is said as it is
        raise unread[0]
    accepted = [one for one in opinions if not one.refusal]
    if not accepted:
        said = "; ".join(f"{_name(one.student)}: {one.refusal}" for one in opinions)
        raise GateRefusal(path.name, f"no known student accepts it ({said})", mend="name the folder of one that does: --models")
    sure = [one for one in accepted if not one.warnings] or accepted
    if len(sure) > 1:
        names = " and ".join(_name(one.student) for one in sure)
        mend = "say which one is to speak: --model FOLDER"
        raise GateRefusal(path.name, f"{len(sure)} students accept it: {names}", mend=mend)
    return sure[0].student


def _opinion(student: Student, path: Path, settings: GatherSettings) -> _Opinion:
    try:
        image = read_image(path, acquisition=student.modality.acquisition)
    except ReadError as error:
        return _Opinion(student, error.why, unread=error)
    try:
        _, gate = look_at(student, image, settings=settings)
    except GateRefusal as refusal:
        return _Opinion(student, refusal.seen)
    return _Opinion(student, "", tuple(check.name for check in gate if check.passed is False))


def _name(student: Student) -> str:
    return f"{student.card.name} ({student.modality.name})"
