"""The real sets in full, where they are: every row accounted for, and joined to the right one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from checks.source_checks import check_round_trip, check_source
from storyxai.data.importing import read_source
from storyxai.data.sources import known_sources, nih, openi
from storyxai.errors import TableError
from storyxai.modalities.chest_radiograph.findings import NAMES


def test_densenet_targets_are_log_odds(tmp_path: Path) -> None:
    head = "Image Index," + ",".join(f"prob_{name}" for name in NAMES)
    path = tmp_path / "densenet121_predictions.csv"
    path.write_text(head + "\n00000001_000.png,0.5,0.0,1.0" + ",0.25" * 11 + "\n")
    soft = nih.read_densenet_targets(tmp_path)
    assert soft.ids == ("nih-00000001_000",) and soft.findings == NAMES
    assert soft.logits[0, 0] == 0 and soft.logits[0, 5] == pytest.approx(math.log(1 / 3))
    assert np.isfinite(soft.logits).all() and soft.logits[0, 1] < -10 and soft.logits[0, 2] > 10
    path.write_text(head + "\n00000001_000.png" + ",1.5" * 14 + "\n")
    with pytest.raises(TableError, match="outside 0 to 1"):
        nih.read_densenet_targets(tmp_path)


def test_every_source_has_a_reader() -> None:
    for name in known_sources():
        with pytest.raises(TableError, match="no such place"):
            read_source(name, Path("no such place"))


@pytest.mark.real
@pytest.mark.parametrize(("name", "images", "patients"), [("nih", 1291, 967), ("kermany", 1163, 860), ("covid", 407, 236)])
def test_real_sets_in_full(real_data: Path, tmp_path: Path, name: str, images: int, patients: int) -> None:
    table = check_source(lambda folder: read_source(name, folder), real_data / name)
    assert (len(table), table.frame["patient_id"].nunique(), len(table.skipped)) == (images, patients, 0)
    check_round_trip(table, tmp_path / "t.parquet")


@pytest.mark.real
def test_real_nih_counts_are_those_of_the_pack(real_data: Path) -> None:
    table = nih.read_nih(real_data / "nih")
    labels = table.labels()
    counts = {name: int(labels.values[:, i].sum()) for i, name in enumerate(labels.findings)}
    assert counts["Pneumonia"] == 507 and counts["Hernia"] == 13 and counts["Pneumothorax"] == 34
    assert int((labels.values.sum(axis=1) == 0).sum()) == 550  # No Finding
    assert int(table.frame["boxes_complete"].sum()) == 426 and int((table.frame["boxes"] != "[]").sum()) == 160
    soft = nih.read_densenet_targets(real_data / "nih")
    assert len(soft.ids) == 510 and set(soft.ids) <= set(labels.ids)
    # the network knows the labels better than chance: rows are joined by name, not by order
    at = [labels.ids.index(name) for name in soft.ids]
    effusion = labels.values[at, NAMES.index("Effusion")] == 1
    scores = soft.logits[:, NAMES.index("Effusion")]
    assert np.mean(scores[effusion][:, None] > scores[~effusion][None, :]) > 0.8


@pytest.mark.real
def test_real_openi_in_full(real_data: Path) -> None:
    table = openi.read_openi(real_data / "openi")
    assert len(table) == 3951 and not table.skipped and not table.frame["image"].any()
    assert (table.frame["findings_text"] != "").sum() > 3300 and (table.frame["impression_text"] != "").sum() > 3800
    values = table.labels().values
    assert int((values.sum(axis=1) == 0).sum()) >= 1391  # "normal"
    assert not {"CXR7", "CXR1000", "CXR1001", "CXR1900"} & {name.removeprefix("openi-") for name in table.frame["study_id"]}
