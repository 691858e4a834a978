"""A data set of somebody's own, read by a function in a package of theirs, with no edit of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storyxai.data.importing import import_source, known_sources
from storyxai.data.table import read_table
from storyxai.errors import InputError, UnknownNameError

READER = """
from storyxai.data.table import StudyRow, StudyTable

def read_ours(folder):
    rows = [StudyRow(p.stem, p.stem, p.name, "ours", labels={"Effusion": float(p.stem.endswith("1"))}, view="PA")
            for p in sorted(folder.glob("*.png"))]
    return StudyTable.from_rows(rows, root=folder)
"""


@pytest.fixture(autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package as pip leaves it: its module, and a folder that says which entry points it has."""
    site = tmp_path_factory.mktemp("site")
    (site / "ours_of_source.py").write_text(READER, encoding="utf-8")
    info = site / "ours_of_source-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ours-of-source\nVersion: 1.0\n", encoding="utf-8")
    points = "[storyxai.sources]\nours = ours_of_source:read_ours\nbroken = ours_of_source:gone\n"
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


def test_a_source_that_does_not_load_is_named_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"source 'broken': cannot be loaded from ours_of_source:gone .* mend or remove"):
        import_source("broken", tmp_path, tmp_path / "t.parquet")
    with pytest.raises(UnknownNameError, match="did you mean 'ours'"):
        import_source("our", tmp_path, tmp_path / "t.parquet")
