"""What the node has to say of itself: counters for the status page, and one line on the console for each thing that happens."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

MOST_LINES_A_MINUTE = 600
"""Lines beyond it are counted and not printed: whoever knocks without end shall not fill the disk with lines."""

HELP = {
    "objects_received": "Objects taken into the queue.",
    "objects_known": "Objects that were sent again and were known.",
    "objects_refused": "Objects refused, by reason.",
    "associations": "Associations, by how they ended or began.",
    "contexts_refused": "Kinds of objects or transfer syntaxes that a peer offered and that are not taken.",
    "studies_told": "Studies told.",
    "studies_refused": "Studies of which no image could be told.",
    "studies_failed": "Studies that failed by our own fault.",
    "studies_answered": "Studies whose answer was delivered.",
    "answers_failed": "Attempts to answer that failed.",
    "tellings_repeated": "Tellings that were begun anew.",
    "commitments": "Storage commitments, by outcome.",
    "lines_dropped": "Lines that were not printed because there were too many.",
}


def utc(seconds: float | None = None) -> str:
    """A moment (seconds of the epoch, None for now) as UTC in ISO 8601."""
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Reports:
    """Counters, and the place where lines go. No line may hold anything of a patient: callers give codes, counts and titles."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._lock = say, threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._minute, self._lines = 0, 0
        self.started = time.time()

    def count(self, name: str, label: str = "", by: int = 1) -> None:
        """Add to a counter of HELP, under a label where it has one."""
        with self._lock:
            self._counts[name, label] += by

    def line(self, event: str, **about: object) -> None:
        """Print one line, unless there were too many this minute."""
        told = " ".join(f"{name}={_plain(str(value))}" for name, value in about.items() if value != "")
        minute = int(time.time() // 60)
        with self._lock:
            if minute != self._minute:
                self._minute, self._lines = minute, 0
            self._lines += 1
            if self._lines > MOST_LINES_A_MINUTE:
                self._counts["lines_dropped", ""] += 1
                return
        self._say(f"{utc()} {event} {told}".rstrip())

    def counted(self, name: str) -> dict[str, int]:
        """A counter's values by label."""
        with self._lock:
            return {label: value for (counter, label), value in sorted(self._counts.items()) if counter == name}


def _plain(text: str) -> str:
    shown = "".join(sign if sign.isprintable() else "?" for sign in text)
    return f'"{shown}"' if " " in shown else shown
