"""Conformance suites for what outsiders bring: run them in your own tests. A fault is an AssertionError that names it."""

from __future__ import annotations

from storyxai.testing.methods import check_method
from storyxai.testing.models import check_model

__all__ = ["check_method", "check_model"]
