"""Rounds, as a recipe says them: what is shown, what moves, who teaches, and where each starts and ends."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from storyxai.data.augmentation import ViewSettings
from storyxai.data.batches import Examples, make_batch
from storyxai.errors import RecipeError, WeightsError
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.models.export import save_network
from storyxai.models.network import Network, NetworkSpec
from storyxai.training import losses
from storyxai.training.blend import blend_answers, blend_batch, draw_blend
from storyxai.training.config import (
    LEARNING_PARTS,
    DataRecipe,
    FitConfig,
    OutlinesRecipe,
    Recipe,
    RoundRecipe,
    StudentRecipe,
    TeacherRecipe,
    TrainingRecipe,
)
from storyxai.training.earlier import draw_outlines, start_parts
from storyxai.training.fit import RunOptions, fit
from storyxai.training.foreign import joined_teachers
from storyxai.training.objective import task_losses
from storyxai.training.published import unknown_targets
from storyxai.training.recipe_file import read_recipe
from storyxai.training.rounds import Answers, Lesson, rounds_of, said_by_itself, train_in_rounds
from storyxai.training.sampling import shown_rows
from storyxai.training.soft_targets import TeacherTargets
from storyxai.training.weights import average_networks, convert_encoder_weights, load_encoder_weights
from storyxai.types import SoftTargets
from teaching_examples import FINDINGS, SIZE, tiny_network, toy_examples

TEACHER = TeacherRecipe("mobilenetv3_small_050", 1, width=16, hidden=16, batch_size=4)
STUDENT = StudentRecipe("mobilenetv3_small_050", 1, width=16, hidden=16, batch_size=4)
RECIPE = Recipe("toy", 3, DataRecipe(SIZE, 8, 4, 4), TEACHER, TEACHER, TEACHER, STUDENT)
HOME = Path(__file__).resolve().parents[2]


def two_sets() -> Examples:
    examples = toy_examples(8)
    return dataclasses.replace(examples, domain=("many",) * 6 + ("few",) * 2)


def test_an_epoch_shows_each_set_as_often_as_the_round_says() -> None:
    domain = ("a",) * 100 + ("b",) * 10 + ("c",) * 5
    epochs = [shown_rows(domain, {"a": 0.5, "b": 2.3}, seed=1, epoch=epoch) for epoch in range(40)]
    for rows in epochs:
        own = rows[rows < 100]
        assert len(own) == len(set(own.tolist())) == 50 and (rows < 110).all()
        assert sorted(np.unique(rows[rows >= 100], return_counts=True)[1]) == [2] * 7 + [3] * 3
    assert np.array_equal(epochs[3], shown_rows(domain, {"a": 0.5, "b": 2.3}, seed=1, epoch=3))
    shown = np.bincount(np.concatenate(epochs)[np.concatenate(epochs) < 100], minlength=100) / 40
    assert shown.mean() == 0.5 and shown.min() > 0.2 and shown.max() < 0.8  # drawn anew each epoch


def test_a_part_that_does_not_learn_stays_as_it_is_with_its_statistics() -> None:
    network = tiny_network(tasks=("findings", "masks"))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    config = FitConfig(epochs=1, batch_size=4, learns=("masks",), training=TrainingRecipe(warmup_share=0.0))
    after = fit(network, toy_examples(8), config=config).network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and {name.split(".")[0] for name in moved} <= {*LEARNING_PARTS["masks"]}
    assert any("running_mean" in name for name in moved)


def run(rounds: tuple[RoundRecipe, ...], folder: Path | None = None, answers: Answers | None = None) -> Network:
    recipe = dataclasses.replace(RECIPE, rounds=rounds)
    network = tiny_network(tasks=("findings",))
    lesson = Lesson(two_sets(), answers or Answers())
    return train_in_rounds(recipe, "student", network, lesson, seed=3, run=RunOptions("toy", folder)).network


def stage(name: str, **rest: object) -> RoundRecipe:
    return RoundRecipe("student", 1, 1e-3, name, **rest)  # type: ignore[arg-type]


def test_each_round_starts_where_another_ended_and_ends_are_averaged(tmp_path: Path) -> None:
    first = run((stage("one"),))
    both = run((stage("one"), stage("two")))
    mean = run((stage("one"), stage("two", average_with=("one",))), tmp_path)
    kept = run((stage("one"), stage("two", average_with=("one",))), tmp_path)  # what ended is not trained again
    for name, value in mean.state_dict().items():
        if value.dtype.is_floating_point:
            assert torch.allclose(value, (first.state_dict()[name] + both.state_dict()[name]) / 2, atol=1e-6), name
        assert torch.equal(value, kept.state_dict()[name])
    assert not torch.equal(first.finding_head.out.weight, both.finding_head.out.weight)
    assert all(parameter.requires_grad for parameter in mean.parameters())
    again = run((stage("one"), stage("two"), stage("three", start="one", shown={"few": 2})))
    assert not torch.equal(again.finding_head.out.weight, both.finding_head.out.weight)
    with pytest.raises(RecipeError, match="shows 'fwe', of which nothing is learnt — known sets: few, many"):
        run((stage("one", shown={"fwe": 1.0}),))


def test_averages_are_of_all_that_was_learnt() -> None:
    one, two = tiny_network(seed=1), tiny_network(seed=2)
    mean = average_networks([one, two])
    for name, value in mean.state_dict().items():
        if value.dtype.is_floating_point:
            assert torch.allclose(value, (one.state_dict()[name] + two.state_dict()[name]) / 2)


def test_a_round_learns_from_the_teachers_that_it_names_alone() -> None:
    train = dataclasses.replace(toy_examples(4, findings=len(NAMES)))
    nothing = unknown_targets(train)[0]
    two, drawn = np.full(train.labels.shape, 2.0, np.float32), np.ones((4, 3, 2, 2), np.float16)
    own = dataclasses.replace(nothing, findings=two, masks=drawn)
    published = SoftTargets(NAMES[:1], np.full((4, 1), -1.0, np.float32), train.ids, "resize:64", "published")
    answers = Answers((own,), published)

    def asked(*teachers: str) -> tuple[TeacherTargets, ...]:
        return answers.asked(stage("one", teachers=teachers), train, weight=0.5)

    assert asked() == ()
    (masks,) = asked("masks")
    assert np.isnan(masks.findings).all() and len(masks.masks) == 4
    (findings,) = asked("findings")
    assert (findings.findings == 2).all() and len(findings.masks) == 0
    (alone,) = asked("published", "masks")
    assert (alone.findings[:, 0] == -1).all() and np.isnan(alone.findings[:, 1:]).all() and len(alone.masks) == 4
    (both,) = asked("published", "findings")
    assert (both.findings[:, 0] == 0.5).all() and (both.findings[:, 1:] == 2).all()


def test_a_round_can_learn_from_what_its_own_network_said_before_it() -> None:
    """The answers are the network's own on the plain image and its mirror image, where something is labelled."""
    train, network = two_sets(), run((stage("one"),))
    said = said_by_itself(network, train, batch_size=5)
    images = make_batch(train, np.arange(len(train)), 0).images
    with torch.no_grad():
        wanted = (network.eval()(images).logits + network(images.flip(3)).logits) / 2
    assert np.allclose(said.findings, wanted.numpy(), atol=1e-5)
    labels = train.labels.copy()
    labels[2] = np.nan
    assert np.isnan(said_by_itself(network, dataclasses.replace(train, labels=labels)).findings).all(axis=1).tolist() == [
        row == 2 for row in range(8)
    ]
    assert len(said.masks) == 0 and (said.word_row == -1).all()
    rounds = (stage("one"), stage("two", teachers=("itself",), mixing=0.9))
    alone = run((stage("one"), stage("two")))
    taught = run(rounds)
    assert not torch.equal(alone.finding_head.out.weight, taught.finding_head.out.weight)


