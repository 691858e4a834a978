"""The log: what was cut, edited, added or reordered is found, and a crash in the middle of a line is no alarm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from storyxai.errors import ArchiveError, InputError
from storyxai.logbook import Entry, Logbook, head_path, verify_log

NOON, KEY = "2026-11-29T12:00:00Z", b"k" * 32


def written(path: Path, lines: int = 4, key: bytes = b"") -> Logbook:
    log = Logbook(path, key)
    for number in range(lines):
        log.append(Entry("told", by="somebody", study=f"study-{number}", model="m", outcome="ok"), time=NOON)
    return log


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("key", [b"", KEY])
def test_a_whole_log_holds_and_says_its_last_hash(tmp_path: Path, key: bytes) -> None:
    log = written(tmp_path / "log", key=key)
    found = verify_log(log.path, key=key)
    assert (found.lines, found.problems, found.remarks) == (5, (), ())
    written(log.path, 2, key)
    assert verify_log(log.path, key=key, expect=found.last).problems == ()
    names = {"time", "event", "by", "study", "model", "outcome", "number", "before", "mac", "key_id", "format"}
    assert all(set(json.loads(line)) <= names for line in lines_of(log.path))


def edit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"study-2", b"study-9"))


def edit_last(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"study-3", b"study-9"))


def reorder(path: Path) -> None:
    lines = lines_of(path)
    path.write_bytes(b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]))


def cut_middle(path: Path) -> None:
    lines = lines_of(path)
    path.write_bytes(b"".join([*lines[:2], *lines[3:]]))


def cut_end(path: Path) -> None:
    path.write_bytes(b"".join(lines_of(path)[:-2]))


def cut_last(path: Path) -> None:
    path.write_bytes(b"".join(lines_of(path)[:-1]))


def cut_start(path: Path) -> None:
    path.write_bytes(b"".join(lines_of(path)[1:]))


def double(path: Path) -> None:
    path.write_bytes(path.read_bytes() + lines_of(path)[-1])


def add_spaces(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"model":', b'"model": '))


def drop_head(path: Path) -> None:
    head_path(path).unlink()


@pytest.mark.parametrize("key", [b"", KEY])
@pytest.mark.parametrize("spoil", [edit, edit_last, reorder, cut_middle, cut_end, cut_last, cut_start, double, add_spaces,
                                   drop_head])
def test_what_was_done_to_a_log_is_found(tmp_path: Path, spoil: Callable[[Path], None], key: bytes) -> None:
    log = written(tmp_path / "log", key=key)
    spoil(log.path)
    assert verify_log(log.path, key=key).problems


@pytest.mark.parametrize("spoil", [edit_last, cut_end, cut_last, drop_head])
def test_a_line_is_not_added_where_it_would_hide_what_was_done(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    log = written(tmp_path / "log")
    spoil(log.path)
    before = log.path.read_bytes()
    with pytest.raises(ArchiveError):
        log.append(Entry("told"), time=NOON)
    assert log.path.read_bytes() == before


def test_a_log_that_is_written_anew_is_found_with_the_key_or_the_noted_hash(tmp_path: Path) -> None:
    kept = written(tmp_path / "log", key=KEY)
    noted = verify_log(kept.path, key=KEY).last
    forged = written(tmp_path / "forged", 3)
    assert verify_log(forged.path).problems == ()
    assert any("HMAC" in one for one in verify_log(forged.path, key=KEY).problems)
    assert any("rolled back or written anew" in one for one in verify_log(forged.path, expect=noted).problems)
    assert verify_log(kept.path, key=b"x" * 32).problems and verify_log(kept.path).problems
    with pytest.raises(ArchiveError, match="another key"):
        Logbook(kept.path).append(Entry("told"), time=NOON)


def test_a_crash_in_a_line_or_before_the_head_is_mended_by_the_next_line(tmp_path: Path) -> None:
    log = written(tmp_path / "log")
    head = head_path(log.path).read_bytes()
    log.append(Entry("released", by="Dr. A"), time=NOON)
    head_path(log.path).write_bytes(head)  # as if the power went between the line and its head
    found = verify_log(log.path)
    assert found.problems == () and "one line behind" in found.remarks[0]
    with log.path.open("ab") as stream:
        stream.write(b'{"before":"ab')
    log.append(Entry("told"), time=NOON)
    assert verify_log(log.path).problems == ()
    assert [json.loads(line)["event"] for line in lines_of(log.path)[-3:]] == ["released", "mended", "told"]


def test_entries_that_a_crash_kept_out_are_named(tmp_path: Path) -> None:
    log = Logbook(tmp_path / "log")
    one, two = Entry("refused", job="j", outcome="x"), Entry("told", job="j")
    log.append(one, time=NOON)
    assert log.lacking([one, one, two], "j") == [one, two]


def test_no_log_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        verify_log(tmp_path / "nowhere")
