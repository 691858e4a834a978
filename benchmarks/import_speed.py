"""Images a second and peak memory of the data path: import, near-duplicate search, data check, and a 100,000-row table.

Run: python benchmarks/import_speed.py FOLDER_OF_REAL_SETS
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from storyxai.data.checking import check_table
from storyxai.data.importing import import_source, read_source
from storyxai.data.splits import _close_pairs, split_by_patient
from storyxai.data.table import StudyRow, StudyTable, read_table


def main(folder: Path) -> None:
    """Prints one line of JSON per figure."""
    with tempfile.TemporaryDirectory() as work:
        for name in ("nih", "kermany", "covid", "openi"):
            out = Path(work) / f"{name}.parquet"
            seconds = timed(lambda name=name: read_source(name, folder / name))
            report(f"read {name}", rows=len(read_source(name, folder / name)), seconds=seconds)
            seconds = timed(lambda name=name, out=out: import_source(name, folder / name, out))
            report(f"import {name}", rows=len(read_table(out)), seconds=seconds)
        for name in ("nih", "covid"):
            table = read_table(Path(work) / f"{name}.parquet")
            seconds = timed(lambda table=table: check_table(table, Path(work) / "check"))
            report(f"check {name}", rows=len(table), seconds=seconds)
        rows = (
            StudyRow(f"s{i}", f"p{i // 3}", f"{i}.png", "x", labels={"Hernia": float(i % 997 == 0)})
            for i in range(100_000)
        )
        started = time.perf_counter()
        large = split_by_patient(StudyTable.from_rows(rows, root=Path(work)))
        large.write(Path(work) / "large.parquet")
        report("make, split and write a table", rows=len(large), seconds=time.perf_counter() - started)
    hashes = np.random.default_rng(0).random((20_000, 256)) < 0.5
    report("compare 20,000 hashes with each other", rows=20_000, seconds=timed(lambda: list(_close_pairs(hashes, 12))))


def timed(call: object) -> float:
    """Seconds that `call` took."""
    started = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - started


def report(what: str, *, rows: int, seconds: float) -> None:
    """One figure as JSON."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"what": what, "rows": rows, "seconds": round(seconds, 2),
                      "rows_per_second": round(rows / seconds), "peak_resident_mb": round(peak)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
