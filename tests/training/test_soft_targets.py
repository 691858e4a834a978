"""Teachers' answers on disk: computed once, read back equal, and kept apart by teacher, images and view."""

from __future__ import annotations

import copy
import dataclasses
import io
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch

from storyxai.data.batches import Examples, make_batch
from storyxai.errors import ArchiveError, OutputError, RecipeError
from storyxai.models.network import Network
from storyxai.models.teachers import TeacherAnswers
from storyxai.training.losses import hint_loss
from storyxai.training.reasons import maps_of, reasons_loss
from storyxai.training.soft_targets import (
    AskOptions,
    ShardRows,
    TeacherTargets,
    cache_targets,
    join_findings,
    network_hash,
)
from storyxai.types import SoftTargets
from teaching_examples import FINDINGS, VOCABULARY, tiny_network, toy_examples

TASKS = ("findings", "masks", "report")


class Counted:
    """Teachers, one for each task, and how often they were asked."""

    def __init__(self, drawn: dict[str, Network]) -> None:
        self.calls = 0
        self.teachers = drawn
        self.hooks = [teacher.register_forward_pre_hook(self.count) for teacher in drawn.values()]

    def count(self, *_: object) -> None:
        self.calls += 1


@pytest.fixture(scope="module")
def drawn() -> dict[str, Network]:
    return {task: tiny_network(tasks=(task,), seed=seed) for seed, task in enumerate(TASKS)}


@pytest.fixture
def counted(drawn: dict[str, Network]) -> Iterator[Counted]:
    made = Counted(drawn)
    yield made
    for hook in made.hooks:
        hook.remove()


@pytest.fixture
def examples() -> Examples:
    return toy_examples(6)


def same(one: TeacherTargets, other: TeacherTargets) -> bool:
    return all(
        np.array_equal(getattr(one, item.name), getattr(other, item.name)) for item in dataclasses.fields(one)
    )


def test_answers_are_those_of_the_teacher_in_that_view(counted: Counted, examples: Examples, tmp_path: Path) -> None:
    few = AskOptions(batch_size=4)
    for view, said in enumerate(cache_targets(counted.teachers, examples, views=2, folder=tmp_path, options=few)):
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
    assert counted.calls == 6 and len(list(tmp_path.glob("*/*.npy"))) == 6 and not list(tmp_path.glob("*/*.part"))
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
    teacher["findings"] = copy.deepcopy(teacher["findings"])
    teacher["findings"].register_forward_pre_hook(counted.count)
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

    pairs = AskOptions(batch_size=2, shard_size=2)
    with pytest.raises(KeyboardInterrupt):
        cache_targets(teacher, examples, views=1, folder=tmp_path, options=pairs, progress=killed)
    assert counted.calls == 2 and len(list(tmp_path.glob("*/*.npy"))) == 1  # the shard that was finished
    resumed = cache_targets(teacher, examples, views=1, folder=tmp_path, options=pairs)
    assert counted.calls == 4
    fresh = cache_targets(teacher, examples, views=1, folder=tmp_path / "fresh", options=AskOptions(batch_size=2))
    assert same(resumed[0], fresh[0])


def test_new_images_are_asked_about_alone(counted: Counted, examples: Examples, tmp_path: Path) -> None:
    teachers, seen = counted.teachers, []
    cache_targets(teachers, examples.take([4, 1]), views=1, folder=tmp_path)

    def note(name: str, _done: int, count: int) -> None:
        seen.append((name.split()[2], count))

    all_of_them = cache_targets(teachers, examples, views=1, folder=tmp_path, progress=note)
    assert seen == [("findings,", 4), ("masks,", 4), ("report,", 3)]  # one of the six has no report
    fresh = cache_targets(teachers, examples, views=1, folder=tmp_path / "fresh")
    for name in ("findings", "masks", "words", "word_row"):
        one, other = (np.asarray(getattr(part[0], name), dtype=np.float32) for part in (all_of_them, fresh))
        assert np.allclose(one, other, atol=2e-3)  # the batch an image is in moves the last bit


def test_rows_come_from_their_shards_without_reading_the_rest(
    counted: Counted, examples: Examples, tmp_path: Path
) -> None:
    masks = {"masks": counted.teachers["masks"]}
    said = cache_targets(masks, examples, views=1, folder=tmp_path, options=AskOptions(shard_size=4))[0]
    assert isinstance(said.masks, ShardRows) and len(said.masks.shards) == 2 and said.masks.shape == (6, 3, 16, 16)
    assert all(isinstance(shard, np.memmap) for shard in said.masks.shards)
    whole = np.asarray(said.masks)
    rows = np.array([5, 0, 3, 5])
    assert np.array_equal(said.masks[rows], whole[rows]) and np.array_equal(said.masks[2], whole[2])
    sent = bytes(ForkingPickler.dumps(said.masks))  # as another process is handed them
    assert len(sent) < whole.nbytes / 4 and np.array_equal(ForkingPickler.loads(sent), whole)
    assert np.array_equal(said.masks[whole[:, 0, 0, 0] == whole[1, 0, 0, 0]], whole[whole[:, 0, 0, 0] == whole[1, 0, 0, 0]])


