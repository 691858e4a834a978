"""The whole way at toy size: from a recipe to a student, its scorecard and its stories, and once more from what is there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from storyxai.models.card import read_card
from storyxai.models.runtime import load_student, open_graph
from storyxai.phantoms.generate import generate_phantom, write_phantoms
from storyxai.programs import recipes
from storyxai.programs.verify import verify
from storyxai.provenance import sha256_file
from storyxai.training.recipe_file import read_recipe

pytest.importorskip("torch", reason="torch absent: install storyxai[teach]")
from storyxai.training.outputs import network_speeds

if TYPE_CHECKING:
    from storyxai.data.batches import Examples
    from storyxai.models.network import Network

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "toy.toml"
NETWORKS = ("teacher-findings", "teacher-masks", "teacher-report", "student-network")
GRAPHS = ("look.onnx", "findings.onnx", "words.onnx")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of one run of the toy recipe, and the steps that its progress named."""
    out, steps = tmp_path_factory.mktemp("pipeline") / "run", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storyxai.programs.pipeline.network_speeds", _speed_of_the_first)
        patch.setattr("storyxai.training.outputs.as_session", lambda _network: open_graph(out / "model" / GRAPHS[0]))
        recipes.pipeline(RECIPE, out, progress=lambda step, _done, _total: steps.append(step.split(":")[0]))
    return out, steps


def _speed_of_the_first(networks: Mapping[str, Network], examples: Examples, **how: Any) -> dict[str, Any]:
    """To export four networks only to measure them would take half a minute: the student's graph is there.

    training/test_outputs.py measures two.
    """
    (student, network), *_ = networks.items()
    return network_speeds({student: network}, examples, **how)


def _scorecard(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "scorecard.json").read_bytes())
    return record


def _hashes(out: Path) -> Mapping[str, str]:
    return {name: sha256_file(out / f"{name}.safetensors") for name in NETWORKS}


def test_three_teachers_are_trained_and_then_the_student(run: tuple[Path, list[str]]) -> None:
    trained = [step for step in dict.fromkeys(run[1]) if step.startswith(("teacher of", "student"))]
    assert trained == ["teacher of findings", "teacher of masks", "teacher of report", "student"]
    assert (run[0] / "recipe.toml").read_bytes() == RECIPE.read_bytes()


def test_the_scorecard_puts_the_student_beside_its_teachers(run: tuple[Path, list[str]]) -> None:
    recipe, record = read_recipe(RECIPE), _scorecard(run[0])
    roles = {model["name"]: model["role"] for model in record["models"]}
    assert roles == {
        "student": "student", "teacher of findings": "teacher", "teacher of masks": "teacher",
        "teacher of report": "teacher", "centre map": "control", "random map": "control",
    }
    by_name = {model["name"]: model for model in record["models"]}
    for name in ("student", "teacher of findings"):
        for item in by_name[name]["findings"]:
            assert item["n"] == recipe.data.phantom_test
            assert 0 <= item["positives"] <= item["n"]
    (speed,) = {model["name"] for model in json.loads((run[0] / "speed.json").read_bytes())["models"]}
    assert speed == "student"
    assert (run[0] / "scorecard.html").read_bytes().startswith(b"<!DOCTYPE html>")


def test_the_scorecard_judges_places_outlines_and_views_of_student_and_teachers(run: tuple[Path, list[str]]) -> None:
    """Boxes and views counted on the held-out phantoms themselves, drawn once more from their seeds."""
    data = read_recipe(RECIPE).data
    first = data.phantom_seed * 1_000_000 + data.phantom_train + data.phantom_validation
    phantoms = [generate_phantom(first + row, size=data.phantom_size) for row in range(data.phantom_test)]
    boxes = Counter(box.finding for phantom in phantoms for box in phantom.boxes)
    views = Counter(phantom.image.view for phantom in phantoms)
    by_name = {model["name"]: model for model in _scorecard(run[0])["models"]}
    for name in ("student", "teacher of findings", "centre map"):
        found = {item["finding"]: item["boxes"] for item in by_name[name]["detection"] if item["boxes"]}
        assert found == dict(boxes)
    for name in ("student", "teacher of masks"):
        assert [item["mask"] for item in by_name[name]["masks"]] == ["lungs", "left_lung", "right_lung", "heart"]
        assert by_name[name]["masks"][0]["images"] == data.phantom_test
    assert {item["group"]: item["images"] for item in by_name["student"]["subgroups"]} == dict(views)


