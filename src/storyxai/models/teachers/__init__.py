"""Teachers from anywhere, behind one contract."""

from storyxai.models.teachers.contract import (
    OwnTeacher,
    ReportWriter,
    Teacher,
    TeacherAnswers,
    columns_by_name,
    join_by_name,
    network_hash,
)

__all__ = ["OwnTeacher", "ReportWriter", "Teacher", "TeacherAnswers", "columns_by_name", "join_by_name", "network_hash"]
