"""Splits: whole patients, the same every time, rare findings on both sides, near-duplicates on one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from storyxai.data.splits import check_no_leak, near_duplicates, perceptual_hash, split_by_patient
from storyxai.data.table import StudyRow, StudyTable
from storyxai.errors import TableError


def cohort(patients: int, *, each: int = 2, rare_every: int = 10, official: dict[int, str] | None = None) -> StudyTable:
    rows = [
        StudyRow(f"s{p}-{i}", f"p{p}", f"{p}-{i}.png", "x", labels={"Hernia": float(p % rare_every == 0 and i == 0)},
                 official_split=(official or {}).get(p, ""))
        for p in range(patients) for i in range(each)
    ]
    return StudyTable.from_rows(rows, root=Path())


def parts(table: StudyTable) -> dict[str, str]:
    return dict(zip(table.frame["patient_id"], table.frame["split"], strict=True))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(0, 5), st.sampled_from([(0.7, 0.1, 0.2), (0.5, 0.25, 0.25), (1.0, 0.0, 0.0)]))
def test_every_patient_stands_in_one_part_and_shares_are_kept(
    patients: int, seed: int, fractions: tuple[float, float, float]
) -> None:
    table = split_by_patient(cohort(patients), fractions=fractions, seed=seed)
    check_no_leak(table)
    assert set(table.frame["split"]) <= {"train", "val", "test"}
    share = sum(part == "train" for part in parts(table).values()) / patients
    assert abs(share - fractions[0]) <= 2 / patients + 1e-9  # two strata, each rounded once


def test_the_same_seed_gives_the_same_split_in_any_row_order_and_another_seed_another() -> None:
    table = cohort(80)
    shuffled = StudyTable(table.frame.sample(frac=1, random_state=3).reset_index(drop=True), Path())
    assert parts(split_by_patient(table)) == parts(split_by_patient(shuffled))
    assert parts(split_by_patient(table)) != parts(split_by_patient(table, seed=1))


def test_a_rare_finding_reaches_the_test_part() -> None:
    for seed in range(10):
        table = split_by_patient(cohort(40, rare_every=20), seed=seed)  # two patients have it
        with_it = table.frame[table.frame["label_Hernia"] == 1]
        assert set(with_it["split"]) == {"train", "test"}


def test_patients_who_join_move_few_others() -> None:
    before, after = parts(split_by_patient(cohort(200))), parts(split_by_patient(cohort(210)))
    moved = sum(before[patient] != after[patient] for patient in before)
    assert moved <= 10  # a fresh shuffle would move about 90


def test_official_lists_are_kept_and_val_is_cut_from_their_train_part() -> None:
    official = {p: "test" if p < 10 else "train" for p in range(50)}
    found = parts(split_by_patient(cohort(60, official=official)))
    assert all(found[f"p{p}"] == "test" for p in range(10))
    assert {found[f"p{p}"] for p in range(10, 50)} == {"train", "val"}
    with_val = parts(split_by_patient(cohort(50, official={**official, 49: "val"})))
    assert [p for p in range(50) if with_val[f"p{p}"] == "val"] == [49]
    torn = cohort(3, official={0: "train"})
    torn = torn.with_column("official_split", ["train", "test", *torn.frame["official_split"][2:]])
    with pytest.raises(TableError, match="patient 'p0': is in the publisher's train and test lists"):
        split_by_patient(torn)


def test_fractions_must_add_up() -> None:
    with pytest.raises(TableError, match="add up"):
        split_by_patient(cohort(3), fractions=(0.7, 0.1, 0.1))


def test_a_leak_is_named() -> None:
    table = cohort(2).with_column("split", ["train", "test", "train", "train"])
    with pytest.raises(TableError, match="patient p0: stands in test and train"):
        check_no_leak(table)
    files = cohort(2, each=1).with_column("image", ["same.png", "same.png"]).with_column("split", ["train", "test"])
    with pytest.raises(TableError, match=r"file same\.png"):
        check_no_leak(files)


def films(folder: Path) -> StudyTable:
    """Six smooth random pictures, and of the first: a JPEG copy, a brighter one, and a smaller one."""
    rng = np.random.default_rng(5)
    rows = []

    def keep(name: str, grey: np.ndarray, *, suffix: str = "png") -> None:
        Picture.fromarray(grey.round().clip(0, 255).astype(np.uint8)).save(folder / f"{name}.{suffix}")
        rows.append(StudyRow(name, f"p-{name}", f"{name}.{suffix}", "x"))

    for i in range(6):
        coarse = Picture.fromarray(rng.uniform(30, 200, (12, 12)).astype(np.float32))
        grey = np.asarray(coarse.resize((200, 220), Picture.Resampling.BICUBIC))
        keep(f"film{i}", grey)
        if i == 0:
            keep("copy", grey, suffix="jpg")
            keep("bright", grey * 1.1 + 10)
            keep("small", np.asarray(Picture.fromarray(grey).resize((100, 110), Picture.Resampling.BOX)))
    return StudyTable.from_rows(rows, root=folder)


def test_near_duplicates_are_found_and_kept_in_one_part(tmp_path: Path) -> None:
    table = films(tmp_path)
    pairs = near_duplicates(table)
    same = {"film0", "copy", "bright", "small"}
    assert {frozenset((pair.first, pair.second)) for pair in pairs} == {
        frozenset((a, b)) for a in same for b in same if a < b
    }
    for seed in range(6):
        table = split_by_patient(films(tmp_path), seed=seed, look_alikes=pairs)
        check_no_leak(table, look_alikes=pairs)
        assert table.frame.set_index("image_id").loc[sorted(same), "split"].nunique() == 1
    torn = table.with_column("split", ["train" if name == "copy" else "test" for name in table.frame["image_id"]])
    with pytest.raises(TableError, match="nearly the same picture"):
        check_no_leak(torn, look_alikes=pairs)


def test_the_hash_sees_order_of_brightness_only() -> None:
    grey = np.random.default_rng(1).uniform(0, 1, (64, 48)).astype(np.float32)
    assert np.array_equal(perceptual_hash(grey), perceptual_hash(grey * 3 + 1))
    assert (perceptual_hash(grey) != perceptual_hash(grey[:, ::-1])).sum() > 60
    ramp = np.tile(np.linspace(0, 1, 51, dtype=np.float32), (32, 1))
    assert perceptual_hash(ramp).all() and not perceptual_hash(-ramp).any()


def test_unreadable_files_do_not_stop_the_comparison(tmp_path: Path) -> None:
    table = films(tmp_path)
    (tmp_path / "film5.png").write_bytes(b"broken")
    assert len(near_duplicates(table)) == 6
