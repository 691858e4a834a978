"""Images a second of `storyxai evaluate` beside the model's own batched rate, and what its intervals cost.

    python benchmarks/evaluate_speed.py [--images N] [--table TABLE.parquet] [--bootstrap-images N]

Evaluation is `judge_rows`: a file is opened, looked at and compared with all that its row states (labels, masks, boxes,
report). The model's own rate is that of the passes which this asks of it, on the same pictures in the same batches: one look
each, and the writing of a report where the row has one. Two ratios: with the reading of the files from disk, and without. Of
phantoms of 256 px, which state everything, and of phantoms whose rows state labels alone; or of a table of yours.
Time is the processor time of all threads, the median of rounds in which all take turns. Intervals: the whole scorecard of a
student on 14 findings with 1,000 resamples of patients.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from storyxai.data.opening import OpenedRow, open_row
from storyxai.data.table import StudyTable, read_table
from storyxai.evidence.predict import view_of
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


def phantom_table(folder: Path, images: int) -> StudyTable:
    """Phantoms of 256 px, whose rows state labels, boxes, masks and reports."""
    write_phantoms(folder / "phantoms", count=images, seed=11, size=256)
    import_data("phantom", folder / "phantoms", folder / "t.parquet")
    return read_table(folder / "t.parquet")


def labels_alone(table: StudyTable) -> StudyTable:
    """The same rows, as of a set that states nothing but labels."""
    return replace(table, frame=table.frame.assign(masks="{}", boxes="[]", boxes_complete=False, findings_text=""))


def rates(name: str, table: StudyTable, rounds: int) -> None:
    """Print what an image costs, by part, and both ratios."""
    student = load_student()
    rows = [{str(key): cell for key, cell in row.items()} for row in table.frame.to_dict("records")]

    def read() -> list[tuple[np.ndarray, bool]]:
        opened = [(row, open_row(table, row, acquisition=student.modality.acquisition)) for row in rows]
        readable = [(row, one.image) for row, one in opened if isinstance(one, OpenedRow)]
        return [(view_of(student, image)[0], bool(row["findings_text"])) for row, image in readable]

    seen = read()

    def passes() -> None:
        for start in range(0, len(seen), BATCH):
            part = seen[start : start + BATCH]
            memory = student.answer_all(np.stack([pixels for pixels, _ in part]))[4]
            for place in [at for at, (_, written) in enumerate(part) if written and memory is not None]:
                student.written(memory[place : place + 1])

    passes()
    taken = {"evaluation": [], "reading": [], "passes": []}
    for _ in range(rounds):
        taken["evaluation"].append(timed(lambda: judge_rows([student], table, seed=0))[0])
        taken["reading"].append(timed(read)[0])
        taken["passes"].append(timed(passes)[0])
    whole, reading, model = (1e3 * statistics.median(seconds) / len(seen) for seconds in taken.values())
    sys.stdout.write(
        f"{name}, {len(seen)} images: evaluation {whole:.1f} ms an image, of which reading {reading:.1f} and the model's own "
        f"passes {model:.1f} (batches of {BATCH}): {model / whole:.2f} of the model's rate, without reading "
        f"{model / max(whole - reading, 1e-9):.2f}\n"
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
    parser.add_argument("--table", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bootstrap-images", type=int, default=10_000)
    given = parser.parse_args()
    if given.table is not None:
        table = read_table(given.table)
        rates(given.table.stem, replace(table, frame=table.frame.head(given.images)), given.rounds)
        return
    intervals(given.bootstrap_images)
    with tempfile.TemporaryDirectory() as work:
        table = phantom_table(Path(work), given.images)
        rates("phantoms", table, given.rounds)
        rates("phantoms, labels alone", labels_alone(table), given.rounds)


if __name__ == "__main__":
    main()
