"""A modality of two findings and no structure, known to nobody but this file, goes from a trained network to four stories.

What is left to others: study tables and `distil` still name the chest's findings as columns, so that the network is trained
here by a few lines of its own.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from storyxai.errors import InputError
from storyxai.evidence.gather import GatherSettings, gather
from storyxai.evidence.record import arrays_of, as_record, from_record
from storyxai.modalities.registry import modality_of, read_modality
from storyxai.models.card import Calibration, ModelCard, write_card
from storyxai.models.export import export_student
from storyxai.models.network import Network, NetworkSpec
from storyxai.models.runtime import Student, load_student
from storyxai.pages.story import render_html
from storyxai.story.tell import AUDIENCES, tell
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
        encoder="mobilenetv3_small_050", size=SIZE, tasks=("findings",), findings=modality.names, width=16, hidden=16,
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
