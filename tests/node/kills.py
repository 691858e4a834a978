"""Studies sent by several senders to a node that is killed again and again: what came of them. For a test and a benchmark.

The node is a process of its own: one that tells with a fake teller (fake_node.py), where what is measured is the queue; or,
where pictures are given, the true one with the student, to which they are sent as films again and again.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node_films import dataset, filmed
from node_hospital import Place, place
from node_tools import associate
from orthanc import free_port
from pydicom import dcmread

from storyxai.logbook import verify_log

CR, EXPLICIT = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.1.2.1"
HERE = Path(__file__).resolve().parent


@dataclass
class Result:
    """What came of it: told and answered counted by study, problems of the log, what lies half-done, seconds, and memory."""

    told: Counter[str]
    answered: Counter[str]
    problems: tuple[str, ...]
    left: dict[str, int]
    seconds: float
    kills: int
    most_mib: float
    refusals: int = 0
    sent: int = 0
    refused: int = 0


@dataclass
class _Ground:
    home: Path
    port: int
    studies: int
    films: int
    pictures: Sequence[Path] = ()
    tell: str = ""
    pdf: bool = True
    stop: threading.Event = field(default_factory=threading.Event)
    killed: int = 0
    process: subprocess.Popen[bytes] | None = None
    refusals: int = 0
    sent: int = 0
    most_mib: float = 0.0
    measured: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


def run(
    home: Path, *, studies: int, senders: int, kills: int, films: int = 1, seconds: float = 0.0, seed: int = 0,
    pictures: Sequence[Path] = (), tell: str = "", pdf: bool = True, stop: threading.Event | None = None,
) -> Result:
    """Send `studies` of so many `films`, kill the node so often while it works, and wait until all is answered.

    `tell` are lines of the node's settings under [tell], `pdf` that under [answer]. Once `stop` is set, nothing more is sent
    and nobody is killed; what was seen until then comes back.
    """
    ground = _Ground(home, free_port(), studies, films, pictures, tell, pdf, stop or threading.Event())
    with place() as there:
        _write_settings(ground, there.port, seconds)
        began = time.monotonic()
        _start(ground)
        threads = [threading.Thread(target=_send_all, args=(ground, range(one, studies, senders))) for one in range(senders)]
        for thread in threads:
            thread.start()
        killer = threading.Thread(target=_kill_all, args=(ground, kills, random.Random(seed)))
        killer.start()
        for thread in (*threads, killer):
            thread.join()
        _wait_until_done(ground)
        assert not _ended_itself(ground), (home / "node.out").read_text(errors="replace")[-2000:]
        taken = time.monotonic() - began
        _stop(ground)
    log = home / "storyxai.log"
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []
    told = Counter(line["study"] for line in lines if line["event"] == "told")
    states = ("incoming", "queued", "telling", "told", "failed")
    left = {state: len(list((home / "queue" / state).iterdir())) for state in states}
    answered = _answered_jobs(home, there) if pictures else there.came
    problems = verify_log(log).problems if lines else ()  # one that was stopped before it told anything has none
    return Result(told, answered, problems, left, taken, ground.killed, ground.most_mib, ground.refusals,
                  ground.sent, sum(one["event"] == "refused" for one in lines))  # fmt: skip


def _answered_jobs(home: Path, there: Place) -> Counter[str]:
    """The jobs all of whose objects came, each as often as the object that came most."""
    found: Counter[str] = Counter()
    for job in (home / "queue" / "answered").iterdir():
        uids = [str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for path in job.glob("objects/*/*.dcm")]
        if uids and all(there.came[uid] for uid in uids):
            found[job.name] = max(there.came[uid] for uid in uids)
    return found


def _write_settings(ground: _Ground, place_port: int, seconds: float) -> None:
    (ground.home / "node.toml").write_text(f"""
