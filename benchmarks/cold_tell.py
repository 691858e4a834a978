"""What a cold `storyxai tell` of one film costs beside what cannot be saved: the interpreter, numpy, onnxruntime, the model.

    python benchmarks/cold_tell.py FILM [--rounds N] [--samples N|auto]

The passes that a telling asks of the student are noted once; a bare process then loads numpy, onnxruntime and the same graphs
and runs the same passes. Time is the processor time of all threads, the median over rounds in which both take turns. Both find
their modules compiled, as after a first run: where Python may not write bytecode (PYTHONDONTWRITEBYTECODE), compiling costs
every run more than all the rest. Where the telling's own time goes is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from storyxai.models import runtime
from storyxai.programs.tell import TellOptions, tell

BARE = """
import json, sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
sessions = {}
for path, names, feed in json.loads(open(sys.argv[1]).read()):
    if path not in sessions:
        sessions[path] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    if names is not False:
        given = {name: numpy.full(shape, 0.5 if kind == "float32" else 1, kind) for name, (shape, kind) in feed.items()}
        sessions[path].run(names, given)
"""


SPLIT = """
import json, pathlib, sys, time
from storyxai import cli
from storyxai.programs import tell as program
taken = {"interpreter and imports": time.process_time()}
parts = {
    "reading": "read_image", "evidence": "gather", "telling and its proof": "tell_story", "pages": "render_html",
    "archive": "archive_files", "opening the model": "_opened",
}
def timed(name, work):
    def call(*given, **named):
        begun = time.process_time()
        try:
            return work(*given, **named)
        finally:
            taken[name] = taken.get(name, 0) + time.process_time() - begun
    return call
for name, work in parts.items():
    setattr(program, work, timed(name, getattr(program, work)))
film, out, samples = sys.argv[1:]
options = program.TellOptions(samples=None if samples == "auto" else int(samples))
program.tell([pathlib.Path(film)], pathlib.Path(out), options)
taken["all else"] = time.process_time() - sum(taken.values())
print(json.dumps(taken))
"""


class _Noting:
    """A session that notes each pass: which graph, which outputs, the shapes that went in."""

    def __init__(self, path: Path, passes: list[tuple[str, Any, dict[str, tuple[list[int], str]]]]) -> None:
        self.path, self.passes, self.session = path, passes, runtime_open(path)

    def run(self, names: list[str] | None, feed: dict[str, np.ndarray]) -> Any:
        self.passes.append((str(self.path), names, {key: (list(one.shape), str(one.dtype)) for key, one in feed.items()}))
        return self.session.run(names, feed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


runtime_open = runtime.open_graph


def passes_of(film: Path, out: Path, samples: int | None) -> list[tuple[str, Any, dict[str, tuple[list[int], str]]]]:
    """The passes that a telling of `film` asks of the shipped student, in order."""
    passes: list[tuple[str, Any, dict[str, tuple[list[int], str]]]] = []
    runtime.open_graph = lambda graph, **_: _Noting(Path(graph), passes)  # type: ignore[arg-type, assignment, return-value]
    tell([film], out, TellOptions(samples=samples))
    runtime.open_graph = runtime_open
    return passes


def run(place: Path, *words: object) -> str:
    """What a Python process says that keeps its bytecode in `place`."""
    known = {**os.environ, "PYTHONPYCACHEPREFIX": str(place / "bytecode")}
    known.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.run([sys.executable, *map(str, words)], check=True, capture_output=True, text=True, env=known).stdout


def processor_seconds(place: Path, *words: object) -> float:
    """The processor time of a process and all its threads. Units: seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(place, *words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the two medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("film", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", default="1000")
    given = parser.parse_args()
    samples = None if given.samples == "auto" else int(given.samples)
    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        passes = passes_of(given.film, place / "noted", samples)
        (place / "passes.json").write_text(json.dumps(passes), encoding="utf-8")
        words = ("-m", "storyxai", "tell", given.film, "--samples", given.samples, "--out")
        run(place, *words, place / "first")
        told, bare, parts = [], [], []
        for turn in range(given.rounds):
            bare.append(processor_seconds(place, "-c", BARE, place / "passes.json"))
            told.append(processor_seconds(place, *words, place / f"told-{turn}"))
            parts.append(json.loads(run(place, "-c", SPLIT, given.film, place / f"split-{turn}", given.samples)))
    images = sum(feed["images"][0][0] for _, _, feed in passes if "images" in feed)
    one, other = statistics.median(told), statistics.median(bare)
    sys.stdout.write(
        f"tell {one:.2f} s, interpreter + numpy + onnxruntime + {images} images through the student {other:.2f} s: "
        f"{one / other:.2f} times (median of {given.rounds}; {given.samples} samples)\n"
    )
    for name in parts[0]:
        sys.stdout.write(f"  {name}: {statistics.median(one[name] for one in parts):.2f} s\n")


if __name__ == "__main__":
    main()
