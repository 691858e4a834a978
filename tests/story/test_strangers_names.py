"""Findings of strangers bear names that sentences use too: told, and verified, in both languages to every reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import storyxai as sx
from storyxai.modalities.registry import modality_named
from storyxai.story.audiences.registry import known_audiences
from storyxai.story.words import load_words
from storyxai.types import Image

NAMES = [
    ("A", "B"), ("no", "yes"), ("Normal", "Abnormal"), ("None", "findings"), ("likely benign", "likely malignant"),
    ("present", "absent"), ("The", "Der"), ("map", "model"), ("score", "B"), ("not", "nicht"), ("below", "half"),
    ("probability", "threshold"), ("of", "and"), ("a|b", "a,b"), ("a'b", 'a"b'), ("a.b", "a"), ("肺炎", "气胸"),
    ("LIME", "occlusion"), ("Occlusion", "RISE"), ("mean", "the mean"), ("blur", "Mittel"),
]  # fmt: skip


def answer(images: np.ndarray) -> np.ndarray:
    """Logits that lie to both sides of one half."""
    return images.mean((1, 2, 3))[:, None] + np.array([[-2.0, 1.0]])


@pytest.fixture(scope="module")
def image() -> Image:
    film = Path(sx.__file__).parent / "examples" / "nih_00006004_000.jpg"
    return sx.read(np.ascontiguousarray(sx.read(film).pixels[::4, ::4]))


@pytest.mark.parametrize("findings", NAMES, ids="-".join)
@pytest.mark.parametrize("language", ["en", "de"])
def test_names_that_sentences_use_too_are_told_and_verified(
    image: Image, findings: tuple[str, str], language: str, tmp_path: Path
) -> None:
    """Stories of a finding called "A", "no" or "score" ended in our own fault, and those of "possible" contradicted themselves;
    "a|b" and "a,b" were told by one name, and so were any two names of an alphabet that is not ours."""
    model = sx.FunctionModel(answer, findings)
    evidence = sx.gather(model, image, methods=["occlusion"], settings=sx.GatherSettings(samples=100))
    sx.save_evidence(evidence, tmp_path / "study")
    for audience in known_audiences():
        sx.render(sx.tell(evidence, audience, language), tmp_path / "study" / f"{audience}.html")
    assert sx.verify(tmp_path / "study").problems == ()


@pytest.mark.parametrize("key", ["chest_radiograph", "dermoscopy"])
@pytest.mark.parametrize("language", ["en", "de"])
def test_no_finding_of_ours_bears_a_name_that_sentences_use(key: str, language: str) -> None:
    """What is let pass for strangers' names is let pass for none of ours."""
    words = load_words(language)
    names = {name for term in modality_named(key).findings for name in (term.name, term.name.replace("_", " "), term.phrase)}
    assert names and not [name for name in names if name and words.is_ordinary(name)]
    assert words.is_ordinary("map" if language == "en" else "der")
