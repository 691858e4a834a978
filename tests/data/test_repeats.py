"""References of films that stand twice: closed forms of their agreement, and what counts as drawn once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from tests.data.test_checking import SIDE, chest

from storyxai.data.checking import check_table
from storyxai.data.masks import encode_runs
from storyxai.data.repeats import Repeat, compare_repeats, say_repeats
from storyxai.data.table import StudyRow, StudyTable
from storyxai.pages.data_check import render_data_check


def columns(start: int, stop: int, *, side: int = SIDE) -> str:
    """A mask of whole columns, as runs."""
    mask = np.zeros((side, side), dtype=np.bool_)
    mask[:, start:stop] = True
    return encode_runs(mask)


def pair(folder: Path, first: str, second: str, **labels: tuple[float, float]) -> StudyTable:
    Picture.fromarray(chest(1)).save(folder / "a.png")
    Picture.fromarray((chest(1) * 0.9).astype(np.uint8)).save(folder / "b.png")
    rows = [
        StudyRow(name, f"p-{name}", f"{name}.png", "x", masks={"lungs": mask}, labels={k: v[i] for k, v in labels.items()})
        for i, (name, mask) in enumerate((("a", first), ("b", second)))
    ]
    return StudyTable.from_rows(rows, root=folder)


def test_overlap_of_two_outlines_is_their_dice(tmp_path: Path) -> None:
    table = pair(tmp_path, columns(0, 40), columns(10, 50), Mass=(1.0, 0.0), Nodule=(0.0, 0.0), Edema=(1.0, np.nan))
    (repeat,) = compare_repeats(table, [("a", "b")])
    assert repeat == Repeat("a", "b", 2 * 30 / 80, ("Mass", "Nodule"), ("Mass",), "lungs")
    assert say_repeats([repeat]) == (
        "lungs outlined twice on 1 image agree at Dice 0.750 (0.750 to 0.750): expect no more of a model",
        "findings stated twice on the same image: 2, of which 1 contradict each other",
    )


def test_outlines_of_two_sizes_are_compared_in_the_larger_frame(tmp_path: Path) -> None:
    table = pair(tmp_path, columns(0, 40), columns(5, 25, side=SIDE // 2))
    (repeat,) = compare_repeats(table, [("a", "b")])
    assert repeat.dice == pytest.approx(2 * 30 / 80)


def disc(side: int) -> str:
    """A round outline, as runs."""
    rows, places = np.mgrid[0:side, 0:side] / side - 0.5
    return encode_runs(rows**2 + places**2 < 0.09)


@pytest.mark.parametrize(
    ("first", "second"),
    [(columns(0, 40), columns(0, 40)), (columns(0, 40), ""), ("gone.png", columns(0, 9)), (disc(SIDE), disc(240))],
)
def test_an_outline_drawn_once_or_missing_says_nothing(tmp_path: Path, first: str, second: str) -> None:
    (repeat,) = compare_repeats(pair(tmp_path, first, second), [("a", "b")])
    assert repeat.dice is None and say_repeats([repeat]) == ()


def test_the_data_check_tells_how_far_references_agree(tmp_path: Path) -> None:
    table = pair(tmp_path, columns(0, 40), columns(10, 50))
    report = check_table(table, tmp_path / "out")
    assert any("agree at Dice 0.750" in line for line in report.lines)
    assert b"Lungs outlined twice on 1 image agree at Dice 0.750" in render_data_check(table, report)
