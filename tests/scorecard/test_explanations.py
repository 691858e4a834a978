"""Maps judged on a table: figures known on paper for a model whose map is right or wrong, beside loops written out here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, zoom
from torch import nn

from evidence_example import example_evidence
from storyxai.data.table import StudyTable, read_table
from storyxai.errors import InputError, UnknownNameError, UnsupportedMethodError
from storyxai.explain.cam import grad_cam
from storyxai.explain.contract import Look
from storyxai.imaging.read import read_image
from storyxai.models.adapters.function import FunctionModel
from storyxai.models.adapters.torch_model import TorchModel
from storyxai.models.card import card_figures, read_card
from storyxai.models.randomise import randomised_models
from storyxai.models.runtime import SHIPPED
from storyxai.programs.data import import_data, make_phantoms
from storyxai.programs.evaluate import EvaluateOptions, ExplanationPlan, evaluate, evaluate_explanations
from storyxai.scorecard.explanations import card_parts, judge_explanations
from storyxai.scorecard.page import render_explanations
from storyxai.story.tell import tell
from storyxai.types import Array

SIDE = 64
PLAN = ExplanationPlan(methods=("grad_cam",), images=6, findings=1, samples=80, robust_every=3, split="all", bootstrap=50)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six phantoms, each with a box of a nodule in the middle right of the image."""
    folder = tmp_path_factory.mktemp("explanations")
    make_phantoms(folder / "phantoms", count=6, seed=5, size=SIDE)
    import_data("phantom", folder / "phantoms", folder / "all.parquet")
    box = {"finding": "Nodule", "x": 40, "y": 24, "width": 16, "height": 16, "frame_width": SIDE, "frame_height": SIDE}
    found = read_table(folder / "all.parquet")
    found.with_column("boxes", [json.dumps([box])] * len(found)).write(folder / "boxed.parquet")
    assert isinstance(found, StudyTable)
    return folder / "boxed.parquet"


@dataclass(frozen=True, eq=False)
class Spot:
    """The logit is the mean grey of one cell of 8 x 8, times `gain`; its one feature is the image's cells."""

    row: int
    column: int
    gain: float = 10.0
    findings: tuple[str, ...] = ("Nodule",)
    channels: int = 1
    input_size: tuple[int, int] = (SIDE, SIDE)
    model_id: str = "spot"

    def logits(self, images: Array) -> Array:
        cells = images[:, 0].reshape(-1, 8, 8, 8, 8).mean(axis=(2, 4))
        return (self.gain * cells[:, self.row, self.column, None]).astype(np.float32)

    def look(self, image: Array, columns: Sequence[int] | None = None) -> Look:
        features = np.zeros((1, 8, 8), dtype=np.float32)
        features[0, self.row, self.column] = 1
        gradients = np.ones((1 if columns is None else len(columns), 1, 8, 8), dtype=np.float32)
        return Look(self.logits(image[None])[0], features, gradients, layer="cells")

    def input_gradients(self, images: Array, columns: Sequence[int] | None = None) -> None:
        return None

    def structures(self, image: Array) -> None:
        return None

    def report(self, image: Array) -> None:
        return None


def figures(record: dict, method: str = "grad_cam") -> dict:
    return {found["figure"]: found for one in record["methods"] if one["method"] == method for found in one["figures"]}


def test_a_map_that_is_right_hits_every_box_and_one_that_is_wrong_none(table: Path) -> None:
    right = figures(judge_explanations(Spot(3, 5), table, PLAN))
    wrong = figures(judge_explanations(Spot(0, 0), table, PLAN))
    assert right["hit"]["map"]["value"] == 1.0 and right["hit"]["n"] == 6 and right["hit"]["patients"] == 6
    assert wrong["hit"]["map"]["value"] == 0.0 and wrong["energy"]["map"]["value"] == pytest.approx(0.0, abs=1e-6)
    # The box covers 2 x 2 cells; the map, enlarged, is a pyramid of one cell's width to each side of cell (3, 5).
    assert right["energy"]["map"]["value"] == pytest.approx(1.0, abs=0.3)
    # All or none of six patients: the interval is exact, 0.025^(1/6).
    assert right["hit"]["map"]["low"] == pytest.approx(0.025 ** (1 / 6)) and right["hit"]["map"]["high"] == 1.0
    assert right["hit"]["baselines"]["average"]["value"] == 1.0 and right["hit"]["minus"]["average"]["value"] == 0.0
    assert right["hit"]["baselines"]["centre"]["value"] == 0.0 and right["hit"]["minus"]["centre"]["value"] == 1.0


