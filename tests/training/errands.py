"""What a test's processes do: in a module that loads next to nothing, as each process loads it anew."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from storyxai.errors import RecipeError, StoryxaiError

Tell = Callable[[str, int, int], None]


def meet(mine: Path, other: Path, tell: Tell) -> int:
    """This process, once the other one has begun too."""
    mine.touch()
    tell(f"{mine.name}: here", 1, 1)
    until = time.monotonic() + 60
    while not other.exists():
        if time.monotonic() > until:
            raise StoryxaiError("the other one never came")
        time.sleep(0.01)
    return os.getpid()


def fail(tell: Tell) -> None:
    raise RecipeError("toy", "cannot work", mend="mend it")


def wait_for_ever(began: Path, tell: Tell) -> None:
    began.touch()
    time.sleep(3600)


def leave(tell: Tell) -> None:
    os._exit(7)
