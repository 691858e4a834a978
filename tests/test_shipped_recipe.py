"""The recipe of the student that comes along, at toy size: every key of it is gone through, and does what it says."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image as Picture
from safetensors.torch import load_file, save_file

from storyxai.data.table import StudyRow, StudyTable
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.modalities.chest_radiograph.grammar import GRAMMAR
from storyxai.models.export import load_network, save_network
from storyxai.models.network import Network, NetworkSpec
from storyxai.models.tokens import full_vocabulary
from storyxai.programs import recipes
from storyxai.provenance import sha256_file
from storyxai.training.distil import gather_examples
from storyxai.training.recipe_file import read_recipe

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
SETS = {"nih": 0, "nih128": 100, "nih64": 200, "kermany": 300, "covid": 400}


def key_tree(value: Any) -> Any:
    """The keys of a recipe, without what they hold and without sizes that only the toy has to make smaller."""
    if isinstance(value, dict):
        return {key: key_tree(item) for key, item in value.items() if key not in ("width", "hidden", "batch_size")}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [key_tree(item) for item in value]
    return None


def test_the_toy_has_the_keys_of_the_recipe_that_it_stands_for() -> None:
    texts = [(RECIPES / f"{name}.toml").read_text(encoding="utf-8") for name in ("shipped", "shipped-toy")]
    shipped, toy = map(tomllib.loads, texts)
    assert key_tree(shipped) == key_tree(toy)
    for one, other in zip(shipped["rounds"], toy["rounds"], strict=True):
        assert {**one, "epochs": 0} == {**other, "epochs": 0}
    for table in ("views", "training", "distillation"):
        assert shipped[table] == toy[table]


def write_sets(folder: Path) -> None:
    """Tables of eight films each: NIH's with a label and a teacher's answer, the others alike but of another source."""
    rng = np.random.default_rng(0)
    for name, first in SETS.items():
        place = folder / name
        place.mkdir(parents=True)
        rows, lines = [], ["Image Index," + ",".join(f"prob_{finding}" for finding in NAMES)]
        for number in range(first, first + 8):
            picture = rng.integers(60, 90, (64, 64), dtype=np.uint8)
            present = number % 2 == 0
            picture[32:, :] += np.uint8(100 * present)
            Picture.fromarray(picture).save(place / f"{number}.png")
            source = "nih" if name.startswith("nih") else name
            pictured = {**dict.fromkeys(NAMES, float(number % 4 == 0)), "Effusion": float(present)}
            rows.append(StudyRow(
                f"{source}-{number}", f"{source}-{number}", f"{number}.png", source, view="PA",
                labels=pictured if source == "nih" else {"Pneumonia": 1.0},
            ))
            lines.append(f"{number}.png," + ",".join(f"{0.2 + 0.6 * present:.2f}" for _ in NAMES))
        (place / "densenet121_predictions.csv").write_text("\n".join(lines), encoding="utf-8")
        table = StudyTable.from_rows(rows, root=place)
        table.frame["split"] = ["train"] * 4 + ["val", "val", "test", "test"]
        table.write(folder / f"{name}.parquet")


def save_alone(network: Network, folder: Path) -> dict[str, str]:
    """As `export_student`, but the weights alone."""
    save_network(network, folder / "student.safetensors")
    return {"student.safetensors": sha256_file(folder / "student.safetensors")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `storyxai distil recipes/shipped-toy.toml` can be called, and has been."""
    folder = tmp_path_factory.mktemp("shipped")
    data = folder / "data"
    write_sets(data)
    torch.manual_seed(0)
    encoder = timm.create_model("mobilenetv3_small_050", pretrained=False).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in encoder.items()}, data / "weights.safetensors")
    (data / "version-4").mkdir()
    spec = NetworkSpec(
        encoder="mobilenetv3_small_050", size=96, vocabulary=full_vocabulary(GRAMMAR.vocabulary()), width=16, hidden=16,
        fine_width=8,
    )
    save_network(Network(spec).eval(), data / "version-4" / "student.safetensors")
    (data / "folds").mkdir()
    ids = np.array([f"nih-{number}" for number in range(40)])
    labels = np.full((40, len(NAMES)), np.nan, np.float32)
    labels[:, 0] = np.arange(40) % 4 == 0
    np.savez(
        data / "folds" / "answers.npz", ids=ids, patient_ids=ids, domain=np.array(["nih"] * 30 + ["kermany"] * 10),
        view=np.array(["PA"] * 40), fold=np.arange(40) % 2, labels=labels, student=np.where(labels == 1, 1.0, -1.0),
        teachers=labels,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("storyxai.programs.pipeline.export_student", save_alone)  # graphs take longest, and other tests make them
        recipes.distil(RECIPES / "shipped-toy.toml", Path("run"))
    return folder


def test_the_card_is_calibrated_out_of_fold(place: Path) -> None:
    card = json.loads((place / "run" / "model" / "card.json").read_bytes())
    first = card["calibration"][NAMES[0]]
    assert (first["n"], first["positives"], first["data"]) == (30, 8, "out of fold, n = 30")
    assert card["calibration"][NAMES[1]]["n"] == 0


def test_two_teachers_learnt_from_different_patients(place: Path) -> None:
    one, two = (load_network(place / "run" / f"teacher-{name}.safetensors") for name in ("findings", "findings-2"))
    assert any(not torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_every_part_is_learnt_from(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    parts = gather_examples(read_recipe(RECIPES / "shipped-toy.toml"))
    counts = {name: parts.train.domain.count(name) for name in (*SETS, "phantom")}
    assert counts == {"nih": 7, "nih128": 8, "nih64": 8, "kermany": 8, "covid": 8, "phantom": 12}
    assert "nih-7" not in parts.train.patient_ids and set(parts.validation.domain) == {"phantom"}


def test_the_student_is_of_the_recipes_shape_with_the_words_of_the_earlier_one(place: Path) -> None:
    student = load_network(place / "run" / "model" / "student.safetensors")
    assert student.spec.fine_width == 16 and student.spec.tasks == ("findings", "masks", "report")
    now, before = (load_file(place / name / "student.safetensors") for name in ("run/model", "data/version-4"))
    words = [name for name in before if name.startswith("decoder") and before[name].shape == now[name].shape]
    for name in words:  # it has learnt on, by a few steps at a small rate, from where the earlier one stood
        assert float((now[name] - before[name]).abs().max()) < 0.05, name