def test_deletion_of_a_right_map_beats_every_map_that_knows_nothing_and_goes_into_the_card(table: Path) -> None:
    # The spot lies in the lung, darker than what the blur brings: what hides it lowers this logit.
    record = judge_explanations(Spot(3, 5, gain=-10.0), table, PLAN)
    found = figures(record)
    for name in ("random", "centre", "edge"):
        assert found["deletion"]["minus"][name]["value"] < 0 < found["insertion"]["minus"][name]["value"] + 1e-9
    assert found["deletion"]["minus"]["average"]["value"] == pytest.approx(0, abs=1e-9)
    parts = card_parts(record)
    # The average of the others is the same map: a method is held against the best of what knows nothing.
    assert parts["faithfulness"]["grad_cam"]["deletion"] == pytest.approx(0, abs=1e-9)
    assert found["change"]["map"]["value"] == 0.0  # this map hangs on no pixel
    assert "randomised" not in found  # whose weights are out of reach


def test_deletion_is_that_of_a_loop_written_out(table: Path) -> None:
    """One image, the same order, the same blur, pixel counts of sixteenths: the area by hand."""
    model = Spot(3, 5)
    record = judge_explanations(model, table, replace(PLAN, images=1))
    rows = read_table(table).frame.to_dict("records")
    first = rows[np.random.default_rng(0).permutation(len(rows))[0]]
    image = read_image(read_table(table).image_path(first)).pixels
    cam = grad_cam(model.look(image[None]).features, model.look(image[None]).gradients)
    values = zoom(cam, (1, 8, 8), order=1, mode="nearest", grid_mode=True)[0]
    blurred = gaussian_filter(image, sigma=8, mode="nearest", truncate=3.0)
    order, changed, scores = np.argsort(-values.ravel(), kind="stable"), image.copy().ravel(), []
    for step in range(17):
        gone = order[: round(step * values.size / 16)]
        changed[gone] = blurred.ravel()[gone]
        scores.append(float(model.logits(changed.reshape(1, 1, SIDE, SIDE))[0, 0]))
    expected = np.trapezoid(np.array(scores) - scores[0], dx=1 / 16)
    assert figures(record)["deletion"]["map"]["value"] == pytest.approx(expected, abs=1e-5)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    ).eval()


def test_any_torch_network_is_judged_and_stays_as_it_was(table: Path, tmp_path: Path) -> None:
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    model = TorchModel(net, layer=net[2], findings=["Nodule", "Effusion"], size=SIDE)
    plan = replace(PLAN, methods=("grad_cam", "lime", "attention_rollout"), images=2, robust_every=1)
    done = evaluate_explanations(model, table, tmp_path / "out", plan)
    record = json.loads(done.scorecard.read_bytes())
    assert [one["method"] for one in record["methods"]] == ["grad_cam", "lime"]
    assert list(record["settings"]["not_served"]) == ["attention_rollout"]
    assert all(bool((before[name] == value).all()) for name, value in net.state_dict().items())
    lime = figures(record, "lime")
    assert set(lime) >= {"hit", "deletion", "insertion", "road", "sparseness", "change", "randomised", "randomised_last"}
    assert -1 <= lime["randomised"]["map"]["value"] < 0.9 and lime["randomised"]["baselines"]["edge"]["value"] == 1.0
    again = evaluate_explanations(model, table, tmp_path / "again", plan)
    assert done.scorecard.read_bytes() == again.scorecard.read_bytes() and done.page.read_bytes() == again.page.read_bytes()
    page = done.page.read_text(encoding="utf-8")
    assert "LIME: 2 maps" in page and "attention rollout (needs attention)" in page and "Explanations" in done._repr_html_()


def test_shuffling_takes_the_last_layer_first_and_leaves_every_size() -> None:
    net = network()
    model = TorchModel(net, findings=["a", "b"], size=SIDE)
    (last, one), (all_of, other) = randomised_models(model, stages=(0.0, 1.0))
    assert (last, all_of) == (0.0, 1.0)
    for name, value in net.state_dict().items():
        partly, wholly = one.module.state_dict()[name], other.module.state_dict()[name]
        if not name.startswith("6."):
            assert torch.equal(partly, value)
        assert torch.equal(wholly.flatten().sort().values, value.flatten().sort().values)
        if value.numel() > 8:  # of a few numbers a shuffle may leave all in place
            assert not torch.equal(wholly, value)
    assert not torch.equal(one.module.state_dict()["6.weight"], net.state_dict()["6.weight"])


