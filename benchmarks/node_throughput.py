"""How fast the node is beside `storyxai tell`: python node_throughput.py [FILMS] [--images FOLDER] [--workers 2] [--json FILE]

The same films (pictures of a folder as DICOM, else phantoms) are told by `storyxai tell` on a folder, then sent by C-STORE to
`storyxai serve-dicom`, which tells them with the same student and sends its answers by C-STORE to a place of its own. Both are
timed from the start of their command: the node until the place has its last answer. Then one study is exported in every form.
With `--answer nowhere` the node makes its objects and sends them to nobody; with `--no-pdf` it prints no page among them.
Sender, place and node share the machine; the place is dcmtk's storescp, which takes every object and keeps none, where it is
installed, else one of pynetdicom. The processor time of each side, with its children, is told too, and of which parts of
the node; `beside_processor` is that of the sender, the place and this program's looking, which is not the node's. Memory is
the proportional set size of the node and all that it started, looked at once a second: a page that several share counts once.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "node"))

import msgspec
from kills import tree_mib, tree_seconds
from node_films import filmed
from node_hospital import ANSWERS, place, send_files
from node_tools import associate
from orthanc import free_port

from storyxai.imaging.read import find_images
from storyxai.programs.export import export_study

STORESCP = shutil.which("storescp")
MODULE = [sys.executable, "-m", "storyxai"]


class Measured(msgspec.Struct):
    """What was measured; seconds are on the clock, those of the processor are of the side's own processes."""

    films: int
    workers: int
    answer: str
    pdf: bool
    tell_seconds: float
    node_seconds: float
    tell_processor: float
    node_processor: float
    node_parts: dict[str, float]
    beside_processor: float
    place: str
    share: float
    answers: int
    node_mib: float
    export_all_seconds: float
    load_before: float


def main() -> int:
    """Measure and print; 1 where the node is below 85 % of `tell`, or a study was not answered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("films", type=int, nargs="?", default=40)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--answer", choices=("dicom", "nowhere"), default="dicom", help="where answers go")
    parser.add_argument("--no-pdf", dest="pdf", action="store_false", help="print no page among the answers")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as home:
        films = make_films(Path(home) / "films", given.films, given.images)
        tell_seconds, tell_processor = timed_tell(Path(home))
        node_seconds, parts, answers, memory = timed_node(Path(home), films, given)
        beside = parts.pop("beside")
        export_seconds = timed_export(Path(home))
    found = Measured(
        len(films), given.workers, given.answer, given.pdf, round(tell_seconds, 1), round(node_seconds, 1),
        round(tell_processor, 1), round(sum(parts.values()), 1), parts, beside,
        "storescp" if STORESCP else "pynetdicom", round(tell_seconds / node_seconds, 3), answers, round(memory),
        round(export_seconds, 2), round(load, 1),
    )
    text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
    print(text)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(text + "\n", encoding="utf-8")
    return int(found.share < 0.85)


def make_films(out: Path, count: int, images: Path | None) -> list[Path]:
    """So many DICOM films, each of a study of its own."""
    out.mkdir()
    if images is None:
        images = out.parent / "phantoms"
        subprocess.run([*MODULE, "data", "phantom", "--count", str(count), "--seed", "3", "--out", images], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        images /= "images"
    made = []
    for number, path in enumerate(find_images([images])[:count], start=1):
        made.append(out / f"film-{number:04d}.dcm")
        made[-1].write_bytes(filmed(path, number))
    return made


def timed_tell(home: Path) -> tuple[float, float]:
    """Seconds, and seconds of the processor."""
    before, began = _children(), time.monotonic()
    command = [*MODULE, "tell", str(home / "films"), "--out", str(home / "told")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began, _children() - before


def timed_node(home: Path, films: Sequence[Path], given: argparse.Namespace) -> tuple[float, dict[str, float], int, float]:
    """Seconds, seconds of the processor by part, objects that were answered, and the node's memory at most, in MiB."""
    port, memory, own = free_port(), 0.0, time.process_time()
    answered = home / "queue" / "answered"
    with answers_place() as (place_port, place_pid):
        (home / "node.toml").write_text(
            f'[receive]\ncalling_titles = ["SENDER"]\nport = {port}\ncomplete_on_release = true\n'
            "most_objects_per_minute = 100000\n[queue]\nleast_free_mib = 0\n"
            f'[tell]\nworkers = {given.workers}\n[answer]\nto = "{given.answer}"\npdf = {str(given.pdf).lower()}\n'
            f'[answer.dicom]\ntitle = "PLACE"\nhost = "127.0.0.1"\nport = {place_port}\n', encoding="utf-8",
        )  # fmt: skip
        began = time.time()
        with (home / "node.out").open("wb") as out:
            node = subprocess.Popen([*MODULE, "serve-dicom", str(home / "node.toml")], stderr=out)
        sender = threading.Thread(target=send_files, args=(port, films))
        sender.start()
        while not answered.is_dir() or len(list(answered.iterdir())) < len(films):
            memory = max(memory, tree_mib(node.pid))
            if node.poll() is not None:
                raise SystemExit((home / "node.out").read_text(errors="replace"))
            time.sleep(1.0)
        spent = parts_seconds(node.pid)
        spent["beside"] = round(time.process_time() - own + (tree_seconds(place_pid) if place_pid else 0.0), 1)
        node.send_signal(signal.SIGTERM)
        node.wait(60)
        sender.join()
    ended = answered.stat().st_mtime  # its last study was moved there
    return ended - began, spent, len(list(answered.glob("*/objects/*/*.dcm"))) * (given.answer == "dicom"), memory


@contextmanager
def answers_place() -> Iterator[tuple[int, int]]:
    """The port of a place that takes answers, and its process where it has one of its own, else 0."""
    if STORESCP is None:
        with place() as there:
            yield there.port, 0
        return
    port = free_port()
    taking = subprocess.Popen([STORESCP, "--ignore", "--aetitle", "PLACE", str(port)], stdout=subprocess.DEVNULL)
    try:
        while not (trial := associate(port, [(ANSWERS[0], "1.2.840.10008.1.2.1")])).is_established:
            time.sleep(0.1)
        trial.release()
        yield port, taking.pid
    finally:
        taking.terminate()
        taking.wait(60)


def parts_seconds(pid: int) -> dict[str, float]:
    """Seconds of the processor of the node's own process, of its browser and of those who tell (with what forks them)."""
    children = [int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()]
    browsers = [one for one in children if b"python" not in Path(f"/proc/{one}/cmdline").read_bytes().partition(b"\0")[0]]
    spent = {"browser": sum(map(tree_seconds, browsers)), "tellers": sum(map(tree_seconds, {*children} - {*browsers}))}
    spent["node"] = tree_seconds(pid) - sum(spent.values())
    return {name: round(seconds, 1) for name, seconds in spent.items()}


def timed_export(home: Path) -> float:
    """Seconds that the export of one told study in every form takes: the median of five, after one that is not counted."""
    films = {path.name: path for path in (home / "films").iterdir()}
    study = next(path.parent for path in sorted((home / "told").glob("*/evidence.json")))
    source = next(path for path in films.values() if _is_of(study, path))
    taken = []
    for number in range(6):
        began = time.monotonic()
        export_study(study, home / f"exported-{number}", to="all", source=source)
        taken.append(time.monotonic() - began)
    return statistics.median(taken[1:])


def _is_of(study: Path, film: Path) -> bool:
    return film.name in (study / "evidence.json").read_text(encoding="utf-8")


def _children() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


if __name__ == "__main__":
    sys.exit(main())
