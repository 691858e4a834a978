"""The programs behind the verbs, each loaded when its verb is typed: `--help` needs none, `tell` not what trains."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storyxai.programs import budget as opening_budget
    from storyxai.programs import compare as comparing
    from storyxai.programs import concepts as conceiving
    from storyxai.programs import data, recipes
    from storyxai.programs import deidentify as removing
    from storyxai.programs import evaluate as judging
    from storyxai.programs import explain as explaining
    from storyxai.programs import export as exporting
    from storyxai.programs import gallery as showing
    from storyxai.programs import index as indexing
    from storyxai.programs import log as logging_to
    from storyxai.programs import models as opening
    from storyxai.programs import neighbours as indexing_neighbours
    from storyxai.programs import release as releasing
    from storyxai.programs import rewrite as rewriting
    from storyxai.programs import tell as telling
    from storyxai.programs import verify as verifying
else:

    class _Later:
        def __init__(self, name: str) -> None:
            self.name = f"storyxai.programs.{name}"

        def __getattr__(self, what: str) -> Any:
            return getattr(import_module(self.name), what)

    data, recipes, judging = _Later("data"), _Later("recipes"), _Later("evaluate")
    explaining, telling, verifying, opening = _Later("explain"), _Later("tell"), _Later("verify"), _Later("models")
    exporting, releasing, removing = _Later("export"), _Later("release"), _Later("deidentify")
    indexing, logging_to = _Later("index"), _Later("log")
    comparing, rewriting = _Later("compare"), _Later("rewrite")
    conceiving, indexing_neighbours, showing = _Later("concepts"), _Later("neighbours"), _Later("gallery")
    opening_budget = _Later("budget")

__all__ = [
    "comparing", "conceiving", "data", "explaining", "exporting", "indexing", "indexing_neighbours", "judging", "logging_to",
    "opening", "opening_budget", "recipes", "releasing", "removing", "rewriting", "showing", "telling", "verifying",
]
