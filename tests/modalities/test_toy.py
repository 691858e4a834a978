"""A modality of two findings and no structure, known to nobody but this file, goes from a table to a student to four stories.

One epoch of the product's training teaches next to nothing, so what stories say is looked at on a network that a few lines here
train until it knows its squares.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from storyxai.data.table import TableSchema, read_table
from storyxai.errors import InputError, RecipeError, TableError
from storyxai.evidence.gather import GatherSettings, gather
from storyxai.evidence.record import arrays_of, as_record, from_record
from storyxai.modalities.registry import modality_of, read_modality
from storyxai.models.card import Calibration, ModelCard, write_card
from storyxai.models.export import export_student
from storyxai.models.network import Network, NetworkSpec
from storyxai.models.runtime import Student, load_student
from storyxai.pages.story import render_html
from storyxai.programs import recipes
from storyxai.programs.data import import_data
from storyxai.programs.models import ModelChoice
from storyxai.programs.tell import TellOptions
from storyxai.programs.tell import tell as tell_files
from storyxai.programs.verify import verify
from storyxai.scorecard.judge import JudgeOptions, evaluate_student
from storyxai.story.tell import AUDIENCES, tell
from storyxai.training.recipe_file import read_recipe
from storyxai.types import Evidence, Image, Story

TOY = """
key = "toy_spots"
name = "toy picture"

[[findings]]
name = "Bright_spot"
phrase = "a bright spot"
lay = "a bright square"
look_alikes = ["a scratch"]

[[findings]]
name = "Dark_spot"
phrase = "a dark spot"
lay = "a dark square"
"""
SIZE = 64


def picture(bright: bool, dark: bool, seed: int) -> np.ndarray:
    """Noise about 0.45, with a square of 0.9 or of 0.1, or both, anywhere."""
    rng = np.random.default_rng(seed)
    pixels = 0.4 + 0.1 * rng.random((SIZE, SIZE))
    for value, there in ((0.9, bright), (0.1, dark)):
        if there:
            top, left = rng.integers(2, SIZE - 18, 2)
            pixels[top : top + 16, left : left + 16] = value
    return pixels.astype(np.float32)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Student:
    folder = tmp_path_factory.mktemp("toy")
    (folder / "modality.toml").write_text(TOY, encoding="utf-8")
    modality = read_modality(folder)
    labels = np.array([(i % 2, i // 2 % 2) for i in range(32)], np.float32)
    pixels = torch.from_numpy(np.stack([picture(bool(a), bool(b), i) for i, (a, b) in enumerate(labels)]))[:, None]
    torch.manual_seed(0)
    spec = NetworkSpec(
        encoder="test_efficientnet", size=SIZE, tasks=("findings",), findings=modality.names, width=16, hidden=16,
        structures=modality.structure_names, deepest=16,
    )
    network = Network(spec).train()
    step = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(30):
        step.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(pixels).logits, torch.from_numpy(labels))
        loss.backward()
        step.step()
    files = export_student(network, folder)
    with torch.inference_mode():
        logits = network.eval()(pixels).logits.numpy()
    calibration = {name: between(logits[:, i], labels[:, i]) for i, name in enumerate(modality.names)}
    card = ModelCard(
        "toy", "1", spec.as_dict(), files, calibration, (), ("A toy.",), ("Anything else.",),
        modality="toy_spots",
    )
    write_card(card, folder)
    return load_student(folder)


def between(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Halfway between those with and those without, the two 8 apart: rank is all that so short a training gives."""
    low, high = logits[labels == 0].mean(), logits[labels == 1].mean()
    assert low < high
    scale = float(8 / (high - low))
    bias = -scale * float(low + high) / 2
    return Calibration(scale, bias, 0.5, ((scale, bias), (scale, bias + 0.1)), n=32, positives=16, data="toy pictures")


def words_of(story: Story) -> str:
    return " ".join(sentence.text for section in story.sections for sentence in section.sentences)


@pytest.fixture(scope="module")
def evidence(student: Student) -> Evidence:
    image = Image(picture(True, False, 99), "cd" * 32, "toy.png")
    return gather(student, image, settings=GatherSettings(samples=150))


def test_the_student_brings_its_modality_and_draws_and_writes_nothing(student: Student) -> None:
    assert student.modality == modality_of("toy_spots", beside=student.folder)
    assert student.findings == ("Bright_spot", "Dark_spot") and set(student.card.files) == {
        "student.safetensors", "look.onnx", "findings.onnx",
    }
    view = picture(True, False, 3)[None]
    assert student.structures(view) is None and student.report(view) is None


def test_its_evidence_lacks_what_it_cannot_give_and_survives_the_archive(evidence: Evidence) -> None:
    assert evidence.gaps == ("report", "distance")
    assert {f.name: f.tier for f in evidence.prediction.findings} == {"Bright_spot": "likely", "Dark_spot": "unlikely"}
    assert not evidence.prediction.masks and {c.name for c in evidence.gate} == {"gate.size", "gate.contrast", "gate.distance"}
    record = as_record(evidence)
    assert record["terms"]["Bright_spot"]["lay"] == "a bright square"
    assert record["terms"]["Bright_spot"]["look_alikes"] == ["a scratch"]
    assert as_record(from_record(record, arrays_of(evidence))) == record


@pytest.mark.parametrize("audience", AUDIENCES)
def test_it_is_told_to_every_reader(evidence: Evidence, audience: str) -> None:
    story = tell(evidence, audience)
    assert ("a bright square" if audience == "patient" else "bright spot") in words_of(story).lower()
    assert b"<html" in render_html(story)[:500]


