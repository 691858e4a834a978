"""Ablation: its figures on paper, its sentences held to the intervals, and a run that was cut and goes on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storyxai.ablation import run as ablation
from storyxai.ablation.figures import METRICS, Answers, References, ablation_record, conclusions
from storyxai.ablation.page import render_ablation
from storyxai.ablation.record import Comparison, Estimate, Taught
from storyxai.ablation.run import Cell, plan_cells, run_ablation
from storyxai.ablation.truth import floors_of, ground_of, map_figures, place_shares
from storyxai.errors import InputError, RecipeError, TableError, UnknownNameError
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.phantoms.generate import generate_phantom
from storyxai.provenance import canonical_json
from storyxai.training.config import AblationRecipe, DesignRecipe, FitConfig, Recipe
from storyxai.training.distil import Parts
from storyxai.training.hidden_parts import hidden_loss, hide_cells, start_from_films
from storyxai.training.reasons import finding_maps
from storyxai.training.recipe_file import read_recipe
from teaching_examples import FINDINGS, tiny_network, toy_examples

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
NOTHING = np.zeros((0,), dtype=np.float32)
EVEN = np.tile(np.array([1.0, 0.0], dtype=np.float32), (2, 1))


def said(dice: list[float], logits: object = None, maps: dict[str, Any] | None = None) -> Answers:
    rows = NOTHING if logits is None else np.asarray(logits, dtype=np.float32)
    return Answers(rows, EVEN, np.array([[d, d] for d in dice], dtype=np.float32), NOTHING, maps or {})


def references(labels: object) -> References:
    values = np.asarray(labels, dtype=np.float32)
    return References(tuple(f"p{row}" for row in range(len(values))), ("Mass", "Nodule"), values, values)


def figure(record: dict[str, Any], question: str, metric: str) -> dict[str, Any]:
    (item,) = [item for item in record["comparisons"] if question in item["question"]]
    found: dict[str, Any] = item["differences"][metric]
    return found


LABELS = [[1, 0], [0, 1], [1, 1], [0, 0]]
MASKS = ("masks",)


def test_a_difference_is_that_of_the_means_and_seeds_are_averaged() -> None:
    answers = {
        (MASKS, "labels", 0): said([0.5, 0.5, 0.7, 0.7]), (MASKS, "labels", 1): said([0.4, 0.4, 0.4, 0.4]),
        (MASKS, "teachers", 0): said([0.6, 0.6, 0.8, 0.8]), (MASKS, "teachers", 1): said([0.7, 0.7, 0.7, 0.7]),
    }
    record = ablation_record(answers, references(LABELS), name="paper", min_positives=1, count=200)
    gap = figure(record, "soft targets add", "outline_dice")
    assert gap["by_seed"] == pytest.approx([0.1, 0.3], abs=1e-6)
    # Every patient gains the same, so what differs between patients cancels and the interval has no width.
    assert [gap["value"], gap["low"], gap["high"]] == pytest.approx([0.2] * 3, abs=1e-6)
    labels = next(cell for cell in record["cells"] if cell["arm"] == "labels")
    assert labels["figures"]["outline_dice"]["value"] == pytest.approx(0.5, abs=1e-6)
    assert labels["figures"]["outline_dice"]["low"] < 0.5 < labels["figures"]["outline_dice"]["high"]


def test_only_seeds_that_both_have_are_compared() -> None:
    answers = {
        (MASKS, "labels", 0): said([0.5] * 4), (MASKS, "labels", 1): said([0.9] * 4),
        (MASKS, "teachers", 0): said([0.6] * 4),
    }
    record = ablation_record(answers, references(LABELS), name="paper", min_positives=1, count=20)
    assert figure(record, "soft targets add", "outline_dice")["by_seed"] == pytest.approx([0.1], abs=1e-6)


def test_auroc_and_pooled_maps_on_paper() -> None:
    hits = np.array([[1, np.nan], [np.nan, 0], [1, 1], [np.nan, np.nan]], dtype=np.float32)
    perfect, wrong = np.array(LABELS) * 4.0 - 2.0, 2.0 - np.array(LABELS) * 4.0
    answers = {
        (("findings",), "labels", 0): Answers(wrong.astype(np.float32), EVEN, NOTHING, NOTHING, {"cam_hit": hits}),
        (("findings",), "teachers", 0): Answers(perfect.astype(np.float32), EVEN, NOTHING, NOTHING, {"cam_hit": hits}),
    }
    record = ablation_record(answers, references(LABELS), name="paper", min_positives=2, count=50)
    assert figure(record, "soft targets add", "auroc")["value"] == 1.0  # from 0 to 1
    assert record["cells"][0]["figures"]["cam_hit"]["value"] == pytest.approx(3 / 4)  # three of four places
    assert record["data"]["measured"]["cam_hit"] == 4
    few = ablation_record(answers, references(LABELS), name="paper", min_positives=3, count=50)
    assert few["data"]["findings"] == [] and few["comparisons"] == []


def test_which_task_helps_which() -> None:
    both = ("findings", "masks")
    answers = {(MASKS, "labels", 0): said([0.5] * 4), (both, "labels", 0): said([0.8] * 4, np.array(LABELS) * 1.0)}
    record = ablation_record(answers, references(LABELS), name="paper", min_positives=2, count=20)
    (entry,) = record["transfer"]  # findings alone were not taught, so nothing is said of what masks do for them
    assert (entry["judged"], entry["added"], entry["metric"]) == ("masks", ["findings"], "outline_dice")
    assert entry["difference"]["value"] == pytest.approx(0.3, abs=1e-6)


def worded(low: float, value: float, high: float, metric: str) -> str:
    item = Comparison(
        "arms", "What?", (0, 1, 2), {metric: Estimate(value=value, low=low, high=high)}, Taught(("findings",), "teachers"),
        Taught(("findings",), "labels"),
    )
    return conclusions([item], level=0.95, synthetic=True)[0]


@pytest.mark.parametrize(
    ("gap", "metric", "wanted"),
    [
        ((0.01, 0.02, 0.03), "auroc", "better in mean AUROC (+0.020)"),
        ((-0.03, -0.02, -0.01), "auroc", "worse in mean AUROC (−0.020)"),
        ((0.01, 0.02, 0.03), "ece", "worse in calibration error"),  # of this figure less is better
        ((-0.03, -0.02, -0.01), "overlap", "better in overlap"),
        ((-0.01, 0.02, 0.03), "auroc", "no difference shown in mean AUROC"),
        ((0.0, 0.02, 0.03), "auroc", "no difference shown"),  # an interval that ends at 0 holds it
        ((0.0001, 0.0002, 0.0003), "auroc", "no difference shown"),  # prints as 0.000
    ],
)
def test_a_sentence_says_what_its_interval_says(gap: tuple[float, float, float], metric: str, wanted: str) -> None:
    text = worded(*gap, metric)
    assert wanted in text
    assert sum(word in text for word in ("better in", "worse in", "no difference shown")) == 1


def test_every_page_says_what_it_is_for_and_is_the_same_twice() -> None:
    answers = {
        (tasks, arm, 0): said([0.5 + 0.1 * (arm == "teachers")] * 4, np.array(LABELS) * 1.0)
        for tasks in (MASKS, ("findings", "masks", "report")) for arm in ("labels", "teachers")
    }
    record = ablation_record(answers, references(LABELS), name="<b>", min_positives=2, count=20)
    kept = json.loads(canonical_json(record))  # what is on disk is what is drawn
    page = render_ablation(kept)
    assert page == render_ablation(kept) and b"<b>" not in page.replace(b"&lt;b&gt;", b"")
    text = page.decode()
    assert text.count("Research use only - not for diagnostic use") == 5 and "<script" not in text and "://" not in text
    assert "fewer than three seeds" in text and "Which task helps which" in text
    with pytest.raises(InputError, match="is not storyxai-ablation/1"):
        render_ablation({"format": "storyxai-scorecard/1"})
    kept["comparisons"][0]["differnces"] = kept["comparisons"][0].pop("differences")
    with pytest.raises(TableError, match=r"ablation.*lacks or garbles.*`differences`.*make it again with `storyxai ablate`"):
        render_ablation(kept)


def test_maps_are_judged_where_the_finding_is() -> None:
    network, examples = tiny_network(), toy_examples(4)
    nowhere = np.full((4, len(FINDINGS), 4, 4), np.nan, dtype=np.float32)
    ground = ground_of(examples, examples, examples, drawn=nowhere, real=True, domain="")
    assert np.array_equal(ground.places[0, 0], examples.cells[0, 0] / np.float32(100))
    assert np.isnan(ground.places[0, 1]).all()  # the left square is not on the right
    found = map_figures(network, ground)
    with torch.inference_mode():
        said_ = network(torch.from_numpy(examples.images[:, None] / np.float32(255)))
        maps = finding_maps(network.finding_head, said_.features).numpy()
        grid = torch.sigmoid(said_.grid).numpy()
    for row in range(4):
        own = row % 2
        place, cam = ground.places[row, own], maps[row, own]
        total = cam.sum()
        assert found["cam_energy"][row, own] == pytest.approx((cam * place).sum() / total if total else 0.0, abs=1e-4)
        assert found["cam_hit"][row, own] == float(total > 0 and place.flat[cam.argmax()] > 0)
        assert found["grid_hit"][row, own] == float(place.flat[grid[row, own].argmax()] > 0)
        assert np.isnan(found["cam_hit"][row, 1 - own])
        if total:
            inside = (cam * ground.pair[row]).sum() / total
            assert found["inside_pair"][row, own] == pytest.approx(inside, abs=1e-4)
    # The square covers 4 of 16 cells, and the four cells about the middle are partly in it.
    floors = floors_of(ground)
    assert floors["cam_hit"] == {"random cell": 0.25, "middle cell": 0.5}
    assert floors["cam_energy"]["even map"] == pytest.approx(0.25)


def test_findings_are_judged_on_one_set_and_phantoms_stand_apart_from_films() -> None:
    examples = dataclasses.replace(toy_examples(4), domain=("nih", "phantom", "kermany", "nih"))
    nowhere = np.full((4, len(FINDINGS), 4, 4), np.nan, dtype=np.float32)
    ground = ground_of(examples, examples, examples, drawn=nowhere, real=True, domain="nih")
    assert ground.phantoms.domain == ("phantom",) and ground.train.domain == ("nih", "kermany", "nih")
    assert np.isfinite(ground.labels[:, 0]).tolist() == [True, False, True]
    network = tiny_network()
    with torch.no_grad():  # all weights of the head positive: no map is empty
        network.finding_head.hidden.weight.abs_()
        network.finding_head.out.weight.abs_()
    found = map_figures(network, ground)  # the film of the other set lends its lungs and its place, nothing else
    assert np.isfinite(found["agreement"][:, 0]).tolist() == [True, False, False]
    assert np.isfinite(found["inside_pair"][:, 0]).tolist() == [True, True, False]
    assert np.isfinite(found["grid_hit"][:, 0]).tolist() == [True, True, False]
    synthetic = ground_of(examples, examples, examples, drawn=nowhere, real=False, domain="")
    assert len(synthetic.phantoms) == 0 and synthetic.test.domain == ("phantom",)


def test_a_lesion_keeps_its_area_on_the_grid() -> None:
    seed = next(seed for seed in range(100) if generate_phantom(seed, size=64).sign_masks)
    shares = place_shares((f"phantom-{seed}", "nih-1"), size=64, phantom_size=128)
    for finding, mask in generate_phantom(seed, size=128).sign_masks.items():
        assert shares[0, NAMES.index(finding)].mean() == pytest.approx(mask.mean(), abs=1e-4)
    assert np.isnan(shares[1]).all()


def design(*parts: tuple[tuple[str, ...], tuple[str, ...]], seeds: tuple[int, ...] = (0,)) -> Recipe:
    plan = AblationRecipe(tuple(DesignRecipe(*part) for part in parts), seeds)
    return dataclasses.replace(read_recipe(RECIPES / "ablation-toy.toml"), ablation=plan)


def test_the_plan_goes_seed_by_seed_and_each_student_has_its_own_file() -> None:
    cells = plan_cells(design((("masks", "findings"), ("labels", "teachers")), (("masks",), ("labels",)), seeds=(0, 1)))
    assert [cell.seed for cell in cells] == [0, 0, 0, 1, 1, 1]
    assert cells[0] == Cell(("findings", "masks"), "labels", 0)  # the tasks in their own order
    assert len({cell.key for cell in cells}) == 6
    for name, planned in (("ablation-phantom.toml", 30), ("ablation-real.toml", 24), ("ablation-films.toml", 21)):
        assert len(plan_cells(read_recipe(RECIPES / name))) == planned


@pytest.mark.parametrize(
    ("recipe", "error", "why"),
    [
        (design(), RecipeError, "no \\[\\[ablation.design"),
        (design((("findings",), ("lables",))), UnknownNameError, "did you mean 'labels'"),
        (design((("mask",), ("labels",))), UnknownNameError, "did you mean 'masks'"),
        (design((("masks",), ("reasons",))), RecipeError, "needs the task findings"),
        (design((("findings",), ("public",))), RecipeError, "needs data.soft_targets"),
        (design((("findings",), ("phantoms_first",))), RecipeError, "needs data.tables"),
        (design((("masks",), ("labels", "labels"))), RecipeError, "twice"),
        (design(((), ("labels",))), RecipeError, "needs a task"),
    ],
)
def test_a_design_that_cannot_work_is_refused_before_training(
    recipe: Recipe, error: type[InputError], why: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=why) as caught:
        run_ablation(recipe, tmp_path)
    assert caught.value.mend and not list(tmp_path.iterdir())


def test_hidden_cells_and_their_loss_on_paper() -> None:
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    hidden = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    hidden[0, 0, 1, 2] = True
    seen = hide_cells(images, hidden)
    assert (seen[0, 0, 16:32, 32:48] == 0.5).all() and torch.equal(seen[1], images[1])
    seen[0, 0, 16:32, 32:48] = images[0, 0, 16:32, 32:48]
    assert torch.equal(seen, images)
    blocks = images[0, 0, 16:32, 32:48].reshape(4, 4, 4, 4).mean(dim=(1, 3)).flatten()
    told = torch.zeros(2, 16, 4, 4)
    assert hidden_loss(told, images, hidden).item() == pytest.approx(float((blocks**2).mean()), rel=1e-5)
    told[0, :, 1, 2] = blocks
    assert hidden_loss(told, images, hidden).item() == pytest.approx(0.0, abs=1e-10)


def test_self_supervision_moves_the_encoder_and_nothing_else() -> None:
    network, films, config = tiny_network(), toy_examples(6), FitConfig(epochs=1, batch_size=4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    one, again = (start_from_films(network, films, config=config) for _ in range(2))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    moved = {name.split(".")[0] for name, value in one.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"encoder", "from_16", "from_32", "fuse_16"}
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_loss_that_is_not_a_number_is_the_recipes_fault() -> None:
    """As in `fit`: status 2 and a mend, for the call chose the learning rate."""
    with pytest.raises(RecipeError, match=r"self-supervision: the loss is not a number at step .* lower the learning rate"):
        start_from_films(tiny_network(), toy_examples(6), config=FitConfig(epochs=4, batch_size=4, learning_rate=1e30))


class Cut(KeyboardInterrupt):
    """The plug is pulled."""


def test_a_run_that_was_cut_goes_on_at_the_student_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = (12, 6, 8)
    train, validation, test = (
        dataclasses.replace(toy_examples(n, seed=i, findings=len(NAMES), max_tokens=64), domain=("phantom",) * n)
        for i, n in enumerate(sizes)
    )
    monkeypatch.setattr(ablation, "gather_examples", lambda recipe, *, progress=None: Parts(train, validation, test))
    recipe = design((("findings",), ("labels", "teachers", "reasons")))
    whole = run_ablation(recipe, tmp_path / "whole")

    def pull(step: str, _done: int, _total: int) -> None:
        if step.startswith("cell 3"):
            raise Cut

    with pytest.raises(Cut):
        run_ablation(recipe, tmp_path / "cut", progress=pull)
    finished = sorted(path.name for path in (tmp_path / "cut" / "cells").iterdir())
    assert finished == ["findings-labels-seed0.npz", "findings-teachers-seed0.npz"]
    partly = run_ablation(recipe, tmp_path / "cut", finished_only=True)
    assert [cell["arm"] for cell in partly["cells"]] == ["labels", "teachers"] and partly["cells_planned"] == 3
    steps: list[str] = []
    rest = run_ablation(recipe, tmp_path / "cut", progress=lambda step, _done, _total: steps.append(step))
    assert not any(step.startswith(("cell 1", "cell 2", "teacher of findings")) for step in steps)
    assert canonical_json(rest) == canonical_json(whole)
    arms = {cell["arm"]: cell["figures"] for cell in whole["cells"]}
    assert list(arms) == ["labels", "teachers", "reasons", "teacher"] and arms["teachers"] != arms["labels"]
    soft, reasoned = (np.load(tmp_path / "whole" / "cells" / f"findings-{arm}-seed0.npz") for arm in ("teachers", "reasons"))
    assert not np.array_equal(soft["logits"], reasoned["logits"])  # the maps are really in the loss
    other = dataclasses.replace(recipe, student=dataclasses.replace(recipe.student, epochs=2))
    with pytest.raises(RecipeError, match="holds students of another recipe"):
        run_ablation(other, tmp_path / "cut")
    assert {metric["name"] for metric in whole["metrics"]} == {metric.name for metric in METRICS}
