"""A data set of somebody's own, read by a function in a package of theirs, with no edit of ours."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storyxai import cli
from storyxai.data.importing import import_source
from storyxai.data.learnt import learnt_sets, weights_licence
from storyxai.data.sources import known_sources, source_of
from storyxai.data.table import read_table
from storyxai.errors import InputError, UnknownNameError
from teaching_examples import toy_examples

READER = """
from storyxai.data.sources import Source
from storyxai.data.table import StudyRow, StudyTable

def read_ours(folder):
    rows = [StudyRow(p.stem, p.stem, p.name, "ours", labels={"Effusion": float(p.stem.endswith("1"))}, view="PA")
            for p in sorted(folder.glob("*.png"))]
    return StudyTable.from_rows(rows, root=folder)

STATED = Source(
    "ward7", "Films of ward 7", read_ours, licence="research only", limits=("Ward 7 has one device.",),
    weights_may_be_shipped=False,
)
NEITHER = 7
"""


@pytest.fixture(autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package as pip leaves it: its module, and a folder that says which entry points it has."""
    site = tmp_path_factory.mktemp("site")
    (site / "ours_of_source.py").write_text(READER, encoding="utf-8")
    info = site / "ours_of_source-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ours-of-source\nVersion: 1.0\n", encoding="utf-8")
    values = {"ours": "read_ours", "broken": "gone", "ward7": "STATED", "neither": "NEITHER"}
    points = "[storyxai.sources]\n" + "".join(f"{key} = ours_of_source:{value}\n" for key, value in values.items())
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))


def test_a_source_of_a_package_is_imported_by_its_name(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for name in ("a0", "b1", "c1"):
        pixels = np.random.default_rng(ord(name[0])).integers(0, 255, (64, 64), dtype=np.uint8)
        Image.fromarray(pixels).save(films / f"{name}.png")
    report = import_source("ours", films, tmp_path / "t.parquet")
    assert (report.images, report.patients, report.positives["Effusion"]) == (3, 3, 2)
    assert set(read_table(tmp_path / "t.parquet").frame["source"]) == {"ours"}
    assert {"ours", "nih"} < set(known_sources())


def test_licence_and_limits_of_a_source_of_a_package_are_listed_and_stand_in_a_card(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["storyxai", "data", "import", "--list"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    listed = capsys.readouterr().out.splitlines()
    assert not left.value.code and "ours: ours" in listed
    assert "ward7: Films of ward 7 (research only, weights trained on it may not be passed on)" in listed
    assert any(line.startswith("neither: cannot be used") for line in listed)
    train = replace(toy_examples(2), domain=("ward7", "broken"))
    ward, broken = sorted(learnt_sets(train, {}), key=lambda one: one.name)  # "Films ..." before "broken"
    assert (ward.name, ward.licence, broken.licence) == ("Films of ward 7", "research only", "")
    assert ward.limits[0] == "Ward 7 has one device." and "do not let weights" in ward.limits[1]
    assert weights_licence(train, {}, "ours") == "not to be passed on: see the terms of Films of ward 7"
    assert source_of("broken") is None  # what was learned for hours is written all the same


def test_a_source_that_does_not_load_is_named_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"source 'broken': cannot be loaded from ours_of_source:gone .* mend or remove"):
        import_source("broken", tmp_path, tmp_path / "t.parquet")
    with pytest.raises(InputError, match="neither a Source nor a reader"):
        import_source("neither", tmp_path, tmp_path / "t.parquet")
    with pytest.raises(UnknownNameError, match="did you mean 'ours'"):
        import_source("our", tmp_path, tmp_path / "t.parquet")
