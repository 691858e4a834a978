"""What `data check` costs by number of rows: python check_memory.py [ROWS...]

Rows point repeatedly to 300 computed pictures (PNG, 160 x 160), so that files are really opened; each count runs in a
process of its own. Times are processor time.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from storyxai.data.checking import check_table
from storyxai.data.table import StudyRow, StudyTable

PICTURES, SIDE = 300, 160


def measure(rows: int) -> None:
    """One line: processor seconds, milliseconds a row and peak memory of this process."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number in range(PICTURES):
            coarse = Picture.fromarray(rng.uniform(0, 255, (12, 12)).astype(np.float32))
            smooth = np.asarray(coarse.resize((SIDE, SIDE), Picture.Resampling.BICUBIC))
            Picture.fromarray(smooth.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        films = (StudyRow(f"s{n:06d}", f"p{n}", f"{n % PICTURES}.png", "x", labels={"Mass": 0.0}) for n in range(rows))
        table = StudyTable.from_rows(films, root=folder)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start = time.process_time()
        report = check_table(table, folder / "check")
        took = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"{rows} rows: {took:.1f} s of processor time, {1000 * took / rows:.2f} ms a row, peak {peak:.0f} MiB "
                     f"(with the table alone: {before:.0f}), {len(report.problems)} problems\n")


def main() -> None:
    """Prints one line per count."""
    for rows in [int(word) for word in sys.argv[1:]] or [2000, 20_000]:
        child = multiprocessing.get_context("spawn").Process(target=measure, args=(rows,))
        child.start()
        child.join()


if __name__ == "__main__":
    main()
