"""Who may import whom: the table of the house, held against the code's own imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import house

SOURCE = Path(__file__).resolve().parents[1] / "src" / "storyxai"

FLOORS: tuple[set[str], ...] = (
    {"errors", "model_facts", "html_tree"},
    {"types", "files", "progress", "catalogue"},
    {"provenance", "console"},
    {"modalities", "logbook"},
    {"imaging", "metrics", "explain"},
    {"data", "models", "phantoms"},
    {"training", "evidence"},
    {"story"},
    {"pages", "proof"},
    {"export"},
    {"scorecard", "ablation"},
    {"programs"},
    {"node"},
    {"cli", "testing"},
    {"__init__", "__main__"},
)
"""From the ground up: a room may use what lies on lower floors, and what BESIDE says of its own."""
BESIDE = {("data", "phantoms")}
ALLOWED: dict[str, str] = {
    "errors": "",
    "model_facts": "",
    "html_tree": "",
    "types": "model_facts",
    "files": "errors",
    "progress": "",
    "catalogue": "errors",
    "provenance": "errors",
    "modalities": "errors types catalogue provenance",
    "logbook": "errors files provenance",
    "imaging": "errors types provenance modalities",
    "metrics": "errors types modalities",
    "explain": "errors types",
    "data": "errors model_facts types files progress provenance modalities imaging metrics phantoms",
    "models": "errors model_facts types files provenance modalities imaging explain",
    "phantoms": "errors types files provenance modalities",
    "training": "errors types files progress modalities metrics data models phantoms",
    "evidence": "errors model_facts types files progress provenance modalities imaging explain models",
    "story": "errors html_tree types catalogue modalities evidence",
    "pages": "errors model_facts types catalogue provenance imaging data evidence story",
    "proof": "errors html_tree types catalogue modalities evidence",
    "export": "errors types files provenance modalities imaging evidence story pages",
    "scorecard": "errors model_facts types progress provenance modalities imaging metrics explain data models evidence pages",
    "ablation": "errors types files progress provenance modalities imaging metrics explain data models phantoms training pages",
    "programs": "errors model_facts types files progress provenance modalities imaging metrics explain data models phantoms"
                " training evidence story pages proof export scorecard ablation logbook",
    "node": "errors files logbook imaging explain export programs",
    "console": "progress",
    "cli": "errors programs logbook console",
    "testing": "errors types explain",
    "__init__": "imaging models evidence story export programs",
    "__main__": "cli",
}
# Telling must stay light: these rooms never import torch, not even inside a function.
NO_TORCH = {"errors", "types", "files", "provenance", "catalogue", "modalities", "story", "pages", "proof", "export", "imaging"}
NO_TORCH |= {"evidence", "cli", "console"}


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


def used_by(path: Path) -> set[str]:
    """The other rooms that a file imports from."""
    rooms = {name.split(".")[1] for name in imports_of(path) if name.startswith("storyxai.")}
    return rooms - {room_of(path), "__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_keep_to_the_table(path: Path) -> None:
    room = room_of(path)
    assert room in ALLOWED, f"room '{room}' is not on the floor plan"
    stray = used_by(path) - set(ALLOWED[room].split())
    assert not stray, f"{path.name}: {room} may not use {', '.join(sorted(stray))}; if it should, write so in ALLOWED"
    heavy = {name.split(".")[0] for name in imports_of(path)} & {"torch", "torchvision", "timm"}
    assert not heavy or room not in NO_TORCH, f"{path.name} imports {heavy}: {room} must work without torch"


@pytest.mark.parametrize("room", ALLOWED)
def test_no_permission_is_there_that_nobody_uses(room: str) -> None:
    used = {other for path in FILES if room_of(path) == room for other in used_by(path)}
    idle = set(ALLOWED[room].split()) - used
    assert not idle, f"nobody in {room} uses {', '.join(sorted(idle))}: take it out of ALLOWED"


def test_only_what_asks_late_finds_a_room_by_its_name() -> None:
    """The face, the command line, and what a notebook shows: nothing else goes round the table."""
    late = {(room_of(path), room) for path in FILES
            for room in re.findall(r"import_module\(f?\"storyxai\.(\w+)", path.read_text(encoding="utf-8"))}
    assert late == {("types", "pages"), ("__init__", "explain"), ("__init__", "evidence"), ("cli", "node")}


def test_permissions_lead_downwards() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    assert set(floor) == set(ALLOWED)
    upwards = {(room, other) for room, rooms in ALLOWED.items() for other in rooms.split() if floor[other] >= floor[room]}
    assert upwards == BESIDE


# Each of these numbers may only shrink.
LAZY_IMPORTS = 10
OPEN_DICTS = 0
"""dict[str, Any] and Mapping[str, Any], by themselves or by a name for them, where no JSON is read or written."""
WRITERS = {"data/sources/dicom_folder.py", "export/pdf.py", "export/printer.py"}
"""A journal that is appended to line by line; a scratch file for a browser. Every other file is written by files.py."""


def test_no_function_takes_more_than_seven_parameters() -> None:
    wide = house.wide_functions()
    assert not wide, f"gather the options of {', '.join(sorted(wide))} in a frozen dataclass"


def test_our_own_modules_are_imported_at_the_top() -> None:
    lazy = house.lazy_imports()
    assert len(lazy) <= LAZY_IMPORTS, "\n".join(lazy)


def test_what_is_not_json_has_types() -> None:
    open_dicts = house.open_dicts(border=False)
    assert sum(open_dicts.values()) <= OPEN_DICTS, f"write a dataclass or Mapping[str, object]: {open_dicts}"


def test_files_are_written_whole_in_one_place() -> None:
    """Elsewhere a file is written only into what `fresh_file` or `fresh_folder` gave."""
    own = re.compile(r"os\.replace|\.rename\(|mkdtemp|mkstemp|\.replace\([a-z_]*(path|folder|file|out)\)")
    write = re.compile(r"(?<!part)\.write_(bytes|text)\(|\.open\(\"[wax]")
    found = set()
    for path in FILES:
        name, text = str(path.relative_to(SOURCE)), path.read_text(encoding="utf-8")
        if name != "files.py" and (own.search(text) or (write.search(text) and "fresh_folder" not in text)):
            found.add(name)
    assert found == WRITERS


def test_no_room_of_odds_and_ends() -> None:
    banned = {"utils", "util", "helpers", "common", "manager", "base", "misc"}
    assert not [path for path in FILES if path.stem in banned]


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ("torch", "timm", "pandas", "matplotlib", "scipy", "onnxruntime", "pydicom", "sklearn")
    code = f"import sys, storyxai; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_test_file_has_a_name_of_its_own() -> None:
    """Of two test files of one name pytest collects one, and only where both are run at once does it say so."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
