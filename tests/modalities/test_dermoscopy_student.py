"""The student of dermoscopy that comes along: synthetic, small, told to four readers in fitting words, refused and refusing."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from storyxai.errors import GateRefusal
from storyxai.evidence.gather import GatherSettings, gather
from storyxai.evidence.trust import MAP_VALUES, read_trust
from storyxai.models.runtime import Student, load_student, shipped_students
from storyxai.pages.story import render_html
from storyxai.phantoms.dermoscopy import SkinPhantom, generate_skin_phantom
from storyxai.phantoms.generate import generate_phantom
from storyxai.programs.auto import known_students, student_for
from storyxai.programs.data import make_phantoms
from storyxai.programs.models import ModelChoice, open_model
from storyxai.programs.tell import TellOptions, tell
from storyxai.programs.verify import verify
from storyxai.proof.checking import check_page
from storyxai.story.tell import AUDIENCES
from storyxai.story.tell import tell as tell_story
from storyxai.types import Evidence

CHEST = re.compile(r"\blungs?\b|\bheart\b|\bchest\b|x-ray|\bfilms?\b|radiograph|\btubes\b", re.IGNORECASE)
LARGEST_BYTES = 3_200_000


@pytest.fixture(scope="module")
def student() -> Student:
    folder = shipped_students().get("dermoscopy")
    if folder is None:
        pytest.skip("the shipped student of dermoscopy is absent: src/storyxai/models/shipped_dermoscopy")
    return load_student(folder)


@pytest.fixture(scope="module")
def lesion() -> SkinPhantom:
    """A melanoma whose veil and regression were planted."""
    found = (generate_skin_phantom(seed, size=160) for seed in range(910_000, 910_200))
    return next(one for one in found if {"Melanoma", "Blue_Whitish_Veil", "Regression"} <= set(one.severity))


def test_it_is_small_and_its_card_says_that_it_is_synthetic(student: Student) -> None:
    assert sum(path.stat().st_size for path in student.folder.iterdir()) <= LARGEST_BYTES
    card = student.card
    assert card.modality == "dermoscopy" and card.trained_on and all(one.synthetic for one in card.trained_on)
    assert not card.training["patients"] and card.licence == "Apache-2.0"
    assert any("ynthetic" in limit for limit in card.limits) and set(student.tasks) == {"findings", "masks", "report"}


def test_it_sees_what_was_planted(student: Student) -> None:
    """On lesions that it did not learn from its scores rank each criterion, and its outline is the lesion's."""
    phantoms = [generate_skin_phantom(seed, size=128) for seed in range(911_000, 911_060)]
    views = np.stack([one.image.pixels.transpose(2, 0, 1) for one in phantoms])
    small = np.stack(
        [[np.asarray(Picture.fromarray(c).resize((student.size,) * 2, Picture.Resampling.BILINEAR)) for c in v] for v in views]
    )
    logits = student.logits(small)
    for name in ("Melanoma", "Atypical_Network", "Blue_Whitish_Veil"):
        truth = np.array([one.labels[name] for one in phantoms]) >= 0.5
        column = logits[:, student.findings.index(name)]
        assert (column[truth][:, None] > column[~truth][None]).mean() > 0.8, name


@pytest.fixture(scope="module")
def evidence(student: Student, lesion: SkinPhantom) -> Evidence:
    return gather(student, lesion.image, settings=GatherSettings(samples=120))


def test_the_lesion_is_drawn_and_measured(evidence: Evidence, lesion: SkinPhantom) -> None:
    drawn, truth = evidence.prediction.masks["lesion"], lesion.masks["lesion"]
    assert 2 * (drawn & truth).sum() / (drawn.sum() + truth.sum()) > 0.85
    measured = {one.name: one for one in evidence.concepts if not one.finding}
    assert {"lesion_asymmetry", "border_irregularity", "lesion_diameter", "colour_count"} <= set(measured)
    diameter = measured["lesion_diameter"]
    assert diameter.value is not None and diameter.error is not None
    assert float(diameter.value) == pytest.approx(lesion.diameter_mm, rel=0.15)


@pytest.mark.parametrize(("language", "diameter"), [("en", "7.2 mm"), ("de", "7,2 mm")])
def test_lengths_below_ten_millimetres_are_told_to_a_tenth(evidence: Evidence, language: str, diameter: str) -> None:
    """A picture with a scale: the lesion and what is boxed in it are some 7 mm wide, too little to be told as whole numbers."""
    stories = [tell_story(evidence, audience, language) for audience in AUDIENCES]
    said = [sentence.text for story in stories for section in story.sections for sentence in section.sentences]
    assert any(diameter in text for text in said)
    assert all(not check_page(render_html(story, evidence), evidence).problems for story in stories)


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_quadrant_that_a_bottom_line_names_is_read_back(student: Student, language: str) -> None:
    """The veil of this phantom lies below and right of the middle; the checker once read "lower left" as the left side."""
    told = gather(student, generate_skin_phantom(950_002, size=256).image, settings=GatherSettings(samples=100))
    story = tell_story(told, "clinician", language)
    first = " ".join(sentence.text for sentence in story.sections[0].sentences)
    assert {"en": "lower right zone", "de": "rechts unten im Bild"}[language] in first
    assert not check_page(render_html(story, told), told).problems


