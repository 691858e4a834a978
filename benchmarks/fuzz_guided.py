"""Broken files chosen by the branches they reach (atheris, where it is installed); fuzz_reading.py --guided runs it.

The code of storyxai alone is watched: what Pillow or pydicom do with the bytes is bounded by its limits, not by ours.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main(kinds: str, *, seconds: float, keep: Path | None) -> int:
    """Status 1 when a file crashed or was slow, 0 otherwise; says so where atheris is not installed."""
    if importlib.util.find_spec("atheris") is None:
        sys.stdout.write("skipped: atheris is not installed (pip install atheris), so nothing guides the fuzzing\n")
        return 0
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["storyxai"]):
        import fuzz_reading
        import fuzz_tables
        from storyxai import errors
        from storyxai.data.sources import OURS, reader_of

        for source in OURS:  # otherwise imported at the first call, and then unwatched
            if source.reader:
                reader_of(source)
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report, calls = fuzz_reading.Report(), _calls(kinds, folder, fuzz_reading, fuzz_tables)
        corpus = folder / "corpus"
        corpus.mkdir(exist_ok=True)
        for number, (_, sound, _, _) in enumerate(calls):
            (corpus / f"sound_{number}").write_bytes(bytes([number]) + sound)
        until = time.monotonic() + seconds

        def one(data: bytes) -> None:
            if time.monotonic() > until:
                fine = fuzz_reading.tell_report("guided", 0, report)
                sys.stdout.flush()
                sys.stdout.write(f"kept for their new branches: {len(list(corpus.iterdir()))} files\n")
                sys.stdout.flush()
                # libFuzzer has no way out that leaves the last word to us.
                importlib.import_module("os")._exit(0 if fine else 1)
            if not data:
                return
            name, _, path, read = calls[data[0] % len(calls)]
            path.write_bytes(data[1:])
            label = f"guided_{sum(report.outcomes.values())}_{name}"
            if fuzz_reading.note_outcome(report, label, read, errors.InputError):
                (folder / f"culprit_{label}".replace(" ", "_")).write_bytes(data[1:])

        atheris.Setup([sys.argv[0], str(corpus), "-max_len=20000", "-timeout=60", "-rss_limit_mb=2048", "-verbosity=0"], one)
        atheris.Fuzz()
    return 0


def _calls(kinds: str, folder: Path, pictures: Any, tables: Any) -> list[tuple[str, bytes, Path, Callable[[], object]]]:
    """Name, sound bytes, the file to write and what reads it, for every kind that is asked for."""
    calls: list[tuple[str, bytes, Path, Callable[[], object]]] = []
    if kinds != "tables":
        for name, data in pictures.seeds().items():
            if not name.startswith("apart"):  # a process a file would leave few files a second
                path = folder / name
                calls.append((name, data, path, lambda path=path: pictures.read_image(path)))  # type: ignore[misc]
    if kinds != "pictures":
        for sound in tables.targets():
            place = tables.lay_out(sound, folder)
            read = sound.read
            calls.append((
                sound.name.replace("/", "_"), sound.files[sound.broken], place / sound.broken,
                lambda read=read, place=place: read(place),  # type: ignore[misc]
            ))
    return calls