def test_the_model_folder_loads_and_its_card_knows_where_it_came_from(run: tuple[Path, list[str]]) -> None:
    recipe, folder = read_recipe(RECIPE), run[0] / "model"
    assert {path.name for path in folder.iterdir()} == {"card.json", "student.safetensors", *GRAPHS}
    student = load_student(folder)  # checks every hash
    card = read_card(folder)
    assert set(card.files) == {"student.safetensors", *GRAPHS}
    assert set(card.calibration) == set(student.findings)
    (learnt,) = card.trained_on
    assert learnt.synthetic is True
    assert learnt.n_images == recipe.data.phantom_train
    per_finding = card.figures.per_finding
    shown = {item["finding"]: item for model in _scorecard(run[0])["models"] if model["role"] == "student"
             for item in model["findings"]}
    for name, figures in per_finding.items():
        assert figures.auroc == shown[name]["auroc"]["value"]
    groups = {(item["attribute"], item["group"]): item for model in _scorecard(run[0])["models"] if model["role"] == "student"
              for item in model["subgroups"] if item["mean_auroc_all"] and item["mean_auroc_all"]["value"] is not None}
    told = {(attribute, group): item for attribute, found in card.figures.subgroups.items()
            for group, item in found.items()}
    assert {key: item.mean_auroc for key, item in told.items()} == {
        key: item["mean_auroc_all"]["value"] for key, item in groups.items()
    }
    assert told, "the toy run has views and sexes"


def test_the_stories_are_of_a_film_that_the_student_never_met(run: tuple[Path, list[str]], tmp_path: Path) -> None:
    recipe = read_recipe(RECIPE)
    studies = list((run[0] / "stories").iterdir())
    assert len(studies) == recipe.evaluation.stories
    data = recipe.data
    first_held_out = data.phantom_seed * 1_000_000 + data.phantom_train + data.phantom_validation
    write_phantoms(tmp_path / "own", count=1, seed=first_held_out, size=512)
    (film,) = (tmp_path / "own" / "images").iterdir()
    (study,) = studies
    record = json.loads((study / "evidence.json").read_bytes())
    assert record["study"]["image"]["sha256"] == sha256_file(film)
    assert record["study"]["model_id"] == read_card(run[0] / "model").model_id
    found = verify(study)
    assert found.problems == ()
    assert len(found.pages) == 4


def _keep_graphs(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing the same graphs again would take half a minute and show nothing."""
    files = {name: sha256_file(out / "model" / name) for name in ("student.safetensors", *GRAPHS)}
    monkeypatch.setattr("storyxai.programs.pipeline.export_student", lambda _network, _folder: files)
    monkeypatch.setattr("storyxai.programs.pipeline.network_speeds", lambda *_, **__: {"models": []})


def _trained(steps: list[str]) -> list[str]:
    return [step for step in steps if step.startswith(("teacher of", "student", "soft targets"))]


def test_the_whole_call_can_be_repeated(run: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    out, steps = run[0], list[str]()
    score = _scorecard(out)
    stories = {path: sha256_file(path) for path in sorted((out / "stories").rglob("*.html"))}
    _keep_graphs(out, monkeypatch)
    recipes.pipeline(RECIPE, out, progress=lambda step, _done, _total: steps.append(step.split(":")[0]))
    assert _trained(steps) == []
    assert _scorecard(out) == score
    assert {path: sha256_file(path) for path in sorted((out / "stories").rglob("*.html"))} == stories


def test_a_second_call_goes_on_from_the_networks_that_are_there(
    run: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, steps = run[0], list[str]()
    before = _hashes(out)
    _keep_graphs(out, monkeypatch)
    said = recipes.distil(RECIPE, out, progress=lambda step, _done, _total: steps.append(step.split(":")[0]))
    assert "phantoms" in steps
    assert _trained(steps) == []
    assert _hashes(out) == before
    assert said == read_card(out / "model").model_id
