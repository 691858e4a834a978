"""The log: what was done with which evidence and model, one line each, in a chain that a cut, an edit or a reorder breaks.

A line is JSON and holds the SHA-256 of the line before it. Beside the log lies its head: how many lines there are and the hash
of the last one, so that lines cut off at the end are missed too. With a key each line and the head bear an HMAC-SHA256, and
who lacks the key cannot write the whole log anew. No line holds anything of a patient: an entry has no field for it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from storyxai.errors import ArchiveError, InputError
from storyxai.files import append_durably, cut_to, locked, write_whole
from storyxai.provenance import canonical_json, sha256_bytes

FORMAT: Final = "storyxai-log/1"
START: Final = "0" * 64
"""What the first line of a chain follows."""
LONGEST_LINE = 1 << 16
_KEY_ID = b"storyxai log key id"
_MEND = "keep this log as it is, look for a copy of it, and begin another file"


@dataclass(frozen=True)
class Entry:
    """What happened: one event and what it was about; "" and 0 are left out of the line.

    `event` is told, not_told, verified, released, exported, answered or refused; `by` a user's name or an AE title; `study` the
    study's id, which follows from the image's hash; `model` and `weights_sha256` say which model; `outcome` is "ok" or a reason
    in words without a patient's data; `to` a form or a place; `count` how many pages, objects or problems; `job` what the node
    calls the study.
    """

    event: str
    by: str = ""
    study: str = ""
    evidence_sha256: str = ""
    model: str = ""
    weights_sha256: str = ""
    software: str = ""
    outcome: str = ""
    to: str = ""
    count: int = 0
    job: str = ""


@dataclass(frozen=True)
class LogVerified:
    """What a look at a log found: its lines, the hash of the last one, problems and remarks in words."""

    path: Path
    lines: int
    last: str
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def link_of(line: Mapping[str, object]) -> str:
    """What the next line of a chain holds of this one."""
    return sha256_bytes(canonical_json(line))


def broken_links(lines: Sequence[Mapping[str, object]]) -> list[int]:
    """The numbers, from 1, of the lines that do not follow from the line before them."""
    before, broken = START, []
    for number, line in enumerate(lines, start=1):
        if line["before"] != before:
            broken.append(number)
        before = link_of(line)
    return broken


def head_path(path: Path) -> Path:
    """Where the head of the log at `path` lies."""
    return path.with_name(path.name + ".head")


@dataclass(frozen=True)
class Logbook:
    """The log at `path`, with its key where it has one."""

    path: Path
    key: bytes = b""

    def append(self, entry: Entry, *, time: str) -> None:
        """Add one line and wait until the disk holds it. `time` is UTC in ISO 8601.

        What a crash left of a line at the end was never answered for: it is cut off, and the next line says so.
        Raises: ArchiveError for a log that does not hold together at its end, or that another key keeps; OutputError.
        """
        with locked(self._lock):
            number, before = self._end(time)
            self._add(number, before, {"time": time, **{name: value for name, value in asdict(entry).items() if value}})

    def check(self) -> None:
        """Raise ArchiveError where no line may be added, OutputError where none can be: to be asked before work begins."""
        with locked(self._lock):
            if self.path.is_file() and self.path.stat().st_size:
                self._require_ours(_last_line(self.path))

    @property
    def _lock(self) -> Path:
        return self.path.with_name(self.path.name + ".lock")

    def lacking(self, entries: Sequence[Entry], job: str) -> list[Entry]:
        """Those of a job's entries that no line tells of yet: what a crash kept from being written."""
        there: list[Entry] = []
        if self.path.is_file():
            found = (line for line, _ in _lines(self.path) if line is not None and line.get("job") == job)
            there = [_entry_of(line) for line in found]
        lacking = []
        for entry in entries:
            if entry in there:
                there.remove(entry)
            else:
                lacking.append(entry)
        return lacking

    def _end(self, time: str) -> tuple[int, str]:
        """The number and the hash of the last line; a new log is opened with a line that names format and key."""
        if not self.path.is_file() or not self.path.stat().st_size:
            if head_path(self.path).is_file():
                raise ArchiveError(str(self.path), "is gone or empty, but its head is there", mend=_MEND)
            return self._add(0, START, {"time": time, "event": "opened", "format": FORMAT, "key_id": _key_id(self.key)})
        torn = _torn_bytes(self.path)
        if torn:
            cut_to(self.path.stat().st_size - torn, self.path)
        last = _last_line(self.path)
        self._require_ours(last)
        number, link = int(str(last["number"])), link_of(last)
        if torn:
            return self._add(number, link, {"time": time, "event": "mended", "count": torn})
        return number, link

    def _require_ours(self, last: Mapping[str, object]) -> None:
        """Raise ArchiveError where a line added now would hide what was done to the log before."""
        sound = hmac.compare_digest(str(last.get("mac")), _mac(last, self.key)) if self.key else "mac" not in last
        if not sound or last.get("key_id", _key_id(self.key)) != _key_id(self.key):
            raise ArchiveError(str(self.path), "is kept with another key, or without", mend="name the key that it began with")
        try:
            head = json.loads(head_path(self.path).read_bytes())
        except (OSError, ValueError, RecursionError):
            head = {}
        number = int(str(last["number"]))
        # A loss of power between the two writes leaves the head one line behind.
        if (head.get("lines"), head.get("last")) not in {(number, link_of(last)), (number - 1, last["before"])} and number > 1:
            raise ArchiveError(str(self.path), "does not end as its head says: lines were cut off or altered", mend=_MEND)

    def _add(self, number: int, before: str, told: Mapping[str, object]) -> tuple[int, str]:
        line: dict[str, object] = {**told, "number": number + 1, "before": before}
        if self.key:
            line["mac"] = _mac(line, self.key)
        append_durably(_bytes_of(line), self.path)
        head: dict[str, object] = {"format": FORMAT, "lines": number + 1, "last": link_of(line)}
        if self.key:
            head["mac"] = _mac(head, self.key)
        write_whole(_bytes_of(head), head_path(self.path))
        return number + 1, link_of(line)


