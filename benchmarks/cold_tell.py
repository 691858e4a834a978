"""What a cold `storyxai tell` of one film costs beside what cannot be saved: the interpreter, numpy, onnxruntime, the model.

    python benchmarks/cold_tell.py FILM [--rounds N] [--samples N]

The passes that a telling asks of the student are noted once; a bare process then loads numpy, onnxruntime and the same graphs
and runs the same passes. Time is the processor time of all threads, the median over rounds in which both take turns.
"""

from __future__ import annotations

import argparse
import json
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


def passes_of(film: Path, out: Path, samples: int) -> list[tuple[str, Any, dict[str, tuple[list[int], str]]]]:
    """The passes that a telling of `film` asks of the shipped student, in order."""
    passes: list[tuple[str, Any, dict[str, tuple[list[int], str]]]] = []
    runtime.open_graph = lambda graph: _Noting(Path(graph), passes)  # type: ignore[arg-type, assignment, return-value]
    tell([film], out, TellOptions(samples=samples))
    runtime.open_graph = runtime_open
    return passes


def processor_seconds(*words: object) -> float:
    """The processor time of a process and all its threads. Units: seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *map(str, words)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the two medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("film", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        passes = passes_of(given.film, place / "noted", given.samples)
        (place / "passes.json").write_text(json.dumps(passes), encoding="utf-8")
        told, bare = [], []
        for turn in range(given.rounds):
            bare.append(processor_seconds("-c", BARE, place / "passes.json"))
            told.append(processor_seconds(
                "-m", "storyxai", "tell", given.film, "--samples", given.samples, "--out", place / f"told-{turn}"
            ))
    images = sum(feed["images"][0][0] for _, _, feed in passes if "images" in feed)
    one, other = statistics.median(told), statistics.median(bare)
    sys.stdout.write(
        f"tell {one:.2f} s, interpreter + numpy + onnxruntime + {images} images through the student {other:.2f} s: "
        f"{one / other:.2f} times (median of {given.rounds}; {given.samples} samples)\n"
    )


if __name__ == "__main__":
    main()
