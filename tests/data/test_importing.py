"""An import says early what cannot work, late what was left out, and leaves nothing behind when it fails."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from storyxai import cli
from storyxai.data import importing
from storyxai.data.importing import ImportOptions, import_source
from storyxai.data.table import read_table
from storyxai.errors import OutputError, TableError
from storyxai.programs.data import import_data


def film(path: Path, seed: int) -> None:
    coarse = np.random.default_rng(seed).uniform(20, 230, (6, 6)).astype(np.float32)
    grey = np.asarray(Picture.fromarray(coarse).resize((64, 64), Picture.Resampling.BICUBIC)).clip(0, 255)
    Picture.fromarray(grey.astype(np.uint8)).save(path)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Five films; the first and the last are the same picture, of two patients, in two published parts."""
    for seed, name in enumerate("abcd"):
        film(tmp_path / f"{name}.png", seed)
    film(tmp_path / "e.png", 0)
    path = tmp_path / "mine.csv"
    path.write_text("image,patient_id,split\n" + "".join(
        f"{name}.png,{name},{part}\n" for name, part in zip("abcde", ("train", "train", "test", "train", "test"), strict=True)
    ))
    return path


def test_a_place_that_cannot_be_written_is_said_before_anything_is_read(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_read", lambda *_: pytest.fail("the set was read first"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        import_data("manifest", manifest, tmp_path / "file" / "t.parquet")
    with pytest.raises(OutputError, match="is a folder") as refused:
        import_data("manifest", manifest, tmp_path)
    assert "name a file" in refused.value.mend


def test_an_import_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(TableError):
        import_data("nih", tmp_path / "nowhere", tmp_path / "new" / "deep" / "t.parquet")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("lines", "said"), [
    ("", "holds nothing that can be read as 'manifest'"),
    ("gone.png,1\nlost.png,2\n", r"none of its 2 entries became a row \(2 x is in the table but not on disk"),
])
def test_a_set_without_a_row_says_why(tmp_path: Path, lines: str, said: str) -> None:
    (tmp_path / "mine.csv").write_text("image,patient_id\n" + lines)
    with pytest.raises(TableError, match=said) as refused:
        import_source("manifest", tmp_path / "mine.csv", tmp_path / "t.parquet")
    assert refused.value.mend


def test_lists_that_tear_a_picture_apart_are_refused_with_names_and_can_be_left_aside(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.parquet"
    with pytest.raises(TableError, match=r"'a' and 'e': .*train and test") as refused:
        import_source("manifest", manifest, out)
    assert "--own-split" in refused.value.mend and not out.exists()
    monkeypatch.setattr(sys, "argv", [
        "storyxai", "data", "import", "manifest", str(manifest), "--out", str(out), "--own-split"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code and "published parts were left aside" in capsys.readouterr().out
    table = read_table(out).frame.set_index("image_id")
    assert table["split"]["a"] == table["split"]["e"] and table["split"].all()
    assert list(table["official_split"]) == ["train", "train", "test", "train", "test"]  # what was published is kept


def test_the_shares_of_the_parts_can_be_given(manifest: Path, tmp_path: Path) -> None:
    options = ImportOptions(own_split=True, fractions=(0.0, 0.0, 1.0))
    report = import_source("manifest", manifest, tmp_path / "t.parquet", options)
    assert report.splits == {"train": 0, "val": 0, "test": 5}


def test_a_file_that_cannot_be_read_is_named_by_the_import(tmp_path: Path) -> None:
    film(tmp_path / "a.png", 1)
    film(tmp_path / "b.png", 2)
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:200])
    (tmp_path / "mine.csv").write_text("image,patient_id\na.png,1\nb.png,2\n")
    report = import_source("manifest", tmp_path / "mine.csv", tmp_path / "t.parquet")
    assert report.images == 1 and [item.what for item in report.skipped] == ["b.png"]
    assert "cannot be read" in report.skipped[0].why and report.skipped[0].mend
    assert list(read_table(tmp_path / "t.parquet").frame["image"]) == ["a.png"]
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(TableError, match=r"none of its 2 entries became a row \(2 x cannot be read"):
        import_source("manifest", tmp_path / "mine.csv", tmp_path / "none.parquet")
    assert not (tmp_path / "none.parquet").exists()
