"""Study tables as training examples: every reference that a row states arrives, in the model's frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from storyxai.data.assemble import examples_from_table
from storyxai.data.batches import UNKNOWN_PIXEL, Examples
from storyxai.data.masks import encode_runs
from storyxai.data.table import StudyRow, StudyTable, read_structures
from storyxai.errors import TableError

SIZE = 64


def box(height: int, width: int, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def examples(folder: Path, *, shares: bool = False, **cells: str) -> Examples:
    Picture.fromarray(np.full((128, 128), 90, dtype=np.uint8)).save(folder / "film.png")
    table = StudyTable.from_rows([StudyRow("s", "p", "film.png", "test", masks=cells)], root=folder)
    found, left_out = examples_from_table(table, size=SIZE, encode=lambda words: np.zeros(4, np.int64), shares=shares)
    assert found is not None and left_out == ()
    return found


def test_stated_left_and_right_lung_and_heart_arrive_though_the_lungs_touch(tmp_path: Path) -> None:
    # The patient's left lung is on the right of the picture; both touch, so that no splitter could tell them apart.
    left, right, heart = box(128, 128, 16, 64, 112, 120), box(128, 128, 16, 8, 112, 64), box(128, 128, 64, 48, 112, 96)
    found = examples(tmp_path, left_lung=encode_runs(left), right_lung=encode_runs(right), heart=encode_runs(heart))
    quarter = [mask.reshape(16, 8, 16, 8).mean(axis=(1, 3)) >= 0.5 for mask in (left, right, heart)]
    assert np.array_equal(found.masks[0], 100 * np.stack(quarter).astype(np.uint8))
    assert (found.union == UNKNOWN_PIXEL).all()


def test_one_stated_lung_says_nothing_about_the_other(tmp_path: Path) -> None:
    left = box(128, 128, 16, 64, 112, 120)
    found = examples(tmp_path, left_lung=encode_runs(left))
    assert found.masks[0, 0].sum() == 100 * 12 * 7
    assert (found.masks[0, 1:] == UNKNOWN_PIXEL).all() and (found.union == UNKNOWN_PIXEL).all()


def test_a_heart_beside_a_union_of_lungs(tmp_path: Path) -> None:
    lungs, heart = box(128, 128, 16, 8, 112, 120), box(128, 128, 64, 48, 112, 96)
    found = examples(tmp_path, lungs=encode_runs(lungs), heart=encode_runs(heart))
    assert (found.masks[0, :2] == UNKNOWN_PIXEL).all()
    assert found.union[0].sum() == 100 * 12 * 14 and found.masks[0, 2].sum() == 100 * 6 * 6


def test_a_mask_drawn_on_a_smaller_copy_is_the_same_mask(tmp_path: Path) -> None:
    large, small = box(128, 128, 16, 64, 112, 120), box(64, 64, 8, 32, 56, 60)
    one, other = (examples(tmp_path, heart=encode_runs(mask)) for mask in (large, small))
    assert np.array_equal(one.masks, other.masks) and one.masks[0, 2].sum() > 0


def test_a_mask_of_another_shape_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="s: has a heart mask of 100 x 60 pixels for an image of 128 x 128"):
        examples(tmp_path, heart=encode_runs(box(100, 60, 1, 1, 9, 9)))


def test_lungs_are_a_reference_only_where_both_are_stated(tmp_path: Path) -> None:
    left, right = encode_runs(box(8, 8, 1, 4, 7, 8)), encode_runs(box(8, 8, 1, 0, 7, 4))

    def stated(**cells: str) -> set[str]:
        table = StudyTable.from_rows([StudyRow("s", "p", "film.png", "test", masks=cells)], root=tmp_path)
        return set(read_structures(table, table.frame.to_dict("records")[0]))

    assert stated(left_lung=left) == {"left_lung"}
    assert stated(left_lung=left, right_lung=right) == {"left_lung", "right_lung", "lungs"}
    assert stated(heart=left) == {"heart"} and stated() == set()


def test_masks_may_be_shares_of_their_pixels(tmp_path: Path) -> None:
    heart = box(128, 128, 16, 20, 111, 96)
    found = examples(tmp_path, heart=encode_runs(heart), shares=True)
    covered = heart.reshape(64, 2, 64, 2).mean(axis=(1, 3)) >= 0.5  # the model's frame is half as large
    wanted = np.round(100 * covered.reshape(16, 4, 16, 4).mean(axis=(1, 3)))
    assert np.abs(found.masks[0, 2].astype(float) - wanted).max() <= 25 and 0 < found.masks[0, 2, 4, 2] < 100


def test_laterals_and_damaged_files_become_no_examples_and_are_named(tmp_path: Path) -> None:
    Picture.fromarray(np.full((128, 128), 90, dtype=np.uint8)).save(tmp_path / "film.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "film.png").read_bytes()[:60])
    (tmp_path / "bad.png").write_bytes(b"no mask")
    rows = [StudyRow("ap", "1", "film.png", "t", view="AP", masks={"heart": "bad.png"}),
            StudyRow("side", "2", "film.png", "t", view="LL"), StudyRow("cut", "3", "cut.png", "t"),
            StudyRow("gone", "4", "gone.png", "t")]
    table = StudyTable.from_rows(rows, root=tmp_path)

    def encode(words: object) -> np.ndarray:
        return np.zeros(4, np.int64)

    found, left_out = examples_from_table(table, size=SIZE, encode=encode)
    assert found is not None and found.ids == ("ap",) and (found.masks == UNKNOWN_PIXEL).all()
    assert {item.what: item.why.split(":")[0] for item in left_out} == {
        "ap": "is used without its masks", "side": "is a lateral view, which this model was not made for",
        "cut": "cannot be read", "gone": "cannot be read",
    }
    nothing, _ = examples_from_table(table.select(rows=table.frame["image_id"] == "cut"), size=SIZE, encode=encode)
    assert nothing is None
    every, _ = examples_from_table(table, size=SIZE, encode=encode, laterals=True)
    assert every is not None and every.ids == ("ap", "side")
