"""`storyxai teach`: teachers alone, with a card each that names data, hash and figures; bad calls end with status 2."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from checks.teacher_checks import check_sides, check_teacher
from storyxai import cli
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.modalities.chest_radiograph.grammar import GRAMMAR
from storyxai.models.export import load_network, save_network
from storyxai.models.network import Network, NetworkSpec
from storyxai.models.runtime import SHIPPED
from storyxai.models.teachers import OwnTeacher, network_hash
from storyxai.models.tokens import encode_tokens, full_vocabulary
from storyxai.phantoms.generate import generate_phantom
from storyxai.programs import teach as teach_module
from storyxai.provenance import sha256_file
from storyxai.training import distil as distil_module
from storyxai.training.config import Recipe
from storyxai.training.distil import Parts
from teaching_examples import SIZE, toy_examples

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "toy.toml"
Call = Callable[..., tuple[int, str, str]]


def part(count: int, seed: int) -> object:
    """Squares, every other one a film of another set; a report for half of them."""
    examples = toy_examples(count, seed=seed, findings=len(NAMES), max_tokens=64)
    words = full_vocabulary(GRAMMAR.vocabulary())
    texts = ["The lungs are clear.", "Cardiomegaly."]
    tokens = np.stack([encode_tokens(GRAMMAR.tokenize(texts[row % 2]), words, length=64) for row in range(count)])
    domain = tuple("phantom" if row % 4 < 2 else "nih" for row in range(count))
    tokens[[row for row in range(count) if domain[row] == "nih"]] = 0
    return dataclasses.replace(examples, domain=domain, tokens=tokens)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command in this process on toy parts, with teachers that are drawn instead of trained."""
    trained: list[str] = []

    def teach(recipe: Recipe, task: str, train: object, out: Path, **rest: dict[str, object]) -> Network:
        path = out / f"teacher-{task}.safetensors"
        if not path.exists():
            trained.append(task)
            spec = NetworkSpec(
                encoder="mobilenetv3_small_050", size=SIZE, tasks=(task,), vocabulary=full_vocabulary(GRAMMAR.vocabulary()),
                width=16, hidden=16, fine_width=8, decoder_width=32, decoder_layers=1,
            )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                save_network(Network(spec).eval(), path)
            rest["losses"][f"teacher of {task}"] = (2.0, 1.0)
        return load_network(path)

    parts = Parts(part(8, 0), part(8, 1), part(4, 2))
    monkeypatch.setattr(teach_module, "gather_examples", lambda recipe, *, progress=None: parts)
    monkeypatch.setattr(distil_module, "train_teacher", teach)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["storyxai", "teach", *map(str, words)])
        capsys.readouterr()
        status: object = 0
        try:
            cli.main()
        except SystemExit as leave:
            status = leave.code or 0
        said = capsys.readouterr()
        assert isinstance(status, int)
        return status, said.out, said.err

    run.trained = trained  # type: ignore[attr-defined]
    return run


def test_each_teacher_gets_weights_and_a_card_that_holds(call: Call, tmp_path: Path) -> None:
    status, out, _ = call(RECIPE, "--out", tmp_path, "--json")
    assert status == 0
    told = {item["task"]: item for item in json.loads(out)["teachers"]}
    assert list(told) == ["findings", "masks", "report"]
    for task, item in told.items():
        card, weights = json.loads(Path(item["card"]).read_bytes()), Path(item["weights"])
        assert card["weights"] == {"file": weights.name, "sha256": sha256_file(weights)}
        assert card["hash"] == item["hash"] == network_hash(load_network(weights))
        assert card["losses"] == [2.0, 1.0] and card["spec"]["tasks"] == [task] and card["research_use_only"] is True
        assert {one["name"] for one in card["trained_on"]} != set() and card["seed"] == 0
        assert [one["data"]["name"] for one in card["figures"]] == ["nih, validation", "phantom, validation"]
    masks = told["masks"]["figures"][1]["model"]["masks"]
    assert {one["mask"] for one in masks if one["dice"]["value"] is not None} == {"left_lung", "right_lung", "lungs"}
    assert told["report"]["figures"][0]["model"]["reports"] is None or not told["report"]["figures"][0]["baselines"]
    assert {one["name"] for one in told["report"]["figures"][1]["baselines"]} >= {"constant"}


def test_a_second_call_keeps_what_was_trained(call: Call, tmp_path: Path) -> None:
    assert call(RECIPE, "--task", "masks", "--out", tmp_path)[0] == 0
    first = (tmp_path / "teacher-masks.json").read_bytes()
    status, out, _ = call(RECIPE, "--task", "masks", "--out", tmp_path)
    assert status == 0 and call.trained == ["masks"] and (tmp_path / "teacher-masks.json").read_bytes() == first
    assert not (tmp_path / "teacher-findings.json").exists()
    assert "teacher-masks.safetensors: phantom, validation" in out and "left_lung Dice 0." in out and "n = 4" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("recipe", "--task", "finding"), "did you mean 'findings'"),
        (("nowhere.toml",), "nowhere.toml: does not exist"),
        (("recipe", "--tsk", "all"), "--task"),
    ],
)
def test_a_bad_call_ends_in_one_sentence_and_status_2(call: Call, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    status, out, err = call(*(RECIPE if word == "recipe" else word for word in words), "--out", tmp_path / "run")
    assert status == 2 and said in err and not out and "Traceback" not in err
    assert not list(tmp_path.glob("run/teacher-*"))


def test_the_folder_of_another_recipe_is_refused(call: Call, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(RECIPE.read_text(encoding="utf-8") + "\n# another\n", encoding="utf-8")
    assert call(RECIPE, "--task", "masks", "--out", tmp_path / "run")[0] == 0
    status, _, err = call(other, "--task", "masks", "--out", tmp_path / "run")
    assert status == 2 and "holds a run of another recipe" in err


def test_the_shipped_student_can_teach_and_knows_left_from_right() -> None:
    path = SHIPPED / "student.safetensors"
    if not path.is_file():
        pytest.skip("the shipped student is absent: src/storyxai/models/shipped")
    teacher = OwnTeacher(load_network(path), "shipped")
    check_teacher(teacher)
    films = np.stack([generate_phantom(seed, size=256).image.pixels for seed in (1, 2)])
    check_sides(teacher, torch.from_numpy(films)[:, None])
