"""A model judged on a study table: scorecard.json and scorecard.html, the measured times apart in speed.json."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storyxai.data.skipped import skipped_lines
from storyxai.data.table import Skipped
from storyxai.errors import UnknownNameError
from storyxai.files import require_writable
from storyxai.models.runtime import load_student
from storyxai.programs.pipeline import write_scorecard
from storyxai.programs.places import name_full_disk
from storyxai.progress import Progress
from storyxai.scorecard.build import headline
from storyxai.scorecard.judge import SPLITS, JudgeOptions, evaluate_student, student_speed
from storyxai.scorecard.page import glance_html

__all__ = ["SPLITS", "EvaluateOptions", "Evaluated", "evaluate", "score_lines"]

SPEED_BATCHES = 10


@dataclass(frozen=True)
class EvaluateOptions:
    """How a student is judged: on which part of the table, with how many bootstrap replicates, `beside` which others.

    Views that are not frontal are left out, but with `laterals`.
    """

    model: Path | None = None
    beside: Sequence[Path] = ()
    split: str = "unseen"
    bootstrap: int = 1000
    seed: int = 0
    laterals: bool = False

    def check(self) -> None:
        """Raise UnknownNameError if there is no such part."""
        if self.split not in SPLITS:
            raise UnknownNameError("split", self.split, SPLITS)


@dataclass(frozen=True)
class Evaluated:
    """Where the scorecard stands, its main figures, and the same in words."""

    scorecard: Path
    headline: Mapping[str, Any]
    lines: tuple[str, ...]

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        return glance_html(json.loads(self.scorecard.read_bytes()))


def evaluate(table: Path, out: Path, options: EvaluateOptions | None = None, *, progress: Progress | None = None) -> Evaluated:
    """The scorecard of a student on a study table, written to `out` as scorecard.json and scorecard.html.

    Other students, `beside` it, are judged on the same images, with paired differences.
    """
    options = options or EvaluateOptions()
    options.check()
    require_writable(out)
    student, others = load_student(options.model), [load_student(one) for one in options.beside]
    with name_full_disk(out):
        record = evaluate_student(
            student, table, JudgeOptions(options.split, options.bootstrap, options.seed, options.laterals), beside=others,
            progress=progress,
        )
        speed = student_speed(student, batches=SPEED_BATCHES, clock=time.perf_counter, beside=others)
        write_scorecard(record, out, speed=speed)
    return Evaluated(out / "scorecard.json", headline(record), tuple(score_lines(record)))


def score_lines(record: Mapping[str, Any]) -> list[str]:
    """A scorecard's main figures, one line a model; before them what was left out of it."""
    lines = list(skipped_lines([Skipped(**item) for item in record["dataset"].get("left_out", ())]))
    for model in headline(dict(record))["models"]:
        parts = [f"{name} {_in_words(found)}" for name, found in model["figures"].items()]
        lines.append(f"{model['name']} ({model['images']} images): {'; '.join(parts) or 'see the page'}")
    return lines


def _in_words(found: Mapping[str, Any]) -> str:
    span = "" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"
    return f"{found['value']:.3f}{span}"
