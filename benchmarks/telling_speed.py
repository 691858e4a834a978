"""How long it takes to tell and draw all readers of studies from their archives: seconds of CPU, without torch.

    python benchmarks/telling_speed.py stories/study-* [--language en]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from storyxai.evidence.archive import read_archive
from storyxai.pages.story import render_html
from storyxai.story.tell import AUDIENCES, tell


def main() -> None:
    """Print the median and the largest time of each part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("--language", default="en")
    given = parser.parse_args()
    _timed(given.studies[0], given.language)  # what is loaded once in a process
    spent = [_timed(study, given.language) for study in given.studies]
    for part, name in enumerate(("read", "tell", "draw", "all")):
        seconds = [one[part] for one in spent]
        middle, most = statistics.median(seconds), max(seconds)
        sys.stdout.write(f"{name:5} median {middle:.3f} s, largest {most:.3f} s of {len(seconds)}\n")
    sys.stdout.write(f"torch loaded: {'torch' in sys.modules}\n")


def _timed(study: Path, language: str) -> tuple[float, float, float, float]:
    start = time.process_time()
    evidence = read_archive(study)
    read = time.process_time()
    stories = [tell(evidence, audience, language) for audience in AUDIENCES]
    told = time.process_time()
    for story in stories:
        render_html(story, evidence)
    drawn = time.process_time()
    return read - start, told - read, drawn - told, drawn - start


if __name__ == "__main__":
    main()
