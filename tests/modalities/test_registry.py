"""A modality is found by key, in an installed package or in a file, and says its own vocabulary."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from storyxai.errors import GateRefusal, InputError, UnknownNameError
from storyxai.imaging.gate import judge, refuse
from storyxai.modalities import registry
from storyxai.modalities.any_image import survey_any_image
from storyxai.modalities.contract import FindingTerm, Modality, Structure, WhatIf
from storyxai.modalities.registry import modality_keys, modality_named, modality_of, read_modality
from storyxai.types import Image

SKIN = """
key = "skin_spots"
name = "photograph of the skin"

[acquisition]
channels = 3
bright_is_dense = false

[[findings]]
name = "Melanoma"
phrase = "melanoma"
lay = "a skin cancer"
look_alikes = ["a dark mole"]
synonyms = ["malignant melanoma"]
codes = { SCT = "372244006" }

[[findings]]
name = "Nevus"

[[structures]]
name = "lesion"

[[what_ifs]]
structure = "lesion"
region = "lesion"

[words.en]
image = "photograph"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "modality.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_chest_is_built_in_and_the_default() -> None:
    chest = modality_named()
    assert chest is modality_named("chest_radiograph") is modality_of("")
    assert "chest_radiograph" in modality_keys()
    assert (len(chest.names), chest.structure_names) == (14, ("left_lung", "right_lung", "heart"))
    assert chest.match("pleural FLUID") == "Effusion" and chest.match("a broken arm") is None
    assert {code.scheme: code.value for code in chest.term("oedema").codes} == {"SCT": "19242006", "RADLEX": "RID4866"}
    assert chest.grammar is not None and chest.grammar.detokenize(chest.grammar.tokenize("No mass.")) == ["No mass."]


def test_an_unknown_finding_or_modality_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'Effusion'"):
        modality_named().term("Efusion")
    with pytest.raises(UnknownNameError, match="did you mean 'chest_radiograph'"):
        modality_named("chest_radiography")
    assert modality_named().describe("Broken_Arm") == FindingTerm("Broken_Arm", "broken arm", "broken arm")


