"""A modality is found by key, in an installed package or in a file, and says its own vocabulary."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from storyxai.errors import InputError, UnknownNameError
from storyxai.modalities import registry
from storyxai.modalities.any_image import survey_any_image
from storyxai.modalities.contract import FindingTerm, Modality, Structure, WhatIf
from storyxai.modalities.registry import modality_keys, modality_named, modality_of, read_modality

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
    assert modality_keys() == ("broken", "chest_radiograph", "other", "skin")
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
