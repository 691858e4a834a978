"""The training loop on a toy: it learns, repeats itself to the bit, and has nothing to learn from itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from storyxai.data.batches import Batch, make_batch
from storyxai.errors import StoryxaiError
from storyxai.models.network import Network
from storyxai.training import fit as fit_module
from storyxai.training import losses
from storyxai.training.config import TrainingRecipe
from storyxai.training.fit import FitConfig, RunOptions, fit
from storyxai.training.objective import task_losses, task_weights
from storyxai.training.soft_targets import TeacherTargets
from teaching_examples import tiny_network, toy_examples

ROWS = np.arange(6)
SHORT = FitConfig(epochs=1, batch_size=4, seed=11)


def weights_of(network: Network) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def exact_targets(network: Network, view: int = 0, count: int = 6) -> TeacherTargets:
    """What `network` says of the toy examples, without rounding to 16 bit."""
    examples = toy_examples(count)
    batch = make_batch(examples, np.arange(count), view)
    there = np.flatnonzero((examples.tokens != 0).any(axis=1))
    word_row = np.full(count, -1, dtype=np.int64)
    word_row[there] = np.arange(len(there))
    with torch.inference_mode():
        said = network(batch.images)
        words = network.decoder(batch.tokens[there, :-1], said.memory[there])
    return TeacherTargets(view, said.logits.numpy(), said.masks.numpy(), words.numpy(), word_row)


@pytest.fixture(scope="module")
def learnt() -> tuple[float, ...]:
    """The losses of a tiny student over some epochs."""
    config = FitConfig(epochs=8, batch_size=8, learning_rate=3e-3, seed=1)
    return fit(tiny_network(), toy_examples(16), config=config).losses


def test_the_loss_falls(learnt: tuple[float, ...]) -> None:
    assert len(learnt) == 8 and all(np.isfinite(learnt))
    assert learnt[-1] < 0.8 * learnt[0]
    assert np.polyfit(range(8), learnt, 1)[0] < 0


def test_same_seed_same_weights_and_the_global_seed_is_left_alone() -> None:
    examples = toy_examples(8)
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    one = fit(tiny_network(), examples, config=SHORT)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(321)
    other = fit(tiny_network(), examples, config=SHORT)
    assert one.losses == other.losses and one.steps == other.steps == 2
    for (name, ours), theirs in zip(weights_of(one.network).items(), weights_of(other.network).values(), strict=True):
        assert torch.equal(ours, theirs), name
    third = fit(tiny_network(), examples, config=dataclasses.replace(SHORT, seed=12))
    assert third.losses != one.losses


def test_what_comes_back_is_the_running_average_in_evaluation_mode() -> None:
    network = tiny_network()
    start = weights_of(network)["finding_head.out.weight"]
    result = fit(network, toy_examples(8), config=dataclasses.replace(SHORT, epochs=2))
    average, now = (weights_of(one)["finding_head.out.weight"] for one in (result.network, network))
    assert result.network is not network and not result.network.training
    assert (average - start).abs().max() > 0 and (average - now).abs().max() > 0
    assert (average - start).norm() < (now - start).norm()  # an average lags behind


def soft_losses(
    network: Network, batch: Batch, rows: NDArray[np.int64], targets: TeacherTargets, config: FitConfig = SHORT
) -> dict[str, torch.Tensor]:
    """What the teacher adds to each task's loss."""
    said = network(batch.images)
    hard = task_losses(network, said, batch, rows, config=config)
    both = task_losses(network, said, batch, rows, config=config, targets=targets)
    return {task: both[task] - hard[task] for task in hard}


def test_a_network_has_nothing_to_learn_from_itself() -> None:
    network = tiny_network()
    batch = make_batch(toy_examples(6), ROWS, 0)
    loss = sum(soft_losses(network, batch, ROWS, exact_targets(network)).values())
    loss.backward()
    largest = max(float(p.grad.abs().max()) for p in network.parameters() if p.grad is not None)
    assert loss.item() == pytest.approx(0, abs=1e-6) and largest < 1e-5


def test_every_task_is_pulled_towards_another_network() -> None:
    network = tiny_network()
    batch, targets = make_batch(toy_examples(6), ROWS, 0), exact_targets(tiny_network(seed=1))
    sum(soft_losses(network, batch, ROWS, targets).values()).backward()
    for head in (network.finding_head.out, network.mask_head, network.decoder.out):
        assert head.weight.grad.abs().max() > 1e-4


def test_an_answer_belongs_to_its_row() -> None:
    # Shuffled rows with their own targets still agree with the network; with their neighbour's they do not.
    network = tiny_network()
    rows = np.array([5, 0, 2, 3])
    batch, targets = make_batch(toy_examples(6), rows, 0), exact_targets(network)
    with torch.inference_mode():
        own = soft_losses(network, batch, rows, targets)
        wrong = soft_losses(network, batch, np.roll(rows, 1), targets)
    assert sum(own.values()).item() == pytest.approx(0, abs=1e-6) and sum(wrong.values()).item() > 1e-5


def test_the_mixture_is_that_of_the_recipe() -> None:
    # (1 - a) (hard + a / (1 - a) tau^2 KL) = (1 - a) hard + a tau^2 KL.
    network = tiny_network()
    batch, targets = make_batch(toy_examples(6), ROWS, 0), exact_targets(tiny_network(seed=1))
    with torch.inference_mode():
        half, fifth, none = (
            soft_losses(network, batch, ROWS, targets, dataclasses.replace(SHORT, mixing=mixing))
            for mixing in (0.5, 0.2, 0.0)
        )
    for task in half:
        assert half[task] > 0 and none[task] == 0.0
        assert fifth[task].item() == pytest.approx(half[task].item() * 0.25, rel=1e-3)


