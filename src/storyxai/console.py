"""What every verb of the command line needs: options of a dataclass, progress, an answer in words or JSON, a last sentence."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, get_type_hints

from storyxai.progress import Progress

QUIET_SECONDS = 1.0


def taking_options(kind: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose last parameter, `words`, gathers options: the fields of the dataclass `kind` become its options."""
    hints = get_type_hints(kind, include_extras=True)
    options = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(kind)
    ]

    def take(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            words = kind(**{option.name: given.pop(option.name) for option in options})
            command(**given, words=words)

        own = list(inspect.signature(command, eval_str=True).parameters.values())[:-1]
        keyword = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
        run.__signature__ = inspect.Signature([*keyword, *options])  # type: ignore[attr-defined]
        return run

    return take


def quiet_others() -> None:
    """What other packages warn of and log is not ours to print: what matters of it stands in our own sentences.

    Who asks for warnings (`python -W`, PYTHONWARNINGS) still gets them.
    """
    logging.getLogger().addHandler(logging.NullHandler())
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def say(line: str) -> None:
    """Write a line to standard error at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def fail(sentence: str, status: int) -> None:
    """Say why the program ends, and end it with this exit status."""
    sys.stderr.write(f"storyxai: {sentence}\n")
    sys.exit(status)


def answer(result: Mapping[str, object], lines: Sequence[str], as_json: bool) -> None:
    """Print what a verb did: its lines, or all of it as JSON."""
    text = json.dumps(result, indent=2, sort_keys=True, default=str) if as_json else "\n".join(lines)
    sys.stdout.write(text + "\n")


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A bar on a terminal; elsewhere a plain line at every tenth of each step."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True),
        )
        with bar:
            tasks: dict[str, TaskID] = {}

            def show(step: str, done: int, total: int) -> None:
                key = step.split(":")[0]
                if key not in tasks:
                    tasks[key] = bar.add_task(step, total=total)
                bar.update(tasks[key], completed=done, total=total, description=step)

            yield show
        return
    last: dict[str, tuple[int, float]] = {}

    def say(step: str, done: int, total: int) -> None:
        key, tenth, now = step.split(":")[0], (10 * done) // max(1, total), time.monotonic()
        before, said = last.get(key, (-1, -math.inf))
        # What is over within a second says where it starts and that it ended, no more.
        if tenth != before and (now - said > QUIET_SECONDS or done >= total):
            last[key] = (tenth, now)
            sys.stderr.write(f"{step} ({done}/{total})\n")
            sys.stderr.flush()

    yield say
