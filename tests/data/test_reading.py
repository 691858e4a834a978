"""Tables are read cell by cell as they stand, or refused by name: no row is shifted, nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from storyxai.data.reading import read_csv
from storyxai.errors import TableError


def written(folder: Path, text: str) -> Path:
    path = folder / "t.csv"
    path.write_bytes(text.encode("utf-8"))
    return path


@pytest.mark.parametrize("text", ["a,b\n1,2,3\n", "a,b\n1,2,\n3,4,\n", "a,b\n1,2,3,4\n"])
def test_lines_longer_than_the_head_are_not_read_one_cell_along(tmp_path: Path, text: str) -> None:
    """The library takes the first cells for row names then, so that every cell stands under its neighbour's head."""
    with pytest.raises(TableError, match=r"t\.csv: has lines with more cells than its head") as refused:
        read_csv(written(tmp_path, text))
    assert "end of the head" in refused.value.mend


def test_a_head_of_empty_names_is_read_and_its_short_lines_too(tmp_path: Path) -> None:
    frame = read_csv(written(tmp_path, "a,b,,\n1,NA\n2,,,\n"), columns=("a", "b"))
    assert frame["a"].tolist() == ["1", "2"] and frame["b"].tolist() == ["NA", ""]


def test_a_name_that_heads_two_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"t\.csv: has two columns called 'Mass'") as refused:
        read_csv(written(tmp_path, "a,Mass,b,Mass\n1,0,1,1\n"))
    assert "keep one" in refused.value.mend


@pytest.mark.parametrize(("data", "mend"), [
    (b"image/patient_id\na.png/1\n", "commas"), (b"image patient_id\na.png 1\n", "commas"),
    (b"image,patient_id\ncaf\xe9.png,1\n", "UTF-8"), (b"", "head"),
])
def test_the_mend_fits_the_fault(tmp_path: Path, data: bytes, mend: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(TableError) as refused:
        read_csv(path, columns=("image", "patient_id"))
    assert mend in refused.value.mend and str(refused.value).startswith("t.csv: ")