def test_longer_reports_and_other_sizes_lie_apart(counted: Counted, examples: Examples, tmp_path: Path) -> None:
    teacher = {"report": counted.teachers["report"]}
    cache_targets(teacher, examples, views=1, folder=tmp_path)
    shorter = dataclasses.replace(examples, tokens=examples.tokens[:, :6])
    assert cache_targets(teacher, shorter, views=1, folder=tmp_path)[0].words.shape[1] == 5


@dataclasses.dataclass
class Foreign:
    """A teacher that is no network: it tells left from right by brightness, on a grid of its own."""

    findings: tuple[str, ...] = ("right square", "left square")
    tasks: tuple[str, ...] = ("findings", "masks")
    name: str = "by brightness"
    hash: str = "f0"
    size: int = 0

    def answers(self, images: torch.Tensor, tokens: torch.Tensor | None = None) -> TeacherAnswers:
        maps = torch.nn.functional.adaptive_avg_pool2d(images, (4, 4)).repeat(1, 2, 1, 1)
        left, right = images[..., :32].mean(dim=(1, 2, 3)), images[..., 32:].mean(dim=(1, 2, 3))
        findings = torch.stack([right - left, left - right], dim=1) * 10
        return TeacherAnswers(findings, images.repeat(1, 3, 1, 1), None, maps, None)


def test_a_foreign_teacher_is_joined_by_name_and_brought_to_our_grid(examples: Examples, tmp_path: Path) -> None:
    teacher = Foreign()
    said = cache_targets(
        {"findings": teacher, "masks": teacher}, examples, views=1, folder=tmp_path,
        options=AskOptions(FINDINGS, reasons="grid"),
    )[0]
    assert (said.findings[::2, 0] > 0).all() and (said.findings[1::2, 1] > 0).all()
    assert np.allclose(said.findings[:, 0], -said.findings[:, 1]) and np.isnan(said.findings[:, 2]).all()
    assert said.masks.shape == (6, 3, 16, 16)
    maps = np.asarray(said.maps, dtype=np.float32)
    assert maps.shape == (6, 3, 4, 4) and np.isnan(maps[:, 2]).all() and np.allclose(maps[:, :2].max(axis=(2, 3)), 1, atol=1e-3)


@pytest.mark.parametrize("kind", ["grid", "grad-cam"])
def test_reasons_and_hints_are_those_of_the_teacher(
    counted: Counted, examples: Examples, tmp_path: Path, kind: str
) -> None:
    teacher = counted.teachers["findings"]
    plain = cache_targets({"findings": teacher}, examples, views=2, folder=tmp_path)[1]
    assert len(plain.maps) == 0 and len(plain.attention) == 0
    wanted = AskOptions(reasons=kind, hints=True)
    said = cache_targets({"findings": teacher}, examples, views=2, folder=tmp_path, options=wanted)[1]
    assert np.array_equal(plain.findings, said.findings)
    with torch.no_grad():
        direct = teacher(make_batch(examples, np.arange(6), 1).images)
        maps = maps_of(kind, teacher.finding_head, direct.features, direct.grid)
        ours = torch.from_numpy(np.asarray(said.maps, dtype=np.float32))
        there = (maps.amax(dim=(2, 3)) > 1e-6)
        assert there.any() and reasons_loss(ours, maps, there).item() < 1e-5
        assert hint_loss(torch.from_numpy(np.asarray(said.attention, dtype=np.float32)), direct.features).item() < 1e-5


def test_what_a_teacher_does_not_give_is_refused_by_name(counted: Counted, examples: Examples, tmp_path: Path) -> None:
    foreign = Foreign()
    for teachers, wanted, word in (
        ({"report": foreign}, AskOptions(), "gives no next words"),
        ({"findings": foreign}, AskOptions(hints=True), "gives no features"),
        ({"findings": foreign}, AskOptions(reasons="grad-cam"), "no Grad-CAM"),
        ({"findings": foreign}, AskOptions(("hernia",)), "no finding in common"),
        ({"findings": counted.teachers["masks"]}, AskOptions(), "gives no findings"),
        ({"findings": foreign}, AskOptions(reasons="gird"), "did you mean 'grid'"),
    ):
        with pytest.raises(RecipeError, match=word):
            cache_targets(teachers, examples, views=1, folder=tmp_path, options=wanted)


def test_a_damaged_shard_is_named(counted: Counted, examples: Examples, tmp_path: Path) -> None:
    teacher = {"findings": counted.teachers["findings"]}
    cache_targets(teacher, examples, views=1, folder=tmp_path)
    (shard,) = tmp_path.glob("*/*.npy")
    whole, plain = shard.read_bytes(), io.BytesIO()
    np.save(plain, np.zeros((6, 3), dtype=np.float16))
    for damaged in (b"", whole[: len(whole) // 2], b"no numbers at all", plain.getvalue()):
        shard.unlink()
        shard.write_bytes(damaged)
        with pytest.raises(ArchiveError, match="delete it") as caught:
            cache_targets(teacher, examples, views=1, folder=tmp_path)
        assert shard.name in str(caught.value)


def test_a_full_disk_leaves_no_half_shard(
    counted: Counted, examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    teacher = {"findings": counted.teachers["findings"]}
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        cache_targets(teacher, examples, views=1, folder=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


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
