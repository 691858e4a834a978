"""Pages in a real browser, where one is installed: what a script there finds, as JSON.

Accessibility is judged by axe-core: `npm install --no-save axe-core` in the project's root, or STORYXAI_AXE names its file.
"""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from storyxai.errors import InputError
from storyxai.export.browser import QUIET, find_browser

__all__ = ["axe_source", "seen_in_browser"]

ROOT = Path(__file__).resolve().parents[2]


def seen_in_browser(page: bytes, script: str, folder: Path, *, size: tuple[int, int] = (1280, 800)) -> Any:
    """What the JavaScript expression `script`, a promise or a value, gives on the page in a window of that size."""
    try:
        browser = find_browser()
    except InputError as error:
        pytest.skip(str(error))
    keep = "(found) => document.documentElement.setAttribute('data-found', JSON.stringify(found))"
    ask = f"Promise.resolve({script}).then({keep})"
    bare = re.sub(rb'<meta http-equiv="Content-Security-Policy"[^>]*>', b"", page)
    path = folder / "page.html"
    path.write_bytes(bare.replace(b"</body>", f"<script>{ask}</script></body>".encode()))
    command = [
        browser, *QUIET, "--no-sandbox", f"--user-data-dir={folder}/profile", f"--window-size={size[0]},{size[1]}",
        "--virtual-time-budget=20000", "--dump-dom",
        path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r'<html[^>]* data-found="([^"]*)"', done.stdout)
    assert found is not None, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


def axe_source() -> str:
    """The code of axe-core; skips where it is not installed."""
    path = Path(os.environ.get("STORYXAI_AXE", ROOT / "node_modules" / "axe-core" / "axe.min.js"))
    if not path.is_file():
        pytest.skip("axe-core is not installed: npm install --no-save axe-core")
    return path.read_text(encoding="utf-8")
