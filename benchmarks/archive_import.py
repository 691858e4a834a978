"""A folder of DICOM files becomes a table: files a second and memory, by count. python archive_import.py [COUNT...]

Small computed films (64 x 64, 16 bits, one in ten broken) are written by pydicom and imported as `dicom-folder`; each count
runs in a process of its own, whose peak memory is given. The share that is the walk alone is timed too.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fuzz_reading import dicom_bytes
from storyxai.data.importing import import_source, read_source


def make_archive(folder: Path, count: int) -> None:
    """`count` files in folders of 500."""
    sound = dicom_bytes(np.zeros((64, 64), np.uint16), "1.2.840.10008.1.2.1")
    rng = np.random.default_rng(0)
    start = len(sound) - 64 * 64 * 2
    for number in range(count):
        place = folder / f"{number // 500:03d}"
        place.mkdir(exist_ok=True)
        pixels = np.kron(rng.integers(0, 60000, (16, 16)), np.ones((4, 4))).astype("<u2").tobytes()
        data = sound[: len(sound) // 2] if number % 10 == 9 else sound[:start] + pixels
        (place / f"{number:05d}").write_bytes(data)


def measure(count: int) -> None:
    """One line: rates and peak memory of this process."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "archive"
        folder.mkdir()
        make_archive(folder, count)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start = time.perf_counter()
        read_source("dicom-folder", folder)
        walked = time.perf_counter() - start
        start = time.perf_counter()
        report = import_source("dicom-folder", folder, Path(temporary) / "table.parquet")
        took = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(
        f"{count} files: walk {count / walked:.0f} a second, whole import {count / took:.0f} a second, peak {peak:.0f} MiB "
        f"(before: {before:.0f}), {report.images} rows and {len(report.skipped)} left out\n"
    )


def main() -> None:
    """Prints one line per count."""
    for count in [int(word) for word in sys.argv[1:]] or [1000, 10_000]:
        child = multiprocessing.get_context("spawn").Process(target=measure, args=(count,))
        child.start()
        child.join()


if __name__ == "__main__":
    main()
