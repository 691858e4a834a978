"""Conformance suite for teachers: run it on your own with `check_teacher(your_teacher)`.

For a segmenter also `check_sides(your_teacher, images)` with a few frontal films: the patient's left lung must lie on the
image's right, or every story would name the wrong side.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from storyxai.errors import WeightsError
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.models.network import MASKS, TASKS
from storyxai.models.teachers import ReportWriter, Teacher, columns_by_name

ANSWERS = ("findings", "masks", "words", "maps", "features")


def probe(teacher: Teacher, count: int = 3) -> Tensor:
    """`count` fixed noisy images at the teacher's own size (64 if any will do)."""
    size = teacher.size or 64
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(7))


def said(teacher: Teacher, images: Tensor) -> dict[str, Tensor]:
    """The answers that are there, by name."""
    answers = teacher.answers(images)
    return {name: value for name in ANSWERS if (value := getattr(answers, name)) is not None}


def check_names(teacher: Teacher) -> None:
    assert isinstance(teacher, Teacher), "it lacks a part of the contract"
    assert teacher.name and len(teacher.hash) == 64 and int(teacher.hash, 16) >= 0, "a hash is 64 hex digits"
    assert teacher.tasks and set(teacher.tasks) <= set(TASKS), "tasks are findings, masks, report"
    assert teacher.size >= 0


def check_findings_are_known(teacher: Teacher, student_findings: tuple[str, ...] = NAMES) -> None:
    if "findings" in teacher.tasks:
        assert any(columns_by_name(teacher.findings, student_findings))


def check_shapes(teacher: Teacher) -> None:
    images = probe(teacher)
    answers = said(teacher, images)
    if "findings" in teacher.tasks:
        assert answers["findings"].shape == (len(images), len(teacher.findings)), "one logit per image and finding"
    if "masks" in teacher.tasks:
        assert answers["masks"].shape[:2] == (len(images), len(MASKS)), "left lung, right lung, heart"
    for name, value in answers.items():
        assert value.dtype == torch.float32 and not value.requires_grad, f"{name}: float32 without gradients"
        assert not value.isinf().any(), f"{name} are infinite"


def check_deterministic(teacher: Teacher) -> None:
    torch.manual_seed(1)
    first = said(teacher, probe(teacher))
    torch.manual_seed(2)
    again = said(teacher, probe(teacher))
    for name, value in first.items():
        assert torch.equal(value.nan_to_num(99), again[name].nan_to_num(99)), f"{name} change from call to call"
    assert teacher.hash == teacher.hash


def check_batch_does_not_matter(teacher: Teacher) -> None:
    images = probe(teacher)
    together = said(teacher, images)
    for name, value in together.items():
        alone = torch.cat([said(teacher, images[row : row + 1])[name] for row in range(len(images))])
        torch.testing.assert_close(alone, value, rtol=1e-3, atol=1e-3, equal_nan=True)


def check_images_unchanged(teacher: Teacher) -> None:
    images = probe(teacher)
    teacher.answers(images)
    assert torch.equal(images, probe(teacher)), "the images were changed"


def check_no_global_state(teacher: Teacher) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    teacher.answers(probe(teacher))
    assert torch.equal(torch.random.get_rng_state(), before), "torch's global generator was used"
    assert torch.is_grad_enabled(), "gradients were left switched off"


def check_looks(teacher: Teacher) -> None:
    images = torch.cat([torch.zeros_like(probe(teacher, 1)), probe(teacher, 1)])
    for name, value in said(teacher, images).items():
        assert not torch.equal(value[0].nan_to_num(0), value[1].nan_to_num(0)), f"{name} are the same for any image"


def check_bad_images(teacher: Teacher) -> None:
    images = probe(teacher)
    for bad in (images[0], images * 255, images.expand(-1, 2, -1, -1), images.double()):
        with pytest.raises(WeightsError):
            teacher.answers(bad)


def check_colour(teacher: Teacher) -> None:
    """Grey in three channels is answered as grey, or refused with a mend; it is no crash."""
    images = probe(teacher)
    try:
        coloured = said(teacher, images.expand(-1, 3, -1, -1))
    except WeightsError:
        return
    for name, value in said(teacher, images).items():
        torch.testing.assert_close(coloured[name], value, rtol=1e-3, atol=1e-3, equal_nan=True)


def check_writes(teacher: Teacher) -> None:
    """For those that write reports in their own words."""
    if isinstance(teacher, ReportWriter):
        first, again = (teacher.reports(probe(teacher)) for _ in range(2))
        assert len(first) == 3 and all(isinstance(text, str) for text in first) and first == again


def check_sides(teacher: Teacher, images: Tensor) -> None:
    """On frontal films: the left lung's centre of mass right of the right lung's, in the image."""
    masks = teacher.answers(images).masks
    assert masks is not None
    across = torch.linspace(0, 1, masks.shape[-1])
    weight = torch.sigmoid(masks[:, :2])
    centre = (weight * across).sum(dim=(2, 3)) / weight.sum(dim=(2, 3))
    assert (centre[:, 0] > centre[:, 1]).all(), "the patient's left lung lies on the image's right: swap the channels"


CHECKS: tuple[Callable[[Teacher], None], ...] = (
    check_names, check_shapes, check_deterministic, check_batch_does_not_matter, check_images_unchanged,
    check_no_global_state, check_bad_images, check_colour, check_writes,
)


def check_teacher(teacher: Teacher, *, student_findings: tuple[str, ...] = NAMES) -> None:
    """Every check that fits any teacher; raises AssertionError on the first that fails."""
    for check in CHECKS:
        check(teacher)
    check_findings_are_known(teacher, student_findings)
    check_looks(teacher)
