"""What a template may read is judged once for each kind of value, and never differently from jinja2's own sandbox; its code
is compiled once."""

from __future__ import annotations

import sys
from pathlib import Path
from types import CodeType

import jinja2
import pytest
from jinja2 import PackageLoader
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from storyxai.pages.layout import _Environment, _environment, _Kept


@pytest.mark.parametrize("template", ["{{ v.append(1) }}", "{{ v.__class__.mro() }}", "{{ f.__globals__ }}"])
def test_what_the_sandbox_forbids_stays_forbidden_after_it_was_asked_before(template: str) -> None:
    environment = _environment()
    for _ in range(2):
        with pytest.raises(SecurityError):
            environment.from_string(template).render(v=[], f=lambda: None)


def test_a_verdict_is_that_of_jinja2_for_each_kind_and_name() -> None:
    ours, theirs = _environment(), ImmutableSandboxedEnvironment()
    values = ([], {}, set(), "text", 1.5, str, len, lambda: None, (n for n in ()))
    names = ("append", "count", "clear", "items", "mro", "format", "__globals__", "_x", "gi_frame", "real")
    for value in values:
        for name in names:
            verdicts = {ours.is_safe_attribute(value, name, None) for _ in range(2)}
            assert verdicts == {theirs.is_safe_attribute(value, name, None)}, (value, name)


def test_a_template_is_compiled_once_and_anew_for_another_jinja2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    compiled: list[str] = []

    class Compiling(_Environment):
        def compile(self, source: str, name: str, filename: str) -> CodeType:  # type: ignore[override]
            compiled.append(name)
            return super().compile(source, name, filename)

    def load() -> None:
        Compiling(loader=PackageLoader("storyxai.pages"), bytecode_cache=_Kept()).get_template("fragment.html")

    load()
    load()
    assert compiled == ["fragment.html"]
    monkeypatch.setattr(jinja2, "__version__", "3.0")
    load()
    assert compiled == ["fragment.html"] * 2