def test_without_rounds_a_network_trains_as_its_table_says() -> None:
    (student,), (teacher,) = rounds_of(RECIPE, "student"), rounds_of(RECIPE, "masks")
    assert (student.epochs, student.teachers) == (RECIPE.student.epochs, ("findings", "masks", "report", "published"))
    assert (teacher.epochs, teacher.learning_rate, teacher.teachers) == (1, RECIPE.teacher_masks.learning_rate, ())


def test_blended_images_are_learnt_with_labels_and_answers_blended_alike() -> None:
    batch = make_batch(toy_examples(4), np.arange(4), 0)
    share, others = draw_blend(4, seed=1, step=5)
    mixed = blend_batch(batch, share, others)
    assert 0.5 <= share <= 1 and sorted(others.tolist()) == [0, 1, 2, 3]
    assert torch.allclose(mixed.images[0], share * batch.images[0] + (1 - share) * batch.images[others[0]])
    assert torch.allclose(mixed.labels[:, :2], share * batch.labels[:, :2] + (1 - share) * batch.labels[others, :2])
    assert mixed.labels[:, 2].isnan().all() and mixed.cells.isnan().all() and (mixed.tokens == 0).all()
    logits = np.array([[2.0, np.nan], [-1.0, 0.0], [0.5, 3.0], [9.0, -9.0]], dtype=np.float32)
    wanted = logit(share * expit(logits) + (1 - share) * expit(logits[others]))
    assert np.allclose(blend_answers(logits, share, others), wanted, equal_nan=True, atol=1e-3)


