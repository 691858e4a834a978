"""`tell --model auto`: a folder of mixed images is told by the student whose gate accepts each, or by none, said by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from typer.testing import CliRunner

from storyxai.cli import app
from storyxai.errors import InputError
from storyxai.models.card import Calibration, ModelCard, write_card
from storyxai.models.export import export_student
from storyxai.models.network import Network, NetworkSpec
from storyxai.phantoms.generate import write_phantoms
from storyxai.programs.models import AUTO, ModelChoice, open_model
from storyxai.programs.tell import NotTold, TellOptions, Told, tell

PATTERNS = """
key = "patterns"
name = "coloured pattern"

[acquisition]
channels = 3
bright_is_dense = false

[[findings]]
name = "Stripes"

[gate]
colour = "colour"
"""


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds one student of coloured patterns, which learnt nothing."""
    folder = tmp_path_factory.mktemp("students")
    own = folder / "patterns"
    own.mkdir()
    (own / "modality.toml").write_text(PATTERNS, encoding="utf-8")
    torch.manual_seed(0)
    spec = NetworkSpec(
        encoder="test_efficientnet", size=64, tasks=("findings",), findings=("Stripes",), width=16, hidden=16,
        structures=(), deepest=16, channels=3,
    )
    files = export_student(Network(spec).eval(), own)
    calibration = {"Stripes": Calibration(1.0, 0.0, 0.5, ((1.0, 0.0),), n=8, positives=4, data="patterns")}
    write_card(ModelCard("patterns", "1", spec.as_dict(), files, calibration, (), ("A toy.",), (), modality="patterns"), own)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of a film, a coloured pattern, and a blank sheet."""
    folder = tmp_path_factory.mktemp("mixed")
    write_phantoms(folder / "made", count=1, seed=5, size=256)
    shutil.copy(next((folder / "made" / "images").glob("*.png")), folder / "film.png")
    shutil.rmtree(folder / "made")
    pattern = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8).repeat(24, axis=0).repeat(24, axis=1)
    Picture.fromarray(pattern).save(folder / "pattern.png")
    Picture.fromarray(np.full((200, 200), 255, np.uint8)).save(folder / "sheet.png")
    return folder


def options(known: Path) -> TellOptions:
    return TellOptions(("clinician",), model=ModelChoice(AUTO, known=(known,)), samples=100)


def test_each_image_is_told_by_the_student_whose_gate_accepts_it(images: Path, students: Path, tmp_path: Path) -> None:
    told = {Path(one.source).name: one for one in tell([images], tmp_path, options(students))}
    film, pattern, sheet = (told[name] for name in ("film.png", "pattern.png", "sheet.png"))
    assert isinstance(film, Told) and film.model.startswith("storyxai-")
    assert isinstance(pattern, Told) and pattern.model.startswith("patterns-1") and set(pattern.findings) == {"Stripes"}
    assert isinstance(sheet, NotTold) and sheet.exit_status == 3
    assert "no known student accepts it" in sheet.not_told and "patterns (coloured pattern): " in sheet.not_told


def test_two_students_that_accept_an_image_are_named(images: Path, students: Path, tmp_path: Path) -> None:
    twins = tmp_path / "twins"
    shutil.copytree(students, twins)
    shutil.copytree(students / "patterns", twins / "twin")
    given = [images / "pattern.png", images / "film.png"]
    told = {Path(one.source).name: one for one in tell(given, tmp_path / "out", options(twins))}
    assert isinstance(told["film.png"], Told) and isinstance(told["pattern.png"], NotTold)
    assert "2 students accept it: patterns (coloured pattern) and patterns" in told["pattern.png"].not_told


def test_what_does_not_go_with_auto_is_refused_before_anything_is_written(images: Path, tmp_path: Path) -> None:
    for choice, said in (
        (ModelChoice(AUTO, ("a",)), "--findings"), (ModelChoice(AUTO, known=(images,)), "holds no student"),
        (ModelChoice(None, known=(images,)), "--model auto"),
    ):
        with pytest.raises(InputError, match=said):
            tell([images / "film.png"], tmp_path / "out", TellOptions(model=choice))
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="chooses a student for each image"):
        open_model(ModelChoice(AUTO))


def test_the_command_names_who_spoke(images: Path, students: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [
        "tell", str(images / "pattern.png"), "--out", str(tmp_path / "out"), "--audience", "clinician", "--samples", "100",
        "--model", "auto", "--models", str(students),
    ])  # fmt: skip
    assert done.exit_code == 0 and "(by patterns-1-" in done.output