def test_four_stories_of_a_lesion_say_nothing_of_a_chest(student: Student, lesion: SkinPhantom, tmp_path: Path) -> None:
    Picture.fromarray(np.rint(lesion.image.pixels * 255).astype(np.uint8)).save(tmp_path / "lesion.png")
    tell([tmp_path / "lesion.png"], tmp_path / "told", TellOptions(model=ModelChoice(Path("dermoscopy")), samples=120))
    (study,) = (tmp_path / "told").iterdir()
    found = verify(study)
    assert found.problems == () and len(found.pages) == len(AUDIENCES)
    for page in study.glob("*.html"):
        shown = re.sub(r"<(script|style).*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.S)
        said = re.sub(r"<[^>]+>", " ", shown)
        assert not CHEST.search(said), (page.name, CHEST.search(said))
    patient = (study / "patient.html").read_text(encoding="utf-8")
    assert "spot" in patient and "See a doctor soon" in patient and "at once" not in patient
    assert "people with such a result" not in patient  # what it learned from shows nobody
    clinician = (study / "clinician.html").read_text(encoding="utf-8")
    assert "It learned from drawn pictures, not from pictures of people." in patient
    assert "The model learned from synthetic images alone; on images of people it may fail." in clinician


def test_skin_and_chest_are_told_apart(student: Student, lesion: SkinPhantom, tmp_path: Path) -> None:
    Picture.fromarray(np.rint(lesion.image.pixels * 255).astype(np.uint8)).resize((256, 256)).save(tmp_path / "lesion.png")
    Picture.fromarray(np.rint(generate_phantom(4, size=256).image.pixels * 255).astype(np.uint8)).save(tmp_path / "film.png")
    students, settings = known_students(), GatherSettings(samples=120)
    chosen = {
        name: student_for(tmp_path / name, students, settings=settings).modality.key for name in ("lesion.png", "film.png")
    }
    assert chosen == {"lesion.png": "dermoscopy", "film.png": "chest_radiograph"}
    with pytest.raises(GateRefusal, match="no colour"):
        tell([tmp_path / "film.png"], tmp_path / "out", TellOptions(model=ModelChoice(Path("dermoscopy")), samples=120))
    with pytest.raises(GateRefusal, match="colour"):
        tell([tmp_path / "lesion.png"], tmp_path / "out", TellOptions(samples=120))


def test_a_modality_s_key_names_the_student_that_comes_along(student: Student, tmp_path: Path) -> None:
    opened = open_model(ModelChoice(Path("dermoscopy")))
    assert isinstance(opened, Student) and opened.folder == student.folder
    make_phantoms(tmp_path / "set", count=1, seed=7, size=96, modality="dermoscopy")
    assert Picture.open(next((tmp_path / "set" / "images").iterdir())).mode == "RGB"


def test_its_trust_in_maps_is_each_finding_s_own_and_is_told_as_one_of_synthetic_lesions(
    student: Student, lesion: SkinPhantom, tmp_path: Path
) -> None:
    """A strongest point lies in the lesion nearly always, in a streak hardly ever (results/skin/map-trust.json)."""
    trust = read_trust(student.folder)
    for method in trust.methods.values():
        assert method.offsets["Streaks"] < -1 < 1 < method.offsets["Melanoma"]
        assert set(method.offsets) == set(method.findings)
    told = tmp_path / "told"
    Picture.fromarray(np.rint(lesion.image.pixels * 255).astype(np.uint8)).save(tmp_path / "lesion.png")
    for language in ("en", "de"):
        options = TellOptions(model=ModelChoice(Path("dermoscopy")), samples=120, language=language)
        tell([tmp_path / "lesion.png"], told / language, options)
        (page,) = (told / language).glob("*/practitioner.html")
        text = page.read_text(encoding="utf-8")
        assert {"en": "synthetic lesions", "de": "künstlichen Läsionen"}[language] in text
        assert not re.search("reader's box|ärztlich gezeichnet", text)


def test_the_benchmark_of_its_maps_runs(student: Student, lesion: SkinPhantom) -> None:
    """One row a method of each planted finding, with what the fit asks for."""
    rows = list(importlib.import_module("skin_trust").rows_of(student, lesion))
    for name in lesion.sign_masks:
        mine = [row for row in rows if row["finding"] == name]
        assert {row["method"] for row in mine} == {"grad_cam", "lime", "evidence_grid"}
        assert all({*MAP_VALUES, "hit", "near", "energy", "cells", "doubtful"} <= set(row) for row in mine)