[receive]
calling_titles = ["SENDER"]
port = {ground.port}
complete_after_seconds = 1.0
complete_on_release = {"true" if ground.films == 1 else "false"}
most_objects_per_minute = 1000000
[queue]
least_free_mib = 0
[answer]
to = "dicom"
retry_seconds = 0.5
pdf = {"true" if ground.pdf else "false"}
[answer.dicom]
title = "PLACE"
host = "127.0.0.1"
port = {place_port}
[tell]
{ground.tell}
""", encoding="utf-8")
    (ground.home / "seconds").write_text(str(seconds), encoding="utf-8")


def _start(ground: _Ground) -> None:
    program = ["-m", "storyxai", "serve-dicom"] if ground.pictures else [str(HERE / "fake_node.py")]
    command = [sys.executable, *program, str(ground.home / "node.toml")]
    with (ground.home / "node.out").open("ab") as out:
        ground.process = subprocess.Popen(command, stdout=out, stderr=out)


def _stop(ground: _Ground) -> None:
    assert ground.process is not None
    ground.process.send_signal(signal.SIGTERM)
    ground.process.wait(60)


def _kill_all(ground: _Ground, kills: int, chance: random.Random) -> None:
    """Kill and restart at moments spread over the work, by how much is answered."""
    for number in range(kills):
        goal = (number + 1) * ground.studies / (kills + 1) * chance.uniform(0.6, 1.0)
        while _ended(ground) < goal:
            _measure(ground)
            if _ended_itself(ground) or ground.stop.wait(0.02):
                return
        time.sleep(chance.uniform(0.0, 0.3))
        assert ground.process is not None
        ground.process.kill()
        ground.process.wait()
        ground.killed += 1
        _start(ground)


def _ended_itself(ground: _Ground) -> bool:
    """Whether the node is gone without having been killed: nothing more is sent then."""
    gone = ground.process is not None and ground.process.poll() is not None
    if gone:
        ground.stop.set()
    return gone


def _measure(ground: _Ground) -> None:
    """The node's memory and its tellers', at most, in MiB; twice a second, for looking costs time too."""
    now = time.monotonic()
    if ground.process is not None and now - ground.measured >= 0.5:
        ground.measured = now
        ground.most_mib = max(ground.most_mib, tree_mib(ground.process.pid))


def tree_mib(pid: int) -> float:
    """The memory of a process and all that it started, each page counted once (proportional set size)."""
    waiting, kib = [pid], 0
    while waiting:
        one = waiting.pop()
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
            told = Path(f"/proc/{one}/smaps_rollup").read_text()
            kib += next(int(line.split()[1]) for line in told.splitlines() if line.startswith("Pss:"))
        except (OSError, StopIteration):  # it ended meanwhile
            continue
    return kib / 1024


def tree_seconds(pid: int) -> float:
    """Seconds of the processor that a process and all that it started have used, those included that ended."""
    waiting, ticks = [pid], 0
    while waiting:
        one = waiting.pop()
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
            ticks += sum(map(int, Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[11:15]))
        except OSError:  # it ended meanwhile
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def _ended(ground: _Ground) -> int:
    folders = [ground.home / "queue" / state for state in ("answered", "refused")]
    return sum(len(list(folder.iterdir())) for folder in folders if folder.is_dir())


def _wait_until_done(ground: _Ground) -> None:
    busy = [ground.home / "queue" / state for state in ("incoming", "queued", "telling", "told")]
    ends = time.monotonic() + 600 + 10 * ground.studies * bool(ground.pictures)
    while not _ended_itself(ground) and not ground.stop.is_set() and any(any(folder.iterdir()) for folder in busy):
        _measure(ground)
        assert time.monotonic() < ends, {folder.name: len(list(folder.iterdir())) for folder in busy}
        time.sleep(0.05)


def _send_all(ground: _Ground, numbers: Sequence[int]) -> None:
    for number in numbers:
        for film in range(1, ground.films + 1):
            one = _film(ground, number, film)
            while not _sent(ground.port, one):
                with ground.lock:
                    ground.refusals += 1
                if ground.stop.wait(0.1):
                    return
        with ground.lock:
            ground.sent += 1
        if ground.stop.is_set():
            return


def _film(ground: _Ground, number: int, film: int) -> Any:
    if not ground.pictures:
        return dataset(number + 1, film)
    picture = ground.pictures[number % len(ground.pictures)]
    return dcmread(io.BytesIO(filmed(picture, number + 1, SOPInstanceUID=f"1.2.3.{number + 1}.{film}")))


def _sent(port: int, one: Any) -> bool:
    """Whether the node says that it has the object."""
    association = associate(port, [(CR, EXPLICIT)])
    if not association.is_established:
        return False
    try:
        status = association.send_c_store(one)
        if association.is_established:
            association.release()
    except (RuntimeError, ValueError):
        return False
    return bool(status) and status.get("Status") == 0x0000
