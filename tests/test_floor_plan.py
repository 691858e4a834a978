"""Who may import whom: the table of the house, held against the code's own imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "storyxai"

BASE = {"errors", "types", "files", "progress", "provenance", "catalogue"}
LOW = BASE | {"modalities", "imaging", "metrics", "explain"}
MIDDLE = LOW | {"data", "models", "phantoms"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "types": {"errors"},
    "files": {"errors"},
    "progress": set(),
    "provenance": {"errors", "types"},
    "catalogue": {"errors"},
    "modalities": BASE,
    "imaging": BASE | {"modalities"},
    "metrics": BASE | {"modalities"},
    "explain": BASE | {"modalities"},
    "testing": {"errors", "types", "explain"},
    "data": LOW | {"phantoms"},
    "models": LOW,
    "phantoms": LOW,
    "training": MIDDLE,
    "evidence": MIDDLE,
    "story": MIDDLE | {"evidence"},
    "pages": MIDDLE | {"evidence"},
    "export": BASE | {"evidence"},
    "scorecard": MIDDLE | {"training", "evidence", "story", "pages"},
    "ablation": MIDDLE | {"training", "evidence", "story", "pages"},
    "programs": MIDDLE | {"training", "evidence", "story", "pages", "export", "scorecard", "ablation"},
    "cli": {"programs", "errors", "types", "progress"},
    "__init__": {"programs", "evidence", "imaging", "models", "pages", "story"},
    "__main__": {"cli"},
}
# Telling must stay light: these rooms never import torch, not even inside a function.
NO_TORCH = {"errors", "types", "files", "provenance", "catalogue", "modalities", "story", "pages", "export", "imaging"}
NO_TORCH |= {"evidence", "cli"}


def room_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_keep_to_the_table(path: Path) -> None:
    room = room_of(path)
    assert room in ALLOWED, f"room '{room}' is not on the floor plan"
    for name in imports_of(path):
        if name.startswith("storyxai."):
            other = name.split(".")[1]
            if other in {"__version__"}:
                continue
            assert other == room or other in ALLOWED[room], f"{path.name} imports {name}: {room} may not use {other}"
        if name.split(".")[0] in {"torch", "torchvision", "timm"}:
            assert room not in NO_TORCH, f"{path.name} imports {name}: {room} must work without torch"


def test_no_room_of_odds_and_ends() -> None:
    banned = {"utils", "util", "helpers", "common", "manager", "base", "misc"}
    assert not [path for path in FILES if path.stem in banned]


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ("torch", "timm", "pandas", "matplotlib", "scipy", "onnxruntime", "pydicom", "sklearn")
    code = f"import sys, storyxai; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
