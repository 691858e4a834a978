"""What all tests share, here and of the examples."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest


def _untraced(work: Callable[..., Any]) -> Callable[..., Any]:
    """`work` without the tracer of coverage."""

    @functools.wraps(work)
    def call(*given: Any, **named: Any) -> Any:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return work(*given, **named)
        finally:
            sys.settrace(tracer)
            _call()  # the tracer takes over at a call, and must before this function returns

    return call


def _call() -> None:
    """Nothing."""


@pytest.fixture(scope="session", autouse=True)
def _exports_untraced() -> Iterator[None]:
    """Coverage does not look into torch's export: nearly all that runs there is torch, and looking doubles its time."""
    if sys.gettrace() is None or find_spec("torch") is None:
        yield
        return
    onnx = import_module("torch").onnx
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "export", _untraced(onnx.export))
        yield
