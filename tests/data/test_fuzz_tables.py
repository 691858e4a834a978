"""Broken tables, lists, reports and recipes: read or refused in one sentence; past failures stay here, built by code."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from storyxai.data.table import read_table
from storyxai.errors import InputError


@pytest.fixture(scope="module")
def fuzz() -> Any:
    return importlib.import_module("fuzz_tables")


def test_the_sound_sets_are_read(fuzz: Any, tmp_path: Path) -> None:
    """Otherwise the broken ones would prove nothing: no row, label, box or report of a sound set is lost on the way."""
    found = {}
    for sound in fuzz.targets():
        folder = fuzz.lay_out(sound, tmp_path)
        sound.read(folder)
        table = folder.parent / "table.parquet"
        found[sound.name] = kept(read_table(table).frame) if table.exists() else None
    assert found == SOUND


def kept(frame: pd.DataFrame) -> tuple[int, int, int, int, int]:
    """Rows, findings present, rows with doubts, rows with boxes, rows with a report."""
    present = int((frame.filter(like="label_") == 1).to_numpy().sum())
    told = ((frame["uncertain"] != ""), (frame["boxes"] != "[]"), (frame["findings_text"] != ""))
    doubts, boxes, reports = (int(rows.sum()) for rows in told)
    return len(frame), present, doubts, boxes, reports


# What the sets that benchmarks/fuzz_tables.py builds hold; None: no set of images, read without a table.
SOUND = {
    **dict.fromkeys(("nih Data_Entry_2017_v2020.csv", "nih train_val_list.txt", "nih BBox_List_2017.csv", "nih rsna_boxes.csv"),
                    (3, 3, 0, 2, 0)),
    **dict.fromkeys((*(f"mimic-cxr-2.0.0-{part}.csv" for part in ("metadata", "split", "chexpert")), "f/s50.txt"),
                    (2, 1, 1, 0, 1)),
    **dict.fromkeys(("manifest", "manifest.gz", "manifest of semicolons", "manifest in UTF-16"), (2, 1, 1, 0, 0)),
    "vindr kaggle": (2, 0, 1, 2, 0),
    "vindr votes": (1, 1, 0, 0, 0),
    "coco": (2, 1, 0, 1, 0), "openi": (2, 2, 0, 0, 2), "openi.tgz": (2, 2, 0, 0, 2), "chexpert": (2, 2, 2, 0, 0),
    "padchest": (1, 1, 0, 0, 1), "covid": (2, 1, 0, 0, 0), "kermany": (1, 0, 0, 0, 0), "siim": (2, 1, 0, 0, 0),
    "rsna": (2, 1, 0, 1, 0), "chexmask": (1, 0, 0, 0, 0), "jsrt": (1, 1, 0, 1, 0), "shenzhen": (1, 0, 0, 0, 1),
    "phantom": (1, 1, 0, 1, 1), "densenet": None, "recipe": None,
}  # fmt: skip


# Every line once left the readers as an untyped error, as an age or a box that cannot be, or as a refusal of pages.
PAST = [
    ("nih Data_Entry_2017_v2020.csv", b"_000.png,Pneumonia,0,2,", b"_000.png,Pneumonia,0,\\ud800,", "the patient"),
    ("nih Data_Entry_2017_v2020.csv", b"_000.png,Pneumonia,0,2,", b"_000.png,Pneumonia,0,,", "line 4: has the patient"),
    ("nih Data_Entry_2017_v2020.csv", b"Image Index", b"a/" * 3000, "lacks the column"),
    ("nih rsna_boxes.csv", b"100,200,300", b"1e999,200,300", "no finite number"),
    ("manifest", b"b.png,2", b"x" * 300 + b",2", ""),
    ("manifest", b",40,train", b",-1e999,train", ""),
    ("manifest", b"s1,1,", b"s1," + b"9" * 3000 + b",", "under 'pleural effusion'"),
    ("covid", b"a.png", b"9" * 400, ""),
    ("kermany", b"masks/a.png", b"m" * 3000, ""),
    ("coco", b'"id": 1, "file', b'"id": 1e999, "file', "is not COCO"),
    ("coco", b"[64, 32, 16, 8]", b"[64, NaN, 16, 8]", ""),
    ("coco", b"a.png", b"a/" * 3000, ""),
    ("openi", b"utf-8", b"MeSH", ""),
    ("openi", b"<eCitation>", b"<!DOCTYPE a [<!ENTITY a 'b'>]><eCitation>", ""),
    ("chexpert", b",40,", b",Infinity,", ""),
    ("chexmask", b",64,64", b",1e999,64", "a size that are no numbers"),
    ("phantom", b'"age_years": 50', b'"age_years": -1', ""),
]


@pytest.mark.parametrize(("name", "was", "now", "said"), PAST, ids=[f"{i}-{case[0]}" for i, case in enumerate(PAST)])
def test_past_failures(fuzz: Any, tmp_path: Path, name: str, was: bytes, now: bytes, said: str) -> None:
    sound = next(sound for sound in fuzz.targets() if sound.name == name)
    folder, data = fuzz.lay_out(sound, tmp_path), sound.files[sound.broken]
    assert was in data
    (folder / sound.broken).write_bytes(data.replace(was, now, 1))
    if not said:
        sound.read(folder)
        return
    with pytest.raises(InputError, match=said) as refused:
        sound.read(folder)
    assert refused.value.mend and len(str(refused.value)) < 1000 and "\n" not in str(refused.value)


def test_a_broken_archive_is_refused(fuzz: Any, tmp_path: Path) -> None:
    """Damage within the packed stream came out as zlib.error."""
    for name in ("manifest.gz", "openi.tgz"):
        sound = next(sound for sound in fuzz.targets() if sound.name == name)
        folder, data = fuzz.lay_out(sound, tmp_path), bytearray(sound.files[sound.broken])
        for at in range(10, len(data), 7):
            (folder / sound.broken).write_bytes(bytes(data[:at]) + b"\xff\xff" + bytes(data[at + 2 :]))
            try:
                sound.read(folder)
            except InputError as refused:
                assert refused.mend


def test_random_damage_is_read_or_refused(fuzz: Any, tmp_path: Path) -> None:
    report = fuzz.run(72, 7, folder=tmp_path)
    assert report.crashes == []
    assert report.outcomes["refused"] > 20 and report.outcomes["read"] > 12