@pytest.mark.parametrize("audience", AUDIENCES)
def test_no_story_of_it_speaks_of_a_chest(evidence: Evidence, audience: str) -> None:
    story = tell(evidence, audience)
    said = " ".join((story.title, *(section.heading for section in story.sections), words_of(story))).lower()
    assert not [word for word in ("lung", "heart", "chest", "x-ray", "tubes") if word in said]


def test_the_modality_s_own_words_go_first_also_from_the_archive(evidence: Evidence) -> None:
    record, arrays = as_record(evidence), arrays_of(evidence)
    said = "A computer looked at one photograph of a square."
    own = {**record["provenance"]["words"], "en": {"patient.looked": said, "patient.no_old": ""}}
    told = from_record({**record, "provenance": {**record["provenance"], "words": own}}, arrays)
    (first, *rest) = tell(told, "patient").sections[0].sentences
    assert first.text == said and first.cites == ("study.image.source",)
    assert not any("older" in sentence.text for sentence in rest)
    own["en"] = {"patient.lokked": said}
    with pytest.raises(InputError, match=r"modality 'toy_spots', words in 'en': .*'patient.lokked'"):
        tell(from_record({**record, "provenance": {**record["provenance"], "words": own}}, arrays), "patient")


RECIPE = """
name = "spots"
seed = 0
modality = "{modality}"

[data]
size = 64
phantom_train = 0
phantom_validation = 0
phantom_test = 0
tables = ["{table}"]

[teacher_findings]
encoder = "test_efficientnet"
epochs = 1
width = 16
hidden = 16
batch_size = 8

[student]
encoder = "test_efficientnet"
epochs = 1
width = 16
hidden = 16
batch_size = 8
deepest = 16

[distillation]
views = 1

[evaluation]
bootstrap = 20
min_positives = 1
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that began with forty pictures, a table of them and the description of the modality."""
    folder = tmp_path_factory.mktemp("spots")
    described = folder / "described"
    described.mkdir()
    (described / "modality.toml").write_text(TOY, encoding="utf-8")
    lines = ["image,patient_id,bright spot,Dark_spot"]
    for i in range(40):
        Picture.fromarray((255 * picture(bool(i % 2), bool(i // 2 % 2), i)).astype(np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png,{i},{i % 2},{i // 2 % 2}")
    (folder / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    report = import_data("manifest", folder / "table.csv", folder / "t.parquet", modality=str(described))
    assert report.positives == {"Bright_spot": 20, "Dark_spot": 20}
    recipe = folder / "spots.toml"
    recipe.write_text(RECIPE.format(modality=described.as_posix(), table=(folder / "t.parquet").as_posix()), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:  # to export networks anew only to time them takes longest
        patch.setattr("storyxai.programs.pipeline.network_speeds", lambda *_, **__: {"models": []})
        recipes.pipeline(recipe, folder / "run")
    return folder


def test_a_table_and_a_recipe_give_a_student_that_is_calibrated_and_judged(run: Path) -> None:
    student = load_student(run / "run" / "model")
    assert student.modality.key == student.card.modality == "toy_spots" and student.tasks == ("findings",)
    assert set(student.card.calibration) == {"Bright_spot", "Dark_spot"} and "modality.toml" in student.card.files
    assert not [word for word in ("lung", "film", "lateral") if word in " ".join(student.card.limits)]
    record = json.loads((run / "run" / "scorecard.json").read_bytes())
    judged = {model["name"]: model for model in record["models"]}
    assert set(judged) == {"student", "teacher of findings"}
    assert [item["finding"] for item in judged["student"]["findings"]] == ["Bright_spot", "Dark_spot"]
    assert not judged["student"]["masks"] and judged["student"]["reports"] is None
    table = read_table(run / "t.parquet")
    assert table.schema == TableSchema("toy_spots", ("Bright_spot", "Dark_spot"), ())
    again = evaluate_student(student, run / "t.parquet", JudgeOptions("test", bootstrap=10))
    assert again["models"][0]["images"] == record["dataset"]["images"] == int((table.frame["split"] == "test").sum())


def test_the_student_of_the_recipe_tells_four_stories(run: Path) -> None:
    tell_files([run / "0.png"], run / "stories", TellOptions(model=ModelChoice(run / "run" / "model"), samples=100))
    (study,) = (run / "stories").iterdir()
    found = verify(study)
    assert found.problems == () and len(found.pages) == 4
    for page in study.glob("*.html"):
        shown = re.sub(r"<(script|style).*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.S).lower()
        assert not re.search(r"lung|heart|chest|x-ray", re.sub(r"<[^>]+>", " ", shown)), page.name
        assert page.stem == "patient" or "dark spot" in shown  # after one epoch the patient is told that nothing can be told


def test_a_recipe_asks_no_more_than_its_modality_has(run: Path, tmp_path: Path) -> None:
    text = (run / "spots.toml").read_text(encoding="utf-8")
    for old, new, said in (
        ("deepest = 16", 'tasks = ["findings", "masks"]', "'masks', .*which has no structures.*leave it out"),
        ("phantom_train = 0", "phantom_train = 2", "which has no phantoms"),
        ('modality = "', 'modality = "chest_radiogaph" #', "'modality': .*did you mean 'chest_radiograph'"),
    ):
        path = tmp_path / "bad.toml"
        path.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(RecipeError, match=said):
            read_recipe(path)
    path.write_text(text.replace('modality = "', 'modality = "chest_radiograph" #'), encoding="utf-8")
    with pytest.raises((TableError, RecipeError), match=r"modality 'toy_spots'|teacher_masks"):
        recipes.pipeline(path, tmp_path / "out")
