"""Teachers' answers on disk: computed once, read back equal, and kept apart by teacher, images and view."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from storyxai.data.batches import Examples, make_batch
from storyxai.errors import OutputError
from storyxai.models.network import Network
from storyxai.training.soft_targets import TeacherTargets, cache_targets, join_findings, network_hash
from storyxai.types import SoftTargets
from teaching_examples import FINDINGS, VOCABULARY, tiny_network, toy_examples

TASKS = ("findings", "masks", "report")


class Counted:
    """Teachers, one for each task, and how often they were asked."""

    def __init__(self) -> None:
        self.calls = 0
        self.teachers: dict[str, Network] = {
            task: tiny_network(tasks=(task,), seed=seed) for seed, task in enumerate(TASKS)
        }
        for teacher in self.teachers.values():
            teacher.register_forward_pre_hook(self._count)

    def _count(self, *_: object) -> None:
        self.calls += 1


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def examples() -> Examples:
    return toy_examples(6)


def same(one: TeacherTargets, other: TeacherTargets) -> bool:
    return all(
        np.array_equal(getattr(one, item.name), getattr(other, item.name)) for item in dataclasses.fields(one)
    )


def test_answers_are_those_of_the_teacher_in_that_view(counted: Counted, examples: Examples, tmp_path: Path) -> None:
    for view, said in enumerate(cache_targets(counted.teachers, examples, views=2, folder=tmp_path, batch_size=4)):
        batch = make_batch(examples, np.arange(6), view)
        there = np.flatnonzero(said.word_row >= 0)
        assert said.view == view and there.tolist() == [0, 1, 2, 4, 5] and said.word_row[there].tolist() == [*range(5)]
        with torch.inference_mode():
            findings = counted.teachers["findings"](batch.images).logits.numpy()
            masks = counted.teachers["masks"](batch.images).masks.numpy()
            memory = counted.teachers["report"](batch.images).memory[there]
            words = counted.teachers["report"].decoder(batch.tokens[there, :-1], memory).numpy()
        assert said.words.shape == (5, examples.tokens.shape[1] - 1, len(VOCABULARY))
        for ours, theirs in ((said.findings, findings), (said.masks, masks), (said.words, words)):
            assert np.allclose(ours, theirs, rtol=1e-3, atol=2e-3)  # 16 bit keep 11 digits


def test_a_second_call_reads_and_asks_nobody(counted: Counted, examples: Examples, tmp_path: Path) -> None:
    first = cache_targets(counted.teachers, examples, views=2, folder=tmp_path)
    assert counted.calls == 6 and len(list(tmp_path.glob("*.npy"))) == 6 and not list(tmp_path.glob("*.part"))
    again = cache_targets(counted.teachers, examples, views=2, folder=tmp_path)
    assert counted.calls == 6
    assert all(same(one, other) for one, other in zip(first, again, strict=True))


def test_a_new_view_is_asked_and_old_ones_are_kept(counted: Counted, examples: Examples, tmp_path: Path) -> None:
    first = cache_targets(counted.teachers, examples, views=1, folder=tmp_path)
    both = cache_targets(counted.teachers, examples, views=2, folder=tmp_path)
    assert counted.calls == 6 and same(first[0], both[0])
    assert not np.array_equal(both[0].findings, both[1].findings)


def test_other_images_or_another_teacher_are_asked_anew(counted: Counted, examples: Examples, tmp_path: Path) -> None:
    teacher = {"findings": counted.teachers["findings"]}
    cache_targets(teacher, examples, views=1, folder=tmp_path)
    brighter = dataclasses.replace(examples, images=examples.images + 1)
    renamed = dataclasses.replace(examples, ids=tuple(f"x{name}" for name in examples.ids))
    for number, other in enumerate((brighter, renamed), start=2):
        cache_targets(teacher, other, views=1, folder=tmp_path)
        assert counted.calls == number
    with torch.no_grad():
        teacher["findings"].finding_head.out.bias += 1
    moved = cache_targets(teacher, examples, views=1, folder=tmp_path)
    assert counted.calls == 4 and moved[0].findings.shape == (6, len(FINDINGS))


def test_other_reports_are_asked_anew_and_only_they(counted: Counted, examples: Examples, tmp_path: Path) -> None:
    cache_targets(counted.teachers, examples, views=1, folder=tmp_path)
    rewritten = dataclasses.replace(examples, tokens=examples.tokens[[1, 0, 2, 3, 4, 5]])
    said = cache_targets(counted.teachers, rewritten, views=1, folder=tmp_path)[0]
    assert counted.calls == 4
    assert same(said, cache_targets(counted.teachers, rewritten, views=1, folder=tmp_path / "fresh")[0])


def test_the_hash_of_a_network_is_that_of_shape_and_weights() -> None:
    one, same_weights, other = (tiny_network(tasks=("findings",), seed=seed) for seed in (0, 0, 1))
    assert network_hash(one) == network_hash(same_weights) != network_hash(other)
    assert network_hash(one.to(memory_format=torch.channels_last)) == network_hash(same_weights)
    same_weights.spec = dataclasses.replace(same_weights.spec, findings=("other", *FINDINGS[1:]))
    assert network_hash(one) != network_hash(same_weights)


def test_a_killed_run_leaves_no_half_answer(counted: Counted, examples: Examples, tmp_path: Path) -> None:
    teacher = {"findings": counted.teachers["findings"]}

    def killed(_name: str, done: int, _count: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache_targets(teacher, examples, views=1, folder=tmp_path, batch_size=2, progress=killed)
    assert not list(tmp_path.glob("*.npy"))
    resumed = cache_targets(teacher, examples, views=1, folder=tmp_path, batch_size=2)
    fresh = cache_targets(teacher, examples, views=1, folder=tmp_path / "fresh", batch_size=2)
    assert same(resumed[0], fresh[0])


def test_a_task_without_a_teacher_is_unknown(counted: Counted, examples: Examples, tmp_path: Path) -> None:
    said = cache_targets({"masks": counted.teachers["masks"]}, examples, views=1, folder=tmp_path)[0]
    assert np.isnan(said.findings).all() and said.findings.shape == examples.labels.shape
    assert len(said.words) == 0 and len(said.masks) == 6


def test_images_without_any_report_teach_no_words(counted: Counted, examples: Examples, tmp_path: Path) -> None:
    silent = dataclasses.replace(examples, tokens=np.zeros_like(examples.tokens))
    said = cache_targets({"report": counted.teachers["report"]}, silent, views=1, folder=tmp_path)[0]
    assert len(said.words) == 0 and (said.word_row == -1).all()


def test_a_folder_that_cannot_be_made_is_refused(counted: Counted, examples: Examples, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be made") as caught:
        cache_targets(counted.teachers, examples, views=1, folder=tmp_path / "file" / "cache")
    assert caught.value.mend


def test_a_further_teacher_is_joined_by_id_and_name() -> None:
    examples, nan = toy_examples(3), np.nan
    ours = np.array([[1.0, nan, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, nan]], dtype=np.float32)
    empty = np.zeros(0, dtype=np.float16)
    targets = TeacherTargets(2, ours, empty, empty, np.full(3, -1, dtype=np.int64))
    # Columns and rows in another order, one image and one finding that nobody here knows.
    theirs = np.array([[9.0, 5.0, 7.0], [9.0, nan, 7.0], [9.0, 9.0, 9.0]], dtype=np.float32)
    ids = (examples.ids[2], examples.ids[0], "a stranger")
    soft = SoftTargets(("stranger", FINDINGS[0], FINDINGS[1]), theirs, ids, "resize:64", "published")
    joined = join_findings(targets, soft, examples, FINDINGS, weight=0.75)
    by_hand = [[1.0, 7.0, 3.0], [1.0, 2.0, 3.0], [0.75 * 5 + 0.25, 0.75 * 7 + 0.5, nan]]
    assert np.allclose(joined.findings, by_hand, equal_nan=True)
    assert joined.view == 2 and np.array_equal(targets.findings, ours, equal_nan=True)
