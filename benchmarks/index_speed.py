"""How long a browser takes to open the index of many studies: python index_speed.py [STUDIES] [--rounds 5] [--json FILE]

The studies are made up (fourteen findings each, a small picture each, of 64 different ones); the page is the product's own. A
headless Chromium opens it from disk in a fresh profile, and the page tells the seconds from the start of its navigation until
its load event has ended and everything is laid out.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from storyxai.export.browser import QUIET, find_browser
from storyxai.pages.index import LinkedPage, Listed, render_index

FINDINGS, PICTURES, SIDE = 14, 64, 96
TIMED = (
    b"<script>addEventListener('load', () => { document.body.offsetHeight; "
    b"document.documentElement.setAttribute('data-seconds', performance.now() / 1000); })</script></body>"
)


def main() -> None:
    """Print the median and all rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=int, nargs="?", default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        draw_pictures(home / "index-thumbs", rng)
        page = render_index([listed(number, rng) for number in range(asked.studies)])
        rounds = [round(opened(page, home, number), 3) for number in range(asked.rounds)]
    found = {"studies": asked.studies, "page_mib": round(len(page) / 2**20, 2), "seconds": rounds,
             "median": statistics.median(rounds)}  # fmt: skip
    text = json.dumps(found, indent=2)
    print(text)
    if asked.json:
        asked.json.write_text(text + "\n", encoding="utf-8")


def draw_pictures(folder: Path, rng: np.random.Generator) -> None:
    """Small grey pictures of noise, which compress worse than films do."""
    folder.mkdir()
    for number in range(PICTURES):
        held = io.BytesIO()
        PillowImage.fromarray(rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)).save(held, "JPEG")
        (folder / f"{number}.jpg").write_bytes(held.getvalue())


def listed(number: int, rng: np.random.Generator) -> Listed:
    """A study with a few findings above a line."""
    share = rng.beta(0.6, 6.0, FINDINGS)
    tiers = ["likely" if one >= 0.5 else "possible" if one >= 0.14 else "unlikely" for one in share]
    findings = {f"Finding_{place}": (tier, float(one)) for place, (tier, one) in enumerate(zip(tiers, share, strict=True))}
    named = tuple(name for name, (tier, _) in findings.items() if tier != "unlikely")
    pages = tuple(LinkedPage(who, f"s{number}/{who}.html") for who in ("clinician", "practitioner", "patient", "auditor"))
    return Listed(f"study-{number:05d}", f"film-{number}.png", "model", findings, named, 0, False, False,
                  f"index-thumbs/{number % PICTURES}.jpg", pages)  # fmt: skip


def opened(page: bytes, home: Path, number: int) -> float:
    """Seconds until the page is there."""
    bare = re.sub(rb'<meta http-equiv="Content-Security-Policy"[^>]*>', b"", page)
    path = home / "index.html"
    path.write_bytes(bare.replace(b"</body>", TIMED))
    command = [find_browser(), *QUIET, "--no-sandbox", f"--user-data-dir={home}/profile-{number}", "--window-size=1280,800",
               "--dump-dom", path.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-seconds="([^"]+)"', done.stdout)
    assert found is not None, done.stderr[-2000:]
    return float(found[1])


if __name__ == "__main__":
    main()
