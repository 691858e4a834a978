"""`storyxai concepts`: from folders to tested vectors, told by `tell`; what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from evidence_models import CalibratedReader, image_of
from storyxai.errors import InputError, UnknownNameError
from storyxai.evidence.gather import GatherSettings, gather
from storyxai.evidence.learned import read_concepts, verdict_of
from storyxai.explain.contract import ExplainedModel, Look
from storyxai.explain.tcav import TcavSettings
from storyxai.modalities.contract import FindingTerm, Modality
from storyxai.phantoms.concepts import CONCEPTS, concept_phantoms
from storyxai.phantoms.generate import generate_phantom, planned
from storyxai.programs import concepts as program
from storyxai.programs.concepts import ConceptOptions, make_concepts
from storyxai.programs.models import ModelChoice
from storyxai.story.tell import tell
from storyxai.types import Array

SPOTS = Modality("spots", (FindingTerm("Upper_spot"), FindingTerm("Lower_spot")))
UPPER, LOWER = np.zeros((32, 32), np.bool_), np.zeros((32, 32), np.bool_)
UPPER[4:12, 4:12], LOWER[20:28, 16:28] = True, True
FEW = TcavSettings(controls=12, chance=99)


def written(folder: Path, count: int, *, bright: np.ndarray | None = None, size: int = 32, seed: int = 0) -> Path:
    """A folder of pictures of noise, two pixels for each, with a place that is brighter, if any."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, count])
    for i in range(count):
        grey = 80 + 40 * rng.random((size, size))
        if bright is not None:
            grey[bright] += 60 + 10 * rng.random()
        Picture.fromarray(np.kron(grey, np.ones((2, 2))).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


@dataclass(frozen=True, eq=False)
class Spots(CalibratedReader):
    """Reads two places; the channels of its features are these places, so that a concept of one is no concept of the other."""

    @property
    def modality(self) -> Modality:
        return SPOTS


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ExplainedModel:
    reader = Spots({"Upper_spot": UPPER, "Lower_spot": LOWER})
    monkeypatch.setattr(program, "open_model", lambda choice: reader)
    return reader


def options(folders: Mapping[str, Path], tmp_path: Path, **asked: object) -> ConceptOptions:
    return replace(ConceptOptions(
        ModelChoice(tmp_path), dict(folders), written(tmp_path / "plain", 64, seed=1), written(tmp_path / "films", 14, seed=2),
        test=FEW,
    ), **asked)  # type: ignore[arg-type]


def test_a_folder_of_bright_upper_spots_is_what_the_upper_finding_rests_on(model: ExplainedModel, tmp_path: Path) -> None:
    """The way of a user: a folder of examples, a file, and the sentence in the practitioner's story."""
    folders = {"a_spot_above": written(tmp_path / "up", 30, bright=UPPER, seed=3)}
    made = make_concepts(None, options(folders, tmp_path))
    assert made.path == tmp_path / "concepts.json"
    assert made.lines[0].startswith("a_spot_above (AUROC 1.00, 30 images): carries Upper_spot +")
    first = made.path.read_bytes()
    asked = ConceptOptions(ModelChoice(tmp_path), folders, tmp_path / "plain", tmp_path / "films", test=FEW)
    make_concepts(tmp_path / "again.json", asked)
    assert (tmp_path / "again.json").read_bytes() == first
    learned = read_concepts(made.path)
    figures = learned.concepts["a_spot_above"].findings
    assert verdict_of(1.0, figures["Upper_spot"]) == "rests_on" and verdict_of(1.0, figures["Lower_spot"]) == "chance"
    assert figures["Upper_spot"].score == 1 and figures["Upper_spot"].p_value == pytest.approx(0.01)
    pixels = np.full((32, 32), 0.4)
    pixels[UPPER] = 0.8
    settings = GatherSettings(samples=100, modality=SPOTS, concepts=learned)
    evidence = gather(model, image_of(pixels), settings=settings)
    (told,) = [one for one in evidence.learned if one.finding == "Upper_spot"]
    assert told.verdict == "rests_on" and told.here is not None and told.here > 0
    said = [s.text for section in tell(evidence, "practitioner").sections for s in section.sentences]
    assert any(text.startswith("The model's upper spot rests on: a spot above (+") for text in said)
    stranger = Spots({"Upper_spot": UPPER}, model_id="reader-2")
    with pytest.raises(InputError, match="are of the model reader-1, and this is reader-2 — write them again"):
        gather(stranger, image_of(pixels), settings=settings)


def test_what_cannot_be_tested_is_refused_with_its_mend_and_nothing_is_written(model: ExplainedModel, tmp_path: Path) -> None:
    few, mixed = written(tmp_path / "few", 3, bright=UPPER), written(tmp_path / "mixed", 12, bright=UPPER)
    Picture.fromarray(np.full((80, 64), 90, np.uint8)).save(mixed / "tall.png")
    with_films = written(tmp_path / "spoilt", 12, bright=UPPER)
    base = options({}, tmp_path)
    (with_films / "film.png").write_bytes((tmp_path / "films" / "3.png").read_bytes())
    larger = written(tmp_path / "larger", 12, size=48, seed=9)
    cases = (
        ({"few": few}, {}, "concept 'few': has 3 different images — give 10 or more, best 50"),
        ({"m": mixed}, {}, r"concept 'm': has images of several sizes \(64 x 64 and 64 x 80\).* — scale all to one size"),
        ({"l": larger}, {}, r"concept images and others: have several sizes \(64 x 64 and 96 x 96\)"),
        ({"s": with_films}, {}, r"concept 's': holds 1 of the films \(film.png\).* — take them out of one"),
        ({"s": with_films}, {"others": None}, "others: are not given.*add --others DIR"),
        ({}, {}, "phantom concepts: are drawn for 'chest_radiograph' alone — give folders"),
    )
    for folders, asked, said in cases:
        with pytest.raises(InputError, match=said):
            make_concepts(tmp_path / "out.json", replace(base, folders=folders, **asked))
    assert not (tmp_path / "out.json").exists()
    make_concepts(tmp_path / "out.json", replace(base, folders={"m": mixed}, any_size=True))


def test_the_student_that_comes_along_keeps_its_folder_and_a_closed_model_is_refused(
    model: ExplainedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="name a file with --out"):
        make_concepts(None, ConceptOptions())

    class Closed(Spots):
        def look(self, image: Array, columns: Sequence[int] | None = None) -> Look | None:  # type: ignore[override]
            return None

    monkeypatch.setattr(program, "open_model", lambda choice: Closed({"Upper_spot": UPPER}))
    with pytest.raises(InputError, match="need the inside of a model"):
        make_concepts(tmp_path / "out.json", ConceptOptions())


@pytest.mark.parametrize("text", ["", "[]", '{"format": "storyxai-concepts/1"}'])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match=r"c.json: .* — write it again with `storyxai concepts`"):
        read_concepts(tmp_path / "c.json")