def test_a_blended_training_repeats_itself_and_differs_from_a_plain_one() -> None:
    examples = toy_examples(8)
    config = FitConfig(epochs=1, batch_size=4, view_settings=ViewSettings(blend=0.7, mirror=0.5, blur=0.3))
    targets = unknown_targets(examples)
    one, other = (fit(tiny_network(), examples, config=config, targets=targets).network.state_dict() for _ in range(2))
    plain = fit(tiny_network(), examples, config=dataclasses.replace(config, view_settings=ViewSettings())).network.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert any(not torch.equal(value, plain[name]) for name, value in one.items())


def test_labels_weigh_by_set_and_each_set_counts_by_its_share_of_the_batch() -> None:
    network, examples = tiny_network(tasks=("findings",)), toy_examples(8)
    batch = make_batch(examples, np.arange(8), 0)._replace(label_weights=torch.tensor([1.0] * 4 + [5.0] * 2 + [0.0] * 2))
    said = network(batch.images)
    answers = dataclasses.replace(unknown_targets(examples)[0], findings=np.full((8, 3), np.nan, np.float32))
    answers.findings[:4] = 0.5
    config = FitConfig(epochs=1, mixing=0.7, temperature=1.0, task_weights=(1.0, 1.0, 1.0, 0.3), label_weights={"many": 5.0})
    found = task_losses(network, said, batch, np.arange(8), config=config, targets=answers)["findings"]

    def hard(rows: slice) -> torch.Tensor:
        return losses.finding_loss(said.logits[rows], batch.labels[rows]) + 0.3 * losses.box_loss(
            said.grid[rows], batch.cells[rows]
        )

    soft = 0.7 / 0.3 * losses.bernoulli_kl(said.logits[:4], torch.full((4, 3), 0.5))
    wanted = 4 / 8 * (hard(slice(4)) + soft) + 2 / 8 * 5 * hard(slice(4, 6))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_the_last_epoch_may_be_a_part() -> None:
    config = FitConfig(epochs=1.5, batch_size=2, label_weights={"toy": 2.0}, report_shares={"toy": 0.5})
    result = fit(tiny_network(), toy_examples(8), config=config)
    assert (result.steps, len(result.losses)) == (6, 2)


def test_some_sets_are_never_mirrored_and_some_batches_are_plain() -> None:
    examples = two_sets()
    still, turned = ViewSettings(mirror=0.0), ViewSettings(mirror=1.0, never_mirrored=("few",))
    plain, mirrored = (make_batch(examples, np.arange(8), 3, settings) for settings in (still, turned))
    assert torch.equal(plain.images[6:], mirrored.images[6:]) and torch.equal(plain.images[:6], mirrored.images[:6].flip(3))
    one, other = (
        fit(tiny_network(), examples, config=FitConfig(epochs=1, batch_size=4, view_settings=settings)).network.state_dict()
        for settings in (ViewSettings(plain=1.0), ViewSettings(plain=1.0, turn=30.0, blur=1.0))
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())  # no view is drawn, however it would be


def test_members_asked_both_ways_answer_with_the_mean_of_their_log_odds() -> None:
    one, two = (tiny_network(tasks=("findings",), seed=seed) for seed in (1, 2))
    for network in (one, two):
        network.spec = dataclasses.replace(network.spec, findings=NAMES[:3])
    images = make_batch(toy_examples(4), np.arange(4), 0).images
    joined = joined_teachers({"findings": one, "findings-2": two}, (), mirrored=True)["findings"]
    assert not isinstance(joined, Network)
    said = joined.answers(images).findings
    with torch.no_grad():
        wanted = sum(network(shown).logits for network in (one, two) for shown in (images, images.flip(3))) / 4
    assert said is not None and torch.allclose(said[:, :3], wanted, atol=1e-5) and said[:, 3:].isnan().all()


def test_parts_start_from_a_teacher_or_an_earlier_student(tmp_path: Path) -> None:
    network, teacher, earlier = (tiny_network(seed=seed) for seed in (1, 2, 3))
    save_network(earlier, tmp_path / "student.safetensors")
    drawn = {name: value.clone() for name, value in network.state_dict().items()}
    start_parts(network, {"encoder": "teacher_findings", "report": str(tmp_path)}, {"findings": teacher})
    sources = {"encoder": teacher.state_dict(), "decoder": earlier.state_dict()}
    for name, value in network.state_dict().items():
        assert torch.equal(value, sources.get(name.split(".")[0], drawn)[name]), name
    with pytest.raises(WeightsError, match="no weights that fit the student's masks"):
        start_parts(network, {"masks": "teacher_findings"}, {"findings": tiny_network(tasks=("findings",))})
    with pytest.raises(WeightsError, match="cannot be loaded"):
        start_parts(network, {"masks": str(tmp_path / "none")}, {})


