"""A node under load that is killed again and again: python node_kills.py [STUDIES] [--senders 4] [--kills 20] [--images FOLDER]

Each study is one film. Without --images it is tiny, and telling is a fake that copies the film (and sleeps --seconds): what is
measured is then receiving, the queue, the log and answering. With --images the pictures in that folder are the films, and the
true node tells them with its student. Prints what was told, told twice or lost, memory and throughput.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "node"))

from kills import run

from storyxai.imaging.read import find_images


def main() -> int:
    """Run it and print what came of it; 1 where a study was lost or told twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", type=int, nargs="?", default=1000)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--images", type=Path)
    given = parser.parse_args()
    pictures = find_images([given.images]) if given.images else []
    with tempfile.TemporaryDirectory() as home:
        found = run(Path(home), studies=given.studies, senders=given.senders, kills=given.kills,
                    seconds=given.seconds, pictures=pictures)
    twice = sum(count > 1 for count in found.told.values())
    lost = given.studies - len(found.told)
    unanswered = given.studies - len(found.answered)
    teller = "the student" if pictures else f"fake teller ({given.seconds:g} s)"
    print(f"{given.studies} studies, {given.senders} senders, {found.kills} kills, {teller}")
    print(f"told {len(found.told)}, twice {twice}, lost {lost}, unanswered {unanswered}, left in the queue {found.left}")
    print(f"answers sent again after a kill: {sum(found.answered.values()) - len(found.answered)} (same UID)")
    print(f"log: {'whole' if not found.problems else found.problems[0]}; attempts to send that were put off: {found.refusals}")
    rate = given.studies / found.seconds
    print(f"{found.seconds:.0f} s, {rate:.1f} studies a second; memory at most {found.most_mib:.0f} MiB")
    return int(bool(twice or lost or unanswered or found.problems or any(found.left.values())))


if __name__ == "__main__":
    sys.exit(main())
