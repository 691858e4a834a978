"""Images of another kind, and of too little or too much: what the gate says of each, in both languages, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from storyxai.errors import GateRefusal
from storyxai.imaging.gate import judge, refuse
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH
from storyxai.modalities.contract import Modality
from storyxai.modalities.dermoscopy.modality import DERMOSCOPY
from storyxai.phantoms.dermoscopy import generate_skin_phantom
from storyxai.phantoms.generate import generate_phantom
from storyxai.story.words import words_of
from storyxai.types import Image, Mask

FILM = generate_phantom(3, size=192).image
LESION = generate_skin_phantom(1, size=192)
NONE, TWO = (np.zeros((192, 192), dtype=np.bool_) for _ in range(2))
TWO[20:60, 20:60] = TWO[100:130, 100:130] = True


def without_colour(note: str = "") -> Image:
    """The lesion as a grey photograph; with a note as reading a colour picture in grey leaves it."""
    grey = np.ascontiguousarray(LESION.image.pixels.mean(axis=2), dtype=np.float32)
    return replace(LESION.image, pixels=grey, notes=(note,) if note else ())


def beside_things() -> Image:
    """The lesion with something red and something yellow beside it: warm colours, as wood, cloth or food have."""
    pixels = LESION.image.pixels.copy()
    pixels[:, :50] *= np.array([0.9, 0.15, 0.12], np.float32)
    pixels[:, 142:] *= np.array([1.0, 0.9, 0.2], np.float32)
    return replace(LESION.image, pixels=pixels)


PLAIN_SKIN = np.random.default_rng(0).normal((0.8, 0.62, 0.5), 0.01, (192, 192, 3)).astype(np.float32)
CASES: tuple[tuple[str, Modality, Image, Mapping[str, Mask] | None, str, bool, str, str], ...] = (
    ("a chest film for the skin", DERMOSCOPY, FILM, None, "gate.colour", True,
     "the picture has no colour, as a radiograph or", "Das Bild hat keine Farbe, wie eine Röntgenaufnahme"),
    ("a grey photograph for the skin", DERMOSCOPY, without_colour(), None, "gate.colour", True,
     "a grey photograph has none; give the original in colour", "oder ein graues Foto; bitte das farbige Original vorlegen"),
    ("a photograph of things for the skin", DERMOSCOPY, beside_things(), None, "gate.hues", True,
     "colours further apart than skin and pigment", "Das Bild hat Farben, die weiter auseinander liegen als bei Haut"),
    ("plain skin", DERMOSCOPY, replace(LESION.image, pixels=PLAIN_SKIN), None, "gate.contrast", True,
     "the picture is blank, or shows plain skin without a lesion", "Das Bild ist leer oder zeigt bloße Haut ohne Läsion"),
    ("a skin picture for the chest", CHEST_RADIOGRAPH, without_colour("colour: 93.0% of the pixels are coloured"), None,
     "gate.colour", True, "the picture is in colour; export the radiograph in grey values", "Das Bild ist farbig; bitte"),
    ("a grey photograph for the chest", CHEST_RADIOGRAPH, without_colour(), None, "gate.likeness", True,
     "does not resemble a frontal chest film", "Das Bild gleicht keiner frontalen Thoraxaufnahme"),
    ("no lesion", DERMOSCOPY, LESION.image, {"lesion": NONE}, "gate.lesion", True,
     "no lesion was found", "Es wurde keine Läsion gefunden"),
    ("two lesions", DERMOSCOPY, LESION.image, {"lesion": TWO}, "gate.two", False,
     "more than one lesion", "Es wurde mehr als eine Läsion gefunden"),
)  # fmt: skip


@pytest.mark.parametrize(("modality", "image", "masks", "rule", "hard", "english", "german"), [case[1:] for case in CASES],
                         ids=[case[0] for case in CASES])  # fmt: skip
def test_it_is_refused_or_warned_of_in_words_that_fit(
    modality: Modality, image: Image, masks: Mapping[str, Mask] | None, rule: str, hard: bool, english: str, german: str
) -> None:
    checks = judge(image, modality, masks=masks)
    check = next(check for check in checks if check.name == rule)
    assert check.passed is False
    for language, said in (("en", english), ("de", german)):
        told = words_of(modality, language).say(check.about)
        assert said.casefold() in told.casefold(), told
        assert told.startswith("Warn") != hard, "a warning says that it is one"
    if hard:
        with pytest.raises(GateRefusal):
            refuse(image, checks, modality)
    else:
        refuse(image, checks, modality)
