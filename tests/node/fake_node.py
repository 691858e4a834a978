"""A node as `storyxai serve-dicom` runs it, with a fake teller that costs nothing: to be killed."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from node_tellers import FakeTeller

from storyxai.node.serve import running_node
from storyxai.node.settings import read_settings


def main() -> None:
    settings = read_settings(Path(sys.argv[1]))
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    teller = FakeTeller(float((settings.home / "seconds").read_text(encoding="utf-8")))
    with running_node(settings, lambda line: print(line, flush=True), teller=teller) as running:
        while not told.wait(0.1) and not running.node.stopped:
            pass


if __name__ == "__main__":
    main()