def test_a_modality_is_read_from_a_file_or_its_folder(tmp_path: Path) -> None:
    path = written(tmp_path, SKIN)
    skin = read_modality(path)
    assert read_modality(tmp_path) == skin == modality_of("modality.toml", beside=tmp_path)
    assert modality_of("skin_spots", beside=tmp_path) == skin  # it came with the model
    assert modality_of("chest_radiograph", beside=tmp_path).key == "chest_radiograph"
    assert skin.names == ("Melanoma", "Nevus") and skin.term("Nevus").lay == "nevus"
    assert skin.term("malignant melanoma").code("SCT") == "372244006" and skin.term("Melanoma").code("RADLEX") == ""
    assert skin.structures == (Structure("lesion", "lesion", "the lesion"),) and skin.what_ifs == (WhatIf("lesion", "lesion"),)
    assert skin.acquisition.channels == 3 and skin.words == {"en": {"image": "photograph"}}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[[findings]]", "[[findngs]]", "unknown key 'findngs' — did you mean 'findings'?"),
        ("phrase =", "phrasing =", "unknown key 'phrasing' in .findings. — did you mean 'phrase'?"),
        ('synonyms = ["malignant melanoma"]', 'synonyms = "malignant melanoma"', "findings.synonyms: is 'malignant melanoma'"),
        ("channels = 3", "channels = 4", "acquisition.channels: is 4"),
        ('name = "Nevus"', 'phrase = "nevus"', "lacks a field"),
        ('name = "Nevus"', 'name = "Melanoma"', "has the finding Melanoma twice"),
        ('structure = "lesion"', 'structure = "lesson"', "did you mean 'lesion'"),
        ('key = "skin_spots"', 'key = "Skin spots"', "a key that is no plain name"),
        ('key = "skin_spots"', "key = skin", "is no TOML"),
    ],
)
def test_a_fault_in_a_file_is_one_sentence_that_names_it(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = written(tmp_path, SKIN.replace(old, new))
    with pytest.raises(InputError, match=said) as fault:
        read_modality(path)
    assert str(fault.value).startswith(str(path)) and "\n" not in str(fault.value) and fault.value.mend


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_modality(tmp_path / "nothing.toml")


def installed(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    made = tuple(EntryPoint(name, value, registry.ENTRY_POINTS) for name, value in points)
    monkeypatch.setattr(registry, "entry_points", lambda group: made if group == registry.ENTRY_POINTS else ())


def test_a_package_brings_a_modality_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from storyxai.modalities.contract import FindingTerm, Modality"
    source += "\nSKIN = Modality('skin', (FindingTerm('Nevus'),))\n"
    (tmp_path / "their_skin.py").write_text(source, encoding="utf-8")
    (tmp_path / "their_broken.py").write_text("import a_package_that_is_not_there", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    installed(monkeypatch, ("skin", "their_skin:SKIN"), ("broken", "their_broken:IT"), ("other", "their_skin:SKIN"))
    assert modality_named("skin").names == ("Nevus",)
    assert modality_keys() == ("broken", "chest_radiograph", "dermoscopy", "other", "skin")
    with pytest.raises(InputError, match=r"'broken': cannot be imported from their_broken:IT .ModuleNotFoundError"):
        modality_named("broken")
    with pytest.raises(InputError, match="let it be a Modality whose key is 'other'"):
        modality_named("other")
    sys.modules.pop("their_skin", None)


def test_a_modality_of_no_finding_is_none() -> None:
    with pytest.raises(InputError, match="has no finding"):
        Modality("empty", ())


def test_an_image_of_any_kind_is_surveyed_whole_or_in_its_structures() -> None:
    values = np.zeros((4, 8), np.float32)
    values[:2, :2], values[3, 3] = 1.0, 0.4
    lesion = np.zeros((4, 8), np.bool_)
    lesion[:2, :4] = True
    whole = survey_any_image({}, spacing_mm=None, mask_pixel=1.0)
    drawn = survey_any_image({"lesion": lesion}, spacing_mm=None, mask_pixel=1.0)
    assert whole.map_concepts(values, "Nevus")[0].value == 4 / 32 and whole.place("Nevus") is None
    assert drawn.map_concepts(values, "Nevus")[0].value == 4 / 8
    place = drawn.place("Nevus")
    assert place is not None and place.check == "inside_structures" and (place.region == lesion).all()
    assert whole.map_concepts(-values, "Nevus")[0].value is None
    assert survey_any_image({"lesion": lesion & False}, spacing_mm=None, mask_pixel=1.0).place("Nevus") is None


def test_a_file_gives_its_gate_and_its_filling(tmp_path: Path) -> None:
    limits = 'least_size = 40\nleast_contrast = 0.1\nmost_blank = 0.5\ncolour = "grey"'
    skin = read_modality(written(tmp_path, f'{SKIN}\n[gate]\n{limits}\n[filling]\nstructures = ["lesion"]\n'))
    assert skin.filling is not None and (skin.filling.structures, skin.filling.quantile) == (("lesion",), 0.25)
    noise = np.random.default_rng(0).uniform(0.2, 0.8, (48, 48)).astype(np.float32)
    half = noise.copy()
    half[:30] = 0.5  # 29 x 46 of 46 x 46 inner pixels equal their neighbours, but for the last row
    small, dull, red = noise[:30], noise * 0.1, np.stack([noise, noise * 0.2, noise * 0.2], axis=2)
    failed = {}
    for name, pixels in {"noise": noise, "half": half, "small": small, "dull": dull, "red": red}.items():
        failed[name] = [check.name for check in judge(Image(pixels, "ab" * 32, "x.png"), skin) if check.passed is False]
    assert failed == {
        "noise": [], "half": ["gate.blank"], "small": ["gate.size"], "dull": ["gate.contrast"], "red": ["gate.colour"],
    }
    with pytest.raises(GateRefusal, match="most of the picture is of one value"):
        image = Image(half, "ab" * 32, "x.png")
        refuse(image, judge(image, skin), skin)


@pytest.mark.parametrize(("lines", "said"), [
    ("[gate]\nleast_sise = 3", "unknown key 'least_sise' in .gate.*did you mean 'least_size'"),
    ("[filling]\nstructure = ['lesion']", "unknown key 'structure' in .filling.*did you mean 'structures'"),
    ("[gating]\nx = 1", "unknown key 'gating'.*did you mean 'gate'"),
    ("[gate]\ncolour = 'gray'", "gate.colour.*did you mean 'grey'"),
    ("[gate]\nmost_blank = 3", "gate.most_blank.* is 3.*from 0 to 1"),
    ("[gate]\nleast_size = 'big'", "gate.least_size.*a number"),
    ("[filling]\nstructures = ['lession']", "structure.*did you mean 'lesion'"),
    ("[filling]\nstructures = []", "filling.structures.*a list of texts"),
    ("[filling]\nstructures = ['lesion']\nquantile = 2", "filling.quantile.* is 2.*from 0 to 1"),
])
def test_a_gate_or_filling_that_is_none_is_refused_by_file_and_key(tmp_path: Path, lines: str, said: str) -> None:
    path = written(tmp_path, f"{SKIN}\n{lines}\n")
    with pytest.raises(InputError, match=said) as raised:
        read_modality(path)
    assert str(path) in str(raised.value)
