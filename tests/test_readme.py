"""What the README says can be typed, and what it points at is there."""

from __future__ import annotations

import ast
import builtins
import re
import shlex
import sys
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from storyxai import cli
from storyxai.cli.options import app
from storyxai.data.sources import OURS
from storyxai.models.runtime import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
README, TOUR = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/tour.md"))
TYPED = re.findall(r"^\s*(storyxai .*)$", "\n".join(re.findall(r"```sh\n(.*?)```", TOUR, re.DOTALL)), re.MULTILINE)
SMALLER = {"tell": ["--samples", "100"], "explain": ["--samples", "100"], "evaluate": ["--bootstrap", "50"],
           "data phantom": ["--size", "128"]}
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", *DOCS)


def _verb(line: str) -> str:
    words = line.split()[1:]
    return " ".join(words[:2]) if words[0] == "data" else words[0]


def _ended(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> object:
    monkeypatch.setattr(sys, "argv", words)
    try:
        cli.main()
    except SystemExit as leave:
        return leave.code or 0
    return 0


def test_the_tour_shows_every_main_verb() -> None:
    verbs = {_verb(line) for line in TYPED}
    assert verbs == {"data phantom", "tell", "verify", "explain", "data import", "evaluate", "pipeline"}


def test_the_commands_of_the_tour_run_one_after_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (SHIPPED / "card.json").is_file():
        pytest.skip("the shipped student is absent: src/storyxai/models/shipped/card.json")
    monkeypatch.chdir(tmp_path)
    for line in TYPED:
        words = shlex.split(line) + SMALLER.get(_verb(line), [])
        if _verb(line) == "pipeline":  # minutes long: that it can be typed is seen by its help
            assert (ROOT / words[2]).is_file()
            words = [*words, "--help"]
        words = [str(found) for word in words for found in (sorted(Path().glob(word)) if "*" in word else [word])]
        assert _ended(monkeypatch, words) == 0, (line, capsys.readouterr().err)
    pages = {path.name for path in (tmp_path / "stories").glob("study-*/*.html")}
    assert pages == {"clinician.html", "practitioner.html", "patient.html", "auditor.html"}
    assert (tmp_path / "effusion.png").is_file()
    assert (tmp_path / "score" / "scorecard.html").is_file()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_shows_can_be_typed(page: str) -> None:
    """Verbs, arguments and options of every line of a block; what they do is tested where they are."""
    shown = re.findall(r"^(?: {4}|\$ )?(storyxai .*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    lines = [shlex.join(shlex.split(line, comments=True)) for line in shown if line[-1] not in ".,:;"]  # which ends prose
    for typed in (part for line in lines for part in line.split(" '&&' ")):
        command, words = get_command(app), shlex.split(typed)[1:]
        while isinstance(command, TyperGroup):
            command, words = command.commands.get(words[0]), words[1:]
            assert command is not None, f"no verb of this name: {typed}"
        command.make_context(str(command.name), words)  # raises for an option that is not there


@pytest.mark.parametrize("page", PAGES)
def test_every_python_block_imports_what_is_there_and_names_what_it_has(page: str) -> None:
    given = {"net", "my_function", "other", "images"}  # what readers bring
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL):
        tree = ast.parse(block)
        imports = [line for line in tree.body if isinstance(line, ast.Import | ast.ImportFrom)]
        known: dict[str, object] = {}
        exec(compile(ast.Module(imports, []), page, "exec"), known)
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        assert {node.id for node in names} - stored - set(known) - set(dir(builtins)) <= given, page


def test_the_readme_names_the_two_commands_and_research_use() -> None:
    targets = re.findall(r"^    make (\w+)$", README, re.MULTILINE)
    assert targets == ["story", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    assert "Research use only - not for diagnostic use" in README
    assert README.count("\n") < 100, "README is for the first minute; the rest stands under docs/"


def test_every_source_stands_in_the_table_of_sources_and_no_other() -> None:
    page = (ROOT / "docs/how-to/bring-your-data.md").read_text(encoding="utf-8")
    table = page.split("| source |")[1].split("\n\n")[0]
    firsts = [row.split("|")[1] for row in table.splitlines() if "|" in row]
    named = {name for first in firsts for name in re.findall(r"`([a-z0-9-]+)`", first)}
    assert named == {source.key for source in OURS if source.reader}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_within_the_project_leads_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{page} points at {target}"
