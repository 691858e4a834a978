"""What a teacher must offer, and how answers are joined to the student's findings."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from checks.teacher_checks import check_sides, check_teacher
from storyxai.errors import RecipeError, UnknownNameError, WeightsError
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.models.network import MASKS
from storyxai.models.teachers import (
    CallableTeacher,
    InputForm,
    OwnTeacher,
    TeacherAnswers,
    TeacherAverage,
    form_of,
    join_by_name,
)
from storyxai.training.soft_targets import network_hash
from teaching_examples import FINDINGS, SIZE, tiny_network, toy_examples

NAN = math.nan


def fixed(values: list[float], findings: tuple[str, ...], name: str = "fixed") -> CallableTeacher:
    """A teacher that says the same logits of every image, whose mean grey is added."""
    def said(images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([values]).expand(len(images), -1) + 0 * images.mean()

    return CallableTeacher(said, findings, name=name)


def images(count: int = 2) -> torch.Tensor:
    return torch.from_numpy(toy_examples(count).images).float().div(255).unsqueeze(1)


def test_a_network_trained_here_keeps_the_contract_and_answers_as_it_does() -> None:
    network = tiny_network()
    teacher = OwnTeacher(network, "tiny")
    check_teacher(teacher, student_findings=FINDINGS)
    tokens = torch.from_numpy(toy_examples(2).tokens)
    said = teacher.answers(images(), tokens)
    with torch.no_grad():
        out = network(images())
        words = network.decoder(tokens[:, :-1], out.memory)
    for mine, theirs in zip((said.findings, said.masks, said.words, said.maps, said.features),
                            (out.logits, out.masks, words, out.grid, out.features), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert teacher.hash == network_hash(network) and teacher.size == SIZE
    loss = (torch.zeros_like(said.findings, requires_grad=True) * said.findings).sum()
    loss.backward()  # answers can stand in a loss


def test_a_network_of_one_channel_refuses_colour_by_name() -> None:
    with pytest.raises(WeightsError, match=r"teacher 'tiny'.*looks at 1 channels and was shown 3"):
        OwnTeacher(tiny_network(), "tiny").answers(images().expand(-1, 3, -1, -1))


def test_one_changed_weight_changes_the_hash() -> None:
    network = tiny_network(tasks=("masks",))
    before = OwnTeacher(network).hash
    with torch.no_grad():
        network.mask_head.bias[0] += 1e-6
    assert OwnTeacher(network).hash != before
    assert OwnTeacher(network).findings == () and OwnTeacher(network).tasks == ("masks",)


@pytest.mark.parametrize("bad", [torch.zeros(2, 3).double(), torch.zeros(3), torch.zeros(2, 3, requires_grad=True)])
def test_answers_are_float32_of_known_shape_without_gradients(bad: torch.Tensor) -> None:
    with pytest.raises(WeightsError, match="its findings are"):
        TeacherAnswers(findings=bad)


def test_findings_are_joined_by_name_then_synonym_and_averaged_where_several_know() -> None:
    theirs = ("Pleural Effusion", "edema", "Fracture", "Lung Opacity", "infiltrate", "Infiltrates")
    answers = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 9.0], [NAN, 2.5, 3.0, 4.0, NAN, 8.0]])
    joined = join_by_name(answers, theirs, ("Edema", "Effusion", "Infiltration", "Hernia"))
    expected = torch.tensor([[2.0, 1.0, 7.0, NAN], [2.5, NAN, 8.0, NAN]])
    torch.testing.assert_close(joined, expected, equal_nan=True)


def test_the_same_name_wins_over_a_synonym_and_names_outside_the_vocabulary_join_too() -> None:
    theirs = ("Pleural Effusion", "effusion", "left square")
    joined = join_by_name(torch.tensor([[1.0, 2.0, 3.0]]), theirs, ("left square", "Effusion"))
    assert joined.tolist() == [[3.0, 2.0]]


def test_maps_are_joined_as_logits_are() -> None:
    maps = torch.arange(8.0).reshape(1, 2, 2, 2)
    joined = join_by_name(maps, ("Mass", "Nodule"), ("Nodule", "Hernia", "Mass"))
    assert torch.equal(joined[:, 0], maps[:, 1]) and torch.equal(joined[:, 2], maps[:, 0]) and joined[:, 1].isnan().all()


def test_nothing_in_common_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"no finding in common.*'Hernias' is nearest to 'Hernia'"):
        join_by_name(torch.zeros(1, 2), ("Fracture", "Hernias"), NAMES)
    with pytest.raises(WeightsError, match="3 answers for 2 named findings"):
        join_by_name(torch.zeros(1, 3), ("Mass", "Nodule"), NAMES)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("0..1", 0, 1), ("-1024..1024", -1024, 1024), ("0..255", 0, 255), ("1..0", 1, 0), ("-1 .. 1", -1, 1)],
)
def test_a_range_maps_black_and_white(text: str, low: float, high: float) -> None:
    shown = form_of(text).of(torch.tensor([0.0, 0.25, 1.0]).view(1, 1, 1, 3))
    assert shown.flatten().tolist() == pytest.approx([low, low + 0.25 * (high - low), high])


def test_imagenet_is_three_channels_with_its_mean_and_std() -> None:
    shown = form_of("imagenet").of(torch.full((1, 1, 4, 4), 0.5))
    expected = [(0.5 - mean) / std for mean, std in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
    assert shown.shape == (1, 3, 4, 4) and shown[0, :, 1, 2].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("text", ["0-1", "1..1", "..", "black..white", "nan..1"])
def test_a_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"is not two different numbers.*'0\.\.1'"):
        form_of(text)


def test_the_form_resizes_and_keeps_the_mean() -> None:
    shown = InputForm(16).of(torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert shown.shape == (2, 1, 16, 16) and abs(float(shown.mean()) - 0.5) < 0.01 and float(shown.std()) < 0.15


def test_probabilities_become_logits_clipped_at_a_millionth() -> None:
    teacher = CallableTeacher(
        lambda x: torch.tensor([[0.5, 0.9, 0.0, 1.0, NAN]]) + 0 * x.mean(), NAMES[:5], space="probabilities"
    )
    most = math.log((1 - 1e-6) / 1e-6)
    said = teacher.answers(images(1)).findings
    assert said[0, :4].tolist() == pytest.approx([0.0, math.log(9), -most, most], rel=1e-4) and bool(said[0, 4].isnan())


def test_a_callable_keeps_the_contract_and_is_known_by_its_answers() -> None:
    def dense(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.mean(dim=(1, 2, 3)), x[:, 0, 0, 0]], dim=1)

    teacher = CallableTeacher(dense, ("Edema", "Mass"))
    check_teacher(teacher)
    assert teacher.hash == CallableTeacher(dense, ("Edema", "Mass")).hash
    assert teacher.hash != CallableTeacher(lambda x: 2 * dense(x), ("Edema", "Mass")).hash
    assert teacher.hash != CallableTeacher(dense, ("Mass", "Edema")).hash
    assert CallableTeacher(dense, ("Mass",), fingerprint="a").hash != CallableTeacher(dense, ("Mass",), fingerprint="b").hash


def test_a_segmenter_gives_the_structures_that_we_draw_and_nan_for_the_rest() -> None:
    def halves(x: torch.Tensor) -> torch.Tensor:
        side = torch.linspace(-1, 1, 8).expand(len(x), 8, 8)
        return torch.stack([torch.full_like(side, 7.0), -side * 9, side * 9], dim=1)

    teacher = CallableTeacher(halves, task="masks", structures=("Spine", "Right Lung", "left_lung"))
    said = teacher.answers(images()).masks
    assert said.shape == (2, len(MASKS), 8, 8) and said[:, 2].isnan().all() and not (said[:, :2] == 7).any()
    check_sides(teacher, images())
    with pytest.raises(AssertionError, match="swap the channels"):
        check_sides(CallableTeacher(halves, task="masks", structures=("Spine", "left lung", "right lung")), images())


def asked(function: Callable[[torch.Tensor], object], space: str = "logits") -> TeacherAnswers:
    return CallableTeacher(function, ("Mass",), space=space).answers(images())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: CallableTeacher(len, ()), "names no finding"),
        (lambda: CallableTeacher(len, ("Mass",), task="boxes"), "'boxes': is not known"),
        (lambda: CallableTeacher(len, ("Mass",), space="scores"), "space 'scores'"),
        (lambda: CallableTeacher(len, task="masks", structures=("Spine", "lungs")), "none of which is left_lung"),
        (lambda: asked(lambda x: 3), "answers int, no tensor"),
        (lambda: asked(lambda x: x[:, :, 0, :2]), r"answers \(2, 1, 2\), not \(2, 1\)"),
        (lambda: asked(lambda x: x.mean(dim=(2, 3)) + torch.inf), "answers infinity"),
        (lambda: asked(lambda x: x.mean(dim=(2, 3)) - 9, "probabilities"), "no probabilities.*space = 'logits'"),
        (lambda: asked(lambda x: x @ torch.zeros(3, 3)), r"refuses images of \(1, 1, 64, 64\)"),
    ],
)
def test_what_is_no_teacher_is_refused(given: Callable[[], object], said: str) -> None:
    with pytest.raises((WeightsError, RecipeError, UnknownNameError), match=said) as caught:
        given()
    assert caught.value.mend


def test_an_average_is_over_those_that_know_weighted_per_finding() -> None:
    one = fixed([2.0, 4.0, NAN], ("Effusion", "Mass", "Hernia"), "one")
    two = fixed([6.0, 1.0], ("Pleural effusion", "Hernia"), "two")
    average = TeacherAverage((one, two), ("Effusion", "Mass", "Hernia", "Edema"), weights={"Effusion": [1.0, 3.0]})
    said = average.answers(images(1)).findings
    torch.testing.assert_close(said, torch.tensor([[(2 + 3 * 6) / 4, 4.0, 1.0, NAN]]), equal_nan=True)
    assert average.tasks == ("findings",) and average.answers(images(1)).masks is None
    assert average.hash != TeacherAverage((one, two), average.findings).hash
    assert average.hash != TeacherAverage((two, one), average.findings, weights=average.weights).hash


def test_masks_are_averaged_on_the_finest_grid_and_tasks_do_not_mix() -> None:
    def flat(value: float, side: int) -> CallableTeacher:
        return CallableTeacher(lambda x: torch.full((len(x), 3, side, side), value) + 0 * x.mean(), task="masks")

    average = TeacherAverage((flat(1.0, 4), flat(4.0, 8), fixed([1.0], ("Mass",))), ("Mass",), weights={"masks": [1, 2, 5]})
    said = average.answers(images())
    assert said.masks.shape == (2, 3, 8, 8) and torch.allclose(said.masks, torch.tensor(3.0))
    assert said.findings.tolist() == [[1.0], [1.0]] and said.words is None
    assert average.tasks == ("findings", "masks")


def test_an_average_of_one_is_that_one() -> None:
    teacher = OwnTeacher(tiny_network())
    average = TeacherAverage((teacher,), FINDINGS)
    tokens = torch.from_numpy(toy_examples(2).tokens)
    mine, theirs = teacher.answers(images(), tokens), average.answers(images(), tokens)
    for part in ("findings", "masks", "words", "maps", "features"):
        assert torch.equal(getattr(mine, part), getattr(theirs, part))
    check_teacher(average, student_findings=FINDINGS)


@pytest.mark.parametrize(
    ("weights", "said"),
    [({"Mass": [1.0]}, "give 2 numbers"), ({"Mass": [0, 0]}, "not all 0"), ({"Mass": [-1, 2]}, "not negative"),
     ({"Mas": [1, 1]}, "did you mean 'Mass'")],
)
def test_weights_that_cannot_be_are_refused(weights: dict[str, list[float]], said: str) -> None:
    pair = (fixed([1.0], ("Mass",)), fixed([2.0], ("Mass",)))
    with pytest.raises((RecipeError, UnknownNameError), match=said):
        TeacherAverage(pair, ("Mass",), weights=weights)
    with pytest.raises(RecipeError, match="no finding in common"):
        TeacherAverage(pair, ("Hernia",))
    with pytest.raises(RecipeError, match="averages no teachers"):
        TeacherAverage((), ("Mass",))
