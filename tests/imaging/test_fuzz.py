"""Three hundred broken files: each is read or refused in one sentence, soon, and nothing else happens."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from storyxai.imaging.read import read_image


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    return importlib.import_module("fuzz_reading")


def test_the_sound_files_are_read(fuzz: ModuleType, tmp_path: Path) -> None:
    """Otherwise the broken ones would prove nothing."""
    for name, data in fuzz.seeds().items():
        (tmp_path / name).write_bytes(data)
        pixels = read_image(tmp_path / name).pixels
        assert sorted(pixels.shape) == [72, 80], name
        assert pixels.std() > 0.1, name


def test_broken_files_are_read_or_refused(fuzz: ModuleType, tmp_path: Path) -> None:
    report = fuzz.run(300, 20240, folder=tmp_path)
    assert report.crashes == []
    assert report.slow == []
    assert report.outcomes["refused"] > 100 and report.outcomes["read"] > 20
    assert sum(report.outcomes.values()) == 300


def test_a_mutant_comes_again(fuzz: ModuleType) -> None:
    sound = fuzz.seeds()
    assert fuzz.mutant(sound, 7, 1, apart_share=0.0) == fuzz.mutant(sound, 7, 1, apart_share=0.0)
    assert fuzz.mutant(sound, 7, 1, apart_share=0.0) != fuzz.mutant(sound, 8, 1, apart_share=0.0)