def test_tasks_lose_what_their_own_losses_say_and_unknown_references_cost_nothing() -> None:
    network, batch = tiny_network(), make_batch(toy_examples(6), ROWS, 0)
    with torch.inference_mode():
        said = network(batch.images)
        told = batch.tokens.any(dim=1)
        words = network.decoder(batch.tokens[told, :-1], said.memory[told])
        wanted = {
            "findings": losses.finding_loss(said.logits, batch.labels) + 0.3 * losses.box_loss(said.grid, batch.cells),
            "masks": losses.mask_loss(said.masks, batch.masks) + losses.union_loss(said.masks, batch.union),
            "report": losses.token_loss(words, batch.tokens[told]),
        }
        found = task_losses(network, said, batch, ROWS, config=SHORT)
        assert set(found) == set(wanted)
        for task, loss in wanted.items():
            assert loss > 0 and found[task].item() == pytest.approx(loss.item(), rel=1e-6), task
        nothing = batch._replace(
            labels=batch.labels * torch.nan, masks=batch.masks * torch.nan, union=batch.union * torch.nan,
            cells=batch.cells * torch.nan, tokens=torch.zeros_like(batch.tokens),
        )
        assert [loss.item() for loss in task_losses(network, said, nothing, ROWS, config=SHORT).values()] == [0.0] * 3


def test_the_decoder_is_asked_once_a_batch() -> None:
    network, asked = tiny_network(), []
    network.decoder.register_forward_hook(lambda *_: asked.append(1))
    batch = make_batch(toy_examples(6), ROWS, 0)
    task_losses(network, network(batch.images), batch, ROWS, config=SHORT, targets=exact_targets(tiny_network(seed=1)))
    assert len(asked) == 1


def test_a_task_weighs_what_the_recipe_says_and_findings_on_the_side_three_tenths() -> None:
    config = dataclasses.replace(SHORT, task_weights=(2.0, 3.0, 5.0, 7.0))
    for tasks, wanted in (
        (("findings", "masks", "report"), {"findings": 2.0, "masks": 3.0, "report": 5.0}),
        (("masks",), {"masks": 3.0}), (("report",), {"findings": pytest.approx(0.6), "report": 5.0}),
    ):
        network = tiny_network(tasks=tasks)
        assert task_weights(network.spec, config) == wanted
        batch = make_batch(toy_examples(6), ROWS, 0)
        assert set(task_losses(network, network(batch.images), batch, ROWS, config=config)) == set(wanted)


@pytest.mark.parametrize("kind", ["cross_entropy", "focal", "asymmetric"])
def test_findings_lose_as_the_recipe_names_it(kind: str) -> None:
    network, batch = tiny_network(tasks=("findings",)), make_batch(toy_examples(6), ROWS, 0)
    function = {"focal": losses.focal_loss, "asymmetric": losses.asymmetric_loss}.get(kind, losses.finding_loss)
    weights = torch.tensor([2.0, 3.0, 1.0])
    config = dataclasses.replace(SHORT, task_weights=(1, 1, 1, 0), training=TrainingRecipe(finding_loss=kind))
    with torch.inference_mode():
        said = network(batch.images)
        found = task_losses(network, said, batch, ROWS, config=config, weights=weights)
        assert found["findings"].item() == pytest.approx(function(said.logits, batch.labels, weights).item(), rel=1e-6)


def test_each_epoch_asks_the_teacher_of_the_view_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, asked = [], []

    def watch_batch(examples, rows, view, settings):  # type: ignore[no-untyped-def]
        shown.append(view)
        return make_batch(examples, rows, view)

    def watch_loss(network, said, batch, rows, *, config, targets, weights):  # type: ignore[no-untyped-def]
        asked.append(targets.view if targets else None)
        return task_losses(network, said, batch, rows, config=config, targets=targets, weights=weights)

    monkeypatch.setattr(fit_module, "make_batch", watch_batch)
    monkeypatch.setattr(fit_module, "task_losses", watch_loss)
    teacher = tiny_network(seed=1)
    targets = tuple(exact_targets(teacher, view) for view in range(2))
    config = FitConfig(epochs=3, batch_size=6, views=2)
    fit(tiny_network(), toy_examples(6), config=config, targets=targets)
    assert shown == asked == [0, 1, 0]
    shown.clear()
    fit(tiny_network(tasks=("findings",)), toy_examples(6), config=dataclasses.replace(config, views=0))
    assert shown == [1, 2, 3]


def test_progress_counts_every_step() -> None:
    seen: list[tuple[str, int, int]] = []
    network = tiny_network(tasks=("findings",))
    fit(network, toy_examples(6), config=SHORT, run=RunOptions("toy", progress=lambda *step: seen.append(step)))
    assert [step for _, step, _ in seen] == [1, 2] and {total for _, _, total in seen} == {2}
    assert seen[0][0].startswith("toy: epoch 1/1")


def test_a_loss_that_is_not_a_number_stops_the_training() -> None:
    network = tiny_network(tasks=("findings",))
    with torch.no_grad():
        network.finding_head.out.bias.fill_(torch.nan)
    state = torch.random.get_rng_state()
    with pytest.raises(StoryxaiError, match="toy: the loss of findings is not a number at step 0"):
        fit(network, toy_examples(6), config=SHORT, run=RunOptions("toy"))
    assert torch.equal(torch.random.get_rng_state(), state)