def test_refusals(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="grad_cam"):
        judge_explanations(Spot(0, 0), table, replace(PLAN, methods=("gradcam",)))
    with pytest.raises(InputError, match="budget"):
        judge_explanations(Spot(0, 0), table, replace(PLAN, images=0))
    with pytest.raises(InputError, match="methods"):
        judge_explanations(Spot(0, 0), table, replace(PLAN, methods=()))
    closed = FunctionModel(Spot(0, 0).logits, findings=["Nodule"], size=(SIDE, SIDE))
    with pytest.raises(UnsupportedMethodError, match="grad_cam"):
        judge_explanations(closed, table, PLAN)
    with pytest.raises(InputError, match="--explanations"):
        evaluate(table, tmp_path / "a", EvaluateOptions(model=tmp_path / "net.onnx", findings=("A",)))
    with pytest.raises(InputError, match="--model"):
        evaluate(table, tmp_path / "a", EvaluateOptions(explanations=PLAN, write_card=True))
    assert not (tmp_path / "a").exists()


def test_an_empty_map_counts_in_no_figure(table: Path) -> None:
    record = judge_explanations(replace(Spot(3, 5), gain=0.0), table, PLAN)
    assert record["methods"][0]["empty"] == 0  # its features do not hang on the gain

    class Empty(Spot):
        def look(self, image: Array, columns: Sequence[int] | None = None) -> Look:
            return Spot.look(self, image, columns)._replace(features=np.zeros((1, 8, 8), dtype=np.float32))

    record = judge_explanations(Empty(3, 5), table, PLAN)
    assert (record["methods"][0]["empty"], record["methods"][0]["figures"]) == (6, ())
    assert b"6 empty" in render_explanations(record)


def test_what_the_card_holds_of_maps_is_told_to_the_practitioner() -> None:
    evidence = example_evidence()
    parts = card_figures({
        "faithfulness": {"lime": {"deletion": 0.5, "deletion_interval": [0.25, 0.75], "n": 30, "data": "made-up"}},
        "robustness": {"lime": {
            "change": 0.43, "interval": [0.3, 0.5], "radius": 0.02, "randomised": -0.04, "n": 10, "data": "made-up",
        }},
    })
    told = replace(evidence, model=replace(evidence.model, faithfulness=parts.faithfulness, robustness=parts.robustness))
    text = " ".join(line.text for part in tell(told, audience="practitioner").sections for line in part.sentences)
    assert "On 30 maps (made-up) hiding first what LIME marks changes the finding's log-odds by +0.50 more" in text
    assert "Noise of 0.02 of the grey scale changes a map by LIME by 0.43 of itself" in text
    assert "weights had been shuffled, LIME maps had a rank correlation of -0.04 with those of before" in text
    assert "faithfulness of the maps" not in text and "robustness of the maps" not in text


@pytest.mark.parametrize("language", ["en", "de"])
def test_maps_judged_on_each_known_set_of_images_can_be_told(language: str) -> None:
    """A name of a set that holds a number would be a number that no citation holds, and the page would be refused."""
    evidence = example_evidence()
    for data in ("nih (unseen)", "kermany (out of fold)", "covid (unseen)", "openi"):
        figures = {"change": 0.43, "interval": [0.3, 0.5], "radius": 0.02, "n": 10, "data": data}
        parts = card_figures({"robustness": {"lime": figures}})
        told = replace(evidence, model=replace(evidence.model, robustness=parts.robustness))
        lines = [line for part in tell(told, audience="practitioner", language=language).sections for line in part.sentences]
        assert any("0.43" in line.text.replace(",", ".") for line in lines)


@pytest.mark.slow
def test_a_students_card_takes_them_in(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    shutil.copytree(SHIPPED, folder)
    plan = replace(PLAN, images=6, methods=("evidence_grid",), robust_every=1)
    options = EvaluateOptions(model=folder, split="all", bootstrap=50, explanations=plan, write_card=True)
    done = evaluate(table, tmp_path / "out", options)
    figures = read_card(folder).figures
    maps = json.loads((tmp_path / "out" / "explanations.json").read_bytes())
    change = {found["figure"]: found for found in maps["methods"][0]["figures"]}["change"]
    assert figures.robustness["evidence_grid"].change == change["map"]["value"]
    assert figures.faithfulness["evidence_grid"].n == maps["methods"][0]["maps"]
    assert "Explanations" in done.page.read_text(encoding="utf-8")


def test_hits_of_maps_are_told_without_withheld_ones_too() -> None:
    evidence = example_evidence()
    hits = card_figures({"map_hits": {"grad_cam": {"data": "made-up boxes", **{
        name: {"hit_rate": rate, "interval": [rate - 0.1, rate + 0.1], "n": count, "chance": 0.15}
        for name, rate, count in (("shown", 0.85, 60), ("doubtful", 0.55, 21))
    }}}}).map_hits
    told = replace(evidence, model=replace(evidence.model, map_hits=hits))
    text = " ".join(line.text for part in tell(told, audience="practitioner").sections for line in part.sentences)
    assert "Grad-CAM map lay in a box at a rate of 0.85, interval 0.75 to 0.95, for 60 maps that are shown" in text
    assert "For 21 Grad-CAM maps that are marked as doubtful it did at a rate of 0.55" in text
