"""The loop around the steps: it stops when nothing gets better, keeps the best, says how fast it is, refuses what cannot be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from storyxai.data.batches import make_batch
from storyxai.errors import RecipeError
from storyxai.training import fit as fit_module
from storyxai.training.balance import conflict_row, shared_parameters
from storyxai.training.config import FitConfig, TrainingRecipe
from storyxai.training.fit import CHECKPOINT, RunOptions, fit
from storyxai.training.objective import task_losses
from storyxai.training.validation import best_epoch, validate
from teaching_examples import tiny_network, toy_examples

SHORT = FitConfig(epochs=2, batch_size=4, learning_rate=3e-3, seed=11)


def with_training(config: FitConfig = SHORT, **how: object) -> FitConfig:
    return dataclasses.replace(config, training=TrainingRecipe(**how))  # type: ignore[arg-type]


def test_it_stops_after_patience_and_gives_back_the_best_average(monkeypatch: pytest.MonkeyPatch) -> None:
    figures, averages = iter([0.5, 0.7, 0.7, 0.6, 0.9]), []

    def watch(network, examples, *, config):  # type: ignore[no-untyped-def]
        averages.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return {"validation_auroc": next(figures)}

    monkeypatch.setattr(fit_module, "validate", watch)
    config = with_training(dataclasses.replace(SHORT, epochs=5), stop_metric="validation_auroc", patience=2)
    result = fit(tiny_network(tasks=("findings",)), toy_examples(4), config=config, validation=toy_examples(4, seed=1))
    assert [row["validation_auroc"] for row in result.history] == [0.5, 0.7, 0.7, 0.6] and result.steps == 4
    best = result.network.state_dict()
    assert all(torch.equal(best[name], tensor) for name, tensor in averages[1].items())
    assert not torch.equal(best["finding_head.out.weight"], averages[3]["finding_head.out.weight"])


def test_the_first_of_equal_epochs_is_best_and_less_loss_is_more() -> None:
    history = [{"validation_loss": loss, "validation_auroc": -loss} for loss in (2.0, 1.0, 1.0, 3.0)]
    assert best_epoch(history, "validation_loss") == best_epoch(history, "validation_auroc") == 1


def test_validation_figures_do_not_depend_on_the_batch_and_a_sure_network_has_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, examples = tiny_network(), toy_examples(8)
    examples = dataclasses.replace(examples, tokens=np.zeros_like(examples.tokens))
    one = validate(network, examples, config=with_training(stop_metric="validation_dice"))
    monkeypatch.setattr("storyxai.training.validation.BATCH_SIZE", 4)
    other = validate(network, examples, config=with_training(stop_metric="validation_dice"))
    assert one == pytest.approx(other, rel=1e-5) and 0 <= one["validation_dice"] <= 1

    def told(images: torch.Tensor):  # type: ignore[no-untyped-def]
        said = tiny_network(tasks=("findings", "masks")).eval()(images)
        batch = make_batch(examples, np.arange(8), 0)
        return said._replace(logits=10 * batch.labels.nan_to_num(0.5) - 5, masks=40 * batch.masks.nan_to_num(0.0) - 20)

    monkeypatch.setattr("storyxai.training.validation.BATCH_SIZE", 8)
    sure = tiny_network(tasks=("findings", "masks"))
    monkeypatch.setattr(sure, "forward", told)
    for metric in ("validation_auroc", "validation_dice"):
        assert validate(sure, examples, config=with_training(stop_metric=metric))[metric] == 1.0


@pytest.mark.parametrize(
    ("tasks", "metric", "given", "said"),
    [
        (("findings",), "validation_auroc", None, "needs a validation part"),
        (("masks",), "validation_auroc", toy_examples(4), "needs the task findings.*validation_loss"),
        (("findings",), "validation_auroc", toy_examples(4).take([0]), "no finding is both present and absent"),
        (("findings",), "validation_dice", toy_examples(4), "needs the task masks"),
    ],
)
def test_a_metric_that_cannot_be_had_is_refused_before_training(tasks, metric, given, said) -> None:  # type: ignore[no-untyped-def]
    config = with_training(stop_metric=metric)
    with pytest.raises(RecipeError, match=f"toy: .*{said}"):
        fit(tiny_network(tasks=tasks), toy_examples(4), config=config, validation=given, run=RunOptions("toy"))


def test_a_training_that_cannot_work_is_refused() -> None:
    with pytest.raises(RecipeError, match="toy: 1 examples are fewer than two for each of 1 processes"):
        fit(tiny_network(tasks=("masks",)), toy_examples(1), config=SHORT, run=RunOptions("toy"))
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match=r"toy: needs 1 GPUs, 0 are there.*device = .cpu"):
            fit(tiny_network(tasks=("masks",)), toy_examples(4), config=with_training(device="cuda"), run=RunOptions("toy"))


@pytest.mark.parametrize("moment", ["loss", "gradient"])
def test_what_is_not_a_number_stops_it_and_leaves_the_last_good_checkpoint(tmp_path: Path, moment: str) -> None:
    from safetensors.torch import load_file

    network, asked = tiny_network(tasks=("masks",)), []

    def spoil(_module, _given, said):  # type: ignore[no-untyped-def]
        asked.append(1)
        if len(asked) == 3 and moment == "gradient":
            said.masks.register_hook(lambda gradient: gradient * torch.inf)
        if len(asked) == 3 and moment == "loss":
            return said._replace(masks=said.masks * torch.nan)
        return said

    network.register_forward_hook(spoil)
    wrong = "the loss of masks is not a number" if moment == "loss" else "the gradient is not a number"
    with pytest.raises(RecipeError, match=f"toy: {wrong} at step 2 — lower the learning rate"):
        fit(network, toy_examples(16), config=with_training(checkpoint_steps=2), run=RunOptions("toy", tmp_path))
    kept = load_file(tmp_path / CHECKPOINT)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.values())
    assert all(torch.equal(kept[f"network.{name}"], tensor) for name, tensor in network.named_parameters())


def test_progress_tells_speed_and_time_left() -> None:
    ticks = iter(np.arange(0.0, 100.0, 2.0))  # the clock starts at 0 and tells 2 s more each time it is asked
    said: list[str] = []
    fit(
        tiny_network(tasks=("masks",)), toy_examples(8), config=SHORT,
        run=RunOptions("toy", progress=lambda text, _step, _total: said.append(text), clock=lambda: float(next(ticks))),
    )
    # Each step of 4 images takes 2 s: 2 images/s; of four steps three are left, then two.
    assert said[0].endswith("2 images/s, 6 s left") and said[1].endswith("2 images/s, 4 s left")
    assert said[3].startswith("toy: epoch 2/2, loss ") and said[3].endswith("0 s left")


def test_fixed_weights_are_the_weighted_sum_and_all_is_noted() -> None:
    config = dataclasses.replace(SHORT, epochs=1, task_weights=(2.0, 0.5, 3.0, 0.3))
    (row,) = fit(tiny_network(), toy_examples(4), config=config).history
    parts = {"findings": 2.0, "masks": 0.5, "report": 3.0}
    assert {task: row[f"weight_{task}"] for task in parts} == parts
    assert row["loss"] == pytest.approx(sum(weight * row[f"loss_{task}"] for task, weight in parts.items()))
    pairs = {"conflict_findings_masks", "conflict_findings_report", "conflict_masks_report"}
    named = {f"{kind}_{task}" for kind in ("loss", "weight") for task in parts}
    assert set(row) == {"loss", "learning_rate", *named, *pairs}
    assert all(-1 <= row[pair] <= 1 for pair in pairs)


def test_conflict_of_a_run_is_that_of_each_epochs_first_batch(tmp_path: Path) -> None:
    config = dataclasses.replace(SHORT, batch_size=6, learning_rate=1e-9, views=1)
    history = fit(tiny_network(), toy_examples(6), config=config, run=RunOptions(folder=tmp_path)).history
    assert (tmp_path / "conflict.png").is_file() and len(history) == 2
    network = tiny_network().train()
    batch = make_batch(toy_examples(6), np.arange(6), 0)
    torch.manual_seed(0)
    losses = task_losses(network, network(batch.images), batch, np.arange(6), config=config)
    cosine = conflict_row(losses, shared_parameters(network))["conflict_findings_masks"]
    assert history[0]["conflict_findings_masks"] == pytest.approx(cosine, abs=0.03)  # batch norms of six rows and threads


@pytest.mark.parametrize("balance", ["uncertainty", "upgrad", "upgrad-features"])
def test_other_balances_pull_otherwise_and_repeat_themselves(balance: str) -> None:
    config = dataclasses.replace(SHORT, balance=balance)
    one, other = (fit(tiny_network(), toy_examples(6), config=config) for _ in range(2))
    fixed = fit(tiny_network(), toy_examples(6), config=SHORT)
    assert one.losses == other.losses and np.isfinite(one.losses).all()
    name = "encoder.conv_stem.weight"
    assert torch.equal(one.network.state_dict()[name], other.network.state_dict()[name])
    assert not torch.equal(one.network.state_dict()[name], fixed.network.state_dict()[name])


def test_half_precision_stays_close_and_weights_stay_whole() -> None:
    whole, half = (
        fit(tiny_network(), toy_examples(4), config=with_training(dataclasses.replace(SHORT, epochs=1), precision=precision))
        for precision in ("32-true", "bf16-mixed")
    )
    assert half.losses != whole.losses and half.losses == pytest.approx(whole.losses, rel=0.03)
    assert {p.dtype for p in half.network.parameters()} == {torch.float32}


def test_frozen_norms_keep_the_statistics_they_came_with() -> None:
    network = tiny_network(tasks=("findings",))
    start = {name: tensor.clone() for name, tensor in network.named_buffers()}
    frozen = fit(network, toy_examples(4), config=with_training(frozen_norms=True)).network
    assert all(torch.equal(tensor, start[name]) for name, tensor in frozen.named_buffers())
    free = fit(tiny_network(tasks=("findings",)), toy_examples(4), config=SHORT).network
    assert any(not torch.equal(tensor, start[name]) for name, tensor in free.named_buffers())


def test_rare_findings_are_drawn_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    examples, shown = toy_examples(16), []
    labels = np.zeros_like(examples.labels)
    labels[0, 0] = 1  # one in 16: sqrt(.5 * 16) = 2.83 times the weight of the others, 16 * 2.83 / 17.83 = 2.54 of 16
    examples = dataclasses.replace(examples, labels=labels)

    def watch(given, rows, view, settings):  # type: ignore[no-untyped-def]
        shown.extend(rows.tolist())
        return make_batch(given, rows, view)

    monkeypatch.setattr(fit_module, "make_batch", watch)
    fit(tiny_network(tasks=("findings",)), examples, config=with_training(rare_share=0.5))
    assert len(shown) == 32 and 4 <= shown.count(0) <= 6
