"""A node under load that is killed again and again: python node_kills.py [STUDIES] [--senders 4] [--kills 20] [--images FOLDER]

Each study is one film. Without --images it is tiny, and telling is a fake that copies the film (and sleeps --seconds): what is
measured is then receiving, the queue, the log and answering. With --images the pictures in that folder are the films, and the
true node tells them with its student; a film that the gate refuses counts as refused, and is neither told nor answered.
`--set` adds a line to the node's settings, under [tell], such as samples=100; `--no-pdf` leaves the page out. Prints what was
told, told twice or lost, memory and throughput; stopped by SIGINT or SIGTERM, or after --minutes, what it saw until then.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "node"))

from kills import Result, run

from storyxai.imaging.read import find_images


def main() -> int:
    """Run it and print what came of it; 1 where a study was lost or told twice, or it was stopped early."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", type=int, nargs="?", default=1000)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--no-pdf", dest="pdf", action="store_false")
    parser.add_argument("--minutes", type=float, default=24 * 60.0)
    given = parser.parse_args()
    pictures = find_images([given.images]) if given.images else []
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    late = threading.Timer(60 * given.minutes, stop.set)
    late.daemon = True
    late.start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        found = run(Path(home), studies=given.studies, senders=given.senders, kills=given.kills, seconds=given.seconds,
                    pictures=pictures, tell="\n".join(given.set), pdf=given.pdf, stop=stop)  # fmt: skip
    return told_of(found, given, "the student" if pictures else f"fake teller ({given.seconds:g} s)", early=stop.is_set())


def told_of(found: Result, given: argparse.Namespace, teller: str, *, early: bool) -> int:
    """Print it; the exit status."""
    twice = sum(count > 1 for count in found.told.values())
    waiting = sum(found.left[state] for state in ("queued", "telling", "failed"))
    lost = max(0, found.sent - len(found.told) - found.refused - waiting)
    unanswered = len(found.told) - len(found.answered) - found.left["told"]
    settings = ", ".join([*given.set, *([] if given.pdf else ["no PDF"])]) or "default settings"
    print(f"{given.studies} studies, {given.senders} senders, {found.kills} kills, {teller}, {settings}")
    if early:
        print("stopped early: the figures are of what happened until then")
    print(f"sent {found.sent}, told {len(found.told)}, refused {found.refused}, twice {twice}, lost {lost}, "
          f"unanswered {unanswered}, left in the queue {found.left}")  # fmt: skip
    print(f"answers sent again after a kill: {sum(found.answered.values()) - len(found.answered)} (same UID)")
    print(f"log: {'whole' if not found.problems else found.problems[0]}; attempts to send that were put off: {found.refusals}")
    rate = (len(found.told) + found.refused) / found.seconds
    print(f"{found.seconds:.0f} s, {rate:.2f} studies a second; memory at most {found.most_mib:.0f} MiB")
    return int(bool(early or twice or lost or unanswered or found.problems or any(found.left.values())))


if __name__ == "__main__":
    sys.exit(main())
