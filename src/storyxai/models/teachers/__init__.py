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
from storyxai.models.teachers.conversion import InputForm, form_of
from storyxai.models.teachers.files import onnx_teacher, timm_teacher, torch_program_teacher, torchvision_teacher
from storyxai.models.teachers.function import CallableTeacher, MirroredTeacher, TeacherAverage
from storyxai.models.teachers.opening import KINDS, NamedTeacher, open_teacher
from storyxai.models.teachers.packages import HuggingFaceWriter, huggingface_writer, retokenize, xrv_anatomy, xrv_classifier

__all__ = [
    "KINDS", "CallableTeacher", "HuggingFaceWriter", "InputForm", "MirroredTeacher", "NamedTeacher", "OwnTeacher",
    "ReportWriter", "Teacher", "TeacherAnswers", "TeacherAverage", "columns_by_name", "form_of", "huggingface_writer",
    "join_by_name", "network_hash", "onnx_teacher", "open_teacher", "retokenize", "timm_teacher", "torch_program_teacher",
    "torchvision_teacher", "xrv_anatomy", "xrv_classifier",
]