def verify_log(path: Path, *, key: bytes = b"", expect: str = "") -> LogVerified:
    """What is wrong with the log, if anything: every line's form, number, link and HMAC, and the head.

    `expect` is the hash of the last line as it was noted at some time elsewhere: a log that does not hold it was written anew
    or rolled back. Raises: InputError where there is no log.
    """
    if not path.is_file():
        raise InputError(str(path), "is not there", mend="name the log that --log or STORYXAI_LOG named")
    problems: list[str] = []
    before, number, hashes = START, 0, set()
    for number, (line, problem) in enumerate(_lines(path), start=1):
        if line is None:
            problems.append(f"line {number} {problem}")
            before = ""
            continue
        problems += [f"line {number} {why}" for why in _line_problems(line, number, before, key)]
        before = link_of(line)
        hashes.add(before) if expect else None
    head_problems, remarks = _head_problems(path, number, before, key)
    problems += head_problems
    if expect and expect not in hashes:
        problems.append("no line has the hash that was expected: the log was rolled back or written anew")
    return LogVerified(path, number, before, tuple(problems), tuple(remarks))


def _entry_of(line: Mapping[str, object]) -> Entry:
    told: Any = {one.name: line[one.name] for one in fields(Entry) if one.name in line}
    return Entry(**told)


def _line_problems(line: Mapping[str, object], number: int, before: str, key: bytes) -> Iterator[str]:
    if line.get("number") != number:
        yield f"says that it is number {line.get('number')}: lines were cut, added or put in another order"
    if before and line.get("before") != before:
        yield "does not follow from the line before it: one of the two was altered"
    if number == 1 and (line.get("event"), line.get("format")) != ("opened", FORMAT):
        yield f"does not open a log of format {FORMAT}"
    if number == 1 and line.get("key_id") != _key_id(key):
        yield "names another key than the one given" if key else "names a key: give it with --log-key"
    if key and not hmac.compare_digest(str(line.get("mac")), _mac(line, key)):
        yield "has an HMAC that does not hold: it was not written with this key"


def _head_problems(path: Path, lines: int, last: str, key: bytes) -> tuple[list[str], list[str]]:
    head_file = head_path(path)
    try:
        head = json.loads(head_file.read_bytes())
        told, digest = int(head["lines"]), str(head["last"])
    except FileNotFoundError:
        return [f"{head_file.name} is missing: nobody can say whether lines were cut off at the end"], []
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return [f"{head_file.name} cannot be read"], []
    if key and not hmac.compare_digest(str(head.get("mac")), _mac(head, key)):
        return [f"{head_file.name} has an HMAC that does not hold"], []
    if (told, digest) == (lines, last):
        return [], []
    if told == lines - 1 and digest == _link_at(path, told):
        return [], ["the head is one line behind, as after a loss of power; the next line mends it"]
    if told > lines:
        return [f"{told - lines} of {told} lines were cut off at the end"], []
    return [f"{head_file.name} tells of {told} lines, there are {lines}: the end was altered"], []


def _link_at(path: Path, number: int) -> str:
    return next((link_of(line) for at, (line, _) in enumerate(_lines(path), start=1) if at == number and line), "")


def _lines(path: Path) -> Iterator[tuple[dict[str, object] | None, str]]:
    """Each line, or None and what is wrong with it."""
    with path.open("rb") as stream:
        while data := stream.readline(LONGEST_LINE):
            try:
                line = json.loads(data)
            except (ValueError, RecursionError):
                line = None
            if not data.endswith(b"\n"):
                yield None, "is not whole"
            elif not isinstance(line, dict):
                yield None, "is not JSON of ours"
            elif _bytes_of(line) != data:
                yield None, "was written by something else than storyxai"
            else:
                yield line, ""


def _tail(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 2 * LONGEST_LINE))
        return stream.read()


def _torn_bytes(path: Path) -> int:
    """How many bytes at the end are no whole line."""
    tail = _tail(path)
    return len(tail) - (tail.rfind(b"\n") + 1)


def _last_line(path: Path) -> dict[str, object]:
    tail = _tail(path)
    lines = tail[: tail.rfind(b"\n") + 1].splitlines()
    try:
        line = json.loads(lines[-1])
        if int(line["number"]) > 0 and isinstance(line["before"], str):
            return dict(line)
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    raise ArchiveError(str(path), "does not end in a line of a log", mend=_MEND)


def _bytes_of(line: Mapping[str, object]) -> bytes:
    return json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _mac(body: Mapping[str, object], key: bytes) -> str:
    bare = {name: value for name, value in body.items() if name != "mac"}
    return hmac.new(key, canonical_json(bare), hashlib.sha256).hexdigest()


def _key_id(key: bytes) -> str:
    """Which key it is, without saying anything of it; "" for none."""
    return hmac.new(key, _KEY_ID, hashlib.sha256).hexdigest()[:16] if key else ""
