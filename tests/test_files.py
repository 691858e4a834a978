"""Files appear whole or not at all, and a failure leaves what was there before."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from storyxai.errors import OutputError
from storyxai.files import fresh_file, fresh_folder, replace_files, require_writable, write_whole


def test_a_file_is_written_with_the_folders_above_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "f.bin"
    write_whole(b"one", path)
    write_whole(b"two", path)
    assert path.read_bytes() == b"two"
    assert [one.name for one in path.parent.iterdir()] == ["f.bin"]


def test_a_new_file_has_the_rights_that_the_user_gives_new_files(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_whole(b"", tmp_path / "whole")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "f.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), fresh_file(path) as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    with pytest.raises(OutputError, match=r"cannot be written \(No space left") as caught, fresh_file(path) as part:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.what == str(path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_when_its_block_ends_well(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), fresh_folder(tmp_path / "new") as work:
        (work / "x").write_text("x")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    with fresh_folder(tmp_path / "new") as work:
        (work / "x").write_text("x")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new" / "x").read_text() == "x"


def test_files_replace_those_of_their_names_and_no_others(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    replace_files(folder, {"a": b"1", "b": b"1"})
    (folder / "mine.txt").write_text("mine")
    replace_files(folder, {"a": b"2"})
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "2", "b": "1", "mine.txt": "mine"}


def test_files_that_cannot_all_be_replaced_are_all_left(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    replace_files(folder, {"a": b"1"})
    (folder / "c").mkdir()
    (folder / "c" / "in it").touch()  # a folder of that name: the move fails after a and b have been moved
    with pytest.raises(OutputError) as caught:
        replace_files(folder, {"a": b"2", "b": b"2", "c": b"2"})
    assert caught.value.what == str(folder)
    assert (folder / "a").read_bytes() == b"1" and not (folder / "b").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["a", "c"]
    with pytest.raises(OutputError, match="is a file, not a folder"):
        replace_files(folder / "a", {"a": b"2"})


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for act in (lambda: require_writable(tmp_path / "file" / "x"), lambda: write_whole(b"", tmp_path / "file" / "x")):
        with pytest.raises(OutputError) as caught:
            act()
        assert caught.value.what == str(tmp_path / "file" / "x")