def test_phantoms_show_their_concept_and_no_other() -> None:
    for concept in CONCEPTS:
        (phantom,) = concept_phantoms(concept, 1, size=64)
        shown = {name for name, shows in CONCEPTS.items() if shows(frozenset(phantom.severity), phantom.devices)}
        assert shown == {concept}
    with pytest.raises(UnknownNameError, match="did you mean 'fluid_level'"):
        concept_phantoms("fluid_levl", 1, size=64)


@pytest.mark.parametrize("seed", [3, 11, 7_000_001])
def test_the_plan_of_a_phantom_is_what_is_drawn(seed: int) -> None:
    phantom = generate_phantom(seed, size=64)
    assert planned(seed) == (frozenset(phantom.severity), phantom.devices)


def test_the_file_names_what_it_rests_on(model: ExplainedModel, tmp_path: Path) -> None:
    made = make_concepts(tmp_path / "c.json", options({"up": written(tmp_path / "up", 12, bright=UPPER)}, tmp_path))
    record = json.loads(made.path.read_bytes())
    assert (record["model_id"], record["others"], record["films"], record["layer"]) == ("reader-1", 64, 14, "cells")
    assert len(record["concepts"]["up"]["images_sha256"]) == 64 and record["concepts"]["up"]["images"] == 12