def test_an_earlier_student_draws_only_where_nothing_is_known(tmp_path: Path) -> None:
    earlier = tiny_network(tasks=("masks",))
    save_network(earlier, tmp_path / "student.safetensors")
    examples = two_sets()
    examples.masks[:4] = 255
    drawn = draw_outlines(examples, OutlinesRecipe(str(tmp_path), ("many",), ("left_lung", "right_lung")), shares=True)
    assert np.array_equal(drawn.masks[4:], examples.masks[4:]) and (drawn.masks[:4, 2] == 255).all()
    with torch.no_grad():
        wanted = 100 * torch.sigmoid(earlier(make_batch(examples, np.arange(4), 0).images).masks)
    assert np.abs(drawn.masks[:4, :2] - wanted[:, :2].numpy()).max() <= 0.51
    either = draw_outlines(examples, OutlinesRecipe(str(tmp_path), ("many",), ("heart",)), shares=False)
    assert set(np.unique(either.masks[:4, 2])) <= {0, 100} and (either.masks[:4, :2] == 255).all()
    with pytest.raises(RecipeError, match="names the set 'fwe'"):
        draw_outlines(examples, OutlinesRecipe(str(tmp_path), ("fwe",)), shares=True)


@pytest.mark.parametrize("path", sorted(HOME.glob("recipes/*.toml")), ids=lambda path: path.name)
def test_every_recipe_that_comes_with_us_is_sound(path: Path) -> None:
    assert read_recipe(path).name


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('network = "studnet"', "'network' names 'studnet'.*student, findings"),
        ('learns = ["encodre"]', "'learns' names 'encodre'.*encoder, neck"),
        ('teachers = ["nobody"]', "'teachers' names 'nobody'"),
        ('start = "later"', "'start' names 'later'.*none yet"),
        ("shown = {nih = 0.0}", r"'shown\.nih' is 0\.0"),
        ("epochs = 0", "has 0 epochs"),
        ("epochs = 1.5", "'student.epochs' is 1, and its rounds say how long"),
        ("label_weights = {phantom = -1}", r"'label_weights.phantom' is -1.0.*0 or more"),
        ("report_shares = {phantom = 1.5}", r"'report_shares.phantom' is 1.5.*in \[0, 1\]"),
        ("warmup_share = 1.0", r"warmup_share are \(0.0, 0.0, 1.0\)"),
        ('teachers = ["published"]', "learns from 'published'.*data.soft_targets"),
        ('teachers = ["itself"]', "learns from 'itself', and is the first"),
        ('name = ""', "needs a name of its own"),
    ],
)
def test_a_round_that_cannot_be_is_named_with_its_mend(line: str, said: str, tmp_path: Path) -> None:
    values = {"network": '"student"', "name": '"one"', "epochs": "1", "learning_rate": "0.001"}
    key, _, value = line.partition(" = ")
    values[key] = value
    table = "".join(f"{name} = {text}\n" for name, text in values.items())
    path = tmp_path / "toy.toml"
    path.write_text(f"{(HOME / 'recipes' / 'toy.toml').read_text(encoding='utf-8')}\n[[rounds]]\n{table}", encoding="utf-8")
    with pytest.raises(RecipeError, match=said) as caught:
        read_recipe(path)
    assert caught.value.mend


def test_published_weights_become_safetensors_under_our_names(tmp_path: Path) -> None:
    import timm

    name = "tf_efficientnet_lite0"
    whole = timm.create_model(name, pretrained=False).state_dict()
    torch.save({f"theirs.{number}": tensor for number, tensor in enumerate(whole.values())}, tmp_path / "given.pth")
    assert convert_encoder_weights(tmp_path / "given.pth", name, tmp_path / "out.safetensors") == len(whole)
    network = Network(NetworkSpec(encoder=name, size=SIZE, tasks=("findings",), findings=FINDINGS, width=8, hidden=8))
    assert load_encoder_weights(network, tmp_path / "out.safetensors") == len(network.encoder.state_dict())
    assert torch.equal(network.encoder.bn1.weight, whole["bn1.weight"])
    with pytest.raises(WeightsError, match="where mobilenetv3_small_050 has"):
        convert_encoder_weights(tmp_path / "given.pth", "mobilenetv3_small_050", tmp_path / "no.safetensors")
    (tmp_path / "bad.pth").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read as weights alone"):
        convert_encoder_weights(tmp_path / "bad.pth", name, tmp_path / "no.safetensors")
    assert not (tmp_path / "no.safetensors").exists()
