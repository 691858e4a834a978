"""Images a second of `storyxai evaluate` beside the student's own batched rate, and what its intervals cost.

    python benchmarks/evaluate_speed.py [--images N] [--bootstrap-images N]

Phantoms of 256 px are opened, looked at and compared with their masks and boxes; the student alone passes prepared images in
batches of the same size. Both in processor time of all threads and in wall time. Intervals: the whole scorecard of a student on
14 findings with 1,000 resamples of patients.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from storyxai.data.table import read_table
from storyxai.models.runtime import load_student
from storyxai.phantoms.generate import write_phantoms
from storyxai.programs.data import import_data
from storyxai.scorecard.build import References, TaskOutputs, build_scorecard
from storyxai.scorecard.rows import BATCH, judge_rows


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of all threads, and seconds on the wall."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.process_time() - processor, time.perf_counter() - wall


def rates(images: int) -> None:
    """Print both rates and their ratio."""
    student = load_student()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        write_phantoms(folder / "phantoms", count=images, seed=11, size=256)
        import_data("phantom", folder / "phantoms", folder / "t.parquet")
        table = read_table(folder / "t.parquet")
        student.answer_all(np.full((BATCH, 1, student.size, student.size), 0.5, np.float32))  # the session is made once
        judging = timed(lambda: judge_rows([student], table, seed=0))
    pixels = np.random.default_rng(0).random((images, 1, student.size, student.size), dtype=np.float32)
    passing = timed(lambda: [student.answer_all(pixels[start : start + BATCH]) for start in range(0, images, BATCH)])
    for clock, one, other in zip(("processor", "wall"), judging, passing, strict=True):
        sys.stdout.write(
            f"{clock}: evaluate {images / one:.1f} images/s, the student alone {images / other:.1f} images/s "
            f"in batches of {BATCH}: {other / one:.2f} of it\n"
        )


def intervals(images: int) -> None:
    """Print the seconds of a scorecard with 1,000 resamples."""
    rng, student = np.random.default_rng(0), load_student()
    findings = student.findings
    labels = (rng.random((images, len(findings))) < 0.1).astype(np.float32)
    logits = rng.normal(size=labels.shape) + labels
    ids = [str(number) for number in range(images)]
    chosen = [student.card.calibration[name] for name in findings]
    outputs = TaskOutputs(
        "student", "student", ids, findings, logits, calibration=[(one.scale, one.bias) for one in chosen],
        thresholds=[one.threshold for one in chosen],
    )
    references = References(
        dataset="drawn", synthetic=True, ids=ids, patient_ids=[str(number // 2) for number in range(images)], findings=findings,
        labels=labels,
    )
    processor, wall = timed(lambda: build_scorecard([outputs], references, seed=0, count=1000))
    said = f"a scorecard of {len(findings)} findings over {images} images"
    sys.stdout.write(f"{said}: {wall:.1f} s on the wall, {processor:.1f} s of the processor\n")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--bootstrap-images", type=int, default=10_000)
    given = parser.parse_args()
    intervals(given.bootstrap_images)
    rates(given.images)


if __name__ == "__main__":
    main()
